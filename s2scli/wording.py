"""Numbers, reports and exceptions in words."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

from rich.text import Text

from s2scli.config import SPECIAL_IDS
from s2scli.errors import S2SError, counted
from s2scli.files import os_error


def visible(text: str, *, longest: int | None = None) -> Text:
    """Text that does to the terminal nothing but stand there.

    Control characters, direction marks and line separators become ``\\x1b`` and the
    like; the joiners that Persian and emoji need stay.
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    shown = []
    for character in text:
        kind = unicodedata.category(character)
        harmless = kind not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in "\u200c\u200d"
        shown.append(character if harmless else ascii(character)[1:-1])
    return Text("".join(shown), overflow="fold")


def named(symbol: str) -> str:
    """A symbol in a message: of white space, which cannot be seen, its code points."""
    return " ".join(f"U+{ord(c):04X}" for c in symbol) if symbol.isspace() else symbol


def duration(seconds: float) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 05 min``."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def perplexity(loss: float) -> str:
    """E to the loss, in as many digits as mean something."""
    if not loss < 700:
        return "inf" if loss >= 700 else "nan"
    value = math.exp(loss)
    return f"{value:.2f}" if value < 100 else f"{value:,.0f}"


METRIC_NAMES = {"bleu": "BLEU", "chrf": "chrF", "acc": "accuracy"}
"""What a development score is called; a loss is called that."""


def measure(score: float | None, metric: str) -> str:
    """``BLEU 31.20``; a loss with four digits."""
    if score is None:
        return "none"
    name = METRIC_NAMES.get(metric, metric)
    if metric == "acc":
        return f"{name} {score:.2f} %"
    return f"{name} {score:.4f}" if metric == "loss" else f"{name} {score:.2f}"


_LESS_MEMORY = {
    "preprocess": "Try a smaller --sample-size.",
    "train": "Try a smaller --batch-tokens (with a larger --accumulate the updates stay as they are), or a "
    "smaller --hidden.",
    "translate": "Try a smaller --batch-size or a smaller --beam.",
    "score": "Try a smaller --beam.",
    "report": "Try a smaller --beam.",
}


def explain(error: Exception, command: str) -> S2SError:
    """Any other exception in words."""
    text = str(error)
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "can't allocate memory" in text or "CUDA out of memory" in text:
        return S2SError("there is not enough memory for this", hint=_LESS_MEMORY.get(command))
    if isinstance(error, OSError) and error.errno is not None:
        return os_error(error)
    return S2SError(
        f"internal error: {type(error).__name__}: {text}"
        if text
        else f"internal error: {type(error).__name__}",
        hint="This is a mistake in s2s. Run it again with --debug for the traceback.",
    )


_LEFT_OUT = {
    "blank": "blank on a side",
    "ratio": "with sides of very different length (--max-ratio)",
    "overlap": "with a source of the dev or test set",
    "duplicate": "repeated",
    "too_long": "too long",
}


def report_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """What ``data/report.json`` says besides the sizes of the sets, as names and values."""
    dropped = {_LEFT_OUT.get(why, why.replace("_", " ")): n for why, n in report["dropped"].items() if n}
    left_out = f"{sum(dropped.values()):,}: " + ", ".join(f"{n:,} {why}" for why, n in dropped.items())
    rows = [("pairs read", f"{report['pairs']['read']:,}"), ("left out", left_out if dropped else "none")]
    if report["duplicates"]:
        repeated = report["dropped"].get("duplicate")
        fate = "left out" if repeated else "kept (--drop-duplicates leaves them out)"
        rows.append(("repeated pairs", f"{report['duplicates']:,}, {fate}"))
    names = {"dev": "development", "test": "test"}
    for name in report["held_out"]:
        rows.append((f"{names[name]} set", "held out of the training data"))
    rows += _tokenizer_facts(report["tokenizer"], report["unknown"])
    forms = report["normalize"]
    same = forms["source"] == forms["target"]
    form = forms["source"] if same else f"{forms['source']} (source), {forms['target']} (target)"
    return [*rows, ("normal form", form)]


_UNITS = {"character": "characters", "codepoint": "code points", "symbol": "symbols", "word": "words"}
"""Kinds of token with a closed inventory, in words."""


def _tokenizer_facts(facts: dict[str, Any], unknown: dict[str, Any]) -> list[tuple[str, str]]:
    """What the tokens are, how many there are, and what has none."""
    units = (facts["units"]["source"], facts["units"]["target"])
    tags = (facts["tags"], facts["tags"] if facts["joint"] else 0)
    sizes = (facts["source_vocab"], facts["target_vocab"])
    closed = [unit in _UNITS for unit in units]
    texts = []
    for unit, size, other in zip(units, sizes, tags, strict=True):
        if unit in _UNITS:  # their own number says more than that of all ids
            texts.append(f"{size - SPECIAL_IDS - other:,} {_UNITS[unit]}")
        else:
            texts.append(f"{unit}, a vocabulary of {size:,}")
    if facts["joint"]:
        text = f"{texts[0]} for both sides".replace("a vocabulary", "one vocabulary")
    elif any(closed):
        text = f"{texts[0]} (source), {texts[1]} (target)"
    else:
        text = f"{units[0]}, vocabularies of {sizes[0]:,} (source) and {sizes[1]:,} (target)"
    rows = [("tokenizer", text)]
    if facts["features"]:
        rows.append(("features", f"{counted(facts['tags'], 'different tag')}"))
    if any(closed):
        missing = [
            f"{found['tokens']:,} on the {name} {side}"
            for name, both in unknown.items()
            for side, found in both.items()
            if found["tokens"]
        ]
        rows.append(("unknown", ", ".join(missing) or "none"))
    return rows


def amount(number: float, unit: str) -> str:
    """``12,345 lines``; bytes in MB."""
    return f"{number / 1e6:,.1f} MB" if unit == "bytes" else f"{number:,.0f} {unit}"
