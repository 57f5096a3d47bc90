"""The measured numbers as Markdown tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from peers.measure import System

Found = dict[str, Any]


def markdown(found: Sequence[Found], systems: Sequence[System], texts: Sequence[str]) -> str:
    """A table for each number of threads, the notes, and the floor."""
    parts = []
    for threads in dict.fromkeys(f["threads"] for f in found):
        searches = [f for f in found if f["threads"] == threads]
        parts += [f"**{threads} thread{'s' * (threads > 1)}**", speeds(searches, systems, texts)]
    notes = [f"- {system.name}: {system.note}" for system in systems if system.note]
    parts += ["\n".join(notes)] * bool(notes)
    return "\n\n".join([*parts, floors(found, systems, texts[0])])


def rows(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head."""
    head, *body = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *body])


def speeds(searches: Sequence[Found], systems: Sequence[System], texts: Sequence[str]) -> str:
    """One line a system; sentences per second with the batch size in brackets."""
    names = {f["beam"]: "greedy" if f["beam"] == 1 else f"beam {f['beam']}" for f in searches}
    columns: list[tuple[str, Callable[[str], str]]] = []
    for text in texts:
        for f in searches:
            label = f"{text}: {names[f['beam']]}" if f is searches[0] else names[f["beam"]]
            columns.append((label, lambda name, f=f, text=text: speed(f["texts"][text][name])))
    for f in searches:
        columns.append((f"BLEU {names[f['beam']]}", lambda name, f=f: bleu(f["texts"][texts[0]][name])))
    columns.append(("tokens a line", lambda name: lengths(searches, texts[0], name)))
    columns.append(("memory, MB", lambda name: f"{memory(searches, name):,.0f}"))
    columns.append(("first line, s", lambda name: f"{searches[0]['latency'][name]['first']:.1f}"))
    for f in searches:
        columns.append((f"p50 / p95 {names[f['beam']]}, ms", lambda name, f=f: waits(f["latency"][name])))
    head = ["system", *(label for label, _ in columns)]
    return rows([head, *([s.name, *(known(cell, s.name) for _, cell in columns)] for s in systems)])


def known(cell: Callable[[str], str], name: str) -> str:
    """What a cell says of a system; a dash where it was left out of that search."""
    try:
        return cell(name)
    except KeyError:
        return "–"


def speed(result: Found) -> str:
    return f"{result['sentences_per_second']['median']:,.0f} ({result['batch']})"


def bleu(result: Found) -> str:
    return f"{result['bleu']:.1f}" if "bleu" in result else "–"


def lengths(searches: Sequence[Found], text: str, name: str) -> str:
    """Target tokens of a line, end included: a system that writes less has less to do."""
    results = [f["texts"][text][name] for f in searches if name in f["texts"][text]]
    return " / ".join(f"{result['tokens_per_line']:.1f}" for result in results)


def waits(result: Found) -> str:
    return f"{result['p50']:.0f} / {result['p95']:.0f}"


def memory(searches: Sequence[Found], name: str) -> float:
    results = (result for f in searches for result in f["texts"].values())
    return max(result[name]["megabytes"] for result in results if name in result)


def floors(found: Sequence[Found], systems: Sequence[System], text: str) -> str:
    """The speed that the model's arithmetic allows, and the share of it that this project reaches."""
    head = [
        "sentences/s",
        "threads",
        "beam",
        "reached",
        "output columns",
        "floor fp32",
        "share",
        "bf16",
        "share",
    ]
    lines = [head]
    for f in found:
        for system in systems:
            if system.name not in f["floor"]:
                continue
            limits, result = f["floor"][system.name], f["texts"][text][system.name]
            reached = result["sentences_per_second"]["median"]
            line = [system.name, *(str(f[key]) for key in ("threads", "beam"))]
            line += [f"{reached:,.0f}", f"{limits['columns']:,}"]
            for number_format in ("fp32", "bf16"):
                line += [f"{limits[number_format]:,.0f}", f"{reached / limits[number_format]:.0%}"]
            lines.append(line)
    peaks = {f["threads"]: f["floor"]["gflops"] for f in found}
    told = "; ".join(
        f"{threads} thread{'s' * (threads > 1)}: fp32 {peak['fp32']:,.0f}, bf16 {peak['bf16']:,.0f}"
        for threads, peak in peaks.items()
    )
    return f"{rows(lines)}\n\nGEMM peak in GFLOP/s, {told}."
