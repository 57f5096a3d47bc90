"""Updates of the weights: with kernels of our own as with torch's optimiser."""

from __future__ import annotations

import math
from ctypes import CDLL
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from builds import BUILDS
from test_model import batch, make
from torch import Tensor

from s2scli import native, optimizer
from s2scli.config import TrainOptions
from s2scli.native.adam import CHUNK, Adam, Moved
from s2scli.optimizer import Optimizer
from s2scli.runtime import Runtime

SHAPES = [(3,), (100, 90), (1,), (CHUNK,), (5, CHUNK // 5 + 1)]


def moved(weights: list[Tensor]) -> list[Moved]:
    """Weights with all that can move with them."""
    return [
        Moved(
            weight=w,
            first=torch.zeros_like(w),
            second=torch.zeros_like(w),
            average=w.detach().clone(),
            copy=torch.empty_like(w, dtype=torch.bfloat16),
        )
        for w in weights
    ]


def drawn() -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape).requires_grad_() for shape in SHAPES]


def with_gradients(weights: list[Tensor], seed: int) -> None:
    torch.manual_seed(seed)
    for weight in weights:
        weight.grad = torch.randn(weight.shape) / 10


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("limit", [1.0, math.inf])
def test_the_kernel_moves_weights_as_torch_does(decay: float, limit: float, kernels: CDLL) -> None:
    expected, found = drawn(), drawn()
    averages = [w.detach().clone() for w in expected]
    given: dict[str, Any] = {"betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": decay}
    exact = torch.optim.AdamW(expected, lr=0.01, **given)
    parts = moved(found)
    adam = Adam(kernels, parts, betas=(0.9, 0.98), epsilon=1e-9, decay=decay)
    for n in range(10):
        with_gradients(expected, n)
        with_gradients(found, n)
        norm = torch.nn.utils.clip_grad_norm_(expected, limit)
        exact.step()
        keep = [0.0, 0.9, None][n % 3]
        if keep is not None:
            torch._foreach_lerp_(averages, [w.detach() for w in expected], 1 - keep)
        torch.testing.assert_close(adam.step(n + 1, 0.01, limit, keep), norm)
    for one, same, average, part in zip(expected, found, averages, parts, strict=True):
        torch.testing.assert_close(same, one, atol=1e-5, rtol=0)
        torch.testing.assert_close(part.average, average, atol=1e-5, rtol=0)
        assert part.copy is not None
        assert torch.equal(part.copy, same.detach().to(torch.bfloat16))


@pytest.mark.parametrize("kernels", BUILDS)
def test_the_kernel_does_not_depend_on_the_number_of_threads(kernels: CDLL) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            weights = drawn()
            adam = Adam(kernels, moved(weights), betas=(0.9, 0.98), epsilon=1e-9, decay=0.1)
            for n in range(3):
                with_gradients(weights, n)
                norm = adam.step(n + 1, 0.01, 1.0, 0.5)
            found.append([norm, *weights])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(one, same) for one, same in zip(found[0], others, strict=True))


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("shape", [(100, 90), (3, 2 * CHUNK + 5), (CHUNK, 1), (1, 7)])
@pytest.mark.parametrize("lookups", [(), (40,), (0, 70)])
@pytest.mark.parametrize("dense", [False, True])
def test_gradients_of_copies_are_those_of_the_weight(
    dense: bool, lookups: tuple[int, ...], shape: tuple[int, int], kernels: CDLL
) -> None:
    torch.manual_seed(0)
    (part,) = moved([torch.randn(shape).requires_grad_()])
    expected = Moved(
        weight=part.weight.detach().clone(), first=part.first.clone(), second=part.second.clone()
    )
    assert part.copy is not None
    leaves = [part.copy.detach().requires_grad_() for _ in range(1 + len(lookups))]
    part = replace(part, leaves=leaves)
    given: dict[str, Any] = {"betas": (0.9, 0.98), "epsilon": 1e-9, "decay": 0.1}
    ours, plain = Adam(kernels, [part], **given), Adam(kernels, [expected], **given)
    for n in range(3):
        whole = torch.zeros(shape)
        if dense:
            leaves[0].grad = torch.randn(shape).bfloat16()
            whole += leaves[0].grad
        for leaf, count in zip(leaves[1:], lookups, strict=True):
            where, rows = torch.randint(shape[0], (1, count)), torch.randn(count, shape[1]).bfloat16()
            leaf.grad = torch.sparse_coo_tensor(where, rows, shape, check_invariants=True)
            for at, row in zip(where[0], rows, strict=True):
                whole[at] += row
        expected.weight.grad = whole if dense or lookups else None
        assert torch.equal(ours.step(n + 1, 0.01, 1.0, None), plain.step(n + 1, 0.01, 1.0, None))
        assert torch.equal(part.weight, expected.weight)
        assert torch.equal(part.weight.detach().bfloat16(), part.copy)


@pytest.mark.parametrize("kernels", BUILDS)
def test_a_weight_without_a_gradient_stays(kernels: CDLL) -> None:
    weights = drawn()
    before = weights[1].detach().clone()
    adam = Adam(kernels, moved(weights), betas=(0.9, 0.98), epsilon=1e-9, decay=0.1)
    with_gradients(weights, 0)
    weights[1].grad = None
    adam.step(1, 0.01, math.inf, 0.0)
    assert torch.equal(weights[1], before)
    assert not torch.equal(weights[0], drawn()[0])


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("place", [0, 1000])
def test_a_gradient_that_is_no_number_has_no_norm(place: int, kernels: CDLL) -> None:
    weights = drawn()
    adam = Adam(kernels, moved(weights), betas=(0.9, 0.98), epsilon=1e-9, decay=0.0)
    with_gradients(weights, 0)
    assert weights[1].grad is not None
    weights[1].grad.view(-1)[place] = math.nan
    assert math.isnan(float(adam.step(1, 0.01, 1.0, None)))


class Training:
    """A small model, its optimizer, and how many updates it has seen, all on one batch."""

    def __init__(self, number: torch.dtype, *, kernels: bool = True, **options: Any) -> None:
        self.number, self.done = number, 0
        sizes = {"hidden": 32, "embedding": 16}
        given = {name: options.pop(name) for name in ("recurrent_dropout", "tie") if name in options}
        self.model = make(**sizes, **given)
        runtime = Runtime(device=torch.device("cpu"), dtype=number, kind="fp32")
        self.optimizer = Optimizer(self.model, TrainOptions(**options), runtime, alone=kernels)

    def go_on(self, updates: int, batches: int = 1) -> Training:
        self.model.train()
        for _ in range(updates):
            torch.manual_seed(self.done)
            for _ in range(batches):
                weights = self.model.step_weights(self.number, self.optimizer.copies)
                loss = torch.func.functional_call(self.model, weights, (batch(), 0.1), tie_weights=False)
                loss.smoothed.backward()
                if batches > 1:
                    self.optimizer.add_up()
            self.optimizer.rate = 0.01 / (self.done + 1)
            self.optimizer.step(self.done)
            self.done += 1
        return self

    @property
    def state(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in self.optimizer.state(self.done).items()}

    def restore(self, other: Training) -> Training:
        self.optimizer.restore(other.state, Path("state"))
        self.done = other.done
        return self


def assert_near(found: Training, expected: Training, close: float) -> None:
    state = expected.state
    for name, tensor in found.state.items():
        assert float((tensor - state[name]).norm()) <= close * (float(state[name].norm()) + 0.01), name


# A step of Adam is as long for a gradient that is nearly 0, whose sign is chance in bf16.
NUMBERS = [pytest.param(torch.float32, 1e-5, id="fp32"), pytest.param(torch.bfloat16, 0.05, id="bf16")]
needs_kernels = pytest.mark.skipif(native.kernels() is None, reason="the kernels are not built")


@needs_kernels
@pytest.mark.parametrize(("number", "close"), NUMBERS)
@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.01},
        {"average": "none", "optimizer": "adam"},
        {"clip_norm": 0.1, "recurrent_dropout": 0.3},
        {"clip_norm": 0.0},
        {"tie": "target"},
        {"tie": "none", "clip_norm": 0.1},
    ],
)
@pytest.mark.parametrize("batches", [1, 2])
def test_a_model_moves_as_with_torch(
    batches: int, options: dict[str, Any], number: torch.dtype, close: float
) -> None:
    ours, torchs = (Training(number, kernels=k, **options).go_on(4, batches) for k in (True, False))
    assert bool(ours.optimizer.copies) == (number == torch.bfloat16)
    assert not torchs.optimizer.copies
    assert_near(ours, torchs, close)


@needs_kernels
@pytest.mark.parametrize("tie", ["none", "target", "all"])
def test_gradients_of_several_batches_add_up_in_fp32(tie: str) -> None:
    training = Training(torch.bfloat16, tie=tie)
    model, copies = training.model.train(), training.optimizer.copies
    expected: dict[str, Tensor] = {}
    for _ in range(3):
        weights = model.step_weights(torch.bfloat16, copies)
        torch.func.functional_call(model, weights, (batch(), 0.1), tie_weights=False).smoothed.backward()
        for name, leaf in copies.items():
            found = leaf.grad
            assert found is not None and found.dtype == torch.bfloat16
            assert found.is_sparse == ("embedding" in name)
            gradient = found.float()
            gradient = gradient.to_dense() if gradient.is_sparse else gradient
            weight = model.get_parameter(name)
            # By the first of its names, whose gradients come first.
            first = next(one for one in copies if model.get_parameter(one) is weight)
            expected[first] = expected[first] + gradient if first in expected else gradient.clone()
        training.optimizer.add_up()
        assert all(leaf.grad is None for leaf in copies.values())
    for name, gradient in expected.items():
        found = model.get_parameter(name).grad
        assert found is not None
        torch.testing.assert_close(found, gradient, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_restored_state_goes_on_as_before(number: torch.dtype, kernels: bool) -> None:
    whole = Training(number, kernels=kernels).go_on(4).state
    first = Training(number, kernels=kernels).go_on(2)
    found = Training(number, kernels=kernels).go_on(1).restore(first).go_on(2).state
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.items())


@needs_kernels
@pytest.mark.parametrize("kernels", [True, False])
def test_a_state_of_the_one_goes_on_with_the_other(kernels: bool) -> None:
    first = Training(torch.float32, kernels=not kernels).go_on(2)
    found = Training(torch.float32, kernels=kernels).restore(first).go_on(2)
    assert_near(found, Training(torch.float32, kernels=kernels).go_on(4), 1e-5)


@needs_kernels
def test_a_copy_of_no_number_is_none() -> None:
    (weight,) = given = [torch.zeros(40, requires_grad=True)]
    weight.data.view(torch.int32)[3] = 0x7FFFFFFF  # which rounded as a number would be -0
    (part,) = moved(given)
    kernels = native.kernels()
    assert kernels is not None
    adam = Adam(kernels, [part], betas=(0.9, 0.98), epsilon=1e-9, decay=0.0)
    adam.step(1, 0.01, 1.0, 0.0)
    assert part.copy is not None
    assert part.copy.isnan().nonzero().tolist() == [[3]]


def test_the_average_takes_in_every_fourth_update_later() -> None:
    ours = Training(torch.float32, ema_decay=0.999).optimizer
    assert ours._keep(0) == 0
    assert ours._keep(39) == pytest.approx(40 / 49)
    assert [ours._keep(n) for n in (41, 42, 43)] == [None] * 3
    assert ours._keep(44) == pytest.approx((45 / 54) ** optimizer._AVERAGE_EVERY)
    assert Training(torch.float32, average="none").optimizer._keep(0) is None
