"""A device that is not the CPU, for machines that have none.

It computes on the CPU and refuses what a GPU would. Its tensors claim to be on the device "meta" and hold
others that are on the CPU. As on a GPU, an operation takes tensors of one device only, and single numbers
from the CPU. What the host has to wait for is recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("meta")

_aten = torch.ops.aten
_TAKES_BOTH = (
    _aten._to_copy.default,
    _aten.copy_.default,
    _aten.index.Tensor,
    _aten.index_put_.default,
)
_WAITS = (_aten._local_scalar_dense.default, _aten.nonzero.default, _aten.equal.default)

waits: list[str] = []
"""What the host has waited for since somebody emptied the list."""


class OnDevice(Tensor):
    """A tensor of the device."""

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        sizes = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.size(), device=DEVICE, **sizes)
        made.inner = inner
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return OnDevice(self.inner.clone()).requires_grad_(self.requires_grad)

    def tolist(self) -> Any:
        waits.append("tolist")
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """New tensors are made on the device too, where that is asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    here = any(isinstance(x, OnDevice) for x in tensors)
    strange = [tuple(x.shape) for x in tensors if not isinstance(x, OnDevice) and x.dim()]
    if here and strange and func not in _TAKES_BOTH:
        raise RuntimeError(f"{func} of tensors on two devices; on the CPU: {strange}")
    stays, asked = here, kwargs.get("device")
    if asked is not None:
        stays = torch.device(asked) == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif func is _aten.copy_.default:
        stays = isinstance(args[0], OnDevice)
    if here and (func in _WAITS or not stays):
        waits.append(str(func))
    inner = tree_map_only(OnDevice, lambda x: x.inner, (args, kwargs))
    result = func(*inner[0], **inner[1])
    if not stays:
        return result
    result = tree_map_only(Tensor, OnDevice, result)
    return return_and_correct_aliasing(func, args, kwargs, result) if here else result


@contextmanager
def other_device() -> Iterator[None]:
    """Within, the device is there, and is the one that s2scli finds."""
    tensor, adamw = torch.tensor, torch.optim.AdamW
    swaps = torch.__future__.get_swap_module_params_on_conversion()

    def moved(data: Any, *, device: torch.device | None = None, **options: Any) -> Tensor:
        made = tensor(data, **options)
        return made if device is None else made.to(device)

    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with torch.backends.mkldnn.flags(enabled=False), pytest.MonkeyPatch.context() as patch, _Everywhere():
            # These look at the device themselves, before anything here is asked.
            patch.setattr(torch, "tensor", moved)
            patch.setattr(
                torch.optim, "AdamW", lambda p, fused, **options: adamw(p, foreach=False, **options)
            )
            patch.setattr("s2scli.runtime._device", lambda device: DEVICE)
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)
