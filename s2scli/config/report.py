"""The options of ``s2s report``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from s2scli.config.choices import Device, SearchPrecision
from s2scli.config.declare import Options, option
from s2scli.config.shared import (
    beam_option,
    device_option,
    search_precision_option,
    set_option,
    threads_option,
)


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """A run in; one HTML file that shows it out."""

    run: Path = option(Path("s2s-run"), "Run folder whose data, training and translations are shown.", "Run")
    output: Path | None = option(
        None, "File to write.", "Run", auto="report.html in the run folder", short="o"
    )
    force: bool = option(False, "Replace an existing report.", "Run")
    set: Literal["auto", "test", "dev"] = set_option("Translations")
    lines: int = option(
        1000,
        "Most lines that the table of translations shows; the scores are of the whole set.",
        "Translations",
        low=1,
        high=20_000,
        unit="lines",
    )
    beam: int = beam_option("Translations")
    device: Device = device_option()
    precision: SearchPrecision = search_precision_option()
    threads: int | None = threads_option()
