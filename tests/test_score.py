"""``s2s score``: equal to sacreBLEU's own command line, and clear about what cannot be scored."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import copy_run
from rich.cells import cell_len
from sacrebleu.metrics import BLEU, CHRF, TER
from scoring_files import sacrebleu, sacrebleu_json, write_texts

from s2scli.cli import main
from s2scli.config import ScoreOptions, TranslateOptions
from s2scli.errors import S2SError, UsageError
from s2scli.events import Event, Notice, Progress, silent
from s2scli.score import score
from s2scli.scoring import score_systems, sentence_scores
from s2scli.scoring.material import held_out
from s2scli.scoring.reading import read_lines
from s2scli.scoring.tables import table
from s2scli.translate import translate


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    return tmp_path


def ours(**options: Any) -> dict[str, dict[str, Any]]:
    report = score(ScoreOptions(**options), silent)
    return {item["metric"]: item for item in report["systems"][0]["scores"]}


def hyp(*names: str) -> tuple[Path, ...]:
    return tuple(Path(name) for name in names)


@pytest.mark.parametrize(
    ("refs", "hypotheses", "flags", "options"),
    [
        (["ref"], "hyp", [], {}),
        (["ref", "ref2", "ref3"], "hyp", [], {}),
        (["ref"], "hyp", ["-lc", "--chrf-lowercase"], {"lowercase": True}),
        (["ko"], "ko-1", ["-tok", "char"], {"tokenize": "char"}),
        (["ko"], "ko-1", ["-tok", "intl"], {"tokenize": "intl"}),
        (["ref", "ref2"], "hyp", ["-tok", "zh"], {"tokenize": "zh"}),
        (["ref", "ref2"], "hyp", ["-tok", "none"], {"tokenize": "none"}),
    ],
)
def test_equal_to_the_command_line_of_sacrebleu(
    refs: list[str], hypotheses: str, flags: list[str], options: dict[str, Any], files: Path
) -> None:
    arguments = (*refs, "-i", hypotheses, *flags, "--confidence")
    expected = sacrebleu_json(files, *arguments, "-m", "bleu", "chrf", "ter")
    metrics = "bleu,chrf,ter"
    if "tokenize" not in options:  # which concerns BLEU alone
        expected += sacrebleu_json(files, *arguments, "-m", "chrf", "--chrf-word-order", "2")
        metrics += ",chrf++"
    found = ours(hypotheses=hyp(hypotheses), ref=hyp(*refs), metrics=metrics, **options)
    for theirs, item in zip(expected, found.values(), strict=True):
        assert theirs["name"] == item["name"]
        assert f"{item['score']:.12f}" == f"{theirs['score']:.12f}"
        # sacreBLEU sums resamples in single precision.
        assert item["mean"] == pytest.approx(theirs["confidence_mean"], abs=2e-5)
        assert (item["high"] - item["low"]) / 2 == pytest.approx(theirs["confidence_var"], abs=1e-5)
        assert item["signature"] == theirs["signature"]


def test_without_resampling_the_signature_is_the_plain_one(files: Path) -> None:
    (expected,) = sacrebleu_json(files, "ref", "-i", "hyp")
    found = ours(hypotheses=hyp("hyp"), ref=hyp("ref"), metrics="bleu", resamples=0)["bleu"]
    assert found["signature"] == expected["signature"]
    assert (found["low"], found["high"], found["mean"]) == (None, None, None)


def parsed(text: str) -> tuple[list[list[tuple[str, ...]]], list[str]]:
    """The rows of sacreBLEU's LaTeX table (score, mean, half the interval, p) and its signatures."""
    cell = re.compile(r"(-?[\d.]+)(?: \(([\d.]+) ± ([\d.]+)\))?(?: \(p = ([\d.]+)\))?")
    rows = [line for line in text.split("\n") if line.endswith(r"\\") and re.search(r"& *\d", line)]
    signatures = re.findall(r"^ - \S+ +(nrefs.*)$", text, re.MULTILINE)
    return [[cell.search(part).groups() for part in row.split("&")[1:]] for row in rows], signatures  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("test", "seed", "refs", "systems"),
    [
        ("bs", "12345", ["ko"], ["ko-1", "ko-2", "ko-3"]),
        ("bs", "7", ["ref", "ref2", "ref3"], ["hyp", "hyp2"]),
        ("ar", "12345", ["ref", "ref2", "ref3"], ["hyp", "hyp2"]),
        ("ar", "7", ["ko"], ["ko-1", "ko-2"]),
    ],
)
def test_paired_tests_equal_sacrebleus(
    test: str,
    seed: str,
    refs: list[str],
    systems: list[str],
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = (*refs, "-i", *systems, "-m", "bleu", "chrf", "ter", f"--paired-{test}", "-f", "latex")
    rows, signatures = parsed(sacrebleu(files, *arguments, seed=seed))
    options: dict[str, Any] = {"significance": "randomization", "resamples": 0} if test == "ar" else {}
    if seed == "7":
        monkeypatch.setenv("SACREBLEU_SEED", seed)  # which is theirs, and ours where --seed does not say
    report = score(ScoreOptions(hypotheses=hyp(*systems), ref=hyp(*refs), **options), silent)
    assert [item["signature"] for item in report["systems"][0]["scores"]] == signatures
    assert len(rows) == len(report["systems"]) == len(systems)
    for row, system in zip(rows, report["systems"], strict=True):
        for (value, mean, half, p), item in zip(row, system["scores"], strict=True):
            assert f"{item['score']:.12f}" == value
            assert (p is None) == (system is report["systems"][0]) == (item["p_value"] is None)
            assert p is None or f"{item['p_value']:.4f}" == p
            assert (mean is None) == (test == "ar") == (item["mean"] is None)
            if mean is not None:
                assert item["mean"] == pytest.approx(float(mean), abs=2e-5)
                assert (item["high"] - item["low"]) / 2 == pytest.approx(float(half), abs=1e-5)


def test_more_samples_and_another_seed(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("ko", "-i", "ko-1", "ko-2", "--paired-bs", "--paired-bs-n", "200", "-f", "latex")
    rows, signatures = parsed(sacrebleu(files, *arguments, seed="3"))
    flags = ["--metrics", "bleu", "--resamples", "200", "--seed", "3", "--json"]
    assert main(["score", "ko-1", "ko-2", "--ref", "ko", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert f"{report['systems'][1]['scores'][0]['p_value']:.4f}" == rows[1][0][3]
    assert report["systems"][1]["scores"][0]["signature"] == signatures[0]
    assert report["resampling"] == {
        "resamples": 200,
        "seed": 3,
        "test": {"name": "bootstrap", "resamples": 200},
    }


def test_a_seed_that_is_none(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "none")
    report = score(ScoreOptions(hypotheses=hyp("hyp"), ref=hyp("ref"), metrics="chrf"), silent)
    assert "|bs:1000|seed:none|" in report["systems"][0]["scores"][0]["signature"]
    assert "a new seed" in table(report)
    monkeypatch.setenv("SACREBLEU_SEED", "1e3")
    with pytest.raises(UsageError, match="SACREBLEU_SEED: '1e3' is not a seed"):
        score(ScoreOptions(hypotheses=hyp("hyp"), ref=hyp("ref")), silent)


def test_the_same_text_scores_full_marks(files: Path) -> None:
    names = ("bleu", "chrf", "chrf++", "ter", "acc", "wer", "per", "cer")
    found = ours(hypotheses=hyp("ko"), ref=hyp("ko"), metrics=",".join(names))
    assert [round(found[m]["score"], 6) for m in names] == [100, 100, 100, 0, 100, 0, 0, 0]


def test_empty_hypotheses_score_as_with_sacrebleu(files: Path) -> None:
    (files / "blank").write_text("\n" * 7)
    expected = sacrebleu_json(files, "ref", "-i", "blank", "-m", "bleu", "chrf", "ter")
    found = ours(hypotheses=hyp("blank"), ref=hyp("ref"))
    assert (
        [item["score"] for item in found.values()] == [theirs["score"] for theirs in expected] == [0, 0, 100]
    )
    blank = ours(hypotheses=hyp("blank"), ref=hyp("blank"), metrics="bleu,ter,acc,per,cer")
    assert [item["score"] for item in blank.values()] == [0, 0, 100, 0, 0]
    filled = ours(hypotheses=hyp("hyp"), ref=hyp("blank"), metrics="ter,per,cer,acc")
    assert [item["score"] for item in filled.values()][:3] == [100, 100, 100]


@pytest.mark.parametrize("systems", [["ko-1"], ["ko-1", "ko-2", "ko-3"]])
def test_a_table_on_stdout_in_80_columns(
    systems: list[str], files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = "bleu,chrf,chrf++,ter,acc,wer,per,cer"
    more = ["--src", "en", "--by-length", "--by-frequency", "--train-src", "en", "--confusions", "3"]
    assert main(["score", *systems, "--ref", "ko", "--ref", "ko-3", "--metric", metrics, *more]) == 0
    output = capsys.readouterr()
    assert output.err.startswith("Warning: Lines with fewer references")  # as one of ko-3 is empty
    assert output.err.count("Warning") == 1
    assert max(map(len, output.out.split("\n"))) <= 80
    assert ("A  ko-1 (the baseline)" in output.out) == (len(systems) > 1) == ("p = 0." in output.out)
    for part in ("References: ko, ko-3\n", "source length in words", "rarest source word", "→", "Signatures"):
        assert part in output.out
    assert "nrefs:2|bs:1000|seed:12345|case:mixed|unit:line|version:s2scli-" in output.out


def test_long_names_are_folded(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-system-with-a-name/" * 6 + "hyp"
    (files / name).parent.mkdir(parents=True)
    shutil.copy(files / "hyp", files / name)
    assert main(["score", name, "hyp2", "--ref", "ref"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.split("\n"))) <= 80
    assert name in re.sub(r"\n +", "", out)
    shutil.copy(files / "hyp", files / ("번역기" * 24))  # each of them takes two columns
    assert main(["score", "번역기" * 24, "hyp2", "--ref", "ref"]) == 0
    out = capsys.readouterr().out
    assert max(map(cell_len, out.split("\n"))) <= 80
    assert "번역기" * 24 in re.sub(r"\n +", "", out)


def test_symbols_in_a_table_can_be_told_apart(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["a b c d café", "Donaudampfschifffahrtsgesellschaftskapitän " + "결" * 20]
    written = ["a\u00a0b c\u3000d cafe\u0301", "Donaudampfschifffahrtsgesellschaftsoberkapitän " + "겔" * 20]
    for name, lines in (("wanted", wanted), ("written", written)):
        (files / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    shown = {}
    for metric in ("per", "cer"):
        assert main(["score", "written", "--ref", "wanted", "--metric", metric, "--confusions", "9"]) == 0
        shown[metric] = capsys.readouterr().out
        assert max(map(cell_len, shown[metric].split("\n"))) <= 80
    assert re.search(r"caf\\xe9 +→ cafe\\u0301 ", shown["per"])
    assert re.search(r"␣ +→ U\+00A0 ", shown["cer"]) and re.search(r"␣ +→ U\+3000 ", shown["cer"])


def test_uneven_references(files: Path) -> None:
    """BLEU and TER take an empty reference for one of length 0; chrF and the metrics of strings do not."""
    lines = {name: (files / name).read_text().splitlines() for name in ("ko", "ko-1", "ko-2")}
    short = [" ".join(line.split()[: len(line.split()) // 2]) for line in lines["ko-1"]]
    some = ["" if i % 3 else line for i, line in enumerate(lines["ko-2"])]
    for name, text in (("short", short), ("some", some)):
        (files / name).write_text("".join(line + "\n" for line in text))
    references = [lines["ko"], [line or None for line in some]]
    for name, metric in (("bleu", BLEU()), ("ter", TER()), ("chrf", CHRF())):
        heard: list[Event] = []
        options = ScoreOptions(hypotheses=hyp("short"), ref=hyp("ko", "some"), metrics=name, resamples=0)
        found = score(options, heard.append)["systems"][0]["scores"][0]["score"]
        right = metric.corpus_score(short, references).score
        warned = [e for e in heard if isinstance(e, Notice) and "fewer references than others: 40" in e.text]
        assert bool(warned) == (abs(found - right) > 1e-9) == (name != "chrf")
    heard.clear()
    score(ScoreOptions(hypotheses=hyp("short"), ref=hyp("ko", "ko-2")), heard.append)
    assert not any(isinstance(e, Notice) for e in heard)


@pytest.mark.parametrize("metrics", [["rouge"], ["TER"], "chrf", []])
def test_metrics_that_are_none(metrics: Any) -> None:
    with pytest.raises(UsageError):
        score_systems([["a"]], [["a"]], metrics)
    with pytest.raises(UsageError):
        sentence_scores(["a"], [["a"]], "comet")
    with pytest.raises(S2SError, match="no hypotheses"):
        score_systems([], [["a"]], ["bleu"])


def test_json(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--json", "--metrics", "chrf", "--src", "en", "--by-length", "--confusions", "2"]
    assert main(["score", "ko-1", "ko-2", "--ref", "ko", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["lines"], report["references"], report["set"]) == (60, ["ko"], "given")
    for system in report["systems"]:
        assert [s["metric"] for s in system["scores"]] == ["chrf"]
        assert system["by_length"]["unit"] == "words"
        assert sum(b["lines"] for b in system["by_length"]["bins"]) == 60
        assert all(list(b["scores"]) == ["chrf"] for b in system["by_length"]["bins"])
        assert len(system["confusions"]["errors"]) == 2


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter"])
def test_scores_of_lines_equal_sacrebleus(
    metric: str, files: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    said = sacrebleu(files, "ko", "ko-3", "-i", "ko-1", "-m", metric, "--sentence-level", "--score-only")
    expected = [f"{float(line):.4f}" for line in said.split("\n")[:-1]]
    assert main(["score", "ko-1", "--ref", "ko", "--ref", "ko-3", "--per-line", "--metric", metric]) == 0
    rows = [row.split("\t") for row in capfdbinary.readouterr().out.decode().split("\n")[:-1]]
    assert rows[0] == ["line", metric]
    assert [row[0] for row in rows[1:]] == [str(n) for n in range(1, 61)]
    assert [row[1] for row in rows[1:]] == expected


def test_scores_of_lines_of_several_systems(files: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    given = ["score", "ko-1", "ko-2", "--ref", "ko", "--per-line", "--metrics", "chrf,cer"]
    assert main(given) == 0
    rows = [row.split("\t") for row in capfdbinary.readouterr().out.decode().split("\n")[:-1]]
    assert rows[0] == ["line", "system", "chrf", "cer"]
    assert [row[:2] for row in rows[1:4]] == [["1", "ko-1"], ["1", "ko-2"], ["2", "ko-1"]]
    assert main([*given, "--json", "--src", "en"]) == 0
    found = [json.loads(line) for line in capfdbinary.readouterr().out.decode().split("\n")[:-1]]
    assert len(found) == 120
    lines = {name: read_lines(Path(name)) for name in ("en", "ko", "ko-1", "ko-2")}
    for i, row in enumerate(found):
        n = i // 2
        assert (row["line"], row["source"], row["references"]) == (n + 1, lines["en"][n], [lines["ko"][n]])
        assert row["hypothesis"] == lines[row["system"]][n]
        assert [f"{v:.4f}" for v in row["scores"].values()] == rows[i + 1][2:]


def test_standard_input(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = ours(hypotheses=hyp("hyp"), ref=hyp("ref"))["bleu"]["score"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((files / "hyp").read_bytes())))
    assert main(["score", "-", "--ref", "ref", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["systems"][0]["scores"][0]["score"] == expected
    with pytest.raises(UsageError, match="only one"):
        score(ScoreOptions(hypotheses=hyp("-"), ref=hyp("-")), silent)


def test_what_a_line_is(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes("\ufeffa\u2028b\x85c\r\n\r\nlast\x0bone".encode())
    assert read_lines(file) == ["a\u2028b\x85c", "", "last\x0bone"]
    (tmp_path / "text.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read_lines(tmp_path / "text.gz") == read_lines(file)


@pytest.mark.parametrize("which", ["hypotheses", "ref", "src"])
def test_different_numbers_of_lines_name_both_files(which: str, files: Path) -> None:
    (files / "short").write_text("one\ntwo\n")
    given: dict[str, Any] = {
        "hypotheses": hyp("hyp"),
        "ref": hyp("ref"),
        "by_length": True,
        "src": Path("ref"),
    }
    given[which] = Path("short") if which == "src" else (*given[which], Path("short"))
    with pytest.raises(S2SError, match="hyp has 7 lines and short has 2") as caught:
        score(ScoreOptions(**given), silent)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("empty", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("names", [("empty", "ref"), ("hyp", "empty")])
def test_empty_files(names: tuple[str, str], empty: bytes, files: Path) -> None:
    (files / "empty").write_bytes(empty)
    with pytest.raises(S2SError, match="empty: there is nothing in it to score"):
        score(ScoreOptions(hypotheses=hyp(names[0]), ref=hyp(names[1])), silent)


def test_bytes_that_are_no_text_are_refused_with_their_line(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "bad").write_bytes(b"good\n\xff bad\n")
    with pytest.raises(S2SError) as caught:
        score(ScoreOptions(hypotheses=hyp("hyp"), ref=hyp("bad")), silent)
    assert caught.value.where == "bad:2"
    assert caught.value.hint == "Convert the file to UTF-8 first."
    (files / "utf16").write_bytes("Größe\n".encode("utf-16"))
    with pytest.raises(S2SError, match="it looks like UTF-16"):
        score(ScoreOptions(hypotheses=hyp("hyp"), ref=hyp("utf16")), silent)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"good\n\xff bad\n")))
    with pytest.raises(S2SError, match="standard input:2"):
        score(ScoreOptions(hypotheses=hyp("-"), ref=hyp("ref")), silent)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metrics": "blue"}, "'bleu'"),
        ({"metrics": " , "}, "no metric is named"),
        ({"tokenize": "flores200"}, "without a download"),
        ({"ref": hyp("ref")}, "no hypotheses"),
        ({"hypotheses": hyp("hyp")}, "none is given"),
        (
            {"hypotheses": hyp("hyp", "hyp2", "hyp"), "ref": hyp("ref")},
            "hyp: these hypotheses are named twice",
        ),
        ({"hypotheses": hyp("hyp"), "ref": hyp("ref"), "by_length": True}, "--by-length: .* --src"),
        ({"hypotheses": hyp("hyp"), "ref": hyp("ref"), "by_frequency": True}, "--by-frequency: .* --src"),
        (
            {"hypotheses": hyp("hyp"), "ref": hyp("ref"), "by_frequency": True, "src": Path("ref")},
            "needs the training source",
        ),
        (
            {
                "hypotheses": hyp("-"),
                "ref": hyp("ref"),
                "src": Path("ref"),
                "by_frequency": True,
                "train_src": hyp("-"),
            },
            "only one of the files",
        ),
    ],
)
def test_wrong_usage(options: dict[str, Any], said: str, files: Path) -> None:
    with pytest.raises(UsageError, match=said):
        score(ScoreOptions(**options), silent)


def test_a_tokenizer_that_is_not_installed(files: Path) -> None:
    try:
        import mecab_ko  # noqa: F401
    except ImportError:
        with pytest.raises(S2SError, match=r"pip install 'sacrebleu\[ko\]'"):
            score(ScoreOptions(hypotheses=hyp("hyp"), ref=hyp("ref"), tokenize="ko-mecab"), silent)
    else:
        pytest.skip("the tokenizer is installed")


def test_text_that_looks_tokenised(files: Path) -> None:
    (files / "tokens").write_text("a b .\n" * 100)
    heard: list[Event] = []
    score(ScoreOptions(hypotheses=hyp("tokens"), ref=hyp("tokens")), heard.append)
    (notice,) = [e for e in heard if isinstance(e, Notice)]
    assert notice.warning and notice.text.startswith("tokens: 100 lines or more end in a full stop")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "options", "said"),
    [
        ("walked\n", "walked\n", {"metrics": "bleu"}, "Most references have no spaces"),
        ("walked\n", "walked\n", {"metrics": "bleu", "tokenize": "char"}, None),
        ("walked\n", "walked\n", {"metrics": "wer"}, None),
        (
            "é\n",
            "e\u0301\n",
            {"metrics": "wer"},
            "strings: lines that differ from a reference in their Unicode",
        ),
        ("é\n", "è\n", {"metrics": "wer"}, None),
    ],
)
def test_what_a_reader_of_the_scores_must_know(
    reference: str, hypothesis: str, options: dict[str, str], said: str | None, files: Path
) -> None:
    (files / "strings").write_text(hypothesis * 10, encoding="utf-8")
    (files / "right").write_text(reference * 10, encoding="utf-8")
    heard: list[Event] = []
    score(ScoreOptions(hypotheses=hyp("strings"), ref=hyp("right"), **options), heard.append)
    told = [e.text for e in heard if isinstance(e, Notice) and e.warning]
    assert len(told) == (said is not None) and (said is None or told[0].startswith(said))


@pytest.mark.parametrize(("text", "warned"), [("a|b|c\n", True), ("a b c\n", False), ("a\n", False)])
def test_symbols_that_nothing_separates(text: str, warned: bool, files: Path) -> None:
    (files / "strings").write_text(text * 3)
    heard: list[Event] = []
    score(ScoreOptions(hypotheses=hyp("strings"), ref=hyp("strings"), metrics="wer,per"), heard.append)
    told = [e.text for e in heard if isinstance(e, Notice) and e.warning]
    assert [t.startswith("No reference holds white space") for t in told] == [True] * warned


def test_progress_of_all_that_takes_long(files: Path) -> None:
    heard: list[Event] = []
    options = ScoreOptions(
        hypotheses=hyp("ko-1", "ko-2"), ref=hyp("ko"), significance="randomization", trials=100, resamples=50
    )
    score(options, heard.append)
    steps = {t: [(e.done, e.total) for e in heard if isinstance(e, Progress) and e.task == t] for t in _TASKS}
    assert steps["Scoring"] == [(0, 360), (360, 360)]
    assert steps["Resampling"] == [(0, 350), (50, 350), (150, 350), (250, 350), (350, 350)]


_TASKS = ("Scoring", "Resampling")


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
    make_sets(tmp_path / "none")
    with pytest.raises(S2SError, match="no test or dev set"):
        held_out(tmp_path / "none", "auto")
    with pytest.raises(S2SError, match="there is no such folder"):
        held_out(tmp_path / "nowhere", "auto")


def test_the_held_out_set_of_a_run(trained: Path, tmp_path: Path) -> None:
    """What score translates is what translate writes, to the letter."""
    data, out = trained / "data", tmp_path / "out"
    translate(TranslateOptions(run=(trained,), input=data / "test.source.txt", output=out, precision="fp32"))
    theirs = ours(hypotheses=(out,), ref=(data / "test.target.txt",), metrics="bleu,wer")
    heard: list[Event] = []
    options = ScoreOptions(
        run=trained, precision="fp32", metrics="bleu,wer", by_length=True, by_frequency=True, confusions=2
    )
    report = score(options, heard.append)
    (system,) = report["systems"]
    assert {item["metric"]: item for item in system["scores"]} == theirs
    assert (report["set"], report["lines"]) == ("test", 40)
    assert report["settings"] == {"beam": 5, "length_penalty": 1.0}
    assert [e for e in heard if isinstance(e, Notice)] == []
    assert (0, 40) in [
        (e.done, e.total) for e in heard if isinstance(e, Progress) and e.task == "Translating"
    ]
    assert " ".join(table(report).split()).startswith(
        f"Test set, 40 lines: {trained} (beam 5, length penalty 1)"
    )
    assert {b["label"] for b in system["by_length"]["bins"]} == {"1–2", "3–4", "5–6"}
    # Every symbol stands in the training source some hundred times.
    (only,) = system["by_frequency"]["bins"]
    assert (only["lines"], system["confusions"]["unit"]) == (40, "words")
    assert only["low"] >= 100


def test_the_development_set_and_lines_in_pieces_are_told(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    for side in ("source", "target"):
        (run / "data" / f"test.{side}.txt").unlink()
        (run / "data" / f"dev.{side}.txt").write_text("a b c d e f g h a b\na b\n")
    heard: list[Event] = []
    report = score(ScoreOptions(run=run, beam=3, metrics="chrf"), heard.append)
    assert (report["set"], report["settings"]["beam"]) == ("dev", 3)
    development, pieces = [e for e in heard if isinstance(e, Notice)]
    assert "the development set" in development.text and development.warning and pieces.warning
    assert pieces.text.startswith("Longer than the model has seen in training (6 tokens)")
    assert pieces.text.endswith("pieces: 1 line.")
    assert table(report).startswith("Development set, 2 lines:")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--beam", "3"], "--beam: this has no effect on hypotheses"),
        (["--length-penalty", "0.5"], "--length-penalty: this has no effect on hypotheses"),
        (["--set", "dev"], "--set: this has no effect on hypotheses"),
        (["--per-token"], "--per-token: this has no effect on scores against references"),
        (["--per-line", "--seed", "3"], "--seed: this has no effect on the scores of single lines"),
        (["--train-src", "ref"], "--train-src: this has no effect on anything but --by-frequency"),
        (["--src", "ref"], "--src: this has no effect on scores over all lines"),
        (["--src", "ref", "--per-line"], "--src: this has no effect on scores of lines without --json"),
        (["--trials", "5"], "--trials: this has no effect on anything but approximate randomization"),
        (["--significance", "randomization"], "--significance: this has no effect on one system"),
        (["--resamples", "0", "--seed", "3"], "--seed: this has no effect on scores without resamples"),
        (["--metric", "chrf", "--tokenize", "zh"], "--tokenize: this has no effect on other metrics"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    flags: list[str], said: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["score", "hyp", "--ref", "ref"]
    assert main([*given, *flags]) == 2
    assert f"usage error: {said}" in capsys.readouterr().err
    # In the file of options they are for other calls.
    (files / "s2s.toml").write_text("[score]\nbeam = 3\nset = 'dev'\nseed = 3\ntrain-src = ['x']\n")
    assert main(given) == 0


def test_what_would_be_read_last_is_looked_at_first(trained: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    with pytest.raises(S2SError, match="no such file"):
        score(ScoreOptions(run=trained, by_frequency=True, train_src=(tmp_path / "x",)), heard.append)
    assert not heard, "nothing has been translated"


def test_a_source_is_not_for_held_out_sets(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--run", str(trained), "--by-length", "--src", str(tmp_path / "x")]) == 2
    assert "--src: this has no effect on translations of a held-out set" in capsys.readouterr().err


def test_standard_input_that_is_closed(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(S2SError, match="standard input: it is closed"):
        score(ScoreOptions(hypotheses=hyp("-"), ref=hyp("ref")), silent)


def test_a_screen_without_all_letters(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "ko").rename(files / "한국어")
    for flags in ([], ["--json"]):
        raw = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding="latin-1"))
        assert main(["score", "한국어", "--ref", "한국어", *flags]) == 0
        text = raw.getvalue().decode("latin-1")
        assert json.loads(text)["references"] == ["한국어"] if flags else "References: ???" in text


def test_names_that_are_no_text_in_json(files: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    name = os.fsdecode(b"h\xff.txt")
    shutil.copy(files / "hyp", files / name)
    for flags in ([], ["--per-line"]):
        assert main(["score", name, "--ref", "ref", "--metric", "chrf", "--json", *flags]) == 0
        for line in capfdbinary.readouterr().out.splitlines() if flags else [capfdbinary.readouterr().out]:
            assert name in json.dumps(json.loads(line.decode("utf-8")), ensure_ascii=False)
