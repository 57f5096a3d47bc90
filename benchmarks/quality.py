"""One row of the quality table: train with defaults for some minutes, translate the test set, score it.

    python benchmarks/quality.py --minutes 6                        # the bundled English-Korean corpus
    python benchmarks/quality.py --corpus FOLDER --languages en de --minutes 20
    python benchmarks/quality.py --minutes 6 --set preset=lecture   # any option of s2s train

FOLDER holds train.XX, dev.XX and test.XX of both languages. Prints a line of a Markdown table:
corpus, minutes, updates, median speed of training, and of the test set BLEU and chrF
(sacreBLEU's defaults, cased, beam 5).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from s2scli.config import PreprocessOptions, ScoreOptions, TrainOptions
from s2scli.corpus import sample_corpus
from s2scli.events import silent
from s2scli.preprocess import preprocess
from s2scli.resolve import build
from s2scli.score import score
from s2scli.train import train


def parsed(setting: str) -> tuple[str, Any]:
    """``hidden=256`` as a name and a number, ``feed=input`` as a name and a text."""
    name, _, value = setting.partition("=")
    try:
        return name, tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, help="folder with the six files (default: the bundled corpus)")
    parser.add_argument("--languages", nargs=2, default=("en", "ko"), metavar=("SOURCE", "TARGET"))
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="options of s2s train")
    parser.add_argument("--keep", type=Path, help="keep the run folder here")
    arguments = parser.parse_args()
    corpus = arguments.corpus or sample_corpus()
    source, target = arguments.languages

    def pair(name: str) -> dict[str, tuple[Path, ...]]:
        return {f"{name}_src": (corpus / f"{name}.{source}",), f"{name}_tgt": (corpus / f"{name}.{target}",)}

    with tempfile.TemporaryDirectory() as temporary:
        run = arguments.keep or Path(temporary)
        preprocess(PreprocessOptions(run=run, force=True, **pair("train"), **pair("dev"), **pair("test")))
        given = {"run": run, "max_minutes": arguments.minutes, "seed": arguments.seed, "force": True}
        ended = train(build(TrainOptions, given | dict(map(parsed, arguments.set))))
        report = score(ScoreOptions(run=run), silent)
        records = [
            json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        speed = statistics.median(r["tokens_per_second"] for r in records if r["event"] == "step")
    bleu, chrf, _ = (item["score"] for item in report["systems"][0]["scores"])
    print("| corpus | minutes of `s2s train` | updates | target tokens/s | BLEU | chrF |")
    print("|---|---|---|---|---|---|")
    name = f"{corpus.name} {source}–{target}" if arguments.corpus else f"bundled {source}–{target}"
    name += "".join(f", {setting}" for setting in arguments.set)
    print(f"| {name} | {ended.elapsed / 60:.1f} | {ended.step:,} | {speed:,.0f} | {bleu:.1f} | {chrf:.1f} |")


if __name__ == "__main__":
    main()
