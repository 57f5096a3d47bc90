"""Where and how to compute: device, number format, threads, seeds. Never part of a model."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass

import numpy as np
import torch

from s2scli.config import Device, Precision
from s2scli.errors import S2SError


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A device and the number format of its arithmetic."""

    device: torch.device
    dtype: torch.dtype

    @property
    def description(self) -> str:
        """In words, for the settings table."""
        name = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {name}"
        threads = torch.get_num_threads()
        return f"CPU, {threads} thread{'s' if threads > 1 else ''}, {name}"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # torch offers no public question; without an answer fp32 is always right.
    questions = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(bool(ask()) for ask in questions if ask is not None)


def set_up(device: Device, precision: Precision, threads: int | None) -> Runtime:
    """Choose the device and number format, and set the number of CPU threads.

    Raises:
        S2SError: A GPU is asked for and there is none.
    """
    # The kernels keep what they prepared for each batch shape, several megabytes a shape; more than
    # this many kept costs memory and was not seen to save time. Read at their first use.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise S2SError(
            "there is no usable CUDA GPU",
            where="--device",
            hint="Use --device cpu, or check the driver and PyTorch.",
        )
    chosen = torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(chosen) else "fp32"
    return Runtime(device=chosen, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)


def seed_everything(seed: int) -> None:
    """Seed every generator that initialisation and dropout draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
