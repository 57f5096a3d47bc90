"""Training under torchrun: several processes are one training. The real torchrun, on CPUs, over loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL, copy_run, quiet

from s2scli import trainingstate
from s2scli.config import ModelConfig, TrainOptions
from s2scli.dataset import TrainingBatches
from s2scli.distributed import own_gpu
from s2scli.errors import S2SError
from s2scli.model import Seq2Seq
from s2scli.resolve import build
from s2scli.shards import ParallelData
from s2scli.train import train

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds workers in /proc")

PLAIN = ["--dropout", 0.0, "--average", "none", "--clip-norm", 0.0, "--validate-lines", 1, "--samples", 0]
"""Nothing random in an update, and the gradient as it is."""


LIMIT = 250
"""Seconds for a launch; a few are enough where the machine has nothing else to do."""


def launch(
    log: Path, run: Path, *arguments: object, processes: int = 2, restarts: int = 0
) -> subprocess.Popen[bytes]:
    """``s2s train`` as torchrun starts it; ``--`` keeps torchrun from reading the options after it."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    command += ["--max-restarts", restarts, "-m", "--", "s2scli", "train", "--run", run, *arguments]
    with log.open("wb") as file:
        return subprocess.Popen([*map(str, command)], stdout=file, stderr=file, env=quiet())


def ended(agent: subprocess.Popen[bytes], log: Path) -> tuple[int, str]:
    """The exit code of a training and what it said."""
    try:
        agent.wait(timeout=LIMIT)
    finally:
        agent.terminate()  # it ends its workers, which have sessions of their own
    return agent.returncode, log.read_text()


def finished(agent: subprocess.Popen[bytes], log: Path) -> str:
    """What a training said that ended well."""
    code, said = ended(agent, log)
    assert code == 0, said
    return said


def worker(agent: subprocess.Popen[bytes], rank: int) -> int:
    """The process id of a worker of torchrun."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == agent.pid and f"RANK={rank}" in (folder / "environ").read_text().split("\0"):
                return int(folder.name)
        except OSError:  # it has ended meanwhile
            continue
    raise AssertionError(f"torchrun has no worker {rank}")


def wait_for(agent: subprocess.Popen[bytes], log: Path, seen: Callable[[], bool]) -> None:
    while not seen():
        assert agent.poll() is None, log.read_text()
        time.sleep(0.005)


def records(run: Path, kind: str) -> list[dict[str, float]]:
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [r for r in map(json.loads, lines) if r["event"] == kind]


def alone(run: Path, *arguments: object) -> None:
    """The same options in this process."""
    names = [str(a)[2:].replace("-", "_") for a in arguments[::2]]
    train(build(TrainOptions, {**dict(zip(names, arguments[1::2], strict=True)), "run": run}))


def test_the_gradients_of_two_processes_are_those_of_one(prepared: Path, tmp_path: Path) -> None:
    """Gathered over batches of one pair, two or more."""
    runs = [copy_run(prepared, tmp_path / name) for name in ("one", "two")]
    given = [*SMALL, *PLAIN, "--max-steps", 1, "--batch-tokens", 12, "--accumulate", 8]
    data = ParallelData.open(runs[0] / "data", "train")
    rows = [len(b) for b in TrainingBatches(data, 12, 1).epoch(0)[:8]]
    assert 1 in rows and 2 in rows, "the second process sometimes has none"
    alone(runs[0], *given)
    finished(launch(tmp_path / "log", runs[1], *given), tmp_path / "log")
    # After one update Adam's first moment is a tenth of the gradient.
    one, two = (
        {n: 10 * t for n, t in trainingstate.load_state(r / "state")[0].items() if "exp_avg" in n.split(".")}
        for r in runs
    )
    assert one.keys() == two.keys() and len(one) > 10
    assert max(float(t.abs().max()) for t in one.values()) > 0.01
    for name in one:
        assert torch.allclose(one[name], two[name], rtol=0, atol=1e-6), name


def test_the_losses_of_two_processes_are_those_of_one(prepared: Path, tmp_path: Path) -> None:
    runs = [copy_run(prepared, tmp_path / name) for name in ("one", "two")]
    given = [*SMALL, *PLAIN, "--max-steps", 50, "--validate-every", 1]
    alone(runs[0], *given)
    finished(launch(tmp_path / "log", runs[1], *given), tmp_path / "log")
    for kind, count in (("validation", 50), ("step", 2)):
        one, two = ([r["loss"] for r in records(run, kind)] for run in runs)
        assert len(one) == count
        assert two == pytest.approx(one, abs=1e-4)
    first, *_, last = records(runs[1], "validation")
    assert last["loss"] < first["loss"] - 0.1, "it learns"


def test_a_killed_worker_is_as_if_nothing_had_happened(prepared: Path, tmp_path: Path) -> None:
    """Three, because the order of adding up cannot matter to two; with dropout of every kind."""
    whole, broken = (copy_run(prepared, tmp_path / name) for name in ("whole", "broken"))
    logs = [tmp_path / "whole.log", tmp_path / "broken.log"]
    given = [
        *SMALL,
        "--batch-tokens",
        30,
        "--dropout",
        0.2,
        "--word-dropout",
        0.1,
        "--recurrent-dropout",
        0.1,
    ]
    given += ["--max-steps", 120, "--validate-every", 30, "--validate-lines", 5]
    finished(launch(logs[0], whole, *given, processes=3), logs[0])
    agent = launch(logs[1], broken, *given, processes=3, restarts=1)
    wait_for(agent, logs[1], lambda: len(records(broken, "validation")) > 0)
    os.kill(worker(agent, 1), signal.SIGKILL)
    said = finished(agent, logs[1])
    assert said.count("error: process") == 1 and "another process of this training has ended" in said
    assert "goes on after update" in said
    assert "Traceback" not in said
    for name in ("last", "best"):
        assert (whole / name / "model.safetensors").read_bytes() == (
            broken / name / "model.safetensors"
        ).read_bytes()
    states = [trainingstate.load_state(run / "state") for run in (whole, broken)]
    for tensors, progress in states:
        tensors.pop("random")
        for name in ("elapsed", "reserve", "validated_at"):  # what the clock says
            del progress["position"][name]
    assert all(torch.equal(states[0][0][n], states[1][0][n]) for n in states[0][0])
    assert states[0][1]["position"] == states[1][1]["position"]
    assert [r["step"] for r in records(broken, "validation")] == [30, 60, 90, 120]


def test_ctrl_c_in_any_process_stops_all_at_the_same_step(prepared: Path, tmp_path: Path) -> None:
    run, log = copy_run(prepared, tmp_path / "run"), tmp_path / "log"
    agent = launch(log, run, *SMALL, "--max-steps", 100_000, restarts=1)
    wait_for(agent, log, lambda: len(records(run, "step")) > 0)
    os.kill(worker(agent, 1), signal.SIGINT)
    said = finished(agent, log)
    assert said.count("stopped by the user") == 1
    assert "The same command with --resume goes on." in said
    _, progress = trainingstate.load_state(run / "state")
    step = int(records(run, "end")[-1]["step"])
    assert progress["position"]["step"] == step > 0
    resumed = train(TrainOptions(run=run, resume=True, max_steps=step + 3))
    assert resumed.step == step + 3, "one process goes on with what several began"


def test_an_error_is_told_once(prepared: Path, tmp_path: Path) -> None:
    """A model in the way: told by the first process, and not taken up when torchrun starts it again."""
    run, log = copy_run(prepared, tmp_path / "run"), tmp_path / "log"
    alone(run, *SMALL, "--max-steps", 1)
    before = (run / "state" / "training.safetensors").read_bytes()
    agent = launch(log, run, *SMALL, "--max-steps", 1, restarts=1)
    code, said = ended(agent, log)
    assert code == 1
    assert said.count("there is a trained model in this run folder already") == 2, "at each start"
    assert "error: process" not in said
    assert (run / "state" / "training.safetensors").read_bytes() == before


@pytest.mark.parametrize("wrong", [["--hidden", 0], ["--resume", "--force"]], ids=["all see", "first sees"])
def test_wrong_usage_is_told_once(prepared: Path, tmp_path: Path, wrong: list[object]) -> None:
    code, said = ended(launch(tmp_path / "log", prepared, *wrong), tmp_path / "log")
    assert code == 1
    assert said.count("error:") == said.count("usage error:") == 1


def test_all_processes_must_see_the_same_folder(prepared: Path, tmp_path: Path) -> None:
    for rank in (0, 1):
        copy_run(prepared, tmp_path / str(rank) / "run")
    report = tmp_path / "1" / "run" / "data" / "report.json"
    report.write_text(json.dumps({**json.loads(report.read_text()), "fingerprint": "other"}))
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "--no-python",
    ]
    script = f'cd "$RANK" && exec {sys.executable} -m s2scli train --run run --threads 1 --hidden 32'
    done = subprocess.run(
        [*command, "sh", "-c", script],
        cwd=tmp_path,
        env=quiet(),
        capture_output=True,
        timeout=LIMIT,
        check=False,
    )
    said = done.stderr.decode()
    assert done.returncode == 1
    assert said.count("error: ") == 1 and "not all processes see the same data" in said
    assert "a disk that they share" in said
    assert not (tmp_path / "0" / "run" / "state").exists()


def test_shares_are_the_batch_and_an_empty_one_counts_for_nothing(prepared: Path) -> None:
    data = ParallelData.open(prepared / "data", "train")
    shares = [TrainingBatches(data, 30, 1, rank=rank, size=3) for rank in range(3)]
    whole = TrainingBatches(data, 30, 1)
    for indices in [*whole.epoch(0)[:20], np.array([5])]:
        parts = [batches.load(indices) for batches in shares]
        assert sum(p.target_tokens for p in parts) == whole.load(indices).target_tokens
        assert whole.target_tokens(indices) == whole.load(indices).target_tokens
        counted = [p.rows.tolist() for p in parts if p.target_tokens]
        assert sorted(row for rows in counted for row in rows) == sorted(indices.tolist())
    model = Seq2Seq(ModelConfig(source_vocab=20, target_vocab=20, hidden=8, embedding=4))
    loss = model(shares[1].load(np.array([5])), 0.1)
    loss.smoothed.backward()
    assert loss.smoothed.item() == 0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_each_process_needs_a_gpu_of_its_own() -> None:
    assert [own_gpu(rank, 2, 2) for rank in (0, 1)] == [0, 1]
    with pytest.raises(S2SError, match="4 processes on a machine with 2 GPUs") as caught:
        own_gpu(0, 4, 2)
    assert "--nproc-per-node 2" in str(caught.value)
