"""A model in training: what an update does, and the state that a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from s2scli import checkpoint, native, trainingstate
from s2scli.dataset import TrainingBatches
from s2scli.distributed import Peers
from s2scli.errors import S2SError, UsageError
from s2scli.model import Batch, Seq2Seq
from s2scli.model.seq2seq import Loss
from s2scli.optimizer import Optimizer
from s2scli.recipe import Recipe
from s2scli.resolve import as_dict, convert
from s2scli.runtime import Runtime, seed_everything
from s2scli.shards import ParallelData


@dataclass(kw_only=True)
class Position:
    """Where a training stands: all of its state that is not a tensor."""

    step: int = 0
    epoch: int = 0
    cursor: int = 0
    """Batches of the epoch already seen."""
    best_score: float | None = None
    best_loss: float | None = None
    """Of the best model."""
    lowest_loss: float | None = None
    """Of any model."""
    best_step: int | None = None
    waited: int = 0
    """Validations since the best."""
    elapsed: float = 0.0
    """Seconds, over all resumed parts."""
    reserve: float = 0.0
    """Seconds that the last validation took, and the next will take."""
    validated_at: float = 0.0
    """Seconds, over all resumed parts, when the last validation ended."""
    ended: str | None = None
    """Why the training ended, if it has."""

    def check(self) -> None:
        """Raise ValueError, or UsageError, if one of the values is not what it should be."""
        for name, kind in get_type_hints(Position).items():
            value = convert(getattr(self, name), kind, name)
            least = -math.inf if name == "best_score" else 0
            if isinstance(value, (int, float)) and not least <= value < 2**63:
                raise ValueError(f"{name}: {value} is out of range")


class TrainingStep(nn.Module):
    """The loss of a batch as a module whose parameters are the model's own.

    DistributedDataParallel wraps a module, and a step calls the model on copies of its weights.
    """

    def __init__(self, model: Seq2Seq, dtype: torch.dtype, copies: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.model, self.dtype, self.copies = model, dtype, copies

    def forward(self, batch: Batch, smoothing: float) -> Loss:
        """The loss, computed with ``Seq2Seq.step_weights``."""
        weights = self.model.step_weights(self.dtype, self.copies)
        # Each name of a shared weight may have a leaf of its own, so they are not to be tied again.
        loss: Loss = functional_call(self.model, weights, (batch, smoothing), tie_weights=False)
        return loss


class Trainer:
    """A training in progress.

    Args:
        recipe: Its settings.
        data: The training pairs.
        folder: The run folder.
        runtime: Where to compute.
        fingerprint: Of the data, so that a training is not resumed on others.
        peers: The processes of this training.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: ParallelData,
        folder: Path,
        runtime: Runtime,
        fingerprint: str,
        peers: Peers,
    ) -> None:
        self.recipe, self.options = recipe, recipe.options
        self.fingerprint = fingerprint
        self.folder, self.runtime, self.peers = folder, runtime, peers
        seed_everything(self.options.seed)
        self.model = Seq2Seq(recipe.model).to(runtime.device)
        self.model.compute_with(native.lstm, native.linear, native.output)
        self.optimizer = Optimizer(self.model, self.options, runtime, alone=peers.size == 1)
        self.batches = TrainingBatches(
            data, self.options.batch_tokens or 1, self.options.seed, rank=peers.rank, size=peers.size
        )
        self.position = Position()
        any_pair = self.batches.load_all(np.zeros(1, dtype=np.int64)).to(runtime.device)
        step = TrainingStep(self.model, runtime.dtype, self.optimizer.copies)
        self.step = peers.joined(step, any_pair, self.options.label_smoothing)

    # What a step does

    def update(self, batches: list[Batch], tokens: int) -> tuple[Tensor, Tensor]:
        """One update on the mean loss of all target tokens of a group of batches.

        Args:
            batches: This process's share of them.
            tokens: Target tokens of all processes.

        Returns:
            The summed negative log-likelihood of ``batches`` and the norm of the whole gradient, on the
            device: nothing here waits for it.
        """
        if not self.model.training:  # to say so to each module takes a while
            self.model.train()
        self.peers.seed(self.options.seed, self.position.step)
        total = torch.zeros((), device=self.runtime.device)
        for i, batch in enumerate(batches, 1):
            with self.peers.reducing(self.step, i == len(batches)):
                loss = self.step(batch.to(self.runtime.device), self.options.label_smoothing)
                # What is exchanged is the mean over the processes, and the sum is wanted.
                (loss.smoothed * self.peers.size / tokens).backward()
            if len(batches) > 1:
                self.optimizer.add_up()
            total += loss.plain
        return total, self.optimizer.step(self.position.step)

    def learning_rate(self, progress: float) -> float:
        """The rate at the position's step, ``progress`` being the share of the training that is done."""
        step, warmup = self.position.step + 1, self.options.warmup_steps or 0
        # Warm-up and decay multiply, so that a training too short for its warm-up still anneals.
        peak = (self.options.learning_rate or 0.0) * min(1.0, step / max(1, warmup))
        match self.options.schedule:
            case "cosine":
                return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))
            case "linear":
                return peak * max(0.01, 1 - progress)
            case "inverse-sqrt":
                return peak * math.sqrt(max(1, warmup) / max(step, warmup, 1))
            case _:
                return peak

    def set_learning_rate(self, progress: float) -> None:
        """Set the rate of the next update."""
        self.optimizer.rate = self.learning_rate(progress)

    @property
    def final_model(self) -> Seq2Seq:
        """The model that is validated and kept: the averaged one, if there is an average."""
        return self.optimizer.averaged or self.model

    # What is kept on disk

    def save(self) -> None:
        """Write the last model and the training state, if this is the first process."""
        if not self.peers.first:
            return
        if self.position.step:  # what has learnt nothing is no model, only a state to begin from
            checkpoint.save_weights(self.folder / "last", self.final_model)
        tensors = self.optimizer.state(self.position.step)
        tensors["random"] = torch.get_rng_state()
        if self.runtime.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.runtime.device)
        progress = {
            "position": asdict(self.position),
            "options": as_dict(self.options),
            "chosen": sorted(self.recipe.chosen),
            "data": self.fingerprint,
        }
        trainingstate.save_state(self.folder / "state", tensors, progress)

    def restore(self) -> None:
        """Go back to the state that ``save`` has written."""
        path = self.folder / "state" / "training.safetensors"
        tensors, progress = trainingstate.load_state(self.folder / "state")
        try:
            self._restore(tensors, progress, path)
        except (LookupError, TypeError, ValueError, RuntimeError, UsageError) as error:
            hint = "Start anew with s2s train --force."
            what = f"the state of the training is damaged ({error})"
            raise S2SError(what, where=str(path), hint=hint) from error

    def _restore(self, tensors: dict[str, Tensor], progress: dict[str, Any], path: Path) -> None:
        self.optimizer.restore(tensors, path)
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors and self.runtime.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.runtime.device)
        self.position = Position(**progress["position"])
        self.position.check()
