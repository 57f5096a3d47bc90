"""The course of a training, from ``metrics.jsonl``, as a page shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from s2scli.files import os_error
from s2scli.wording import duration

MOST_POINTS = 400
"""Points of a curve; more would be finer than a screen."""

Point = tuple[float, float]


def read_training(path: Path) -> dict[str, Any] | None:
    """What a page shows of a training; None where there is no record, or none of an update.

    Lines that are no records are passed over: a training that is writing may have begun one.

    Raises:
        S2SError: The file cannot be read.
    """
    try:
        records = list(_records(path.read_text(encoding="utf-8", errors="replace")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_error(error, path) from error
    steps = [r for r in records if r["event"] == "step"]
    validations = [r for r in records if r["event"] == "validation"]
    if not steps and not validations:
        return None
    exact = (
        bool(validations) and validations[-1].get("metric") == "acc"
    )  # of strings, where BLEU says nothing
    first = ("accuracy", "accuracy") if exact else ("BLEU", "bleu")
    starts = [r for r in records if r["event"] == "start"]
    ends = [r for r in records if r["event"] == "end"]
    last = ends[-1] if ends else max(steps + validations, key=lambda record: record["step"])
    facts = [("updates", f"{last['step']:,}"), ("time", duration(last.get("elapsed", math.nan)))]
    if ends and ends[-1].get("reason"):
        facts.append(("ended because", ends[-1]["reason"]))
    facts += [
        (name.replace("_", " "), str(value))
        for name, value in (starts[-1].get("settings", {}) if starts else {}).items()
    ]
    return {
        "loss": _series(("training", steps, "loss"), ("validation", validations, "loss")),
        "quality": _series((first[0], validations, first[1]), ("chrF", validations, "chrf")),
        "score": first[0],
        "validations": [
            [_number(v.get(name)) for name in ("step", "loss", first[1], "chrf")] + [bool(v.get("best"))]
            for v in thin(validations)
        ],
        "facts": facts,
    }


def _records(text: str) -> Iterator[dict[str, Any]]:
    for line in text.split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "event" in record and "step" in record:
            yield record


def _series(*wanted: tuple[str, list[dict[str, Any]], str]) -> list[dict[str, Any]]:
    """The curves that have points, as the page's ``lineChart`` takes them."""
    found = []
    for name, records, key in wanted:
        points = averaged((r["step"], r[key]) for r in records if _number(r.get(key)) is not None)
        if points:
            found.append({"name": name, "points": points})
    return found


def averaged(points: Iterable[Point]) -> list[Point]:
    """At most `MOST_POINTS` points: means of neighbours, where there are more."""
    every = list(points)
    size = math.ceil(len(every) / MOST_POINTS)
    groups = [every[i : i + size] for i in range(0, len(every), max(1, size))]
    return [(g[-1][0], round(sum(y for _, y in g) / len(g), 4)) for g in groups]


def thin(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most about `MOST_POINTS` records: every k-th, the best ones and the last in any case."""
    size = math.ceil(len(records) / MOST_POINTS)
    last = len(records) - 1
    return [r for i, r in enumerate(records) if size < 2 or i % size == 0 or i == last or r.get("best")]


def _number(value: Any) -> float | None:
    """A finite number, or None: JSON for a browser has no other."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return round(value, 4)
