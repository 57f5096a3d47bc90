"""A training in several processes under torchrun: gradients, what all agree on, and who tells.

Gradients are averaged by DistributedDataParallel (Li et al. 2020), over NCCL on GPUs and gloo on
CPUs. All else that must be the same everywhere (the clock, the wish to stop, the result of a
validation) goes over a second group, which is gloo on every machine: a few bytes from host to host,
for which no host waits for its GPU.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from s2scli import torchrun
from s2scli.config import Device
from s2scli.errors import S2SError, UsageError
from s2scli.meter import Clock
from s2scli.model import Batch

T = TypeVar("T")

PATIENCE = timedelta(days=1)
"""How long a process waits for the first one, which may be validating or writing to a slow disk.

One that has died is noticed at once, by its closed connection. Gradients keep torch's own, shorter
limits: there, nobody is ever late by more than the loading of a batch.
"""


class Peers:
    """The processes of a training. These are those of one outside torchrun: just this process.

    Attributes:
        rank: Number of this process, from 0; the first one alone reads options, writes and tells.
        size: Number of processes.
        restarts: How often torchrun has started them again.
    """

    rank = 0
    size = 1
    restarts = 0

    @property
    def description(self) -> str:
        """What goes before the description of the machine."""
        return ""

    @property
    def first(self) -> bool:
        """Whether this process decides, writes and tells."""
        return self.rank == 0

    def of_first(self, work: Callable[[], T]) -> T:
        """The result of work that the first process does while the others wait."""
        return work()

    def total(self, amount: float) -> float:
        """The sum of what each process gives."""
        return amount

    def clock(self, before: float) -> Clock:
        """A clock that shows all processes the same time; see ``Clock.tick``."""
        return Clock(before)

    def joined(self, step: nn.Module, batch: Batch, smoothing: float) -> nn.Module:
        """A module that computes ``step(batch, smoothing).smoothed`` so that the gradients become the mean.

        Args:
            step: The module; it has the same weights everywhere from now on.
            batch: Any batch, the same everywhere.
            smoothing: Its other argument.
        """
        return step

    def reducing(self, step: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Around the passes of a ``joined`` module: gradients are exchanged at the last of an update."""
        return nullcontext()

    def seed(self, seed: int, step: int) -> None:
        """Prepare the generators for the update after ``step``; one process just goes on drawing."""


class _Workers(Peers):
    """The processes that torchrun has started.

    Args:
        store: What they reach each other by.
        device: Where each of them computes.
    """

    def __init__(self, store: Store, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size = rank, size
        place = device if device.type == "cuda" else None
        backend = "nccl" if place else "gloo"
        dist.init_process_group(
            backend, store=PrefixStore("groups", store), rank=rank, world_size=size, device_id=place
        )
        self._hosts = dist.new_group(backend="gloo", timeout=PATIENCE)
        # Each machine counts for itself, and a new one has counted nothing.
        self.restarts = int(self.greatest(float(torchrun.restarts()))[0])

    @property
    def description(self) -> str:
        return f"{self.size} process{'es' if self.size > 1 else ''}, each: "

    def of_first(self, work: Callable[[], T]) -> T:
        result = [work() if self.first else None]
        dist.broadcast_object_list(result, src=0, group=self._hosts)
        return result[0]  # type: ignore[return-value]

    def greatest(self, *amounts: float) -> list[float]:
        """For each amount, the greatest that a process gives."""
        tensor = torch.tensor(amounts, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._hosts)
        return tensor.tolist()

    def total(self, amount: float) -> float:
        tensor = torch.tensor(amount, dtype=torch.float64)
        dist.all_reduce(tensor, group=self._hosts)
        return float(tensor)

    def clock(self, before: float) -> Clock:
        return _CommonClock(before, self)

    def joined(self, step: nn.Module, batch: Batch, smoothing: float) -> nn.Module:
        # Its hooks hang on the parameters, not on the copies that a step computes with.
        parallel = DistributedDataParallel(step, gradient_as_bucket_view=True)
        # After its first pass it puts the gradients in another order, in which sums are rounded otherwise.
        # With that pass here, an update is the same after a restart as it would have been without.
        parallel(batch, smoothing).smoothed.backward()
        parallel.zero_grad(set_to_none=True)
        return parallel

    def reducing(self, step: nn.Module, last: bool) -> AbstractContextManager[None]:
        assert isinstance(step, DistributedDataParallel)
        return nullcontext() if last else step.no_sync()

    def seed(self, seed: int, step: int) -> None:
        # Different dropout in each process, and no state of theirs to be saved.
        words = np.random.SeedSequence([seed, step, self.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))


class _CommonClock(Clock):
    """The clock of the first process, as all of them saw it at the last tick."""

    def __init__(self, before: float, workers: _Workers) -> None:
        super().__init__(before)
        self._workers, self._seen = workers, before

    @property
    def seconds(self) -> float:
        return self._seen

    def tick(self, asked: bool) -> bool:
        mine = super().seconds if self._workers.first else 0.0
        self._seen, anybody = self._workers.greatest(mine, float(asked))
        return bool(anybody)


@contextmanager
def together(device: Device) -> Iterator[Peers]:
    """The processes of the training that this one is a part of.

    Args:
        device: The option.

    Raises:
        S2SError: An error in one of them; in all but one as ``ToldElsewhere``. Also if another process
            has ended or cannot be reached, or if there are fewer GPUs than processes.
    """
    if not torchrun.launched():
        yield Peers()
        return
    store, rank, size = next(rendezvous("env://"))
    store = _met(store, rank, size)
    try:
        workers = _Workers(store, rank, size, _own_device(device))
        yield workers
    except UsageError:
        _speaks(store)  # where only the first one sees it, the others need not tell that it has ended
        raise
    except Exception as error:
        torchrun.hear_out()
        if not _speaks(store):
            raise torchrun.ToldElsewhere(str(error)) from error
        if _lost(error):
            raise S2SError(
                "another process of this training has ended or cannot be reached",
                where=f"process {rank} of {size}",
                hint="Look above for what ended it. The same command with --resume goes on; with torchrun "
                "--max-restarts 3 that happens by itself.",
            ) from error
        raise
    workers.total(0.0)  # whoever leaves first would look lost to those still listening
    dist.destroy_process_group()


def _met(store: Store, rank: int, size: int) -> Store:
    """The part of the store for those that torchrun has started this time.

    torchrun keeps the store when it starts processes again, and in it the addresses of the dead, at which
    the others would wait for them. Nor do all machines count the same number of starts. So each process
    asks with a word of its own for the name of its part, until the first one answers to that very word;
    and that one answers until all have taken the name that it has just made up.
    """
    word = uuid.uuid4().hex

    def read(key: str) -> str:
        return store.get(key).decode() if store.check([key]) else ""

    if rank:
        store.set(f"ask/{rank}", word)
        while (answer := read(f"answer/{rank}").split())[:1] != [word]:
            time.sleep(0.02)
        store.set(f"taken/{rank}", answer[1])
        return PrefixStore(answer[1], store)
    missing = list(range(1, size))
    while missing:
        for other in missing:
            store.set(f"answer/{other}", f"{read(f'ask/{other}')} {word}")
        time.sleep(0.02)
        missing = [other for other in missing if read(f"taken/{other}") != word]
    return PrefixStore(word, store)


def _speaks(store: Store) -> bool:
    """Whether this process is the first to have an error to tell."""
    try:
        return int(store.add("errors", 1)) == 1
    except RuntimeError:  # whoever kept the store has gone: better twice than never
        return True


def check_same(peers: Peers, seen: object, run: Path) -> None:
    """Wait until all processes have looked, and refuse if one sees something else in the run folder.

    Raises:
        S2SError: One does, in all of them.
    """
    first = peers.of_first(lambda: seen)
    if peers.total(float(seen != first)):
        what = "not all processes see the same data and the same checkpoint in this folder"
        raise S2SError(
            what, where=str(run), hint="All machines need the same folder, on a disk that they share."
        )


def _own_device(device: Device) -> torch.device:
    """The device of this process: under torchrun each has a GPU of its own."""
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    place = torch.device(
        "cuda", own_gpu(torchrun.local_rank(), torchrun.local_size(), torch.cuda.device_count())
    )
    torch.cuda.set_device(place)  # "cuda" without a number means this one from now on
    return place


def own_gpu(rank: int, size: int, gpus: int) -> int:
    """The number of the GPU for process ``rank`` of ``size`` on a machine with ``gpus``.

    Raises:
        S2SError: There are not enough.
    """
    if size > gpus:
        what = f"torchrun has started {size} processes on a machine with {gpus} GPU{'s' if gpus > 1 else ''}"
        raise S2SError(what, hint=f"Use torchrun --nproc-per-node {gpus}, or s2s train --device cpu.")
    return rank


def _lost(error: Exception) -> bool:
    """Whether an error says that a process cannot be reached; gloo has no class for it, only its name."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
