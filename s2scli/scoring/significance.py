"""Intervals and p-values from resampling: sacreBLEU's tests, a few resamples at a time.

For sacreBLEU's metrics the draws, the arithmetic and so the numbers are those of ``sacrebleu.significance``,
which the tests compare with its command line. Its own functions hold resamples times lines times statistics
in memory at once (7 GB for chrF on 100,000 lines) and cannot tell how far they are. Here memory does not
grow with the number of resamples, all systems share one set of resamples, and progress is told.

Sources: Koehn 2004 (paired bootstrap), Riezler and Maxwell 2005 (approximate randomization).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

Statistics: TypeAlias = Sequence[Sequence[float]]
"""What a metric counts in each line: (lines, k)."""
DRAWS_AT_ONCE = 1 << 21
"""Random numbers that are held in memory at a time, about."""
_ROUNDING = 1e-6
"""Points between scores that are equal but for the last bits of their sums."""


def _portions(total: int, lines: int, multiple: int = 1) -> Iterator[int]:
    """``total`` resamples in portions that are multiples of ``multiple``, but for the last."""
    size = max(1, DRAWS_AT_ONCE // lines // multiple) * multiple
    for begin in range(0, total, size):
        yield min(size, total - begin)


def bootstrap(
    metrics: Sequence[Metric],
    statistics: Sequence[Sequence[Statistics]],
    *,
    resamples: int,
    seed: int | None,
    done: Callable[[int], None],
) -> list[list[NDArray[Any]]]:
    """The scores of resamples of the lines, drawn with replacement, the same ones for all systems.

    Args:
        metrics: M metrics.
        statistics: For each metric and each system its statistics, (lines, k).
        resamples: R, how many to draw.
        seed: Of the draw; None draws anew each time.
        done: Told the number of resamples since it was told last.

    Returns:
        For each metric and each system, R scores.
    """
    # Single precision, in which sacreBLEU sums resamples too: the same digits are wanted.
    arrays = [[np.array(system, dtype=np.float32) for system in systems] for systems in statistics]
    scores: list[list[list[Any]]] = [[[] for _ in systems] for systems in statistics]
    lines = len(statistics[0][0])
    generator = np.random.default_rng(seed)
    for portion in _portions(resamples, lines):
        for rows in generator.choice(lines, size=(portion, lines), replace=True):
            for metric, systems, found in zip(metrics, arrays, scores, strict=True):
                for array, samples in zip(systems, found, strict=True):
                    samples.append(metric._compute_score_from_stats(array[rows].sum(0)).score)
        done(portion)
    return [[np.array(samples) for samples in found] for found in scores]


def interval(samples: NDArray[Any]) -> tuple[float, float]:
    """The bounds within which 95 % of the samples lie: all but a fortieth at either end."""
    ordered = np.sort(samples)
    cut = len(ordered) // 40
    return float(ordered[cut]), float(ordered[len(ordered) - cut - 1])


def p_value(by_chance: NDArray[Any], difference: float, *, ties: bool) -> float:
    """The share of differences by chance that are larger, the observed one counted among them.

    Args:
        by_chance: Without their signs.
        difference: The observed one, without its sign.
        ties: Count those that are as large too, as Riezler and Maxwell do. sacreBLEU does not, which matters
            to its metrics where few lines differ; the share of lines that are right has few values, and
            many ties.
    """
    larger = by_chance > difference - _ROUNDING if ties else by_chance > difference
    return (int(np.sum(larger)) + 1) / (len(by_chance) + 1)


def paired_bootstrap(baseline: NDArray[Any], system: NDArray[Any], difference: float, *, ties: bool) -> float:
    """The p-value of a difference in score, from the scores of both on the same resamples (R,).

    The differences between resamples, moved so that their mean is zero, are what chance does. sacreBLEU
    takes away their signs first; where ties count, that is left until the end.
    """
    differences = system - baseline
    if ties:
        return p_value(np.abs(differences - differences.mean()), difference, ties=True)
    differences = np.abs(differences)
    return p_value(differences - differences.mean(), difference, ties=False)


def approximate_randomization(
    metric: Metric,
    baseline: Statistics,
    system: Statistics,
    difference: float,
    *,
    ties: bool,
    trials: int,
    seed: int | None,
    done: Callable[[int], None],
) -> float:
    """The p-value of a difference in score, from systems whose lines are exchanged at random.

    Args:
        metric: The metric.
        baseline, system: Statistics of both systems, (lines, k).
        difference: Between the two scores, without its sign.
        ties: See `p_value`.
        trials: How often to exchange.
        seed: Of the draw; None draws anew each time.
        done: Told the number of trials since it was told last.
    """
    one, two = np.array(baseline), np.array(system)
    generator = np.random.default_rng(seed)
    by_chance: list[Any] = []
    # The generator makes truth values of 32 bits at a time: other portions would be other draws.
    for portion in _portions(trials, len(one), multiple=32):
        chosen = generator.integers(2, size=(portion, len(one)), dtype=bool)
        # As real numbers, which multiply fast and are exact for counts.
        left, right = chosen.astype(np.float64), (~chosen).astype(np.float64)
        first = (left @ one.astype(np.float64) + right @ two.astype(np.float64)).astype(one.dtype)
        second = (right @ one.astype(np.float64) + left @ two.astype(np.float64)).astype(one.dtype)
        for a, b in zip(first, second, strict=True):
            scores = (metric._compute_score_from_stats(row).score for row in (a, b))
            by_chance.append(abs(next(scores) - next(scores)))
        done(portion)
    return p_value(np.array(by_chance), difference, ties=ties)
