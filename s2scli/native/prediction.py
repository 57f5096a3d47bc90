"""What the kernels find out about the next token: the best of each hypothesis, or all of them."""

from __future__ import annotations

import math
from ctypes import CDLL
from dataclasses import dataclass

import torch
from torch import Tensor

from s2scli.config import EOS
from s2scli.model.grid import Grid
from s2scli.model.prediction import NEVER, Continuations, chosen
from s2scli.native import bindings as c
from s2scli.native.matrix import Packed

IMPOSSIBLE = -1e30
"""The logit of what must not be (``kernels.c``)."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The output layer, over the whole vocabulary or what a shortlist leaves of it.

    Attributes:
        matrix: s̃, or what the narrow matrix makes of it, to logits.
        columns: (C,) the token of each column, None where that is its own number.
        allowed: (B, C), 0 for a column in the sentence's own shortlist, else `IMPOSSIBLE`; None if all are.
    """

    matrix: Packed
    columns: Tensor | None = None
    allowed: Tensor | None = None


class NativePrediction:
    """What may follow each of N hypotheses: computed when it is asked for, and as far as it is.

    Args:
        vectors: s̃ (N, h), or what the narrow matrix makes of it.
        sentences: (N,) the sentence of each hypothesis, by its row in ``output.allowed``.
    """

    def __init__(self, library: CDLL, vectors: Tensor, output: Output, sentences: Tensor) -> None:
        self._library, self._vectors, self._output, self._sentences = library, vectors, output, sentences

    def log_p(self) -> Tensor:
        """(N, C) in nats."""
        logits = self._output.matrix(self._library, self._vectors).mul_(math.log(2))
        if self._output.allowed is not None:
            logits.add_(self._output.allowed.index_select(0, self._sentences))
        return torch.log_softmax(logits.masked_fill_(logits < IMPOSSIBLE / 2, -math.inf), dim=-1, out=logits)

    def _best(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """log p (N, k) and the tokens (N, k) of the best continuations, and log p of the end (N,)."""
        allowed, rows = self._output.allowed, self._vectors.size(0)
        value, ending, about, mass = (torch.empty(rows, *more) for more in ((k,), (), (), (16,)))
        token = torch.empty(rows, k, dtype=torch.int64)
        best = c.Best(
            allowed=c.address(allowed),
            sentence=c.address(self._sentences),
            k=k,
            end=EOS,
            never=NEVER,
            value=c.address(value),
            token=c.address(token),
            ending=c.address(ending),
            about=c.address(about),
            mass=c.address(mass),
        )
        self._output.matrix.then(self._library.s2s_best, [(self._vectors, None)], best)
        return value, token, ending

    def most_probable(self) -> tuple[Tensor, Tensor]:
        """The most probable token of each hypothesis, and its log p, (N,)."""
        value, token, ending = self._best(1)
        value, token = value.squeeze(1), token.squeeze(1)
        ends = ~(value > ending)
        return token.masked_fill_(ends, EOS), torch.where(ends, ending, value)

    def continuations(self, total: Tensor, grid: Grid, k: int) -> Continuations:
        """The k most probable continuations of each sentence, from the k best of each hypothesis."""
        value, token, ending = self._best(k)
        log_p, parent, place = chosen(total.unsqueeze(2) + grid.spread(value), k)
        hypothesis = grid.numbers(total).gather(1, parent)
        return Continuations(
            log_p=log_p,
            parent=parent,
            hypothesis=hypothesis,
            token=token.view(-1).index_select(0, (hypothesis * k + place).flatten()).view(place.shape),
            ending=total + grid.spread(ending),
        )
