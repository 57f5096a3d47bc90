"""Every option of every command, declared once: name, type, default, range, unit and help.

The command line, the ``s2s.toml`` reader, the validation and the configuration
reference in ``docs/`` are all derived from the dataclasses below (see ``resolve``).
This module imports neither torch nor typer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from s2scli.errors import UsageError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Special token ids, the same in every vocabulary."""
SPECIAL_IDS = 4
"""How many there are."""

Normalization = Literal["nfc", "nfkc", "nfd", "none"]
TokenizerKind = Literal["bpe", "unigram", "char", "word"]
Unit = Literal["auto", "subword", "word", "character", "codepoint", "symbol"]
Cell = Literal["lstm", "gru"]
Bridge = Literal["last", "linear", "zero"]
Attention = Literal["none", "dot", "scaled-dot", "general", "additive"]
Values = Literal["keys", "projected"]
Feed = Literal["none", "input", "state"]
Tie = Literal["none", "target", "all"]
Preset = Literal["default", "lecture"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
SearchPrecision = Literal["auto", "fp32", "bf16", "int8"]
Metric = Literal["bleu", "chrf", "acc", "loss"]
Average = Literal["ema", "none"]
Format = Literal["text", "tsv", "jsonl"]


def option(
    default: Any,
    help: str,
    panel: str,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str | None = None,
    auto: str | None = None,
    short: str | None = None,
    argument: bool = False,
) -> Any:
    """Declare one option as a dataclass field.

    Args:
        default: The value when neither the file nor a flag gives one.
        help: One sentence for ``--help`` and the reference.
        panel: The heading it stands under in ``--help``.
        low, high: The closed range of valid numbers.
        unit: The unit of a number, such as "tokens".
        auto: What ``None`` means, when the value is then chosen from the data.
        short: A one-letter flag, or another spelling of the flag.
        argument: A positional argument of the command line instead of a flag.
    """
    metadata = {
        "help": help,
        "panel": panel,
        "low": low,
        "high": high,
        "unit": unit,
        "auto": auto,
        "short": short,
        "argument": argument,
    }
    return field(default=default, metadata=metadata)


class Options:
    """Base of the options of a command.

    Attributes:
        given: Names of what a file or flag set, as opposed to what has its default.
    """

    given: frozenset[str] = frozenset()

    def sets(self, name: str) -> bool:
        """Whether this option was set: by a file, a flag, or in Python to what is not its default."""
        default = type(self).__dataclass_fields__[name].default  # type: ignore[attr-defined]
        return name in self.given or getattr(self, name) != default


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions(Options):
    """Parallel text in; a tokenizer, shards on disk and a report out."""

    run: Path = option(Path("s2s-run"), "Run folder; everything is written under it.", "Run")
    force: bool = option(False, "Replace the data and models already in the run folder.", "Run")
    seed: int = option(1, "Seed of every random choice.", "Run", low=0, high=2**32 - 1)
    train_src: tuple[Path, ...] = option(
        (), "Training source text, one sentence a line (plain or .gz; repeatable).", "Data"
    )
    train_tgt: tuple[Path, ...] = option(
        (), "Training target text, line by line the translation of --train-src.", "Data"
    )
    train: tuple[Path, ...] = option((), "Training pairs as TSV (plain or .gz; repeatable).", "Data")
    dev_src: tuple[Path, ...] = option((), "Development source text.", "Data")
    dev_tgt: tuple[Path, ...] = option((), "Development target text.", "Data")
    dev: tuple[Path, ...] = option((), "Development pairs as TSV.", "Data")
    test_src: tuple[Path, ...] = option((), "Test source text.", "Data")
    test_tgt: tuple[Path, ...] = option((), "Test target text.", "Data")
    test: tuple[Path, ...] = option((), "Test pairs as TSV.", "Data")
    columns: str = option(
        "1,2",
        "Source and target column of a TSV, by number or by the name in its first line; a third one "
        "holds features of the source, such as V;PST.",
        "Data",
    )
    dev_size: int | None = option(
        None,
        "Pairs held out of the training data for development when no dev set is given.",
        "Data",
        low=1,
        unit="pairs",
        auto="5% of the pairs, 1,000 at most",
    )
    test_size: int = option(
        0,
        "Pairs held out of the training data for a test set when none is given.",
        "Data",
        low=0,
        unit="pairs",
    )
    replace_invalid: bool = option(
        False, "Replace bytes that are not UTF-8 by U+FFFD instead of stopping.", "Data"
    )
    max_length: int = option(
        250, "Leave out training pairs with a longer side.", "Cleaning", low=1, unit="tokens"
    )
    max_ratio: float = option(
        9.0,
        "Leave out training pairs of 20 characters or more whose sides differ by a larger factor in length.",
        "Cleaning",
        low=1.0,
    )
    drop_duplicates: bool = option(False, "Leave out exact repetitions of a training pair.", "Cleaning")
    drop_overlap: bool = option(
        False, "Leave out training pairs whose source occurs in the dev or test set.", "Cleaning"
    )
    normalize: Normalization = option("nfc", "Unicode normal form of both sides.", "Text")
    normalize_src: Normalization | None = option(
        None,
        "Unicode normal form of the source.",
        "Text",
        auto="as --normalize, but nfd for Hangul split into characters",
    )
    normalize_tgt: Normalization | None = option(
        None,
        "Unicode normal form in which the target is split; it is written in the form it was given in.",
        "Text",
        auto="as --normalize, but nfd for Hangul split into characters",
    )
    unit_src: Unit = option(
        "auto",
        "What a source token is; auto takes characters or symbols for short strings, else subwords.",
        "Tokenizer",
    )
    unit_tgt: Unit = option(
        "auto",
        "What a target token is; symbol is what stands between separators, such as a phoneme.",
        "Tokenizer",
    )
    separator_src: str | None = option(
        None, "What stands between two symbols of the source.", "Tokenizer", auto="a space"
    )
    separator_tgt: str | None = option(
        None, "What stands between two symbols of the target.", "Tokenizer", auto="a space"
    )
    tokenizer: TokenizerKind | None = option(
        None,
        "Both sides at once: subwords made by bpe or unigram, or the unit codepoint (char) or word.",
        "Tokenizer",
        auto="by --unit-src and --unit-tgt; subwords by bpe",
    )
    joint: bool | None = option(
        None,
        "One vocabulary for both sides.",
        "Tokenizer",
        auto="on where the two sides share most of their letters",
    )
    vocab_size: int | None = option(
        None,
        "Size of each vocabulary, special tokens included.",
        "Tokenizer",
        low=300,
        high=200_000,
        unit="tokens",
        auto="from the amount of training data",
    )
    sample_size: int = option(
        1_000_000,
        "Lines of each side that the tokenizer learns from, when there are more.",
        "Tokenizer",
        low=1000,
        unit="lines",
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Shards in; a model out."""

    run: Path = option(Path("s2s-run"), "Run folder that s2s preprocess has written.", "Run")
    resume: bool = option(False, "Go on from the last checkpoint, exactly.", "Run")
    force: bool = option(False, "Replace the model already in the run folder.", "Run")
    seed: int = option(1, "Seed of every random choice.", "Run", low=0, high=2**32 - 1)
    seeds: int = option(
        1,
        "Train this many models, with seeds from --seed on; s2s translate uses them together.",
        "Run",
        low=1,
        high=100,
        unit="models",
    )
    tensorboard: bool = option(
        False, "Write TensorBoard logs too (needs the extra s2scli[tensorboard]).", "Run"
    )

    epochs: int | None = option(
        None,
        "Stop after this many passes over the training data.",
        "Limits",
        low=1,
        unit="epochs",
        auto="from the amount of data; none with --max-steps, nor for strings with --max-minutes",
    )
    max_steps: int | None = option(
        None, "Stop after this many updates.", "Limits", low=1, unit="updates", auto="no limit"
    )
    max_minutes: float | None = option(
        None,
        "Stop after this time, the learning rate annealed to its end by then.",
        "Limits",
        low=0.05,
        unit="minutes",
        auto="no limit",
    )
    patience: int | None = option(
        None,
        "Stop after this many validations without a better score.",
        "Limits",
        low=1,
        unit="validations",
        auto="10, or none where --max-steps or --max-minutes sets the end",
    )

    preset: Preset = option("default", "default, or lecture: exactly the lecture's model.", "Model")
    cell: Cell = option("lstm", "Kind of recurrent cell.", "Model")
    hidden: int | None = option(
        None,
        "Width h of states, memory and attentional vector.",
        "Model",
        low=2,
        high=8192,
        unit="units",
        auto="from the amount of data and time",
    )
    embedding: int | None = option(
        None,
        "Width of the embeddings.",
        "Model",
        low=1,
        high=8192,
        unit="units",
        auto="from the amount of data and time",
    )
    encoder_layers: int | None = option(
        None, "Encoder layers.", "Model", low=1, high=16, auto="from the amount of data and time"
    )
    decoder_layers: int | None = option(
        None, "Decoder layers.", "Model", low=1, high=16, auto="from the amount of data and time"
    )
    bidirectional: bool = option(True, "Encoder that reads in both directions.", "Model")
    residual: bool = option(True, "Residual connections around every layer beyond the first.", "Model")
    bridge: Bridge = option("linear", "How the encoder's last state starts the decoder.", "Model")
    attention: Attention = option("dot", "Attention scores; none is the plain encoder-decoder.", "Model")
    values: Values = option(
        "keys", "Attention values: the keys themselves, or a separate projection.", "Model"
    )
    relative_positions: int | None = option(
        None,
        "Distances from the diagonal, to either side, that attention tells apart (0: none).",
        "Model",
        low=0,
        high=512,
        auto="8 for fewer than 2,000 strings, else 0",
    )
    feed: Feed = option(
        "none",
        "What goes into the next step: y only, s~ beside it (input), or s~ as the state (state).",
        "Model",
    )
    tie: Tie | None = option(
        None,
        "Share embeddings: none, target (with the output layer) or all (source too).",
        "Model",
        auto="all with a joint vocabulary, target without",
    )

    dropout: float | None = option(
        None,
        "Share of units dropped between layers.",
        "Regularisation",
        low=0.0,
        high=0.95,
        auto="from the amount of data and time",
    )
    dropout_over_time: bool = option(
        True,
        "Drop the same units at every time step of a sentence (always so with --feed).",
        "Regularisation",
    )
    recurrent_dropout: float = option(
        0.0, "Share of recurrent weights dropped at each update.", "Regularisation", low=0.0, high=0.95
    )
    word_dropout: float = option(
        0.0, "Share of input tokens whose embedding is dropped.", "Regularisation", low=0.0, high=0.95
    )
    label_smoothing: float = option(
        0.1, "Probability mass spread over the whole vocabulary.", "Regularisation", low=0.0, high=0.9
    )
    weight_decay: float = option(0.0, "Decoupled weight decay (AdamW).", "Regularisation", low=0.0)

    optimizer: Literal["adamw", "adam"] = option("adamw", "Optimiser.", "Optimisation")
    learning_rate: float | None = option(
        None,
        "Highest learning rate.",
        "Optimisation",
        low=1e-7,
        high=1.0,
        auto="from the amount of data and time",
    )
    warmup_steps: int | None = option(
        None,
        "Updates over which the learning rate rises.",
        "Optimisation",
        low=0,
        unit="updates",
        auto="from the amount of data and time",
    )
    schedule: Literal["cosine", "linear", "inverse-sqrt", "constant"] = option(
        "cosine", "Learning rate after the warm-up.", "Optimisation"
    )
    clip_norm: float = option(1.0, "Largest norm of the gradient (0: no limit).", "Optimisation", low=0.0)
    batch_tokens: int | None = option(
        None,
        "Target tokens in a batch, padding included.",
        "Optimisation",
        low=1,
        unit="tokens",
        auto="from the amount of data and time",
    )
    accumulate: int = option(
        1, "Batches whose gradients make one update.", "Optimisation", low=1, unit="batches"
    )
    average: Average = option(
        "ema", "Weights that are validated and kept: a moving average, or as they are.", "Optimisation"
    )
    ema_decay: float = option(
        0.999, "Decay of the moving average per update.", "Optimisation", low=0.0, high=0.999999
    )

    validate_every: int | None = option(
        None,
        "Updates between two validations.",
        "Validation",
        low=1,
        unit="updates",
        auto="an epoch, or less on large data",
    )
    validate_lines: int = option(
        1000,
        "Development lines that are translated for BLEU and chrF (the loss is over all of them).",
        "Validation",
        low=1,
        unit="lines",
    )
    validate_beam: int = option(1, "Beam of those translations.", "Validation", low=1, high=100)
    metric: Metric | None = option(
        None,
        "What decides which model is the best (a tie is decided by the loss); acc is the share of lines "
        "translated exactly.",
        "Validation",
        auto="bleu; acc for short strings, else chrf where most lines have fewer than four words",
    )
    samples: int = option(
        3, "Sample translations shown at a validation.", "Validation", low=0, unit="sentences"
    )

    device: Device = option("auto", "Where to compute.", "Machine")
    precision: Precision = option(
        "auto", "Number format of the arithmetic; auto is bf16 where the processor has it.", "Machine"
    )
    threads: int | None = option(None, "CPU threads.", "Machine", low=1, high=1024, auto="one per core")


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

    beam: int = option(5, "Hypotheses kept at each step; 1 is greedy search.", "Search", low=1, high=1000)
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
    max_length_ratio: float = option(
        3.0, "Longest hypothesis in tokens, over the source length plus ten.", "Search", low=0.1, high=1000.0
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
        "Sentences in a batch.",
        "Machine",
        low=1,
        high=10_000,
        unit="sentences",
        auto="as many as make some 600 hypotheses, 256 at most; of strings four times that",
    )
    device: Device = option("auto", "Where to compute.", "Machine")
    precision: SearchPrecision = option(
        "auto",
        "Number format of the arithmetic; auto is the fastest that the processor has.",
        "Machine",
    )
    threads: int | None = option(None, "CPU threads.", "Machine", low=1, high=1024, auto="one per core")


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
    set: Literal["auto", "test", "dev"] = option(
        "auto", "Held-out set to translate; auto is test, or dev where there is none.", "Run"
    )
    beam: int = option(5, "Hypotheses kept at each step; 1 is greedy search.", "Run", low=1, high=1000)
    length_penalty: float = option(1.0, "Exponent of the length in the score.", "Run", low=0.0, high=10.0)
    metrics: str = option(
        "bleu,chrf,ter",
        "Metrics, separated by commas: bleu, chrf, chrf++, ter; for short strings acc (percent of lines "
        "that are exactly a reference), wer (percent that are not), per and cer (edits per hundred "
        "symbols, which white space separates, or characters).",
        "Scores",
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
    device: Device = option("auto", "Where to compute.", "Machine")
    precision: SearchPrecision = option(
        "auto",
        "Number format of the arithmetic; auto is the fastest that the processor has.",
        "Machine",
    )
    threads: int | None = option(None, "CPU threads.", "Machine", low=1, high=1024, auto="one per core")


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """A run in; one HTML file that shows it out."""

    run: Path = option(Path("s2s-run"), "Run folder whose data, training and translations are shown.", "Run")
    output: Path | None = option(
        None, "File to write.", "Run", auto="report.html in the run folder", short="o"
    )
    force: bool = option(False, "Replace an existing report.", "Run")
    set: Literal["auto", "test", "dev"] = option(
        "auto", "Held-out set to translate; auto is test, or dev where there is none.", "Translations"
    )
    lines: int = option(
        1000,
        "Most lines that the table of translations shows; the scores are of the whole set.",
        "Translations",
        low=1,
        high=20_000,
        unit="lines",
    )
    beam: int = option(
        5, "Hypotheses kept at each step; 1 is greedy search.", "Translations", low=1, high=1000
    )
    device: Device = option("auto", "Where to compute.", "Machine")
    precision: SearchPrecision = option(
        "auto",
        "Number format of the arithmetic; auto is the fastest that the processor has.",
        "Machine",
    )
    threads: int | None = option(None, "CPU threads.", "Machine", low=1, high=1024, auto="one per core")


COMMANDS: Mapping[str, type] = {
    "preprocess": PreprocessOptions,
    "train": TrainOptions,
    "translate": TranslateOptions,
    "score": ScoreOptions,
    "report": ReportOptions,
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture: all that the model package knows of the world.

    Vocabulary sizes count every id, special ones included; ``hidden`` is the h
    of the equations and ``embedding`` the width of the word vectors.
    """

    source_vocab: int
    target_vocab: int
    cell: Cell = "lstm"
    hidden: int = 512
    embedding: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    bidirectional: bool = True
    residual: bool = True
    bridge: Bridge = "linear"
    attention: Attention = "dot"
    values: Values = "keys"
    relative_positions: int = 0
    feed: Feed = "none"
    tie: Tie = "none"
    dropout: float = 0.0
    dropout_over_time: bool = True
    recurrent_dropout: float = 0.0
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.bidirectional and self.hidden % 2:
            raise UsageError(
                f"a bidirectional encoder needs an even width, not {self.hidden}",
                where="--hidden",
                hint=f"Try {self.hidden + 1}, or --no-bidirectional.",
            )
        if self.attention == "none" and self.bridge == "zero":
            raise UsageError(
                "without attention only the bridge leads from source to target, and 'zero' passes nothing",
                where="--bridge",
                hint="Use --bridge last or linear.",
            )
        if self.attention == "none" and self.values == "projected":
            raise UsageError(
                "--attention none has no values to project", where="--values", hint="Leave --values out."
            )
        if self.attention == "none" and self.relative_positions:
            raise UsageError(
                "--attention none has no scores that positions could be told apart in",
                where="--relative-positions",
                hint="Leave --relative-positions out.",
            )
        if self.tie == "all" and self.source_vocab != self.target_vocab:
            raise UsageError(
                "--tie all needs one vocabulary for both sides",
                where="--tie",
                hint="Preprocess with --joint, or use --tie target.",
            )
