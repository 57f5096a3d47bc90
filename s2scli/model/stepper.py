"""The decoder once more, for search alone: the same equations on weights prepared for single steps.

`Decoder` shows the equations and trains; this one makes the same step with

- the matrices packed in the working number format (``packed``), two of them as one where that is faster;
- the embeddings' input projection looked up in a table instead of multiplied;
- W [a; s] = W_a a + W_s s split, and W_a h_i computed once per source token: as the weights α sum
  what they weigh, Σ α_i (W_a h_i) is W_a a;
- the output layer cut to a shortlist, if one is given.

Tests hold the two equal.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from s2scli.model.bounds import Bounds
from s2scli.model.grid import Grid
from s2scli.model.packed import Kind, Multiply, filled, has_tiles, pack
from s2scli.model.prediction import Dense
from s2scli.model.rnn import RNNLayer
from s2scli.model.seq2seq import Seq2Seq
from s2scli.model.shortlist import Shortlist
from s2scli.model.steplayer import StepLayer

_MULTIPLE = 64
"""The output layer gets so many columns, or several times as many; the surplus has probability 0."""
_PRESENT = 0.75
"""What belongs to sentences is moved together when no larger a share of them is still there."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The output layer, over the whole vocabulary or what a shortlist leaves of it.

    Attributes:
        logits: s̃ (N, h) to (N, C).
        width: C.
        columns: (C,) the token of each column, None where that is its own number.
        allowed: (B, C), 0 for a column in the sentence's own shortlist, else -inf; None if all are.
    """

    logits: Multiply
    width: int
    columns: Tensor | None = None
    allowed: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class StepperState:
    """What the stepper carries for N hypotheses of B sentences.

    It computes with P rows, N filled up (`filled`); what the surplus ones hold is never read. What belongs
    to sentences stays for a while when they have left: it is of A sentences, A ≥ B.

    Attributes:
        keys: (A, S, h); without attention, none.
        values: (A, S, h), W_a h_i; without attention, none.
        padding: (A, 1, S), 0 where there is a source token and -inf on padding.
        hidden: Of each layer (P, h).
        cell: Of each layer (P, h) in fp32; none for a GRU.
        attentional: s̃_{t-1} (P, h), if it is fed to the next step.
        output: The output layer; what it allows is of A sentences.
        grid: Which of the A sentences each hypothesis belongs to.
        present: (B,) which of the A sentences are still there; None if all are.
        steps: How many were made.
    """

    keys: Tensor
    values: Tensor
    padding: Tensor
    hidden: tuple[Tensor, ...]
    cell: tuple[Tensor, ...]
    attentional: Tensor | None
    output: Output
    grid: Grid
    present: Tensor | None = None
    steps: int = 0

    @property
    def columns(self) -> Tensor | None:
        """The token of each column of the predictions; None where that is its own number."""
        return self.output.columns

    def select(self, sentences: Tensor, hypotheses: Tensor, grid: Grid) -> StepperState:
        """The state in which hypothesis i of the new grid goes on with ``hypotheses[i]``."""
        keys, values, padding, output = self.keys, self.values, self.padding, self.output
        hypotheses = filled(hypotheses)
        # The order of sentences never changes, they only leave.
        present = sentences if self.present is None else self.present.index_select(0, sentences)
        if present.numel() <= _PRESENT * keys.size(0):
            keys, values = keys.index_select(0, present), values.index_select(0, present)
            padding = padding.index_select(0, present)
            if output.allowed is not None:
                output = replace(output, allowed=output.allowed.index_select(0, present))
        left = present.numel() < keys.size(0)
        return StepperState(
            keys=keys,
            values=values,
            padding=padding,
            hidden=tuple(h.index_select(0, hypotheses) for h in self.hidden),
            cell=tuple(c.index_select(0, hypotheses) for c in self.cell),
            attentional=None if self.attentional is None else self.attentional.index_select(0, hypotheses),
            output=output,
            grid=grid.among(present, keys.size(0)) if left else grid,
            present=present if left else None,
            steps=self.steps,
        )


class Stepper:
    """Makes the steps of a search; a `StepModel`.

    Args:
        model: In fp32; it must encode in fp32 or bf16 from then on.
        kind: The number format of the decoder's matrices. States are bf16 for ``bf16``, else fp32.
    """

    def __init__(self, model: Seq2Seq, kind: Kind) -> None:
        self.model, self.kind = model, kind
        self.dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        config, decoder = model.config, model.decoder
        self.feed, self.residual = config.feed, config.residual
        self.attention = None
        combine = decoder.combine.weight.detach()
        bounds = Bounds.of(config)
        if decoder.attention is not None:
            self.attention = copy.deepcopy(decoder.attention).float()
            # A learnt projection of encoder states is not bounded as they are.
            bounded = None if config.values == "projected" else bounds.encoded
            self.from_value = pack(combine[:, : config.hidden], None, kind, bound=bounded)
            combine = combine[:, config.hidden :]
        self.combine = pack(combine, decoder.combine.bias.detach(), kind, bound=bounds.outputs[-1])
        embedding = decoder.embedding.weight.detach().to(self.dtype)
        self.layers = []
        for i, layer in enumerate(decoder.rnn.layers):
            assert isinstance(layer, RNNLayer)
            bound = max(bounds.start, bounds.outputs[i - 1]) if i else bounds.start
            self.layers.append(StepLayer(layer, None if i else embedding, kind, bound))
        self._weight, self._bias = model.output.weight.detach(), model.output.bias.detach()
        self._narrow: tuple[Tensor, Tensor, Multiply] | None = None
        if model.narrow is not None:
            first, shift = model.narrow.weight.detach(), model.narrow.bias.detach()  # (e, h), (e,)
            self._narrow = first, shift, pack(first, shift, kind, bound=1.0)
        self.output = self._columns(None)

    def _columns(self, chosen: Tensor | None) -> Output:
        """The output layer for the chosen tokens, or all, filled up with columns that never win."""
        weight, bias = self._weight, self._bias
        if chosen is not None:
            weight, bias = weight.index_select(0, chosen), bias.index_select(0, chosen)
        surplus = -weight.size(0) % _MULTIPLE
        weight = torch.cat([weight, weight.new_zeros(surplus, weight.size(1))])
        bias = torch.cat([bias, bias.new_full((surplus,), -math.inf)])
        logits = self._logits(weight, bias, once=chosen is None)
        return Output(logits=logits, width=weight.size(0), columns=chosen)

    def _logits(self, weight: Tensor, bias: Tensor, *, once: bool) -> Multiply:
        """From s̃ to the logits of these rows of the output layer; ``once``: for all batches."""
        if self._narrow is None:
            return pack(weight, bias, self.kind, bound=1.0)
        first, shift, narrow = self._narrow
        if once and self.kind == "int8" and has_tiles() and first.size(1) <= 2 * first.size(0):
            # As one matrix, whose input is bounded by a tanh: a scale for each row would take longer.
            return pack(weight @ first, torch.addmv(bias, weight, shift), self.kind, bound=1.0)
        second = pack(weight, bias, self.kind)
        return lambda x, onto=None: second(narrow(x), onto)

    def start(self, source: Tensor, lengths: Tensor, shortlist: Shortlist | None = None) -> StepperState:
        """The state of one empty hypothesis for each of B sentences.

        Args:
            source: (B, S) ids; ``lengths`` (B,) of them are no padding.
            shortlist: What the output layer is cut to.
        """
        encoded = self.model.encode(source, lengths)
        first = self.model.decoder.start(encoded)
        keys = values = encoded.outputs[:, :0]  # without attention, nothing of it is ever read
        if self.attention is not None:
            memory = self.attention.memory(encoded.outputs.float(), encoded.mask)
            keys = memory.keys
            values = memory.values.transpose(0, 1)  # as the encoder lays them down: `flatten` copies nothing
            projected = self.from_value(values.flatten(0, 1).to(self.dtype))
            values = projected.view(values.shape).transpose(0, 1).float()
        padding = torch.zeros(encoded.mask.shape, device=source.device)
        output = self.output
        if shortlist is not None:
            chosen, allowed = shortlist.of(source)
            output = self._columns(chosen)
            mask = torch.where(allowed, 0.0, -math.inf)
            mask = torch.nn.functional.pad(mask, (0, output.width - chosen.numel()))
            output = replace(output, allowed=mask)
        cell = first.rnn.cell
        return StepperState(
            keys=keys,
            values=values,
            padding=padding.masked_fill_(~encoded.mask, -math.inf).unsqueeze(1),
            hidden=tuple(filled(h.to(self.dtype)) for h in first.rnn.hidden),
            cell=() if cell is None else tuple(filled(c.float()) for c in cell),
            attentional=None if first.attentional is None else filled(first.attentional.to(self.dtype)),
            output=output,
            grid=Grid(shape=(source.size(0), 1)),
        )

    def step(self, tokens: Tensor, state: StepperState) -> tuple[Dense, Tensor | None, StepperState]:
        """Append ``tokens`` (N,) to the hypotheses.

        Returns:
            Log-probabilities of the next token (N, C) in fp32, attention weights (B, k, S)
            or None, and the next state.
        """
        ids = filled(tokens if state.output.columns is None else state.output.columns.index_select(0, tokens))
        hiddens: list[Tensor] = []
        cells: list[Tensor] = []
        x = state.attentional
        for i, layer in enumerate(self.layers):
            hidden, cell = layer(ids, x, state.hidden[i], state.cell[i] if state.cell else None)
            hiddens.append(hidden)
            if cell is not None:
                cells.append(cell)
            x = hidden + x if i and self.residual and x is not None else hidden
        assert x is not None
        vectors, weights = self._attend(x, state)
        if self.feed == "state":
            hiddens[-1] = vectors
        following = StepperState(
            keys=state.keys,
            values=state.values,
            padding=state.padding,
            hidden=tuple(hiddens),
            cell=tuple(cells),
            attentional=vectors if self.feed == "input" else None,
            output=state.output,
            grid=state.grid,
            present=state.present,
            steps=state.steps + 1,
        )
        return Dense(self._log_probabilities(vectors, state)), weights, following

    def _attend(self, states: Tensor, state: StepperState) -> tuple[Tensor, Tensor | None]:
        """Equations 1-5: decoder states s (P, h) to s̃ (P, h) and α (B, k, S)."""
        if self.attention is None:
            return torch.tanh(self.combine(states).float()).to(self.dtype), None
        grid, steps = state.grid, range(state.steps, state.steps + 1)
        scores = self.attention.score(grid.spread(states[: grid.count].float()), state.keys, steps)
        weights = torch.softmax(scores.add_(state.padding), dim=-1)
        attended = grid.gather(torch.bmm(weights, state.values), states.size(0))  # Σ α_i (W_a h_i)
        if state.present is not None:
            weights = weights.index_select(0, state.present)
        mixed = self.combine(states, onto=attended.to(self.dtype))
        return torch.tanh(mixed.float()).to(self.dtype), weights

    def _log_probabilities(self, vectors: Tensor, state: StepperState) -> Tensor:
        """log p(y | s̃) (N, C) for s̃ (P, h)."""
        output, count = state.output, state.grid.count
        logits = output.logits(vectors)[:count]
        if output.allowed is not None:
            logits.add_(output.allowed.index_select(0, state.grid.sentences(output.allowed)))
        logits = logits.float()
        # In its own place: the logits are the largest tensor of a step, and another one would be new memory.
        return torch.log_softmax(logits, dim=-1, out=logits)
