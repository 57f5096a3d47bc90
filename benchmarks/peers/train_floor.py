"""The speed that training a model cannot exceed on this machine: its arithmetic at the GEMM peak.

Counted are all matrix products of an update, a multiplication and its addition as two operations, without
padding and with EOS. The forward pass is what ``floor.operations`` counts for search with one hypothesis
(encoder, decoder, attention, bridge, output layer over the whole vocabulary) and, as the weights change with
every update, the products of the embeddings with the first layers' weights: 2·e·g·h for each source token,
both directions together, and for each target token. The backward pass takes twice the forward: one product
for the gradient of the input and one for that of the weights.

Not counted: softmax, gates, dropout, the sum of gradients into embeddings, and the optimiser, which is bound
by memory; ``optimiser_bytes`` says how much it moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from peers.floor import best_time, operations, peaks
from peers.train_systems import Size, Tokens

from s2scli.config import Feed, ModelConfig
from s2scli.model import Seq2Seq
from s2scli.tokenizer import Tokenizer

Lengths = Sequence[tuple[int, int]]
"""Source and target tokens of each pair, EOS included."""


def operations_per_token(config: ModelConfig, lengths: Lengths) -> float:
    """Floating-point operations of training for one target token, the mean over all pairs."""
    gates = 4 if config.cell == "lstm" else 3
    first = 2 * config.embedding * gates * config.hidden
    forward = sum(
        operations(config, source, target, 1, config.target_vocab) + (source + target) * first
        for source, target in lengths
    )
    return 3 * forward / sum(target for _, target in lengths)


@torch.inference_mode()
def copy_bandwidth() -> float:
    """Bytes a second, read and written together, of copying 256 MiB, with torch's present threads."""
    source = torch.ones(1 << 26)
    into = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / best_time(lambda: into.copy_(source))


def optimiser_bytes(config: ModelConfig) -> int:
    """What Adam moves at least in an update, in fp32.

    Weights, gradient and two moments are read, all but the gradient written: seven numbers a weight.
    """
    parameters = sum(p.numel() for p in Seq2Seq(config, initialise=False).parameters())
    return 7 * 4 * parameters


def machine(threads: int) -> dict[str, float]:
    """What the machine can do: GFLOP/s of products in fp32 and bf16, and GB/s of copying ("copy")."""
    return peaks(threads) | {"copy": copy_bandwidth() / 1e9}  # peaks sets the number of threads


def floors(size: Size, tokens: Tokens, machine: dict[str, float]) -> dict[str, dict[str, float]]:
    """The floors of this project's model of a size, without (none) and with input feeding (input).

    Returns:
        Of each: ``megaflop`` a target token, ``optimiser_megabytes`` an update, and the target tokens a
        second that the machine allows in ``fp32`` and in ``bf16``.
    """
    vocabulary = Tokenizer.load(tokens.run / "data" / "tokenizer.json").target.vocab_size
    feeds: tuple[Feed, ...] = ("none", "input")
    lengths = tokens.lengths()
    found: dict[str, dict[str, float]] = {}
    for feed in feeds:
        config = ModelConfig(
            source_vocab=vocabulary,
            target_vocab=vocabulary,
            hidden=size.hidden,
            embedding=size.embedding,
            encoder_layers=size.layers,
            decoder_layers=size.layers,
            feed=feed,
            tie="all",
            dropout=size.dropout,
        )
        operations = operations_per_token(config, lengths)
        found[feed] = {
            "megaflop": operations / 1e6,
            "optimiser_megabytes": optimiser_bytes(config) / 1e6,
            "fp32": 1e9 * machine["fp32"] / operations,
            "bf16": 1e9 * machine["bf16"] / operations,
        }
    return found
