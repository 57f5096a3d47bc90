"""The settings of a training: what the user chose, and for the rest what the data suggest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from s2scli.config import ModelConfig, TrainOptions
from s2scli.errors import UsageError, counted
from s2scli.resolve import flag


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything a training needs to know, nothing left open.

    Attributes:
        model: The architecture.
        options: The user's options with every open one filled in, but for limits that are not set.
        chosen: Names of those that were filled in.
        total_steps: Updates to the end; None if the clock will end it.
        why: Setting → value and where it comes from, for the settings table.
    """

    model: ModelConfig
    options: TrainOptions
    chosen: frozenset[str]
    total_steps: int | None
    why: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What the choice of settings depends on.

    Attributes:
        pairs: Training pairs.
        tokens: Target tokens of one pass over them.
        speed: Target tokens a second that a training may be expected to make here, roughly.
        source_vocab, target_vocab: Sizes of the vocabularies.
        joint: Whether the two are one.
        strings: Whether they are short strings rather than sentences (`of_strings`).
        short_lines: Whether most targets have fewer than four words, for which BLEU is always 0.
        batches: Tokens of a batch → batches in an epoch.
    """

    pairs: int
    tokens: int
    speed: float
    source_vocab: int
    target_vocab: int
    joint: bool
    strings: bool
    short_lines: bool
    batches: Callable[[int], int]


def _between(amount: float, anchors: list[tuple[float, float]]) -> float:
    """Interpolate over the logarithm of an amount."""
    x = math.log10(max(1, amount))
    points = [(math.log10(n), value) for n, value in anchors]
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if x <= x1:
            return y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return points[-1][1]


def _rounded(value: float, unit: int) -> int:
    return max(unit, round(value / unit) * unit)


LECTURE: Mapping[str, Any] = {
    "cell": "gru",
    "encoder_layers": 1,
    "decoder_layers": 1,
    "bidirectional": False,
    "residual": False,
    "bridge": "last",
    "attention": "dot",
    "values": "keys",
    "relative_positions": 0,
    "feed": "state",
    "tie": "none",
}
"""The lecture's model: last state handed over, dot attention, s̃ carried on as the state.

A GRU, because the lecture's decoder has one state vector s_t, which s̃_t replaces.
"""


def _as_in_the_lecture(options: TrainOptions) -> TrainOptions:
    for name, value in LECTURE.items():
        if options.sets(name) and getattr(options, name) != value:
            hint = f"Leave one of the two out: the lecture's is {value}."
            raise UsageError("--preset lecture is exactly the lecture's model", where=flag(name), hint=hint)
    return options.changed(**LECTURE)


_UPDATES = 10_000
"""As many make a good model of sentences; a training with no time for them has smaller batches."""


def _for_sentences(options: TrainOptions, data: DataFacts) -> dict[str, Any]:
    pairs = data.pairs
    epochs = round(_between(pairs, [(1e4, 40), (3e4, 25), (3e5, 12), (5e6, 4)]))
    enough = min(8, epochs)
    if options.max_minutes is not None:
        # However many minutes there are, more passes would only repeat what is known.
        epochs = round(_between(pairs, [(1e3, 200), (1e4, 80), (3e4, 30)]))
    batch = _between(pairs, [(1e4, 400), (3e4, 1000), (3e5, 2000), (5e6, 4000)])
    tokens = _seen(
        replace(
            options,
            epochs=options.epochs or (epochs if options.max_steps is None else None),
            batch_tokens=options.batch_tokens or round(batch),
        ),
        data,
    )
    if options.max_steps is None:
        batch = min(batch, max(400, tokens / _UPDATES))
    passes = tokens / data.tokens
    # Pairs that are seen less often than it takes teach as much as fewer would.
    size = pairs * min(1.0, passes / enough)
    # What is seen often must be protected from being learnt by heart; more data protect themselves.
    repeated = _between(passes, [(1, 0.1), (4, 0.2), (8, 0.3), (15, 0.4), (28, 0.45)])
    share = _between(pairs, [(1e4, 0.8), (3e4, 1.0), (3e5, 0.6), (5e6, 0.5)])
    return {
        "hidden": _rounded(_between(size, [(1e3, 256), (1e4, 384), (3e4, 512), (1e6, 768), (5e6, 1024)]), 64),
        "embedding": _rounded(_between(size, [(1e3, 128), (1e4, 256), (3e5, 384), (5e6, 512)]), 64),
        "encoder_layers": 1 if size < 300_000 else 2,
        "decoder_layers": 1 if size < 300_000 else 2,
        "dropout": round(repeated * share, 2),
        # Small batches and high rates: the number of updates is what limits a short training.
        "learning_rate": round(_between(batch, [(400, 3e-3), (1000, 2e-3), (3000, 1e-3)]), 5),
        "batch_tokens": _rounded(batch, 100),
        "epochs": epochs,
    }


def _seen(options: TrainOptions, data: DataFacts) -> float:
    """How many target tokens the limits let a training see, roughly."""
    limits = [
        (options.epochs or 0) * data.tokens,
        (options.max_minutes or 0) * 60 * data.speed,
        (options.max_steps or 0) * (options.batch_tokens or 0) * options.accumulate,
    ]
    return min(n for n in limits if n)


def _for_strings(pairs: int) -> dict[str, Any]:
    # Few symbols and little noise: wide layers, of which half is dropped, and many epochs.
    return {
        "hidden": _rounded(_between(pairs, [(1e3, 256), (3e3, 384), (1e5, 512)]), 64),
        "embedding": _rounded(_between(pairs, [(1e4, 128), (1e5, 256)]), 64),
        "encoder_layers": 1,
        "decoder_layers": 1,
        # A few thousand strings teach by themselves what stands where.
        "relative_positions": 8 if pairs < 2000 else 0,
        "dropout": round(_between(pairs, [(1e4, 0.5), (1e5, 0.3), (1e6, 0.1)]), 2),
        "learning_rate": round(_between(pairs, [(1e3, 3e-3), (4e3, 4e-3), (1e5, 2e-3), (1e6, 1e-3)]), 5),
        "batch_tokens": _rounded(_between(pairs, [(1e3, 300), (4e3, 700), (1e5, 1000), (1e6, 3000)]), 100),
        "epochs": round(_between(pairs, [(1e3, 80), (4e3, 40), (1e4, 30), (1e5, 12), (1e6, 5)])),
    }


def choose(options: TrainOptions, data: DataFacts) -> Recipe:
    """Fill in what the user left open.

    Args:
        options: The user's options.
        data: Sizes of the training data.
    """
    if options.preset == "lecture":
        options = _as_in_the_lecture(options)
    if options.optimizer == "adam" and options.weight_decay and options.asks("weight_decay"):
        hint = "Use --optimizer adamw, or leave it out."
        raise UsageError("adam has no decoupled weight decay", where="--weight-decay", hint=hint)
    if options.average == "none" and options.asks("ema_decay"):
        hint = "Leave out either it or --average none."
        raise UsageError("there is no moving average", where="--ema-decay", hint=hint)
    if options.tie == "all" and not data.joint:
        hint = "Preprocess with --joint, or use --tie target."
        raise UsageError("--tie all needs one vocabulary for both sides", where="--tie", hint=hint)
    suggested = _for_strings(data.pairs) if data.strings else _for_sentences(options, data)
    limited = options.max_steps is not None or options.max_minutes is not None
    if not limited:
        suggested["patience"] = 10
    elif data.strings or options.max_steps is not None:  # the user has said when to end
        suggested.pop("epochs")
    if not data.strings or options.attention == "none":
        suggested["relative_positions"] = 0
    suggested["tie"] = "all" if data.joint else "target"
    suggested["metric"] = "acc" if data.strings else "chrf" if data.short_lines else "bleu"
    chosen = {name: value for name, value in suggested.items() if not options.sets(name)}
    # What was chosen when the training began stays so.
    chosen |= {name: getattr(options, name) for name in options.filled}
    full = options.changed(**chosen)
    per_epoch = -(-data.batches(full.batch_tokens or 1) // full.accumulate)
    total = min((n for n in (full.max_steps, full.epochs and full.epochs * per_epoch) if n), default=None)
    timed = full.max_minutes is not None
    if timed and "epochs" in chosen and _seen(full, data) < (full.epochs or 0) * data.tokens:
        total = None  # the clock will come first
    seen = int(_seen(full, data) / ((full.batch_tokens or 1) * full.accumulate))
    expected = seen if total is None else min(total, seen) if timed else total
    if full.warmup_steps is None:
        chosen["warmup_steps"] = min(400, max(1, expected // 10))
    if full.validate_every is None:
        # A training of strings may be short, and patience is counted in validations: a dozen of them.
        fewest = min(300, max(50, expected // 12)) if data.strings else 500
        usual = min(max(per_epoch, fewest), 2000)
        chosen["validate_every"] = max(50, min(usual, expected // 3)) if timed else usual
    full = full.changed(**chosen)
    model = ModelConfig(
        source_vocab=data.source_vocab,
        target_vocab=data.target_vocab,
        cell=full.cell,
        hidden=full.hidden or 0,
        embedding=full.embedding or 0,
        encoder_layers=full.encoder_layers or 0,
        decoder_layers=full.decoder_layers or 0,
        bidirectional=full.bidirectional,
        residual=full.residual,
        bridge=full.bridge,
        attention=full.attention,
        values=full.values,
        relative_positions=full.relative_positions or 0,
        feed=full.feed,
        tie=full.tie or "none",
        dropout=full.dropout or 0.0,
        dropout_over_time=full.dropout_over_time,
        recurrent_dropout=full.recurrent_dropout,
        word_dropout=full.word_dropout,
    )
    return Recipe(
        model=model,
        options=full,
        chosen=frozenset(chosen),
        total_steps=total,
        why=_explain(full, chosen, data),
    )


def _explain(full: TrainOptions, chosen: Mapping[str, Any], data: DataFacts) -> dict[str, str]:
    shown = [
        "cell",
        "attention",
        "relative_positions",
        "feed",
        "hidden",
        "embedding",
        "encoder_layers",
        "decoder_layers",
        "tie",
        "dropout",
        "word_dropout",
        "batch_tokens",
        "learning_rate",
        "warmup_steps",
        "schedule",
        "epochs",
        "max_steps",
        "max_minutes",
        "validate_every",
        "patience",
    ]
    reason = f"for {counted(data.pairs, 'string' if data.strings else 'pair')}"
    if not data.strings:  # how often they are seen is as important
        reason += f", {full.max_minutes:g} min" if full.max_minutes is not None else ""
        for name, unit in (("max_steps", "update"), ("epochs", "epoch")):
            if name not in chosen and getattr(full, name) is not None:
                reason += f", {counted(getattr(full, name), unit)}"
    others = {
        "tie": "one vocabulary" if data.joint else "two vocabularies",
        "patience": "without --max-steps and --max-minutes",
    }
    texts = {}
    for name in shown:
        value = getattr(full, name)
        if value is not None:
            texts[name] = f"{value:g}" if isinstance(value, float) else str(value)
            if name in chosen:
                texts[name] += " (as before)" if name in full.filled else f" ({others.get(name, reason)})"
    return texts
