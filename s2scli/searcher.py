"""Searcher: ids in, hypotheses out, a batch at a time, by one model or several on a device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from s2scli.model import (
    Hypothesis,
    SearchLimits,
    Seq2Seq,
    beam_search,
    forced_search,
    greedy_search,
    sample_search,
)
from s2scli.model.batch import pad
from s2scli.model.ensemble import Ensemble, Searchable
from s2scli.model.grid import Grid
from s2scli.model.shortlist import Shortlist
from s2scli.model.stepper import Stepper
from s2scli.native import NativeStepper, kernels, supported
from s2scli.runtime import Runtime, exponentials
from s2scli.translation import SLACK, SearchOptions
from s2scli.workers import Workers, even_size

_FEW_SYMBOLS = 1000
"""Tokens of a vocabulary whose logits cost little beside the rest of a step."""
_LOGITS = 1 << 23
"""Numbers in the output of a batch that still fit the processor's caches well enough."""
_THRESHOLD = 4.0
"""Nats that change 0.4 % of the translations at most, and BLEU by 0.01 (docs/experiments.md)."""


def _stepper(model: Seq2Seq, runtime: Runtime) -> Searchable[Any]:
    """What makes the model's steps here: kernels of our own where there are some for it, else torch."""
    library = kernels() if runtime.device.type == "cpu" else None
    number = None if library is None else supported(library, model.config, runtime.kind)
    if library is not None and number is not None:
        return NativeStepper(model, library, number)
    return Stepper(model, runtime.kind)


class Searcher:
    """One model, or several together, ready to search.

    Args:
        models: In fp32. Are moved to the device and converted to the number format of ``runtime``.
        length_ratio: Target tokens for each source token that a hypothesis may have, beside ten more.
        shortlist: Which target tokens a source may use; None for all.

    Attributes:
        models: In the number format of the runtime.
    """

    def __init__(
        self,
        models: Sequence[Seq2Seq],
        runtime: Runtime,
        *,
        length_ratio: float,
        shortlist: Shortlist | None = None,
    ) -> None:
        steppers = [_stepper(model.to(runtime.device), runtime) for model in models]
        self.stepper: Searchable[Any] = Ensemble(steppers) if len(steppers) > 1 else steppers[0]
        self.models = tuple(model.to(dtype=runtime.dtype).eval() for model in models)
        self.runtime, self.length_ratio, self.shortlist = runtime, length_ratio, shortlist
        self._target_vocab = models[0].config.target_vocab

    def batch_size(self, options: SearchOptions) -> int:
        """Sentences that make a batch of 640 hypotheses, or of twice as many where their logits are few.

        Strings, whose output layer is small, have four times 640.
        """
        few = self._target_vocab <= _FEW_SYMBOLS
        most = 640 if few else max(640, min(1280, _LOGITS // self._target_vocab))
        sentences = max(8, min(256, most // options.beam))
        return 4 * sentences if few else sentences

    def least(self, most: int) -> int:
        """Sentences of a batch that is still worth its time, where one has ``most`` of them."""
        return max(1, most // (8 if isinstance(self.stepper, NativeStepper) else 2))

    def _threshold(self, options: SearchOptions) -> float | None:
        """What search may give up; left open, next to nothing is lost, and in fp32 nothing at all."""
        exact = self.runtime.kind == "fp32" or options.n_best > 1
        given = options.beam_threshold
        return (None if exact else _THRESHOLD) if given is None else given or None

    @torch.inference_mode()
    def search(
        self, sources: Sequence[Sequence[int]], options: SearchOptions, draws: Sequence[tuple[int, int]]
    ) -> list[list[Hypothesis]]:
        """The n best hypotheses of each source of a batch, the best first.

        Args:
            sources: Ids without EOS.
            draws: What random numbers depend on beside the seed: its line, and its place in the line.
        """
        ids, lengths = (tensor.to(self.runtime.device) for tensor in pad(sources))
        longest = (lengths * (options.max_length_ratio or self.length_ratio)).long() + SLACK
        limits = SearchLimits(
            max_lengths=longest,
            length_penalty=options.length_penalty,
            no_repeat_ngram=options.no_repeat_ngram,
            threshold=self._threshold(options),
            keep_attention=options.attention,
        )
        state = self.stepper.start(ids, lengths, self.shortlist)
        columns = state.columns
        if options.sample:
            sampled = sample_search(
                self.stepper,
                state,
                limits,
                exponentials(options.seed, draws, self._target_vocab, columns),
                temperature=options.temperature,
                top_k=options.top_k,
                top_p=options.top_p,
            )
            found = [[h] for h in sampled]
        elif options.beam == 1:
            found = [[h] for h in greedy_search(self.stepper, state, limits)]
        else:
            found = beam_search(self.stepper, state, limits, beam=options.beam, n_best=options.n_best)
        if columns is None:
            return found
        names = columns.tolist()
        return [[replace(h, tokens=tuple(names[c] for c in h.tokens)) for h in hs] for hs in found]

    def forced(
        self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[Sequence[int]]]
    ) -> Iterator[list[tuple[float, ...]]]:
        """The log-probabilities of given translations, in nats, as search itself would count them.

        Args:
            sources: Ids without EOS, line by line.
            targets: One or several translations of each, ids without EOS.

        Yields:
            For each line, in order, and each of its translations, log p of each target token given the
            source and the tokens before it; the last is that of EOS.
        """
        columns = max([SearchOptions().beam, *map(len, targets)])
        most = self.batch_size(SearchOptions(beam=columns))
        batch_size = even_size(len(sources), most, self.least(most))

        @torch.inference_mode()
        def score(begin: int) -> list[list[tuple[float, ...]]]:
            device, batch = self.runtime.device, targets[begin : begin + batch_size]
            ids, lengths = (tensor.to(device) for tensor in pad(sources[begin : begin + batch_size]))
            wanted, counts = (tensor.to(device) for tensor in pad([ids for many in batch for ids in many]))
            places = [i * columns + j for i, many in enumerate(batch) for j in range(len(many))]
            grid = Grid(
                shape=(len(batch), columns), taken=torch.tensor(places, dtype=torch.int64, device=device)
            )
            found = forced_search(self.stepper, self.stepper.start(ids, lengths), wanted, counts, grid)
            rows = (tuple(row[:n]) for row, n in zip(found.tolist(), counts.tolist(), strict=True))
            return [[next(rows) for _ in many] for many in batch]

        with Workers(self.runtime) as workers:
            for scores in workers.begin(score, range(0, len(sources), batch_size)):
                yield from scores()
