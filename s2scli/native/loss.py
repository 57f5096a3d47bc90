"""The loss of training with a softmax of our own, which finishes a row while its logits are in the cache."""

from __future__ import annotations

from ctypes import CDLL, Structure, byref, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from s2scli.model.loss import Losses, OutputKernel, library_output
from s2scli.native.bindings import address, kernels
from s2scli.native.recurrence import turned
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
    ]


def softmax(library: CDLL, logits: Tensor, bias: Tensor, target: Tensor, smoothing: float) -> Losses:
    """What `library_softmax` makes of logits + bias; logits and bias may be in bf16 or fp32."""
    rows, vocab = target.size(0), logits.size(1)
    threads = team(rows)
    plain, summed = torch.empty(rows), torch.empty(rows)
    added, of_bias = bias.float().contiguous(), torch.zeros(threads.wanted, vocab)
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
    )
    library.s2s_softmax_loss(byref(given), byref(threads))
    logits[rows:] = 0
    nll = plain.sum()
    return Losses(
        smoothed=(1 - smoothing) * nll - smoothing / vocab * summed.sum(),
        plain=nll,
        logits=logits,
        bias=of_bias.sum(0),
    )


def _kernels_for(x: Tensor) -> CDLL | None:
    known = x.dtype in (torch.bfloat16, torch.float32) and x.device.type == "cpu"
    return kernels() if known else None


def _losses(vectors: Tensor, weight: Tensor, bias: Tensor, target: Tensor, smoothing: float) -> Losses:
    library = _kernels_for(vectors)
    if library is None or not target.size(0):
        return library_output.losses(vectors, weight, bias, target, smoothing)
    # The softmax adds the bias, which the product would write to all rows first.
    logits = vectors @ _turned(weight) if vectors.dtype == torch.bfloat16 else vectors @ weight.t()
    return softmax(library, logits, bias, target, smoothing)


def _turned(x: Tensor) -> Tensor:
    library = _kernels_for(x)
    has_kernel = library is not None and library.s2s_half() and x.dtype == torch.bfloat16
    return turned(library, x) if library is not None and has_kernel else library_output.turned(x)


output = OutputKernel(losses=_losses, turned=_turned)
"""That of our own for bf16 and fp32 on a CPU, where it was built, else torch's."""
