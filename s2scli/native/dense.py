"""Large products of training, as fast as the processor makes them (``dense.c``), and layers made of them."""

from __future__ import annotations

from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2scli.native.bindings import address, kernels_for
from s2scli.native.team import team

SIDE = 32
"""Rows or columns of a panel."""
BLOCK = 1024
"""Inputs laid out at a time in bf16, in fp32 half as many."""
_FEWEST = 256
"""Rows from which on a linear layer is faster by a product of our own."""


class _Factor(Structure):
    """``struct factor`` of ``dense.c``."""

    _fields_ = [
        ("x", c_void_p),
        ("length", c_int64),
        ("next", c_int64),
        ("deep", c_int64),
        ("aside", c_int64),
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
        ("next", c_int64),
        ("aside", c_int64),
        ("sums", c_void_p),
    ]


def product(
    library: CDLL, a: Tensor, b: Tensor, bias: Tensor | None = None, *, panels: bool = False
) -> Tensor:
    """a b + bias in the number format of a and b: bf16, or fp32 (in halves, see ``dense.c``).

    Sums are fp32; they are the same for any number of threads and of other rows.

    Args:
        a, b: (m, k) and (k, n); either the rows or the columns of each are contiguous. Where a is in panels,
            (m, k/32, 32), or turned (m/32, 32, k).
        bias: (n,), added to each row.
        panels: Whether the product is to be in panels, (n/32, m, 32).
    """
    factors = _factor(a), _factor(b.t())  # now the numbers of an output's inputs are a row of either
    left, right = (factor for factor, *_ in factors)
    rows, columns, inputs = left.length, right.length, b.size(0)
    assert b.dtype == a.dtype and a.numel() == rows * inputs and not (panels and columns % SIDE)
    whole = a.dtype == torch.float32
    out = a.new_empty(columns // SIDE, rows, SIDE) if panels else a.new_empty(rows, columns)
    added = None if bias is None else bias.float()
    sums = torch.empty(_filled(rows), _filled(columns)) if inputs > BLOCK / (1 + whole) else None
    given = _Product(
        left,
        right,
        inputs=inputs,
        whole=whole,
        bias=address(added),
        out=address(out),
        next=SIDE if panels else columns,
        aside=rows * SIDE if panels else SIDE,
        sums=address(sums),
    )
    library.s2s_dense(byref(given), byref(team(-(-rows // SIDE))))
    return out


def _factor(x: Tensor) -> tuple[_Factor, Tensor, Tensor]:
    """A factor, and what must be kept as long as it is used."""
    length = x.size(0)
    if x.dim() == 2:
        if 1 not in x.stride():
            x = x.contiguous()
        (after, deep), aside = x.stride(), SIDE
    elif x.stride(2) == 1 and x.size(2) == SIDE:
        after, aside, deep = x.stride()
    else:
        assert x.stride(1) == 1 and x.size(1) == SIDE
        length *= SIDE
        aside, after, deep = x.stride()
    laid = torch.empty(_filled(length), BLOCK, dtype=torch.bfloat16)
    return _Factor(x.data_ptr(), length, after, deep, aside, laid.data_ptr()), x, laid


def in_panels(x: Tensor) -> Tensor:
    """(m, 32·n) as panels (n, m, 32), each of which is contiguous: a view."""
    return x.view(x.size(0), -1, SIDE).transpose(0, 1)


def _filled(length: int) -> int:
    """The rows or columns of all panels."""
    return -(-length // SIDE) * SIDE


class _Linear(torch.autograd.Function):
    """x (N, k) to (N, m)."""

    @staticmethod
    def forward(ctx: Any, library: CDLL, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kernels = library
        return product(library, x, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        _, of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            None,
            product(ctx.kernels, outer[0], weight) if of_x else None,
            product(ctx.kernels, outer[0].t(), x) if of_weight else None,
            outer[0].sum(0) if of_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A `LinearKernel`: in bf16 that of our own where there are tiles and a gradient is wanted, else torch's.

    In fp32 what tiles make would be off by half as much again as with the LSTM's products alone. With few
    rows laying out the weights takes too long.
    """
    wanted = x.dtype == weight.dtype == torch.bfloat16 and torch.is_grad_enabled()
    many = x.numel() >= _FEWEST * weight.size(1)
    library = kernels_for(x, tiles=True) if wanted and many else None
    if library is None:
        return torch.nn.functional.linear(x, weight, bias)
    flat: Tensor = _Linear.apply(library, x.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    return flat.view(*x.shape[:-1], -1)
