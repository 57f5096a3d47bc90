"""Several models that make the steps of one search together.

All of them read the same source and the same hypotheses. The next token's probability is the mean of theirs,

    p(y_t | y_<t, x) = (1/M) Σ_m p_m(y_t | y_<t, x)

so it is a distribution again, and search need not know that there are several.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from s2scli.model.grid import Grid
from s2scli.model.prediction import Dense
from s2scli.model.search import State, StepModel
from s2scli.model.shortlist import Shortlist


class Begun(State, Protocol):
    """The state of a search in a selection of the vocabulary, or all of it."""

    @property
    def columns(self) -> Tensor | None:
        """The token of each column of the predictions; None where that is its own number."""
        ...


StateT = TypeVar("StateT", bound=Begun)


class Searchable(StepModel[StateT], Protocol[StateT]):
    """What a search is begun with: a `Stepper`, or an `Ensemble` of them."""

    def start(self, source: Tensor, lengths: Tensor, shortlist: Shortlist | None = None) -> StateT:
        """The state of one empty hypothesis for each of B sentences, as `Stepper.start` gives it."""
        ...


@dataclass(frozen=True, kw_only=True)
class EnsembleState:
    """The states of all members, for the same hypotheses."""

    members: tuple[Any, ...]

    @property
    def columns(self) -> Tensor | None:
        """Which token stands in which column, the same in all."""
        columns: Tensor | None = self.members[0].columns
        return columns

    def select(self, sentences: Tensor, hypotheses: Tensor, grid: Grid) -> EnsembleState:
        """The state in which hypothesis i of the new grid goes on with ``hypotheses[i]``."""
        return EnsembleState(members=tuple(m.select(sentences, hypotheses, grid) for m in self.members))


class Ensemble:
    """Makes each step with all of several models; a `Searchable` like each of them.

    Args:
        members: Two or more. Their vocabularies are the same; all else of them may differ.
    """

    def __init__(self, members: Sequence[Searchable[Any]]) -> None:
        self.members = tuple(members)

    def start(self, source: Tensor, lengths: Tensor, shortlist: Shortlist | None = None) -> EnsembleState:
        """The state of one empty hypothesis for each of B sentences.

        Args:
            source: (B, S) ids; ``lengths`` (B,) of them are no padding.
            shortlist: What the output layers are cut to.
        """
        return EnsembleState(members=tuple(m.start(source, lengths, shortlist) for m in self.members))

    def step(self, tokens: Tensor, state: EnsembleState) -> tuple[Dense, Tensor | None, EnsembleState]:
        """Append ``tokens`` (N,) to the hypotheses.

        Returns:
            Log-probabilities of the next token (N, C) in fp32; the mean of the attention weights
            (B, k, S) of those members that have attention, None if none has; and the next state.
        """
        steps = [member.step(tokens, of) for member, of in zip(self.members, state.members, strict=True)]
        weights = [w.float() for _, w, _ in steps if w is not None]
        return (
            Dense(mean_probability([prediction.log_p() for prediction, _, _ in steps])),
            sum(weights[1:], weights[0]) / len(weights) if weights else None,
            EnsembleState(members=tuple(following for _, _, following in steps)),
        )


def mean_probability(log_p: Sequence[Tensor]) -> Tensor:
    """The log of the mean of M distributions (…, V), from their log-probabilities."""
    # Without leaving the logarithm, so that what is very improbable does not become impossible.
    total = log_p[0]
    for other in log_p[1:]:
        total = torch.logaddexp(total, other)
    return total - math.log(len(log_p))
