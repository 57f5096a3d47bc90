"""The kernels of our own make the same steps as the plain decoder, and none is used that does not fit."""

from __future__ import annotations

import copy
import math
import shutil
import subprocess
import sys
from ctypes import CDLL
from pathlib import Path
from typing import Any

import pytest
import torch
from builds import BUILDS
from reference_search import reference_search
from test_model import KINDS, SOURCES, make
from test_stepper import limits

from s2scli.config import BOS
from s2scli.model import beam_search, forced_search, greedy_search
from s2scli.model.batch import pad
from s2scli.model.grid import Grid
from s2scli.model.prediction import Dense
from s2scli.model.shortlist import Shortlist
from s2scli.model.stepper import Stepper
from s2scli.native import NativeStepper, bindings, supported
from s2scli.native.matrix import Number, Packed
from s2scli.translator import SearchOptions, Translator

ROOT = Path(__file__).parents[1]
if not BUILDS:
    pytest.skip("the kernels are not built: there was no C compiler", allow_module_level=True)

WIDE = {"hidden": 64, "embedding": 32}
"""Sizes that the kernels know."""
KINDS = [(cell, kind, feed) for cell, kind, feed in KINDS if kind != "additive"]


def numbers(kernels: CDLL) -> list[Number]:
    """All that a build can multiply, fp32 too where `fp32` is made of halves."""
    found: list[Number] = ["fp32"]
    found += ["halves", "bf16"] if kernels.s2s_half() else []
    return [*found, "int8"] if kernels.s2s_int8() else found


TOLERANCE = {"fp32": 1e-5, "halves": 5e-5, "bf16": 0.1, "int8": 0.3}
"""How far a log-probability may be off: 8 bits round to a hundredth of the largest weight and input."""


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_it_makes_the_decoders_step(
    cell: str, kind: str, feed: str, bidirectional: bool, kernels: CDLL
) -> None:
    values = "projected" if kind == "general" else "keys"
    model = make(cell, kind, feed, **WIDE, bidirectional=bidirectional, values=values)
    ids, lengths = pad(SOURCES)
    for number in numbers(kernels):
        native = NativeStepper(copy.deepcopy(model), kernels, number)
        most = TOLERANCE[number]
        with torch.no_grad():
            plain, fast = model.start(ids, lengths), native.start(ids, lengths)
            tokens = torch.full((len(SOURCES), 1), BOS)
            for t in range(4):
                log_p, weights, plain = model.step(tokens, plain)
                prediction, same_weights, fast = native.step(tokens.flatten(), fast)
                same = prediction.log_p()
                torch.testing.assert_close(same[:, : log_p.size(2)], log_p.flatten(0, 1), atol=most, rtol=0)
                assert (same[:, log_p.size(2) :] == -torch.inf).all()
                if weights is not None:
                    torch.testing.assert_close(same_weights, weights, atol=most, rtol=0)
                # Two hypotheses a sentence, then one sentence fewer, as search does.
                tokens = log_p.topk(2, dim=-1).indices[:, 0]
                keep = torch.arange(len(tokens) - (t == 1))
                parents = torch.zeros(len(keep), 2, dtype=torch.int64)
                rows = keep.repeat_interleave(2) * fast.grid.shape[1]
                fast = fast.select(keep, rows, Grid(shape=(len(keep), 2)))
                tokens, plain = tokens[keep], plain.select(keep, parents)


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS)
@pytest.mark.parametrize("threshold", [None, 0.7])
@pytest.mark.parametrize("number", ["fp32", "halves"])
def test_search_equals_the_reference(
    cell: str, kind: str, feed: str, threshold: float | None, number: Number, kernels: CDLL
) -> None:
    if number not in numbers(kernels):
        pytest.skip("this build has no tiles")
    model = make(cell, kind, feed, **WIDE)
    with torch.no_grad():
        # Surer of itself, and so of different opinions on different sources. Where all weights are larger, so
        # is what is rounded, step by step: too much for halves, which have logits further apart.
        assert model.narrow is not None
        for parameter in model.parameters() if number == "fp32" else model.narrow.parameters():
            parameter.mul_(2.0 if number == "fp32" else 8.0)
    native = NativeStepper(model, kernels, number)
    ids, lengths = pad(SOURCES)
    most = math.inf if threshold is None else threshold
    rules = limits(12, 8, 9)
    rules = type(rules)(max_lengths=rules.max_lengths, threshold=threshold, keep_attention=True)
    with torch.no_grad():
        found = beam_search(native, native.start(ids, lengths), rules, beam=5, n_best=3)
        greedy = greedy_search(native, native.start(ids, lengths), rules)
        for i, (source, longest) in enumerate(zip(SOURCES, (12, 8, 9), strict=True)):
            tokens, score = reference_search(model, source, beam=5, most=longest, threshold=most)
            assert found[i][0].tokens == tokens
            assert found[i][0].score == pytest.approx(score, abs=1e-4)
            tokens, score = reference_search(model, source, beam=1, most=longest, threshold=most)
            assert greedy[i].tokens == tokens
            assert greedy[i].score == pytest.approx(score, abs=1e-4)
        for rank in range(3):
            wanted, counts = pad([h[min(rank, len(h) - 1)].tokens for h in found])
            forced = forced_search(native, native.start(ids, lengths), wanted, counts, Grid.first(counts, 5))
            for row, count, hypotheses in zip(forced, counts, found, strict=True):
                hypothesis = hypotheses[min(rank, len(hypotheses) - 1)]
                emitted = int(count) - (not hypothesis.complete)
                assert float(row[:emitted].sum()) == pytest.approx(hypothesis.log_probability, abs=1e-4)


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_sentence_is_the_same_to_the_last_bit_whatever_stands_beside_it(
    cell: str, kernels: CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(cell, "dot", "input", **WIDE)
    sources = [[4 + (i * j) % 19 for j in range(1, 2 + i % 11)] for i in range(50)]
    for number in numbers(kernels):
        native = NativeStepper(copy.deepcopy(model), kernels, number)

        def search(sources: list[list[int]], native: NativeStepper = native) -> list[tuple[object, ...]]:
            rules = limits(*[12] * len(sources))
            with torch.no_grad():
                found = beam_search(native, native.start(*pad(sources)), rules, beam=5, n_best=5)
            return [tuple((h.tokens, h.log_probability) for h in hs) for hs in found]

        with monkeypatch.context() as patch:
            patch.setattr("s2scli.model.inputtable.WORTH", math.inf)  # no table of input projections for few
            alone = [search([source])[0] for source in sources]
        together = search(sources)
        assert together == alone
        assert together == search(sources[::-1])[::-1]


@pytest.mark.parametrize("kernels", BUILDS)
def test_the_best_of_a_prediction_are_those_of_all_its_numbers(kernels: CDLL) -> None:
    model = make("lstm", "dot", "none", **WIDE)
    with torch.no_grad():
        model.output.bias.normal_(0.0, 30.0)  # far apart, so that sums of powers must be moved
    few = Shortlist(torch.zeros(23, 1, dtype=torch.int64), torch.tensor([5, 6, 9, 20]), 23)
    ids, lengths = pad(SOURCES)
    for number in numbers(kernels):
        native = NativeStepper(copy.deepcopy(model), kernels, number)
        for shortlist in (None, few):
            with torch.no_grad():
                prediction, _, _ = native.step(torch.full((3,), BOS), native.start(ids, lengths, shortlist))
                total, grid = torch.tensor([[-1.0], [-2.0], [-3.0]]), Grid(shape=(3, 1))
                for k in (1, 5, 60):
                    found = prediction.continuations(total, grid, k)
                    expected = Dense(prediction.log_p()).continuations(total, grid, k)
                    there = expected.log_p > -math.inf
                    torch.testing.assert_close(found.log_p, expected.log_p, atol=1e-3, rtol=0)
                    assert torch.equal(found.token[there], expected.token[there])
                    assert torch.equal(found.parent, expected.parent)
                    torch.testing.assert_close(found.ending, expected.ending, atol=1e-3, rtol=0)
                tokens, log_p = prediction.most_probable()
                best, values = Dense(prediction.log_p()).most_probable()
                assert torch.equal(tokens, best)
                torch.testing.assert_close(log_p, values, atol=1e-3, rtol=0)


@pytest.mark.parametrize("kernels", BUILDS)
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("columns", [16, 64, 80, 208])
@pytest.mark.parametrize("rows", [1, 5, 16, 33, 801])
def test_a_product_is_as_exact_as_its_steps(rows: int, columns: int, bounded: bool, kernels: CDLL) -> None:
    torch.manual_seed(rows + columns)
    weight, bias = torch.randn(columns, 48) * 0.1, torch.randn(columns)
    x = torch.rand(rows, 48) * 2 - 1
    if not bounded:
        x = x * torch.logspace(-3, 3, rows).unsqueeze(1)  # each row has its own scale
    exact, largest = x @ weight.T + bias, x.abs().amax(dim=1, keepdim=True)
    for number in numbers(kernels):
        packed = Packed(weight, bias, number, [(48, 1.0)] if bounded else None)
        found = packed(kernels, x)[:, :columns]
        most = {"fp32": 1e-5, "halves": 5e-5, "bf16": 0.02, "int8": 0.05}[number]
        assert ((found - exact).abs() / (1.0 if bounded else largest.clamp_min(1e-2))).max() < most
        bent = Packed(weight * -2 / math.log(2), bias * -2 / math.log(2), number, [(48, 1.0)])
        if bounded:
            onto = torch.randn(rows, columns)
            expected = torch.tanh(exact + onto)
            made = bent(kernels, x, onto=onto * -2 / math.log(2), bend=True)
            assert (made - expected).abs().max() < most


@pytest.mark.parametrize("kernels", BUILDS)
def test_a_model_whose_weights_are_no_numbers_says_nothing(kernels: CDLL) -> None:
    model = make("lstm", "dot", "none", **WIDE)
    with torch.no_grad():
        model.output.bias.fill_(math.nan)
    native = NativeStepper(model, kernels, "fp32")
    with torch.no_grad():
        found = beam_search(native, native.start(*pad(SOURCES)), limits(5, 5, 5), beam=3)
    assert [h[0].tokens for h in found] == [(), (), ()]


@pytest.mark.parametrize(
    "options", [{}, {"beam": 1}, {"sample": True, "seed": 3}, {"beam": 3, "no_repeat_ngram": 2}]
)
def test_a_translator_says_the_same_with_them_and_without(
    trained: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["a b c", "h g", "", "d e f a", "c"] * 9
    search = SearchOptions(attention=True, **options)
    found = []
    for kernels in (bindings.kernels, lambda: None):
        monkeypatch.setattr("s2scli.searcher.kernels", kernels)
        translator = Translator.load(trained, precision="fp32")
        found.append(list(translator.hypotheses(lines, search)))
        assert isinstance(translator.searcher.stepper, (NativeStepper, Stepper)[len(found) - 1])
    for (one, *_), (other, *_) in zip(*found, strict=True):
        assert one.text == other.text
        for a, b in zip(one.pieces, other.pieces, strict=True):
            assert a.hypothesis.log_probability == pytest.approx(b.hypothesis.log_probability, abs=1e-4)
            assert a.hypothesis.attention is not None and b.hypothesis.attention is not None
            torch.testing.assert_close(a.hypothesis.attention, b.hypothesis.attention, atol=1e-4, rtol=0)


def test_what_the_kernels_do_not_know_is_left_to_torch() -> None:
    (kernels,) = BUILDS[0].values
    assert supported(kernels, make("lstm", "dot", "none", **WIDE).config, "fp32")
    assert not supported(kernels, make("lstm", "additive", "none", **WIDE).config, "fp32")
    assert not supported(kernels, make("lstm", "dot", "none", hidden=40).config, "fp32")
    assert bool(supported(kernels, make("lstm", "dot", "none", **WIDE).config, "bf16")) == bool(
        kernels.s2s_half()
    )


def test_a_build_of_other_sources_is_not_used(tmp_path: Path) -> None:
    compiler = next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if compiler is None:
        pytest.skip("no C compiler")
    source, made = bindings.FOLDER / "kernels.c", []
    for name, number in (("other", 1), ("right", bindings.sources())):
        made.append(tmp_path / f"{name}.so")
        command = [compiler, "-shared", "-fPIC", f"-DSOURCES={number}", source, "-o", made[-1], "-lm"]
        subprocess.run(command, check=True)
    other, right = made
    assert bindings.opened(other) is None
    plain = bindings.opened(right)  # for any processor of the kind, with vectors of four numbers
    assert plain is not None and not plain.s2s_int8()
    model = make("lstm", "dot", "input", **WIDE)
    with torch.no_grad():
        found, native = [], NativeStepper(model, plain, "fp32")
        for stepper in (Stepper(model, "fp32"), native):
            state = stepper.start(*pad(SOURCES))
            for token in (BOS, 5, 6):
                prediction, _, state = stepper.step(torch.full((3,), token), state)
            found.append(prediction)
        torch.testing.assert_close(found[0].log_p(), found[1].log_p(), atol=1e-5, rtol=0)
        one, same = (p.continuations(torch.zeros(3, 1), Grid(shape=(3, 1)), 4) for p in found)
        assert torch.equal(one.token, same.token)
    assert bindings.opened(tmp_path / "none.so") is None
    (tmp_path / "text.so").write_text("no library")
    assert bindings.opened(tmp_path / "text.so") is None


def test_search_does_without_where_the_environment_says_so() -> None:
    code = "from s2scli.native import kernels; print(kernels())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"S2S_NATIVE": "0"},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "None"


def test_the_torch_stepper_and_the_kernels_agree_on_int8() -> None:
    """Both round, each in its own way: to about the same."""
    (kernels,) = BUILDS[0].values
    if "int8" not in numbers(kernels):
        pytest.skip("this processor has no 8-bit instructions")
    model = make("lstm", "dot", "none", hidden=128, embedding=64)
    exact, native = Stepper(copy.deepcopy(model), "fp32"), NativeStepper(model, kernels, "int8")
    ids, lengths = pad(SOURCES)
    with torch.no_grad():
        a, b = exact.start(ids, lengths), native.start(ids, lengths)
        for token in (BOS, 5, 6, 7):
            tokens = torch.full((3,), token)
            expected, _, a = exact.step(tokens, a)
            found, _, b = native.step(tokens, b)
            seen = expected.log_p() > -torch.inf
            assert (found.log_p() - expected.log_p())[seen].abs().max() < 0.1
