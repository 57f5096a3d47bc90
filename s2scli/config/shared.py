"""Options that several commands have, the same in each."""

from __future__ import annotations

from typing import Any

from s2scli.config.declare import option


def beam_option(panel: str) -> Any:
    """How wide the search is."""
    return option(5, "Hypotheses kept at each step; 1 is greedy search.", panel, low=1, high=1000)


def set_option(panel: str) -> Any:
    """Which held-out set is translated."""
    return option("auto", "Held-out set to translate; auto is test, or dev where there is none.", panel)


def device_option() -> Any:
    """On which device to compute."""
    return option("auto", "Where to compute.", "Machine")


def search_precision_option() -> Any:
    """In which number format to search."""
    help = "Number format of the arithmetic; auto is the fastest that the processor has."
    return option("auto", help, "Machine")


def threads_option() -> Any:
    """With how many threads."""
    return option(None, "CPU threads.", "Machine", low=1, high=1024, auto="one per core")
