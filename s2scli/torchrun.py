"""What torchrun says in the environment of each process, and how it ends one. Read without loading torch."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress

from s2scli.errors import S2SError

WORDS = 10.0
"""Seconds that a process with nothing to say waits for torchrun to end it.

torchrun ends all processes as soon as one has failed: the silent ones must not be the first.
"""

_ended = threading.Event()


class ToldElsewhere(S2SError):  # noqa: N818
    """An error whose words another process of the same training has for the user."""


def launched() -> bool:
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def follows() -> bool:
    """Whether torchrun has started this process, and another one is the first."""
    return launched() and os.environ.get("RANK", "0") != "0"


def restarts() -> int:
    """How often torchrun has started the processes of this machine again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def local_rank() -> int:
    """The number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_size() -> int:
    """How many processes torchrun has started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def hear_out() -> None:
    """Let torchrun's signal to end, which comes as soon as another process has failed, wait for our words."""

    def note(number: int, frame: object) -> None:
        _ended.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends this process at once

    with suppress(ValueError):  # not in the main thread: whoever runs us there handles signals
        signal.signal(signal.SIGTERM, note)


def wait_for_end() -> None:
    """Stay until torchrun ends this process, ``WORDS`` seconds at most."""
    _ended.wait(WORDS)
