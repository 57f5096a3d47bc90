"""Cross-entropy with label smoothing, fused with the output layer.

The logits of a batch, N target tokens times V words, are the largest tensor of a
training step. Computing the loss and its gradient in one go over blocks of rows that
stay in the processor's cache replaces several passes over memory by one, and the
gradient of the logits takes their place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2scli.model.packed import linear

_BLOCK = 1 << 18
"""Logits in a block: 1 MiB of fp32, and what they are made from beside them in a core's cache."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What a softmax finds beside the gradient of the logits.

    Attributes:
        smoothed, plain: Sums over the targets, in nats.
        bias: (V,) the gradient of the logits, summed over the rows.
    """

    smoothed: Tensor
    plain: Tensor
    bias: Tensor


SoftmaxKernel = Callable[[Tensor, Tensor, float], Losses]
"""Logits (N, V), targets (M,) of the first M rows and ε to the losses; the logits become their gradient."""


def library_softmax(logits: Tensor, target: Tensor, smoothing: float) -> Losses:
    """The `SoftmaxKernel` made of torch's operations."""
    rows, vocab = target.size(0), logits.size(1)
    number = torch.promote_types(logits.dtype, torch.float32)
    smoothed, plain = (torch.zeros((), dtype=number, device=logits.device) for _ in range(2))
    bias = torch.zeros(vocab, dtype=number, device=logits.device)
    block = max(1, _BLOCK // vocab) if logits.device.type == "cpu" else max(1, rows)
    for begin in range(0, rows, block):
        end = min(begin + block, rows)
        log_p = torch.log_softmax(logits[begin:end], dim=-1, dtype=number)
        index = target[begin:end].unsqueeze(1)
        nll = -log_p.gather(1, index).sum()
        plain += nll
        smoothed += (1 - smoothing) * nll
        if smoothing:
            smoothed -= smoothing / vocab * log_p.sum()
        # d loss / d logits = p - (1 - ε) onehot - ε/V
        p = log_p.exp_()
        p.scatter_add_(1, index, torch.full_like(index, -(1 - smoothing), dtype=p.dtype))
        if smoothing:
            p -= smoothing / vocab
        logits[begin:end] = p
        bias += p.sum(0)
    logits[rows:] = 0
    return Losses(smoothed=smoothed, plain=plain, bias=bias)


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        smoothing: float,
        softmax: SoftmaxKernel,
    ) -> tuple[Tensor, Tensor]:
        cast_weight = weight.to(vectors.dtype)
        logits = linear(vectors, cast_weight, bias.to(vectors.dtype))
        losses = softmax(logits, target, smoothing)
        ctx.save_for_backward(logits, vectors, cast_weight, losses.bias.to(bias.dtype))
        ctx.number = weight.dtype
        ctx.mark_non_differentiable(losses.plain)
        return losses.smoothed, losses.plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        gradient, vectors, weight, bias = ctx.saved_tensors
        scale = outer[0]
        # The vectors are few beside the weights: they are what is scaled.
        of_weight = _outer(gradient, vectors * scale, ctx.number)
        return (gradient @ weight) * scale, of_weight, bias * scale, None, None, None


def _outer(gradient: Tensor, vectors: Tensor, number: torch.dtype) -> Tensor:
    """gradientᵀ (V, N) @ vectors (N, e), in the given number format."""
    if gradient.dtype == number:
        return gradient.t() @ vectors
    # A left factor is turned first, at a cost: of the two, let it be the smaller one.
    product = vectors.t().contiguous() @ gradient
    return product.t().to(number, memory_format=torch.contiguous_format)


def smoothed_cross_entropy(
    vectors: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float,
    softmax: SoftmaxKernel = library_softmax,
) -> tuple[Tensor, Tensor]:
    """The loss of an output layer, summed over tokens.

    With p = softmax(W x + b), the smoothed loss of a token y is
    -(1 - ε) log p_y - (ε / V) Σ_v log p_v (Szegedy et al. 2016, section 7).

    Args:
        vectors: (N, e), in the working precision; rows beyond the last target do not count.
        weight: (V, e); may be held in a wider format, its gradient comes back in it.
        bias: (V,).
        target: (M,) ids, M ≤ N.
        smoothing: ε.
        softmax: Makes losses and gradients of logits.

    Returns:
        The smoothed loss, and the plain negative log-likelihood (no gradient), in nats.
    """
    arguments = (vectors, weight, bias, target, smoothing, softmax)
    smoothed, plain = _SmoothedCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    return smoothed, plain
