"""What the lines of a side look like: single words, symbols with separators, or sentences.

Strings are a table of words (pronunciations, inflected forms, names) rather than of
sentences. Sentences must never be taken for strings, so every condition has to hold.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np

from s2scli.config import Unit
from s2scli.segmentation import CHARACTERS, ENDING, Segmentation

Look = Literal["words", "symbols", "text"]
"""What the lines of a side look like."""

SINGLE = 0.95
"""Share of lines without a space, at least, where a side holds words…"""
SINGLE_WITH_FEATURES = 0.5
"""…and where a column of features says that its lines are lemmas or forms."""
LONGEST_WORD = (16, 32)
"""Median and 95th percentile of the length of words, in code points, at most…"""
LONGEST_UNSPACED_WORD = (6, 12)
"""…and in scripts that write sentences without spaces too."""
ENDINGS = 0.02
"""Share of lines that may end as a sentence does."""
INVENTORY = 300
"""Different symbols at most; there are some hundred phonemes with stress and length, and more words…"""
REPETITION = 5
"""…and how often a symbol occurs at least, on average…"""
SYMBOL_LENGTH = 2.5
"""…and its mean length at most, marks not counted; those of words are longer."""
SEVERAL = 0.8
"""Share of lines with two symbols or more, at least."""
DISTINCT = 0.5
"""Share of the words that differ from one another, at least, where the other side holds symbols:
a handful of words that come again and again are labels…"""
DISTINCT_LINES = 100_000
"""…and the number of lines, from the first on, that are compared for this."""
HANGUL = 0.1
"""Share of Hangul among the characters of a side, at least, for it to be taken apart."""

# Katakana is left out: it writes foreign words and names, hardly ever a whole sentence.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
)
_SPACES = re.compile(" +")
_HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7a3]")
_MARKS = re.compile("[\u0300-\u036f\u02b0-\u02ff]")


class SideStatistics:
    """Counts of the lines of one side, blank ones left out.

    Args:
        separator: Of symbols.
    """

    def __init__(self, separator: str = " ") -> None:
        self.separator = separator
        self.lines = self.single = self.several = self.ended = self.odd = self.separated = 0
        self.characters = self.unspaced = self.hangul = self.neither = 0
        self.lengths: Counter[int] = Counter()
        self.symbols: Counter[str] = Counter()
        self.distinct: set[str] = set()

    def add(self, lines: Sequence[str]) -> None:
        """Count lines."""
        for line in filter(None, map(str.strip, lines)):
            parts = line.split()
            self.lines += 1
            self.single += len(parts) == 1
            self.several += len(parts) > 1
            self.odd += len(parts) != len(_SPACES.split(line))
            self.ended += bool(ENDING.search(line))
            self.separated += self.separator in line
            self.characters += len(line)
            self.lengths[len(line)] += 1
            if self.lines <= DISTINCT_LINES:
                self.distinct.add(line)
            if len(self.symbols) <= INVENTORY:
                symbols = parts if self.separator.isspace() else line.split(self.separator)
                self.symbols.update(symbol.strip() or symbol for symbol in symbols if symbol)
            if not line.isascii():
                self.neither += not any(unicodedata.is_normalized(form, line) for form in ("NFC", "NFD"))
                self.unspaced += len(_UNSPACED.findall(line))
                self.hangul += len(_HANGUL.findall(line))

    @property
    def has_hangul(self) -> bool:
        return self.hangul >= HANGUL * max(1, self.characters)

    def words(self, share: float) -> bool:
        """Whether the lines are single words, or at least ``share`` of them."""
        if not self.lines or self.single < share * self.lines or self.ended > ENDINGS * self.lines:
            return False
        limits = LONGEST_UNSPACED_WORD if self.unspaced > 0.3 * self.characters else LONGEST_WORD
        lengths = np.repeat(list(self.lengths), list(self.lengths.values()))
        found = np.percentile(lengths, (50, 95), method="lower")
        return bool((found <= limits).all())

    def are_symbols(self) -> bool:
        """Whether the lines are symbols of a small inventory with plain spaces between."""
        tokens = self.symbols.total()
        if not self.lines or not 0 < len(self.symbols) <= INVENTORY:
            return False
        letters = sum(len(_MARKS.sub("", symbol)) * n for symbol, n in self.symbols.items())
        return (
            self.several >= SEVERAL * self.lines
            and self.odd <= 0.01 * self.lines
            and tokens >= REPETITION * len(self.symbols)
            and letters <= SYMBOL_LENGTH * tokens
        )

    @property
    def composite(self) -> bool:
        """Whether more different characters are made of several code points than there are code points.

        So it is where signs for vowels are joined to consonants, as in Devanagari, or pointed Hebrew: most
        of such characters are too rare to be learnt as wholes, and what they are made of is not.
        """
        characters = Segmentation(kind="character")
        lines = characters.normal(line for line in self.distinct if not line.isascii())
        made = {c for line in lines for c in characters.split(line) if len(c) > 1}
        return len(made) > len(set().union(*lines))

    @property
    def varied(self) -> bool:
        """Whether most lines differ from one another."""
        return len(self.distinct) >= DISTINCT * min(self.lines, DISTINCT_LINES)


def look(
    source: SideStatistics, target: SideStatistics, *, units: tuple[Unit, Unit], features: bool
) -> tuple[Look, Look]:
    """What the sides look like: words and words, words and symbols (either way), or text and text.

    A side whose unit is given is taken to be what the unit says.
    """
    share = SINGLE_WITH_FEATURES if features else SINGLE
    sides = (source, target)
    words = [unit in CHARACTERS or side.words(share) for unit, side in zip(units, sides, strict=True)]
    if all(words):
        return "words", "words"
    symbols = [
        unit == "symbol" or (side.are_symbols() and other.varied)
        for unit, side, other in zip(units, sides, (target, source), strict=True)
    ]
    if words[0] and symbols[1]:
        return "words", "symbols"
    if symbols[0] and words[1]:
        return "symbols", "words"
    return "text", "text"
