"""Work done beside each other, by as many threads as torch may use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import torch

from s2scli.runtime import Runtime

T = TypeVar("T")
R = TypeVar("R")


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


class Workers:
    """Threads for work of many small steps, each of which makes its own steps with one thread.

    That gains more than several threads in each step, which wait for each other at every one of them. Leaving
    the context ends them; the caller's own number of threads stays as it is.

    Args:
        runtime: What computes. On a GPU one piece of work comes after the other.

    Attributes:
        count: Most pieces of work that are done at a time.
    """

    def __init__(self, runtime: Runtime) -> None:
        # What torch says of the calling thread depends on what others did when it began.
        self.count = runtime.threads if runtime.device.type == "cpu" else 1
        self._pool: ThreadPoolExecutor | None = None
        self._context = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.rest()

    def rest(self) -> None:
        """End the threads; what they have not begun is not done. The next work begins new ones."""
        self._pool = None
        self._context.close()

    def begin(self, work: Callable[[T], R], items: Iterable[T]) -> list[Callable[[], R]]:
        """Begin work on each item.

        Returns:
            For each item what waits for its result and gives it, to be called once. A single item is worked
            on only then, by the caller with all threads, if nobody else is at work.
        """
        items = list(items)
        if self._pool is None and min(len(items), self.count) > 1:
            self._pool = self._context.enter_context(_pool(self.count))
        if self._pool is None:
            return [partial(work, item) for item in items]
        return [self._pool.submit(work, item).result for item in items]


@contextmanager
def _pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, all of which are there; what they have not begun at the end is not done."""
    own, cores = torch.get_num_threads(), own_cores(count)
    pool = ThreadPoolExecutor(count, initializer=lambda: _settle(cores.pop()))
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
