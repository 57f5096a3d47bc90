"""How fast systems for short strings train and predict, in turns on one machine."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peers.strings import Ours, Place, Tables, Yoyodyne, at_once, rates, read, seconds, write_words

EPOCHS = 3
"""Of each training that is measured."""
TIMES = 3
"""How often the words are translated in one run, so that its time is much longer than its start."""
Take = Callable[[], tuple[float, float | None]]
"""Measures once: strings or words per second, and of a prediction the WER."""
Measures = dict[str, dict[str, Take]]
"""What is measured → system → how."""
BATCHES = (32, 256)
"""Batch sizes of yoyodyne's prediction that are tried."""


@dataclass(frozen=True)
class Speed:
    """Both systems on one language.

    Attributes:
        other: None if there is only this project.
        work: Holds the models that predict, as g2p.py has trained them.
    """

    ours: Ours
    other: Yoyodyne | None
    work: Path
    tables: Tables
    language: str
    cores: list[int]
    rounds: int

    @property
    def place(self) -> Place:
        return Place(tuple(self.cores), len(self.cores))

    def measure(self, log: Callable[[str], None]) -> dict[str, Any]:
        """Take every measure of both systems by turns, ``rounds`` times.

        Returns:
            ``values``: measure → system → a number for each round; ``wer``: prediction → system → WER.
        """
        measures = self._trainings() | self._predictions(log)
        values: dict[str, dict[str, list[float]]] = {what: {} for what in measures}
        wer: dict[str, dict[str, float]] = {}
        for turn in range(self.rounds):
            for what, systems in measures.items():
                for system, take in systems.items():
                    speed, errors = take()
                    log(f"round {turn + 1}: {system}, {what}: {speed:,.0f}")
                    values[what].setdefault(system, []).append(speed)
                    if errors is not None:
                        wer.setdefault(what, {})[system] = errors
        return {"language": self.language, "cores": self.cores, "values": values, "wer": wer}

    # Training

    def _trainings(self) -> Measures:
        cores = len(self.cores)

        def both(trainings: int) -> dict[str, Take]:
            systems: dict[str, Take] = {"s2s": self._train_ours(trainings)}
            return systems | ({"yoyodyne": self._train_other(trainings)} if self.other else {})

        measures = {f"training strings/s, one training, threads: {cores}": both(1)}
        if cores > 1:
            measures[f"training strings/s, {cores} trainings at once, one thread each"] = both(cores)
        return measures

    def _train_ours(self, trainings: int) -> Take:
        def take() -> tuple[float, None]:
            run = self.work / "speed" / "ours"
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(self.work / "ours" / self.language / "run" / "data", run / "data")
            command = self.ours.fit(run, trainings, self.place.threads, "--epochs", str(EPOCHS))
            seconds(command, self.place, run / "train.log")
            facts = [self.ours.facts(model) or {} for model in self.ours.models(run)]
            return float(sum(of["strings_per_second"] for of in facts)), None

        return take

    def _train_other(self, trainings: int) -> Take:
        assert self.other
        short = replace(self.other, options=(*self.other.options, "--trainer.max_epochs", str(EPOCHS)))

        def train(which: int, place: Place) -> float:
            folder = self.work / "speed" / f"yoyodyne-{which}"
            tables = self.tables.decomposed(folder)
            seconds(short.fit(tables, folder / "model"), place, folder / "fit.log")
            return float(short.facts(folder / "model")["strings_per_second"])

        jobs = [lambda place, which=which: train(which, place) for which in range(trainings)]
        if trainings == 1:
            return lambda: (train(0, self.place), None)
        return lambda: (sum(at_once(jobs, self.cores)), None)

    # Prediction

    def _predictions(self, log: Callable[[str], None]) -> Measures:
        run = self.work / "ours" / self.language / "run"
        models = self.ours.models(run)
        greedy: dict[str, Take] = {"s2s": self._predict_ours(models[0], 1)}
        if self.other:
            taken = {batch: self._predict_other(batch) for batch in BATCHES}
            speeds = {batch: take()[0] for batch, take in taken.items()}
            log(
                "yoyodyne, "
                + ", ".join(f"batches of {b}: {speed:,.0f} words/s" for b, speed in speeds.items())
            )
            greedy["yoyodyne"] = taken[max(speeds, key=lambda batch: speeds[batch])]
        measures: Measures = {"prediction words/s, greedy": greedy}
        measures["prediction words/s, beam 5"] = {"s2s": self._predict_ours(models[0], 5)}
        if len(models) > 1:
            together = f"prediction words/s, {len(models)} models together, beam 5"
            measures[together] = {"s2s": self._predict_ours(run, 5)}
        return measures

    def _predict_ours(self, model: Path, beam: int) -> Take:
        threads = self.place.threads
        return lambda: self._predict(
            "ours", self.tables, lambda words, out: self.ours.predict(words, model, out, threads, beam)
        )

    def _predict_other(self, batch: int) -> Take:
        assert self.other
        predict, model = self.other.predict, self.work / "yoyodyne" / self.language / "model"
        tables = self.tables.decomposed(self.work / "speed" / "predict-yoyodyne")
        return lambda: self._predict("yoyodyne", tables, lambda words, out: predict(words, model, out, batch))

    def _predict(
        self, name: str, tables: Tables, command: Callable[[Path, Path], list[str | Path]]
    ) -> tuple[float, float]:
        """Words per second, and WER.

        Args:
            command: Gives the command that translates a file of words into another file.
        """
        folder = self.work / "speed" / f"predict-{name}"
        # The test words come last, which is where `rates` looks for them.
        every = [word for path in (tables.train, tables.dev, tables.test) for word, _ in read(path)] * TIMES
        output = folder / "output"
        spent = []
        for words in (every[:1], every):
            listed = write_words(words, folder / "words")
            spent.append(seconds(command(listed, output), self.place, folder / "predict.log"))
        return len(every) / (spent[1] - spent[0]), rates(output, tables)["wer"]


def speed_table(found: dict[str, Any]) -> str:
    """Medians of the rounds, and how many times as fast this project is."""
    rows = [f"| {found['language']} | s2s | yoyodyne | s2s : yoyodyne |", "|---" * 4 + "|"]
    for what, systems in found["values"].items():
        medians = {system: statistics.median(values) for system, values in systems.items()}
        cells = []
        for system in ("s2s", "yoyodyne"):
            errors = found["wer"].get(what, {}).get(system)
            about = "" if errors is None else f" (WER {errors:.1f})"
            cells.append(f"{medians[system]:,.0f}{about}" if system in medians else "–")
        ratio = f"{medians['s2s'] / medians['yoyodyne']:.1f}" if "yoyodyne" in medians else "–"
        rows.append(f"| {what} | {cells[0]} | {cells[1]} | {ratio} |")
    return "\n".join(rows) + "\n"
