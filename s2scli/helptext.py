"""The help pages: what Typer knows of a command, laid out for 80 columns.

Typer's own pages import a Markdown parser and a syntax highlighter, and give each
form of a flag a column of its own, which leaves little room for the sentences.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

WIDEST = 100
"""Longer lines than this are hard to read, however wide the terminal is."""


class _Page(io.StringIO):
    """A page in the encoding of the screen, by which Rich chooses lines that it can draw."""

    encoding: str = "utf-8"


def flags_of(param: Any) -> Text:
    """``-i, --input`` or ``--[no-]force``; an argument's name in capitals."""
    if getattr(param, "param_type_name", "") == "argument":
        return Text(f"[{param.name.upper()}]", style="bold cyan")
    shorts = [o for o in param.opts if not o.startswith("--")]
    longs = [o for o in param.opts if o.startswith("--")]
    if param.secondary_opts and longs:
        longs = [f"--[no-]{longs[0][2:]}"]
    return Text(", ".join(shorts + longs), style="bold cyan")


def _rows(rows: Iterable[tuple[RenderableType, ...]], first: int) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column(width=first, no_wrap=False)
    table.add_column(ratio=1)
    for row in rows:
        table.add_row(*row)
    return table


def _panel(content: RenderableType, title: str) -> Panel:
    return Panel(content, title=title, title_align="left", border_style="dim", box=box.ROUNDED)


def _option(param: Any) -> tuple[Text, Text]:
    left = flags_of(param)
    if param.metavar and getattr(param, "param_type_name", "") != "argument":
        left.append(f" {param.metavar}", style="yellow")
    # A Text, because help texts hold brackets of their own and must not be read as markup.
    text, _, details = (param.help or "").partition("\n")
    right = Text(text)
    if details:
        right.append(f" [{details}]", style="dim")
    return left, right


def render(command: Any, context: Any) -> str:
    """The help page of a Typer command or group."""
    colour = sys.stdout.isatty()
    width = min(shutil.get_terminal_size().columns, WIDEST)
    file = _Page()
    file.encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    console = Console(file=file, width=width, force_terminal=colour, highlight=False, emoji=False)
    usage = Text(" ".join([context.command_path, *command.collect_usage_pieces(context)]), style="bold")
    console.print(Padding(Text.assemble(("Usage: ", "yellow"), usage), (1, 1, 1, 1)))
    if command.help:
        console.print(Padding(Text(command.help), (0, 1, 1, 1)))
    if command.epilog:
        console.print(Padding(Text(command.epilog, style="dim"), (0, 1, 1, 1)))
    panels: dict[str, list[Any]] = {}
    for param in command.get_params(context):
        if not getattr(param, "hidden", False):
            panels.setdefault(getattr(param, "rich_help_panel", None) or "General", []).append(param)
    commands = [command.get_command(context, name) for name in _names(command, context)]
    if commands:
        rows = [(Text(c.name, style="bold cyan"), Text(c.short_help or c.help or "")) for c in commands]
        console.print(_panel(_rows(rows, max(len(c.name) for c in commands)), "Commands"))
    # One width for all panels of a page, so that the sentences stand in one column.
    options = {title: [_option(p) for p in params] for title, params in panels.items()}
    every = [row[0].cell_len for rows in options.values() for row in rows]
    first = min(max(every, default=0), width * 2 // 5)
    last = options.pop("General", None)
    for title, option_rows in [*options.items(), *([("General", last)] if last else [])]:
        console.print(_panel(_rows(option_rows, first), title))
    return file.getvalue()


def _names(command: Any, context: Any) -> list[str]:
    return list(command.list_commands(context)) if hasattr(command, "list_commands") else []
