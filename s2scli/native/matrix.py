"""Matrices as the kernels read them, and their products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import CDLL, Structure, byref
from typing import Any, Literal

import torch
from torch import Tensor

from s2scli.model.packed import Kind
from s2scli.native import bindings as c

PANEL, BLOCK = 64, 16
"""Columns of a panel and rows of a block (``inputs.h``)."""
_FP32, _BYTES, _OWN, _HALF, _HALVES = range(5)
"""Number formats of a matrix (``inputs.h``)."""

Number = Literal["fp32", "halves", "bf16", "int8"]
"""``halves``: each number as the sum of two in bf16, 16 bits together. Of the four products of their parts
the three larger ones are summed in fp32, which takes less time than one product in fp32 without tiles."""

Part = tuple[Tensor, Tensor | None]
"""Rows (M, k), and which of them (N,) are meant; None if all are, in order."""


def filled_up(n: int, unit: int) -> int:
    """The next multiple of ``unit``."""
    return n + -n % unit


def rows_of(part: Part) -> int:
    """N."""
    return part[0].size(0) if part[1] is None else part[1].numel()


def number_of(library: CDLL, kind: Kind) -> Number | None:
    """In which numbers the kernels multiply for a precision; None if they do not."""
    if kind == "fp32":
        return "halves" if library.s2s_half() else "fp32"
    return kind if (library.s2s_half() if kind == "bf16" else library.s2s_int8()) else None


class Packed:
    """A matrix W (m, k) and a bias (m,), laid out in panels of columns.

    In 8 bits each output has a scale of its own: its largest weight is 127.

    Args:
        weight: In fp32.
        kind: What its numbers become; all else is fp32.
        bounds: Of each part of the inputs, its width and what is no smaller than any of its numbers. None:
            not known, and each 8-bit row of inputs has a scale of its own.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, kind: Number, bounds: Sequence[tuple[int, float]] | None
    ) -> None:
        self.kind, self.columns, self.width = kind, weight.size(0), filled_up(weight.size(0), PANEL)
        more = self.width - self.columns
        weight = weight.float()
        bias = weight.new_zeros(self.columns) if bias is None else bias.float()
        self._bias = torch.nn.functional.pad(bias, (0, more)).contiguous()
        self._scale = self._offset = None
        number, steps = _FP32, [0.0] * c.PARTS
        if kind == "int8":
            number = _OWN if bounds is None else _BYTES
            if bounds is not None:
                weight = weight * torch.cat([weight.new_full((width,), bound) for width, bound in bounds])
                steps[: len(bounds)] = [127 / bound for _, bound in bounds]
            scale = (weight.abs().amax(dim=1) / 127).clamp_min(1e-12)
            whole = (weight / scale.unsqueeze(1)).round_().to(torch.int8)
            self.inputs = filled_up(weight.size(1), PANEL)
            whole = torch.nn.functional.pad(whole, (0, self.inputs - weight.size(1), 0, more))
            self._scale = torch.nn.functional.pad(scale, (0, more)).contiguous()
            self._offset = whole.sum(dim=1, dtype=torch.int32) * 128
            if bounds is not None:  # what a step is worth, and what the offset adds, are known beforehand
                self._scale /= 127
                self._bias -= self._offset * self._scale
            panels = whole.view(-1, PANEL, self.inputs // 4, 4).transpose(1, 2)
        elif kind == "fp32":
            self.inputs = weight.size(1)
            panels = torch.nn.functional.pad(weight, (0, 0, 0, more)).view(-1, PANEL, self.inputs).mT
        else:
            number = _HALVES if kind == "halves" else _HALF
            self.inputs = filled_up(weight.size(1), PANEL)
            weight = torch.nn.functional.pad(weight, (0, self.inputs - weight.size(1), 0, more))
            halves = [weight.to(torch.bfloat16)]
            if kind == "halves":
                halves.append((weight - halves[0]).to(torch.bfloat16))
            panels = (
                torch.stack(halves).view(len(halves), -1, PANEL, self.inputs // 2, 2).permute(1, 0, 3, 2, 4)
            )
        self._panels = panels.contiguous()
        self._struct = c.Matrix(
            kind=number,
            columns=self.width,
            inputs=self.inputs,
            weights=c.address(self._panels),
            scale=c.address(self._scale),
            offset=c.address(self._offset),
            bias=c.address(self._bias),
            steps=tuple(steps),
        )

    def then(self, kernel: Callable[..., Any], parts: Sequence[Part], more: Structure) -> None:
        """Multiply with rows of inputs, parts beside each other, and let the kernel finish the product."""
        count = rows_of(parts[0])
        given = c.Input(rows=count)
        for i, (x, index) in enumerate(parts):
            assert rows_of((x, index)) == count and x.dtype == torch.float32
            given.x[i], given.index[i] = c.address(x), c.address(index)
            given.width[i], given.stride[i] = x.size(1), x.stride(0)
        size = {"int8": 1, "bf16": 2}.get(self.kind, 4)
        laid = torch.empty(filled_up(count, BLOCK) * self.inputs * size, dtype=torch.uint8)
        scale = torch.empty(count)
        given.laid, given.scale = c.address(laid), c.address(scale)
        kernel(byref(self._struct), byref(given), byref(more))

    def __call__(self, library: CDLL, x: Tensor, *, onto: Tensor | None = None, bend: bool = False) -> Tensor:
        """Rows x (N, k) to x Wᵀ + b (N, m), added to ``onto`` (N, m).

        With ``bend`` to the tanh of a sum that is given times -2 / ln 2.
        """
        assert self.columns % 16 == 0  # the kernel writes so many at a time
        out = torch.empty(x.size(0), self.columns)
        plain = c.Plain(
            onto=c.address(onto), out=c.address(out), columns=self.columns, stride=self.columns, bend=bend
        )
        self.then(library.s2s_product, [(x, None)], plain)
        return out
