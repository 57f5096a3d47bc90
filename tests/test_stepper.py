"""The stepper makes the same step as the decoder, with whatever it packs, tables or leaves out."""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from reference_search import reference_search
from test_model import KINDS, SOURCES, make
from torch import Tensor

from s2scli.config import BOS, EOS, PAD, ModelConfig
from s2scli.model import Hypothesis, SearchLimits, beam_search, forced_search, greedy_search
from s2scli.model.batch import pad
from s2scli.model.grid import Grid
from s2scli.model.packed import Kind, has_int8, pack
from s2scli.model.prediction import Dense, most_probable
from s2scli.model.seq2seq import Seq2Seq
from s2scli.model.shortlist import Shortlist
from s2scli.model.stepper import Stepper, StepperState

needs_int8 = pytest.mark.skipif(not has_int8(), reason="this processor has no 8-bit instructions")


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
@pytest.mark.parametrize("tabled", [False, True])
def test_it_makes_the_decoders_step(cell: str, kind: str, feed: str, tabled: bool) -> None:
    model = make(cell, kind, feed)
    stepper = Stepper(model, "fp32")
    ids, lengths = pad(SOURCES)
    if tabled:
        assert stepper.layers[0].inputs is not None
        assert stepper.layers[0].inputs.whole(10_000) is not None
    with torch.no_grad():
        plain, fast = model.start(ids, lengths), stepper.start(ids, lengths)
        tokens = torch.full((len(SOURCES), 1), BOS)
        for t in range(4):
            log_p, weights, plain = model.step(tokens, plain)
            prediction, same_weights, fast = stepper.step(tokens.flatten(), fast)
            same = prediction.log_p()
            torch.testing.assert_close(same[:, : log_p.size(2)], log_p.flatten(0, 1), atol=1e-5, rtol=0)
            assert (same[:, log_p.size(2) :] == -torch.inf).all()
            if weights is not None:
                torch.testing.assert_close(same_weights, weights, atol=1e-5, rtol=0)
            # Two hypotheses a sentence, then one sentence fewer, as search does.
            tokens = log_p.topk(2, dim=-1).indices[:, 0]
            keep = torch.arange(len(tokens) - (t == 1))
            parents = torch.zeros(len(keep), 2, dtype=torch.int64)
            rows = keep.repeat_interleave(2) * fast.grid.shape[1]
            fast = fast.select(keep, rows, Grid(shape=(len(keep), 2)))
            tokens, plain = tokens[keep], plain.select(keep, parents)


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
def test_a_forced_score_is_the_scores_of_search(cell: str, kind: str, feed: str) -> None:
    stepper = Stepper(make(cell, kind, feed), "fp32")
    ids, lengths = pad(SOURCES)
    with torch.no_grad():
        found = beam_search(stepper, stepper.start(ids, lengths), limits(9, 8, 7), beam=4, n_best=4)
        for rank in range(4):
            wanted, counts = pad([h[rank].tokens for h in found])
            forced = forced_search(
                stepper, stepper.start(ids, lengths), wanted, counts, Grid.first(counts, 4)
            )
            for row, count, hypotheses in zip(forced, counts, found, strict=True):
                emitted = int(count) - (not hypotheses[rank].complete)
                assert float(row[:emitted].sum()) == pytest.approx(hypotheses[rank].log_probability, abs=1e-4)


def limits(*lengths: int) -> SearchLimits:
    return SearchLimits(max_lengths=torch.tensor(lengths))


@pytest.mark.parametrize("kind", ["bf16", pytest.param("int8", marks=needs_int8)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("values", ["keys", "projected"])
@pytest.mark.parametrize("bridge", ["linear", "last"])
def test_fewer_bits_say_nearly_the_same(kind: Kind, cell: str, values: str, bridge: str) -> None:
    # Wide enough that a wrong scale would show, and not hide in the rounding.
    model = make(cell, "general", "input", hidden=64, embedding=32, values=values, bridge=bridge)
    with torch.no_grad():  # states near their bounds, as of layers that add up
        for name, parameter in model.encoder.named_parameters():
            if name.endswith("bias_ih"):
                parameter.add_(1.0)
    exact = Stepper(model, "fp32")
    fewer = Stepper(copy.deepcopy(model), kind)
    ids, lengths = pad(SOURCES)
    with torch.no_grad():
        states = exact.start(ids, lengths), fewer.start(ids, lengths)
        for token in (BOS, 5, 6, 7):
            tokens = torch.full((len(SOURCES),), token)
            whole, _, first = exact.step(tokens, states[0])
            rounded, _, second = fewer.step(tokens, states[1])
            states, expected, found = (first, second), whole.log_p(), rounded.log_p()
            seen = expected > -torch.inf
            torch.testing.assert_close(found[seen], expected[seen], atol=0.3, rtol=0.0)


@needs_int8
@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("embedding", [16, 32])
def test_a_narrower_output_layer_has_the_same_words_as_one_matrix_or_two(
    embedding: int, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[tuple[int, ...]] = []

    def seen_pack(weight: Tensor, *rest: object, **bound: object) -> object:
        packed.append(tuple(weight.shape))
        return pack(weight, *rest, **bound)  # type: ignore[arg-type]

    monkeypatch.setattr("s2scli.model.stepper.has_tiles", lambda: tiles)
    monkeypatch.setattr("s2scli.model.stepper.pack", seen_pack)
    model = make("lstm", "dot", "none", hidden=64, embedding=embedding, tie="target")
    assert model.narrow is not None
    with torch.no_grad():
        model.narrow.bias.normal_()
        model.output.bias.normal_()
    exact = Stepper(copy.deepcopy(model), "fp32")
    packed.clear()
    found = Stepper(model, "int8")
    # One matrix only where it has twice the operations at most.
    assert packed[-1] == ((64, 64) if tiles and embedding == 32 else (64, embedding))
    ids, lengths = pad(SOURCES)
    tokens = torch.full((len(SOURCES),), BOS)
    with torch.no_grad():
        few = Shortlist(torch.zeros(23, 1, dtype=torch.int64), torch.tensor([5, 6, 9]), 23)
        for shortlist in (None, few):
            expected, log_p = (
                s.step(tokens, s.start(ids, lengths, shortlist))[0].log_p() for s in (exact, found)
            )
            seen = expected > -torch.inf
            assert (seen == (log_p > -torch.inf)).all()
            torch.testing.assert_close(log_p[seen], expected[seen], atol=0.05, rtol=0.0)


@needs_int8
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_states_that_a_gru_carries_on_are_within_their_scale(cell: str) -> None:
    # The encoder's layers add up, and its last states are the decoder's first ones.
    model = make(
        cell,
        "dot",
        "none",
        hidden=64,
        embedding=32,
        bridge="last",
        encoder_layers=4,
        decoder_layers=2,
        residual=True,
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias_ih", "bias_hh")):
                parameter.normal_(0.0, 3.0)
    ids, lengths = pad(SOURCES)
    with torch.no_grad():
        steppers = Stepper(model, "fp32"), Stepper(copy.deepcopy(model), "int8")
        tokens = torch.full((len(SOURCES),), BOS)
        states = [stepper.start(ids, lengths) for stepper in steppers]
        assert any(float(h.abs().max()) > 1.5 for h in states[0].hidden), "they are beyond one"
        exact, found = (s.step(tokens, state)[0].log_p() for s, state in zip(steppers, states, strict=True))
    seen = exact > -torch.inf
    torch.testing.assert_close(found[seen], exact[seen], atol=0.1, rtol=0.0)


@pytest.mark.parametrize("bound", [None, 1.0])
@needs_int8
def test_an_eight_bit_product_is_as_exact_as_its_steps(bound: float | None) -> None:
    torch.manual_seed(1)
    weight, bias = torch.randn(48, 64) * 0.1, torch.randn(48)
    x = torch.rand(10, 64) * 2 - 1
    if bound is None:
        x = x * torch.logspace(-3, 3, 10).unsqueeze(1)  # each row has its own scale
    exact = x @ weight.T + bias
    found = pack(weight, bias, "int8", bound=bound)(x)
    largest = x.abs().amax(dim=1, keepdim=True) if bound is None else 1.0
    assert ((found - exact).abs() / largest).max() < 0.05
    alone = torch.cat([pack(weight, bias, "int8", bound=bound)(row.unsqueeze(0)) for row in x])
    torch.testing.assert_close(found, alone, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("columns", [8, 64, 256, 640, 1000])
@pytest.mark.parametrize("k", [1, 5, 32])
def test_continuations_are_the_best_of_all(columns: int, k: int) -> None:
    generator = torch.Generator().manual_seed(columns + k)
    live = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)
    grid = Grid.where(live)
    log_p = torch.randn(grid.count, columns, generator=generator)
    log_p[0, 7::64] += 5.0  # the largest all in one group
    log_p[1, 5:] = -torch.inf
    total = torch.randn(3, 5, generator=generator).masked_fill(~live, -torch.inf)
    found = Dense(log_p.clone()).continuations(total, grid, k)
    everything = (total.unsqueeze(2) + grid.spread(log_p)).masked_fill(~live.unsqueeze(2), -torch.inf)
    torch.testing.assert_close(found.ending, everything[..., EOS], atol=0.0, rtol=0.0)
    everything[..., [PAD, BOS, EOS]] = -torch.inf
    expected, _ = everything.flatten(1).topk(k, dim=1)
    assert torch.equal(found.log_p, expected)
    there = expected > -torch.inf
    where = found.parent * columns + found.token
    assert torch.equal(everything.flatten(1).gather(1, where)[there], expected[there])
    assert torch.equal(grid.numbers(total).gather(1, found.parent)[there], found.hypothesis[there])
    assert all(len(set(row.tolist())) == k for row in where[:1])


def test_threads_compute_one_table() -> None:
    model = Seq2Seq(ModelConfig(source_vocab=9, target_vocab=4000, hidden=64, embedding=64)).eval()
    inputs = Stepper(model, "fp32").layers[0].inputs
    assert inputs is not None
    product, wholes = inputs.project, []

    def counted(x: Tensor) -> Tensor:
        wholes.append(x.size(0))
        return product(x)

    inputs.project = counted
    assert inputs.whole(8) is inputs.whole(8) is None
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(inputs.whole, [64] * 4))
    assert wholes == [4000]
    inputs.table = None
    for _ in range(4000 // 8 // 8):
        inputs.whole(8)
    assert inputs.table is not None


def test_the_most_probable_token_of_each_row() -> None:
    x = torch.randn(9, 320, generator=torch.Generator().manual_seed(1))
    assert torch.equal(most_probable(x), x.argmax(dim=1))


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
def test_a_row_of_a_product_does_not_depend_on_the_others(kind: Kind) -> None:
    torch.manual_seed(1)
    multiply = pack(torch.randn(192, 128) * 0.1, torch.randn(192), kind)
    x = torch.randn(40, 128).to(torch.bfloat16 if kind == "bf16" else torch.float32)
    together = multiply(x)
    for rows in (1, 2, 7, 15, 16, 33):
        torch.testing.assert_close(multiply(x[:rows]), together[:rows], atol=0.0, rtol=0.0)


def test_a_shortlist_leaves_only_its_tokens() -> None:
    model = make("lstm", "dot", "none")
    stepper = Stepper(model, "fp32")
    lexicon = torch.zeros(23, 2, dtype=torch.int64)
    lexicon[5], lexicon[11], lexicon[12] = (torch.tensor(x) for x in ([15, 16], [17, 18], [15, 19]))
    shortlist = Shortlist(lexicon, torch.tensor([20]), 23)
    ids, lengths = pad(SOURCES)
    own = [{15, 16, 20}, {17, 18, 20}, {15, 19, 20}]
    with torch.no_grad():
        state = stepper.start(ids, lengths, shortlist)
        columns = state.output.columns
        assert columns is not None
        assert columns[: EOS + 1].tolist() == list(range(EOS + 1))  # search knows them by number
        assert set(columns.tolist()) == {0, 1, 2, 3} | set.union(*own)
        found = greedy_search(stepper, state, limits(9, 9, 9))
        # What is left shares the probability, and the numbers of columns are those of other tokens.
        log_p = stepper.step(torch.full((3,), BOS), state)[0].log_p()
        whole = stepper.step(torch.full((3,), BOS), stepper.start(ids, lengths))[0].log_p()
        torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(3))
        for i, allowed in enumerate(own):
            chosen = torch.tensor(sorted(allowed | {0, 1, 2, 3}))
            expected = torch.log_softmax(whole[i, chosen], dim=-1)
            torch.testing.assert_close(log_p[i, torch.isin(columns, chosen).nonzero().squeeze(1)], expected)
            assert {int(columns[t]) for t in found[i].tokens} <= allowed | {0, 1, 2}
            alone = greedy_search(stepper, stepper.start(*pad([SOURCES[i]]), shortlist), limits(9))[0]
            names = stepper.start(*pad([SOURCES[i]]), shortlist).output.columns
            assert names is not None
            assert [int(names[t]) for t in alone.tokens] == [int(columns[t]) for t in found[i].tokens]


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("threshold", [None, 0.7])
def test_search_equals_the_reference(
    cell: str, kind: str, feed: str, beam: int, threshold: float | None
) -> None:
    model = make(cell, kind, feed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)  # surer of itself, and so of different opinions on different sources
    stepper = Stepper(model, "fp32")
    ids, lengths = pad(SOURCES)
    rules = replace(limits(12, 8, 9), threshold=threshold, keep_attention=True)
    with torch.no_grad():
        found = beam_search(stepper, stepper.start(ids, lengths), rules, beam=beam)
        for source, most, hypotheses in zip(SOURCES, (12, 8, 9), found, strict=True):
            tokens, score = reference_search(
                model, source, beam=beam, most=most, threshold=math.inf if threshold is None else threshold
            )
            assert hypotheses[0].tokens == tokens
            assert hypotheses[0].score == pytest.approx(score, abs=1e-4)


def test_a_threshold_gives_up_hypotheses_and_leaves_the_others_as_they_are() -> None:
    stepper = Stepper(make("lstm", "dot", "input"), "fp32")
    ids, lengths = pad(SOURCES * 20)  # enough for rows of 0 to be needed
    rows: list[int] = []
    step = stepper.step

    def counted(tokens: Tensor, state: StepperState) -> tuple[Dense, Tensor | None, StepperState]:
        rows.append(tokens.numel())
        prediction, weights, following = step(tokens, state)
        assert prediction.log_p().size(0) == tokens.numel()
        return prediction, weights, following

    stepper.step = counted  # type: ignore[method-assign]
    found: list[list[list[Hypothesis]]] = []
    steps: list[list[int]] = []
    for threshold in (None, 50.0, 0.2, 0.0):
        rules = replace(limits(*[9] * 60), threshold=threshold, keep_attention=True)
        rows.clear()
        with torch.no_grad():
            found.append(beam_search(stepper, stepper.start(ids, lengths), rules, beam=4))
        steps.append(rows.copy())
    assert steps[0] == steps[1] and [h[0].tokens for h in found[0]] == [h[0].tokens for h in found[1]]
    assert sum(steps[0]) > sum(steps[2]) > sum(steps[3])
    assert max(steps[0]) == 240 and max(steps[3]) == 60  # nothing but the best is left
    rules = replace(limits(9), threshold=0.2, keep_attention=True)
    with torch.no_grad():
        alone = [beam_search(stepper, stepper.start(*pad([source])), rules, beam=4)[0] for source in SOURCES]
    for (one, *_), (other, *_) in zip(found[2], alone * 20, strict=True):
        assert one.tokens == other.tokens
        assert one.attention is not None and other.attention is not None
        torch.testing.assert_close(one.attention[:, : other.attention.size(1)], other.attention)


@pytest.mark.parametrize("shortlisted", [False, True])
def test_a_beam_may_be_wider_than_the_vocabulary(shortlisted: bool) -> None:
    model = make("lstm", "dot", "none")
    stepper = Stepper(model, "fp32")
    ids, lengths = pad(SOURCES)
    shortlist = Shortlist(torch.zeros(23, 1, dtype=torch.int64), torch.tensor([5, 6]), 23)
    with torch.no_grad():
        state = stepper.start(ids, lengths, shortlist if shortlisted else None)
        found = beam_search(stepper, state, limits(4, 4, 4), beam=60, n_best=60)
    for hypotheses in found:
        assert len(hypotheses) == len({(h.tokens, h.complete) for h in hypotheses}) > 20
        assert all(h.score > -torch.inf for h in hypotheses)
