"""Time, speed and interruption of a training."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor


class Clock:
    """Seconds of training, counted on from those of earlier parts."""

    def __init__(self, before: float) -> None:
        self._start = time.monotonic() - before

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def tick(self, asked: bool) -> bool:
        """Look at the clock together with all processes of the training; here there is one.

        Args:
            asked: Whether this process has been asked to stop.

        Returns:
            Whether any of them has.
        """
        return asked


class Meter:
    """Loss since the last reading, and speed and waiting since then or the last restart.

    Args:
        clock: The time.
        total: Adds up the losses of all processes.
    """

    def __init__(self, clock: Clock, total: Callable[[float], float]) -> None:
        self.clock, self.total = clock, total
        self._losses: list[Tensor] = []
        self._summed = 0
        self.restart()

    def restart(self) -> None:
        """Leave out of speed and waiting what came before, such as a validation."""
        self._tokens, self._waited, self._since = 0, 0.0, self.clock.seconds

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time spent inside counts as waiting for data."""
        begin = time.monotonic()
        yield
        self._waited += time.monotonic() - begin

    def add(self, loss: Tensor, tokens: int) -> None:
        self._losses.append(loss)
        self._summed += tokens
        self._tokens += tokens

    def read(self) -> tuple[float, float, float]:
        """(nats per token, tokens per second, share of time spent waiting), and start anew."""
        loss = self.total(float(torch.stack(self._losses).sum())) / max(1, self._summed)
        seconds = max(1e-9, self.clock.seconds - self._since)
        result = (loss, self._tokens / seconds, self._waited / seconds)
        self._losses, self._summed = [], 0
        self.restart()
        return result


class Stop:
    """Whether the user has asked to stop; the second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Take Ctrl-C, SIGTERM and a terminal that is closed as the wish to stop after the step under way."""

        def ask(number: int, frame: object) -> None:
            # At a logout, and from some terminals, several of the other signals come together.
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True

        try:
            wanted = {signal.SIGINT, signal.SIGTERM}
            if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as of nohup
                wanted.add(signal.SIGHUP)
            before = {s: signal.signal(s, ask) for s in wanted}
        except ValueError:  # not in the main thread: whoever runs us there handles signals
            before = {}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
