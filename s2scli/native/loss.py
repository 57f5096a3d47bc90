"""The softmax of training by a kernel of our own, which finishes a row while its logits are in the cache."""

from __future__ import annotations

from ctypes import Structure, byref, c_float, c_int64, c_void_p

import torch
from torch import Tensor

from s2scli.model.loss import Losses, library_softmax
from s2scli.native.bindings import address, kernels
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
    ]


def softmax(logits: Tensor, target: Tensor, smoothing: float) -> Losses:
    """A `SoftmaxKernel`: that of our own for bf16 and fp32 on a CPU, where it was built, else torch's."""
    known = logits.dtype in (torch.bfloat16, torch.float32) and logits.device.type == "cpu"
    library = kernels() if known else None
    rows, vocab = target.size(0), logits.size(1)
    if library is None or not rows or not logits.is_contiguous():
        return library_softmax(logits, target, smoothing)
    threads = team(rows)
    plain, summed = torch.empty(rows), torch.empty(rows)
    bias = torch.zeros(threads.wanted, vocab)
    given = _Loss(
        logits=address(logits),
        half=logits.dtype == torch.bfloat16,
        target=address(target),
        rows=rows,
        vocab=vocab,
        smoothing=smoothing,
        plain=address(plain),
        summed=address(summed),
        bias=address(bias),
    )
    library.s2s_softmax_loss(byref(given), byref(threads))
    logits[rows:] = 0
    nll = plain.sum()
    return Losses(
        smoothed=(1 - smoothing) * nll - smoothing / vocab * summed.sum(), plain=nll, bias=bias.sum(0)
    )
