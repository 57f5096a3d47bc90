"""What search found, and how it came about: hypotheses are read back from the trail of their steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2scli.config import PAD


@dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A translation in tokens.

    Attributes:
        tokens: Ids without EOS.
        complete: It ended with EOS, rather than at the maximum length.
        log_probability: log p(tokens, EOS | source) in nats; without EOS if not complete.
        score: ``log_probability`` / length^a, what hypotheses are ranked by.
        attention: Weights (T, S) of each step, the one that emitted EOS included, if they were kept;
            S is the padded width of the batch.
    """

    tokens: tuple[int, ...]
    complete: bool
    log_probability: float
    score: float
    attention: Tensor | None = field(default=None, compare=False)


NOTHING = Hypothesis(tokens=(), complete=False, log_probability=-math.inf, score=-math.inf)
"""What a beam search gives that found nothing, as with a model whose weights are no numbers."""


class Trail:
    """At each step, the token that each hypothesis got and which hypothesis it was before.

    Hypotheses change places at every step; instead of copying them each time, the few that are
    asked for at the end are read backwards.

    Args:
        sentences, beam: B sentences with at most ``beam`` hypotheses each.
    """

    def __init__(self, sentences: int, beam: int) -> None:
        self.sentences, self.beam = sentences, beam
        self._parents: list[Tensor] = []
        self._tokens: list[Tensor] = []
        self._weights: list[Tensor] = []

    def attend(self, rows: Tensor, weights: Tensor | None) -> None:
        """Record what the hypotheses of the sentences ``rows`` attend to (b, beam, S) in this step."""
        if weights is not None:
            self._weights.append(self._whole(rows, weights.float()))

    def add(self, rows: Tensor, tokens: Tensor, parents: Tensor | None = None) -> None:
        """Record that hypothesis j of sentence ``rows[i]`` is ``parents[i, j]`` and then ``tokens[i, j]``.

        Where hypotheses never change places, at no step, there are no parents.
        """
        self._tokens.append(self._whole(rows, tokens))
        if parents is not None:
            self._parents.append(self._whole(rows, parents))

    def _whole(self, rows: Tensor, part: Tensor) -> Tensor:
        """What is known of some sentences, (b, beam, …), in its place among all, (B, beam, …)."""
        if part.shape[:2] == (self.sentences, self.beam):
            return part
        whole = part.new_zeros(self.sentences, self.beam, *part.shape[2:])
        return whole.index_copy_(0, rows, part)

    def read(
        self, places: Tensor, lengths: Tensor, complete: Tensor, log_probability: Tensor, penalty: float
    ) -> list[Hypothesis]:
        """The M hypotheses that stood at the given places.

        Args:
            places: (M,) sentence · beam + hypothesis, after the last of its tokens.
            lengths: (M,) number of its tokens, EOS left out.
            complete: (M,) whether EOS followed.
            log_probability: (M,) in nats.
            penalty: Exponent a of the length (EOS included) in the score.
        """
        here, count = places.cpu().numpy(), lengths.cpu().numpy()
        steps = int(count.max(initial=0))
        tokens = np.full((len(here), steps), PAD)
        attended = np.repeat(here[:, None], len(self._weights), axis=1)  # the place in each step
        new, parents = _together(self._tokens[:steps]), _together(self._parents[:steps])
        for t in reversed(range(steps)):
            added = t < count
            tokens[:, t] = np.where(added, new[t, here], PAD)
            if len(parents):
                here = np.where(added, here // self.beam * self.beam + parents[t, here], here)
            if self._weights:
                attended[:, t] = here
        weights = torch.stack(self._weights).flatten(1, 2).cpu() if self._weights else None
        found = []
        facts = zip(tokens.tolist(), count.tolist(), complete.tolist(), log_probability.tolist(), strict=True)
        for m, (row, length, ended, log_p) in enumerate(facts):
            emitted = length + ended
            attention = None
            if weights is not None:
                attention = weights[torch.arange(emitted), torch.from_numpy(attended[m, :emitted])]
            found.append(
                Hypothesis(
                    tokens=tuple(row[:length]),
                    complete=ended,
                    log_probability=log_p,
                    score=log_p / max(1, emitted) ** penalty,
                    attention=attention,
                )
            )
        return found


def _together(steps: list[Tensor]) -> NDArray[np.int64]:
    """What was recorded at each of T steps, (B, beam) each, as (T, B · beam)."""
    return torch.stack(steps).flatten(1).cpu().numpy() if steps else np.empty((0, 0), dtype=np.int64)
