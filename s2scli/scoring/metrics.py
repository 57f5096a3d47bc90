"""The metrics by name: sacreBLEU's, and those for short strings in the same form.

All of them are sacreBLEU ``Metric`` objects, so that one way of resampling serves all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s2scli.errors import S2SError, UsageError, nearest

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

HIGHER_IS_BETTER = {
    "bleu": True,
    "chrf": True,
    "chrf++": True,
    "ter": False,
    "acc": True,
    "wer": False,
    "per": False,
    "cer": False,
}
"""The names of all metrics."""
OF_SENTENCES = "bleu,chrf,ter"
"""What is scored if nothing else is asked for."""
OFFLINE_TOKENIZERS = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")
"""sacreBLEU's tokenizers without those for which it would download a model."""


@dataclass(frozen=True, kw_only=True)
class MetricScore:
    """One metric of one system over a set of lines.

    Attributes:
        metric: Its name in ``--metrics``.
        name: Its name for people, as sacreBLEU writes it.
        score: In percent (BLEU, chrF and TER: points), as sacreBLEU gives it.
        low, high: The interval that holds 95 % of the bootstrap resamples; None without resampling.
        mean: The mean of the resamples. sacreBLEU prints it as μ, beside half the width of the interval.
        p_value: Of a paired test against the first system; None for that one and without a test.
        details: Of BLEU its precisions, brevity penalty and lengths.
        signature: What the score was computed with.
    """

    metric: str
    name: str
    score: float
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    p_value: float | None = None
    details: str = ""
    signature: str


def parse_metrics(metrics: str) -> list[str]:
    """The names in ``--metrics``, each once.

    Raises:
        UsageError: A name that is none, or no name.
    """
    names = [name.strip().lower() for name in metrics.split(",") if name.strip()]
    if not names:
        raise UsageError("no metric is named", where="--metrics", hint=nearest("", HIGHER_IS_BETTER))
    for name in names:
        _check_name(name)
    return list(dict.fromkeys(names))


def _check_name(name: str) -> None:
    if name not in HIGHER_IS_BETTER:
        hint = nearest(name, HIGHER_IS_BETTER)
        if all(part in HIGHER_IS_BETTER for part in name.split()):
            hint = f"Separate them by commas: {','.join(name.split())}."
        raise UsageError(f"there is no metric '{name}'", where="--metrics", hint=hint)


def check_tokenizer(name: str | None) -> None:
    """Refuse a tokenizer that sacreBLEU does not have, or would have to download."""
    if name is not None and name not in OFFLINE_TOKENIZERS:
        raise UsageError(
            f"'{name}' is not a tokenizer that works without a download",
            where="--tokenize",
            hint=nearest(name, OFFLINE_TOKENIZERS),
        )


def make_metric(
    name: str, *, tokenize: str | None = None, lowercase: bool = False, sentences: bool = False
) -> Metric:
    """A metric with the defaults of sacreBLEU's command line.

    Of these TER's is to ignore case, so ``lowercase`` changes nothing there.

    Args:
        name: One of ``HIGHER_IS_BETTER``.
        tokenize: BLEU's tokenizer; None is sacreBLEU's default.
        lowercase: Score without regard to case.
        sentences: For sentences one by one, where BLEU counts only n-grams that the sentence is
            long enough to have (sacreBLEU's ``--sentence-level`` does the same).

    Raises:
        UsageError: A name that is none.
    """
    _check_name(name)
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    from s2scli.scoring.strings import STRING_METRICS

    if name in STRING_METRICS:
        return STRING_METRICS[name](lowercase=lowercase)
    if name in ("chrf", "chrf++"):
        return CHRF(word_order=2 if name == "chrf++" else 0, lowercase=lowercase)
    if name == "ter":
        return TER()
    check_tokenizer(tokenize)
    try:
        return BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=sentences)
    except (ImportError, RuntimeError) as error:
        raise S2SError(
            f"the tokenizer '{tokenize}' needs a package that is not installed",
            where="--tokenize",
            hint=f"pip install 'sacrebleu[{(tokenize or '')[:2]}]'",
        ) from error


def details(result: Any) -> str:
    """Of BLEU its n-gram precisions, brevity penalty and lengths in tokens; of others nothing."""
    if not hasattr(result, "precisions"):
        return ""
    precisions = "/".join(f"{p:.1f}" for p in result.precisions)
    return f"{precisions}, BP {result.bp:.3f}, {result.sys_len:,} tokens, reference {result.ref_len:,}"


def stripped(lines: Iterable[str]) -> list[str]:
    """Lines without white space at their ends: sacreBLEU's command line strips it, and so do we."""
    return [line.rstrip() for line in lines]


def check_lengths(first: str, count: int, second: str, other: int) -> None:
    """Refuse two texts that cannot belong to each other line by line."""
    if count != other:
        raise S2SError(
            f"{first} has {count:,} lines and {second} has {other:,}",
            hint="Line n of one must belong to line n of the other.",
        )


def check_references(lines: int, references: Sequence[Sequence[str]]) -> None:
    """Refuse references that do not belong to so many lines of hypotheses, and no lines at all."""
    if not lines:
        raise S2SError("there are no hypotheses to score")
    if not references:
        raise S2SError("there is no reference to score against")
    for number, reference in enumerate(references, 1):
        check_lengths("a system", lines, f"reference {number}", len(reference))
