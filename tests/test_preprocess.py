from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2scli import lexicon, runfolder, selection
from s2scli.config import PreprocessOptions
from s2scli.corpus import Lines
from s2scli.errors import S2SError, UsageError
from s2scli.events import Event, Notice, Prepared, Progress
from s2scli.preprocess import preprocess
from s2scli.resolve import build
from s2scli.shards import ParallelData
from s2scli.tokenizer import Tokenizer

Pair = tuple[str, str]
LETTERS = "abcdefghijklmnopqrst"


def words(n: int) -> str:
    return " ".join(LETTERS[int(digit)] * 3 for digit in str(n))


def some_pairs(count: int) -> list[Pair]:
    return [(f"{words(i)} source", f"target {words(i)}") for i in range(count)]


def files(folder: Path, name: str, pairs: list[Pair]) -> dict[str, tuple[Path]]:
    folder.mkdir(exist_ok=True)
    given: dict[str, tuple[Path]] = {}
    for number, side in enumerate(("src", "tgt")):
        path = folder / f"{name}.{side}"
        path.write_bytes("".join(pair[number] + "\n" for pair in pairs).encode("utf-8"))
        given[f"{name}_{side}"] = (path,)
    return given


def run(folder: Path, *, listen: Any = lambda event: None, **given: Any) -> dict[str, Any]:
    return preprocess(PreprocessOptions(run=folder / "run", **given), listen)


def texts(folder: Path, split: str) -> list[Pair]:
    data = ParallelData.open(folder / "run" / "data", split)
    return [(data.source_text(i), data.target_text(i)) for i in range(len(data))]


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files of a folder, but for the lock, which stays and holds nothing."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_what_comes_out(tmp_path: Path) -> None:
    pairs, dev, test = some_pairs(600), some_pairs(640)[600:620], some_pairs(640)[620:]
    events: list[Event] = []
    report = run(
        tmp_path,
        listen=events.append,
        **files(tmp_path, "train", pairs),
        **files(tmp_path, "dev", dev),
        **files(tmp_path, "test", test),
    )
    data = tmp_path / "run" / "data"
    assert sorted(p.name for p in data.iterdir()) == [
        "dev-00000.safetensors", "dev.source.txt", "dev.target.txt", "lexicon.safetensors", "report.json",
        "test-00000.safetensors", "test.source.txt", "test.target.txt",
        "tokenizer.json", "train-00000.safetensors",
    ]  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [".lock", "data"]
    tokenizer = Tokenizer.load(data / "tokenizer.json")
    for split, expected in (("train", pairs), ("dev", dev), ("test", test)):
        assert texts(tmp_path, split) == expected
        content = ParallelData.open(data, split)
        for number, side in enumerate((content.source, content.target)):
            ids = [side(i).tolist() for i in range(len(content))]
            decoder = (tokenizer.source, tokenizer.target)[number]
            assert decoder.decode(ids) == [pair[number] for pair in expected]
            spread = report["lengths"][split][("source", "target")[number]]
            assert spread["total"] == sum(map(len, ids))
            assert spread["max"] == max(map(len, ids))
    assert list(Lines(data / "dev.source.txt")) == [s for s, _ in dev]
    assert list(Lines(data / "test.target.txt")) == [t for _, t in test]
    assert report == json.loads((data / "report.json").read_text(encoding="utf-8"))
    assert report["pairs"] == {"read": 600, "train": 600, "dev": 20, "test": 20}
    assert report["tokenizer"]["joint"] is tokenizer.joint is True  # the same letters
    assert set(report["dropped"].values()) == {0}
    assert report["held_out"] == []
    assert events[-1] == Prepared(report=report)
    tasks = {e.task: e for e in events if isinstance(e, Progress)}
    assert list(tasks) == ["reading", "tokenizer", "encoding", "lexicon"]
    assert all(e.done == e.total for e in tasks.values())
    assert {task: e.unit for task, e in tasks.items() if e.unit != "bytes"} == {"lexicon": "passes"}


def test_without_data_the_sample_corpus_is_used(tmp_path: Path) -> None:
    events: list[Event] = []
    report = run(tmp_path, listen=events.append)
    assert report["pairs"] == {"read": 9382, "train": 9382, "dev": 500, "test": 500}
    assert report["tokenizer"]["joint"] is False
    notices = [e.text for e in events if isinstance(e, Notice)]
    assert notices[0].startswith("No data given: using the bundled")
    assert any(n.startswith("A vocabulary for each side: ") for n in notices)
    assert not any(n[0].islower() for n in notices)


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"train_src": "a"}, "--train-tgt"),
        ({"train_tgt": "a"}, "--train-src"),
        ({"train": "a", "train_src": "a", "train_tgt": "a"}, "--train"),
        ({"train_src": "aa", "train_tgt": "a"}, "--train-src"),
        ({"train_src": "a", "train_tgt": "a", "dev_src": "a"}, "--dev-tgt"),
        ({"train_src": "a", "train_tgt": "a", "dev": "a", "dev_src": "a"}, "--dev"),
        ({"train": "a", "test_tgt": "a"}, "--test-src"),
        ({"dev_src": "a", "dev_tgt": "a"}, "--train-src"),
        ({"train": "a", "columns": "1"}, "--columns"),
        ({"train": "a", "columns": "2,2"}, "--columns"),
        ({"train": "a", "dev": "a", "dev_size": 5}, "--dev-size"),
        ({"test_size": 5}, "--test-size"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, given: dict[str, Any], flag: str) -> None:
    paths = {k: tuple(map(Path, v)) if isinstance(v, str) and k != "columns" else v for k, v in given.items()}
    with pytest.raises(UsageError) as caught:
        run(tmp_path, **paths)
    assert caught.value.where == flag
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


def test_dropped_pairs_are_counted_by_reason(tmp_path: Path) -> None:
    good = some_pairs(40)
    bad = [
        ("", "x"),
        ("x", " \t\u2003"),
        ("", ""),
        ("a", "b" * 19),  # disproportionate, but short
        ("a", "b" * 20),
        ("c" * 100, "d" * 11),
        ("c" * 100, "d" * 12),
        (" ".join(LETTERS) * 5, " ".join(LETTERS) * 5),
        good[3],
        (good[3][0], "another target"),
        ("in the dev set", "x"),
    ]
    given = files(tmp_path, "train", good + bad) | files(
        tmp_path, "dev", [("in the dev set", "y"), good[7], ("", "")]
    )
    options = {"max_length": 50, "tokenizer": "char", "max_ratio": 9.0}
    events: list[Event] = []
    report = run(tmp_path, listen=events.append, **given, **(options | {"max_length": 120}))
    assert report["dropped"] == {"blank": 3, "ratio": 2, "overlap": 0, "duplicate": 0, "too_long": 1}
    assert report["pairs"] == {"read": 51, "train": 45, "dev": 3, "test": 0}
    assert report["duplicates"] == 1
    assert report["overlap"] == {"dev": 2}
    assert report["blank"] == {"dev": 1}
    warnings = [e.text for e in events if isinstance(e, Notice) and e.warning]
    assert any("2 of 3 dev sources occur in the training data" in w for w in warnings)
    assert any("1 of 3 dev pairs are blank" in w for w in warnings)
    assert bad[3] in texts(tmp_path, "train")
    assert texts(tmp_path, "dev")[2] == ("", "")

    report = run(
        tmp_path,
        force=True,
        drop_duplicates=True,
        drop_overlap=True,
        **given,
        **(options | {"max_length": 120}),
    )
    assert report["dropped"] == {"blank": 3, "ratio": 2, "overlap": 2, "duplicate": 1, "too_long": 1}
    assert report["overlap"] == {"dev": 0}
    kept = texts(tmp_path, "train")
    assert len(kept) == report["pairs"]["train"] == 42
    assert kept == [p for p in good if p != good[7]] + [bad[3], bad[6], bad[9]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=120),
    st.integers(1, 20),
    st.integers(0, 20),
    st.integers(0, 5),
)
def test_held_out_sources_are_nowhere_else(numbers: list[int], dev: int, test: int, seed: int) -> None:
    sources = np.array(numbers, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    chosen = selection.hold_out(sources, (dev, test), seed)
    if chosen is None:
        # Only where there is too little: the sets and one more source do not fit.
        most = max(Counter(numbers).values())
        assert len(numbers) < dev + test + 3 * most
        return
    sets = [set(hashes.tolist()) for hashes in chosen]
    assert sets[0].isdisjoint(sets[1])
    assert set(sources.tolist()) - sets[0] - sets[1]
    for size, taken in zip((dev, test), sets, strict=True):
        assert int(np.isin(sources, list(taken)).sum()) >= size if size else not taken


def test_held_out_pairs(tmp_path: Path) -> None:
    pairs = some_pairs(400)
    pairs += [(source, target + " again") for source, target in pairs[:200]] + [("", "blank")] * 50
    given = files(tmp_path, "train", pairs)
    report = run(tmp_path, dev_size=30, test_size=20, **given)
    sets = {split: texts(tmp_path, split) for split in ("train", "dev", "test")}
    assert sorted(pair for part in sets.values() for pair in part) == sorted(p for p in pairs if p[0])
    sources = {split: {source for source, _ in part} for split, part in sets.items()}
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert sources[one].isdisjoint(sources[other])
    assert 30 <= len(sets["dev"]) <= 31
    assert 20 <= len(sets["test"]) <= 21
    assert report["held_out"] == ["dev", "test"]
    assert report["overlap"] == {"dev": 0, "test": 0}
    lines = [list(Lines(tmp_path / "run" / "data" / f"dev.{side}.txt")) for side in ("source", "target")]
    assert list(zip(*lines, strict=True)) == sets["dev"]
    order = {pair: i for i, pair in enumerate(pairs)}
    assert [order[p] for p in sets["train"]] == sorted(order[p] for p in sets["train"])

    run(tmp_path, dev_size=30, test_size=20, force=True, seed=2, **given)
    assert texts(tmp_path, "dev") != sets["dev"]
    assert run(tmp_path, force=True, **given)["pairs"]["dev"] == 30  # 5% of 600


def test_sources_are_compared_in_normal_form(tmp_path: Path) -> None:
    pairs = [("e\u0301 one", "x"), ("\u00e9 one", "y")] * 20 + [("two", "z")] * 30
    run(tmp_path, dev_size=25, **files(tmp_path, "train", pairs))
    assert (
        len({source for source, _ in texts(tmp_path, "train")} | {s for s, _ in texts(tmp_path, "dev")}) == 2
    )
    assert len({source for source, _ in texts(tmp_path, "train")}) == 1
    # The raw text keeps what was written.
    raw = Counter(Lines(tmp_path / "run" / "data" / "dev.source.txt"))
    assert raw in ({"two": 30}, {"e\u0301 one": 20, "\u00e9 one": 20})


@pytest.mark.parametrize(
    ("pairs", "given", "message"),
    [
        ([], {}, "train text is empty"),
        ([("a", "b")], {}, "too few to hold out"),
        ([("a", "b")] * 50, {}, "50 usable pairs with 1 different source: too few to hold out 2"),
        ([("a", "b"), ("c", "d")], {"dev_size": 2}, "too few to hold out"),
        ([("a", ""), ("", "b")], {}, "no training pair is left: of 2, 2 blank"),
        (some_pairs(40), {"max_length": 1}, "no training pair is left"),
    ],
)
def test_too_little_data(tmp_path: Path, pairs: list[Pair], given: dict[str, Any], message: str) -> None:
    with pytest.raises(S2SError, match=message) as caught:
        run(tmp_path, **files(tmp_path, "train", pairs), **given)
    assert caught.value.where
    assert "train.src" in caught.value.where
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


def test_one_pair_to_train_on_is_enough(tmp_path: Path) -> None:
    given = files(tmp_path, "train", [("a", "b")]) | files(tmp_path, "dev", [("c", "d")])
    assert run(tmp_path, **given)["pairs"] == {"read": 1, "train": 1, "dev": 1, "test": 0}


def test_odd_lines_survive(tmp_path: Path) -> None:
    odd = [
        "\0\x01\x1b",
        "a\u2028b\x85c",
        "{0} %s %d {",
        "</s> <0x41> <pad>",
        " two  spaces ",
        "😀▁☃",
        "x" * 100_000,
    ]
    source, target = tmp_path / "s.txt", tmp_path / "t.txt.gz"
    source.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*odd, ""]).encode())
    target.write_bytes(gzip.compress("\n".join(odd).encode()))
    for kind in ("bpe", "unigram", "char"):
        given = {"train_src": (source,), "train_tgt": (target,), "max_length": 200_000, "tokenizer": kind}
        report = run(tmp_path, force=True, **given, **files(tmp_path, "dev", [(line, line) for line in odd]))
        assert report["pairs"]["train"] == len(odd)
        # What stands around a string of characters is no part of it.
        expected = [(line.strip(), line.strip()) if kind == "char" else (line, line) for line in odd]
        assert texts(tmp_path, "train") == texts(tmp_path, "dev") == expected
        assert list(Lines(tmp_path / "run" / "data" / "dev.source.txt")) == odd


def test_invalid_bytes(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(40))
    path = given["train_tgt"][0]
    path.write_bytes(path.read_bytes().replace(b"target", b"t\xffrget", 1))
    with pytest.raises(S2SError, match=r"train\.tgt:1: byte 0xff"):
        run(tmp_path, **given)
    events: list[Event] = []
    report = run(tmp_path, listen=events.append, replace_invalid=True, **given)
    assert report["replaced_bytes"] == {"train": 1}
    assert any(isinstance(e, Notice) and e.warning and "U+FFFD" in e.text for e in events)


def test_tsv_with_named_columns(tmp_path: Path) -> None:
    rows = [f"{i}\t{t}\t{s}\r\n" for i, (s, t) in enumerate(some_pairs(60))]
    path = tmp_path / "pairs.tsv"
    path.write_bytes("".join(["id\ttgt\tsrc\r\n", *rows]).encode())
    report = run(tmp_path, train=(path,), columns="src,tgt", dev_size=5)
    assert report["pairs"]["read"] == 60
    assert sorted(texts(tmp_path, "train") + texts(tmp_path, "dev")) == sorted(some_pairs(60))


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
def test_the_same_input_gives_the_same_files(tmp_path: Path, kind: str) -> None:
    given = files(tmp_path, "train", some_pairs(500))
    options = {"tokenizer": kind, "sample_size": 1000, "test_size": 10}
    results = []
    for name in ("one", "two"):
        report = run(tmp_path / name, **given, **options)
        content = snapshot(tmp_path / name / "run" / "data")
        assert content.pop("report.json")
        results.append((report["fingerprint"], content))
    assert results[0] == results[1]


def test_a_sample_of_the_lines_teaches_the_tokenizer(tmp_path: Path) -> None:
    report = run(tmp_path, sample_size=1000, **files(tmp_path, "train", some_pairs(3000)))
    assert report["tokenizer"]["sample_lines"] == 1000
    assert report["pairs"]["train"] == 2850


def make_models(folder: Path) -> None:
    """What a training leaves, as far as the exchange of data is concerned."""
    for name in ("best", "last", "state", "tensorboard"):
        (folder / name).mkdir()
        (folder / name / "file").write_text("old")
    (folder / "metrics.jsonl").write_text("old")


def test_nothing_is_replaced_without_force(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(60))
    run(tmp_path, **given)
    folder = tmp_path / "run"
    make_models(folder)
    (folder / "s2s.toml").write_text("mine")
    before = snapshot(folder)
    with pytest.raises(S2SError, match=r"holds data, state, best, last, tensorboard, metrics") as caught:
        run(tmp_path, **given)
    assert "--force" in str(caught.value.hint)
    assert snapshot(folder) == before

    # Errors leave all as it was, even with --force.
    with pytest.raises(S2SError):
        run(tmp_path, force=True, **files(tmp_path, "train", []))
    assert snapshot(folder) == before

    run(tmp_path, force=True, **files(tmp_path, "train", some_pairs(80)))
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "data", "s2s.toml"]
    assert len(texts(tmp_path, "train")) == 76


def test_models_without_data_are_not_replaced_either(tmp_path: Path) -> None:
    (tmp_path / "run" / "best").mkdir(parents=True)
    with pytest.raises(S2SError, match="holds best already"):
        run(tmp_path, **files(tmp_path, "train", some_pairs(60)))


def test_input_inside_the_folder_to_be_replaced(tmp_path: Path) -> None:
    run(tmp_path, **files(tmp_path, "train", some_pairs(60)))
    path = tmp_path / "run" / "data" / "dev.source.txt"
    with pytest.raises(UsageError, match="lies in the folder"):
        run(tmp_path, force=True, train_src=(path,), train_tgt=(path,))
    assert path.exists()


class Killed(BaseException):
    """Stands for the end of the process: nothing is tidied up after it."""


def test_a_command_killed_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every change of the exchange in turn is the first that is not made any more."""
    old, new = tmp_path / "old", tmp_path / "new"
    for name in ("data", "state"):
        (old / name).mkdir(parents=True)
        (old / name / "file").write_text("old")
    (old / "metrics.jsonl").write_text("old")
    (new / "data").mkdir(parents=True)
    (new / "data" / "file").write_text("new")
    changes = {"mkdir": Path.mkdir, "rename": Path.rename, "unlink": Path.unlink}
    rmtree = shutil.rmtree
    seen = set()
    for left in range(100):
        run_folder = tmp_path / f"run{left}"
        shutil.copytree(old, run_folder)
        remaining = left

        def count(change: Any) -> Any:
            def counted(*arguments: Any, **options: Any) -> Any:
                nonlocal remaining
                remaining -= 1
                if remaining < 0:
                    raise Killed
                return change(*arguments, **options)

            return counted

        with monkeypatch.context() as patch:
            for name, change in changes.items():
                patch.setattr(Path, name, count(change))
            patch.setattr("s2scli.runfolder.shutil.rmtree", count(rmtree))
            ended = True
            try:
                with runfolder.new_data(run_folder, force=True) as folder:
                    (folder / "file").write_text("new")
            except Killed:
                ended = False
        content = snapshot(run_folder)
        data = content.get("data/file")
        models = content.keys() & {"state/file", "metrics.jsonl"}
        if data is not None:  # with new data there is no model, with old data all of them
            assert len(models) == (2 if data == b"old" else 0)
        # The next command mends it, and is told what is there.
        with pytest.raises(S2SError, match="already"), runfolder.new_data(run_folder, force=False):
            pass
        rmtree(run_folder / ".s2s-data", ignore_errors=True)
        mended = snapshot(run_folder)
        assert mended in (snapshot(old), snapshot(new))
        assert data in (None, mended["data/file"])
        seen.add((data, mended["data/file"]))
        if ended:
            break
    assert seen == {(b"old", b"old"), (None, b"old"), (b"new", b"new")}


def test_folders_of_the_user_stay_beside_the_data(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(60))
    mine = [tmp_path / name / "mine" for name in ("replaced", "removed", "data.partial", ".replaced")]
    for path in mine:
        path.parent.mkdir()
        path.write_text("mine")
    for _ in range(2):
        preprocess(PreprocessOptions(run=tmp_path, force=True, **given))
    assert [path.read_text() for path in mine] == ["mine"] * len(mine)


def test_a_move_that_fails_brings_all_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = files(tmp_path, "train", some_pairs(60))
    run(tmp_path, **given)
    make_models(tmp_path / "run")
    before = snapshot(tmp_path / "run")
    rename = Path.rename

    def fail(self: Path, to: Path) -> Path:
        if self.name == ".s2s-data":
            raise OSError(28, "No space left on device", str(self), None, str(to))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(S2SError, match="the disk is full"):
        run(tmp_path, force=True, **given)
    assert snapshot(tmp_path / "run") == before
    assert not (tmp_path / "run" / ".s2s-replaced-data").exists()


def test_an_interrupt_leaves_the_old_data(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(60))
    run(tmp_path, **given)
    before = snapshot(tmp_path / "run")

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "encoding" and event.done == event.total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, force=True, listen=interrupt, **files(tmp_path, "train", some_pairs(70)))
    assert snapshot(tmp_path / "run") == before
    with pytest.raises(KeyboardInterrupt):
        preprocess(PreprocessOptions(run=tmp_path / "new"), interrupt)
    assert not (tmp_path / "new").exists()


LIMITED = """
import resource, signal, sys
from pathlib import Path
from s2scli.config import PreprocessOptions
from s2scli.errors import S2SError
from s2scli.preprocess import preprocess
from s2scli.resolve import build
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
folder = Path(sys.argv[1])
try:
    preprocess(PreprocessOptions(run=folder / "run", force=True,
        train_src=(folder / "train.src",), train_tgt=(folder / "train.tgt",)))
except S2SError as error:
    print(error)
    sys.exit(1)
"""


@pytest.mark.parametrize("limit", [3, 3_000, 30_000])
def test_a_write_that_fails_leaves_the_old_data(tmp_path: Path, limit: int) -> None:
    run(tmp_path, **files(tmp_path, "train", some_pairs(60)))
    before = snapshot(tmp_path / "run")
    files(tmp_path, "train", some_pairs(2000))
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "the file would be larger than allowed" in done.stdout
    assert str(tmp_path / "run") in done.stdout
    assert snapshot(tmp_path / "run") == before


def test_a_run_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(S2SError) as caught:
        run(tmp_path, **files(tmp_path, "train", some_pairs(60)))
    assert str(tmp_path / "run") in str(caught.value.where)
    assert (tmp_path / "run").read_text() == "a file"


def test_text_that_changes_while_it_is_read(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(60))

    def change(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "tokenizer" and event.done == event.total:
            files(tmp_path, "train", some_pairs(61))

    with pytest.raises(S2SError, match="has changed while it was read"):
        run(tmp_path, listen=change, **given)


def test_text_of_as_many_lines_that_takes_its_place(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(60))
    other = files(tmp_path / "other", "train", some_pairs(60)[::-1])

    def change(event: Event) -> None:
        if isinstance(event, Progress) and event.task == "tokenizer" and event.done == event.total:
            other["train_src"][0].replace(given["train_src"][0])

    with pytest.raises(S2SError, match=r"train\.src.*has changed while it was read"):
        run(tmp_path, listen=change, **given)
    assert not (tmp_path / "run").exists()


def test_two_do_not_prepare_one_folder(tmp_path: Path) -> None:
    one, other = (files(tmp_path, name, some_pairs(n)) for name, n in (("one", 60), ("other", 90)))
    one, other = (
        {k.replace(n, "train"): v for k, v in of.items()} for n, of in (("one", one), ("other", other))
    )
    refused: list[S2SError] = []

    def second(event: Event) -> None:
        if not refused and isinstance(event, Progress):
            with pytest.raises(S2SError, match="another training or preprocessing is running") as caught:
                run(tmp_path, **other)
            refused.append(caught.value)

    report = run(tmp_path, listen=second, **one)
    assert refused and report["pairs"]["read"] == 60
    assert len(texts(tmp_path, "train")) + len(texts(tmp_path, "dev")) == 60


@pytest.mark.parametrize("units", [{}, {"unit_src": "codepoint", "unit_tgt": "codepoint"}])
def test_what_is_too_long_shapes_no_vocabulary(units: dict[str, Any], tmp_path: Path) -> None:
    pairs = some_pairs(300)
    junk = "".join(chr(0x4E00 + i * 7919 % 5000) for i in range(20_000))
    for name, more in (("without", []), ("with", [(junk, junk)])):
        given = files(tmp_path / name, "train", pairs + more)
        report = run(tmp_path / name, dev_size=20, **given, **units)
        assert report["dropped"].get("too_long", 0) == len(more)
    same = [
        (tmp_path / name / "run" / "data" / "tokenizer.json").read_bytes() for name in ("without", "with")
    ]
    assert same[0] == same[1]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    given = files(tmp_path / "sch\udcf6n", "train", some_pairs(60))
    run(tmp_path, **given)
    report = json.loads((tmp_path / "run" / "data" / "report.json").read_text("utf-8"))
    assert report["files"][0]["path"] == str(given["train_src"][0])
    # But a model could not be read under such a name.
    with pytest.raises(UsageError, match="the name is not UTF-8"):
        run(tmp_path / "sch\udcf6n", **given)
    assert not (tmp_path / "sch\udcf6n" / "run").exists()


def test_tags_alone_are_a_blank_source(tmp_path: Path) -> None:
    rows = [f"word{i}\tform{i}\tV;PST\n" for i in range(60)]
    (tmp_path / "train.tsv").write_text("".join(rows))
    (tmp_path / "dev.tsv").write_text(
        "".join([*rows[:20], "\twalked\tV;PST\n", "  \twalked\tV\n", "walk\t\tV\n"])
    )
    tables = {name: (tmp_path / f"{name}.tsv",) for name in ("train", "dev")}
    report = run(tmp_path, columns="1,2,3", **tables)
    assert report["blank"]["dev"] == 3


def test_rare_tokens_are_in_the_lexicon_of_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Line n has a word of its own, so that a sample of the lines lacks most of them.
    pairs = [(f"the word{i} is", f"das wort{i} ist") for i in range(300)]
    long = ("the " * 240, "das " * 240)
    monkeypatch.setattr(lexicon, "EVENTS", 500)
    run(tmp_path, tokenizer="word", dev_size=1, **files(tmp_path, "train", [*pairs, long]))
    data = tmp_path / "run" / "data"
    pairs_there, tokenizer = ParallelData.open(data, "train"), Tokenizer.load(data / "tokenizer.json")
    sizes = (tokenizer.source.vocab_size, tokenizer.target.vocab_size)
    likely = lexicon.count_lexicon(pairs_there, *sizes, joint=False)["likely"]
    for i in range(0, len(pairs_there) - 1, 7):
        _, rare, _ = pairs_there.source(i).tolist()
        assert pairs_there.target(i).tolist()[1] in likely[rare].tolist()
    # Those that stand far behind are seen there.
    far = [("the " * 150 + f"far{i}", "das " * 150 + f"fern{i}") for i in range(9)]
    run(tmp_path / "far", tokenizer="word", dev_size=1, **files(tmp_path / "far", "train", far))
    there = ParallelData.open(tmp_path / "far" / "run" / "data", "train")
    likely = lexicon.count_lexicon(there, 20, 20, joint=False)["likely"]
    for i in range(len(there)):
        assert there.target(i).tolist()[-1] in likely[there.source(i).tolist()[-1]].tolist()
    # Of lines of any length no more than a hundred tokens a side count.
    source, *_ = lexicon._events(pairs_there, sizes[0])
    assert len(source) < 500 + 9 * 300 + 100 * 100


def test_held_out_pairs_beyond_max_length_are_kept_and_told(tmp_path: Path) -> None:
    long, short = ("a b c d e f", "a"), ("a", "b")
    given = files(tmp_path, "train", [short, long, *some_pairs(40)])
    given |= files(tmp_path, "dev", [short, long, long[::-1]]) | files(tmp_path, "test", [long, short])
    for limit, told in ((5, 2), (11, 0)):
        events: list[Event] = []
        run(tmp_path, force=True, listen=events.append, tokenizer="char", max_length=2 * limit, **given)
        assert len(texts(tmp_path, "dev")) == 3
        said = [e.text for e in events if isinstance(e, Notice) and e.warning and "--max-length" in e.text]
        assert len(said) == told
        if told:
            assert said[0].startswith("2 of 3 dev pairs have a side of more than 10 tokens")
            assert "validation leaves out their loss" in said[0]
            assert said[1].startswith("1 of 2 test pairs")
            assert "validation" not in said[1]


def test_new_data_do_not_take_the_folder_from_a_training(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(50))
    run(tmp_path, **given)
    before = snapshot(tmp_path / "run")
    seed = tmp_path / "run" / "seeds" / "1"
    seed.mkdir(parents=True)
    for folder in (tmp_path / "run", seed):
        with runfolder.locked(folder), pytest.raises(S2SError, match="another training"):
            run(tmp_path, force=True, **given)
        (folder / ".lock").unlink()
    shutil.rmtree(tmp_path / "run" / "seeds")
    assert snapshot(tmp_path / "run") == before
    run(tmp_path, force=True, **given)
    with (
        runfolder.new_data(tmp_path / "run", force=True),
        pytest.raises(S2SError, match="another"),
        runfolder.locked(tmp_path / "run"),
    ):
        pass  # nor does a training that has never been here begin while they are made


def test_pairs_that_are_too_long_are_not_held_out_either(tmp_path: Path) -> None:
    long = (" ".join(["word"] * 400), " ".join(["word"] * 400))
    given = files(tmp_path, "train", [*some_pairs(60), long])
    for seed in range(1, 20):
        report = run(tmp_path, force=True, dev_size=20, seed=seed, **given)
        assert report["dropped"]["too_long"] == 1
        assert long not in texts(tmp_path, "dev")


def test_data_of_others_are_never_replaced(tmp_path: Path) -> None:
    given = files(tmp_path, "train", some_pairs(40))
    folder = tmp_path / "run" / "data"
    folder.mkdir(parents=True)
    (folder / "corpus.txt").write_text("precious")
    for force in (False, True):
        with pytest.raises(S2SError, match="not of a run") as caught:
            run(tmp_path, force=force, **given)
        assert caught.value.where == str(folder) and (folder / "corpus.txt").read_text() == "precious"
    (folder / "corpus.txt").unlink()
    run(tmp_path, force=True, **given)
    run(tmp_path, force=True, **given)
    with pytest.raises(UsageError, match="expected a path"):
        build(PreprocessOptions, {"run": ""})


def test_held_out_text_is_read_back_as_it_was(tmp_path: Path) -> None:
    odd = ["\ufeff{} mark", "\ufeff\ufeff{}", "{} end\r", "\ufefflast {}"]
    dev = [text.format(i) for i, text in enumerate(odd * 3)]
    given = files(tmp_path, "train", [(f"a b {i}", f"c d {i}") for i in range(40)])
    for name in ("dev.src", "dev.tgt"):
        content = "".join(line + ("\r\n" if line.endswith("\r") else "\n") for line in dev)
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content.encode())
    sides = {"dev_src": (tmp_path / "dev.src",), "dev_tgt": (tmp_path / "dev.tgt",)}
    run(tmp_path, **given, **sides)
    assert list(Lines(tmp_path / "run" / "data" / "dev.source.txt")) == dev


def test_a_separator_that_the_normal_form_changes_is_refused(tmp_path: Path) -> None:
    given = files(tmp_path, "train", [(f"a\u00a0b\u00a0{i}", f"x\u00a0y\u00a0{i}") for i in range(40)])
    options = {
        "unit_src": "symbol",
        "unit_tgt": "symbol",
        "separator_tgt": "\u00a0",
        "separator_src": "\u00a0",
    }
    with pytest.raises(UsageError, match="nfkc changes this separator"):
        run(tmp_path, normalize="nfkc", **given, **options)
    run(tmp_path, **given, **options)
    other = {**options, "separator_src": ","}
    with pytest.raises(UsageError, match="separators differ"):
        run(tmp_path / "two", joint=True, **given, **other)


def test_words_that_all_occur_once_are_no_vocabulary(tmp_path: Path) -> None:
    given = files(tmp_path, "train", [(f"a{i} b{i}", f"c{i} d{i}") for i in range(1_200)])
    with pytest.raises(S2SError, match="no word occurs twice"):
        run(tmp_path, tokenizer="word", **given)
