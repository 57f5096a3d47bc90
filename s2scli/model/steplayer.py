"""One recurrent layer for single steps, its matrices packed and its embeddings looked up in a table."""

from __future__ import annotations

import torch
from torch import Tensor

from s2scli.model.inputtable import InputTable
from s2scli.model.packed import Kind, Multiply, pack
from s2scli.model.rnn import RNNLayer


class StepLayer:
    """One LSTM or GRU layer; its input is an embedding, or what other layers say, or both side by side."""

    def __init__(self, layer: RNNLayer, embedding: Tensor | None, kind: Kind, bound: float) -> None:
        """Pack a layer.

        Args:
            embedding: (V, e), if the first e inputs are an embedding.
            bound: No other input and no state is larger in magnitude.
        """
        lstm = layer.kind == "lstm"
        width = 0 if embedding is None else embedding.size(1)
        w_ih, w_hh, b_ih, b_hh = (w.detach() for w in layer.parameters_in_order)
        if lstm:
            # tanh(x) = 2 σ(2x) - 1, so that all four gates i, f, g, o are sigmoids of one product.
            twice = torch.ones(4, layer.hidden, device=w_ih.device)
            twice[2] = 2.0
            w_ih, w_hh, b_ih = (w * twice.view(-1, *[1] * (w.dim() - 1)) for w in (w_ih, w_hh, b_ih + b_hh))
        rest = w_ih[:, width:]
        self.inputs: InputTable | None = None
        if embedding is not None:  # computed once, or for few rows: no reason for 8 bits
            project = pack(w_ih[:, :width], b_ih, "fp32" if kind == "int8" else kind)
            self.inputs = InputTable(embedding, project, w_ih.size(0))
        bias = None if embedding is not None else b_ih
        self.from_input: Multiply | None = None
        if lstm:
            self.from_state = pack(torch.cat([rest, w_hh], dim=1), bias, kind, bound=bound)
        else:  # r lies inside the tanh of n, between what comes from the state and the rest
            self.from_state = pack(w_hh, b_hh, kind, bound=bound)
            if rest.size(1):
                self.from_input = pack(rest, bias, kind, bound=bound)

    def _embedded(self, ids: Tensor) -> Tensor | None:
        """The gates' share (N, gates·h) of the embedded tokens (N,)."""
        if self.inputs is None:
            return None
        table = self.inputs.whole(ids.numel())
        return self.inputs.some(ids) if table is None else table.index_select(0, ids)

    def __call__(
        self, ids: Tensor, x: Tensor | None, hidden: Tensor, cell: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens (N,), other inputs (N, d) or None and the state (N, h) to the next state."""
        embedded, h = self._embedded(ids), hidden.size(1)
        if cell is not None:
            gates = self.from_state(hidden if x is None else torch.cat([x, hidden], dim=1), onto=embedded)
            i, f, g, o = gates.float().sigmoid_().chunk(4, dim=1)
            cell = (cell * f).addcmul_(i, g.mul_(2.0).sub_(1.0))
            return torch.tanh(cell).mul_(o).to(hidden.dtype), cell
        given = self.from_input(x) if self.from_input is not None and x is not None else None
        if embedded is not None:
            given = embedded if given is None else given + embedded
        assert given is not None
        own = self.from_state(hidden)
        r, z = (given[:, : 2 * h] + own[:, : 2 * h]).sigmoid_().chunk(2, dim=1)
        n = torch.tanh(given[:, 2 * h :] + r * own[:, 2 * h :])
        return torch.lerp(n, hidden, z), None
