"""``s2s report``: a run in one HTML file, with its data, training, scores and translations."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s2scli import __version__
from s2scli.config import ModelConfig, ReportOptions
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, Progress, silent
from s2scli.files import check_place, os_error, write_text_atomic
from s2scli.pages import as_json, page
from s2scli.pages.curves import read_training
from s2scli.pages.maps import encode_map
from s2scli.pictures import attention_map
from s2scli.resolve import checked
from s2scli.runfolder import data_folder
from s2scli.scoring import HIGHER_IS_BETTER, by_length, parse_metrics, score_system, sentence_scores, unit_of
from s2scli.scoring.material import REPORT_EVERY, held_out, suiting
from s2scli.scoring.metrics import check_lengths
from s2scli.scoring.reading import read_lines
from s2scli.scoring.units import split, without_features
from s2scli.tokenizer import Tokenizer
from s2scli.translator import SearchOptions, Translation, Translator
from s2scli.wording import report_facts

NAMES = {"train": "Training", "dev": "Development", "test": "Test"}
MAP_BYTES = 2_500_000
"""What all attention maps of a page may take, so that a thousand lines stay below 5 MB."""


@dataclass(kw_only=True)
class Translated:
    """The held-out set with its translations.

    Attributes:
        name: "test" or "dev".
        sources, references, hypotheses: As many lines each.
        maps: For the first lines, those that the page shows, their encoded attention; None for a blank
            line, and where the model has no attention.
        notes: What the reader must know of how they were made.
    """

    name: str
    sources: list[str]
    references: list[str]
    hypotheses: list[str] = field(default_factory=list)
    maps: list[dict[str, Any] | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def report(options: ReportOptions, listen: Listener = silent) -> Path:
    """Translate the held-out set of a run and write the report.

    Args:
        options: See ``s2s report --help``.
        listen: Told warnings and progress.

    Returns:
        The file.

    Raises:
        S2SError: No model, no held-out set, or a file in the way.
    """
    options = checked(options)
    if str(options.output) == "-":
        hint = "Name a file; /dev/stdout is standard output."
        raise UsageError("a report is a file", where="--output -", hint=hint)
    name, source, target = held_out(options.run, options.set)
    path = options.output or options.run / "report.html"
    if path.is_file() and not options.force:
        raise S2SError("the file exists already", where=str(path), hint="Replace it with --force.")
    check_place(path, "--output")
    text = Translated(name=name, sources=read_lines(source), references=read_lines(target))
    check_lengths(str(source), len(text.sources), str(target), len(text.references))
    training = read_training(options.run / "metrics.jsonl")
    prepared = _prepared(data_folder(options.run) / "report.json", text.notes)
    translator = Translator.load(
        options.run,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        listen=listen,
    )
    _translate(text, translator, options, listen)
    if name == "dev":
        text.notes.append(
            "These are translations of the development set, which training has seen to choose its best "
            "model, so the scores flatter it."
        )
    overlap = prepared["overlap"].get(name, 0) if prepared else 0
    if overlap:
        text.notes.append(
            f"{overlap:,} of {len(text.sources):,} source lines of this set occur in the training data "
            "too, which flatters the scores."
        )
    data = {
        "name": options.run.resolve().name,
        "version": __version__,
        "facts": _model_facts(translator, text, options),
        "notes": text.notes,
        "attention": translator.has_attention,
        **_scores(text, translator.tokenizer, listen),
        "training": training,
        "data": prepared,
    }
    write_text_atomic(path, page("report", title=f"{data['name']} - s2s report", data=data))
    for note in text.notes:
        listen(Notice(text=note, warning=True))
    listen(Notice(text=f"The report: {path} ({path.stat().st_size / 1e6:.1f} MB)"))
    return path


def _translate(text: Translated, translator: Translator, options: ReportOptions, listen: Listener) -> None:
    """Translate all lines, and keep the attention of those that are shown."""
    attentive = translator.has_attention
    shown, total = min(options.lines, len(text.sources)), len(text.sources)

    def translations() -> Iterable[list[Translation]]:
        search = SearchOptions(beam=options.beam, attention=attentive)
        yield from translator.hypotheses(text.sources[:shown], search)
        yield from translator.hypotheses(text.sources[shown:], SearchOptions(beam=options.beam))

    for number, (best, *_) in enumerate(translations(), start=1):
        text.hypotheses.append(best.text)
        if number <= shown:
            drawable = attentive and best.pieces
            line = text.sources[number - 1]
            text.maps.append(
                encode_map(attention_map(number, line, best, translator.tokenizer)) if drawable else None
            )
        if number % REPORT_EVERY == 0 or number == total:
            listen(Progress(task="Translating", done=number, total=total, unit="lines"))
    text.notes += translator.remarks()
    if shown < total:
        text.notes.append(
            f"The table shows the first {shown:,} of {total:,} lines (--lines); the scores are of all."
        )
    left_out = _fit(text.maps)
    if left_out:
        text.notes.append(
            f"Without attention map, so that the page stays small: the {left_out:,} longest of the "
            f"{shown:,} lines shown. s2s translate --attention-plot draws them."
        )


def _fit(maps: list[dict[str, Any] | None]) -> int:
    """Drop the largest maps until the rest fits into a page; says how many were dropped."""
    sizes = sorted((len(as_json(m).encode()), i) for i, m in enumerate(maps) if m)
    total = left_out = 0
    for size, i in sizes:
        total += size
        if total > MAP_BYTES:
            maps[i] = None
            left_out += 1
    return left_out


def _model_facts(translator: Translator, text: Translated, options: ReportOptions) -> list[str]:
    models = translator.models
    parameters = sum(p.numel() for model in models for p in model.parameters())
    kinds = " and ".join(dict.fromkeys(_kind(model.config) for model in models))
    translated = (
        f"Translated: {NAMES[text.name].lower()} set, {len(text.sources):,} lines, beam {options.beam}"
    )
    if len(models) == 1:
        return [f"Model: {kinds}; {parameters:,} parameters", translated]
    return [
        f"{len(models)} models together: {kinds}; {parameters:,} parameters in all",
        translated,
        "The course of a training is in the report of its own folder under seeds.",
    ]


def _kind(config: ModelConfig) -> str:
    attention = "no attention" if config.attention == "none" else f"{config.attention} attention"
    return f"{config.cell.upper()}, {config.hidden} units, {attention}"


def _scores(text: Translated, tokenizer: Tokenizer, listen: Listener) -> dict[str, Any]:
    """Scores of the whole set, by source length, and of each line; which ones, the kind of the model says."""
    plain, references = without_features(text.sources), [text.references]
    unit = unit_of(plain)
    metrics = parse_metrics(suiting(tokenizer, text.sources, text.references))
    by_line = next(metric for metric in metrics if metric in ("per", "cer", "chrf"))
    scores = score_system(text.hypotheses, references, metrics, listen=listen)
    shown = len(text.maps)
    of_lines = sentence_scores(text.hypotheses[:shown], [text.references[:shown]], by_line)
    bins = by_length(text.sources, text.hypotheses, references, metrics)
    return {
        "scores": [
            {
                "name": s.name,
                "score": s.score,
                "low": s.low,
                "high": s.high,
                "higher": HIGHER_IS_BETTER[s.metric],
                "details": s.details,
                "signature": s.signature,
            }
            for s in scores
        ],
        "lengths": {
            "unit": unit,
            "charts": [
                {
                    "name": s.name,
                    "bars": [{"label": b.label, "lines": b.lines, "value": b.scores[i].score} for b in bins],
                }
                for i, s in enumerate(scores)
                if s.metric != "ter"
            ],
        },
        "sentences": {
            "metric": next(s.name for s in scores if s.metric == by_line),
            "higher": HIGHER_IS_BETTER[by_line],
            "unit": unit,
            "total": len(text.sources),
            "rows": [
                {
                    "s": text.sources[i],
                    "r": text.references[i],
                    "h": text.hypotheses[i],
                    "q": round(of_lines[i], 1),
                    "l": len(split(plain[i].strip(), unit)),
                    "m": text.maps[i],
                }
                for i in range(shown)
            ],
        },
    }


def _prepared(path: Path, notes: list[str]) -> dict[str, Any] | None:
    """What a page shows of the data: the sizes of the sets, and the rest in words.

    Args:
        path: The report of ``s2s preprocess``.
        notes: Is told of a report of another version, which the page does without.

    Returns:
        ``sets``, ``facts`` and ``overlap``; None where there is no report that can be shown.

    Raises:
        S2SError: The file cannot be read.
    """
    try:
        prepared = json.loads(path.read_bytes())
        rows = [
            [
                NAMES[name],
                side,
                prepared["pairs"][name],
                *(of[key] for key in ("total", "mean", "p99", "max")),
            ]
            for name in NAMES
            for side, of in prepared["lengths"].get(name, {}).items()
        ]
        files = [(f"{NAMES[f['set']].lower()} file", Path(f["path"]).name) for f in prepared["files"]]
        return {"sets": rows, "facts": [*report_facts(prepared), *files], "overlap": prepared["overlap"]}
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_error(error, path) from error
    except (ValueError, LookupError, TypeError, AttributeError):
        notes.append(
            "The data cannot be described, nor whether lines of this set occur in training: "
            f"{path.parent.name}/{path.name} is damaged or of another version of s2s preprocess."
        )
        return None
