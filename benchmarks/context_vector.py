"""The bottleneck of the single context vector: BLEU by source length, with attention and without.

    python benchmarks/context_vector.py --corpus FOLDER --languages en de --work context-vector

FOLDER holds train.XX, dev.XX and test.XX of both languages. Sentences are joined, 1 to 6 of them, to items
of 10 to 80 source words, spread evenly over seven bins of lengths: single sentences are mostly too short
to show anything. The data are prepared once; then `dot` and `none`, otherwise equal, are trained with three
seeds each for the same number of updates, and translate the same test items (beam 5).

The --work folder keeps everything: run the command again, and finished trainings are not repeated. It then
holds context-vector.png, results.md (the table) and results.json (the numbers behind it, and every output).

The 95 % intervals are percentiles of 2,000 bootstrap resamples. A resample draws, with replacement, the items
of a bin (the same for all models) and, for each kind of model by itself, as many seeds as there are; its
value is the mean BLEU of these seeds. Within a bin no test sentence occurs twice, so that its items have no
text in common; between bins sentences recur. With three seeds the part of an interval that comes from the
seeds is a rough estimate, and rather too small.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics import BLEU

from s2scli.config import PreprocessOptions, TrainOptions
from s2scli.corpus import Lines
from s2scli.files import atomic_path
from s2scli.preprocess import preprocess
from s2scli.resolve import build
from s2scli.train import train
from s2scli.translator import Translator

BINS = ((10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 80))
MOST_SENTENCES = 6
KINDS = ("dot", "none")
RESAMPLES = 2000
TRIES = 100_000
SAME = {
    "bridge": "linear",
    "feed": "none",
    "encoder_layers": 1,
    "decoder_layers": 1,
    "validate_lines": 200,
    "ema_decay": 0.995,
}
SIZES = ("hidden", "embedding", "dropout", "batch_tokens", "learning_rate")


def join(words: list[int], per_bin: int, seed: int, *, again: bool) -> list[tuple[int, tuple[int, ...]]]:
    """Items as (bin, numbers of the sentences that are joined), ``per_bin`` of each bin, shuffled.

    Args:
        words: Length of each sentence.
        again: Whether a sentence may occur in several items of one bin.
    """
    draw = random.Random(seed)
    items: list[tuple[int, tuple[int, ...]]] = []
    for which, (low, high) in enumerate(BINS):
        unused = list(range(len(words)))
        for _ in range(per_bin):
            chosen = _of_length(draw.randint(low, high), words, unused, draw)
            items.append((which, chosen))
            if not again:
                unused = [i for i in unused if i not in chosen]
    draw.shuffle(items)
    return items


def _of_length(wanted: int, words: list[int], sentences: list[int], draw: random.Random) -> tuple[int, ...]:
    """Sentences drawn at random that have ``wanted`` words together."""
    for _ in range(TRIES):
        chosen = draw.sample(sentences, min(MOST_SENTENCES, len(sentences)))
        for count, length in enumerate(accumulate(words[i] for i in chosen), 1):
            if length == wanted:
                return tuple(chosen[:count])
    sys.exit(f"cannot join at most {MOST_SENTENCES} of the sentences that are left to {wanted} words")


def write_set(arguments: argparse.Namespace, name: str, per_bin: int, seed: int) -> dict[str, Any]:
    """Write the joined items of a set; its facts and options of ``s2s preprocess``."""
    sides = [list(Lines(arguments.corpus / f"{name}.{language}")) for language in arguments.languages]
    words = [len(line.split()) for line in sides[0]]
    items = join(words, per_bin, seed, again=name != "test")
    paths = [arguments.work / "text" / f"{name}.{language}" for language in arguments.languages]
    for path, side in zip(paths, sides, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(" ".join(side[i] for i in chosen) + "\n" for _, chosen in items)
        path.write_text(text, encoding="utf-8")
    return {
        "bins": [which for which, _ in items],
        "lengths": [sum(words[i] for i in chosen) for _, chosen in items],
        "sentences": len(words),
        "uses": sum(len(chosen) for _, chosen in items),
        "options": {f"{name}_src": (paths[0],), f"{name}_tgt": (paths[1],)},
    }


def run_one(kind: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train one model, or go on with it, and translate the test items; nothing is done twice."""
    run: Path = arguments.work / f"{kind}-{seed}"
    output, facts = run / "test.output", run / "facts.json"
    if not output.exists():
        if not run.exists():
            new = run.with_suffix(".new")
            shutil.copytree(arguments.work / "data" / "data", new / "data", dirs_exist_ok=True)
            new.rename(run)
        given = SAME | {name: getattr(arguments, name) for name in SIZES}
        given |= {"run": run, "attention": kind, "seed": seed, "threads": arguments.threads}
        given |= {"max_steps": arguments.steps, "validate_every": arguments.steps // 2}
        given["resume"] = (run / "state" / "training.safetensors").exists()
        ended = train(build(TrainOptions, given))
        if ended.step < arguments.steps:
            sys.exit(f"{run} ended after {ended.step:,} updates; the same command goes on from there")
        translator = Translator.load(run, threads=arguments.threads)
        source = Lines(arguments.work / "text" / f"test.{arguments.languages[0]}")
        lines = translator.translate(source)
        if translator.remarkable.split:
            sys.exit(
                f"{translator.remarkable.split} test items are longer than any in training; raise --items"
            )
        about = {
            "kind": kind,
            "seed": seed,
            "minutes": ended.elapsed / 60,
            "updates": ended.step,
            "best_step": ended.best_step,
            "dev_bleu": ended.best_score,
            "parameters": sum(p.numel() for p in translator.model.parameters()),
            "cut_lines": translator.remarkable.cut,
        }
        facts.write_text(json.dumps(about), encoding="utf-8")
        with atomic_path(output) as path:
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    known: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
    lines = list(Lines(output))
    spent = f"{known['updates']:,} updates in {known['minutes']:.1f} minutes"
    # A model that has collapsed writes the same for every source.
    print(
        f"{kind}, seed {seed}: {spent}; {len(set(lines))} different outputs of {len(lines)}", file=sys.stderr
    )
    return known | {"output": lines}


def statistics(outputs: list[str], references: list[str]) -> np.ndarray:
    """What BLEU needs of each item, (items, 10): n-grams found, n-grams written, both lengths."""
    bleu = BLEU(effective_order=True)  # which changes the score of a sentence, not its counts
    scores = [bleu.sentence_score(o, [r]) for o, r in zip(outputs, references, strict=True)]
    return np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores])


def corpus_bleu(summed: np.ndarray) -> float:
    """BLEU as ``corpus_score`` computes it, from summed statistics."""
    counts = [int(n) for n in summed]
    return float(BLEU.compute_bleu(counts[:4], counts[4:8], counts[8], counts[9], smooth_method="exp").score)


def intervals(found: dict[str, list[np.ndarray]], seed: int = 1) -> dict[str, dict[str, Any]]:
    """Mean BLEU over the seeds and its interval for each kind, and for their difference, in one bin.

    Args:
        found: Kind → for each seed the statistics of the bin's items.
    """
    draw = np.random.default_rng(seed)
    samples: dict[str, list[float]] = {kind: [] for kind in found}
    items = len(next(iter(found.values()))[0])
    for _ in range(RESAMPLES):
        chosen = np.bincount(draw.integers(items, size=items), minlength=items)
        for kind, models in found.items():
            seeds = draw.integers(len(models), size=len(models))
            samples[kind].append(float(np.mean([corpus_bleu(chosen @ models[s]) for s in seeds])))
    by_seed = {kind: [corpus_bleu(m.sum(axis=0)) for m in models] for kind, models in found.items()}
    values = {kind: np.array(drawn) for kind, drawn in samples.items()}
    means = {kind: float(np.mean(scores)) for kind, scores in by_seed.items()}
    first, second = found
    values["difference"], means["difference"] = values[first] - values[second], means[first] - means[second]
    return {
        name: {
            "bleu": means[name],
            "interval": [float(x) for x in np.percentile(drawn, (2.5, 97.5))],
            "seeds": by_seed.get(name),
        }
        for name, drawn in values.items()
    }


def evaluate(
    models: list[dict[str, Any]], test: dict[str, Any], references: list[str]
) -> list[dict[str, Any]]:
    """The numbers of each bin."""
    bins, lengths = np.array(test["bins"]), np.array(test["lengths"])
    every = {(m["kind"], m["seed"]): statistics(m["output"], references) for m in models}
    report = []
    for which, (low, high) in enumerate(BINS):
        here = bins == which
        found = {kind: [s[here] for (k, _), s in every.items() if k == kind] for kind in KINDS}
        written = {kind: sum(s[:, 8].sum() for s in found[kind]) for kind in KINDS}
        expected = {kind: sum(s[:, 9].sum() for s in found[kind]) for kind in KINDS}
        report.append(
            {
                "words": [low, high],
                "items": int(here.sum()),
                "mean_words": float(lengths[here].mean()),
                "length_ratio": {kind: float(written[kind] / expected[kind]) for kind in KINDS},
                **intervals(found),
            }
        )
    return report


def table(report: list[dict[str, Any]]) -> str:
    """BLEU with intervals, and the length of the outputs in percent of the references'."""

    def cell(entry: dict[str, Any]) -> str:
        return f"{entry['bleu']:.1f} ({entry['interval'][0]:.1f} to {entry['interval'][1]:.1f})"

    head = "source words | items | `dot` | `none` | difference | length, `dot` | length, `none`"
    rows = [f"| {head} |", "|---" * 7 + "|"]
    for row in report:
        cells = [f"{row['words'][0]}–{row['words'][1]}", str(row["items"])]
        cells += [cell(row[name]) for name in (*KINDS, "difference")]
        cells += [f"{100 * row['length_ratio'][kind]:.0f} %" for kind in KINDS]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def draw(report: list[dict[str, Any]], path: Path) -> None:
    """Mean BLEU and interval over the length, with a dot for each seed."""
    from matplotlib.figure import Figure

    # Blue and vermilion of Okabe and Ito, distinct in all common forms of colour blindness; and two shapes.
    styles = {"dot": ("#0072B2", "o", "-", -0.5), "none": ("#D55E00", "s", "--", 0.5)}
    names = {"dot": "dot attention", "none": "no attention (one context vector)"}
    figure = Figure(figsize=(7.2, 4.3), dpi=150, layout="constrained")
    axes = figure.subplots()
    for kind, (colour, marker, line, shift) in styles.items():
        x = np.array([row["mean_words"] for row in report]) + shift
        y = np.array([row[kind]["bleu"] for row in report])
        ends = np.array([row[kind]["interval"] for row in report]).T
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "label": names[kind]}
        axes.errorbar(x, y, abs(ends - y), capsize=4, **look)
        for dots in zip(*(row[kind]["seeds"] for row in report), strict=True):
            axes.plot(x + 2 * shift, dots, marker=".", markersize=4, linestyle="", color=colour, alpha=0.6)
    axes.set_xlabel("Source length (words; mean of the bin)")
    axes.set_ylabel("BLEU on the test items (0 to 100)")
    axes.set_ylim(bottom=-1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, title="mean of the seeds, 95 % interval; small dots: single seeds")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with the six files")
    parser.add_argument("--languages", nargs=2, default=("en", "de"), metavar=("SOURCE", "TARGET"))
    parser.add_argument("--work", type=Path, default=Path("context-vector"), help="keeps all that is made")
    parser.add_argument("--items", type=int, default=28_000, help="training items")
    parser.add_argument("--test-items", type=int, default=120, help="test items of each bin of lengths")
    parser.add_argument("--steps", type=int, default=7200, help="updates of each model")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--vocab-size", type=int, default=4000)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--embedding", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--batch-tokens", type=int, default=1000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, help="CPU threads (default: one per core)")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) for k, v in vars(arguments).items() if k not in ("work", "threads", "seeds")}
    saved = work / "settings.json"
    if saved.exists() and json.loads(saved.read_text(encoding="utf-8")) != settings:
        sys.exit(f"{work} holds the models of other settings (settings.json); name another --work folder")
    sets = {
        "train": write_set(arguments, "train", arguments.items // len(BINS), 1),
        "dev": write_set(arguments, "dev", 60, 2),
        "test": write_set(arguments, "test", arguments.test_items, 3),
    }
    if not saved.exists():
        files = sets["train"]["options"] | sets["dev"]["options"]
        preprocess(PreprocessOptions(run=work / "data", force=True, vocab_size=arguments.vocab_size, **files))
        saved.write_text(json.dumps(settings), encoding="utf-8")
    # A seed of both kinds before the next seed: an interrupted benchmark has pairs to compare.
    models = [run_one(kind, seed, arguments) for seed in arguments.seeds for kind in KINDS]
    references = list(Lines(work / "text" / f"test.{arguments.languages[1]}"))
    report = evaluate(models, sets["test"], references)
    made = {name: {k: v for k, v in facts.items() if k != "options"} for name, facts in sets.items()}
    raw = {"settings": settings, "sets": made, "bins": report, "models": models}
    (work / "results.json").write_text(json.dumps(raw, ensure_ascii=False), encoding="utf-8")
    (work / "results.md").write_text(table(report), encoding="utf-8")
    draw(report, work / "context-vector.png")
    print(table(report), end="")


if __name__ == "__main__":
    main()
