"""The LSTM of training by kernels of our own: its recurrence apart, all else as large products."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2scli.model.rnn import library_lstm
from s2scli.native.bindings import address, kernels
from s2scli.native.dense import product
from s2scli.native.team import team

PAIR = 32
"""Rows that are read together, at times beyond the last (``recurrence.c``)."""
UNITS = 32
"""Of a layer, a multiple of it."""


class _Recurrence(Structure):
    """``struct recurrence`` of ``recurrence.c``."""

    _fields_ = [
        ("steps", c_int64),
        ("rows", c_int64),
        ("units", c_int64),
        ("whole", c_int64),
        ("weight", c_void_p),
        ("packed", c_void_p),
        ("gates", c_void_p),
        ("hidden", c_void_p),
        ("cell", c_void_p),
        ("outer", c_void_p),
        ("slopes", c_void_p),
        ("carried", c_void_p),
        ("bias", c_void_p),
        ("split", c_void_p),
    ]


class _Sequence:
    """What forward and backward have in common: T steps of B rows, their gates, and the states between them.

    Args:
        weight: (4h, h), in bf16 or fp32, as is all but cells.
        gates: (T · B, 4h); ``states`` and ``cells``: (T · B + B, h), states with room for `PAIR` rows more.
    """

    def __init__(self, rows: int, weight: Tensor, gates: Tensor, states: Tensor, cells: Tensor) -> None:
        self.rows, self.units = rows, weight.size(1)
        self.whole = weight.dtype == torch.float32
        self.kept = [
            weight.contiguous(),
            weight.new_empty(weight.numel() * (2 if self.whole else 1), dtype=torch.bfloat16),
        ]
        self.struct = _Recurrence(
            steps=gates.size(0) // rows,
            rows=rows,
            units=self.units,
            whole=self.whole,
            weight=address(self.kept[0]),
            packed=address(self.kept[1]),
            gates=address(gates),
            hidden=address(states),
            cell=address(cells),
        )

    def run(self, kernel: Any, inputs: int, **more: Tensor) -> None:
        """Let a kernel, whose products have so many inputs, pass through the steps."""
        if self.whole:
            more["split"] = torch.empty(2, self.rows + PAIR, 2, inputs, dtype=torch.bfloat16)
        for name, tensor in more.items():
            setattr(self.struct, name, address(tensor))
        kernel(byref(self.struct), byref(team(self.units // UNITS)))


class _LSTM(torch.autograd.Function):
    """x (T, B, d), the state (B, h) and the weights, all in bf16 or all in fp32, to the outputs (T, B, h)."""

    @staticmethod
    def forward(
        ctx: Any,
        library: CDLL,
        x: Tensor,
        hidden: Tensor,
        cell: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
    ) -> Tensor:
        steps, rows, width = x.shape
        units, total = hidden.size(1), steps * rows
        flat = x.reshape(total, width)
        bias = b_ih + b_hh
        gates = product(library, flat, w_ih.t(), bias)
        states, cells = x.new_empty(total + rows + PAIR, units), torch.empty(total + rows, units)
        states[:rows], cells[:rows] = hidden, cell
        _Sequence(rows, w_hh, gates, states, cells).run(library.s2s_lstm_forward, units)
        ctx.kernels = library
        ctx.save_for_backward(flat, w_ih, w_hh, gates, states, cells)
        ctx.shape = x.shape
        return states[rows : rows + total].view(steps, rows, units)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        flat, w_ih, w_hh, gates, states, cells = ctx.saved_tensors
        _, rows, _ = ctx.shape
        units, total = w_hh.size(1), gates.size(0)
        slopes = gates.new_empty(total + PAIR, 4 * units)
        carried, bias = torch.zeros(rows, units), torch.zeros(4 * units)
        _Sequence(rows, w_hh, gates, states, cells).run(
            ctx.kernels.s2s_lstm_backward,
            4 * units,
            outer=outer[0].contiguous(),
            slopes=slopes,
            carried=carried,
            bias=bias,
        )
        slopes = slopes[:total]
        of_input = None
        if ctx.needs_input_grad[1]:
            of_input = product(ctx.kernels, slopes, w_ih).view(ctx.shape)
        return (
            None,
            of_input,
            slopes[:rows] @ w_hh if ctx.needs_input_grad[2] else None,
            carried.to(slopes.dtype) if ctx.needs_input_grad[3] else None,
            product(ctx.kernels, slopes.t(), flat),
            product(ctx.kernels, slopes.t(), states[:total]),
            bias.to(slopes.dtype),
            bias.to(slopes.dtype, copy=True),
        )


def lstm(x: Tensor, hidden: Tensor, cell: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """An `LSTMKernel`: that of our own where it is built and the processor has tiles, else torch's."""
    known = x.dtype in (torch.bfloat16, torch.float32) and x.device.type == "cpu"
    library = kernels() if known else None
    if library is None or not library.s2s_half() or hidden.size(1) % UNITS:
        return library_lstm(x, hidden, cell, weights)
    output: Tensor = _LSTM.apply(library, x, hidden, cell, *weights)  # type: ignore[no-untyped-call]
    return output
