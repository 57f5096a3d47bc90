"""While modules are loaded: Ctrl-C is heard once they stand, and nobody looks for garbage among them."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""


@contextmanager
def loading() -> Iterator[None]:
    """Load modules for a program: Ctrl-C is put off, and garbage collection left out.

    torch would swallow Ctrl-C in the middle of its own loading, or go on with half of NumPy. The collector
    would look through all of its objects a dozen times, a tenth of the time that loading takes.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with _interrupts_put_off():
            yield
    finally:
        gc.freeze()  # modules stay
        if collecting:
            gc.enable()


@contextmanager
def _interrupts_put_off() -> Iterator[None]:
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
        yield
        return
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
