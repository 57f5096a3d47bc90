"""A translation into a file can be killed at any moment and resumed; a whole file or the old one is there."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import quiet, run_s2s

from s2scli.errors import S2SError
from s2scli.events import Event, Notice
from s2scli.resumable import Partial, resumable
from s2scli.translator import Translator

SETTINGS = {"beam": 1}


def lines(count: int) -> str:
    draw = random.Random(4)
    return "".join(" ".join(draw.choices("abcdefgh", k=draw.randint(1, 6))) + "\n" for _ in range(count))


@pytest.fixture
def interrupted(trained: Path, tmp_path: Path) -> list[object]:
    """The arguments of a translation that was killed once it had noted how far it had come."""
    (tmp_path / "in").write_text(lines(20_000))
    # Small batches, so that it takes a while.
    arguments: list[object] = ["translate", "--run", trained, "--beam", 1, "--threads", 1]
    arguments += ["--precision", "fp32", "--batch-size", 8, "-i", tmp_path / "in", "-o", tmp_path / "out"]
    with subprocess.Popen(
        [sys.executable, "-m", "s2scli", *map(str, arguments)], env=quiet(), stderr=subprocess.PIPE
    ) as running:
        note, deadline = tmp_path / ".out.partial.json", time.monotonic() + 120
        while not note.exists() and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        running.kill()
    assert note.exists() and not (tmp_path / "out").exists()
    return arguments


def test_killed_and_resumed_is_never_killed(interrupted: list[object], tmp_path: Path) -> None:
    refused = run_s2s(*interrupted)
    assert refused.returncode == 1
    assert "interrupted" in refused.stderr and "--resume" in refused.stderr and "--force" in refused.stderr

    other = run_s2s(*interrupted, "--resume", "--length-penalty", 0.5)
    assert other.returncode == 2
    assert "length_penalty" in other.stderr

    text = (tmp_path / "in").read_text()
    (tmp_path / "in").write_text("h" + text[1:])
    changed = run_s2s(*interrupted, "--resume")
    assert changed.returncode == 1
    assert "lines are not those" in changed.stderr

    (tmp_path / "in").write_text(text)
    done = json.loads((tmp_path / ".out.partial.json").read_text())["lines"]
    assert 0 < done < 20_000
    resumed = run_s2s(*interrupted, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    whole = [*interrupted[:-1], tmp_path / "whole"]
    assert run_s2s(*whole).returncode == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "whole"]

    again = run_s2s(*interrupted, "--resume")
    assert again.returncode == 0
    assert "nothing left to do" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--resume"], "--output"),
        (["--resume", "--force", "-o", "out"], "--force"),
        (["--resume", "-o", "out", "--attention-plot", "a.svg"], "--attention-plot"),
    ],
)
def test_resume_is_refused_where_it_means_nothing(
    trained: Path, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = run_s2s("translate", "--run", trained, *arguments, stdin="a\n", cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr


def test_one_file_has_one_use(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b\n")
    (tmp_path / "link").symlink_to("in")
    for arguments, said in (
        (["-i", "in", "-o", "link"], "--output link: this is the file of --input too"),
        (["-i", "in", "-o", "x.html", "--attention-plot", "./x.html"], "this is the file of --output too"),
        (["-i", "in", "--attention-plot", "in"], "this is the file of --input too"),
    ):
        done = run_s2s("translate", "--run", trained, "--force", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and said in " ".join(done.stderr.split())
    assert (tmp_path / "in").read_text() == "a b\n" and not (tmp_path / "x.html").exists()
    (tmp_path / "loop").symlink_to("loop")
    done = run_s2s("translate", "--run", trained, "-i", "loop", cwd=tmp_path)
    assert done.returncode == 1 and "leads back to itself" in done.stderr
    done = run_s2s("translate", "--run", trained, "-i", "-", "-o", "-", stdin="a b\n", cwd=tmp_path)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)


@pytest.mark.parametrize(
    "packed", [gzip.compress(b"a b\n"), "a b\n".encode("utf-16"), lzma.compress(b"a b\n")]
)
def test_a_pipe_of_what_is_no_text_is_refused(packed: bytes, trained: Path) -> None:
    command = [sys.executable, "-m", "s2scli", "translate", "--run", str(trained)]
    done = subprocess.run(command, input=packed, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"standard input: this is not" in done.stderr


def test_resume_begins_what_was_never_begun(trained: Path, tmp_path: Path) -> None:
    done = run_s2s("translate", "--run", trained, "--resume", "-o", tmp_path / "out", stdin="a b\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "b a\n"


def write(path: Path, error: BaseException, *, force: bool = False) -> None:
    """Write two lines and fail."""
    with resumable(path, SETTINGS, resume=False, force=force) as file:
        file.write(b"one\ntwo\n")
        file.advance(["1", "2"], {"cut": 1})
        raise error


def test_an_error_before_anything_was_noted_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("old\n")
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "out", ZeroDivisionError(), force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "old\n"


def test_two_do_not_write_one_file(tmp_path: Path) -> None:
    with resumable(tmp_path / "out", SETTINGS, resume=False, force=False) as file:
        with pytest.raises(S2SError, match="another translation"):
            write(tmp_path / "out", ZeroDivisionError())
        file.write(b"mine\n")
        file.advance(["x"], {})
    assert (tmp_path / "out").read_bytes() == b"mine\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_what_cannot_be_moved_into_place_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2scli.resumable.SAVE_SECONDS", -1.0)
    out, heard = tmp_path / "out", list[Event]()

    def made(*, resume: bool, in_the_way: bool = False) -> int:
        with resumable(out, SETTINGS, resume=resume, force=False, listen=heard.append) as file:
            if file.lines:
                file.skip(["x"])
            else:
                file.write(b"mine\n")
                file.advance(["x"], {})
            if in_the_way:
                out.mkdir()
            return file.lines

    with pytest.raises(S2SError):
        made(resume=False, in_the_way=True)
    assert any(isinstance(e, Notice) and "--resume" in e.text for e in heard)
    out.rmdir()
    assert made(resume=True) == 1
    assert out.read_bytes() == b"mine\n" and [p.name for p in tmp_path.iterdir()] == ["out"]
    # Killed between the last move and the removal of the note.
    (tmp_path / ".out.partial.json").write_text("{}")
    out.unlink()
    assert made(resume=False) == 1


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an interrupted ``out`` of two lines."""
    monkeypatch.setattr("s2scli.resumable.SAVE_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", KeyboardInterrupt())
    return tmp_path


def resume(path: Path) -> tuple[int, dict[str, int]]:
    with resumable(path, SETTINGS, resume=True, force=False) as file:
        file.skip(["1", "2"])
        file.check()
        return file.lines, file.counts


def test_what_was_noted_is_gone_on_with(noted: Path) -> None:
    assert resume(noted / "out") == (2, {"cut": 1})
    assert (noted / "out").read_bytes() == b"one\ntwo\n"
    assert [p.name for p in noted.iterdir()] == ["out"]


def test_a_shortened_partial_file_is_damage(noted: Path) -> None:
    (noted / ".out.partial").write_bytes(b"one\n")
    with pytest.raises(S2SError, match="damaged"):
        resume(noted / "out")


@pytest.mark.parametrize(
    "change",
    [
        lambda note: "",
        lambda note: note[:-20],
        lambda note: note.replace('"lines": 2', '"lines": "2"'),
        lambda note: note.replace('"lines": 2', '"lines": -5'),
        lambda note: note.replace('"bytes": 8', '"bytes": 3.5'),
        lambda note: note.replace('"bytes": 8', '"bytes": null'),
        lambda note: note.replace('"beam": 1', '"beam": 1}, "more": {"x": 1'),
    ],
)
def test_a_damaged_note_loses_nothing(noted: Path, change: Callable[[str], str]) -> None:
    note = noted / ".out.partial.json"
    changed = change(note.read_text())
    assert changed != note.read_text()
    note.write_text(changed)
    for going_on in (True, False):
        with (
            pytest.raises(S2SError, match="damaged"),
            resumable(noted / "out", SETTINGS, resume=going_on, force=False),
        ):
            pass
        note.write_text(changed)
    assert (noted / ".out.partial").read_bytes() == b"one\ntwo\n"


def test_a_pipe_is_written_to(trained: Path) -> None:
    command = f'echo "a b" | "{sys.executable}" -m s2scli translate --run "{trained}" -o /dev/stdout | cat'
    done = subprocess.run(command, shell=True, capture_output=True, env=quiet(), check=False, timeout=120)
    assert done.stdout == b"b a\n", done.stderr


def test_what_was_unknown_before_an_interruption_is_told_after_it(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Translator.load(trained, precision="fp32", threads=1)
    translator.translate(["a zzz b", "yyy zzz"])
    assert translator.remarkable.unknown == {"zzz": 2, "yyy": 1}
    counts = translator.remarkable.counts()
    monkeypatch.setattr("s2scli.resumable.SAVE_SECONDS", -1.0)
    first = Partial(tmp_path / "out", {})
    first.open(resume=False, force=False)
    first.advance(["a zzz b", "yyy zzz"], counts)
    first.leave()
    with resumable(tmp_path / "out", {}, resume=True, force=False) as file:
        other = Translator.load(trained, precision="fp32", threads=1)
        other.remarkable.recount(file.counts)
        file.skip(["a zzz b", "yyy zzz"])
    assert other.remarkable.unknown == translator.remarkable.unknown


def test_a_folder_that_is_not_there_is_no_way_to_another(trained: Path, tmp_path: Path) -> None:
    done = run_s2s("translate", "--run", trained, "-o", "nope/../out", stdin="a\n", cwd=tmp_path)
    assert done.returncode == 1 and "nope" in done.stderr and not list(tmp_path.iterdir())
    done = run_s2s("translate", "--run", trained, "-i", "/dev/null", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
