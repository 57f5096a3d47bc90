"""The most probable continuations of the hypotheses of each sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from s2scli.model.grid import Grid

_GROUPS = 64
"""Columns are looked through in so many interleaved groups."""


@dataclass(frozen=True, kw_only=True)
class Continuations:
    """The k best of each of B sentences, best first.

    Attributes:
        log_p: (B, k), -inf where there are no more.
        parent: (B, k) which column of the grid each of them continues.
        hypothesis: (B, k) which of the N hypotheses stands there.
        token: (B, k) with which token.
    """

    log_p: Tensor
    parent: Tensor
    hypothesis: Tensor
    token: Tensor


def continuations(log_p: Tensor, total: Tensor, grid: Grid, k: int) -> Continuations:
    """The k most probable continuations of each sentence.

    The k best columns of a sentence stand in k groups of columns at most, in those with the largest
    maxima. So every number is looked at once, by the processor's vector units, and what is sorted is little.

    Args:
        log_p: Of the next token, (N, V).
        total: Of the hypotheses so far, on the grid (B, c), -inf where there is none.
        grid: Where the N stand.
        k: At most c·V.
    """
    grouped = _grouped(log_p)
    groups = grouped.size(2)
    largest = total.unsqueeze(2) + grid.spread(grouped.amax(dim=1))  # (B, c, groups)
    best = largest.flatten(1).topk(k, dim=1).indices
    parent, group = best // groups, best % groups
    hypothesis = grid.numbers(total).gather(1, parent)
    few = grouped[hypothesis, :, group]  # (B, k, V / groups)
    candidates = (total.gather(1, parent).unsqueeze(2) + few).flatten(1)
    # Of a model whose weights are no numbers nothing is found, rather than tokens that do not exist.
    found, at = candidates.nan_to_num_(nan=-math.inf, neginf=-math.inf).topk(k, dim=1)
    which, place = at // few.size(2), at % few.size(2)
    return Continuations(
        log_p=found,
        parent=parent.gather(1, which),
        hypothesis=hypothesis.gather(1, which),
        token=place * groups + group.gather(1, which),
    )


def most_probable(log_p: Tensor) -> Tensor:
    """The most probable token of each row of log_p (N, V), as (N,)."""
    grouped = _grouped(log_p)
    group = grouped.amax(dim=1).max(dim=1, keepdim=True).indices
    of_group = grouped.take_along_dim(group.unsqueeze(1), dim=2).squeeze(2)  # (N, V / groups)
    return (of_group.max(dim=1, keepdim=True).indices * grouped.size(2) + group).squeeze(1)


def _grouped(log_p: Tensor) -> Tensor:
    """log_p (N, V) as (N, V / groups, groups); column v stands in group v mod groups."""
    return log_p.view(log_p.size(0), -1, _GROUPS if log_p.size(1) % _GROUPS == 0 else log_p.size(1))
