"""Time and memory of ``s2s preprocess`` on millions of pairs.

    python benchmarks/preprocess_scale.py --pairs 10000000

Makes a corpus of random sentences, over half of whose words occur a few times only, runs
the real `preprocess` on it in a child process and prints what that took. The corpus needs
about 105 bytes a pair in the temporary folder, and the run folder as much again and half.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BLOCK = 100_000
CONSONANTS = "bcdfghjklmnprstvz"
VOWELS = "aeiou"

CHILD = """
import json, sys
from pathlib import Path
from s2scli.config import PreprocessOptions
from s2scli.preprocess import preprocess
given = json.loads(sys.argv[1])
paths = {k: (Path(given.pop(k)),) for k in ("train_src", "train_tgt")}
report = preprocess(PreprocessOptions(run=Path(given.pop("run")), **paths, **given))
print(json.dumps({k: report[k] for k in ("pairs", "tokenizer", "seconds")}))
"""


def words(numbers: NDArray[np.int64], capital: bool) -> list[str]:
    """A pronounceable word for each number; different numbers, different words."""
    result = []
    for number in numbers.tolist():
        word = ""
        while True:
            number, syllable = divmod(number, len(CONSONANTS) * len(VOWELS))
            word += CONSONANTS[syllable // len(VOWELS)] + VOWELS[syllable % len(VOWELS)]
            if not number:
                break
        result.append(word.capitalize() if capital else word)
    return result


def make(folder: Path, pairs: int, distinct: int) -> int:
    """Write ``source.txt`` and ``target.txt``; returns how many different words the source has."""
    generator = np.random.default_rng(1)
    seen = np.zeros(distinct, bool)
    with (folder / "source.txt").open("w") as left, (folder / "target.txt").open("w") as right:
        for start in range(0, pairs, BLOCK):
            count = min(BLOCK, pairs - start)
            lengths = generator.integers(4, 17, count)
            total = int(lengths.sum())
            # Six words of seven are frequent ones (Zipf-like); the seventh is any word at all.
            common = np.minimum((50_000 ** generator.random(total)).astype(np.int64) - 1, distinct - 1)
            chosen = np.where(generator.random(total) < 1 / 7, generator.integers(0, distinct, total), common)
            seen[chosen] = True
            ends = np.cumsum(lengths).tolist()
            lower, upper = words(chosen, False), words(chosen, True)
            begin = 0
            for end in ends:
                left.write(" ".join(lower[begin:end]) + ".\n")
                right.write(" ".join(reversed(upper[begin:end])) + "!\n")
                begin = end
    return int(seen.sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=10_000_000)
    parser.add_argument("--distinct", type=int, help="words to draw from (default: 0.7 a pair)")
    parser.add_argument("--tokenizer", default="bpe", choices=["bpe", "unigram", "char", "word"])
    parser.add_argument("--folder", type=Path, help="where to put the temporary folder")
    arguments = parser.parse_args()
    distinct = arguments.distinct or max(1000, arguments.pairs * 7 // 10)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        started = time.monotonic()
        seen = make(folder, arguments.pairs, distinct)
        size = sum((folder / f"{side}.txt").stat().st_size for side in ("source", "target"))
        print(
            f"corpus: {arguments.pairs:,} pairs, {seen:,} different words, {size / 1e6:,.0f} MB, "
            f"made in {time.monotonic() - started:.0f} s",
            flush=True,
        )
        given = {"run": str(folder / "run"), "tokenizer": arguments.tokenizer}
        given |= {"train_src": str(folder / "source.txt"), "train_tgt": str(folder / "target.txt")}
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
        }
        started = time.monotonic()
        child = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(given)], env=environment, capture_output=True, text=True
        )
        seconds = time.monotonic() - started
        if child.returncode:
            sys.exit(child.stderr)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"report: {child.stdout.strip()}")
        speed = arguments.pairs / seconds
        print(f"preprocess: {seconds:.1f} s, {speed:,.0f} pairs/s, peak memory {peak:,.0f} MiB")


if __name__ == "__main__":
    main()
