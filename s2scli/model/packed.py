"""Matrices in the form that multiplies fastest when search calls them thousands of times.

Held once in the working number format, laid out as the processor's kernels want it: fp32; bf16; or
8-bit integers, a quarter of the bytes and up to four times the multiplications per second.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

Kind = Literal["fp32", "bf16", "int8"]


class Multiply(Protocol):
    """A matrix W (m, k) and a bias b (m,), if there is one."""

    def __call__(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """x (N, k) to x Wᵀ + b (N, m), added to ``onto`` (N, m) if it is given, whose place it may take."""
        ...


_FEWEST = 8
"""The number of rows is a multiple of it. For fewer, some processors have an 8-bit kernel that rounds
otherwise, and a translation would depend on how many are made together."""
_ROWS = 32
"""Beyond twice this, the number of rows is a multiple of it, and of more where there are many."""


def filled(x: Tensor) -> Tensor:
    """x (N, …) with rows of 0 behind: each number of rows wants a kernel of its own."""
    rows = x.size(0)
    unit = _FEWEST
    if rows > 2 * _ROWS:
        unit = _ROWS
        while rows > 16 * unit:  # twice as much is an eighth of the rows at most
            unit *= 2
    return longer(x, -rows % unit)


def longer(x: Tensor, surplus: int) -> Tensor:
    """x (N, …) with so many rows of 0 behind."""
    return torch.nn.functional.pad(x, (0,) * (2 * x.dim() - 1) + (surplus,)) if surplus else x


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x Wᵀ + b for x (N, k), a weight (m, k) that changes, and a bias (m,) of the same number format."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and _laid_out_by_library(x.dtype):
        # torch's own way of calling the library writes the bias to all rows first.
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return result
    return torch.nn.functional.linear(x, weight, bias)


def has_int8() -> bool:
    """Whether this build of torch has the 8-bit kernels, and the processor the instructions for them."""
    vnni = getattr(torch.cpu, "_is_vnni_supported", None)
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    there = available and hasattr(torch.ops.onednn, "qlinear_prepack")
    return there and vnni is not None and bool(vnni())


def has_tiles() -> bool:
    """Whether the processor multiplies 8-bit matrices tile by tile (AMX), in a fraction of the usual time."""
    tiles = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return tiles is not None and bool(tiles())


def pack(weight: Tensor, bias: Tensor | None, kind: Kind, *, bound: float | None = None) -> Multiply:
    """A matrix W (m, k) and a bias (m,), in fp32, ready to be multiplied with.

    Args:
        kind: The number format; the result of ``bf16`` is bf16, of the others fp32.
        bound: No input is larger in magnitude. Where it is known, as of everything that comes out
            of a tanh, 8-bit inputs need not be scaled row by row.
    """
    if kind == "int8":
        return _int8(weight, bias, bound)
    number = torch.bfloat16 if kind == "bf16" else torch.float32
    return _floating(weight.to(number).contiguous(), None if bias is None else bias.to(number))


def _floating(weight: Tensor, bias: Tensor | None) -> Multiply:
    # As torch's compiler calls them: the same product, without laying the weights out anew at each call. And
    # a row of it is the same to the last bit however many there are; those of MKL differ for less than 16.
    if weight.device.type != "cpu" or not _laid_out_by_library(weight.dtype):

        def plain(x: Tensor, onto: Tensor | None = None) -> Tensor:
            result = torch.nn.functional.linear(x, weight, bias)
            return result if onto is None else result.add_(onto)

        return plain

    laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    linear = torch.ops.mkldnn._linear_pointwise

    def product(x: Tensor, onto: Tensor | None = None) -> Tensor:
        result: Tensor
        if onto is None:
            result = linear(x, laid_out, bias, "none", [], "")
        else:
            result = linear.binary(x, onto, laid_out, bias, "add")
        return result

    return product


def _laid_out_by_library(number: torch.dtype) -> bool:
    """Whether this build of torch has the library, and the library kernels for the number format here."""
    library = torch.ops.mkldnn
    available = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if not available or not hasattr(library, "_reorder_linear_weight"):
        return False
    return number != torch.bfloat16 or bool(library._is_mkldnn_bf16_supported())


_ZERO = 128
"""The unsigned byte that stands for 0: the kernels want unsigned inputs and signed weights."""


def _int8(weight: Tensor, bias: Tensor | None, bound: float | None) -> Multiply:
    """With a scale for each output (its largest weight is 127), and one for each input row or for all."""
    scales = (weight.abs().amax(dim=1) / 127).clamp_min(1e-12)
    whole = (weight / scales.unsqueeze(1)).round_().to(torch.int8)
    laid_out = torch.ops.onednn.qlinear_prepack(whole, None)
    zeros = torch.zeros(weight.size(0), dtype=torch.int32)
    multiply = torch.ops.onednn.qlinear_pointwise
    # Half a step more, and what is cut off behind the point has been rounded.
    zero = torch.tensor(_ZERO + 0.5)

    def product(x: Tensor, steps: float, add: Tensor | None, onto: Tensor | None) -> Tensor:
        if (rows := x.size(0)) < _FEWEST:
            onto = onto if onto is None else filled(onto)
            return product(filled(x), steps, add, onto)[:rows]
        whole_x = torch.add(zero, x, alpha=steps).to(torch.uint8)
        given = (whole_x, 1 / steps, _ZERO, laid_out, scales, zeros)
        made = (1.0, 0, torch.float32)
        result: Tensor
        if onto is None:
            result = multiply(*given, add, *made, "none", [], "")
        else:
            result = multiply.binary(*given, onto, add, *made, 1.0, 0, "sum", 1.0, "none", [], "")
        return result

    if bound is not None:
        steps = 127 / bound
        return lambda x, onto=None: product(x, steps, bias, onto)

    def by_row(x: Tensor, onto: Tensor | None = None) -> Tensor:
        # A scale of the whole batch would make a translation depend on its neighbours.
        largest = x.abs().amax(dim=1, keepdim=True).clamp_min_(1e-12)
        result = product(x / largest, 127.0, None, None)
        result = result.mul_(largest) if bias is None else torch.addcmul(bias, result, largest, out=result)
        return result if onto is None else result.add_(onto)

    return by_row
