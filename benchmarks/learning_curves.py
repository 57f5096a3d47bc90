"""What minutes of training bring: this project with its defaults beside OpenNMT-py and JoeyNMT.

    python benchmarks/learning_curves.py --corpus FOLDER --languages en de --minutes 30 --peers PEERS

FOLDER holds train.XX, dev.XX and test.XX of both languages; PEERS the environments of the other systems,
as README.md beside this file describes. How it is measured:

- All systems train on the same tokens for the same minutes, on the same processor cores, one after the
  other, with the sizes and batches that the defaults of this project choose for the corpus. All use Adam;
  OpenNMT-py is trained with a learning rate of 0.001 and again with 0.002.
- The minutes of the others begin with their first update; OpenNMT-py makes no validations in them. Those of
  this project are all that `--max-minutes` counts, validations among them.
- A curve holds BLEU of the development set (greedy search, sacreBLEU's defaults) of every checkpoint.
- The test set is translated with beam 5 by the checkpoint that is best on the development set.

--work keeps everything: results.md (the table), results.json and learning-curves.png. What is there already
is not trained again, so systems can be added one by one (--systems), or at once, each bound to other cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers import pieces, train_systems
from peers.strings import Place, start
from peers.table import rows
from peers.train_systems import Size, System, Tokens
from sacrebleu.metrics import BLEU

from s2scli.config import PreprocessOptions, TrainOptions
from s2scli.corpus import Lines
from s2scli.files import write_text_atomic
from s2scli.preprocess import preprocess
from s2scli.tokenizer import Tokenizer
from s2scli.train import read_inputs
from s2scli.translator import Translator

HERE = Path(__file__).resolve().parent
OURS = "s2s"
Found = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """Another system: how it trains, what serve.py calls it, and the names of its checkpoints."""

    system: System
    kind: str
    checkpoints: str


def peers_of(folder: Path) -> dict[str, Peer]:
    """The other systems by the name that --systems knows."""

    def onmt(rate: str) -> Peer:
        more = ("-learning_rate", rate, "-save_checkpoint_steps", "200", "-report_every", "50")
        command = train_systems.onmt(folder / "onmt", *more)
        system = System(f"OpenNMT-py 3.5.1, Adam {rate}", command, train_systems.onmt_points)
        return Peer(system, "onmt", "model_step_*.pt")

    often = {"validation_freq: 450": "validation_freq: 200", "keep_best_ckpts: 1": "keep_best_ckpts: -1"}
    system = System("JoeyNMT 2.3.0", train_systems.joey(folder / "joey", often), train_systems.joey_points)
    return {
        "onmt": onmt("0.001"),
        "onmt-2e-3": onmt("0.002"),
        "joey": Peer(system, "joey", "model/*[0-9].ckpt"),
    }


@dataclass(frozen=True)
class Bench:
    """What all systems share."""

    corpus: Path
    tokens: Tokens
    size: Size
    minutes: float
    place: Place
    peers: Path

    def lines(self, part: str, side: int) -> list[str]:
        return list(Lines(self.corpus / f"{part}.{self.tokens.languages[side]}"))


def prepare(
    corpus: Path, languages: tuple[str, str], work: Path, *, minutes: float, threads: int
) -> tuple[Tokens, Size]:
    """Preprocess with defaults and write the tokens for the others; and the sizes that the defaults take."""
    tokens = Tokens(work / "tokens", work / "preprocessed", languages)
    if not (tokens.folder / "vocab.marian.yml").exists():  # what is written last
        parts: dict[str, Any] = {
            f"{part}_{side}": (corpus / f"{part}.{language}",)
            for part in ("train", "dev", "test")
            for side, language in zip(("src", "tgt"), languages, strict=True)
        }
        preprocess(PreprocessOptions(run=tokens.run, force=True, **parts))
        tokenizer = Tokenizer.load(tokens.run / "data" / "tokenizer.json")
        pieces.write_tokens(tokenizer, corpus, languages, ("train", "dev", "test"), tokens.folder)
    recipe = read_inputs(TrainOptions(run=tokens.run, max_minutes=minutes, threads=threads)).recipe
    model = recipe.model
    assert recipe.options.batch_tokens is not None
    size = Size(
        model.encoder_layers, model.embedding, recipe.options.batch_tokens, model.hidden, model.dropout
    )
    return tokens, size


def bleu(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    return float(BLEU().corpus_score(list(hypotheses), [list(references)]).score)


def train_ours(bench: Bench, folder: Path) -> Found:
    """`s2s train --max-minutes`, its validations, and the test set translated by its best model."""
    folder.mkdir(parents=True)
    (folder / "data").symlink_to(bench.tokens.run / "data")
    command = [sys.executable, "-m", "s2scli", "train", "--run", str(folder)]
    command += ["--threads", str(bench.place.threads), "--max-minutes", str(bench.minutes)]
    if start(command, bench.place, folder / "log").wait():
        sys.exit(f"the training failed, see {folder / 'log'}")
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in text.splitlines()]
    curve = [[r["elapsed"] / 60, r["bleu"]] for r in records if r["event"] == "validation"]
    translator = Translator.load(folder, threads=bench.place.threads)
    written = translator.translate(bench.lines("test", 0), beam=5)
    return {"curve": curve, "test": bleu(written, bench.lines("test", 1))}


def trained(bench: Bench, peer: Peer, folder: Path) -> float:
    """Train another system for its minutes: the time of its first update, in seconds since the epoch."""
    folder.mkdir(parents=True)
    command = peer.system.command(bench.size, bench.tokens, bench.place.threads, folder)
    process = start(command, bench.place, folder / "log")
    try:
        while True:
            time.sleep(1)
            if process.poll() is not None:
                sys.exit(f"{peer.system.name} has ended by itself, see {folder / 'log'}")
            log = (folder / "log").read_text(encoding="utf-8", errors="replace")
            points = peer.system.points(log)
            if points and points[-1].seconds >= 60 * bench.minutes:
                return time.time() - points[-1].seconds
    finally:
        process.terminate()
        process.wait()


def translated(bench: Bench, peer: Peer, checkpoint: Path, part: str, beam: int) -> list[str]:
    """The text that a checkpoint makes of the tokens of ``part``."""
    model = checkpoint
    if peer.kind == "joey":  # it reads the best model of a folder
        model = checkpoint.parent / "chosen"
        model.mkdir(exist_ok=True)
        for name in ("config.yaml", "src_vocab.txt", "trg_vocab.txt"):
            (model / name).unlink(missing_ok=True)
            (model / name).symlink_to(checkpoint.parent / name)
        (model / "best.ckpt").unlink(missing_ok=True)
        (model / "best.ckpt").symlink_to(checkpoint)
    command = [bench.peers / peer.kind / "bin/python", HERE / "peers" / "serve.py", peer.kind, model]
    command += ["--beam", str(beam), "--batch", "64", "--threads", str(bench.place.threads)]
    with bench.tokens.path(part, 0).open("rb") as source:
        environment = bench.place.environment
        done = subprocess.run(
            [str(word) for word in command], stdin=source, capture_output=True, env=environment
        )
    if done.returncode:
        sys.exit(f"{peer.system.name} cannot translate:\n{done.stderr.decode(errors='replace')[-2000:]}")
    target = Tokenizer.load(bench.tokens.run / "data" / "tokenizer.json").target
    return pieces.decode(target, done.stdout.decode("utf-8").removesuffix("\n").split("\n"))


def train_peer(bench: Bench, peer: Peer, folder: Path) -> Found:
    """Train, then score every checkpoint on the development set and the best of them on the test set."""
    first = trained(bench, peer, folder)
    found = sorted(folder.glob(peer.checkpoints), key=lambda path: path.stat().st_mtime)
    if not found:
        sys.exit(f"{peer.system.name} has saved nothing in its minutes, see {folder}")
    references = bench.lines("dev", 1)
    curve = []
    for path in found:
        score = bleu(translated(bench, peer, path, "dev", 1), references)
        curve.append([(path.stat().st_mtime - first) / 60, score])
        print(f"{peer.system.name}, {curve[-1][0]:.1f} minutes: {score:.1f}", file=sys.stderr)
    best = found[max(range(len(curve)), key=lambda i: curve[i][1])]
    written = translated(bench, peer, best, "test", 5)
    return {"curve": curve, "test": bleu(written, bench.lines("test", 1))}


def table(found: dict[str, Found], names: dict[str, str]) -> str:
    """One line a system."""
    lines = [["system", "minutes", "best dev BLEU, greedy", "after minutes", "test BLEU, beam 5"]]
    for key, result in found.items():
        minutes, score = max(result["curve"], key=lambda point: point[1])
        lines.append(
            [names[key], f"{result['minutes']:g}", f"{score:.1f}", f"{minutes:.0f}", f"{result['test']:.1f}"]
        )
    return rows(lines)


def draw(found: dict[str, Found], names: dict[str, str], path: Path) -> None:
    """BLEU over minutes."""
    from matplotlib.figure import Figure

    # Colours of Okabe and Ito, distinct in all common forms of colour blindness; and a shape for each.
    styles = [("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#E69F00", "^", "--"), ("#009E73", "D", ":")]
    figure = Figure(figsize=(7.2, 4.3), dpi=150, layout="constrained")
    axes = figure.subplots()
    for (key, result), (colour, marker, line) in zip(found.items(), styles, strict=False):
        x, y = zip(*result["curve"], strict=True)
        label = f"{names[key]}: {result['test']:.1f}"
        axes.plot(x, y, color=colour, marker=marker, linestyle=line, markersize=4, label=label)
    axes.set_xlabel("Minutes of training")
    axes.set_ylabel("BLEU of the development set, greedy")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    title = "BLEU of the test set, beam 5"
    figure.legend(frameon=False, loc="outside upper center", ncols=2, title=title)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with the six files")
    parser.add_argument("--languages", nargs=2, default=["en", "de"], metavar=("SOURCE", "TARGET"))
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument(
        "--peers", type=Path, required=True, help="folder with the environments onmt and joey"
    )
    parser.add_argument("--work", type=Path, default=Path("learning-curves"), help="keeps all that is made")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="default: all that there are")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    known = peers_of(arguments.peers.resolve())
    names = {OURS: "s2s train"} | {key: peer.system.name for key, peer in known.items()}
    chosen = arguments.systems or list(names)
    if unknown := [name for name in chosen if name not in names]:
        parser.error(f"there is no system {unknown[0]}; there are {', '.join(names)}")
    cores = tuple(sorted(os.sched_getaffinity(0))[: arguments.threads])
    work.mkdir(parents=True, exist_ok=True)
    limits = {"minutes": arguments.minutes, "threads": arguments.threads}
    tokens, size = prepare(arguments.corpus.resolve(), tuple(arguments.languages), work, **limits)
    place = Place(cores, arguments.threads)
    bench = Bench(arguments.corpus, tokens, size, arguments.minutes, place, arguments.peers.resolve())
    for key in chosen:
        kept, folder = work / f"{key}.json", work / key
        if not kept.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a training that was broken off
            result = train_ours(bench, folder) if key == OURS else train_peer(bench, known[key], folder)
            result |= limits
            write_text_atomic(kept, json.dumps(result))
    found = {
        key: json.loads((work / f"{key}.json").read_text(encoding="utf-8"))
        for key in names
        if (work / f"{key}.json").exists()
    }
    write_text_atomic(work / "results.json", json.dumps(found, indent=1) + "\n")
    write_text_atomic(work / "results.md", table(found, names) + "\n")
    draw(found, names, work / "learning-curves.png")
    print(table(found, names))


if __name__ == "__main__":
    main()
