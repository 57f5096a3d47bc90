"""Which hypotheses there are: N of them, in a grid of B sentences with at most k each.

What costs time in a step, the recurrent layers and the output layer, is made for the N alone; attention
and the choice between the hypotheses of a sentence are made on the grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from s2scli.model.packed import longer


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid of hypotheses, k at most for each of B sentences, and which of its cells hold one, row by row.

    Attributes:
        shape: (B, k).
        taken: (N,) numbers of cells, counted row by row; None if all B·k are taken.
    """

    shape: tuple[int, int]
    taken: Tensor | None = None

    @classmethod
    def first(cls, sentences: Tensor, columns: int) -> Grid:
        """One hypothesis for each of ``sentences`` (B,), in the first of so many columns."""
        taken = torch.arange(sentences.numel(), device=sentences.device) * columns
        return cls(shape=(sentences.numel(), columns), taken=taken if columns > 1 else None)

    @classmethod
    def where(cls, live: Tensor) -> Grid:
        """The cells at which ``live`` (B, k) is true."""
        taken = live.flatten().nonzero().squeeze(1)
        return cls(shape=(live.size(0), live.size(1)), taken=None if taken.numel() == live.numel() else taken)

    def among(self, rows: Tensor, sentences: int) -> Grid:
        """The same hypotheses on the grid of so many sentences, of which these are the given rows (B,)."""
        columns = self.shape[1]
        taken = torch.arange(self.count, device=rows.device) if self.taken is None else self.taken
        moved = rows.index_select(0, taken // columns) * columns + taken % columns
        return Grid(shape=(sentences, columns), taken=moved)

    @property
    def count(self) -> int:
        """N."""
        return self.shape[0] * self.shape[1] if self.taken is None else self.taken.numel()

    def spread(self, x: Tensor) -> Tensor:
        """What belongs to the hypotheses, (N, …), scattered over the grid, (B, k, …); else 0."""
        shape = (*self.shape, *x.shape[1:])
        if self.taken is None:
            return x.view(shape)
        return (
            x.new_zeros(self.shape[0] * self.shape[1], *x.shape[1:]).index_copy_(0, self.taken, x).view(shape)
        )

    def gather(self, x: Tensor, rows: int | None = None) -> Tensor:
        """What stands in the taken cells, of x (B, k, …), as (N, …).

        Args:
            rows: At least N: with so many rows, of which the surplus ones are anything.
        """
        flat, surplus = x.flatten(0, 1), 0 if rows is None else rows - self.count
        if self.taken is None:
            return longer(flat, surplus)
        return flat.index_select(0, longer(self.taken, surplus))

    def numbers(self, like: Tensor) -> Tensor:
        """Which hypothesis stands in each cell, (B, k), on the device of ``like``; 0 where there is none."""
        return self.spread(torch.arange(self.count, device=like.device))

    def sentences(self, like: Tensor) -> Tensor:
        """The sentence of each hypothesis, (N,), on the device of ``like``."""
        taken = self.taken
        if taken is None:
            taken = torch.arange(self.count, device=like.device)
        return taken // self.shape[1]
