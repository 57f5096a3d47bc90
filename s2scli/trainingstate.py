"""The training state beside the models of a run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from s2scli.checkpoint import FORMAT, check_format
from s2scli.errors import S2SError
from s2scli.tensorfiles import load_tensors, opened, save_tensors

_HINT = "It is truncated or damaged: start anew with s2s train --force."


def save_state(folder: Path, tensors: Mapping[str, Tensor], progress: Mapping[str, Any]) -> None:
    """The whole training state in one file, so that it can only be of one moment."""
    folder.mkdir(parents=True, exist_ok=True)
    # One key: safetensors writes several in random order, and equal states shall be equal files.
    metadata = {"state": json.dumps({"format": FORMAT, **progress})}
    save_tensors(folder / "training.safetensors", tensors, metadata)


def load_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What ``save_state`` has written.

    The tensors are copies: an optimiser takes them as they are, and the next checkpoint replaces their file.
    """
    path = folder / "training.safetensors"
    tensors, metadata = load_tensors(path, _HINT)
    return {name: tensor.clone() for name, tensor in tensors.items()}, _progress(metadata, path)


def read_progress(folder: Path) -> dict[str, Any]:
    """What ``save_state`` has written, but for the tensors."""
    path = folder / "training.safetensors"
    with opened(path, _HINT) as file:
        return _progress(file.metadata() or {}, path)


def _progress(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        progress: dict[str, Any] = json.loads(metadata["state"])
        version = progress["format"]
        if not (isinstance(progress["options"], dict) and isinstance(progress["chosen"], list)):
            raise TypeError
    except (KeyError, TypeError, ValueError) as error:
        raise S2SError("this is not the state of a training", where=str(path)) from error
    check_format(version, path)
    return progress


def remove_leftovers(run: Path) -> None:
    """Delete the temporary files of a writer that was killed, but nobody else's."""
    left = [path for name in ("metrics.jsonl", "report.html") for path in run.glob(f".{name}.*.tmp")]
    for folder in (run / "best", run / "last", run / "state"):
        left += [*folder.glob(".*.tmp"), *folder.glob(".tmp*")]  # ours, and those of safetensors
    for path in left:
        if path.is_file():
            path.unlink()
