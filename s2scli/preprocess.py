"""Parallel text in; a tokenizer, shards and a report out, under ``<run>/data``.

The text is read three times rather than kept: once to check, count and hash it, once to
learn the vocabulary from (a sample of) it, once to encode it. The memory needed is some
twenty bytes a pair and what learning from the sample takes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from s2scli import selection as sel
from s2scli.config import SPECIAL_IDS, PreprocessOptions
from s2scli.corpus import file_size
from s2scli.datareport import build_report
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, Prepared, silent
from s2scli.files import write_json_atomic
from s2scli.inputs import SPLITS, find_inputs
from s2scli.lexicon import write_lexicon
from s2scli.parallel import Parallel
from s2scli.resolve import checked
from s2scli.runfolder import check_data_are_ours, new_data
from s2scli.segmentation import CLOSED
from s2scli.setwriter import SetWriter
from s2scli.survey import ByteProgress, Survey, Surveyor, check_left
from s2scli.tokenizer import Tokenizer
from s2scli.unitchoice import Plan, choose
from s2scli.vocabulary import JOINT_THRESHOLD, auto_vocab_size, letter_overlap


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
    options = checked(options)
    started = time.monotonic()
    sets = find_inputs(options, listen)
    check_data_are_ours(options.run)
    with new_data(
        options.run, force=options.force, inputs=[p for s in sets.values() for p in s.files]
    ) as folder:
        job = _Job(options, sets, folder, listen)
        report = job.run()
        report["seconds"] = round(time.monotonic() - started, 1)
        write_json_atomic(folder / "report.json", report)
    listen(Prepared(report=report))
    return report


class _Job:
    """One run of `preprocess`; its methods stand in the order of their execution."""

    def __init__(
        self, options: PreprocessOptions, sets: dict[str, Parallel], folder: Path, listen: Listener
    ) -> None:
        self.options = options
        self.sets = sets
        self.folder = folder
        self.listen = listen
        self.sizes = {name: parallel.size for name, parallel in sets.items()}
        self.stamps = {name: parallel.stamps() for name, parallel in sets.items()}
        self.digest = hashlib.blake2b(digest_size=16)
        self.unknown: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        plan = choose(self.options, self.sets["train"], self.listen)
        surveyor = Surveyor(self.options, self.sets, plan, self.listen)
        surveys = surveyor.read()
        train = surveys["train"]
        duplicates = surveyor.leave_out(surveys)
        for survey in surveys.values():
            self.digest.update(survey.pairs.data)
            survey.pairs = survey.pairs[:0]  # no longer needed, and a large part of the memory
        plan = replace(plan, target=surveyor.form.restoring(plan.target))
        tokenizer, facts = self._learn(train, plan, letter_overlap(*surveyor.characters))
        self._encode(surveys, tokenizer)
        write_lexicon(self.folder, tokenizer, self.listen)
        return self._report(surveys, facts, duplicates)

    def _learn(self, train: Survey, plan: Plan, overlap: float) -> tuple[Tokenizer, dict[str, Any]]:
        """Second reading: learn the vocabulary."""
        options = self.options
        places = np.flatnonzero(train.fate == sel.TRAIN)
        pairs = len(places)
        if pairs > options.sample_size:
            generator = np.random.default_rng(options.seed)
            places = places[generator.choice(pairs, options.sample_size, replace=False, shuffle=False)]
        chosen = np.zeros(len(train), np.bool_)
        chosen[places] = True
        joint = self._joint(plan, overlap)
        sides = (plan.source, plan.target)
        wanted = [options.vocab_size or auto_vocab_size(pairs, side.kind) for side in sides]
        parts = self.sets["train"].parts
        sizes = [sum(file_size(part.side(number)) for part in parts) for number in (0, 1)]
        meter = ByteProgress(self.listen, "tokenizer", sum(sizes))

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
            source=plan.source,
            target=plan.target,
            vocab_size=(wanted[0], wanted[1]),
            joint=joint,
        )
        meter.end()
        for learnt in (tokenizer.source, tokenizer.target):
            if learnt.segmentation.kind == "word" and len(learnt.vocabulary) <= SPECIAL_IDS:
                hint = "Learn subwords: leave out --tokenizer and --unit-src, --unit-tgt."
                raise S2SError("no word occurs twice, so there is nothing to learn", hint=hint)
        tokenizer.save(self.folder / "tokenizer.json")
        found = (tokenizer.source.vocab_size, tokenizer.target.vocab_size)
        for name, segmentation, n, most in zip(("source", "target"), sides, found, wanted, strict=True):
            asked = options.vocab_size or segmentation.kind not in CLOSED
            if asked and n < most and not (joint and name == "target"):
                of = "both sides" if joint else f"the {name}"
                self.listen(
                    Notice(text=f"The text of {of} yields a vocabulary of {n:,} tokens, not {most:,}")
                )
        facts = {
            "units": {"source": plan.source.kind, "target": plan.target.kind},
            "automatic": plan.automatic,
            "features": plan.source.features,
            "joint": joint,
            "letter_overlap": round(overlap, 3),
            "source_vocab": found[0],
            "target_vocab": found[1],
            "tags": len(tokenizer.source.tags),
            "wanted_vocab": dict(zip(("source", "target"), wanted, strict=True)),
            "sample_lines": len(places),
            "normalize": {"source": plan.source.normalize, "target": plan.target.normalize},
        }
        return tokenizer, facts

    def _joint(self, plan: Plan, overlap: float) -> bool:
        """Whether both sides share one vocabulary."""
        same = (plan.source.kind, plan.source.separator) == (plan.target.kind, plan.target.separator)
        if self.options.joint and not same:
            what = f"the units of the sides differ: {plan.source.kind} and {plan.target.kind}"
            hint = "Choose the same --unit-src and --unit-tgt."
            if plan.source.kind == plan.target.kind:
                what = f"the separators differ: {plan.source.separator!r} and {plan.target.separator!r}"
                hint = "Choose the same --separator-src and --separator-tgt."
            raise UsageError(what, where="--joint", hint=hint)
        if self.options.joint is not None or not same:
            return bool(self.options.joint)
        joint = overlap >= JOINT_THRESHOLD
        how = "One vocabulary for both sides" if joint else "A vocabulary for each side"
        self.listen(Notice(text=f"{how}: source and target share {overlap:.0%} of their letters"))
        return joint

    def _encode(self, surveys: dict[str, Survey], tokenizer: Tokenizer) -> None:
        """Third reading: write ids and text, in the order of the input."""
        meter = ByteProgress(self.listen, "encoding", sum(self.sizes.values()))
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
                    # The training text, and what is held out of it; a set that is given is kept whole.
                    limit = self.options.max_length if name == "train" else None
                    for split in set(fate.tolist()) & writers.keys():
                        places = np.flatnonzero(fate == split)
                        fate[writers[split].write(chunk, places, tokenizer, limit)] = sel.LONG
                meter.base += self.sizes[name]
                if start != len(survey) or self.sets[name].stamps() != self.stamps[name]:
                    raise S2SError(
                        f"the {name} text has changed while it was read",
                        where=", ".join(str(path) for path in self.sets[name].files),
                        hint="Start again when nothing writes to it.",
                    )
            for writer in writers.values():
                writer.finish()
        check_left(surveys["train"].fate, self.sets["train"])
        for split in writers:
            if not any((survey.fate == split).any() for survey in surveys.values()):
                raise S2SError(
                    f"no {SPLITS[split]} pair is left: all that were held out have a side of more than "
                    f"{self.options.max_length:,} tokens",
                    where=", ".join(str(path) for path in self.sets["train"].files),
                    hint=f"Raise --max-length or --{SPLITS[split]}-size, or give a {SPLITS[split]} set.",
                )
        meter.end()
        self.unknown = {SPLITS[split]: writer.unknown() for split, writer in writers.items()}

    def _report(self, surveys: dict[str, Survey], facts: dict[str, Any], duplicates: int) -> dict[str, Any]:
        self.digest.update((self.folder / "tokenizer.json").read_bytes())
        for survey in surveys.values():
            self.digest.update(survey.fate.data)
        report = build_report(self.folder, self.options, self.sets, surveys, self.unknown, self.listen)
        report["fingerprint"] = self.digest.hexdigest()
        report["duplicates"] = duplicates
        report["normalize"] = facts.pop("normalize")
        report["tokenizer"] = facts
        return report
