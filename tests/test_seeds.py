"""Several seeds at once: the models, what is said of them, and what becomes of them when one fails."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SMALL, copy_run, quiet
from test_console import said, stepped, validated

from s2scli import seeds, trainingstate
from s2scli.config import ReportOptions, ScoreOptions, TrainOptions
from s2scli.crew import places
from s2scli.errors import S2SError, UsageError
from s2scli.events import Event, Notice, Stepped, TrainingEnded, TrainingStarted
from s2scli.report import report
from s2scli.runfolder import locked, new_data
from s2scli.score import run as score
from s2scli.seeds import train_seeds
from s2scli.several import MOST_ROWS, Failed, OfSeed, SeedsEnded, SeedsStarted, Standing, seed_list
from s2scli.train import train

SHORT = TrainOptions(
    hidden=32, embedding=16, batch_tokens=200, precision="fp32", max_steps=12, validate_every=6, samples=1
)


def options(run: Path, **changes: object) -> TrainOptions:
    return TrainOptions(**{**vars(SHORT), "run": run, **changes})  # type: ignore[arg-type]


def going_on(run: Path, **changes: object) -> TrainOptions:
    return TrainOptions(run=run, resume=True, **changes)  # type: ignore[arg-type]


def weights(run: Path) -> list[bytes]:
    return [(run / name / "model.safetensors").read_bytes() for name in ("best", "last")]


def alone(prepared: Path, folder: Path, seed: int, **changes: object) -> list[bytes]:
    """The weights of a training of its own."""
    run = copy_run(prepared, folder / f"alone-{seed}")
    train(options(run, seed=seed, threads=1, **changes))
    return weights(run)


def begun(run: Path) -> bool:
    """Whether updates of a training have been recorded."""
    path = run / "metrics.jsonl"
    return path.exists() and '"step", ' in path.read_text()


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A run folder in which two seeds have replaced one model, and what was told. Do not write into it."""
    run, heard = copy_run(trained, tmp_path_factory.mktemp("seeds") / "run"), []
    train_seeds(options(run, seeds=2, seed=7, threads=2, force=True), heard.append)
    return run, heard


def test_each_model_is_that_of_its_seed_alone(
    made: tuple[Path, list[Event]], prepared: Path, tmp_path: Path
) -> None:
    run, heard = made
    assert sorted(p.name for p in run.iterdir()) == [".lock", "data", "seeds"], "the single model is replaced"
    for seed in (7, 8):
        assert weights(run / "seeds" / str(seed)) == alone(prepared, tmp_path, seed)
        lines = (run / "seeds" / str(seed) / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["event"] for line in lines][-1] == "end"
    assert weights(run / "seeds" / "7") != weights(run / "seeds" / "8")
    first, last = heard[0], heard[-1]
    assert isinstance(first, SeedsStarted) and isinstance(last, SeedsEnded)
    assert first.text == "Training 2 models (seeds 7 and 8), 2 at a time, with one thread each."
    assert [(s.seed, s.step, s.ended) for s in last.standings] == [
        (seed, 12, "the limit of 12 updates is reached") for seed in (7, 8)
    ]
    assert last.how_to_go_on is None


def test_one_of_them_is_a_run_folder_of_its_own(
    made: tuple[Path, list[Event]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = made[0] / "seeds" / "8"
    scoring = {"beam": 1, "threads": 1, "resamples": 50, "precision": "fp32"}
    score(ScoreOptions(run=run, by_frequency=True, **scoring), lambda event: None)  # type: ignore[arg-type]
    assert "Test set, 40 lines" in capsys.readouterr().out
    page = report(ReportOptions(run=run, beam=1, threads=1, output=tmp_path / "page.html"))
    assert "1,500" in page.read_text("utf-8"), "the report of the data is found"
    again = copy_run(made[0], tmp_path / "run") / "seeds" / "8"
    assert train(going_on(again, max_steps=14, threads=1)).step == 14


def test_models_are_replaced_only_on_request(
    made: tuple[Path, list[Event]], trained: Path, tmp_path: Path
) -> None:
    run = copy_run(made[0], tmp_path / "run")
    for of in (options(run), options(run, seeds=2)):
        with pytest.raises(S2SError, match="trained model in this run folder already") as caught:
            (train if of.seeds == 1 else train_seeds)(of)
        assert "--force" in str(caught.value)
    with pytest.raises(S2SError, match="trained model in this run folder already"):
        train_seeds(options(copy_run(trained, tmp_path / "single"), seeds=2))
    with pytest.raises(UsageError, match="goes on and --force"):
        train_seeds(options(run, seeds=2, resume=True, force=True))
    with locked(run / "seeds" / "7"), pytest.raises(S2SError, match="another training"):
        train(options(run, force=True, threads=1))
    with locked(run), pytest.raises(S2SError, match="another training"):
        train_seeds(going_on(run))
    with pytest.raises(UsageError, match="exactly the lecture's model"):  # before anything is removed
        train_seeds(options(run, seeds=2, force=True, preset="lecture", bridge="zero"))
    assert weights(run / "seeds" / "7") == weights(made[0] / "seeds" / "7")
    train(options(run, force=True, max_steps=2, threads=1))
    assert not (run / "seeds").exists()
    new = copy_run(made[0], tmp_path / "new")
    with pytest.raises(S2SError, match="data, seeds already"), new_data(new, force=False):
        pass
    with new_data(new, force=True):
        pass
    assert sorted(p.name for p in new.iterdir()) == [".lock", "data"]


def test_seeds_are_added(made: tuple[Path, list[Event]], prepared: Path, tmp_path: Path) -> None:
    run, heard = copy_run(made[0], tmp_path / "run"), []
    ended = train_seeds(going_on(run, seeds=3), heard.append)
    assert [s.seed for s in ended.standings] == [7, 8, 9]
    assert {e.seed for e in heard if isinstance(e, OfSeed)} == {9}, "the others have ended"
    assert weights(run / "seeds" / "9") == alone(prepared, tmp_path, 9)
    heard.clear()
    train_seeds(going_on(run), heard.append)
    assert any(isinstance(e, Notice) and "nothing left to do" in e.text for e in heard)
    assert not any(isinstance(e, OfSeed) for e in heard)


def test_what_cannot_be(
    made: tuple[Path, list[Event]], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made[0]
    with pytest.raises(UsageError, match=r"cannot change this \(it was 7\)") as caught:
        train_seeds(going_on(run, seed=5))
    assert caught.value.where == "--seed"
    with pytest.raises(UsageError, match="cannot change") as caught:
        train_seeds(going_on(run, hidden=64))
    assert caught.value.where == "--hidden"
    three = copy_run(run, tmp_path / "run")
    (three / "seeds" / "9").mkdir()
    with pytest.raises(UsageError, match="there are 3 models"):
        train_seeds(going_on(three, seeds=2))
    with pytest.raises(UsageError, match="at most 4294967295"):
        train_seeds(options(run, seed=2**32 - 2, seeds=3, force=True))
    with pytest.raises(UsageError, match="one of several seeds"):
        train_seeds(options(run / "seeds" / "7", seeds=2))
    with pytest.raises(UsageError, match="one model"):
        train(options(run, seeds=2))
    with pytest.raises(S2SError, match="no preprocessed data"):
        train_seeds(options(tmp_path, seeds=2))
    with pytest.raises(S2SError, match="no trainings with several seeds") as nothing:
        train_seeds(going_on(trained, seeds=2))
    assert "without --seeds" in str(nothing.value)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="torchrun"):
        train_seeds(options(run, seeds=2))


def test_one_is_killed_and_the_others_go_on(prepared: Path, tmp_path: Path) -> None:
    run, heard = copy_run(prepared, tmp_path / "run"), []

    def listen(event: Event) -> None:
        heard.append(event)
        if isinstance(event, OfSeed) and event.seed == 1 and isinstance(event.event, Stepped):
            for process in multiprocessing.active_children():
                if process.name == "seed 1":
                    process.kill()

    with pytest.raises(S2SError, match=r"training failed \(seed 1\): its process was killed") as caught:
        train_seeds(options(run, seeds=2, threads=2, max_steps=60, validate_every=20), listen)
    assert f"s2s train --resume --run {run}" in str(caught.value)
    assert "memory" in str(caught.value)
    assert any(isinstance(e, OfSeed) and e.seed == 1 and isinstance(e.event, Failed) for e in heard)
    ended = heard[-1]
    assert isinstance(ended, SeedsEnded)
    assert ended.standings[1].ended == "the limit of 60 updates is reached"
    damaged = run / "seeds" / "1" / "state" / "training.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"damaged")
    with pytest.raises(S2SError, match=r"training failed \(seed 1\)") as caught:
        train_seeds(going_on(run))
    assert caught.value.where == str(damaged)
    damaged.write_bytes(whole)
    assert all(s.ended for s in train_seeds(going_on(run)).standings)
    assert weights(run / "seeds" / "1") == alone(prepared, tmp_path, 1, max_steps=60, validate_every=20)


def start(run: Path, *more: object) -> subprocess.Popen[str]:
    """The real command, in a process group of its own, as a shell starts it; waits for the first updates."""
    command = [sys.executable, "-m", "s2scli", "train", "--run", run, *SMALL, "--max-steps", 100_000, *more]
    process = subprocess.Popen(
        [*map(str, command)], stderr=subprocess.PIPE, text=True, env=quiet(), start_new_session=True
    )
    while not begun(run / "seeds" / "1"):
        time.sleep(0.05)
        assert process.poll() is None
    return process


def test_ctrl_c_reaches_all_of_them(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    process = start(run, "--seeds", 2)  # one thread: the second waits
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"To go on: s2s train --resume --run {run}" in errors
    assert "seed 1: Training ended after" in errors
    assert "Traceback" not in errors
    state = trainingstate.read_progress(run / "seeds" / "1" / "state")
    assert state["position"]["step"] > 0 and state["position"]["ended"] is None
    ended = train_seeds(going_on(run, max_steps=12))
    assert [s.seed for s in ended.standings] == [1, 2]
    assert ended.how_to_go_on is None, "the limit is behind the first, and reached by the second"
    last = alone(prepared, tmp_path, 2, validate_every=None)
    assert weights(run / "seeds" / "2") == last


def test_without_their_parent_they_save_and_end(prepared: Path, tmp_path: Path) -> None:
    run = copy_run(prepared, tmp_path / "run")
    process = start(run, "--seeds", 2)
    process.kill()
    process.communicate(timeout=120)  # ends when all that hold the pipe have ended
    state = trainingstate.read_progress(run / "seeds" / "1" / "state")
    assert state["position"]["step"] > 0
    with locked(run / "seeds" / "1"):
        pass


def test_places_are_cores_of_their_own_where_all_are_taken() -> None:
    cores = places(1000, None, on_gpu=False)
    assert len(set(cores)) == len(cores)
    if hasattr(os, "sched_getaffinity"):
        assert sorted(n for core in cores for n in core) == sorted(os.sched_getaffinity(0))
    assert places(3, 1000, on_gpu=False) == ([frozenset()] * 3 if len(cores) != 3 else cores)
    assert places(1000, 1000, on_gpu=True) == [frozenset()] * 4


def test_errors_of_several_are_one() -> None:
    same = S2SError("the disk is full", where="/a", hint="Free some space.")
    error = seeds._failure(Path("my run"), {3: same, 1: same, 2: same}, "s2s train --resume")
    assert str(error) == (
        "my run: trainings failed (seeds 1 to 3): the disk is full. Free some space. "
        "To go on with what has not ended: s2s train --resume"
    )
    two = seeds._failure(Path("run"), {1: same, 2: S2SError("another training is running")}, None)
    assert two.what == "trainings failed: seed 1: the disk is full; seed 2: another training is running"
    assert two.hint == "Free some space."


def test_seeds_in_words() -> None:
    assert [seed_list(s) for s in ((7,), (7, 9), (7, 8, 9), (7, 8, 10))] == [
        "7",
        "7 and 9",
        "7 to 9",
        "7, 8 and 10",
    ]
    text = seeds._plan((1, 2, 3, 4, 5), 2, TrainOptions(max_minutes=10.0), on_gpu=False)
    assert text.endswith("2 at a time, with one thread each. All will take 30 min 00 s at most.")


STARTED = SeedsStarted(seeds=(7, 8, 9), at_once=2, text="Training 3 models.")
SETTINGS = TrainingStarted(
    settings={"cell": "lstm"}, parameters=5, pairs=6, total_steps=7, max_minutes=None, step=0
)
ENDED = TrainingEnded(
    reason="the limit is reached",
    step=1200,
    best_step=1000,
    best_score=32.5,
    metric="bleu",
    elapsed=75.0,
    model="run/seeds/7/best",
    how_to_go_on="s2s train --resume --run run/seeds/7",
)


def of(seed: int, *events: Event) -> list[Event]:
    return [OfSeed(seed=seed, event=event) for event in events]


def test_lines_say_whose_they_are() -> None:
    course = (SETTINGS, stepped(), validated(samples=(("a", "b", "c"),)), Notice(text="odd", warning=True))
    text = said(STARTED, *of(7, *course, ENDED), *of(8, *course, Failed(what="the disk is full")))
    lines = text.splitlines()
    assert lines[0] == "Training 3 models."
    assert text.count("cell") == 1, "the settings are those of all"
    for seed in (7, 8):
        assert f"seed {seed}: step 1,200" in text
        assert f"seed {seed}: Validation at step 1,200" in text
        assert f"seed {seed}: Warning: odd" in text
    assert "seed 7: Training ended after 1,200 updates" in text
    assert "seed 8: Failed: the disk is full" in lines
    assert "hypothesis" not in text
    assert "--resume" not in text, "one does not go on alone"


def test_a_terminal_shows_a_row_for_each() -> None:
    text = said(STARTED, *of(7, SETTINGS, stepped(), validated()), *of(8, SETTINGS), terminal=True)
    shown = text[text.rindex("seed 7") :]
    row, other, rest = (line.rstrip() for line in shown.splitlines()[:3])
    for part in ("step 1,200", "epoch 1.50", "loss 2.000", "best BLEU 32.50", "3 min 20 s left"):
        assert part in row
    assert other.startswith("seed 8") and other.endswith("starts")
    assert rest.startswith("to come: 9")
    assert "Validation" not in text
    text = said(STARTED, *of(7, SETTINGS, ENDED), *of(8, Failed(what="odd")), terminal=True)
    assert "ended: the limit is reached" in text
    assert "seed 8: Failed: odd" in text
    many = tuple(range(MOST_ROWS + 5))
    crowd = [e for seed in many for e in of(seed, SETTINGS, ENDED)]
    assert f"{len(many)} more are over" in said(
        SeedsStarted(seeds=many, at_once=9, text=""), *crowd, terminal=True
    )


def test_the_table_at_the_end() -> None:
    scores = {7: 30.0, 8: 36.0, 9: 31.0}
    standings = [Standing(seed=s, step=1200, best_score=x, ended="enough") for s, x in scores.items()]
    text = said(SeedsEnded(run="my run", standings=(*standings, Standing(seed=10)), how_to_go_on="go"))
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "8 1,200 BLEU 36.00 enough" in rows
    assert "10 not ended" in rows
    assert "middle BLEU 31.00 from BLEU 30.00 to BLEU 36.00" in rows
    assert "To go on: go" in rows
    assert "s2s translate --run 'my run' uses all of them together." in rows
    assert "translate" not in said(SeedsEnded(run="run", standings=(Standing(seed=1),)))
