"""The kernels of training compute what torch's operations compute."""

from __future__ import annotations

import math
from ctypes import CDLL

import pytest
import torch
from builds import BUILDS
from test_model import batch, make
from torch import Tensor

from s2scli import native
from s2scli.model.loss import library_output, library_softmax
from s2scli.model.rnn import library_lstm
from s2scli.native import dense, loss, recurrence

if not BUILDS:
    pytest.skip("the kernels are not built: there was no C compiler", allow_module_level=True)

TILES = [build for build in BUILDS if build.values[0].s2s_half()]
with_tiles = pytest.mark.skipif(not TILES, reason="this processor has no tiles, or the kernels are not built")


def sequence(rows: int, steps: int, units: int, inputs: int, number: torch.dtype) -> list[Tensor]:
    """Inputs, first states and weights of a layer, all of them numbers that bf16 has."""
    torch.manual_seed(rows + steps + units)
    shapes = [(steps, rows, inputs), (rows, units), (rows, units)]
    shapes += [(4 * units, inputs), (4 * units, units), (4 * units,), (4 * units,)]
    scales = [0.5, 0.5, 1.0, inputs**-0.5, units**-0.5, 0.1, 0.1]
    drawn = [torch.randn(shape) * scale for shape, scale in zip(shapes, scales, strict=True)]
    return [x.to(torch.bfloat16).to(number).requires_grad_() for x in drawn]


def lstm_and_gradients(lstm: object, given: list[Tensor]) -> list[Tensor]:
    x, hidden, cell, *weights = given
    output = lstm(x, hidden, cell, weights)  # type: ignore[operator]
    torch.manual_seed(0)
    outer = torch.randn(output.shape).to(torch.bfloat16).to(output.dtype)
    return [output.detach(), *torch.autograd.grad(output, given, outer)]


@pytest.fixture
def threads() -> object:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@with_tiles
@pytest.mark.parametrize(
    ("rows", "steps", "units", "inputs"),
    [(1, 6, 64, 32), (7, 9, 32, 48), (16, 3, 96, 32), (33, 4, 64, 64), (40, 1, 64, 16), (72, 5, 256, 128)],
)
# bf16 rounds each number by up to 0.4 %.
@pytest.mark.parametrize(("number", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 0.01)])
def test_the_lstm_is_that_of_torch(
    rows: int, steps: int, units: int, inputs: int, number: torch.dtype, close: float
) -> None:
    exact = lstm_and_gradients(library_lstm, sequence(rows, steps, units, inputs, torch.float32))
    found = lstm_and_gradients(native.lstm, sequence(rows, steps, units, inputs, number))
    for one, same in zip(exact, found, strict=True):
        assert float((same.float() - one).norm() / one.norm()) < close


@with_tiles
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_the_lstm_does_not_depend_on_the_number_of_threads(number: torch.dtype, threads: object) -> None:
    found = []
    for count in (1, 2, 3):  # 3 of them share the blocks unevenly
        threads(count)  # type: ignore[operator]
        found.append(lstm_and_gradients(native.lstm, sequence(45, 7, 160, 32, number)))
    for others in found[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found[0], others, strict=True))


@with_tiles
@pytest.mark.parametrize(
    ("rows", "inputs", "columns"),
    [
        (1, 1, 1),
        (3, 0, 2),
        (0, 4, 5),
        (5, 7, 3),
        (33, 40, 50),
        (64, 32, 32),
        (100, 1000, 70),
        (31, 513, 65),
        (40, 2100, 33),
    ],
)
@pytest.mark.parametrize("turned_left", [False, True])
@pytest.mark.parametrize("turned_right", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_product_is_that_of_torch(
    rows: int,
    inputs: int,
    columns: int,
    turned_left: bool,
    turned_right: bool,
    biased: bool,
    number: torch.dtype,
) -> None:
    (kernels,) = TILES[0].values
    torch.manual_seed(rows)
    a, b = torch.randn(rows, inputs).to(number), torch.randn(inputs, columns).to(number)
    bias = (torch.randn(columns) if biased else torch.zeros(columns)).to(number)
    exact = a.double() @ b.double() + bias.double()
    given = [x.t().contiguous().t() if turned else x for x, turned in ((a, turned_left), (b, turned_right))]
    found = dense.product(kernels, *given, bias if biased else None)
    # Of each number in fp32 2^-16 is rounded off, and of each product the two rests' is left out.
    bound = 3 * 2**-16 * (a.double().abs() @ b.double().abs() + bias.double().abs())
    if number == torch.bfloat16:  # nothing of the numbers, and the result
        bound += 2**-8 * exact.abs()
    assert found.dtype == number and bool(((found - exact).abs() <= bound).all())


@with_tiles
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_product_does_not_depend_on_the_number_of_threads_or_rows(
    number: torch.dtype, threads: object
) -> None:
    (kernels,) = TILES[0].values
    # More columns, and more inputs, than are near at a time.
    a, b = torch.randn(200, 1100).to(number), torch.randn(1100, 1050).to(number)
    found = []
    for count in (1, 2, 3):
        threads(count)  # type: ignore[operator]
        found.append(dense.product(kernels, a, b))
    assert all(torch.equal(found[0], others) for others in found[1:])
    close = 0 if number == torch.float32 else 2**-8
    torch.testing.assert_close(found[0].float(), a.float() @ b.float(), atol=0.01, rtol=close)
    assert torch.equal(dense.product(kernels, a[37:50], b), found[0][37:50])


@pytest.mark.parametrize("kernels", TILES)
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_product_reads_nothing_beside_its_factors(number: torch.dtype, kernels: CDLL) -> None:
    around = torch.full((64, 32), math.nan, dtype=number)
    around[:, :20] = 1.0
    b = torch.ones(20, 48, dtype=number)
    assert (dense.product(kernels, around[:, :20], b) == 20).all()
    assert (dense.product(kernels, b.t(), around[:20, :20]) == 20).all()


@pytest.mark.parametrize("kernels", TILES)
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "inputs", "columns"), [(5, 64, 96), (70, 1056, 64), (33, 32, 32)])
def test_a_product_is_the_same_in_panels(
    rows: int, inputs: int, columns: int, number: torch.dtype, kernels: CDLL
) -> None:
    a, b = torch.randn(rows, inputs).to(number), torch.randn(inputs, columns).to(number)
    plain = dense.product(kernels, a, b)
    assert torch.equal(dense.product(kernels, a, b, panels=True), dense.in_panels(plain))
    panels = dense.in_panels(a).contiguous()
    assert torch.equal(dense.product(kernels, panels.transpose(0, 1), b), plain)
    some = dense.product(kernels, panels.transpose(0, 1)[:3], b)
    assert torch.equal(some, plain[:3])
    turned = dense.product(kernels, panels.transpose(1, 2), plain)
    assert torch.equal(turned, dense.product(kernels, a.t(), plain))


@pytest.mark.parametrize(("number", "units"), [(torch.float64, 64), (torch.bfloat16, 48)])
def test_what_the_lstm_does_not_know_is_left_to_torch(
    number: torch.dtype, units: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(recurrence, "library_lstm", lambda *given: calls.append(1) or library_lstm(*given))
    x, hidden, cell, *weights = sequence(3, 2, units, 16, number)
    native.lstm(x, hidden, cell, weights)
    assert calls


@with_tiles
@pytest.mark.parametrize("biased", [True, False])
def test_a_linear_layer_is_that_of_torch(biased: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    made = dense.product
    monkeypatch.setattr(dense, "product", lambda *given: calls.append(1) or made(*given))  # type: ignore[func-returns-value]
    found = []
    for kernel, number in ((torch.nn.functional.linear, torch.float32), (native.linear, torch.bfloat16)):
        torch.manual_seed(1)
        drawn = torch.randn(70, 5, 96).transpose(0, 1), torch.randn(40, 96), torch.randn(40)
        given = [x.to(torch.bfloat16).to(number).requires_grad_() for x in drawn[: 3 if biased else 2]]
        output = kernel(*given, *([] if biased else [None]))
        outer = torch.randn(output.shape).to(torch.bfloat16).to(number)
        found.append([output.detach(), *torch.autograd.grad(output, given, outer)])
    few = [x[:3] if x.dim() == 3 else x for x in given]
    native.linear(*few, *([] if biased else [None])).sum().backward()
    assert len(calls) == 3  # of many rows; few are left to torch
    for exact, same in zip(*found, strict=True):
        assert same.shape == exact.shape and same.dtype == torch.bfloat16
        assert float((same.float() - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("rows", "useful", "vocab"), [(5, 5, 7), (8, 3, 16), (64, 64, 105), (40, 33, 3000)])
def test_the_softmax_is_that_of_torch(
    rows: int,
    useful: int,
    vocab: int,
    smoothing: float,
    number: torch.dtype,
    kernels: CDLL,
) -> None:
    torch.manual_seed(rows)
    logits = (torch.randn(rows, vocab) * 5).to(number)
    bias, target = torch.randn(vocab).to(number), torch.randint(0, vocab, (useful,))
    expected, found = logits.float() + bias.float(), logits.clone()
    exact = library_softmax(expected, target, smoothing)
    losses = loss.softmax(kernels, found, bias, target, smoothing)
    # In bf16 powers have 13 bits, and the gradient is rounded to 8.
    close = 1e-6 if number == torch.float32 else 4e-3
    torch.testing.assert_close(found.float(), expected, atol=close, rtol=close)
    torch.testing.assert_close(losses.grad_bias, exact.grad_bias, atol=close, rtol=close)
    torch.testing.assert_close(losses.plain, exact.plain, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(losses.smoothed, exact.smoothed, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("place", [0, 2, 39])
def test_a_logit_that_is_no_number_makes_no_loss(place: int, number: torch.dtype, kernels: CDLL) -> None:
    for what in (math.nan, math.inf):
        logits = torch.zeros(2, 40, dtype=number)
        logits[0, place] = what
        losses = loss.softmax(kernels, logits, torch.zeros(40), torch.tensor([5, 6]), 0.0)
        assert math.isnan(float(losses.plain))


@pytest.mark.parametrize("number", [torch.float32, torch.bfloat16])
def test_a_model_has_the_same_gradients(number: torch.dtype) -> None:
    found = []
    ours = native.lstm, native.linear, native.output
    for kernels in ((library_lstm, torch.nn.functional.linear, library_output), ours):
        model = make("lstm", "general", "none", hidden=64, embedding=32)
        model.compute_with(*kernels)
        weights = model.step_weights(number)
        loss = torch.func.functional_call(model, weights, (batch(), 0.1), tie_weights=False)
        loss.smoothed.backward()
        found.append([loss.smoothed.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    for one, same in zip(*found, strict=True):
        assert float((one - same).norm()) <= (1e-5 if number == torch.float32 else 0.02) * float(one.norm())
