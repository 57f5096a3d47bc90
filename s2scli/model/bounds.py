"""What no number of a search exceeds, so that 8-bit inputs know their scale beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from s2scli.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Magnitudes.

    Attributes:
        encoded: Of the encoder's outputs.
        start: Of the decoder's first state.
        outputs: Of what each decoder layer hands on.
    """

    encoded: float
    start: float
    outputs: tuple[float, ...]

    @classmethod
    def of(cls, config: ModelConfig) -> Bounds:
        """Those of any model of this configuration."""
        encoded = float(config.encoder_layers if config.residual else 1)
        start = encoded if config.bridge == "last" else 1.0
        # Every layer adds at most this to what it was given: a tanh's, but a GRU carries its first state on.
        added = max(1.0, start) if config.cell == "gru" else 1.0
        layers = range(1, config.decoder_layers + 1)
        return cls(
            encoded=encoded, start=start, outputs=tuple(added * (i if config.residual else 1) for i in layers)
        )
