"""What ``s2s preprocess`` says it did: the content of ``report.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2scli import selection as sel
from s2scli.config import PreprocessOptions
from s2scli.corpus import file_size
from s2scli.events import Listener, Notice
from s2scli.inputs import SPLITS
from s2scli.parallel import Parallel, has_features
from s2scli.resolve import as_dict
from s2scli.shards import ParallelData
from s2scli.survey import Survey
from s2scli.wording import named

FORMAT = 1
"""Version of ``report.json`` and of the folder around it."""


def build_report(
    folder: Path,
    options: PreprocessOptions,
    sets: dict[str, Parallel],
    surveys: dict[str, Survey],
    unknown: dict[str, Any],
    listen: Listener,
) -> dict[str, Any]:
    """The report on the data just written to ``folder``; warns of what spoils scores."""
    train = surveys["train"]
    kept = train.sources[train.fate == sel.TRAIN]
    pairs = {"read": len(train)}
    lengths: dict[str, Any] = {}
    overlap: dict[str, int] = {}
    blanks: dict[str, int] = {}
    held_out: list[str] = []
    for split, name in enumerate(SPLITS):
        if not list(folder.glob(f"{name}-*.safetensors")):
            pairs[name] = 0
            continue
        data = ParallelData.open(folder, name)
        pairs[name] = len(data)
        lengths[name] = {"source": _spread(data.source_lengths), "target": _spread(data.target_lengths)}
        for side, found in unknown[name].items():
            _warn_of_unknown(listen, name, side, found)
        if name == "train":
            continue
        if name not in surveys:
            held_out.append(name)
        given = surveys[name].sources if name in surveys else train.sources[train.fate == split]
        known = np.unique(kept[sel.members(kept, given)])
        overlap[name] = int(sel.members(given, known).sum())
        blanks[name] = _blanks(folder, name, features=has_features(options.columns))
        longest = np.maximum(data.source_lengths, data.target_lengths)
        long = int((longest > options.max_length).sum())
        _warn(listen, name, overlap[name], blanks[name], long, options.max_length, len(data))
    return {
        "format": FORMAT,
        "pairs": pairs,
        "dropped": {reason: int((train.fate == code).sum()) for code, reason in sel.REASONS.items()},
        "overlap": overlap,
        "blank": blanks,
        "unknown": unknown,
        "replaced_bytes": {name: survey.replaced for name, survey in surveys.items()},
        "lengths": lengths,
        "held_out": held_out,
        "files": [
            {"set": name, "path": str(path), "bytes": file_size(path)}
            for name, parallel in sets.items()
            for path in parallel.files
        ],
        "options": as_dict(options),
    }


def _spread(lengths: NDArray[np.int32]) -> dict[str, Any]:
    """Total, mean, median, 99th percentile and maximum of lengths in tokens."""
    if not len(lengths):
        return {"total": 0, "mean": 0.0, "median": 0, "p99": 0, "max": 0}
    middle, high = np.percentile(lengths, (50, 99), method="lower")
    return {
        "total": int(lengths.sum(dtype=np.int64)),
        "mean": round(float(lengths.mean()), 2),
        "median": int(middle),
        "p99": int(high),
        "max": int(lengths.max()),
    }


def _blanks(folder: Path, name: str, *, features: bool) -> int:
    """Lines of a held-out set that are blank on a side; tags alone are no text."""
    count = 0
    with (
        (folder / f"{name}.source.txt").open(encoding="utf-8", newline="\n") as left,
        (folder / f"{name}.target.txt").open(encoding="utf-8", newline="\n") as right,
    ):
        for source, target in zip(left, right, strict=True):
            text = source.partition("\t")[0] if features else source
            count += not (text.strip() and target.strip())
    return count


def _warn(
    listen: Listener, name: str, overlap: int, blanks: int, long: int, max_length: int, pairs: int
) -> None:
    if blanks:
        text = f"{blanks:,} of {pairs:,} {name} pairs are blank on a side; they are kept, and scored"
        listen(Notice(text=text, warning=True))
    if overlap:
        text = (
            f"{overlap:,} of {pairs:,} {name} sources occur in the training data too, "
            "which flatters the scores; --drop-overlap leaves such training pairs out"
        )
        listen(Notice(text=text, warning=True))
    if long:
        loss = "validation leaves out their loss, and " if name == "dev" else ""
        text = (
            f"{long:,} of {pairs:,} {name} pairs have a side of more than {max_length:,} tokens "
            f"(--max-length); they are kept, but {loss}long sources are translated in pieces"
        )
        listen(Notice(text=text, warning=True))


def _warn_of_unknown(listen: Listener, name: str, side: str, found: dict[str, Any]) -> None:
    if not found["tokens"]:
        return
    shown = list(found.get("most", {}).items())
    most = ": " + ", ".join(f"{named(symbol)} ({n:,})" for symbol, n in shown[:5]) if shown else ""
    more = ", …" if len(shown) > 5 else ""
    count = f"{found['tokens']:,} in all"
    text = f"Symbols of the {name} {side} that are not in the vocabulary, {count}{most}{more}"
    listen(Notice(text=text, warning=name != "train"))  # a cap on the vocabulary was chosen
