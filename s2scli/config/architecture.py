"""The architecture of a model, as it is stored with it."""

from __future__ import annotations

from dataclasses import dataclass

from s2scli.config.choices import Attention, Bridge, Cell, Feed, Tie, Values
from s2scli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture: all that the model package knows of the world.

    Vocabulary sizes count every id, special ones included; ``hidden`` is the h
    of the equations and ``embedding`` the width of the word vectors.
    """

    source_vocab: int
    target_vocab: int
    cell: Cell = "lstm"
    hidden: int = 512
    embedding: int = 256
    encoder_layers: int = 1
    decoder_layers: int = 1
    bidirectional: bool = True
    residual: bool = True
    bridge: Bridge = "linear"
    attention: Attention = "dot"
    values: Values = "keys"
    relative_positions: int = 0
    feed: Feed = "none"
    tie: Tie = "none"
    dropout: float = 0.0
    dropout_over_time: bool = True
    recurrent_dropout: float = 0.0
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.bidirectional and self.hidden % 2:
            raise UsageError(
                f"a bidirectional encoder needs an even width, not {self.hidden}",
                where="--hidden",
                hint=f"Try {self.hidden + 1}, or --no-bidirectional.",
            )
        if self.attention == "none" and self.bridge == "zero":
            raise UsageError(
                "without attention only the bridge leads from source to target, and 'zero' passes nothing",
                where="--bridge",
                hint="Use --bridge last or linear.",
            )
        if self.attention == "none" and self.values == "projected":
            raise UsageError(
                "--attention none has no values to project", where="--values", hint="Leave --values out."
            )
        if self.attention == "none" and self.relative_positions:
            raise UsageError(
                "--attention none has no scores that positions could be told apart in",
                where="--relative-positions",
                hint="Leave --relative-positions out.",
            )
        if self.tie == "all" and self.source_vocab != self.target_vocab:
            raise UsageError(
                "--tie all needs one vocabulary for both sides",
                where="--tie",
                hint="Preprocess with --joint, or use --tie target.",
            )
