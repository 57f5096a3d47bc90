"""Source lines that are longer than anything in training, cut into pieces that are translated one by one."""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence

from s2scli.side import SideTokenizer

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])\s*")


def cut(text: str, side: SideTokenizer, longest: int) -> list[tuple[str, list[int]]]:
    """A line cut at sentence ends, and where that is not enough between words, or within them.

    Args:
        text: The line in the side's normal form. Tags that follow the text belong to each piece.
        longest: Most tokens of a piece.

    Returns:
        The pieces as (what stands before it in a translation into running text, source ids).
    """
    text, tags = side.encode_tags(text)
    room = max(1, longest - len(tags))
    pieces: list[tuple[str, list[int]]] = []
    glue, begin = "", 0
    for end in [*_SENTENCE_END.finditer(text), None]:
        sentence = text[begin : end.start() if end else None]
        for k, (inner, ids) in enumerate(_fitting(sentence, side, room)):
            pieces.append((inner if k else glue, ids + tags))
        if end:
            glue, begin = (" " if end.group() else ""), end.end()
    return pieces


def joined(texts: Sequence[str], glues: Sequence[str], target: SideTokenizer) -> str:
    """The translation of a line from those of its pieces.

    Args:
        texts: Of each piece.
        glues: What `cut` says of each.
        target: Units that it separates stay separated.
    """
    between = target.segmentation.glue
    whole = ""
    for text, glue in zip(texts, glues, strict=True):
        whole += (between or glue) + text if whole and text else text
    return whole


def _fitting(sentence: str, side: SideTokenizer, longest: int) -> list[tuple[str, list[int]]]:
    """A sentence as (glue, ids) that fit: cut between words, or within a word that is too long itself."""
    ids = side.vocabulary.encode([sentence])[0] if sentence.strip() else []
    if len(ids) <= longest:
        return [("", ids)] if ids else []
    words = side.word_of_token(ids)
    starts = [i for i in range(len(ids)) if i == 0 or words[i] != words[i - 1]]
    space = "" if side.segmentation.kind == "symbol" else " "  # each symbol counts as a word
    parts: list[tuple[str, list[int]]] = []
    begin = 0
    while begin < len(ids):
        end = begin + longest
        if end < len(ids):
            at = bisect.bisect_right(starts, end) - 1
            end = starts[at] if starts[at] > begin else end
        glue = space if begin and words[begin] != words[begin - 1] else ""
        parts.append((glue, ids[begin:end]))
        begin = end
    return parts
