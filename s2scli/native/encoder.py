"""The encoder for search by kernels of our own: each direction step by step, padding left out.

Sentences are ordered by length, so that those which have a token at a step are the first rows of it. A
sentence is read alike whatever stands beside it.
"""

from __future__ import annotations

from ctypes import CDLL
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from s2scli.model.rnn import RNNLayer
from s2scli.model.seq2seq import Seq2Seq
from s2scli.native.layer import NativeLayer
from s2scli.native.matrix import Number, Part


@dataclass(frozen=True, kw_only=True)
class _Steps:
    """In which order the tokens of B sentences of at most S are read.

    Attributes:
        places: For each step, of each sentence that has one, the number b·S + s of its token.
        last: (B,) of each sentence, where the last of its steps was.
    """

    places: list[Tensor]
    last: Tensor


class NativeEncoder:
    """Reads sources; in fp32 outside, with matrices of the given kind inside."""

    def __init__(self, model: Seq2Seq, library: CDLL, kind: Number) -> None:
        config = self.config = model.config
        self.width = config.hidden // (2 if config.bidirectional else 1)
        embedding = model.encoder.embedding.weight.detach().float()
        self.layers = []
        for i, directions in enumerate(model.encoder.layers):
            assert isinstance(directions, nn.ModuleList)
            # Layers that are added up are bounded by their number.
            given = [(config.hidden, float(i if config.residual else 1))] if i else []
            bounds = [*given, (self.width, 1.0)]
            self.layers.append(
                [
                    NativeLayer(one, None if i else embedding, kind, bounds, library)
                    for one in directions
                    if isinstance(one, RNNLayer)
                ]
            )

    def __call__(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Read the source ids (B, S) of ``lengths`` (B,).

        Returns:
            The states of the top layer (B, S, h), and the last one of each sentence (B, h).
        """
        sentences, size = source.shape
        forward, backward = _steps(lengths, size, turned=False), _steps(lengths, size, turned=True)
        orders = [forward, backward][: len(self.layers[0])]
        ids, x = source.flatten(), None
        for i, layer in enumerate(self.layers):
            output = torch.zeros(sentences * size, self.config.hidden)
            for d, (direction, steps) in enumerate(zip(layer, orders, strict=True)):
                self._read(direction, steps, ids, x, output[:, d * self.width : (d + 1) * self.width])
            x = output + x if i and self.config.residual and x is not None else output
        assert x is not None
        halves = [x.index_select(0, order.last) for order in orders]
        last = halves[0]
        if len(halves) > 1:
            last = torch.cat([halves[0][:, : self.width], halves[1][:, self.width :]], dim=1)
        return x.view(sentences, size, -1), last

    def _read(
        self, direction: NativeLayer, steps: _Steps, ids: Tensor, x: Tensor | None, output: Tensor
    ) -> None:
        """Let a direction read; its states go to the places of the tokens in ``output`` (B·S, w)."""
        sentences = steps.last.numel()
        nothing = torch.zeros(sentences, self.width)
        cells = nothing.clone() if self.config.cell == "lstm" else None
        hidden: Part = nothing, None
        for place in steps.places:
            count = place.numel()
            others: list[Part] = [] if x is None else [(x, place)]
            before = hidden[0], (hidden[1][:count] if hidden[1] is not None else torch.arange(count))
            cell = None if cells is None else (cells[:count], None)
            direction(ids.index_select(0, place), others, before, cell, into=(output, place), cells=cells)
            hidden = output, place


def _steps(lengths: Tensor, size: int, *, turned: bool) -> _Steps:
    order = lengths.argsort(descending=True, stable=True)
    ordered = lengths.index_select(0, order)
    begin, end = order * size, order * size + ordered - 1
    # How many sentences have more than t tokens, for each t.
    counts = (ordered.unsqueeze(0) > torch.arange(size).unsqueeze(1)).sum(1).tolist()
    places = [(end[:n] - t if turned else begin[:n] + t) for t, n in enumerate(counts) if n]
    first = torch.arange(lengths.numel()) * size
    return _Steps(places=places, last=first if turned else first + lengths - 1)
