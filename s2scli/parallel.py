"""Pairs in: files of lines two by two, or tables with a column for each side."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from pathlib import Path

from s2scli.corpus import Lines, file_size
from s2scli.errors import S2SError, UsageError, nearest

CHUNK_PAIRS = 4096
"""Pairs in a chunk of `Parallel.chunks`, at most…"""
CHUNK_CHARACTERS = 1 << 21
"""…and characters (a longer pair is a chunk of its own): what bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Two files of lines (``source``, ``target``), or one TSV (``target`` is None) and its columns.

    A third column holds features; a source line is then ``source<TAB>features``.
    """

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
    """

    parts: Sequence[Part]
    replace_invalid: bool = False
    replaced: int = field(default=0, init=False)

    @property
    def files(self) -> list[Path]:
        return [path for part in self.parts for path in part.files]

    @property
    def size(self) -> int:
        """Bytes of all files (of compressed ones, compressed)."""
        return sum(file_size(path) for path in self.files)

    def stamps(self) -> list[tuple[int, ...]]:
        """Of each file what changes when it is written to or replaced."""
        found = (path.stat() if path.exists() else None for path in self.files)
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) if stat else () for stat in found]

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
                    on_progress(done + sum(reader.position for reader in readers))
                    sources, targets, characters = [], [], 0
            if sources:
                yield sources, targets
            done += sum(reader.size for reader in readers)
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
    """Source and target of a TSV. A blank line is a pair of empty sides: it is counted, not refused."""
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
        names = [name.strip() for name in header.split("\t")]
        for column in wanted:
            if isinstance(column, int):
                places.append(column - 1)
            elif names.count(column) > 1:
                what = f"the first line names {names.count(column)} columns '{column}'"
                raise S2SError(what, where=f"{reader.path}:1", hint="Give the number of the right one.")
            elif column in names:
                places.append(names.index(column))
            else:
                what = f"the first line names no column '{column}'"
                raise S2SError(what, where=f"{reader.path}:1", hint=nearest(column, names))
        if len(set(places)) < len(places):
            what = f"'{part.columns}' names a column twice, by its name and by its number"
            raise S2SError(what, where=f"{reader.path}:1", hint="Source and target are two columns.")
    left, right, *rest = places
    most = max(places)
    for line in lines:
        number += 1
        fields = line.split("\t")
        if len(fields) > most:
            yield (f"{fields[left]}\t{fields[rest[0]]}" if rest else fields[left]), fields[right]
        elif not line.strip():
            yield "", ""
        else:
            have = "1 column" if len(fields) == 1 else f"{len(fields)} columns"
            roles = zip(("source", "target", "features"), places, strict=False)
            expected = ", ".join(f"{role} in column {place + 1}" for role, place in roles)
            raise S2SError(
                f"the line has {have}, and column {most + 1} is needed",
                where=f"{reader.path}:{number}",
                hint=f"Expected, separated by tabs: {expected}. --columns says which columns to take.",
            )


def parse_columns(columns: str) -> tuple[int | str, ...]:
    """``"1,2"`` → (1, 2); ``"lemma,form,tags"`` → ("lemma", "form", "tags"). Numbers count from 1.

    Raises:
        UsageError: Not two or three columns, one of them twice, or column 0.
    """
    names = [name.strip() for name in columns.split(",")]
    if len(names) not in (2, 3) or not all(names):
        what = f"'{columns}' does not name two columns, or three with features"
        hint = "Give numbers or names, such as 1,2 or src,tgt, or lemma,form,features."
        raise UsageError(what, where="--columns", hint=hint)
    found = tuple(int(name) if re.fullmatch("[0-9]{1,9}", name) else name for name in names)
    if 0 in found:
        raise UsageError("columns are numbered from 1", where="--columns", hint="The first two are 1,2.")
    if len(set(found)) < len(found):
        what = f"'{columns}' names a column twice"
        raise UsageError(what, where="--columns", hint="Source and target are two columns.")
    return found


def has_features(columns: str) -> bool:
    """Whether the columns name a third one, of features."""
    return len(parse_columns(columns)) == 3
