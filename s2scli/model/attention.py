"""Attention: equations 1-3, for a mapped pair of keys and values.

1. scores   e_t = [s_t·h_1, …, s_t·h_T] ∈ R^T
2. weights  α_t = softmax(e_t) ∈ R^T, zero on padding
3. value    a_t = Σ_i [α_t]_i h_i ∈ R^h
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from s2scli.config import Attention as Kind
from s2scli.config import Values
from s2scli.model.linear import Linear


class Score(Protocol):
    """Equation 1: how well each query (B, Q, h) fits each key (B, S, h), as (B, Q, S)."""

    def __call__(self, query: Tensor, keys: Tensor) -> Tensor: ...


def products(a: Tensor, b: Tensor) -> Tensor:
    """a[i] @ b[i] for each sentence i; on a CPU in fp32 at least.

    These products are small, and of other shapes in each batch. In bf16 the CPU's library would prepare a
    kernel for each new shape, which takes longer than the product itself; in fp32 it has nothing to prepare.
    """
    number = torch.promote_types(a.dtype, torch.float32) if a.device.type == "cpu" else b.dtype
    return torch.bmm(a.to(number), b.to(number))


class _Dot(torch.autograd.Function):
    """query @ keysᵀ, with the gradient of the keys as they lie in memory: turned, it would be far slower."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, keys: Tensor) -> Tensor:
        ctx.save_for_backward(query, keys)
        return products(query, keys.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor]:
        query, keys = ctx.saved_tensors
        gradient = outer[0]
        return products(gradient, keys).to(query.dtype), products(gradient.mT, query).to(keys.dtype)


def dot(query: Tensor, keys: Tensor) -> Tensor:
    """e = s·h (Luong et al. 2015, section 3.1, "dot")."""
    if not torch.is_grad_enabled():  # in search, where what autograd adds takes longer than the product
        return products(query, keys.transpose(1, 2))
    scores: Tensor = _Dot.apply(query, keys)  # type: ignore[no-untyped-call]
    return scores


def scaled_dot(query: Tensor, keys: Tensor) -> Tensor:
    """e = s·h / √h (Vaswani et al. 2017, eq. 1)."""
    return dot(query, keys) / math.sqrt(query.size(-1))


def attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, score: Score = dot
) -> tuple[Tensor, Tensor]:
    """Equations 1-3 for Q queries at once; the queries do not see each other.

    Args:
        query: (B, Q, h), the decoder states s_t.
        keys: (B, S, h).
        values: (B, S, v); may be the keys themselves.
        mask: (B, S), true where there is a source token, false on padding.
        score: Equation 1.

    Returns:
        The attention values a_t (B, Q, v) and the weights α_t (B, Q, S), which sum to
        one over S and are exactly zero on padding.
    """
    scores = score(query, keys).masked_fill(~mask.unsqueeze(1), -math.inf)
    weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return products(weights, values).to(values.dtype), weights


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What the decoder may attend to, prepared once per source sentence.

    Attributes:
        keys: (B, S, h).
        values: (B, S, h); the same tensor as ``keys`` where nothing tells them apart.
        mask: (B, S), true where there is a source token.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor

    def select(self, sentences: Tensor) -> Memory:
        """The memory of the given sentences (indices into B)."""
        mask = self.mask.index_select(0, sentences)
        keys = self.keys.index_select(0, sentences)
        same = self.values is self.keys
        return Memory(keys=keys, values=keys if same else self.values.index_select(0, sentences), mask=mask)


class RelativePositions(nn.Module):
    """How far a source token stands from the step that asks: b_k with k = i - t, cut to ±``reach``.

    A bias of the scores alone, 0 at first, as if it were not there (after Raffel et al. 2020, section 2.1,
    who have it in self-attention, for distances in buckets).
    """

    def __init__(self, reach: int) -> None:
        super().__init__()
        self.reach = reach
        self.bias = nn.Parameter(torch.zeros(2 * reach + 1))

    def forward(self, source_length: int, steps: range) -> Tensor:
        """What is added to the scores of queries of the given steps: (Q, S), or (1, S) for one step."""
        source = torch.arange(source_length, device=self.bias.device)
        asking = torch.arange(steps.start, steps.stop, device=self.bias.device)
        k = (source - asking.unsqueeze(1)).clamp(-self.reach, self.reach) + self.reach
        return self.bias[k]


class AttentionLayer(nn.Module):
    """One kind of attention: how keys and values are made of the encoder's outputs, and the score.

    Args:
        kind: The score.
        hidden: h.
        values: Whether the values are the keys.
        reach: Distances between source and target position that are told apart; 0 for none.
    """

    def __init__(self, kind: Kind, hidden: int, values: Values, reach: int = 0) -> None:
        super().__init__()
        self.kind = kind
        self.positions = RelativePositions(reach) if reach else None
        self.project_keys = Linear(hidden, hidden, bias=False) if kind in ("general", "additive") else None
        self.project_values = Linear(hidden, hidden, bias=False) if values == "projected" else None
        self.project_query = Linear(hidden, hidden) if kind == "additive" else None
        self.vector = nn.Linear(hidden, 1, bias=False) if kind == "additive" else None

    def memory(self, encoded: Tensor, mask: Tensor) -> Memory:
        """Keys and values of the encoder's outputs (B, S, h), computed once per sentence.

        ``general`` (Luong et al. 2015, section 3.1: e = sᵀ W h) and ``additive`` project the keys
        here, so that a decoding step does not have to.
        """
        keys = encoded if self.project_keys is None else self.project_keys(encoded)
        # General and additive attention score W·h but still sum h.
        values = encoded if self.project_values is None else self.project_values(encoded)
        return Memory(keys=keys, values=values, mask=mask)

    def score(self, query: Tensor, keys: Tensor, steps: range) -> Tensor:
        """Equation 1 in the form of this layer's kind: (B, Q, h), (B, S, h) → (B, Q, S).

        Args:
            query: Decoder states.
            keys: As `memory` made them.
            steps: The number of each query's step, from 0; a single one if all are of the same step.
        """
        scores = self._content(query, keys)
        if self.positions is not None:
            scores = scores + self.positions(keys.size(1), steps)
        return scores

    def _content(self, query: Tensor, keys: Tensor) -> Tensor:
        if self.kind == "scaled-dot":
            return scaled_dot(query, keys)
        if self.kind in ("dot", "general"):  # of general attention the keys are W h already
            return dot(query, keys)
        # Additive: e = vᵀ tanh(W s + b + U h) (Bahdanau et al. 2015, appendix A.1.2: of s_{t-1}, without b).
        assert self.project_query is not None and self.vector is not None
        mixed = torch.tanh(self.project_query(query).unsqueeze(2) + keys.unsqueeze(1))
        scores: Tensor = self.vector(mixed).squeeze(-1)
        return scores

    def forward(self, query: Tensor, memory: Memory, steps: range) -> tuple[Tensor, Tensor]:
        """Values (B, Q, h) and weights (B, Q, S) for the queries (B, Q, h) of the given steps."""
        score = partial(self.score, steps=steps)
        return attention(query, memory.keys, memory.values, memory.mask, score)
