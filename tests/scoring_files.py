"""Texts to score, and what sacreBLEU's own command says of them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from s2scli.corpus import sample_corpus

REFERENCE = [
    "The file cannot be opened.",
    "Show all commands",
    "Go to Line {0}:{1}  ",
    "",
    "Don't save",
    "A, B & C",
    "once more",
]
SECOND = [
    "Unable to open the file.",
    "show All Commands",
    "Go to line {0}:{1}",
    "x",
    "Do not save",
    "A, B and C",
    "",
]
THIRD = [
    "The file can't be opened",
    "Show every command",
    "Jump to {0}:{1}",
    "",
    "No saving",
    "A & B & C",
    "again",
]
HYPOTHESIS = [
    "The file can not be opened.",
    "Show commands",
    "go to Line {0}: {1}",
    "",
    "Don't Save",
    "A; B & c ",
    "",
]


def write_texts(folder: Path) -> None:
    """hyp, hyp2, ref, ref2, ref3; ko and en (60 lines of the sample); ko-1, ko-2, ko-3: worse and worse."""
    corpus = sample_corpus()
    korean = (corpus / "test.ko").read_text(encoding="utf-8").split("\n")[:60]
    english = (corpus / "test.en").read_text(encoding="utf-8").split("\n")[:60]
    worse = {f"ko-{n}": [spoilt(line, 0.1 + 0.05 * n, n) for line in korean] for n in (1, 2, 3)}
    swapped = [HYPOTHESIS[1], HYPOTHESIS[0], *HYPOTHESIS[2:]]
    texts = {"hyp": HYPOTHESIS, "hyp2": swapped, "ref": REFERENCE, "ref2": SECOND, "ref3": THIRD}
    for name, lines in {**texts, "ko": korean, "en": english, **worse}.items():
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def spoilt(line: str, share: float, seed: int) -> str:
    """The line with some words left out."""
    draw = random.Random(f"{seed} {line}")
    return " ".join(word for word in line.split() if draw.random() > share)


def sacrebleu(folder: Path, *arguments: str, seed: str | None = None) -> str:
    """What sacreBLEU's command writes, with twelve digits."""
    command = [sys.executable, "-m", "sacrebleu", *arguments, "-w", "12", "--quiet", "--no-color"]
    environment = {**os.environ, **({"SACREBLEU_SEED": seed} if seed else {})}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, check=True, timeout=100, env=environment, encoding="utf-8"
    )
    return done.stdout


def sacrebleu_json(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """The same as JSON, which it can write of one system."""
    found = json.loads(sacrebleu(folder, *arguments))
    return found if isinstance(found, list) else [found]
