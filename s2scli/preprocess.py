"""Parallel text in; a tokenizer, shards and a report out, under ``<run>/data``.

The text is read three times rather than kept: once to check, count and hash it, once to
learn the vocabulary from (a sample of) it, once to encode it. The memory needed is some
twenty bytes a pair and what learning from the sample takes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np

from s2scli import selection as sel
from s2scli.config import Normalization, PreprocessOptions
from s2scli.corpus import Parallel, file_size
from s2scli.errors import S2SError
from s2scli.events import Listener, Notice, Prepared, Progress, silent
from s2scli.files import write_json_atomic
from s2scli.inputs import SPLITS, find_inputs
from s2scli.report import Survey, build_report
from s2scli.runfolder import new_data
from s2scli.setwriter import SetWriter
from s2scli.tokenizer import Tokenizer
from s2scli.vocabulary import (
    JOINT_THRESHOLD,
    auto_vocab_size,
    count_characters,
    letter_overlap,
    no_characters,
    normalize_line,
)


def preprocess(options: PreprocessOptions, listen: Listener = silent) -> dict[str, Any]:
    """Turn parallel text into what training reads.

    Args:
        options: What to read, how to clean and split it, where to write.
        listen: Told progress, notices and at last `Prepared`.

    Returns:
        The report, as in ``<run>/data/report.json``.

    Raises:
        UsageError: Options that do not go together.
        S2SError: Text that cannot be read, is not parallel or leaves nothing to train
            on; a run folder that holds something and no ``force``; a write that fails.
            The run folder is then as it was.
    """
    started = time.monotonic()
    sets = find_inputs(options, listen)
    with new_data(
        options.run, force=options.force, inputs=[p for s in sets.values() for p in s.files]
    ) as folder:
        job = _Job(options, sets, folder, listen)
        report = job.run()
        report["seconds"] = round(time.monotonic() - started, 1)
        write_json_atomic(folder / "report.json", report)
    listen(Prepared(report=report))
    return report


class _ByteProgress:
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


class _Job:
    """One run of `preprocess`; its methods stand in the order of their execution."""

    def __init__(
        self, options: PreprocessOptions, sets: dict[str, Parallel], folder: Path, listen: Listener
    ) -> None:
        self.options = options
        self.sets = sets
        self.folder = folder
        self.listen = listen
        self.forms: tuple[Normalization, Normalization] = (
            options.normalize_src or options.normalize,
            options.normalize_tgt or options.normalize,
        )
        self.characters = (no_characters(), no_characters())
        self.sizes = {name: parallel.size for name, parallel in sets.items()}
        self.digest = hashlib.blake2b(digest_size=16)

    def run(self) -> dict[str, Any]:
        surveys = self._read()
        train = surveys["train"]
        self._hold_out(train)
        duplicates = self._leave_out(surveys)
        for survey in surveys.values():
            self.digest.update(survey.pairs.data)
            survey.pairs = survey.pairs[:0]  # no longer needed, and a large part of the memory
        tokenizer, facts = self._learn(train)
        self._encode(surveys, tokenizer)
        return self._report(surveys, facts, duplicates)

    def _read(self) -> dict[str, Survey]:
        """First reading: check that the text can be read and is parallel; hash it."""
        meter = _ByteProgress(self.listen, "reading", sum(self.sizes.values()))
        surveys = {}
        for name, parallel in self.sets.items():
            surveys[name] = self._survey(name, parallel, meter)
            meter.base += self.sizes[name]
        meter.end()
        return surveys

    def _survey(self, name: str, parallel: Parallel, meter: Callable[[int], None]) -> Survey:
        sources, pairs, fates = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)], [np.zeros(0, np.uint8)]
        for chunk in parallel.chunks(meter):
            left, right = (
                [normalize_line(line, form, self.options.tokenizer) for line in lines]
                for lines, form in zip(chunk, self.forms, strict=True)
            )
            fate = np.full(len(left), SPLITS.index(name), np.uint8)
            if name == "train":
                fate[sel.disproportionate(left, right, self.options.max_ratio)] = sel.RATIO
                fate[sel.blank(left, right)] = sel.BLANK
                count_characters(self.characters[0], left)
                count_characters(self.characters[1], right)
            hashes = sel.hash_pairs(left, right)
            sources.append(hashes[0])
            pairs.append(hashes[1])
            fates.append(fate)
        if parallel.replaced:
            text = f"{parallel.replaced:,} invalid bytes in the {name} text were replaced by U+FFFD"
            self.listen(Notice(text=text, warning=True))
        files = ", ".join(str(path) for path in parallel.files)
        if len(fates) == 1:
            raise S2SError(f"the {name} text is empty", where=files, hint="Give files with text in them.")
        fate = np.concatenate(fates)
        if name == "train" and not (fate == sel.TRAIN).any():
            self._nothing_left(fate)
        return Survey(
            sources=np.concatenate(sources),
            pairs=np.concatenate(pairs),
            fate=fate,
            replaced=parallel.replaced,
        )

    def _nothing_left(self, fate: np.ndarray[Any, Any]) -> None:
        reasons = [
            f"{(fate == r).sum():,} {text.replace('_', ' ')}"
            for r, text in sel.REASONS.items()
            if (fate == r).any()
        ]
        raise S2SError(
            f"no training pair is left: of {len(fate):,}, " + ", ".join(reasons),
            where=", ".join(str(path) for path in self.sets["train"].files),
            hint="Check the files, or loosen --max-length, --max-ratio, --drop-duplicates or --drop-overlap.",
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
            distinct = len(np.unique(train.sources[usable]))
            raise S2SError(
                f"{count:,} usable pairs with {distinct:,} different sources are too few to hold out "
                f"{dev + test:,} and train on the rest",
                where=", ".join(str(path) for path in self.sets["train"].files),
                hint="Add pairs, lower --dev-size and --test-size, or give --dev-src and --dev-tgt.",
            )
        for split, hashes in zip((sel.DEV, sel.TEST), chosen, strict=True):
            train.fate[usable & sel.members(train.sources, hashes)] = split
            if len(hashes):
                n = int((train.fate == split).sum())
                name = "development" if split == sel.DEV else "test"
                self.listen(Notice(text=f"{n:,} pairs are held out of the training data as the {name} set"))

    def _leave_out(self, surveys: dict[str, Survey]) -> int:
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
        if not (train.fate == sel.TRAIN).any():
            self._nothing_left(train.fate)
        return len(places)

    def _learn(self, train: Survey) -> tuple[Tokenizer, dict[str, Any]]:
        """Second reading: learn the vocabulary."""
        options = self.options
        places = np.flatnonzero(train.fate == sel.TRAIN)
        pairs = len(places)
        if pairs > options.sample_size:
            generator = np.random.default_rng(options.seed)
            places = places[generator.choice(pairs, options.sample_size, replace=False, shuffle=False)]
        chosen = np.zeros(len(train), np.bool_)
        chosen[places] = True
        overlap = letter_overlap(*self.characters)
        joint = options.joint
        if joint is None:
            joint = overlap >= JOINT_THRESHOLD
            how = "One vocabulary for both sides" if joint else "A vocabulary for each side"
            self.listen(Notice(text=f"{how}: source and target share {overlap:.0%} of their letters"))
        size = options.vocab_size or auto_vocab_size(pairs, options.tokenizer)
        parts = self.sets["train"].parts
        sizes = [sum(file_size(part.side(number)) for part in parts) for number in (0, 1)]
        meter = _ByteProgress(self.listen, "tokenizer", sum(sizes))

        def side(number: int) -> Iterator[str]:
            meter.base = number * sizes[0]
            start = 0
            for lines in self.sets["train"].side(number, meter):
                wanted = np.flatnonzero(chosen[start : start + len(lines)])
                yield from (lines[i] for i in wanted.tolist())
                start += len(lines)

        tokenizer = Tokenizer.train(
            side(0),
            side(1),
            kind=options.tokenizer,
            vocab_size=size,
            joint=joint,
            normalize_source=self.forms[0],
            normalize_target=self.forms[1],
        )
        meter.end()
        tokenizer.save(self.folder / "tokenizer.json")
        found = (tokenizer.source.vocab_size, tokenizer.target.vocab_size)
        if min(found) < size and (options.vocab_size or options.tokenizer in ("bpe", "unigram")):
            sides = f"{found[0]:,}" if joint else f"{found[0]:,} (source) and {found[1]:,} (target)"
            self.listen(Notice(text=f"The text yields a vocabulary of {sides} tokens, not {size:,}"))
        facts = {
            "kind": options.tokenizer,
            "joint": joint,
            "letter_overlap": round(overlap, 3),
            "source_vocab": found[0],
            "target_vocab": found[1],
            "wanted_vocab": size,
            "sample_lines": len(places),
        }
        return tokenizer, facts

    def _encode(self, surveys: dict[str, Survey], tokenizer: Tokenizer) -> None:
        """Third reading: write ids and text, in the order of the input."""
        meter = _ByteProgress(self.listen, "encoding", sum(self.sizes.values()))
        vocabs = (tokenizer.source.vocab_size, tokenizer.target.vocab_size)
        with ExitStack() as stack:
            writers = {
                split: stack.enter_context(closing(SetWriter(self.folder, name, vocabs)))
                for split, name in enumerate(SPLITS)
                if any((survey.fate == split).any() for survey in surveys.values())
            }
            for name, survey in surveys.items():
                start = 0
                for chunk in self.sets[name].chunks(meter):
                    fate = survey.fate[start : start + len(chunk[0])]
                    start += len(chunk[0])
                    if start > len(survey):
                        break
                    for split in set(fate.tolist()) & writers.keys():
                        limit = self.options.max_length if split == sel.TRAIN else None
                        places = np.flatnonzero(fate == split)
                        fate[writers[split].write(chunk, places, tokenizer, limit)] = sel.LONG
                meter.base += self.sizes[name]
                if start != len(survey):
                    raise S2SError(
                        f"the {name} text has changed while it was read",
                        where=", ".join(str(path) for path in self.sets[name].files),
                        hint="Start again when nothing writes to it.",
                    )
            for writer in writers.values():
                writer.finish()
        if not (surveys["train"].fate == sel.TRAIN).any():
            self._nothing_left(surveys["train"].fate)
        meter.end()

    def _report(self, surveys: dict[str, Survey], facts: dict[str, Any], duplicates: int) -> dict[str, Any]:
        self.digest.update((self.folder / "tokenizer.json").read_bytes())
        for survey in surveys.values():
            self.digest.update(survey.fate.data)
        report = build_report(self.folder, self.options, self.sets, surveys, self.listen)
        report["fingerprint"] = self.digest.hexdigest()
        report["duplicates"] = duplicates
        report["tokenizer"] = facts
        report["normalize"] = {"source": self.forms[0], "target": self.forms[1]}
        return report
