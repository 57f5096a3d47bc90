"""What is asked of a search, and the translations that come of it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Self, get_type_hints

import numpy as np
from numpy.typing import NDArray

from s2scli.config import Options, TranslateOptions
from s2scli.errors import UsageError
from s2scli.model import Hypothesis
from s2scli.resolve import check_range, convert, flag

LENGTH_RATIO = 3.0
"""Target tokens for each source token that a hypothesis may have, at least…"""
MOST_RATIO = 100.0
"""…at most, whatever the training pairs are…"""
SLACK = 10
"""…and beyond the ratio, so that very short sources are not cut."""


def length_ratio(source_lengths: NDArray[np.integer], target_lengths: NDArray[np.integer]) -> float:
    """The ratio that leaves room for 999 of 1,000 targets of the training pairs, and a fifth more.

    Some strings are much longer on the other side: numbers in words, abbreviations, names of emoji.

    Args:
        source_lengths: Tokens without EOS.
        target_lengths: Of the same pairs.
    """
    needed = (target_lengths.astype(np.int64) + 1 - SLACK) / (source_lengths.astype(np.int64) + 1)
    return min(MOST_RATIO, max(LENGTH_RATIO, round(1.2 * float(np.quantile(needed, 0.999)), 1)))


@cache
def _kinds() -> dict[str, Any]:
    """The types of the fields below; to find them out takes longer than some translations."""
    return get_type_hints(SearchOptions)


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How to search; the fields mean what the options of ``s2s translate`` of the same name mean."""

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    beam_threshold: float | None = None
    max_length_ratio: float | None = None
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 1
    attention: bool = False

    @classmethod
    def of(cls, options: Options, **changes: Any) -> Self:
        """The fields that the options of a command have, by name, and the changes."""
        known = {f.name: getattr(options, f.name) for f in fields(cls) if hasattr(options, f.name)}
        return cls(**known | changes)

    def __post_init__(self) -> None:
        kinds = _kinds()
        for field in fields(self):
            value = convert(getattr(self, field.name), kinds[field.name], field.name)
            object.__setattr__(self, field.name, value)
            if field.name != "attention":
                check_range(TranslateOptions, field.name, getattr(self, field.name), flag(field.name))
        drawing = {"temperature": 1.0, "top_k": 0, "top_p": 1.0}
        for name, default in drawing.items():
            if not self.sample and getattr(self, name) != default:
                raise UsageError(
                    "this has an effect only with --sample", where=flag(name), hint="Add --sample."
                )
        if self.beam_threshold and (self.sample or self.beam == 1):
            raise UsageError(
                "only a beam has hypotheses to give up", where="--beam-threshold", hint="Leave it out."
            )
        if self.sample and self.n_best > 1:
            raise UsageError(
                "--sample draws one translation a line", where="--n-best", hint="Leave --n-best out."
            )
        if not self.sample and self.n_best > self.beam:
            hint = f"Use --beam {self.n_best} or more."
            raise UsageError(
                f"a beam of {self.beam} has no {self.n_best} hypotheses", where="--n-best", hint=hint
            )


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a line that was translated by itself; mostly the whole line.

    Attributes:
        source: Its source ids, without EOS.
        hypothesis: Its translation; attention is (T, S), EOS included on both sides.
        inside: Whether its source, and its translation, go on with the last word of the pieces before.
        respaced: Whether its source is the line without its runs of white space.
    """

    source: tuple[int, ...]
    hypothesis: Hypothesis
    inside: tuple[bool, bool] = (False, False)
    respaced: bool = False


@dataclass(frozen=True, kw_only=True)
class Translation:
    """One hypothesis for a line.

    Attributes:
        text: The translation; it never contains a line break.
        pieces: What it is made of; none for a blank line, several for one that was split.
    """

    text: str
    pieces: tuple[Piece, ...] = ()

    @property
    def log_probability(self) -> float:
        """log p(translation | source), in nats."""
        return sum((p.hypothesis.log_probability for p in self.pieces), 0.0)

    @property
    def score(self) -> float:
        """Mean of the pieces' scores; a single piece's own."""
        return sum((p.hypothesis.score for p in self.pieces), 0.0) / max(1, len(self.pieces))

    @property
    def ids(self) -> list[int]:
        """Target ids without EOS."""
        return [i for p in self.pieces for i in p.hypothesis.tokens]
