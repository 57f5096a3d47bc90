"""The training loop: steps, validations and checkpoints."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from s2scli import checkpoint
from s2scli.errors import S2SError, counted
from s2scli.events import Listener, Notice, Stepped, Validated
from s2scli.meter import Meter, Stop
from s2scli.model import Batch
from s2scli.trainer import Trainer
from s2scli.validate import Validator
from s2scli.wording import METRIC_NAMES

REPORT_EVERY = 25
"""Updates between two Stepped events."""
PROJECT_AFTER = 50
"""Updates after which the speed is known well enough to tell how long the training will take."""
WORTH_TELLING = 30.0
"""Seconds to the end that are told beforehand."""
CHECKPOINT_SECONDS = 600.0
"""A checkpoint is written at least this often, and at each validation."""
_TRUSTED = 1.25
"""How far above the lowest loss that of the model with the best accuracy may be.

Beyond that it is surer than it should be, as it knows single strings by heart. What share of a few hundred
lines it has right does not tell that from chance.
"""


def rank(metric: str, score: float, loss: float, lowest: float) -> tuple[bool, float, float]:
    """What is larger for the better one of two models.

    Args:
        metric: What decides.
        score: By this metric, the higher the better.
        loss: On the development set.
        lowest: That of any model so far.
    """
    # At first BLEU may be 0 for long: a lower loss is then better.
    return metric != "acc" or loss <= _TRUSTED * lowest, score, -loss


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
        self.peers = trainer.peers
        self.meter = Meter(self.peers.clock(self.position.elapsed), self.peers.total)
        self.plan = trainer.batches.epoch(self.position.epoch)
        self.projected = self.options.max_minutes is not None  # the user knows

    @property
    def epochs(self) -> float:
        """Passes over the data so far."""
        return self.position.epoch + self.position.cursor / len(self.plan)

    def run(self, stop: Stop) -> None:
        """Train to the end, or until the user asks to stop."""
        position, clock = self.position, self.meter.clock
        saved_at = clock.seconds
        most = math.inf  # seconds without a validation
        if self.options.max_minutes is not None and "validate_every" in self.trainer.recipe.chosen:
            most = 60 * self.options.max_minutes / 3
        while True:
            for group, tokens in self._groups():
                progress = self._progress()
                self.trainer.set_learning_rate(progress)
                loss, norm = self.trainer.update(group, tokens)
                self.meter.add(loss, tokens)
                position.step += 1
                position.cursor += len(group)
                # All decisions below are made of what all processes see alike.
                asked = clock.tick(stop.asked)
                over = self.over()
                # On a machine that is slower than expected, it is time before so many updates are made.
                late = clock.seconds - position.validated_at > most
                validated = bool(over) or late or position.step % (self.options.validate_every or 1) == 0
                due = clock.seconds - saved_at > CHECKPOINT_SECONDS
                if position.step % REPORT_EVERY == 0 or over or asked:
                    self._report(norm, self._progress())
                elif validated or due:  # weights that are no numbers are not to be kept
                    self._check(float(norm), "gradient")
                if validated:
                    asked = self._validate(stop) or asked
                    position.validated_at = clock.seconds
                    over = over or self.impatient()
                position.elapsed, position.ended = clock.seconds, over
                if validated or asked or due:
                    self.trainer.save()
                    asked = clock.tick(stop.asked) or asked
                    saved_at = clock.seconds
                    self.meter.restart()
                if over or asked:
                    return
            position.epoch, position.cursor = position.epoch + 1, 0
            self.plan = self.trainer.batches.epoch(position.epoch)

    def _groups(self) -> Iterator[tuple[list[Batch], int]]:
        """The rest of the epoch's batches, as many together as make an update, and their target tokens."""
        while self.position.cursor < len(self.plan):
            with self.meter.waiting():
                chosen = self.plan[self.position.cursor : self.position.cursor + self.options.accumulate]
                group = [self.trainer.batches.load(indices) for indices in chosen]
                tokens = sum(self.trainer.batches.target_tokens(indices) for indices in chosen)
            yield group, tokens

    def _progress(self) -> float:
        """The share of the training that is done, by the limit that will end it first."""
        options, position = self.options, self.position
        shares = [0.0]
        if options.max_steps is not None:
            shares.append(position.step / options.max_steps)
        if options.epochs is not None:
            shares.append(self.epochs / options.epochs)
        if options.max_minutes is not None:
            seconds = options.max_minutes * 60 - position.reserve
            shares.append(self.meter.clock.seconds / max(1e-9, seconds))
        return min(1.0, max(shares))

    def over(self) -> str | None:
        """Why the training must end now, if it must."""
        options, position = self.options, self.position
        if options.max_steps is not None and position.step >= options.max_steps:
            return f"the limit of {counted(options.max_steps, 'update')} is reached"
        seconds = self.meter.clock.seconds + position.reserve
        if options.max_minutes is not None and seconds >= options.max_minutes * 60:
            return f"the limit of {options.max_minutes:g} minutes is reached"
        if options.epochs is not None and self.epochs >= options.epochs:
            return f"the limit of {counted(options.epochs, 'epoch')} is reached"
        return None

    def impatient(self) -> str | None:
        """Why patience ends the training, if it does."""
        patience = self.options.patience
        if patience is None or self.position.waited < patience:
            return None
        metric = self.options.metric or "bleu"
        return f"no better {METRIC_NAMES.get(metric, metric)} for {counted(patience, 'validation')}"

    def _report(self, norm: Tensor, progress: float) -> None:
        loss, speed, waiting = self.meter.read()
        self._check(loss, "loss")
        self._check(float(norm), "gradient")
        elapsed = self.meter.clock.seconds
        remaining = elapsed * (1 - progress) / progress if progress > 0 else None
        if remaining is not None and not self.projected and self.position.step >= PROJECT_AFTER:
            self.projected = True
            minutes = f"{remaining / 60:,.0f}" if remaining > 90 else f"{remaining / 60:.1f}"
            early = ", or end early" if self.options.patience is not None else ""
            if remaining > WORTH_TELLING:
                self.listen(Notice(text=f"At this speed it will take {minutes} more minutes{early}."))
        self.listen(
            Stepped(
                step=self.position.step,
                epoch=self.epochs,
                loss=loss,
                learning_rate=self.trainer.optimizer.rate,
                gradient_norm=float(norm),
                tokens_per_second=speed,
                data_wait=waiting,
                elapsed=elapsed,
                remaining=remaining,
            )
        )

    def _check(self, value: float, what: str) -> None:
        """End the training where the loss, or the norm of the gradient, is no number any more."""
        if not math.isfinite(value):
            hint = "Start anew with a lower --learning-rate."
            if self.trainer.runtime.dtype != torch.float32:
                hint = (
                    "Go on from the last checkpoint with --resume --precision fp32, or start anew with a "
                    "lower --learning-rate."
                )
            if self.position.best_step is not None:
                hint += " The best model so far is kept until then."
            text = f"the {what} is no longer a number at step {self.position.step:,}"
            raise S2SError(text, where=str(self.trainer.folder), hint=hint)

    def _validate(self, stop: Stop) -> bool:
        """Measure the model and keep it if it is the best; returns whether a stop was asked for meanwhile."""
        before = self.meter.clock.seconds
        result = self.peers.of_first(lambda: self.validator.validate(self.trainer.final_model))
        asked = self.meter.clock.tick(stop.asked)
        self.position.reserve = self.meter.clock.seconds - before
        self._check(result.loss, "loss")
        position, metric = self.position, self.options.metric or "bleu"
        measured = {"bleu": result.bleu, "chrf": result.chrf, "acc": result.accuracy, "loss": -result.loss}
        score = measured[metric]
        lowest = min(result.loss, result.loss if position.lowest_loss is None else position.lowest_loss)
        position.lowest_loss = lowest
        best = position.best_score is None or rank(metric, score, result.loss, lowest) > rank(
            metric, position.best_score, position.best_loss or 0.0, lowest
        )
        if best:
            position.best_score, position.best_loss = score, result.loss
            position.best_step, position.waited = position.step, 0
            # Before the state that will say so: after a crash in between, the same steps lead here again.
            if self.peers.first:
                checkpoint.save_weights(self.trainer.folder / "best", self.trainer.final_model)
        else:
            position.waited += 1
        assert position.best_score is not None
        self.listen(
            Validated(
                step=position.step,
                epoch=self.epochs,
                loss=result.loss,
                bleu=result.bleu,
                chrf=result.chrf,
                accuracy=result.accuracy,
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
        return asked
