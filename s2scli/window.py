"""Lines that are translated together: cut into pieces, put into batches, and joined again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from s2scli.config import UNK
from s2scli.errors import counted
from s2scli.longlines import Stretch, cut, joined
from s2scli.side import SideTokenizer
from s2scli.translation import Translation
from s2scli.wording import named
from s2scli.workers import even_size

Place = tuple[int, int]
"""The number of a line in the window, and that of the piece in the line."""


_UNKNOWN = "unknown "
"""Before a symbol among `Remarkable.counts`."""


@dataclass(kw_only=True)
class Remarkable:
    """What was done to lines that whoever reads their translations must know.

    Attributes:
        split: Lines that were longer than the model has seen, and translated in pieces.
        cut: Lines whose translation came to the maximum length before it ended.
        unknown: Source symbols and ``[tags]`` that the vocabulary lacks, and how often each came.
    """

    split: int = 0
    cut: int = 0
    unknown: Counter[str] = field(default_factory=Counter)

    def add(self, other: Remarkable) -> None:
        """Count in what was done to other lines."""
        self.split, self.cut = self.split + other.split, self.cut + other.cut
        self.unknown.update(other.unknown)

    def counts(self) -> dict[str, int]:
        """The same as plain numbers, for `recount`; of unknown symbols the most frequent."""
        unknown = {f"{_UNKNOWN}{symbol}": n for symbol, n in self.unknown.most_common(100)}
        return {"split": self.split, "cut": self.cut, **unknown}

    def recount(self, counts: Mapping[str, int]) -> None:
        """Go on from what `counts` gave."""
        self.split, self.cut = counts.get("split", 0), counts.get("cut", 0)
        for name, n in counts.items():
            if name.startswith(_UNKNOWN):
                self.unknown[name.removeprefix(_UNKNOWN)] = n

    def told(self, longest: int, if_cut: str) -> Iterator[str]:
        """The same in words.

        Args:
            longest: Longest source in tokens that the model has seen.
            if_cut: What else to say where translations were cut.
        """
        if self.split:
            yield (
                f"Longer than the model has seen in training ({longest} tokens), so "
                f"translated in pieces: {counted(self.split, 'line')}."
            )
        if self.cut:
            yield f"Cut at the maximum length before the end: {counted(self.cut, 'line')}.{if_cut}"
        if self.unknown:
            shown = ", ".join(f"{named(symbol)} ({n:,})" for symbol, n in self.unknown.most_common(5))
            more = ", …" if len(self.unknown) > 5 else ""
            yield f"Source symbols that are not in the vocabulary: {shown}{more}. Each was read as unknown."
            if any("\t" in symbol for symbol in self.unknown):
                yield "Some lines hold more columns than the model reads: source, and features if it has any."


class Window:
    """Some lines and their pieces: none of a blank line, several of one that is too long.

    Args:
        side: Encodes them.
        longest: Longest source in tokens that the model has seen.
    """

    def __init__(self, lines: Sequence[str], side: SideTokenizer, longest: int) -> None:
        self.remarkable = Remarkable()
        self.pieces: list[list[Stretch]] = []
        texts = side.normalize_all(map(_text, lines))
        for text, ids in zip(texts, side.encode_normalized(texts), strict=True):
            if UNK in ids:
                self.remarkable.unknown.update(side.unknown(text))
            if not ids or not text.strip():
                self.pieces.append([])
            elif len(ids) > side.reach(longest):
                pieces = cut(text, side, longest, whole=side.reach(longest))
                self.pieces.append(pieces)
                self.remarkable.split += len(pieces) > 1
            else:
                self.pieces.append([Stretch(ids=ids)])

    def batches(self, most: int, least: int) -> list[list[Place]]:
        """All pieces in batches of similar length (`even_size`); first the longest ones."""
        places = [(i, j) for i, pieces in enumerate(self.pieces) for j in range(len(pieces))]
        places.sort(key=lambda place: -len(self.ids(place)))
        size = even_size(len(places), most, least)
        return [places[begin : begin + size] for begin in range(0, len(places), size)]

    def ids(self, place: Place) -> list[int]:
        """The source ids of a piece."""
        line, piece = place
        return self.pieces[line][piece].ids

    def joined(
        self, found: Mapping[Place, list[Translation]], target: SideTokenizer
    ) -> list[list[Translation]]:
        """The n best translations of each line, of those of all pieces; the remarkable ones are counted."""
        lines = []
        for i, pieces in enumerate(self.pieces):
            here = [found[i, j] for j in range(len(pieces))]
            self.remarkable.cut += any(not best[0].pieces[0].hypothesis.complete for best in here)
            whole = here[0] if len(here) == 1 else joined(pieces, here, target)
            if len(pieces) == 1 and pieces[0].respaced:
                whole = [replace(one, pieces=(replace(one.pieces[0], respaced=True),)) for one in whole]
            lines.append(whole or [Translation(text="")])
        return lines


def _text(line: str) -> str:
    """The line with U+FFFD for what is no character: halves of one, which text made in Python may hold."""
    if not isinstance(line, str):
        raise TypeError(f"a line to translate is text, not {type(line).__name__}")
    try:
        line.encode()
    except UnicodeEncodeError:
        return line.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return line
