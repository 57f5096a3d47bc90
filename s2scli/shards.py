"""Encoded pairs on disk: safetensors files of flat arrays, memory-mapped when read.

A split ("train", "dev", "test") is a row of files ``<split>-00000.safetensors``, … Each
holds for either side (``source``, ``target``), n being its number of pairs:

- ``<side>_ids``: all ids one after the other, without BOS and EOS; uint16, or uint32
  where the vocabulary needs it;
- ``<side>_offsets``: (n + 1,) int64; pair i has the ids from offset i to offset i + 1;
- ``<side>_text``: the normalised text as UTF-8, uint8;
- ``<side>_text_offsets``: (n + 1,) int64, likewise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from s2scli.errors import S2SError
from s2scli.files import os_error, write_bytes_atomic

SHARD_PAIRS = 250_000
"""Pairs in a file, at most…"""
SHARD_BYTES = 1 << 26
"""…and about as many bytes: what bounds the memory of the writer."""

_SIDES = ("source", "target")
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "I64": np.int64}
_HINT = "Run s2s preprocess again with --force."


class _Side:
    """One side of the shard being filled."""

    def __init__(self, vocab: int) -> None:
        self.dtype = np.dtype(np.uint16 if vocab <= 1 << 16 else np.uint32)
        self.ids: list[NDArray[Any]] = []
        self.lengths: list[int] = []
        self.text: list[bytes] = []
        self.text_lengths: list[int] = []

    def add(self, sequences: Sequence[Sequence[int]], texts: Sequence[str]) -> int:
        """Take a batch; returns its bytes. Python's lists of numbers become arrays at once."""
        lengths = [len(sequence) for sequence in sequences]
        ids = np.fromiter(chain.from_iterable(sequences), dtype=self.dtype, count=sum(lengths))
        raw = [text.encode("utf-8") for text in texts]
        self.ids.append(ids)
        self.lengths += lengths
        self.text.append(b"".join(raw))
        self.text_lengths += [len(line) for line in raw]
        return ids.nbytes + len(self.text[-1])

    def arrays(self) -> list[NDArray[Any]]:
        ids = np.concatenate([np.zeros(0, self.dtype), *self.ids])
        text = np.frombuffer(b"".join(self.text), dtype=np.uint8)
        return [ids, _offsets(self.lengths), text, _offsets(self.text_lengths)]


def _offsets(lengths: Sequence[int]) -> NDArray[np.int64]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


class ShardWriter:
    """Writes a split pair by pair; call `close` at the end.

    Args:
        folder: An existing folder.
        split: Name of the split.
        source_vocab, target_vocab: Vocabulary sizes, which decide the width of the ids.
    """

    def __init__(self, folder: Path, split: str, source_vocab: int, target_vocab: int) -> None:
        self._folder = Path(folder)
        self._split = split
        self._vocabs = (source_vocab, target_vocab)
        self._total = self._files = 0
        self._begin()

    def _begin(self) -> None:
        self._sides = tuple(_Side(vocab) for vocab in self._vocabs)
        self._pairs = self._bytes = 0

    def add(
        self, source_ids: Sequence[int], target_ids: Sequence[int], source_text: str, target_text: str
    ) -> None:
        """Add one pair: ids without BOS and EOS, and the normalised text."""
        self.add_many([source_ids], [target_ids], [source_text], [target_text])

    def add_many(
        self,
        source_ids: Sequence[Sequence[int]],
        target_ids: Sequence[Sequence[int]],
        source_texts: Sequence[str],
        target_texts: Sequence[str],
    ) -> None:
        """Add pairs. S2SError if a file cannot be written."""
        batch = (source_ids, target_ids, source_texts, target_texts)
        start, count = 0, len(source_ids)
        while start < count:
            end = min(count, start + SHARD_PAIRS - self._pairs)
            for side, ids, texts in ((0, *batch[::2]), (1, *batch[1::2])):
                self._bytes += self._sides[side].add(ids[start:end], texts[start:end])
            self._pairs += end - start
            start = end
            if self._pairs >= SHARD_PAIRS or self._bytes >= SHARD_BYTES:
                self._flush()

    def close(self) -> int:
        """Write what is left; returns the number of pairs of the split."""
        if self._pairs or not self._files:
            self._flush()
        return self._total

    def _flush(self) -> None:
        tensors: dict[str, NDArray[Any]] = {}
        for name, side in zip(_SIDES, self._sides, strict=True):
            keys = (f"{name}_ids", f"{name}_offsets", f"{name}_text", f"{name}_text_offsets")
            tensors.update(zip(keys, side.arrays(), strict=True))
        path = self._folder / f"{self._split}-{self._files:05d}.safetensors"
        # One entry only: safetensors writes several in the order of a hash table, which varies.
        write_bytes_atomic(path, save(tensors, metadata={"format": "1"}))
        self._total += self._pairs
        self._files += 1
        self._begin()


class _Shard:
    """One file, memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._map(path)
        except OSError as error:
            raise os_error(error, path) from error
        except (ValueError, LookupError, TypeError) as error:
            # An empty file cannot be mapped, a cut one has too few bytes, a garbled one no header.
            raise S2SError(f"the file is damaged: {error}", where=str(path), hint=_HINT) from error

    def _map(self, path: Path) -> None:
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        start = 8 + int.from_bytes(raw[:8].tobytes(), "little")
        if not 8 < start <= len(raw):
            raise ValueError("it is too short for its header")
        header = json.loads(raw[8:start].tobytes())
        sides = []
        for name in _SIDES:
            ids = _array(raw, start, header[f"{name}_ids"])
            offsets = _array(raw, start, header[f"{name}_offsets"])
            text = _array(raw, start, header[f"{name}_text"])
            text_offsets = _array(raw, start, header[f"{name}_text_offsets"])
            for places, content in ((offsets, ids), (text_offsets, text)):
                if (
                    places.dtype != np.int64
                    or not len(places)
                    or places[0] != 0
                    or places[-1] != len(content)
                ):
                    raise ValueError(f"the offsets of the {name} do not fit")
            sides.append((ids, offsets, text, text_offsets))
        if len({len(places) for side in sides for places in (side[1], side[3])}) != 1:
            raise ValueError("its sides have different numbers of lines")
        self.sides = sides
        self.pairs = len(sides[0][1]) - 1

    def lengths(self, side: int) -> NDArray[np.int32]:
        lengths = np.diff(self.sides[side][1])
        if len(lengths) and lengths.min() < 0:
            raise S2SError("the file is damaged: its offsets fall", where=str(self.path), hint=_HINT)
        return lengths.astype(np.int32)

    def ids(self, side: int, i: int) -> NDArray[Any]:
        ids, offsets, _, _ = self.sides[side]
        return ids[offsets[i] : offsets[i + 1]]

    def text(self, side: int, i: int) -> str:
        _, _, text, offsets = self.sides[side]
        return text[offsets[i] : offsets[i + 1]].tobytes().decode("utf-8", errors="replace")


def _array(raw: NDArray[np.uint8], start: int, entry: dict[str, Any]) -> NDArray[Any]:
    """The array of a header entry, as a view into the mapped file."""
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(raw) - start:
        raise ValueError("it is shorter than its header says")
    # A plain array over the same memory: np.memmap's own slicing is many times slower.
    array: NDArray[Any] = np.asarray(raw)[start + begin : start + end].view(_DTYPES[entry["dtype"]])
    if list(array.shape) != list(entry["shape"]):
        raise ValueError("an array does not have the shape that the header says")
    return array


class ParallelData:
    """All files of a split as one sequence of pairs, numbered from 0; nothing is copied.

    Attributes:
        source_lengths, target_lengths: Ids of each pair, without BOS and EOS, (pairs,) int32.
    """

    def __init__(self, shards: Sequence[_Shard]) -> None:
        self._shards = list(shards)
        self._starts = _offsets([shard.pairs for shard in shards])
        none = np.zeros(0, np.int32)
        self.source_lengths: NDArray[np.int32] = np.concatenate([none, *(s.lengths(0) for s in shards)])
        self.target_lengths: NDArray[np.int32] = np.concatenate([none, *(s.lengths(1) for s in shards)])

    @classmethod
    def open(cls, folder: Path, split: str) -> ParallelData:
        """Open a split.

        Raises:
            S2SError: No such split, a file missing from the row, or a damaged file.
        """
        paths = sorted(Path(folder).glob(f"{split}-[0-9][0-9][0-9][0-9][0-9].safetensors"))
        if not paths:
            what = f"there is no {split} data here"
            raise S2SError(what, where=str(folder), hint="Run s2s preprocess first, or check --run.")
        for number, path in enumerate(paths):
            expected = f"{split}-{number:05d}.safetensors"
            if path.name != expected:
                raise S2SError("the file is missing", where=str(Path(folder) / expected), hint=_HINT)
        return cls([_Shard(path) for path in paths])

    def check(self, source_vocab: int, target_vocab: int) -> None:
        """S2SError if an id is none of the vocabulary's, for which a model would have no embedding."""
        for shard in self._shards:
            for name, size, (ids, *_) in zip(_SIDES, (source_vocab, target_vocab), shard.sides, strict=True):
                if len(ids) and int(ids.max()) >= size:
                    what = f"the file is damaged: the {name} holds an id that the tokenizer does not know"
                    raise S2SError(what, where=str(shard.path), hint=_HINT)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _find(self, i: int) -> tuple[_Shard, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"pair {i} of {len(self)}")
        if len(self._shards) == 1:
            return self._shards[0], int(i)
        number = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._shards[number], int(i - self._starts[number])

    def source(self, i: int) -> NDArray[Any]:
        """Source ids of pair i, (length,) uint16 or uint32; a read-only view of the file."""
        shard, place = self._find(i)
        return shard.ids(0, place)

    def target(self, i: int) -> NDArray[Any]:
        """Target ids of pair i, (length,) uint16 or uint32; a read-only view of the file."""
        shard, place = self._find(i)
        return shard.ids(1, place)

    def source_text(self, i: int) -> str:
        """Normalised source text of pair i."""
        shard, place = self._find(i)
        return shard.text(0, place)

    def target_text(self, i: int) -> str:
        """Normalised target text of pair i."""
        shard, place = self._find(i)
        return shard.text(1, place)

    def first_with(self, source_vocab: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The first pair that holds each source token, -1 if none does, and the token's place in it."""
        first, places = np.full(source_vocab, -1, np.int64), np.zeros(source_vocab, np.int64)
        for shard, start in zip(self._shards, self._starts, strict=False):
            ids, offsets, _, _ = shard.sides[0]
            place = np.full(source_vocab, -1, np.int64)
            # Of several numbers for one token the last remains, so they are put in backwards.
            place[ids[::-1]] = np.arange(len(ids) - 1, -1, -1)
            new = (place >= 0) & (first < 0)
            pairs = np.searchsorted(offsets, place[new], side="right") - 1
            first[new], places[new] = start + pairs, place[new] - offsets[pairs]
        return first, places

    def gather(self, indices: NDArray[Any]) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
        """Source and target ids of the pairs named, in that order."""
        places = [self._find(i) for i in indices.tolist()]
        return [s.ids(0, i) for s, i in places], [s.ids(1, i) for s, i in places]
