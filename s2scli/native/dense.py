"""Large products of training, as fast as the processor makes them (``dense.c``)."""

from __future__ import annotations

from ctypes import CDLL, Structure, byref, c_int64, c_void_p

import torch
from torch import Tensor

from s2scli.native.bindings import address
from s2scli.native.team import team

SIDE = 32
"""Rows or columns of a panel."""
BLOCK = 512
"""Inputs laid out at a time."""


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
        ("bias", c_void_p),
        ("out", c_void_p),
    ]


class _Turning(Structure):
    """``struct turning`` of ``dense.c``."""

    _fields_ = [("from", c_void_p), ("to", c_void_p), ("rows", c_int64), ("columns", c_int64)]


def turned(library: CDLL, x: Tensor) -> Tensor:
    """xᵀ of a matrix in bf16, in memory too."""
    rows, columns = x.shape
    x, out = x.contiguous(), x.new_empty(columns, rows)
    given = _Turning(address(x), address(out), rows, columns)
    library.s2s_turn(byref(given), byref(team(columns)))
    return out


def product(library: CDLL, a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b + bias in fp32, each number for the tiles the sum of two in bf16, which is 16 bits.

    Args:
        a, b: (m, k) and (k, n); either the rows or the columns of each are contiguous.
        bias: (n,), added to each row.
    """
    (rows, inputs), columns = a.shape, b.size(1)
    out = a.new_empty(rows, columns)
    factors, kept = [], []
    for x in (a, b.t()):  # now the numbers of an output's inputs are a row of either
        if 1 not in x.stride():
            x = x.contiguous()
        laid = torch.empty(-(-x.size(0) // SIDE) * SIDE, BLOCK, 2, dtype=torch.bfloat16)
        kept += [x, laid]
        factors.append(_Factor(x.data_ptr(), x.size(0), *x.stride(), laid.data_ptr()))
    given = _Product(*factors, inputs=inputs, bias=address(bias), out=address(out))
    library.s2s_dense(byref(given), byref(team(-(-rows // SIDE))))
    return out


def by_rows(library: CDLL, a: Tensor, b: Tensor) -> Tensor:
    """aᵀ b of (N, m) and (N, n), both in fp32 or both in bf16."""
    if a.dtype == torch.float32:
        return product(library, a.t(), b)
    # torch's library turns left factors in bf16 slowly, and is slow at some tall products, not at wide ones.
    return turned(library, turned(library, b) @ a)
