"""The options of ``s2s score``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2scli.config.choices import Device, SearchPrecision
from s2scli.config.declare import Options, option
from s2scli.config.shared import (
    beam_option,
    device_option,
    search_precision_option,
    set_option,
    threads_option,
)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    """Hypotheses and references in; scores out."""

    hypotheses: tuple[Path, ...] = option(
        (),
        "Files of hypotheses, one for each system, the first the baseline; - is standard input. Without, "
        "the held-out set of the run is translated.",
        "Given text",
        argument=True,
    )
    ref: tuple[Path, ...] = option((), "Reference file (repeatable: several references).", "Given text")
    src: Path | None = option(
        None,
        "Source text: of the hypotheses for --by-length and --by-frequency, of the pairs for forced scores.",
        "Given text",
        auto="that of the held-out set",
    )
    run: Path = option(Path("s2s-run"), "Run folder whose test set is translated and scored.", "Run")
    set: Literal["auto", "test", "dev"] = set_option("Run")
    beam: int = beam_option("Run")
    length_penalty: float = option(1.0, "Exponent of the length in the score.", "Run", low=0.0, high=10.0)
    metrics: str | None = option(
        None,
        "Metrics, separated by commas: bleu, chrf, chrf++, ter; for short strings acc (percent of lines "
        "that are exactly a reference), wer (percent that are not), per and cer (edits per hundred "
        "symbols, which white space separates, or characters).",
        "Scores",
        auto="bleu,chrf,ter; of a model of strings wer and, for symbols with spaces between, per, else cer",
        short="metric",
    )
    tokenize: str | None = option(
        None,
        "sacreBLEU's tokenizer for BLEU (13a, intl, char, zh, ...).",
        "Scores",
        auto="sacreBLEU's own default",
    )
    lowercase: bool = option(False, "Score without regard to case.", "Scores")
    json: bool = option(False, "Write JSON; with --per-line and forced scores, one object a line.", "Scores")
    resamples: int = option(
        1000,
        "Bootstrap resamples for the 95% intervals and the paired bootstrap test; 0 leaves both out.",
        "Significance",
        low=0,
        high=1_000_000,
    )
    significance: Literal["bootstrap", "randomization", "none"] = option(
        "bootstrap", "Paired test of each further system against the first.", "Significance"
    )
    trials: int = option(
        10_000, "Trials of approximate randomization.", "Significance", low=1, high=10_000_000
    )
    seed: int | None = option(
        None,
        "Seed of resamples and trials.",
        "Significance",
        low=0,
        high=2**32 - 1,
        auto="the variable SACREBLEU_SEED, or 12,345, as in sacreBLEU",
    )
    per_line: bool = option(False, "Write the score of each line instead (TSV).", "More detail")
    by_length: bool = option(False, "Add scores by the length of the source.", "More detail")
    by_frequency: bool = option(
        False, "Add scores by how often the rarest word of the source occurs in training.", "More detail"
    )
    train_src: tuple[Path, ...] = option(
        (),
        "Training source text, in which --by-frequency counts (repeatable); without, the run's.",
        "More detail",
    )
    confusions: int = option(
        0,
        "Add a table of so many of the most frequent errors in symbols: words, or characters where "
        "references are single words or cer is asked for without per.",
        "More detail",
        low=0,
        high=10_000,
    )
    tgt: Path | None = option(
        None, "Score these translations of --src with the model itself.", "Forced scores", auto="none"
    )
    ids: Path | None = option(
        None,
        "Score the hypotheses in this output of s2s translate --format jsonl, token by token.",
        "Forced scores",
        auto="none",
    )
    model: tuple[Path, ...] = option(
        (),
        "Run folder or model directory that scores them (repeatable: models that score together).",
        "Forced scores",
        auto="that of --run",
    )
    per_token: bool = option(False, "Add the log-probability of each token.", "Forced scores")
    device: Device = device_option()
    precision: SearchPrecision = search_precision_option()
    threads: int | None = threads_option()
