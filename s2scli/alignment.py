"""Word alignments read off attention weights."""

from __future__ import annotations

from typing import Literal

import numpy as np

from s2scli.tokenizer import Tokenizer
from s2scli.translator import Translation


def word_alignment(
    translation: Translation, tokenizer: Tokenizer, *, unit: Literal["word", "token"] = "word"
) -> list[tuple[int, int]]:
    """For each target word (or token) the source word it attends to most.

    The weights of a word's tokens are summed, over the source and the target. Where a line was
    translated in pieces, each piece is aligned by itself.

    Returns:
        (source index, target index) pairs in target order, counted from zero. A word that has been torn
        apart, since it was longer than a piece may be, can have one for each of its parts.
    """
    pairs: dict[tuple[int, int], None] = {}
    source_start = target_start = 0
    for piece in translation.pieces:
        weights = piece.hypothesis.attention
        assert weights is not None, "the search was not asked to keep the attention"
        if unit == "word":
            source = np.array(tokenizer.source.word_of_token(piece.source), dtype=np.int64)
            target = np.array(tokenizer.target.word_of_token(piece.hypothesis.tokens), dtype=np.int64)
            source_start, target_start = source_start - piece.inside[0], target_start - piece.inside[1]
        else:
            source, target = np.arange(len(piece.source)), np.arange(len(piece.hypothesis.tokens))
        words = (int(target.max(initial=-1)) + 1, int(source.max(initial=-1)) + 1)
        mass = np.zeros(words)
        # EOS, on either side, is no word.
        cells = weights.numpy()[: len(target), : len(source)]
        np.add.at(mass, (target[:, None], source[None, :]), cells)
        if words[1]:
            best = mass.argmax(axis=1)
            pairs |= {(source_start + int(s), target_start + t): None for t, s in enumerate(best)}
        source_start, target_start = source_start + words[1], target_start + words[0]
    return list(pairs)


def pharaoh(pairs: list[tuple[int, int]]) -> str:
    """``0-0 1-2``: source and target index of each link."""
    return " ".join(f"{source}-{target}" for source, target in pairs)
