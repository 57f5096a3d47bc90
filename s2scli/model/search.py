"""Search: greedy, beam and sampling over one small protocol.

Search knows a model only as something that can make a step and a state that can be
reordered, so it is tested on a hand-made table, and an ensemble or a faster stepper is
just another implementation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from s2scli.config import BOS, EOS, PAD


class State(Protocol):
    """The state of B sentences with k hypotheses each, opaque to search."""

    def select(self, sentences: Tensor, hypotheses: Tensor) -> Self:
        """Hypothesis j of sentence i becomes hypothesis ``hypotheses[i, j]`` of sentence ``sentences[i]``."""
        ...


StateT = TypeVar("StateT", bound=State)


class StepModel(Protocol[StateT]):
    """A model that appends one token to each hypothesis and foresees the next."""

    def step(self, tokens: Tensor, state: StateT) -> tuple[Tensor, Tensor | None, StateT]:
        """Tokens (B, k) to log-probabilities (B, k, V), weights (B, k, S) or None, and the next state."""
        ...


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """What a hypothesis may be, and how hypotheses are ranked.

    Attributes:
        max_lengths: (B,) most tokens of a hypothesis, EOS included, per sentence, so that it
            does not depend on its neighbours in the batch.
        length_penalty: a in score = log p / length^a (Wu et al. 2016, section 7, in its simplest form).
        no_repeat_ngram: No run of so many tokens occurs twice (0: allowed).
        keep_attention: Record the attention weights of each step.
    """

    max_lengths: Tensor
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    keep_attention: bool = False


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


def forbid_repeats(log_p: Tensor, history: Tensor, n: int) -> Tensor:
    """-inf for every token that would repeat an n-gram of the history (B, k, t), in log_p (B, k, V)."""
    if n == 0 or history.size(2) < n:
        return log_p
    runs = history.unfold(2, n, 1)  # (B, k, t-n+1, n)
    begun = history[:, :, history.size(2) - n + 1 :].unsqueeze(2)
    repeated = (runs[..., :-1] == begun).all(dim=-1)
    # Where nothing is repeated, forbid padding, which no hypothesis holds.
    return log_p.scatter(2, torch.where(repeated, runs[..., -1], PAD), -math.inf)


class _Track:
    """The hypotheses so far: tokens (b, k, t) and, if kept, attention (b, k, t, S)."""

    def __init__(self, tokens: Tensor, attention: Tensor | None) -> None:
        self.tokens = tokens
        self.attention = attention

    @classmethod
    def empty(cls, sentences: int, device: torch.device) -> _Track:
        return cls(torch.empty(sentences, 1, 0, dtype=torch.int64, device=device), None)

    def with_attention(self, weights: Tensor | None, keep: bool) -> _Track:
        """The track with the weights (b, k, S) of the step that is about to add a token."""
        if not keep or weights is None:
            return self
        latest = weights.float().unsqueeze(2)
        attention = latest if self.attention is None else torch.cat([self.attention, latest], dim=2)
        return _Track(self.tokens, attention)

    def select(self, sentences: Tensor, hypotheses: Tensor) -> _Track:
        tokens = self.tokens[sentences.unsqueeze(1), hypotheses]
        attention = None if self.attention is None else self.attention[sentences.unsqueeze(1), hypotheses]
        return _Track(tokens, attention)

    def append(self, tokens: Tensor) -> _Track:
        return _Track(torch.cat([self.tokens, tokens.unsqueeze(2)], dim=2), self.attention)

    def hypothesis(self, i: int, k: int, log_p: float, complete: bool, penalty: float) -> Hypothesis:
        tokens = tuple(self.tokens[i, k].tolist())
        length = len(tokens) + complete
        return Hypothesis(
            tokens=tokens,
            complete=complete,
            log_probability=log_p,
            score=log_p / max(1, length) ** penalty,
            attention=None if self.attention is None else self.attention[i, k].cpu(),
        )


def _all(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, device=device)


def _one_path(model: StepModel[Any], state: Any, limits: SearchLimits, choose: Any) -> list[Hypothesis]:
    """Follow one hypothesis a sentence; ``choose(log_p (b, V), rows (b,), t)`` gives the next tokens (b,)."""
    device = limits.max_lengths.device
    rows = _all(limits.max_lengths.numel(), device)
    results: list[Hypothesis | None] = [None] * rows.numel()
    total = torch.zeros(rows.numel(), device=device)
    tokens = torch.full((rows.numel(), 1), BOS, device=device)
    track = _Track.empty(rows.numel(), device)
    t = 0
    while rows.numel():
        t += 1
        log_p, weights, state = model.step(tokens, state)
        track = track.with_attention(weights, limits.keep_attention)
        following = choose(forbid_repeats(log_p, track.tokens, limits.no_repeat_ngram)[:, 0], rows, t - 1)
        total = total + log_p[:, 0].gather(1, following.unsqueeze(1)).squeeze(1)
        ended = following == EOS
        stopped = ended | (limits.max_lengths[rows] <= t)
        last, track = track, track.append(following.unsqueeze(1))
        tokens = following.unsqueeze(1)
        if stopped.any():
            for i in stopped.nonzero().squeeze(1).tolist():
                complete = bool(ended[i])
                source = last if complete else track
                results[int(rows[i])] = source.hypothesis(
                    i, 0, float(total[i]), complete, limits.length_penalty
                )
            keep = (~stopped).nonzero().squeeze(1)
            first = torch.zeros(keep.numel(), 1, dtype=torch.int64, device=device)
            state, track = state.select(keep, first), track.select(keep, first)
            rows, total, tokens = rows[keep], total[keep], tokens[keep]
    return [r for r in results if r is not None]


def greedy_search(model: StepModel[StateT], state: StateT, limits: SearchLimits) -> list[Hypothesis]:
    """The most probable token at each step, until EOS.

    Args:
        model: Makes the steps.
        state: Of B sentences with one empty hypothesis each.
        limits: Lengths and rules; their device is the device of the search.

    Returns:
        One hypothesis for each sentence, in order.
    """
    return _one_path(model, state, limits, lambda log_p, rows, t: log_p.argmax(dim=-1))


def sample_search(
    model: StepModel[StateT],
    state: StateT,
    limits: SearchLimits,
    uniforms: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> list[Hypothesis]:
    """Draw each token from the model's distribution, cut and sharpened.

    Args:
        uniforms: (B, L) random numbers in [0, 1), one for each step of each sentence, so that
            a draw depends on its sentence alone; L is at least the largest of ``max_lengths``.
        temperature: Divides the log-probabilities before they are normalised again.
        top_k: Only the k most probable tokens (0: all).
        top_p: Only the most probable tokens that together hold this mass (Holtzman et al. 2020).
    """

    def choose(log_p: Tensor, rows: Tensor, t: int) -> Tensor:
        p, order = torch.softmax(log_p / temperature, dim=-1).sort(dim=-1, descending=True, stable=True)
        before = p.cumsum(-1) - p  # the mass of all more probable tokens
        cut = before >= top_p
        cut[:, 0] = False
        if top_k:
            cut[:, top_k:] = True
        mass = p.masked_fill(cut, 0.0).cumsum(-1)
        draw = uniforms[rows, t].unsqueeze(1).to(mass.dtype) * mass[:, -1:]
        return order.gather(1, (mass <= draw).sum(-1, keepdim=True).clamp(max=p.size(1) - 1)).squeeze(1)

    return _one_path(model, state, limits, choose)


def beam_search(
    model: StepModel[StateT], state: StateT, limits: SearchLimits, *, beam: int, n_best: int = 1
) -> list[list[Hypothesis]]:
    """Keep the ``beam`` most probable beginnings at each step.

    A hypothesis whose EOS is among the best ``beam`` continuations is finished. A sentence leaves
    the batch at its maximum length, or when it has ``beam`` finished hypotheses and no live one has a
    better score than the ``n_best``-th of them. Without the second condition, improbable early ends
    of one good hypothesis could fill the beam before it comes to its own end.

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
    rows = _all(sentences, device)
    found: list[list[Hypothesis]] = [[] for _ in range(sentences)]
    total = torch.zeros(sentences, 1, device=device)  # log p of each live hypothesis
    tokens = torch.full((sentences, 1), BOS, device=device)
    track = _Track.empty(sentences, device)
    finished = torch.zeros(sentences, dtype=torch.int64, device=device)
    scores = torch.full((sentences, n_best), -math.inf, device=device)  # of the best finished, in order
    t = 0
    while rows.numel():
        t += 1
        log_p, weights, state = model.step(tokens, state)
        track = track.with_attention(weights, limits.keep_attention)
        log_p = forbid_repeats(log_p, track.tokens, limits.no_repeat_ngram)
        ending = total + log_p[:, :, EOS]  # (b, k)
        going = log_p.index_fill(2, torch.tensor(EOS, device=device), -math.inf)
        # The best of each hypothesis first, and only then across the hypotheses of a sentence.
        width = min(beam, log_p.size(2))
        best, best_token = going.topk(width, dim=-1)
        candidates = (total.unsqueeze(2) + best).flatten(1)  # (b, k·width)
        live = min(beam, candidates.size(1))
        total, chosen = candidates.topk(live, dim=-1)
        parent, following = chosen // width, best_token.flatten(1).gather(1, chosen)

        # EOS counts where it is among the best `beam` of all continuations, itself included.
        rank = (total.unsqueeze(1) > ending.unsqueeze(2)).sum(-1) + (
            ending.unsqueeze(1) > ending.unsqueeze(2)
        ).sum(-1)
        ended = (rank < beam) & (ending > -math.inf)
        finished = finished + ended.sum(-1)
        length = t**limits.length_penalty
        ends = (ending / length).masked_fill(~ended, -math.inf)
        scores = torch.cat([scores, ends], dim=1).topk(n_best, dim=1).values
        limit = limits.max_lengths[rows] <= t
        stopped = (finished >= beam) & (scores[:, -1] >= total[:, 0] / length)
        stopped = stopped | limit | (total[:, 0] == -math.inf)
        if ended.any():
            for i, k in ended.nonzero().tolist():
                hypothesis = track.hypothesis(i, k, float(ending[i, k]), True, limits.length_penalty)
                found[int(rows[i])].append(hypothesis)
        keep = (~stopped).nonzero().squeeze(1) if stopped.any() else _all(rows.numel(), device)
        for i in (limit & (finished < n_best)).nonzero().squeeze(1).tolist():
            cut = track.select(torch.tensor([i], device=device), parent[i : i + 1]).append(
                following[i : i + 1]
            )
            for k in range(live):
                if total[i, k] > -math.inf:
                    hypothesis = cut.hypothesis(0, k, float(total[i, k]), False, limits.length_penalty)
                    found[int(rows[i])].append(hypothesis)
        parent, tokens = parent[keep], following[keep]
        state, track = state.select(keep, parent), track.select(keep, parent).append(tokens)
        rows, total, finished, scores = rows[keep], total[keep], finished[keep], scores[keep]
    # A model whose weights are no numbers finds nothing; a sentence still gets its (empty) hypothesis.
    nothing = [Hypothesis(tokens=(), complete=False, log_probability=-math.inf, score=-math.inf)]
    return [sorted(h, key=lambda x: (not x.complete, -x.score))[:n_best] or nothing for h in found]
