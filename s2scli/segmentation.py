"""What a token is: how a line is brought to its normal form and split, and put together again.

A line of text is split into *units*. The unit ``subword`` (learnt by ``bpe`` or ``unigram``)
is a matter of the `tokenizers` library, see `s2scli.vocabulary`. The others are found in the
line by a rule, and the different ones that the training text holds make up a closed inventory:

- ``word``: what stands between white space;
- ``symbol``: what stands between separators, such as the phonemes of ``k æ t``;
- ``character``: what a reader takes for one character, an extended grapheme cluster
  (Unicode Standard Annex 29);
- ``codepoint``: a Unicode code point.

A line of a source with features is ``text<TAB>tag;tag``, such as ``walk<TAB>V;PST``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Literal, get_args

from s2scli.config import Normalization

Kind = Literal["bpe", "unigram", "char", "word", "character", "codepoint", "symbol"]
"""Kinds of token. ``char``, a code point or its bytes, is only read, from files of format 1."""
LONGEST_PIECE = 24
"""Characters that a learnt subword has at most."""
CLOSED = ("word", "character", "codepoint", "symbol")
"""Kinds with a closed inventory; what it lacks is unknown."""
CHARACTERS = ("character", "codepoint")
"""Kinds that follow one another in the text with nothing between."""

ENDING = re.compile(r"[.!?…。！？।]$")
"""How a sentence ends."""

FORMS: dict[str, Literal["NFC", "NFKC", "NFD"]] = {"nfc": "NFC", "nfkc": "NFKC", "nfd": "NFD"}
"""The normal forms by the names that options have for them."""


@cache
def _clusters() -> Callable[[str], list[str]]:
    """What finds the grapheme clusters of a text; a subword model need not wait for the library."""
    import regex

    # A conjoining jamo is a unit of its own, although the annex takes a whole syllable for one
    # cluster: so Hangul is split into syllables in NFC and into letters in NFD.
    find: Callable[[str], list[str]] = regex.compile(
        r"[\u1100-\u11ff\ua960-\ua97f\ud7b0-\ud7ff]\p{M}*|\X"
    ).findall
    return find


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """How the text of one side becomes units, and units become text.

    Attributes:
        kind: Kind of token.
        normalize: Unicode normal form of the text that is split.
        separator: What stands between two units of the kind ``symbol``.
        written: Normal form to which joined units are brought, where the text that was given
            is in another one than ``normalize``; None changes nothing.
        features: Whether a tab and tags follow the text of a line.
    """

    kind: Kind
    normalize: Normalization = "nfc"
    separator: str = " "
    written: Literal["nfc", "nfd"] | None = None
    features: bool = False

    def parts(self, line: str) -> tuple[str, list[str]]:
        """The text of a line and its tags, both as they stand there."""
        if not self.features:
            return line, []
        text, _, tags = line.partition("\t")
        return text, [tag for tag in map(str.strip, tags.split(";")) if tag]

    def normal(self, lines: Iterable[str]) -> list[str]:
        """Lines in their normal form: what the model sees, as text.

        Single spaces stand between words, and single separators between symbols, with none
        at either end. A line with tags but no text is empty.
        """
        normal = self._normal()
        if not self.features:
            return list(map(normal, lines))
        result = []
        for text, tags in map(self.parts, lines):
            text = normal(text)
            result.append(f"{text}\t{';'.join(tags)}" if tags and text.strip() else text)
        return result

    def texts(self, lines: Sequence[str]) -> Sequence[str]:
        """Lines without their tags."""
        return [line.partition("\t")[0] for line in lines] if self.features else lines

    def sizes(self, lines: Sequence[str]) -> list[int]:
        """How long each line is: in symbols where these are the units, otherwise in code points."""
        texts = self.texts(lines)
        if self.kind == "symbol":
            return [text.count(self.separator) + 1 for text in texts]
        return list(map(len, texts))

    def longer(self, lines: Sequence[str], tokens: int) -> list[bool]:
        """Whether each line, normalised, has more than so many tokens for certain, before any are learnt."""
        texts = self.texts(lines)
        if self.kind in CLOSED:
            return [len(text) > tokens and len(self.split(text)) > tokens for text in texts]
        most = tokens * LONGEST_PIECE
        return [len(text) > most and sum(map(len, text.split())) > most for text in texts]

    def _normal(self) -> Callable[[str], str]:
        """What brings a text to its normal form."""
        form = None if self.normalize == "none" else FORMS[self.normalize]

        def normal(text: str) -> str:
            return text if form is None else unicodedata.normalize(form, text)

        if self.kind == "word":
            return lambda text: " ".join(normal(text).split())
        if self.kind == "symbol":
            return lambda text: self.separator.join(self.split(normal(text)))
        if self.kind in CLOSED:  # of a string of characters, too, what stands around it is no part
            return lambda text: normal(text).strip()
        return normal

    def split(self, text: str) -> list[str]:
        """The units of a normalised text; for the kinds in `CLOSED`."""
        if self.kind == "word":
            return text.split()
        if self.kind == "symbol":
            # What stands around a symbol is no part of it; but a space may be one.
            return [symbol.strip() or symbol for symbol in text.split(self.separator) if symbol]
        # Without "\r\n", which no line holds, every ASCII character is a cluster.
        return list(text) if self.kind == "codepoint" or text.isascii() else _clusters()(text)

    @property
    def glue(self) -> str:
        """What stands between two units."""
        return {"word": " ", "symbol": self.separator}.get(self.kind, "")

    def restore(self, text: str) -> str:
        """Text from a model in the normal form in which text was given."""
        return text if self.written is None else unicodedata.normalize(FORMS[self.written], text)


def read_segmentation(content: Mapping[str, Any]) -> Segmentation:
    """A segmentation of its JSON; other keys are left alone. ValueError if a value is not valid."""
    given = {f.name: content[f.name] for f in fields(Segmentation) if f.name in content}
    result = Segmentation(**given)
    for value, valid in (
        (result.kind, get_args(Kind)),
        (result.normalize, get_args(Normalization)),
        (result.written, ("nfc", "nfd", None)),
        (result.features, (True, False)),
    ):
        if value not in valid:
            raise ValueError(f"{value!r} is not one of {valid}")
    if not isinstance(result.separator, str) or not result.separator:
        raise ValueError("the separator is empty")
    return result
