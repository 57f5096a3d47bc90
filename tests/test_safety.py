"""When the disk is full, the folder closed or the command cut off: a clear error, and nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL, copy_run, quiet, run_s2s

NOBODY = 65534


def limited(arguments: list[object], prepare: Callable[[], None], stdin: str = "") -> tuple[int, str]:
    """Run the real command in a process that has first been restricted; exit code and stderr."""
    command = [sys.executable, "-m", "s2scli", *map(str, arguments)]
    done = subprocess.run(
        command,
        input=stdin.encode(),
        capture_output=True,
        timeout=120,
        env=quiet(),
        check=False,
        preexec_fn=prepare,
    )
    return done.returncode, done.stderr.decode()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def file_size_limit(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_in_training_leaves_the_checkpoint(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    before = contents(run)
    arguments = ["train", "--run", run, "--resume", "--max-steps", 330]
    code, said = limited(arguments, file_size_limit(10_000))
    assert code == 1
    assert "model.safetensors" in said or "training.safetensors" in said
    assert "Traceback" not in said
    after = contents(run)
    for name in before.keys() - {"metrics.jsonl"}:
        assert after[name] == before[name], name
    assert not [n for n in after if n.endswith(".tmp")]
    assert run_s2s(*arguments).returncode == 0, "with space again, it goes on"


def test_a_full_disk_in_translation_leaves_the_old_output(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("a b c d e f\n" * 3000)
    (tmp_path / "out").write_text("old\n")
    files = ["-i", tmp_path / "in", "-o", tmp_path / "out"]
    arguments = ["translate", "--run", trained, "--beam", 1, "--force", *files]
    code, said = limited(arguments, file_size_limit(4096))
    assert code == 1
    assert "out" in said
    assert "Traceback" not in said
    assert (tmp_path / "out").read_text() == "old\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out"]


AS_NOBODY = f"""
import os, sys
import torch._dynamo, rich.live, rich.traceback, zoneinfo
import s2scli.console, s2scli.preprocess, s2scli.train, s2scli.translate
from s2scli.cli import main
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
sys.exit(main(sys.argv[1:]))
"""
"""Everything is imported first: another user may not be able to read this Python installation."""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("command", ["preprocess", "train", "translate"])
def test_a_folder_that_may_not_be_written(trained: Path, command: str) -> None:
    # pytest's own temporary folders are closed to other users.
    with tempfile.TemporaryDirectory(prefix="s2s-closed-") as temporary:
        folder = Path(temporary)
        shutil.copytree(trained, folder / "run")
        shutil.copy(Path(__file__).parents[1] / "data" / "dev.en", folder / "text")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        before = contents(folder)
        text = ["--train-src", folder / "text", "--train-tgt", folder / "text"]
        arguments: list[object] = {
            "preprocess": ["preprocess", "--run", folder / "run", "--force", *text],
            "train": ["train", "--run", folder / "run", "--force", "--max-steps", 3],
            "translate": ["translate", "--run", folder / "run", "-o", folder / "new"],
        }[command]
        done = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *map(str, arguments)],
            input=b"a b\n",
            capture_output=True,
            timeout=120,
            env=quiet(),
            check=False,
        )
        said = done.stderr.decode()
        assert done.returncode == 1, said
        assert "ermission denied" in said
        assert str(folder) in said
        assert "Traceback" not in said
        assert contents(folder) == before


def test_a_run_folder_whose_data_is_of_another_format(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    path = run / "data" / "tokenizer.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 7', 1))
    done = run_s2s("train", "--run", run, *SMALL, "--max-steps", 3)
    assert done.returncode == 1
    assert "format" in done.stderr and "7" in done.stderr and "tokenizer.json" in done.stderr
    assert not (run / "best").exists()


def test_a_damaged_shard_is_named(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    shard = next((run / "data").glob("train-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-100])
    done = run_s2s("train", "--run", run, *SMALL, "--max-steps", 3)
    assert done.returncode == 1
    assert shard.name in done.stderr
    assert "Traceback" not in done.stderr


def test_a_misspelt_key_in_the_file_is_named(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "s2s.toml").write_text("[train]\nhiden = 32\n")
    done = run_s2s("train", "--run", prepared, cwd=tmp_path)
    assert done.returncode == 2
    assert "s2s.toml" in done.stderr and "hidden" in done.stderr
