"""Training speed of `s2s train` and of other systems, in one run, beside the floor of the model's arithmetic.

    python benchmarks/train_speed.py --corpus FOLDER --languages en de --work train-speed
    python benchmarks/train_speed.py --corpus FOLDER --languages en de --work train-speed --peers PEERS
    python benchmarks/train_speed.py --corpus FOLDER --languages en de --work train-speed --memory 30

FOLDER holds train and dev as .en and .de. PEERS holds an environment for each other system, as README.md
beside this file describes; without it, this project is measured alone. Prints Markdown, and writes it with
all numbers to --work (results.md, results.json). A system that fails is left out with a message.
What is measured, and how:

- All systems train on the same tokens (BPE of 6,000 for both sides, made by this project) with the same sizes
  (peers/train_systems.py), on the same processor cores, one after the other (A B C A B C ...).
- Target tokens a second, EOS included and padding not, in the second half of --seconds, by each system's own
  log: so start-up, reading of the data and first updates count for none. A slow one goes on until two of its
  reports lie in that half. The median of --repeats trainings is given, the least and the most in brackets.
- The floor is what the products of the model allow at the machine's GEMM peak, measured in the same run
  (peers/train_floor.py), with input feeding for systems that have it, in the number format they compute in.
- Memory is the resident set at the end of a training; waiting is the share of time without data at hand.

--memory trains this project for so many minutes, validations included, and prints the resident set each
minute.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import torch
from peers import pieces, train_floor, train_table
from peers.strings import Place, start
from peers.table import rows
from peers.train_systems import SIZES, Point, Size, System, Tokens, late, our_points, ours, systems

from s2scli.files import write_text_atomic
from s2scli.tokenizer import Tokenizer

START_UP = 300.0
"""Most seconds before a training begins; from then on it may take ten times --seconds."""

Found = dict[str, Any]


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tokenised(corpus: Path, languages: tuple[str, str], work: Path) -> Tokens:
    """Preprocess the corpus and write its tokens and vocabularies for the others; done once."""
    tokens = Tokens(work / "tokens", work / "s2s", languages)
    if (tokens.folder / "vocab.marian.yml").exists():  # what is written last
        return tokens
    command = [sys.executable, "-m", "s2scli", "preprocess", "--run", str(tokens.run), "--force"]
    command += ["--joint", "--vocab-size", "6000"]
    for part in ("train", "dev"):
        for option, language in zip(("src", "tgt"), languages, strict=True):
            command += [f"--{part}-{option}", str(corpus / f"{part}.{language}")]
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode:
        sys.exit("the corpus cannot be preprocessed; what is wrong stands above")
    tokenizer = Tokenizer.load(tokens.run / "data" / "tokenizer.json")
    pieces.write_tokens(tokenizer, corpus, languages, ("train", "dev"), tokens.folder)
    return tokens


def resident(process: int) -> float:
    """Megabytes that a process has in memory."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def begin(
    system: System, size: Size, tokens: Tokens, place: Place, folder: Path
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a training in a fresh folder: its process and its log."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return start(
        system.command(size, tokens, place.threads, folder), place, folder / "log"
    ), folder / system.log


def end(process: subprocess.Popen[bytes]) -> None:
    """End a training that was started here; most save their model first."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_points(system: System, path: Path) -> list[Point]:
    return system.points(path.read_text(encoding="utf-8", errors="replace")) if path.exists() else []


class TrainingError(Exception):
    """A training that cannot be measured; says why and where."""


def check(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Raise TrainingError if a training has ended by itself."""
    if process.poll() is not None:
        words = (folder / "log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise TrainingError(f"it has ended by itself, see {folder / 'log'}: {' '.join(words[-1:])}")


def train(system: System, size: Size, tokens: Tokens, place: Place, folder: Path, seconds: float) -> Found:
    """Train for so many seconds, counted as the system's log does. Raises TrainingError."""
    begun = time.monotonic()
    process, path = begin(system, size, tokens, place, folder)
    try:
        points: list[Point] = []
        while len(late(points, seconds)) < 2 or points[-1].seconds < seconds:
            time.sleep(0.5)
            check(process, folder)
            points = read_points(system, path)
            if time.monotonic() - begun > START_UP + 10 * seconds:
                raise TrainingError(f"too few reports in {10 * seconds:.0f} seconds, see {folder}")
        megabytes = resident(process.pid)
    finally:
        end(process)
    first, *_, last = late(read_points(system, path), seconds)
    spent = last.seconds - first.seconds
    return {
        "tokens_per_second": (last.tokens - first.tokens) / spent,
        "megabytes": megabytes,
        "waiting": (last.waited - first.waited) / spent,
        "from_to": [first.seconds, last.seconds],
    }


def measure(arguments: argparse.Namespace, tokens: Tokens, known: dict[str, System], place: Place) -> None:
    """Train all systems in turn; what is measured is kept, should a later one fail."""
    machine = train_floor.machine(place.threads)
    results: Found = {"threads": place.threads, "machine": machine, "torch": torch.__version__}
    results |= {"seconds": arguments.seconds, "settings": {}}
    for name in arguments.setting:
        found = train_floor.floors(SIZES[name], tokens, machine)
        results["settings"][name] = {"floor": found, "runs": {}}
    failed = set()
    for repeat, name in product(range(arguments.repeats), arguments.setting):
        for key in (key for key in arguments.systems if key not in failed):
            told = f"{repeat + 1}, {name}, {known[key].name}"
            try:
                folder = arguments.work / name / key
                run = train(known[key], SIZES[name], tokens, place, folder, arguments.seconds)
            except (TrainingError, OSError) as error:
                log(f"{told} is left out from here on: {error}")
                failed.add(key)
                continue
            log(f"{told}: {run['tokens_per_second']:,.0f} tokens/s")
            results["settings"][name]["runs"].setdefault(key, []).append(run)
            write_text_atomic(arguments.work / "results.json", json.dumps(results, indent=1) + "\n")
    text = train_table.report(results, known) + "\n"
    write_text_atomic(arguments.work / "results.md", text)
    print(text, end="")


def watch_memory(arguments: argparse.Namespace, tokens: Tokens, place: Place) -> None:
    """Print what a training of this project has in memory, once a minute."""
    folder, size = arguments.work / "memory", SIZES[arguments.setting[0]]
    system = System("s2s", ours(), our_points, "metrics.jsonl")
    process, path = begin(system, size, tokens, place, folder)
    lines = [["minute", "target tokens", "memory, MB"]]
    try:
        for minute in range(1, arguments.memory + 1):
            time.sleep(60)
            check(process, folder)
            tokens_seen = sum(point.tokens for point in read_points(system, path)[-1:])
            lines.append([str(minute), f"{tokens_seen:,.0f}", f"{resident(process.pid):,.0f}"])
            log(f"minute {minute}: {lines[-1][2]} MB")
    except TrainingError as error:
        sys.exit(str(error))
    finally:
        end(process)
    write_text_atomic(arguments.work / "memory.md", rows(lines) + "\n")
    print(rows(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--corpus", type=Path, required=True, help="folder with train and dev, as .en and .de"
    )
    parser.add_argument("--languages", nargs=2, default=["en", "de"], metavar=("SOURCE", "TARGET"))
    parser.add_argument("--work", type=Path, default=Path("train-speed"), help="gets all that is made")
    parser.add_argument("--peers", type=Path, help="folder with the environments onmt, joey and marian")
    parser.add_argument("--setting", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="default: all that there are")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60.0, help="of a training, from its first update on")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, metavar="MINUTES", help="watch the memory of one long training")
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    known = systems(arguments.peers and arguments.peers.resolve())
    arguments.systems = arguments.systems or list(known)
    if unknown := [name for name in arguments.systems if name not in known]:
        parser.error(f"there is no system {unknown[0]}; there are {', '.join(known)} (--peers brings others)")
    cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
    if len(cores) < arguments.threads:
        parser.error(f"--threads {arguments.threads}, but this process may use {len(cores)} of the cores")
    os.sched_setaffinity(0, cores)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokens = tokenised(arguments.corpus.resolve(), tuple(arguments.languages), arguments.work)
    place = Place(tuple(cores), arguments.threads)
    if arguments.memory:
        watch_memory(arguments, tokens, place)
    else:
        measure(arguments, tokens, known, place)


if __name__ == "__main__":
    main()
