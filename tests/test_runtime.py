"""The process as a whole: its memory and its kernels."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch

from s2scli.cores import physical_cores
from s2scli.model.packed import has_int8
from s2scli.process import keep_memory
from s2scli.runtime import has_fast_bf16, keep_kernels, set_up
from s2scli.workers import Workers


def test_what_the_user_sets_for_kernels_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    keep_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    keep_kernels()
    assert os.environ["LRU_CACHE_CAPACITY"] == "16"


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def library(name: str | None) -> object:
        asked.append(name)
        return object()  # has no mallopt, like that of macOS or musl

    monkeypatch.setattr(ctypes, "CDLL", library)
    keep_memory()
    assert asked == [None]


def test_search_takes_the_fastest_format_and_training_what_it_can_train_in() -> None:
    auto = set_up("cpu", "auto", None)
    trained_in = "bf16" if has_fast_bf16(torch.device("cpu")) else "fp32"
    assert auto.kind == ("int8" if has_int8() else trained_in)
    assert auto.dtype == (torch.bfloat16 if trained_in == "bf16" else torch.float32)
    assert auto.description.endswith(f", {trained_in}")
    exact = set_up("cpu", "fp32", None)
    assert (exact.kind, exact.dtype) == ("fp32", torch.float32)


def test_workers_use_the_threads_of_the_runtime_whatever_the_caller_has() -> None:
    before = torch.get_num_threads()
    runtime = replace(set_up("cpu", "fp32", None), threads=2)
    here, seen = threading.get_ident(), []

    def work(item: int) -> int:
        seen.append(threading.get_ident())
        time.sleep(0.05)
        return item

    torch.set_num_threads(1)
    try:
        with Workers(runtime) as workers:
            assert [result() for result in workers.begin(work, [1])] == [1]
            assert seen.pop() == here  # a single item has all threads
            assert [result() for result in workers.begin(work, [1, 2, 3])] == [1, 2, 3]
            assert len(set(seen)) == 2 and here not in seen
            seen.clear()
            waiting = workers.begin(work, range(100))
            assert waiting[0]() == 0
        assert len(seen) < 10  # what had not begun was left
    finally:
        torch.set_num_threads(before)


def test_threads_are_bound_to_cores_only_where_they_take_all(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[frozenset[int]] = []
    cores = [frozenset({0, 2}), frozenset({1, 3})]
    monkeypatch.setattr("s2scli.cores.physical_cores", lambda: cores)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, core: bound.append(core), raising=False)
    for threads, expected in ((2, cores), (3, [])):
        bound.clear()
        with Workers(replace(set_up("cpu", "fp32", None), threads=threads)) as workers:
            for result in workers.begin(lambda item: time.sleep(0.05), range(6)):
                result()
        assert sorted(bound, key=min) == expected


@pytest.mark.parametrize("refused", [1, 2])
def test_threads_that_may_not_be_bound_work_all_the_same(
    refused: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[object] = []

    def bind(process: int, core: object) -> None:
        calls.append(core)
        if len(calls) >= refused:
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("s2scli.cores.physical_cores", lambda: [frozenset({0}), frozenset({1})])
    monkeypatch.setattr(os, "sched_setaffinity", bind, raising=False)
    with Workers(replace(set_up("cpu", "fp32", None), threads=2)) as workers:
        assert [result() for result in workers.begin(lambda i: i, [1, 2, 3])] == [1, 2, 3]
    assert len(calls) == 2


def test_without_the_librarys_kernels_fp32_is_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    chosen = set_up("cpu", "auto", None)
    assert (chosen.kind, chosen.dtype) == ("fp32", torch.float32)


def test_threads_of_a_pool_compute_with_one_thread_each() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with Workers(replace(set_up("cpu", "fp32", None), threads=2)) as workers:

            def work(item: int) -> int:
                torch.randn(300_000).exp()
                time.sleep(0.05)
                return torch.get_num_threads()

            assert [result() for result in workers.begin(work, range(4))] == [1] * 4
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_thread_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun = threading.Thread.start, list[threading.Thread]()

    def limited(thread: threading.Thread) -> None:
        begun.append(thread)
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    workers = Workers(replace(set_up("cpu", "fp32", None), threads=2))
    with pytest.raises(RuntimeError, match="new thread"):
        workers.begin(lambda item: item, [1, 2, 3])


TEAM = """
import os, torch
from pathlib import Path
from s2scli.runtime import set_up
torch.set_num_threads({threads})
tasks, whole = Path("/proc/self/task"), os.sched_getaffinity(0)
before = set(os.listdir(tasks))
set_up("cpu", "fp32", {threads})
team = [os.sched_getaffinity(int(task)) for task in os.listdir(tasks) if task not in before]
assert os.sched_getaffinity(0) == whole, "the caller moves as before"
print(*(len(cores) for cores in team))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds threads to cores")
def test_threads_that_share_an_operation_have_a_core_each() -> None:
    cores = physical_cores()
    if len(cores) < 2:
        pytest.skip("a single core")

    def run(threads: int) -> str:
        code = TEAM.format(threads=threads)
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert sorted(map(int, run(len(cores)).split())) == sorted(len(core) for core in cores[1:])
    # On a part of the cores, another program might have its threads on the same.
    assert run(1).split() == []
