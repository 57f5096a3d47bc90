"""Which units the two sides are split into, chosen from the text where it is clear.

That is found out over the whole training text; as soon as it cannot be strings, reading stops.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from s2scli.config import Normalization, PreprocessOptions, TokenizerKind, Unit
from s2scli.errors import UsageError
from s2scli.events import Listener, Notice
from s2scli.looks import INVENTORY, SINGLE, Look, SideStatistics, look
from s2scli.parallel import Parallel, has_features
from s2scli.segmentation import CHARACTERS, FORMS, Kind, Segmentation

NEITHER = 0.01
"""Share of targets that are in no normal form, beyond which all of them are kept as they are written."""


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
    for name, kind, side in zip(("src", "tgt"), kinds, statistics, strict=True):
        if kind == "symbol" and side.lines and not side.separated and side.symbols.total() < side.characters:
            text = f"No line holds the separator of --separator-{name}, so that each is one symbol as a whole"
            listen(Notice(text=text, warning=True))
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
        many = f"more than {INVENTORY}" if len(side.symbols) > INVENTORY else len(side.symbols)
        size = f" ({many} different)" if kind == "symbol" else ""
        texts.append(f"{_NAMES[kind]}{size} on the {name}")
    same = f"{_NAMES[kinds[0]]} on both sides" if kinds[0] == kinds[1] else " and ".join(texts)
    listen(Notice(text=f"Taken for short strings: {same}. --unit-src and --unit-tgt choose otherwise"))
