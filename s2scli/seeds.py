"""``s2s train --seeds N``: several trainings that differ in their seed, as many at once as there are cores.

Each runs in a process of its own with one thread, which is what `s2s train --threads 1` does and gives the
same weights. On one model more threads would wait for each other at every small step.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from s2scli import trainingstate
from s2scli.config import TrainOptions
from s2scli.crew import Crew, places
from s2scli.errors import S2SError, UsageError
from s2scli.events import Listener, Notice, TrainingEnded, WhileItLasts, silent
from s2scli.resolve import checked
from s2scli.runfolder import claimed, data_folder, members, replacing_models
from s2scli.runtime import set_up
from s2scli.several import SeedsEnded, SeedsStarted, Standing, seed_list
from s2scli.train import (
    LIMITS,
    check_nothing_in_the_way,
    find_data,
    read_inputs,
    resumed_options,
)
from s2scli.wording import duration

LARGEST_SEED = 2**32 - 1


def has_seeds(options: TrainOptions) -> bool:
    """Whether these options are for several trainings: asked for, or in the folder and to be gone on with."""
    asked = options.seeds > 1 and (not options.resume or options.asks("seeds"))
    return asked or (options.resume and bool(members(options.run)))


def train_seeds(options: TrainOptions, listen: Listener = silent) -> SeedsEnded:
    """Train models with the seeds ``seed``, ``seed`` + 1, …, each in ``<run>/seeds/<seed>``.

    Args:
        options: See ``s2s train --help``. The limits are those of each model, the threads those of all.
        listen: Told the events of each as `OfSeed`, and how they go together.

    Raises:
        S2SError: As `train`; or some of the trainings have failed, and the others are done.
    """
    options, listen = checked(options), WhileItLasts(listen)
    if data_folder(options.run) != options.run / "data":
        hint = "Name the folder that seeds/ stands in, or train this one without --seeds."
        raise UsageError("this is the folder of one of several seeds", where=str(options.run), hint=hint)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        hint = "Start s2s train --seeds without torchrun: it starts processes of its own."
        raise UsageError("several processes share each model under torchrun", where="--seeds", hint=hint)
    with claimed(options.run):
        find_data(options.run)
        check_nothing_in_the_way(options)
        jobs, like = _going_on(options) if options.resume else (_anew(options), options)
        on_gpu = set_up(like.device, like.precision, None).device.type == "cuda"
        read_inputs(like)  # what is wrong with the data or the options is said once, and before anything goes
        with nullcontext() if options.resume else replacing_models(options.run):
            for job in jobs:
                job.run.mkdir(parents=True, exist_ok=True)  # so that those that never begin are known too
        outcomes: dict[int, TrainingEnded | S2SError] = {}
        if jobs:
            where = places(len(jobs), options.threads, on_gpu=on_gpu)
            seeds = tuple(job.seed for job in jobs)
            text = _plan(seeds, len(where), like, on_gpu=on_gpu)
            listen(SeedsStarted(seeds=seeds, at_once=len(where), text=text))
            outcomes = Crew(jobs, where, listen).run()
        else:
            text = "There is nothing left to do: all trainings have ended. Raise a limit or --seeds to go on."
            listen(Notice(text=text))
        failures = {seed: end for seed, end in outcomes.items() if isinstance(end, S2SError)}
        standings = tuple(_standing(member, outcomes) for member in members(options.run))
        unfinished = any(of.ended is None for of in standings)
        resume = f"s2s train --resume --run {shlex.quote(str(options.run))}"
        ended = SeedsEnded(
            run=str(options.run),
            standings=standings,
            how_to_go_on=resume if unfinished and not failures else None,
        )
        listen(ended)
        if failures:
            begun = any(of.step is not None for of in standings)
            raise _failure(options.run, failures, resume if begun else None)
        return ended


# Which trainings there are to be


def _of_seed(options: TrainOptions, seed: int, **changes: Any) -> TrainOptions:
    """The options of the training with this seed, as for `train`."""
    run = options.run / "seeds" / str(seed)
    return options.changed(run=run, seed=seed, seeds=1, threads=1, force=False, **changes)


def _anew(options: TrainOptions) -> list[TrainOptions]:
    last = options.seed + options.seeds - 1
    if last > LARGEST_SEED:
        hint = f"The last of {options.seeds} seeds would be {last}: give a --seed of a smaller number."
        raise UsageError(f"a seed is at most {LARGEST_SEED}", where="--seeds", hint=hint)
    return [_of_seed(options, seed) for seed in range(options.seed, last + 1)]


def _going_on(options: TrainOptions) -> tuple[list[TrainOptions], TrainOptions]:
    """The trainings that have not ended or not begun, and the options of one that begins.

    Raises:
        S2SError: No training has begun.
        UsageError: Something is asked for that cannot change in the middle.
    """
    states = {int(member.name): _state(member) for member in members(options.run)}
    known = next((state for state in states.values() if state), None)
    if known is None:
        hint = "Start one with s2s train."
        if (options.run / "state").is_dir():
            hint = "It holds one training, which goes on without --seeds."
        what = "there are no trainings with several seeds to resume"
        raise S2SError(what, where=str(options.run), hint=hint)
    first = min(states)
    if options.asks("seed") and options.seed != first:
        hint = "Leave it out, or start anew with --force."
        raise UsageError(f"a resumed training cannot change this (it was {first})", where="--seed", hint=hint)
    if options.asks("seeds") and options.seeds < len(states):
        hint = "Leave it out, or give a larger number to add models."
        raise UsageError(f"there are {len(states)} models in this run folder", where="--seeds", hint=hint)
    given = _of_seed(options, known["options"]["seed"])
    begun = resumed_options(known["options"], known["chosen"], given)
    # What was chosen from the data is chosen again, as for a training that nothing stands before.
    anew: dict[str, Any] = dict.fromkeys(begun.filled)
    like = replace(begun, run=options.run, resume=False, **anew)
    object.__setattr__(like, "from_file", begun.from_file)
    raised = any(options.asks(name) for name in LIMITS)
    jobs = []
    wanted = options.seeds if options.asks("seeds") else 0
    for seed in sorted({*states, *range(first, first + wanted)}):
        state = states.get(seed)
        if state is None:
            jobs.append(_of_seed(like, seed))
        elif raised or not state or state["position"]["ended"] is None:
            jobs.append(_of_seed(options, seed))
    return jobs, like


def _state(member: Path) -> dict[str, Any] | None:
    """What the last checkpoint of a training says; None if it has none, empty if it cannot be read."""
    if not (member / "state" / "training.safetensors").exists():
        return None
    try:
        return trainingstate.read_progress(member / "state")
    except S2SError:  # the training itself will say what is wrong
        return {}


def _standing(member: Path, outcomes: Mapping[int, TrainingEnded | S2SError]) -> Standing:
    seed, state = int(member.name), _state(member)
    now = outcomes.get(seed)
    if not state:
        return Standing(seed=seed)
    position, best = state["position"], state["position"]["best_score"]
    return Standing(
        seed=seed,
        step=position["step"],
        best_score=None if best is None else abs(best),
        metric=state["options"]["metric"],
        # A training that finds nothing left to do writes no checkpoint to say so.
        ended=now.reason if isinstance(now, TrainingEnded) and not now.how_to_go_on else position["ended"],
    )


def _plan(seeds: Sequence[int], at_once: int, options: TrainOptions, *, on_gpu: bool) -> str:
    where = "on the GPU" if on_gpu else "with one thread each"
    what = (
        f"{len(seeds)} models (seeds {seed_list(seeds)})"
        if len(seeds) > 1
        else f"the model of seed {seeds[0]}"
    )
    text = f"Training {what}, {at_once} at a time, {where}."
    if options.max_minutes is not None:
        rounds = -(-len(seeds) // at_once)
        text += f" All will take {duration(60 * options.max_minutes * rounds)} at most."
    return text


def _failure(run: Path, failures: dict[int, S2SError], resume: str | None) -> S2SError:
    """One error for all that failed: which, why, and how to go on."""
    seeds = sorted(failures)
    (first, *others) = [failures[seed] for seed in seeds]
    if all(error.what == first.what for error in others):
        what = f"{'training' if not others else 'trainings'} failed (seed{'s' if others else ''} "
        what += f"{seed_list(seeds)}): {first.what}"
    else:
        what = "trainings failed: " + "; ".join(f"seed {seed}: {failures[seed].what}" for seed in seeds)
    hints = list(dict.fromkeys(error.hint for error in failures.values() if error.hint))
    hints += [f"To go on with what has not ended: {resume}"] if resume else []
    error = S2SError(
        what, where=(first.where if not others else None) or str(run), hint=" ".join(hints) or None
    )
    for seed in seeds:
        for note in getattr(failures[seed], "__notes__", []):
            error.add_note(f"Seed {seed}:\n{note}")
    return error
