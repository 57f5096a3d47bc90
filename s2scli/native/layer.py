"""One recurrent layer for single steps, its gates finished where their sums are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import CDLL
from functools import partial

import torch
from torch import Tensor

from s2scli.model.inputtable import InputTable
from s2scli.model.rnn import RNNLayer
from s2scli.native import bindings as c
from s2scli.native.matrix import Number, Packed, Part

SIGMOID, TANH = -1 / math.log(2), -2 / math.log(2)
"""What the kernels want a sum times, of which they take σ or tanh."""
_UNITS = 16
"""Of a panel: four gates of each."""


def _times(w: Tensor, *factors: float) -> Tensor:
    """As many equal parts of w as there are factors, each times its own."""
    return torch.cat([part * factor for part, factor in zip(w.chunk(len(factors)), factors, strict=True)])


class NativeLayer:
    """One LSTM or GRU layer. Its inputs are an embedding, what other layers say, or both, and its own state.

    Args:
        embedding: (V, e), if the first e inputs are an embedding.
        bounds: Of the other inputs and of the state, the width of each and what none of its numbers exceeds.
        table: Whether the embedding is looked up multiplied already, once that is worth while: in 8 bits and
            for few rows the product is the faster way.
    """

    def __init__(
        self,
        layer: RNNLayer,
        embedding: Tensor | None,
        kind: Number,
        bounds: Sequence[tuple[int, float]],
        library: CDLL,
        *,
        table: bool = False,
    ) -> None:
        self.embedding, self.units = embedding, layer.hidden
        width = 0 if embedding is None else embedding.size(1)
        w_ih, w_hh, b_ih, b_hh = (w.detach().float() for w in layer.parameters_in_order)
        h = layer.hidden
        if layer.kind == "lstm":
            self.kernel = library.s2s_lstm
            factors = (SIGMOID, SIGMOID, TANH, SIGMOID)
            w_ih, w_hh, bias = (_times(w, *factors) for w in (w_ih, w_hh, b_ih + b_hh))
        else:
            # Four gates too: n's share of the state, which r decides about, and that of all else are two.
            self.kernel = library.s2s_gru
            w_ih, w_hh, b_ih, b_hh = (_times(w, SIGMOID, SIGMOID, TANH) for w in (w_ih, w_hh, b_ih, b_hh))
            bias = torch.cat([b_ih[: 2 * h] + b_hh[: 2 * h], b_hh[2 * h :], b_ih[2 * h :]])
            w_hh = torch.cat([w_hh, w_hh.new_zeros(h, h)])
            w_ih = torch.cat([w_ih[: 2 * h], w_ih.new_zeros(h, w_ih.size(1)), w_ih[2 * h :]])
        # All gates of 16 units stand together.
        order = torch.arange(4 * h).view(4, h // _UNITS, _UNITS).transpose(0, 1).flatten()
        weight, bias = torch.cat([w_ih, w_hh], dim=1)[order], bias[order]
        bounds = list(bounds)
        self.inputs: InputTable | None = None
        if table and embedding is not None:
            embedded = Packed(weight[:, :width], bias, kind, None)
            self.inputs = InputTable(embedding, partial(embedded, library), embedded.columns)
            self.matrix = Packed(weight[:, width:], None, kind, bounds)
        else:
            if embedding is not None:
                bounds.insert(0, (width, max(1e-6, float(embedding.abs().max()))))
            self.matrix = Packed(weight, bias, kind, bounds)

    def __call__(
        self,
        ids: Tensor,
        others: Sequence[Part],
        hidden: Part,
        cell: Part | None,
        *,
        into: Part | None = None,
        cells: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One step of N rows.

        Args:
            ids: (N,) tokens; of no matter without an embedding.
            others: The other inputs.
            hidden: The states.
            cell: An LSTM's cells; None for a GRU.
            into: A tensor for the next hidden states, and the rows (N,) of it where they go; else a new one.
            cells: (N, h), or more rows, for the next cells; else a new one.

        Returns:
            The next hidden states and cells.
        """
        if into is None:
            into = hidden[0].new_empty(ids.numel(), self.units), None
        if cells is None and cell is not None:
            cells = hidden[0].new_empty(ids.numel(), self.units)
        parts: list[Part] = [*others, hidden]
        table = token = None
        if self.inputs is not None:  # the gates' share with the bias, and the row of it for each token
            table, token = self.inputs.whole(ids.numel()), ids
            if table is None:
                table, token = self.inputs.some(ids), torch.arange(ids.numel())
        elif self.embedding is not None:
            parts.insert(0, (self.embedding, ids))
        state, parents = hidden if cell is None else cell
        layer = c.Layer(
            table=c.address(table),
            token=c.address(token),
            state=c.address(state),
            parent=c.address(parents),
            place=c.address(into[1]),
            hidden=c.address(into[0]),
            cell=c.address(cells),
            units=self.units,
            state_stride=state.stride(0),
            hidden_stride=into[0].stride(0),
        )
        self.matrix.then(self.kernel, parts, layer)
        return into[0], cells
