"""Large products of training, as fast as the processor makes them (``dense.c``)."""

from __future__ import annotations

from ctypes import CDLL, Structure, byref, c_int64, c_void_p

import torch
from torch import Tensor

from s2scli.native.bindings import address
from s2scli.native.team import team

SIDE = 32
"""Rows or columns of a panel."""
BLOCK = 1024
"""Inputs laid out at a time in bf16, in fp32 half as many."""


class _Factor(Structure):
    """``struct factor`` of ``dense.c``."""

    _fields_ = [
        ("x", c_void_p),
        ("length", c_int64),
        ("next", c_int64),
        ("deep", c_int64),
        ("laid", c_void_p),
    ]


class _Product(Structure):
    """``struct product`` of ``dense.c``."""

    _fields_ = [
        ("left", _Factor),
        ("right", _Factor),
        ("inputs", c_int64),
        ("whole", c_int64),
        ("bias", c_void_p),
        ("out", c_void_p),
        ("sums", c_void_p),
    ]


def product(library: CDLL, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b + bias in the number format of a and b: bf16, or fp32 (in halves, see ``dense.c``).

    Sums are fp32; they are the same for any number of threads and of other rows.

    Args:
        a, b: (m, k) and (k, n); either the rows or the columns of each are contiguous.
        bias: (n,), added to each row.
    """
    (rows, inputs), columns = a.shape, b.size(1)
    assert b.size(0) == inputs and b.dtype == a.dtype
    whole = a.dtype == torch.float32
    out = a.new_empty(rows, columns)
    factors, kept = [], []
    for x in (a, b.t()):  # now the numbers of an output's inputs are a row of either
        if 1 not in x.stride():
            x = x.contiguous()
        laid = torch.empty(_filled(x.size(0)), BLOCK, dtype=torch.bfloat16)
        kept += [x, laid]
        factors.append(_Factor(x.data_ptr(), x.size(0), *x.stride(), laid.data_ptr()))
    added = None if bias is None else bias.float()
    sums = torch.empty(_filled(rows), _filled(columns)) if inputs > BLOCK / (1 + whole) else None
    given = _Product(
        *factors, inputs=inputs, whole=whole, bias=address(added), out=address(out), sums=address(sums)
    )
    library.s2s_dense(byref(given), byref(team(-(-rows // SIDE))))
    return out


def _filled(length: int) -> int:
    """The rows or columns of all panels."""
    return -(-length // SIDE) * SIDE
