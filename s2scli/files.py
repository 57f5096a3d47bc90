"""Files that are whole or not there at all: written to a temporary name and moved into place."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from safetensors import SafetensorError

from s2scli.errors import S2SError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_PLAIN_WORDS = {
    errno.ENOSPC: ("the disk is full", "Free some space, or write to another disk."),
    errno.EDQUOT: ("your disk quota is used up", "Free some space, or write to another disk."),
    errno.EFBIG: ("the file would be larger than allowed", "See 'ulimit -f', or write to another disk."),
    errno.EACCES: ("permission denied", "Check who may read and write this path, or choose another."),
    errno.EPERM: ("the operation is not permitted", "Check who may write this path, or choose another."),
    errno.EROFS: ("the disk can only be read", "Choose a path on another disk."),
    errno.ENOENT: ("there is no such file or folder", "Check the path."),
    errno.EEXIST: ("something else has this name already", "Choose another name."),
    errno.EISDIR: ("this is a folder, and a file is needed", "Check the path."),
    errno.ENOTDIR: ("a part of this path is a file, and not a folder", "Check the path."),
    errno.ENAMETOOLONG: ("this name is too long", "Choose a shorter one."),
    errno.ELOOP: ("this link leads back to itself", "Check the path."),
    errno.EIO: ("the disk could not be read or written", "Check the disk."),
    errno.EMFILE: ("too many files are open", "See 'ulimit -n'."),
    errno.ENOMEM: ("there is not enough memory", "Close other programs, or use smaller sizes."),
}


def os_error(error: OSError, path: Path | str | None = None) -> S2SError:
    """An error of the operating system in plain words: what happened, where, and what to do.

    Args:
        error: The error.
        path: Where it happened; by default the file that the error itself names, if any.
    """
    where = path if path is not None else error.filename
    text = (error.strerror or str(error)).rstrip(".")
    # Lower-case "Bad address", but leave an abbreviation such as "RPC …" alone.
    text = text[:1].lower() + text[1:] if text[1:2].islower() else text
    what, hint = _PLAIN_WORDS.get(error.errno or 0, (text, None))
    return S2SError(what, where=None if where is None else str(where), hint=hint)


def check_place(path: Path, option: str) -> None:
    """Refuse, before anything is computed, the name of a file that could not be written there.

    Raises:
        S2SError: There is a folder of that name, or none for the file to stand in.
    """
    if path.is_dir() or not path.parent.is_dir():
        what = "this is a folder, and a file is needed" if path.is_dir() else "its folder does not exist"
        raise S2SError(what, where=str(path), hint=f"Choose another {option}.")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that becomes ``path`` if the block succeeds.

    On any exception the temporary file is removed and ``path`` is left as it was. Of a
    symbolic link the target is replaced, and the link stays. What is there and is no file,
    such as a pipe or ``/dev/null``, is given itself, to be written to and never replaced.

    Raises:
        S2SError: An operating system error (full disk, permissions, …) or a failed
            safetensors write inside the block or in the move. One that names another
            file is told of that file.
        BrokenPipeError: As it is, for whoever knows whose reader has gone.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        target = Path(os.path.realpath(path))
        if is_special(path):
            yield path
            return
        temporary = _temporary_file(target, path)
        yield temporary
        _publish(temporary)
        _sync(temporary)
        os.replace(temporary, target)
        temporary = None
        _sync_folder(target.parent)
    except BrokenPipeError:
        raise
    except OSError as error:
        ours = error.filename is None or str(error.filename) == str(temporary)
        raise os_error(error, path if ours else None) from error
    except SafetensorError as error:
        hint = "Is the disk full, or the folder not writable?"
        raise S2SError(f"the file could not be written: {error}", where=str(path), hint=hint) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether this is a pipe, a device or the like. OSError if it is a folder or cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    return not stat.S_ISREG(mode)


def _temporary_file(target: Path, path: Path) -> Path:
    """An empty file beside ``target``; an error is one of ``path``, the name that the user knows."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    except OSError as error:
        raise os_error(error, path) from error
    os.close(handle)
    return Path(name)


def _publish(path: Path) -> None:
    """Give a temporary file, which is private, the permissions that the user's umask gives any other result.

    When it is written: safetensors puts a private file of its own in the place of the one that it is given.
    """
    if os.name != "nt":
        with suppress(OSError):  # a file system without permissions
            path.chmod(0o666 & ~_umask())


HAS_LOCKS = fcntl is not None


def lock(file: IO[Any]) -> bool:
    """Keep other processes out until the file is closed; false if one of them is in already.

    Where the system or the file system has no locks, nobody is kept out.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Replace the content of a file, all or nothing. Raises S2SError as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text_atomic(path: Path, text: str) -> None:
    """Replace the content of a file by UTF-8 text, byte for byte as given (no change of line ends)."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: Path, value: Any) -> None:
    """Replace the content of a file by JSON that a person can read too."""
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    # A name of a file may hold bytes that are no text, and JSON has an escape for them.
    write_bytes_atomic(path, text.encode("utf-8", errors="backslashreplace"))


def _umask() -> int:
    """The umask of the process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Force a file or folder to the disk, so that a power cut cannot leave an empty file behind."""
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    """Force a move to the disk, where that is possible; the move itself is whole in any case."""
    if os.name == "nt":
        return  # folders cannot be opened there
    try:
        _sync(path)
    except OSError as error:
        # A file system that cannot sync a folder, or a folder that may be written but not read.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            raise
