"""How the weights of a model move: Adam, a gradient that is clipped, and an average that follows."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from s2scli import checkpoint, native
from s2scli.config import TrainOptions
from s2scli.model import Seq2Seq
from s2scli.native.adam import Adam, Moved
from s2scli.runtime import Runtime

_AVERAGE_EVERY = 4
"""Updates from one to the next that the moving average takes in: each costs a pass over all weights…"""
_AVERAGE_ALL = 40
"""…but of the first so many it takes in each, and of all where it forgets as fast as that."""


class Optimizer:
    """Adam over all weights of a model.

    torch's own holds the state. The passes over all weights are one on a CPU where kernels of ours are built.

    Args:
        model: What is trained.
        options: Of the training.
        runtime: Where to compute.
        alone: Whether in this process alone. Else torch does it all: the others may have other kernels, whose
            last digits differ, and shall have gradients to exchange before all are made.

    Attributes:
        parameters: The model's.
        averaged: The model of averaged weights, if there is an average.
        copies: For ``Seq2Seq.step_weights``: weights in the number format of a step, kept up to date. Theirs
            are the gradients then, as they are: each pass over all of them in fp32 would cost a percent.
        rate: The learning rate of the next update.
    """

    def __init__(self, model: Seq2Seq, options: TrainOptions, runtime: Runtime, *, alone: bool) -> None:
        self._model, self._options = model, options
        self.parameters = list(model.parameters())
        self.averaged: Seq2Seq | None = None
        if options.average == "ema":
            self.averaged = copy.deepcopy(model).requires_grad_(False)
        kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
        self._torch = kind(
            self.parameters,
            betas=(0.9, 0.98),
            eps=1e-9,
            # Adam's would be another: added to the gradient.
            weight_decay=options.weight_decay if kind is torch.optim.AdamW else 0.0,
            fused=True,
        )
        self.rate = 0.0
        library = native.kernels() if alone and runtime.device.type == "cpu" else None
        self.copies: dict[str, Tensor] = {}
        self._leaves: dict[Tensor, list[Tensor]] = {weight: [] for weight in self.parameters}
        if library is not None and runtime.dtype == torch.bfloat16:
            self._copy(runtime.dtype)
        self._library = library
        self._kernel: Adam | None = None
        self._begin()

    def _copy(self, number: torch.dtype) -> None:
        """Make room for a copy of each of ``cast_weights``, and for each of its names a leaf of autograd.

        Embeddings have sparse gradients then: a batch looks up few of their rows, and to write all of them,
        and add them to those of an output layer that shares them, took a twentieth of a small update. The
        optimiser adds rows in fp32; encoder and decoder with one embedding have theirs added by autograd.
        """
        for name, weight in self._model.cast_weights():
            leaves = self._leaves[weight]
            copied = leaves[0] if leaves else torch.empty_like(weight, dtype=number)
            leaves.append(copied.detach().requires_grad_())
            self.copies[name] = leaves[-1]
        for module in self._model.modules():
            if isinstance(module, nn.Embedding):
                module.sparse = True

    @torch.no_grad()
    def _begin(self) -> None:
        """Let the copies, and the kernel, know the weights and the state that there are now."""
        for weight, leaves in self._leaves.items():
            for copied in leaves[:1]:
                copied.copy_(weight)
        if self._library is not None:
            given = self._torch.defaults
            betas, epsilon, decay = given["betas"], given["eps"], given["weight_decay"]
            self._kernel = Adam(self._library, self._moved(), betas=betas, epsilon=epsilon, decay=decay)

    def _moved(self) -> list[Moved]:
        """The weights with their moments, which are 0 at first, as torch's would be."""
        averages: list[Tensor | None] = [None] * len(self.parameters)
        if self.averaged is not None:
            averages = [*self.averaged.parameters()]
        moved = []
        for parameter, average in zip(self.parameters, averages, strict=True):
            state = self._torch.state[parameter]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = (torch.zeros_like(parameter) for _ in range(2))
            moments = {"first": state["exp_avg"], "second": state["exp_avg_sq"]}
            leaves = self._leaves[parameter]
            copied = leaves[0].detach() if leaves else None
            moved.append(Moved(weight=parameter, **moments, average=average, copy=copied, leaves=leaves))
        return moved

    def add_up(self) -> None:
        """Add the gradients of copies to those of their weights, in fp32: more will come before the step."""
        for weight, leaves in self._leaves.items():
            for leaf in leaves:
                if leaf.grad is not None:
                    found = leaf.grad.float()
                    weight.grad = found.to_dense() if weight.grad is None else weight.grad.add_(found)
                    leaf.grad = None

    def step(self, done: int) -> Tensor:
        """Move the weights by their gradients, which are gone then.

        Args:
            done: Updates before this one.

        Returns:
            The norm of the whole gradient, on the device: nothing here waits for it.
        """
        limit, keep = self._options.clip_norm or math.inf, self._keep(done)
        if self._kernel is not None:
            norm = self._kernel.step(done + 1, self.rate, limit, keep)
        else:
            norm = self._clip(limit)
            for group in self._torch.param_groups:
                group["lr"] = self.rate
            self._torch.step()
            if self.averaged is not None and keep is not None:
                self._take_in(self.averaged, keep)
        for held in (*self.parameters, *self.copies.values()):
            held.grad = None
        return norm

    def _keep(self, done: int) -> float | None:
        """What the average keeps of itself: d an update, or (1+n)/(10+n) while n updates make that less."""
        decay = self._options.ema_decay
        every = 1 if done < _AVERAGE_ALL or decay < 1 - 1 / _AVERAGE_ALL else _AVERAGE_EVERY
        if self.averaged is None or done % every:
            return None
        # It begins as the first update, so that it is never a model that has learnt nothing.
        return float(min(decay, (1 + done) / (10 + done)) ** every) if done else 0.0

    @torch.no_grad()
    def _take_in(self, averaged: Seq2Seq, keep: float) -> None:
        torch._foreach_lerp_(list[Tensor](averaged.parameters()), list[Tensor](self.parameters), 1 - keep)

    def _clip(self, limit: float) -> Tensor:
        """Shorten the whole gradient to a norm; returns the norm that it had."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if gradients and gradients[0].device.type == "cpu":  # the same, in less than half of the time
            norm = torch.stack([torch.dot(flat, flat) for flat in map(torch.flatten, gradients)]).sum().sqrt()
        else:
            norm = torch.nn.utils.get_total_norm(gradients)
        # A GPU would have to be waited for. A CPU is spared a pass over all gradients, most of the time.
        if norm.device.type != "cpu" or not norm <= limit:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, limit, norm)
        return norm

    def state(self, done: int) -> dict[str, Tensor]:
        """Weights, their average and Adam's state after so many updates, by their names in a checkpoint.

        They are those that the next update changes, not copies.
        """
        tensors = {f"model.{n}": p for n, p in checkpoint.unique_weights(self._model).items()}
        if self.averaged is not None:
            tensors |= {f"average.{n}": p for n, p in checkpoint.unique_weights(self.averaged).items()}
        for i, values in self._torch.state_dict()["state"].items():
            if self._kernel is not None:
                values["step"].fill_(done)  # nobody has counted them there
            tensors |= {f"optimizer.{i}.{name}": value for name, value in values.items()}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        """Go back to a `state`.

        Args:
            tensors: A checkpoint's, of which all that belong to the state are taken.
            path: Where they are from.

        Raises:
            LookupError, ValueError, S2SError: They do not fit.
        """

        def part(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        checkpoint.load_weights(self._model, part("model."), path)
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
        self._torch.load_state_dict({**self._torch.state_dict(), "state": state})
        self._begin()
