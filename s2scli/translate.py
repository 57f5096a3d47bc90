"""``s2s translate``: lines in, as many lines out, in order, as they come."""

from __future__ import annotations

import json
import os
import queue
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

from s2scli.alignment import pharaoh, word_alignment
from s2scli.config import TranslateOptions
from s2scli.corpus import BOM, Lines, decode_line, file_size
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, Progress, silent
from s2scli.files import atomic_path, os_error
from s2scli.plot import check_path, draw_attention
from s2scli.translator import SearchOptions, Translation, Translator

__all__ = ["Translation", "Translator", "translate"]

_WINDOW_BATCHES = 16
"""Batches' worth of lines that are read ahead, so that batches hold lines of similar length."""
_IDLE = 0.01
"""Seconds without a new line after which a program at the other end of the pipe is taken to wait."""


def translate(options: TranslateOptions, listen: Listener = silent) -> None:
    """Translate a file or standard input to a file or standard output.

    Args:
        options: See ``s2s translate --help``.
        listen: Told warnings and progress.

    Raises:
        S2SError: No model, an input that cannot be read, an output that is in the way.
    """
    search = SearchOptions(
        beam=options.beam,
        n_best=options.n_best,
        length_penalty=options.length_penalty,
        no_repeat_ngram=options.no_repeat_ngram,
        max_length_ratio=options.max_length_ratio,
        sample=options.sample,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
        attention=options.alignments or options.attention_plot is not None,
    )
    output = options.output
    for path in (output, options.attention_plot):
        if path is not None and path.is_file() and not options.force:
            raise S2SError("the file exists already", where=str(path), hint="Replace it with --force.")
    # What can be said before the model is loaded, is.
    source = Source(options.input)
    if options.attention_plot is not None:
        check_path(options.attention_plot)
    translator = Translator.load(
        options.run, device=options.device, precision=options.precision, threads=options.threads
    )
    if search.attention and translator.model.config.attention == "none":
        where = "--alignments" if options.alignments else "--attention-plot"
        raise UsageError("this model has no attention (it was trained with --attention none)", where=where)
    form = formatter(options, translator)
    total, picture = source.size, options.attention_plot
    with ExitStack() as stack:
        if output is None:
            sink: BinaryIO = sys.stdout.buffer
        else:
            sink = stack.enter_context(stack.enter_context(atomic_path(output)).open("wb"))
        number = 0
        for window in source.windows(options.batch_size * _WINDOW_BATCHES):
            found = translator.hypotheses(window, search, batch_size=options.batch_size, first_line=number)
            for line, hypotheses in zip(window, found, strict=True):
                if picture is not None and hypotheses[0].pieces:
                    _plot(picture, hypotheses[0], translator, listen)
                    picture = None
                number += 1
                sink.write(form(number, line, hypotheses).encode() + b"\n")
            sink.flush()
            if output is not None:
                listen(Progress(task="Translating", done=source.position, total=total, unit="bytes"))
        if output is not None and total is not None:
            listen(Progress(task="Translating", done=total, total=total, unit="bytes"))
    if picture is not None:
        listen(Notice(text="There was no line whose attention could be drawn.", warning=True))
    _tell_what_was_done(translator, source, listen)


def _tell_what_was_done(translator: Translator, source: Source, listen: Listener) -> None:
    """Nothing is cut or changed silently."""
    if translator.split_lines:
        text = (
            f"Longer than the model has seen in training ({translator.max_source_length} tokens), so "
            f"translated in pieces: {_lines(translator.split_lines)}."
        )
        listen(Notice(text=text, warning=True))
    if translator.cut_lines:
        text = (
            f"Cut at the maximum length before the end: {_lines(translator.cut_lines)}. If that "
            "is not an endless repetition, raise --max-length-ratio."
        )
        listen(Notice(text=text, warning=True))
    if source.replaced:
        text = f"Bytes not UTF-8 that became U+FFFD: {source.replaced:,}, the first in line {source.first:,}."
        listen(Notice(text=text, warning=True))


def _lines(count: int) -> str:
    return "1 line" if count == 1 else f"{count:,} lines"


class Source:
    """The lines to translate, in windows of as many as are there, and what was wrong with them.

    Attributes:
        size: Bytes of the input, None for a pipe or terminal.
        position: Bytes read so far.
        replaced: U+FFFD put in for bytes that are not UTF-8.
        first: The first line where that happened.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = None if str(path) == "-" else path
        self.position = self.replaced = self.first = 0
        # A named pipe is read like standard input, as its lines come.
        self.streams = self.path is None or (self.path.exists() and stat.S_ISFIFO(self.path.stat().st_mode))
        self.size = None if self.path is None or self.streams else file_size(self.path)

    def windows(self, most: int) -> Iterator[list[str]]:
        """Lists of at most ``most`` lines."""
        if self.path is not None and not self.streams:
            yield from self._file_windows(self.path, most)
            return
        if self.path is None and sys.stdin is None:
            raise S2SError("standard input is closed", hint="Give it lines, or name a file with --input.")
        handle = sys.stdin.fileno() if self.path is None else os.open(self.path, os.O_RDONLY)
        yield from self._stream_windows(handle, most)

    def _file_windows(self, path: Path, most: int) -> Iterator[list[str]]:
        lines = Lines(path, replace_invalid=True)
        window: list[str] = []
        for line in lines:
            window.append(line)
            if len(window) == most:
                self.position = lines.position
                yield window
                window = []
        self.position, self.replaced, self.first = lines.position, lines.replaced, lines.first_replaced
        if window:
            yield window

    def _stream_windows(self, handle: int, most: int) -> Iterator[list[str]]:
        """What a pipe or terminal has brought, as soon as it pauses.

        A thread reads, so that reading and translating overlap; a regular file never pauses,
        and its windows, and with them the batches, are the same every time.
        """
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        lines: queue.Queue[bytes | OSError | None] = queue.Queue(maxsize=4 * most)

        def read() -> None:
            try:
                for raw in raw_lines(handle):
                    lines.put(raw)
                lines.put(None)
            except OSError as error:
                lines.put(error)

        threading.Thread(target=read, daemon=True).start()
        count, ended = 0, False
        while not ended:
            window: list[str] = []
            deadline = time.monotonic() + _IDLE
            while len(window) < most:
                try:
                    wait = None if regular or not window else max(0.0, deadline - time.monotonic())
                    raw = lines.get(timeout=wait)
                except queue.Empty:
                    break
                if raw is None:
                    ended = True
                    break
                if isinstance(raw, OSError):
                    raise os_error(raw, self.path or "standard input")
                if count == 0:
                    raw = raw.removeprefix(BOM)
                count += 1
                text, replaced = decode_line(raw, where=f"line {count}", replace_invalid=True)
                self.replaced += replaced
                if replaced and not self.first:
                    self.first = count
                self.position += len(raw)
                window.append(text)
                deadline = time.monotonic() + _IDLE
            if window:
                yield window


def raw_lines(handle: int) -> Iterator[bytes]:
    """The lines of a file descriptor, line ends included, as they come.

    Not through a buffered stream: its lock, held by the thread that waits for the next line, would
    keep the program from ending.
    """
    begun: list[bytes] = []
    while block := os.read(handle, 1 << 16):
        first, *more = block.split(b"\n")
        begun.append(first)
        for part in more:
            yield b"".join(begun) + b"\n"
            begun = [part]
    if rest := b"".join(begun):
        yield rest


Formatter = Callable[[int, str, list[Translation]], str]


def formatter(options: TranslateOptions, translator: Translator) -> Formatter:
    """How the hypotheses of a line are written: text, TSV or JSON."""

    def alignment(source: str, hypothesis: Translation) -> str:
        return pharaoh(word_alignment(hypothesis, translator.tokenizer, unit=options.alignment_unit))

    def text(number: int, source: str, hypotheses: list[Translation]) -> str:
        return hypotheses[0].text

    def tsv(number: int, source: str, hypotheses: list[Translation]) -> str:
        rows = []
        for hypothesis in hypotheses:
            columns = [str(number)] if options.n_best > 1 else []
            columns.append(escape_tabs(hypothesis.text))
            if options.scores:
                columns.append(f"{hypothesis.log_probability:.4f}")
            if options.alignments:
                columns.append(alignment(source, hypothesis))
            rows.append("\t".join(columns))
        return "\n".join(rows)

    def jsonl(number: int, source: str, hypotheses: list[Translation]) -> str:
        side = translator.tokenizer.target
        described = []
        for hypothesis in hypotheses:
            content: dict[str, Any] = {
                "text": hypothesis.text,
                "tokens": side.tokens(hypothesis.ids),
                "ids": hypothesis.ids,
                "log_probability": hypothesis.log_probability,
                "score": hypothesis.score,
                "complete": all(p.hypothesis.complete for p in hypothesis.pieces),
            }
            if options.alignments:
                content["alignment"] = alignment(source, hypothesis)
            described.append(content)
        return json.dumps({"line": number, "source": source, "hypotheses": described}, ensure_ascii=False)

    if options.format == "jsonl":
        return jsonl
    if options.format == "tsv" or options.scores or options.alignments or options.n_best > 1:
        return tsv
    return text


def escape_tabs(text: str) -> str:
    r"""A field of a TSV: ``\t`` for a tab and ``\\`` for a backslash."""
    return text.replace("\\", "\\\\").replace("\t", "\\t")


def _plot(path: Path, hypothesis: Translation, translator: Translator, listen: Listener) -> None:
    piece = hypothesis.pieces[0]
    weights = piece.hypothesis.attention
    assert weights is not None
    tokenizer = translator.tokenizer
    source = [*tokenizer.source.tokens(piece.source), "⏎"]
    target = [
        *tokenizer.target.tokens(piece.hypothesis.tokens),
        *(["⏎"] if piece.hypothesis.complete else []),
    ]
    draw_attention(weights.numpy(), source, target, path)
    listen(Notice(text=f"The attention of the first line is drawn in {path}."))
