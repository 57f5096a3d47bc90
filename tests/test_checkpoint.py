"""The model directory: self-contained, exact, and clear about what is wrong with it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Runner, copy_run
from test_model import KINDS, batch, make

from s2scli import checkpoint
from s2scli.errors import S2SError
from s2scli.segmentation import Segmentation
from s2scli.tensorfiles import load_tensors, save_tensors
from s2scli.tokenizer import Tokenizer
from s2scli.translator import Translator


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
@pytest.mark.parametrize("tie", ["none", "all"])
def test_saved_and_loaded_gives_the_same_logits_bit_for_bit(
    prepared: Path, tmp_path: Path, cell: str, kind: str, feed: str, tie: str
) -> None:
    model = make(cell, kind, feed, tie=tie)
    info = checkpoint.ModelInfo(model=model.config, max_source_length=9)
    checkpoint.save_weights(tmp_path, model)
    loaded = type(model)(info.model).eval()
    tensors, _ = load_tensors(tmp_path / "model.safetensors")
    checkpoint.load_weights(loaded, tensors, tmp_path)
    with torch.no_grad():
        one, other = (m.log_probabilities(m.vectors(batch())[0]) for m in (model, loaded))
    assert torch.equal(one, other)


def test_a_model_directory_is_self_contained(trained: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(trained / "best", moved)
    here, there = (Translator.load(p, precision="fp32") for p in (trained, moved))
    lines = ["a b c", "h g"]
    assert here.translate(lines) == there.translate(lines)
    model, _, info = checkpoint.load_model(moved)
    assert model.output.weight is model.decoder.embedding.weight
    assert info.max_source_length == 6


def broken(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "best", tmp_path / "model")
    return tmp_path / "model"


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_newer_format_is_refused(trained: Path, tmp_path: Path, s2s: Runner) -> None:
    folder = broken(trained, tmp_path)
    change_config(folder, format=checkpoint.FORMAT + 1)
    with pytest.raises(S2SError, match="format version 2") as caught:
        checkpoint.load_model(folder)
    assert "Update" in str(caught.value)
    done = s2s("translate", "--run", folder, stdin="a b\n")
    assert done.returncode == 1
    assert "config.json" in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr
    change_config(folder, format="odd")
    with pytest.raises(S2SError, match="format version odd"):
        checkpoint.load_model(folder)


@pytest.mark.parametrize("size", [0, 5, 100, 5000])
def test_truncated_weights(trained: Path, tmp_path: Path, size: int) -> None:
    path = broken(trained, tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(S2SError, match="cannot be read") as caught:
        checkpoint.load_model(path.parent)
    assert caught.value.where == str(path)


def test_truncated_training_state(trained: Path, tmp_path: Path, s2s: Runner) -> None:
    run = copy_run(trained, tmp_path / "run")
    path = run / "state" / "training.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    done = s2s("train", "--run", run, "--resume", "--max-steps", 400)
    assert done.returncode == 1
    assert "training.safetensors" in done.stderr.replace("\n", "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(trained: Path, tmp_path: Path, name: str) -> None:
    folder = broken(trained, tmp_path)
    (folder / name).unlink()
    with pytest.raises(S2SError) as caught:
        checkpoint.load_model(folder)
    assert str(folder) in str(caught.value)
    if name != "config.json":
        assert name in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}', '{"format": 1, "model": {"x": 1}}'])
def test_a_garbled_configuration(trained: Path, tmp_path: Path, content: str) -> None:
    folder = broken(trained, tmp_path)
    (folder / "config.json").write_text(content)
    with pytest.raises(S2SError) as caught:
        checkpoint.load_model(folder)
    assert "config.json" in str(caught.value)


def test_a_wrong_tokenizer(trained: Path, tmp_path: Path) -> None:
    folder = broken(trained, tmp_path)
    lines = ["some other text", "of other words"] * 5
    other = Tokenizer.train(
        lines,
        lines,
        source=Segmentation(kind="word"),
        target=Segmentation(kind="word"),
        vocab_size=300,
        joint=True,
    )
    other.save(folder / "tokenizer.json")
    with pytest.raises(S2SError, match="tokenizer has") as caught:
        checkpoint.load_model(folder)
    assert "another model" in str(caught.value)


def test_weights_of_another_architecture(trained: Path, tmp_path: Path) -> None:
    folder = broken(trained, tmp_path)
    model = json.loads((folder / "config.json").read_text())["model"]
    change_config(folder, model={**model, "hidden": 34})
    with pytest.raises(S2SError, match="shape"):
        checkpoint.load_model(folder)
    change_config(folder, model={**model, "encoder_layers": 2})
    with pytest.raises(S2SError, match="do not belong"):
        checkpoint.load_model(folder)


def test_without_a_best_model_the_last_is_taken(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    (run / "best" / "model.safetensors").unlink()
    assert checkpoint.find_model(run) == run / "last"


def test_no_model_where_one_is_looked_for(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(S2SError, match="no such folder"):
        checkpoint.load_model(tmp_path / "nowhere")
    with pytest.raises(S2SError, match="no model") as caught:
        checkpoint.load_model(prepared)
    assert "s2s train" in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(trained: Path, tmp_path: Path, value: float) -> None:
    folder = broken(trained, tmp_path)
    tensors, metadata = load_tensors(folder / "model.safetensors")
    tensors["output.bias"][3] = value
    save_tensors(folder / "model.safetensors", tensors, metadata)
    with pytest.raises(S2SError, match=r"'output\.bias' holds values that are no numbers") as caught:
        checkpoint.load_model(folder)
    assert caught.value.where == str(folder / "model.safetensors")
