"""A callback for yoyodyne that writes down how long its epochs and its predictions take.

Loaded by yoyodyne itself (benchmarks/g2p.py names it in the options of ``fit`` and ``predict``), so it needs
nothing but yoyodyne's environment.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback


class Clock(Callback):
    """Appends a JSON object to a file for each epoch and each prediction.

    An epoch has ``strings`` (the training strings), ``train`` (seconds of its updates, up to the beginning
    of the validation), ``whole`` (seconds with validation and checkpoint) and ``accuracy`` on the
    development set; a prediction has ``predict`` (seconds from the loaded model to the last line).

    Args:
        path: The file.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._begun = self._validated = 0.0

    def _write(self, **values: float) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        self._begun = time.perf_counter()

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        self._validated = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        # Lightning validates within the epoch, before this is called.
        self._write(
            strings=len(trainer.train_dataloader.dataset),
            train=self._validated - self._begun,
            whole=time.perf_counter() - self._begun,
            accuracy=float(trainer.callback_metrics["val_accuracy"]),
        )

    def on_predict_start(self, *_: Any) -> None:
        self._begun = time.perf_counter()

    def on_predict_end(self, *_: Any) -> None:
        self._write(predict=time.perf_counter() - self._begun)
