"""The command line: flags in, options out, one call per command.

The flags are made from the option declarations in ``s2scli.config``. Parsing only
decides what to run; it is run outside Typer, in ``main``, where every error becomes
words on stderr and an exit code. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

import copy
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2scli import __version__
from s2scli.errors import S2SError, UsageError, nearest
from s2scli.flags import DEBUG, Command, Group, parameter, value
from s2scli.reference import entries
from s2scli.resolve import resolve

if TYPE_CHECKING:
    from s2scli.events import Listener

Job = Callable[[], int]
"""What a parsed command line asks for; gives an exit code."""

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 and the number of the signal, as shells have it."""
BROKEN_PIPE = 141
"""Exit code when the reader of a pipe has gone (``| head -1``), as any Unix filter has it."""


def run_preprocess(options: Any, listen: Listener) -> None:
    """Turn parallel text into training data."""
    from s2scli.preprocess import preprocess

    preprocess(options, listen)


def run_train(options: Any, listen: Listener) -> int:
    """Turn training data into a model."""
    from s2scli.train import train

    return INTERRUPTED if train(options, listen).how_to_go_on else 0


def run_translate(options: Any, listen: Listener) -> None:
    """Translate lines; they go in and come out in the same order."""
    from s2scli.translate import translate

    translate(options, listen)


def run_score(options: Any, listen: Listener) -> None:
    """Score translations against references."""
    from s2scli.score import run

    run(options, listen)


def run_report(options: Any, listen: Listener) -> None:
    """Show a run in one HTML file."""
    from s2scli.report import report

    report(options, listen)


def check_score(options: Any, flags: Iterable[str]) -> None:
    """Refuse flags that have no effect."""
    from s2scli.score import check_flags

    check_flags(options, flags)


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a command does, and what its help page says."""

    run: Callable[[Any, Listener], int | None]
    check: Callable[[Any, Iterable[str]], None] = lambda options, flags: None
    summary: str
    text: str
    examples: str


PAGES = {
    "preprocess": Page(
        run=run_preprocess,
        summary="Turn parallel text into training data.",
        text="Reads two files of which line n of one is the translation of line n of the other (or a TSV), "
        "learns a tokenizer, and writes both as numbers into a run folder, with a report of what was "
        "left out and why.",
        examples="  s2s preprocess --train-src train.en --train-tgt train.ko --run my-run",
    ),
    "train": Page(
        run=run_train,
        summary="Turn training data into a model.",
        text="Trains a recurrent encoder-decoder with attention on the data of a run folder, validates it "
        "as it goes and keeps the best. Sizes that are not given are chosen from the amount of data. "
        "Ctrl-C stops it; --resume goes on.",
        examples="  s2s train --run my-run --max-minutes 30",
    ),
    "translate": Page(
        run=run_translate,
        summary="Translate lines of text.",
        text="Reads lines, writes as many lines, in the same order.",
        examples="  echo 'Unable to open the file.' | s2s translate --run my-run\n"
        "  s2s translate --run my-run --input new.en --output new.ko",
    ),
    "score": Page(
        run=run_score,
        check=check_score,
        summary="Score translations against references.",
        text="Without HYPOTHESES, translates the test set of a run and scores it. With them, scores files: "
        "several are tested against the first. BLEU, chrF and TER are sacreBLEU's, with its signatures, its "
        "tests and its seeds. With --tgt or --ids, a model scores translations that are given.",
        examples="  s2s score --run my-run\n"
        "  s2s score output.ko --ref reference.ko\n"
        "  s2s score baseline.ko new.ko --ref reference.ko --src source.en --by-length\n"
        "  s2s score output.txt --ref reference.txt --metric acc,per --confusions 10\n"
        "  s2s score --model my-run --src source.en --tgt target.ko",
    ),
    "report": Page(
        run=run_report,
        summary="Show a run in one HTML file.",
        text="Translates the test set of a run and writes one self-contained HTML file: the data, the course "
        "of the training, the scores, and every translation with a picture of its attention. It opens in "
        "any browser, from the disk, without a connection.",
        examples="  s2s report --run my-run",
    ),
}


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
    to_stdout = command == "score" or (command == "translate" and options.output is None)
    if to_stdout and state["mute"]:
        raise _closed()
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
    state: dict[str, Any] = {"debug": False, "command": "", "mute": _open_streams()}
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
            raise _closed()
        # What is still in the buffer may meet a full disk or a closed pipe: here it can be told.
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _abandon_streams()
        return BROKEN_PIPE
    except SystemExit as error:
        # Typer meets a closed pipe itself when it prints a help page.
        if not isinstance(error.__context__, BrokenPipeError):
            raise
        _abandon_streams()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return _tell(lambda console: console.print("Interrupted."), INTERRUPTED)
    except Exception as error:
        return _report(error, state)


def _usage_error(error: Any) -> S2SError:
    """An error of Typer's parser, whose classes are private, in our words."""
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    hint = f"'{context.command_path if context else 's2s'} --help' shows the options."
    message = error.format_message()
    if context and option and message.startswith("No such option"):
        known = [o for p in context.command.get_params(context) for o in (*p.opts, *p.secondary_opts)]
        close = nearest(option, known)
        message = f"there is no option '{option}'"
        hint = close if close.startswith("Did") else hint
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

    def show(console: Any) -> None:
        from s2scli.console import error_line, error_panel

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
        _abandon_streams()
        return BROKEN_PIPE
    except OSError:
        # A full disk has been told already; what stays in the buffer cannot be saved.
        _abandon_streams()
        return code


def _abandon_streams() -> None:
    """Point broken streams nowhere, so that the interpreter's last flush has nothing to say."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None or stream.closed:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            with suppress(OSError):  # a stream of Python alone, which the last flush does not reach
                os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def _open_streams() -> bool:
    """Put something where the caller has closed a standard stream; says whether stdout was one.

    Python has None for such a stream, and a file that is opened later would get its number:
    a library that prints would write into the model.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    mute = sys.stdout is None or sys.stdout.closed
    if mute:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None or sys.stderr.closed:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # Pages and tables have letters that Latin-1 has not; translations are UTF-8 in any case.
        sys.stdout.reconfigure(errors="replace")
    return mute


def _closed() -> S2SError:
    hint = "Send it to a file or into a pipe."
    return S2SError("it is closed, and the result goes there", where="standard output", hint=hint)


if __name__ == "__main__":
    sys.exit(main())
