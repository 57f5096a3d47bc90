"""Scores: equal to sacreBLEU's own command line, and clear about what cannot be scored."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from s2scli.cli import main
from s2scli.config import ScoreOptions, TranslateOptions
from s2scli.corpus import sample_corpus
from s2scli.errors import S2SError, UsageError
from s2scli.events import Event, Notice, Progress, silent
from s2scli.score import held_out, read_lines, score, table
from s2scli.translate import translate
from s2scli.translator import SearchOptions, Translation

REFERENCE = [
    "The file cannot be opened.",
    "Show all commands",
    "Go to Line {0}:{1}  ",
    "",
    "Don't save",
    "A, B & C",
]
OTHER = [
    "Unable to open the file.",
    "show All Commands",
    "Go to line {0}:{1}",
    "x",
    "Do not save",
    "A, B and C",
]
HYPOTHESIS = [
    "The file can not be opened.",
    "Show commands",
    "go to Line {0}: {1}",
    "",
    "Don't Save",
    "A; B & c ",
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, lines in (("hyp", HYPOTHESIS), ("ref", REFERENCE), ("ref2", OTHER)):
        (tmp_path / name).write_text("".join(line + "\n" for line in lines))
    corpus = sample_corpus()
    korean = (corpus / "test.ko").read_text(encoding="utf-8").split("\n")[:60]
    (tmp_path / "ko").write_text("\n".join(korean) + "\n", encoding="utf-8")
    shorter = [" ".join(line.split()[::-1][:5]) or "x" for line in korean]
    (tmp_path / "ko-hyp").write_text("\n".join(shorter) + "\n", encoding="utf-8")
    return tmp_path


def sacrebleu(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """What sacreBLEU's command line says, to twelve digits."""
    command = [sys.executable, "-m", "sacrebleu", *arguments, "-w", "12"]
    output = subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=60).stdout
    found = json.loads(output)
    return found if isinstance(found, list) else [found]


def ours(**options: Any) -> dict[str, dict[str, Any]]:
    report = score(ScoreOptions(**options), silent)
    return {item["metric"]: item for item in report["systems"][0]["scores"]}


@pytest.mark.parametrize(
    ("refs", "hypotheses", "flags", "options"),
    [
        (["ref"], "hyp", [], {}),
        (["ref", "ref2"], "hyp", [], {}),
        (["ref"], "hyp", ["-lc", "--chrf-lowercase"], {"lowercase": True}),
        (["ko"], "ko-hyp", ["-tok", "char"], {"tokenize": "char"}),
    ],
)
def test_equal_to_the_command_line_of_sacrebleu(
    refs: list[str], hypotheses: str, flags: list[str], options: dict[str, Any], files: Path
) -> None:
    expected = sacrebleu(files, *refs, "-i", hypotheses, "-m", "bleu", "chrf", "ter", *flags)
    expected += sacrebleu(files, *refs, "-i", hypotheses, "-m", "chrf", "--chrf-word-order", "2", *flags)
    paths = tuple(Path(ref) for ref in refs)
    found = ours(hypotheses=Path(hypotheses), ref=paths, metrics="bleu,chrf,ter,chrf++", **options)
    assert len(expected) == len(found) == 4
    for theirs, item in zip(expected, found.values(), strict=True):
        assert theirs["name"] == item["name"]
        assert f"{item['score']:.12f}" == f"{theirs['score']:.12f}"
        assert item["signature"] == theirs["signature"]


def test_the_same_text_scores_full_marks(files: Path) -> None:
    found = ours(hypotheses=Path("ko"), ref=(Path("ko"),), metrics="bleu,chrf,chrf++,ter")
    assert [round(found[m]["score"], 6) for m in ("bleu", "chrf", "chrf++", "ter")] == [100, 100, 100, 0]


def test_a_table_on_stdout_in_80_columns(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "hyp", "--ref", "ref", "--ref", "ref2", "--metrics", "bleu,chrf,chrf++,ter"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert max(map(len, output.out.split("\n"))) <= 80
    assert "Given hypotheses, 6 lines: hyp\nReferences: ref, ref2\n" in output.out
    assert "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:" in output.out


def test_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "hyp", "--ref", "ref", "--json", "--metrics", "chrf"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["lines"], report["references"], report["set"]) == (6, ["ref"], "given")
    assert [s["metric"] for s in report["systems"][0]["scores"]] == ["chrf"]


def test_standard_input(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = ours(hypotheses=Path("hyp"), ref=(Path("ref"),))["bleu"]["score"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((files / "hyp").read_bytes())))
    assert main(["score", "-", "--ref", "ref", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["systems"][0]["scores"][0]["score"] == expected
    with pytest.raises(UsageError, match="only one"):
        score(ScoreOptions(hypotheses=Path("-"), ref=(Path("-"),)), silent)


def test_what_a_line_is(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes("\ufeffa\u2028b\x85c\r\n\r\nlast\x0bone".encode())
    assert read_lines(file) == ["a\u2028b\x85c", "", "last\x0bone"]
    (tmp_path / "text.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read_lines(tmp_path / "text.gz") == read_lines(file)


def test_different_numbers_of_lines_name_both_files(files: Path) -> None:
    (files / "short").write_text("one\ntwo\n")
    with pytest.raises(S2SError, match="hyp has 6 lines and short has 2") as caught:
        score(ScoreOptions(hypotheses=Path("hyp"), ref=(Path("ref"), Path("short"))), silent)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("empty", [b"", b"\xef\xbb\xbf"])
def test_empty_files(empty: bytes, files: Path) -> None:
    (files / "empty").write_bytes(empty)
    with pytest.raises(S2SError, match="empty: there is nothing in it to score"):
        score(ScoreOptions(hypotheses=Path("empty"), ref=(Path("ref"),)), silent)


def test_bytes_that_are_no_text_are_refused_with_their_line(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "bad").write_bytes(b"good\n\xff bad\n")
    with pytest.raises(S2SError) as caught:
        score(ScoreOptions(hypotheses=Path("bad"), ref=(Path("ref"),)), silent)
    assert caught.value.where == "bad:2"
    assert caught.value.hint == "Convert the file to UTF-8 first."
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"good\n\xff bad\n")))
    with pytest.raises(S2SError, match="standard input:2"):
        score(ScoreOptions(hypotheses=Path("-"), ref=(Path("ref"),)), silent)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metrics": "blue"}, "'bleu'"),
        ({"metrics": " , "}, "no metric is named"),
        ({"tokenize": "flores200"}, "without a download"),
        ({"ref": (Path("ref"),)}, "no hypotheses"),
        ({"hypotheses": Path("hyp")}, "none is given"),
    ],
)
def test_wrong_usage(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        score(ScoreOptions(**options), silent)


def make_sets(run: Path, *names: str) -> None:
    (run / "data").mkdir(parents=True)
    for name in names:
        for side in ("source", "target"):
            (run / "data" / f"{name}.{side}.txt").write_text(f"{name}\n{side}\n")


def test_which_set_is_scored(tmp_path: Path) -> None:
    make_sets(tmp_path / "both", "test", "dev")
    make_sets(tmp_path / "dev", "dev")
    assert held_out(tmp_path / "both", "auto")[0] == "test"
    assert held_out(tmp_path / "both", "dev")[0] == "dev"
    assert held_out(tmp_path / "dev", "auto")[0] == "dev"
    with pytest.raises(S2SError, match="no test set"):
        held_out(tmp_path / "dev", "test")
    with pytest.raises(S2SError, match="no test or dev set"):
        held_out(tmp_path / "nowhere", "auto")


class Echo:
    """A translator that gives its input back, in place of a trained one."""

    split_lines = 0
    max_source_length = 7

    def hypotheses(self, lines: list[str], options: SearchOptions) -> Iterator[list[Translation]]:
        assert options == SearchOptions(beam=3)
        for line in lines:
            self.split_lines += len(line) > 30
            yield [Translation(text=line)]


@pytest.mark.parametrize("names", [("test", "dev"), ("dev",)])
def test_the_held_out_set_of_a_run(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_sets(tmp_path, *names)
    monkeypatch.setattr("s2scli.translator.Translator.load", lambda *arguments, **options: Echo())
    heard: list[Event] = []
    report = score(ScoreOptions(run=tmp_path, beam=3), heard.append)
    assert (report["set"], report["lines"]) == (names[0], 2)
    assert report["settings"] == {"beam": 3, "length_penalty": 1.0}
    warned = [e for e in heard if isinstance(e, Notice) and e.warning]
    assert bool(warned) is (names == ("dev",))
    done = [(e.done, e.total) for e in heard if isinstance(e, Progress)]
    assert done == [(0, 2), (2, 2)]
    title = "Test set" if names[0] == "test" else "Development set"
    assert table(report).startswith(f"{title}, 2 lines: {tmp_path} (beam 3, length penalty 1)")


def test_lines_in_pieces_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sets(tmp_path, "test")
    for side in ("source", "target"):
        (tmp_path / "data" / f"test.{side}.txt").write_text(f"{'long ' * 20}\nshort\n" * 100)
    monkeypatch.setattr("s2scli.translator.Translator.load", lambda *arguments, **options: Echo())
    heard: list[Event] = []
    report = score(ScoreOptions(run=tmp_path, beam=3), heard.append)
    assert report["systems"][0]["scores"][0]["score"] == pytest.approx(100)  # and the order is kept
    (notice,) = [e for e in heard if isinstance(e, Notice)]
    assert notice.text.startswith("100 lines are longer than the model has seen in training (7 tokens)")
    assert notice.warning


def test_scores_are_those_of_the_translations(trained: Path, tmp_path: Path) -> None:
    """What score translates is what translate writes, to the letter."""
    data, out = trained / "data", tmp_path / "out"
    translate(TranslateOptions(run=trained, input=data / "test.source.txt", output=out, precision="fp32"))
    theirs = ours(hypotheses=out, ref=(data / "test.target.txt",), metrics="bleu,chrf")
    assert ours(run=trained, precision="fp32", metrics="bleu,chrf") == theirs


@pytest.mark.parametrize("flags", [["--beam", "3"], ["--length-penalty", "0.5"], ["--set", "dev"]])
def test_flags_that_would_do_nothing_are_refused(
    flags: list[str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["score", "hyp", "--ref", "ref"]
    assert main([*given, *flags]) == 2
    assert f"usage error: {flags[0]}: this has no effect on hypotheses" in capsys.readouterr().err
    # In the file of options they are for other calls.
    (files / "s2s.toml").write_text("[score]\nbeam = 3\nset = 'dev'\n")
    assert main(given) == 0


def test_standard_input_that_is_closed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(S2SError, match="standard input: it is closed"):
        score(ScoreOptions(hypotheses=Path("-"), ref=(Path("ref"),)), silent)


def test_a_screen_without_all_letters(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "ko").rename(files / "한국어")
    for flags in ([], ["--json"]):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
        assert main(["score", "한국어", "--ref", "한국어", *flags]) == 0
        text = raw.getvalue().decode("latin-1")
        assert json.loads(text)["references"] == ["한국어"] if flags else "References: ???" in text
