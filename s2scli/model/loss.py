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
    """What a softmax finds: the losses, and the gradient of the smoothed one.

    Attributes:
        smoothed, plain: Sums over the targets, in nats.
        grad_logits: (N, V).
        grad_bias: (V,), its sum over the rows.
    """

    smoothed: Tensor
    plain: Tensor
    grad_logits: Tensor
    grad_bias: Tensor


@dataclass(frozen=True, kw_only=True)
class OutputKernel:
    """What computes an output layer and its loss.

    Attributes:
        losses: Of vectors (N, e), W (V, e) and b (V,) in one number format, the targets (M,) of the first M
            rows, and ε.
        product: a (m, k) and b (k, n) to a b.
        by_rows: a (N, m) and b (N, n) to aᵀ b.
    """

    losses: Callable[[Tensor, Tensor, Tensor, Tensor, float], Losses]
    product: Callable[[Tensor, Tensor], Tensor]
    by_rows: Callable[[Tensor, Tensor], Tensor]


def library_softmax(logits: Tensor, target: Tensor, smoothing: float) -> Losses:
    """Losses of logits (N, V) with torch's operations; the logits become their gradient."""
    rows, vocab = target.size(0), logits.size(1)
    number = torch.promote_types(logits.dtype, torch.float32)
    smoothed, plain = (torch.zeros((), dtype=number, device=logits.device) for _ in range(2))
    grad_bias = torch.zeros(vocab, dtype=number, device=logits.device)
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
        grad_bias += p.sum(0)
    logits[rows:] = 0
    return Losses(smoothed=smoothed, plain=plain, grad_logits=logits, grad_bias=grad_bias)


def _by_rows(a: Tensor, b: Tensor) -> Tensor:
    if a.dtype != torch.bfloat16:
        return a.t() @ b
    # A left factor in bf16 is turned first, at a cost: of the two, let it be the narrower one.
    return (b.t().contiguous() @ a).t()


library_output = OutputKernel(
    losses=lambda vectors, weight, bias, target, smoothing: library_softmax(
        linear(vectors, weight, bias), target, smoothing
    ),
    product=torch.matmul,
    by_rows=_by_rows,
)
"""That of torch's operations."""


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        vectors: Tensor,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        smoothing: float,
        kernel: OutputKernel,
    ) -> tuple[Tensor, Tensor]:
        cast_weight = weight.to(vectors.dtype)
        losses = kernel.losses(vectors, cast_weight, bias.to(vectors.dtype), target, smoothing)
        ctx.save_for_backward(losses.grad_logits, vectors, cast_weight, losses.grad_bias.to(bias.dtype))
        ctx.number, ctx.kernel = weight.dtype, kernel
        ctx.mark_non_differentiable(losses.plain)
        return losses.smoothed, losses.plain

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        grad_logits, vectors, weight, grad_bias = ctx.saved_tensors
        scale = outer[0]
        # The vectors are few beside the weights: they are what is scaled.
        of_weight = ctx.kernel.by_rows(grad_logits, vectors * scale)
        return (
            ctx.kernel.product(grad_logits, weight) * scale,
            of_weight.to(ctx.number, memory_format=torch.contiguous_format),
            grad_bias * scale,
            None,
            None,
            None,
        )


def smoothed_cross_entropy(
    vectors: Tensor,
    weight: Tensor,
    bias: Tensor,
    target: Tensor,
    smoothing: float,
    kernel: OutputKernel = library_output,
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
        kernel: What computes it.

    Returns:
        The smoothed loss, and the plain negative log-likelihood (no gradient), in nats.
    """
    arguments = (vectors, weight, bias, target, smoothing, kernel)
    smoothed, plain = _SmoothedCrossEntropy.apply(*arguments)  # type: ignore[no-untyped-call]
    return smoothed, plain
