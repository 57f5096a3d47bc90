"""Standard streams that are closed, broken or of another encoding."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from s2scli.errors import S2SError


def abandon_streams() -> None:
    """Point broken streams nowhere, so that the interpreter's last flush has nothing to say."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            with suppress(OSError):  # a stream of Python alone, which the last flush does not reach
                os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def open_streams() -> bool:
    """Put something where the caller has closed a standard stream; says whether stdout was one.

    Python has None for such a stream, and a file that is opened later would get its number:
    a library that prints would write into the model.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    mute = sys.stdout is None or sys.stdout.closed
    if mute:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None or sys.stderr.closed:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for number in (1, 2):
        with suppress(OSError, AttributeError):
            os.set_blocking(number, True)  # nothing may be lost, whatever their opener wanted
    # Python's own, that is: what a program has put in its place is not ours.
    if sys.stdout is sys.__stdout__ and isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        # Of ``python -u``: a raw write may take a part of what it is given, and only says how much.
        assert isinstance(sys.stdout, io.TextIOWrapper)
        encoding, errors, raw = sys.stdout.encoding, sys.stdout.errors, sys.stdout.detach()
        assert isinstance(raw, io.RawIOBase)
        sys.stdout = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        # Pages and tables have letters that Latin-1 has not; translations are UTF-8 in any case.
        sys.stdout.reconfigure(errors="replace")
    return mute


def write_out(content: bytes) -> None:
    """Write data to standard output: UTF-8, whatever the screen is, and text where it has no bytes."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # replaced by something of Python's, as in a notebook
        sys.stdout.write(content.decode(errors="replace"))
    else:
        buffer.write(content)


def closed() -> S2SError:
    """The error of a result that has nowhere to go."""
    hint = "Send it to a file or into a pipe."
    return S2SError("it is closed, and the result goes there", where="standard output", hint=hint)
