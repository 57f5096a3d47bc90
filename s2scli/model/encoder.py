"""The encoder: reads the whole source, h_1..h_T ∈ R^h, before the decoder writes anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from s2scli.config import ModelConfig
from s2scli.model.rnn import Dropout, RNNLayer, zeros


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A source that has been read.

    Attributes:
        outputs: (B, S, h), the states h_i of the top layer; both directions side by side
            when the encoder is bidirectional.
        last: (B, h), the state after the last token: h_T, and for the backward half h_1.
        mask: (B, S), true where there is a token.
    """

    outputs: Tensor
    last: Tensor
    mask: Tensor


class _Turn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        batch, width, size = x.shape
        turned = x.transpose(0, 1).reshape(-1, size).index_select(0, rows)
        return turned.view(width, batch, size).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return turn(outer[0], rows), None


def turn(x: Tensor, rows: Tensor) -> Tensor:
    """x (B, S, d) with each sentence turned around, by the ``reversal`` of its lengths.

    Turning is its own inverse and its own gradient. With it, the backward direction is a forward RNN whose
    padding also stands at the end, which keeps the fused kernels (a packed sequence would not).
    """
    turned: Tensor = _Turn.apply(x, rows)  # type: ignore[no-untyped-call]
    return turned


def reversal(lengths: Tensor, width: int) -> Tensor:
    """Where each vector of B sentences is found, time first: (S·B,) indices s·B + b.

    They turn each sentence around within its length and leave padding in place.
    """
    position = torch.arange(width, device=lengths.device).unsqueeze(1)
    mirrored = lengths - 1 - position
    position = torch.where(mirrored >= 0, mirrored, position)
    return (position * lengths.size(0) + torch.arange(lengths.size(0), device=lengths.device)).flatten()


def _beside(parts: list[Tensor]) -> Tensor:
    """Tensors (B, S, ·) beside each other, as one in whose memory time comes first."""
    return torch.cat([part.transpose(0, 1) for part in parts], dim=-1).transpose(0, 1)


class Encoder(nn.Module):
    """A stack of uni- or bidirectional layers over the embedded source."""

    def __init__(self, config: ModelConfig, embedding: nn.Embedding) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.directions = 2 if config.bidirectional else 1
        width = config.hidden // self.directions
        self.layers = nn.ModuleList(
            nn.ModuleList(
                RNNLayer(config.cell, config.hidden if i else config.embedding, width)
                for _ in range(self.directions)
            )
            for i in range(config.encoder_layers)
        )
        self.dropout = Dropout(config.dropout, over_time=config.dropout_over_time)

    def forward(self, embedded: Tensor, lengths: Tensor) -> Encoded:
        """Read the embedded source (B, S, e), whose rows have ``lengths`` (B,) tokens, at least one each."""
        size = embedded.size(1)
        turned = reversal(lengths, size)
        x = embedded
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.ModuleList)
            x = self.dropout(x)
            halves = []
            for backward, direction in enumerate(layer):
                assert isinstance(direction, RNNLayer)
                start = zeros(self.config.cell, 1, x.size(0), direction.hidden, like=x)
                cell = None if start.cell is None else start.cell[0]
                read = direction(turn(x, turned) if backward else x, start.hidden[0], cell)
                halves.append(turn(read, turned) if backward else read)
            output = _beside(halves) if len(halves) > 1 else halves[0]
            x = output + x if i and self.config.residual else output
        ends = (lengths - 1).view(-1, 1, 1).expand(-1, -1, x.size(-1))
        last = x.gather(1, ends).squeeze(1)
        if self.directions == 2:
            half = self.config.hidden // 2
            last = torch.cat([last[:, :half], x[:, 0, half:]], dim=-1)
        mask = torch.arange(size, device=lengths.device).unsqueeze(0) < lengths.unsqueeze(1)
        return Encoded(outputs=x, last=last, mask=mask)
