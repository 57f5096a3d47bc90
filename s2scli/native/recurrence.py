"""The LSTM of training by kernels of our own: its recurrence apart, all else as large products."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, Structure, byref, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from s2scli.model.rnn import library_lstm
from s2scli.native.bindings import address, kernels
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
        ("weight", c_void_p),
        ("packed", c_void_p),
        ("gates", c_void_p),
        ("hidden", c_void_p),
        ("cell", c_void_p),
        ("outer", c_void_p),
        ("slopes", c_void_p),
        ("carried", c_void_p),
    ]


class _Turning(Structure):
    """``struct turning`` of ``recurrence.c``."""

    _fields_ = [("from", c_void_p), ("to", c_void_p), ("rows", c_int64), ("columns", c_int64)]


def turned(library: CDLL, x: Tensor) -> Tensor:
    """xᵀ of a matrix in bf16, in memory too."""
    rows, columns = x.shape
    out = x.new_empty(columns, rows)
    given = _Turning(address(x), address(out), rows, columns)
    library.s2s_turn(byref(given), byref(team(columns)))
    return out


class _LSTM(torch.autograd.Function):
    """x (T, B, d), the state (B, h) and the weights, all in bf16, to the outputs (T, B, h)."""

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
        gates = torch.nn.functional.linear(flat, w_ih, b_ih + b_hh)
        states = x.new_empty(total + rows + PAIR, units)
        states[:rows] = hidden
        cells = torch.empty(total + rows, units)
        cells[:rows] = cell
        weight, packed = w_hh.contiguous(), torch.empty_like(w_hh)
        sequence = _Recurrence(
            steps=steps,
            rows=rows,
            units=units,
            weight=address(weight),
            packed=address(packed),
            gates=address(gates),
            hidden=address(states),
            cell=address(cells),
        )
        library.s2s_lstm_forward(byref(sequence), byref(team(units // UNITS)))
        ctx.library = library
        ctx.save_for_backward(flat, w_ih, w_hh, gates, states, cells)
        ctx.shape = x.shape
        return states[rows : rows + total].view(steps, rows, units)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        flat, w_ih, w_hh, gates, states, cells = ctx.saved_tensors
        steps, rows, _ = ctx.shape
        units, total = w_hh.size(1), steps * rows
        slopes = gates.new_empty(total + PAIR, 4 * units)
        above, carried = outer[0].contiguous(), torch.zeros(rows, units)
        weight, packed = w_hh.contiguous(), torch.empty_like(w_hh)
        sequence = _Recurrence(
            steps=steps,
            rows=rows,
            units=units,
            weight=address(weight),
            packed=address(packed),
            gates=address(gates),
            hidden=address(states),
            cell=address(cells),
            outer=address(above),
            slopes=address(slopes),
            carried=address(carried),
        )
        ctx.library.s2s_lstm_backward(byref(sequence), byref(team(units // UNITS)))
        slopes = slopes[:total]
        bias, by_sum = slopes.sum(0), turned(ctx.library, slopes)
        return (
            None,
            (slopes @ w_ih).view(ctx.shape) if ctx.needs_input_grad[1] else None,
            slopes[:rows] @ w_hh,
            carried.to(slopes.dtype),
            by_sum @ flat,
            by_sum @ states[:total],
            bias,
            bias.clone(),
        )


def lstm(x: Tensor, hidden: Tensor, cell: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """An `LSTMKernel`: that of our own for bf16 where it is built and the processor has tiles, else torch's."""
    library = kernels() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else None
    if library is None or not library.s2s_half() or hidden.size(1) % UNITS:
        return library_lstm(x, hidden, cell, weights)
    output: Tensor = _LSTM.apply(library, x, hidden, cell, *weights)  # type: ignore[no-untyped-call]
    return output
