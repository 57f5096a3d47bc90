"""The attention of translated lines, gathered for a picture or a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from s2scli.errors import counted
from s2scli.events import Listener, Notice
from s2scli.pages.maps import AttentionMap
from s2scli.plot import PAGE, draw_maps, most_maps
from s2scli.tokenizer import Tokenizer
from s2scli.translator import Translation

MOST_TOKENS = 200
"""Tokens on a side of a picture, at most: nobody could read more, and each cell is drawn by itself."""
END = "⏎"
"""The label of EOS."""


def attention_map(number: int, line: str, translation: Translation, tokenizer: Tokenizer) -> AttentionMap:
    """The attention of a translation, made by a search that keeps it.

    Where the line was translated in pieces, the map has a block for each, and zeros elsewhere:
    a piece has looked at its own source alone.

    Args:
        number: Number of the line, from 1.
        line: The source as it was given.
    """
    source: list[str] = []
    target: list[str] = []
    blocks = []
    for piece in translation.pieces:
        assert piece.hypothesis.attention is not None, "the search was not asked to keep the attention"
        blocks.append(piece.hypothesis.attention.float().cpu().numpy())
        source += [*tokenizer.source.tokens(piece.source), END]
        target += tokenizer.target.tokens(piece.hypothesis.tokens)
        target += [END] if piece.hypothesis.complete else []
    weights = np.zeros((len(target), len(source)), dtype=np.float32)
    row = column = 0
    for block in blocks:
        weights[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return AttentionMap(
        number=number,
        source=line,
        target=translation.text,
        source_tokens=tuple(source),
        target_tokens=tuple(target),
        weights=weights,
    )


class AttentionPictures:
    """Takes lines as they are translated, as many as the file holds, and draws them at the end.

    Args:
        path: The picture or page; `s2scli.plot.check_path` has seen it.
        tokenizer: Names the tokens.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer) -> None:
        self.path, self.tokenizer = path, tokenizer
        self.maps: list[AttentionMap] = []
        self.blank = self.beyond = self.large = 0

    def add(self, number: int, line: str, translation: Translation) -> None:
        """Take the line of this number, from 1."""
        if not translation.pieces:
            self.blank += 1
        elif self.path.suffix.lower() != PAGE and _tokens(translation) > MOST_TOKENS:
            self.large += 1
        elif len(self.maps) == most_maps(self.path):
            self.beyond += 1
        else:
            self.maps.append(attention_map(number, line, translation, self.tokenizer))

    def draw(self, listen: Listener) -> None:
        """Write the file, and tell which lines are in it."""
        large = ""
        if self.large:
            lines = counted(self.large, "line")
            large = f" Of more than {MOST_TOKENS} tokens, and left out: {lines}; a {PAGE} page holds them."
        if not self.maps:
            text = f"There was no line whose attention could be drawn.{large}"
            listen(Notice(text=text, warning=True))
            return
        draw_maps(self.maps, self.path)
        drawn = len(self.maps)
        text = f"The attention of {counted(drawn, 'line')} is drawn in {self.path}."
        if self.beyond:
            text = (
                f"The attention of the first {counted(drawn, 'line')} is drawn in {self.path}, which holds "
                f"no more; that of {self.beyond:,} more is not."
            )
        if self.blank:
            text += f" Blank, and without attention: {counted(self.blank, 'line')}."
        listen(Notice(text=text + large, warning=bool(self.beyond or self.large)))


def _tokens(translation: Translation) -> int:
    """The longer side of the map of a translation, roughly."""
    pieces = translation.pieces
    return max(sum(len(p.source) for p in pieces), sum(len(p.hypothesis.tokens) for p in pieces))
