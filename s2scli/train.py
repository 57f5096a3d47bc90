"""``s2s train``: what stands before the loop and after it; what may change when a training goes on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from s2scli import checkpoint, torchrun, trainingstate
from s2scli.config import TrainOptions
from s2scli.dataset import TrainingBatches
from s2scli.distributed import Peers, check_same, together
from s2scli.errors import S2SError, UsageError, counted
from s2scli.events import Listener, Notice, TrainingEnded, TrainingStarted, WhileItLasts, silent
from s2scli.lexicon import copy_lexicon
from s2scli.loop import Loop
from s2scli.meter import Stop
from s2scli.recipe import DataFacts, Recipe, choose
from s2scli.recorder import Recorder, check_tensorboard
from s2scli.resolve import build, checked, flag
from s2scli.runfolder import claimed, data_folder, replacing_models, trained
from s2scli.runtime import keep_kernels, set_up, settled, usual_speed
from s2scli.scoring.units import of_strings
from s2scli.shards import ParallelData
from s2scli.tokenizer import Tokenizer
from s2scli.trainer import Trainer
from s2scli.translation import length_ratio
from s2scli.validate import HeldOut, Validator

LIMITS = ("epochs", "max_steps", "max_minutes", "patience")
MAY_CHANGE = {*LIMITS, "resume", "run", "device", "precision", "threads", "samples", "tensorboard"}
"""Options that a resumed training may be given anew."""
BEGUN = ".torchrun"
"""File in a run folder: what torchrun has started had nothing in its way, and goes on if started again."""


def resumed_options(saved: dict[str, Any], chosen: Sequence[str], given: TrainOptions) -> TrainOptions:
    """The options of a training that goes on: as saved, but for the limits and the machine.

    Args:
        saved: The options at the start, those that the recipe filled in included.
        chosen: Names of the latter.
        given: What the user asks for now; what a file says for every call gives way to what was saved.

    Raises:
        UsageError: Something is asked for that cannot change in the middle.
    """
    old = build(TrainOptions, saved)
    changed: dict[str, Any] = {"resume": True, "run": given.run, "force": False}
    for option in fields(TrainOptions):
        name = option.name
        new, before = getattr(given, name), getattr(old, name)
        if not given.asks(name) or name in changed:
            continue
        if name in MAY_CHANGE:
            changed[name] = new
        elif new != before:
            raise UsageError(
                f"a resumed training cannot change this (it was {before})",
                where=flag(name),
                hint="Leave it out, or start anew with --force.",
            )
    # Limits that nobody set give way to those that somebody sets now, as in a fresh training.
    if changed.keys() & {"max_steps", "max_minutes"}:
        changed |= {name: None for name in ("epochs", "patience") if name in chosen and name not in changed}
    resumed = replace(old, **changed)
    object.__setattr__(resumed, "given", given.given - given.from_file)
    # All else was asked for, if it was, of the call that began; what a file said then was no mistake.
    unasked = frozenset(option.name for option in fields(TrainOptions) if not given.asks(option.name))
    object.__setattr__(resumed, "from_file", unasked)
    object.__setattr__(resumed, "filled", frozenset(chosen) - changed.keys())
    return resumed


def train(options: TrainOptions, listen: Listener = silent, stop: Stop | None = None) -> TrainingEnded:
    """Train a model on the data of a run folder.

    Args:
        options: See ``s2s train --help``.
        listen: Told every event of ``s2scli.events`` that concerns training; no more after an OSError of it.
        stop: Ends the training after the step under way when it is asked to, as Ctrl-C does.

    Raises:
        S2SError: No data, results in the way, a damaged checkpoint, a loss that is not a number.
    """
    options = checked(options)
    if options.seeds > 1 and options.asks("seeds"):
        raise UsageError(
            "this function trains one model", where="seeds", hint="Use s2scli.seeds.train_seeds."
        )
    with together(options.device) as peers, claimed(options.run) if peers.first else nullcontext():
        peers.of_first(lambda: None)  # nobody reads before what a killed command has left is settled
        fingerprint = _fingerprint(find_data(options.run) / "report.json")
        full = peers.of_first(lambda: _check_results(_restarted(options, peers), fingerprint))
        # Nobody may look at a training of hours any more, and it is to go on, or at least to save.
        told = WhileItLasts(listen) if peers.first else silent
        raised = any(options.asks(name) for name in LIMITS)
        other = [name for name in sorted(options.from_file) if getattr(full, name) != getattr(options, name)]
        if options.resume and other:
            names = ", ".join(map(flag, other))
            text = f"As this training began, not as s2s.toml says: {names}. Flags change some of it."
            told(Notice(text=text))
        return _train(full, fingerprint, told, stop or Stop(), peers, raised=raised)


def _restarted(options: TrainOptions, peers: Peers) -> TrainOptions:
    """The options as given, but going on where torchrun has started again what it had begun."""
    mark = options.run / BEGUN
    if not peers.restarts:
        mark.unlink(missing_ok=True)
    if not mark.exists():
        return options
    return options.changed(resume=True, force=False)


def find_data(run: Path) -> Path:
    """The folder of a run's preprocessed data, or an error that says how to make them."""
    folder = data_folder(run)
    if not (folder / "report.json").is_file():
        hint = "Run s2s preprocess first, or name its folder with --run."
        raise S2SError("there is no preprocessed data in this run folder", where=str(run), hint=hint)
    return folder


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a training begins with: its data, and the settings that suit them."""

    tokenizer: Tokenizer
    data: ParallelData
    dev: ParallelData
    held_out: HeldOut
    recipe: Recipe


def read_inputs(options: TrainOptions, processes: int = 1) -> Inputs:
    """Read the data and choose the settings.

    Args:
        options: See ``s2s train --help``.
        processes: How many share the work of an update.

    Raises:
        S2SError: Data that are damaged; options that do not go together, or not with these data.
    """
    folder = find_data(options.run)
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    data, dev = ParallelData.open(folder, "train"), ParallelData.open(folder, "dev")
    for pairs in (data, dev):
        pairs.check(tokenizer.source.vocab_size, tokenizer.target.vocab_size)
    held_out = HeldOut.read(folder)
    if not len(held_out.sources) == len(held_out.references) == len(dev):
        what = (
            f"dev.source.txt has {counted(len(held_out.sources), 'line')}, dev.target.txt "
            f"{counted(len(held_out.references), 'line')}, for {counted(len(dev), 'pair')}"
        )
        raise S2SError(what, where=str(folder), hint="Run s2s preprocess again, with --force.")
    facts = DataFacts(
        pairs=len(data),
        tokens=int(data.target_lengths.sum()) + len(data),
        speed=usual_speed(options.device, options.threads) * processes,
        source_vocab=tokenizer.source.vocab_size,
        target_vocab=tokenizer.target.vocab_size,
        joint=tokenizer.joint,
        strings=of_strings(tokenizer, held_out.sources, held_out.references),
        short_lines=held_out.short,
        batches=lambda tokens: len(TrainingBatches(data, tokens, options.seed).epoch(0)),
    )
    if options.tensorboard:
        check_tensorboard()
    recipe = choose(options, facts)
    return Inputs(tokenizer=tokenizer, data=data, dev=dev, held_out=held_out, recipe=recipe)


def _train(
    options: TrainOptions, fingerprint: str, listen: Listener, stop: Stop, peers: Peers, *, raised: bool
) -> TrainingEnded:
    """Train with checked options; ``raised`` says whether the user has set a limit for this part."""
    folder = options.run
    runtime = set_up(options.device, options.precision, options.threads)
    inputs = read_inputs(options, peers.size)
    tokenizer, data = inputs.tokenizer, inputs.data
    # Machines may differ in what suits them, and all must train the same model on the same batches.
    recipe = peers.of_first(lambda: inputs.recipe)
    keep_kernels()
    longest = (int(data.source_lengths.max()), int(data.target_lengths.max()))
    ratio = length_ratio(data.source_lengths, data.target_lengths)
    info = checkpoint.ModelInfo(model=recipe.model, max_source_length=longest[0], length_ratio=ratio)
    trainer = Trainer(recipe, data, folder, runtime, fingerprint, peers)
    validator = Validator(
        tokenizer, inputs.dev, inputs.held_out, longest, recipe.options, runtime, listen, ratio
    )
    if options.resume:
        trainer.restore()
        if not (folder / "best" / "model.safetensors").exists():
            trainer.position.best_score = trainer.position.best_step = None  # moved away, to be replaced
    check_same(peers, (fingerprint, asdict(trainer.position)), folder)
    # Nothing of an older training is touched before all of the above has gone well.
    recording: AbstractContextManager[Listener] = nullcontext(silent)
    if peers.first:
        trainingstate.remove_leftovers(folder)
        with nullcontext() if options.resume else replacing_models(folder):
            for name in ("best", "last"):
                checkpoint.create_model_directory(folder / name, info, tokenizer)
                copy_lexicon(find_data(folder), folder / name)
            if not options.resume:
                trainer.save()
        if torchrun.launched():
            (folder / BEGUN).touch()
        recording = Recorder(folder, options.tensorboard, trainer.position.step, listen)
    with recording as recorder, stop.listening():
        loop = Loop(trainer, validator, recorder)
        over = loop.over() or loop.impatient()
        if over or (trainer.position.ended and not raised):
            reason = over or trainer.position.ended
            listen(Notice(text=f"There is nothing left to do: {reason}. Raise the limit to go on."))
            trainer.position.ended = reason
            return _ended(trainer, recorder)
        trainer.position.ended = None
        recorder(
            TrainingStarted(
                settings={**recipe.why, "machine": peers.description + runtime.description},
                parameters=sum(p.numel() for p in trainer.model.parameters()),
                pairs=len(data),
                total_steps=recipe.total_steps,
                max_minutes=options.max_minutes,
                step=trainer.position.step,
            )
        )
        with settled():
            loop.run(stop)
        return _ended(trainer, recorder)


def _fingerprint(report_path: Path) -> str:
    """What tells these data from others."""
    try:
        report = json.loads(report_path.read_text(encoding="utf-8"))
        checkpoint.check_format(report["format"], report_path)
        return str(report["fingerprint"])
    except (ValueError, KeyError, TypeError) as error:
        hint = "Run s2s preprocess again, with --force."
        raise S2SError(
            "this is not the report of s2s preprocess", where=str(report_path), hint=hint
        ) from error


def _check_results(options: TrainOptions, fingerprint: str) -> TrainOptions:
    """The options to train with, once it is clear that nothing is in the way."""
    folder = options.run
    check_nothing_in_the_way(options)
    if options.resume:
        if not (folder / "state" / "training.safetensors").is_file():
            raise S2SError(
                "there is no training to resume", where=str(folder), hint="Start one with s2s train."
            )
        progress = trainingstate.read_progress(folder / "state")
        if progress.get("data") != fingerprint:
            hint = "Start anew with s2s train --force, or preprocess the old data again."
            raise S2SError(
                "the data are not those that this training began with", where=str(folder), hint=hint
            )
        return resumed_options(progress["options"], progress["chosen"], options)
    return options


def check_nothing_in_the_way(options: TrainOptions) -> None:
    """Refuse to replace what is there, unless that is asked for."""
    if options.resume and options.force:
        raise UsageError("--resume goes on and --force starts anew", where="--force", hint="Use one of them.")
    if trained(options.run) and not options.force and not options.resume:
        hint = "Go on with it (--resume), replace it (--force), or name another folder (--run)."
        what = "there is a trained model in this run folder already"
        raise S2SError(what, where=str(options.run), hint=hint)


def _ended(trainer: Trainer, listen: Listener) -> TrainingEnded:
    position = trainer.position
    resume = f"s2s train --resume --run {shlex.quote(str(trainer.folder))}"
    if torchrun.launched():
        resume = "The same command with --resume goes on."
    event = TrainingEnded(
        reason=position.ended or "stopped by the user",
        step=position.step,
        best_step=position.best_step,
        best_score=None if position.best_score is None else abs(position.best_score),
        metric=trainer.options.metric or "bleu",
        elapsed=position.elapsed,
        model=str(trainer.folder / ("best" if position.best_step is not None else "last")),
        how_to_go_on=None if position.ended else resume,
    )
    listen(event)
    return event
