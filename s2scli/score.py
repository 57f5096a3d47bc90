"""Scores of translations against references: BLEU, chrF, chrF++ and TER.

The numbers are sacreBLEU's, and equal to those of its own command line with the same
settings. A report holds a list of systems, each with its scores, so that several
systems stand in one report in the same form as one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2scli.config import ScoreOptions
from s2scli.corpus import BOM, Lines, decode_line
from s2scli.errors import S2SError, UsageError, nearest
from s2scli.events import Listener, Notice, Progress
from s2scli.resolve import flag

if TYPE_CHECKING:
    from sacrebleu.metrics.base import Metric

HIGHER_IS_BETTER = {"bleu": True, "chrf": True, "chrf++": True, "ter": False}
OFFLINE_TOKENIZERS = ("13a", "intl", "char", "zh", "ja-mecab", "ko-mecab", "none")
"""sacreBLEU's tokenizers without those for which it would download a model."""
REPORT_EVERY = 64
"""Lines between two reports of progress."""
OF_THE_MODEL = ("set", "beam", "length_penalty")
"""Options that say what is translated and how, and so mean nothing for given hypotheses."""


@dataclass(frozen=True, kw_only=True)
class MetricScore:
    """One metric of one system over the whole set."""

    metric: str
    name: str
    score: float
    details: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class System:
    """Somebody's translations of the set, line by line."""

    name: str
    hypotheses: tuple[str, ...]


def make_metric(name: str, *, tokenize: str | None = None, lowercase: bool = False) -> Metric:
    """SacreBLEU's metric with the defaults of its command line.

    Of these TER's is to ignore case, so ``lowercase`` changes nothing there.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    if name == "bleu":
        try:
            return BLEU(tokenize=tokenize, lowercase=lowercase)
        except (ImportError, RuntimeError) as error:
            raise S2SError(
                f"the tokenizer '{tokenize}' needs a package that is not installed",
                where="--tokenize",
                hint=f"pip install 'sacrebleu[{(tokenize or '')[:2]}]'",
            ) from error
    if name in ("chrf", "chrf++"):
        return CHRF(word_order=2 if name == "chrf++" else 0, lowercase=lowercase)
    return TER()


def corpus_score(
    name: str, metric: Metric, system: System, references: Sequence[Sequence[str]]
) -> MetricScore:
    """The score of one system over the whole set, with its signature."""
    result = metric.corpus_score(list(system.hypotheses), [list(r) for r in references])
    return MetricScore(
        metric=name,
        name=result.name,
        score=float(result.score),
        details=_details(result),
        signature=metric.get_signature().format(),
    )


def _details(result: Any) -> str:
    """Of BLEU its n-gram precisions, brevity penalty and lengths in tokens; of others nothing."""
    if not hasattr(result, "precisions"):
        return ""
    precisions = "/".join(f"{p:.1f}" for p in result.precisions)
    return f"{precisions}, BP {result.bp:.3f}, {result.sys_len:,} tokens, reference {result.ref_len:,}"


def check_metrics(metrics: str) -> list[str]:
    """The names in ``--metrics``."""
    names = [name.strip().lower() for name in metrics.split(",") if name.strip()]
    for name in names:
        if name not in HIGHER_IS_BETTER:
            hint = nearest(name, HIGHER_IS_BETTER)
            raise UsageError(f"there is no metric '{name}'", where="--metrics", hint=hint)
    if not names:
        raise UsageError("no metric is named", where="--metrics", hint=nearest("", HIGHER_IS_BETTER))
    return list(dict.fromkeys(names))


def check_tokenizer(name: str | None) -> None:
    """Refuse a tokenizer that sacreBLEU does not have, or would have to download."""
    if name is not None and name not in OFFLINE_TOKENIZERS:
        raise UsageError(
            f"'{name}' is not a tokenizer that works without a download",
            where="--tokenize",
            hint=nearest(name, OFFLINE_TOKENIZERS),
        )


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, plain or .gz, or of standard input (``-``).

    A line ends at ``\\n`` and nowhere else; a ``\\r`` before it and a byte order mark are dropped.
    """
    try:
        if str(path) != "-" and (path.is_file() or not path.exists() or path.is_dir()):
            lines = list(Lines(path))
        else:  # a pipe
            raw = _standard_input() if str(path) == "-" else path.read_bytes()
            parts = raw.removeprefix(BOM).split(b"\n")
            parts = parts if parts[-1] else parts[:-1]
            lines = [decode_line(p, where=f"{called(path)}:{n}")[0] for n, p in enumerate(parts, 1)]
    except S2SError as error:
        # score has no --replace-invalid: with changed text the scores would be of something else.
        if error.hint and "--replace-invalid" in error.hint:
            error.hint = "Convert the file to UTF-8 first."
        raise
    if not lines:
        raise S2SError("there is nothing in it to score", where=called(path))
    return lines


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.closed:  # typeshed does not know that it may be None
        raise S2SError("it is closed", where="standard input", hint="Send the text to it, or name a file.")
    return sys.stdin.buffer.read()


def called(path: Path) -> str:
    """The name of a file in messages."""
    return "standard input" if str(path) == "-" else str(path)


def check_lengths(first: str, count: int, second: str, other: int) -> None:
    """Refuse two files that cannot belong to each other line by line."""
    if count != other:
        raise S2SError(
            f"{first} has {count:,} lines and {second} has {other:,}",
            hint="Line n of one must belong to line n of the other.",
        )


def held_out(run: Path, which: str) -> tuple[str, Path, Path]:
    """The held-out set of a run: its name and its source and target file."""
    data = run / "data"
    for name in ("test", "dev") if which == "auto" else (which,):
        source, target = data / f"{name}.source.txt", data / f"{name}.target.txt"
        if source.is_file() and target.is_file():
            return name, source, target
    wanted = "test or dev set" if which == "auto" else f"{which} set"
    raise S2SError(
        f"there is no {wanted} in this run folder",
        where=str(run),
        hint="Run s2s preprocess with --test-src and --test-tgt or --test-size, name another folder with "
        "--run, or give a file of hypotheses and --ref.",
    )


def translated(options: ScoreOptions, sources: list[str], listen: Listener) -> tuple[str, ...]:
    """The model's translations of the set: those of ``s2s translate`` with the same options."""
    from s2scli.translator import SearchOptions, Translator

    translator = Translator.load(
        options.run, device=options.device, precision=options.precision, threads=options.threads
    )
    search = SearchOptions(beam=options.beam, length_penalty=options.length_penalty)
    found: list[str] = []
    for best in translator.hypotheses(sources, search):
        if len(found) % REPORT_EVERY == 0:
            listen(Progress(task="Translating", done=len(found), total=len(sources), unit="lines"))
        found.append(best[0].text)
    listen(Progress(task="Translating", done=len(found), total=len(sources), unit="lines"))
    if translator.split_lines:
        text = (
            f"{translator.split_lines:,} lines are longer than the model has seen in training "
            f"({translator.max_source_length} tokens); they were translated in pieces."
        )
        listen(Notice(text=text, warning=True))
    return tuple(found)


def evaluate(
    systems: Sequence[System],
    references: Sequence[Sequence[str]],
    metrics: Sequence[str],
    *,
    tokenize: str | None = None,
    lowercase: bool = False,
) -> list[dict[str, Any]]:
    """The scores of every system: the ``systems`` of a report."""
    made = {name: make_metric(name, tokenize=tokenize, lowercase=lowercase) for name in metrics}
    # sacreBLEU's command line strips the end of every line, and its scores are what we promise.
    stripped = [[line.rstrip() for line in reference] for reference in references]
    report = []
    for system in systems:
        bare = System(name=system.name, hypotheses=tuple(line.rstrip() for line in system.hypotheses))
        scores = [vars(corpus_score(name, metric, bare, stripped)) for name, metric in made.items()]
        report.append({"name": system.name, "scores": scores})
    return report


def check_flags(options: ScoreOptions, flags: Iterable[str]) -> None:
    """Refuse flags (names of options) that would do nothing; in ``s2s.toml`` they are for other calls."""
    idle = [flag(name) for name in OF_THE_MODEL if name in set(flags)]
    if idle and options.hypotheses is not None:
        raise UsageError(
            "this has no effect on hypotheses that are given, which are scored as they are",
            where=", ".join(idle),
            hint="Leave it out; or leave out the hypotheses, and the model translates a held-out set.",
        )


def score(options: ScoreOptions, listen: Listener) -> dict[str, Any]:
    """Score the given hypotheses, or the model's translations of the run's held-out set.

    Returns:
        A report: ``set``, ``lines``, ``references``, ``settings`` and ``systems``, which is a list of
        ``name`` and ``scores`` (``metric``, ``name``, ``score``, ``details``, ``signature``).
    """
    metrics = check_metrics(options.metrics)
    check_tokenizer(options.tokenize)
    if options.hypotheses is not None:
        if not options.ref:
            raise UsageError(
                "hypotheses are scored against references, and none is given",
                where="--ref",
                hint="Add --ref and the file of references.",
            )
        if [str(p) for p in (options.hypotheses, *options.ref)].count("-") > 1:
            raise UsageError("standard input can be only one of the files", where="--ref")
        name = called(options.hypotheses)
        hypotheses = tuple(read_lines(options.hypotheses))
        references = [read_lines(path) for path in options.ref]
        for path, lines in zip(options.ref, references, strict=True):
            check_lengths(name, len(hypotheses), called(path), len(lines))
        which, settings = "given", {}
        files = [called(path) for path in options.ref]
    else:
        if options.ref:
            raise UsageError(
                "references are given, but no hypotheses",
                where="--ref",
                hint="Name the file of hypotheses: s2s score output.txt --ref reference.txt",
            )
        which, source, target = held_out(options.run, options.set)
        sources, references = read_lines(source), [read_lines(target)]
        check_lengths(str(source), len(sources), str(target), len(references[0]))
        if which == "dev" and options.set == "auto":
            listen(
                Notice(
                    text="There is no test set: these are scores on the development set, which training "
                    "has seen to choose its best model, so they flatter it.",
                    warning=True,
                )
            )
        name = str(options.run)
        hypotheses = translated(options, sources, listen)
        settings = {"beam": options.beam, "length_penalty": options.length_penalty}
        files = [str(target)]
    systems = [System(name=name, hypotheses=hypotheses)]
    report = evaluate(systems, references, metrics, tokenize=options.tokenize, lowercase=options.lowercase)
    return {
        "set": which,
        "lines": len(hypotheses),
        "references": files,
        "settings": settings,
        "systems": report,
    }


def table(report: dict[str, Any]) -> str:
    """A report for people, 80 columns wide."""
    title = {"test": "Test set", "dev": "Development set"}.get(report["set"], "Given hypotheses")
    lines = f"{report['lines']:,} line" + ("" if report["lines"] == 1 else "s")
    rows = []
    for system in report["systems"]:
        settings = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in report["settings"].items())
        rows += [f"{title}, {lines}: {system['name']}" + (f" ({settings})" if settings else "")]
        rows += [f"References: {', '.join(report['references'])}", ""]
        for item in system["scores"]:
            arrow = "higher is better" if HIGHER_IS_BETTER[item["metric"]] else "lower is better"
            rows.append(f"  {item['name']:<8}{item['score']:>7.2f}   {arrow}")
            rows += [f"  {'':<10}{item['details']}"] if item["details"] else []
        rows += ["", "Signatures"]
        rows += [f"{item['name']:<8}{item['signature']}" for item in system["scores"]]
    return "\n".join(rows)


def print_scores(
    report: dict[str, Any], options: ScoreOptions, write: Callable[[str], Any] | None = None
) -> None:
    """Write a report to standard output, as a table or as JSON."""
    # JSON can say everything in ASCII too, where the stream could not show all letters.
    plain = write is None and "utf" not in (getattr(sys.stdout, "encoding", None) or "").lower()
    text = json.dumps(report, ensure_ascii=plain, indent=2) if options.json else table(report)
    (write or sys.stdout.write)(text + "\n")
