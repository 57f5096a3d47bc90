"""Metrics for short strings such as pronunciations and inflected forms, and which symbols go wrong.

- ``acc``: percent of lines that are exactly a reference, but for how much white space stands where.
- ``wer``: percent of lines that are not, as in the SIGMORPHON shared tasks on grapheme-to-phoneme
  conversion (Gorman et al. 2020, section 4), where a line is one word.
- ``per``: edits of symbols per hundred symbols of the references (phoneme error rate). Symbols are
  what white space separates.
- ``cer``: edits of characters (Unicode code points, spaces included) per hundred characters.

An edit is a symbol substituted, inserted or deleted (Levenshtein 1966); rapidfuzz counts them.
With several references the nearest one counts: that with the fewest edits, of these the longest.
An empty line among several references stands for "none", so that lines may have fewer of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rapidfuzz.distance import Levenshtein
from sacrebleu.metrics.base import Metric, Score, Signature

import s2scli
from s2scli.scoring.units import Unit, same_string, split


class _StringSignature(Signature):
    """What sacreBLEU writes of its own metrics, with our version."""

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__(args)
        self.info["case"] = "lc" if args["lowercase"] else "mixed"
        self.info["unit"] = args["counted"]
        self.info["version"] = f"s2scli-{s2scli.__version__}"


class StringMetric(Metric):
    """A percentage: what is counted in a line, over what could be.

    The statistics of a line are those two numbers. If nothing could be counted because all references
    are empty, the score is 0 for empty hypotheses and else 100, as with sacreBLEU's TER.
    """

    _SIGNATURE_TYPE = _StringSignature
    title: str
    unit: str

    def __init__(self, *, lowercase: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lowercase = lowercase
        self.counted = self.unit  # a signature sees the attributes of the object alone

    def _preprocess_segment(self, sent: str) -> str:
        return sent.lower() if self.lowercase else sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": [r for r in refs if r.strip()] or [""]}

    def _compute_score_from_stats(self, stats: Sequence[float]) -> Score:
        counted, possible = float(stats[0]), float(stats[1])
        share = counted / possible if possible else float(counted > 0)
        return Score(self.title, 100 * share)

    def _aggregate_and_compute(self, stats: Sequence[Sequence[float]]) -> Score:
        return self._compute_score_from_stats([sum(column) for column in zip(*stats, strict=True)])


class Accuracy(StringMetric):
    """Share of lines that are exactly a reference."""

    title, unit = "Acc", "line"

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[int]:
        return [int(any(same_string(hypothesis, r) for r in ref_kwargs["references"])), 1]


class WordErrors(StringMetric):
    """Share of lines that are not exactly a reference."""

    title, unit = "WER", "line"

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[int]:
        return [int(not any(same_string(hypothesis, r) for r in ref_kwargs["references"])), 1]


class SymbolErrors(StringMetric):
    """Edits of symbols over symbols of the nearest reference."""

    title, unit = "PER", "symbol"
    split: Callable[[str], Sequence[str]] = staticmethod(str.split)

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[int]:
        symbols = self.split(hypothesis)
        distances = [(Levenshtein.distance(symbols, r), r) for r in map(self.split, ref_kwargs["references"])]
        edits, reference = min(distances, key=lambda d: (d[0], -len(d[1])))
        return [edits, len(reference)]


class CharacterErrors(SymbolErrors):
    """Edits of characters over characters of the nearest reference."""

    title, unit = "CER", "character"
    split = staticmethod(str)


STRING_METRICS: dict[str, Callable[..., StringMetric]] = {
    "acc": Accuracy,
    "wer": WordErrors,
    "per": SymbolErrors,
    "cer": CharacterErrors,
}


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A symbol error and how often it occurs.

    Attributes:
        reference: The symbol that should stand there; None if there should be none (an insertion).
        hypothesis: The symbol that stands there instead; None if there is none (a deletion).
        count: How often.
        occurrences: How often the reference's symbol occurs in all; of an insertion, how often the
            hypothesis's symbol occurs in the hypotheses.
    """

    reference: str | None
    hypothesis: str | None
    count: int
    occurrences: int


def confusions(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    unit: Unit,
    most: int,
    lowercase: bool = False,
) -> list[Confusion]:
    """The most frequent symbol errors, the most frequent first.

    Each line is aligned with its nearest reference with the fewest edits. Where several alignments
    have as few, rapidfuzz's choice decides, always in the same way.

    Args:
        hypotheses: The lines of one system.
        references: Lists of reference lines.
        unit: What a symbol is: a word (what white space separates) or a character.
        most: How many errors to give.
        lowercase: Compare without regard to case.
    """
    errors: Counter[tuple[str | None, str | None]] = Counter()
    written: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for line, *lines in zip(hypotheses, *references, strict=True):
        if lowercase:
            line, lines = line.lower(), [r.lower() for r in lines]
        hypothesis = split(line.rstrip(), unit)
        filled = [split(r.rstrip(), unit) for r in lines if r.strip()] or [[]]
        reference = min(filled, key=lambda r: (Levenshtein.distance(hypothesis, r), -len(r)))
        written.update(hypothesis)
        wanted.update(reference)
        errors.update(_errors(reference, hypothesis))
    found = sorted(errors.items(), key=lambda item: (-item[1], item[0][0] or "", item[0][1] or ""))
    return [
        Confusion(
            reference=reference,
            hypothesis=hypothesis,
            count=count,
            occurrences=written[hypothesis or ""] if reference is None else wanted[reference],
        )
        for (reference, hypothesis), count in found[:most]
    ]


def _errors(reference: list[str], hypothesis: list[str]) -> Iterable[tuple[str | None, str | None]]:
    for edit in Levenshtein.editops(reference, hypothesis):
        yield (
            None if edit.tag == "insert" else reference[edit.src_pos],
            None if edit.tag == "delete" else hypothesis[edit.dest_pos],
        )
