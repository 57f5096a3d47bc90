"""Updates of all weights in one pass over them, after one over the gradients for their norm (``adam.c``)."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, Structure, byref, c_float, c_int64, c_void_p
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2scli.native.bindings import address
from s2scli.native.team import team

CHUNK = 8192
"""Numbers that a thread takes on at a time, as in ``adam.c``."""

# The columns of a table whose rows are ``struct weights``.
_WEIGHT, _GRADIENT, _HALF, _ROWS, _WHERE, _WHICH, _MANY, _WIDTH = range(8)
_FIRST, _SECOND, _AVERAGE, _COPY, _COUNT, _BEGIN, _COLUMNS = range(8, 15)


class _Adam(Structure):
    """``struct adam`` of ``adam.c``."""

    _fields_ = [
        ("all", c_void_p),
        ("number", c_int64),
        ("chunks", c_int64),
        ("keep1", c_float),
        ("keep2", c_float),
        ("rate", c_float),
        ("decay", c_float),
        ("shrink", c_float),
        ("epsilon", c_float),
        ("limit", c_float),
        ("share", c_float),
        ("squares", c_void_p),
        ("norm", c_float),
    ]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A weight, and what moves with it: of one shape, contiguous, and all in fp32 but the copy.

    Attributes:
        first, second: The moments of its gradient.
        average: The moving one of its values, if it is wanted.
        copy: In bf16, if it is wanted.
        leaves: What lies in the copy's memory and was computed with: in place of the weight, they may have
            gradients in bf16, that of an embedding's rows being sparse.
    """

    weight: Tensor
    first: Tensor
    second: Tensor
    average: Tensor | None = None
    copy: Tensor | None = None
    leaves: Sequence[Tensor] = ()

    @property
    def gradient(self) -> Tensor | None:
        """What there is of it but rows: of the weight, or of one leaf."""
        assert self.weight.grad is None or not self.weight.grad.is_sparse
        found = [x.grad for x in (self.weight, *self.leaves) if x.grad is not None and not x.grad.is_sparse]
        assert len(found) <= 1
        return found[0].contiguous() if found else None

    @property
    def rows(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Rows (N, width), to what rows of the weight they are added, ascending, and which each is."""
        found = [x.grad for x in self.leaves if x.grad is not None and x.grad.is_sparse]
        if not found:
            return None
        # In one order, as sums depend on it.
        where, which = torch.cat([x._indices()[0] for x in found]).sort(stable=True)
        values = [x._values() for x in found]
        return values[0].contiguous() if len(values) == 1 else torch.cat(values), where, which


class Adam:
    """What torch's ``AdamW`` does, gradients clipped before, averages and copies kept after.

    Args:
        library: The kernels.
        weights: All that are moved.
        betas, epsilon, decay: Adam's, and that of the weights.
    """

    def __init__(
        self,
        library: CDLL,
        weights: Sequence[Moved],
        *,
        betas: tuple[float, float],
        epsilon: float,
        decay: float,
    ) -> None:
        for w in weights:
            together = [x for x in (w.weight, w.first, w.second, w.average, w.copy) if x is not None]
            assert all(x.is_contiguous() and x.shape == w.weight.shape for x in together)
        self._library, self._weights = library, weights
        self._betas, self._epsilon, self._decay = betas, epsilon, decay
        counts = np.array([w.weight.numel() for w in weights], dtype=np.int64)
        chunks = -(-counts // CHUNK)
        self._averages = [address(w.average) or 0 for w in weights]
        self._table = np.zeros((len(weights), _COLUMNS), dtype=np.int64)
        self._table[:, _WEIGHT] = [w.weight.data_ptr() for w in weights]
        self._table[:, _FIRST] = [w.first.data_ptr() for w in weights]
        self._table[:, _SECOND] = [w.second.data_ptr() for w in weights]
        self._table[:, _COPY] = [address(w.copy) or 0 for w in weights]
        self._table[:, _WIDTH] = [w.weight.size(-1) for w in weights]
        self._table[:, _COUNT] = counts
        self._table[:, _BEGIN] = chunks.cumsum() - chunks
        self._squares = torch.empty(int(chunks.sum()))

    def step(self, number: int, rate: float, limit: float, keep: float | None) -> Tensor:
        """Move all weights that have a gradient.

        Args:
            number: Of the update, from 1.
            rate: The learning rate.
            limit: To which the norm of the whole gradient is shortened.
            keep: What the averages keep of themselves; None leaves them as they are.

        Returns:
            The norm that the gradient had.
        """
        gradients = [w.gradient for w in self._weights]
        self._table[:, _GRADIENT] = [address(g) or 0 for g in gradients]
        self._table[:, _HALF] = [g is not None and g.dtype == torch.bfloat16 for g in gradients]
        rows = [w.rows for w in self._weights]
        for part, column in enumerate((_ROWS, _WHERE, _WHICH)):
            self._table[:, column] = [0 if r is None else r[part].data_ptr() for r in rows]
        self._table[:, _MANY] = [0 if r is None else r[1].numel() for r in rows]
        self._table[:, _AVERAGE] = 0 if keep is None else self._averages
        given = _Adam(
            all=self._table.ctypes.data,
            number=len(self._weights),
            chunks=self._squares.numel(),
            keep1=self._betas[0],
            keep2=self._betas[1],
            rate=rate / (1 - self._betas[0] ** number),
            decay=1 - rate * self._decay,
            shrink=(1 - self._betas[1] ** number) ** 0.5,
            epsilon=self._epsilon,
            limit=limit,
            share=1 - (keep or 0.0),
            squares=address(self._squares),
        )
        self._library.s2s_adam(byref(given), byref(team(self._squares.numel())))
        return torch.tensor(given.norm)
