"""Trainings in processes of their own: the cores they run on, what they tell, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from s2scli.config import TrainOptions
from s2scli.cores import own_cores, physical_cores
from s2scli.errors import S2SError
from s2scli.events import Event, Listener, Notice, TrainingEnded
from s2scli.meter import Stop
from s2scli.process import own_process
from s2scli.several import Failed, OfSeed
from s2scli.train import train
from s2scli.wording import explain

ON_A_GPU = 4
"""Trainings that share a GPU: each keeps a part of it busy, and holds a part of its memory."""


def places(jobs: int, threads: int | None, *, on_gpu: bool) -> list[frozenset[int]]:
    """One place for each training that may run at a time: the core it is bound to, empty for any.

    They are bound only where they take all cores, and the cores do the work.
    """
    at_once = min(jobs, threads or len(physical_cores()), ON_A_GPU if on_gpu else jobs)
    return [frozenset()] * at_once if on_gpu else own_cores(at_once)


def _work(options: TrainOptions, pipe: Connection, core: frozenset[int]) -> None:
    """Train one model in a process of its own; its events, or the error that ended it, go into the pipe."""
    if core:
        with suppress(OSError):  # some containers refuse it
            os.sched_setaffinity(0, core)
    stop = Stop()

    def obey() -> None:
        with suppress(EOFError, OSError):
            pipe.recv()
        stop.asked = True  # the parent wishes it, or has gone

    def tell(what: Event | S2SError) -> None:
        with suppress(OSError):  # nobody listens any more: then this training soon ends
            pipe.send(what)

    threading.Thread(target=obey, daemon=True).start()
    own_process()
    try:
        train(options, tell, stop)
    except KeyboardInterrupt:
        return
    except Exception as error:
        told = error if isinstance(error, S2SError) else explain(error, "train")
        told.add_note(traceback.format_exc())  # for --debug
        tell(told)


@dataclass(kw_only=True)
class _Child:
    """A training that runs."""

    seed: int
    process: SpawnProcess
    core: frozenset[int]


class Crew:
    """Trainings that run at the same time, and those that wait for a place.

    A pipe for each, not a queue for all: a process that is killed while it holds the lock of a queue
    would silence the others.

    Args:
        jobs: What to train.
        places: Where; see `places`.
        listen: Told the events of all of them.
    """

    def __init__(
        self, jobs: Sequence[TrainOptions], places: Sequence[frozenset[int]], listen: Listener
    ) -> None:
        self.waiting, self.free, self.listen = deque(jobs), deque(places), listen
        self.running: dict[Connection, _Child] = {}
        self.outcomes: dict[int, TrainingEnded | S2SError] = {}

    def run(self) -> dict[int, TrainingEnded | S2SError]:
        """Train all of them, or until the user asks to stop.

        Returns:
            Seed → how its training ended, or why it failed; nothing of those that have not begun.
        """
        told = False
        with Stop().listening() as stop:
            try:
                while self.running or (self.waiting and not stop.asked):
                    while self.waiting and self.free and not stop.asked:
                        self._start(self.waiting.popleft(), self.free.popleft())
                    if stop.asked and not told:
                        told = True
                        self.listen(Notice(text="Each training ends the update under way and saves …"))
                        for pipe in self.running:
                            with suppress(OSError):
                                pipe.send("stop")
                    # It returns now and then to see whether the user wants to stop.
                    ready = wait(list(self.running), timeout=0.5)
                    for pipe in [pipe for pipe in self.running if pipe in ready]:
                        self._hear(pipe, stop)
            except KeyboardInterrupt:  # the second
                for child in self.running.values():
                    child.process.kill()
                raise
            finally:
                for pipe, child in self.running.items():
                    pipe.close()  # which tells it to end
                    child.process.join()
        return self.outcomes

    def _start(self, options: TrainOptions, core: frozenset[int]) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(options, theirs, core), name=f"seed {options.seed}")
        with _no_interrupts():
            process.start()
        theirs.close()
        self.running[ours] = _Child(seed=options.seed, process=process, core=core)

    def _hear(self, pipe: Connection, stop: Stop) -> None:
        """Pass on one event of a training, or note its end."""
        child = self.running[pipe]
        try:
            event = pipe.recv()
        except (EOFError, OSError):
            self._over(pipe, stop)
            return
        if isinstance(event, (TrainingEnded, S2SError)):
            self.outcomes[child.seed] = event
        told = Failed(what=event.what) if isinstance(event, S2SError) else event
        self.listen(OfSeed(seed=child.seed, event=told))

    def _over(self, pipe: Connection, stop: Stop) -> None:
        child = self.running.pop(pipe)
        pipe.close()
        child.process.join()
        self.free.append(child.core)
        if child.seed not in self.outcomes and not stop.asked:
            error = _killed(child.process.exitcode or 0)
            self.outcomes[child.seed] = error
            self.listen(OfSeed(seed=child.seed, event=Failed(what=error.what)))


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Let a process that is started here hear nothing of Ctrl-C; it is the parent that tells it to stop.

    Otherwise Ctrl-C would reach it twice, or while it is still loading, which ends in a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _killed(code: int) -> S2SError:
    """What to say of a process that has ended without a word."""
    if code >= 0:
        return S2SError(f"its process ended with code {code}")
    named = {one.value: one.name for one in signal.Signals}
    name = named.get(-code, f"signal {-code}")
    hint = "If it was the system for lack of memory, train fewer at a time with --threads."
    return S2SError(f"its process was killed ({name})", hint=hint if name == "SIGKILL" else None)
