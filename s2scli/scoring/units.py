"""What a line is counted in: words, or the characters of single words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from s2scli.segmentation import ENDING

if TYPE_CHECKING:
    from s2scli.tokenizer import Tokenizer

Unit = Literal["words", "characters"]


def unit_of(lines: Iterable[str]) -> Unit:
    """Characters where most lines that are not blank are one word, else words."""
    counts = [len(line.split()) for line in lines if line.strip()]
    return "characters" if counts and 2 * sum(count == 1 for count in counts) > len(counts) else "words"


def of_strings(tokenizer: Tokenizer, sources: Sequence[str], references: Sequence[str]) -> bool:
    """Whether what a model reads and writes are short strings, not sentences, which may be split alike.

    Args:
        tokenizer: The model's; both sides are split into characters or symbols.
        sources, references: Lines that it was made for, such as the development set. On one side at least
            they are symbols, or look like no sentences.
    """
    sides = (tokenizer.source, tokenizer.target)
    texts = (without_features(sources), references)
    return all(side.strings for side in sides) and any(
        side.segmentation.kind == "symbol" or not _sentences(lines)
        for side, lines in zip(sides, texts, strict=True)
    )


def _sentences(lines: Iterable[str]) -> bool:
    """Whether most lines that are not blank have four words or more, or end as sentences do."""
    found = [len(line.split()) > 3 or bool(ENDING.search(line)) for line in map(str.strip, lines) if line]
    return 2 * sum(found) > len(found)


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
