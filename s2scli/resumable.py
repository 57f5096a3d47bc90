"""A result that takes hours: written to a hidden file, resumed after a kill, moved into place whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, silent
from s2scli.files import is_special, lock, os_error, write_json_atomic

_LONGEST_NAME = 255 - 20
"""Bytes of a file name, less those that make it a temporary one."""
SAVE_SECONDS = 2.0
"""The least time between two notes of how far the file has come; a kill costs the work since the last one."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """How far the hidden file has come.

    Attributes:
        lines: Lines of the input whose results stand in the file for good.
        bytes: Its length then.
        input: A hash of those lines.
        settings: How the results were made.
        counts: Whatever the writer counts across interruptions.
        replaces: Whether the file that is there shall be replaced.
    """

    lines: int
    bytes: int
    input: str
    settings: dict[str, Any]
    counts: dict[str, int]
    replaces: bool = False

    @classmethod
    def read(cls, path: Path) -> Note | None:
        """The note in a file, None if there is no file.

        Raises:
            S2SError: It is damaged.
        """
        try:
            note = cls(**json.loads(path.read_text(encoding="utf-8")))
            numbers = (note.lines, note.bytes, *note.counts.values())
            if not all(type(n) is int and n >= 0 for n in numbers) or not note.lines or not note.input:
                raise ValueError
            return replace(note, settings=dict(note.settings.items()))
        except FileNotFoundError:
            return None  # killed before anything was noted
        except (ValueError, TypeError, AttributeError) as error:
            what, hint = "the note of an interrupted translation is damaged", "Start anew with --force."
            raise S2SError(what, where=str(path), hint=hint) from error


class Partial:
    """The hidden file and, beside it in JSON, a note of how far it has come.

    Attributes:
        lines: Lines of the input whose results have been written.
        counts: What the writer has counted so far.
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        target = Path(os.path.realpath(path))
        self.path, self.target, self.settings = path, target, settings
        # What is there and is no file, such as a pipe or /dev/null, is written to and never replaced.
        self.special = is_special(path)
        self.file = target.with_name(f".{target.name}.partial")
        self.note = target.with_name(f".{target.name}.partial.json")
        self.lines, self.counts = 0, dict[str, int]()
        self._bytes, self._saved_at = 0, time.monotonic()
        self._input = hashlib.blake2b(digest_size=16)
        self._expected = ""
        self._saved = self._ours = self._replaces = False
        self._announced = self.file.exists()
        self._handle: BinaryIO | None = None

    def open(self, *, resume: bool, force: bool) -> None:
        """Find out what is there, and go on with it or start anew.

        Raises:
            S2SError: An interrupted result is there and neither option says what to do; it was made in
                another way; it is damaged; somebody else is writing it.
        """
        if self.special:
            self._handle = self.path.open("wb")
            return
        if not self.path.parent.is_dir():  # in the path of the target ".." may have done away with it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))
        self._handle = self._locked()
        self._check_name()  # not only when there is something to note
        self._saved = self._announced and self.note.exists()
        # A note without its file was left by a command that was killed right after its last move.
        done = Note.read(self.note) if self._saved and not force else None
        # Whoever asked whether it is there may have asked a while ago.
        self._replaces = force or (done.replaces if done else resume and self._announced)
        if self.target.is_file() and not self._replaces:
            raise S2SError("the file exists already", where=str(self.path), hint="Replace it with --force.")
        if done is not None and not resume:
            raise S2SError(
                f"an interrupted translation is here, with {done.lines:,} lines done",
                where=str(self.path),
                hint="Go on with it (--resume), or start anew (--force).",
            )
        if done is not None:
            self._go_on(done)
        else:
            self.note.unlink(missing_ok=True)
            self._saved = False
        self._handle.truncate(self._bytes)
        self._handle.seek(self._bytes)

    def _check_name(self) -> None:
        # The note is written under a name that is longer still.
        if len(os.fsencode(self.note.name)) > _LONGEST_NAME:
            raise S2SError("this name is too long", where=str(self.path), hint="Choose a shorter one.")

    def _go_on(self, done: Note) -> None:
        differing = sorted(k for k in self.settings if done.settings.get(k) != self.settings[k])
        if differing:
            raise UsageError(
                f"the interrupted translation was made with other settings ({', '.join(differing)})",
                where="--resume",
                hint="Use the same ones, or start anew with --force.",
            )
        if self.file.stat().st_size < done.bytes:
            what, hint = "the interrupted translation is damaged", "Start anew with --force."
            raise S2SError(what, where=str(self.file), hint=hint)
        self.lines, self._bytes, self.counts, self._expected = done.lines, done.bytes, done.counts, done.input

    def _locked(self) -> BinaryIO:
        """The hidden file, opened and locked; not one that its writer has just moved into place."""
        while True:
            handle = os.fdopen(os.open(self.file, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
            if not lock(handle):
                handle.close()
                what = "another translation is writing this file"
                raise S2SError(what, where=str(self.path), hint="Wait for it.")
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle.fileno()), self.file.stat()):
                    self._ours = True
                    return handle
            handle.close()

    def skip(self, window: list[str]) -> None:
        """Pass over input lines whose results are there; they must be the same as then (see `check`)."""
        self._digest(window)
        if self._expected and self._input.hexdigest() == self._expected:
            self._expected = ""

    def check(self) -> None:
        """Refuse to go on with an input that does not begin as the interrupted one did."""
        if self._expected:
            raise S2SError(
                f"the first {self.lines:,} lines are not those of the interrupted translation",
                where="--resume",
                hint="Give it the same input, or start anew with --force.",
            )

    def _digest(self, window: list[str]) -> None:
        for line in window:
            self._input.update(line.encode("utf-8", "surrogatepass") + b"\n")

    def write(self, content: bytes) -> None:
        """Add to the file; it counts from the next `advance` on."""
        assert self._handle is not None
        self._handle.write(content)
        self._bytes += len(content)

    def advance(self, window: list[str], counts: dict[str, int]) -> None:
        """The results of these input lines have been written."""
        assert self._handle is not None
        self._digest(window)
        self.lines += len(window)
        self.counts = counts
        self._handle.flush()
        if time.monotonic() - self._saved_at > SAVE_SECONDS and not self.special:
            os.fsync(self._handle.fileno())
            self._write_note()

    def _write_note(self) -> None:
        note = Note(
            lines=self.lines,
            bytes=self._bytes,
            input=self._input.hexdigest(),
            settings=self.settings,
            counts=self.counts,
            replaces=self._replaces,
        )
        write_json_atomic(self.note, asdict(note))
        self._saved, self._saved_at = True, time.monotonic()

    def finish(self) -> None:
        """Move the whole result into place."""
        assert self._handle is not None
        self._handle.flush()
        if not self.special:
            os.fsync(self._handle.fileno())
            if self.target.is_file() and not self._replaces:
                if self.lines:
                    self._write_note()
                what = "another command has written this file meanwhile, and it stays as it is"
                hint = "The translation is whole: move the file away, and run this again with --resume."
                raise S2SError(what, where=str(self.path), hint=hint)
            if os.name == "nt":  # an open file cannot be moved there
                self._handle.close()
            os.replace(self.file, self.target)  # still locked, so that nobody takes it for an interrupted one
            self.note.unlink(missing_ok=True)  # not before: what cannot be moved is to be resumed
        self._handle.close()

    def leave(self) -> bool:
        """After an error: what has been noted stays, to be resumed; anything less is removed.

        Returns:
            Whether something stays.
        """
        if self._handle is None:
            return False
        with suppress(OSError):  # a full disk has been told of
            self._handle.close()
        if self._ours and not self._saved and not (self._announced and self.target.exists()):
            self.file.unlink(missing_ok=True)
        return self._saved


@contextmanager
def announced(path: Path) -> Iterator[None]:
    """Leave a sign, long before the first result, that the file which is there shall be replaced.

    Without it, ``--resume`` would take the old file for the result of a command that was interrupted while it
    loaded its model. After an error the sign is taken away again.
    """
    sign = Partial(path, {})
    if sign.special:
        yield
        return
    ours = not sign.file.exists()
    with suppress(OSError):  # `resumable` will say so
        sign.file.touch()
    try:
        yield
    except Exception:
        if ours and not sign.note.exists():
            _remove_unless_used(sign.file)
        raise


def _remove_unless_used(path: Path) -> None:
    """Remove a file that nobody has locked: by now another command may write it."""
    with suppress(OSError), path.open("r+b") as file:
        if lock(file):
            path.unlink()


@contextmanager
def resumable(
    path: Path, settings: dict[str, Any], *, resume: bool, force: bool, listen: Listener = silent
) -> Iterator[Partial]:
    """A file that becomes ``path`` if the block succeeds, and can be resumed if it is killed.

    Args:
        listen: Told what stays of an interrupted result.

    Raises:
        S2SError: As `Partial.open` does, and for errors of the operating system.
    """
    made: Partial | None = None
    try:
        made = Partial(path, settings)
        made.open(resume=resume, force=force)
        yield made
        made.finish()
    except BaseException as error:
        kept = made is not None and made.leave()
        if kept and not isinstance(error, S2SError):
            text = f"What was done until a moment ago is kept: go on with --resume --output {path}."
            listen(Notice(text=text))
        if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):
            raise
        ours = error.filename is None or ".partial" in str(error.filename)
        raise os_error(error, path if ours else None) from error
