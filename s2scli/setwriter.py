"""One set of pairs on its way to disk: tokens, shards, and the raw text of held-out sets."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from s2scli.files import os_error
from s2scli.shards import ShardWriter
from s2scli.tokenizer import Tokenizer


class SetWriter:
    """Shards of a set, and for a held-out set its text as it came, which scoring compares with."""

    def __init__(self, folder: Path, name: str, vocabs: tuple[int, int]) -> None:
        self._shards = ShardWriter(folder, name, *vocabs)
        self._texts: list[TextIO] = []
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
        texts = [[side.normalize(line) for line in lines] for side, lines in zip(sides, raw, strict=True)]
        ids = [side.encode_normalized(lines) for side, lines in zip(sides, texts, strict=True)]
        for file, lines in zip(self._texts, raw, strict=False):
            file.writelines(f"{line}\n" for line in lines)
        long = [k for k, pair in enumerate(zip(*ids, strict=True)) if limit and max(map(len, pair)) > limit]
        for k in reversed(long):
            for encoded, lines in zip(ids, texts, strict=True):
                del encoded[k], lines[k]
        self._shards.add_many(ids[0], ids[1], texts[0], texts[1])
        return places[long]

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
