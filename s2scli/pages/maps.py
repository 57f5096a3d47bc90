"""Attention maps: what a picture or a page shows of one translation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2scli.pages import page

LEVELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
"""The steps of a weight from 0 to 1, one character each: within a page a weight is exact to 0.8 %."""
MOST_LINES = 1000
"""Maps that a page of attention holds."""


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """The attention of one translation.

    Attributes:
        number: Number of the line, from 1.
        source: The line.
        target: Its translation.
        source_tokens: The S tokens that were looked at.
        target_tokens: The T tokens that were written.
        weights: (T, S); row t holds the weights α_t with which target token t looks at the source.
    """

    number: int
    source: str
    target: str
    source_tokens: tuple[str, ...]
    target_tokens: tuple[str, ...]
    weights: NDArray[np.float32]

    def __post_init__(self) -> None:
        rows, columns = len(self.target_tokens), len(self.source_tokens)
        if self.weights.shape != (rows, columns):
            raise ValueError(f"{self.weights.shape} weights for {rows} by {columns} tokens")


def encode_weights(weights: NDArray[np.float32]) -> str:
    """Weights (T, S) as text: T rows, separated by spaces, of a character of `LEVELS` for each weight.

    A run of n > 3 zeros is written ``(n)``: attention is sparse, and long sentences stay small.
    """
    levels = np.rint(np.clip(weights, 0.0, 1.0) * (len(LEVELS) - 1)).astype(int)
    text = " ".join("".join(LEVELS[level] for level in row) for row in levels)
    return re.sub("A{4,}", lambda run: f"({len(run[0])})", text)


def encode_map(drawn: AttentionMap) -> dict[str, Any]:
    """A map as a page wants it: ``s`` and ``t``, the tokens, and ``w``, the weights."""
    return {
        "s": list(drawn.source_tokens),
        "t": list(drawn.target_tokens),
        "w": encode_weights(drawn.weights),
    }


def attention_page(maps: Sequence[AttentionMap]) -> str:
    """The HTML page of some maps, `MOST_LINES` at most."""
    lines = [{"n": m.number, "source": m.source, "target": m.target, "map": encode_map(m)} for m in maps]
    return page("attention", title="Attention", data={"lines": lines})
