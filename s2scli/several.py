"""Several trainings at once: what is told of them, and how they look together."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s2scli.events import Event, Stepped, TrainingEnded, TrainingStarted, Validated
from s2scli.wording import duration, measure, visible

MOST_ROWS = 20
"""Trainings that are shown in a row each; of more, those that have ended share one."""


class SeedsEvent(Event):
    """Base of what is told of several trainings."""


@dataclass(frozen=True, kw_only=True)
class SeedsStarted(SeedsEvent):
    """Trainings with these seeds are about to be made, ``at_once`` at a time; ``text`` says it in words."""

    seeds: tuple[int, ...]
    at_once: int
    text: str


@dataclass(frozen=True, kw_only=True)
class OfSeed(SeedsEvent):
    """An event of the training with this seed."""

    seed: int
    event: Event


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """A training has come to nothing more; the others go on."""

    what: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a training has come, by its last checkpoint.

    Attributes:
        step: Updates made; None if there is no checkpoint.
        ended: Why it has ended, if it has.
    """

    seed: int
    step: int | None = None
    best_score: float | None = None
    metric: str = "bleu"
    ended: str | None = None


@dataclass(frozen=True, kw_only=True)
class SeedsEnded(SeedsEvent):
    """All that can be done has been done; some of the trainings may have been stopped or have failed."""

    run: str
    standings: tuple[Standing, ...]
    how_to_go_on: str | None = None

    @property
    def what_next(self) -> list[str]:
        """What can be done now, in words."""
        texts = [f"To go on: {self.how_to_go_on}"] if self.how_to_go_on else []
        if any(of.step is not None for of in self.standings):
            texts.append(f"s2s translate --run {shlex.quote(self.run)} uses all of them together.")
        return texts


def seed_list(seeds: Sequence[int]) -> str:
    """``7``, ``7 and 9``, ``7 to 11``, ``7, 8 and 11``."""
    if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
        return f"{seeds[0]} to {seeds[-1]}"
    texts = [str(seed) for seed in seeds]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


class Board:
    """What each training is doing, a row for each, brought up to date by its events.

    Args:
        seeds: Of the trainings.
        in_rows: Whether the rows are shown, so that nothing that stands there need be said.
    """

    def __init__(self, seeds: Sequence[int], *, in_rows: bool) -> None:
        self.in_rows = in_rows
        self.waiting = list(seeds)
        self.rows: dict[int, dict[str, str]] = {}
        self.over: list[int] = []
        self._told = False

    def hear(self, seed: int, event: Event) -> Event | None:
        """Take note of an event of the training with this seed.

        Returns:
            What of it is still to be said. The first that starts tells the settings of all.
        """
        self._note(seed, event)
        if isinstance(event, TrainingStarted):
            told, self._told = self._told, True
            return None if told else event
        if self.in_rows and isinstance(event, (Stepped, Validated, TrainingEnded)):
            return None
        if isinstance(event, Validated):
            return replace(event, samples=())
        if isinstance(event, TrainingEnded):
            return replace(event, how_to_go_on=None)  # they go on together
        return event

    def _note(self, seed: int, event: Event) -> None:
        if seed in self.waiting:
            self.waiting.remove(seed)
        row = self.rows.setdefault(seed, {"state": "starts"})
        if isinstance(event, TrainingStarted):
            row.update(step=f"step {event.step:,}")
        elif isinstance(event, Stepped):
            row.update(step=f"step {event.step:,}", epoch=f"epoch {event.epoch:.2f}")
            row.update(loss=f"loss {event.loss:.3f}")
            row["state"] = "" if event.remaining is None else f"{duration(event.remaining)} left"
        elif isinstance(event, Validated):
            row["best"] = f"best {measure(event.best_score, event.metric)}"
        elif isinstance(event, (TrainingEnded, Failed)):
            row["state"] = f"ended: {event.reason}" if isinstance(event, TrainingEnded) else "failed"
            self.over.append(seed)

    def show(self) -> RenderableType:
        """One row for each training; a line for all that wait."""
        table = Table.grid(padding=(0, 2, 0, 0))
        crowded = len(self.rows) > MOST_ROWS
        for seed, row in sorted(self.rows.items()):
            if not (crowded and seed in self.over):
                cells = [row.get(name, "") for name in ("step", "epoch", "loss", "best", "state")]
                table.add_row(Text(f"seed {seed}", style="cyan"), *map(visible, cells))
        notes = [f"{len(self.over)} more are over"] if crowded and self.over else []
        notes += [f"to come: {seed_list(self.waiting)}"] if self.waiting else []
        return Group(table, *(Text(note, style="dim") for note in notes))


def summary(ended: SeedsEnded) -> Table:
    """Seed, updates and best score of each model, the middle of the scores and how far they spread."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("seed")
    table.add_column("updates", justify="right")
    table.add_column("best score", justify="right")
    table.add_column("")
    metric = next((s.metric for s in ended.standings if s.best_score is not None), "bleu")
    for of in ended.standings:
        step = "" if of.step is None else f"{of.step:,}"
        score = "" if of.best_score is None else measure(of.best_score, of.metric)
        table.add_row(str(of.seed), step, score, visible(of.ended or "not ended"))
    scores = sorted(s.best_score for s in ended.standings if s.best_score is not None)
    if len(scores) > 1:
        lowest, highest = (measure(score, metric) for score in (scores[0], scores[-1]))
        table.add_section()
        table.add_row("middle", "", measure(statistics.median(scores), metric), f"from {lowest} to {highest}")
    return table
