r"""Parallel lines in: plain or gzipped text in pairs of files, or tab-separated columns.

A line ends at ``\n`` and nowhere else; a ``\r`` before it is dropped. U+2028, U+0085
and the like stay inside the line, which is why ``str.splitlines`` is never used: it
would break the line count that two files of translations have in common.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import BinaryIO

from s2scli.errors import S2SError, UsageError, nearest
from s2scli.files import os_error

BLOCK_BYTES = 1 << 18
"""Text is read and decoded in pieces of about this size (a longer line is read whole)."""
CHUNK_PAIRS = 4096
"""Pairs in a chunk of `Parallel.chunks`, at most…"""
CHUNK_CHARACTERS = 1 << 21
"""…and characters (a longer pair is a chunk of its own): what bounds the memory."""

BOM = b"\xef\xbb\xbf"
GZIP_MAGIC = b"\x1f\x8b"


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
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            hint = "The file looks like UTF-16; convert it: iconv -f UTF-16 -t UTF-8."
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
            S2SError: A file that cannot be read, a broken gzip stream, or bytes that
                are not UTF-8, with file and line.
        """
        try:
            with self.path.open("rb") as file:
                gzipped = file.read(2) == GZIP_MAGIC
                file.seek(0)
                stream: BinaryIO = file
                if gzipped:
                    # The buffer makes reading by lines fast; GzipFile alone does that in Python.
                    stream = io.BufferedReader(gzip.GzipFile(fileobj=file), 1 << 16)
                while raw := stream.readlines(BLOCK_BYTES):
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
            what = f"the gzip file is cut off or damaged after line {self.count}"
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
        close = nearest(path.name, names) if names else ""
        hint = close if close.startswith("Did") else "Check the name."
        raise S2SError("there is no such file", where=str(path), hint=hint) from error
    except OSError as error:
        raise os_error(error, path) from error
    if not path.is_file():
        # Pipes can be read once only, and preprocess reads everything more than once.
        raise S2SError("this is not a regular file", where=str(path), hint="Write it to a file first.")
    if not os.access(path, os.R_OK):
        raise S2SError("the file may not be read", where=str(path), hint="Check its permissions.")
    return size


@dataclass(frozen=True, kw_only=True)
class Part:
    """Two files of lines (``source``, ``target``), or one TSV (``target`` is None) and its columns."""

    source: Path
    target: Path | None = None
    columns: str = "1,2"

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.source,) if self.target is None else (self.source, self.target)

    def side(self, number: int) -> Path:
        """The file that holds the source (0) or the target (1)."""
        return self.target if number and self.target else self.source


@dataclass(kw_only=True)
class Parallel:
    """Files of pairs as one sequence of pairs, which can be read again and again.

    Attributes:
        replaced: U+FFFD put in for bytes that are not UTF-8, in the last reading.
        position: Bytes read in the reading under way, over all files.
    """

    parts: Sequence[Part]
    replace_invalid: bool = False
    replaced: int = field(default=0, init=False)
    position: int = field(default=0, init=False)

    @property
    def files(self) -> list[Path]:
        return [path for part in self.parts for path in part.files]

    @property
    def size(self) -> int:
        """Bytes of all files (of compressed ones, compressed)."""
        return sum(file_size(path) for path in self.files)

    def chunks(
        self, on_progress: Callable[[int], None] = lambda position: None
    ) -> Iterator[tuple[list[str], list[str]]]:
        """The pairs as equally long lists of sources and targets, a few thousand at a time.

        Args:
            on_progress: Told the bytes read so far, once a chunk.

        Raises:
            S2SError: Files that cannot be read or are not UTF-8; two files of
                different length; a TSV line without a column it needs.
        """
        self.replaced = done = 0
        for part in self.parts:
            readers = [Lines(path, replace_invalid=self.replace_invalid) for path in part.files]
            pairs = _pair(part, readers)
            sources: list[str] = []
            targets: list[str] = []
            characters = 0
            for source, target in pairs:
                sources.append(source)
                targets.append(target)
                characters += len(source) + len(target)
                if len(sources) >= CHUNK_PAIRS or characters >= CHUNK_CHARACTERS:
                    yield sources, targets
                    self.position = done + sum(reader.position for reader in readers)
                    on_progress(self.position)
                    sources, targets, characters = [], [], 0
            if sources:
                yield sources, targets
            done += sum(reader.size for reader in readers)
            self.position = done
            self.replaced += sum(reader.replaced for reader in readers)
            on_progress(done)

    def side(
        self, number: int, on_progress: Callable[[int], None] = lambda position: None
    ) -> Iterator[list[str]]:
        """The lines of one side alone (0: source, 1: target), a few thousand at a time."""
        done = 0
        for part in self.parts:
            reader = Lines(part.side(number), replace_invalid=self.replace_invalid)
            if part.target:
                blocks = reader.blocks()
            else:
                blocks = _in_blocks(pair[number] for pair in _columns(part, reader))
            for block in blocks:
                yield block
                on_progress(done + reader.position)
            done += reader.size


def _in_blocks(lines: Iterator[str]) -> Iterator[list[str]]:
    while block := list(islice(lines, CHUNK_PAIRS)):
        yield block


def _pair(part: Part, readers: Sequence[Lines]) -> Iterator[tuple[str, str]]:
    if part.target is None:
        yield from _columns(part, readers[0])
        return
    source, target = readers
    for left, right in zip_longest(source, target):
        if left is None or right is None:
            # Count both anew, to the end: the longer one has not been read to its own.
            recount = [Lines(reader.path, replace_invalid=True) for reader in readers]
            counts = [sum(len(block) for block in lines.blocks()) for lines in recount]
            raise S2SError(
                f"the source has {counts[0]:,} lines, the target {counts[1]:,}",
                where=f"{source.path} and {target.path}",
                hint="Line n of one must be the translation of line n of the other.",
            )
        yield left, right


def _columns(part: Part, reader: Lines) -> Iterator[tuple[str, str]]:
    """The two columns of a TSV. A blank line is a pair of empty sides: it is counted, not refused."""
    wanted = parse_columns(part.columns)
    lines = iter(reader)
    number = 0
    places: list[int] = []
    if all(isinstance(column, int) for column in wanted):
        places = [int(column) - 1 for column in wanted]
    else:
        header = next(lines, None)
        if header is None:
            raise S2SError(
                "the file is empty", where=str(reader.path), hint="Its first line must name the columns."
            )
        number = 1
        names = header.split("\t")
        for column in wanted:
            if isinstance(column, int):
                places.append(column - 1)
            elif column in names:
                places.append(names.index(column))
            else:
                what = f"the first line names no column '{column}'"
                raise S2SError(what, where=f"{reader.path}:1", hint=nearest(column, names))
    left, right = places
    for line in lines:
        number += 1
        fields = line.split("\t")
        if len(fields) > left and len(fields) > right:
            yield fields[left], fields[right]
        elif not line.strip():
            yield "", ""
        else:
            have = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            raise S2SError(
                f"the line has {have}, and column {max(left, right) + 1} is needed",
                where=f"{reader.path}:{number}",
                hint="Columns are separated by tabs; --columns says which two to take.",
            )


def parse_columns(columns: str) -> tuple[int | str, int | str]:
    """``"1,2"`` → (1, 2); ``"src,tgt"`` → ("src", "tgt"). Numbers count from 1.

    Raises:
        UsageError: Not two columns, or column 0.
    """
    names = [name.strip() for name in columns.split(",")]
    if len(names) != 2 or not all(names):
        hint = "Give two numbers or names, such as 1,2 or src,tgt."
        raise UsageError(f"'{columns}' does not name two columns", where="--columns", hint=hint)
    if "0" in names:
        raise UsageError("columns are numbered from 1", where="--columns", hint="The first two are 1,2.")
    left, right = (int(name) if name.isascii() and name.isdigit() else name for name in names)
    return left, right


def sample_corpus() -> Path:
    """The folder of the bundled English–Korean corpus: {train,dev,test}.{en,ko}.

    Raises:
        S2SError: The installation lacks it.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "data", here.parent / "data"):  # an installed wheel, a checkout
        if (folder / "train.en").is_file():
            return folder
    raise S2SError(
        "the bundled sample corpus is missing from this installation",
        where=str(here),
        hint="Install s2scli again, or give your own text with --train-src and --train-tgt.",
    )
