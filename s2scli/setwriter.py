"""One set of pairs on its way to disk: tokens, shards, and the raw text of held-out sets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from s2scli.config import UNK
from s2scli.files import os_error
from s2scli.shards import ShardWriter
from s2scli.side import SideTokenizer
from s2scli.tokenizer import Tokenizer

SHOWN = 20
"""Unknown symbols of a held-out set that are named, the most frequent ones."""


class _Unknown:
    """Counts what in the lines of one side has no id.

    Attributes:
        lines: Lines with such a symbol or tag.
        tokens: How many there are.
        names: How often each occurs; left empty for the training set, which may hold very many words.
    """

    def __init__(self, *, named: bool) -> None:
        self.named = named
        self.lines = self.tokens = 0
        self.names: Counter[str] = Counter()

    def add(self, side: SideTokenizer, ids: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
        """Count the unknown of encoded lines."""
        if side.complete:
            return
        for line, text in zip(ids, texts, strict=True):
            if UNK in line:
                self.lines += 1
                self.tokens += line.count(UNK)
                if self.named:
                    self.names.update(side.unknown(text))

    def as_dict(self) -> dict[str, Any]:
        """For the report."""
        found: dict[str, Any] = {"lines": self.lines, "tokens": self.tokens}
        return found | ({"most": dict(self.names.most_common(SHOWN))} if self.named else {})


class SetWriter:
    """Shards of a set, and for a held-out set its text as it came, which scoring compares with."""

    def __init__(self, folder: Path, name: str, vocabs: tuple[int, int]) -> None:
        self._shards = ShardWriter(folder, name, *vocabs)
        self._texts: list[TextIO] = []
        self._unknown = [_Unknown(named=name != "train") for _ in vocabs]
        if name != "train":
            for side in ("source", "target"):
                path = folder / f"{name}.{side}.txt"
                self._texts.append(path.open("w", encoding="utf-8", newline="\n"))

    def write(
        self,
        chunk: tuple[list[str], list[str]],
        places: NDArray[np.int64],
        tokenizer: Tokenizer,
        limit: int | None,
    ) -> NDArray[np.int64]:
        """Encode and write the pairs at ``places``; returns the places of those over ``limit`` tokens."""
        wanted = places.tolist()
        raw = [[lines[i] for i in wanted] for lines in chunk]
        sides = (tokenizer.source, tokenizer.target)
        texts = [side.normalize_all(lines) for side, lines in zip(sides, raw, strict=True)]
        ids = [side.encode_normalized(lines) for side, lines in zip(sides, texts, strict=True)]
        long = [k for k, pair in enumerate(zip(*ids, strict=True)) if limit and max(map(len, pair)) > limit]
        for k in reversed(long):
            for encoded, lines, given in zip(ids, texts, raw, strict=True):
                del encoded[k], lines[k], given[k]
        for file, given in zip(self._texts, raw, strict=False):
            if given and given[0].startswith("\ufeff") and not file.tell():
                file.write("\ufeff")  # whoever reads a file takes the first one for a byte order mark
            # …and one "\r" for a part of the line end.
            file.writelines(line + ("\r\n" if line.endswith("\r") else "\n") for line in given)
        for side, unknown, encoded, lines in zip(sides, self._unknown, ids, texts, strict=True):
            unknown.add(side, encoded, lines)
        self._shards.add_many(ids[0], ids[1], texts[0], texts[1])
        return places[long]

    def unknown(self) -> dict[str, Any]:
        """What had no id, on ``source`` and ``target``: lines, tokens; in a held-out set, which."""
        return {name: side.as_dict() for name, side in zip(("source", "target"), self._unknown, strict=True)}

    def finish(self) -> None:
        """Write the rest. S2SError if that fails."""
        self._shards.close()
        for file in self._texts:
            try:
                file.flush()
                os.fsync(file.fileno())
            except OSError as error:
                raise os_error(error, file.name) from error

    def close(self) -> None:
        """Close the text files, whether or not all has been written."""
        for file in self._texts:
            with suppress(OSError):  # `finish` has said so, or another error is on its way
                file.close()
