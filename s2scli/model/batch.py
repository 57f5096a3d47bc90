"""What the model reads: padded rows of token ids, with their lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2scli.config import BOS, EOS, PAD


def pad(rows: Sequence[Sequence[int] | np.ndarray]) -> tuple[Tensor, Tensor]:
    """Rows of ids, EOS put after each, as one (B, T) tensor padded with PAD, and their lengths (B,)."""
    lengths = np.array([len(row) + 1 for row in rows], dtype=np.int64)
    ids = np.full((len(rows), int(lengths.max(initial=1))), PAD, dtype=np.int64)
    for line, row in zip(ids, rows, strict=True):
        line[: len(row)] = row
        line[len(row)] = EOS
    return torch.from_numpy(ids), torch.from_numpy(lengths)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B sentence pairs.

    Attributes:
        source: (B, S) ids, each row ended by EOS and padded with PAD.
        source_lengths: (B,) number of ids in each row, EOS included.
        target: (B, T) ids that the decoder must emit, each row ended by EOS and padded with PAD.
        previous: (B, T) ids that the decoder is given: BOS, then ``target`` without its last column.
        positions: (N,) indices into the flattened (B·T,) target of the ids that are not padding.
            They come from the host, so that a GPU need not be asked how many there are.
        rows: (B,) index of each pair in its corpus.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    previous: Tensor
    positions: Tensor
    rows: Tensor

    @classmethod
    def of(
        cls,
        sources: Sequence[Sequence[int] | np.ndarray],
        targets: Sequence[Sequence[int] | np.ndarray],
        rows: Sequence[int] | np.ndarray,
    ) -> Batch:
        """Make a batch of id sequences that have neither BOS nor EOS yet."""
        source, source_lengths = pad(sources)
        target, _ = pad(targets)
        return cls(
            source=source,
            source_lengths=source_lengths,
            target=target,
            # Where a shorter row shows its EOS here, what it predicts is padding and never counted.
            previous=torch.cat([torch.full((len(targets), 1), BOS), target[:, :-1]], dim=1),
            positions=(target.flatten() != PAD).nonzero().squeeze(1),
            rows=torch.as_tensor(rows, dtype=torch.int64),
        )

    @property
    def target_tokens(self) -> int:
        """Number of target ids that are not padding."""
        return self.positions.numel()

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(**{name: tensor.to(device, non_blocking=True) for name, tensor in vars(self).items()})
