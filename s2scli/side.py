"""The tokenizer of one side: text and tags to ids and back, and names for what is shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from s2scli.config import UNK
from s2scli.segmentation import CLOSED, Segmentation

NO_TAGS = "no tags"
"""Name of what is missing in a line without tags, where tags are expected."""


class Vocabulary(Protocol):
    """What `Subwords` and `Symbols` have in common."""

    @property
    def definition(self) -> Any: ...
    def __len__(self) -> int: ...
    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...
    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]: ...
    def unknown(self, text: str) -> list[str]: ...
    def show(self, token: int) -> str: ...
    def characters(self, ids: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]: ...


class SideTokenizer:
    """The tokenizer of one side.

    Ids 0–3 are `PAD`, `UNK`, `BOS`, `EOS`. The vocabulary follows, then one id for each tag:
    so a tag never collides with the text.

    Attributes:
        segmentation: How text is split and joined.
        vocabulary: Its subwords or symbols.
        tags: The tags of the features, in the order of their ids.
    """

    def __init__(self, segmentation: Segmentation, vocabulary: Vocabulary, tags: Sequence[str]) -> None:
        self.segmentation = segmentation
        self.vocabulary = vocabulary
        self.tags = list(tags)
        self._first_tag = len(vocabulary)
        self._tag_ids = {tag: self._first_tag + i for i, tag in enumerate(self.tags)}

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones, bytes and tags included."""
        return self._first_tag + len(self.tags)

    @property
    def strings(self) -> bool:
        """Whether lines are split into characters or symbols: a line is one string, not sentences."""
        return self.segmentation.kind in CLOSED and self.segmentation.kind != "word"

    def reach(self, longest: int) -> int:
        """Tokens up to which a line is translated as a whole, where training had up to ``longest``.

        A string has no sentence ends to be cut at, and half a word is no word.
        """
        return max(4 * longest, 200) if self.strings else longest

    @property
    def complete(self) -> bool:
        """Whether nothing is ever unknown."""
        return self.segmentation.kind not in CLOSED and not self.segmentation.features

    def normalize(self, line: str) -> str:
        """The line as the model sees it (see `Segmentation.normal`)."""
        return self.segmentation.normal([line])[0]

    def normalize_all(self, lines: Iterable[str]) -> list[str]:
        """As `normalize`, for many lines."""
        return self.segmentation.normal(lines)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Ids of each line, without BOS and EOS. The lines need no normalisation first."""
        return self.encode_normalized(self.normalize_all(lines))

    def encode_normalized(self, lines: Sequence[str]) -> list[list[int]]:
        """As `encode`, for lines that `normalize` has seen already: text, then tags.

        Where tags are expected and a line has none, one unknown tag stands for them.
        """
        if not self.segmentation.features:
            return self.vocabulary.encode(lines)
        parts = [self.encode_tags(line) for line in lines]
        encoded = self.vocabulary.encode([text for text, _ in parts])
        return [ids + tags if text.strip() else [] for ids, (text, tags) in zip(encoded, parts, strict=True)]

    def encode_tags(self, line: str) -> tuple[str, list[int]]:
        """The text of a line that `normalize` has seen, and the ids of the tags that follow it."""
        text, tags = self.segmentation.parts(line)
        if not self.segmentation.features:
            return text, []
        return text, [self._tag_ids.get(tag, UNK) for tag in tags or [NO_TAGS]]

    def unknown(self, line: str) -> list[str]:
        """What in a line has no id: symbols, and tags as ``[tag]``. Each is read as `UNK`."""
        text, tags = self.segmentation.parts(self.normalize(line))
        if self.segmentation.features and text:
            tags = tags or [NO_TAGS]
        return self.vocabulary.unknown(text) + [f"[{tag}]" for tag in tags if tag not in self._tag_ids]

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids, in the Unicode normal form in which text was given.

        PAD, BOS, EOS and tags are skipped. An unknown word or symbol is written ``<unk>`` and
        an unknown character U+FFFD.
        """
        if self.tags:
            sequences = [[i for i in ids if i < self._first_tag] for ids in sequences]
        return list(map(self.segmentation.restore, self.vocabulary.decode(sequences)))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each token for display: spaces as ``▁``, a byte as ``<0xNN>``, specials by name, ``[tag]``."""
        return [self._show(i).replace(" ", "▁") for i in ids]

    def word_of_token(self, ids: Sequence[int]) -> list[int]:
        """For each token the number, from 0, of the word of the decoded text it belongs to.

        Words are what white space separates; a symbol between separators and a tag count as
        words. Tokens that hold only white space, and special ids, belong to the word that
        follows, or to the last.
        """
        owners: list[int | None] = [None] * len(ids)
        word, inside = -1, False
        for character, places in self._characters(ids):
            if character.isspace():
                inside = False
                continue
            if not inside:
                word, inside = word + 1, True
            for place in places:
                if owners[place] is None:
                    owners[place] = word
        following = max(word, 0)
        result = [0] * len(ids)
        for place in reversed(range(len(ids))):
            owner = owners[place]
            following = following if owner is None else owner
            result[place] = following
        return result

    def _show(self, token: int) -> str:
        if token >= self._first_tag:
            return f"[{self.tags[token - self._first_tag]}]"
        return self.vocabulary.show(token)

    def _characters(self, ids: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
        """The characters of text and tags, each with the places in ``ids`` that made it."""
        begin = 0  # of a run of text: the bytes of a character stand side by side
        for end in [place for place, token in enumerate(ids) if token >= self._first_tag] + [len(ids)]:
            for character, places in self.vocabulary.characters(ids[begin:end]):
                yield character, [begin + place for place in places]
            if end < len(ids):
                yield " ", ()
                yield from ((character, (end,)) for character in self._show(ids[end]))
                yield " ", ()
            begin = end + 1
