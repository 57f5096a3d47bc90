"""The processor cores, and which thread works on which."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import torch

_TASKS = Path("/proc/self/task")


def physical_cores() -> list[frozenset[int]]:
    """The cores that this process may use, each as the numbers of its hardware threads."""
    if not hasattr(os, "sched_getaffinity"):
        return [frozenset()] * torch.get_num_threads()  # which does not count hardware threads
    allowed = os.sched_getaffinity(0)
    cores = set()
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings")
        try:
            mask = int(path.read_text().replace(",", ""), 16)
        except (OSError, ValueError):  # not Linux, or hidden from us
            mask = 0
        cores.add(frozenset(n for n in allowed if n == cpu or mask >> n & 1))
    return sorted(cores, key=min)


def own_cores(count: int) -> list[frozenset[int]]:
    """A core for each of so many at work: left alone, two were seen to share one while another idled.

    Empty where they do not take all cores: on a part of them, another command might be bound to the same.
    """
    cores = physical_cores()
    return [*cores] if count == len(cores) else [frozenset()] * count


def spread_team(count: int) -> None:
    """Bind the threads that share the caller's operations to a core each, if with it they take all cores.

    Some systems else keep the whole team on one core while another program is at work on the other. Each
    operation then waits for a thread that does not run: a training was seen to make a twentieth of its
    usual tokens. The caller itself stays free to move, and so do the threads and processes that it begins.

    To be called before the first operation on many numbers: a team that is there already stays as it is.
    """
    cores = own_cores(count)
    if count < 2 or not all(cores) or not _TASKS.is_dir():
        return
    before = set(os.listdir(_TASKS))
    torch.zeros(count << 16)  # long enough that all take part
    team = [int(task) for task in os.listdir(_TASKS) if task not in before]
    if len(team) != count - 1:  # there already, or somebody else has begun threads meanwhile
        return
    for task, core in zip(team, cores[1:], strict=True):
        with suppress(OSError):  # some containers refuse it, and it is for speed alone
            os.sched_setaffinity(task, core)
