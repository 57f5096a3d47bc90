"""Updates of the weights: with kernels of our own as with torch's optimiser."""

from __future__ import annotations

import math
from ctypes import CDLL
from pathlib import Path
from typing import Any

import pytest
import torch
from test_model import batch, make
from test_native import BUILDS
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


def updated(monkeypatch: pytest.MonkeyPatch, number: torch.dtype, kernels: bool, updates: int) -> Optimizer:
    """An optimizer after so many updates on one batch."""
    if not kernels:
        monkeypatch.setattr(native, "kernels", lambda: None)
    model = make(hidden=32, embedding=16).train()
    runtime = Runtime(device=torch.device("cpu"), dtype=number, kind="fp32")
    ours = Optimizer(model, TrainOptions(weight_decay=0.01), runtime)
    monkeypatch.undo()
    go_on(ours, 0, updates)
    return ours


def go_on(ours: Optimizer, done: int, updates: int) -> None:
    for n in range(done, done + updates):
        weights = ours.model.step_weights(ours.runtime.dtype, ours.copies)
        loss = torch.func.functional_call(ours.model, weights, (batch(), 0.1), tie_weights=False)
        loss.smoothed.backward()
        ours.rate = 0.01 / (n + 1)
        ours.step(n)


@pytest.mark.skipif(native.kernels() is None, reason="the kernels are not built")
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_model_moves_as_with_torch(number: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, torchs = (updated(monkeypatch, number, kernels, 6) for kernels in (True, False))
    assert bool(ours.copies) == (number == torch.bfloat16)
    assert not torchs.copies
    state = torchs.state(6)
    for name, tensor in ours.state(6).items():
        # A step of Adam is as long for a gradient that is nearly 0, whose sign is chance in bf16.
        close = 1e-5 if number == torch.float32 else 0.05
        assert float((tensor - state[name]).detach().norm()) <= close * (
            float(state[name].detach().norm()) + 0.01
        ), name


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_restored_state_goes_on_as_before(
    number: torch.dtype, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = updated(monkeypatch, number, kernels, 4)
    first = updated(monkeypatch, number, kernels, 2)
    second = updated(monkeypatch, number, kernels, 1)
    second.restore({name: tensor.clone() for name, tensor in first.state(2).items()}, Path("state"))
    go_on(second, 2, 2)
    state = second.state(4)
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state(4).items())


def test_the_average_takes_in_every_fourth_update_later() -> None:
    runtime = Runtime(device=torch.device("cpu"), dtype=torch.float32, kind="fp32")
    ours = Optimizer(make(), TrainOptions(ema_decay=0.999), runtime)
    assert ours._keep(0) == 0
    assert ours._keep(39) == pytest.approx(40 / 49)
    assert [ours._keep(n) for n in (41, 42, 43)] == [None] * 3
    assert ours._keep(44) == pytest.approx((45 / 54) ** optimizer._AVERAGE_EVERY)
    assert Optimizer(make(), TrainOptions(average="none"), runtime)._keep(0) is None
