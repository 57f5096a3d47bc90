"""The first reading of the text: checks it, counts it, hashes it, and decides what each pair is for.

Of each pair some twenty bytes are kept, so that ten million pairs stay small.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2scli import selection as sel
from s2scli.config import PreprocessOptions
from s2scli.errors import S2SError, counted
from s2scli.events import Listener, Notice, Progress
from s2scli.inputs import SPLITS
from s2scli.parallel import Parallel
from s2scli.segmentation import Segmentation
from s2scli.unitchoice import Plan
from s2scli.vocabulary import count_characters, no_characters


@dataclass(kw_only=True)
class Survey:
    """What the first reading of a set leaves: a few numbers for each of its pairs.

    Attributes:
        sources: Hash of each source, (pairs,) uint64.
        pairs: Hash of each pair, (pairs,) uint64.
        fate: What becomes of each pair, (pairs,) uint8, as `s2scli.selection` numbers it.
        replaced: U+FFFD put in for invalid bytes.
    """

    sources: sel.Hashes
    pairs: sel.Hashes
    fate: NDArray[np.uint8]
    replaced: int

    def __len__(self) -> int:
        return len(self.fate)


class ByteProgress:
    """Sends `Progress` of a task, ten times a second at most."""

    def __init__(self, listen: Listener, task: str, total: int) -> None:
        self._listen, self._task, self._total = listen, task, total
        self._last = 0.0
        self.base = 0

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= 0.1:
            self._last = now
            done = min(self.base + done, self._total)
            self._listen(Progress(task=self._task, done=done, total=self._total, unit="bytes"))

    def end(self) -> None:
        self._listen(Progress(task=self._task, done=self._total, total=self._total, unit="bytes"))


class FormWatch:
    """How many lines are in NFC and not in NFD, and the other way round."""

    def __init__(self) -> None:
        self.composed = self.decomposed = 0

    def add(self, lines: Iterable[str]) -> None:
        """Look at lines as they were given."""
        for line in lines:
            if not line.isascii():
                composed = unicodedata.is_normalized("NFC", line)
                if composed != unicodedata.is_normalized("NFD", line):
                    self.composed += composed
                    self.decomposed += not composed

    def restoring(self, segmentation: Segmentation) -> Segmentation:
        """The segmentation, whose joined text is in NFD if most lines seen were, otherwise in NFC."""
        decomposed = self.decomposed > self.composed
        if segmentation.normalize == "nfd" and not decomposed:
            return replace(segmentation, written="nfc")
        if segmentation.normalize in ("nfc", "nfkc") and decomposed:
            return replace(segmentation, written="nfd")
        return segmentation


class Surveyor:
    """Reads all sets once.

    Attributes:
        characters: How often each code point occurs in the training text, for both sides.
        form: Normal form of the training targets as they were given.
    """

    def __init__(
        self, options: PreprocessOptions, sets: dict[str, Parallel], plan: Plan, listen: Listener
    ) -> None:
        self.options, self.sets, self.listen = options, sets, listen
        self.sides = (plan.source, plan.target)
        self.characters = (no_characters(), no_characters())
        self.form = FormWatch()

    def read(self) -> dict[str, Survey]:
        """Check that the text can be read and is parallel; hash it; decide what each pair is for.

        Raises:
            S2SError: Text that cannot be read, is not parallel or leaves nothing to train on.
        """
        sizes = {name: parallel.size for name, parallel in self.sets.items()}
        meter = ByteProgress(self.listen, "reading", sum(sizes.values()))
        surveys = {}
        for name, parallel in self.sets.items():
            surveys[name] = self._survey(name, parallel, meter)
            meter.base += sizes[name]
        meter.end()
        self._hold_out(surveys["train"])
        return surveys

    def _survey(self, name: str, parallel: Parallel, meter: ByteProgress) -> Survey:
        sources, pairs, fates = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)]
        for chunk in parallel.chunks(meter):
            left, right = (side.normal(lines) for side, lines in zip(self.sides, chunk, strict=True))
            fate = np.full(len(left), SPLITS.index(name), np.uint8)
            if name == "train":
                sizes = (self.sides[0].sizes(left), self.sides[1].sizes(right))
                fate[sel.disproportionate(*sizes, ratio=self.options.max_ratio)] = sel.RATIO
                # What will be left out must not shape the vocabulary.
                longest = self.options.max_length
                long = [
                    side.longer(lines, longest) for side, lines in zip(self.sides, (left, right), strict=True)
                ]
                fate[np.array(long).any(axis=0)] = sel.LONG
                fate[sel.blank(left, right)] = sel.BLANK
                kept = np.flatnonzero(fate == sel.TRAIN).tolist()
                count_characters(self.characters[0], self.sides[0].texts([left[i] for i in kept]))
                count_characters(self.characters[1], [right[i] for i in kept])
                self.form.add(chunk[1])
            hashes = sel.hash_pairs(left, right)
            sources.append(hashes[0])
            pairs.append(hashes[1])
            fates.append(fate)
        if parallel.replaced:
            text = f"Bytes of the {name} text that are not UTF-8 became U+FFFD ({parallel.replaced:,})"
            self.listen(Notice(text=text, warning=True))
        files = ", ".join(str(path) for path in parallel.files)
        if len(fates) == 1:
            raise S2SError(f"the {name} text is empty", where=files, hint="Give files with text in them.")
        fate = np.concatenate(fates)
        if name == "train":
            check_left(fate, parallel)
        return Survey(
            sources=np.concatenate(sources),
            pairs=np.concatenate(pairs),
            fate=fate,
            replaced=parallel.replaced,
        )

    def _hold_out(self, train: Survey) -> None:
        """Split dev and test off the training pairs where none are given, by distinct source."""
        usable = train.fate == sel.TRAIN
        count = int(usable.sum())
        auto = max(1, min(1000, count // 20))
        dev = 0 if "dev" in self.sets else self.options.dev_size or auto
        test = 0 if "test" in self.sets else self.options.test_size
        if not dev and not test:
            return
        chosen = sel.hold_out(train.sources[usable], (dev, test), self.options.seed)
        if chosen is None:
            distinct = counted(len(np.unique(train.sources[usable])), "different source")
            raise S2SError(
                f"{counted(count, 'usable pair')} with {distinct}: too few to hold out {dev + test:,} and "
                "train on the rest",
                where=", ".join(str(path) for path in self.sets["train"].files),
                hint="Add pairs, lower --dev-size and --test-size, or give --dev-src and --dev-tgt.",
            )
        for split, hashes in zip((sel.DEV, sel.TEST), chosen, strict=True):
            train.fate[usable & sel.members(train.sources, hashes)] = split
            if len(hashes):
                n = int((train.fate == split).sum())
                name = "development" if split == sel.DEV else "test"
                self.listen(Notice(text=f"{n:,} pairs are held out of the training data as the {name} set"))

    def leave_out(self, surveys: dict[str, Survey]) -> int:
        """Drop overlap and duplicates if asked; returns how many duplicates there are."""
        train = surveys["train"]
        if self.options.drop_overlap:
            for name in surveys.keys() - {"train"}:
                found = sel.members(train.sources, surveys[name].sources)
                train.fate[(train.fate == sel.TRAIN) & found] = sel.OVERLAP
        places = np.flatnonzero(train.fate == sel.TRAIN)
        places = places[sel.repeated(train.pairs[places])]
        if self.options.drop_duplicates:
            train.fate[places] = sel.DUPLICATE
        check_left(train.fate, self.sets["train"])
        return len(places)


def check_left(fate: NDArray[Any], train: Parallel) -> None:
    """S2SError if no training pair is left, with the reasons."""
    if (fate == sel.TRAIN).any():
        return
    reasons = [
        f"{(fate == r).sum():,} {text.replace('_', ' ')}"
        for r, text in sel.REASONS.items()
        if (fate == r).any()
    ]
    raise S2SError(
        f"no training pair is left: of {len(fate):,}, " + ", ".join(reasons),
        where=", ".join(str(path) for path in train.files),
        hint="Check the files, or loosen --max-length, --max-ratio, --drop-duplicates or --drop-overlap.",
    )
