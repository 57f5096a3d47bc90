"""Copies of the process that share the work of a translation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import quiet, reversal_pairs

from s2scli import Translator
from s2scli.errors import S2SError
from s2scli.forks import CAN_FORK
from s2scli.runtime import set_up
from s2scli.translation import SearchOptions
from s2scli.workers import Workers

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="copies of a process are made on Linux only")

SOME = range(30)


def workers(work: Callable[[Any], Any], threads: int = 2) -> Workers[Any, Any]:
    return Workers(replace(set_up("cpu", "fp32", None), threads=threads), work, copies=True)


def test_much_work_is_done_by_copies_with_a_thread_each() -> None:
    def work(item: int) -> tuple[int, int, int]:
        time.sleep(0.01)
        return item, os.getpid(), torch.get_num_threads()

    own = torch.get_num_threads()
    torch.randn(500, 500) @ torch.randn(500, 500)  # threads of the parent's own, which its copies lack
    with workers(work) as pool:
        results = [result() for result in pool.begin(SOME)]
        assert [item for item, _, _ in results] == list(SOME)
        processes = {process for _, process, _ in results}
        assert len(processes) == 2 and os.getpid() not in processes
        assert {threads for _, _, threads in results} == {1}
        few = [result() for result in pool.begin([1, 2])]
        assert {process for _, process, _ in few} <= processes  # they stay until the rest
        pool.rest()
        assert not any(alive(process) for process in processes)
        assert {process for _, process, _ in [result() for result in pool.begin([1, 2])]} == {os.getpid()}
    assert torch.get_num_threads() == own


def test_an_error_of_a_copy_is_that_of_the_caller() -> None:
    def work(item: int) -> int:
        if item == 20:
            raise S2SError("too many", where="line 20", hint="Take fewer.")
        return item

    with workers(work) as pool:
        results = pool.begin(SOME)
        assert [result() for result in results[:20]] == list(range(20))
        with pytest.raises(S2SError, match="too many") as caught:
            results[20]()
        assert (caught.value.where, caught.value.hint) == ("line 20", "Take fewer.")
        assert "in work" in caught.value.__notes__[0]  # where it happened, for --debug
        assert [result() for result in results[21:]] == list(range(21, 30))


def test_a_copy_that_is_killed_is_an_error() -> None:
    def work(item: int) -> int:
        if item == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with workers(work) as pool:
        result = pool.begin(SOME)[20]
        with pytest.raises(S2SError, match="was killed") as caught:
            result()
    assert "--threads" in str(caught.value)


def test_leaving_waits_for_no_copy() -> None:
    begun = time.monotonic()
    with workers(lambda item: time.sleep(30)) as pool:
        pool.begin(SOME)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_the_system_has_no_more_processes_threads_do_the_work(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork, made = os.fork, list[int]()

    def limited() -> int:
        if len(made) == allowed:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        process = fork()
        made.append(process)
        return process

    monkeypatch.setattr(os, "fork", limited)
    with workers(lambda item: (item, os.getpid())) as pool:
        assert [result() for result in pool.begin(SOME)] == [(item, os.getpid()) for item in SOME]
        assert len(made) == allowed and not any(alive(process) for process in made)


def test_copies_translate_as_threads_do(trained: Path) -> None:
    translator = Translator.load(trained, precision="fp32", threads=2)
    lines = [source for source, _ in reversal_pairs(200, 2, 6, seed=9)] + ["", "a " * 60]
    for options in (SearchOptions(beam=3, n_best=2), SearchOptions(beam=1, sample=True)):
        threads, copies = (
            [
                translation
                for _, found in translator.windows([lines], options, batch_size=4, copies=copies)
                for best in found
                for translation in best
            ]
            for copies in (False, True)
        )
        assert threads == copies and any(translation.text for translation in copies)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def translating(trained: Path, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], list[int]]]:
    """A command in the middle of a long translation, and the copies of its process."""
    text = folder / "long.txt"
    text.write_text("a b c d e f\n" * 300_000)
    # Ctrl-C means what it means in a terminal, however the tests were started.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from s2scli.start import main; sys.exit(main())"
    options = ["--threads", "2", "--beam", "5", "--input", str(text), "--output", str(folder / "out.txt")]
    command = [sys.executable, "-c", code, "translate", "--run", str(trained), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=quiet(), start_new_session=True) as process:
        try:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            until(lambda: len(children.read_text().split()) == 2)
            until(lambda: any(folder.glob("*out.txt*")))
            yield process, [int(child) for child in children.read_text().split()]
        finally:
            process.kill()


def test_copies_end_with_their_parent_in_the_middle_of_their_work(tmp_path: Path) -> None:
    code = """
import os, sys, time
from dataclasses import replace
from s2scli.runtime import set_up
from s2scli.workers import Workers
def work(item):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(100)
with Workers(replace(set_up("cpu", "fp32", None), threads=2), work, copies=True) as pool:
    pool.begin(range(30))[0]()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        children = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
        process.wait()
        until(lambda: not any(alive(child) for child in children))


def test_copies_end_with_the_command_that_is_killed(trained: Path, tmp_path: Path) -> None:
    with translating(trained, tmp_path) as (process, children):
        process.kill()
        process.wait()
        until(lambda: not any(alive(child) for child in children))


def test_ctrl_c_ends_all_of_them_with_a_word(trained: Path, tmp_path: Path) -> None:
    with translating(trained, tmp_path) as (process, children):
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 130 and said.strip().splitlines()[-1] == "Interrupted."
        assert "Traceback" not in said
        assert not any(alive(child) for child in children)


def test_a_copy_killed_by_the_system_is_told_and_the_output_can_be_resumed(
    trained: Path, tmp_path: Path
) -> None:
    with translating(trained, tmp_path) as (process, children):
        os.kill(children[0], signal.SIGKILL)
        said = process.communicate(timeout=60)[1].decode()
        assert process.returncode == 1 and "was killed" in said and "Traceback" not in said
        assert not any(alive(child) for child in children)
        assert not (tmp_path / "out.txt").exists()
