"""Files that are whole or not there at all: written to a temporary name and moved into place."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from s2scli.errors import S2SError

_HINTS = {
    errno.ENOSPC: "Free some space or write elsewhere.",
    errno.EDQUOT: "Your quota is used up: free some space or write elsewhere.",
    errno.EFBIG: "The file is larger than the limit allows (see ulimit -f).",
    errno.EACCES: "Check the permissions of the file and its folder.",
    errno.EPERM: "Check the permissions of the file and its folder.",
    errno.EROFS: "The file system is read-only: write elsewhere.",
    errno.ENOENT: "Check the name.",
    errno.ENOTDIR: "A part of the path is a file, not a folder.",
    errno.EISDIR: "Give a file, not a folder.",
}


def os_error(error: OSError, path: Path | str | None = None) -> S2SError:
    """An error of the operating system as one that says where it happened and what to do."""
    where = path if path is not None else error.filename
    reason = (error.strerror or str(error)).rstrip(".")
    # Lower-case "No space left on device", but leave an abbreviation such as "RPC …" alone.
    reason = reason[:1].lower() + reason[1:] if reason[1:2].islower() else reason
    hint = _HINTS.get(error.errno) if error.errno is not None else None
    return S2SError(reason, where=None if where is None else str(where), hint=hint)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path`` that becomes ``path`` if the block succeeds.

    On any exception the temporary file is removed and ``path`` is left as it was.

    Raises:
        S2SError: An operating system error (full disk, permissions, …) or a failed
            safetensors write inside the block or in the move.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        # mkstemp makes the file private; a result should obey the user's umask like any other.
        os.fchmod(handle, 0o666 & ~_umask())
        os.close(handle)
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        temporary = None
        _sync(path.parent)
    except OSError as error:
        raise os_error(error, path) from error
    except SafetensorError as error:
        hint = "Is the disk full, or the folder not writable?"
        raise S2SError(f"the file could not be written: {error}", where=str(path), hint=hint) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_bytes_atomic(path: Path, content: bytes) -> None:
    """Replace the content of a file, all or nothing. Raises S2SError as `atomic_path` does."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text_atomic(path: Path, text: str) -> None:
    """Replace the content of a file by UTF-8 text, byte for byte as given (no change of line ends)."""
    write_bytes_atomic(path, text.encode("utf-8"))


def write_json_atomic(path: Path, value: Any) -> None:
    """Replace the content of a file by JSON that a person can read too."""
    write_text_atomic(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def _umask() -> int:
    """The umask of the process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    """Force a file or folder to the disk, so that a power cut cannot leave an empty file behind."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot sync a folder; the move itself is still atomic there.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
