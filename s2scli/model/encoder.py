"""The encoder: reads the whole source, h_1..h_T ∈ R^h, before the decoder writes anything."""

from __future__ import annotations

from dataclasses import dataclass

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


def reversal(lengths: Tensor, width: int) -> Tensor:
    """(B, S) positions that turn each row around within its length and leave padding in place.

    It is its own inverse. With it, the backward direction is a forward RNN whose padding
    also stands at the end, which keeps the fused kernels (a packed sequence would not).
    """
    position = torch.arange(width, device=lengths.device).unsqueeze(0)
    mirrored = lengths.unsqueeze(1) - 1 - position
    return torch.where(mirrored >= 0, mirrored, position)


def reorder(x: Tensor, positions: Tensor) -> Tensor:
    """Row b of the result is x[b, positions[b]], for x (B, S, d) and positions (B, S')."""
    return x.gather(1, positions.unsqueeze(-1).expand(-1, -1, x.size(-1)))


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
                read = direction(reorder(x, turned) if backward else x, start.hidden[0], cell)
                halves.append(reorder(read, turned) if backward else read)
            output = torch.cat(halves, dim=-1) if len(halves) > 1 else halves[0]
            x = output + x if i and self.config.residual else output
        last = reorder(x, (lengths - 1).unsqueeze(1)).squeeze(1)
        if self.directions == 2:
            half = self.config.hidden // 2
            last = torch.cat([last[:, :half], x[:, 0, half:]], dim=-1)
        mask = torch.arange(size, device=lengths.device).unsqueeze(0) < lengths.unsqueeze(1)
        return Encoded(outputs=x, last=last, mask=mask)
