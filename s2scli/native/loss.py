"""The loss of training with a softmax of our own, which finishes a row while its logits are in the cache."""

from __future__ import annotations

from ctypes import CDLL, Structure, byref, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from s2scli.model.loss import Losses, OutputKernel, library_output
from s2scli.native import dense
from s2scli.native.bindings import address, kernels_for
from s2scli.native.team import team


class _Loss(Structure):
    """``struct loss`` of ``loss.c``."""

    _fields_ = [
        ("logits", c_void_p),
        ("half", c_int64),
        ("target", c_void_p),
        ("rows", c_int64),
        ("vocab", c_int64),
        ("smoothing", c_float),
        ("plain", c_void_p),
        ("summed", c_void_p),
        ("bias", c_void_p),
        ("of_bias", c_void_p),
        ("room", c_void_p),
    ]


def softmax(library: CDLL, logits: Tensor, bias: Tensor, target: Tensor, smoothing: float) -> Losses:
    """What `library_softmax` makes of logits + bias; logits and bias may be in bf16 or fp32."""
    rows, vocab = target.size(0), logits.size(1)
    threads = team(rows)
    plain, summed = torch.empty(rows), torch.empty(rows)
    added, of_bias = bias.float().contiguous(), torch.zeros(threads.wanted, vocab)
    room = torch.empty_like(of_bias)
    given = _Loss(
        logits=address(logits),
        half=logits.dtype == torch.bfloat16,
        target=address(target),
        rows=rows,
        vocab=vocab,
        smoothing=smoothing,
        plain=address(plain),
        summed=address(summed),
        bias=address(added),
        of_bias=address(of_bias),
        room=address(room),
    )
    library.s2s_softmax_loss(byref(given), byref(threads))
    logits[rows:] = 0
    nll = plain.sum()
    return Losses(
        smoothed=(1 - smoothing) * nll - smoothing / vocab * summed.sum(),
        plain=nll,
        grad_logits=logits,
        grad_bias=of_bias.sum(0),
    )


def _losses(vectors: Tensor, weight: Tensor, bias: Tensor, target: Tensor, smoothing: float) -> Losses:
    library = kernels_for(vectors, tiles=False)
    if library is None or not target.size(0):
        return library_output.losses(vectors, weight, bias, target, smoothing)
    # The softmax adds the bias, which the product would write to all rows first.
    logits = _product(vectors, weight.t())
    return softmax(library, logits, bias, target, smoothing)


def _product(a: Tensor, b: Tensor) -> Tensor:
    library = kernels_for(a, tiles=True)
    return library_output.product(a, b) if library is None else dense.product(library, a, b)


def _of_vectors(a: Tensor, b: Tensor) -> Tensor:
    # The more inputs, of which a vocabulary has thousands, the better is torch's library at bf16.
    return library_output.product(a, b) if a.dtype == torch.bfloat16 else _product(a, b)


def _by_rows(a: Tensor, b: Tensor) -> Tensor:
    library = kernels_for(a, tiles=True)
    return library_output.by_rows(a, b) if library is None else dense.product(library, a.t(), b)


output = OutputKernel(losses=_losses, product=_of_vectors, by_rows=_by_rows)
"""That of our own for bf16 and fp32 on a CPU, where it was built, else torch's."""
