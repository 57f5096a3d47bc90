from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from s2scli import vocabulary
from s2scli.config import BOS, EOS, PAD, UNK, TokenizerKind
from s2scli.corpus import Lines, sample_corpus
from s2scli.errors import S2SError
from s2scli.tokenizer import SideTokenizer, Tokenizer
from s2scli.vocabulary import (
    FIRST_BYTE,
    SPECIALS,
    LineStore,
    auto_vocab_size,
    count_characters,
    letter_overlap,
    no_characters,
)

LOSSLESS = ("bpe", "unigram", "char")
KINDS: tuple[TokenizerKind, ...] = get_args(TokenizerKind)


@cache
def corpus(language: str) -> list[str]:
    return list(Lines(sample_corpus() / f"train.{language}"))[:1500]


@cache
def trained(kind: TokenizerKind, joint: bool = False, **changes: Any) -> Tokenizer:
    settings = {"vocab_size": 1000, "normalize_source": "nfc", "normalize_target": "nfc", **changes}
    return Tokenizer.train(corpus("en"), corpus("ko"), kind=kind, joint=joint, **settings)


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
def test_decoding_gives_back_the_normalised_line(kind: TokenizerKind, line: str) -> None:
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
    known = set(side.definition["model"]["vocab"])
    expected = [word if word in known else "<unk>" for word in words]
    assert side.decode([ids]) == [" ".join(expected)]
    assert side.word_of_token(ids) == list(range(len(ids)))


def test_a_word_named_like_a_special_token_has_its_own_id() -> None:
    lines = [*SPECIALS.values(), "<s> a </s>"]
    side = Tokenizer.train(
        lines,
        lines,
        kind="word",
        vocab_size=300,
        joint=True,
        normalize_source="none",
        normalize_target="none",
    ).source
    assert min(min(ids) for ids in side.encode(lines)) >= FIRST_BYTE
    assert side.decode(side.encode(lines)) == lines


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_hundred_thousand_characters(kind: TokenizerKind) -> None:
    side = trained(kind).source
    long = ["x" * 100_000, "yz" * 50_000, "a b"]  # learning from such lines takes no time either
    learnt = Tokenizer.train(
        long, long, kind=kind, vocab_size=400, joint=True, normalize_source="nfc", normalize_target="nfc"
    )
    assert learnt.source.decode(learnt.source.encode(long)) == long
    for line in ("x" * 100_000, "word " * 20_000, "글" * 100_000):
        assert side.decode(side.encode([line])) == [line]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("joint", [False, True])
def test_sizes_and_sharing(kind: TokenizerKind, joint: bool) -> None:
    tokenizer = trained(kind, joint)
    assert tokenizer.kind == kind
    assert tokenizer.joint == joint == (tokenizer.source is tokenizer.target)
    for side in (tokenizer.source, tokenizer.target):
        assert 300 < side.vocab_size <= 1000
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
def test_words_of_tokens_agree_with_the_decoded_text(kind: TokenizerKind, line: str) -> None:
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
    side = trained("char").source
    (ids,) = side.encode(["ab  c d "])
    assert side.word_of_token(ids) == [0, 0, 1, 1, 1, 2, 2, 2]
    assert side.word_of_token([BOS, *ids[:2], EOS]) == [0, 0, 0, 0]
    assert side.word_of_token([]) == []


def test_lines_are_normalised_first() -> None:
    composed, decomposed = "각é", unicodedata.normalize("NFD", "각é")
    nfc = trained("bpe").source
    assert nfc.encode([decomposed]) == nfc.encode([composed])
    sides = trained("bpe", True, normalize_source="nfkc", normalize_target="none")
    assert sides.joint
    assert sides.source.decode(sides.source.encode(["ﬁ½"])) == ["fi1⁄2"]
    assert sides.target.decode(sides.target.encode([decomposed + "ﬁ"])) == [decomposed + "ﬁ"]
    assert trained("word").source.normalize(" a\u2028 b\t") == "a b"


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_it_is_the_same(kind: TokenizerKind, tmp_path: Path) -> None:
    for joint in (False, True):
        for target_form in ("nfc", "nfd"):
            tokenizer = trained(kind, joint, normalize_target=target_form)
            tokenizer.save(tmp_path / "tokenizer.json")
            again = Tokenizer.load(tmp_path / "tokenizer.json")
            assert (again.kind, again.joint) == (kind, joint)
            for name in ("source", "target"):
                old, new = getattr(tokenizer, name), getattr(again, name)
                assert (new.normalization, new.vocab_size) == (old.normalization, old.vocab_size)
                lines = [*corpus("ko")[:50], *corpus("en")[:50], "\x00 ▁ ☃"]
                assert new.encode(lines) == old.encode(lines)


TRAIN = """
import sys, hashlib
from s2scli.corpus import Lines, sample_corpus
from s2scli.tokenizer import Tokenizer
from pathlib import Path
lines = [list(Lines(sample_corpus() / f"train.{x}"))[:1500] for x in ("en", "ko")]
for kind in ("bpe", "unigram", "char", "word"):
    tokenizer = Tokenizer.train(*lines, kind=kind, vocab_size=1000, joint=False,
                                normalize_source="nfc", normalize_target="nfc")
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
    broken: list[Any] = [
        "",
        good[: len(good) // 2],
        "[]",
        "{}",
        '{"format": 1}',
        {**content, "kind": "other"},
        {**content, "target": None},
        {**content, "source": {}},
        {
            **content,
            "source": {**content["source"], "model": {"type": "BPE", "vocab": {"a": 7}, "merges": []}},
        },
        {**content, "normalize": {"source": "nfc"}},
    ]
    for bad in broken:
        path.write_text(bad if isinstance(bad, str) else json.dumps(bad), encoding="utf-8")
        with pytest.raises(S2SError, match=r"not a tokenizer|damaged") as caught:
            Tokenizer.load(path)
        assert caught.value.where == str(path)
    path.write_text(json.dumps({**content, "format": 2}), encoding="utf-8")
    with pytest.raises(S2SError, match=r"format 2.*Install a newer"):
        Tokenizer.load(path)


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_any_text(kind: TokenizerKind) -> None:
    for lines in (["a"], [""], [" "], []):
        tokenizer = Tokenizer.train(
            lines,
            ["b c"],
            kind=kind,
            vocab_size=300,
            joint=False,
            normalize_source="nfc",
            normalize_target="nfc",
        )
        if kind != "word":
            assert tokenizer.source.decode(tokenizer.source.encode(["a b"])) == ["a b"]
        assert tokenizer.source.vocab_size <= 300


@pytest.mark.parametrize("kind", LOSSLESS)
def test_the_smallest_vocabulary(kind: TokenizerKind) -> None:
    side = trained(kind, vocab_size=300).target
    assert 290 <= side.vocab_size <= 300
    assert side.decode(side.encode(corpus("ko")[:100])) == corpus("ko")[:100]


def test_the_alphabet_leaves_room_for_words() -> None:
    lines = ["".join(chr(0x4E00 + (i * j) % 5000) for j in range(1, 40)) for i in range(3000)]
    settings: Any = {"vocab_size": 1000, "joint": True, "normalize_source": "nfc", "normalize_target": "nfc"}
    for kind in ("bpe", "unigram"):
        side: SideTokenizer = Tokenizer.train(lines, [], kind=kind, **settings).source
        assert side.vocab_size <= 1000
        learnt = side.tokens(list(range(FIRST_BYTE + 256, side.vocab_size)))
        assert sum(len(piece) == 1 for piece in learnt) <= 372
    assert Tokenizer.train(lines, [], kind="char", **settings).source.vocab_size == 1000


def test_too_many_words_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [f"frequent words {i}x often {i * i}y" for i in range(20_000)]
    store = LineStore()
    store.add(lines, form="nfc", kind="bpe")
    monkeypatch.setattr(vocabulary, "WORD_CHARACTERS", 20_000)
    counts, complete = store.words()
    assert not complete
    assert sum(map(len, counts)) <= 20_000
    assert counts["frequent"] == counts["often"] == 20_000
    assert len(counts) > 1000
    settings: Any = {"joint": True, "normalize_source": "nfc", "normalize_target": "nfc"}
    side = Tokenizer.train(lines, lines, kind="bpe", vocab_size=600, **settings).source
    assert side.tokens(side.encode(["words often"])[0]) == ["▁words", "▁often"]
    assert Tokenizer.train(lines, lines, kind="unigram", vocab_size=600, **settings).source.vocab_size > 270


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
