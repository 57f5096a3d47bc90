"""Work done beside each other, on as many cores as torch may use."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Generic, Self, TypeVar

import torch

from s2scli.forks import CAN_FORK, Fork, answered, forks
from s2scli.runtime import Runtime

T = TypeVar("T")
R = TypeVar("R")

_MUCH = 12
"""Items from which on copies of the process pay: each prepares kernels of its own, which threads share."""


def physical_cores() -> list[frozenset[int]]:
    """The cores that this process may use, each as the numbers of its hardware threads."""
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * torch.get_num_threads()  # which does not count hardware threads
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings")
        try:
            mask = int(path.read_text().replace(",", ""), 16)
        except (OSError, ValueError):  # not Linux, or hidden from us
            mask = 0
        cores.add(frozenset(n for n in allowed if n == cpu or mask >> n & 1))
    return sorted(cores, key=min)


def own_cores(count: int) -> list[frozenset[int]]:
    """A core for each of so many at work: left alone, two were seen to share one while another idled.

    Empty where they do not take all cores: on a part of them, another command might be bound to the same.
    """
    cores = physical_cores()
    return [*cores] if count == len(cores) else [frozenset()] * count


class Workers(Generic[T, R]):
    """Work of many small steps on several cores, each of which makes steps of its own.

    That gains more than several threads in each step, which wait for each other at every one of them. Leaving
    the context ends it; the caller's own number of threads stays as it is.

    Args:
        runtime: What computes. On a GPU one piece of work comes after the other.
        work: What is to be done with each item.
        copies: Whether much work is done by copies of this process, which do not wait for each other's Python
            code as threads do. Items and results are pickled for them.
    """

    def __init__(self, runtime: Runtime, work: Callable[[T], R], *, copies: bool = False) -> None:
        # What torch says of the calling thread depends on what others did when it began.
        self._most = runtime.threads if runtime.device.type == "cpu" else 1
        self._work, self._copies = work, copies and CAN_FORK
        self._submit: Callable[[T], Callable[[], R]] | None = None
        self._context = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.rest()

    def rest(self) -> None:
        """End who is at work; what has not been begun is not done. The next work begins anew."""
        self._submit = None
        self._context.close()

    def begin(self, items: Iterable[T]) -> list[Callable[[], R]]:
        """Begin work on each item.

        Returns:
            For each item what waits for its result and gives it, to be called once. A single item is worked
            on only then, by the caller with all threads, if nobody else is at work.
        """
        items = list(items)
        if self._submit is None and min(len(items), self._most) > 1:
            copied = self._copies and len(items) >= _MUCH
            self._submit = self._context.enter_context(
                _copies(self._most, self._work) if copied else _threads(self._most, self._work)
            )
        if self._submit is None:
            return [partial(self._work, item) for item in items]
        return [self._submit(item) for item in items]


@contextmanager
def _threads(count: int, work: Callable[[T], R]) -> Iterator[Callable[[T], Callable[[], R]]]:
    """What begins work in one of so many threads."""
    cores = own_cores(count)
    with _pool(count, lambda: _settle(cores.pop())) as pool:
        yield lambda item: pool.submit(work, item).result


@contextmanager
def _copies(count: int, work: Callable[[T], R]) -> Iterator[Callable[[T], Callable[[], R]]]:
    """What begins work in one of so many copies of this process; in threads, where the system refuses them.

    For each there is a thread that does nothing but send and wait. Results are read by who asks for them.
    """
    with forks(work, [partial(_settle, core) for core in own_cores(count)]) as begun:
        if not begun:
            with _threads(count, work) as submit:
                yield submit
            return
        free, mine = list(begun), threading.local()

        def take() -> None:
            mine.fork = free.pop()

        def ask(item: bytes) -> bytes:
            fork: Fork = mine.fork
            return fork.ask(item)

        def begin(item: T) -> Callable[[], R]:
            result = pool.submit(ask, pickle.dumps(item)).result
            return lambda: answered(result())

        with _pool(count, take) as pool:
            try:
                yield begin
            finally:
                for fork in begun:  # nobody waits for what is still at work
                    fork.kill()


@contextmanager
def _pool(count: int, first: Callable[[], None]) -> Iterator[ThreadPoolExecutor]:
    """So many threads, all of which are there; what they have not begun at the end is not done."""
    own = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, initializer=first)
    try:
        together = threading.Barrier(count)
        try:
            for begun in [pool.submit(together.wait) for _ in range(count)]:
                begun.result()
        except BaseException:
            together.abort()  # those that have begun wait for those that cannot
            raise
        # In torch the last word of any thread counts for all that begin later, and those are not ours.
        torch.set_num_threads(own)
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _settle(core: frozenset[int]) -> None:
    """Bind the calling thread to a core, if one is named, and let torch use no other threads in it."""
    torch.get_num_threads()  # else its first operation would take the number that others have set last
    torch.set_num_threads(1)
    if core:
        with suppress(OSError):  # some containers refuse it, and it is for speed alone
            os.sched_setaffinity(0, core)
