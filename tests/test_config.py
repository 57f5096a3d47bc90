"""Options: defaults < file < flags, types, ranges and names."""

from __future__ import annotations

from pathlib import Path

import pytest

from s2scli.config import COMMANDS, ModelConfig, PreprocessOptions, ScoreOptions, TrainOptions
from s2scli.errors import UsageError
from s2scli.resolve import as_dict, build, resolve


@pytest.mark.parametrize("command", COMMANDS)
def test_defaults_are_valid(command: str) -> None:
    defaults = COMMANDS[command]()
    given = {name: value for name, value in vars(defaults).items() if value is not None}
    assert build(COMMANDS[command], given) == defaults


def test_layers(tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text(
        'run = "shared"\nthreads = 1\n[train]\nthreads = 2\nmax-minutes = 3\n[translate]\nbeam = 7\n'
    )
    train = resolve("train", {"hidden": 64}, folder=tmp_path)
    assert (train.run, train.threads, train.max_minutes, train.hidden) == (Path("shared"), 2, 3.0, 64)
    assert resolve("train", {"threads": 4}, folder=tmp_path).threads == 4
    translate = resolve("translate", {}, folder=tmp_path)
    assert (translate.beam, translate.threads) == (7, 1)
    assert resolve("preprocess", {}, folder=tmp_path).run == Path("shared")
    assert resolve("train", {}, folder=tmp_path / "elsewhere") == TrainOptions()


def test_a_list_in_the_file_is_a_repeated_flag(tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text('[preprocess]\ntrain_src = ["a", "b"]\ntrain_tgt = "c"\n')
    options = resolve("preprocess", {}, folder=tmp_path)
    assert options.train_src == (Path("a"), Path("b"))
    assert options.train_tgt == (Path("c"),)


def test_a_flag_takes_the_place_of_what_cannot_stand_beside_it(tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text(
        '[preprocess]\ntrain = ["table.tsv"]\ndev-size = 5\ntest-src = "a"\ntest-tgt = "b"\n'
    )
    text = {"train_src": ("x",), "train_tgt": ("y",)}
    options = resolve("preprocess", {**text, "dev": ("d.tsv",), "test_tgt": ("c",)}, folder=tmp_path)
    assert (options.train, options.train_src, options.train_tgt) == ((), (Path("x"),), (Path("y"),))
    assert (options.dev, options.dev_size) == ((Path("d.tsv"),), None)
    assert (options.test_src, options.test_tgt) == ((Path("a"),), (Path("c"),))
    assert resolve("preprocess", {"test_size": 9}, folder=tmp_path).test_src == ()
    assert resolve("preprocess", {"test_size": 0}, folder=tmp_path).test_src == (Path("a"),)


@pytest.mark.parametrize(
    ("given", "where", "said"),
    [
        ({"hiden": 3}, "--hiden", "'hidden'"),
        ({"hidden": 3.5}, "--hidden", "whole number"),
        ({"hidden": True}, "--hidden", "whole number"),
        ({"hidden": 1}, "--hidden", "from 2 to 8192"),
        ({"dropout": float("nan")}, "--dropout", "not a number"),
        ({"dropout": float("inf")}, "--dropout", "not a number"),
        ({"seed": -1}, "--seed", "from 0 to"),
        ({"residual": 1}, "--residual", "true or false"),
        ({"cell": "lsmt"}, "--cell", "'lstm'"),
        ({"run": 3}, "--run", "a path"),
        ({"seed": None}, "--seed", "whole number"),
    ],
)
def test_what_is_refused(given: dict[str, object], where: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(TrainOptions, given)
    assert caught.value.where == where
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_whole_number_is_a_number() -> None:
    assert build(PreprocessOptions, {"max_ratio": 3}).max_ratio == 3.0


def test_the_place_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text("[train]\nhidden = 1\n")
    with pytest.raises(UsageError) as caught:
        resolve("train", {}, folder=tmp_path)
    assert caught.value.where == f"{tmp_path / 's2s.toml'}: [train] hidden"
    with pytest.raises(UsageError) as caught:
        resolve("train", {"hidden": 0}, folder=tmp_path)
    assert caught.value.where == "--hidden"


def test_a_mistake_for_another_command_is_found_too(tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text("[translate]\nbaem = 3\n")
    with pytest.raises(UsageError, match="'beam'"):
        resolve("train", {}, folder=tmp_path)


@pytest.mark.parametrize("content", [b"[train", b"train = 3", b"hidden = \xff", b"a = 1\na = 2"])
def test_files_that_are_no_settings(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        resolve("train", {}, folder=tmp_path)
    assert caught.value.where == str(tmp_path / "s2s.toml")


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"hidden": 7}, "--hidden"),
        ({"attention": "none", "bridge": "zero"}, "--bridge"),
        ({"attention": "none", "values": "projected"}, "--values"),
        ({"attention": "none", "relative_positions": 8}, "--relative-positions"),
        ({"tie": "all"}, "--tie"),
    ],
)
def test_models_that_cannot_work(given: dict[str, object], where: str) -> None:
    with pytest.raises(UsageError) as caught:
        ModelConfig(source_vocab=10, target_vocab=11, **given)  # type: ignore[arg-type]
    assert caught.value.where == where
    assert caught.value.hint


def test_options_as_json_values() -> None:
    plain = as_dict(ScoreOptions(ref=(Path("a"), Path("b"))))
    assert plain["ref"] == ["a", "b"]
    assert plain["run"] == "s2s-run"
    assert plain["hypotheses"] == []
    assert plain["src"] is None
