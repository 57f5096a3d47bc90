"""Where and how to compute: device, number format, threads, seeds. Never part of a model."""

from __future__ import annotations

import gc
import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from s2scli.config import Device, SearchPrecision
from s2scli.cores import spread_team
from s2scli.errors import S2SError
from s2scli.model.packed import Kind, has_int8


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """A device and the number format of its arithmetic.

    Attributes:
        dtype: Of training, and in search of the encoder.
        kind: Of the decoder's matrices in search.
        threads: Of a CPU.
    """

    device: torch.device
    dtype: torch.dtype
    kind: Kind
    threads: int = 1

    @property
    def description(self) -> str:
        """Where and in which number format a model is trained, in words."""
        name = "bf16" if self.dtype == torch.bfloat16 else "fp32"
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {name}"
        return f"CPU, {self.threads} thread{'s' if self.threads > 1 else ''}, {name}"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False  # without that library's kernels bf16 is far slower than fp32
    # torch offers no public question; without an answer fp32 is always right.
    questions = (
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    return any(bool(ask()) for ask in questions if ask is not None)


def _device(device: Device) -> torch.device:
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def set_up(device: Device, precision: SearchPrecision, threads: int | None) -> Runtime:
    """Choose the device and number format, and set the number of CPU threads.

    Raises:
        S2SError: A GPU is asked for and there is none, or 8-bit integers where there are none.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "cuda" and not torch.cuda.is_available():
        raise S2SError(
            "there is no usable CUDA GPU",
            where="--device",
            hint="Use --device cpu, or check the driver and PyTorch.",
        )
    chosen = _device(device)
    if precision == "int8" and (chosen.type != "cpu" or not has_int8()):
        raise S2SError(
            "8-bit integers need a CPU with AVX512-VNNI and a build of PyTorch that uses it",
            where="--precision int8",
            hint="Use --precision auto.",
        )
    best: Kind = "bf16" if has_fast_bf16(chosen) else "fp32"
    fastest: Kind = "int8" if chosen.type == "cpu" and has_int8() else best
    kind: Kind = fastest if precision == "auto" else precision
    dtype = torch.bfloat16 if (best if kind == "int8" else kind) == "bf16" else torch.float32
    count = threads or torch.get_num_threads()
    if chosen.type == "cpu":
        spread_team(count)
    return Runtime(device=chosen, dtype=dtype, kind=kind, threads=count)


_THREADS_OF_USE = 4
"""Beyond which no more speed is expected; more than two have not been measured."""


def usual_speed(device: Device, threads: int | None) -> float:
    """Target tokens a second that the training of a model of middle size makes on a common machine.

    Known before anything is measured, and the same whatever else the machine does just now.
    """
    if _device(device).type == "cuda":
        return 100_000.0
    return float(3000 * min(threads or torch.get_num_threads(), _THREADS_OF_USE) ** 0.8)


def keep_kernels() -> None:
    """Limit how many recurrent kernels are kept; this must come before the first of them.

    A batch shape wants one for each layer and direction, and each holds its working memory in torch's own
    store: a thousand shapes would be gigabytes.
    """
    os.environ.setdefault("LRU_CACHE_CAPACITY", "16")


@contextmanager
def settled() -> Iterator[None]:
    """Let Python's garbage collector leave alone what is here already, and look at the rest less often."""
    ours = not gc.get_freeze_count()  # else somebody has done so, and all of it would be thawed with ours
    if ours:
        gc.collect()  # what is garbage now would otherwise stay
        gc.freeze()
    first, *others = gc.get_threshold()
    gc.set_threshold(100 * first, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
        if ours:
            gc.unfreeze()


def seed_everything(seed: int) -> None:
    """Seed every generator that initialisation and dropout draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def exponentials(
    seed: int, draws: Sequence[tuple[int, int]], vocab: int, columns: Tensor | None
) -> Callable[[Tensor, int], Tensor]:
    """Random numbers for `sample_search` that depend on seed, line, piece and token, never on the batch.

    Args:
        seed: The user's.
        draws: The line and the piece of each sentence.
        vocab: Numbers of a draw.
        columns: Which of them the columns of the output layer stand for; None for all, in order.
    """
    generators = [np.random.default_rng([seed, line, piece]) for line, piece in draws]

    def draw(rows: Tensor, width: int) -> Tensor:
        each = [generators[i].standard_exponential(vocab, dtype=np.float32) for i in rows.tolist()]
        drawn = torch.from_numpy(np.stack(each)).to(rows.device)
        chosen = drawn if columns is None else drawn.index_select(1, columns)
        # The columns that the output layer is filled up with have no probability.
        return torch.nn.functional.pad(chosen, (0, width - chosen.size(1)), value=1.0)

    return draw
