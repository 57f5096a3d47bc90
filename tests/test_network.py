"""Nothing reaches for the network: the whole road is gone with every connection refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import quiet, reversal_pairs, write_pairs

ROOT = Path(__file__).parent.parent
REFUSING = """
import socket, sys

def refuse(*arguments, **named):
    print("NETWORK", arguments[1:] or named, file=sys.stderr)
    raise OSError("the network is out of bounds in this test")

for name in ("connect", "connect_ex", "bind", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""


def outside(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a Python that refuses every connection."""
    environment = {**quiet(), "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        input="a b c\n",
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(REFUSING)
    return tmp_path


def test_the_refusal_refuses(folder: Path) -> None:
    done = outside(folder, "import socket; socket.socket().connect(('127.0.0.1', 9))")
    assert done.returncode == 1
    assert "NETWORK" in done.stderr


def test_the_commands_use_no_network(folder: Path) -> None:
    write_pairs(folder, "train", reversal_pairs(200, 2, 6, seed=1))
    # One process, so that torch is loaded once.
    commands = [
        "preprocess --train-src train.src --train-tgt train.tgt --tokenizer word --test-size 10",
        "train --max-steps 2 --hidden 8 --embedding 8 --threads 1 --device cpu",
        "translate --alignments --threads 1 --device cpu",
        "score --threads 1 --device cpu --metrics bleu,chrf,chrf++,ter",
        "report --threads 1 --device cpu --beam 1",
    ]
    code = f"from s2scli.cli import main\nfor c in {commands!r}:\n    assert main(c.split()) == 0, c"
    done = outside(folder, code)
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
