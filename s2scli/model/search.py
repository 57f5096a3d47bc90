"""Search over one small protocol: what it may do, and the searches that follow one path a sentence.

Search knows a model only as something that can make a step and a state that can be
reordered, so it is tested on a hand-made table, and an ensemble or a faster stepper is
just another implementation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from s2scli.config import BOS, EOS, PAD
from s2scli.model.grid import Grid
from s2scli.model.prediction import Dense, Prediction, emittable, most_probable
from s2scli.model.trail import Hypothesis, Trail


class State(Protocol):
    """The state of N hypotheses for B sentences, opaque to search."""

    def select(self, sentences: Tensor, hypotheses: Tensor, grid: Grid) -> Self:
        """Let some sentences and hypotheses go on.

        Args:
            sentences: (B',) which sentences, in ascending order.
            hypotheses: (N',) which of the N hypotheses each new one continues.
            grid: Where the N' stand in the new grid.
        """
        ...


StateT = TypeVar("StateT", bound=State)


class StepModel(Protocol[StateT]):
    """A model that appends one token to each hypothesis and foresees the next."""

    def step(self, tokens: Tensor, state: StateT) -> tuple[Prediction, Tensor | None, StateT]:
        """Tokens (N,) to what may follow them, weights (B, k, S) or None, and the next state.

        Tokens may be numbers in a selection of the vocabulary, as long as the special tokens keep their ids.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """What a hypothesis may be, and how hypotheses are ranked.

    Attributes:
        max_lengths: (B,) most tokens of a hypothesis, EOS included, per sentence, so that it
            does not depend on its neighbours in the batch.
        length_penalty: a in score = log p / length^a (Wu et al. 2016, section 7, in its simplest form).
        no_repeat_ngram: No run of so many tokens occurs twice (0: allowed).
        threshold: Beam search gives up a hypothesis that is so many nats less probable than the best live
            one of its sentence (Freitag and Al-Onaizan 2017, absolute threshold pruning), which may lose the
            second best results. None: it is kept as long as it is among the best ``beam``.
        keep_attention: Record the attention weights of each step.
    """

    max_lengths: Tensor
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    threshold: float | None = None
    keep_attention: bool = False


class History:
    """The tokens (N, t) of the hypotheses so far, kept only where a rule looks back at them."""

    def __init__(self, like: Tensor, ngram: int) -> None:
        self.ngram = ngram
        self.tokens = like.new_empty(like.numel(), 0)

    def allowed(self, prediction: Prediction) -> Prediction:
        """The same prediction with probability 0 for what the rule forbids."""
        if not self.ngram:
            return prediction
        return Dense(forbid_repeats(prediction.log_p(), self.tokens, self.ngram))

    def follow(self, tokens: Tensor, hypotheses: Tensor | None = None) -> None:
        """Each hypothesis continues one of ``hypotheses`` (N',), None for itself, and has a new token."""
        if self.ngram:
            chosen = self.tokens if hypotheses is None else self.tokens.index_select(0, hypotheses)
            self.tokens = torch.cat([chosen, tokens.unsqueeze(1)], dim=1)


def forbid_repeats(log_p: Tensor, history: Tensor, n: int) -> Tensor:
    """-inf for every token that would repeat an n-gram of the history (N, t), in log_p (N, V)."""
    if n == 0 or history.size(1) < n:
        return log_p
    runs = history.unfold(1, n, 1)  # (N, t-n+1, n)
    begun = history[:, history.size(1) - n + 1 :].unsqueeze(1)
    repeated = (runs[..., :-1] == begun).all(dim=-1)
    # Where nothing is repeated, forbid padding, which is forbidden anyway.
    return log_p.scatter(1, torch.where(repeated, runs[..., -1], PAD), -math.inf)


def _one_path(
    model: StepModel[Any],
    state: Any,
    limits: SearchLimits,
    choose: Callable[[Prediction, Tensor], tuple[Tensor, Tensor]],
) -> list[Hypothesis]:
    """Follow one hypothesis a sentence.

    ``choose(prediction, rows (b,))`` gives the next tokens (b,) and log p of each.
    """
    device = limits.max_lengths.device
    sentences = limits.max_lengths.numel()
    rows = torch.arange(sentences, device=device)
    total = torch.zeros(sentences, device=device)
    tokens = torch.full((sentences,), BOS, device=device)
    trail, history = Trail(sentences, 1), History(tokens, limits.no_repeat_ngram)
    log_probability = torch.zeros(sentences, device=device)
    lengths = torch.zeros(sentences, dtype=torch.int64, device=device)
    complete = torch.zeros(sentences, dtype=torch.bool, device=device)
    longest = limits.max_lengths
    t = 0
    while rows.numel():
        t += 1
        prediction, weights, state = model.step(tokens, state)
        if limits.keep_attention:
            trail.attend(rows, weights)
        tokens, log_p = choose(history.allowed(prediction), rows)
        total.add_(log_p)
        trail.add(rows, tokens.unsqueeze(1))
        ended = tokens == EOS
        stopped = ended | (longest <= t)
        keep = None
        if stopped.any():
            gone = rows[stopped]
            log_probability[gone], complete[gone] = total[stopped], ended[stopped]
            lengths[gone] = t - ended[stopped].long()
            keep = (~stopped).nonzero().squeeze(1)
            rows, longest, total, tokens = rows[keep], longest[keep], total[keep], tokens[keep]
            state = state.select(keep, keep, Grid(shape=(keep.numel(), 1)))
        history.follow(tokens, keep)
    places = torch.arange(sentences, device=device)
    return trail.read(places, lengths, complete, log_probability, limits.length_penalty)


def greedy_search(model: StepModel[StateT], state: StateT, limits: SearchLimits) -> list[Hypothesis]:
    """The most probable token at each step, until EOS.

    Args:
        model: Makes the steps.
        state: Of B sentences with one empty hypothesis each.
        limits: Lengths and rules; their device is the device of the search.

    Returns:
        One hypothesis for each sentence, in order.
    """
    return _one_path(model, state, limits, lambda prediction, rows: prediction.most_probable())


def sample_search(
    model: StepModel[StateT],
    state: StateT,
    limits: SearchLimits,
    exponentials: Callable[[Tensor, int], Tensor],
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> list[Hypothesis]:
    """Draw each token from the model's distribution, cut and sharpened.

    With E_v drawn from the exponential distribution of mean 1, argmax_v (log p_v - log E_v) is v with the
    probability p_v ("Gumbel-max", Maddison et al. 2014). Other than where a number falls in the
    sum of all p, this hardly ever depends on the last bit of them, which the rest of a batch may change.

    Args:
        exponentials: From sentences (b,) and V the next E of each, (b, V); to be drawn for each
            sentence by itself, so that a draw depends on its sentence alone.
        temperature: Divides the log-probabilities before they are normalised again.
        top_k: Only the k most probable tokens (0: all).
        top_p: Only the most probable tokens that together hold this mass of the whole distribution, also
            with ``top_k`` (Holtzman et al. 2020).
    """

    def choose(prediction: Prediction, rows: Tensor) -> tuple[Tensor, Tensor]:
        whole = emittable(prediction.log_p())
        log_p = whole / temperature
        if top_k or top_p < 1:
            p, order = torch.softmax(log_p, dim=-1).sort(dim=-1, descending=True, stable=True)
            cut = p.cumsum(-1) - p >= top_p  # the mass of all more probable tokens
            cut[:, 0] = False
            if top_k:
                cut[:, top_k:] = True
            log_p = log_p.masked_fill(torch.zeros_like(cut).scatter_(1, order, cut), -math.inf)
        drawn = exponentials(rows, log_p.size(1)).clamp_min(torch.finfo(torch.float32).tiny)
        tokens = most_probable(log_p - drawn.log())
        return tokens, whole.gather(1, tokens.unsqueeze(1)).squeeze(1)

    return _one_path(model, state, limits, choose)


def forced_search(
    model: StepModel[StateT], state: StateT, targets: Tensor, lengths: Tensor, grid: Grid
) -> Tensor:
    """The log-probability of given tokens, by the same steps that a search makes.

    Args:
        model: Makes the steps.
        state: Of B sentences with one empty hypothesis each.
        targets: (N, T) ids, EOS at the end of each row, then padding.
        lengths: (N,) number of ids in each row, EOS included.
        grid: Which sentence each row belongs to. The products of attention round by the number of columns,
            though mostly alike from 4 on: in a grid as wide as the beam that has found the targets, even the
            last bits are the same.

    Returns:
        log p of each token given those before it, (N, T); 0 on padding.
    """
    sentences = torch.arange(grid.shape[0], device=targets.device)
    state = state.select(sentences, grid.sentences(targets), grid)
    previous = torch.full_like(targets[:, 0], BOS)
    found = []
    for t in range(targets.size(1)):
        following = targets[:, t]
        prediction, _, state = model.step(previous, state)
        found.append(prediction.log_p().gather(1, following.unsqueeze(1)))
        previous = following
    beyond = torch.arange(targets.size(1), device=targets.device) >= lengths.unsqueeze(1)
    return torch.cat(found, dim=1).masked_fill(beyond, 0.0)
