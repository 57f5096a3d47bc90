"""Source lines that are longer than anything in training, cut into pieces that are translated one by one."""

from __future__ import annotations

import bisect
import re

from s2scli.side import SideTokenizer

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])\s*")


def cut(text: str, side: SideTokenizer, longest: int) -> list[tuple[str, list[int]]]:
    """A line cut at sentence ends, and where that is not enough between words, or within them.

    Args:
        text: The line in the side's normal form.
        longest: Most tokens of a piece.

    Returns:
        The pieces as (what stands before it in the translation, source ids).
    """
    pieces: list[tuple[str, list[int]]] = []
    glue, begin = "", 0
    for end in [*_SENTENCE_END.finditer(text), None]:
        sentence = text[begin : end.start() if end else None]
        for k, (inner, ids) in enumerate(_fitting(sentence, side, longest)):
            pieces.append((inner if k else glue, ids))
        if end:
            glue, begin = (" " if end.group() else ""), end.end()
    return pieces


def _fitting(sentence: str, side: SideTokenizer, longest: int) -> list[tuple[str, list[int]]]:
    """A sentence as (glue, ids) that fit: cut between words, or within a word that is too long itself."""
    ids = side.encode_normalized([sentence])[0] if sentence.strip() else []
    if len(ids) <= longest:
        return [("", ids)] if ids else []
    words = side.word_of_token(ids)
    starts = [i for i in range(len(ids)) if i == 0 or words[i] != words[i - 1]]
    parts: list[tuple[str, list[int]]] = []
    begin = 0
    while begin < len(ids):
        end = begin + longest
        if end < len(ids):
            at = bisect.bisect_right(starts, end) - 1
            end = starts[at] if starts[at] > begin else end
        glue = " " if begin and words[begin] != words[begin - 1] else ""
        parts.append((glue, ids[begin:end]))
        begin = end
    return parts
