"""Everything that is said on stderr: progress, reports, warnings, errors.

Text from outside (sentences, file names, messages) only ever becomes a ``Text``,
never markup, and its control characters are made visible.
"""

from __future__ import annotations

import errno
import math
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from s2scli import events
from s2scli.errors import counted
from s2scli.panels import settings_table, sizes_table
from s2scli.several import Board, Failed, OfSeed, SeedsEnded, SeedsEvent, SeedsStarted, summary
from s2scli.wording import amount, duration, measure, perplexity, report_facts, visible

LONGEST = 160
"""Characters of a sample sentence that are shown."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Leave a closed pipe to ``cli.main``; Rich would end the program here."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads stderr")


def make_console() -> Console:
    """The console on stderr."""
    # FORCE_COLOR, which many build servers set, makes a terminal of any file for Rich.
    moving = None if sys.stderr.isatty() else False
    return _Console(stderr=True, highlight=False, markup=False, emoji=False, force_terminal=moving)


def _ago(waited: int, patience: int | None) -> str:
    """How long ago the best validation was, and how long it may be."""
    count = f"{waited} validation{'' if waited == 1 else 's'} ago"
    return count if patience is None else f"{count} (patience {patience})"


class ConsoleListener:
    """Shows events: a live display on a terminal, plain lines elsewhere.

    Args:
        console: Where to write; by default stderr.
        bars: Whether the terminal may hold moving things at all.
        interval: Without a terminal, the least number of seconds between two lines of training.
        prefix: What every line begins with.
    """

    def __init__(
        self, console: Console | None = None, *, bars: bool = True, interval: float = 5.0, prefix: str = ""
    ) -> None:
        self.console = console or make_console()
        self.prefix = prefix
        self.moving = bars and self.console.is_terminal and not self.console.is_dumb_terminal
        self.interval = interval
        self._last_line = -math.inf
        self._status: RenderableType | None = None
        self._share: float | None = None
        self._best = ""
        self._total: int | None = None
        self._tasks: dict[str, TaskID] = {}
        self._live: Live | None = None
        self._board = Board((), in_rows=False)
        self._of: dict[int, ConsoleListener] = {}
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TimeRemainingColumn(),
            console=self.console,
            auto_refresh=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the live display; what it showed last disappears."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __call__(self, event: events.Event) -> None:
        """Show one event."""
        if isinstance(event, events.Notice):
            self._print(Text("Warning: ", style="yellow") if event.warning else Text(), visible(event.text))
        elif isinstance(event, events.Progress):
            self._progress(event)
        elif isinstance(event, events.Prepared):
            self.console.print(sizes_table(event.report))
            self.console.print(settings_table(report_facts(event.report)))
        elif isinstance(event, events.TrainingStarted):
            self._started(event)
        elif isinstance(event, events.Stepped):
            self._stepped(event)
        elif isinstance(event, events.Validated):
            self._validated(event)
        elif isinstance(event, events.TrainingEnded):
            self._ended(event)
        elif isinstance(event, Failed):
            self._print(Text("Failed: ", style="red"), visible(event.what))
        elif isinstance(event, SeedsEvent):
            self._several(event)

    def _print(self, *parts: Text) -> None:
        # Without a terminal a line stays a line, however long: it is grep that reads it.
        self.console.print(Text.assemble(self.prefix, *parts), soft_wrap=not self.console.is_terminal)

    def _refresh(self) -> None:
        if not self.moving:
            return
        if self._live is None:
            # stdout carries data and is left alone.
            self._live = Live(
                console=self.console,
                transient=True,
                refresh_per_second=4,
                redirect_stdout=False,
                get_renderable=self._display,
            )
            self._live.start()

    def _display(self) -> RenderableType:
        parts: list[RenderableType] = [self._status] if self._status is not None else []
        if self._status is not None and self._share is not None:
            parts.append(ProgressBar(total=1.0, completed=self._share, width=min(60, self.console.width)))
        if self._tasks:
            parts.append(self._bars.get_renderable())
        return Group(*parts)

    def _progress(self, event: events.Progress) -> None:
        if not self.moving:
            return
        ended = event.total is not None and event.done >= event.total
        task = self._tasks.get(event.task)
        if ended:
            if task is not None:
                self._bars.remove_task(task)
                del self._tasks[event.task]
        else:
            if task is None:
                task = self._bars.add_task(visible(event.task).plain, total=event.total, amount="")
                self._tasks[event.task] = task
            done = amount(event.done, event.unit)
            self._bars.update(task, total=event.total, completed=event.done, amount=done)
        if self._tasks or self._live is not None:
            self._refresh()
        if not self._tasks and self._status is None:
            self.close()

    def _started(self, event: events.TrainingStarted) -> None:
        self._total = event.total_steps
        rows = [
            ("training pairs", f"{event.pairs:,}"),
            ("parameters", f"{event.parameters:,}"),
            ("updates", "no limit" if event.total_steps is None else f"{event.total_steps:,} at most"),
            (
                "time",
                "no limit" if event.max_minutes is None else f"{duration(60 * event.max_minutes)} at most",
            ),
        ]
        if event.step:
            rows.append(("goes on after update", f"{event.step:,}"))
        rows += [(name.replace("_", " "), value) for name, value in event.settings.items()]
        self.console.print(settings_table(rows, "Training"))
        if self.moving:
            self._status = Text("The first updates are being made …", style="cyan")
            self._refresh()

    def _stepped(self, event: events.Stepped) -> None:
        step = f"step {event.step:,}" + (f" of {self._total:,}" if self._total else "")
        parts = [
            step,
            f"epoch {event.epoch:.2f}",
            f"loss {event.loss:.3f}",
            f"perplexity {perplexity(event.loss)}",
            f"{event.tokens_per_second:,.0f} tokens/s",
        ]
        left = [] if event.remaining is None else [f"{duration(event.remaining)} left"]
        if self.moving:
            if event.remaining is not None:
                self._share = event.elapsed / max(1e-9, event.elapsed + event.remaining)
            self._status = Text(
                " · ".join([*parts, *left, *([self._best] if self._best else [])]), style="cyan"
            )
            self._refresh()
            return
        now = time.monotonic()
        if now - self._last_line < self.interval:
            return
        self._last_line = now
        rate = f"learning rate {event.learning_rate:.2e}"
        self._print(Text(" · ".join([*parts, rate, f"{duration(event.elapsed)} passed", *left])))

    def _validated(self, event: events.Validated) -> None:
        best = measure(event.best_score, event.metric)
        self._best = f"best {best}"
        exact = event.metric == "acc"  # of strings; BLEU says nothing of them
        first = measure(event.accuracy, "acc") if exact else measure(event.bleu, "bleu")
        line = Text.assemble(
            Text("Validation", style="bold"),
            f" at step {event.step:,} (epoch {event.epoch:.2f}, {duration(event.elapsed)}): "
            f"loss {event.loss:.3f}, perplexity {perplexity(event.loss)}, "
            f"{first}, chrF {event.chrf:.2f}; ",
            Text("the best so far", style="green")
            if event.best
            else Text(f"best {best}, {_ago(event.waited, event.patience)}"),
        )
        self._print(line)
        for sample in event.samples:
            self._sample(sample)
        if event.samples:
            self._print(Text())

    def _sample(self, sample: tuple[str, str, str]) -> None:
        sentences = [visible(sentence, longest=LONGEST) for sentence in sample]
        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, sentence in zip(("  source", "  reference", "  hypothesis"), sentences, strict=True):
            if self.console.is_terminal:
                grid.add_row(Text(name, style="dim"), sentence)
            else:
                self._print(Text(f"{name:<14}"), sentence)
        if self.console.is_terminal:
            self.console.print(grid)

    def _ended(self, event: events.TrainingEnded) -> None:
        self._status = None
        self.close()
        lines = [
            f"Training ended after {counted(event.step, 'update')} and {duration(event.elapsed)}: "
            f"{event.reason}."
        ]
        if event.best_step is not None:
            best = measure(event.best_score, event.metric)
            lines.append(f"The best model is that of update {event.best_step:,} ({best}): {event.model}")
        else:
            lines.append(f"The model: {event.model}")
        if event.how_to_go_on:
            lines.append(event.how_to_go_on)
        for line in lines:
            self._print(visible(line))

    def _several(self, event: SeedsEvent) -> None:
        if isinstance(event, SeedsStarted):
            self._board = Board(event.seeds, in_rows=self.moving)
            # Several at once say together no more than one does alone.
            every = self.interval * event.at_once
            self._of = {
                seed: ConsoleListener(self.console, bars=False, interval=every, prefix=f"seed {seed}: ")
                for seed in event.seeds
            }
            self._print(visible(event.text))
        elif isinstance(event, OfSeed):
            line = self._board.hear(event.seed, event.event)
            if isinstance(line, events.TrainingStarted):
                self._started(line)
            elif line is not None:
                self._of[event.seed](line)
            if self.moving:
                self._status = self._board.show()
                self._refresh()
        elif isinstance(event, SeedsEnded):
            self._status = None
            self.close()
            self.console.print(summary(event))
            for text in event.what_next:
                self._print(visible(text))
