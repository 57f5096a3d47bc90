"""``s2s score``: translations against references, and forced scores by a model.

What is scored is put together here; how, stands in ``s2scli.scoring``. The numbers of BLEU, chrF and TER are
sacreBLEU's, and equal to those of its own command line with the same settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from s2scli.config import ScoreOptions
from s2scli.errors import UsageError
from s2scli.events import Listener, Progress, silent
from s2scli.resolve import checked, flag
from s2scli.scoring import Resampling, check_tokenizer, parse_metrics, score_systems, sentence_scores
from s2scli.scoring.breakdown import Bin, by_frequency, by_length, count_units
from s2scli.scoring.cautions import warn
from s2scli.scoring.forcedlines import forced_lines, is_forced
from s2scli.scoring.material import REPORT_EVERY, Material, gather, training_source
from s2scli.scoring.metrics import OF_SENTENCES
from s2scli.scoring.reading import seed_of_environment
from s2scli.scoring.tables import table
from s2scli.scoring.units import Unit, unit_of, without_features
from s2scli.streams import write_out
from s2scli.wording import visible

_OF_FORCED = ("tgt", "ids", "model", "per_token")
_OF_SEARCH = ("set", "beam", "length_penalty")
_OF_METRICS = ("ref", "metrics", "tokenize", "lowercase")
_OF_TABLES = ("resamples", "significance", "trials", "seed", "by_length", "by_frequency", "confusions")


def check_flags(options: ScoreOptions, flags: Iterable[str]) -> None:
    """Refuse flags (names of options) that would do nothing; in ``s2s.toml`` they are for other calls."""
    given = set(flags)

    def refuse(names: Iterable[str], what: str, hint: str) -> None:
        idle = [flag(name) for name in names if name in given]
        if idle:
            raise UsageError(f"this has no effect on {what}", where=", ".join(idle), hint=hint)

    if is_forced(options):
        others = (*_OF_SEARCH, *_OF_METRICS, *_OF_TABLES, "per_line", "train_src")
        refuse(others, "forced scores", "Leave it out; or leave out --tgt and --ids.")
        if options.model:
            refuse(("run",), "the models of --model", "Name it with --model too, or leave it out.")
    else:
        hint = "Name the pairs to be scored: --src and --tgt, or --ids."
        refuse(_OF_FORCED, "scores against references", hint)
    if options.hypotheses:
        hint = "Leave it out; or leave out the hypotheses, and the model translates a held-out set."
        refuse(_OF_SEARCH, "hypotheses that are given, which are scored as they are", hint)
        if not (options.by_frequency and not options.train_src):
            refuse(("run",), "files that are scored against files", "Leave it out.")
    elif not is_forced(options):
        hint = "Leave it out; or name hypotheses."
        refuse(("src",), "translations of a held-out set, which has its own source", hint)
    if options.significance != "randomization":
        refuse(("trials",), "anything but approximate randomization", "Add --significance randomization.")
    one = len(options.hypotheses) < 2
    if one and options.significance != "none":
        refuse(("significance",), "one system", "Name at least two files of hypotheses.")
    if not options.resamples and (one or options.significance != "randomization"):
        idle = ("seed",) if one or options.significance == "none" else ("seed", "significance")
        refuse(idle, "scores without resamples", "Leave out either it or --resamples 0.")
    if "bleu" not in _metrics(options):
        refuse(("tokenize",), "other metrics than BLEU", "Add bleu to --metrics, or leave it out.")
    if _metrics(options) == ["ter"]:
        refuse(("lowercase",), "TER, which never regards case", "Add another metric, or leave it out.")
    if options.per_line:
        refuse(_OF_TABLES, "the scores of single lines", "Leave out either it or --per-line.")
    if not options.by_frequency:
        refuse(("train_src",), "anything but --by-frequency", "Add --by-frequency.")
    detailed = options.by_length or options.by_frequency or (options.per_line and options.json)
    if not is_forced(options) and not detailed:
        hint = "Add --by-length or --by-frequency; for forced scores, add --tgt."
        what = "scores of lines without --json" if options.per_line else "scores over all lines"
        refuse(("src",), what, "Add --json." if options.per_line else hint)


def _metrics(options: ScoreOptions, suiting: str = OF_SENTENCES) -> list[str]:
    """Those that were chosen, or those that suit the lines; who chooses BLEU's tokenizer wants BLEU."""
    if options.metrics is not None:
        return parse_metrics(options.metrics)
    return parse_metrics(suiting if options.tokenize is None else OF_SENTENCES)


def score(options: ScoreOptions, listen: Listener = silent) -> dict[str, Any]:
    """Score the given hypotheses, or the model's translations of the run's held-out set.

    Returns:
        A report: ``set``, ``lines``, ``references``, ``settings``, ``resampling`` and ``systems``, which is a
        list of ``name`` and ``scores`` (the fields of ``MetricScore``), with ``by_length``,
        ``by_frequency`` and ``confusions`` where they are asked for.
    """
    options = checked(options)
    _metrics(options)  # what is wrong with them is not to be found out only when all is translated
    check_tokenizer(options.tokenize)
    resampling = Resampling(
        resamples=options.resamples,
        significance=options.significance,
        trials=options.trials,
        seed=seed_of_environment() if options.seed is None else options.seed,
    )
    material = gather(options, listen)
    metrics = _metrics(options, material.metrics)
    warn(material, metrics, options.tokenize, listen)
    scores = score_systems(
        material.systems,
        material.references,
        metrics,
        tokenize=options.tokenize,
        lowercase=options.lowercase,
        resampling=resampling,
        listen=listen,
    )
    systems: list[dict[str, Any]] = [
        {"name": name, "scores": [asdict(item) for item in of]}
        for name, of in zip(material.names, scores, strict=True)
    ]
    _add_details(systems, material, metrics, options, listen)
    return {
        "set": material.which,
        "lines": len(material.systems[0]),
        "references": material.files,
        "settings": material.settings,
        "resampling": {
            "resamples": resampling.resamples,
            "seed": resampling.seed,
            "test": _test(resampling, len(systems)),
        },
        "systems": systems,
    }


def _test(resampling: Resampling, systems: int) -> dict[str, Any] | None:
    """The paired test that was made, if one was."""
    if systems == 1 or resampling.significance == "none":
        return None
    if resampling.significance == "randomization":
        return {"name": "randomization", "trials": resampling.trials}
    return {"name": "bootstrap", "resamples": resampling.resamples} if resampling.resamples else None


def _add_details(
    systems: list[dict[str, Any]],
    material: Material,
    metrics: list[str],
    options: ScoreOptions,
    listen: Listener,
) -> None:
    """Put breakdowns and confusions beside the scores of each system."""
    sources, references = material.sources or [], material.references
    settings: dict[str, Any] = {
        "tokenize": options.tokenize,
        "lowercase": options.lowercase,
        "listen": listen,
    }
    unit = unit_of(without_features(sources))
    if options.by_frequency:
        counts = count_units(training_source(options), sources)
    for system, hypotheses in zip(systems, material.systems, strict=True):
        if options.by_length:
            bins = by_length(sources, hypotheses, references, metrics, **settings)
            system["by_length"] = {"unit": unit, "bins": [_bin(b) for b in bins]}
        if options.by_frequency:
            bins = by_frequency(sources, counts, hypotheses, references, metrics, **settings)
            system["by_frequency"] = {"unit": unit, "bins": [_bin(b) for b in bins]}
        if options.confusions:
            from s2scli.scoring.strings import confusions

            letters = "cer" in metrics and "per" not in metrics
            symbols: Unit = "characters" if letters else unit_of(references[0])
            errors = confusions(
                hypotheses, references, unit=symbols, most=options.confusions, lowercase=options.lowercase
            )
            system["confusions"] = {"unit": symbols, "errors": [asdict(error) for error in errors]}


def _bin(found: Bin) -> dict[str, Any]:
    return {**asdict(found), "scores": {item.metric: item.score for item in found.scores}}


def line_scores(options: ScoreOptions, listen: Listener = silent) -> Iterator[dict[str, Any]]:
    """For each line and each system: ``line``, ``system``, texts and ``scores`` by metric."""
    options = checked(options)
    _metrics(options)
    check_tokenizer(options.tokenize)
    material = gather(options, listen)
    metrics = _metrics(options, material.metrics)
    warn(material, metrics, options.tokenize, listen)
    total = len(material.systems[0])
    for begin in range(0, total, REPORT_EVERY):
        listen(Progress(task="Scoring", done=begin, total=total, unit="lines"))
        part = slice(begin, begin + REPORT_EVERY)
        references = [reference[part] for reference in material.references]
        found = [
            [
                sentence_scores(
                    system[part],
                    references,
                    metric,
                    tokenize=options.tokenize,
                    lowercase=options.lowercase,
                )
                for metric in metrics
            ]
            for system in material.systems
        ]
        for i in range(len(references[0])):
            for name, system, scores in zip(material.names, material.systems, found, strict=True):
                row: dict[str, Any] = {"line": begin + i + 1, "system": name}
                if material.sources is not None:
                    row["source"] = material.sources[begin + i]
                row["references"] = [reference[i] for reference in references]
                row["hypothesis"] = system[begin + i]
                yield row | {"scores": {m: s[i] for m, s in zip(metrics, scores, strict=True)}}
    listen(Progress(task="Scoring", done=total, total=total, unit="lines"))


def run(options: ScoreOptions, listen: Listener) -> None:
    """What the command does: scores to standard output, as a table, TSV or JSON."""
    if is_forced(options):
        lines = forced_lines(options, listen)
    elif options.per_line:
        lines = _rows(line_scores(options, listen), options)
    else:
        print_scores(score(options, listen), options)
        return
    sys.stdout.flush()
    for line in lines:
        write_out(line.encode(errors="surrogateescape") + b"\n")
    sys.stdout.flush()


def _rows(found: Iterator[dict[str, Any]], options: ScoreOptions) -> Iterator[str]:
    """The scores of lines as JSON, or as TSV with a first row of names."""
    if options.json:
        yield from map(_json, found)
        return
    several = len(options.hypotheses) > 1
    for i, row in enumerate(found):  # there is one at least
        if not i:
            yield "\t".join(["line", *(["system"] if several else []), *row["scores"]])
        first = [str(row["line"]), *([visible(row["system"]).plain] if several else [])]
        yield "\t".join([*first, *(f"{value:.4f}" for value in row["scores"].values())])


def _json(value: Any, *, plain: bool = False, indent: int | None = None) -> str:
    """JSON with letters as they are, unless it is to be plain or bytes of a file's name are no letters."""
    text = json.dumps(value, ensure_ascii=plain, indent=indent)
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)


def print_scores(
    report: dict[str, Any], options: ScoreOptions, write: Callable[[str], Any] | None = None
) -> None:
    """Write a report to standard output, as a table or as JSON."""
    # JSON can say everything in ASCII too, where the stream could not show all letters.
    plain = write is None and "utf" not in (getattr(sys.stdout, "encoding", None) or "").lower()
    text = _json(report, plain=plain, indent=2) if options.json else table(report)
    (write or sys.stdout.write)(text + "\n")
