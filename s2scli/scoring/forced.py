"""Forced scores: log p(target | source) of translations that are given, token by token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import TYPE_CHECKING

from s2scli.config import EOS, UNK
from s2scli.events import Notice
from s2scli.translator import WINDOW_BATCHES, SearchOptions, Translator

if TYPE_CHECKING:
    from s2scli.scoring.pairs import Pair, Piece

MOST = 64
"""Hypotheses of a line that are scored together."""


@dataclass(frozen=True, kw_only=True)
class Forced:
    """What the model thinks of one pair.

    Attributes:
        pair: The pair.
        ids: The ids that were scored, each piece's EOS included where search had reached it.
        log_probabilities: log p of each of them, in nats.
    """

    pair: Pair
    ids: tuple[int, ...]
    log_probabilities: tuple[float, ...]

    @property
    def log_probability(self) -> float:
        """log p(target | source), in nats."""
        return sum(self.log_probabilities, 0.0)


@dataclass(kw_only=True)
class Corpus:
    """The sums over all pairs, and what is worth knowing about them."""

    pairs: int = 0
    lines: int = 0
    tokens: int = 0
    log_probability: float = 0.0
    unknown: dict[str, int] = field(default_factory=lambda: {"source": 0, "target": 0})
    foreign: dict[str, int] = field(default_factory=lambda: {"source": 0, "target": 0})
    spelt: dict[str, int] = field(default_factory=lambda: {"source": 0, "target": 0})
    long: int = 0
    blank: int = 0
    changed: int = 0
    resegmented: int = 0
    difference: float | None = None

    @property
    def perplexity(self) -> float:
        """E to the negative mean log-probability of a token; infinite where one is impossible."""
        if not self.tokens:
            return 1.0
        loss = -self.log_probability / self.tokens
        return math.exp(loss) if loss < 700 else math.inf

    def add(self, forced: Forced, translator: Translator) -> None:
        """Count a pair."""
        pair = forced.pair
        first = pair.rank == 1  # what is to say of a source is said once
        self.pairs += 1
        self.lines += first
        self.tokens += len(forced.ids)
        self.log_probability += forced.log_probability
        self.long += (
            first and len(pair.pieces) == 1 and len(pair.pieces[0].source) > translator.max_source_length
        )
        self.blank += not pair.pieces
        self.changed += pair.changed
        self.resegmented += pair.resegmented
        sides = (("source", translator.tokenizer.source), ("target", translator.tokenizer.target))
        for name, side in sides if first else sides[1:]:
            ids = [i for piece in pair.pieces for i in getattr(piece, name)]
            self.unknown[name] += UNK in ids
            odd = [token == "<unk>" or token.startswith("<0x") for token in side.tokens(ids)]
            self.foreign[name] += 2 * sum(odd) > len(ids)
            self.spelt[name] += any(odd) and UNK not in ids
        if pair.searched is not None:
            gap = abs(pair.searched - forced.log_probability)
            self.difference = gap if math.isnan(gap) else max(self.difference or 0.0, gap)

    def notices(self, translator: Translator) -> Iterator[Notice]:
        """The result in words, and then what a reader of the numbers must know."""
        each = self.log_probability / max(1, self.tokens)
        yield Notice(
            text=f"{self.pairs:,} pairs, {self.tokens:,} tokens: log-probability {each:.4f} per token, "
            f"perplexity {self.perplexity:.4f}."
        )
        if self.difference is not None:
            yield Notice(text=f"Largest difference from the search's own scores: {self.difference:.1e}.")
        if self.resegmented:
            yield Notice(
                text=f"Hypotheses whose text would be segmented into other tokens than search wrote: "
                f"{self.resegmented:,} of {self.pairs:,}. Search's own tokens were scored."
            )
        if self.blank:
            yield Notice(text=f"Blank pairs, which have no tokens and the log-probability 0: {self.blank:,}.")
        if self.changed:
            yield Notice(
                text="Targets that are not scored letter by letter, since the tokenizer normalises them or "
                f"does not know all of them: {self.changed:,}.",
                warning=True,
            )
        for side, count in self.unknown.items():
            if count:
                text = f"Lines with words that the tokenizer of the {side} does not know: {count:,}."
                yield Notice(text=text, warning=True)
        for side, count in self.spelt.items():
            if count:
                what = f"Lines with characters that the tokenizer of the {side} can only spell in bytes"
                yield Notice(text=f"{what}: {count:,}.", warning=True)
        for side, count in self.foreign.items():
            lines = self.lines if side == "source" else self.pairs
            if 2 * count > lines:
                text = (
                    f"The tokenizer of the {side} cannot read most of the text ({count:,} of {lines:,} "
                    "lines are mostly unknown to it or spelt in bytes). Is this the model's language, on "
                    "the right side?"
                )
                yield Notice(text=text, warning=True)
        if self.long:
            yield Notice(
                text=f"Sources longer than the model has seen in training "
                f"({translator.max_source_length} tokens), scored as a whole: {self.long:,}.",
                warning=True,
            )


def score_pairs(pairs: Iterable[Pair], translator: Translator) -> Iterator[Forced]:
    """The forced score of each pair, in order, as they are read.

    A pair of several pieces is scored piece by piece, as search translated it. EOS counts where search
    had reached it. A pair without pieces (a blank source that got a blank translation) has no tokens
    and so the log-probability 0, which is what search says of it.
    """
    lines = (list(group) for _, group in groupby(pairs, key=lambda pair: pair.line))
    reading = translator.searcher.batch_size(SearchOptions()) * WINDOW_BATCHES
    while window := [pair for line in islice(lines, reading) for pair in line]:
        # What a search did together is scored together: in fewer than 32 bits rounding depends on it.
        shared: dict[tuple[int, int, tuple[int, ...]], list[tuple[int, Piece]]] = {}
        for i, pair in enumerate(window):
            for piece in pair.pieces:
                shared.setdefault((pair.line, piece.number, piece.source), []).append((i, piece))
        jobs = [
            (source, pieces[begin : begin + MOST])
            for (_, _, source), pieces in sorted(shared.items(), key=lambda job: -len(job[0][2]))
            for begin in range(0, len(pieces), MOST)
        ]
        found: list[list[tuple[int, tuple[int, ...], tuple[float, ...]]]] = [[] for _ in window]
        scores = translator.searcher.forced(
            [source for source, _ in jobs],
            [[piece.target for _, piece in pieces] for _, pieces in jobs],
        )
        for (_, pieces), scored in zip(jobs, scores, strict=True):
            for (i, piece), log_p in zip(pieces, scored, strict=True):
                kept = len(piece.target) + piece.complete
                found[i].append((piece.number, (*piece.target, EOS)[:kept], log_p[:kept]))
        for pair, parts in zip(window, found, strict=True):
            parts.sort()
            yield Forced(
                pair=pair,
                ids=tuple(token for _, ids, _ in parts for token in ids),
                log_probabilities=tuple(p for _, _, log_p in parts for p in log_p),
            )
