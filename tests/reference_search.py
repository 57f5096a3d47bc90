"""Beam search as one would write it down: one sentence, plain Python, on the decoder that trains.

Slow, and short enough to be seen to be right; the fast search is held to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from s2scli.config import BOS, EOS, PAD
from s2scli.model import Seq2Seq
from s2scli.model.batch import pad


def reference_search(
    model: Seq2Seq,
    source: Sequence[int],
    *,
    beam: int,
    most: int,
    penalty: float = 1.0,
    threshold: float = math.inf,
) -> tuple[tuple[int, ...], float]:
    """The best hypothesis for source ids and its score, log p / length^penalty.

    Args:
        most: Longest hypothesis, EOS included.
        threshold: Nats behind the best one at which a hypothesis is given up.
    """
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[tuple[float, tuple[int, ...]]] = []
    ends = 0
    state = model.start(*pad([source]))
    for length in range(1, most + 1):
        last = torch.tensor([[tokens[-1] if tokens else BOS for _, tokens in live]])
        log_p, _, state = model.step(last, state)
        rows = log_p[0].tolist()
        extended = [
            (total + p, k, token)
            for k, (total, _) in enumerate(live)
            for token, p in enumerate(rows[k])
            if p > -math.inf and token not in (PAD, BOS)
        ]
        extended.sort(key=lambda x: -x[0])
        going = [x for x in extended if x[2] != EOS][:beam]
        # EOS counts where it is among the best `beam` continuations.
        for total, k, token in extended[:beam]:
            if token == EOS:
                ends += 1
                finished.append((total / length**penalty, live[k][1]))
        going = [x for x in going if x[0] >= going[0][0] - threshold]
        live = [(total, (*live[k][1], token)) for total, k, token in going]
        best = max(finished, default=(-math.inf, ()))
        if length == most or (ends >= beam and best[0] >= live[0][0] / length**penalty):
            break
        state = state.select(torch.tensor([0]), torch.tensor([[k for _, k, _ in going]]))
    score, tokens = max(finished, default=(live[0][0] / length**penalty, live[0][1]))
    return tokens, score
