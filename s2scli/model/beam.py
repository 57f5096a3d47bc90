"""Beam search: keep the most probable beginnings of each sentence at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from s2scli.config import BOS
from s2scli.model.grid import Grid
from s2scli.model.search import History, SearchLimits, StateT, StepModel
from s2scli.model.trail import NOTHING, Hypothesis, Trail


@dataclass(frozen=True, kw_only=True)
class _Pool:
    """The n best hypotheses that are done of each of b sentences, best first, finished before cut ones.

    Attributes:
        score: (b, n), -inf where there is none yet.
        log_p: (b, n).
        hypothesis: (b, n) its place in the beam after its last token.
        length: (b, n) its tokens without EOS.
        complete: (b, n) whether EOS ended it.
    """

    score: Tensor
    log_p: Tensor
    hypothesis: Tensor
    length: Tensor
    complete: Tensor

    @classmethod
    def empty(cls, sentences: int, n_best: int, device: torch.device) -> _Pool:
        score = torch.full((sentences, n_best), -math.inf, device=device)
        whole = torch.zeros_like(score, dtype=torch.int64)
        return cls(
            score=score,
            log_p=score.clone(),
            hypothesis=whole,
            length=whole.clone(),
            complete=torch.zeros_like(score, dtype=torch.bool),
        )

    def _joined(self, log_p: Tensor, score: Tensor, length: int, complete: bool) -> _Pool:
        """With the hypotheses in the beam (b, k) behind those that are here."""
        places = torch.arange(score.size(1), device=score.device).expand_as(score)
        return _Pool(
            score=torch.cat([self.score, score], dim=1),
            log_p=torch.cat([self.log_p, log_p], dim=1),
            hypothesis=torch.cat([self.hypothesis, places], dim=1),
            length=torch.cat([self.length, torch.full_like(places, length)], dim=1),
            complete=torch.cat([self.complete, torch.full_like(score, complete, dtype=torch.bool)], dim=1),
        )

    def _gather(self, order: Tensor) -> _Pool:
        return _Pool(**{name: tensor.gather(1, order) for name, tensor in vars(self).items()})

    def finish(self, log_p: Tensor, ended: Tensor, length: int, penalty: float) -> _Pool:
        """The pool after the hypotheses ``ended`` (b, k) of ``length`` tokens have met EOS."""
        score = (log_p / (length + 1) ** penalty).masked_fill(~ended, -math.inf)
        order = torch.cat([self.score, score], dim=1).topk(self.score.size(1), dim=1).indices
        return self._joined(log_p, score, length, True)._gather(order)

    def cut(self, log_p: Tensor, length: int, penalty: float) -> _Pool:
        """The pool filled up with the unfinished hypotheses (b, k), which come best first."""
        joined = self._joined(log_p, log_p / length**penalty, length, False)
        vacant = joined.score == -math.inf
        order = vacant.long().sort(dim=1, stable=True).indices[:, : self.score.size(1)]
        return joined._gather(order)

    def select(self, rows: Tensor) -> _Pool:
        return _Pool(**{name: tensor[rows] for name, tensor in vars(self).items()})

    def put(self, rows: Tensor, pool: _Pool) -> None:
        """Overwrite the given sentences."""
        for name, tensor in vars(self).items():
            tensor[rows] = getattr(pool, name)


def beam_search(
    model: StepModel[StateT], state: StateT, limits: SearchLimits, *, beam: int, n_best: int = 1
) -> list[list[Hypothesis]]:
    """Keep the ``beam`` most probable beginnings at each step.

    A hypothesis whose EOS is among the best ``beam`` continuations is finished. A sentence leaves
    the batch at its maximum length, or when it has ``beam`` finished hypotheses and no live one has a
    better score than the ``n_best``-th of them. Without the second condition, improbable early ends
    of one good hypothesis could fill the beam before it comes to its own end. A live one that is behind might
    still overtake them, as a score rises with length where what follows is probable: that is given up.

    Args:
        model: Makes the steps.
        state: Of B sentences with one empty hypothesis each.
        limits: Lengths and rules; their device is the device of the search.
        beam: Hypotheses kept for each sentence.
        n_best: Hypotheses returned for each sentence, at most (``beam`` at most).

    Returns:
        For each sentence its hypotheses, the best first, finished ones before those that the
        maximum length cut.
    """
    device = limits.max_lengths.device
    sentences = limits.max_lengths.numel()
    rows = torch.arange(sentences, device=device)
    grid = Grid.first(rows, beam)
    state = state.select(rows, rows, grid)
    total = torch.full((sentences, beam), -math.inf, device=device)  # log p, where there is a hypothesis
    total[:, 0] = 0.0
    tokens = torch.full((sentences,), BOS, device=device)
    trail, history = Trail(sentences, beam), History(tokens, limits.no_repeat_ngram)
    finished = torch.zeros(sentences, dtype=torch.int64, device=device)
    longest = limits.max_lengths
    results, pool = (_Pool.empty(sentences, n_best, device) for _ in range(2))
    t = 0
    while rows.numel():
        t += 1
        prediction, weights, state = model.step(tokens, state)
        if limits.keep_attention:
            trail.attend(rows, weights)
        found = history.allowed(prediction).continuations(total, grid, beam)
        total, ending = found.log_p, found.ending
        trail.add(rows, found.token, found.parent)

        # EOS counts where it is among the best `beam` of all continuations, itself included.
        rank = (total.unsqueeze(1) > ending.unsqueeze(2)).sum(-1) + (
            ending.unsqueeze(1) > ending.unsqueeze(2)
        ).sum(-1)
        ended = (rank < beam) & (ending > -math.inf)
        if limits.threshold is not None:
            total = total.masked_fill(total < total[:, :1] - limits.threshold, -math.inf)
        if ended.any():
            finished = finished + ended.sum(-1)
            pool = pool.finish(ending, ended, t - 1, limits.length_penalty)
        limit = longest <= t
        behind = pool.score[:, -1] >= total[:, 0] / t**limits.length_penalty
        stopped = (finished >= beam) & behind | limit | (total[:, 0] == -math.inf)
        keep = torch.arange(rows.numel(), device=device)
        if stopped.any():
            done = pool.cut(total, t, limits.length_penalty) if limit.any() else pool
            results.put(rows[stopped], done.select(stopped))
            keep = (~stopped).nonzero().squeeze(1)
            rows, longest, total, finished = rows[keep], longest[keep], total[keep], finished[keep]
            pool = pool.select(keep)
        grid = Grid.where(total > -math.inf)
        hypotheses, tokens = grid.gather(found.hypothesis[keep]), grid.gather(found.token[keep])
        state = state.select(keep, hypotheses, grid)
        history.follow(tokens, hypotheses)
    return _read(trail, results, limits.length_penalty)


def _read(trail: Trail, results: _Pool, penalty: float) -> list[list[Hypothesis]]:
    """The hypotheses of each sentence; an empty one where nothing was found."""
    there = results.score > -math.inf
    sentence = torch.arange(there.size(0), device=there.device).unsqueeze(1).expand_as(there)
    places = sentence * trail.beam + results.hypothesis
    places, lengths, complete, log_p = (
        tensor[there] for tensor in (places, results.length, results.complete, results.log_p)
    )
    found = iter(trail.read(places, lengths, complete, log_p, penalty))
    return [[next(found) for _ in range(count)] or [NOTHING] for count in there.sum(1).tolist()]
