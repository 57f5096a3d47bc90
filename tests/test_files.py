from __future__ import annotations

import os
from pathlib import Path

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
    with pytest.raises(S2SError, match="no such file or directory") as caught:
        write_text_atomic(tmp_path / "no" / "file", "x")
    assert caught.value.where == str(tmp_path / "no" / "file")


def test_system_errors_say_what_to_do() -> None:
    error = os_error(OSError(28, "No space left on device"), "/some/file")
    assert str(error) == "/some/file: no space left on device Free some space or write elsewhere."
    assert os_error(PermissionError(13, "Permission denied", "f")).where == "f"
