"""Typer parameters made from the option declarations, so that each option stands in one place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from s2scli.errors import UsageError
from s2scli.reference import Entry


class Command(TyperCommand):
    """A command with our help page, whose usage errors always know their command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from s2scli.helptext import render

        formatter.write(render(self, ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            # Of numbers the last one counts, as in most programs; but a file that is left out is a loss.
            once = [p for p in order if p.metavar == "PATH" and not getattr(p, "multiple", True)]
            for twice in (p for p in once if once.count(p) > 1 and not ctx.resilient_parsing):
                raise UsageError("this is given twice", where=twice.opts[0], hint="Give it once.")
            return super().parse_args(ctx, args)
        except Exception as error:
            if hasattr(error, "ctx") and error.ctx is None:
                error.ctx = ctx
            raise


class Group(TyperGroup):
    """All commands, with our help page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from s2scli.helptext import render

        formatter.write(render(self, ctx))


def _completion(choices: list[str]) -> Callable[[str], list[str]]:
    """What the shell offers after a flag that has choices."""

    def complete(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return complete


def value(entry: Entry, given: Any) -> Any:
    """The text after a flag as a number where one is wanted; ``config`` refuses what is none."""
    if isinstance(given, str) and entry.annotation in (int, float):
        try:
            return entry.annotation(given)
        except ValueError:
            return given
    return tuple(given) if entry.repeatable else given


def parameter(entry: Entry) -> inspect.Parameter:
    """The Typer parameter of an option; its default is None, which means "not given"."""
    details = [entry.valid] if entry.valid else [entry.kind] if "|" in entry.kind else []
    details += ["repeatable"] if entry.repeatable and "repeatable" not in entry.help else []
    details += [f"default: {entry.default}"] if entry.default else []
    # The help page sets what stands after the line break dim and in brackets.
    text = f"{entry.help}\n{'; '.join(details)}"
    settings: dict[str, Any] = {"help": text, "rich_help_panel": entry.panel, "show_default": False}
    if entry.kind and "|" not in entry.kind:
        settings["metavar"] = entry.name.upper() if entry.argument else entry.kind
    if "|" in entry.kind:
        settings["autocompletion"] = _completion(entry.kind.split(" | "))
    # Values stay text here: config checks those of the file and those of flags in the same words.
    kind: Any = bool if entry.annotation is bool else Path if entry.annotation is Path else str
    info: Any
    if entry.argument:
        info = typer.Argument(**settings)
    elif entry.annotation is bool:
        info = typer.Option("/".join(entry.flags), **settings)
    else:
        info = typer.Option(*reversed(entry.flags), **settings)
    return inspect.Parameter(
        entry.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[(list[kind] if entry.repeatable else kind) | None, info],
    )


DEBUG = inspect.Parameter(
    "debug",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")],
)
