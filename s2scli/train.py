"""The training loop: step, validate, keep the best, stop early, resume exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from s2scli import checkpoint
from s2scli.config import TrainOptions
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, Stepped, TrainingEnded, TrainingStarted, Validated, silent
from s2scli.meter import Clock, Meter, Stop
from s2scli.metrics import Recorder
from s2scli.model import Batch
from s2scli.recipe import DataFacts, choose
from s2scli.resolve import build, flag
from s2scli.runtime import set_up
from s2scli.shards import ParallelData
from s2scli.tokenizer import Tokenizer
from s2scli.trainer import Trainer
from s2scli.validate import Validator

REPORT_EVERY = 25
"""Updates between two Stepped events."""
CHECKPOINT_SECONDS = 600.0
"""A checkpoint is written at least this often, and at each validation."""
MAY_CHANGE = {
    "resume",
    "force",
    "epochs",
    "max_steps",
    "max_minutes",
    "patience",
    "device",
    "threads",
    "samples",
    "run",
}
"""Options that a resumed training may be given anew."""


class Loop:
    """Steps, validations and checkpoints, until a limit, patience or the user ends them.

    Args:
        trainer: What is trained.
        validator: Measures it.
        listen: Told what happens.
    """

    def __init__(self, trainer: Trainer, validator: Validator, listen: Listener) -> None:
        self.trainer, self.validator, self.listen = trainer, validator, listen
        self.options, self.position = trainer.options, trainer.position
        self.meter = Meter(Clock(self.position.elapsed))
        self.reserve = 0.0  # seconds that the last validation will take
        self.epoch_done = 0.0

    def run(self, stop: Stop) -> None:
        """Train to the end, or until the user asks to stop."""
        position, clock, saved_at = self.position, self.meter.clock, self.meter.clock.seconds
        while True:
            for group in self._groups():
                progress = self._progress()
                self.trainer.set_learning_rate(progress)
                loss, norm = self.trainer.update(group)
                self.meter.add(loss, sum(b.target_tokens for b in group))
                position.step += 1
                over = self.over()
                if position.step % REPORT_EVERY == 0 or over or stop.asked:
                    self._report(norm, progress)
                validated = bool(over) or position.step % (self.options.validate_every or 1) == 0
                if validated:
                    self._validate()
                    if over is None and position.waited >= self.options.patience:
                        over = f"no better {self.options.metric} for {self.options.patience} validations"
                position.elapsed, position.ended = clock.seconds, over
                if validated or stop.asked or clock.seconds - saved_at > CHECKPOINT_SECONDS:
                    self.trainer.save()
                    saved_at = clock.seconds
                    self.meter.restart()
                if over or stop.asked:
                    return
            position.epoch, position.cursor = position.epoch + 1, 0

    def _groups(self) -> Iterator[list[Batch]]:
        """The rest of the epoch's batches, as many together as make an update."""
        plan = self.trainer.batches.epoch(self.position.epoch)
        while self.position.cursor < len(plan):
            with self.meter.waiting():
                chosen = plan[self.position.cursor : self.position.cursor + self.options.accumulate]
                group = [self.trainer.batches.load(indices) for indices in chosen]
            self.position.cursor += len(chosen)
            self.epoch_done = self.position.cursor / len(plan)
            yield group

    def _progress(self) -> float:
        """The share of the training that is done, by the limit that will end it first."""
        shares = [0.0]
        if self.trainer.recipe.total_steps is not None:
            shares.append(self.position.step / self.trainer.recipe.total_steps)
        if self.options.max_minutes is not None:
            shares.append(self.meter.clock.seconds / max(1e-9, self.options.max_minutes * 60 - self.reserve))
        return min(1.0, max(shares))

    def over(self) -> str | None:
        """Why the training must end now, if it must."""
        options, position = self.options, self.position
        if options.max_steps is not None and position.step >= options.max_steps:
            return f"the limit of {options.max_steps:,} updates is reached"
        seconds = self.meter.clock.seconds + self.reserve
        if options.max_minutes is not None and seconds >= options.max_minutes * 60:
            return f"the limit of {options.max_minutes:g} minutes is reached"
        if options.epochs is not None and position.epoch + self.epoch_done >= options.epochs:
            return f"the limit of {options.epochs:,} epochs is reached"
        return None

    def _report(self, norm: Tensor, progress: float) -> None:
        loss, speed, waiting = self.meter.read()
        if not math.isfinite(loss):
            raise S2SError(
                f"the loss is no longer a number at step {self.position.step:,}",
                where=str(self.trainer.folder),
                hint="Try a lower --learning-rate, or --precision fp32. The best model so far is kept.",
            )
        elapsed = self.meter.clock.seconds
        self.listen(
            Stepped(
                step=self.position.step,
                epoch=self.position.epoch + self.epoch_done,
                loss=loss,
                learning_rate=self.trainer.optimizer.param_groups[0]["lr"],
                gradient_norm=float(norm),
                tokens_per_second=speed,
                data_wait=waiting,
                elapsed=elapsed,
                remaining=elapsed * (1 - progress) / progress if progress > 0.005 else None,
            )
        )

    def _validate(self) -> None:
        before = self.meter.clock.seconds
        result = self.validator.validate(self.trainer.final_model)
        self.reserve = self.meter.clock.seconds - before
        position, metric = self.position, self.options.metric
        score = {"bleu": result.bleu, "chrf": result.chrf, "loss": -result.loss}[metric]
        best = position.best_score is None or score > position.best_score
        if best:
            position.best_score, position.best_step, position.waited = score, position.step, 0
            # Before the state that will say so: after a crash in between, the same steps lead here again.
            checkpoint.save_weights(self.trainer.folder / "best", self.trainer.final_model)
        else:
            position.waited += 1
        assert position.best_score is not None
        self.listen(
            Validated(
                step=position.step,
                epoch=position.epoch + self.epoch_done,
                loss=result.loss,
                bleu=result.bleu,
                chrf=result.chrf,
                best=best,
                best_score=abs(position.best_score),
                metric=metric,
                waited=position.waited,
                patience=self.options.patience,
                samples=result.samples,
                elapsed=self.meter.clock.seconds,
            )
        )
        for text in result.warnings:
            self.listen(Notice(text=text, warning=True))


def resumed_options(saved: dict[str, Any], given: TrainOptions) -> TrainOptions:
    """The options of a training that goes on: as saved, but for the limits and the machine.

    Raises:
        UsageError: Something is asked for that cannot change in the middle.
    """
    old = build(TrainOptions, saved)
    changed: dict[str, Any] = {}
    for option in fields(TrainOptions):
        new, before = getattr(given, option.name), getattr(old, option.name)
        if option.name in MAY_CHANGE:
            changed[option.name] = before if new == option.default and option.name != "resume" else new
        elif new not in (option.default, before):
            raise UsageError(
                f"a resumed training cannot change this (it was {before})",
                where=flag(option.name),
                hint="Leave it out, or start anew with --force.",
            )
    return replace(old, **{**changed, "run": given.run})


def train(options: TrainOptions, listen: Listener = silent) -> TrainingEnded:
    """Train a model on the data of a run folder.

    Args:
        options: See ``s2s train --help``.
        listen: Told every event of ``s2scli.events`` that concerns training.

    Raises:
        S2SError: No data, results in the way, a damaged checkpoint, a loss that is not a number.
    """
    folder, data_folder = options.run, options.run / "data"
    if not (data_folder / "report.json").is_file():
        hint = "Run s2s preprocess first, or name its folder with --run."
        raise S2SError("there is no preprocessed data in this run folder", where=str(folder), hint=hint)
    options = _check_results(options)
    runtime = set_up(options.device, options.precision, options.threads)
    tokenizer = Tokenizer.load(data_folder / "tokenizer.json")
    data, dev = ParallelData.open(data_folder, "train"), ParallelData.open(data_folder, "dev")
    facts = DataFacts(
        pairs=len(data),
        target_tokens=int(data.target_lengths.sum()) + len(data),
        source_vocab=tokenizer.source.vocab_size,
        target_vocab=tokenizer.target.vocab_size,
        joint=tokenizer.joint,
    )
    recipe = choose(options, facts)
    info = checkpoint.ModelInfo(model=recipe.model, max_source_length=int(data.source_lengths.max()))
    trainer = Trainer(recipe, data, folder, runtime)
    checkpoint.remove_leftovers(folder)
    if options.resume:
        trainer.restore()
    else:
        checkpoint.remove_models(folder)
        for name in ("best", "last"):
            checkpoint.create_model_directory(folder / name, info, tokenizer)
        trainer.save()
    validator = Validator(tokenizer, dev, data_folder, info.max_source_length, recipe.options, runtime)
    with (
        Recorder(folder, options.tensorboard, trainer.position.step, listen) as recorder,
        Stop().listening() as stop,
    ):
        loop = Loop(trainer, validator, recorder)
        if trainer.position.ended is not None:
            if loop.over() or trainer.position.waited >= recipe.options.patience:
                hint = "Raise the limit to go on."
                listen(Notice(text=f"This training has ended already: {trainer.position.ended}. {hint}"))
                return _ended(trainer, listen)
            trainer.position.ended = None
        recorder(
            TrainingStarted(
                settings={**recipe.why, "machine": runtime.description},
                parameters=sum(p.numel() for p in trainer.model.parameters()),
                pairs=len(data),
                total_steps=recipe.total_steps,
                max_minutes=options.max_minutes,
                step=trainer.position.step,
            )
        )
        loop.run(stop)
        return _ended(trainer, recorder)


def _check_results(options: TrainOptions) -> TrainOptions:
    """The options to train with, once it is clear that nothing is in the way."""
    folder = options.run
    has_state = (folder / "state" / "training.safetensors").is_file()
    if options.resume:
        if not has_state:
            raise S2SError(
                "there is no training to resume", where=str(folder), hint="Start one with s2s train."
            )
        _, progress = checkpoint.load_state(folder / "state")
        return resumed_options(progress["options"], options)
    if (has_state or (folder / "best").exists()) and not options.force:
        hint = "Go on with it (--resume), replace it (--force), or name another folder (--run)."
        raise S2SError("there is a trained model in this run folder already", where=str(folder), hint=hint)
    return options


def _ended(trainer: Trainer, listen: Listener) -> TrainingEnded:
    position = trainer.position
    event = TrainingEnded(
        reason=position.ended or "stopped by the user",
        step=position.step,
        best_step=position.best_step,
        best_score=None if position.best_score is None else abs(position.best_score),
        metric=trainer.options.metric,
        elapsed=position.elapsed,
        model=str(trainer.folder / ("best" if position.best_step is not None else "last")),
        how_to_go_on=None if position.ended else f"s2s train --resume --run {trainer.folder}",
    )
    listen(event)
    return event
