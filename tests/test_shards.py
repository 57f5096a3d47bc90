from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from s2scli import shards
from s2scli.errors import S2SError
from s2scli.shards import ParallelData, ShardWriter

PAIRS = [
    ([5, 6, 7], [8], "ab c", "x"),
    ([], [], "", ""),
    ([65_535], [9, 9], "\u2028\0é", "한국어 😀"),
    ([4] * 300, [5] * 200, "z" * 100_000, "y"),
]


def fill(folder: Path, pairs: list[tuple[list[int], list[int], str, str]], vocab: int = 1 << 16) -> int:
    writer = ShardWriter(folder, "train", vocab, 300)
    for pair in pairs:
        writer.add(*pair)
    return writer.close()


def check(data: ParallelData, pairs: list[tuple[list[int], list[int], str, str]]) -> None:
    assert len(data) == len(pairs)
    assert data.source_lengths.tolist() == [len(p[0]) for p in pairs]
    assert data.target_lengths.tolist() == [len(p[1]) for p in pairs]
    assert data.source_lengths.dtype == data.target_lengths.dtype == np.int32
    for i, (source, target, source_text, target_text) in enumerate(pairs):
        assert data.source(i).tolist() == source
        assert data.target(i).tolist() == target
        assert data.source_text(i) == source_text
        assert data.target_text(i) == target_text


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert fill(tmp_path, PAIRS) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["train-00000.safetensors"]
    check(ParallelData.open(tmp_path, "train"), PAIRS)


def test_many_files_are_one_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_PAIRS", 3)
    many = [([i + 4], [i + 5, 4], f"s{i}", f"t{i}") for i in range(10)]
    writer = ShardWriter(tmp_path, "train", 300, 300)
    writer.add_many(*map(list, zip(*many[:8], strict=True)))
    writer.add(*many[8])
    writer.add(*many[9])
    assert writer.close() == 10
    assert len(list(tmp_path.iterdir())) == 4
    data = ParallelData.open(tmp_path, "train")
    check(data, many)
    sources, targets = data.gather(np.array([9, 0, 3, 3]))
    assert [s.tolist() for s in sources] == [[13], [4], [7], [7]]
    assert [t.tolist() for t in targets] == [[14, 4], [5, 4], [8, 4], [8, 4]]
    for outside in (-1, 10):
        with pytest.raises(IndexError):
            data.source(outside)
    (tmp_path / "train-00001.safetensors").unlink()
    with pytest.raises(S2SError, match=r"train-00001\.safetensors: the file is missing"):
        ParallelData.open(tmp_path, "train")


def test_long_text_starts_a_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    assert fill(tmp_path, [([4], [4], "x" * 600, "y" * 600)] * 5) == 5
    assert len(list(tmp_path.iterdir())) == 5


def test_the_width_of_ids_follows_the_vocabulary(tmp_path: Path) -> None:
    fill(tmp_path, [([65_536], [4], "a", "b")], vocab=(1 << 16) + 1)
    stored = load_file(tmp_path / "train-00000.safetensors")
    assert stored["source_ids"].dtype == np.uint32
    assert stored["target_ids"].dtype == np.uint16
    assert set(stored) == {
        f"{s}_{k}" for s in ("source", "target") for k in ("ids", "offsets", "text", "text_offsets")
    }
    assert ParallelData.open(tmp_path, "train").source(0).tolist() == [65_536]


def test_reading_copies_nothing(tmp_path: Path) -> None:
    fill(tmp_path, PAIRS)
    ids = ParallelData.open(tmp_path, "train").source(0)
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_no_pairs_and_no_split(tmp_path: Path) -> None:
    assert fill(tmp_path, []) == 0
    assert len(ParallelData.open(tmp_path, "train")) == 0
    with pytest.raises(S2SError, match="no dev data"):
        ParallelData.open(tmp_path, "dev")


def test_damaged_files_are_named(tmp_path: Path) -> None:
    fill(tmp_path, PAIRS)
    path = tmp_path / "train-00000.safetensors"
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    lengths = [0, 1, 7, 8, 20, header - 1, header, header + 9, len(good) // 2, len(good) - 1]
    bad = [good[:n] for n in lengths]
    bad += [b"\xff" * len(good), good[:8] + b"[" * (header - 8) + good[header:], good[:8] + b"{}" + good[10:]]
    bad += [good.replace(b'"U16"', b'"F99"'), good.replace(b"source_ids", b"source_odd")]
    for content in bad:
        path.write_bytes(content)
        with pytest.raises(S2SError) as caught:
            ParallelData.open(tmp_path, "train")
        assert caught.value.where == str(path)
        assert "damaged" in caught.value.what


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "missing", "train", 300, 300)
    writer.add([4], [5], "a", "b")
    with pytest.raises(S2SError):
        writer.close()
