from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s2scli import vocabulary
from s2scli.config import BOS, EOS, PAD, UNK
from s2scli.corpus import Lines, sample_corpus
from s2scli.errors import S2SError
from s2scli.segmentation import CLOSED, Kind, Segmentation
from s2scli.side import SideTokenizer
from s2scli.tokenizer import Tokenizer
from s2scli.vocabulary import (
    FIRST_BYTE,
    SPECIALS,
    LineStore,
    auto_vocab_size,
    count_characters,
    letter_overlap,
    no_characters,
)

LOSSLESS = ("bpe", "unigram")
KINDS: tuple[Kind, ...] = (*LOSSLESS, *CLOSED)


@cache
def corpus(language: str) -> list[str]:
    return list(Lines(sample_corpus() / f"train.{language}"))[:1500]


@cache
def trained(
    kind: Kind, joint: bool = False, *, vocab_size: int = 1000, forms: tuple[Any, Any] = ("nfc", "nfc")
) -> Tokenizer:
    source, target = (Segmentation(kind=kind, normalize=form) for form in forms)
    lines = (corpus("en"), corpus("ko"))
    return Tokenizer.train(*lines, source=source, target=target, vocab_size=vocab_size, joint=joint)


def learnt(lines: list[str], kind: Kind, vocab_size: int = 400, **settings: Any) -> SideTokenizer:
    """The tokenizer of both sides, learnt from some lines."""
    side = Segmentation(kind=kind, **settings)
    return Tokenizer.train(lines, [], source=side, target=side, vocab_size=vocab_size, joint=True).source


ODD = [
    "  ",
    "\t",
    "▁",
    "<0x41>",
    "</s>",
    "<unk>",
    "<pad>",
    "<s>",
    "a",
    "de",
    "\u0301",
    "각",
    "\u1100",
    "\x00",
    "\x85",
]
ODD += [
    " ",
    "\u2028",
    "\u3000",
    "\r",
    "😀",
    "👩\u200d👩",
    "\ufeff",
    "\ufffd",
    "7",
    "½",
    "_",
    "\u200d",
    "file",
    "설정",
]
LINES = st.text().map(lambda text: text.replace("\n", " ")) | st.lists(st.sampled_from(ODD)).map("".join)


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=250, deadline=None)
@example(line="")
@example(line=" ")
@example(line="  a  \u2581 \x00</s><0x0A>\r")
@given(line=LINES)
def test_decoding_gives_back_the_normalised_line(kind: Kind, line: str) -> None:
    tokenizer = trained(kind)
    for side in (tokenizer.source, tokenizer.target):
        (ids,) = side.encode([line])
        assert side.decode([ids]) == [unicodedata.normalize("NFC", line)]
        assert all(FIRST_BYTE <= i < side.vocab_size for i in ids)
        # Text that looks like the name of a byte or special token is never taken for it.
        as_bytes = bytes(i - FIRST_BYTE for i in ids if i < FIRST_BYTE + 256).decode("utf-8")
        assert all(character in line or not unicodedata.is_normalized("NFC", line) for character in as_bytes)
        assert len(side.tokens(ids)) == len(side.word_of_token(ids)) == len(ids)


@settings(max_examples=150, deadline=None)
@given(line=LINES)
def test_words_come_back_and_special_names_stay_words(line: str) -> None:
    side = trained("word").source
    (ids,) = side.encode([line])
    words = side.normalize(line).split(" ") if side.normalize(line) else []
    assert len(ids) == len(words)
    assert set(ids).isdisjoint((PAD, BOS, EOS))
    known = set(side.vocabulary.definition)
    expected = [word if word in known else "<unk>" for word in words]
    assert side.decode([ids]) == [" ".join(expected)]
    assert side.word_of_token(ids) == list(range(len(ids)))


def test_a_word_named_like_a_special_token_has_its_own_id() -> None:
    lines = [*SPECIALS.values(), "<s> a </s>"]
    side = learnt(lines, "word", normalize="none")
    assert min(min(ids) for ids in side.encode(lines)) >= FIRST_BYTE
    assert side.decode(side.encode(lines)) == lines


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_hundred_thousand_characters(kind: Kind) -> None:
    side = trained(kind).source
    long = ["x" * 100_000, "yz" * 50_000, "a b"]  # learning from such lines takes no time either
    other = learnt(long, kind)
    assert other.decode(other.encode(long)) == long
    for line in ("x" * 100_000, "word " * 20_000, "글" * 100_000):
        assert side.decode(side.encode([line])) == [line]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("joint", [False, True])
def test_sizes_and_sharing(kind: Kind, joint: bool) -> None:
    tokenizer = trained(kind, joint)
    assert tokenizer.source.segmentation.kind == kind
    assert tokenizer.joint == joint == (tokenizer.source is tokenizer.target)
    for side in (tokenizer.source, tokenizer.target):
        assert 50 < side.vocab_size <= 1000
        every = list(range(side.vocab_size))
        assert len(side.tokens(every)) == side.vocab_size
        assert side.tokens([PAD, UNK, BOS, EOS]) == ["<pad>", "<unk>", "<s>", "</s>"]
    if kind in ("bpe", "unigram"):
        assert tokenizer.source.vocab_size == 1000


def test_tokens_are_shown_with_their_spaces() -> None:
    side = trained("bpe").source
    (ids,) = side.encode(["the the ☃"])
    assert side.tokens(ids) == ["▁the", "▁the", "▁", "<0xE2>", "<0x98>", "<0x83>"]


def test_special_ids_and_broken_bytes_decode_to_text() -> None:
    side = trained("bpe").source
    (ids,) = side.encode(["the way"])
    assert side.decode([[BOS, PAD, *ids, UNK, EOS, PAD], [], [EOS]]) == ["the way", "", ""]
    assert side.decode([[FIRST_BYTE + 0xE2, FIRST_BYTE + 0x98]]) == ["\ufffd\ufffd"]
    for kind in LOSSLESS:  # only a model can produce a line break; a translation never holds one
        assert "\n" not in trained(kind).source.decode([[FIRST_BYTE + 0x0A, FIRST_BYTE + 0x41]])[0]


@pytest.mark.parametrize("kind", LOSSLESS)
@settings(max_examples=150, deadline=None)
@example(line="  ☃☃ b\u3000☃ ")
@given(line=LINES)
def test_words_of_tokens_agree_with_the_decoded_text(kind: Kind, line: str) -> None:
    side = trained(kind).source
    (ids,) = side.encode([line])
    words, owners = side.decode([ids])[0].split(), side.word_of_token(ids)
    assert owners == sorted(owners)
    if words:
        assert set(owners) == set(range(len(words))) or "\x1c" <= min(line) <= "\x1f"
    else:
        assert set(owners) <= {0}
    for place, owner in enumerate(owners):
        text = side.decode([[ids[place]]])[0].strip()
        if text and "\ufffd" not in text and len(text.split()) == 1:
            assert text in words[owner]


def test_white_space_belongs_to_the_word_that_follows() -> None:
    side = trained("codepoint").source
    (ids,) = side.encode(["ab  c d "])
    assert side.word_of_token(ids) == [0, 0, 1, 1, 1, 2, 2]  # what ends the line is no part of it
    assert side.word_of_token([BOS, *ids[:2], EOS]) == [0, 0, 0, 0]
    assert side.word_of_token([]) == []


def test_lines_are_normalised_first() -> None:
    composed, decomposed = "각é", unicodedata.normalize("NFD", "각é")
    nfc = trained("bpe").source
    assert nfc.encode([decomposed]) == nfc.encode([composed])
    sides = trained("bpe", True, forms=("nfkc", "none"))
    assert sides.joint
    assert sides.source.decode(sides.source.encode(["ﬁ½"])) == ["fi1⁄2"]
    assert sides.target.decode(sides.target.encode([decomposed + "ﬁ"])) == [decomposed + "ﬁ"]
    assert trained("word").source.normalize(" a\u2028 b\t") == "a b"


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(kind: Kind, tmp_path: Path) -> None:
    for joint in (False, True):
        for target_form in ("nfc", "nfd"):
            tokenizer = trained(kind, joint, forms=("nfc", target_form))
            tokenizer.save(tmp_path / "tokenizer.json")
            again = Tokenizer.load(tmp_path / "tokenizer.json")
            assert again.joint == joint
            for name in ("source", "target"):
                old, new = getattr(tokenizer, name), getattr(again, name)
                assert (new.segmentation, new.vocab_size) == (old.segmentation, old.vocab_size)
                lines = [*corpus("ko")[:50], *corpus("en")[:50], "\x00 ▁ ☃"]
                assert new.encode(lines) == old.encode(lines)


TRAIN = """
import sys, hashlib
from s2scli.corpus import Lines, sample_corpus
from s2scli.segmentation import Segmentation
from s2scli.tokenizer import Tokenizer
from pathlib import Path
lines = [list(Lines(sample_corpus() / f"train.{x}"))[:1500] for x in ("en", "ko")]
for kind in ("bpe", "unigram", "word", "character", "codepoint", "symbol"):
    side = Segmentation(kind=kind)
    tokenizer = Tokenizer.train(*lines, source=side, target=side, vocab_size=1000, joint=False)
    tokenizer.save(Path(sys.argv[1]) / kind)
"""


def test_the_same_text_gives_the_same_file(tmp_path: Path) -> None:
    # In other processes, because the hash tables inside the library differ from one to the next.
    for run in ("1", "2"):
        (tmp_path / run).mkdir()
        subprocess.run(
            [sys.executable, "-c", TRAIN, str(tmp_path / run)],
            check=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
    for kind in KINDS:
        trained(kind).save(tmp_path / "here")
        contents = [p.read_bytes() for p in (tmp_path / "here", tmp_path / "1" / kind, tmp_path / "2" / kind)]
        assert len({hashlib.md5(c).hexdigest() for c in contents}) == 1, kind


def test_files_that_cannot_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    with pytest.raises(S2SError, match="no such tokenizer"):
        Tokenizer.load(path)
    with pytest.raises(S2SError):
        Tokenizer.load(tmp_path)
    trained("bpe").save(path)
    good = path.read_text(encoding="utf-8")
    content = json.loads(good)
    trained("symbol").save(path)
    symbols = json.loads(path.read_text(encoding="utf-8"))
    no_ids = {"model": {"type": "BPE", "vocab": {"a": 7}, "merges": []}}

    def changed(whole: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return {**whole, "source": {**whole["source"], **changes}}

    broken: list[Any] = [
        "",
        good[: len(good) // 2],
        "[]",
        "{}",
        '{"format": 2}',
        {**content, "target": None},
        {**content, "joint": True},
        {**content, "source": {}},
        {key: value for key, value in content.items() if key != "tags"},
        changed(content, kind="other"),
        changed(content, normalize="nf"),
        changed(content, written="nfkc"),
        changed(content, features="no"),
        changed(content, vocabulary=no_ids),
        changed(content, vocabulary=["a"]),
        changed(symbols, separator=""),
        changed(symbols, separator=3),
        changed(symbols, vocabulary=["a", "a"]),
        changed(symbols, vocabulary=["a", ""]),
        changed(symbols, vocabulary=[1]),
        changed(symbols, vocabulary=7),
    ]
    for bad in broken:
        path.write_text(bad if isinstance(bad, str) else json.dumps(bad), encoding="utf-8")
        with pytest.raises(S2SError, match=r"not a tokenizer|damaged") as caught:
            Tokenizer.load(path)
        assert caught.value.where == str(path)
    path.write_text(json.dumps({**content, "format": 3}), encoding="utf-8")
    with pytest.raises(S2SError, match=r"format 3.*Install a newer"):
        Tokenizer.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_any_text(kind: Kind) -> None:
    for lines in (["a"], [""], [" "], []):
        side = Segmentation(kind=kind)
        tokenizer = Tokenizer.train(lines, ["b c"], source=side, target=side, vocab_size=300, joint=False)
        if kind in LOSSLESS:
            assert tokenizer.source.decode(tokenizer.source.encode(["a b"])) == ["a b"]
        assert tokenizer.source.vocab_size <= 300


@pytest.mark.parametrize("kind", LOSSLESS)
def test_the_smallest_vocabulary(kind: Kind) -> None:
    side = trained(kind, vocab_size=300).target
    assert 290 <= side.vocab_size <= 300
    assert side.decode(side.encode(corpus("ko")[:100])) == corpus("ko")[:100]


def test_the_alphabet_leaves_room_for_words() -> None:
    lines = ["".join(chr(0x4E00 + (i * j) % 5000) for j in range(1, 40)) for i in range(3000)]
    for kind in LOSSLESS:
        side = learnt(lines, kind, 1000)
        assert side.vocab_size <= 1000
        pieces = side.tokens(list(range(FIRST_BYTE + 256, side.vocab_size)))
        assert sum(len(piece) == 1 for piece in pieces) <= 372
    assert learnt(lines, "character", 1000).vocab_size == 1000


def test_too_many_words_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"frequent words {i}x often {i * i}y" for i in range(20_000)]
    store = LineStore()
    store.add(lines, Segmentation(kind="bpe"))
    monkeypatch.setattr(vocabulary, "WORD_CHARACTERS", 20_000)
    counts, complete = store.words()
    assert not complete
    assert sum(map(len, counts)) <= 20_000
    assert counts["frequent"] == counts["often"] == 20_000
    assert len(counts) > 1000
    side = learnt(lines, "bpe", 600)
    assert side.tokens(side.encode(["words often"])[0]) == ["▁words", "▁often"]
    assert learnt(lines, "unigram", 600).vocab_size > 270


def test_letters_shared() -> None:
    def counts(text: str) -> np.ndarray[Any, Any]:
        result = no_characters()
        count_characters(result, [text])
        return result

    assert letter_overlap(counts("abc 1"), counts("cab 22!")) == 1.0
    assert letter_overlap(counts("abc ..."), counts("где ...")) == 0.0
    assert letter_overlap(counts("aabb"), counts("bbbb")) == 0.5
    assert letter_overlap(counts("12"), counts("12")) == 0.0


def test_automatic_sizes_grow_with_the_data() -> None:
    sizes = [
        auto_vocab_size(n, "bpe") for n in (0, 1, 5_000, 9_382, 30_000, 130_000, 500_000, 5_000_000, 10**9)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] >= 300
    assert sizes[-1] <= 200_000
    assert all(size % 100 == 0 for size in sizes)


def test_a_tokenizer_of_format_1_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    bpe, lines = trained("bpe"), corpus("en")[:50]
    libraries = [s.vocabulary.definition for s in (bpe.source, bpe.target)]
    forms = {"source": "nfc", "target": "nfd"}
    old = {"format": 1, "kind": "bpe", "joint": False, "normalize": forms}
    path.write_text(json.dumps({**old, "source": libraries[0], "target": libraries[1]}))
    read = Tokenizer.load(path)
    assert read.source.encode(lines) == bpe.source.encode(lines)
    assert read.target.segmentation == Segmentation(kind="bpe", normalize="nfd")
    # The kind char, code points with bytes, is that of such a file alone.
    path.write_text(
        json.dumps({**old, "kind": "char", "joint": True, "source": libraries[0], "target": None})
    )
    assert Tokenizer.load(path).joint
    assert FIRST_BYTE + 0xE2 in Tokenizer.load(path).source.encode(["☃"])[0]
    vocabulary = {"<pad> ": 0, "<unk> ": 1, "<s> ": 2, "</s> ": 3, "the": 4, "window": 5}
    words = {"model": {"type": "WordLevel", "vocab": vocabulary}}
    path.write_text(json.dumps({**old, "kind": "word", "joint": True, "source": words, "target": None}))
    read = Tokenizer.load(path)
    assert read.source.encode(["the  open window"]) == [[4, UNK, 5]]
    assert read.source.decode([[4, UNK, 5]]) == ["the <unk> window"]
