from __future__ import annotations

import bz2
import gzip
import lzma
import os
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from s2scli.corpus import BLOCK_BYTES, Lines, decode_line, sample_corpus
from s2scli.errors import S2SError, UsageError
from s2scli.parallel import Parallel, Part, parse_columns


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def pairs(*parts: Part, replace_invalid: bool = False) -> list[tuple[str, str]]:
    parallel = Parallel(parts=parts, replace_invalid=replace_invalid)
    return [pair for chunk in parallel.chunks() for pair in zip(*chunk, strict=True)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", []),
        ("\n", [""]),
        ("a", ["a"]),
        ("a\n", ["a"]),
        ("a\n\n b \n", ["a", "", " b "]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\r\nb\r", ["a", "b"]),
        ("a\rb\n", ["a\rb"]),
        ("a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\n", ["a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"]),
        ("\ufeffa\nb\n", ["a", "b"]),
        ("\ufeff", []),
        ("\ufeff\n", [""]),
        ("a\n\ufeffb\n", ["a", "\ufeffb"]),
        ("{0} %s \x00\x01\n", ["{0} %s \x00\x01"]),
        ("x" * 100_000 + "\ny\n", ["x" * 100_000, "y"]),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_line_ends_at_a_newline_and_nowhere_else(
    tmp_path: Path, content: str, expected: list[str], packed: bool
) -> None:
    raw = content.encode("utf-8")
    path = write(tmp_path / "text", gzip.compress(raw) if packed else raw)
    lines = Lines(path)
    assert list(lines) == expected
    assert lines.count == len(expected)
    assert lines.position == path.stat().st_size


def test_lines_are_whole_across_blocks(tmp_path: Path) -> None:
    expected = [f"{i} {'ü' * (i % 700)}" for i in range(5000)]
    path = write(tmp_path / "text", "\n".join(expected))
    assert path.stat().st_size > 3 << 20
    assert list(Lines(path)) == expected


def test_gzip_is_known_by_its_content_not_its_name(tmp_path: Path) -> None:
    assert list(Lines(write(tmp_path / "packed.txt", gzip.compress(b"a\nb\n")))) == ["a", "b"]
    assert list(Lines(write(tmp_path / "plain.gz", b"a\nb\n"))) == ["a", "b"]


def test_invalid_bytes_are_refused_with_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"good\nb\xffd\n")
    with pytest.raises(S2SError) as caught:
        list(Lines(path))
    assert caught.value.where == f"{path}:2"
    assert "0xff at position 2" in caught.value.what
    assert "--replace-invalid" in str(caught.value.hint)


def test_invalid_bytes_are_replaced_and_counted(tmp_path: Path) -> None:
    lines = Lines(write(tmp_path / "text", b"a\xff\xfeb \xef\xbf\xbd\r\nc\n\xe2\x82\n"), replace_invalid=True)
    assert list(lines) == ["a\ufffd\ufffdb \ufffd", "c", "\ufffd"]
    assert lines.replaced == 3
    assert decode_line(b"a\xffb\r\n", where="here", replace_invalid=True) == ("a\ufffdb", 1)


def test_the_first_line_with_replaced_bytes_is_known(tmp_path: Path) -> None:
    text = [b"some words in a line"] * 30_000
    assert len(b"\n".join(text)) > 2 * BLOCK_BYTES
    for number in (1, 2, 20_000, 30_000):
        bad = [*text]
        bad[number - 1] = bad[-1] = b"\xff"
        lines = Lines(write(tmp_path / "text", b"\n".join(bad)), replace_invalid=True)
        assert lines.first_replaced == 0
        assert sum(1 for _ in lines) == 30_000
        assert lines.first_replaced == number
    lines = Lines(write(tmp_path / "text", "\ufffd\n"), replace_invalid=True)
    assert list(lines) == ["\ufffd"]
    assert lines.first_replaced == lines.replaced == 0


def test_utf16_is_named(tmp_path: Path) -> None:
    with pytest.raises(S2SError, match="UTF-16"):
        list(Lines(write(tmp_path / "text", "hello\n".encode("utf-16"))))


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        (lzma.compress, "compressed with xz. Unpack it first: xz -dc FILE."),
        (bz2.compress, "compressed with bzip2"),
        (lambda text: bytes.fromhex("28b52ffd") + text, "compressed with zstd"),
        (lambda text: b"PK\x03\x04" + text, "compressed with zip"),
    ],
)
def test_other_compressed_files_are_named(tmp_path: Path, pack: Callable[[bytes], bytes], said: str) -> None:
    for replace in (False, True):
        with pytest.raises(S2SError) as caught:
            list(Lines(write(tmp_path / "text", pack(b"hello\n" * 9)), replace_invalid=replace))
        assert said in str(caught.value)
    assert list(Lines(write(tmp_path / "text", "BZh9 is text\n"))) == ["BZh9 is text"]
    with pytest.raises(S2SError, match=r"compressed with|UTF-16"):
        list(Lines(write(tmp_path / "text.gz", gzip.compress(pack("hello\n".encode("utf-16"))))))


@pytest.mark.parametrize("cut", [20, -4])
def test_truncated_gzip(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "text.gz", gzip.compress(os.urandom(2000).hex().encode() + b"\n")[:cut])
    with pytest.raises(S2SError, match="cut off or damaged") as caught:
        list(Lines(path))
    assert caught.value.where == str(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "train.en", "a\n")
    with pytest.raises(S2SError, match=r"no such file.*Did you mean 'train.en'"):
        Lines(tmp_path / "train.em")
    with pytest.raises(S2SError, match="no such file"):
        Lines(tmp_path / "nowhere" / "x")
    with pytest.raises(S2SError, match="folder, not a file"):
        Lines(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(S2SError, match="not a regular file"):
        Lines(tmp_path / "pipe")
    with pytest.raises(S2SError):
        Lines(tmp_path / "train.en" / "x")


@pytest.mark.parametrize(("left", "right"), [(3, 5), (5, 3), (0, 1), (200_000, 3)])
def test_different_numbers_of_lines_name_both(tmp_path: Path, left: int, right: int) -> None:
    source, target = write(tmp_path / "s", "aaaaaaaa\n" * left), write(tmp_path / "t", "b\n" * right)
    with pytest.raises(S2SError) as caught:
        pairs(Part(source=source, target=target))
    assert f"{left:,} lines" in caught.value.what
    assert caught.value.what.endswith(f"{right:,}")
    assert str(source) in str(caught.value)
    assert str(target) in str(caught.value)


def test_one_side_alone_is_the_same_lines(tmp_path: Path) -> None:
    folder = sample_corpus()
    table = write(tmp_path / "t.tsv", "".join(f"x\t{i}\tz{i}\n" for i in range(10_000)))
    parts = [Part(source=folder / "dev.en", target=folder / "dev.ko"), Part(source=table, columns="3,2")]
    parallel = Parallel(parts=parts)
    for number in (0, 1):
        seen: list[int] = []
        lines = [line for block in parallel.side(number, seen.append) for line in block]
        assert lines == [pair[number] for pair in pairs(*parts)]
        assert seen[-1] == sum(part.side(number).stat().st_size for part in parts)


def test_several_files_follow_each_other(tmp_path: Path) -> None:
    one = Part(source=write(tmp_path / "a", "1\n2"), target=write(tmp_path / "b", "x\ny\n"))
    two = Part(source=write(tmp_path / "c", "3\tz\n"))
    assert pairs(one, two) == [("1", "x"), ("2", "y"), ("3", "z")]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("1,2", [("id", "de"), ("1", "hallo"), ("2", "")]),
        ("2,3", [("de", "en"), ("hallo", "hello"), ("", "x")]),
        ("3,1", [("en", "id"), ("hello", "1"), ("x", "2")]),
        ("de,en", [("hallo", "hello"), ("", "x")]),
        (" en , 1", [("hello", "1"), ("x", "2")]),
        ("3,2,1", [("en\tid", "de"), ("hello\t1", "hallo"), ("x\t2", "")]),
        ("en,de,id", [("hello\t1", "hallo"), ("x\t2", "")]),
    ],
)
def test_tsv_columns(tmp_path: Path, columns: str, expected: list[tuple[str, str]]) -> None:
    path = write(tmp_path / "t.tsv", "\ufeffid\tde\ten\r\n1\thallo\thello\r\n2\t\tx\n".replace("\ufeff", ""))
    assert pairs(Part(source=path, columns=columns)) == expected


def test_tsv_quotes_are_text_and_blank_lines_are_pairs(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", '\ufeff"a\tb"\n\nc\u2028d\te\n')
    assert pairs(Part(source=path)) == [('"a', 'b"'), ("", ""), ("c\u2028d", "e")]


def test_tsv_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "src\ttgt\na\tb\nlonely\n")
    with pytest.raises(S2SError, match=r"t\.tsv:3: the line has 1 column, and column 2 is needed"):
        pairs(Part(source=path))
    with pytest.raises(S2SError, match=r"t\.tsv:1: .*no column 'target'"):
        pairs(Part(source=path, columns="src,target"))
    with pytest.raises(S2SError, match="empty"):
        pairs(Part(source=write(tmp_path / "empty", ""), columns="src,tgt"))
    with pytest.raises(S2SError, match=r"source in column 1, target in column 2, features in column 3"):
        pairs(Part(source=path, columns="1,2,3"))
    for wrong in ("1", "1,2,3,4", "0,1", "1,2,0", "00,1", "01,1", ",", "a,", "1,2,"):
        with pytest.raises(UsageError) as caught:
            parse_columns(wrong)
        assert caught.value.where == "--columns"


def test_progress_counts_bytes_of_the_files_as_they_are(tmp_path: Path) -> None:
    text = "".join(f"line {i} {i * 7919 % 1000}\n" for i in range(200_000)).encode()
    part = Part(source=write(tmp_path / "s.gz", gzip.compress(text)), target=write(tmp_path / "t", text))
    parallel = Parallel(parts=[part])
    seen: list[int] = []
    total = sum(len(chunk[0]) for chunk in parallel.chunks(seen.append))
    assert total == 200_000
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert seen[-1] == parallel.size == sum(p.stat().st_size for p in part.files)


def test_reading_is_streaming(tmp_path: Path) -> None:
    path = write(tmp_path / "text", b"some words in a line of text\n" * 200_000)
    tracemalloc.start()
    count = sum(len(chunk[0]) for chunk in Parallel(parts=[Part(source=path, target=path)]).chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 200_000
    assert peak < 10 << 20  # the lines of one file take 15 MB


def test_long_lines_make_small_chunks(tmp_path: Path) -> None:
    path = write(tmp_path / "text", ("x" * 100_000 + "\n") * 50)
    sizes = [sum(map(len, chunk[0])) for chunk in Parallel(parts=[Part(source=path, target=path)]).chunks()]
    assert sum(sizes) == 5_000_000
    assert max(sizes) <= 1_200_000


def test_the_sample_corpus_is_parallel() -> None:
    folder = sample_corpus()
    for split, count in (("train", 9382), ("dev", 500), ("test", 500)):
        assert len(pairs(Part(source=folder / f"{split}.en", target=folder / f"{split}.ko"))) == count


def test_the_bundled_data_sets() -> None:
    for name, columns, rows in (("cmudict", 2, (8000, 500, 500)), ("inflection", 3, (2844, 200, 202))):
        keys: list[set[str]] = []
        for split, count in zip(("train", "dev", "test"), rows, strict=True):
            lines = list(Lines(sample_corpus(name) / f"{split}.tsv"))
            assert len(lines) == count
            assert {line.count("\t") for line in lines} == {columns - 1}
            keys.append({line.split("\t")[0] for line in lines})
        assert keys[0].isdisjoint(keys[1] | keys[2])
        assert keys[1].isdisjoint(keys[2])
    with pytest.raises(S2SError, match=r"no data set 'cmu'.*Did you mean 'cmudict'"):
        sample_corpus("cmu")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_wide_text_is_named_for_what_it_is(tmp_path: Path, encoding: str) -> None:
    said = {"utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "utf-32": "UTF-32"}[encoding]
    with pytest.raises(S2SError, match=f"looks like {said}. Convert it: iconv -f {said} ") as caught:
        list(Lines(write(tmp_path / "text", "hello there\nand more\n".encode(encoding))))
    assert caught.value.where == str(tmp_path / "text")
    for text in (b"\0\0\0\0", b"a\0", b"ab\0c\0\n"):  # odd, but not that
        assert list(Lines(write(tmp_path / "text", text))) == [text.decode().rstrip("\n")]


@pytest.mark.parametrize("level", range(1, 10))
def test_bzip2_of_any_level_is_named(tmp_path: Path, level: int) -> None:
    with pytest.raises(S2SError, match="compressed with bzip2"):
        list(Lines(write(tmp_path / "text", bz2.compress(b"hello\n", level)), replace_invalid=True))


def test_what_a_damaged_gzip_file_still_holds_is_read(tmp_path: Path) -> None:
    lines = [f"{i} {zlib.crc32(str(i).encode())}" for i in range(60_000)]
    packed = gzip.compress("".join(line + "\n" for line in lines).encode())
    for data, least in ((packed + b"garbage", 59_000), (packed[: len(packed) // 2], 20_000)):
        reader, found = Lines(write(tmp_path / "text.gz", data)), list[str]()
        with pytest.raises(S2SError, match="damaged somewhere after line ") as caught:
            found.extend(line for block in reader.blocks() for line in block)
        number = int(caught.value.what.rpartition(" ")[2].replace(",", ""))
        assert number == len(found) and found[:-1] == lines[: number - 1]
        assert number >= least
    assert list(Lines(write(tmp_path / "text.gz", packed + b"\0\0"))) == lines  # gzip's own padding
    for behind in (b"\n", b"PK", b"PK\x03\x04"):  # what one reads again after an error may look like an end
        with pytest.raises(S2SError, match="damaged somewhere"):
            list(Lines(write(tmp_path / "text.gz", packed + behind)))


def test_columns_by_name_and_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "t.tsv", "src \t tgt\ta\ta\nx\ty\t1\t2\n")
    assert pairs(Part(source=path, columns="tgt,1")) == [("y", "x")]
    for columns, said in (("tgt,2", "twice"), ("2,tgt", "twice"), ("src,a", "2 columns 'a'")):
        with pytest.raises(S2SError, match=said) as caught:
            pairs(Part(source=path, columns=columns))
        assert caught.value.where == f"{path}:1"
    with pytest.raises(S2SError):
        pairs(Part(source=path, columns="1," + "9" * 5000))
