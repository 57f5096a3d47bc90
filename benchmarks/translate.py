"""Speed, memory, latency and BLEU of `s2s translate` and of other systems, in one run, beside the floor.

    python benchmarks/translate.py --model RUN --source test.en --reference test.de
    python benchmarks/translate.py --model RUN --source test.en --reference test.de \
        --more tatoeba.en --names Multi30k Tatoeba --peers benchmarks/peers/peers.toml --output speed.json

--model is a run folder or model directory. --more is a file without references, of which 50,000 lines are
drawn. --peers describes other systems (benchmarks/peers/prepare.sh trains those in peers.toml); without it,
this project is measured alone. Prints Markdown tables. What is measured, and how:

- Sentences per second: lines / (time of the whole process - its time with one line), so neither loading
  nor the end of the process counts. Runs last about --seconds: the source is repeated, shuffled, for fast
  systems; of --more, slow ones get a part drawn at random. The systems take turns (A B C A B C ...), and
  the median of --repeats runs is given.
- The batch size is each system's best on a sample of the source, probed before.
- Memory: the largest resident set of these runs. First line: from the start of the process to the first
  translation. Latency: single lines, each sent when the one before has been answered.
- Other systems read and write the model's own tokens; this project reads and writes text.
- BLEU: sacreBLEU's default (13a, cased) of the text made of their tokens.

Settings of `s2s translate` that the installed version does not know are left out with a message.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sacrebleu
from peers import floor, pieces, table
from peers.measure import ProcessError, Setting, System, answers, run, summary

from s2scli.checkpoint import find_model, read_info
from s2scli.tokenizer import Tokenizer

OURS = {
    "fp32": ["--precision", "fp32"],
    "bf16": ["--precision", "bf16"],
    "auto": [],
    "auto, shortlist 50": ["--shortlist", "50"],
    "auto, shortlist 50, threshold 2": ["--shortlist", "50", "--beam-threshold", "2"],
    "auto, threshold 2": ["--beam-threshold", "2"],
}
"""Settings of this project that are measured."""
BATCHES = (16, 32, 64, 128, 256)
USAGE_ERROR = 2
"""Exit code of `s2s` for an option it does not know."""


@dataclass
class Text:
    """A file to translate, as text and as tokens; ``ratio`` is target tokens for each of the source."""

    name: str
    lines: list[str]
    tokens: list[str]
    reference: list[str] | None
    ratio: float = 1.0

    def given(self, system: System, order: Sequence[int]) -> list[str]:
        """The lines of the given numbers, as the system reads them."""
        lines = self.tokens if system.pieces else self.lines
        return [lines[i] for i in order]

    def numbers(self, wanted: int) -> list[int]:
        """About ``wanted`` line numbers.

        With a reference, whole copies of the file, the first in its own order; else the file or a part.
        """
        generator, every = random.Random(1), range(len(self.lines))
        if self.reference is None:
            return generator.sample(every, min(wanted, len(every)))
        copies = max(1, round(wanted / len(every)))
        return [*every, *(i for _ in range(copies - 1) for i in generator.sample(every, len(every)))]


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def own_systems(model: Path, settings: dict[str, list[str]]) -> list[System]:
    command = [sys.executable, "-m", "s2scli", "translate", "--run", str(model), "--beam", "{beam}"]
    command += ["--batch-size", "{batch}", "--threads", "{threads}"]
    return [System(name=f"s2s, {n}", command=[*command, *more], pieces=False) for n, more in settings.items()]


def working(systems: list[System], text: Text, setting: Setting) -> list[System]:
    """Those that translate three lines; what the others said instead is told."""
    found = []
    for system in systems:
        try:
            run(system, setting, text.given(system, range(3)))
            found.append(system)
        except (ProcessError, OSError) as error:
            unknown = isinstance(error, ProcessError) and error.code == USAGE_ERROR
            log(f"{system.name} is left out{' (unknown to this version)' if unknown else ''}: {error}")
    return found


def rate(lines: int, whole: float, alone: float) -> float:
    """Lines per second without loading; on a busy machine ``alone`` may be as long as ``whole`` by chance."""
    return lines / max(whole - alone, whole / 10)


def best_batch(system: System, text: Text, setting: Setting, batches: Sequence[int]) -> tuple[Setting, float]:
    """The setting with the fastest batch size on a sample of the file, and its lines per second, roughly."""
    numbers = random.Random(1).choices(range(len(text.lines)), k=5000)

    def seconds(count: int, batch: int) -> float:
        return run(system, replace(setting, batch=batch), text.given(system, numbers[:count])).seconds

    # Long enough that the noise of starting a process does not decide.
    alone = seconds(1, 64)
    count = min(len(numbers), max(200, round(3 * rate(200, seconds(200, 64), alone))))
    times = {batch: seconds(count, batch) for batch in batches}
    best = min(times, key=lambda batch: times[batch])
    log(
        f"  {system.name}: "
        + ", ".join(f"{batch}: {rate(count, t, alone):.0f}" for batch, t in times.items())
    )
    return replace(setting, batch=best), rate(count, times[best], alone)


def throughput(
    systems: list[System], text: Text, setting: Setting, arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
    """Lines per second, memory and tokens of each system on a file, runs of all systems taking turns."""
    log(f"{text.name}, beam {setting.beam}, threads {setting.threads}: batch sizes")
    chosen = {system.name: best_batch(system, text, setting, arguments.batches) for system in systems}
    orders = {name: text.numbers(round(speed * arguments.seconds)) for name, (_, speed) in chosen.items()}
    loads: dict[str, list[float]] = {name: [] for name in chosen}
    times: dict[str, list[float]] = {name: [] for name in chosen}
    results: dict[str, dict[str, Any]] = {}
    for _ in range(arguments.repeats):
        for system in systems:
            name, best = system.name, chosen[system.name][0]
            lines = text.given(system, orders[name])
            loads[name].append(run(system, best, lines[:1]).seconds)
            done = run(system, best, lines)
            times[name].append(done.seconds)
            log(f"  {name}: {len(lines)} lines, {done.seconds:.1f} s, {loads[name][-1]:.1f} s for one")
            found = results.setdefault(name, {"megabytes": 0.0, "output": done.output})
            found["megabytes"] = max(found["megabytes"], done.megabytes)
    for name, found in results.items():
        load = statistics.median(loads[name])
        found |= {
            "batch": chosen[name][0].batch,
            "lines": len(orders[name]),
            "one_line": summary(loads[name]),
        }
        found["sentences_per_second"] = summary([rate(len(orders[name]), t, load) for t in times[name]])
    return results


def judge(system: System, text: Text, found: dict[str, Any], tokenizer: Tokenizer) -> list[int]:
    """Put BLEU and the mean length beside a result; returns target tokens of each line, EOS included."""
    output = found.pop("output")
    if system.pieces:
        counts = [len(line.split()) + 1 for line in output]
        output = pieces.decode(tokenizer.target, output)
    else:
        counts = [len(ids) + 1 for ids in tokenizer.target.encode(output)]
    found["tokens_per_line"] = statistics.mean(counts)
    if text.reference is not None and system.bleu:
        first = output[: len(text.reference)]
        found["bleu"] = sacrebleu.corpus_bleu(first, [text.reference]).score
    return counts


def own_floor(
    system: System, text: Text, counts: list[int], setting: Setting, model: Path, gflops: dict[str, float]
) -> dict[str, float]:
    """What the arithmetic allows a setting of this project that wrote ``counts`` tokens for the lines."""
    columns, words = None, list(system.command)
    if "--shortlist" in words:
        size = int(words[words.index("--shortlist") + 1])
        sources = Tokenizer.load(model / "tokenizer.json").source.encode(text.lines)
        columns = floor.shortlist_columns(model, size, sources, setting.batch)
    lengths = [(len(line.split()) + 1, n) for line, n in zip(text.tokens, counts, strict=False)]
    return floor.limits(read_info(model).model, lengths, setting, columns=columns, gflops=gflops)


def measure(
    systems: list[System], texts: list[Text], setting: Setting, model: Path, arguments: argparse.Namespace
) -> dict[str, Any]:
    """All numbers of one number of threads and one beam."""
    tokenizer = Tokenizer.load(model / "tokenizer.json")
    by_text: dict[str, Any] = {}
    gflops = floor.peaks(setting.threads)
    floors: dict[str, Any] = {"gflops": gflops}
    for text in texts:
        found = throughput(systems, text, replace(setting, ratio=text.ratio), arguments)
        by_text[text.name] = found
        for system in systems:
            counts = judge(system, text, found[system.name], tokenizer)
            if text is texts[0] and not system.pieces:
                here = replace(setting, batch=found[system.name]["batch"])
                floors[system.name] = own_floor(system, text, counts, here, model, gflops)
    latency = {}
    order = [i % len(texts[0].lines) for i in range(arguments.singles + 1)]
    for system in systems:
        one = replace(setting, batch=1, ratio=texts[0].ratio)
        latency[system.name] = answers(system, one, texts[0].given(system, order))
        log(f"  {system.name}: " + ", ".join(f"{k} {v:.1f}" for k, v in latency[system.name].items()))
    return {
        "threads": setting.threads,
        "beam": setting.beam,
        "texts": by_text,
        "latency": latency,
        "floor": floors,
    }


def read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def texts_of(arguments: argparse.Namespace, tokenizer: Tokenizer) -> list[Text]:
    files = [(arguments.source, read_lines(arguments.source), read_lines(arguments.reference))]
    if arguments.more:
        lines = [line for line in read_lines(arguments.more) if line.strip()]
        drawn = random.Random(1).sample(lines, min(arguments.more_lines, len(lines)))
        files.append((arguments.more, drawn, None))
    names = arguments.names or [path.name for path, _, _ in files]
    return [
        Text(name=name, lines=lines, tokens=pieces.encode(tokenizer.source, lines), reference=reference)
        for name, (_, lines, reference) in zip(names, files, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--more", type=Path)
    parser.add_argument("--more-lines", type=int, default=50_000)
    parser.add_argument("--names", nargs="+", help="what to call the files in the table")
    parser.add_argument("--peers", type=Path, help="TOML file of other systems")
    parser.add_argument("--only", nargs="*", help="of all systems those whose names hold one of these words")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--seconds", type=float, default=20.0, help="about how long a run lasts")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--singles", type=int, default=200, help="single lines for the latency")
    parser.add_argument("--output", type=Path, help="all numbers, as JSON")
    arguments = parser.parse_args()
    model = find_model(arguments.model)
    tokenizer = Tokenizer.load(model / "tokenizer.json")
    texts = texts_of(arguments, tokenizer)
    systems = own_systems(arguments.model, OURS)
    if arguments.peers:
        described = tomllib.loads(os.path.expandvars(arguments.peers.read_text(encoding="utf-8")))
        systems += [System(**entry) for entry in described["system"]]
    if arguments.only:
        systems = [system for system in systems if any(word in system.name for word in arguments.only)]
    first = Setting(beam=max(arguments.beams), batch=64, threads=max(arguments.threads), ratio=1.0)
    systems = working(systems, texts[0], first)
    if not systems or systems[0].pieces:
        parser.error("the floor and the lengths need this project's own translations; --only leaves none")
    for text in texts:  # how long our translations are, so that random weights are made to write as much
        sample = text.lines[:1000]
        output = run(systems[0], first, sample).output
        target = tokenizer.target.encode(output)
        text.ratio = sum(map(len, target)) / sum(len(line.split()) for line in text.tokens[: len(sample)])
    cores = sorted(os.sched_getaffinity(0))
    found = []
    for threads in arguments.threads:
        os.sched_setaffinity(0, cores[:threads])
        for beam in arguments.beams:
            setting = Setting(beam=beam, batch=64, threads=threads, ratio=1.0)
            # A threshold for the hypotheses of a beam is refused without one.
            able = working(systems, texts[0], setting)
            found.append(measure(able, texts, setting, model, arguments))
            if arguments.output:  # what is measured is kept, should a later system fail
                arguments.output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    print(table.markdown(found, systems, [text.name for text in texts]))


if __name__ == "__main__":
    main()
