"""Running a translation system as a process: seconds, memory, output, and the answers to single lines."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ProcessError(Exception):
    """A system's process ended with an error; holds its exit code and last words."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"exit code {code}: {words}")
        self.code = code


@dataclass(frozen=True, kw_only=True)
class System:
    """A program that reads lines from stdin and writes as many to stdout.

    Attributes:
        name: For the table.
        command: Its arguments, in which {beam}, {batch}, {threads} and {ratio} are filled in.
        stream: Further arguments that make it answer each line before it reads the next.
        pieces: It reads and writes subword tokens, not text.
        bleu: Its weights mean something.
        note: What to know about it, for under the table.
    """

    name: str
    command: Sequence[str]
    stream: Sequence[str] = ()
    pieces: bool = True
    bleu: bool = True
    note: str = ""

    def arguments(self, setting: Setting, *, stream: bool = False) -> list[str]:
        """The command with everything filled in."""
        values = {"beam": setting.beam, "batch": setting.batch, "threads": setting.threads}
        values["ratio"] = f"{setting.ratio:.3f}"
        return [part.format(**values) for part in (*self.command, *(self.stream if stream else ()))]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run is run with; ``ratio`` is target tokens for each source token."""

    beam: int
    batch: int
    threads: int
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a process over some lines.

    Attributes:
        seconds: From start to end, loading included.
        megabytes: The largest resident memory.
        output: Its lines.
    """

    seconds: float
    megabytes: float
    output: list[str] = field(repr=False)


def run(system: System, setting: Setting, lines: Sequence[str]) -> Run:
    """The system on all lines at once. Raises ProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        given, written, said = (Path(folder) / name for name in ("in", "out", "err"))
        given.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        with given.open("rb") as stdin, written.open("wb") as stdout, said.open("wb") as stderr:
            begun = time.perf_counter()
            process = subprocess.Popen(
                system.arguments(setting),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=_environment(setting),
            )
            peak = _Peak(process.pid)
            process.wait()
            seconds = time.perf_counter() - begun
            megabytes = peak.stop()
        if process.returncode:
            raise ProcessError(process.returncode, _last_words(said.read_text(errors="replace")))
        output = written.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if len(output) != len(lines):
        raise ProcessError(0, f"{len(lines)} lines in, {len(output)} out")
    return Run(seconds=seconds, megabytes=megabytes, output=output)


class _Peak:
    """The largest resident memory of a process and its children, looked up while they run.

    What the system reports at its end (ru_maxrss) is at least the memory of the program that started it.
    Pages that several of them share are counted once.
    """

    def __init__(self, process: int) -> None:
        self._process = Path(f"/proc/{process}")
        self._kilobytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        # What is shared takes the system long to find out, and the processes wait meanwhile.
        rarely = time.monotonic() + 1.0
        while not self._ended.wait(0.02):
            # The files go with the process.
            with contextlib.suppress(OSError):
                self._kilobytes = max(self._kilobytes, _number("VmHWM", self._process / "status"))
                if time.monotonic() > rarely:
                    rarely = time.monotonic() + 1.0
                    every = [self._process, *self._children()]
                    self._kilobytes = max(
                        self._kilobytes, sum(_number("Pss", p / "smaps_rollup") for p in every)
                    )

    def _children(self) -> list[Path]:
        listed = (self._process / "task" / self._process.name / "children").read_text()
        return [self._process.with_name(child) for child in listed.split()]

    def stop(self) -> float:
        """Megabytes."""
        self._ended.set()
        self._thread.join()
        return self._kilobytes / 1024


def _number(name: str, file: Path) -> int:
    """Kilobytes of that name in a file of the kernel."""
    found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def answers(system: System, setting: Setting, lines: Sequence[str]) -> dict[str, float]:
    """One line in, one out, the process staying open, started for this.

    Returns:
        ``first``: seconds from the start of the process to the first translation; ``p50`` and ``p95``:
        milliseconds from a line to its translation, over the others.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            system.arguments(setting, stream=True),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=_environment(setting),
        )
        assert process.stdin is not None and process.stdout is not None
        times = []
        begun = time.perf_counter()
        try:
            for line in lines:
                process.stdin.write(f"{line}\n".encode())
                process.stdin.flush()
                if not process.stdout.readline():
                    break
                now = time.perf_counter()
                times.append(now - begun)
                begun = now
            process.stdin.close()
        except BrokenPipeError:
            pass
        process.stdout.close()
        if process.wait() or len(times) < len(lines):
            said.seek(0)
            raise ProcessError(process.returncode, _last_words(said.read().decode(errors="replace")))
    cuts = statistics.quantiles(times[1:], n=20, method="inclusive")
    return {"first": times[0], "p50": 1000 * cuts[9], "p95": 1000 * cuts[18]}


def _environment(setting: Setting) -> dict[str, str]:
    """The environment with every library's number of threads set."""
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(setting.threads)
    )
    return os.environ | threads


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, least and most."""
    return {
        "median": statistics.median(values),
        "least": min(values),
        "most": max(values),
        "all": list(values),
    }
