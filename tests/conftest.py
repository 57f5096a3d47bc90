"""A small task that can be learnt in seconds, and a model trained on it by the real commands."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Runner = Callable[..., subprocess.CompletedProcess[str]]


def reversal_pairs(count: int, shortest: int, longest: int, *, seed: int) -> list[tuple[str, str]]:
    """Symbol strings and the same strings backwards."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefgh", k=draw.randint(shortest, longest))) for _ in range(count)]
    return [(" ".join(word), " ".join(reversed(word))) for word in words]


def write_pairs(folder: Path, name: str, pairs: list[tuple[str, str]]) -> None:
    for i, side in enumerate(("src", "tgt")):
        text = "".join(pair[i] + "\n" for pair in pairs)
        (folder / f"{name}.{side}").write_text(text, encoding="utf-8")


def run_s2s(
    *arguments: object, cwd: Path | None = None, stdin: str | bytes = ""
) -> subprocess.CompletedProcess[str]:
    """Run the real command; output is text with line ends untouched."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    command = [sys.executable, "-m", "s2scli", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=cwd, input=given, capture_output=True, timeout=240, check=False, env=quiet()
    )
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


def quiet() -> dict[str, str]:
    """The environment of a command whose output a test reads."""
    return {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


@pytest.fixture(scope="session")
def s2s() -> Runner:
    return run_s2s


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with preprocessed data: strings of 2 to 6 symbols, to be reversed."""
    folder = tmp_path_factory.mktemp("task")
    write_pairs(folder, "train", reversal_pairs(1500, 2, 6, seed=1))
    write_pairs(folder, "dev", reversal_pairs(40, 2, 6, seed=2))
    write_pairs(folder, "test", reversal_pairs(40, 2, 6, seed=3))
    files = [
        x
        for s in ("train", "dev", "test")
        for x in (f"--{s}-src", folder / f"{s}.src", f"--{s}-tgt", folder / f"{s}.tgt")
    ]
    done = run_s2s("preprocess", "--run", folder / "run", "--tokenizer", "word", *files)
    assert done.returncode == 0, done.stderr
    return folder / "run"


SMALL = ["--hidden", 32, "--embedding", 16, "--batch-tokens", 200, "--threads", 1, "--precision", "fp32"]


@pytest.fixture(scope="session")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a model that has learnt a little. Do not write into it."""
    run = copy_run(prepared, tmp_path_factory.mktemp("trained") / "run")
    limits = ["--max-steps", 300, "--validate-every", 150, "--learning-rate", 0.01, "--dropout", 0.0]
    done = run_s2s("train", "--run", run, *SMALL, *limits, "--word-dropout", 0.0)
    assert done.returncode == 0, done.stderr
    return run


def copy_run(run: Path, to: Path) -> Path:
    shutil.copytree(run, to)
    return to
