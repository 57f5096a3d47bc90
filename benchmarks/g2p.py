"""Short strings: pronunciations of several languages, by this project with defaults only, beside yoyodyne.

    python benchmarks/g2p.py --corpus FOLDER --work g2p-work
    python benchmarks/g2p.py --corpus FOLDER --work g2p-work --yoyodyne VENV --speed

FOLDER holds three tables of each language, as fre_train.tsv, fre_dev.tsv and fre_test.tsv: a word, a tab, and
its phonemes with spaces between (those of SIGMORPHON 2020, task 1). VENV is a virtual environment with
yoyodyne; without it, this project is measured alone. What is measured, and how:

- This project: `s2s preprocess`, `s2s train --seeds 5` and `s2s translate` with no option that changes the
  result. As many trainings run at once as there are --cores, each with one thread on a core of its own.
- yoyodyne: an attentive LSTM with the settings of peers/yoyodyne.yaml (60 epochs at most, patience 12, the
  checkpoint with the best accuracy on the development set, greedy search), one training for each language
  with seed 1; they too run one on each core with one thread. It splits words into code points and knows of no
  normal forms, so a table with Hangul is given to it in NFD, as `s2s preprocess` makes it.
- WER: percent of test words whose pronunciation is not exactly the one in the table; PER: edits of phonemes
  per hundred phonemes. Both systems' lines are scored by the same functions of this project. Of the seeds
  stands the median of the first three, and what all of them say together (`s2s translate --run` with all).
- Minutes of a training: updates, validations and checkpoints, without the start of the process (median
  of the seeds).
- --speed (first of --languages): short trainings and long translations in which the two systems take turns,
  three --rounds, medians. Strings/s of training counts the updates alone: of one training with a thread for
  each core, and of as many trainings at once as there are cores, with one thread each, summed. Words/s of
  prediction: all words of the three tables three times over, by the seconds of the whole process less those
  of a process that translates one word. All threads; for yoyodyne the better of two batch sizes, tried
  before. Nothing else should run on the machine meanwhile.

The --work folder keeps everything: run the command again, and nothing that is finished is repeated, and what
was interrupted goes on where it was (this project) or is made anew (yoyodyne). To measure the speed again,
delete speed.json. It then holds results.md (the tables) and results.json (the numbers of every training).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers.strings import Ours, Place, Tables, Yoyodyne, at_once, rates, read, seconds, write_words
from peers.strings_speed import Speed, speed_table

from s2scli.files import atomic_path

MEDIAN_OF = 3
"""Seeds whose median stands in the table."""


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def test_words(tables: Tables, folder: Path) -> Path:
    """The words of the test table, one a line."""
    return write_words([word for word, _ in read(tables.test)], folder / "test.words")


def once(facts: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The facts in a file; if there is none, ``make`` finds them, and they are kept."""
    if not facts.exists():
        found = make()
        with atomic_path(facts) as path:
            path.write_text(json.dumps(found), encoding="utf-8")
    known: dict[str, Any] = json.loads(facts.read_text(encoding="utf-8"))
    return known


def ours(system: Ours, language: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train models of a language, or go on with them, and translate the test set; nothing is done twice.

    Returns:
        ``seeds``, the facts of each training with its WER and PER, and ``together``, WER and PER of all.
    """
    folder: Path = arguments.work / "ours" / language
    run, place = folder / "run", Place(tuple(arguments.cores), len(arguments.cores))
    tables = Tables.of(arguments.corpus, language)
    words = test_words(tables, folder)
    if not (run / "data").is_dir():
        seconds(system.preprocess(tables, run), place, folder / "preprocess.log")
    models = system.models(run)
    if len(models) < arguments.seeds or not all(map(system.facts, models)):
        log(f"s2s, {language}: {arguments.seeds} seeds, what it says in {folder / 'train.log'}")
        command = system.fit(run, max(arguments.seeds, len(models)), place.threads)
        seconds(command, place, folder / "train.log")
        models = system.models(run)

    def test(model: Path, name: str) -> dict[str, Any]:
        def translate() -> dict[str, Any]:
            output = folder / f"{name}.output"
            command = system.predict(words, model, output, place.threads)
            seconds(command, place, folder / f"{name}.log")
            return rates(output, tables)

        return once(folder / f"{name}.json", translate)

    trained = [(system.facts(model) or {}) | test(model, f"seed-{model.name}") for model in models]
    together = test(run, f"all-{len(models)}")
    each = ", ".join(f"{seed['wer']:.1f}" for seed in trained)
    log(f"s2s, {language}: WER {each}, together {together['wer']:.1f}")
    return {"seeds": trained, "together": together}


def peer(system: Yoyodyne, language: str, arguments: argparse.Namespace, place: Place) -> dict[str, Any]:
    """Train yoyodyne on a language and let it translate the test set; nothing is done twice."""
    folder: Path = arguments.work / "yoyodyne" / language
    model, output = folder / "model", folder / "test.output"
    tables = Tables.of(arguments.corpus, language).decomposed(folder)

    def fit() -> dict[str, Any]:
        log(f"yoyodyne, {language}: on core {place.cores[0]}, what it says in {folder / 'fit.log'}")
        whole = seconds(system.fit(tables, model), place, folder / "fit.log")
        return Yoyodyne.facts(model) | {"process_minutes": whole / 60}

    def predict() -> dict[str, Any]:
        seconds(system.predict(test_words(tables, folder), model, output), place, folder / "predict.log")
        return rates(output, tables)

    found = once(folder / "fit.json", fit) | once(folder / "test.json", predict)
    spent = f"{found['epochs']} epochs in {found['minutes']:.1f} minutes"
    log(f"yoyodyne, {language}: WER {found['wer']:.1f}, {spent}")
    return found


def row(found: dict[str, Any]) -> dict[str, float]:
    """The numbers of the table for a language, of the systems that were measured."""
    numbers: dict[str, float] = {}
    if "ours" in found:
        seeds, together = found["ours"]["seeds"], found["ours"]["together"]
        for name in ("wer", "per"):
            numbers[f"{name} median"] = statistics.median(seed[name] for seed in seeds[:MEDIAN_OF])
            numbers[f"{name} together"] = together[name]
        numbers["minutes"] = statistics.median(seed["minutes"] for seed in seeds)
        numbers["strings"] = statistics.median(seed["strings_per_second"] for seed in seeds)
    if "yoyodyne" in found:
        numbers |= {f"{name} peer": found["yoyodyne"][name] for name in ("wer", "per", "minutes")}
        numbers["strings peer"] = found["yoyodyne"]["strings_per_second"]
    return numbers


def table(languages: dict[str, dict[str, Any]]) -> str:
    """WER, PER and times of each language, and their means."""
    rows = {language: row(found) for language, found in languages.items()}
    common = set.intersection(*(set(numbers) for numbers in rows.values()))
    rows["mean"] = {name: statistics.mean(numbers[name] for numbers in rows.values()) for name in common}
    counts = sorted({len(found["ours"]["seeds"]) for found in languages.values() if "ours" in found})
    every = " or ".join(map(str, counts)) or "all"
    few = min(MEDIAN_OF, *counts) if counts else MEDIAN_OF
    columns = {
        "wer median": f"WER s2s, median of {few} seeds",
        "wer together": f"WER s2s, {every} seeds together",
        "wer peer": "WER yoyodyne",
        "per median": "PER s2s, median",
        "per together": "PER s2s, together",
        "per peer": "PER yoyodyne",
        "minutes": "minutes of a training, s2s",
        "minutes peer": "yoyodyne",
        "strings": "training strings/s, s2s",
        "strings peer": "yoyodyne",
    }
    lines = [f"| language | {' | '.join(columns.values())} |", "|---" * (1 + len(columns)) + "|"]
    for language, numbers in rows.items():
        cells = [
            (f"{numbers[name]:,.0f}" if "strings" in name else f"{numbers[name]:.1f}")
            if name in numbers
            else "–"
            for name in columns
        ]
        lines.append(f"| {language} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True, help="folder with the tables")
    parser.add_argument("--languages", nargs="+", default=["fre", "geo", "hun", "ice", "kor"])
    parser.add_argument("--work", type=Path, default=Path("g2p-work"), help="keeps all that is made")
    parser.add_argument("--seeds", type=int, default=5, help="models of this project for each language")
    parser.add_argument("--also", type=shlex.split, default=[], metavar="'OPTIONS'", help="for s2s train")
    parser.add_argument("--yoyodyne", type=Path, metavar="VENV", help="its virtual environment")
    parser.add_argument(
        "--yoyodyne-also", type=shlex.split, default=[], metavar="'OPTIONS'", help="for yoyodyne fit"
    )
    parser.add_argument("--only", choices=("ours", "yoyodyne"), help="measure one of the two")
    parser.add_argument("--speed", action="store_true", help="measure the speed of both in turns as well")
    parser.add_argument("--rounds", type=int, default=3, help="of --speed")
    cores = sorted(os.sched_getaffinity(0))
    parser.add_argument("--cores", type=int, nargs="+", default=cores, help="processor cores (default: all)")
    arguments = parser.parse_args()
    arguments.corpus, arguments.work = arguments.corpus.resolve(), arguments.work.resolve()
    if arguments.only == "yoyodyne" and not arguments.yoyodyne:
        parser.error("--only yoyodyne needs --yoyodyne VENV")
    if arguments.speed and arguments.only == "yoyodyne":
        parser.error("--speed measures this project too; leave out --only yoyodyne")
    return arguments


def main() -> None:
    arguments = parse()
    languages: dict[str, dict[str, Any]] = {language: {} for language in arguments.languages}
    mine, other = Ours(tuple(arguments.also)), None
    if arguments.only != "yoyodyne":
        given = {"corpus": str(arguments.corpus), "also": arguments.also}
        saved = arguments.work / "ours" / "settings.json"
        saved.parent.mkdir(parents=True, exist_ok=True)
        if once(saved, lambda: given) != given:
            sys.exit(
                f"{saved.parent} holds the models of other settings (settings.json); name another --work"
            )
        for language, found in languages.items():
            found["ours"] = ours(mine, language, arguments)
    if arguments.yoyodyne and arguments.only != "ours":
        other = Yoyodyne(arguments.yoyodyne.resolve(), tuple(arguments.yoyodyne_also))
        jobs = [
            lambda place, language=language: peer(other, language, arguments, place) for language in languages
        ]
        for found, measured in zip(languages.values(), at_once(jobs, arguments.cores), strict=True):
            found["yoyodyne"] = measured
    results: dict[str, Any] = {"cores": arguments.cores, "languages": languages}
    text = table(languages)
    if arguments.speed:
        first = arguments.languages[0]
        tables, work = Tables.of(arguments.corpus, first), arguments.work
        speed = Speed(mine, other, work, tables, first, arguments.cores, arguments.rounds)
        results["speed"] = once(arguments.work / "speed.json", lambda: speed.measure(log))
        text += "\n" + speed_table(results["speed"])
    for name, content in (("results.json", json.dumps(results, indent=1)), ("results.md", text)):
        with atomic_path(arguments.work / name) as path:
            path.write_text(content, encoding="utf-8")
    print(text, end="")


if __name__ == "__main__":
    main()
