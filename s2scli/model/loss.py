"""Cross-entropy with label smoothing, fused with the output layer.

The logits of a batch, N target tokens times V words, are the largest tensor of a
training step. Computing the loss and its gradient in one go over blocks of rows that
stay in the processor's cache replaces several passes over memory by one, and the
gradient of the logits takes their place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2scli.model.packed import linear

_BLOCK = 1 << 18
"""Logits in a block: 1 MiB of fp32, and what they are made from beside them in a core's cache."""


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        smoothing: float,
        needs_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        rows, vocab = target.size(0), weight.size(0)
        cast_weight = weight.to(vectors.dtype)
        logits = linear(vectors, cast_weight, bias.to(vectors.dtype))
        number = torch.promote_types(vectors.dtype, torch.float32)
        smoothed, plain = (torch.zeros((), dtype=number, device=vectors.device) for _ in range(2))
        bias_gradient = torch.zeros_like(bias)
        block = max(1, _BLOCK // vocab) if vectors.device.type == "cpu" else max(1, rows)
        for begin in range(0, rows, block):
            end = min(begin + block, rows)
            log_p = torch.log_softmax(logits[begin:end], dim=-1, dtype=number)
            index = target[begin:end].unsqueeze(1)
            nll = -log_p.gather(1, index).sum()
            plain += nll
            smoothed += (1 - smoothing) * nll
            if smoothing:
                smoothed -= smoothing / vocab * log_p.sum()
            if needs_gradient:
                # d loss / d logits = p - (1 - ε) onehot - ε/V
                p = log_p.exp_()
                p.scatter_add_(1, index, torch.full_like(index, -(1 - smoothing), dtype=p.dtype))
                if smoothing:
                    p -= smoothing / vocab
                logits[begin:end] = p
                bias_gradient += p.sum(0)
        if needs_gradient:
            gradient = logits
            gradient[rows:] = 0
            ctx.save_for_backward(gradient, vectors, cast_weight, bias_gradient)
            ctx.number = weight.dtype
        ctx.mark_non_differentiable(plain)
        return smoothed, plain

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
    vectors: Tensor, weight: Tensor, bias: Tensor, target: Tensor, smoothing: float
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

    Returns:
        The smoothed loss, and the plain negative log-likelihood (no gradient), in nats.
    """
    # Inside the function gradients are always off, so it cannot ask this itself.
    arguments = (vectors, weight, bias, target, smoothing, torch.is_grad_enabled())
    smoothed, plain = _SmoothedCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    return smoothed, plain
