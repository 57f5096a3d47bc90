"""The threads that share torch's operations, as the kernels of training use them (``team.h``)."""

from __future__ import annotations

from ctypes import CDLL, Structure, c_int, c_int64, c_void_p, cast
from functools import cache
from itertools import chain
from pathlib import Path

import torch

MOST = 64
"""Threads of a team, as in ``team.h``."""


class Team(Structure):
    """``struct team``, for one call."""

    _fields_ = [
        ("parallel", c_void_p),
        ("threads", c_void_p),
        ("number", c_void_p),
        ("wanted", c_int64),
        ("arrived", c_int),
        ("met", c_int),
    ]


@cache
def _functions() -> tuple[c_void_p, ...]:
    """How torch's own library leads a team: GNU's OpenMP, or one that has its functions as well."""
    folder = Path(torch.__file__).parent / "lib"
    for path in sorted(chain(folder.glob("lib*omp*.so*"), folder.glob("lib*omp*.dylib"))):
        try:
            library = CDLL(str(path))
            led = (library.GOMP_parallel, library.omp_get_num_threads, library.omp_get_thread_num)
            return tuple(cast(function, c_void_p) for function in led)
        except (OSError, AttributeError):
            continue
    return ()


def team(most: int) -> Team:
    """As many threads as torch uses, ``most`` and `MOST` at most; one where nobody is found to lead more."""
    functions = _functions()
    if not functions:
        return Team(wanted=1)
    parallel, threads, number = functions
    wanted = min(torch.get_num_threads(), most, MOST)
    return Team(parallel=parallel, threads=threads, number=number, wanted=wanted)
