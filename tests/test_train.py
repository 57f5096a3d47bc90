"""Training: exactness, interruption, limits, what it writes and what it says."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SMALL, Runner, copy_run, quiet
from safetensors.torch import load_file

from s2scli import loop, trainingstate
from s2scli.checkpoint import find_model
from s2scli.config import TrainOptions
from s2scli.dataset import TrainingBatches, plan_batches
from s2scli.errors import S2SError, UsageError
from s2scli.events import Event, Notice, Stepped, TrainingEnded, TrainingStarted, Validated
from s2scli.meter import Stop
from s2scli.recipe import LECTURE, DataFacts, choose
from s2scli.resolve import as_dict, build, resolve
from s2scli.runfolder import locked
from s2scli.runtime import set_up
from s2scli.shards import ParallelData
from s2scli.tokenizer import Tokenizer
from s2scli.train import resumed_options, train
from s2scli.trainer import Trainer
from s2scli.validate import HeldOut, Validator, signs_of_collapse

SHORT = TrainOptions(
    hidden=32, embedding=16, batch_tokens=200, threads=1, precision="fp32", learning_rate=0.01
)
DIVERGING: dict[str, Any] = {
    "learning_rate": 1.0,
    "clip_norm": 0.0,
    "warmup_steps": 0,
    "max_steps": 400,
    "cell": "gru",
    "feed": "state",
    "hidden": 128,
    "average": "none",
    "weight_decay": 9e9,
}
REGULARISED = ["--dropout", 0.2, "--word-dropout", 0.1, "--recurrent-dropout", 0.1]


def options(run: Path, **changes: object) -> TrainOptions:
    return TrainOptions(**{**vars(SHORT), "run": run, **changes})  # type: ignore[arg-type]


def weights(run: Path, name: str = "last") -> bytes:
    return (run / name / "model.safetensors").read_bytes()


def records(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("average", ["ema", "none"])
def test_the_same_seed_gives_the_same_weights(prepared: Path, tmp_path: Path, average: str) -> None:
    results = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = copy_run(prepared, tmp_path / name)
        train(options(run, max_steps=12, validate_every=6, seed=seed, average=average, dropout=0.2))
        results.append(weights(run))
    assert results[0] == results[1]
    assert results[0] != results[2]


def test_killed_at_any_moment_and_resumed_is_never_interrupted(prepared: Path, tmp_path: Path) -> None:
    """kill -9 at random moments and during the writing of a checkpoint; then bit for bit the same."""
    limits = [*SMALL, *REGULARISED, "--max-steps", 240, "--validate-every", 20, "--accumulate", 2]
    whole, broken = copy_run(prepared, tmp_path / "whole"), copy_run(prepared, tmp_path / "broken")
    command = [sys.executable, "-m", "s2scli", "train", *map(str, limits), "--run"]
    subprocess.run([*command, str(whole)], check=True, capture_output=True, env=quiet(), timeout=200)

    draw, kills = random.Random(5), []
    for attempt in range(12):
        resume = ["--resume"] if (broken / "state" / "training.safetensors").exists() else ["--force"]
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen([*command, str(broken), *resume], stdout=log, stderr=log, env=quiet())
            if attempt < 5:
                begun = time.monotonic()
                before = len(list((broken / "state").glob("*"))) if (broken / "state").exists() else 0
                seen = 0
                while process.poll() is None and time.monotonic() - begun < 60:
                    if attempt % 2:  # while a checkpoint is being written
                        if len(list((broken / "state").glob(".*.tmp"))) > 0:
                            seen += 1
                        if seen > attempt:
                            break
                    elif (
                        broken / "metrics.jsonl"
                    ).exists() and time.monotonic() - begun > 3 + 2 * draw.random():
                        break
                    time.sleep(0.0005)
                kills.append((process.poll(), before))
                process.kill()
            process.wait(timeout=200)
        if process.returncode == 0:
            break
    assert process.returncode == 0, (tmp_path / "log").read_text()
    assert sum(1 for code, _ in kills if code is None) >= 2, "the runs ended before they could be killed"
    for name in ("last", "best"):
        assert weights(whole, name) == weights(broken, name)
    tensors, progress = trainingstate.load_state(whole / "state")
    other, other_progress = trainingstate.load_state(broken / "state")
    assert tensors.keys() == other.keys()
    assert all(torch.equal(tensors[n], other[n]) for n in tensors)
    for position in (progress["position"], other_progress["position"]):
        del position["elapsed"], position["reserve"], position["validated_at"]  # what the clock says
    assert progress["position"] == other_progress["position"]
    steps = [r["step"] for r in records(broken) if r["event"] == "validation"]
    assert steps == sorted(set(steps)), "a step is recorded once"
    assert not list(broken.rglob(".*.tmp")), "what a killed writer left is cleaned up"


def test_resume_continues_to_a_raised_limit(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_steps=10, validate_every=5))
    ended = train(TrainOptions(run=run, resume=True, max_steps=20))
    assert ended.step == 20
    again: list[Event] = []
    train(TrainOptions(run=run, resume=True), again.append)
    assert any(isinstance(e, Notice) and "nothing left to do" in e.text for e in again)


def test_resume_refuses_what_cannot_change(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_steps=4))
    with pytest.raises(UsageError, match="cannot change") as caught:
        train(TrainOptions(run=run, resume=True, hidden=64))
    assert caught.value.where == "--hidden"
    with pytest.raises(S2SError, match="no training to resume"):
        train(TrainOptions(run=copy_run(prepared, tmp_path / "other"), resume=True))


def test_resumed_options_keep_all_but_limits_and_machine() -> None:
    saved = {**vars(SHORT), "run": "x", "max_steps": 10, "epochs": 40, "patience": 3}
    new = TrainOptions(run=Path("y"), resume=True, max_minutes=3.0, threads=2)
    merged = resumed_options(saved, ["epochs"], new)
    assert (merged.max_steps, merged.max_minutes, merged.threads, merged.patience) == (10, 3.0, 2, 3)
    assert merged.epochs is None, "a limit that nobody set gives way"
    given = build(TrainOptions, {"seed": 1, "resume": True})
    with pytest.raises(UsageError, match="cannot change"):
        resumed_options({**saved, "seed": 5}, [], given)
    assert resumed_options({**saved, "seed": 5}, [], TrainOptions(resume=True)).seed == 5
    assert (merged.hidden, merged.learning_rate, merged.run) == (32, 0.01, Path("y"))


def test_what_was_chosen_stays_so_until_a_limit_is_set(prepared: Path, tmp_path: Path) -> None:
    run, stop = copy_run(prepared, tmp_path / "run"), Stop()
    stop.asked = True  # each part makes one update
    chosen, shown = [], []
    for given in (options(run), *(TrainOptions(run=run, resume=True, max_minutes=m) for m in (None, 60.0))):
        events: list[Event] = []
        train(given, events.append, stop)
        progress = trainingstate.read_progress(run / "state")
        chosen.append({name: progress["options"][name] for name in progress["chosen"]})
        shown += [e.settings for e in events if isinstance(e, TrainingStarted)]
    assert chosen[0] == chosen[1] and chosen[0]["epochs"] == 40 and chosen[0]["patience"] == 10
    assert "patience" not in chosen[2] and chosen[2]["epochs"] > 100, "as in a fresh training of an hour"
    assert chosen[2]["dropout"] == chosen[0]["dropout"], "the model stays what it was"
    assert shown[0]["dropout"].endswith("pairs)") and shown[1]["dropout"].endswith("(as before)")


def test_there_is_nothing_left_to_do_after_the_end(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_minutes=0.05, validate_every=20))
    tensors, progress = trainingstate.load_state(run / "state")
    progress["position"] |= {"elapsed": 2.0, "reserve": 0.1}  # the last validation was a fast one
    trainingstate.save_state(run / "state", tensors, progress)
    shutil.rmtree(run / "best")
    events: list[Event] = []
    ended = train(TrainOptions(run=run, resume=True), events.append)
    assert ended.step == progress["position"]["step"]
    assert any(isinstance(e, Notice) and "nothing left to do" in e.text for e in events)
    assert records(run)[-1]["event"] == "end", "the report needs to know it"
    assert ended.best_step is None and ended.model.endswith("last"), "the best one was moved away"


def test_no_checkpoint_holds_what_is_no_number(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # after every update
    run = copy_run(prepared, tmp_path / "run")
    with pytest.raises(S2SError, match="no longer a number"):
        train(options(run, **DIVERGING))
    tensors, progress = trainingstate.load_state(run / "state")
    assert progress["position"]["step"] > 0
    assert all(t.isfinite().all() for t in tensors.values())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGTERM SIGHUP SIGHUP"])
def test_ctrl_c_stops_at_a_step_and_says_how_to_go_on(name: str, prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    command = [
        sys.executable,
        "-m",
        "s2scli",
        "train",
        "--run",
        str(run),
        *map(str, SMALL),
        "--max-steps",
        "100000",
    ]
    numbers = [getattr(signal, one, None) for one in name.split()]
    if None in numbers:
        pytest.skip("this system has no such signal")
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": quiet()}
    if os.name == "posix":  # whoever runs the tests may ignore it, as nohup does
        streams["preexec_fn"] = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(command, **streams)
    try:
        while not (run / "metrics.jsonl").exists() or "step" not in (run / "metrics.jsonl").read_text():
            time.sleep(0.05)
            assert process.poll() is None
        for number in numbers:
            process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    said = errors.decode()
    assert process.returncode == 130
    assert "--resume" in said
    assert "Traceback" not in said
    _, progress = trainingstate.load_state(run / "state")
    assert progress["position"]["step"] > 0
    resumed = train(TrainOptions(run=run, resume=True, max_steps=progress["position"]["step"] + 3))
    assert resumed.step == progress["position"]["step"] + 3


def test_a_training_that_nobody_looks_at_any_more_goes_on_and_saves(prepared: Path, tmp_path: Path) -> None:
    run, told = copy_run(prepared, tmp_path / "run"), []

    def gone(event: Event) -> None:
        told.append(event)
        raise BrokenPipeError

    ended = train(options(run, max_steps=60, validate_every=30), gone)
    assert (ended.step, len(told)) == (60, 1)
    # The command, whose messages somebody has read from a pipe up to the first line.
    command = [sys.executable, "-m", "s2scli", "train", "--force", "--run", str(run), *map(str, SMALL)]
    process = subprocess.Popen([*command, "--max-steps", "100000"], stderr=subprocess.PIPE, env=quiet())
    assert process.stderr is not None
    process.stderr.readline()
    process.stderr.close()
    begun = time.monotonic()
    while time.monotonic() - begun < 8:  # longer than lines are apart
        time.sleep(0.1)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    _, progress = trainingstate.load_state(run / "state")
    assert progress["position"]["step"] > 60


def test_a_file_for_all_calls_gives_way_to_what_a_training_began_with(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    (tmp_path / "s2s.toml").write_text(
        f'run = "{run}"\n[train]\nhidden = 128\nmax-steps = 7\nbatch-tokens = 200\n'
    )
    flags = {"hidden": 32, "embedding": 16, "threads": 1, "max_steps": 12}
    assert train(resolve("train", flags, folder=tmp_path)).step == 12
    again, told = resolve("train", {"resume": True}, folder=tmp_path), []
    assert train(again, told.append).step == 12, "the file's limit was not this training's"
    assert any(
        "not as s2s.toml says: --hidden, --max-steps." in e.text for e in told if isinstance(e, Notice)
    )
    assert train(resolve("train", {"resume": True, "max_steps": 15}, folder=tmp_path)).step == 15
    with pytest.raises(UsageError, match="cannot change"):
        train(resolve("train", {"resume": True, "hidden": 128}, folder=tmp_path))


def test_a_record_that_was_cut_within_a_letter_is_dropped(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_steps=4))
    with (run / "metrics.jsonl").open("ab") as file:
        file.write('{"event": "validation", "samples": ["한'.encode()[:-1])
    assert train(TrainOptions(run=run, resume=True, max_steps=6)).step == 6
    assert all(records(run))


def test_options_made_in_python_are_checked_before_anything_goes(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    before = weights(run, "best")
    for wrong in ({"max_steps": -1}, {"dropout": 1.0}, {"schedule": "cosin"}, {"attention": "dott"}):
        with pytest.raises(UsageError):
            train(options(run, force=True, **wrong))
    assert weights(run, "best") == before
    assert train(options(str(run), force=True, max_steps=1)).step == 1  # type: ignore[arg-type]


def test_existing_models_are_replaced_only_with_force(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    before = weights(run)
    with pytest.raises(S2SError, match="already") as caught:
        train(options(run, max_steps=3))
    assert "--force" in str(caught.value)
    assert "--resume" in str(caught.value)
    assert weights(run) == before
    train(options(run, max_steps=3, force=True))
    assert weights(run) != before


def test_no_data_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(S2SError, match="no preprocessed data") as caught:
        train(TrainOptions(run=tmp_path))
    assert "s2s preprocess" in str(caught.value)


def test_patience_ends_a_training_and_says_why(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    diverging = {"learning_rate": 0.5, "warmup_steps": 0, "schedule": "constant", "average": "none"}
    ended = train(options(run, epochs=50, validate_every=4, patience=3, metric="loss", **diverging))
    assert ended.reason == "no better loss for 3 validations"
    assert ended.best_step == ended.step - 3 * 4
    assert weights(run, "best") != weights(run)


def test_limits_in_epochs_and_minutes(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "a")
    ended = train(options(run, epochs=2))
    per_epoch = len(TrainingBatches(ParallelData.open(run / "data", "train"), 200, 1).epoch(0))
    assert ended.step == 2 * per_epoch
    assert "2 epochs" in ended.reason
    begun = time.monotonic()
    events: list[Event] = []
    ended = train(options(copy_run(prepared, tmp_path / "b"), max_minutes=0.05), events.append)
    assert "minutes" in ended.reason
    assert time.monotonic() - begun < 10
    rates = [e.learning_rate for e in events if isinstance(e, Stepped)]
    assert rates[-1] < 0.1 * max(rates), "the learning rate is annealed by the deadline"
    # The last of two updates is at the same place in its training, however the end is put.
    events.clear()
    for name, limit in (("c", {"epochs": 1}), ("d", {"max_steps": 2})):
        train(options(copy_run(prepared, tmp_path / name), batch_tokens=99_999, **limit), events.append)
    one, other = (e for e in events if isinstance(e, Stepped))
    assert (one.step, one.learning_rate) == (other.step, other.learning_rate)
    assert one.step == 2 and one.learning_rate > 0.005


def test_the_reported_loss_is_of_all_updates_since_the_last(prepared: Path, tmp_path: Path) -> None:
    losses = []
    for every in (24, 1000):
        events: list[Event] = []
        run = copy_run(prepared, tmp_path / str(every))
        train(options(run, max_steps=50, validate_every=every, dropout=0.0), events.append)
        losses.append([e.loss for e in events if isinstance(e, Stepped)])
    assert losses[0] == pytest.approx(losses[1]) and len(losses[0]) == 2


def test_what_is_written_and_told(trained: Path) -> None:
    kinds = [r["event"] for r in records(trained)]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("validation") == 2
    for name in ("best", "last"):
        assert sorted(p.name for p in (trained / name).iterdir()) == [
            "config.json",
            "lexicon.safetensors",
            "model.safetensors",
            "tokenizer.json",
        ]
    last = [r for r in records(trained) if r["event"] == "step"][-1]
    assert last["tokens_per_second"] > 0 and 0 <= last["data_wait"] < 1


def test_a_loss_that_is_no_number_is_reported_in_words(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    with pytest.raises(S2SError, match="no longer a number") as caught:
        train(options(run, **DIVERGING))
    assert "--learning-rate" in str(caught.value)
    assert "fp32" not in str(caught.value), "it is fp32 already"
    assert "best model" not in str(caught.value), "there is none"


def test_signs_of_collapse() -> None:
    sources = [f"sentence {i}" for i in range(20)]
    assert signs_of_collapse(sources, [f"translation {i}" for i in range(20)]) == []
    assert "are the same" in signs_of_collapse(sources, ["always this"] * 20)[0]
    assert "empty" in signs_of_collapse(sources, [""] * 20)[0]
    loops = [f"{i} and so on and so on and so on and so on" for i in range(20)]
    assert "repeat" in signs_of_collapse(sources, loops)[0]
    assert signs_of_collapse(sources[:5], ["x"] * 5) == []


def test_batches_hold_every_pair_once_within_the_limit() -> None:
    draw = np.random.default_rng(0)
    source, target = draw.integers(0, 60, 5000), draw.integers(0, 60, 5000)
    target[7] = 900  # longer than a batch
    batches = plan_batches(source, target, 512, draw.permutation(5000))
    assert sorted(np.concatenate(batches)) == list(range(5000))
    for indices in batches:
        assert len(indices) == 1 or (target[indices] + 1).max() * len(indices) <= 512
    useful = sum((target[b] + 1).sum() for b in batches)
    padded = sum((target[b] + 1).max() * len(b) for b in batches)
    assert useful / padded > 0.95


def test_large_batches_are_as_large_as_asked() -> None:
    draw = np.random.default_rng(0)
    source = draw.geometric(0.04, 9000)
    target = (source * draw.uniform(0.5, 1.5, 9000)).astype(int)
    batches = plan_batches(source, target, 32_000, draw.permutation(9000))
    widest = [max((target[b] + 1).max(), -(-(source[b] + 1).max() * 2 // 3)) * len(b) for b in batches]
    assert max(widest) <= 32_000
    assert np.mean(widest[:-1]) > 0.9 * 32_000


def test_the_order_of_data_is_a_function_of_seed_and_epoch(prepared: Path) -> None:
    data = ParallelData.open(prepared / "data", "train")
    plans = [
        [b.tolist() for b in TrainingBatches(data, 200, seed).epoch(n)]
        for seed, n in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    assert plans[0] != plans[3]


def facts_of(pairs: int, **changes: bool) -> DataFacts:
    sizes = {"source_vocab": 500, "target_vocab": 500, "joint": True, "strings": False, "short_lines": False}
    given: dict[str, Any] = {**sizes, **changes}
    tokens = 20 * pairs
    return DataFacts(pairs=pairs, tokens=tokens, speed=3e3, batches=lambda n: -(-tokens // n), **given)


@pytest.mark.parametrize("strings", [False, True])
@pytest.mark.parametrize("pairs", [50, 5_000, 50_000, 500_000, 5_000_000])
def test_every_open_setting_is_filled_in(pairs: int, strings: bool) -> None:
    facts = facts_of(pairs, strings=strings)
    settings = choose(TrainOptions(), facts)
    assert settings.total_steps is not None and settings.total_steps > 0
    left = {n for n, v in vars(settings.options).items() if v is None}
    assert left == {"max_steps", "max_minutes", "threads"}
    assert choose(TrainOptions(max_minutes=0.1), facts).total_steps is None


def test_a_training_too_short_for_its_data_is_set_up_as_for_fewer() -> None:
    many = facts_of(500_000)
    free = choose(TrainOptions(), many).options
    short = choose(TrainOptions(max_minutes=10.0), many)  # 1.8 of 10 million tokens
    few = choose(TrainOptions(), facts_of(10_000)).options
    for name in ("hidden", "embedding", "encoder_layers", "batch_tokens", "learning_rate"):
        assert getattr(short.options, name) == pytest.approx(getattr(few, name), rel=0.3), name
        assert getattr(short.options, name) != getattr(free, name), name
    assert short.options.dropout == pytest.approx(0.06)
    assert short.options.warmup_steps == 400 and short.options.validate_every == 1500
    assert short.total_steps is None  # the clock will come first
    assert short.why["hidden"].endswith("(for 500,000 pairs, 10 min)")
    words = choose(TrainOptions(max_minutes=10.0), facts_of(500_000, strings=True))  # of any time alike
    assert words.why["hidden"].endswith("(for 500,000 strings)") and words.options.epochs is None
    one = choose(TrainOptions(max_minutes=1.0), many).options
    assert one.warmup_steps == 45 and one.validate_every == 150  # of 450 updates
    for more in ({"max_steps": 100_000}, {"epochs": 1000}):  # the clock comes first
        both = choose(TrainOptions(max_minutes=1.0, **more), many).options  # type: ignore[arg-type]
        assert (both.warmup_steps or 0) <= 45 and (both.validate_every or 0) <= 150
    assert choose(TrainOptions(max_steps=90, max_minutes=60.0), many).options.warmup_steps == 9
    assert choose(TrainOptions(epochs=1, accumulate=50), facts_of(10_000)).options.warmup_steps == 1
    twice = choose(TrainOptions(epochs=2), many).options
    assert (free.hidden or 0) > (twice.hidden or 0) > (short.options.hidden or 0)
    assert choose(TrainOptions(max_minutes=10.0, hidden=512, dropout=0.4), many).model.dropout == 0.4


def test_a_training_with_time_for_all_is_set_up_as_without_a_limit() -> None:
    free = choose(TrainOptions(), facts_of(30_000)).options
    long = choose(TrainOptions(max_minutes=600.0), facts_of(30_000))
    for name in ("hidden", "embedding", "encoder_layers", "batch_tokens", "learning_rate"):
        assert getattr(long.options, name) == getattr(free, name), name
    # Only so often are the pairs repeated, however many minutes there are.
    assert (free.epochs, long.options.epochs, long.total_steps) == (25, 30, 18_000)
    assert (free.dropout or 0) < (long.options.dropout or 0) == 0.45
    assert long.options.patience is None
    assert choose(TrainOptions(max_minutes=600.0, epochs=50), facts_of(30_000)).total_steps == 30_000
    steps = choose(TrainOptions(max_steps=50_000), facts_of(30_000))
    assert (steps.options.epochs, steps.total_steps) == (None, 50_000)


def test_the_lecture_preset_is_the_lectures_model() -> None:
    facts = facts_of(1000)
    model = choose(TrainOptions(preset="lecture"), facts).model
    assert (model.cell, model.bidirectional, model.bridge, model.attention) == ("gru", False, "last", "dot")
    assert (model.feed, model.tie, model.values, model.encoder_layers) == ("state", "none", "keys", 1)


def test_tensorboard_is_written_on_request(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra s2scli[tensorboard] is not installed")
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_steps=25, tensorboard=True))
    assert list((run / "tensorboard").glob("events*"))


@pytest.mark.skipif(os.cpu_count() == 1, reason="one processor has no second thread")
def test_bf16_learns_too(prepared: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    train(
        options(
            copy_run(prepared, tmp_path / "a"), max_steps=60, validate_every=60, precision="bf16", dropout=0.0
        ),
        events.append,
    )
    train(
        options(copy_run(prepared, tmp_path / "b"), max_steps=60, validate_every=60, dropout=0.0),
        events.append,
    )
    low, full = (e.loss for e in events if isinstance(e, Validated))
    assert low == pytest.approx(full, abs=0.05)
    assert isinstance(events[-1], TrainingEnded)


def test_nothing_is_told_twice(trained: Path, s2s: Runner, tmp_path: Path) -> None:
    done = s2s("train", "--run", copy_run(trained, tmp_path / "run"))
    assert done.returncode == 1
    assert done.stderr.count("--force") == 1
    assert done.stdout == ""


def test_the_lecture_preset_refuses_what_contradicts_it() -> None:
    for name, value in LECTURE.items():
        choose(build(TrainOptions, {"preset": "lecture", name: value}), facts_of(1000))
    with pytest.raises(UsageError, match="exactly the lecture") as caught:
        choose(build(TrainOptions, {"preset": "lecture", "cell": "lstm"}), facts_of(1000))
    assert caught.value.where == "--cell"


def test_settings_without_effect_are_refused() -> None:
    for given in ({"optimizer": "adam", "weight_decay": 0.1}, {"average": "none", "ema_decay": 0.99}):
        with pytest.raises(UsageError):
            choose(TrainOptions(**given), facts_of(5000))
        from_file = TrainOptions(**given)
        object.__setattr__(from_file, "from_file", frozenset({"weight_decay", "ema_decay"}))
        # What a file says for all calls is no mistake in this one, nor when it goes on.
        full = choose(from_file, facts_of(5000)).options
        choose(resumed_options(as_dict(full), [], TrainOptions(resume=True)), facts_of(5000))


def test_a_slow_machine_validates_every_third_of_the_time(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Trainer.update

    def slow(self: Trainer, *given: Any) -> Any:
        time.sleep(0.3)
        return update(self, *given)

    monkeypatch.setattr(Trainer, "update", slow)
    events: list[Event] = []
    train(options(copy_run(prepared, tmp_path / "run"), max_minutes=0.2), events.append)
    validated = [e.step for e in events if isinstance(e, Validated)]
    assert len(validated) >= 3 and validated[-1] < 50  # which are the fewest updates between two


def test_one_embedding_for_two_vocabularies_is_refused() -> None:
    with pytest.raises(UsageError, match="one vocabulary"):
        choose(TrainOptions(tie="all"), facts_of(1000, joint=False))


def test_the_metric_suits_the_length_of_lines() -> None:
    assert choose(TrainOptions(), facts_of(1000)).options.metric == "bleu"
    assert choose(TrainOptions(), facts_of(1000, short_lines=True)).options.metric == "chrf"
    strings = choose(TrainOptions(), facts_of(1000, short_lines=True, strings=True))
    assert strings.options.metric == "acc"
    assert strings.model.relative_positions == 8
    assert choose(TrainOptions(attention="none"), facts_of(1000, strings=True)).model.relative_positions == 0
    assert choose(TrainOptions(), facts_of(1000)).model.relative_positions == 0
    assert choose(TrainOptions(), facts_of(3600, strings=True)).model.relative_positions == 0
    assert strings.why["hidden"].endswith("(for 1,000 strings)")
    assert HeldOut(sources=("",) * 3, references=("a b", "c", "d e f g h")).short
    assert not HeldOut(sources=("",) * 2, references=("a b c d", "d e f g h")).short


def test_resuming_what_has_ended_changes_nothing(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, epochs=1))
    before = weights(run)
    for _ in range(2):
        train(TrainOptions(run=run, resume=True))
        assert weights(run) == before
    train(TrainOptions(run=run, resume=True, epochs=2))
    assert weights(run) != before


def test_resume_needs_the_data_it_began_with(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_steps=3))
    report = run / "data" / "report.json"
    content = json.loads(report.read_text())
    report.write_text(json.dumps({**content, "fingerprint": "other"}))
    with pytest.raises(S2SError, match="data are not those"):
        train(TrainOptions(run=run, resume=True, max_steps=6))


def test_only_one_training_in_a_folder(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    with locked(run), pytest.raises(S2SError, match="another training"):
        train(options(run, max_steps=3))
    train(options(run, max_steps=3))


def test_others_may_read_a_model_and_nothing_of_a_killed_writer_stays(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    before = os.umask(0o022)
    try:
        train(options(run, max_steps=3))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (run / "last").iterdir()} == {0o644}
    left = [run / "state" / ".tmpAb12Cd", run / "best" / ".tmpXy34Zw", run / "last" / ".model.1.tmp"]
    ours = [run / ".tmp" / "file", run / ".tmpnotes", run / ".my.tmp"]
    (run / ".tmp").mkdir()
    for path in (*left, *ours):
        path.write_bytes(b"half a file")
    train(TrainOptions(run=run, resume=True, max_steps=6))
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in ours)


def test_stopped_before_the_first_update_there_is_a_training_but_no_model(
    prepared: Path, tmp_path: Path
) -> None:
    run = copy_run(prepared, tmp_path / "run")

    def stop(event: Event) -> None:
        if isinstance(event, TrainingStarted):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(options(run, max_steps=3), stop)
    with pytest.raises(S2SError, match="there is no model"):
        find_model(run)
    train(TrainOptions(run=run, resume=True))
    assert find_model(run) == run / "best"


def test_a_loss_of_no_development_pair_is_not_zero(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    heard: list[Event] = []
    tokenizer = Tokenizer.load(run / "data" / "tokenizer.json")
    dev, text = ParallelData.open(run / "data", "dev"), HeldOut.read(run / "data")
    runtime = set_up("cpu", "fp32", 1)
    validator = Validator(tokenizer, dev, text, (1, 1), options(run, max_steps=1), runtime, heard.append)
    shortest = (dev.source_lengths + dev.target_lengths).min()
    assert [dev.source_lengths[i] + dev.target_lengths[i] for i in validator.rows] == [shortest]
    assert [e.text.split(" longer")[0] for e in heard if isinstance(e, Notice)] == [
        "The loss leaves out 39 development pairs"
    ]


def test_development_text_that_does_not_fit_its_pairs_is_refused(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    path = run / "data" / "dev.source.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:5]))
    with pytest.raises(S2SError, match=r"dev\.source\.txt has 5 lines, .* 40 lines, for 40 pairs"):
        train(options(run, max_steps=3))


def test_a_failed_start_leaves_the_old_model(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    (run / "data" / "dev.source.txt").unlink()
    before = weights(run)
    with pytest.raises(S2SError):
        train(options(run, force=True, max_steps=3))
    assert weights(run) == before


def test_resume_survives_a_model_that_was_moved_away(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_steps=4))
    (run / "best").rename(tmp_path / "mine")
    train(TrainOptions(run=run, resume=True, max_steps=8))
    assert (run / "best" / "model.safetensors").exists(), "there is a best model again"


def test_every_update_of_a_short_training_is_in_the_average(prepared: Path, tmp_path: Path) -> None:
    kept = []
    for steps in (1, 2, 3, 4):
        run = copy_run(prepared, tmp_path / str(steps))
        train(options(run, max_steps=steps, average="ema", schedule="constant", warmup_steps=0))
        kept.append(load_file(run / "last" / "model.safetensors"))
    for one, other in pairwise(kept):
        assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("steps", [3, 43])
def test_an_average_that_forgets_at_once_is_the_weights(steps: int, prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    train(options(run, max_steps=steps, average="ema", ema_decay=0.0))
    kept, state = (load_file(run / name) for name in ("last/model.safetensors", "state/training.safetensors"))
    assert kept and all(torch.equal(tensor, state[f"model.{name}"]) for name, tensor in kept.items())


def test_the_last_report_has_no_time_left(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    heard: list[Any] = []
    train(options(run, max_steps=2, accumulate=3), heard.append)
    reports = [event for event in heard if isinstance(event, Stepped)]
    assert reports[-1].step == 2 and reports[-1].remaining == 0


def test_a_truncated_state_says_what_can_be_done(trained: Path, tmp_path: Path) -> None:
    run = copy_run(trained, tmp_path / "run")
    state = run / "state" / "training.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(S2SError, match="s2s train --force"):
        train(TrainOptions(run=run, resume=True, max_steps=400))


def test_a_model_that_learns_by_heart_is_not_the_best_by_accuracy() -> None:
    # The lowest loss was 0.1.
    assert loop.rank("acc", 76.0, 0.126, 0.1) < loop.rank("acc", 74.0, 0.1, 0.1)
    assert loop.rank("acc", 76.0, 0.124, 0.1) > loop.rank("acc", 74.0, 0.1, 0.1)
    assert loop.rank("acc", 74.0, 0.1, 0.1) > loop.rank("acc", 74.0, 0.109, 0.1)
    assert loop.rank("bleu", 76.0, 0.2, 0.1) > loop.rank("bleu", 74.0, 0.1, 0.1)


def test_the_best_by_accuracy_gives_way_when_the_loss_falls_far_below_its_own(
    prepared: Path, tmp_path: Path
) -> None:
    measured = [(2.0, 10.0), (1.0, 50.0), (0.5, 40.0), (0.54, 60.0), (0.9, 90.0), (0.63, 91.0)]
    best, lowest, kept = measured[0], math.inf, []
    for loss, score in measured:
        lowest = min(loss, lowest)
        better = loop.rank("acc", score, loss, lowest) > loop.rank("acc", best[1], best[0], lowest)
        best = (loss, score) if better else best
        kept.append(best)
    assert kept == [*measured[:4], measured[3], measured[3]]
    run = copy_run(prepared, tmp_path / "run")
    events: list[Event] = []
    diverging = {"learning_rate": 0.5, "warmup_steps": 0, "schedule": "constant", "average": "none"}
    train(options(run, max_steps=24, validate_every=4, metric="acc", **diverging), events.append)
    losses = [e.loss for e in events if isinstance(e, Validated)]
    position = trainingstate.load_state(run / "state")[1]["position"]
    assert len(losses) == 6
    assert position["lowest_loss"] == min(losses) < max(losses)
