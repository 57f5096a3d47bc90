"""Files of tensors (safetensors): written whole or not at all, read with a word on what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from s2scli.errors import S2SError
from s2scli.files import atomic_path, os_error


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors to a safetensors file, whole or not at all."""
    with atomic_path(path) as temporary:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, temporary, metadata)


_HINT = "It is truncated or damaged: copy it again, or go back to another model."


def load_tensors(path: Path, hint: str = _HINT) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file and its metadata; the tensors may lie in the file."""
    with opened(path, hint) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


@contextmanager
def opened(path: Path, hint: str = _HINT) -> Iterator[Any]:
    """A safetensors file to read from; ``hint`` is what to do where it is damaged.

    Raises:
        S2SError: It is missing or damaged, or may not be read.
    """
    if not path.is_file():
        raise S2SError("the file is missing", where=str(path))
    try:
        path.open("rb").close()  # safetensors says of every file that it may not read that there is none
    except OSError as error:
        raise os_error(error, path) from error
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        raise S2SError(f"the file cannot be read: {error}", where=str(path), hint=hint) from error
