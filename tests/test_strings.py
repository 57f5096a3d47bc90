"""Short strings: what their units are, when preprocess takes them by itself, features, and the commands."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s2scli.config import UNK, PreprocessOptions, TrainOptions
from s2scli.corpus import Lines, sample_corpus
from s2scli.errors import S2SError, UsageError
from s2scli.events import Event, Notice
from s2scli.inputs import find_inputs
from s2scli.longlines import Stretch, cut, glues
from s2scli.preprocess import preprocess
from s2scli.scoring.material import suiting
from s2scli.segmentation import CLOSED, Kind, Segmentation
from s2scli.shards import ParallelData
from s2scli.side import SideTokenizer
from s2scli.symbols import Symbols
from s2scli.tokenizer import Tokenizer
from s2scli.train import train
from s2scli.translation import length_ratio
from s2scli.translator import SearchOptions, Translator
from s2scli.window import Window
from tests.conftest import run_s2s

ROMANCE = ["café", "naïve", "garçon", "señor", "über", "Straße"]


def learn(lines: list[str], kind: Kind, **settings: Any) -> SideTokenizer:
    side = Segmentation(kind=kind, **settings)
    return Tokenizer.train(lines, ["a"], source=side, target=side, vocab_size=300, joint=False).source


# fmt: off
WORDS_EN = [
    "house", "dog", "tree", "water", "bread", "window", "freedom", "tomorrow", "seven", "beautiful",
    "understand", "yellow",
]
PHONES = [
    "k æ t", "d ɔ ɡ", "t ʃ iː z", "b ʌ t ə", "s t ɹ iː t", "h a ʊ s", "w ɔː t ə", "k ɪ t", "b ɪ ɡ",
    "d ʌ k", "t iː", "ɡ ɛ t",
]
# fmt: on


def table(path: Path, rows: list[tuple[str, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Units


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("café", "nfc", ["c", "a", "f", "é"]),
        ("café", "nfd", ["c", "a", "f", "e\u0301"]),
        ("t͡ɕʰa", "nfc", ["t͡", "ɕ", "ʰ", "a"]),
        ("क्षि", "nfc", ["क्षि"]),
        ("กำ", "nfc", ["กำ"]),
        ("👩\u200d👩\u200d👧🇩🇪🇫🇷", "nfc", ["👩\u200d👩\u200d👧", "🇩🇪", "🇫🇷"]),
        ("각", "nfc", ["각"]),
        ("각", "nfd", ["\u1100", "\u1161", "\u11a8"]),
        ("a b", "nfc", ["a", " ", "b"]),
        ("", "nfc", []),
    ],
)
def test_a_character_is_what_a_reader_takes_for_one(text: str, form: Any, expected: list[str]) -> None:
    side = Segmentation(kind="character", normalize=form)
    assert side.split(*side.normal([text])) == expected
    assert Segmentation(kind="codepoint", normalize=form).split(text) == list(text)


@pytest.mark.parametrize("kind", CLOSED)
@pytest.mark.parametrize("separator", [" ", "-", "::"])
@settings(max_examples=60, deadline=None)
@given(lines=st.lists(st.text("aé각\u1100\u1161\u0301 -:<s>👩\u200d़", min_size=1), min_size=1, max_size=8))
def test_decoding_gives_back_every_line_of_known_symbols(
    kind: Kind, separator: str, lines: list[str]
) -> None:
    for form in ("nfc", "nfd", "none"):
        side = learn(lines, kind, normalize=form, separator=separator)
        ids = side.encode(lines)
        assert side.decode(ids) == [side.normalize(line) for line in lines]
        assert all(UNK not in line for line in ids)
        assert [side.unknown(line) for line in lines] == [[] for _ in lines]


def test_symbols_stand_between_separators() -> None:
    side = learn(["k·æ·t", "d·ɔ·ɡ"], "symbol", separator="·")
    assert side.tokens(*side.encode(["·k··ɔ·"])) == ["k", "ɔ"]
    assert side.decode(side.encode(["d·æ·ɡ"])) == ["d·æ·ɡ"]
    assert side.word_of_token(side.encode(["d·æ·ɡ"])[0]) == [0, 1, 2]
    assert side.vocab_size == 4 + 6


def test_what_is_unknown_is_one_token_and_named() -> None:
    symbols, characters = learn(["k æ t"], "symbol"), learn(["cat"], "character")
    (ids,) = symbols.encode(["k q̈ t q̈"])
    assert [i == UNK for i in ids] == [False, True, False, True]
    assert symbols.decode([ids]) == ["k <unk> t <unk>"]
    assert symbols.unknown("k q̈ t q̈") == ["q̈", "q̈"]
    (ids,) = characters.encode(["cäöt"])
    assert ids.count(UNK) == 2
    assert characters.decode([ids]) == ["c\ufffd\ufffdt"]
    assert characters.unknown("cäöt") == ["ä", "ö"]


@pytest.mark.parametrize("given_form", ["NFC", "NFD"])
@pytest.mark.parametrize("used", ["nfc", "nfd"])
def test_text_comes_back_in_the_form_in_which_it_was_given(
    tmp_path: Path, given_form: Any, used: str
) -> None:
    words = [unicodedata.normalize(given_form, word) for word in ROMANCE]
    table(tmp_path / "train.tsv", [(str(i), word) for i, word in enumerate(words * 20)])
    run(tmp_path, normalize_tgt=used, unit_src="character", unit_tgt="character")
    target = Tokenizer.load(tmp_path / "run/data/tokenizer.json").target
    assert target.decode(target.encode(words)) == words
    assert target.normalize(words[0]) == unicodedata.normalize(used.upper(), words[0])  # type: ignore[arg-type]


def test_text_in_both_forms_is_left_as_it_is(tmp_path: Path) -> None:
    words = [unicodedata.normalize(form, word) for word in ROMANCE for form in ("NFC", "NFD")]  # type: ignore[arg-type]
    table(tmp_path / "train.tsv", [(str(i), word) for i, word in enumerate(words * 20)])
    run(tmp_path, unit_src="character", unit_tgt="character")
    target = Tokenizer.load(tmp_path / "run/data/tokenizer.json").target
    assert target.segmentation.written is None
    assert target.decode(target.encode(words)) == [unicodedata.normalize("NFC", word) for word in words]


# Features

TAGGED = ["walk\tV;PST", "walk\tN;PL", "A\tA;V.PTCP", "be\t V ; PRS;;3 "]


@pytest.mark.parametrize("kind", ["character", "bpe", "word"])
@pytest.mark.parametrize("joint", [False, True])
def test_tags_are_symbols_of_their_own(kind: Kind, joint: bool, tmp_path: Path) -> None:
    source = Segmentation(kind=kind, features=True)
    tokenizer = Tokenizer.train(
        TAGGED, ["walked"], source=source, target=Segmentation(kind=kind), vocab_size=400, joint=joint
    )
    tokenizer.save(tmp_path / "tokenizer.json")
    side = Tokenizer.load(tmp_path / "tokenizer.json").source
    assert side.tags == ["3", "A", "N", "PL", "PRS", "PST", "V", "V.PTCP"]
    assert side.normalize(TAGGED[3]) == "be\tV;PRS;3"
    (ids,) = side.encode(["A\tA;V.PTCP"])
    assert side.tokens(ids)[-2:] == ["[A]", "[V.PTCP]"]
    assert len(set(ids)) == len(ids)  # the letter A, or the word, is another token than the tag
    assert side.decode([ids]) == ["A"]
    assert side.word_of_token(ids)[-3:] == [0, 1, 2]
    # The two forms of a lemma differ in their tags alone.
    first, second = side.encode(TAGGED[:2])
    assert first[:-2] == second[:-2]
    assert first[-2:] != second[-2:]
    # A line of text cannot spell a tag.
    assert max(side.encode(["[A] V;PST"])[0]) < side.vocab_size - len(side.tags)
    target = tokenizer.target
    assert target.vocab_size == (side.vocab_size if joint else target.vocab_size)
    assert target.segmentation.features is False


def test_tags_that_are_unknown_or_missing() -> None:
    source = Segmentation(kind="character", features=True)
    side = Tokenizer.train(
        TAGGED, ["x"], source=source, target=Segmentation(kind="character"), vocab_size=300, joint=False
    ).source
    assert side.encode(["be\tV;FUT"])[0][-1] == UNK
    assert side.unknown("bé\tV;FUT") == ["é", "[FUT]"]
    assert side.encode(["be"])[0][-1] == UNK
    assert side.unknown("be") == ["[no tags]"]
    assert side.encode(["", "\tV;PST", "  \tV"]) == [[], [], []]
    assert side.normalize("\tV;PST") == ""


# The command


def run(folder: Path, *, events: list[Event] | None = None, **options: Any) -> dict[str, Any]:
    """Preprocess ``train.tsv`` of a folder, and ``dev.tsv`` if there is one."""
    options["train"] = (folder / "train.tsv",)
    if (folder / "dev.tsv").exists():
        options["dev"] = (folder / "dev.tsv",)
    heard: list[Event] = [] if events is None else events
    return preprocess(PreprocessOptions(run=folder / "run", force=True, **options), heard.append)


def said(events: list[Event], *, warning: bool = False) -> str:
    return "\n".join(e.text for e in events if isinstance(e, Notice) and e.warning == warning)


def test_what_was_chosen_is_said_and_reported(tmp_path: Path) -> None:
    table(
        tmp_path / "train.tsv",
        [(f"{w}{i}", p) for i, (w, p) in enumerate(zip(WORDS_EN * 20, PHONES * 20, strict=True))],
    )
    table(tmp_path / "dev.tsv", [("dog", "d ɔ ɡ"), ("Dog", "d X ɡ"), ("DOG", "X Y")])
    events: list[Event] = []
    report = run(tmp_path, events=events)
    assert "characters on the source and symbols (21 different) on the target" in said(events)
    assert "--unit-src and --unit-tgt choose otherwise" in said(events)
    facts = report["tokenizer"]
    assert facts["units"] == {"source": "character", "target": "symbol"}
    assert (facts["features"], facts["automatic"], facts["joint"]) == (False, True, False)
    assert facts["target_vocab"] == 4 + 21
    assert report["unknown"]["train"]["source"] == {"lines": 0, "tokens": 0}
    assert report["unknown"]["dev"]["target"] == {"lines": 2, "tokens": 3, "most": {"X": 2, "Y": 1}}
    assert report["unknown"]["dev"]["source"]["most"] == {"D": 2, "O": 1, "G": 1}
    warnings = said(events, warning=True)
    assert "Symbols of the dev target that are not in the vocabulary, 3 in all: X (2), Y (1)" in warnings
    # The held-out text is as it was given.
    assert list(Lines(tmp_path / "run/data/dev.target.txt")) == ["d ɔ ɡ", "d X ɡ", "X Y"]
    events.clear()
    report = run(tmp_path, events=events, unit_src="subword", unit_tgt="subword")
    assert "short strings" not in said(events)
    assert report["tokenizer"]["units"] == {"source": "bpe", "target": "bpe"}
    assert report["tokenizer"]["automatic"] is False


def test_symbols_beyond_the_vocabulary_are_told(tmp_path: Path) -> None:
    rows = [(f"w{i}", f"x{i} x{i + 1}") for i in range(400)]
    table(tmp_path / "train.tsv", rows)
    events: list[Event] = []
    report = run(tmp_path, events=events, unit_tgt="symbol", vocab_size=300)
    assert report["tokenizer"]["target_vocab"] == 300
    assert report["unknown"]["train"]["target"]["tokens"] > 0
    assert "Symbols of the train target that are not in the vocabulary" in said(events)


def test_words_without_strings_on_the_other_side_are_told(tmp_path: Path) -> None:
    table(tmp_path / "train.tsv", [(f"{w}{i}", "the " + w) for i, w in enumerate(WORDS_EN * 20)])
    events: list[Event] = []
    run(tmp_path, events=events)
    assert "taken for sentences. For strings, choose --unit-src and --unit-tgt" in said(events)


def test_hangul_is_taken_apart_by_itself(tmp_path: Path) -> None:
    korean = ["가감", "강수량", "가게", "국물", "독립", "학교", "한글", "사람"]
    table(
        tmp_path / "train.tsv",
        [(w + x, p) for w, p in zip(korean, PHONES[:8], strict=True) for x in korean] * 2,
    )
    events: list[Event] = []
    report = run(tmp_path, events=events)
    assert report["normalize"] == {"source": "nfd", "target": "nfc"}
    assert "Hangul on the source is taken apart into its letters (nfd); --normalize-src nfc keeps" in said(
        events
    )
    source = Tokenizer.load(tmp_path / "run/data/tokenizer.json").source
    assert len(source.encode(["각"])[0]) == 3
    for options in ({"normalize_src": "nfc"}, {"normalize": "nfkc"}, {"unit_src": "subword"}):
        events.clear()
        report = run(tmp_path, events=events, **options)
        assert report["normalize"]["source"] != "nfd"
        assert "taken apart" not in said(events)
    events.clear()
    report = run(tmp_path, events=events, columns="2,1")
    assert report["normalize"] == {"source": "nfc", "target": "nfd"}
    assert "Hangul on the target is taken apart" in said(events)
    target = Tokenizer.load(tmp_path / "run/data/tokenizer.json").target
    (ids,) = target.encode(["각"])
    assert len(ids) == 3
    assert target.decode([ids]) == ["각"]  # put together again
    assert run(tmp_path, columns="2,1", normalize_tgt="nfc")["normalize"]["target"] == "nfc"


def test_many_symbols_for_one_character_are_not_out_of_proportion(tmp_path: Path) -> None:
    rows = [(chr(0x4E00 + i), "ʈ͡ʂʰ u a ŋ ˥ ˥ ˩ ˩ ˥") for i in range(60)]
    table(tmp_path / "train.tsv", [*rows, ("x", "y"), ("y", "z")])
    assert run(tmp_path)["dropped"]["ratio"] == 0
    assert run(tmp_path, unit_src="subword", unit_tgt="subword")["dropped"]["ratio"] == 60


@pytest.mark.parametrize(
    ("options", "where", "message"),
    [
        ({"separator_tgt": ""}, "--separator-tgt", "one character or more"),
        ({"separator_src": "\n"}, "--separator-src", "no line break"),
        (
            {"joint": True, "unit_src": "character", "unit_tgt": "symbol"},
            "--joint",
            "units of the sides differ",
        ),
        ({"columns": "1,2,3,4"}, "--columns", "does not name two columns"),
    ],
)
def test_options_that_cannot_be(tmp_path: Path, options: Any, where: str, message: str) -> None:
    table(tmp_path / "train.tsv", [(f"{w}{i}", "a b") for i, w in enumerate(WORDS_EN * 5)])
    with pytest.raises(UsageError, match=message) as caught:
        run(tmp_path, **options)
    assert caught.value.where == where
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


def test_features_come_from_a_table(tmp_path: Path) -> None:
    path = table(tmp_path / "train.tsv", [("walk", "walked", "V;PST"), ("walk", "walks")])
    with pytest.raises(
        S2SError, match=r"train\.tsv:2: the line has 2 columns, and column 3 is needed.*features"
    ):
        run(tmp_path, columns="1,2,3")
    with pytest.raises(UsageError, match="a third column, of features, is read from a TSV only"):
        preprocess(
            PreprocessOptions(run=tmp_path / "run", columns="1,2,3", train_src=(path,), train_tgt=(path,))
        )


def test_features_that_nothing_reads_are_told(tmp_path: Path) -> None:
    table(tmp_path / "train.tsv", [(f"{w}{i}", w, "V;PST") for i, w in enumerate(WORDS_EN * 5)])
    for options, told in (({}, True), ({"columns": "1,2,3"}, False), ({"columns": "1,3"}, False)):
        events: list[Event] = []
        run(tmp_path, events=events, **options)
        assert ("--columns 1,2,3 takes it for features" in said(events, warning=True)) == told


# From a table to translations


@pytest.fixture(scope="module")
def inflection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model of the bundled inflected forms, trained a little. Do not write into it."""
    folder = tmp_path_factory.mktemp("inflection")
    data = sample_corpus("inflection")
    tables = [x for s in ("train", "dev", "test") for x in (f"--{s}", data / f"{s}.tsv")]
    done = run_s2s("preprocess", "--run", folder / "run", "--columns", "1,2,3", *tables)
    assert done.returncode == 0, done.stderr
    assert "8 different tags" in done.stderr
    assert "26 characters for both sides" in done.stderr
    settings: dict[str, Any] = {"hidden": 64, "embedding": 32, "batch_tokens": 1000, "dropout": 0.0}
    limits: dict[str, Any] = {"max_steps": 250, "validate_every": 250, "learning_rate": 0.01}
    train(TrainOptions(run=folder / "run", threads=1, precision="fp32", **settings, **limits))
    return folder / "run"


@pytest.fixture(scope="module")
def translator(inflection: Path) -> Translator:
    return Translator.load(inflection, device="cpu", precision="fp32", threads=1)


def test_held_out_text_carries_its_features(inflection: Path) -> None:
    lines = list(Lines(inflection / "data/test.source.txt"))
    assert "ability\tN;PL" in lines
    report = json.loads((inflection / "data/report.json").read_text(encoding="utf-8"))
    assert report["tokenizer"]["features"] is True
    assert report["tokenizer"]["tags"] == 8
    assert report["overlap"]["test"] == 0
    data = ParallelData.open(inflection / "data", "test")
    tokenizer = Tokenizer.load(inflection / "data/tokenizer.json")
    i = lines.index("ability\tN;PL")
    assert tokenizer.source.tokens(data.source(i).tolist()) == [*"ability", "[N]", "[PL]"]
    assert data.target_text(i) == "abilities"


def test_a_lemma_with_two_tags_has_two_results(translator: Translator) -> None:
    participle, plural = translator.translate(["walk\tV;V.PTCP;PRS", "walk\tN;PL"])
    assert participle.endswith("ing")
    assert plural.endswith("s")


def test_odd_input_gets_a_result_and_a_warning(inflection: Path) -> None:
    lines = ["walk\tV;FUT", "wälk\tV;PST", "", "\tV;PST", "walk", "wälk\tV;PST", "ab" * 300 + "\tV"]
    text = "".join(f"{line}\n" for line in lines)
    done = run_s2s("translate", "--run", inflection, "--threads", 1, "--beam", 1, stdin=text)
    assert done.returncode == 0
    results = done.stdout.split("\n")[:-1]
    assert [bool(line) for line in results] == [True, True, False, False, True, True, True]
    told = " ".join(done.stderr.split())
    assert "not in the vocabulary: ä (2), [FUT] (1), [no tags] (1)" in told
    assert "translated in pieces: 1 line" in told


def test_white_space_around_a_string_is_no_part_of_it(translator: Translator) -> None:
    plain, *padded = translator.translate(
        ["walk\tV;PST", " walk\tV;PST", "walk \tV;PST", "\u00a0walk\u3000\tV;PST"]
    )
    assert padded == [plain] * 3
    symbols = Segmentation(kind="symbol", separator=".")
    assert symbols.normal([" AA . R.  D .", "a. .b", " .a"]) == [
        "AA.R.D",
        "a. .b",
        " .a",
    ]  # a space may be one
    wide = Segmentation(kind="symbol", separator=" | ")
    assert wide.normal(["a | b | ", " | a | b"]) == ["a | b"] * 2


def test_unknown_white_space_is_named(inflection: Path) -> None:
    done = run_s2s(
        "translate", "--run", inflection, "--threads", 1, "--beam", 1, stdin="wa lk\u00a0ed\tV;PST\n"
    )
    assert "not in the vocabulary: U+0020 (1), U+00A0 (1)" in " ".join(done.stderr.split())


def test_each_piece_of_a_long_string_has_its_features(translator: Translator) -> None:
    (best,) = next(translator.hypotheses(["ab" * 300 + "\tV;PST"], SearchOptions(beam=1)))
    side = translator.tokenizer.source
    pieces = [side.tokens(piece.source) for piece in best.pieces]
    assert len(pieces) > 1
    assert all(piece[-2:] == ["[V]", "[PST]"] and len(piece) > 2 for piece in pieces)
    assert "".join(symbol for piece in pieces for symbol in piece[:-2]) == "ab" * 300
    assert max(map(len, pieces)) <= translator.max_source_length


def joined(texts: list[str], torn: list[bool], target: SideTokenizer) -> str:
    pieces = [Stretch(ids=[5], inside=part, torn=part) for part in torn]
    return "".join(g + t for g, t in zip(glues(texts, pieces, target), texts, strict=True))


def test_a_long_string_of_symbols_stays_one_string() -> None:
    symbols = Segmentation(kind="symbol")
    source = SideTokenizer(symbols, Symbols(["A", "B"], symbols), [])
    pieces = cut("A B " * 5, source, 3)
    assert [len(piece.ids) for piece in pieces] == [3, 3, 3, 1] and not any(p.inside for p in pieces)
    letters = Segmentation(kind="codepoint")
    target = SideTokenizer(letters, Symbols(["x", "y"], letters), [])
    assert list(glues(["x", "y", "x", "y"], pieces, target)) == ["", "", "", ""]


@pytest.mark.parametrize("separator", [" ", "  ", "\t", "\u3000", "|"])
def test_a_long_string_is_cut_between_its_symbols(separator: str) -> None:
    symbols = Segmentation(kind="symbol", separator=separator)
    source = SideTokenizer(symbols, Symbols(["A", "B"], symbols), [])
    (line,) = source.normalize_all([separator.join("AB" * 5) + separator])
    (ids,) = source.encode_normalized([line])
    assert [i for piece in cut(line, source, 3) for i in piece.ids] == ids and UNK not in ids


def test_a_string_without_its_runs_of_spaces_is_as_long_as_one_that_never_had_them() -> None:
    letters = Segmentation(kind="codepoint")
    side = SideTokenizer(letters, Symbols([*"AB "], letters), [])
    spaced, plain = (Window([("AB" + gap) * 30], side, 20).pieces for gap in ("      ", " "))
    assert [piece.ids for piece in spaced[0]] == [piece.ids for piece in plain[0]] and len(spaced[0]) == 1


@pytest.mark.parametrize("separator", [" ", "|"])
def test_units_stay_separated_between_pieces(separator: str) -> None:
    segmentation = Segmentation(kind="symbol", separator=separator)
    target = SideTokenizer(segmentation, Symbols(["A", "B"], segmentation), [])
    texts = [separator.join("AB"), "", "A", separator.join("BA")]
    whole = joined(texts, [False, False, True, False], target)
    assert segmentation.split(whole) == [*"ABABA"]
    characters = Segmentation(kind="codepoint")
    target = SideTokenizer(characters, Symbols(["A", "B"], characters), [])
    assert joined(["AB", "", "A", "B"], [False, False, True, False], target) == "ABA B"


def test_a_string_somewhat_longer_than_any_in_training_is_not_cut(translator: Translator) -> None:
    (best,) = next(translator.hypotheses(["a.b! " * 10 + "\tV;PST"], SearchOptions(beam=1)))
    assert len(best.pieces) == 1
    assert translator.tokenizer.source.tokens(best.pieces[0].source)[-2:] == ["[V]", "[PST]"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["walk\twalked\tV;PST"], "third column, such as V;PST, is not read; --columns 1,2,3"),
        (["Lemma\tform\ttags", "walk\twalked\tV;PST"], "third column, such as V;PST"),
        (["walk\twalked\tV|PST"], "such as V|PST, is not read"),
        (["walk\twalked\tV;PRS;NOM(3,SG)"], "such as V;PRS;NOM(3,SG), is not read"),
        (["walk\tV;PST\twalked"], "second column, such as V;PST, is taken for the target; --columns 1,3,2"),
        (["walk\twalked\tnoun"], "Columns beyond the second, such as noun, are not read"),
        (["word\tpron", "walk\tw ɔ k"], "The first row looks like names of columns and is read as a pair"),
        (["word\tw ɜː d", "walk\tw ɔ k"], None),
        (["walk\twalked\tnoun", "a\tb"], None),
        (["a\tb"], None),
    ],
)
def test_features_that_nothing_reads_are_noticed(rows: list[str], said: str | None, tmp_path: Path) -> None:
    heard = noticed(rows, tmp_path)
    assert len(heard) == (said is not None) + rows[0].startswith("Lemma")
    assert said is None or said in heard[-1]


@pytest.mark.parametrize(
    ("rows", "columns", "said"),
    [
        (["walk\tV;PST\twalked"], "1,2,3", "Column 2 looks like features, such as V;PST, and is taken for"),
        (["walk\twalked\tV|PST"], "1,2,3", "V|PST is a single one. Write V;PST"),
        (["walk\tV;PST\twalked"], "1,3,2", None),
        (["walk\twalked\tV"], "1,2,3", None),
        (["word\tform", "walk\twalked"], "word,form", None),
        (["word\tform", "walk\twalked"], "2,1", "The first row looks like names of columns"),
    ],
)
def test_columns_that_are_something_else_are_noticed(
    rows: list[str], columns: str, said: str | None, tmp_path: Path
) -> None:
    heard = noticed(rows, tmp_path, columns=columns)
    assert len(heard) == (said is not None) and (said is None or said in heard[0])


def noticed(rows: list[str], folder: Path, **options: str) -> list[str]:
    (folder / "t.tsv").write_text("".join(row + "\n" for row in rows))
    heard: list[str] = []
    find_inputs(PreprocessOptions(train=(folder / "t.tsv",), **options), lambda e: heard.append(e.text))
    return heard


def test_long_targets_of_short_sources_are_not_cut() -> None:
    sources, targets = np.full(1000, 4, dtype=np.int32), np.full(1000, 40, dtype=np.int32)
    assert length_ratio(sources, targets) == pytest.approx(1.2 * 31 / 5, abs=0.06)
    assert length_ratio(targets, sources) == 3.0
    sources[0], targets[0] = 1, 4000  # one pair that is none decides nothing
    assert length_ratio(sources, targets) < 10
    targets[:] = 30_000  # a ratio that no model could be loaded with again
    assert length_ratio(sources, targets) == 100.0


def test_the_ratio_of_the_training_goes_with_the_model(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2scli.searcher.SLACK", 0)
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = run / "best" / "config.json"
    content = json.loads(path.read_text())
    assert content["length_ratio"] == 3.0
    path.write_text(json.dumps({**content, "length_ratio": 0.3}))
    translated = [Translator.load(folder, precision="fp32").translate(["a b c"]) for folder in (trained, run)]
    assert [len(line.split()) for (line,) in translated] == [3, 1]  # 0.3 of four tokens
    assert Translator.load([trained, run]).length_ratio == 3.0
    del content["length_ratio"]  # written by an earlier version
    path.write_text(json.dumps(content))
    assert Translator.load(run).length_ratio == 3.0


SENTENCES = ["This is a sentence.", "And this is another one."]


@pytest.mark.parametrize(
    ("source", "kind", "separator", "sources", "references", "metrics"),
    [
        ("codepoint", "symbol", " ", ["cat"], ["k æ t"], "wer,per"),
        ("codepoint", "symbol", ".", ["cat"], ["k.æ.t"], "wer,cer"),
        ("codepoint", "codepoint", " ", ["cat"], ["chat"], "wer,cer"),
        ("codepoint", "codepoint", " ", ["one hundred and seventy two"], ["172"], "wer,cer"),
        ("codepoint", "codepoint", " ", ["John Smith"], ["Джон Смит"], "wer,cer"),
        ("symbol", "codepoint", " ", ["n u j ɔ k"], ["New York"], "wer,cer"),
        # Sentences may be split into characters too.
        ("codepoint", "codepoint", " ", SENTENCES, SENTENCES, "bleu,chrf,ter"),
        ("codepoint", "codepoint", " ", ["我们去公园吧。"], ["Let us go."], "bleu,chrf,ter"),
        ("word", "codepoint", " ", SENTENCES, SENTENCES, "bleu,chrf,ter"),
        ("word", "word", " ", ["two words"], ["a b"], "bleu,chrf,ter"),
    ],
)
def test_strings_are_scored_as_strings(
    source: Kind, kind: Kind, separator: str, sources: list[str], references: list[str], metrics: str
) -> None:
    sides = [Segmentation(kind=source), Segmentation(kind=kind, separator=separator)]
    read, written = (SideTokenizer(side, Symbols(["A", "B"], side), []) for side in sides)
    assert suiting(Tokenizer(read, written, joint=False), sources, references) == metrics


def test_score_takes_the_metrics_of_strings_by_itself(inflection: Path) -> None:
    given = ["score", "--run", inflection, "--set", "dev", "--beam", 1, "--resamples", 0]
    done = run_s2s(*given, "--json")
    assert [score["metric"] for score in json.loads(done.stdout)["systems"][0]["scores"]] == ["wer", "cer"]
    assert run_s2s(*given[:-2], "--per-line").stdout.splitlines()[0] == "line\twer\tcer"
    asked = run_s2s(*given, "--json", "--tokenize", "char")
    assert json.loads(asked.stdout)["systems"][0]["scores"][0]["metric"] == "bleu"
    chosen = run_s2s(*given, "--json", "--metric", "acc")
    assert [score["metric"] for score in json.loads(chosen.stdout)["systems"][0]["scores"]] == ["acc"]
