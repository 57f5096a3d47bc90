"""LSTM and GRU behind one state type.

A layer reads a whole padded (B, T, d) input in one fused call, or one step of it.
Nothing random happens inside the recurrence, where it would break the fused
kernels: dropout stands on the inputs and outputs of layers or on their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2scli.config import Cell


@dataclass(frozen=True, kw_only=True)
class RNNState:
    """What a stack of L layers carries from one step to the next.

    Attributes:
        hidden: (L, N, h).
        cell: (L, N, h) for an LSTM, None for a GRU.
    """

    hidden: Tensor
    cell: Tensor | None

    def select(self, rows: Tensor) -> RNNState:
        """The state whose row i is row ``rows[i]`` of this one."""
        cell = None if self.cell is None else self.cell.index_select(1, rows)
        return RNNState(hidden=self.hidden.index_select(1, rows), cell=cell)

    def with_top(self, hidden: Tensor) -> RNNState:
        """The state with the (N, h) hidden state of the top layer replaced."""
        return RNNState(hidden=torch.cat([self.hidden[:-1], hidden.unsqueeze(0)]), cell=self.cell)


class Dropout(nn.Module):
    """Dropout whose mask may be the same at every time step (Gal & Ghahramani 2016)."""

    def __init__(self, rate: float, *, over_time: bool) -> None:
        super().__init__()
        self.rate = rate
        self.over_time = over_time

    def forward(self, x: Tensor) -> Tensor:
        """Drop units of x (B, T, d)."""
        if not self.training or self.rate == 0:
            return x
        return x * self.mask(x[:, :1] if self.over_time else x)

    def mask(self, like: Tensor) -> Tensor:
        """A random mask of the shape of ``like``: 0 with probability ``rate``, else 1/(1 - rate).

        A byte of chance decides about each unit, so ``rate`` is rounded to a 256th, up if it is less. On a
        CPU that takes a twentieth of the time of torch's own dropout, which draws 64 bits for each.
        """
        if not self.training or not self.rate:
            return torch.ones_like(like)
        dropped = min(255, max(1, round(256 * self.rate)))
        drawn = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device)
        chance = drawn.random_(-(2**63), None).view(torch.uint8)[: like.numel()].view(like.shape)
        # Compared as numbers, which all formats hold: torch is slow at turning truth into numbers.
        return chance.to(like.dtype).ge_(dropped).mul_(256 / (256 - dropped))


LSTMKernel = Callable[[Tensor, Tensor, Tensor, Sequence[Tensor]], Tensor]
"""x (T, B, d), first states and cells (B, h), and the weights in torch's order, to the outputs (T, B, h)."""


def library_lstm(x: Tensor, hidden: Tensor, cell: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The `LSTMKernel` that torch has."""
    options = (True, 1, 0.0, torch.is_grad_enabled(), False, False)
    output: Tensor = torch.lstm(x, [hidden.unsqueeze(0), cell.unsqueeze(0)], list(weights), *options)[0]
    return output


class RNNLayer(nn.Module):
    """One LSTM or GRU layer, forward in time.

    The weights are laid out as in ``torch.nn.LSTM`` and ``torch.nn.GRU`` (gates i, f, g, o
    and r, z, n). They are plain parameters so that a training step may run on a copy in
    another number format or with some weights dropped.

    Attributes:
        lstm: What reads a whole sequence.
    """

    def __init__(self, cell: Cell, input_size: int, hidden: int) -> None:
        super().__init__()
        self.kind = cell
        self.hidden = hidden
        self.lstm: LSTMKernel = library_lstm
        gates = 4 if cell == "lstm" else 3
        self.weight_ih = nn.Parameter(torch.empty(gates * hidden, input_size))
        self.weight_hh = nn.Parameter(torch.empty(gates * hidden, hidden))
        self.bias_ih = nn.Parameter(torch.zeros(gates * hidden))
        self.bias_hh = nn.Parameter(torch.zeros(gates * hidden))

    def reset_parameters(self) -> None:
        """Glorot for the input weights, orthogonal recurrent weights, forget gate open."""
        for gate in self.weight_ih.chunk(4 if self.kind == "lstm" else 3):
            nn.init.xavier_uniform_(gate.data)
        for gate in self.weight_hh.chunk(4 if self.kind == "lstm" else 3):
            nn.init.orthogonal_(gate.data)
        for bias in (self.bias_ih, self.bias_hh):
            nn.init.zeros_(bias.data)
        if self.kind == "lstm":
            nn.init.ones_(self.bias_ih.data[self.hidden : 2 * self.hidden])

    @property
    def parameters_in_order(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The weights in the order that torch's kernels take them."""
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor | None) -> Tensor:
        """Read x (B, T, d) from the state (B, h); returns the outputs (B, T, h).

        Rows are read to the end of their padding, so what comes after a row's length
        means nothing and the caller must mask it. The kernels read and write tensors in
        whose memory time comes first: others are copied.
        """
        x = x.transpose(0, 1)
        if cell is not None:
            return self.lstm(x, hidden, cell, self.parameters_in_order).transpose(0, 1)
        options = (True, 1, 0.0, self.training, False, False)
        output, _ = torch.gru(x, hidden.unsqueeze(0), list(self.parameters_in_order), *options)
        return output.transpose(0, 1)

    def step(self, x: Tensor, hidden: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One step: x (N, d) and the state (N, h) to the next hidden state and cell, each (N, h)."""
        if cell is not None:
            return torch.lstm_cell(x, [hidden, cell], *self.parameters_in_order)
        return torch.gru_cell(x, hidden, *self.parameters_in_order), None


class RNN(nn.Module):
    """A stack of layers; from the second on, each may add its input to its output (residual)."""

    def __init__(
        self, cell: Cell, input_size: int, hidden: int, layers: int, *, residual: bool, dropout: Dropout
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            RNNLayer(cell, hidden if i else input_size, hidden) for i in range(layers)
        )
        self.residual = residual
        self.dropout = dropout

    def forward(self, x: Tensor, state: RNNState) -> Tensor:
        """Read x (B, T, d) from ``state``; returns the outputs of the top layer (B, T, h)."""
        for i, layer in enumerate(self.layers):
            if i:
                x = self.dropout(x)
            output = layer(x, state.hidden[i], None if state.cell is None else state.cell[i])
            x = output + x if i and self.residual else output
        return x

    def step(self, x: Tensor, state: RNNState, masks: list[Tensor] | None = None) -> tuple[Tensor, RNNState]:
        """One step: x (N, d) to the output of the top layer (N, h) and the next state.

        Args:
            masks: Dropout masks (N, h) for the inputs of the layers beyond the first, the same
                at every step of a sentence; None at inference.
        """
        hiddens, cells = [], []
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, RNNLayer)
            if i and masks:
                x = x * masks[i - 1]
            hidden, cell = layer.step(x, state.hidden[i], None if state.cell is None else state.cell[i])
            hiddens.append(hidden)
            if cell is not None:
                cells.append(cell)
            x = hidden + x if i and self.residual else hidden
        return x, RNNState(hidden=torch.stack(hiddens), cell=torch.stack(cells) if cells else None)


def zeros(cell: Cell, layers: int, batch: int, hidden: int, like: Tensor) -> RNNState:
    """The state of nothing read yet, in the number format and on the device of ``like``."""
    nothing = like.new_zeros(layers, batch, hidden)
    return RNNState(hidden=nothing, cell=nothing if cell == "lstm" else None)
