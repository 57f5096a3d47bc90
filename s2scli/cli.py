"""The command line: flags in, options out, one call per command.

The flags are made from the option declarations in ``s2scli.config``. Parsing only
decides what to run; it is run outside Typer, in ``main``, where every error becomes
words on stderr and an exit code. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import copy
import inspect
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2scli import __version__
from s2scli.commands import PAGES
from s2scli.errors import S2SError, UsageError, closest
from s2scli.flags import DEBUG, Command, Group, parameter, value
from s2scli.loading import INTERRUPTED
from s2scli.reference import entries
from s2scli.resolve import resolve
from s2scli.streams import abandon_streams, closed, open_streams
from s2scli.torchrun import ToldElsewhere, follows, wait_for_end

if TYPE_CHECKING:
    from s2scli.events import Listener

Job = Callable[[], int]
"""What a parsed command line asks for; gives an exit code."""

BROKEN_PIPE = 141
"""Exit code when the reader of a pipe has gone (``| head -1``), as any Unix filter has it."""


def _callback(command: str) -> Callable[..., Job]:
    """The function that Typer calls for a command; it gives the job back instead of doing it."""
    every = list(entries(command))

    def parsed(ctx: typer.Context, **given: Any) -> Job:
        debug = given.pop("debug") or ctx.obj["debug"]
        ctx.obj.update(debug=debug, command=command)
        flags = {e.name: value(e, given[e.name]) for e in every if given[e.name] is not None}
        return lambda: _run(command, flags, ctx.obj)

    context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *map(parameter, every), DEBUG]
    parsed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parsed.__annotations__ = {p.name: p.annotation for p in parameters}
    return parsed


def _run(command: str, flags: dict[str, Any], state: dict[str, Any]) -> int:
    options = resolve(command, flags)
    PAGES[command].check(options, flags)
    to_stdout = command == "score"
    if command == "translate":
        to_stdout = options.output is None or str(options.output) == "-"
    if to_stdout and state["mute"]:
        raise closed()
    # A bar would draw over translations that appear on the same terminal.
    to_screen = command == "translate" and to_stdout and sys.stdout.isatty()
    with _LazyListener(bars=not to_screen) as listen:
        return PAGES[command].run(options, listen) or 0


app = typer.Typer(cls=Group, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.callback(
    invoke_without_command=True,
    help="Train a translator from parallel text on your own computer, and understand it. "
    "'s2s COMMAND --help' shows a command's options; they may also stand in a file s2s.toml.",
    epilog="  s2s preprocess --train-src train.en --train-tgt train.ko\n"
    "  s2s train --max-minutes 30\n"
    "  s2s translate --input new.en --output new.ko\n"
    "  s2s score",
)
def _common(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> Any:
    ctx.obj["debug"] = debug
    if version:
        typer.echo(f"s2s {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help(), err=True)
        raise typer.Exit(2)


for _name, _page in PAGES.items():
    _register = app.command(
        _name, cls=Command, short_help=_page.summary, help=_page.text, epilog=_page.examples
    )
    _register(_callback(_name))


def _narrowed(arguments: Sequence[str]) -> typer.Typer:
    """The app with only the command that is called: to make the parameters of all takes a while."""
    if not arguments or arguments[0] not in PAGES:
        return app
    narrowed = copy.copy(app)
    narrowed.registered_commands = [c for c in app.registered_commands if c.name == arguments[0]]
    return narrowed


class _LazyListener:
    """A listener that loads what it takes to show something when there is something to show."""

    def __init__(self, *, bars: bool) -> None:
        self._bars, self._stack = bars, ExitStack()
        self._show: Listener | None = None

    def __enter__(self) -> Listener:
        return self._hear

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _hear(self, event: Any) -> None:
        if self._show is None:
            from s2scli.console import ConsoleListener

            self._show = self._stack.enter_context(ConsoleListener(bars=self._bars))
        self._show(event)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code: 0, 1 (an error) or 2 (wrong usage)."""
    state: dict[str, Any] = {"debug": False, "command": "", "mute": open_streams()}
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(_narrowed(given))
        # Not standalone: errors come here instead of being printed by Typer.
        job = command.main(
            given,
            prog_name="s2s",
            standalone_mode=False,
            obj=state,
        )
        # A number comes of --help, --version and Ctrl-C while parsing.
        code = job() if callable(job) else int(job or 0)
        if state["mute"] and not callable(job) and code == 0:
            raise closed()
        # What is still in the buffer may meet a full disk or a closed pipe: here it can be told.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        abandon_streams()
        return BROKEN_PIPE
    except SystemExit as error:
        # Typer meets a closed pipe itself when it prints a help page.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        abandon_streams()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        if follows():
            return INTERRUPTED
        with _undisturbed():
            return _tell(lambda console: console.print("Interrupted."), INTERRUPTED)
    except Exception as error:
        return _report(error, state)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Without Ctrl-C: whoever presses it twice is to read one word all the same, and no traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "batch": ("batch-size", "batch-tokens"),
    "batch-size": ("batch-tokens",),
    "beam-size": ("beam",),
    "checkpoint": ("run",),
    "dim": ("hidden",),
    "emb-size": ("embedding",),
    "gpu": ("device",),
    "hidden-size": ("hidden",),
    "lr": ("learning-rate",),
    "minutes": ("max-minutes",),
    "model": ("run",),
    "nbest": ("n-best",),
    "rnn-size": ("hidden",),
    "src": ("input", "train-src"),
    "steps": ("max-steps",),
    "tgt": ("output", "train-tgt"),
    "train-steps": ("max-steps",),
    "vocab": ("vocab-size",),
    "workers": ("threads",),
}
"""What other tools call an option → what it may be called here."""


def _usage_error(error: Any) -> S2SError:
    """An error of Typer's parser, whose classes are private, in our words."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    hint = f"'{context.command_path if context else 's2s'} --help' shows the options."
    message = error.format_message()
    if context and option and message.startswith("No such option"):
        names = [o for p in context.command.get_params(context) for o in (*p.opts, *p.secondary_opts)]
        known = {name.lstrip("-") for name in names if name.startswith("-")}
        word = option.lstrip("-")
        elsewhere = [name for name in ELSEWHERE.get(word, ()) if name in known]
        close = closest(elsewhere[0] if elsewhere else word, known)
        message = f"there is no option '{option}'"
        hint = f"Did you mean '--{close}'?" if close else hint
        for argument in get_close_matches(word, [name for name in names if not name.startswith("-")], n=1):
            hint = f"Give the {argument} without an option before them."
    return UsageError(message, hint=hint)


def _report(error: Exception, state: dict[str, Any]) -> int:
    """An error as a panel on a terminal, else as a line; with --debug, after its traceback."""
    if hasattr(error, "format_message"):
        told = _usage_error(error)
    elif isinstance(error, S2SError):
        told = error
    else:
        from s2scli.wording import explain

        told = explain(error, state["command"])
    if isinstance(told, ToldElsewhere) or (isinstance(told, UsageError) and follows()):
        wait_for_end()
        return told.exit_code

    def show(console: Any) -> None:
        from s2scli.panels import error_line, error_panel

        if state["debug"]:
            import traceback

            traceback.print_exception(error)
        if console.is_terminal:
            console.print(error_panel(told))
        else:  # a log: one line, however long, that grep finds
            console.print(error_line(told), soft_wrap=True)

    return _tell(show, told.exit_code)


def _tell(show: Callable[[Any], None], code: int) -> int:
    """Say something on stderr, unless nobody reads that any more."""
    try:
        from s2scli.console import make_console

        show(make_console())
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        abandon_streams()
        return BROKEN_PIPE
    except OSError:
        # A full disk has been told already; what stays in the buffer cannot be saved.
        abandon_streams()
        return code


if __name__ == "__main__":
    sys.exit(main())
