"""Systems that turn short strings into short strings, as commands: this project and yoyodyne.

Each trains on tables (a string, a tab, symbols between spaces) and writes a line for each word of a file.
Every command runs with a given number of threads and bound to given processor cores; what it says goes to a
file beside its results. Both speeds of training are strings per second of the updates alone, without
validation and checkpoints.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import statistics
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from s2scli.runfolder import data_folder, members, trained
from s2scli.scoring.strings import SymbolErrors, WordErrors

T = TypeVar("T")
HERE = Path(__file__).resolve().parent
HANGUL = re.compile("[\uac00-\ud7a3]")


@dataclass(frozen=True)
class Tables:
    """The three tables of a language."""

    train: Path
    dev: Path
    test: Path

    @classmethod
    def of(cls, corpus: Path, language: str) -> Self:
        """The tables fre_train.tsv, fre_dev.tsv and fre_test.tsv, say; ends the program if one is missing."""
        paths = [corpus / f"{language}_{name}.tsv" for name in ("train", "dev", "test")]
        for path in paths:
            if not path.is_file():
                sys.exit(f"there is no {path}; --corpus is a folder with {', '.join(p.name for p in paths)}")
        return cls(*paths)

    def decomposed(self, folder: Path) -> Tables:
        """The tables with Hangul syllables taken apart into letters, in ``folder``, or as they are without.

        s2s takes them apart by itself; so both systems read the same symbols.
        """
        if not HANGUL.search("".join(word for word, _ in read(self.train))):
            return self
        folder.mkdir(parents=True, exist_ok=True)
        for path in (self.train, self.dev, self.test):
            rows = [f"{unicodedata.normalize('NFD', word)}\t{target}\n" for word, target in read(path)]
            (folder / path.name).write_text("".join(rows), encoding="utf-8")
        return Tables(*(folder / path.name for path in (self.train, self.dev, self.test)))


def read(path: Path) -> list[tuple[str, str]]:
    """Rows of a table: word and target."""
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    return [(word, target) for word, target, *_ in (line.split("\t") for line in lines)]


def write_words(words: Sequence[str], path: Path) -> Path:
    """Write words to a file, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    return path


def rates(output: Path, tables: Tables) -> dict[str, float]:
    """WER and PER in percent of the last lines of a file, which stand for the words of the test table."""
    references = [target for _, target in read(tables.test)]
    lines = output.read_text(encoding="utf-8").removesuffix("\n").split("\n")[-len(references) :]
    return {
        "wer": WordErrors().corpus_score(lines, [references]).score,
        "per": SymbolErrors().corpus_score(lines, [references]).score,
    }


@dataclass(frozen=True)
class Place:
    """Where a command computes: on which processor cores, with how many threads."""

    cores: tuple[int, ...]
    threads: int

    @property
    def environment(self) -> dict[str, str]:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        return os.environ | dict.fromkeys(names, str(self.threads))


def start(command: Sequence[str | Path], place: Place, log: Path) -> subprocess.Popen[bytes]:
    """A process bound to its cores whose output goes to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    paths = [str(HERE.parent), str(HERE.parent.parent)]
    environment = place.environment | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    with log.open("wb") as said:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, place.cores),
        )


def finish(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the end; if it is an error, end the program with the last words of the log."""
    if process.wait():
        words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-5:]
        sys.exit("\n".join([f"a command failed, see {log}; it ended with", *words]))


def seconds(command: Sequence[str | Path], place: Place, log: Path) -> float:
    """Run a command to its end: seconds from the start of the process."""
    begun = time.perf_counter()
    finish(start(command, place, log), log)
    return time.perf_counter() - begun


def at_once(jobs: Sequence[Callable[[Place], T]], cores: Sequence[int]) -> list[T]:
    """Results of the jobs, of which as many run at a time as there are cores, each on one of its own."""
    free: queue.Queue[int] = queue.Queue()
    for core in cores:
        free.put(core)

    def run(job: Callable[[Place], T]) -> T:
        core = free.get()
        try:
            return job(Place((core,), 1))
        finally:
            free.put(core)

    with ThreadPoolExecutor(len(cores)) as pool:
        return list(pool.map(run, jobs))


@dataclass(frozen=True)
class Ours:
    """This project with its defaults, as the commands of ``s2s``.

    Attributes:
        options: Further options of ``s2s train``.
    """

    options: tuple[str, ...] = ()

    @staticmethod
    def _command(*arguments: str | Path) -> list[str | Path]:
        return [sys.executable, "-m", "s2scli", *arguments]

    def preprocess(self, tables: Tables, run: Path) -> list[str | Path]:
        """The command that prepares a run folder; units and normal form are chosen from the text."""
        files = ("--train", tables.train, "--dev", tables.dev, "--test", tables.test)
        return self._command("preprocess", "--run", run, *files)

    def fit(self, run: Path, seeds: int, threads: int, *options: str) -> list[str | Path]:
        """The command that trains the seeds 1 to ``seeds``, or goes on with those in the folder."""
        how = ("--resume",) if trained(run) else self.options
        return self._command(
            *("train", "--run", run, "--seeds", str(seeds), "--threads", str(threads), *how, *options)
        )

    def predict(self, words: Path, run: Path, output: Path, threads: int, beam: int = 5) -> list[str | Path]:
        """The command that writes a line for each word; 5 is the default beam of ``s2s``."""
        files = ("--run", run, "--input", words, "--output", output, "--force")
        return self._command("translate", *files, "--threads", str(threads), "--beam", str(beam))

    @staticmethod
    def models(run: Path) -> list[Path]:
        """The folders of the trainings of a run, in the order of their seeds."""
        return members(run) or [run]

    @staticmethod
    def facts(model: Path) -> dict[str, Any] | None:
        """Of a training: its epochs, minutes and speed; None if it has not ended.

        The minutes are those of the updates and validations, without the start of the process; the speed is
        the median of what is told every 25 updates.
        """
        path = model / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines]
        if not events or events[-1]["event"] != "end" or events[-1]["how_to_go_on"]:
            return None
        told = json.loads((data_folder(model) / "report.json").read_text(encoding="utf-8"))
        pairs = told["pairs"]["train"]
        tokens = 1 + told["lengths"]["train"]["target"]["total"] / pairs  # of a string, with its end
        steps = [event for event in events if event["event"] == "step"]
        return {
            "epochs": steps[-1]["epoch"],
            "minutes": events[-1]["elapsed"] / 60,
            "reason": events[-1]["reason"],
            "dev_accuracy": max(event["accuracy"] for event in events if event["event"] == "validation"),
            "machine": events[0]["settings"]["machine"],
            "strings_per_second": statistics.median(step["tokens_per_second"] for step in steps) / tokens,
        }


@dataclass(frozen=True)
class Yoyodyne:
    """yoyodyne's attentive LSTM, as yoyodyne.yaml describes it.

    Attributes:
        folder: Its virtual environment.
        options: Further options of ``yoyodyne fit``.
    """

    folder: Path
    options: tuple[str, ...] = ()

    def _command(self, name: str, out: Path, *options: str | Path) -> list[str | Path]:
        return [
            *(self.folder / "bin" / "yoyodyne", name, "--config", HERE / "yoyodyne.yaml"),
            *("--data.model_dir", out, "--trainer.enable_progress_bar", "false"),
            *(
                "--trainer.callbacks+=peers.yoyodyne_clock.Clock",
                "--trainer.callbacks.path",
                out / "clock.jsonl",
            ),
            *options,
        ]

    def fit(self, tables: Tables, out: Path, seed: int = 1) -> list[str | Path]:
        """The command of a training into the empty folder ``out``."""
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        return self._command(
            *("fit", out, "--seed_everything", str(seed), "--trainer.default_root_dir", out),
            *(
                "--checkpoint.dirpath",
                out / "checkpoints",
                "--data.train",
                tables.train,
                "--data.val",
                tables.dev,
            ),
            *self.options,
        )

    def predict(self, words: Path, model: Path, output: Path, batch: int = 32) -> list[str | Path]:
        """The command that writes a line for each word with the best checkpoint; greedy search."""
        (best,) = (model / "checkpoints").glob("*.ckpt")
        return self._command(
            *("predict", model, "--data.predict", words, "--data.target_col", "0", "--ckpt_path", best),
            *("--data.batch_size", str(batch), "--prediction.path", output, "--trainer.logger", "false"),
        )

    @staticmethod
    def facts(out: Path) -> dict[str, Any]:
        """Of a training that has ended: its epochs, minutes and speed.

        The minutes are those of all epochs with their validations, without the start of the process; the
        speed is the training strings of an epoch by the seconds of its updates, the median of all epochs.
        """
        epochs = [json.loads(line) for line in (out / "clock.jsonl").read_text(encoding="utf-8").splitlines()]
        epochs = [epoch for epoch in epochs if "train" in epoch]
        return {
            "epochs": len(epochs),
            "minutes": sum(epoch["whole"] for epoch in epochs) / 60,
            "strings_per_second": statistics.median(epoch["strings"] / epoch["train"] for epoch in epochs),
        }
