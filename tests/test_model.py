"""What the model is: properties that hold for every cell, attention and feed."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import get_args

import pytest
import torch

from s2scli.config import Attention, Bridge, Cell, Feed, ModelConfig
from s2scli.errors import UsageError
from s2scli.model import Batch, Seq2Seq
from s2scli.model.attention import AttentionLayer, attention, dot, scaled_dot
from s2scli.model.encoder import reversal, turn
from s2scli.model.loss import smoothed_cross_entropy
from s2scli.model.rnn import Dropout

VOCAB = 23
KINDS = list(itertools.product(get_args(Cell), get_args(Attention), get_args(Feed)))
SOURCES = [[5, 6, 7, 8, 9, 10], [11], [12, 13, 14]]
TARGETS = [[4, 5], [6, 7, 8, 9, 10], [11, 12, 13]]


def make(cell: str = "lstm", kind: str = "dot", feed: str = "none", **changes: object) -> Seq2Seq:
    torch.manual_seed(3)
    settings: dict[str, object] = {"hidden": 16, "embedding": 8, "encoder_layers": 2, "decoder_layers": 2}
    # The default for few strings; one kind of attention does without.
    settings["relative_positions"] = 0 if kind in ("none", "scaled-dot") else 2
    settings |= {"cell": cell, "attention": kind, "feed": feed, "tie": "all", **changes}
    model = Seq2Seq(ModelConfig(source_vocab=VOCAB, target_vocab=VOCAB, **settings))  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # biases too, so that none can be forgotten
    return model.eval()


def batch(sources: list[list[int]] = SOURCES, targets: list[list[int]] = TARGETS) -> Batch:
    return Batch.of(sources, targets, range(len(sources)))


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
def test_whole_target_equals_single_steps(cell: str, kind: str, feed: str) -> None:
    model, pairs = make(cell, kind, feed), batch()
    with torch.no_grad():
        vectors, weights = model.vectors(pairs)
        expected = model.log_probabilities(vectors)
        state = model.start(pairs.source, pairs.source_lengths)
        for t in range(pairs.previous.size(1)):
            log_p, step_weights, state = model.step(pairs.previous[:, t : t + 1], state)
            torch.testing.assert_close(log_p[:, 0], expected[:, t], atol=1e-5, rtol=0)
            if weights is not None and step_weights is not None:
                torch.testing.assert_close(step_weights[:, 0], weights[:, t], atol=1e-5, rtol=0)
    assert (weights is None) == (kind == "none")


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
def test_padding_and_neighbours_change_nothing(cell: str, kind: str, feed: str) -> None:
    model, together = make(cell, kind, feed), batch()
    with torch.no_grad():
        vectors, _ = model.vectors(together)
        for i, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
            alone, _ = model.vectors(batch([source], [target]))
            torch.testing.assert_close(vectors[i, : len(target) + 1], alone[0], atol=1e-5, rtol=0)
        losses = [float(model(batch([s], [t])).plain) for s, t in zip(SOURCES, TARGETS, strict=True)]
        assert float(model(together).plain) == pytest.approx(sum(losses), rel=1e-5)


@pytest.mark.parametrize(("cell", "kind", "feed"), [k for k in KINDS if k[1] != "none"])
def test_attention_sums_to_one_and_is_zero_on_padding(cell: str, kind: str, feed: str) -> None:
    pairs = batch()
    with torch.no_grad():
        _, weights = make(cell, kind, feed).vectors(pairs)
    assert weights is not None
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:2]))
    for i, length in enumerate(pairs.source_lengths.tolist()):
        assert (weights[i, :, length:] == 0).all()
        assert (weights[i, :, :length] > 0).all()


@pytest.mark.parametrize("score", [dot, scaled_dot])
def test_attention_is_the_equations(score: object) -> None:
    query, keys, values = torch.randn(1, 1, 4), torch.randn(1, 3, 4), torch.randn(1, 3, 5)
    value, weights = attention(query, keys, values, torch.tensor([[True, True, False]]), score)  # type: ignore[arg-type]
    s, h = query[0, 0], keys[0]
    e = [float(s @ h[i]) / (math.sqrt(4) if score is scaled_dot else 1) for i in range(2)]
    alpha = [math.exp(x) / sum(math.exp(y) for y in e) for x in e]
    torch.testing.assert_close(weights[0, 0], torch.tensor([*alpha, 0.0]))
    torch.testing.assert_close(value[0, 0], alpha[0] * values[0, 0] + alpha[1] * values[0, 1])


def test_relative_positions_are_the_equation() -> None:
    layer = AttentionLayer("dot", 4, "keys", reach=2)
    assert layer.positions is not None
    b = layer.positions.bias
    torch.nn.init.normal_(b)
    query, keys = torch.randn(1, 4, 4), torch.randn(1, 5, 4)
    with torch.no_grad():
        scores = layer.score(query, keys, range(4))
        for t, i in itertools.product(range(4), range(5)):
            k = min(max(i - t, -2), 2) + 2
            expected = query[0, t] @ keys[0, i] + b[k]
            torch.testing.assert_close(scores[0, t, i], expected)
        # Two hypotheses in the same step.
        same = layer.score(query[:, :2], keys, range(3, 4))
        alone = layer.score(query[:, 1:2], keys, range(3, 4))
        torch.testing.assert_close(same[:, 1:], alone)
        torch.testing.assert_close(layer.score(query[:, 3:], keys, range(3, 4)), scores[:, 3:])


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
def test_every_weight_learns(cell: str, kind: str, feed: str) -> None:
    values = "keys" if kind == "none" else "projected"
    model = make(cell, kind, feed, values=values, tie="none").train()
    model(batch(), 0.1).smoothed.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("bridge", get_args(Bridge))
@pytest.mark.parametrize("bidirectional", [True, False])
def test_without_attention_only_the_bridge_passes_the_source(bridge: str, bidirectional: bool) -> None:
    if bridge == "zero":
        with pytest.raises(UsageError, match="zero"):
            make(kind="none", bridge=bridge)
        return
    model = make(kind="none", bridge=bridge, bidirectional=bidirectional)
    with torch.no_grad():
        one = model.vectors(batch([[5, 6]], [[4]]))[0]
        other = model.vectors(batch([[5, 7]], [[4]]))[0]
    assert not torch.allclose(one, other)


def test_zero_bridge_starts_from_nothing() -> None:
    model = make(bridge="zero")
    with torch.no_grad():
        state = model.start(batch().source, batch().source_lengths)
    assert state.decoder.rnn.hidden.abs().max() == 0


def test_feed_state_carries_the_attentional_vector() -> None:
    model = make("gru", feed="state", decoder_layers=1)
    with torch.no_grad():
        start = model.start(batch().source, batch().source_lengths)
        embedded = model.decoder.embedding(torch.tensor([2, 2, 2]))
        vectors, _, following = model.decoder.step(embedded, start.memory, start.decoder, 1)
    torch.testing.assert_close(following.rnn.hidden[-1], vectors[:, 0])


def test_attentional_vector_has_width_h_whatever_the_embedding() -> None:
    for tie, embedding in itertools.product(("none", "target", "all"), (8, 16, 20)):
        vectors, _ = make(tie=tie, embedding=embedding).vectors(batch())
        assert vectors.size(-1) == 16


def test_tied_embeddings_are_one_tensor() -> None:
    model = make(tie="all")
    assert model.output.weight is model.decoder.embedding.weight is model.encoder.embedding.weight
    separate = make(tie="none")
    assert separate.output.weight is not separate.decoder.embedding.weight


def test_tie_all_needs_one_vocabulary() -> None:
    with pytest.raises(UsageError, match="one vocabulary"):
        ModelConfig(source_vocab=10, target_vocab=11, tie="all")


def test_an_odd_width_cannot_be_read_in_two_directions() -> None:
    with pytest.raises(UsageError, match="even"):
        ModelConfig(source_vocab=10, target_vocab=10, hidden=5)


def test_reversal_is_its_own_inverse_and_keeps_padding() -> None:
    lengths = torch.tensor([4, 1, 3])
    x = torch.randn(3, 4, 2)
    turned = turn(x, reversal(lengths, 4))
    torch.testing.assert_close(turned[0], x[0].flip(0))
    torch.testing.assert_close(turned[2, :3], x[2, :3].flip(0))
    torch.testing.assert_close(turned[2, 3], x[2, 3])
    torch.testing.assert_close(turn(turned, reversal(lengths, 4)), x)


def test_gradients_written_by_hand_are_those_of_torch() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([4, 1, 3])
    x, outer = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, 5)
    positions = torch.tensor([[3, 2, 1, 0], [0, 1, 2, 3], [2, 1, 0, 3]]).unsqueeze(-1).expand(-1, -1, 5)
    (ours,) = torch.autograd.grad(turn(x, reversal(lengths, 4)), x, outer)
    (theirs,) = torch.autograd.grad(x.gather(1, positions), x, outer)
    torch.testing.assert_close(ours, theirs)
    query, keys = torch.randn(3, 2, 5, requires_grad=True), x
    outer = torch.randn(3, 2, 4)
    for a, b in zip(
        torch.autograd.grad(dot(query, keys), (query, keys), outer),
        torch.autograd.grad(query @ keys.transpose(1, 2), (query, keys), outer),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_fused_loss_equals_torch(smoothing: float) -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(700, 8), torch.randn(1500, 8), torch.randn(1500)]  # several blocks
    target = torch.randint(0, 1500, (700,))
    ours = [t.clone().requires_grad_() for t in tensors]
    theirs = [t.clone().requires_grad_() for t in tensors]
    smoothed, plain = smoothed_cross_entropy(*ours, target, smoothing)
    (smoothed * 0.5).backward()
    logits = torch.nn.functional.linear(*theirs)
    expected = torch.nn.functional.cross_entropy(logits, target, label_smoothing=smoothing, reduction="sum")
    (expected * 0.5).backward()
    torch.testing.assert_close(smoothed, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(plain, torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)


def test_fused_loss_in_bf16_is_near_that_in_fp32() -> None:
    torch.manual_seed(0)
    vectors, weight, bias = torch.randn(96, 32), torch.randn(50, 32) / 6, torch.randn(50)
    target = torch.randint(0, 50, (90,))
    gradients = []
    for number in (torch.float32, torch.bfloat16):
        given = [t.clone().requires_grad_() for t in (vectors.to(number), weight, bias)]
        smoothed_cross_entropy(*given, target, 0.1)[0].backward()
        gradients.append([t.grad for t in given])
        assert [t.grad.dtype for t in given] == [number, torch.float32, torch.float32]
        assert given[1].grad.is_contiguous()
    for exact, rounded in zip(*gradients, strict=True):
        assert float((rounded.float() - exact).norm() / exact.norm()) < 0.02


def test_rows_beyond_the_last_target_do_not_count() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(90, 8), torch.randn(50, 8), torch.randn(50)]
    target = torch.randint(0, 50, (70,))
    whole = [t.clone().requires_grad_() for t in tensors]
    cut = [t.clone().requires_grad_() for t in (tensors[0][:70], *tensors[1:])]
    for given in (whole, cut):
        smoothed_cross_entropy(*given, target, 0.1)[0].backward()
    assert whole[0].grad is not None
    assert (whole[0].grad[70:] == 0).all()
    torch.testing.assert_close(whole[0].grad[:70], cut[0].grad)
    for a, b in zip(whole[1:], cut[1:], strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    query, keys, values = (torch.randn(2, n, 3, dtype=torch.float64, requires_grad=True) for n in (4, 5, 5))
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    assert torch.autograd.gradcheck(dot, (query, keys))
    assert torch.autograd.gradcheck(lambda *x: attention(*x, mask), (query, keys, values))
    vectors, weight, bias = (
        torch.randn(*n, dtype=torch.float64, requires_grad=True) for n in ((4, 3), (7, 3), (7,))
    )
    target = torch.tensor([1, 6, 3])

    def loss(*x: torch.Tensor) -> torch.Tensor:
        return smoothed_cross_entropy(*x, target, 0.1)[0]

    assert torch.autograd.gradcheck(loss, (vectors, weight, bias))
    # The second derivative is not there, rather than a wrong one.
    (gradient,) = torch.autograd.grad(2 * loss(vectors, weight, bias), vectors, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        gradient.sum().backward()


def test_the_loss_may_be_written_into() -> None:
    weight, bias = torch.randn(7, 3, requires_grad=True), torch.zeros(7, requires_grad=True)
    smoothed, plain = smoothed_cross_entropy(torch.randn(2, 3), weight, bias, torch.tensor([4, 5]), 0.1)
    before = float(plain)
    smoothed += 1
    assert float(plain) == before


@pytest.mark.parametrize(("rate", "expected"), [(0.001, 1 / 256), (0.999, 255 / 256)])
def test_dropout_at_the_ends_still_drops_some_and_keeps_some(rate: float, expected: float) -> None:
    torch.manual_seed(0)
    mask = Dropout(rate, over_time=False).train().mask(torch.empty(400_000))
    assert float((mask == 0).float().mean()) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("rate", [0.1, 0.35])
def test_dropout_drops_as_many_as_it_says_wherever_they_stand(rate: float) -> None:
    torch.manual_seed(0)
    mask = Dropout(rate, over_time=False).train().mask(torch.empty(8, 50_001))
    # Units are drawn eight at a time: each of the eight must have the same chance.
    for first in range(8):
        part = mask.flatten()[first::8]
        assert abs((part == 0).float().mean() - rate) < 0.005
        assert abs(part.mean() - 1) < 0.01


def test_dropout_over_time_drops_the_same_units_at_every_step() -> None:
    x = torch.ones(4, 7, 50)
    same = Dropout(0.5, over_time=True).train()(x)
    assert (same == same[:, :1]).all()
    assert set(same.unique().tolist()) == {0.0, 2.0}
    fresh = Dropout(0.5, over_time=False).train()(x)
    assert not (fresh == fresh[:, :1]).all()
    assert (Dropout(0.5, over_time=True).eval()(x) == x).all()


@pytest.mark.parametrize("feed", get_args(Feed))
def test_dropout_of_every_kind_acts_in_training_only(feed: str) -> None:
    model = make(feed=feed, dropout=0.3, word_dropout=0.2, recurrent_dropout=0.4)
    with torch.no_grad():
        assert float(model(batch()).plain) == float(model(batch()).plain)
        model.train()
        assert float(model(batch()).plain) != float(model(batch()).plain)
        dropped = model.step_weights(torch.float32)["decoder.rnn.layers.0.weight_hh"]
    assert 0.2 < float((dropped == 0).float().mean()) < 0.6


def test_a_step_in_bf16_keeps_master_weights_in_fp32() -> None:
    model = make().train()
    weights = model.step_weights(torch.bfloat16)
    assert weights["decoder.combine.weight"].dtype == torch.bfloat16
    loss = torch.func.functional_call(model, weights, (batch(), 0.1))
    loss.smoothed.backward()
    with torch.no_grad():
        exact = model(batch(), 0.1)
    assert float(loss.smoothed.detach()) == pytest.approx(float(exact.smoothed), rel=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


def test_types_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch().rows = torch.tensor([1])  # type: ignore[misc]


def test_batch_puts_eos_after_each_row_and_bos_before() -> None:
    pairs = batch([[5], [6, 7]], [[8, 9], []])
    assert pairs.source.tolist() == [[5, 3, 0], [6, 7, 3]]
    assert pairs.target.tolist() == [[8, 9, 3], [3, 0, 0]]
    assert pairs.previous.tolist() == [[2, 8, 9], [2, 3, 0]]
    assert pairs.target_tokens == 4
    assert pairs.positions.tolist() == [0, 1, 2, 3]
