"""Translator: lines in, translations out. What users run, and what training validates with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from s2scli.checkpoint import find_models, load_models, load_shortlist
from s2scli.config import Device, SearchPrecision, TranslateOptions
from s2scli.errors import UsageError
from s2scli.events import Listener, Notice, silent
from s2scli.model import Hypothesis, Seq2Seq
from s2scli.model.shortlist import Shortlist
from s2scli.resolve import build
from s2scli.runtime import Runtime, keep_kernels, set_up
from s2scli.searcher import Searcher
from s2scli.tokenizer import Tokenizer
from s2scli.translation import LENGTH_RATIO, Piece, SearchOptions, Translation
from s2scli.window import Place, Remarkable, Window
from s2scli.workers import Workers

WINDOW_BATCHES = 8
"""Batches' worth of lines that are read ahead, so that batches hold lines of similar length."""

__all__ = ["WINDOW_BATCHES", "Piece", "SearchOptions", "Translation", "Translator"]


class Translator:
    """A model, or several together, with the tokenizer, on a device, ready to translate.

    Args:
        model: In fp32. Is moved to the device and converted to the number format of ``runtime``.
        others: Models with the same tokenizer that translate together with it (`Ensemble`).
        max_source_length: Longest source in tokens; a longer line is translated in pieces.
        length_ratio: Target tokens for each source token that a hypothesis may have, beside ten more.
        shortlist: Which target tokens a source may use; None for all.
    """

    def __init__(
        self,
        model: Seq2Seq,
        tokenizer: Tokenizer,
        *,
        others: Sequence[Seq2Seq] = (),
        max_source_length: int,
        length_ratio: float = LENGTH_RATIO,
        runtime: Runtime,
        shortlist: Shortlist | None = None,
    ) -> None:
        self.searcher = Searcher((model, *others), runtime, length_ratio=length_ratio, shortlist=shortlist)
        self.models, self.runtime = self.searcher.models, runtime
        self.tokenizer = tokenizer
        self.max_source_length, self.length_ratio = max_source_length, length_ratio
        self.remarkable = Remarkable()
        """What was done to lines so far."""

    @property
    def model(self) -> Seq2Seq:
        """The model; of several, the first."""
        return self.models[0]

    @property
    def has_attention(self) -> bool:
        """Whether there are attention weights to be had: those of any of the models."""
        return any(model.config.attention != "none" for model in self.models)

    @classmethod
    def load(
        cls,
        path: str | Path | Sequence[str | Path],
        *,
        device: Device = "auto",
        precision: SearchPrecision = "auto",
        threads: int | None = None,
        shortlist: int = 0,
        listen: Listener = silent,
    ) -> Self:
        """Load a run folder or model directory; of a run with several seeds, all models together.

        The process keeps some of what is set here: torch's number of threads, if ``threads`` is given, a
        bound of the kernels that torch keeps (an environment variable, unless it is set), and on which cores
        torch's threads beside the caller's work, where they take all cores.

        Args:
            path: One, or several whose models are to be used together.
            device: As ``--device`` says, and so on.
            precision: Of search.
            threads: That torch uses, here and for all else in the process; None leaves them as they are.
            shortlist: Likely target tokens of each source token that search is confined to; 0: all tokens.
            listen: Told how many models are used, if several are, and which seeds have none yet.

        Raises:
            S2SError: No model, a damaged one or one of another version, or several that do not fit together.
            UsageError: An argument that the option of this name could not be.
        """
        paths = [Path(path)] if isinstance(path, (str, Path)) else [Path(one) for one in path]
        if not paths:
            raise UsageError("no model is named", where="path")
        _check(device=device, precision=precision, threads=threads, shortlist=shortlist)
        runtime = set_up(device, precision, threads)
        keep_kernels()
        folders = find_models(paths, listen)
        (model, *others), tokenizer, infos = load_models(folders)
        if others:
            seeds = "seeds " + ", ".join(folder.parent.name for folder in folders)
            which = seeds if len(paths) == 1 else ", ".join(map(str, folders))
            listen(Notice(text=f"Models used together: {len(folders)} ({which})."))
        return cls(
            model,
            tokenizer,
            others=others,
            # What all of them were trained on, and what any of them needs.
            max_source_length=min(info.max_source_length for info in infos),
            length_ratio=max(info.length_ratio for info in infos),
            runtime=runtime,
            # The first one's: what the tokenizer's tokens mean hardly depends on which of the data it saw.
            shortlist=load_shortlist(folders[0], shortlist, runtime.device) if shortlist else None,
        )

    def remarks(self, *, if_cut: str = "") -> Iterator[str]:
        """What was done to lines so far, in words; ``if_cut`` is what else to say where some were cut."""
        return self.remarkable.told(self.max_source_length, if_cut)

    def translate(self, lines: Iterable[str], *, batch_size: int | None = None, **search: Any) -> list[str]:
        """The best translation of each line, in order; ``search`` are fields of ``SearchOptions``.

        Raises:
            TypeError: A single string, which would be translated letter by letter, or lines that are no text.
        """
        options = SearchOptions(**search)
        return [best[0].text for best in self.hypotheses(lines, options, batch_size=batch_size)]

    def hypotheses(
        self,
        lines: Iterable[str],
        options: SearchOptions,
        *,
        batch_size: int | None = None,
        first_line: int = 0,
    ) -> Iterator[list[Translation]]:
        """The n best translations of each line, in order, read and translated some hundred lines at a time.

        Args:
            batch_size: Most sentences that are translated together; None: by the beam.
            first_line: Index of the first line, which a random draw depends on.
        """
        if isinstance(lines, str):
            raise TypeError("lines are a list of strings, not one: put it in brackets")
        if batch_size is not None:
            _check(batch_size=batch_size)
        batch_size = batch_size or self.searcher.batch_size(options)
        waiting = iter(lines)

        def windows() -> Iterator[list[str]]:
            while window := list(islice(waiting, batch_size * WINDOW_BATCHES)):
                yield window
                if not isinstance(lines, Sequence):
                    yield []  # who knows how long the next line takes

        for _, found in self.windows(windows(), options, batch_size=batch_size, first_line=first_line):
            yield from found

    def windows(
        self,
        windows: Iterable[list[str]],
        options: SearchOptions,
        *,
        batch_size: int,
        first_line: int = 0,
    ) -> Generator[tuple[list[str], list[list[Translation]]]]:
        """Windows of lines, in order, each with the n best translations of each of its lines.

        While one is translated the next is read and begun (with many threads, the next few), so that no
        thread waits at the end of the first.
        An empty window means that the next may take a while: then what has been begun is given before.

        Args:
            batch_size: Most sentences that are translated together.
            first_line: Index of the first line, which a random draw depends on.
        """
        begun: deque[tuple[list[str], _Begun]] = deque()
        source, error = iter(windows), None
        with Workers(self.runtime) as workers:
            ahead = -(-2 * workers.count // WINDOW_BATCHES)
            while error is None:
                try:
                    lines = next(source)
                    if lines:
                        begun.append((lines, self._begin(workers, lines, options, batch_size, first_line)))
                        first_line += len(lines)
                except StopIteration:
                    break
                except Exception as reading:  # what came before it is not lost
                    lines, error = [], reading
                while len(begun) > (ahead if lines else 0):
                    lines_before, one = begun.popleft()
                    yield lines_before, self._end(one)
                if not lines:
                    workers.rest()
            for lines, one in begun:
                yield lines, self._end(one)
        if error is not None:
            raise error

    def _begin(
        self, workers: Workers, lines: list[str], options: SearchOptions, batch_size: int, first_line: int
    ) -> _Begun:
        window = Window(lines, self.tokenizer.source, self.max_source_length)

        def search(batch: list[Place]) -> list[list[Translation]]:
            sources = [window.ids(place) for place in batch]
            found = self.searcher.search(sources, options, [(first_line + i, j) for i, j in batch])
            # All texts of a batch at once, and while other threads search.
            texts = iter(self.tokenizer.target.decode([h.tokens for best in found for h in best]))
            return [
                [_translation(ids, h, next(texts)) for h in best]
                for ids, best in zip(sources, found, strict=True)
            ]

        batches = window.batches(batch_size, self.searcher.least(batch_size))
        return _Begun(window=window, batches=batches, results=workers.begin(search, batches))

    def _end(self, begun: _Begun) -> list[list[Translation]]:
        found: dict[Place, list[Translation]] = {}
        for batch, result in zip(begun.batches, begun.results, strict=True):
            found.update(zip(batch, result(), strict=True))
        translations = begun.window.joined(found, self.tokenizer.target)
        self.remarkable.add(begun.window.remarkable)
        return translations


def _check(**arguments: Any) -> None:
    """Refuse what the options of these names could not be."""
    build(TranslateOptions, arguments, where={name: name for name in arguments})


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A window that is being translated: its batches, and what waits for the translations of each."""

    window: Window
    batches: list[list[Place]]
    results: list[Callable[[], list[list[Translation]]]]


def _translation(ids: Sequence[int], hypothesis: Hypothesis, text: str) -> Translation:
    """The translation of a piece; its attention is cut to the piece's own length, as the batch was padded."""
    if hypothesis.attention is not None:
        hypothesis = replace(hypothesis, attention=hypothesis.attention[:, : len(ids) + 1])
    piece = Piece(source=tuple(ids), hypothesis=hypothesis)
    return Translation(text=text.replace("\r", " ").replace("\n", " "), pieces=(piece,))
