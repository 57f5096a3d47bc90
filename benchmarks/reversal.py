"""Reversing symbol strings: what attention is for.

Trains `dot` and `none`, otherwise equal, to write strings of 5 to 40 symbols backwards,
and prints exact match by length: with one context vector for the whole string the plain
encoder-decoder loses the long ones.

    python benchmarks/reversal.py                 # about a quarter of an hour on 2 cores
    python benchmarks/reversal.py --steps 500     # a quick look
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

from s2scli.config import Attention, PreprocessOptions, TrainOptions
from s2scli.preprocess import preprocess
from s2scli.train import train
from s2scli.translator import Translator

BINS = ((5, 9), (10, 19), (20, 29), (30, 40))


def strings(count: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices("abcdefghijklmnop", k=draw.randint(5, 40))) for _ in range(count)]


def write(folder: Path, name: str, lines: list[str]) -> tuple[Path, Path]:
    source, target = folder / f"{name}.src", folder / f"{name}.tgt"
    source.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    target.write_text("".join(f"{line[::-1]}\n" for line in lines), encoding="utf-8")
    return source, target


def measure(
    folder: Path, kind: Attention, steps: int, test: list[str], seed: int, threads: int | None
) -> list[float]:
    """Percent of test strings reversed exactly, in each bin of lengths."""
    names = {
        name: write(folder, name, strings(n, k))
        for k, (name, n) in enumerate((("train", 40_000), ("dev", 200)))
    }
    preprocess(
        PreprocessOptions(
            run=folder,
            force=True,
            tokenizer="word",
            train_src=(names["train"][0],),
            train_tgt=(names["train"][1],),
            dev_src=(names["dev"][0],),
            dev_tgt=(names["dev"][1],),
        )
    )
    train(
        TrainOptions(
            run=folder,
            attention=kind,
            hidden=256,
            embedding=64,
            encoder_layers=1,
            decoder_layers=1,
            dropout=0.0,
            word_dropout=0.0,
            batch_tokens=2000,
            learning_rate=2e-3,
            max_steps=steps,
            validate_every=steps,
            seed=seed,
            threads=threads,
        )
    )
    out = Translator.load(folder).translate(test, beam=1)
    scores = []
    for low, high in BINS:
        right = [o == s[::-1] for s, o in zip(test, out, strict=True) if low <= len(s.split()) <= high]
        scores.append(100 * sum(right) / len(right))
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=4000, help="updates of each model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, help="CPU threads (default: one per core)")
    parser.add_argument("--attention", nargs="+", default=["dot", "none"], help="which to compare")
    arguments = parser.parse_args()
    test = strings(2000, 99)
    print("| attention | " + " | ".join(f"{low}-{high} symbols" for low, high in BINS) + " |")
    print("|---|" + "---|" * len(BINS))
    for kind in arguments.attention:
        with tempfile.TemporaryDirectory() as folder:
            scores = measure(Path(folder), kind, arguments.steps, test, arguments.seed, arguments.threads)
        print(f"| {kind} | " + " | ".join(f"{score:.1f} %" for score in scores) + " |", flush=True)


if __name__ == "__main__":
    main()
