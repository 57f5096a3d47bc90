"""Processes that are copies of this one, each with a lock of Python's own, for work of many small steps."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from s2scli.errors import S2SError
from s2scli.process import no_interrupts

CAN_FORK = sys.platform == "linux"
"""Elsewhere there is no fork, or system libraries do not survive it."""

_PARENT_DEATH_SIGNAL = 1
"""Of ``prctl``."""


class Fork:
    """A copy of this process that works on what it is sent. It ends when this process does, however that is.

    Args:
        work: What it does with each item.
        settle: What it does first.
        others: Those that were begun before.

    Raises:
        OSError: The system has no process or no memory for it.
    """

    def __init__(
        self, work: Callable[[Any], Any], settle: Callable[[], None], others: Sequence[Fork] = ()
    ) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        # A copy has all that is open here, and its pipe only ends when nobody has the other end of it.
        ours = [fork._pipe for fork in (*others, self)]
        self._process = context.Process(
            target=_serve, args=(work, settle, theirs, ours, os.getpid()), daemon=True
        )
        try:
            with no_interrupts():
                self._process.start()
        except OSError:
            self._pipe.close()
            raise
        finally:
            theirs.close()

    def ask(self, item: bytes) -> bytes:
        """Have it work on an item, and wait for the answer; both are pickled.

        Raises:
            S2SError: The process was killed.
        """
        try:
            self._pipe.send_bytes(item)
            return self._pipe.recv_bytes()
        except (EOFError, OSError) as error:
            raise S2SError(
                "one of the processes that share the work was killed",
                hint="If it was the system for lack of memory, use fewer with --threads, or smaller batches.",
            ) from error

    def kill(self) -> None:
        """End it at once, whatever it is doing."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """Close the pipe, which nobody may be waiting for."""
        self._pipe.close()


@contextmanager
def forks(work: Callable[[Any], Any], settle: Sequence[Callable[[], None]]) -> Iterator[list[Fork]]:
    """As many copies of this process as there are elements of ``settle``, or none if the system refuses.

    Whoever waits for one of them must have ended, or been ended with `Fork.kill`, before the context does.
    """
    with ExitStack() as stack:
        begun: list[Fork] = []
        try:
            for first in settle:
                fork = Fork(work, first, begun)
                stack.callback(fork.close)
                stack.callback(fork.kill)
                begun.append(fork)
        except OSError:
            for fork in begun:
                fork.kill()
            begun = []
        yield begun


def answered(answer: bytes) -> Any:
    """What work gave, or the error that it raised."""
    fine, result = pickle.loads(answer)
    if fine:
        return result
    raise result


def _serve(
    work: Callable[[Any], Any],
    settle: Callable[[], None],
    pipe: Connection,
    others: Sequence[Connection],
    parent: int,
) -> None:
    """Answer until nobody asks any more."""
    # At once, and not after the work at hand: what the parent had open is open here, and locked.
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for other in others:
        other.close()
    settle()
    with suppress(EOFError, OSError):
        while True:
            item = pickle.loads(pipe.recv_bytes())
            try:
                answer = (True, work(item))
            except Exception as error:
                error.add_note(traceback.format_exc())  # for --debug
                answer = (False, error)
            pipe.send_bytes(pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL))
