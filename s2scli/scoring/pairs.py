"""Pairs to be scored by a model: from two text files, or from what ``s2s translate`` has written as JSONL."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from s2scli.config import BOS, EOS, PAD
from s2scli.corpus import Lines
from s2scli.errors import S2SError
from s2scli.scoring.metrics import check_lengths
from s2scli.scoring.reading import count_lines

if TYPE_CHECKING:
    from s2scli.tokenizer import SideTokenizer, Tokenizer

_HINT = "Name the model that has written it with --model, or score its text with --src and --tgt."
BLOCK = 1024
"""Lines that are read and encoded together."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch of a pair that the model sees by itself; mostly the whole pair.

    Attributes:
        number: Its place in the pair.
        source, target: Ids without EOS.
        complete: Whether the target ends with EOS; not so where search was cut at the maximum length.
    """

    number: int
    source: tuple[int, ...]
    target: tuple[int, ...]
    complete: bool = True


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A source and a translation of it.

    Attributes:
        line: Number of the source line, from 1.
        rank: Place among the hypotheses of the line, from 1.
        pieces: Its ids; none for a blank source with a blank translation.
        searched: The log-probability that search gave it, if that is known.
        changed: Whether the tokenizer gives back another text than it was given.
        resegmented: Whether the text of the ids, encoded again, would be other ids.
    """

    line: int
    rank: int = 1
    pieces: tuple[Piece, ...]
    searched: float | None = None
    changed: bool = False
    resegmented: bool = False


class TextPairs:
    """Line n of one file with line n of the other.

    Attributes:
        lines: How many there are.

    Raises:
        S2SError: A file that cannot be read or is not UTF-8, or different numbers of lines: before
            anything is scored.
    """

    def __init__(self, source: Path, target: Path, tokenizer: Tokenizer) -> None:
        self._paths = (source, target)
        self._tokenizer = tokenizer
        counts = [count_lines(path) for path in self._paths]
        check_lengths(str(source), counts[0], str(target), counts[1])
        self.lines = counts[0]

    def __iter__(self) -> Iterator[Pair]:
        source, target = self._tokenizer.source, self._tokenizer.target
        lines = zip(*(Lines(path) for path in self._paths), strict=True)
        number = 0
        while block := list(islice(lines, BLOCK)):
            texts = [text for _, text in block]
            sources, targets = source.encode([text for text, _ in block]), target.encode(texts)
            decoded = target.decode(targets)
            for i, (left, right) in enumerate(block):
                number += 1
                blank = not left.strip() and not right.strip()
                pieces = _whole(blank, sources[i], targets[i])
                yield Pair(line=number, pieces=pieces, changed=decoded[i] != texts[i])


def _whole(
    blank: bool, source: Sequence[int], target: Sequence[int], complete: bool = True
) -> tuple[Piece, ...]:
    """One piece; none where both sides are blank, for search gives a blank line a blank translation."""
    return () if blank else (Piece(number=0, source=tuple(source), target=tuple(target), complete=complete),)


class IdPairs:
    """The hypotheses of the JSONL that ``s2s translate --format jsonl`` writes, ids as search wrote them.

    Of each line ``source`` and ``hypotheses`` are needed, of a hypothesis ``ids``; ``text``, ``tokens``,
    ``log_probability``, ``complete`` and ``pieces`` are used where they are there.

    Attributes:
        lines: How many source lines there are.

    Raises:
        S2SError: A line that is not such JSON, or ids of another model's vocabulary, with file and line.
    """

    def __init__(self, path: Path, tokenizer: Tokenizer) -> None:
        self._path = path
        self._tokenizer = tokenizer
        self.lines = count_lines(path)

    def __iter__(self) -> Iterator[Pair]:
        for number, line in enumerate(Lines(self._path), 1):
            where = f"{self._path}:{number}"
            try:
                yield from self._pairs(json.loads(line), number, where)
            except RecursionError as error:
                raise S2SError("this is JSON without end", where=where) from error
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise S2SError(
                    f"this is not a line of 's2s translate --format jsonl' ({type(error).__name__}: {error})",
                    where=where,
                    hint="Score plain text with --src and --tgt.",
                ) from error

    def _pairs(self, content: dict[str, Any], number: int, where: str) -> Iterator[Pair]:
        source, target = _of_kind(content["source"], str, "source"), self._tokenizer.target
        (source_ids,) = self._tokenizer.source.encode([source])
        for rank, hypothesis in enumerate(content["hypotheses"], 1):
            ids = _ids(hypothesis["ids"], "ids")
            _check_ids(ids, hypothesis.get("tokens"), target, where)
            text = hypothesis.get("text")
            searched = hypothesis.get("log_probability")
            if searched is not None and not math.isfinite(searched):
                raise ValueError(f"the log_probability {searched}")
            if "pieces" in hypothesis:
                pieces = tuple(
                    Piece(
                        number=place,
                        source=tuple(_ids(piece["source_ids"], "source_ids")),
                        target=tuple(_ids(piece["ids"], "ids")),
                        complete=_of_kind(piece["complete"], bool, "complete"),
                    )
                    for place, piece in enumerate(hypothesis["pieces"])
                )
                if list(chain.from_iterable(piece.target for piece in pieces)) != ids:
                    raise ValueError("the ids of the pieces are not those of the hypothesis")
                self._check_pieces(pieces, source, where)
            else:
                blank = not ids and (not source_ids or not source.strip())
                complete = _of_kind(hypothesis.get("complete", True), bool, "complete")
                pieces = _whole(blank, source_ids, ids, complete)
            yield Pair(
                line=number,
                rank=rank,
                pieces=pieces,
                searched=None if searched is None else float(searched),
                resegmented=text is not None and target.encode([text])[0] != ids,
            )

    def _check_pieces(self, pieces: Sequence[Piece], source: str, where: str) -> None:
        """Refuse pieces whose source is not that of the line, as this model's tokenizer reads it."""
        side = self._tokenizer.source
        given = [token for piece in pieces for token in piece.source]
        _check_range(given, side, "source", where)
        # As search does with a line before it is cut. Tags, which each piece has, are no text.
        text, _ = side.encode_tags(side.normalize(source))
        (line,) = side.vocabulary.encode([" ".join(text.split())])
        of_pieces, of_line = ("".join(text.split()) for text in side.decode([given, line]))
        if of_pieces != of_line:
            what = "the source ids of the pieces are not those of the source: it is of another model"
            raise S2SError(what, where=where, hint=_HINT)


_Kind = TypeVar("_Kind", str, bool)


def _of_kind(value: Any, kind: type[_Kind], name: str) -> _Kind:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {value!r}")
    return value


def _ids(value: Any, name: str) -> list[int]:
    if not isinstance(value, list) or any(type(token) is not int for token in value):
        raise ValueError(f"{name} are no list of whole numbers")
    return value


def _check_ids(ids: list[int], tokens: list[str] | None, side: SideTokenizer, where: str) -> None:
    """Refuse ids that are none of this vocabulary, or stand for other tokens than those named beside them."""
    _check_range(ids, side, "target", where)
    if tokens is not None:
        for token, theirs, ours in zip(ids, tokens, side.tokens(ids), strict=True):
            if theirs != ours:
                what = f"the id {token} is '{theirs}' here and '{ours}' in the model: it is of another model"
                raise S2SError(what, where=where, hint=_HINT)


def _check_range(ids: list[int], side: SideTokenizer, name: str, where: str) -> None:
    outside = [token for token in ids if not 0 <= token < side.vocab_size or token in (PAD, BOS, EOS)]
    if outside:
        what = f"the model has {side.vocab_size:,} {name} tokens, and the id {outside[0]} is none of them"
        raise S2SError(what, where=where, hint=_HINT)
