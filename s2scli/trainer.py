"""A model in training: what an update does, and the state that a checkpoint holds."""

from __future__ import annotations

import copy
import math
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
    best_step: int | None = None
    waited: int = 0
    """Validations since the best."""
    elapsed: float = 0.0
    """Seconds, over all resumed parts."""
    reserve: float = 0.0
    """Seconds that the last validation took, and the next will take."""
    ended: str | None = None
    """Why the training ended, if it has."""

    def check(self) -> None:
        """Raise ValueError, or UsageError, if one of the values is not what it should be."""
        for name, kind in get_type_hints(Position).items():
            value = convert(getattr(self, name), kind, name)
            least = -math.inf if name == "best_score" else 0
            if isinstance(value, (int, float)) and not least <= value < 2**63:
                raise ValueError(f"{name}: {value} is out of range")


_AVERAGE_EVERY = 4
"""Updates from one to the next that the moving average takes in: each costs a pass over all weights…"""
_AVERAGE_ALL = 40
"""…but of the first so many it takes in each, and of all where it forgets as fast as that."""


class TrainingStep(nn.Module):
    """The loss of a batch as a module whose parameters are the model's own.

    DistributedDataParallel wraps a module, and a step calls the model on copies of its weights.
    """

    def __init__(self, model: Seq2Seq, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, batch: Batch, smoothing: float) -> Loss:
        """The loss, computed with ``Seq2Seq.step_weights``."""
        weights = self.model.step_weights(self.dtype)
        # None of them is tied to another, and looking for that takes a while.
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
        self.model.compute_with(native.lstm, native.output)
        self.parameters = list(self.model.parameters())
        self.averaged: Seq2Seq | None = None
        if self.options.average == "ema":
            self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        kind = torch.optim.AdamW if self.options.optimizer == "adamw" else torch.optim.Adam
        self.optimizer = kind(
            self.parameters,
            betas=(0.9, 0.98),
            eps=1e-9,
            # Adam's would be another: added to the gradient.
            weight_decay=self.options.weight_decay if kind is torch.optim.AdamW else 0.0,
            fused=True,
        )
        self.batches = TrainingBatches(
            data, self.options.batch_tokens or 1, self.options.seed, rank=peers.rank, size=peers.size
        )
        self.position = Position()
        any_pair = self.batches.load_all(np.zeros(1, dtype=np.int64)).to(runtime.device)
        step = TrainingStep(self.model, runtime.dtype)
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
        self.model.train()
        self.peers.seed(self.options.seed, self.position.step)
        total = torch.zeros((), device=self.runtime.device)
        for i, batch in enumerate(batches, 1):
            with self.peers.reducing(self.step, i == len(batches)):
                loss = self.step(batch.to(self.runtime.device), self.options.label_smoothing)
                # What is exchanged is the mean over the processes, and the sum is wanted.
                (loss.smoothed * self.peers.size / tokens).backward()
            total += loss.plain
        norm = self._clip(self.options.clip_norm or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        often = self.position.step < _AVERAGE_ALL or self.options.ema_decay < 1 - 1 / _AVERAGE_ALL
        every = 1 if often else _AVERAGE_EVERY
        if self.averaged is not None and self.position.step % every == 0:
            self._take_in(self.averaged, every)
        return total, norm

    @torch.no_grad()
    def _take_in(self, averaged: Seq2Seq, updates: int) -> None:
        """Move the average on: decay d an update, or (1+n)/(10+n) while n updates make that less."""
        n = self.position.step
        keep = min(self.options.ema_decay, (1 + n) / (10 + n)) ** updates
        # It begins as the first update, so that it is never a model that has learnt nothing.
        old, new = list[Tensor](averaged.parameters()), list[Tensor](self.parameters)
        torch._foreach_lerp_(old, new, 1 - keep if n else 1.0)

    def _clip(self, limit: float) -> Tensor:
        """Shorten the whole gradient to a norm; returns the norm that it had."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if self.runtime.device.type == "cpu":  # the same, in less than half of the time
            squares = [torch.dot(flat, flat) for flat in map(torch.flatten, gradients)]
            norm = torch.stack(squares).sum().sqrt()
        else:
            norm = torch.nn.utils.get_total_norm(gradients)
        # A GPU would have to be waited for. A CPU is spared a pass over all gradients, most of the time.
        if norm.device.type != "cpu" or not norm <= limit:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return norm

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
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(progress)

    @property
    def final_model(self) -> Seq2Seq:
        """The model that is validated and kept: the averaged one, if there is an average."""
        return self.model if self.averaged is None else self.averaged

    # What is kept on disk

    def save(self) -> None:
        """Write the last model and the training state, if this is the first process."""
        if not self.peers.first:
            return
        if self.position.step:  # what has learnt nothing is no model, only a state to begin from
            checkpoint.save_weights(self.folder / "last", self.final_model)
        tensors = {f"model.{n}": p for n, p in checkpoint.unique_weights(self.model).items()}
        if self.averaged is not None:
            tensors |= {f"average.{n}": p for n, p in checkpoint.unique_weights(self.averaged).items()}
        for i, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items()}
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

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        checkpoint.load_weights(self.model, part("model."), path)
        if self.averaged is not None:
            checkpoint.load_weights(self.averaged, part("average."), path)
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part("optimizer.").items():
            i, key = name.split(".", 1)
            state.setdefault(int(i), {})[key] = tensor
        # The optimiser would take any, and read memory that is not its own.
        for number, values in state.items():
            shapes = {name: tuple(value.shape) for name, value in values.items()}
            whole = tuple(self.parameters[number].shape)
            if shapes != {"step": (), "exp_avg": whole, "exp_avg_sq": whole}:
                raise ValueError(f"the optimiser's state of weight {number}")
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        torch.set_rng_state(tensors["random"])
        if "random.cuda" in tensors and self.runtime.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["random.cuda"], self.runtime.device)
        self.position = Position(**progress["position"])
        self.position.check()
