"""What the console says for each event, and that it never takes text for anything but text."""

from __future__ import annotations

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from s2scli.console import ConsoleListener, make_console
from s2scli.errors import S2SError, UsageError
from s2scli.events import (
    Event,
    Notice,
    Prepared,
    Progress,
    Stepped,
    TrainingEnded,
    TrainingStarted,
    Validated,
)
from s2scli.panels import error_panel
from s2scli.wording import amount, duration, measure, perplexity, visible


def console(*, terminal: bool = False) -> Console:
    return Console(
        file=io.StringIO(),
        width=80,
        force_terminal=terminal,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )


def said(*heard: Event, terminal: bool = False) -> str:
    screen = console(terminal=terminal)
    with ConsoleListener(screen, interval=0.0) as listen:
        for event in heard:
            listen(event)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def stepped(step: int = 1200, remaining: float | None = 200.0) -> Stepped:
    return Stepped(
        step=step,
        epoch=1.5,
        loss=2.0,
        learning_rate=0.001,
        gradient_norm=1.0,
        tokens_per_second=5432.1,
        data_wait=0.0,
        elapsed=75.0,
        remaining=remaining,
    )


def validated(
    *, best: bool = True, metric: str = "bleu", samples: tuple[tuple[str, str, str], ...] = ()
) -> Validated:
    return Validated(
        step=1200,
        epoch=1.5,
        loss=2.0,
        bleu=31.234,
        chrf=50.0,
        accuracy=12.5,
        best=best,
        best_score=32.5,
        metric=metric,
        waited=2,
        patience=10,
        samples=samples,
        elapsed=75.0,
    )


def test_notices() -> None:
    assert said(Notice(text="a fact")) == "a fact\n"
    assert said(Notice(text="a danger", warning=True)) == "Warning: a danger\n"


def test_a_line_of_training() -> None:
    line = said(stepped())
    assert line.count("\n") == 1
    for part in (
        "step 1,200",
        "epoch 1.50",
        "loss 2.000",
        "perplexity 7.39",
        "5,432 tokens/s",
        "1 min 15 s passed",
    ):
        assert part in line
    assert "3 min 20 s left" in line
    assert "left" not in said(stepped(remaining=None))


def test_lines_of_training_are_not_too_many() -> None:
    screen = console()
    with ConsoleListener(screen, interval=3600.0) as listen:
        for step in range(1, 100):
            listen(stepped(step))
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().count("\n") == 1


def test_a_validation() -> None:
    text = said(validated(samples=(("source [red]{0}", "reference [/]", "hypothesis \x1b[31m"),)))
    first, *rest = text.split("\n")
    assert "Validation at step 1,200" in first
    assert "BLEU 31.23, chrF 50.00; the best so far" in first
    assert rest[0].split(None, 1) == ["source", "source [red]{0}"]
    assert rest[1].split(None, 1) == ["reference", "reference [/]"]
    assert rest[2].split(None, 1) == ["hypothesis", r"hypothesis \x1b[31m"]
    assert "best BLEU 32.50, 2 validations ago (patience 10)" in said(validated(best=False))
    of_strings = said(validated(best=False, metric="acc"))
    assert "accuracy 12.50 %, chrF 50.00; best accuracy 32.50 %, 2" in of_strings
    assert "BLEU" not in of_strings


def test_the_start_and_the_end_of_training() -> None:
    start = TrainingStarted(
        settings={"hidden": "512 (from 9,382 pairs)", "note": "[bold]x[/bold]"},
        parameters=1_234_567,
        pairs=9382,
        total_steps=None,
        max_minutes=6.0,
        step=40,
    )
    text = said(start)
    for part in (
        "1,234,567",
        "9,382",
        "6 min 00 s at most",
        "512 (from 9,382 pairs)",
        "[bold]x[/bold]",
        "40",
    ):
        assert part in text
    end = TrainingEnded(
        reason="no better score in 10 validations",
        step=5000,
        best_step=4000,
        best_score=32.5,
        metric="bleu",
        elapsed=3700.0,
        model="my-run/best",
        how_to_go_on="s2s train --resume",
    )
    text = said(stepped(), end)
    assert "Training ended after 5,000 updates and 1 h 01 min: no better score in 10 validations." in text
    assert "The best model is that of update 4,000 (BLEU 32.50): my-run/best" in text
    assert text.endswith("s2s train --resume\n")


LENGTHS = {"total": 86_905, "mean": 9.26, "median": 7, "p99": 32, "max": 58}
REPORT = {
    "pairs": {"read": 1_000_000, "train": 9382, "dev": 500, "test": 0},
    "dropped": {"blank": 3, "ratio": 0, "overlap": 0, "duplicate": 0, "too_long": 4},
    "duplicates": 12,
    "tokenizer": {
        "units": {"source": "bpe", "target": "bpe"},
        "features": False,
        "tags": 0,
        "joint": False,
        "source_vocab": 3800,
        "target_vocab": 3700,
    },
    "unknown": {"dev": {side: {"lines": 0, "tokens": 0} for side in ("source", "target")}},
    "normalize": {"source": "nfc", "target": "nfd"},
    "lengths": {name: {"source": LENGTHS, "target": LENGTHS} for name in ("train", "dev")},
    "held_out": ["dev"],
}


def test_the_report_fits_80_columns() -> None:
    text = said(Prepared(report=REPORT))
    assert max(map(len, text.split("\n"))) <= 80
    for part in (
        "1,000,000",
        "7: 3 blank on a side, 4 too long",
        "12, kept",
        "held out of the training data",
    ):
        assert part in text
    assert "3,800 (source) and 3,700 (target)" in text
    assert "nfc (source), nfd (target)" in text
    assert "…" not in text


def test_progress_is_shown_on_a_terminal_only() -> None:
    heard = [Progress(task="reading [x]", done=n, total=10, unit="lines") for n in (1, 5, 10)]
    assert said(*heard) == ""
    assert "reading [x]" in said(*heard[:2], terminal=True)


def test_a_terminal_shows_one_status_that_disappears() -> None:
    screen = console(terminal=True)
    with ConsoleListener(screen) as listen:
        listen(stepped())
        listen(validated())
        listen(stepped(1300))
        assert listen._status is not None
        assert "best BLEU 32.50" in listen._status.plain
        assert "step 1,300" in listen._status.plain
        assert listen._share == pytest.approx(75 / 275)  # of the bar below it
    assert listen._live is None


def test_bars_can_be_turned_off() -> None:
    screen = console(terminal=True)
    with ConsoleListener(screen, bars=False) as listen:
        listen(Progress(task="x", done=1, total=10, unit="lines"))
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue() == ""


def test_errors() -> None:
    screen = console()
    screen.print(error_panel(S2SError("the [red]file[/red] is odd", where="a[b].txt", hint="Do [this].")))
    screen.print(error_panel(UsageError("data.txt is odd")))
    assert isinstance(screen.file, io.StringIO)
    text = screen.file.getvalue()
    for part in (
        "─ Error ─",
        "a[b].txt",
        "The [red]file[/red] is odd.",
        "Do [this].",
        "─ Wrong usage ─",
        "data.txt is odd.",
    ):
        assert part in text


@given(st.text())
def test_any_text_is_harmless(text: str) -> None:
    shown = visible(text).plain
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 or c in "\u2028\u2029\u202e\u2066" for c in shown)
    assert said(Notice(text=text)).rstrip("\n").count("\n") == 0


def test_joiners_stay_and_long_text_is_cut() -> None:
    assert visible("می\u200cخواهم 👩\u200d💻").plain == "می\u200cخواهم 👩\u200d💻"
    assert visible("abcdef", longest=4).plain == "abc…"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7500, "2 h 05 min"),
        (math.inf, "?"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_numbers() -> None:
    assert perplexity(0.0) == "1.00"
    assert perplexity(8.0) == "2,981"
    assert perplexity(1e9) == "inf"
    assert perplexity(math.nan) == "nan"
    assert measure(1.23456, "loss") == "loss 1.2346"
    assert measure(None, "bleu") == "none"
    assert amount(12_345_678, "bytes") == "12.3 MB"
    assert amount(1234, "lines") == "1,234 lines"


def test_a_file_is_no_terminal_whatever_build_servers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert not make_console().is_terminal
