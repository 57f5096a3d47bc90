"""The reference of the options is that of the program."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from s2scli.config import COMMANDS
from s2scli.reference import entries, markdown

PAGE = Path(__file__).parent.parent / "docs" / "configuration.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run `make docs`"


def test_every_option_stands_in_it() -> None:
    text = markdown()
    for command, options in COMMANDS.items():
        assert f"## s2s {command}\n" in text
        assert [e.name for e in entries(command)] == [f.name for f in fields(options)]


@pytest.mark.parametrize("command", COMMANDS)
def test_panels_are_not_torn_apart(command: str) -> None:
    panels = [entry.panel for entry in entries(command)]
    runs = [p for i, p in enumerate(panels) if i == 0 or panels[i - 1] != p]
    assert len(runs) == len(set(runs))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_is_a_sentence(command: str) -> None:
    for entry in entries(command):
        assert entry.help.endswith("."), entry.name
        assert entry.default or entry.repeatable, entry.name
