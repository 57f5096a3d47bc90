"""Subwords of the `tokenizers` library; a character that they lack is written as its UTF-8 bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import tokenizers

from s2scli.vocabulary import FIRST_BYTE, SPECIALS

# Set before the library is first used: it then takes its threads without warning at every
# fork. In a forked child those threads do not exist, and waiting for them would never end.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=lambda: os.environ.__setitem__("TOKENIZERS_PARALLELISM", "false"))


class Subwords:
    """The subwords of one side. Ids `FIRST_BYTE` to `FIRST_BYTE` + 255 are the bytes.

    Args:
        definition: JSON of the `tokenizers` library.

    Raises:
        ValueError: A definition that is not valid.
    """

    def __init__(self, definition: dict[str, Any]) -> None:
        self.definition = definition
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(definition))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(str(error)) from error
        size = self._tokenizer.get_vocab_size()
        pieces = [self._tokenizer.id_to_token(i) for i in range(size)]
        self._pieces: list[str] = [piece for piece in pieces if piece is not None]
        if len(self._pieces) < max(size, FIRST_BYTE):
            raise ValueError("the ids of the vocabulary have gaps")

    def __len__(self) -> int:
        return len(self._pieces)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each normalised text."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def unknown(self, text: str) -> list[str]:
        """Nothing is unknown."""
        return []

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """Texts of sequences of ids, special ids skipped.

        Bytes that do not make up UTF-8 become U+FFFD, and a line break, which only a model
        can produce, becomes a space.
        """
        kept = [[i for i in ids if i >= FIRST_BYTE] for ids in sequences]
        return [text.replace("\n", " ") for text in self._tokenizer.decode_batch(kept)]

    def show(self, token: int) -> str:
        """A subword with the space before it, a byte as ``<0xNN>``, a special id by its name."""
        return SPECIALS.get(token) or self._pieces[token]

    def characters(self, ids: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
        """The characters of the decoded text, each with the places in ``ids`` that made it."""
        run: list[int] = []  # places of adjacent byte tokens, which make up characters together
        for place, token in enumerate(ids):
            if FIRST_BYTE <= token < FIRST_BYTE + 256:
                run.append(place)
            elif token >= FIRST_BYTE:
                yield from _byte_characters(ids, run)
                run = []
                yield from ((character, (place,)) for character in self._pieces[token])
        yield from _byte_characters(ids, run)


def _byte_characters(ids: Sequence[int], run: Sequence[int]) -> Iterator[tuple[str, Sequence[int]]]:
    """The characters of a run of byte tokens; as in decoding, one bad byte spoils the whole run."""
    try:
        text = bytes(ids[place] - FIRST_BYTE for place in run).decode("utf-8")
    except UnicodeDecodeError:
        yield from (("\ufffd", (place,)) for place in run)
        return
    start = 0
    for character in text:
        end = start + len(character.encode("utf-8"))
        yield character, run[start:end]
        start = end
