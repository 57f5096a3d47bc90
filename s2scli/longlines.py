"""Source lines that are longer than anything in training, cut into pieces that are translated one by one."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from s2scli.side import SideTokenizer
from s2scli.translation import Piece, Translation

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])\s*")
# Han, kana and their punctuation: no space stands beside them. (In Thai, say, none stands between words, but
# one between sentences.)
_WITHOUT_SPACES = re.compile(
    "[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A piece of a source line.

    Attributes:
        ids: Its source ids, tags included.
        inside: It goes on with the last word of the stretch before: no white space parts them in the line.
        torn: What it belongs to is one string that has been torn apart, and so is its translation.
        respaced: It is the whole line, without its runs of white space.
    """

    ids: list[int]
    inside: bool = False
    torn: bool = False
    respaced: bool = False


def cut(text: str, side: SideTokenizer, longest: int, *, whole: int = 0) -> list[Stretch]:
    """A line cut at sentence ends, and where that is not enough between words, or within them.

    White space is no reason to cut: of a run of it one space is left, and at the ends none.

    Args:
        text: The line in the side's normal form. Tags that follow the text belong to each piece.
        longest: Most tokens of a piece.
        whole: Most tokens of a line that is left whole, if that is more.
    """
    text, tags = side.encode_tags(text)
    room = max(1, longest - len(tags))
    symbols = side.segmentation.kind == "symbol"  # each counts as a word, but together they are one
    if not symbols:  # between which white space may be what separates them
        text = " ".join(text.split())
    (ids,) = side.vocabulary.encode([text])
    if len(ids) <= max(room, whole - len(tags)):
        return [Stretch(ids=ids + tags, respaced=True)]
    pieces: list[Stretch] = []
    inside, begin = False, 0
    for end in [*_SENTENCE_END.finditer(text), None]:
        sentence = text[begin : end.start() if end else None]
        for k, (within, ids) in enumerate(_fitting(sentence, side, room)):
            torn = (within or (symbols and k > 0)) and not _WITHOUT_SPACES.search(sentence)
            pieces.append(Stretch(ids=ids + tags, inside=within if k else inside, torn=torn))
        if end:
            inside, begin = not end.group(), end.end()
    return pieces


def joined(
    pieces: Sequence[Stretch], found: Sequence[Sequence[Translation]], target: SideTokenizer
) -> list[Translation]:
    """The translations of a line from those of its pieces, rank by rank, as far as all pieces have some."""
    results = []
    for chosen in zip(*found, strict=False):
        text, parts = "", list[Piece]()
        before = glues([of.text for of in chosen], pieces, target)
        for piece, of, glue in zip(pieces, chosen, before, strict=True):
            goes_on = bool(text and of.text) and not glue
            parts += [replace(part, inside=(piece.inside, goes_on)) for part in of.pieces]
            text += glue + of.text
        results.append(Translation(text=text, pieces=tuple(parts)))
    return results


def glues(texts: Sequence[str], pieces: Sequence[Stretch], target: SideTokenizer) -> Iterator[str]:
    """What is to be put before the translation of each piece of a line, to join them.

    Args:
        texts: The translations.
        pieces: What they are translations of.
        target: Units that it separates stay separated.
    """
    between = target.segmentation.glue
    last = ""
    for text, piece in zip(texts, pieces, strict=True):
        spaced = not (piece.torn or _WITHOUT_SPACES.match(last))
        yield (between or (" " if spaced else "")) if last and text else ""
        last = text[-1:] or last


def _fitting(sentence: str, side: SideTokenizer, longest: int) -> list[tuple[bool, list[int]]]:
    """A sentence as (begins inside a word, ids) that fit: cut between words, or within too long a one."""
    ids = side.vocabulary.encode([sentence])[0] if sentence.strip() else []
    if len(ids) <= longest:
        return [(False, ids)] if ids else []
    words = side.word_of_token(ids)
    starts = [i for i in range(len(ids)) if i == 0 or words[i] != words[i - 1]]
    parts: list[tuple[bool, list[int]]] = []
    begin = 0
    while begin < len(ids):
        end = begin + longest
        if end < len(ids):
            at = bisect.bisect_right(starts, end) - 1
            end = starts[at] if starts[at] > begin else end
        parts.append((begin > 0 and words[begin] == words[begin - 1], ids[begin:end]))
        begin = end
    return parts
