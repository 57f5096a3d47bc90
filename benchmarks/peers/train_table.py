"""What benchmarks/train_speed.py has measured, as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from peers.measure import summary
from peers.table import rows
from peers.train_systems import SIZES, System

from s2scli.runtime import has_fast_bf16

BASE = "onmt"
"""The system that the others' speed is compared with."""

Found = dict[str, Any]


def report(results: Found, known: dict[str, System]) -> str:
    """The machine, and for each setting the floor and a table of the systems."""
    threads, machine = results["threads"], results["machine"]
    parts = [
        f"{threads} thread{'s' * (threads > 1)}, PyTorch {results['torch']}; GEMM peak: fp32 "
        f"{machine['fp32']:,.0f} GFLOP/s, bf16 {machine['bf16']:,.0f} GFLOP/s; "
        f"copying {machine['copy']:.1f} GB/s."
    ]
    for name, setting in results["settings"].items():
        parts += [f"**{name}**", *told(name, setting["floor"], machine), speeds(setting, known)]
    used = {key for setting in results["settings"].values() for key in setting["runs"]}
    notes = [f"- {known[key].name}: {known[key].note}." for key in known if key in used and known[key].note]
    parts += ["\n".join(notes)] * bool(notes)
    return "\n\n".join(parts)


def told(name: str, floors: Found, machine: dict[str, float]) -> list[str]:
    """The floor in a table, and how much of it the optimiser adds."""
    head = ["decoder", "MFLOP a target token", "floor fp32, target tokens/s", "floor bf16, target tokens/s"]
    lines = [head]
    for feed, label in (("none", "without input feeding"), ("input", "with input feeding")):
        cells = (f"{floors[feed][kind]:,.0f}" for kind in ("fp32", "bf16"))
        lines.append([label, f"{floors[feed]['megaflop']:.1f}", *cells])
    floor, batch = floors["none"], SIZES[name].batch_tokens
    seconds = floor["optimiser_megabytes"] / machine["copy"] / 1e3
    products = {kind: batch / floor[kind] for kind in ("fp32", "bf16")}
    shares = ", ".join(f"{seconds / products[kind]:.0%} in {kind}" for kind in products)
    memory = (
        f"The floor counts products alone. The optimiser moves {floor['optimiser_megabytes']:,.0f} MB an "
        f"update at least: {1e3 * seconds:.0f} ms. With {batch:,} tokens a batch, that adds {shares}."
    )
    return [rows(lines), memory]


def limit(system: System, floors: Found) -> float:
    """The floor for a system: in its number format, with input feeding if it has it."""
    fast = system.bf16 and has_fast_bf16(torch.device("cpu"))
    return float(floors["input" if system.feed else "none"]["bf16" if fast else "fp32"])


def speeds(setting: Found, known: dict[str, System]) -> str:
    """One line a system."""
    rates = {
        key: summary([run["tokens_per_second"] for run in runs]) for key, runs in setting["runs"].items()
    }
    base = rates[BASE]["median"] if BASE in rates else None
    head = ["system", "target tokens/s (least–most)", "share of the floor", "memory, MB", "waiting for data"]
    lines = [head]
    for key, runs in setting["runs"].items():
        system, rate = known[key], rates[key]
        cells = [f"{rate['median']:,.0f} ({rate['least']:,.0f}–{rate['most']:,.0f})"]
        cells += [f"{rate['median'] / limit(system, setting['floor']):.0%}"]
        cells += [f"{max(run['megabytes'] for run in runs):,.0f}"]
        # The others do not say how long they wait.
        cells += [
            f"{statistics.median(run['waiting'] for run in runs):.1%}" if key.startswith("ours") else "–"
        ]
        lines.append([system.name, *cells])
    if base is not None:
        ratios = [f"× {known[BASE].name}", *(f"{rates[key]['median'] / base:.2f}" for key in setting["runs"])]
        lines = [[*line[:2], ratio, *line[2:]] for line, ratio in zip(lines, ratios, strict=True)]
    return rows(lines)
