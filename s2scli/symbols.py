"""A closed inventory of symbols: words, characters or phonemes, each with an id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from s2scli.config import UNK
from s2scli.segmentation import CHARACTERS, Segmentation
from s2scli.vocabulary import SPECIALS

FIRST = len(SPECIALS)
"""Id of the first symbol."""
MOST_TYPES = 2_000_000
"""Different symbols counted at a time: beyond that, those that occurred once so far are forgotten."""
REPLACEMENT = "\ufffd"
"""Stands for an unknown character in text."""


class Symbols:
    """The symbols of one side, with ids from `FIRST` on in the order given.

    Raises:
        ValueError: A symbol that occurs twice or is empty.
    """

    def __init__(self, symbols: Sequence[str], segmentation: Segmentation) -> None:
        if not all(isinstance(symbol, str) for symbol in symbols):
            raise ValueError("a symbol is not text")
        self.definition = list(symbols)
        self.segmentation = segmentation
        self._ids = {symbol: FIRST + i for i, symbol in enumerate(self.definition)}
        if len(self._ids) < len(self.definition) or "" in self._ids:
            raise ValueError("a symbol is empty or occurs twice")
        # Between characters nothing stands, so that one unknown character is shown as one.
        self._unknown = REPLACEMENT if segmentation.kind in CHARACTERS else SPECIALS[UNK]

    def __len__(self) -> int:
        return FIRST + len(self.definition)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each normalised text; `UNK` for a symbol that has none."""
        split, find = self.segmentation.split, self._ids.get
        return [[find(symbol, UNK) for symbol in split(text)] for text in texts]

    def unknown(self, text: str) -> list[str]:
        """The symbols of a normalised text that have no id."""
        return [symbol for symbol in self.segmentation.split(text) if symbol not in self._ids]

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Texts of sequences of ids; PAD, BOS and EOS are skipped, UNK is shown."""
        glue = self.segmentation.glue
        return [glue.join(self._piece(i) for i in ids if i >= FIRST or i == UNK) for ids in sequences]

    def show(self, token: int) -> str:
        """A symbol, or a special id by its name."""
        return SPECIALS.get(token) or self.definition[token - FIRST]

    def characters(self, ids: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
        """The characters of the decoded text, each with the places in ``ids`` that made it.

        Between words or symbols stands a space, whatever the separator: each counts as a word.
        """
        for place, token in enumerate(ids):
            if token >= FIRST or token == UNK:
                if self.segmentation.kind not in CHARACTERS:
                    yield " ", ()
                yield from ((character, (place,)) for character in self._piece(token))

    def _piece(self, token: int) -> str:
        return self._unknown if token == UNK else self.definition[token - FIRST]


def count_symbols(counts: Counter[str], texts: Iterable[str], segmentation: Segmentation) -> int:
    """Add the symbols of the texts to ``counts``; returns the number of texts."""
    rest = iter(texts)
    lines = 0
    while block := segmentation.normal(islice(rest, 10_000)):
        lines += len(block)
        for text in block:
            counts.update(segmentation.split(text))
        while len(counts) > MOST_TYPES:
            lowest = min(counts.values())
            for symbol in [s for s, n in counts.items() if n == lowest]:
                del counts[symbol]
    return lines


def most_frequent(counts: Counter[str], *, lines: int, segmentation: Segmentation, size: int) -> list[str]:
    """The inventory: ``size`` ids at most, the special ones included, the most frequent symbol first.

    In all but tiny text a word must occur twice, so that ``<unk>`` occurs too.
    """
    lowest = 2 if segmentation.kind == "word" and lines >= 1000 else 1
    kept = (symbol for symbol, n in counts.items() if n >= lowest)
    return sorted(kept, key=lambda symbol: (-counts[symbol], symbol))[: max(0, size - FIRST)]
