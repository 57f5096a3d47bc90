"""What share of the machine's arithmetic training reaches, where others use the machine, too.

    python benchmarks/train_share.py --corpus FOLDER --languages en de --work train-speed

The floor of train_speed.py is what the model's products take at the machine's GEMM peak, that of its best
moment. Where neighbours use the same machine, few moments are like that, and it changes within a second. So
here updates and square products take turns: products of two sizes for --burst milliseconds each, one update,
products again, and so on. An update's share is the speed of its own products (those that
peers/train_floor.py counts, without padding), as if it did nothing else, by that of the square ones just
before and after it; of the two sizes, by the faster one. Prints a line of Markdown for each setting and
number format: medians, and the quartiles of the share. FOLDER and --work are those of train_speed.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from peers import train_floor
from peers.train_systems import SIZES, Size, Tokens
from train_speed import tokenised

from s2scli.config import TrainOptions
from s2scli.distributed import together
from s2scli.resolve import checked
from s2scli.runtime import keep_kernels, set_up, settled
from s2scli.train import read_inputs
from s2scli.trainer import Trainer

WARM_UP = 20
"""Updates that do not count."""


def square(n: int, dtype: torch.dtype) -> Callable[[float], float]:
    """Operations a second of products of n rows and columns, made for so many seconds."""
    a, b, into = (torch.randn(n, n).to(dtype) for _ in range(3))

    @torch.inference_mode()
    def rate(seconds: float) -> float:
        calls, begun = 0, time.perf_counter()
        while (spent := time.perf_counter() - begun) < seconds or not calls:
            torch.mm(a, b, out=into)
            calls += 1
        return 2 * n**3 * calls / spent

    return rate


def options(size: Size, tokens: Tokens, precision: Literal["auto", "fp32"], threads: int) -> TrainOptions:
    """Those that train_speed.py trains with."""
    return checked(
        TrainOptions(
            run=tokens.run,
            hidden=size.hidden,
            embedding=size.embedding,
            tie="all",
            encoder_layers=size.layers,
            decoder_layers=size.layers,
            dropout=size.dropout,
            batch_tokens=size.batch_tokens,
            precision=precision,
            threads=threads,
            max_steps=1_000_000,
        )
    )


def measure(given: TrainOptions, operations: float, updates: int, burst: float) -> str:
    """The cells of one setting; ``operations``: of a target token, ``burst``: seconds of each products."""
    with together(given.device) as peers:
        runtime = set_up(given.device, given.precision, given.threads)
        keep_kernels()
        inputs = read_inputs(given)
        trainer = Trainer(inputs.recipe, inputs.data, given.run, runtime, "", peers)
        squares = [square(n, runtime.dtype) for n in (1536, 2048)]
        rates: list[tuple[list[float], float, list[float]]] = []
        with settled():
            before = [rate(burst) for rate in squares]
            for indices in trainer.batches.epoch(0)[: WARM_UP + updates]:
                batch = trainer.batches.load(indices)
                trainer.set_learning_rate(0.0)
                begun = time.perf_counter()
                trainer.update([batch], batch.target_tokens)
                speed = batch.target_tokens / (time.perf_counter() - begun)
                trainer.position.step += 1
                after = [rate(burst) for rate in squares]
                rates.append((before, speed, after))
                before = after
    rates = rates[WARM_UP:]
    beside = [[(b + a) / 2 for b, a in zip(before, after, strict=True)] for before, _, after in rates]
    medians = [statistics.median(column) for column in zip(*beside, strict=True)]
    best = medians.index(max(medians))
    shares = [speed * operations / found[best] for (_, speed, _), found in zip(rates, beside, strict=True)]
    least, middle, most = statistics.quantiles(shares)
    speed = statistics.median(speed for _, speed, _ in rates)
    number = "bf16" if runtime.dtype == torch.bfloat16 else "fp32"
    return f"{number} | {medians[best] / 1e9:,.0f} | {speed:,.0f} | {middle:.0%} ({least:.0%}–{most:.0%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="as for train_speed.py")
    parser.add_argument("--languages", nargs=2, default=["en", "de"], metavar=("SOURCE", "TARGET"))
    parser.add_argument("--work", type=Path, default=Path("train-speed"), help="as for train_speed.py")
    parser.add_argument("--setting", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--precision", nargs="+", choices=["auto", "fp32"], default=["auto", "fp32"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--burst", type=float, default=40.0, metavar="MILLISECONDS")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokens = tokenised(arguments.corpus.resolve(), tuple(arguments.languages), arguments.work.resolve())
    none = {"fp32": 1.0, "bf16": 1.0}
    print("| setting | format | products then, GFLOP/s | target tokens/s | share of the floor (quartiles) |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name in arguments.setting:
        operations = 1e6 * train_floor.floors(SIZES[name], tokens, none)["none"]["megaflop"]
        for precision in arguments.precision:
            given = options(SIZES[name], tokens, precision, arguments.threads)
            cells = measure(given, operations, arguments.updates, arguments.burst / 1e3)
            print(f"| {name} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
