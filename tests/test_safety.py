"""When the disk is full, the folder closed or the command cut off: a clear error, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, copy_run, quiet, run_s2s
from safetensors import safe_open
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from s2scli import Translator
from s2scli.config import TrainOptions
from s2scli.errors import S2SError
from s2scli.events import silent
from s2scli.meter import Stop
from s2scli.resumable import Partial, announced
from s2scli.runfolder import replacing_models, settle_models
from s2scli.train import train
from s2scli.trainingstate import load_state

NOBODY = 65534


def limited(arguments: list[object], prepare: Callable[[], None], stdin: str = "") -> tuple[int, str]:
    """Run the real command in a process that has first been restricted; exit code and stderr."""
    command = [sys.executable, "-m", "s2scli", *map(str, arguments)]
    done = subprocess.run(
        command,
        input=stdin.encode(),
        capture_output=True,
        timeout=120,
        env=quiet(),
        check=False,
        preexec_fn=prepare,
    )
    return done.returncode, done.stderr.decode()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def file_size_limit(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_in_training_leaves_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    before = contents(run)
    arguments = ["train", "--run", run, "--resume", "--max-steps", 330]
    code, said = limited(arguments, file_size_limit(10_000))
    assert code == 1
    assert "model.safetensors" in said or "training.safetensors" in said
    assert "Traceback" not in said
    after = contents(run)
    for name in before.keys() - {"metrics.jsonl"}:
        assert after[name] == before[name], name
    assert not [n for n in after if n.endswith(".tmp")]
    assert run_s2s(*arguments).returncode == 0, "with space again, it goes on"


def test_a_full_disk_in_translation_leaves_the_old_output(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b c d e f\n" * 3000)
    (tmp_path / "out").write_text("old\n")
    files = ["-i", tmp_path / "in", "-o", tmp_path / "out"]
    arguments = ["translate", "--run", trained, "--beam", 1, "--force", *files]
    code, said = limited(arguments, file_size_limit(4096))
    assert code == 1
    assert "out" in said
    assert "Traceback" not in said
    assert (tmp_path / "out").read_text() == "old\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


AS_NOBODY = f"""
import os, sys
import torch._dynamo, rich.live, rich.traceback, zoneinfo
import s2scli.console, s2scli.preprocess, s2scli.train, s2scli.translate
from s2scli.cli import main
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.exit(main(sys.argv[1:]))
"""
"""Everything is imported first: another user may not be able to read this Python installation."""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("command", ["preprocess", "train", "translate"])
def test_a_folder_that_may_not_be_written(trained: Path, command: str) -> None:
    # pytest's own temporary folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="s2s-closed-") as temporary:
        folder = Path(temporary)
        shutil.copytree(trained, folder / "run")
        shutil.copy(Path(__file__).parents[1] / "data" / "dev.en", folder / "text")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        before = contents(folder)
        text = ["--train-src", folder / "text", "--train-tgt", folder / "text"]
        arguments: list[object] = {
            "preprocess": ["preprocess", "--run", folder / "run", "--force", *text],
            "train": ["train", "--run", folder / "run", "--force", "--max-steps", 3],
            "translate": ["translate", "--run", folder / "run", "-o", folder / "new"],
        }[command]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *map(str, arguments)],
            input=b"a b\n",
            capture_output=True,
            timeout=120,
            env=quiet(),
            check=False,
        )
        said = done.stderr.decode()
        assert done.returncode == 1, said
        assert "ermission denied" in said
        assert str(folder) in said
        assert "Traceback" not in said
        assert contents(folder) == before


def test_a_run_folder_whose_data_is_of_another_format(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    path = run / "data" / "tokenizer.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 7', 1))
    done = run_s2s("train", "--run", run, *SMALL, "--max-steps", 3)
    assert done.returncode == 1
    assert "format" in done.stderr and "7" in done.stderr and "tokenizer.json" in done.stderr
    assert not (run / "best").exists()


def test_a_damaged_shard_is_named(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    shard = next((run / "data").glob("train-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    done = run_s2s("train", "--run", run, *SMALL, "--max-steps", 3)
    assert done.returncode == 1
    assert shard.name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("side", ["source_ids", "target_ids"])
@pytest.mark.parametrize("split", ["train", "dev"])
def test_a_shard_with_ids_of_no_token_is_named(split: str, side: str, prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    shard = run / "data" / f"{split}-00000.safetensors"
    with safe_open(shard, "numpy") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors[side][-1] = 9_999
    save_arrays(tensors, shard, metadata)
    options = TrainOptions(run=run, max_steps=2, hidden=32, embedding=32, threads=1)
    with pytest.raises(S2SError, match=f"the {side[:6]} holds an id") as caught:
        train(options, silent)
    assert caught.value.where == str(shard)


def test_a_misspelt_key_in_the_file_is_named(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text("[train]\nhiden = 32\n")
    done = run_s2s("train", "--run", prepared, cwd=tmp_path)
    assert done.returncode == 2
    assert "s2s.toml" in done.stderr and "hidden" in done.stderr


@pytest.mark.parametrize("linked", [False, True])
def test_a_forced_training_that_cannot_begin_leaves_the_old_one(
    linked: bool, trained: Path, tmp_path: Path
) -> None:
    run = copy_run(trained, tmp_path / "run")
    if linked:
        (run / "best").rename(tmp_path / "elsewhere")
        (run / "best").symlink_to(tmp_path / "elsewhere")
    before = contents(run)
    options = ["train", "--run", run, *SMALL, "--hidden", 64, "--max-steps", 2, "--force"]
    code, said = limited(options, file_size_limit(3_000))
    assert code == 1 and "larger than allowed" in said, said
    assert contents(run) == before
    assert (run / "best").is_symlink() is linked
    done = run_s2s(*options)
    assert done.returncode == 0, done.stderr
    assert not (run / "best").is_symlink() and not (run / ".s2s-replaced").exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("optimizer.0.exp_avg", lambda tensor: tensor.flatten()[:1].clone()),
        ("optimizer.1.exp_avg_sq", None),
        ("optimizer.2.step", lambda tensor: tensor.repeat(2)),
        ("random", lambda tensor: tensor[:100].clone()),
        ("options", lambda progress: {**progress, "options": []}),
        ("chosen", lambda progress: {k: v for k, v in progress.items() if k != "chosen"}),
        ("step", lambda progress: {**progress, "position": {**progress["position"], "step": -5}}),
        ("elapsed", lambda progress: {**progress, "position": {**progress["position"], "elapsed": "x"}}),
    ],
)
def test_a_damaged_state_is_named(
    name: str, damage: Callable[[Any], Any] | None, trained: Path, tmp_path: Path
) -> None:
    run = copy_run(trained, tmp_path / "run")
    path = run / "state" / "training.safetensors"
    with safe_open(path, framework="pt") as file:
        progress = json.loads(file.metadata()["state"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if damage is None:
        del tensors[name]
    elif name in tensors:
        tensors[name] = damage(tensors[name])
    else:
        progress = damage(progress)
    save_file(tensors, path, {"state": json.dumps(progress)})
    with pytest.raises(S2SError, match=r"state of (the|a) training"):
        train(TrainOptions(run=run, resume=True, max_steps=310), silent, Stop())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("embedding", -1),
        ("embedding", True),
        ("hidden", 10**30),
        ("encoder_layers", 3_000_000),
        ("encoder_layers", []),
        ("source_vocab", 10**12),
        ("cell", "rnn"),
        ("dropout", "much"),
        ("max_source_length", 3.7),
    ],
)
def test_a_damaged_configuration_is_named(key: str, value: object, trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    path = run / "best" / "config.json"
    content = json.loads(path.read_text())
    (content if key in content else content["model"])[key] = value
    path.write_text(json.dumps(content))
    with pytest.raises(S2SError, match="the configuration of the model is damaged: .*" + key):
        Translator.load(run)


def test_weights_of_another_number_format_are_refused(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    path = run / "best" / "model.safetensors"
    weights = load_file(path)
    save_file({name: weight.to(torch.int32) for name, weight in weights.items()}, path)
    with pytest.raises(S2SError, match="is not in 32-bit floating point"):
        Translator.load(run)


def test_a_refused_translation_leaves_what_another_writes(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    other = Partial(path, {})

    def refused() -> None:
        with announced(path):  # has looked before the other began
            other.file.unlink()
            other.open(resume=False, force=True)
            other.write(b"new")
            raise S2SError("another translation is writing this file")

    with pytest.raises(S2SError):
        refused()
    other.finish()
    assert path.read_text() == "new"
    with pytest.raises(S2SError), announced(path):
        raise S2SError("something else")
    assert not list(tmp_path.glob(".out*"))


def test_a_name_too_long_for_the_notes_is_refused_at_once(trained: Path, tmp_path: Path) -> None:
    output = tmp_path / ("번" * 77)
    done = run_s2s("translate", "--run", trained, "--output", output, stdin="a\n")
    assert done.returncode == 1 and "name is too long" in done.stderr
    assert not list(tmp_path.iterdir())


def test_input_that_does_not_want_to_wait_is_waited_for(trained: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    command = [sys.executable, "-m", "s2scli", "translate", "--run", str(trained), "--threads", "1"]
    with subprocess.Popen(command, stdin=read, stdout=subprocess.PIPE, env=quiet()) as process:
        os.close(read)
        time.sleep(3)
        os.write(write, b"a b\n" * 3)
        os.close(write)
        assert process.stdout is not None
        assert len(process.stdout.read().splitlines()) == 3
    assert process.returncode == 0


@pytest.mark.parametrize(
    "text", [f"threads = {'9' * 400}", f"threads = {'9' * 5000}", "run = " + "[" * 100_000]
)
def test_numbers_and_nesting_beyond_all_measure_are_usage_errors(text: str, tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text(text)
    done = run_s2s("translate", cwd=tmp_path, stdin="a\n")
    assert done.returncode == 2 and "s2s.toml" in done.stderr, done.stderr
    done = run_s2s("train", "--hidden", "9" * 400, cwd=tmp_path.parent)
    assert done.returncode == 2 and "--hidden" in done.stderr, done.stderr


def test_a_file_name_that_is_no_text_is_written_as_it_is(tmp_path: Path) -> None:
    name = os.fsdecode(b"a\xff")
    (tmp_path / name).write_text("a b\n")
    (tmp_path / "ref").write_text("a b\n")
    done = subprocess.run(
        [sys.executable, "-m", "s2scli", "score", name, "--ref", "ref", "--per-line", "--metric", "chrf"],
        cwd=tmp_path,
        capture_output=True,
        env=quiet(),
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_forced_training_killed_at_its_start_leaves_the_old_one(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    before = contents(run)

    def killed(*moves: tuple[str, str]) -> None:
        """As `kill -9` leaves the folder: some names moved, nothing put back."""
        for a, b in moves:
            (run / b).parent.mkdir(exist_ok=True)
            (run / a).rename(run / b)

    for moves in (
        (("state", ".s2s-replaced/state"),),
        (("state", ".s2s-replaced/state"), ("best", ".s2s-replaced/best")),
    ):
        killed(*moves)
        (run / "last" / "model.safetensors").touch()
        settle_models(run)
        assert contents(run) == before
    killed(("state", ".s2s-replaced/state"), ("best", ".s2s-replaced/best"), ("last", ".s2s-replaced/last"))
    (run / "best").mkdir()
    (run / "best" / "config.json").write_text("new")
    done = run_s2s("train", "--run", run, "--resume", "--max-steps", 301, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert not (run / ".s2s-replaced").exists()


def test_models_that_cannot_all_be_put_aside_come_back(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(trained, tmp_path / "run")
    before = contents(run)
    move = shutil.move

    def busy(source: Path, to: Path) -> object:
        if source == run / "best":
            raise OSError(errno.EBUSY, "busy")
        return move(source, to)

    monkeypatch.setattr(shutil, "move", busy)
    with pytest.raises(OSError, match="busy"), replacing_models(run):
        pass
    assert contents(run) == before
    assert not (run / ".s2s-replaced").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_does_not_want_to_wait_is_waited_for(unbuffered: str, trained: Path) -> None:
    lines = "a b c\n" * 3_000
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    command = [sys.executable, "-m", "s2scli", "translate", "--run", str(trained), "--beam", "1", "--scores"]
    environment = {**quiet(), "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=writer, env=environment, text=True) as done:
        os.close(writer)
        assert done.stdin is not None
        done.stdin.write(lines)
        done.stdin.close()
        time.sleep(6)  # the pipe is full by then
        with os.fdopen(reader) as out:
            assert out.read().count("\n") == 3_000
        assert done.wait() == 0


def test_what_is_written_short_is_an_error_without_a_buffer_too(trained: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "s2scli", "translate", "--run", str(trained), "--format", "jsonl"]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            command,
            input=b"a b c d e f\n" * 9,
            stdout=out,
            stderr=subprocess.PIPE,
            env=quiet(),
            preexec_fn=file_size_limit(1_000),
            check=False,
        )
    assert done.returncode == 1 and b"larger than allowed" in done.stderr


def test_a_resumed_training_does_not_lie_in_its_file(trained: Path) -> None:
    tensors, _ = load_state(trained / "state")
    assert tensors and "training.safetensors" not in Path("/proc/self/maps").read_text()
