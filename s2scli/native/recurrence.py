"""The LSTM of training by kernels of our own: its recurrence apart, all else as large products."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from s2scli.model.rnn import library_lstm
from s2scli.native.bindings import address, kernels_for
from s2scli.native.dense import SIDE, in_panels, product
from s2scli.native.team import team

PAIR = 32
"""Rows that are read together, at times beyond the last (``recurrence.c``)."""


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
        ("laid", c_void_p),
    ]


class _Sequence:
    """What forward and backward have in common: T steps of B rows, their gates, and the states between them.

    Args:
        weight: (4h, h), in bf16 or fp32, as is all but cells.
        gates: (4h/32, T · B, 32), in panels.
        states: (T · B + B, h); ``cells``: (h/32, T · B + B, 32), in panels.
    """

    def __init__(self, rows: int, weight: Tensor, gates: Tensor, states: Tensor, cells: Tensor) -> None:
        self.rows, self.units = rows, weight.size(1)
        self.whole = weight.dtype == torch.float32
        self.kept = [
            weight.contiguous(),
            weight.new_empty(weight.numel() * (2 if self.whole else 1), dtype=torch.bfloat16),
        ]
        self.struct = _Recurrence(
            steps=gates.size(1) // rows,
            rows=rows,
            units=self.units,
            whole=self.whole,
            weight=address(self.kept[0]),
            packed=address(self.kept[1]),
            gates=address(gates),
            hidden=address(states),
            cell=address(cells),
        )

    def run(self, kernel: Any, laid: int, **more: Tensor) -> None:
        """Let a kernel pass through the steps, whose tiles read so many columns laid out for them."""
        more["laid"] = torch.empty(2 * self.rows * laid + PAIR * SIDE, dtype=torch.bfloat16)
        for name, tensor in more.items():
            setattr(self.struct, name, address(tensor))
        kernel(byref(self.struct), byref(team(self.units // SIDE)))


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
        gates = product(library, flat, w_ih.t(), bias, panels=True)
        states, cells = x.new_empty(total + rows, units), torch.empty(units // SIDE, total + rows, SIDE)
        states[:rows], cells[:, :rows] = hidden, in_panels(cell)
        sequence = _Sequence(rows, w_hh, gates, states, cells)
        sequence.run(library.s2s_lstm_forward, units * (2 if sequence.whole else 1))
        ctx.kernels = library
        ctx.save_for_backward(flat, w_ih, w_hh, gates, states, cells)
        ctx.shape = x.shape
        return states[rows:].view(steps, rows, units)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        flat, w_ih, w_hh, gates, states, cells = ctx.saved_tensors
        _, rows, _ = ctx.shape
        units, total = w_hh.size(1), gates.size(1)
        room = gates.new_empty(gates.numel() + PAIR * SIDE)
        slopes = room[: gates.numel()].view(gates.shape)
        carried, bias = torch.zeros(units // SIDE, rows, SIDE), torch.zeros(4 * units)
        sequence = _Sequence(rows, w_hh, gates, states, cells)
        sequence.run(
            ctx.kernels.s2s_lstm_backward,
            8 * units if sequence.whole else 0,
            outer=outer[0].contiguous(),
            slopes=slopes,
            carried=carried,
            bias=bias,
        )
        by_rows, turned = slopes.transpose(0, 1), slopes.transpose(1, 2)
        of_input = of_hidden = of_cell = None
        if ctx.needs_input_grad[1]:
            of_input = product(ctx.kernels, by_rows, w_ih).view(ctx.shape)
        if ctx.needs_input_grad[2]:
            of_hidden = product(ctx.kernels, by_rows[:rows], w_hh)
        if ctx.needs_input_grad[3]:
            of_cell = carried.transpose(0, 1).reshape(rows, units).to(slopes.dtype)
        return (
            None,
            of_input,
            of_hidden,
            of_cell,
            product(ctx.kernels, turned, flat),
            product(ctx.kernels, turned, states[:total]),
            bias.to(slopes.dtype),
            bias.to(slopes.dtype, copy=True),
        )


def lstm(x: Tensor, hidden: Tensor, cell: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """An `LSTMKernel`: that of our own where it is built and the processor has tiles, else torch's."""
    library = kernels_for(x, tiles=True)
    if library is None or hidden.size(1) % SIDE:
        return library_lstm(x, hidden, cell, weights)
    output: Tensor = _LSTM.apply(library, x, hidden, cell, *weights)  # type: ignore[no-untyped-call]
    return output
