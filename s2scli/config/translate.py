"""The options of ``s2s translate``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2scli.config.choices import Device, Format, SearchPrecision
from s2scli.config.declare import Options, option
from s2scli.config.shared import beam_option, device_option, search_precision_option, threads_option


@dataclass(frozen=True, kw_only=True)
class TranslateOptions(Options):
    """Lines in, as many lines out."""

    run: tuple[Path, ...] = option(
        (Path("s2s-run"),),
        "Run folder or model directory (repeatable: models that translate together).",
        "Run",
    )
    input: Path | None = option(
        None, "File to translate (- is standard input).", "Input and output", auto="standard input", short="i"
    )
    output: Path | None = option(
        None, "File to write (- is standard output).", "Input and output", auto="standard output", short="o"
    )
    force: bool = option(False, "Replace an existing --output.", "Input and output")
    resume: bool = option(
        False, "Go on with an --output that was interrupted, or begin it.", "Input and output"
    )
    format: Format = option("text", "Output format; jsonl carries tokens, ids, scores.", "Input and output")
    scores: bool = option(
        False, "Put each hypothesis's log-probability beside it (text becomes tsv).", "Input and output"
    )
    alignments: bool = option(
        False,
        "Put word alignments (Pharaoh, 0-0 1-2) beside each hypothesis (text becomes tsv).",
        "Input and output",
    )
    alignment_unit: Literal["word", "token"] = option(
        "word", "What the alignment numbers count.", "Input and output"
    )
    attention_plot: Path | None = option(
        None,
        "Draw the attention of the first 12 lines as .png, .svg or .pdf (needs the extra s2scli[plot]), "
        "or of the first 1,000 as an .html page.",
        "Input and output",
        auto="no picture",
    )

    beam: int = beam_option("Search")
    n_best: int = option(1, "Hypotheses written for each line.", "Search", low=1, high=1000)
    length_penalty: float = option(
        1.0,
        "Exponent a of the length in log p / length^a; 0 does not reward length.",
        "Search",
        low=0.0,
        high=10.0,
    )
    no_repeat_ngram: int = option(
        0, "Never repeat a run of this many tokens (0: allowed).", "Search", low=0, unit="tokens"
    )
    max_length_ratio: float | None = option(
        None,
        "Longest hypothesis in tokens, less ten, over the source length with its </s>.",
        "Search",
        low=0.1,
        high=1000.0,
        auto="3, or more where targets of the training were longer",
    )
    beam_threshold: float | None = option(
        None,
        "Give up hypotheses that are so much less probable than the best of their sentence (0: never).",
        "Search",
        low=0.0,
        high=1000.0,
        unit="nats",
        auto="4; with --precision fp32 or --n-best, never",
    )
    shortlist: int = option(
        0,
        "Emit only the so many likeliest tokens for each source token, and the most frequent ones (0: all).",
        "Search",
        low=0,
        high=100,
        unit="tokens",
    )

    sample: bool = option(False, "Draw translations at random instead of searching.", "Sampling")
    temperature: float = option(
        1.0, "Divide the logits by this before drawing.", "Sampling", low=0.01, high=100.0
    )
    top_k: int = option(
        0, "Draw from the k most probable tokens only (0: all).", "Sampling", low=0, unit="tokens"
    )
    top_p: float = option(
        1.0,
        "Draw from the most probable tokens that hold this share of the mass.",
        "Sampling",
        low=0.0,
        high=1.0,
    )
    seed: int = option(1, "Seed of the draw.", "Sampling", low=0, high=2**32 - 1)

    batch_size: int | None = option(
        None,
        "Most sentences in a batch.",
        "Machine",
        low=1,
        high=10_000,
        unit="sentences",
        auto="at most 256 and 1,280 hypotheses; 1,024 and 2,560 with up to 1,000 target tokens",
    )
    device: Device = device_option()
    precision: SearchPrecision = search_precision_option()
    threads: int | None = threads_option()
