"""Strings are told from sentences, and sentences are never taken for strings."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from s2scli.config import PreprocessOptions
from s2scli.corpus import Lines, sample_corpus
from s2scli.errors import UsageError
from s2scli.parallel import Parallel, Part
from s2scli.unitchoice import choose

# fmt: off
CHINESE = [
    "我们明天去公园散步。", "他昨天买了一本新书", "请把窗户打开", "这个问题很难回答。",
    "上海今天有大雨", "新机场下月开放", "股市连续三天下跌", "孩子们在院子里玩",
    "她会说三种语言。", "火车晚点了两个小时", "专家谈气候变化", "你为什么不告诉我？",
]
JAPANESE = [
    "明日は雨が降るでしょう。", "彼は新しい車を買った。", "駅まで歩いて十分かかります",
    "昨日の会議は長かった", "窓を開けてください。", "子供たちは公園で遊んでいる",
    "この問題は難しい", "東京の人口が減少",
    "新しい空港が来月開業へ",
]
THAI = [
    "วันนี้อากาศดีมาก", "เขาซื้อรถคันใหม่เมื่อวานนี้", "กรุณาเปิดหน้าต่าง", "ฉันชอบกินข้าวผัด",
]
KOREAN = [
    "오늘은 날씨가 좋다.", "창문을 열어 주세요", "그는 새 차를 샀다", "내일 회의가 있습니다",
]
ENGLISH = [
    "The weather is fine today.", "Please open the window", "Stocks fall again", "He bought a car",
    "Why?",
]
WORDS_EN = [
    "house", "dog", "tree", "water", "bread", "window", "freedom", "tomorrow", "seven", "beautiful",
    "understand", "yellow",
]
WORDS_FR = [
    "maison", "chien", "arbre", "eau", "pain", "fenêtre", "liberté", "demain", "sept", "beau",
    "comprendre", "jaune",
]
WORDS_ZH = [
    "房子", "狗", "树", "水", "面包", "窗户", "自由", "明天", "七", "美丽", "明白", "图书馆",
]
WORDS_JA = [
    "いえ", "いぬ", "き", "みず", "パン", "まど", "じゆう", "あした",
    "なな", "うつくしい", "わかる", "としょかん",
]
KATAKANA = [
    "インターネット", "コンピューター", "アイスクリーム", "サンドイッチ", "ヨーロッパ", "マンション",
]
PHONES = [
    "k æ t", "d ɔ ɡ", "t ʃ iː z", "b ʌ t ə", "s t ɹ iː t", "h a ʊ s", "w ɔː t ə", "k ɪ t", "b ɪ ɡ",
    "d ʌ k", "t iː", "ɡ ɛ t",
]
TOY = [
    "the cat sat", "a dog ran", "the dog sat", "a cat ran", "the hen sat",
]
# fmt: on


def stretched(lines: list[str], count: int = 600) -> list[str]:
    """So many lines, of these in turn."""
    return [lines[i % len(lines)] for i in range(count)]


def write_table(path: Path, rows: list[tuple[str, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def chosen(path: Path, source: list[str], target: list[str], **options: Any) -> tuple[str, str]:
    """The kinds that are chosen for a text."""
    write_table(path / "pairs.tsv", list(zip(source, target, strict=True)))
    train = Parallel(parts=[Part(source=path / "pairs.tsv", columns=options.get("columns", "1,2"))])
    plan = choose(PreprocessOptions(**options), train, lambda event: None)
    return plan.source.kind, plan.target.kind


@pytest.mark.parametrize(
    ("source", "target", "kinds"),
    [
        (WORDS_EN, PHONES, ("character", "symbol")),
        (PHONES, WORDS_EN, ("symbol", "character")),
        (WORDS_ZH, PHONES, ("character", "symbol")),
        (WORDS_EN, WORDS_FR, ("character", "character")),
        (WORDS_EN, WORDS_ZH, ("character", "character")),
        (WORDS_ZH, WORDS_JA, ("character", "character")),
        (KATAKANA, WORDS_EN[:6], ("character", "character")),
        (ENGLISH, KOREAN, ("bpe", "bpe")),
        (KOREAN, ENGLISH, ("bpe", "bpe")),
        (CHINESE, ENGLISH, ("bpe", "bpe")),
        (ENGLISH, CHINESE, ("bpe", "bpe")),
        (CHINESE, JAPANESE, ("bpe", "bpe")),
        (JAPANESE, CHINESE, ("bpe", "bpe")),
        (THAI, CHINESE, ("bpe", "bpe")),
        (JAPANESE, KOREAN, ("bpe", "bpe")),
        (TOY, WORDS_FR, ("bpe", "bpe")),  # a sentence and a label
        (TOY, TOY, ("bpe", "bpe")),
        (WORDS_EN, TOY, ("bpe", "bpe")),  # a word and its gloss
        (PHONES, PHONES, ("bpe", "bpe")),  # as short as toy sentences may be
    ],
)
def test_strings_are_told_from_sentences(
    tmp_path: Path, source: list[str], target: list[str], kinds: tuple[str, str]
) -> None:
    # Words must be many, as in a dictionary: each gets a number in letters.
    def varied(lines: list[str]) -> list[str]:
        if lines in (WORDS_EN, WORDS_FR):
            return [f"{w}{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}" for i, w in enumerate(stretched(lines))]
        if lines == WORDS_ZH:
            return [f"{w}{chr(0x4E00 + i)}" for i, w in enumerate(stretched(lines))]
        return stretched(lines)

    assert chosen(tmp_path, varied(source), varied(target)) == kinds


def test_the_bundled_data_are_told_apart(tmp_path: Path) -> None:
    corpus = sample_corpus()
    english, korean = (list(Lines(corpus / f"train.{language}")) for language in ("en", "ko"))
    assert chosen(tmp_path, english, korean) == ("bpe", "bpe")
    assert chosen(tmp_path, korean, english) == ("bpe", "bpe")
    words, phones = zip(*(line.split("\t") for line in Lines(corpus / "cmudict/train.tsv")), strict=True)
    assert chosen(tmp_path, list(words), list(phones)) == ("character", "symbol")
    assert chosen(tmp_path, list(phones), list(words)) == ("symbol", "character")
    # A glossary before the sentences does not make them strings.
    assert chosen(tmp_path, [*words[:6000], *english], [*words[:6000], *korean]) == ("bpe", "bpe")
    # A few phrases among words do not make these sentences.
    some = [*words[:960], *(" ".join(words[i : i + 2]) for i in range(40))]
    assert chosen(tmp_path, some, list(words[:1000])) == ("character", "character")


def test_what_is_given_decides(tmp_path: Path) -> None:
    words, phones = [f"{w}{i}" for i, w in enumerate(stretched(WORDS_EN))], stretched(PHONES)
    text = stretched(ENGLISH)
    for options, kinds in (
        ({"unit_src": "codepoint"}, ("codepoint", "symbol")),
        ({"unit_tgt": "subword"}, ("character", "bpe")),
        ({"unit_src": "subword", "unit_tgt": "subword"}, ("bpe", "bpe")),
        ({"tokenizer": "unigram"}, ("unigram", "unigram")),
        ({"tokenizer": "char"}, ("codepoint", "codepoint")),
        ({"tokenizer": "word", "unit_src": "character"}, ("character", "word")),
        ({"unit_src": "word", "unit_tgt": "symbol"}, ("word", "symbol")),
    ):
        assert chosen(tmp_path, words, phones, **options) == kinds
    # A separator says that there are symbols, however they look.
    dotted = [phone.replace(" ", ".") for phone in phones]
    for options in ({}, {"unit_tgt": "symbol"}):
        assert chosen(tmp_path, words, dotted, separator_tgt=".", **options) == ("character", "symbol")
    for options in ({"unit_tgt": "subword"}, {"tokenizer": "bpe"}, {"tokenizer": "char"}):
        with pytest.raises(UsageError, match="--separator-tgt: only symbols have a separator"):
            chosen(tmp_path, words, dotted, separator_tgt=".", **options)
    # Symbols that are too many to be seen: what is said of one side helps to see the other.
    syllables = [f"ping{i % 400} guo{i % 399}" for i in range(len(words))]
    assert chosen(tmp_path, words, syllables) == ("bpe", "bpe")
    assert chosen(tmp_path, words, syllables, unit_tgt="symbol") == ("character", "symbol")
    assert chosen(tmp_path, text, text, unit_src="character") == ("character", "bpe")


def test_spaces_around_symbols_and_between_them_are_no_matter(tmp_path: Path) -> None:
    words = [f"{w}{i}" for i, w in enumerate(stretched(WORDS_EN))]
    for change in ("{} ", " {}"):
        assert chosen(tmp_path, words, [change.format(p) for p in stretched(PHONES)]) == (
            "character",
            "symbol",
        )
    spaced = [p.replace(" ", "  ") for p in stretched(PHONES)]
    assert chosen(tmp_path, words, spaced) == ("character", "symbol")
    assert chosen(tmp_path, [f" {w}" for w in words], stretched(PHONES)) == ("character", "symbol")


def test_a_separator_that_no_line_holds_is_told(tmp_path: Path) -> None:
    words = [f"{w}{i}" for i, w in enumerate(stretched(WORDS_EN))]
    for separator, told in (("+", True), (".", False)):
        write_table(
            tmp_path / "t.tsv",
            [(w, p.replace(" ", ".")) for w, p in zip(words, stretched(PHONES), strict=True)],
        )
        heard: list[Any] = []
        train = Parallel(parts=[Part(source=tmp_path / "t.tsv", columns="1,2")])
        choose(PreprocessOptions(separator_tgt=separator), train, heard.append)
        assert any("No line holds the separator of --separator-tgt" in e.text for e in heard) == told


def test_characters_of_many_parts_are_taken_apart(tmp_path: Path) -> None:
    letters, signs = "कखगघचछजझतथदधनपफबभमयरलवशसह", ["", "ा", "ि", "ी", "ु", "ू", "े", "ै", "ो", "ौ"]
    draw = random.Random(1)
    syllables = [[(draw.choice(letters), draw.choice(signs)) for _ in range(3)] for _ in range(500)]
    words = ["".join(a + b for a, b in word) for word in syllables]
    phones = [" ".join(str(letters.index(a)) for a, _ in word) for word in syllables]
    assert chosen(tmp_path, words, phones) == ("codepoint", "symbol")
    assert chosen(tmp_path, phones, words) == ("symbol", "codepoint")
    assert chosen(tmp_path, words, phones, unit_src="character") == ("character", "symbol")
    # A few letters with accents are not many.
    french = [unicodedata.normalize("NFD", f"{w}{i}") for i, w in enumerate(stretched(WORDS_FR))]
    assert chosen(tmp_path, french, stretched(PHONES)) == ("character", "symbol")


def test_targets_in_no_normal_form_are_kept_as_they_are(tmp_path: Path) -> None:
    words = stretched(WORDS_EN)
    # Shadda is typed before the vowel, and stands behind it in both normal forms.
    for target, form in (("\u0628\u0651\u064e", "none"), ("\u0628\u064e\u0651", "nfc"), ("e\u0301", "nfc")):
        targets = [target * (1 + i % 4) for i in range(len(words))]
        write_table(tmp_path / "t.tsv", list(zip(words, targets, strict=True)))
        for options, expected in (
            ({}, form),
            ({"normalize_tgt": "nfc"}, "nfc"),
            ({"normalize": "nfd"}, "nfd"),
        ):
            train = Parallel(parts=[Part(source=tmp_path / "t.tsv", columns="1,2")])
            plan = choose(PreprocessOptions(**options), train, lambda event: None)
            assert plan.target.normalize == expected, (target, options)


def test_lemmas_of_two_words_are_strings_where_there_are_features(tmp_path: Path) -> None:
    lemmas = [f"{'sich ' if i % 3 == 0 else ''}{w}{i}" for i, w in enumerate(stretched(WORDS_EN))]
    assert chosen(tmp_path, lemmas, lemmas) == ("bpe", "bpe")
    rows = [(a, a, "V;PST") for a in lemmas]
    write_table(tmp_path / "t.tsv", rows)
    for columns, expected in (("1,2,3", "character"), ("1,2", "bpe")):
        train = Parallel(parts=[Part(source=tmp_path / "t.tsv", columns=columns)])
        plan = choose(PreprocessOptions(columns=columns), train, lambda event: None)
        assert (plan.source.kind, plan.target.kind) == (expected, expected)
        assert plan.source.features is (columns == "1,2,3")
