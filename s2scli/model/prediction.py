"""What a model expects to follow each hypothesis, as far as a search asks for it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from s2scli.config import BOS, EOS, PAD
from s2scli.model.grid import Grid

_GROUPS = 64
"""Columns are looked through in so many interleaved groups."""

NEVER = (PAD, BOS)
"""What is no part of a text. It never occurs in training, but smoothed labels make it as probable as any
improbable token."""


@dataclass(frozen=True, kw_only=True)
class Continuations:
    """The k best of each of B sentences, best first, and what it would be to end each hypothesis instead.

    Attributes:
        log_p: (B, k), -inf where there are no more.
        parent: (B, k) which column of the grid each of them continues.
        hypothesis: (B, k) which of the N hypotheses stands there.
        token: (B, k) with which token; never EOS.
        ending: (B, c) log p of each hypothesis in the grid with EOS behind it.
    """

    log_p: Tensor
    parent: Tensor
    hypothesis: Tensor
    token: Tensor
    ending: Tensor


class Prediction(Protocol):
    """Which tokens may follow each of N hypotheses, and how probable each is.

    V may be a selection of the vocabulary, and tokens are then numbers in it.
    """

    def log_p(self) -> Tensor:
        """(N, V) in nats; the caller may write into it."""
        ...

    def most_probable(self) -> tuple[Tensor, Tensor]:
        """The most probable token of each hypothesis, of text or EOS, and its log p, (N,)."""
        ...

    def continuations(self, total: Tensor, grid: Grid, k: int) -> Continuations:
        """The k most probable continuations of each sentence.

        Args:
            total: log p of the hypotheses so far, on the grid (B, c), -inf where there is none.
            grid: Where the N stand.
            k: At most c·V.
        """
        ...


class Dense:
    """A prediction that is there as a whole: log p of every token, (N, V)."""

    def __init__(self, log_p: Tensor) -> None:
        self._log_p = log_p

    def log_p(self) -> Tensor:
        """(N, V) in nats."""
        return self._log_p

    def most_probable(self) -> tuple[Tensor, Tensor]:
        """The most probable token of each row, and its log p, (N,)."""
        log_p = emittable(self._log_p)
        tokens = most_probable(log_p)
        return tokens, log_p.gather(1, tokens.unsqueeze(1)).squeeze(1)

    def continuations(self, total: Tensor, grid: Grid, k: int) -> Continuations:
        """The k most probable continuations of each sentence.

        The k best columns of a sentence stand in k groups of columns at most, in those with the largest
        maxima. So every number is looked at once, by the processor's vector units, and little is sorted.
        """
        log_p = emittable(self._log_p)
        ending = total + grid.spread(log_p[:, EOS])
        log_p[:, EOS].fill_(-math.inf)
        grouped = _grouped(log_p)
        groups = grouped.size(2)
        largest = total.unsqueeze(2) + grid.spread(grouped.amax(dim=1))  # (B, c, groups)
        best = largest.flatten(1).topk(k, dim=1).indices
        parent, group = best // groups, best % groups
        hypothesis = grid.numbers(total).gather(1, parent)
        few = grouped[hypothesis, :, group]  # (B, k, V / groups)
        found, which, place = chosen(total.gather(1, parent).unsqueeze(2) + few, k)
        return Continuations(
            log_p=found,
            parent=parent.gather(1, which),
            hypothesis=hypothesis.gather(1, which),
            token=place * groups + group.gather(1, which),
            ending=ending,
        )


def emittable(log_p: Tensor) -> Tensor:
    """log_p (N, V) with -inf, in its place, for what is no part of a text."""
    for token in NEVER:
        log_p[:, token].fill_(-math.inf)
    return log_p


def chosen(candidates: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k largest of candidates (B, r, n) of each of B, best first, and where they stand: (B, k) each."""
    flat = candidates.flatten(1)
    # Of a model whose weights are no numbers nothing is found, rather than tokens that do not exist.
    found, at = flat.nan_to_num_(nan=-math.inf, neginf=-math.inf).topk(k, dim=1)
    return found, at // candidates.size(2), at % candidates.size(2)


def most_probable(log_p: Tensor) -> Tensor:
    """The most probable token of each row of log_p (N, V), as (N,)."""
    grouped = _grouped(log_p)
    group = grouped.amax(dim=1).max(dim=1, keepdim=True).indices
    of_group = grouped.take_along_dim(group.unsqueeze(1), dim=2).squeeze(2)  # (N, V / groups)
    return (of_group.max(dim=1, keepdim=True).indices * grouped.size(2) + group).squeeze(1)


def _grouped(log_p: Tensor) -> Tensor:
    """log_p (N, V) as (N, V / groups, groups); column v stands in group v mod groups."""
    return log_p.view(log_p.size(0), -1, _GROUPS if log_p.size(1) % _GROUPS == 0 else log_p.size(1))
