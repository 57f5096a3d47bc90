"""Inside another program: what is wrong is said, and nothing is changed for good."""

from __future__ import annotations

import contextlib
import gc
import io
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import quiet

from s2scli import Translator
from s2scli.config import ScoreOptions, TranslateOptions
from s2scli.errors import UsageError
from s2scli.runtime import settled
from s2scli.score import run, score
from s2scli.translate import translate
from s2scli.translation import SearchOptions


@pytest.fixture(scope="module")
def two(trained: Path) -> Translator:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        return Translator.load(trained, precision="fp32")
    finally:
        torch.set_num_threads(before)


def test_the_callers_threads_stay_as_they_are(two: Translator) -> None:
    before = torch.get_num_threads()
    seen: dict[str, list[int]] = {"late": []}
    begun, go_on = threading.Event(), threading.Event()

    def lines() -> Any:
        yield from ["a b c"] * 400
        begun.set()
        go_on.wait(30)

    def other(name: str, threads: int) -> None:
        torch.set_num_threads(threads)
        seen[name] = [threads]
        found = two.hypotheses(
            lines() if name == "long" else ["c b"] * 400, SearchOptions(beam=1), batch_size=4
        )
        seen[name] += [torch.get_num_threads() for _ in found]

    try:
        torch.set_num_threads(2)
        long = threading.Thread(target=other, args=("long", 2))
        long.start()
        assert begun.wait(30)
        for name, threads in (("one", 1), ("three", 3)):
            thread = threading.Thread(target=other, args=(name, threads))
            thread.start()
            thread.join()
        torch.set_num_threads(2)
        fresh = threading.Thread(target=lambda: seen["late"].append(torch.get_num_threads()))
        fresh.start()
        fresh.join()
        go_on.set()
        long.join()
        assert {name: set(counts) for name, counts in seen.items()} == {
            "long": {2},
            "one": {1},
            "three": {3},
            "late": {2},
        }
        found = two.hypotheses(["a b c"] * 40, SearchOptions(beam=1), batch_size=4)
        next(found)
        assert torch.get_num_threads() == 2
    finally:
        go_on.set()
        torch.set_num_threads(before)


def test_loading_draws_from_nobodys_random_numbers(trained: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    Translator.load(trained)
    assert torch.equal(torch.rand(3), expected)


def test_what_the_program_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        count, thresholds = gc.get_freeze_count(), gc.get_threshold()
        with settled():
            assert gc.get_threshold() != thresholds
        assert gc.get_freeze_count() == count and gc.get_threshold() == thresholds
    finally:
        gc.unfreeze()
    with settled():
        assert gc.get_freeze_count()
    assert not gc.get_freeze_count()


def test_a_library_changes_neither_memory_nor_warnings(trained: Path) -> None:
    code = f"""
import ctypes, os, warnings
from s2scli import Translator
asked = []
ctypes.CDLL = lambda *names: asked.append(names)
filters = list(warnings.filters)
Translator.load({str(trained)!r}).translate(["a b"])
assert warnings.filters == filters and not asked, (asked, warnings.filters)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=quiet(), check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        {"precision": "BF16"},
        {"precision": "fp64"},
        {"device": "gpu"},
        {"device": "cuda:0"},
        {"shortlist": -5},
        {"shortlist": 500},
        {"threads": 0},
        {"threads": "2"},
    ],
)
def test_what_no_option_could_be_is_refused(arguments: dict[str, Any], trained: Path) -> None:
    with pytest.raises(UsageError) as caught:
        Translator.load(trained, **arguments)
    assert caught.value.where == next(iter(arguments))


@pytest.mark.parametrize(
    "search", [{"beam": "5"}, {"beam": 2.5}, {"beam": True}, {"sample": "no"}, {"top_p": None}]
)
def test_searches_of_the_wrong_kind_are_refused(search: dict[str, Any], two: Translator) -> None:
    with pytest.raises(UsageError) as caught:
        two.translate(["a"], **search)
    assert caught.value.where == next(iter(search))


def test_numbers_may_be_of_numpy(two: Translator) -> None:
    search: dict[str, Any] = {"beam": np.int64(3), "length_penalty": np.float32(0.5), "seed": np.int32(2)}
    assert two.translate(["a b c"], **search) == two.translate(["a b c"], beam=3, length_penalty=0.5)
    options = SearchOptions(**search)
    assert type(options.beam) is int and options == SearchOptions(beam=3, length_penalty=0.5, seed=2)


def test_batches_and_models_that_there_cannot_be(two: Translator) -> None:
    for size in (-1, 2.5, 0):
        with pytest.raises(UsageError, match="batch_size"):
            two.translate(["a"], batch_size=size)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no model is named"):
        Translator.load([])


def test_standard_output_may_be_text_alone(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b\nc\n")
    options = TranslateOptions(run=(trained,), input=tmp_path / "in", threads=1)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        translate(options)
    assert out.getvalue().count("\n") == 2
    (tmp_path / "ref").write_text("a b\nc\n")
    given = ScoreOptions(hypotheses=(tmp_path / "in",), ref=(tmp_path / "ref",), metrics="acc", per_line=True)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run(given, lambda event: None)
    assert out.getvalue() == "line\tacc\n1\t100.0000\n2\t100.0000\n"
    assert score(given)["lines"] == 2


def test_translations_with_attention_can_be_compared(two: Translator) -> None:
    one, same = (
        next(iter(two.hypotheses(["a b c"], SearchOptions(beam=2, attention=True)))) for _ in range(2)
    )
    assert one == same
