"""What ``s2s score`` scores: hypotheses that are given or a run's model makes, with their references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from s2scli.config import ScoreOptions
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, Progress
from s2scli.loading import loading
from s2scli.runfolder import data_folder
from s2scli.scoring.metrics import OF_SENTENCES, check_lengths
from s2scli.scoring.reading import called, check_readable, read_lines
from s2scli.scoring.units import of_strings

if TYPE_CHECKING:
    from s2scli.tokenizer import Tokenizer

REPORT_EVERY = 64
"""Lines, or pairs, between two reports of progress."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What is scored against what.

    Attributes:
        which: "given", "test" or "dev".
        names: Of the systems.
        systems: Their lines.
        references: Lists of as many reference lines, and ``files``, where they come from.
        sources: Source lines, if they are known.
        settings: Of the search, if the model has translated; ``models``, if several have together.
        metrics: Those that suit the lines.
    """

    which: str
    names: list[str]
    systems: list[list[str]]
    references: list[list[str]]
    files: list[str]
    sources: list[str] | None = None
    settings: dict[str, float] = field(default_factory=dict)
    metrics: str = OF_SENTENCES


def held_out(run: Path, which: str) -> tuple[str, Path, Path]:
    """The held-out set of a run: its name and its source and target file."""
    if not run.is_dir():
        raise S2SError("there is no such folder", where=str(run), hint="Check --run.")
    data = data_folder(run)
    for name in ("test", "dev") if which == "auto" else (which,):
        source, target = data / f"{name}.source.txt", data / f"{name}.target.txt"
        if source.is_file() and target.is_file():
            return name, source, target
    wanted = "test or dev set" if which == "auto" else f"{which} set"
    raise S2SError(
        f"there is no {wanted} in this run folder",
        where=str(run),
        hint="Run s2s preprocess with --test-src and --test-tgt or --test-size, or name another folder with "
        "--run.",
    )


def suiting(tokenizer: Tokenizer, sources: Sequence[str], references: Sequence[str]) -> str:
    """The metrics that suit what a model writes, which is as the references are."""
    if not of_strings(tokenizer, sources, references):
        return OF_SENTENCES
    target = tokenizer.target
    spaced = target.segmentation.kind == "symbol" and not target.segmentation.separator.strip()
    return "wer,per" if spaced else "wer,cer"


def translated(
    options: ScoreOptions, sources: list[str], listen: Listener
) -> tuple[list[str], dict[str, float], Tokenizer]:
    """The model's translations of the set, those of ``s2s translate`` with the same options.

    Returns:
        The translations, the settings that they were made with, and the model's tokenizer.
    """
    with loading():
        from s2scli.translator import SearchOptions, Translator

    translator = Translator.load(
        options.run,
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        listen=listen,
    )
    search = SearchOptions(beam=options.beam, length_penalty=options.length_penalty)
    found: list[str] = []
    for best in translator.hypotheses(sources, search):
        if len(found) % REPORT_EVERY == 0:
            listen(Progress(task="Translating", done=len(found), total=len(sources), unit="lines"))
        found.append(best[0].text)
    listen(Progress(task="Translating", done=len(found), total=len(sources), unit="lines"))
    for text in translator.remarks():
        listen(Notice(text=text, warning=True))
    settings: dict[str, float] = {"beam": options.beam, "length_penalty": options.length_penalty}
    if len(translator.models) > 1:
        settings["models"] = len(translator.models)
    return found, settings, translator.tokenizer


def gather(options: ScoreOptions, listen: Listener) -> Material:
    """The given hypotheses and references, or the model's translations of the run's held-out set."""
    if options.by_frequency:  # read at the end, but what is wrong with them is not to be found out only then
        for path in options.train_src:
            check_readable(path)
    if options.hypotheses:
        return _given(options)
    if options.ref:
        raise UsageError(
            "references are given, but no hypotheses",
            where="--ref",
            hint="Name the file of hypotheses: s2s score output.txt --ref reference.txt",
        )
    which, source, target = held_out(options.run, options.set)
    sources, reference = read_lines(source), read_lines(target)
    check_lengths(str(source), len(sources), str(target), len(reference))
    if which == "dev" and options.set == "auto":
        listen(
            Notice(
                text="There is no test set: these are scores on the development set, which training "
                "has seen to choose its best model, so they flatter it.",
                warning=True,
            )
        )
    hypotheses, settings, tokenizer = translated(options, sources, listen)
    return Material(
        which=which,
        names=[str(options.run)],
        systems=[hypotheses],
        references=[reference],
        files=[str(target)],
        sources=sources,
        settings=settings,
        metrics=suiting(tokenizer, sources, reference),
    )


def _given(options: ScoreOptions) -> Material:
    if not options.ref:
        raise UsageError(
            "hypotheses are scored against references, and none is given",
            where="--ref",
            hint="Add --ref and the file of references.",
        )
    texts = [*options.hypotheses, *options.ref, *([options.src] if options.src else [])]
    texts += options.train_src if options.by_frequency else ()
    if [str(path) for path in texts].count("-") > 1:
        raise UsageError("standard input can be only one of the files", where="-")
    names = [called(path) for path in options.hypotheses]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError("these hypotheses are named twice", where=twice[0], hint="Name each system once.")
    if (options.by_length or options.by_frequency) and options.src is None:
        where = "--by-length" if options.by_length else "--by-frequency"
        hint = "Add --src and the file of source lines."
        raise UsageError("this needs the source of the hypotheses", where=where, hint=hint)
    if options.by_frequency and not options.train_src and not data_folder(options.run).is_dir():
        hint = "Add --train-src and the file of training source lines, or --run."
        raise UsageError("this needs the training source", where="--by-frequency", hint=hint)
    systems = [read_lines(path) for path in options.hypotheses]
    references = [read_lines(path) for path in options.ref]
    sources = None if options.src is None else read_lines(options.src)
    others = [
        *zip(options.hypotheses[1:], systems[1:], strict=True),
        *zip(options.ref, references, strict=True),
    ]
    if options.src is not None and sources is not None:
        others.append((options.src, sources))
    for path, lines in others:
        check_lengths(names[0], len(systems[0]), called(path), len(lines))
    return Material(
        which="given",
        names=names,
        systems=systems,
        references=references,
        files=[called(path) for path in options.ref],
        sources=sources,
    )


def training_source(options: ScoreOptions) -> Iterator[str]:
    """The lines in which words are counted: the files given, or what the run was trained on."""
    if options.train_src:
        for path in options.train_src:
            yield from read_lines(path)
        return
    from s2scli.shards import ParallelData

    data = ParallelData.open(data_folder(options.run), "train")
    yield from (data.source_text(i) for i in range(len(data)))
