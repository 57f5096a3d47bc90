"""The time below which translation with a model cannot go on this machine: its arithmetic at the GEMM peak.

Counted is what search executes for a sentence of S source and T target tokens (EOS included) with beam k
and C columns in the output layer (the vocabulary, or a shortlist), a multiplication and its addition as two
operations. h is ``hidden``, e ``embedding``, g the gates of a cell (LSTM 4, GRU 3):

- encoder, a source token: g·h² for the recurrent weights of two directions of width h/2 (2·g·h² for one
  direction), and 2·g·h² more for the input of each layer beyond the first;
- decoder, a target token and hypothesis: 2·g·h² for the recurrent weights, and as much for the input of each
  layer beyond the first;
- attention: 2·S·h for the scores and 2·S·h for the weighted sum, a target token and hypothesis; the part of
  the combination that works on the values, W_a h_i, once a source token: 2·h²;
- combination W_s s_t: 2·h²; narrow: 2·h·e; output: 2·e·C, a target token and hypothesis;
- bridge: 2·h² a sentence and layer; projections of the keys: 2·h² a source token where the model has them.

Not counted: products of embeddings with the first layers' weights, which are a table of the vocabulary.
Softmax and top-k are no products; their time over C columns is measured and added.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from peers.measure import Setting

from s2scli.checkpoint import load_shortlist
from s2scli.config import ModelConfig
from s2scli.model.batch import pad

Lengths = Sequence[tuple[int, int]]
"""Source and target tokens of each sentence, EOS included."""


def operations(config: ModelConfig, source: int, target: int, beam: int, columns: int) -> float:
    """Floating-point operations of one sentence of ``source`` and ``target`` tokens, EOS included."""
    h, gates = config.hidden, 4 if config.cell == "lstm" else 3
    square, recurrent = 2 * h * h, 2 * gates * h * h
    encoder = recurrent * (config.encoder_layers / (1 + config.bidirectional) + config.encoder_layers - 1)
    step = recurrent * (2 * config.decoder_layers - 1 + (config.feed == "input")) + square
    if config.attention != "none":
        encoder += square * (
            1 + (config.attention in ("general", "additive")) + (config.values == "projected")
        )
        step += 4 * source * h
    if config.attention == "additive":
        step += square + 2 * source * h
    width = h
    if config.tie != "none" and config.embedding != h:
        width = config.embedding
        step += 2 * h * width
    step += 2 * width * columns
    bridge = square * config.decoder_layers if config.bridge == "linear" else 0
    return source * encoder + bridge + hypotheses(target, beam) * step


def hypotheses(target: int, beam: int) -> int:
    """Single steps of single hypotheses: there is one beginning, and ``beam`` of them from then on."""
    return beam * (target - 1) + 1


def best_time(work: Callable[[], object], seconds: float = 1.0) -> float:
    """The shortest time of one call among as many as fit into ``seconds``."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begun = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - begun)
    return best


@torch.inference_mode()
def gemm_peak(dtype: torch.dtype) -> float:
    """The machine's best operations a second in square products, with torch's present threads."""
    peak = 0.0
    for n in (1024, 1536, 2048):
        a, b = (torch.randn(n, n).to(dtype) for _ in range(2))
        into = torch.empty(n, n, dtype=dtype)
        peak = max(peak, 2 * n**3 / best_time(lambda a=a, b=b, into=into: torch.mm(a, b, out=into)))
    return peak


@torch.inference_mode()
def selection_time(rows: int, columns: int, beam: int) -> float:
    """Seconds for softmax and top-k of one row, in a matrix (rows, columns)."""
    logits = torch.randn(rows, columns)

    def select() -> None:
        probabilities = torch.log_softmax(logits, dim=-1)
        probabilities.argmax(-1) if beam == 1 else probabilities.topk(beam, dim=-1)

    return best_time(select) / rows


def sentence_seconds(
    config: ModelConfig, lengths: Lengths, beam: int, columns: int, *, peak: float, selection: float
) -> float:
    """The mean floor in seconds of sentences with the given lengths."""
    products = sum(operations(config, source, target, beam, columns) for source, target in lengths) / peak
    chosen = sum(hypotheses(target, beam) for _, target in lengths) * selection
    return (products + chosen) / len(lengths)


def shortlist_columns(model: Path, size: int, sources: Sequence[Sequence[int]], batch: int) -> int:
    """Mean columns that shortlists leave of the output layer, in batches of like lengths."""
    shortlist = load_shortlist(model, size, torch.device("cpu"))
    ordered = sorted(sources, key=len)
    batches = [pad(ordered[begin : begin + batch])[0] for begin in range(0, len(ordered), batch)]
    return round(sum(len(shortlist.of(ids)[0]) for ids in batches) / len(batches))


def peaks(threads: int) -> dict[str, float]:
    """GFLOP/s of products in each number format."""
    torch.set_num_threads(threads)
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {name: gemm_peak(dtype) / 1e9 for name, dtype in formats.items()}


def limits(
    config: ModelConfig, lengths: Lengths, setting: Setting, *, columns: int | None, gflops: dict[str, float]
) -> dict[str, float]:
    """Sentences per second that the arithmetic allows, by number format; ``columns`` None: the vocabulary."""
    columns = columns or config.target_vocab
    selection = selection_time(setting.batch * setting.beam, columns, setting.beam)
    result = {"columns": columns, "selection_microseconds": 1e6 * selection}
    for name, peak in gflops.items():
        result[name] = 1 / sentence_seconds(
            config, lengths, setting.beam, columns, peak=1e9 * peak, selection=selection
        )
    return result
