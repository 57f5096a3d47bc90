"""What a process that is our own may do to itself, and a library may not: memory and warnings."""

from __future__ import annotations

import ctypes
import warnings
from contextlib import suppress

_KEPT_MEMORY = {-1: 1 << 30, -2: 64 << 20, -3: 1 << 30}
"""Of ``mallopt``, bytes: M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD."""


def own_process() -> None:
    """Settle the process for training and search."""
    keep_memory()
    # A step of training computes with copies of the weights, which never lie in one block.
    warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous")


def keep_memory() -> None:
    """Let freed memory stay with the process, which is about to ask for as much again.

    The C library otherwise gives large blocks, such as the logits of a step of search, back to the system and
    gets them anew, page by page, at the next step. Only glibc can be told so.
    """
    with suppress(OSError, TypeError, AttributeError):
        tune = ctypes.CDLL(None).mallopt
        for parameter, size in _KEPT_MEMORY.items():
            tune(parameter, size)
