"""Work done beside each other, by as many threads as torch may use."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Self, TypeVar

import torch

from s2scli.cores import own_cores
from s2scli.runtime import Runtime

T = TypeVar("T")
R = TypeVar("R")


def even_size(items: int, most: int, least: int) -> int:
    """Of how many items a batch should be, ``most`` at most, so that no worker waits for long at the end.

    That is as many as leave eight batches, but no less than ``least``, or somewhat fewer for an even number
    of batches. It does not depend on how many are at work: a batch's shape can change what rounding decides.
    """
    if items <= least:
        return most
    size = min(most, max(least, -(-items // 8)))
    pairs = -(-items // (2 * size))
    return -(-items // (2 * pairs))


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
