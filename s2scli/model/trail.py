"""What search found, and how it came about: hypotheses are read back from the trail of their steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
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
    attention: Tensor | None = None


NOTHING = Hypothesis(tokens=(), complete=False, log_probability=-math.inf, score=-math.inf)
"""What a search gives that found nothing, as with a model whose weights are no numbers."""


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

    def add(self, rows: Tensor, parents: Tensor, tokens: Tensor) -> None:
        """Record that hypothesis j of sentence ``rows[i]`` is ``parents[i, j]`` and then ``tokens[i, j]``."""
        self._parents.append(self._whole(rows, parents))
        self._tokens.append(self._whole(rows, tokens))

    def _whole(self, rows: Tensor, part: Tensor) -> Tensor:
        """What is known of some sentences, (b, beam, …), in its place among all, (B, beam, …)."""
        if part.shape[:2] == (self.sentences, self.beam):
            return part
        whole = part.new_zeros(self.sentences, self.beam, *part.shape[2:])
        whole[rows] = part
        return whole

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
        for t in reversed(range(steps)):
            added = t < count
            tokens[:, t] = np.where(added, self._tokens[t].flatten().cpu().numpy()[here], PAD)
            parent = self._parents[t].flatten().cpu().numpy()[here]
            here = np.where(added, here // self.beam * self.beam + parent, here)
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
