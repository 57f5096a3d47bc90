"""The command line as its users meet it: help, layering of options, errors and exit codes."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from s2scli import __version__
from s2scli.cli import main
from s2scli.commands import PAGES
from s2scli.config import COMMANDS
from s2scli.reference import entries

ROOT = Path(__file__).parent.parent


def s2s(
    *arguments: str | Path, folder: Path | None = None, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment}
    command = [sys.executable, "-m", "s2scli", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, env=variables, timeout=60)


def flat(text: str) -> str:
    """What a page or panel says, without its borders and line breaks."""
    return " ".join(text.replace("│", " ").split())


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"│ {command}" in text for command in COMMANDS)
    assert max(map(len, text.split("\n"))) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_panels_options_and_defaults(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    said = flat(text)
    for entry in entries(command):
        assert f"─ {entry.panel} ─" in text
        name = (
            f"[{entry.name.upper()}]" if entry.argument else "--[no-]" if not entry.kind else entry.flags[-1]
        )
        assert name in said
        assert entry.help in said or len(entry.help) > 60  # long ones are broken by the first column
    assert "default: s2s-run" in said
    assert max(map(len, text.split("\n"))) <= 80


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from s2scli.cli import main; main(['--help']); main(['train', '--help']);"
        "heavy = {'torch', 'numpy', 'sacrebleu', 'matplotlib', 'tokenizers'} & set(sys.modules);"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=variables, timeout=60)
    assert run.returncode == 0, run.stderr.decode()


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import s2scli, sys; sys.exit(bool({'torch', 'numpy', 'rich', 'typer'} & set(sys.modules)))"
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code], env=variables, timeout=60).returncode == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"s2s {__version__}\n"


def test_no_command_shows_the_help_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "Usage: s2s" in output.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "usage error: No such command 'trian'. Did you mean 'train'?"),
        (["train", "--hiden", "3"], "usage error: there is no option '--hiden'. Did you mean '--hidden'?"),
        (["translate", "--model", "x"], "usage error: there is no option '--model'. Did you mean '--run'?"),
        (["translate", "--src", "x"], "usage error: there is no option '--src'. Did you mean '--input'?"),
        (["preprocess", "--src", "x"], "there is no option '--src'. Did you mean '--train-src'?"),
        (["train", "--lr", "1"], "usage error: there is no option '--lr'. Did you mean '--learning-rate'?"),
        (["score", "--hypothesis", "x"], "there is no option '--hypothesis'. Give the hypotheses without"),
        (["train", "--zyx", "1"], "there is no option '--zyx'. 's2s train --help' shows the options."),
        (["train", "--zzzz"], "'s2s train --help' shows the options."),
        (
            ["preprocess", "--tokenizer", "bep"],
            "usage error: --tokenizer: 'bep' is not a valid value. Did you mean 'bpe'?",
        ),
        (["train", "--attention", "xyz"], "Valid: additive, dot, general, none, scaled-dot."),
        (["train", "--hidden", "many"], "--hidden: expected a whole number, not 'many'."),
        (["train", "--hidden", "1"], "1 is out of range. It must be from 2 to 8192."),
        (["train", "--dropout", "nan"], "--dropout: nan is not a number to work with."),
        (["train", "--hidden"], "Option '--hidden' requires an argument."),
        (["translate", "-i", "a", "--input", "b"], "--input: this is given twice. Give it once."),
        (["translate", "a"], "Got unexpected extra argument"),
        (["score", "--metrics", "blue"], "--metrics: there is no metric 'blue'. Did you mean 'bleu'?"),
        (["score", "hypotheses.txt"], "Add --ref and the file of references."),
    ],
)
def test_wrong_usage_names_what_is_right(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("usage error: ")
    assert output.err.count("\n") == 1
    assert said in output.err


def test_flags_of_every_kind_reach_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}
    monkeypatch.setattr(
        "s2scli.cli.resolve", lambda command, flags: seen.update(flags) or COMMANDS[command]()
    )
    for page in PAGES.values():
        object.__setattr__(page, "run", lambda options, listen: None)
    assert main(["preprocess", "--train-src", "a", "--train-src", "b", "--no-joint", "--max-ratio", "3"]) == 0
    assert seen == {"train_src": (Path("a"), Path("b")), "joint": False, "max_ratio": 3.0}
    seen.clear()
    assert main(["translate", "-i", "in", "-o", "out", "--beam", "2", "--format", "tsv"]) == 0
    assert seen == {"input": Path("in"), "output": Path("out"), "beam": 2, "format": "tsv"}
    seen.clear()
    assert main(["score", "hyp", "--ref", "one", "--ref", "two", "--json"]) == 0
    assert seen == {"hypotheses": (Path("hyp"),), "ref": (Path("one"), Path("two")), "json": True}


@pytest.fixture(autouse=True)
def _restore_pages() -> object:
    runs = {name: page.run for name, page in PAGES.items()}
    yield
    for name, run in runs.items():
        object.__setattr__(PAGES[name], "run", run)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        (
            "[score]\nmetric = 'bleu'",
            "s2s.toml: there is no key 'metric' in [score]. Did you mean 'metrics'?",
        ),
        ("[scor]\nmetrics = 'bleu'", "s2s.toml: there is no key or table 'scor'. Did you mean 'score'?"),
        ("[score]\nbeam = 'five'", "s2s.toml: [score] beam: expected a whole number, not 'five'."),
        ("[score]\nset = 'tset'", "s2s.toml: [score] set: 'tset' is not a valid value. Did you mean 'test'?"),
        ("[score", "s2s.toml: this is not valid TOML: "),
    ],
)
def test_mistakes_in_the_file_are_named(
    toml: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s2s.toml").write_text(toml)
    assert main(["score"]) == 2
    assert f"usage error: {said}" in capsys.readouterr().err


def test_a_flag_beats_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s2s.toml").write_text("run = 'from-top'\n[score]\nrun = 'from-table'\nset = 'dev'")
    for folder in ("from-table", "from-flag"):
        (tmp_path / folder).mkdir()
    assert main(["score"]) == 1
    assert "error: from-table: there is no dev set" in capsys.readouterr().err
    assert main(["score", "--run", "from-flag", "--set", "test"]) == 1
    assert "error: from-flag: there is no test set" in capsys.readouterr().err


def test_an_error_is_one_line_and_debug_adds_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    plain = ["score", "missing.txt", "--ref", "missing.txt"]
    for arguments, traceback in (
        (plain, False),
        (["--debug", *plain], True),
        ([plain[0], "--debug", *plain[1:]], True),
    ):
        assert main(arguments) == 1
        text = capsys.readouterr().err
        assert text.split("\n")[-2] == "error: missing.txt: there is no such file. Check the name."
        assert text.count("\n") == 1 or traceback
        assert ("Traceback (most recent call last)" in text) is traceback


class Screen(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "code", "title", "said"),
    [
        (["score", "missing.txt", "--ref", "r"], 1, "Error", "missing.txt There is no such file. Check"),
        (["train", "--hidden", "1"], 2, "Wrong usage", "--hidden 1 is out of range. It must be from 2"),
    ],
)
def test_on_a_terminal_an_error_is_a_panel(
    arguments: list[str], code: int, title: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(arguments) == code
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    lines = text.rstrip("\n").split("\n")
    assert lines[0].startswith(f"╭─ {title} ─")
    assert lines[-1].startswith("╰─")
    assert said in flat(text)
    assert max(map(len, lines)) <= 80


def failing(error: BaseException) -> object:
    def run(options: object, listen: object) -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            ZeroDivisionError("a [bold]b[/bold]"),
            1,
            "error: internal error: ZeroDivisionError: a [bold]b[/bold].",
        ),
        (ZeroDivisionError(), 1, "Run it again with --debug for the traceback."),
        (OSError(28, "No space left on device"), 1, "error: the disk is full. Free some space"),
        (
            PermissionError(13, "Permission denied", "/some/[path]"),
            1,
            "error: /some/[path]: permission denied. Check who",
        ),
        (OSError(27, "File too large", "x.bin"), 1, "error: x.bin: the file would be larger than allowed."),
        (MemoryError(), 1, "Try a smaller --batch-tokens"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"),
            1,
            "not enough memory",
        ),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_every_exception_becomes_words_and_a_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    object.__setattr__(PAGES["train"], "run", failing(error))
    assert main(["train"]) == code
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


def test_a_closed_pipe_is_quiet() -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m s2scli train --help | true"],
        capture_output=True,
        env=variables,
        timeout=60,
    )
    assert run.stderr == b""
    assert run.returncode in (0, 141)  # 0 where the page was written before the pipe was closed


def test_a_pipe_that_nobody_reads_is_quiet(tmp_path: Path) -> None:
    for file in ("hypotheses", "reference"):
        (tmp_path / file).write_text("a\n")
    reader, writer = os.pipe()
    os.close(reader)
    for arguments in (["--help"], ["--version"], ["score", "hypotheses", "--ref", "reference"], ["--hlep"]):
        for stream in ("stdout", "stderr"):
            run = subprocess.run(
                [sys.executable, "-m", "s2scli", *arguments],
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=tmp_path,
                timeout=60,
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer},
            )
            assert not run.stderr or (stream == "stdout" and arguments == ["--hlep"])
            broken = (stream == "stderr") == (arguments == ["--hlep"])
            assert run.returncode == (141 if broken else 2 if arguments == ["--hlep"] else 0)
    os.close(writer)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_told_once() -> None:
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "s2scli", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=variables,
            timeout=60,
        )
    assert run.returncode == 1
    assert run.stderr.count(b"error: the disk is full.") == 1
    assert b"Exception ignored" not in run.stderr


def test_control_characters_in_an_argument_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "a\x1b]0;title\x07.txt", "--ref", "r"]) == 1
    assert "\x1b]0" not in capsys.readouterr().err


def test_a_locale_without_unicode_still_gets_words(tmp_path: Path) -> None:
    run = s2s("score", "없는.txt", "--ref", "r", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert run.returncode == 1
    assert b": there is no such file." in run.stderr


def closed(redirection: str, *arguments: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command from a shell that closes a stream."""
    command = ["bash", "-c", f'exec "$0" -m s2scli "$@" {redirection}', sys.executable, *arguments]
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, capture_output=True, env=variables, timeout=60)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["score", "h", "--ref", "h"], ["translate"], ["translate", "--output", "-"]],
)
def test_a_closed_stdout_is_an_error(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "h").write_text("a\n")
    run = closed(">&-", *arguments, folder=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(b"error: standard output: it is closed")
    assert run.stderr.count(b"\n") == 1


def test_a_closed_stdout_is_no_matter_where_nothing_is_written_to_it(tmp_path: Path) -> None:
    run = closed(">&-", "train", folder=tmp_path)
    assert b"there is no preprocessed data" in run.stderr
    assert b"standard output" not in run.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "<&-", "<&- 2>&-"])
def test_other_closed_streams_change_nothing(redirection: str, tmp_path: Path) -> None:
    (tmp_path / "h").write_text("a\n")
    run = closed(redirection, "score", "h", "--ref", "h", folder=tmp_path)
    assert (run.returncode, run.stderr) == (0, b"")
    assert b"BLEU" in run.stdout
    run = closed(redirection, "score", "missing", "--ref", "h", "--debug", folder=tmp_path)
    assert (run.returncode, run.stdout) == (1, b"")
    assert (b"there is no such file" in run.stderr) is ("2>&-" not in redirection)


def test_a_closed_stdin_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("a\n")
    run = closed("<&-", "score", "-", "--ref", "h", folder=tmp_path)
    assert run.returncode == 1
    assert run.stderr.startswith(b"error: standard input: it is closed.")


def test_scores_in_a_locale_without_letters(tmp_path: Path) -> None:
    (tmp_path / "h").write_text("a\nb\n")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run = s2s("score", "h", "--ref", "h", "--metrics", "wer", folder=tmp_path, **locale)
    assert run.returncode == 0, run.stderr
    assert b"WER" in run.stdout


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_pages_on_a_screen_without_all_letters(encoding: str) -> None:
    for arguments in (["--help"], ["train", "--help"], []):
        run = s2s(*arguments, PYTHONIOENCODING=encoding)
        assert run.returncode == (0 if arguments else 2)
        text = (run.stdout or run.stderr).decode(encoding)
        assert "Usage: s2s" in text
        assert "+- " in text  # lines are drawn with what there is
        assert b"Traceback" not in run.stderr
