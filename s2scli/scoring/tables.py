"""A report of scores as a table for people, 80 columns wide."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len, chop_cells, set_cell_size

from s2scli.scoring.metrics import HIGHER_IS_BETTER
from s2scli.wording import visible

WIDTH = 80
COLUMNS = 7
"""Columns of scores that fit beside each other."""
LEVEL = 0.05
"""Differences with a smaller p are marked."""


def table(report: dict[str, Any]) -> str:
    """What ``s2s score`` shows of the report that ``score`` gives."""
    systems = report["systems"]
    rows = list(_heading(report))
    rows += _one(systems[0]) if len(systems) == 1 else _several(systems)
    rows += _method(report)
    for key, title in (("by_length", "source length"), ("by_frequency", "frequency of the rarest source")):
        if key in systems[0]:
            rows += _breakdown(systems, key, title)
    for system in systems:
        if "confusions" in system:
            rows += _confusions(system, named=len(systems) > 1)
    rows += ["", "Signatures"]
    for item in systems[0]["scores"]:
        rows += _signature(item["name"], item["signature"])
    return "\n".join(rows)


def _plain(text: str) -> str:
    return visible(text).plain


def _fold(text: str, indent: int = 2) -> list[str]:
    """Text in lines of 80 columns, the further ones set in."""
    rows: list[str] = []
    for word in text.split(" "):
        if rows and cell_len(f"{rows[-1]} {word}") <= WIDTH:
            rows[-1] += f" {word}"
            continue
        # A word that no line holds, a path mostly, is cut where a line ends.
        first, *more = chop_cells(word, WIDTH - indent) if word else [""]
        rows += [(" " * indent if rows else "") + first, *(" " * indent + part for part in more)]
    return rows


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else str(number + 1)


def _heading(report: dict[str, Any]) -> Iterator[str]:
    title = {"test": "Test set", "dev": "Development set"}.get(report["set"], "Given hypotheses")
    title += f", {report['lines']:,} line" + ("" if report["lines"] == 1 else "s")
    systems = report["systems"]
    if len(systems) == 1:
        settings = ", ".join(f"{k.replace('_', ' ')} {v:g}" for k, v in report["settings"].items())
        title += f": {_plain(systems[0]['name'])}" + (f" ({settings})" if settings else "")
    yield from _fold(title)
    yield from _fold(f"References: {_plain(', '.join(report['references']))}")
    for i, system in enumerate(systems if len(systems) > 1 else []):
        yield from _fold(
            f"  {_letter(i)}  {_plain(system['name'])}{' (the baseline)' if i == 0 else ''}", indent=5
        )
    yield ""


def _arrow(metric: str) -> str:
    return "higher is better" if HIGHER_IS_BETTER[metric] else "lower is better"


def _number(item: dict[str, Any]) -> str:
    """A score with its interval, if it has one."""
    text = f"{item['score']:>7.2f}"
    return text if item["low"] is None else f"{text}   {item['low']:>6.2f} – {item['high']:<6.2f}"


def _one(system: dict[str, Any]) -> Iterator[str]:
    for item in system["scores"]:
        yield f"  {item['name']:<8}{_number(item)}   {_arrow(item['metric'])}"
        if item["details"]:
            yield f"  {'':<10}{item['details']}"


def _several(systems: Sequence[dict[str, Any]]) -> Iterator[str]:
    for m, first in enumerate(systems[0]["scores"]):
        yield f"{first['name']}, {_arrow(first['metric'])}"
        for i, system in enumerate(systems):
            item = system["scores"][m]
            row = f"  {_letter(i):<3}{_number(item)}"
            if i:
                row += f"   {item['score'] - first['score']:>+7.2f}"
            if item["p_value"] is not None:
                # Of two systems with the same lines sacreBLEU's p is the smallest there is.
                marked = item["p_value"] < LEVEL and item["score"] != first["score"]
                row += f"   p = {item['p_value']:.4f}" + (" *" if marked else "")
            yield row.rstrip()
        yield ""


def _method(report: dict[str, Any]) -> list[str]:
    """What the intervals and p-values are."""
    how = report["resampling"]
    seed = "a new seed" if how["seed"] is None else f"seed {how['seed']}"
    rows = [] if len(report["systems"]) > 1 else [""]
    if how["resamples"]:
        rows += _fold(f"95% intervals: {how['resamples']:,} bootstrap resamples of the lines, {seed}.")
    if how["test"]:
        test = f"{how['test']['resamples' if how['test']['name'] == 'bootstrap' else 'trials']:,}"
        name = (
            f"paired bootstrap, {test} resamples"
            if how["test"]["name"] == "bootstrap"
            else f"approximate randomization, {test} trials, {seed}"
        )
        rows += _fold(
            f"p: how often chance alone makes a difference from A this large ({name}); * where below {LEVEL}."
        )
    return rows if any(rows) else []


def _grid(heads: Sequence[str], rows: Sequence[tuple[str, int, Sequence[float]]], unit: str) -> Iterator[str]:
    """Bins downward, scores to the right, as many beside each other as fit."""
    for begin in range(0, len(heads), COLUMNS):
        part = slice(begin, begin + COLUMNS)
        yield f"  {unit:<12}{'lines':>7}" + "".join(f"{head:>8}" for head in heads[part])
        for label, lines, scores in rows:
            yield f"  {label:<12}{lines:>7,}" + "".join(f"{score:>8.2f}" for score in scores[part])


def _breakdown(systems: Sequence[dict[str, Any]], key: str, title: str) -> Iterator[str]:
    """Scores by bins: of one system all metrics beside each other, of several the systems, by metric."""
    first = systems[0][key]
    unit, bins = first["unit"], first["bins"]
    head = "times" if key == "by_frequency" else unit
    subject = f"{title} {unit.removesuffix('s')}" if key == "by_frequency" else f"{title} in {unit}"
    names = {item["metric"]: item["name"] for item in systems[0]["scores"]}
    if len(systems) == 1:
        rows = [(b["label"], b["lines"], list(b["scores"].values())) for b in bins]
        yield from ("", f"By {subject}", *_grid(list(names.values()), rows, head))
        return
    for metric, name in names.items():
        rows = [
            (b["label"], b["lines"], [system[key]["bins"][i]["scores"][metric] for system in systems])
            for i, b in enumerate(bins)
        ]
        letters = [_letter(i) for i in range(len(systems))]
        yield from ("", f"{name} by {subject}", *_grid(letters, rows, head))


def _symbol(text: str | None) -> str:
    """A symbol that can be seen: of white space but the usual its code point."""
    if text is None:
        return "(none)"
    return "".join("␣" if c == " " else f"U+{ord(c):04X}" if c.isspace() else _plain(c) for c in text)


def _pair(item: dict[str, Any]) -> tuple[str, str]:
    """Reference and hypothesis of an error, so that they can be told apart."""
    one, other = _symbol(item["reference"]), _symbol(item["hypothesis"])
    if unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other):
        return ascii(one)[1:-1], ascii(other)[1:-1]
    return one, other


def _cell(text: str, width: int) -> str:
    """Text padded or cut to a number of columns; a Korean letter takes two."""
    return set_cell_size(text if cell_len(text) <= width else set_cell_size(text, width - 1) + "…", width)


def _confusions(system: dict[str, Any], *, named: bool) -> Iterator[str]:
    found = system["confusions"]["errors"]
    yield ""
    title = f"Most frequent errors in {system['confusions']['unit']}"
    yield from _fold(title + (f": {_plain(system['name'])}" if named else ""))
    if not found:
        yield "  none"
        return
    pairs = [_pair(item) for item in found]
    widths = [min(23, max(9 + side, *(cell_len(pair[side]) for pair in pairs))) for side in (0, 1)]
    left, right = widths
    yield f"  {'reference':<{left}}   {'hypothesis':<{right}}   {'times':>7}   {'of all':>7}   {'share':>6}"
    for (wanted, written), item in zip(pairs, found, strict=True):
        share = 100 * item["count"] / item["occurrences"]
        yield (
            f"  {_cell(wanted, left)} → {_cell(written, right)}   {item['count']:>7,}   "
            f"{item['occurrences']:>7,}   {share:>5.1f}%"
        )


def _signature(name: str, signature: str) -> Iterator[str]:
    """A signature in lines of 80 columns, broken only between its parts."""
    row = f"{name:<8}"
    for i, part in enumerate(signature.split("|")):
        piece = part if i == 0 else f"|{part}"
        if len(row) + len(piece) > WIDTH:
            yield row.rstrip()
            row = " " * 8
        row += piece
    yield row
