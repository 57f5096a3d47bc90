"""Which units the two sides are split into, chosen from the text where it is clear.

Strings are a table of words (pronunciations, inflected forms, names) rather than of
sentences. Sentences must never be taken for strings, so every condition has to hold, over
the whole training text; as soon as one does not, reading stops.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from s2scli.config import Normalization, PreprocessOptions, TokenizerKind, Unit
from s2scli.errors import UsageError
from s2scli.events import Listener, Notice
from s2scli.parallel import Parallel, has_features
from s2scli.segmentation import CHARACTERS, FORMS, Kind, Segmentation

Look = Literal["words", "symbols", "text"]
"""What the lines of a side look like."""

SINGLE = 0.95
"""Share of lines without a space, at least, where a side holds words…"""
SINGLE_WITH_FEATURES = 0.5
"""…and where a column of features says that its lines are lemmas or forms."""
LONGEST_WORD = (16, 32)
"""Median and 95th percentile of the length of words, in code points, at most…"""
LONGEST_UNSPACED_WORD = (6, 12)
"""…and in scripts that write sentences without spaces too."""
ENDINGS = 0.02
"""Share of lines that may end as a sentence does."""
INVENTORY = 300
"""Different symbols at most; there are some hundred phonemes with stress and length, and more words…"""
REPETITION = 5
"""…and how often a symbol occurs at least, on average…"""
SYMBOL_LENGTH = 2.5
"""…and its mean length at most, marks not counted; those of words are longer."""
SEVERAL = 0.8
"""Share of lines with two symbols or more, at least."""
DISTINCT = 0.5
"""Share of the words that differ from one another, at least, where the other side holds symbols:
a handful of words that come again and again are labels…"""
DISTINCT_LINES = 100_000
"""…and the number of lines, from the first on, that are compared for this."""
NEITHER = 0.01
"""Share of targets that are in no normal form, beyond which all of them are kept as they are written."""
HANGUL = 0.1
"""Share of Hangul among the characters of a side, at least, for it to be taken apart."""

# Katakana is left out: it writes foreign words and names, hardly ever a whole sentence.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u309f\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]"
)
_HANGUL = re.compile("[\u1100-\u11ff\uac00-\ud7a3]")
_ENDING = re.compile(r"[.!?…。！？।]$")
_MARKS = re.compile("[\u0300-\u036f\u02b0-\u02ff]")


class SideStatistics:
    """Counts of the lines of one side, blank ones left out.

    Args:
        separator: Of symbols.
    """

    def __init__(self, separator: str = " ") -> None:
        self.separator = separator
        self.lines = self.single = self.several = self.ended = self.double = 0
        self.characters = self.unspaced = self.hangul = self.neither = 0
        self.lengths: Counter[int] = Counter()
        self.symbols: Counter[str] = Counter()
        self.distinct: set[str] = set()

    def add(self, lines: Sequence[str]) -> None:
        """Count lines."""
        for line in filter(str.strip, lines):
            parts = line.split()
            self.lines += 1
            self.single += len(parts) == 1
            self.several += len(parts) > 1
            self.double += len(parts) != line.count(" ") + 1
            self.ended += bool(_ENDING.search(line))
            self.characters += len(line)
            self.lengths[len(line)] += 1
            if self.lines <= DISTINCT_LINES:
                self.distinct.add(line)
            if len(self.symbols) <= INVENTORY:
                symbols = parts if self.separator.isspace() else line.split(self.separator)
                self.symbols.update(symbol.strip() or symbol for symbol in symbols if symbol)
            if not line.isascii():
                self.neither += not any(unicodedata.is_normalized(form, line) for form in ("NFC", "NFD"))
                self.unspaced += len(_UNSPACED.findall(line))
                self.hangul += len(_HANGUL.findall(line))

    @property
    def has_hangul(self) -> bool:
        return self.hangul >= HANGUL * max(1, self.characters)

    def words(self, share: float) -> bool:
        """Whether the lines are single words, or at least ``share`` of them."""
        if not self.lines or self.single < share * self.lines or self.ended > ENDINGS * self.lines:
            return False
        limits = LONGEST_UNSPACED_WORD if self.unspaced > 0.3 * self.characters else LONGEST_WORD
        lengths = np.repeat(list(self.lengths), list(self.lengths.values()))
        found = np.percentile(lengths, (50, 95), method="lower")
        return bool((found <= limits).all())

    def are_symbols(self) -> bool:
        """Whether the lines are symbols of a small inventory with single spaces between."""
        tokens = self.symbols.total()
        if not self.lines or not 0 < len(self.symbols) <= INVENTORY:
            return False
        letters = sum(len(_MARKS.sub("", symbol)) * n for symbol, n in self.symbols.items())
        return (
            self.several >= SEVERAL * self.lines
            and self.double <= 0.01 * self.lines
            and tokens >= REPETITION * len(self.symbols)
            and letters <= SYMBOL_LENGTH * tokens
        )

    @property
    def composite(self) -> bool:
        """Whether more different characters are made of several code points than there are code points.

        So it is where signs for vowels are joined to consonants, as in Devanagari, or pointed Hebrew: most
        of such characters are too rare to be learnt as wholes, and what they are made of is not.
        """
        characters = Segmentation(kind="character")
        lines = characters.normal(line for line in self.distinct if not line.isascii())
        made = {c for line in lines for c in characters.split(line) if len(c) > 1}
        return len(made) > len(set().union(*lines))

    @property
    def varied(self) -> bool:
        """Whether most lines differ from one another."""
        return len(self.distinct) >= DISTINCT * min(self.lines, DISTINCT_LINES)


def look(
    source: SideStatistics, target: SideStatistics, *, units: tuple[Unit, Unit], features: bool
) -> tuple[Look, Look]:
    """What the sides look like: words and words, words and symbols (either way), or text and text.

    A side whose unit is given is taken to be what the unit says.
    """
    share = SINGLE_WITH_FEATURES if features else SINGLE
    sides = (source, target)
    words = [unit in CHARACTERS or side.words(share) for unit, side in zip(units, sides, strict=True)]
    if all(words):
        return "words", "words"
    symbols = [
        unit == "symbol" or (side.are_symbols() and other.varied)
        for unit, side, other in zip(units, sides, (target, source), strict=True)
    ]
    if words[0] and symbols[1]:
        return "words", "symbols"
    if symbols[0] and words[1]:
        return "symbols", "words"
    return "text", "text"


def _statistics(
    train: Parallel, *, units: tuple[Unit, Unit], separators: Sequence[str], features: bool
) -> tuple[SideStatistics, SideStatistics]:
    """Counts of the first chunk of the training text, and of the rest while it may be strings."""
    sides = (SideStatistics(separators[0]), SideStatistics(separators[1]))
    for sources, targets in train.chunks():
        texts = [line.partition("\t")[0] for line in sources] if features else sources
        for side, lines in zip(sides, (texts, targets), strict=True):
            side.add(lines)
        if "auto" not in units or look(*sides, units=units, features=features)[0] == "text":
            break
    return sides


_KINDS: dict[Look, Kind] = {"words": "character", "symbols": "symbol"}
_NAMES = {
    "character": "characters",
    "codepoint": "code points",
    "symbol": "symbols",
    "word": "words",
    "bpe": "subwords",
    "unigram": "subwords",
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How both sides are split, and whether the text decided that."""

    source: Segmentation
    target: Segmentation
    automatic: bool


def choose(options: PreprocessOptions, train: Parallel, listen: Listener) -> Plan:
    """The segmentation of both sides: as the options say, and what they leave open as the text suggests.

    Raises:
        UsageError: A separator that cannot be one.
        S2SError: Text that cannot be read.
    """
    separators = [" " if s is None else s for s in (options.separator_src, options.separator_tgt)]
    for name, separator in zip(("src", "tgt"), separators, strict=True):
        if not separator or "\n" in separator:
            what = "a separator of symbols is one character or more, and no line break"
            raise UsageError(what, where=f"--separator-{name}", hint="Leave it out for a space.")
    features = has_features(options.columns)
    units = _given(options)
    statistics = _statistics(train, units=units, separators=separators, features=features)
    seen = look(*statistics, units=units, features=features)
    learner: Kind = "unigram" if options.tokenizer == "unigram" else "bpe"
    kinds: list[Kind] = []
    for unit, looks, side in zip(units, seen, statistics, strict=True):
        if unit == "auto":
            kind = _KINDS.get(looks, learner)
            kinds.append("codepoint" if kind == "character" and side.composite else kind)
        else:
            kinds.append(learner if unit == "subword" else unit)
    if "auto" in units:
        _tell(kinds, statistics, listen)
    forms = _forms(options, kinds, statistics, listen)
    for name, kind, form, separator in zip(("src", "tgt"), kinds, forms, separators, strict=True):
        if kind == "symbol" and form != "none" and not unicodedata.is_normalized(FORMS[form], separator):
            what = f"the normal form {form} changes this separator, so that it would never be found"
            hint = f"Keep the text as it is: --normalize-{name} none."
            raise UsageError(what, where=f"--separator-{name}", hint=hint)
    source, target = (
        Segmentation(kind=kind, normalize=form, separator=separator)
        for kind, form, separator in zip(kinds, forms, separators, strict=True)
    )
    return Plan(source=replace(source, features=features), target=target, automatic="auto" in units)


def _forms(
    options: PreprocessOptions, kinds: Sequence[Kind], sides: Sequence[SideStatistics], listen: Listener
) -> list[Normalization]:
    """The Unicode normal forms: as given, but nfd for Hangul that is split into characters."""
    given = (options.normalize_src, options.normalize_tgt)
    forms: list[Normalization] = [form or options.normalize for form in given]
    if options.sets("normalize"):
        return forms
    if given[1] is None and sides[1].neither > NEITHER * sides[1].lines:
        forms[1] = "none"
        text = (
            f"Of {sides[1].lines:,} targets, {sides[1].neither:,} are in neither normal form of Unicode, so "
            "that all are kept as they are written; --normalize-tgt nfc changes that"
        )
        listen(Notice(text=text))
    whole = [i for i in (0, 1) if given[i] is None and forms[i] != "none" and kinds[i] in CHARACTERS]
    apart = [i for i in whole if sides[i].has_hangul]
    for i in apart:
        forms[i] = "nfd"
    if apart:
        names = " and ".join(("source", "target")[i] for i in apart)
        flags = " and ".join(("--normalize-src nfc", "--normalize-tgt nfc")[i] for i in apart)
        verb = "keeps" if len(apart) == 1 else "keep"
        text = f"Hangul on the {names} is taken apart into its letters (nfd); {flags} {verb} syllables"
        listen(Notice(text=text))
    return forms


def _given(options: PreprocessOptions) -> tuple[Unit, Unit]:
    """The units that the options name.

    A separator says that a side is made of symbols, and ``--tokenizer`` speaks for the sides that have no
    unit of their own.
    """
    named: dict[TokenizerKind | None, Unit] = {None: "auto", "char": "codepoint", "word": "word"}
    both = named.get(options.tokenizer, "subword")
    units: list[Unit] = []
    for side in ("src", "tgt"):
        unit: Unit = getattr(options, f"unit_{side}")
        separated = getattr(options, f"separator_{side}") is not None
        if unit == "auto":
            unit = "symbol" if separated and options.tokenizer is None else both
        if separated and unit != "symbol" and options.asks(f"separator_{side}"):
            what, hint = "only symbols have a separator", f"Choose --unit-{side} symbol, or leave it out."
            raise UsageError(what, where=f"--separator-{side}", hint=hint)
        units.append(unit)
    return units[0], units[1]


def _tell(kinds: Sequence[Kind], sides: Sequence[SideStatistics], listen: Listener) -> None:
    """Say what was chosen, and how to choose otherwise."""
    if {*kinds} <= {"bpe", "unigram"}:
        for name, other, side in zip(("source", "target"), ("target", "source"), sides, strict=True):
            holds = "single words" if side.words(SINGLE) else "symbols" if side.are_symbols() else None
            if holds:
                text = (
                    f"The {name} looks like {holds}, but the {other} does not go with that: taken for "
                    "sentences. For strings, choose --unit-src and --unit-tgt"
                )
                listen(Notice(text=text))
                break
        return
    texts = []
    for name, kind, side in zip(("source", "target"), kinds, sides, strict=True):
        size = f" ({len(side.symbols)} different)" if kind == "symbol" else ""
        texts.append(f"{_NAMES[kind]}{size} on the {name}")
    same = f"{_NAMES[kinds[0]]} on both sides" if kinds[0] == kinds[1] else " and ".join(texts)
    listen(Notice(text=f"Taken for short strings: {same}. --unit-src and --unit-tgt choose otherwise"))
