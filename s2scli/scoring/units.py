"""What a line is counted in: words, or the characters of single words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

Unit = Literal["words", "characters"]


def unit_of(lines: Iterable[str]) -> Unit:
    """Characters where most lines that are not blank are one word, else words."""
    counts = [len(line.split()) for line in lines if line.strip()]
    return "characters" if counts and 2 * sum(count == 1 for count in counts) > len(counts) else "words"


def same_string(hypothesis: str, reference: str) -> bool:
    """Whether two lines are equal, but for how much white space stands where there is some, or around."""
    return hypothesis.split() == reference.split()


def split(line: str, unit: Unit) -> list[str]:
    """The words (what white space separates) or the characters (code points) of a line."""
    return line.split() if unit == "words" else list(line)


def without_features(sources: Sequence[str]) -> list[str]:
    """Source lines without what follows a tab, if every line that is not blank has one: tags, not text."""
    lines = [line for line in sources if line.strip()]
    if lines and all("\t" in line for line in lines):
        return [line.partition("\t")[0] for line in sources]
    return list(sources)
