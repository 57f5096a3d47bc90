"""The run folder: its lock, and the exchange of its data, which if interrupted leaves the old or the new."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from s2scli.errors import S2SError, UsageError
from s2scli.files import HAS_LOCKS, lock, os_error

MODELS = ("state", "best", "last", "seeds", "tensorboard", "metrics.jsonl", "report.html")
"""What a training and its report leave beside ``data``, and what new data make stale.

In the order of its removal: a state without its models would be taken for a training to go on with.
"""
_ASIDE, _WHOLE, _GONE = ".s2s-replaced", ".s2s-replaced-whole", ".s2s-removed"
"""Folder with the models of a run that are about to be replaced: with some, with all, and with all when the
new ones are there. Its name is what a command that comes after a kill goes by."""
_NEW, _OLD = ".s2s-data", ".s2s-replaced-data"
"""Folder with data that are being made, and with the data and models that they are about to replace."""
_LOCK = ".lock"


@contextmanager
def new_data(run: Path, *, force: bool, inputs: Sequence[Path] = ()) -> Iterator[Path]:
    """An empty folder that becomes ``<run>/data`` if the block succeeds.

    Only then are the old data and the models that were trained on them removed. A command
    that was killed in the middle of this is mended by the next one.

    Args:
        run: Run folder; made if there is none.
        force: Replace data and models that exist.
        inputs: Files that will be read, to refuse those that would be replaced.

    Raises:
        S2SError: Something exists and ``force`` is false, a training is running in it, or the folder cannot
            be written.
        UsageError: An input inside the folder to be replaced.
    """
    _check_name(run)
    data, partial, replaced = run / "data", run / _NEW, run / _OLD
    for path in inputs:
        if path.resolve().is_relative_to(data.resolve()) or any(
            _same(data, at) for at in path.resolve().parents
        ):
            what = f"{path} lies in the folder that is to be written"
            raise UsageError(what, where="--run", hint="Choose another run folder, or move the file.")
    with ExitStack() as held:
        try:
            fresh = not run.exists()
            run.mkdir(parents=True, exist_ok=True)
            held.enter_context(_locked_with_seeds(run))
            _settle(run)
            settle_models(run)
            _remove(partial)
            present = [name for name in ("data", *MODELS) if _exists(run / name)]
            if present and not force:
                what = f"the run folder holds {', '.join(present)} already"
                hint = "Choose another --run, or replace them with --force."
                raise S2SError(what, where=str(run), hint=hint)
            partial.mkdir()
        except OSError as error:
            raise os_error(error, error.filename or run) from error
        try:
            yield partial
            try:
                # The data go aside first and come in last. So there are never new data beside old models, nor
                # old data without their models, but for a moment no data; and that there are none tells
                # `_settle` that this was cut off, and that all of the old is put aside or in its place.
                replaced.mkdir()
                for name in ("data", *MODELS):
                    if _exists(run / name):
                        (run / name).rename(replaced / name)
                partial.rename(data)
            finally:
                _settle(run)
        except OSError as error:
            raise os_error(error, error.filename or run) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            with suppress(OSError):  # the error that led here is what matters
                if fresh and [path.name for path in run.iterdir()] == [_LOCK]:
                    (run / _LOCK).unlink()
                    run.rmdir()


def check_data_are_ours(run: Path) -> None:
    """Refuse to replace a folder ``data`` in which there is nothing that preprocessing writes.

    Raises:
        S2SError: It is somebody's own.
    """
    folder = run / "data"
    ours = [(folder / name).exists() for name in ("report.json", "tokenizer.json")]
    if folder.is_dir() and not any(ours) and any(folder.iterdir()):
        what = "this folder is not of a run, and would be replaced"
        raise S2SError(what, where=str(folder), hint="Choose another --run.")


def data_folder(run: Path) -> Path:
    """The preprocessed data that a run folder works on: its own, or for one of several seeds those of all."""
    own, above = run / "data", Path(os.path.realpath(run)).parent
    if own.is_dir() or above.name != "seeds" or not (above.parent / "data").is_dir():
        return own
    return above.parent / "data"


def trained(run: Path) -> bool:
    """Whether a training has left its state or a model in a run folder, or in that of one of its seeds."""
    files = (
        run / "state" / "training.safetensors",
        *(run / n / "model.safetensors" for n in ("best", "last")),
    )
    return any(path.exists() for path in files) or any(trained(member) for member in members(run))


def members(run: Path) -> list[Path]:
    """The folders of the seeds that a run was trained with, in numeric order; none if it was with one."""
    return sorted((p for p in run.glob("seeds/*") if p.name.isdecimal()), key=lambda p: int(p.name))


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other commands that write out of a run folder; the lock ends with the process, however it ends.

    Raises:
        S2SError: Another one is at work.
        UsageError: As `_check_name`.
    """
    _check_name(run)
    if not HAS_LOCKS:  # an open file would keep its folder from being moved
        yield
        return
    with (run / _LOCK).open("ab") as file:
        if not lock(file):
            hint = "Wait for it or stop it, or use another folder (--run)."
            raise S2SError(
                "another training or preprocessing is running in this folder", where=str(run), hint=hint
            )
        yield


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """As `locked`, with what a killed command has left mended; nothing if this is not surely a run folder.

    Raises:
        S2SError: Another one is at work.
        UsageError: As `_check_name`.
    """
    exchanging = not _exists(run / "data") and (run / _OLD / "data" / "report.json").exists()
    if not exchanging and not (data_folder(run) / "report.json").exists():
        yield
        return
    with locked(run):
        try:
            if exchanging:
                _settle(run)
            settle_models(run)
        except OSError as error:
            raise os_error(error, error.filename or run) from error
        yield


def _same(one: Path, other: Path) -> bool:
    """Whether both are there and the same, whatever their names are (some file systems ignore case)."""
    with suppress(OSError):
        return one.samefile(other)
    return False


def _check_name(run: Path) -> None:
    """UsageError for a name that is no text, under which models could be written but not read."""
    try:
        str(run).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError("the name is not UTF-8", where=f"--run {run}", hint="Choose another.") from error


@contextmanager
def _locked_with_seeds(run: Path) -> Iterator[None]:
    """Keep other commands out of a run folder and out of those of its seeds."""
    with ExitStack() as stack:
        stack.enter_context(locked(run))
        for member in members(run):
            if (member / _LOCK).exists():  # there was a training, and may be still
                stack.enter_context(locked(member))
        yield


def _settle(run: Path) -> None:
    """End an exchange: with data in place what they replaced goes; without, it all comes back."""
    replaced = run / _OLD
    if not replaced.is_dir():
        return
    if not _exists(run / "data"):
        for name in (*MODELS, "data"):  # the data last, in case this too is cut off
            if _exists(replaced / name):
                (replaced / name).rename(run / name)
    _remove(replaced)


@contextmanager
def replacing_models(run: Path) -> Iterator[None]:
    """Put the models and the training state of a run aside, but not its data; the run must be locked.

    They go if the block succeeds, and come back if it does not.

    Raises:
        S2SError: One of several seeds is just being trained.
    """
    aside, whole, moved = run / _ASIDE, run / _WHOLE, False
    settle_models(run)
    with ExitStack() as stack:
        for member in members(run):
            stack.enter_context(locked(member))
        aside.mkdir()
        try:
            _move(run, aside)
            moved = True
        finally:
            if not moved:
                _move(aside, run)
                aside.rmdir()
    aside.rename(whole)
    try:
        yield
    except BaseException:
        settle_models(run)
        raise
    whole.rename(run / _GONE)
    _remove(run / _GONE)


def settle_models(run: Path) -> None:
    """End what `replacing_models` has not: what it put aside comes back, unless the new is there already."""
    aside, whole = run / _ASIDE, run / _WHOLE
    _remove(run / _GONE)
    if whole.is_dir():
        for name in MODELS:  # of what should have come
            _remove(run / name)
        whole.rename(aside)
    if aside.is_dir():
        for name in MODELS:
            if _exists(aside / name):
                _remove(run / name)
        _move(aside, run)
        _remove(aside)


def _move(from_folder: Path, to_folder: Path) -> None:
    for name in MODELS:
        if _exists(from_folder / name):
            # Not all file systems can rename a folder: then it is copied.
            shutil.move(from_folder / name, to_folder / name)


def _exists(path: Path) -> bool:
    """Whether the name is taken, be it by a link that leads nowhere."""
    return path.exists() or path.is_symlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
