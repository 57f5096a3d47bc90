"""The commands: what each one runs, and what its help page says. Nothing is imported before it is run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2scli.errors import UsageError
from s2scli.loading import INTERRUPTED, loading
from s2scli.process import own_process
from s2scli.torchrun import launched

if TYPE_CHECKING:
    from s2scli.events import Listener


def run_preprocess(options: Any, listen: Listener) -> None:
    """Turn parallel text into training data."""
    with loading():
        from s2scli.preprocess import preprocess

    preprocess(options, listen)


def run_train(options: Any, listen: Listener) -> int:
    """Turn training data into a model."""
    with loading():
        from s2scli.seeds import has_seeds, train_seeds
        from s2scli.train import train
    own_process()

    several = has_seeds(options)
    if several and launched():
        hint = "Leave torchrun out, or start one training for each --seed."
        raise UsageError("under torchrun all processes train one model", where="--seeds", hint=hint)
    ended = train_seeds(options, listen) if several else train(options, listen)
    # torchrun would take it for a failure and start a training again that was asked to stop.
    return INTERRUPTED if ended.how_to_go_on and not launched() else 0


def run_translate(options: Any, listen: Listener) -> None:
    """Translate lines; they go in and come out in the same order."""
    with loading():
        from s2scli.translate import translate
    own_process()

    translate(options, listen)


def run_score(options: Any, listen: Listener) -> None:
    """Score translations against references."""
    with loading():
        from s2scli.score import run
    own_process()

    run(options, listen)


def run_report(options: Any, listen: Listener) -> None:
    """Show a run in one HTML file."""
    with loading():
        from s2scli.report import report
    own_process()

    report(options, listen)


def check_score(options: Any, flags: Iterable[str]) -> None:
    """Refuse flags that have no effect."""
    from s2scli.score import check_flags

    check_flags(options, flags)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a command does, and what its help page says."""

    run: Callable[[Any, Listener], int | None]
    check: Callable[[Any, Iterable[str]], None] = lambda options, flags: None
    summary: str
    text: str
    examples: str


PAGES = {
    "preprocess": Page(
        run=run_preprocess,
        summary="Turn parallel text into training data.",
        text="Reads two files of which line n of one is the translation of line n of the other (or a TSV), "
        "learns a tokenizer, and writes both as numbers into a run folder, with a report of what was "
        "left out and why.",
        examples="  s2s preprocess --train-src train.en --train-tgt train.ko --run my-run",
    ),
    "train": Page(
        run=run_train,
        summary="Turn training data into a model.",
        text="Trains a recurrent encoder-decoder with attention on the data of a run folder, validates it "
        "as it goes and keeps the best. Sizes that are not given are chosen from the amount of data and "
        "time. Ctrl-C stops it; --resume goes on.",
        examples="  s2s train --run my-run --max-minutes 30",
    ),
    "translate": Page(
        run=run_translate,
        summary="Translate lines of text.",
        text="Reads lines, writes as many lines, in the same order.",
        examples="  echo 'Unable to open the file.' | s2s translate --run my-run\n"
        "  s2s translate --run my-run --input new.en --output new.ko",
    ),
    "score": Page(
        run=run_score,
        check=check_score,
        summary="Score translations against references.",
        text="Without HYPOTHESES, translates the test set of a run and scores it. With them, scores files: "
        "several are tested against the first. BLEU, chrF and TER are sacreBLEU's, with its signatures, its "
        "tests and its seeds. With --tgt or --ids, a model scores translations that are given.",
        examples="  s2s score --run my-run\n"
        "  s2s score output.ko --ref reference.ko\n"
        "  s2s score baseline.ko new.ko --ref reference.ko --src source.en --by-length\n"
        "  s2s score output.txt --ref reference.txt --metric acc,per --confusions 10\n"
        "  s2s score --model my-run --src source.en --tgt target.ko",
    ),
    "report": Page(
        run=run_report,
        summary="Show a run in one HTML file.",
        text="Translates the test set of a run and writes one self-contained HTML file: the data, the course "
        "of the training, the scores, and every translation with a picture of its attention. It opens in "
        "any browser, from the disk, without a connection.",
        examples="  s2s report --run my-run",
    ),
}
