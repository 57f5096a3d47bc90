"""Lines of a file, a pipe or a terminal in windows, as they come."""

from __future__ import annotations

import io
import os
import queue
import select
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from s2scli.corpus import BOM, Lines, check_text, decode_line, file_size
from s2scli.errors import S2SError
from s2scli.files import os_error

_IDLE = 0.001
"""Seconds without a new line after which a program at the other end of the pipe is taken to wait."""


class Source:
    """The lines to translate, in windows of as many as are there, and what was wrong with them.

    Attributes:
        size: Bytes of the input, None for a pipe or terminal.
        position: Bytes read so far.
        replaced: U+FFFD put in for bytes that are not UTF-8.
        first: The first line where that happened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = None if str(path) == "-" else path
        self.position = self.replaced = self.first = 0
        # A named pipe is read like standard input, as its lines come; and nothing, which has none.
        self.streams = self.path is None or (
            self.path.exists()
            and (stat.S_ISFIFO(self.path.stat().st_mode) or os.path.realpath(self.path) == os.devnull)
        )
        self.size = None if self.path is None or self.streams else file_size(self.path)

    def windows(self, most: int) -> Iterator[list[str]]:
        """Lists of at most ``most`` lines, and an empty one before each pause of a pipe or terminal."""
        if self.path is not None and not self.streams:
            yield from self._file_windows(self.path, most)
            return
        try:
            handle = sys.stdin.fileno() if self.path is None else os.open(self.path, os.O_RDONLY)
        except (AttributeError, io.UnsupportedOperation) as error:  # as in a notebook
            hint = "Give it lines, or name a file with --input."
            raise S2SError("standard input is closed", hint=hint) from error
        yield from self._stream_windows(handle, most)

    def _file_windows(self, path: Path, most: int) -> Iterator[list[str]]:
        lines = Lines(path, replace_invalid=True)
        window: list[str] = []
        for line in lines:
            window.append(line)
            if len(window) == most:
                self.position = lines.position
                yield window
                window = []
        self.position, self.replaced, self.first = lines.position, lines.replaced, lines.first_replaced
        if window:
            yield window

    def _stream_windows(self, handle: int, most: int) -> Iterator[list[str]]:
        """What a pipe or terminal has brought, as soon as it pauses.

        A thread reads, so that reading and translating overlap; a regular file never pauses,
        and its windows, and with them the batches, are the same every time.
        """
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        lines: queue.Queue[bytes | OSError | None] = queue.Queue(maxsize=4 * most)

        def read() -> None:
            try:
                for raw in raw_lines(handle):
                    lines.put(raw)
                lines.put(None)
            except OSError as error:
                lines.put(error)

        threading.Thread(target=read, daemon=True).start()
        count, ended = 0, False
        while not ended:
            window: list[str] = []
            deadline = time.monotonic() + _IDLE
            while len(window) < most:
                try:
                    wait = None if regular or not window else max(0.0, deadline - time.monotonic())
                    raw = lines.get(timeout=wait)
                except queue.Empty:
                    break
                if raw is None:
                    ended = True
                    break
                if isinstance(raw, OSError):
                    raise os_error(raw, self.path or "standard input")
                if count == 0:
                    check_text(raw, str(self.path or "standard input"))
                    raw = raw.removeprefix(BOM)
                    if not raw:
                        continue  # nothing but a byte order mark is no line
                count += 1
                text, replaced = decode_line(raw, where=f"line {count}", replace_invalid=True)
                self.replaced += replaced
                if replaced and not self.first:
                    self.first = count
                self.position += len(raw)
                window.append(text)
                deadline = time.monotonic() + _IDLE
            if window:
                yield window
            if not regular and not ended and lines.empty():
                yield []


def raw_lines(handle: int) -> Iterator[bytes]:
    """The lines of a file descriptor, line ends included, as they come.

    Not through a buffered stream: its lock, held by the thread that waits for the next line, would
    keep the program from ending.
    """
    begun: list[bytes] = []
    while block := _read(handle):
        first, *more = block.split(b"\n")
        begun.append(first)
        for part in more:
            yield b"".join(begun) + b"\n"
            begun = [part]
    if rest := b"".join(begun):
        yield rest


def _read(handle: int) -> bytes:
    """What is there next; nothing at the end."""
    while True:
        try:
            return os.read(handle, 1 << 16)
        except BlockingIOError:  # whoever opened it did not want to wait, but we do
            select.select([handle], [], [])
