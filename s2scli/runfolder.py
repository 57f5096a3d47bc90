"""The run folder and the exchange of its data: an interrupted command leaves the old or the new."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from s2scli.errors import S2SError, UsageError
from s2scli.files import os_error

MODELS = ("best", "last", "state", "metrics.jsonl")
"""What a training leaves beside ``data``, and what new data make stale."""


@contextmanager
def new_data(run: Path, *, force: bool, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """An empty folder that becomes ``<run>/data`` if the block succeeds.

    Only then are the old data and the models that were trained on them removed.

    Args:
        run: Run folder; made if there is none.
        force: Replace data and models that exist.
        inputs: Files that will be read, to refuse those that would be replaced.

    Raises:
        S2SError: Something exists and ``force`` is false, or the folder cannot be written.
        UsageError: An input inside the folder to be replaced.
    """
    data, partial, old = run / "data", run / "data.partial", run / "data.old"
    for path in inputs:
        if path.resolve().is_relative_to(data.resolve()):
            what = f"{path} lies in the folder that is to be written"
            raise UsageError(what, where="--run", hint="Choose another run folder, or move the file.")
    try:
        if old.is_dir() and not data.exists():
            old.rename(data)  # a command was killed between the two renames below
        present = [name for name in ("data", *MODELS) if (run / name).exists()]
        if present and not force:
            what = f"the run folder holds {', '.join(present)} already"
            raise S2SError(what, where=str(run), hint="Choose another --run, or replace them with --force.")
        fresh = not run.exists()
        run.mkdir(parents=True, exist_ok=True)
        _remove(partial)
        partial.mkdir()
    except OSError as error:
        raise os_error(error, error.filename or run) from error
    try:
        yield partial
        _remove(old)
        if data.exists():
            data.rename(old)
        try:
            partial.rename(data)
        except BaseException:
            if old.exists() and not data.exists():
                old.rename(data)
            raise
        for name in MODELS:
            _remove(run / name)
        _remove(old)
    except OSError as error:
        raise os_error(error, error.filename or run) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if fresh and run.is_dir() and not any(run.iterdir()):
            run.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
