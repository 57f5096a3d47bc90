"""Files of text as lines to be scored."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2scli.corpus import BOM, Lines, check_text, decode_line
from s2scli.errors import S2SError, UsageError
from s2scli.files import os_error
from s2scli.scoring.systems import SEED


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, plain or .gz, or of standard input (``-``).

    A line ends at ``\\n`` and nowhere else; a ``\\r`` before it and a byte order mark are dropped.

    Raises:
        S2SError: A file that cannot be read, is empty or is not UTF-8, with the line.
    """
    with as_it_stands():
        if str(path) != "-" and (path.is_file() or not path.exists() or path.is_dir()):
            lines = list(Lines(path))
        else:  # a pipe
            raw = _standard_input() if str(path) == "-" else path.read_bytes()
            check_text(raw[:16], called(path))
            parts = raw.removeprefix(BOM).split(b"\n")
            parts = parts if parts[-1] else parts[:-1]
            lines = [decode_line(p, where=f"{called(path)}:{n}")[0] for n, p in enumerate(parts, 1)]
    if not lines:
        raise S2SError("there is nothing in it to score", where=called(path))
    return lines


def check_readable(path: Path) -> None:
    """Refuse a file that will be read later, if it is not there or may not be read."""
    if str(path) == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        return  # a pipe can be read only once
    try:
        path.open("rb").close()
    except OSError as error:
        raise os_error(error, path) from error


@contextmanager
def as_it_stands() -> Iterator[None]:
    """Errors in reading, without advice to replace bytes: scores of changed text are of something else."""
    try:
        yield
    except S2SError as error:
        if error.hint and "--replace-invalid" in error.hint:
            error.hint = "Convert the file to UTF-8 first."
        raise


def count_lines(path: Path) -> int:
    """The lines of a regular file, which is read again later. S2SError as in `read_lines`."""
    if str(path) == "-":
        hint = "Forced scores read their text twice: write it to a file first, and name that."
        raise UsageError("it cannot be read twice", where="standard input", hint=hint)
    with as_it_stands():
        count = sum(len(block) for block in Lines(path).blocks())
    if not count:
        raise S2SError("there is nothing in it to score", where=str(path))
    return count


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.closed:  # typeshed does not know that it may be None
        raise S2SError("it is closed", where="standard input", hint="Send the text to it, or name a file.")
    return sys.stdin.buffer.read()


def called(path: Path) -> str:
    """The name of a file in messages."""
    return "standard input" if str(path) == "-" else str(path)


def seed_of_environment() -> int | None:
    """sacreBLEU's seed: the variable ``SACREBLEU_SEED``, or 12345; None where that says "none".

    Raises:
        UsageError: The variable is no number.
    """
    text = os.environ.get("SACREBLEU_SEED", str(SEED))
    if text.lower() == "none":
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 1000):
        raise UsageError(
            f"'{text}' is not a seed", where="SACREBLEU_SEED", hint="Give a whole number, or 'none'."
        )
    return int(text)
