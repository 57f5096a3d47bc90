"""What comes in between: Ctrl-C while modules load, kills in the middle of an exchange, other commands."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL, copy_run, quiet, run_s2s

import s2scli.translate
from s2scli import Translator
from s2scli.config import TrainOptions, TranslateOptions
from s2scli.errors import S2SError
from s2scli.events import Event, Notice, silent
from s2scli.loading import loading
from s2scli.recorder import Recorder
from s2scli.resumable import resumable
from s2scli.runfolder import MODELS, claimed, data_folder, replacing_models
from s2scli.train import train
from s2scli.translate import translate


def test_ctrl_c_while_modules_load_is_heard_when_they_stand() -> None:
    stood = []

    def load() -> None:
        with loading():
            os.kill(os.getpid(), signal.SIGINT)
            stood.append(True)

    # What the tests were started with is not known: a shell has commands in the background ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            load()
        assert stood and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with loading():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    threads = [threading.Thread(target=lambda: loading().__enter__())]
    threads[0].start()
    threads[0].join()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("module", ["s2scli.cli", "torch"])
def test_ctrl_c_in_the_middle_of_loading(module: str, trained: Path) -> None:
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["translate", "--run", {str(trained)!r}]
from s2scli.start import main
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input="a\n", capture_output=True, text=True, env=quiet(), check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == "Interrupted."


def _names(run: Path) -> dict[str, str]:
    return {p.relative_to(run).as_posix(): p.read_text() for p in sorted(run.rglob("*")) if p.is_file()}


def _killed_at(change: int, work: Callable[[], None]) -> None:
    """Do something in a process that dies before its so-and-so-many-th change of the disk."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    changes = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "open"):
            changes += 1
            if changes == change:
                os._exit(1)

    sys.addaudithook(count)
    try:
        work()
    finally:
        os._exit(0)


def test_models_are_the_old_or_the_new_wherever_their_exchange_is_cut_off(tmp_path: Path) -> None:
    """A training of several seeds replaces a single one."""
    old = {f"{name}/file": "old" for name in ("state", "best", "last")} | {"metrics.jsonl": "old"}
    new, kept = {"seeds/1/state/file": "new"}, {"data/report.json": "{}", ".lock": ""}

    def write(run: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            (run / name).write_text(text)

    def exchange(run: Path) -> None:
        with replacing_models(run):
            write(run, new)

    found = []
    for change in range(1, 60):
        run = tmp_path / str(change)
        write(run, {**old, **kept})
        _killed_at(change, lambda run=run: exchange(run))
        with claimed(run):
            found.append(_names(run))
        assert found[-1] in ({**old, **kept}, {**new, **kept}), change
        assert not {p.name for p in run.iterdir()} - {*MODELS, "data", ".lock"}
    assert found[0] != found[-1] and found.count(found[0]) > 10 and found.count(found[-1]) > 10


def test_data_put_aside_by_a_killed_preprocess_come_back_for_a_training(
    prepared: Path, tmp_path: Path
) -> None:
    run = copy_run(prepared, tmp_path / "run")
    (run / ".s2s-replaced-data").mkdir()
    (run / "data").rename(run / ".s2s-replaced-data" / "data")
    (run / ".s2s-data").mkdir()
    train(TrainOptions(run=run, max_steps=1, hidden=32, embedding=32, threads=1), silent)
    assert (run / "best").is_dir() and not (run / ".s2s-replaced-data").exists()
    done = run_s2s("preprocess", "--run", run, "--train-src", "x", "--train-tgt", "y")
    assert done.returncode == 1 and not (run / ".s2s-data").exists()


def test_the_folder_of_a_seed_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "five" / "data").mkdir(parents=True)
    (tmp_path / "five" / "seeds" / "2" / "best").mkdir(parents=True)
    (tmp_path / "link").symlink_to("five/seeds/2")
    monkeypatch.chdir(tmp_path / "five" / "seeds" / "2" / "best")
    for name in ("..", "../../2", tmp_path / "link", tmp_path / "five" / "seeds" / "2"):
        assert data_folder(Path(name)).resolve() == (tmp_path / "five" / "data").resolve()


def test_a_file_that_another_has_written_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out, settings = tmp_path / "out", {"model": "x"}
    out.write_text("theirs\n")
    with pytest.raises(S2SError, match="exists already"), resumable(out, settings, resume=False, force=False):
        pass
    out.unlink()

    def outpaced(*, force: bool) -> None:
        with resumable(out, settings, resume=False, force=force) as file:
            file.write(b"mine\n")
            file.advance(["x"], {})
            out.write_text("theirs\n")

    with pytest.raises(S2SError, match="meanwhile"):
        outpaced(force=False)
    assert out.read_text() == "theirs\n"
    out.unlink()
    with resumable(out, settings, resume=True, force=False) as file:
        assert file.lines == 1
        file.skip(["x"])
    assert out.read_text() == "mine\n"
    with pytest.raises(S2SError, match="exists already"):
        outpaced(force=False)
    out.unlink()
    with pytest.raises(S2SError, match="meanwhile"):
        outpaced(force=False)
    with pytest.raises(S2SError, match="exists already"), resumable(out, settings, resume=True, force=False):
        pass
    assert out.read_text() == "theirs\n"
    outpaced(force=True)
    assert out.read_text() == "mine\n" and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_model_that_is_replaced_while_it_is_loaded_is_loaded_again(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(trained, tmp_path / "run")
    other = copy_run(trained, tmp_path / "other")
    done = run_s2s("train", "--run", other, *SMALL, "--max-steps", 1, "--seed", 5, "--force")
    assert done.returncode == 0, done.stderr
    load, loaded = Translator.load.__func__, list[Any]()  # type: ignore[attr-defined]

    def replaced(cls: Any, *arguments: Any, **more: Any) -> Translator:
        loaded.append(load(cls, *arguments, **more))
        (other / "best" / "model.safetensors").replace(run / "best" / "model.safetensors")
        monkeypatch.setattr(Translator, "load", classmethod(load))
        return loaded[-1]  # type: ignore[no-any-return]

    monkeypatch.setattr(Translator, "load", classmethod(replaced))
    (tmp_path / "in").write_text("a b\n")
    options = TranslateOptions(run=(run,), input=tmp_path / "in", output=tmp_path / "out", threads=1)
    translator, digest = s2scli.translate._loaded(options, silent)
    assert translator is not loaded[0] and digest == s2scli.translate._digest(options)
    theirs = dict(translator.model.named_parameters())
    assert any((p != theirs[name]).any() for name, p in loaded[0].model.named_parameters())
    translate(options)


def test_a_history_that_cannot_be_written_does_not_end_a_training(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_run(trained, tmp_path / "run")
    record, calls = Recorder._record, list[str]()

    def full(self: Recorder, name: str, content: dict[str, Any]) -> None:
        calls.append(name)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        record(self, name, content)

    monkeypatch.setattr(Recorder, "_record", full)
    heard: list[Event] = []
    ended = train(TrainOptions(run=run, resume=True, max_steps=330, threads=1), heard.append)
    assert ended.step == 330
    warned = [e.text for e in heard if isinstance(e, Notice) and e.warning and "metrics.jsonl" in e.text]
    assert len(warned) == 1 and "goes on" in warned[0]
    assert len(calls) == 2
    state = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert state["event"] == "start"


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    for name in ("data/file", ".s2s-replaced-data/mine", ".s2s-removed/mine", ".s2s-replaced/mine"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("mine")
    before = _names(tmp_path)
    for seeds in (1, 2):
        done = run_s2s("train", "--run", tmp_path, "--seeds", seeds)
        assert done.returncode == 1 and "no preprocessed data" in done.stderr
        assert _names(tmp_path) == before
