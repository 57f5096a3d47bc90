"""The input's share of a layer's gates, looked up once it was computed for the whole vocabulary."""

from __future__ import annotations

import threading
from collections.abc import Callable

from torch import Tensor

ROWS = 64
"""Tokens from which on a batch is worth computing the table."""
WORTH = 1 / 8
"""Tokens that were projected without it, as a share of the vocabulary, when it is worth computing anyway."""
LIMIT = 1 << 28
"""Numbers in the largest table."""
_COMPUTING = threading.Lock()
"""Held while a table is computed. One for all, so that a layer can be copied."""


class InputTable:
    """Computes the table when it becomes worth while.

    Args:
        embedding: (V, e).
        project: Embeddings (N, e) to the gates' share (N, g), of each the same to the last bit for any N.
        columns: g.
    """

    def __init__(self, embedding: Tensor, project: Callable[[Tensor], Tensor], columns: int) -> None:
        self.embedding, self.project, self.columns = embedding, project, columns
        self.projected = 0
        self.table: Tensor | None = None

    def whole(self, tokens: int) -> Tensor | None:
        """The table (V, g), if with so many more tokens it is worth its time."""
        if self.table is None:
            vocabulary = self.embedding.size(0)
            with _COMPUTING:  # threads that search with the same model come here at the same time
                self.projected += tokens
                worth = tokens >= ROWS or self.projected >= WORTH * vocabulary
                if worth and self.table is None and vocabulary * self.columns <= LIMIT:
                    self.table = self.project(self.embedding)
        return self.table

    def some(self, ids: Tensor) -> Tensor:
        """The rows (N, g) of tokens (N,), computed for them alone."""
        return self.project(self.embedding.index_select(0, ids))
