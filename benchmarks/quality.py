"""One row of the quality table: train with defaults for some minutes, translate the test set, score it.

    python benchmarks/quality.py --minutes 6                        # the bundled English-Korean corpus
    python benchmarks/quality.py --corpus FOLDER --languages en de --minutes 20

FOLDER holds train.XX, dev.XX and test.XX of both languages. Prints a line of a Markdown table:
corpus, minutes, updates, BLEU and chrF of the test set (sacreBLEU's defaults, cased, beam 5).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from s2scli.config import PreprocessOptions, ScoreOptions, TrainOptions
from s2scli.corpus import sample_corpus
from s2scli.events import silent
from s2scli.preprocess import preprocess
from s2scli.score import score
from s2scli.train import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, help="folder with the six files (default: the bundled corpus)")
    parser.add_argument("--languages", nargs=2, default=("en", "ko"), metavar=("SOURCE", "TARGET"))
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="keep the run folder here")
    arguments = parser.parse_args()
    corpus = arguments.corpus or sample_corpus()
    source, target = arguments.languages

    def pair(name: str) -> dict[str, tuple[Path, ...]]:
        return {f"{name}_src": (corpus / f"{name}.{source}",), f"{name}_tgt": (corpus / f"{name}.{target}",)}

    with tempfile.TemporaryDirectory() as temporary:
        run = arguments.keep or Path(temporary)
        preprocess(PreprocessOptions(run=run, force=True, **pair("train"), **pair("dev"), **pair("test")))
        ended = train(TrainOptions(run=run, max_minutes=arguments.minutes, seed=arguments.seed, force=True))
        report = score(ScoreOptions(run=run), silent)
    bleu, chrf, _ = (item["score"] for item in report["systems"][0]["scores"])
    print("| corpus | minutes of `s2s train` | updates | BLEU | chrF |")
    print("|---|---|---|---|---|")
    name = f"{corpus.name} {source}–{target}" if arguments.corpus else f"bundled {source}–{target}"
    print(f"| {name} | {ended.elapsed / 60:.1f} | {ended.step:,} | {bleu:.1f} | {chrf:.1f} |")


if __name__ == "__main__":
    main()
