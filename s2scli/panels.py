"""What stands still on the screen: errors, and tables of sizes and settings.

Text from outside is made visible, and never read as markup, here as in ``console``.
"""

from __future__ import annotations

import re
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from s2scli.errors import S2SError
from s2scli.wording import visible


def error_panel(error: S2SError) -> Panel:
    """What happened, where, and what to do."""
    # A capital for a sentence that begins with a word, none for one that begins with a file or a number.
    word = re.match(r"(?!nan|inf)[a-z]+(?=[ ,:])", error.what)
    what = visible(error.what[:1].upper() + error.what[1:] if word else error.what)
    if what.plain and what.plain[-1] not in ".!?…":
        what.append(".")
    parts: list[RenderableType] = []
    if error.where:
        parts.append(Text.assemble(visible(error.where), style="bold"))
    parts.append(what)
    if error.hint:
        parts.append(Text.assemble(visible(error.hint), style="cyan"))
    title = "Wrong usage" if error.exit_code == 2 else "Error"
    return Panel(Group(*parts), title=title, title_align="left", border_style="red", box=box.ROUNDED)


def error_line(error: S2SError) -> Text:
    """The same on one line: where, what, and what to do."""
    what = visible(error.what).plain
    parts = [
        f"{visible(error.where).plain}: " if error.where else "",
        what,
        "" if what[-1:] in ".!?…" else ".",
    ]
    hint = f" {visible(error.hint).plain}" if error.hint else ""
    return Text(f"{'usage error' if error.exit_code == 2 else 'error'}: {''.join(parts)}{hint}")


def sizes_table(report: dict[str, Any]) -> Table:
    """The sets of prepared data and the lengths of their lines in tokens."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="Prepared", title_justify="left")
    table.title_style = "bold"
    table.add_column("set", style="cyan")
    table.add_column("side")
    for head in ("lines", "tokens", "mean length", "99 % up to", "longest"):
        table.add_column(head, justify="right")
    for name, title in (("train", "training"), ("dev", "development"), ("test", "test")):
        for side, of in report["lengths"].get(name, {}).items():
            sizes = [f"{report['pairs'][name]:,}", f"{of['total']:,}", f"{of['mean']:.1f}"]
            table.add_row(title, side, *sizes, f"{of['p99']:,}", f"{of['max']:,}")
            title = ""
    return table


def settings_table(rows: list[tuple[str, str]], title: str | None = None) -> Table:
    """Names and values in two columns, as wide as the terminal at most."""
    table = Table(box=box.SIMPLE_HEAD, show_header=False, title=title, title_justify="left", pad_edge=False)
    table.title_style = "bold"
    table.add_column(style="cyan", no_wrap=False, overflow="fold", max_width=34)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(visible(name), visible(value))
    return table
