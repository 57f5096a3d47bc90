from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from s2scli.errors import S2SError
from s2scli.files import atomic_path, os_error, write_json_atomic, write_text_atomic


def test_text_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text_atomic(path, "a\r\nb\u2028\n각")
    assert path.read_bytes() == "a\r\nb\u2028\n각".encode()
    write_json_atomic(path, {"k": "각"})
    assert path.read_text(encoding="utf-8") == '{\n  "k": "각"\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text_atomic(tmp_path / "file", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device"), S2SError),
        (SafetensorError("I/O error"), S2SError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (ValueError("x"), ValueError),
    ],
)
def test_a_failure_leaves_the_old_file_alone(
    tmp_path: Path, error: BaseException, expected: type[BaseException]
) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the ne")
            raise error

    with pytest.raises(expected) as caught:
        write()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    if isinstance(caught.value, S2SError):
        assert caught.value.where == str(path)
        assert caught.value.hint


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(S2SError, match="there is no such file or folder") as caught:
        write_text_atomic(tmp_path / "no" / "file", "x")
    assert caught.value.where == str(tmp_path / "no" / "file")


def test_system_errors_say_what_to_do() -> None:
    error = os_error(OSError(28, "No space left on device"), "/some/file")
    assert str(error) == "/some/file: the disk is full. Free some space, or write to another disk."
    assert os_error(PermissionError(13, "Permission denied", "f")).where == "f"
    assert str(os_error(OSError(14, "Bad address."))) == "bad address"
    assert str(os_error(OSError(5000, "RPC failure"))) == "RPC failure"


def test_a_broken_pipe_passes_through(tmp_path: Path) -> None:
    error = BrokenPipeError(32, "Broken pipe")
    with pytest.raises(BrokenPipeError) as caught, atomic_path(tmp_path / "file"):
        raise error
    assert caught.value is error
    assert not list(tmp_path.iterdir())


def test_an_error_of_another_file_is_told_of_that_file(tmp_path: Path) -> None:
    with pytest.raises(S2SError) as caught, atomic_path(tmp_path / "file"):
        (tmp_path / "other").read_bytes()
    assert caught.value.where == str(tmp_path / "other")


def test_the_temporary_name_is_not_told(tmp_path: Path) -> None:
    def write() -> None:
        with atomic_path(tmp_path / "file") as temporary:
            temporary.unlink()
            temporary.read_bytes()

    with pytest.raises(S2SError) as caught:
        write()
    assert caught.value.where == str(tmp_path / "file")
    assert not list(tmp_path.iterdir())


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link, loose = tmp_path / "folder" / "target", tmp_path / "link", tmp_path / "loose"
    target.write_text("old")
    link.symlink_to("folder/target")
    loose.symlink_to("folder/new")
    for path in (link, loose):
        write_text_atomic(path, "text")
        assert path.is_symlink()
        assert path.read_text() == "text"
    assert sorted(p.name for p in (tmp_path / "folder").iterdir()) == ["new", "target"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(S2SError, match="leads back to itself"):
        write_text_atomic(tmp_path / "loop", "text")


def test_what_is_no_file_is_written_to_directly(tmp_path: Path) -> None:
    write_text_atomic(Path(os.devnull), "text")
    assert not Path(os.devnull).is_file()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_text_atomic(tmp_path / "pipe", "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(S2SError, match="this is a folder") as caught:
        write_text_atomic(tmp_path, "text")
    assert caught.value.where == str(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_system_without_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2scli.files.os", Windows())
    write_text_atomic(tmp_path / "file", "text")
    assert (tmp_path / "file").read_text() == "text"


class Windows:
    """The module os as it is there: by name, without fchmod, and folders cannot be opened."""

    name = "nt"

    def __getattr__(self, name: str) -> Any:
        assert name != "fchmod"
        return getattr(os, name)

    def open(self, path: Path, flags: int) -> int:
        assert not path.is_dir()
        return os.open(path, flags)
