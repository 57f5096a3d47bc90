"""Scores by a property of the source: its length, or how rare its rarest word is in training."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from s2scli.events import Listener, silent
from s2scli.scoring.metrics import MetricScore, check_lengths, check_references
from s2scli.scoring.systems import score_system
from s2scli.scoring.units import split, unit_of, without_features

LENGTHS = (0, 1, 3, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129)
"""Where a bin of lengths begins: the bounds double with every second one."""
FREQUENCIES = (0, 1, 2, 10, 100, 1000, 10_000)
"""Where a bin of frequencies begins."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Lines whose source has a length, or a rarest word of a frequency, from ``low`` to ``high``.

    Attributes:
        label: The bounds in words, such as "9–12".
        low, high: Both included; ``high`` is None in the last bin, which has no end.
        lines: How many there are.
        scores: Of these lines, without intervals: with few lines a score says little.
    """

    label: str
    low: int
    high: int | None
    lines: int
    scores: tuple[MetricScore, ...]


def by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    *,
    tokenize: str | None = None,
    lowercase: bool = False,
    listen: Listener = silent,
) -> list[Bin]:
    """Scores by the length of the source; bins without lines are left out.

    Lengths count words, or characters where most sources are one word; tags after a tab, which every
    source of such data has, are not counted. The other arguments are those of ``score_system``.

    Raises:
        S2SError: Different numbers of lines, or none.
    """
    texts = without_features(sources)
    unit = unit_of(texts)
    lengths = [len(split(text.strip(), unit)) for text in texts]
    return _bins(LENGTHS, lengths, hypotheses, references, metrics, tokenize, lowercase, listen)


def count_units(training: Iterable[str], sources: Sequence[str]) -> Counter[str]:
    """How often each word of the training source occurs (character, where ``sources`` are single words)."""
    bare = without_features(sources)
    unit, tagged = unit_of(bare), bare != list(sources)
    counts: Counter[str] = Counter()
    for line in training:
        text = line.split("\t", 1)[0] if tagged or unit == "characters" else line
        counts.update(split(unicodedata.normalize("NFKC", text), unit))
    return counts


def by_frequency(
    sources: Sequence[str],
    counts: Mapping[str, int],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    *,
    tokenize: str | None = None,
    lowercase: bool = False,
    listen: Listener = silent,
) -> list[Bin]:
    """Scores by the number of times that the rarest word of the source occurs in training.

    Args:
        sources: The source lines; a line without a word counts as 0.
        counts: What ``count_units`` has found.
        hypotheses, references, metrics, tokenize, lowercase, listen: As in ``score_system``.

    Raises:
        S2SError: Different numbers of lines, or none.
    """
    texts = without_features(sources)
    unit = unit_of(texts)
    # Prepared training text may be in another normal form than the source.
    words = [split(unicodedata.normalize("NFKC", text.strip()), unit) for text in texts]
    rarest = [min((counts.get(word, 0) for word in line), default=0) for line in words]
    return _bins(FREQUENCIES, rarest, hypotheses, references, metrics, tokenize, lowercase, listen)


def _bins(
    begins: Sequence[int],
    values: Sequence[int],
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    tokenize: str | None,
    lowercase: bool,
    listen: Listener,
) -> list[Bin]:
    """The bins that hold a line; bin i has the values from ``begins[i]`` to before ``begins[i + 1]``."""
    check_lengths("the source", len(values), "a system", len(hypotheses))
    check_references(len(hypotheses), references)
    bins = []
    for low, after in zip(begins, (*begins[1:], None), strict=True):
        rows = [i for i, value in enumerate(values) if value >= low and (after is None or value < after)]
        if not rows:
            continue
        scores = score_system(
            [hypotheses[i] for i in rows],
            [[reference[i] for i in rows] for reference in references],
            metrics,
            tokenize=tokenize,
            lowercase=lowercase,
            resamples=0,
            listen=listen,
        )
        high = None if after is None else after - 1
        label = f"{low:,}+" if high is None else f"{low:,}" if high == low else f"{low:,}–{high:,}"
        bins.append(Bin(label=label, low=low, high=high, lines=len(rows), scores=tuple(scores)))
    return bins
