"""``metrics.jsonl``, always, and TensorBoard, on request: listeners that write files."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from s2scli.errors import S2SError
from s2scli.events import Event, Listener, Notice, Stepped, TrainingEnded, TrainingStarted, Validated
from s2scli.files import os_error, write_text_atomic

_RECORDED = {TrainingStarted: "start", Stepped: "step", Validated: "validation", TrainingEnded: "end"}


class Recorder:
    """Writes each training event as a line of JSON and passes it on.

    Args:
        folder: The run folder.
        tensorboard: Write TensorBoard logs under ``tensorboard/`` too.
        step: Where the training starts; what an earlier part recorded beyond it is dropped,
            since those steps are about to be made again.
        listen: Who hears the events next.
    """

    def __init__(self, folder: Path, tensorboard: bool, step: int, listen: Listener) -> None:
        self.path = folder / "metrics.jsonl"
        self.listen = listen
        self.records = True
        self.board: Any = None
        if tensorboard:
            self.board = check_tensorboard()(str(folder / "tensorboard"), purge_step=step + 1)
        if self.path.exists():
            lines = [
                line
                for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n")
                if _keep(line, step)
            ]
            write_text_atomic(self.path, "".join(line + "\n" for line in lines))

    def __enter__(self) -> Self:
        self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # it has been told
            self.file.close()
            if self.board is not None:
                self.board.close()

    def __call__(self, event: Event) -> None:
        """Record an event, if it is of the training, and pass it on."""
        name = _RECORDED.get(type(event))
        if name is not None and self.records:
            try:
                self._record(name, dataclasses.asdict(event))
            except OSError as error:  # what has been learnt is worth more than its history
                self.records = False
                text = f"{os_error(error, self.path)} The training goes on, but nothing more is recorded."
                self.listen(Notice(text=text, warning=True))
        self.listen(event)

    def _record(self, name: str, content: dict[str, Any]) -> None:
        self.file.write(json.dumps({"event": name, **content}, ensure_ascii=False) + "\n")
        self.file.flush()
        if self.board is not None and name in ("step", "validation"):
            for key, value in content.items():
                if isinstance(value, (int, float)) and key != "step":
                    self.board.add_scalar(f"{name}/{key}", value, content["step"])


def _keep(line: str, step: int) -> bool:
    """Whether a recorded line is whole and of a step that will not be made again."""
    try:
        record = json.loads(line)
        return record["event"] != "end" and int(record["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False


def check_tensorboard() -> Any:
    """TensorBoard's writer class, or an error that says how to install it."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        hint = "Install it: pip install 's2scli[tensorboard]'."
        raise S2SError("TensorBoard is not installed", where="--tensorboard", hint=hint) from error
    return SummaryWriter
