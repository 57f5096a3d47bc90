"""The options in words, for ``--help`` and for docs/configuration.md.

``python -m s2scli.reference`` prints the latter. Both are derived from the
declarations, so that no text says anything else than the program does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from s2scli.config import COMMANDS
from s2scli.resolve import flag, is_optional


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One option of one command, in words."""

    name: str
    """Its key in ``s2s.toml`` and its field in the option class."""
    flags: tuple[str, ...]
    """As typed, short form first; a positional argument has its name in capitals."""
    kind: str
    """What stands after the flag: PATH, N, NUMBER, TEXT or the choices; empty for a switch."""
    help: str
    panel: str
    valid: str
    """The valid range, or an empty string."""
    default: str
    """The default with its unit, or how it is chosen; an empty string for an empty list."""
    repeatable: bool
    argument: bool
    annotation: Any
    """The type of one value: bool, int, float, str, Path or a Literal."""


def _number(value: Any) -> str:
    """A number as a person writes it: 1,000 and 0.999999, not 1000.0."""
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:.10g}"


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    if low is not None:
        return f"{_number(low)} or more"
    return f"at most {_number(high)}" if high is not None else ""


def _default(value: Any, unit: str | None, auto: str | None) -> str:
    if value is None or value == ():
        return auto or ("none" if value is None else "")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        one = {"batches": "batch"}.get(unit or "", (unit or "").removesuffix("s"))
        return f"{_number(value)} {one if value == 1 else unit}" if unit else _number(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)


def entries(command: str) -> Iterator[Entry]:
    """The options of a command in the order of their declaration."""
    hints = get_type_hints(COMMANDS[command])
    for field in fields(COMMANDS[command]):
        meta = field.metadata
        annotation, _ = is_optional(hints[field.name])
        repeatable = get_origin(annotation) is tuple
        if repeatable:
            annotation = get_args(annotation)[0]
        if get_origin(annotation) is Literal:
            kind = " | ".join(map(str, get_args(annotation)))
        else:
            kind = {bool: "", int: "N", float: "NUMBER", str: "TEXT", Path: "PATH"}[annotation]
        long = flag(field.name)
        flags: tuple[str, ...]
        if meta["argument"]:
            flags = (field.name.upper(),)
        elif annotation is bool:
            flags = (long, "--no-" + long[2:])
        else:
            other = meta["short"] or ""
            flags = (("-" if len(other) == 1 else "--") + other, long) if other else (long,)
        yield Entry(
            name=field.name,
            flags=flags,
            kind=kind,
            help=meta["help"],
            panel=meta["panel"],
            valid=_range(meta["low"], meta["high"]),
            default=_default(field.default, meta["unit"], meta["auto"]),
            repeatable=repeatable,
            argument=meta["argument"],
            annotation=annotation,
        )


HEADER = """\
<!-- Made from the option declarations by `make docs`; change them, not this. -->

# Every option

Each option stands here once: as a flag of the command line (`--batch-tokens 2048`) and as a key of
the file `s2s.toml` in the folder where you run `s2s` (`batch_tokens = 2048`). A flag beats the file,
the file beats the default.

```toml
run = "my-run"          # a key at the top holds for every command that has it

[train]                 # a table holds for one command, and beats the top
hidden = 512
max_minutes = 30
```

A key or value that does not exist is refused, and the message names the nearest one that does. A
switch is `--name` or `--no-name` as a flag, and `true` or `false` in the file. A repeatable option is
given several times as a flag, and as a list in the file. Paths are relative to the folder where you
run `s2s`.

`--debug`, before the command or after it, shows the traceback of an error. `s2s --version` prints the
version.
"""


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table."""
    for character in "\\|<>*_`":
        text = text.replace(character, "\\" + character)
    return text


def _typed(entry: Entry) -> str:
    flags = ", ".join(f"`{f}`" for f in entry.flags)
    # Within backquotes a Markdown table still needs its bars escaped.
    return f"{flags} `{entry.kind}`".replace("|", "\\|") if entry.kind and not entry.argument else flags


def markdown() -> str:
    """The whole of docs/configuration.md."""
    lines = [HEADER]
    for command, cls in COMMANDS.items():
        lines += [f"## s2s {command}", "", (cls.__doc__ or "").strip(), ""]
        panel = None
        for entry in entries(command):
            if entry.panel != panel:
                if panel is not None:
                    lines.append("")
                panel = entry.panel
                lines += [f"### {panel}", "", "| Option | What it does | Default |", "| --- | --- | --- |"]
            text = _cell(entry.help)
            if entry.valid:
                text += f" Valid: {entry.valid}."
            if entry.repeatable and "repeatable" not in text:
                text += " Repeatable."
            lines.append(f"| {_typed(entry)} | {text} | {_cell(entry.default)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.write(markdown())
