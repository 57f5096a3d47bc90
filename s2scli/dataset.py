"""Batches of similar length, in an order that is a function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from s2scli.model import Batch
from s2scli.shards import ParallelData

_POOL = 500_000
"""Pairs sorted by length together; larger corpora are shuffled into several such pools."""


def plan_batches(
    source_lengths: np.ndarray, target_lengths: np.ndarray, batch_tokens: int, order: np.ndarray
) -> list[np.ndarray]:
    """Cut the pairs into batches of similar length.

    Args:
        source_lengths, target_lengths: (M,) tokens of each pair, EOS not counted.
        batch_tokens: Most target tokens of a batch, EOS and padding included; the source side
            may take half as many again. A pair that is longer alone is a batch alone.
        order: Indices of the pairs wanted; their order decides between pairs of equal length.

    Returns:
        Index arrays, sorted by length.
    """
    batches = []
    for begin in range(0, len(order), _POOL):
        pool = order[begin : begin + _POOL]
        source, target = source_lengths[pool] + 1, target_lengths[pool] + 1
        by_length = np.lexsort((source, target))
        pool, source, target = pool[by_length], source[by_length], target[by_length]
        i = 0
        while i < len(pool):
            window = slice(i, i + max(1, batch_tokens // int(target[i])))
            widest = np.maximum(target[window], np.maximum.accumulate(-(-source[window] * 2 // 3)))
            # The more pairs, the wider the widest: those that fit come first.
            size = max(1, int((widest * np.arange(1, len(widest) + 1) <= batch_tokens).sum()))
            if size > 8:
                size -= size % 8  # few distinct shapes: every new one costs the kernels a preparation
            batches.append(pool[i : i + size])
            i += size
    return batches


class TrainingBatches:
    """The batches of each epoch of a training.

    Args:
        data: The training pairs.
        batch_tokens: See ``plan_batches``.
        seed: Decides, with the epoch's number, which pairs meet in a batch and the order of batches.
        rank, size: This process and the number of all; each loads its share of every batch.
    """

    def __init__(
        self, data: ParallelData, batch_tokens: int, seed: int, *, rank: int = 0, size: int = 1
    ) -> None:
        self.data = data
        self.batch_tokens = batch_tokens
        self.seed = seed
        self.rank, self.size = rank, size

    def epoch(self, number: int) -> list[np.ndarray]:
        """The index arrays of epoch ``number``, in order."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.data))
        batches = plan_batches(self.data.source_lengths, self.data.target_lengths, self.batch_tokens, order)
        return [batches[i] for i in random.permutation(len(batches))]

    def load(self, indices: np.ndarray) -> Batch:
        """This process's share of the batch of these pairs; where it has none, a pair that does not count."""
        mine = indices[self.rank :: self.size]
        if not len(mine):
            # Every process must take part in every exchange of gradients, if only with zeros.
            batch = self.load_all(indices[:1])
            return replace(batch, positions=batch.positions[:0])
        return self.load_all(mine)

    def load_all(self, indices: np.ndarray) -> Batch:
        """The batch of these pairs."""
        sources, targets = self.data.gather(indices)
        return Batch.of(sources, targets, indices)

    def target_tokens(self, indices: np.ndarray) -> int:
        """The target tokens of these pairs over all processes, EOS included."""
        return int(self.data.target_lengths[indices].sum()) + len(indices)


def in_order(data: ParallelData, rows: np.ndarray, batch_tokens: int) -> Iterator[Batch]:
    """The given pairs once, shortest first, for measuring a loss."""
    for indices in plan_batches(data.source_lengths, data.target_lengths, batch_tokens, rows):
        sources, targets = data.gather(indices)
        yield Batch.of(sources, targets, indices)
