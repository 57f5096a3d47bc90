"""The compiled kernels of search and training, and the arguments of those of search as C knows them.

They are built when s2scli is installed (``hatch_build.py``), once for each kind of processor. Where nothing
was built, or nothing that this processor can run, there is none, and torch alone computes.
"""

from __future__ import annotations

import hashlib
import os
from ctypes import CDLL, Structure, c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
PARTS = 3
"""Tensors that may stand beside each other as the inputs of a product (``inputs.h``)."""


class Matrix(Structure):
    """``struct matrix`` of ``inputs.h``."""

    _fields_ = [
        ("kind", c_int64),
        ("columns", c_int64),
        ("inputs", c_int64),
        ("weights", c_void_p),
        ("scale", c_void_p),
        ("offset", c_void_p),
        ("bias", c_void_p),
        ("steps", c_float * PARTS),
    ]


class Input(Structure):
    """``struct input`` of ``inputs.h``."""

    _fields_ = [
        ("rows", c_int64),
        ("x", c_void_p * PARTS),
        ("index", c_void_p * PARTS),
        ("width", c_int64 * PARTS),
        ("stride", c_int64 * PARTS),
        ("laid", c_void_p),
        ("scale", c_void_p),
    ]


class Layer(Structure):
    """``struct layer`` of ``kernels.c``."""

    _fields_ = [
        ("table", c_void_p),
        ("token", c_void_p),
        ("state", c_void_p),
        ("parent", c_void_p),
        ("place", c_void_p),
        ("hidden", c_void_p),
        ("cell", c_void_p),
        ("units", c_int64),
        ("state_stride", c_int64),
        ("hidden_stride", c_int64),
    ]


class Memory(Structure):
    """``struct memory`` of ``attention.h``."""

    _fields_ = [
        ("keys", c_void_p),
        ("values", c_void_p),
        ("half", c_int64),
        ("length", c_void_p),
        ("position", c_void_p),
        ("width", c_int64),
        ("units", c_int64),
        ("scale", c_float),
    ]


class Plain(Structure):
    """``struct plain`` of ``kernels.c``."""

    _fields_ = [
        ("onto", c_void_p),
        ("out", c_void_p),
        ("columns", c_int64),
        ("stride", c_int64),
        ("bend", c_int64),
    ]


class Best(Structure):
    """``struct best`` of ``kernels.c``."""

    _fields_ = [
        ("allowed", c_void_p),
        ("sentence", c_void_p),
        ("k", c_int64),
        ("end", c_int64),
        ("never", c_int64 * 2),
        ("value", c_void_p),
        ("token", c_void_p),
        ("ending", c_void_p),
        ("about", c_void_p),
        ("mass", c_void_p),
    ]


__all__ = [
    "Best",
    "Input",
    "Layer",
    "Matrix",
    "Memory",
    "Plain",
    "address",
    "c_int64",
    "c_void_p",
    "kernels",
    "kernels_for",
]


def address(x: Tensor | None) -> int | None:
    """Where the numbers of a tensor begin; its rows are contiguous."""
    assert x is None or x.dim() == 0 or x.stride(-1) == 1 or x.size(-1) == 1
    return None if x is None else x.data_ptr()


def _supported() -> list[str]:
    """The builds that this processor can run, the fastest first."""
    tiles, vnni = (
        ask is not None and bool(ask())
        for ask in (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("amx_tile", "vnni"))
    )
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    there = {"amx": tiles and vnni, "vnni": vnni, "avx2": wide, "plain": not wide}
    return [name for name, can in there.items() if can]


def sources() -> int:
    """What the kernels must have been built of: a number for the sources beside this module."""
    content = b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.[ch]")))
    return int(hashlib.sha256(content).hexdigest()[:15], 16)


def opened(path: Path) -> CDLL | None:
    """A build of the kernels; None if there is none, it is not of these sources, or does not run here."""
    try:
        found = CDLL(str(path))
        for ask in (found.s2s_sources, found.s2s_ready, found.s2s_int8, found.s2s_half):
            ask.restype = c_int64
        return found if found.s2s_sources() == sources() and found.s2s_ready() else None
    except (OSError, AttributeError):
        return None


@cache
def kernels() -> CDLL | None:
    """The kernels for this processor; None if there are none, or ``S2S_NATIVE=0`` says to do without."""
    if os.environ.get("S2S_NATIVE") == "0":
        return None
    builds = (opened(FOLDER / f"kernels-{name}.so") for name in _supported())
    return next((found for found in builds if found is not None), None)


def kernels_for(x: Tensor, *, tiles: bool) -> CDLL | None:
    """The kernels of training, if there are any for numbers like these, with tiles where they are wanted."""
    known = x.dtype in (torch.bfloat16, torch.float32) and x.device.type == "cpu"
    library = kernels() if known else None
    return None if library is None or (tiles and not library.s2s_half()) else library
