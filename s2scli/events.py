"""What commands tell whoever listens: the console, ``metrics.jsonl``, TensorBoard, a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True, kw_only=True)
class Notice(Event):
    """Something to know (``warning`` false) or to beware of (true)."""

    text: str
    warning: bool = False


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """A long task has come to ``done`` of ``total`` (None: unknown) ``unit``s; done == total ends it."""

    task: str
    done: float
    total: float | None
    unit: str


@dataclass(frozen=True, kw_only=True)
class Prepared(Event):
    """``s2s preprocess`` has ended; ``report`` is the content of ``data/report.json``."""

    report: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainingStarted(Event):
    """The plan of a training: settings chosen (name → value and why) and sizes."""

    settings: dict[str, str]
    parameters: int
    pairs: int
    total_steps: int | None
    max_minutes: float | None
    step: int


@dataclass(frozen=True, kw_only=True)
class Stepped(Event):
    """Some updates have been made since the last such event (means over them)."""

    step: int
    epoch: float
    loss: float
    """Nats per target token, without label smoothing."""
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    """Target tokens, without padding."""
    data_wait: float
    """Share of the time spent waiting for data."""
    elapsed: float
    """Seconds of training, over all resumed parts."""
    remaining: float | None
    """Projected seconds to the end, if there is a limit."""


@dataclass(frozen=True, kw_only=True)
class Validated(Event):
    """A validation has ended."""

    step: int
    epoch: float
    loss: float
    bleu: float
    chrf: float
    accuracy: float
    best: bool
    best_score: float
    metric: str
    waited: int
    """Validations since the best one."""
    patience: int | None
    samples: tuple[tuple[str, str, str], ...]
    """(source, reference, hypothesis)."""
    elapsed: float


@dataclass(frozen=True, kw_only=True)
class TrainingEnded(Event):
    """The end and why; the best model stands in ``model``."""

    reason: str
    step: int
    best_step: int | None
    best_score: float | None
    metric: str
    elapsed: float
    model: str
    how_to_go_on: str | None = None


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener that listens to nothing."""


class WhileItLasts:
    """A listener that may go away, as a terminal or the end of a pipe does, with no error for who tells."""

    def __init__(self, listen: Listener) -> None:
        self._listen = listen

    def __call__(self, event: Event) -> None:
        """Pass the event on, if the listener is still there."""
        try:
            self._listen(event)
        except OSError:
            self._listen = silent
