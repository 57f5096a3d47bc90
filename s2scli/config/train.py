"""The options of ``s2s train``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2scli.config.choices import (
    Attention,
    Average,
    Bridge,
    Cell,
    Device,
    Feed,
    Metric,
    Precision,
    Preset,
    Tie,
    Values,
)
from s2scli.config.declare import Options, option
from s2scli.config.shared import device_option, threads_option


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Shards in; a model out."""

    run: Path = option(Path("s2s-run"), "Run folder that s2s preprocess has written.", "Run")
    resume: bool = option(False, "Go on from the last checkpoint, exactly.", "Run")
    force: bool = option(False, "Replace the model already in the run folder.", "Run")
    seed: int = option(1, "Seed of every random choice.", "Run", low=0, high=2**32 - 1)
    seeds: int = option(
        1,
        "Train this many models, with seeds from --seed on; s2s translate uses them together.",
        "Run",
        low=1,
        high=100,
        unit="models",
    )
    tensorboard: bool = option(
        False, "Write TensorBoard logs too (needs the extra s2scli[tensorboard]).", "Run"
    )

    epochs: int | None = option(
        None,
        "Stop after this many passes over the training data.",
        "Limits",
        low=1,
        unit="epochs",
        auto="from the amount of data; none with --max-steps, nor for strings with --max-minutes",
    )
    max_steps: int | None = option(
        None, "Stop after this many updates.", "Limits", low=1, unit="updates", auto="no limit"
    )
    max_minutes: float | None = option(
        None,
        "Stop after this time, the learning rate annealed to its end by then.",
        "Limits",
        low=0.05,
        unit="minutes",
        auto="no limit",
    )
    patience: int | None = option(
        None,
        "Stop after this many validations without a better score.",
        "Limits",
        low=1,
        unit="validations",
        auto="10, or none where --max-steps or --max-minutes sets the end",
    )

    preset: Preset = option("default", "default, or lecture: exactly the lecture's model.", "Model")
    cell: Cell = option("lstm", "Kind of recurrent cell.", "Model")
    hidden: int | None = option(
        None,
        "Width h of states, memory and attentional vector.",
        "Model",
        low=2,
        high=8192,
        unit="units",
        auto="from the amount of data and time",
    )
    embedding: int | None = option(
        None,
        "Width of the embeddings.",
        "Model",
        low=1,
        high=8192,
        unit="units",
        auto="from the amount of data and time",
    )
    encoder_layers: int | None = option(
        None, "Encoder layers.", "Model", low=1, high=16, auto="from the amount of data and time"
    )
    decoder_layers: int | None = option(
        None, "Decoder layers.", "Model", low=1, high=16, auto="from the amount of data and time"
    )
    bidirectional: bool = option(True, "Encoder that reads in both directions.", "Model")
    residual: bool = option(True, "Residual connections around every layer beyond the first.", "Model")
    bridge: Bridge = option("linear", "How the encoder's last state starts the decoder.", "Model")
    attention: Attention = option("dot", "Attention scores; none is the plain encoder-decoder.", "Model")
    values: Values = option(
        "keys", "Attention values: the keys themselves, or a separate projection.", "Model"
    )
    relative_positions: int | None = option(
        None,
        "Distances from the diagonal, to either side, that attention tells apart (0: none).",
        "Model",
        low=0,
        high=512,
        auto="8 for fewer than 2,000 strings, else 0",
    )
    feed: Feed = option(
        "none",
        "What goes into the next step: y only, s~ beside it (input), or s~ as the state (state).",
        "Model",
    )
    tie: Tie | None = option(
        None,
        "Share embeddings: none, target (with the output layer) or all (source too).",
        "Model",
        auto="all with a joint vocabulary, target without",
    )

    dropout: float | None = option(
        None,
        "Share of units dropped between layers.",
        "Regularisation",
        low=0.0,
        high=0.95,
        auto="from the amount of data and time",
    )
    dropout_over_time: bool = option(
        True,
        "Drop the same units at every time step, but for the output layer (in the decoder's states always so "
        "with --feed).",
        "Regularisation",
    )
    recurrent_dropout: float = option(
        0.0, "Share of recurrent weights dropped in each batch.", "Regularisation", low=0.0, high=0.95
    )
    word_dropout: float = option(
        0.0, "Share of input tokens whose embedding is dropped.", "Regularisation", low=0.0, high=0.95
    )
    label_smoothing: float = option(
        0.1, "Probability mass spread over the whole vocabulary.", "Regularisation", low=0.0, high=0.9
    )
    weight_decay: float = option(
        0.0, "Decoupled weight decay, of adamw (Loshchilov and Hutter 2019).", "Regularisation", low=0.0
    )

    optimizer: Literal["adamw", "adam"] = option("adamw", "Optimiser.", "Optimisation")
    learning_rate: float | None = option(
        None,
        "Highest learning rate.",
        "Optimisation",
        low=1e-7,
        high=1.0,
        auto="from the amount of data and time",
    )
    warmup_steps: int | None = option(
        None,
        "Updates over which the learning rate rises.",
        "Optimisation",
        low=0,
        unit="updates",
        auto="from the amount of data and time",
    )
    schedule: Literal["cosine", "linear", "inverse-sqrt", "constant"] = option(
        "cosine", "Learning rate after the warm-up.", "Optimisation"
    )
    clip_norm: float = option(1.0, "Largest norm of the gradient (0: no limit).", "Optimisation", low=0.0)
    batch_tokens: int | None = option(
        None,
        "Target tokens in a batch, padding included.",
        "Optimisation",
        low=1,
        unit="tokens",
        auto="from the amount of data and time",
    )
    accumulate: int = option(
        1, "Batches whose gradients make one update.", "Optimisation", low=1, unit="batches"
    )
    average: Average = option(
        "ema", "Weights that are validated and kept: a moving average, or as they are.", "Optimisation"
    )
    ema_decay: float = option(
        0.999, "Decay of the moving average per update.", "Optimisation", low=0.0, high=0.999999
    )

    validate_every: int | None = option(
        None,
        "Updates between two validations.",
        "Validation",
        low=1,
        unit="updates",
        auto="an epoch, but at least some hundred and at most 2,000",
    )
    validate_lines: int = option(
        1000,
        "Development lines that are translated for BLEU and chrF (the loss is over all of them).",
        "Validation",
        low=1,
        unit="lines",
    )
    validate_beam: int = option(1, "Beam of those translations.", "Validation", low=1, high=100)
    metric: Metric | None = option(
        None,
        "What decides which model is the best (a tie is decided by the loss); acc is the share of lines "
        "translated exactly.",
        "Validation",
        auto="bleu; acc for short strings, else chrf where most lines have fewer than four words",
    )
    samples: int = option(
        3, "Sample translations shown at a validation.", "Validation", low=0, unit="sentences"
    )

    device: Device = device_option()
    precision: Precision = option(
        "auto", "Number format of the arithmetic; auto is bf16 where the processor has it.", "Machine"
    )
    threads: int | None = threads_option()
