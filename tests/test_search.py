"""Search, on hand-made tables without a network, and on small random models."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model import KINDS, SOURCES, make
from torch import Tensor

from s2scli.config import BOS, EOS, PAD
from s2scli.model import SearchLimits, beam_search, greedy_search, sample_search
from s2scli.model.batch import pad
from s2scli.model.grid import Grid
from s2scli.model.packed import Kind
from s2scli.model.prediction import Dense
from s2scli.model.search import forbid_repeats
from s2scli.model.stepper import Stepper


@dataclass(frozen=True)
class Seen:
    """The tokens of each hypothesis so far, (N, t)."""

    tokens: Tensor

    def select(self, sentences: Tensor, hypotheses: Tensor, grid: Grid) -> Seen:
        return Seen(self.tokens[hypotheses])


class Table:
    """A model whose next token depends on the last two, by a random table for each sentence."""

    def __init__(self, vocab: int, sentences: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        logits = torch.randn(sentences, vocab, vocab, vocab, generator=generator) * 2
        logits[..., :EOS] = -math.inf  # padding, unknown and BOS are never emitted
        self.log_p = torch.log_softmax(logits, dim=-1)
        self.vocab = vocab

    def start(self) -> Seen:
        # The first token tells which sentence it is, through all reordering.
        return Seen(torch.arange(self.log_p.size(0)).view(-1, 1))

    def step(self, tokens: Tensor, state: Seen) -> tuple[Dense, None, Seen]:
        state = Seen(torch.cat([state.tokens, tokens.unsqueeze(1)], dim=1))
        sentence, last = state.tokens[:, 0], state.tokens[:, -1]
        before = state.tokens[:, -2] if state.tokens.size(1) > 2 else torch.full_like(last, BOS)
        return Dense(self.log_p[sentence, before, last]), None, state

    def score(self, sentence: int, tokens: tuple[int, ...]) -> float:
        before, last, total = BOS, BOS, 0.0
        for token in tokens:
            total += float(self.log_p[sentence, before, last, token])
            before, last = last, token
        return total


def limits(lengths: list[int], **changes: object) -> SearchLimits:
    return SearchLimits(max_lengths=torch.tensor(lengths), **changes)  # type: ignore[arg-type]


def every_output(vocab: int, longest: int) -> list[tuple[int, ...]]:
    words = range(EOS + 1, vocab)
    return [seq for n in range(longest) for seq in itertools.product(words, repeat=n)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 0.5, 1.0]), vocab=st.integers(6, 7))
def test_a_wide_enough_beam_is_brute_force(seed: int, penalty: float, vocab: int) -> None:
    longest = 4
    table = Table(vocab, 2, seed)
    found = beam_search(
        table, table.start(), limits([longest] * 2, length_penalty=penalty), beam=400, n_best=5
    )
    for sentence, hypotheses in enumerate(found):
        ranked = []
        for tokens in every_output(vocab, longest):
            log_p = table.score(sentence, (*tokens, EOS))
            ranked.append((log_p / (len(tokens) + 1) ** penalty, tokens))
        ranked.sort(reverse=True)
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in ranked[:5]]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in ranked[:5]], abs=1e-4)
        assert all(h.complete for h in hypotheses)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), repeat=st.sampled_from([0, 1, 2, 3]))
def test_beam_one_is_greedy(seed: int, repeat: int) -> None:
    table = Table(8, 5, seed)
    rules = limits([3, 9, 1, 20, 7], no_repeat_ngram=repeat)
    greedy = greedy_search(table, table.start(), rules)
    beam = beam_search(table, table.start(), rules, beam=1)
    assert [h.tokens for h in greedy] == [h[0].tokens for h in beam]
    assert [h.complete for h in greedy] == [h[0].complete for h in beam]
    assert [h.log_probability for h in greedy] == pytest.approx(
        [h[0].log_probability for h in beam], abs=1e-4
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 8))
def test_the_score_of_a_hypothesis_is_its_own(seed: int, beam: int) -> None:
    table = Table(9, 4, seed)
    for sentence, hypotheses in enumerate(
        beam_search(table, table.start(), limits([6] * 4), beam=beam, n_best=beam)
    ):
        assert hypotheses
        assert len({(h.tokens, h.complete) for h in hypotheses}) == len(hypotheses)
        for h in hypotheses:
            ended = (*h.tokens, EOS) if h.complete else h.tokens
            assert h.log_probability == pytest.approx(table.score(sentence, ended), abs=1e-4)
            assert len(ended) <= 6
            assert EOS not in h.tokens


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 3))
def test_no_ngram_is_repeated(seed: int, n: int) -> None:
    table = Table(7, 3, seed)
    for hypotheses in beam_search(
        table, table.start(), limits([25] * 3, no_repeat_ngram=n), beam=4, n_best=4
    ):
        for h in hypotheses:
            grams = [h.tokens[i : i + n] for i in range(len(h.tokens) - n + 1)]
            assert len(set(grams)) == len(grams)


def test_forbid_repeats_leaves_all_else_alone() -> None:
    log_p = torch.zeros(1, 9)
    banned = forbid_repeats(log_p, torch.tensor([[4, 5, 6, 4]]), 2)[0]
    assert banned[5] == -math.inf
    assert (banned[[3, 4, 6, 7, 8]] == 0).all()
    assert (forbid_repeats(log_p, torch.tensor([[4]]), 3) == 0).all()


def test_neighbours_do_not_change_a_search() -> None:
    together = Table(8, 6, 1)
    lengths = [4, 9, 2, 12, 5, 7]
    found = beam_search(together, together.start(), limits(lengths), beam=3, n_best=3)
    for i, length in enumerate(lengths):
        alone = beam_search(together, Seen(torch.tensor([[i]])), limits([length]), beam=3, n_best=3)
        assert [h.tokens for h in alone[0]] == [h.tokens for h in found[i]]


def test_a_hypothesis_cut_at_the_limit_says_so() -> None:
    table = Table(6, 1, 0)
    table.log_p[..., EOS] = -math.inf
    for hypothesis in (
        greedy_search(table, table.start(), limits([3]))[0],
        beam_search(table, table.start(), limits([3]), beam=2)[0][0],
    ):
        assert not hypothesis.complete
        assert len(hypothesis.tokens) == 3


def exponentials(rows: Tensor, width: int) -> Tensor:
    return torch.empty(rows.numel(), width).exponential_(generator=torch.Generator().manual_seed(0))


def test_sampling_draws_from_the_distribution() -> None:
    table = Table(7, 1, 5)
    many = Seen(torch.zeros(4000, 1, dtype=torch.int64))
    drawn = sample_search(table, many, limits([1] * 4000), exponentials)
    firsts = torch.tensor([h.tokens[0] if h.tokens else EOS for h in drawn])
    share = torch.bincount(firsts, minlength=7) / 4000
    torch.testing.assert_close(share, table.log_p[0, BOS, BOS].exp(), atol=0.03, rtol=0)


@pytest.mark.parametrize(("top_k", "top_p"), [(1, 1.0), (0, 0.0), (1, 0.5)])
def test_sampling_cut_to_one_token_is_greedy(top_k: int, top_p: float) -> None:
    table = Table(8, 5, 2)
    rules = limits([8] * 5)
    drawn = sample_search(table, table.start(), rules, exponentials, top_k=top_k, top_p=top_p)
    assert [h.tokens for h in drawn] == [h.tokens for h in greedy_search(table, table.start(), rules)]


def test_low_temperature_is_greedy() -> None:
    table = Table(8, 5, 3)
    rules = limits([8] * 5)
    drawn = sample_search(table, table.start(), rules, exponentials, temperature=0.01)
    assert [h.tokens for h in drawn] == [h.tokens for h in greedy_search(table, table.start(), rules)]


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
def test_on_models_search_agrees_with_teacher_forcing(cell: str, kind: str, feed: str) -> None:
    model = make(cell, kind, feed)
    stepper = Stepper(model, "fp32")
    ids, lengths = pad(SOURCES)
    rules = limits([9, 8, 7], keep_attention=True)
    with torch.no_grad():
        found = beam_search(stepper, stepper.start(ids, lengths), rules, beam=4, n_best=4)
        greedy = greedy_search(stepper, stepper.start(ids, lengths), rules)
        one = beam_search(stepper, stepper.start(ids, lengths), rules, beam=1)
        assert [h.tokens for h in greedy] == [h[0].tokens for h in one]
        for source, hypotheses in zip(SOURCES, found, strict=True):
            for h in hypotheses:
                emitted = [*h.tokens, EOS] if h.complete else list(h.tokens)
                state, total = model.start(*pad([source])), 0.0
                for previous, token in zip([BOS, *emitted], emitted, strict=False):
                    log_p, weights, state = model.step(torch.tensor([[previous]]), state)
                    total += float(log_p[0, 0, token])
                assert h.log_probability == pytest.approx(total, abs=1e-4)
                if kind != "none":
                    assert h.attention is not None and weights is not None
                    assert h.attention.shape == (len(emitted), ids.size(1))
                    width = weights.size(2)
                    torch.testing.assert_close(h.attention[-1, :width], weights[0, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("top_k", [0, 2])
def test_a_token_of_no_probability_is_never_drawn(top_k: int) -> None:
    table = Table(7, 5, 4)

    def extreme(rows: Tensor, width: int) -> Tensor:
        numbers = torch.full((rows.numel(), width), 100.0)
        numbers[:, :EOS] = 0.0  # as probable as can be, had they any probability
        return numbers

    for hypothesis in sample_search(table, table.start(), limits([6] * 5), extreme, top_k=top_k):
        assert hypothesis.log_probability > -math.inf
        assert all(token > EOS for token in hypothesis.tokens)


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_of_weights_that_are_no_numbers_a_beam_finds_nothing(kind: Kind) -> None:
    model = make("lstm", "dot", "none")
    with torch.no_grad():
        model.output.bias[7] = math.nan
    stepper = Stepper(model, kind)
    ids, lengths = pad(SOURCES)
    with torch.no_grad():
        found = beam_search(stepper, stepper.start(ids, lengths), limits([9, 8, 7]), beam=5)
        drawn = sample_search(stepper, stepper.start(ids, lengths), limits([9, 8, 7]), exponentials)
    assert [[h.tokens for h in hypotheses] for hypotheses in found] == [[()]] * 3
    assert all(math.isnan(h.log_probability) for h in drawn)


@pytest.mark.parametrize("special", [PAD, BOS])
def test_what_is_no_part_of_a_text_is_never_emitted(special: int) -> None:
    table = Table(8, 3, 6)
    table.log_p[..., special] = 0.0  # more probable than all else
    rules = limits([6] * 3)
    found = [h for many in beam_search(table, table.start(), rules, beam=40, n_best=40) for h in many]
    found += greedy_search(table, table.start(), rules)
    found += sample_search(table, table.start(), rules, exponentials)
    assert not any(special in h.tokens for h in found)
