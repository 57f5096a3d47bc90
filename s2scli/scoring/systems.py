"""Scores of one system or several, over all lines and line by line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Progress, silent
from s2scli.scoring.metrics import MetricScore, check_references, details, make_metric, stripped

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

Significance = Literal["bootstrap", "randomization", "none"]
SEED = 12345
RESAMPLES = 1000
TRIALS = 10_000
"""sacreBLEU's own defaults."""
LINES_AT_ONCE = 64
"""Lines between two reports of progress."""


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How intervals and p-values are found.

    Attributes:
        resamples: Of the bootstrap; 0: no intervals, and no paired bootstrap test.
        significance: The paired test of each system against the first.
        trials: Of approximate randomization.
        seed: Of the draws; None draws anew each time.
    """

    resamples: int = RESAMPLES
    significance: Significance = "bootstrap"
    trials: int = TRIALS
    seed: int | None = SEED


def score_system(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    *,
    tokenize: str | None = None,
    lowercase: bool = False,
    resamples: int = RESAMPLES,
    seed: int | None = SEED,
    listen: Listener = silent,
) -> list[MetricScore]:
    """The scores of one system over all lines, one for each metric.

    Args:
        hypotheses: Its lines.
        references: Lists of as many reference lines.
        metrics: Names; see ``HIGHER_IS_BETTER``.
        tokenize: BLEU's tokenizer; None is sacreBLEU's default.
        lowercase: Score without regard to case.
        resamples: Bootstrap resamples for the intervals; 0: no intervals.
        seed: Of the resamples.
        listen: Told the progress.

    Raises:
        S2SError: Different numbers of lines, or none.
    """
    resampling = Resampling(resamples=resamples, seed=seed)
    return score_systems(
        [hypotheses],
        references,
        metrics,
        tokenize=tokenize,
        lowercase=lowercase,
        resampling=resampling,
        listen=listen,
    )[0]


def score_systems(
    systems: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    *,
    tokenize: str | None = None,
    lowercase: bool = False,
    resampling: Resampling = Resampling(),
    listen: Listener = silent,
) -> list[list[MetricScore]]:
    """The scores of each system, with intervals, and with p-values against the first.

    The other arguments and the errors are those of ``score_system``.
    """
    if not systems:
        raise S2SError("there are no hypotheses to score")
    for hypotheses in systems:
        check_references(len(hypotheses), references)
    if isinstance(metrics, str) or not metrics:
        raise UsageError("metrics are a list of names, at least one", where="--metrics")
    if resampling.resamples < 0:
        raise UsageError(f"there cannot be {resampling.resamples} resamples", where="--resamples")
    made = [make_metric(name, tokenize=tokenize, lowercase=lowercase) for name in metrics]
    statistics = _statistics(made, systems, references, listen)
    results = [
        [metric._aggregate_and_compute(system) for system in of]
        for metric, of in zip(made, statistics, strict=True)
    ]
    intervals, means, p_values = _resampled(made, statistics, results, resampling, listen)
    scores: list[list[MetricScore]] = [[] for _ in systems]
    for m, (name, metric) in enumerate(zip(metrics, made, strict=True)):
        signature = _signature(metric, resampling, paired=len(systems) > 1)
        for s, result in enumerate(results[m]):
            low, high = intervals[m][s] if intervals else (None, None)
            scores[s].append(
                MetricScore(
                    metric=name,
                    name=result.name,
                    score=float(result.score),
                    low=low,
                    high=high,
                    mean=means[m][s] if means else None,
                    p_value=p_values[m][s] if p_values else None,
                    details=details(result),
                    signature=signature,
                )
            )
    return scores


def _statistics(
    metrics: Sequence[Metric],
    systems: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    listen: Listener,
) -> list[list[list[list[float]]]]:
    """What each metric counts in each line of each system: (metrics, systems, lines, k)."""
    bare, given = [stripped(reference) for reference in references], [stripped(s) for s in systems]
    found: list[list[list[list[float]]]] = [[[] for _ in systems] for _ in metrics]
    lines, each = len(bare[0]), len(metrics) * len(systems)
    for begin in range(0, lines, LINES_AT_ONCE):
        listen(Progress(task="Scoring", done=begin * each, total=lines * each, unit="lines"))
        part = slice(begin, begin + LINES_AT_ONCE)
        for metric, of in zip(metrics, found, strict=True):
            for hypotheses, counted in zip(given, of, strict=True):
                counted += metric._extract_corpus_statistics(hypotheses[part], [r[part] for r in bare])
    listen(Progress(task="Scoring", done=lines * each, total=lines * each, unit="lines"))
    return found


def _resampled(
    metrics: Sequence[Metric],
    statistics: Sequence[Sequence[Any]],
    results: Sequence[Sequence[Any]],
    resampling: Resampling,
    listen: Listener,
) -> tuple[list[list[tuple[float, float]]], list[list[float]], list[list[float | None]]]:
    """Intervals, means and p-values, each (metrics, systems), or empty where they are not asked for."""
    from s2scli.scoring import significance as test
    from s2scli.scoring.strings import StringMetric

    others = len(statistics[0]) - 1
    randomize = resampling.significance == "randomization" and others > 0
    total = resampling.resamples + randomize * others * len(metrics) * resampling.trials
    passed = 0

    def done(count: int) -> None:
        nonlocal passed
        passed += count
        listen(Progress(task="Resampling", done=passed, total=total, unit="resamples"))

    intervals: list[list[tuple[float, float]]] = []
    means: list[list[float]] = []
    p_values: list[list[float | None]] = []
    if total:
        done(0)
    if resampling.resamples:
        samples = test.bootstrap(
            metrics, statistics, resamples=resampling.resamples, seed=resampling.seed, done=done
        )
        intervals = [[test.interval(system) for system in of] for of in samples]
        means = [[float(system.mean(dtype=float)) for system in of] for of in samples]
    if others and (randomize or (resampling.resamples and resampling.significance == "bootstrap")):
        for m, metric in enumerate(metrics):
            ties = isinstance(metric, StringMetric)  # the others are to have sacreBLEU's own p-values
            p_values.append([None])
            for s in range(1, others + 1):
                difference = abs(results[m][0].score - results[m][s].score)
                if not randomize:
                    one, other = samples[m][0], samples[m][s]
                    p_values[m].append(test.paired_bootstrap(one, other, difference, ties=ties))
                    continue
                p_values[m].append(
                    test.approximate_randomization(
                        metric,
                        statistics[m][0],
                        statistics[m][s],
                        difference,
                        ties=ties,
                        trials=resampling.trials,
                        seed=resampling.seed,
                        done=done,
                    )
                )
    return intervals, means, p_values


def _signature(metric: Metric, resampling: Resampling, *, paired: bool) -> str:
    """The metric's signature with what was resampled, as sacreBLEU's command line writes it."""
    signature = metric.get_signature()
    if resampling.resamples:
        signature.update("bs", resampling.resamples)
    if paired and resampling.significance == "randomization":
        signature.update("ar", resampling.trials)
    if signature.info["bs"] or signature.info["ar"]:
        signature.update("seed", str(resampling.seed).lower())
    return str(signature.format())


def sentence_scores(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    metric: str,
    *,
    tokenize: str | None = None,
    lowercase: bool = False,
) -> list[float]:
    """The score of each line by itself, as ``sacrebleu --sentence-level`` gives it.

    The arguments and the errors are those of ``score_system``.
    """
    check_references(len(hypotheses), references)
    made = make_metric(metric, tokenize=tokenize, lowercase=lowercase, sentences=True)
    lines = zip(stripped(hypotheses), *map(stripped, references), strict=True)
    return [float(made.sentence_score(line, wanted).score) for line, *wanted in lines]
