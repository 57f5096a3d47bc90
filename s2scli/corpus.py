r"""Lines in: plain or gzipped text.

A line ends at ``\n`` and nowhere else; a ``\r`` before it is dropped. U+2028, U+0085
and the like stay inside the line, which is why ``str.splitlines`` is never used: it
would break the line count that two files of translations have in common.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from s2scli.errors import S2SError, closest, nearest
from s2scli.files import os_error

BLOCK_BYTES = 1 << 18
"""Text is read and decoded in pieces of about this size (a longer line is read whole)."""
BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"
_PACKED = {
    GZIP_MAGIC: ("gzip", "gzip -dc"),
    b"\xfd7zXZ\x00": ("xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstd -dc"),
    b"PK\x03\x04": ("zip", "unzip -p"),
}
"""How files begin that hold text only when they have been unpacked, and what unpacks them."""
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")


def check_text(start: bytes, where: str) -> None:
    """Refuse what begins as no text in UTF-8 does, instead of reading it line by line as if it were.

    Raises:
        S2SError: A compressed file, UTF-16 or UTF-32.
    """
    if _BZIP2.match(start):
        hint = "Unpack it first: bzip2 -dc FILE."
        raise S2SError("this is not text but compressed with bzip2", where=where, hint=hint)
    for magic, (name, command) in _PACKED.items():
        if start.startswith(magic):
            hint = f"Unpack it first: {command} FILE."
            raise S2SError(f"this is not text but compressed with {name}", where=where, hint=hint)
    if encoding := _wide(start):
        hint = f"Convert it: iconv -f {encoding} -t UTF-8."
        raise S2SError(f"this is not UTF-8; it looks like {encoding}", where=where, hint=hint)


def _wide(start: bytes) -> str | None:
    """The encoding of 16 or 32 bits that a text begins in, if it does."""
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    first, second = start[:16:2], start[1:16:2]
    for name, letters, zeros in (("UTF-16LE", first, second), ("UTF-16BE", second, first)):
        if len(zeros) > 1 and not any(zeros) and all(letters):
            return name
    return None


def decode_line(raw: bytes, *, where: str, replace_invalid: bool = False) -> tuple[str, int]:
    r"""One line of bytes, without its line end, as text.

    Args:
        raw: The bytes, with or without the ``\n`` or ``\r\n`` at their end.
        where: Names the place in an error.
        replace_invalid: Put U+FFFD for what is not UTF-8 instead of raising.

    Returns:
        The text, and how many U+FFFD were put in.

    Raises:
        S2SError: Bytes that are not UTF-8.
    """
    raw = raw[:-1] if raw.endswith(b"\n") else raw
    raw = raw[:-1] if raw.endswith(b"\r") else raw
    try:
        return raw.decode("utf-8"), 0
    except UnicodeDecodeError as error:
        if replace_invalid:
            text = raw.decode("utf-8", errors="replace")
            return text, text.count("\ufffd") - raw.count(b"\xef\xbf\xbd")
        what = f"byte 0x{raw[error.start]:02x} at position {error.start + 1} of the line is not UTF-8"
        hint = "Convert the file to UTF-8, or put U+FFFD for such bytes with --replace-invalid."
        raise S2SError(what, where=where, hint=hint) from error


class Lines:
    """The lines of a text file, streamed; iterate over it once.

    Attributes:
        count: Lines read so far (blocks run ahead of the iteration).
        replaced: U+FFFD put in for bytes that are not UTF-8, so far.
        first_replaced: Number of the first line in which that happened, 0 if in none.
        position: Bytes of the file read so far; of a ``.gz``, compressed bytes.
        size: Bytes of the file.
    """

    def __init__(self, path: Path, *, replace_invalid: bool = False) -> None:
        self.path = Path(path)
        self.replace_invalid = replace_invalid
        self.count = self.replaced = self.first_replaced = self.position = 0
        self.size = file_size(self.path)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.blocks())

    def blocks(self) -> Iterator[list[str]]:
        """The lines, a few thousand at a time.

        Raises:
            S2SError: A file that cannot be read, a broken gzip stream, another kind of compressed file,
                or bytes that are not UTF-8, with file and line.
        """
        try:
            with self.path.open("rb") as file:
                start = file.read(16)
                gzipped = start.startswith(GZIP_MAGIC)
                if not gzipped:
                    check_text(start, str(self.path))
                file.seek(0)
                stream: BinaryIO = file
                if gzipped:
                    # The buffer makes reading by lines fast; GzipFile alone does that in Python.
                    stream = io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 16)
                plain = iter(lambda: stream.readlines(BLOCK_BYTES), [])
                for raw in _unpacked(stream, BLOCK_BYTES) if gzipped else plain:
                    if gzipped and self.count == 0:
                        check_text(raw[0][:16], str(self.path))
                    if self.count == 0 and raw[0].startswith(BOM):
                        raw[0] = raw[0][len(BOM) :]
                        if not raw[0]:
                            break  # a file that holds a byte order mark and nothing else has no line
                    self.position = file.tell()
                    lines = self._decode(raw)
                    self.count += len(lines)
                    yield lines
                self.position = self.size
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            what = f"the gzip file is cut off or damaged somewhere after line {self.count:,}"
            raise S2SError(what, where=str(self.path), hint="Copy or download it again.") from error
        except OSError as error:
            raise os_error(error, self.path) from error

    def _decode(self, raw: list[bytes]) -> list[str]:
        try:
            text = b"".join(raw).decode("utf-8")
        except UnicodeDecodeError:  # line by line, to find the place or to replace the bytes
            lines = []
            for number, line in enumerate(raw, start=self.count + 1):
                where = f"{self.path}:{number}"
                text, replaced = decode_line(line, where=where, replace_invalid=self.replace_invalid)
                self.replaced += replaced
                if replaced and not self.first_replaced:
                    self.first_replaced = number
                lines.append(text)
            return lines
        lines = text.split("\n")
        if text.endswith("\n"):
            lines.pop()  # what stands after the last "\n" belongs to the next block, or is no line
        return [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def file_size(path: Path) -> int:
    """Bytes of a regular file, or an S2SError that says why there is none to read."""
    if path.is_dir():
        raise S2SError("this is a folder, not a file", where=str(path), hint="Give a text file.")
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        close = closest(path.name, names)
        hint = f"Did you mean '{close}'?" if close else "Check the name."
        raise S2SError("there is no such file", where=str(path), hint=hint) from error
    except OSError as error:
        raise os_error(error, path) from error
    if not path.is_file():
        # Pipes can be read once only, and preprocess reads everything more than once.
        raise S2SError("this is not a regular file", where=str(path), hint="Write it to a file first.")
    if not os.access(path, os.R_OK):
        raise S2SError("the file may not be read", where=str(path), hint="Check its permissions.")
    return size


def sample_corpus(name: str | None = None) -> Path:
    """The folder of a bundled data set.

    Args:
        name: ``cmudict`` (pronunciations) or ``inflection`` (English inflected forms), each with
            {train,dev,test}.tsv; by default English–Korean text, {train,dev,test}.{en,ko}.

    Raises:
        S2SError: There is no such data set, or the installation lacks it.
    """
    here = Path(__file__).resolve().parent
    for data in (here / "data", here.parent / "data"):  # an installed wheel, a checkout
        if (data / "train.en").is_file():
            break
    else:
        raise S2SError(
            "the bundled sample corpus is missing from this installation",
            where=str(here),
            hint="Install s2scli again, or give your own text with --train-src and --train-tgt.",
        )
    folder = data / name if name else data
    if not folder.is_dir():
        names = [path.name for path in data.iterdir() if path.is_dir()]
        raise S2SError(f"there is no data set '{name}'", where=str(data), hint=nearest(str(name), names))
    return folder


def _unpacked(stream: BinaryIO, size: int) -> Iterator[list[bytes]]:
    """The lines of a gzip stream in blocks.

    Where ``readlines`` meets an error, it loses what it has read; and who asks such a stream again after one
    may be told that all is well.
    """
    error: Exception | None = None
    while error is None:
        lines: list[bytes] = []
        left = size
        try:
            while left > 0 and (line := stream.readline()):
                lines.append(line)
                left -= len(line)
        except (EOFError, gzip.BadGzipFile, zlib.error) as damage:
            error = damage
        if lines:
            yield lines
        elif error is None:
            return
    raise error
