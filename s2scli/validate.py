"""Validation: the loss on the development set, and BLEU and chrF of what users would get."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sacrebleu
import torch

from s2scli.config import TrainOptions
from s2scli.corpus import Lines
from s2scli.dataset import in_order
from s2scli.errors import counted
from s2scli.events import Listener, Notice
from s2scli.model import Seq2Seq
from s2scli.runtime import Runtime
from s2scli.scoring.units import same_string
from s2scli.shards import ParallelData
from s2scli.tokenizer import Tokenizer
from s2scli.translation import LENGTH_RATIO
from s2scli.translator import Translator


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Results of one validation.

    Attributes:
        loss: Nats per target token, without label smoothing.
        bleu, chrf: sacreBLEU's, on the translated development lines.
        accuracy: Percent of these lines that are exactly the reference, as ``s2s score`` counts them.
        samples: (source, reference, hypothesis) of a few lines.
        warnings: Signs that the training has collapsed, in words, with what to try.
    """

    loss: float
    bleu: float
    chrf: float
    accuracy: float
    samples: tuple[tuple[str, str, str], ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """The development set as it was given: raw text, which scores are computed on."""

    sources: tuple[str, ...]
    references: tuple[str, ...]

    @classmethod
    def read(cls, data_folder: Path) -> HeldOut:
        """The development set of preprocessed data."""
        sides = (tuple(Lines(data_folder / f"dev.{side}.txt")) for side in ("source", "target"))
        sources, references = sides
        return cls(sources=sources, references=references)

    @property
    def short(self) -> bool:
        """Whether most references have fewer than four words, so that they hold no 4-gram for BLEU."""
        return 2 * sum(len(line.split()) < 4 for line in self.references) > len(self.references)

    def some(self, count: int) -> HeldOut:
        """At most ``count`` lines, evenly spaced, so that a set in some order is seen as a whole."""
        count = min(count, len(self.sources))
        chosen = [i * len(self.sources) // count for i in range(count)]
        return HeldOut(
            sources=tuple(self.sources[i] for i in chosen),
            references=tuple(self.references[i] for i in chosen),
        )


class Validator:
    """Measures models on the development set of a run.

    Args:
        dev: The preprocessed pairs, for the loss.
        held_out: The text, for BLEU and chrF.
        longest: Longest source and target in training, in tokens: the loss leaves out longer pairs,
            which attention over the whole of them could make arbitrarily expensive.
        length_ratio: As of `Translator`.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        dev: ParallelData,
        held_out: HeldOut,
        longest: tuple[int, int],
        options: TrainOptions,
        runtime: Runtime,
        listen: Listener,
        length_ratio: float = LENGTH_RATIO,
    ) -> None:
        self.tokenizer, self.dev = tokenizer, dev
        self.max_source_length, self.length_ratio = longest[0], length_ratio
        self.options, self.runtime = options, runtime
        shown = held_out.some(options.validate_lines)
        self.sources, self.references = list(shown.sources), list(shown.references)
        fits = (dev.source_lengths <= longest[0]) & (dev.target_lengths <= longest[1])
        if not fits.any():  # a loss of nothing would be 0, and no later one would be better
            fits[np.argmin(dev.source_lengths + dev.target_lengths)] = True
        self.rows = np.flatnonzero(fits)
        if len(self.rows) < len(dev):
            left_out = counted(len(dev) - len(self.rows), "development pair")
            text = f"The loss leaves out {left_out} longer than any in training."
            listen(Notice(text=text))

    def validate(self, model: Seq2Seq) -> Validation:
        """Measure a model; it is left as it is."""
        copied = copy.deepcopy(model)
        translator = Translator(
            copied,
            self.tokenizer,
            max_source_length=self.max_source_length,
            length_ratio=self.length_ratio,
            runtime=self.runtime,
        )
        loss = self._loss(translator.model)
        hypotheses = translator.translate(self.sources, beam=self.options.validate_beam)
        shown = range(0, len(self.sources), max(1, len(self.sources) // max(1, self.options.samples)))
        samples = [(self.sources[i], self.references[i], hypotheses[i]) for i in shown]
        exact = sum(map(same_string, hypotheses, self.references))
        return Validation(
            loss=loss,
            bleu=sacrebleu.corpus_bleu(hypotheses, [self.references], force=True).score,
            chrf=sacrebleu.corpus_chrf(hypotheses, [self.references]).score,
            accuracy=100 * exact / max(1, len(self.references)),
            samples=tuple(samples[: self.options.samples]),
            warnings=tuple(signs_of_collapse(self.sources, hypotheses)),
        )

    @torch.inference_mode()
    def _loss(self, model: Seq2Seq) -> float:
        total, tokens = torch.zeros((), dtype=torch.float64), 0
        for batch in in_order(self.dev, self.rows, max(2000, self.options.batch_tokens or 0)):
            total += model(batch.to(self.runtime.device)).plain.double().cpu()
            tokens += batch.target_tokens
        return float(total) / max(1, tokens)


def signs_of_collapse(sources: list[str], hypotheses: list[str]) -> list[str]:
    """What looks wrong with the translations of many different sources, in words."""
    signs: list[str] = []
    written = [h for s, h in zip(sources, hypotheses, strict=True) if s.strip()]
    if len(set(sources)) < 10 or not written:
        return signs
    output, count = Counter(written).most_common(1)[0]
    if count > 0.5 * len(written):
        what = "are empty" if not output.strip() else f"are the same: {output[:60]!r}"
        signs.append(
            f"{count} of {len(written)} translations {what}. Normal at the start; if it lasts, try a lower "
            "--learning-rate or --dropout, or check that source and target lines belong together."
        )
    looping = sum(_loops(h) for h in written)
    if looping > 0.2 * len(written):
        signs.append(
            f"{looping} of {len(written)} translations repeat themselves. Normal at the start; if it lasts, "
            "train longer or with more data, and translate with --no-repeat-ngram 4."
        )
    return signs


def _loops(text: str, times: int = 4) -> bool:
    """Whether some run of one to four words stands ``times`` times in a row."""
    words = text.split()
    for n in range(1, 5):
        for i in range(len(words) - n * times + 1):
            if words[i : i + n] * times == words[i : i + n * times]:
                return True
    return False
