"""Translating: lines in = lines out, whatever the lines hold; formats, streams, long input."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import quiet, run_s2s
from safetensors.numpy import load_file, save_file

from s2scli.alignment import pharaoh, word_alignment
from s2scli.config import ModelConfig, TranslateOptions
from s2scli.errors import S2SError, UsageError
from s2scli.formats import escape_tabs
from s2scli.longlines import Stretch, cut, glues
from s2scli.model import SearchLimits, Seq2Seq, beam_search
from s2scli.resolve import resolve
from s2scli.resumable import announced
from s2scli.runtime import set_up
from s2scli.segmentation import Segmentation
from s2scli.tokenizer import Tokenizer
from s2scli.translate import translate
from s2scli.translator import SearchOptions, Translator
from s2scli.window import Window

LINES = ["a b c", "", "h g f e", "   ", "b", "c d e f a", "a b c"]


@pytest.fixture(scope="module")
def translator(trained: Path) -> Translator:
    return Translator.load(trained, precision="fp32", threads=1)


def lines_of(text: str) -> list[str]:
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
@pytest.mark.parametrize("beam", [1, 5])
def test_a_translation_does_not_depend_on_its_neighbours(
    translator: Translator, batch_size: int, beam: int
) -> None:
    alone = [translator.translate([line], beam=beam)[0] for line in LINES]
    assert translator.translate(LINES, beam=beam, batch_size=batch_size) == alone
    assert translator.translate(LINES[::-1], beam=beam, batch_size=batch_size) == alone[::-1]


def test_blank_lines_give_blank_lines(translator: Translator) -> None:
    out = translator.translate(LINES)
    assert len(out) == len(LINES)
    assert out[1] == "" and out[3] == ""
    assert all(out[i] for i in (0, 2, 4, 5))
    assert translator.translate([]) == []


def test_it_has_learnt_something(translator: Translator) -> None:
    assert translator.translate(["a b", "c d e"]) == ["b a", "e d c"]


def test_stdin_to_stdout(trained: Path, translator: Translator) -> None:
    done = run_s2s("translate", "--run", trained, "--precision", "fp32", stdin="\n".join(LINES) + "\n")
    assert done.returncode == 0, done.stderr
    assert lines_of(done.stdout) == translator.translate(LINES)
    assert done.stderr == ""


NASTY = {
    "empty": b"",
    "one line": b"a b\n",
    "no newline at the end": b"a b\nc d",
    "blank lines": b"\n\n\n",
    "windows": b"a b\r\nc d\r\n",
    "byte order mark": b"\xef\xbb\xbfa b\nc\n",
    "not utf-8": b"a \xff\xfe b\nc d\n",
    "nul and control": b"a \x00 b\x07\x1b[31m\nc\n",
    "separators inside": "a\u2028b\u0085c\nd\x0be\x0cf\x1cg\n".encode(),
    "format characters": b"{0} %s %d {x}\n[red]a[/red]\n",
    "special tokens": b"<s> </s> <pad> <unk> <0x0A>\n",
    "emoji and marks": "👩‍👩‍👧 é e\u0301 각\n".encode(),
}


@pytest.mark.parametrize("kind", NASTY)
def test_as_many_lines_out_as_in(trained: Path, tmp_path: Path, kind: str) -> None:
    raw = NASTY[kind]
    expected = raw.count(b"\n") + (not raw.endswith(b"\n") and raw != b"")
    done = run_s2s("translate", "--run", trained, "--beam", 2, stdin=raw)
    assert done.returncode == 0, done.stderr
    assert len(lines_of(done.stdout)) == expected
    (tmp_path / "in").write_bytes(raw)
    again = run_s2s("translate", "--run", trained, "--beam", 2, "-i", tmp_path / "in", "-o", tmp_path / "out")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out").read_text() == done.stdout
    assert ("UTF-8" in done.stderr) == (kind == "not utf-8")
    assert "Traceback" not in done.stderr + again.stderr


def test_a_line_longer_than_training_is_translated_in_pieces(translator: Translator, trained: Path) -> None:
    assert translator.max_source_length == 6
    before = translator.remarkable.split
    out = translator.translate(["a b c. d e f g. h a"])[0]
    parts = translator.translate(["a b c.", "d e f g.", "h a"])
    assert out == " ".join(parts)
    assert translator.remarkable.split == before + 1
    done = run_s2s("translate", "--run", trained, "--beam", 1, stdin="a b c d e f g h " * 6_250 + "\n")
    assert done.returncode == 0
    assert len(lines_of(done.stdout)) == 1
    assert len(done.stdout.split()) > 5_000
    assert "Longer than the model has seen" in done.stderr


def test_one_word_of_100_000_characters(trained: Path) -> None:
    done = run_s2s("translate", "--run", trained, stdin="x" * 100_000 + "\na b\n")
    assert done.returncode == 0, done.stderr
    assert len(lines_of(done.stdout)) == 2


def test_a_program_at_the_other_end_gets_each_answer_at_once(trained: Path) -> None:
    command = [sys.executable, "-m", "s2scli", "translate", "--run", str(trained)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=quiet(), **streams) as process:  # type: ignore[call-overload]
        killer = threading.Timer(60, process.kill)
        killer.start()
        for line in ("a b", "c d e", "", "f"):
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()  # would wait for ever if the answer were held back
            assert answer.endswith(b"\n")
            assert (answer == b"\n") == (line == "")
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(timeout=30) == 0
        killer.cancel()


def test_a_reader_that_leaves_ends_it_quietly(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b c\n" * 20_000)
    command = f'"{sys.executable}" -m s2scli translate --run "{trained}" --beam 1'
    shell = f'{command} < "{tmp_path}/in" 2> "{tmp_path}/err" | head -1'
    begun = time.monotonic()
    done = subprocess.run(["bash", "-c", shell], capture_output=True, timeout=120, env=quiet(), check=False)
    assert done.stdout.count(b"\n") == 1
    assert (tmp_path / "err").read_text() == ""
    assert time.monotonic() - begun < 60


def test_tsv_has_scores_alignments_and_escapes(trained: Path, translator: Translator) -> None:
    done = run_s2s(
        "translate", "--run", trained, "--scores", "--alignments", "--precision", "fp32", stdin="a b c\n\n"
    )
    first, second = (line.split("\t") for line in lines_of(done.stdout))
    assert first[0] == translator.translate(["a b c"])[0]
    assert float(first[1]) < 0
    assert [link.split("-")[1] for link in first[2].split()] == [str(i) for i in range(len(first[0].split()))]
    assert second[0] == ""
    assert escape_tabs("a\tb\\t") == "a\\tb\\\\t"


def test_n_best_numbers_its_lines(trained: Path) -> None:
    done = run_s2s("translate", "--run", trained, "--n-best", 3, "--beam", 4, "--scores", stdin="a b\nc d\n")
    rows = [line.split("\t") for line in lines_of(done.stdout)]
    assert [r[0] for r in rows] == ["1"] * 3 + ["2"] * 3
    assert len({r[1] for r in rows[:3]}) == 3


def test_jsonl_carries_ids_and_the_score_of_the_search(trained: Path, translator: Translator) -> None:
    arguments = ["--format", "jsonl", "--n-best", 2, "--precision", "fp32", "--alignments"]
    done = run_s2s("translate", "--run", trained, *arguments, stdin="a b c\n\n")
    first, second = (json.loads(line) for line in lines_of(done.stdout))
    assert first["line"] == 1 and first["source"] == "a b c" and second["line"] == 2
    best = first["hypotheses"][0]
    assert best["text"] == translator.translate(["a b c"])[0]
    assert best["score"] == pytest.approx(best["log_probability"] / (len(best["ids"]) + 1), abs=1e-6)
    assert translator.tokenizer.target.decode([best["ids"]]) == [best["text"]]
    assert len(first["hypotheses"]) == 2
    assert second["hypotheses"][0]["text"] == ""


def test_alignment_of_a_reversal_runs_backwards(translator: Translator) -> None:
    found = next(translator.hypotheses(["a b c d"], SearchOptions(attention=True)))[0]
    links = word_alignment(found, translator.tokenizer)
    assert pharaoh([(0, 1), (2, 0)]) == "0-1 2-0"
    assert [t for _, t in links] == list(range(len(found.text.split())))
    if found.text == "d c b a":
        assert len({s for s, _ in links}) > 1


def test_sampling_is_a_function_of_seed_and_line(translator: Translator) -> None:
    drawn = translator.translate(LINES * 3, sample=True, temperature=2.0, seed=5)
    assert drawn == translator.translate(LINES * 3, sample=True, temperature=2.0, seed=5, batch_size=2)
    assert drawn != translator.translate(LINES * 3, sample=True, temperature=2.0, seed=6)
    assert drawn[0] != drawn[7] or drawn[2] != drawn[9] or drawn[5] != drawn[12], "the same line draws anew"
    assert translator.translate(LINES, sample=True, top_k=1) == translator.translate(LINES, beam=1)


def test_options_that_cannot_work_are_refused(trained: Path) -> None:
    with pytest.raises(UsageError, match="no 9 hypotheses"):
        SearchOptions(beam=5, n_best=9)
    with pytest.raises(UsageError, match="one translation"):
        SearchOptions(sample=True, n_best=2)
    wrong: list[dict[str, Any]] = [
        {"beam": 0},
        {"beam_threshold": -1.0},
        {"length_penalty": math.nan},
        {"sample": True, "temperature": 0.0},
        {"sample": True, "top_p": 1.5},
        {"max_length_ratio": -3.0},
    ]
    for options in wrong:
        with pytest.raises(UsageError, match=r"out of range|not a number"):
            SearchOptions(**options)
    done = run_s2s("translate", "--run", trained, "--n-best", 9, stdin="a\n")
    assert done.returncode == 2
    assert "--beam 9" in done.stderr


def test_output_is_replaced_only_with_force(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text("precious\n")
    done = run_s2s("translate", "--run", trained, "-o", out, stdin="a b\n")
    assert done.returncode == 1
    assert "--force" in done.stderr
    assert out.read_text() == "precious\n"
    assert run_s2s("translate", "--run", trained, "-o", out, "--force", stdin="a b\n").returncode == 0
    assert out.read_text() == "b a\n"


def test_a_missing_input_is_named(trained: Path, tmp_path: Path) -> None:
    done = run_s2s("translate", "--run", trained, "-i", tmp_path / "nosuch.txt")
    assert done.returncode == 1
    assert "nosuch.txt" in done.stderr


def test_the_maximum_length_is_a_ratio_of_the_source(translator: Translator) -> None:
    short = next(translator.hypotheses(["a b c d e f"], SearchOptions(max_length_ratio=0.1)))[0]
    assert len(short.ids) <= 10


def test_no_repeated_ngrams(translator: Translator) -> None:
    for line in translator.translate(["a a a a a a", "b b b b"], no_repeat_ngram=2):
        grams = list(zip(line.split(), line.split()[1:], strict=False))
        assert len(set(grams)) == len(grams)


def test_a_model_without_attention_has_no_alignment(prepared: Path, tmp_path: Path) -> None:
    from conftest import SMALL, copy_run

    run = copy_run(prepared, tmp_path / "run")
    trained = run_s2s("train", "--run", run, *SMALL, "--max-steps", 5, "--attention", "none")
    assert trained.returncode == 0, trained.stderr
    done = run_s2s("translate", "--run", run, "--alignments", stdin="a\n")
    assert done.returncode == 2
    assert "no attention" in done.stderr
    assert run_s2s("translate", "--run", run, stdin="a b\n").returncode == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_memory_is_bounded_by_windows_not_by_the_input(translator: Translator) -> None:
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield "a b"

    stream = translator.hypotheses(endless(), SearchOptions(beam=1), batch_size=4)  # type: ignore[arg-type]
    for _ in range(100):
        next(stream)
    assert taken <= 100 + 4 * 16


def test_the_next_window_is_begun_before_one_is_given(translator: Translator) -> None:
    given: list[str] = []

    def windows() -> Iterator[list[str]]:
        for lines in (["a b", "c d"], ["e"], [], ["f g"], ["h"]):
            given.append(" ".join(lines))
            yield lines

    options = SearchOptions(beam=1)
    found = translator.windows(windows(), options, batch_size=1)
    seen = [(lines, [best[0].text for best in translations], len(given)) for lines, translations in found]
    # An empty window means that the next may take a while.
    assert [(lines, read) for lines, _, read in seen] == [
        (["a b", "c d"], 2),
        (["e"], 3),
        (["f g"], 5),
        (["h"], 5),
    ]
    lines = [line for window, _, _ in seen for line in window]
    assert [text for _, texts, _ in seen for text in texts] == translator.translate(lines, beam=1)


def test_many_threads_have_more_than_one_window_begun(
    translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(translator, "runtime", replace(translator.runtime, threads=8))
    given: list[str] = []

    def windows() -> Iterator[list[str]]:
        for line in ("a b", "c", "d e", "f"):
            given.append(line)
            yield [line]

    found = translator.windows(windows(), SearchOptions(beam=1), batch_size=1)
    seen = [(lines, len(given)) for lines, _ in found]
    assert seen == [(["a b"], 3), (["c"], 4), (["d e"], 4), (["f"], 4)]


@pytest.mark.parametrize(
    ("lines", "most", "least", "batches"),
    [
        (0, 8, 4, []),
        (2, 4, 2, [2]),
        (3, 4, 2, [2, 1]),
        (5, 4, 2, [2, 2, 1]),
        (16, 8, 4, [4, 4, 4, 4]),  # full ones would leave a thread waiting at the end
        (48, 8, 4, [6] * 8),
        (64, 8, 4, [8] * 8),
        (80, 8, 4, [8] * 10),
        (3, 1, 1, [1, 1, 1]),
        (32, 256, 32, [32]),
        (40, 256, 32, [20, 20]),
        (200, 256, 32, [25] * 8),
    ],
)
def test_batches_are_even(
    translator: Translator, lines: int, most: int, least: int, batches: list[int]
) -> None:
    window = Window(["a b"] * lines, translator.tokenizer.source, 50)
    found = window.batches(most, least)
    assert [len(batch) for batch in found] == batches
    assert sorted(place for batch in found for place in batch) == [(i, 0) for i in range(lines)]


def test_an_error_in_reading_loses_nothing_before_it(translator: Translator) -> None:
    def windows() -> Iterator[list[str]]:
        yield ["a b"]
        yield ["c d"]
        raise OSError("the cable is out")

    translated = translator.windows(windows(), SearchOptions(beam=1), batch_size=1)
    assert [next(translated)[0] for _ in range(2)] == [["a b"], ["c d"]]
    with pytest.raises(OSError, match="cable"):
        next(translated)


def test_translators_used_in_turn_leave_the_threads_as_they_were(trained: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = [Translator.load(trained, precision="fp32") for _ in range(2)]
        lines, options = ["a b c"] * 40, SearchOptions(beam=1)
        pairs = zip(*(t.hypotheses(lines, options, batch_size=4) for t in two), strict=True)
        assert all(a[0].text == b[0].text for a, b in pairs)
        assert torch.get_num_threads() == 2
        copy.deepcopy(two[0])
    finally:
        torch.set_num_threads(before)


def test_lines_that_are_no_text_are_refused_or_mended(translator: Translator) -> None:
    for lines in ("a b c", [None], [b"a"]):
        with pytest.raises(TypeError, match=r"brackets|is text, not"):
            translator.translate(lines)  # type: ignore[arg-type]
    assert translator.translate(["a \ud800 b"], beam=1) == translator.translate(["a \ufffd b"], beam=1)


@pytest.mark.parametrize("kind", ["codepoint", "bpe", "word"])
def test_a_sentence_is_cut_between_words_and_loses_nothing(kind: str) -> None:
    lines = ["alpha beta gamma delta", "a much longer word stands here", "x"] * 30
    tokenizer = Tokenizer.train(
        lines,
        lines,
        source=Segmentation(kind=kind),
        target=Segmentation(kind=kind),
        vocab_size=400,
        joint=True,
    )
    for most in (1, 3, 12):
        for line in lines[:3]:
            parts = cut(line, tokenizer.source, most)
            assert all(0 < len(part.ids) <= most for part in parts)
            flat = [i for part in parts for i in part.ids]
            assert tokenizer.source.decode([flat]) == [line]
            assert not parts[0].inside and not parts[0].torn
            # Of white space one space is left, and so no piece is without a word.
            spaced = "\u3000 " + line.replace(" ", " \t\u2029   ") + " " * 40
            assert cut(spaced, tokenizer.source, most) == parts
            whole = cut(spaced, tokenizer.source, len(flat))
            assert [piece.ids for piece in whole] == [flat]


def test_spaces_do_not_make_a_line_too_long(translator: Translator) -> None:
    before = translator.remarkable.split
    plain = translator.translate(["a b c", "a b c"], beam=1)
    assert translator.translate(["a b c" + " " * 300, "\u3000" * 90 + "a b   c"], beam=1) == plain
    assert translator.remarkable.split == before


def test_pieces_are_joined_as_the_target_writes_them() -> None:
    lines = [
        "今天天气很好。他昨天回家了。我们去公园吧。",
        "It is fine. He went home. Unbelievably long.",
    ] * 20
    kind = Segmentation(kind="codepoint")
    tokenizer = Tokenizer.train(lines, lines, source=kind, target=kind, vocab_size=300, joint=True)
    chinese, english = (cut(line, tokenizer.source, 7) for line in lines[:2])
    assert [tokenizer.source.decode([p.ids])[0] for p in chinese][:2] == ["今天天气很好。", "他昨天回家了。"]
    assert [p.inside for p in chinese] == [False, True, True]
    assert [tokenizer.source.decode([p.ids])[0].strip() for p in english][4:6] == ["Unbelie", "vably"]

    def written(texts: list[str], pieces: list[Stretch]) -> str:
        before = glues(texts, pieces, tokenizer.target)
        return "".join(g + t for g, t in zip(before, texts, strict=True))

    assert written(["It is fine.", "He went.", "Go!"], chinese) == "It is fine. He went. Go!"
    assert written(["很好。", "他", "。"], chinese) == "很好。他。"
    parts = ["天气", "很好。", "他", "回家", "长", "长", "了。"][: len(english)]
    assert written(parts, english) == "".join(parts)
    words = [f"w{i}" for i in range(len(english))]
    assert written(words, english).count(" ") == len(words) - 1 - sum(p.torn for p in english)


def test_alignments_count_a_torn_word_once() -> None:
    lines, kind = ["abcdefgh ij klmnopqrstuvw", "今天天气。他回家。x"], Segmentation(kind="bpe")
    text = lines * 20
    tokenizer = Tokenizer.train(text, text, source=kind, target=kind, vocab_size=300, joint=False)
    torch.manual_seed(1)
    sizes = {"source_vocab": tokenizer.source.vocab_size, "target_vocab": tokenizer.target.vocab_size}
    translator = Translator(
        Seq2Seq(ModelConfig(hidden=8, embedding=8, **sizes)),
        tokenizer,
        max_source_length=6,
        runtime=set_up("cpu", "fp32", 1),
    )
    found = translator.hypotheses(lines, SearchOptions(beam=1, attention=True))
    for line, (best,) in zip(lines, found, strict=True):
        assert len(best.pieces) > 1 and any(piece.inside[0] for piece in best.pieces)
        pairs = word_alignment(best, tokenizer)
        assert {source for source, _ in pairs} <= set(range(len(line.split())))
        assert [target for _, target in pairs] == sorted(target for _, target in pairs)
        assert {target for _, target in pairs} == set(range(len(best.text.split())))


def test_what_is_cut_at_the_maximum_length_is_told(trained: Path) -> None:
    done = run_s2s("translate", "--run", trained, "--max-length-ratio", 0.1, stdin="a b\n")
    assert "--max-length-ratio" not in done.stderr, "nothing was cut"


def test_interrupted_while_waiting_for_a_line(trained: Path) -> None:
    command = [sys.executable, "-m", "s2scli", "translate", "--run", str(trained)]
    with subprocess.Popen(
        command,
        env=quiet(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that started the tests in the background has made them deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(b"a b\n")
        process.stdin.flush()
        assert process.stdout.readline().endswith(b"\n")
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        said = process.stderr.read()
    assert process.returncode == 130
    assert b"Traceback" not in said
    assert b"Fatal" not in said


def test_standard_input_may_be_closed_or_named(trained: Path, tmp_path: Path) -> None:
    shell = f'"{sys.executable}" -m s2scli translate --run "{trained}"'
    done = subprocess.run(["bash", "-c", f"{shell} <&-"], capture_output=True, env=quiet(), check=False)
    assert done.returncode == 1
    assert b"standard input is closed" in done.stderr
    assert run_s2s("translate", "--run", trained, "-i", "-", stdin="a b\n").stdout == "b a\n"
    done = subprocess.run(
        ["bash", "-c", f"{shell} -i <(echo a b)"], capture_output=True, env=quiet(), check=False
    )
    assert done.stdout == b"b a\n"


def test_options_that_would_do_nothing_are_refused(trained: Path) -> None:
    done = run_s2s("translate", "--run", trained, "--top-k", 3, stdin="a\n")
    assert done.returncode == 2
    assert "--sample" in done.stderr
    done = run_s2s("translate", "--run", trained, "--beam", 1, "--beam-threshold", 3, stdin="a\n")
    assert done.returncode == 2
    assert "--beam-threshold" in done.stderr


def test_the_line_of_the_first_broken_byte_is_told(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"a b\n" * 3 + b"\xff\n" + b"a b\n" * 50)
    done = run_s2s("translate", "--run", trained, "-i", tmp_path / "in", "--beam", 1)
    assert "the first in line 4." in done.stderr


def test_a_picture_is_replaced_only_with_force(trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "a.svg"
    picture.write_text("mine")
    done = run_s2s("translate", "--run", trained, "--attention-plot", picture, stdin="a b\n")
    assert done.returncode == 1
    assert picture.read_text() == "mine"
    done = run_s2s(
        "translate", "--run", trained, "--attention-plot", picture, "--force", stdin="a b\nc d e f\n"
    )
    assert done.returncode == 0, done.stderr
    assert "<svg" in picture.read_text()


def test_a_shortlist_needs_its_own_lexicon(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained / "best", run)
    assert run_s2s("translate", "--run", run, "--shortlist", 5, stdin="a b\n").stdout == "b a\n"
    lexicon = load_file(run / "lexicon.safetensors")
    for damage in (
        {"likely": lexicon["likely"][:-1]},
        {"frequent": lexicon["frequent"] + 10_000},
        {"likely": None},
    ):
        changed = {k: v for k, v in (lexicon | damage).items() if v is not None}
        save_file(changed, run / "lexicon.safetensors")
        done = run_s2s("translate", "--run", run, "--shortlist", 5, stdin="a b\n")
        assert done.returncode == 1
        assert "does not belong" in done.stderr and "lexicon.safetensors" in done.stderr
    (run / "lexicon.safetensors").unlink()
    done = run_s2s("translate", "--run", run, "--shortlist", 5, stdin="a b\n")
    assert done.returncode == 1
    assert "no lexicon" in done.stderr


@pytest.mark.parametrize(
    ("precision", "search", "threshold"),
    [
        ("fp32", {}, None),
        ("fp32", {"beam_threshold": 2.0}, 2.0),
        ("bf16", {}, 4.0),
        ("bf16", {"n_best": 2}, None),
        ("bf16", {"n_best": 2, "beam_threshold": 1.0}, 1.0),
        ("bf16", {"beam_threshold": 0.0}, None),
    ],
)
def test_only_where_all_is_exact_nothing_is_given_up(
    trained: Path, monkeypatch: pytest.MonkeyPatch, precision: Any, search: Any, threshold: float | None
) -> None:
    given: list[float | None] = []

    def spy(model: Any, state: Any, limits: SearchLimits, **rest: Any) -> Any:
        given.append(limits.threshold)
        return beam_search(model, state, limits, **rest)

    monkeypatch.setattr("s2scli.searcher.beam_search", spy)
    translator = Translator.load(trained, device="cpu", precision=precision, threads=1)
    translator.translate(["a b c"], **search)
    assert given == [threshold]


def test_standard_output_by_its_usual_name(trained: Path, tmp_path: Path) -> None:
    text = "a b c\n\nh g\n"
    arguments = ("translate", "--run", trained, "--precision", "fp32", "--threads", 1)
    plain = run_s2s(*arguments, stdin=text)
    named = run_s2s(*arguments, "--output", "-", "--input", "-", stdin=text)
    assert named.stdout == plain.stdout
    assert lines_of(plain.stdout)[1] == ""


def test_an_old_file_that_was_to_be_replaced_is_not_taken_for_the_result(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("a b c\n")
    (tmp_path / "out").write_text("old\n")
    arguments: list[Any] = ["translate", "--run", trained, "--threads", 1]
    arguments += ["-i", tmp_path / "in", "-o", tmp_path / "out"]
    failed = run_s2s(*arguments, "--force", "--run", tmp_path / "no model")
    assert failed.returncode == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    with pytest.raises(KeyboardInterrupt), announced(tmp_path / "out"):
        raise KeyboardInterrupt  # while the model is loaded
    assert (tmp_path / "out").read_text() == "old\n"
    done = run_s2s(*arguments, "--resume")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() != "old\n"
    again = run_s2s(*arguments, "--resume")
    assert "nothing left to do" in again.stderr


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"seed": 7}, "--seed"),
        ({"temperature": 0.7}, "--temperature"),
        ({"sample": True, "beam": 10}, "--beam"),
        ({"beam": 1, "beam_threshold": 2.0}, "--beam-threshold"),
        ({"alignment_unit": "token"}, "--alignment-unit"),
    ],
)
def test_what_has_no_effect_is_refused_but_not_where_a_file_says_it_for_all_calls(
    given: dict[str, object], flag: str, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("a b\n")
    places = {"run": (trained,), "input": tmp_path / "in"}
    with pytest.raises(UsageError) as caught:
        translate(TranslateOptions(**places, **given))  # type: ignore[arg-type]
    assert caught.value.where == flag
    for number, idle in enumerate(({}, given)):
        rest = {"sample": True, "seed": 3} if given.get("sample") else {"beam": given.get("beam", 2)}
        written = "".join(f"{name} = {json.dumps(value)}\n" for name, value in idle.items())
        (tmp_path / "s2s.toml").write_text(f"[translate]\n{written.replace('_', '-')}")
        asked = {**places, "output": tmp_path / str(number), **rest}
        translate(resolve("translate", asked, folder=tmp_path))  # type: ignore[arg-type]
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_how_many_hypotheses_a_file_wants_is_not_left_out(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b\n")
    (tmp_path / "s2s.toml").write_text("[translate]\nn-best = 3\nbeam = 4\n")
    asked = {"run": (trained,), "input": tmp_path / "in", "output": tmp_path / "out"}
    for flags in ({"beam": 2}, {"sample": True}):
        with pytest.raises(UsageError) as caught:
            translate(resolve("translate", {**asked, **flags}, folder=tmp_path))
        assert "s2s.toml" in str(caught.value.where)
    translate(resolve("translate", {**asked, "beam": 2, "n_best": 1}, folder=tmp_path))
    assert len((tmp_path / "out").read_text().splitlines()) == 1


def test_an_output_that_cannot_be_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b\n")
    places = {"its folder does not exist": tmp_path / "none" / "out", "this is a folder": tmp_path}
    for said, place in places.items():
        options = TranslateOptions(run=(tmp_path / "no model",), input=tmp_path / "in", output=place)
        with pytest.raises(S2SError, match=said):
            translate(options)
