"""The decoder for search once more, by kernels of our own: each product with all that follows it.

The equations are those of `model.decoder`, prepared as in `model.stepper`. What differs is where numbers go:
a product's sums are finished (gates, tanh, softmax and the best tokens) while they are in the cache, and
neither logits nor log-probabilities are written to memory unless somebody asks for all of them. Each row
is computed in the same order whatever stands beside it. Tests hold it equal to the plain decoder.
"""

from __future__ import annotations

import math
from ctypes import CDLL, byref
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from s2scli.config import ModelConfig
from s2scli.model.bounds import Bounds
from s2scli.model.grid import Grid
from s2scli.model.packed import Kind
from s2scli.model.rnn import RNNLayer
from s2scli.model.seq2seq import Seq2Seq
from s2scli.model.shortlist import Shortlist
from s2scli.native import bindings as c
from s2scli.native.encoder import NativeEncoder
from s2scli.native.layer import TANH, NativeLayer
from s2scli.native.matrix import Number, Packed, Part, filled_up, number_of
from s2scli.native.prediction import IMPOSSIBLE, NativePrediction, Output


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What B sentences give to attend to; all of it stays where it is when sentences leave.

    Attributes:
        keys: (B, S, h).
        values: (B, S, h), W_a h_i.
        lengths: (B,).
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor


@dataclass(frozen=True, kw_only=True)
class NativeState:
    """The state of N hypotheses of sentences that were B in the beginning.

    Which row a hypothesis goes on with is noted, and the rows are read there by the next step.

    Attributes:
        memory: Of the B sentences; None without attention.
        output: The output layer.
        hidden: Of each layer (M, h).
        cell: Of each layer (M, h); none for a GRU.
        attentional: s̃_{t-1} (M, h), if it is fed to the next step.
        parents: (N,) the row of these M that each hypothesis continues; None where M = N and each its own.
        grid: Where the N stand.
        present: (B',) which of the B sentences are still there.
        steps: How many were made.
    """

    memory: Memory | None
    output: Output
    hidden: tuple[Tensor, ...]
    cell: tuple[Tensor, ...]
    attentional: Tensor | None
    parents: Tensor | None
    grid: Grid
    present: Tensor
    steps: int = 0

    @property
    def columns(self) -> Tensor | None:
        """The token of each column of the predictions; None where that is its own number."""
        return self.output.columns

    @property
    def sentences(self) -> Tensor:
        """(N,) the sentence of each hypothesis, by its number in the beginning."""
        return self.present.index_select(0, self.grid.sentences(self.present))

    def select(self, sentences: Tensor, hypotheses: Tensor, grid: Grid) -> NativeState:
        """The state in which hypothesis i of the new grid goes on with ``hypotheses[i]``."""
        parents = hypotheses if self.parents is None else self.parents.index_select(0, hypotheses)
        return replace(self, parents=parents, grid=grid, present=self.present.index_select(0, sentences))


def supported(library: CDLL, config: ModelConfig, kind: Kind) -> Number | None:
    """In which numbers the kernels search with such a model and precision; None if they do not know it."""
    widths = (config.hidden // (2 if config.bidirectional else 1), config.embedding)
    known = config.attention != "additive" and all(width % 16 == 0 for width in widths)
    return number_of(library, kind) if known else None


class NativeStepper:
    """Makes the steps of a search; a `Searchable`.

    Args:
        model: In fp32; it must encode in fp32 or bf16 from then on. Its configuration is a `supported` one.
        library: The kernels.
        number: What the numbers of the matrices become. All else is fp32.
    """

    def __init__(self, model: Seq2Seq, library: CDLL, number: Number) -> None:
        self.kernels, self.number = library, number
        self.config = config = model.config
        self.encoder = NativeEncoder(model, library, number)
        decoder, h = model.decoder, config.hidden
        combine = decoder.combine.weight.detach().float() * TANH
        bounds = Bounds.of(config)
        encoded = [(h, bounds.encoded)]
        self.from_key: Packed | None = None
        self.from_value: Packed | None = None
        self.position: tuple[int, Tensor] | None = None
        if decoder.attention is not None:
            # Σ α_i V h_i is summed, and W_a of it is wanted: both are one matrix.
            value, combine = combine[:, :h], combine[:, h:]
            if decoder.attention.project_values is not None:
                value = value @ decoder.attention.project_values.weight.detach().float()
            self.from_value = Packed(value, None, number, encoded)
            if decoder.attention.project_keys is not None:
                self.from_key = Packed(decoder.attention.project_keys.weight.detach(), None, number, encoded)
            if (positions := decoder.attention.positions) is not None:
                self.position = positions.reach, positions.bias.detach().float() / math.log(2)
        project = decoder.bridge.project
        self.bridge: Packed | None = None
        if project is not None:
            weight, bias = (w.detach().float() * TANH for w in (project.weight, project.bias))
            self.bridge = Packed(weight, bias, number, encoded)
        bias = decoder.combine.bias.detach() * TANH
        self.combine = Packed(combine, bias, number, [(h, bounds.outputs[-1])])
        embedding = decoder.embedding.weight.detach().float()
        self.layers = []
        for i, layer in enumerate(decoder.rnn.layers):
            assert isinstance(layer, RNNLayer)
            given = [(h, bounds.outputs[i - 1])] if i else [(h, 1.0)] * (config.feed == "input")
            own = [*given, (h, max(1.0, bounds.start))]
            self.layers.append(
                NativeLayer(layer, None if i else embedding, number, own, library, table=number != "int8")
            )
        self._weight, self._bias = model.output.weight.detach().float(), model.output.bias.detach().float()
        self.narrow: Packed | None = None
        if model.narrow is not None:
            narrow = model.narrow
            self.narrow = Packed(narrow.weight.detach(), narrow.bias.detach(), number, [(h, 1.0)])
        self.output = self._columns(None)

    def __deepcopy__(self, memo: dict[int, Any]) -> NativeStepper:
        """Itself, as nothing of it changes but what is computed once for all."""
        return self

    def _columns(self, chosen: Tensor | None) -> Output:
        """The output layer for the chosen tokens, or all, filled up with columns that never win."""
        weight, bias = self._weight, self._bias
        if chosen is not None:
            weight, bias = weight.index_select(0, chosen), bias.index_select(0, chosen)
        weight, bias = weight / math.log(2), bias / math.log(2)
        surplus = -bias.numel() % 64
        bias = torch.cat([bias, bias.new_full((surplus,), IMPOSSIBLE)])
        weight = torch.cat([weight, weight.new_zeros(surplus, weight.size(1))])
        # What the narrow matrix gives has no bound, and what a tanh gives has.
        bounds = [(weight.size(1), 1.0)] if self.narrow is None else None
        return Output(matrix=Packed(weight, bias, self.number, bounds), columns=chosen)

    def start(self, source: Tensor, lengths: Tensor, shortlist: Shortlist | None = None) -> NativeState:
        """The state of one empty hypothesis for each of B sentences.

        Args:
            source: (B, S) ids; ``lengths`` (B,) of them are no padding.
            shortlist: What the output layer is cut to.
        """
        encoded, last = self.encoder(source, lengths)
        memory = None
        if self.from_value is not None:
            rows = encoded.flatten(0, 1)
            keys = rows if self.from_key is None else self.from_key(self.kernels, rows)
            values = self.from_value(self.kernels, rows)
            if self.number in ("int8", "bf16"):  # half the memory to read at every step
                keys, values = keys.to(torch.bfloat16), values.to(torch.bfloat16)
            memory = Memory(keys=keys.view(encoded.shape), values=values.view(encoded.shape), lengths=lengths)
        output = self.output
        if shortlist is not None:
            chosen, allowed = shortlist.of(source)
            output = self._columns(chosen)
            mask = torch.where(allowed, 0.0, IMPOSSIBLE)
            mask = torch.nn.functional.pad(mask, (0, output.matrix.width - chosen.numel()))
            output = replace(output, allowed=mask)
        layers = self.config.decoder_layers
        if self.bridge is not None:
            states = self.bridge(self.kernels, last, bend=True).view(last.size(0), layers, -1)
            hidden = tuple(states[:, i].contiguous() for i in range(layers))
        else:
            hidden = (torch.zeros_like(last) if self.config.bridge == "zero" else last,) * layers
        return NativeState(
            memory=memory,
            output=output,
            hidden=hidden,
            cell=hidden if self.config.cell == "lstm" else (),
            attentional=torch.zeros_like(last) if self.config.feed == "input" else None,
            parents=None,
            grid=Grid(shape=(source.size(0), 1)),
            present=torch.arange(source.size(0)),
        )

    def step(self, tokens: Tensor, state: NativeState) -> tuple[NativePrediction, Tensor | None, NativeState]:
        """Append ``tokens`` (N,) to the hypotheses.

        Returns:
            What may follow, attention weights (B, k, S) or None, and the next state.
        """
        columns = state.output.columns
        ids = tokens.contiguous() if columns is None else columns.index_select(0, tokens)
        hiddens: list[Tensor] = []
        cells: list[Tensor] = []
        # What is fed back belongs to the rows before this step, what a layer hands on to those of this one.
        given: list[Part] = [] if state.attentional is None else [(state.attentional, state.parents)]
        for i, layer in enumerate(self.layers):
            before = (state.cell[i], state.parents) if state.cell else None
            hidden, cell = layer(ids, given, (state.hidden[i], state.parents), before)
            hiddens.append(hidden)
            if cell is not None:
                cells.append(cell)
            given = [(hidden + given[0][0] if i and self.config.residual else hidden, None)]
        vectors, weights = self._attend(given[0][0], state)
        if self.config.feed == "state":
            hiddens[-1] = vectors
        following = replace(
            state,
            hidden=tuple(hiddens),
            cell=tuple(cells),
            attentional=vectors if self.config.feed == "input" else None,
            parents=None,
            steps=state.steps + 1,
        )
        narrowed = vectors if self.narrow is None else self.narrow(self.kernels, vectors)
        return NativePrediction(self.kernels, narrowed, state.output, state.sentences), weights, following

    def _attend(self, states: Tensor, state: NativeState) -> tuple[Tensor, Tensor | None]:
        """Equations 1-5: decoder states s (N, h) to s̃ (N, h) and α (B, k, S)."""
        memory = state.memory
        if memory is None:
            return self.combine(self.kernels, states, bend=True), None
        width, (rows, units) = memory.keys.size(1), states.shape
        stride = filled_up(width, 16)
        weights, value = states.new_empty(rows, stride), torch.empty_like(states)
        position, sentences = self._position(width, state.steps), state.sentences
        attended = c.Memory(
            keys=c.address(memory.keys),
            values=c.address(memory.values),
            half=memory.keys.dtype == torch.bfloat16,
            length=c.address(memory.lengths),
            position=c.address(position),
            width=width,
            units=units,
            scale=(units**-0.5 if self.config.attention == "scaled-dot" else 1.0) / math.log(2),
        )
        self.kernels.s2s_attend(
            byref(attended),
            c.c_int64(rows),
            *(c.c_void_p(c.address(x)) for x in (sentences, states, weights)),
            c.c_int64(stride),
            c.c_void_p(c.address(value)),
        )
        vectors = self.combine(self.kernels, states, onto=value, bend=True)
        return vectors, state.grid.spread(weights[:, :width])

    def _position(self, width: int, step: int) -> Tensor | None:
        """What is added to the scores of a step, (S,)."""
        if self.position is None:
            return None
        reach, bias = self.position
        return bias[(torch.arange(width) - step).clamp_(-reach, reach) + reach]
