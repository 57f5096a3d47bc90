"""``s2s translate``: lines in, as many lines out, in order, as they come."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from s2scli.checkpoint import find_models
from s2scli.config import TranslateOptions
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, Progress, silent
from s2scli.files import check_place
from s2scli.formats import formatter
from s2scli.linesource import Source
from s2scli.resolve import checked, flag
from s2scli.resumable import Partial, announced, resumable
from s2scli.runtime import settled
from s2scli.streams import write_out
from s2scli.translator import WINDOW_BATCHES, SearchOptions, Translator

if TYPE_CHECKING:
    from s2scli.pictures import AttentionPictures


def translate(options: TranslateOptions, listen: Listener = silent) -> None:
    """Translate a file or standard input to a file or standard output.

    Args:
        options: See ``s2s translate --help``.
        listen: Told warnings and progress.

    Raises:
        S2SError: No model, an input that cannot be read, an output that is in the way.
    """
    options = checked(options)
    if str(options.output) == "-":
        options = options.changed(output=None)
    options = _with_effect(options)
    search = SearchOptions.of(options, attention=options.alignments or options.attention_plot is not None)
    # What can be said before the model is loaded, is.
    source = Source(options.input)
    _check(options)
    if _is_done(options, listen):
        return
    if options.attention_plot is not None:
        from s2scli.plot import check_path

        check_path(options.attention_plot)
    with ExitStack() as stack:
        if options.output is not None and options.force and options.output.is_file():
            stack.enter_context(announced(options.output))
        translator, digest = _loaded(options, listen)
        if search.attention and not translator.has_attention:
            where = "--alignments" if options.alignments else "--attention-plot"
            raise UsageError(
                "this model has no attention (it was trained with --attention none)", where=where
            )
        pictures = None
        if options.attention_plot is not None:
            from s2scli.pictures import AttentionPictures

            pictures = AttentionPictures(options.attention_plot, translator.tokenizer)
        file: Partial | None = None
        if options.output is not None:
            settings = _settings(options, search, translator, digest)
            file = stack.enter_context(
                resumable(options.output, settings, resume=options.resume, force=options.force, listen=listen)
            )
        with settled():
            _run(options, search, translator, source, file, pictures, listen)
    if pictures is not None:
        pictures.draw(listen)
    _tell_what_was_done(translator, source, listen)


def _run(
    options: TranslateOptions,
    search: SearchOptions,
    translator: Translator,
    source: Source,
    file: Partial | None,
    pictures: AttentionPictures | None,
    listen: Listener,
) -> None:
    """Translate all windows of the source to the file, or to standard output."""
    form, total, number = formatter(options, translator), source.size, 0
    if file is not None:
        translator.remarkable.recount(file.counts)
    batch_size = options.batch_size or translator.searcher.batch_size(search)
    windows = source.windows(batch_size * WINDOW_BATCHES)
    if file is not None:
        number, windows = file.lines, _undone(windows, file)
    translated = translator.windows(windows, search, batch_size=batch_size, first_line=number)
    with closing(translated):
        for window, found in translated:
            for line, hypotheses in zip(window, found, strict=True):
                number += 1
                if pictures is not None:
                    pictures.add(number, line, hypotheses[0])
                content = form(number, line, hypotheses).encode() + b"\n"
                if file is None:
                    write_out(content)
                else:
                    file.write(content)
            if file is None:
                sys.stdout.flush()
                continue
            file.advance(window, translator.remarkable.counts())
            listen(Progress(task="Translating", done=source.position, total=total, unit="bytes"))
    if file is not None and total is not None:
        listen(Progress(task="Translating", done=total, total=total, unit="bytes"))


def _undone(windows: Iterator[list[str]], file: Partial) -> Iterator[list[str]]:
    """The windows without the lines that were done before an interruption."""
    number, done = 0, file.lines
    for window in windows:
        skipped = window[: max(0, done - number)]
        if skipped:
            file.skip(skipped)
        number += len(window)
        if number >= done:
            file.check()
        yield window[len(skipped) :]
    file.check()


def _check_uses(options: TranslateOptions) -> None:
    """Refuse a file that is to be two things: one of them would be lost."""
    named = {"--input": options.input, "--output": options.output, "--attention-plot": options.attention_plot}
    places: dict[str, str] = {}
    for option, path in named.items():
        if path is None or str(path) == "-" or (path.exists() and not path.is_file()):
            continue  # nothing, a stream or a device
        other = places.setdefault(os.path.realpath(path), option)
        if other != option:
            raise UsageError(
                f"this is the file of {other} too", where=f"{option} {path}", hint="Name another."
            )


def _with_effect(options: TranslateOptions) -> TranslateOptions:
    """Refuse what is asked for and has no effect; what a file says for all calls is left out of this one."""
    if options.sample:
        idle = dict.fromkeys(("beam", "beam_threshold"), "with --sample")
    else:
        idle = dict.fromkeys(("temperature", "top_k", "top_p", "seed"), "without --sample")
        if options.beam == 1:
            idle["beam_threshold"] = "with a beam of 1"
    if not options.alignments:
        idle["alignment_unit"] = "without --alignments"
    for name, when in idle.items():
        if options.asks(name):
            hint = "Leave it out, or add --no-sample." if "sample" in options.from_file else "Leave it out."
            raise UsageError(f"this has no effect {when}", where=flag(name), hint=hint)
    most = 1 if options.sample else options.beam
    if "n_best" in options.from_file and options.n_best > most:
        # Not left out: whoever reads the output expects it to look as the file says.
        what = f"this call finds at most {most} for a line, not {options.n_best}"
        raise UsageError(what, where="n-best in s2s.toml", hint=f"Add --n-best {most}.")
    defaults = {field.name: field.default for field in fields(options) if field.name in idle}
    return options.changed(**defaults)


def _check(options: TranslateOptions) -> None:
    """Refuse options that exclude each other, and to replace what exists."""
    if options.resume and options.output is None:
        raise UsageError("only a file can be resumed", where="--resume", hint="Name it with --output.")
    if options.resume and options.attention_plot is not None:
        hint = "Draw them in a second run, without --output."
        raise UsageError("the lines to draw may be done already", where="--attention-plot", hint=hint)
    if options.resume and options.force:
        hint = "Use one of them."
        raise UsageError("--resume goes on and --force starts anew", where="--force", hint=hint)
    _check_uses(options)
    if options.output is not None:
        check_place(options.output, "--output")
    for path in (options.output, options.attention_plot):
        if path is not None and path.is_file() and not options.force and not options.resume:
            raise S2SError("the file exists already", where=str(path), hint="Replace it with --force.")


def _is_done(options: TranslateOptions, listen: Listener) -> bool:
    """Whether ``--resume`` finds a whole result, which is nothing to go on with."""
    path = options.output
    if not options.resume or path is None or not path.is_file() or Partial(path, {}).file.exists():
        return False
    find_models(options.run)  # what is not there is an error, whatever is left to do
    text = f"There is nothing left to do: {path} is there, and nothing says that it was interrupted."
    listen(Notice(text=f"{text} (It is not compared with the input; --force translates anew.)"))
    return True


def _loaded(options: TranslateOptions, listen: Listener) -> tuple[Translator, str]:
    """The models, and what tells them from others; a training may be putting better ones in their place."""
    heard, before = listen, ""
    while (digest := _digest(options)) != before:
        translator = Translator.load(
            options.run,
            device=options.device,
            precision=options.precision,
            threads=options.threads,
            shortlist=options.shortlist,
            listen=heard,
        )
        heard, before = silent, digest
    return translator, digest


def _digest(options: TranslateOptions) -> str:
    """Of the files of the models, if they are to be known again; else always the same."""
    digest = hashlib.blake2b(digest_size=16)
    for folder in find_models(options.run) if options.output is not None else ():
        for name in ("model.safetensors", "tokenizer.json", "lexicon.safetensors"):
            if (folder / name).is_file():
                with (folder / name).open("rb") as file:
                    hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _settings(
    options: TranslateOptions, search: SearchOptions, translator: Translator, digest: str
) -> dict[str, Any]:
    """What an interrupted translation must have in common with the one that goes on."""
    names = ("format", "scores", "alignments", "alignment_unit", "shortlist", "batch_size")
    return {
        "model": digest,
        "precision": translator.runtime.kind,
        **asdict(search),
        "max_length_ratio": search.max_length_ratio or translator.length_ratio,
        **{name: getattr(options, name) for name in names},
    }


def _tell_what_was_done(translator: Translator, source: Source, listen: Listener) -> None:
    """Nothing is cut or changed silently."""
    for text in translator.remarks(if_cut=" If that is not an endless repetition, raise --max-length-ratio."):
        listen(Notice(text=text, warning=True))
    if source.replaced:
        text = f"Bytes not UTF-8 that became U+FFFD: {source.replaced:,}, the first in line {source.first:,}."
        listen(Notice(text=text, warning=True))
