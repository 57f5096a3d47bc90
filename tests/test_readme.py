"""The commands of README.md and docs/ do what they say: each of them is run, as it is written.

The README runs in a folder that holds nothing but the input files it names, and an ``s2s.toml`` that makes
models small and trainings short, which leaves the text of the commands as it is. The documents run after it
in the same folder, since they speak of its run folders. ``make`` and ``pip`` are not run: see ``UNRUN``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from s2scli.config import COMMANDS
from s2scli.corpus import sample_corpus
from s2scli.resolve import build, read_toml

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
UNRUN = {
    "make": "sets up an environment and would run this test again; its target must exist",
    "pip": "changes the environment and needs a network; the extras it names must exist",
}
"""First words of commands that are not run, and why."""
SHORT = """
device = "cpu"
threads = 1
precision = "fp32"

[train]
max-steps = 3
hidden = 16
embedding = 16
validate-lines = 10
samples = 1

[translate]
max-length-ratio = 0.5

[score]
beam = 1
resamples = 50

[report]
beam = 1
"""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: its language, its text and the number of its first line."""

    language: str
    text: str
    line: int


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a block did."""

    block: Block
    code: int
    output: str
    error: str


def blocks(document: Path) -> Iterator[Block]:
    fence = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    text = document.read_text(encoding="utf-8")
    for found in fence.finditer(text):
        yield Block(language=found[1], text=found[2], line=text.count("\n", 0, found.start()) + 2)


def commands(block: Block) -> list[str]:
    """The commands of a block, one a line; a backslash joins lines."""
    return block.text.replace("\\\n", " ").strip().split("\n")


def runs(block: Block) -> bool:
    if block.language == "sh":
        return not all(c.split()[0] in UNRUN for c in commands(block))
    return block.language == "python"


def runnable(document: Path) -> list[Block]:
    return [block for block in blocks(document) if runs(block)]


def run_folder(block: Block) -> str:
    """The run folder that a block of the README works in; different ones do not wait for each other."""
    return next((name for name in ("my-run", "words") if name in block.text), "s2s-run")


def run_blocks(wanted: list[Block], folder: Path) -> list[Result]:
    """Run blocks in order, in a folder, to the first that fails."""
    search = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": search, "COLUMNS": "80", "TERM": "dumb"}
    results = []
    for block in wanted:
        if block.language == "sh":
            text = "\n".join(c for c in commands(block) if c.split()[0] not in UNRUN)
            command = ["bash", "-e", "-o", "pipefail", "-c", text]
        else:
            command = [sys.executable, "-c", block.text]
        done = subprocess.run(command, cwd=folder, capture_output=True, env=variables, timeout=120)
        error = done.stderr.decode()
        results.append(Result(block=block, code=done.returncode, output=done.stdout.decode(), error=error))
        if done.returncode:
            break
    return results


def check(document: Path, results: list[Result]) -> None:
    for result in results:
        place = f"{document.name}:{result.block.line}"
        assert result.code == 0, f"{place} ended with {result.code}:\n{result.block.text}\n{result.error}"
        assert "Traceback" not in result.error
        assert "internal error" not in result.error
    assert [r.block for r in results] == runnable(document)


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """The folder, and what the README's commands did in it."""

    folder: Path
    results: list[Result]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    folder = tmp_path_factory.mktemp("readme")
    corpus = sample_corpus()

    def take(side: str, start: int, count: int) -> list[str]:
        return (corpus / f"train.{side}").read_text(encoding="utf-8").split("\n")[start : start + count]

    def write(name: str, lines: list[str]) -> None:
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    for name, start, count in (("train", 0, 300), ("dev", 300, 20), ("test", 320, 20)):
        write(f"{name}.en", take("en", start, count))
        for language in ("de", "ko"):  # any parallel text will do
            write(f"{name}.{language}", take("ko", start, count))
    write("new.en", take("en", 400, 5))
    (folder / "data").symlink_to(corpus)
    write("words.tsv", [f"word{i}\tw{i % 10} o r d {i}" for i in range(400)])
    pairs = zip(take("en", 0, 300), range(300), take("ko", 0, 300), strict=True)
    write("pairs.tsv", ["src\tnumber\ttgt", *(f"{s}\t{n}\t{t}" for s, n, t in pairs)])
    (folder / "s2s.toml").write_text(SHORT)
    if shutil.which("s2s", path=str(Path(sys.executable).parent)) is None and shutil.which("s2s") is None:
        (folder / "bin").mkdir()
        shim = folder / "bin" / "s2s"
        shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m s2scli "$@"\n')
        shim.chmod(0o755)
    groups: dict[str, list[Block]] = {}
    for block in runnable(ROOT / "README.md"):
        groups.setdefault(run_folder(block), []).append(block)
    with ThreadPoolExecutor(2) as pool:
        done = [r for results in pool.map(lambda g: run_blocks(g, folder), groups.values()) for r in results]
    return Workshop(folder=folder, results=sorted(done, key=lambda r: r.block.line))


def test_the_readme_runs_as_written(workshop: Workshop) -> None:
    check(ROOT / "README.md", workshop.results)


def test_what_the_readme_promises_is_there(workshop: Workshop) -> None:
    folder = workshop.folder

    def lines(name: str) -> int:
        return (folder / name).read_bytes().count(b"\n")

    assert lines("new.en") == lines("new.de") == lines("again.de") == lines("new.jsonl") == 5
    assert (folder / "new.de").read_bytes() == (folder / "again.de").read_bytes()
    assert (folder / "attention.png").read_bytes().startswith(b"\x89PNG")
    (n_best,) = [r.output for r in workshop.results if "--n-best 3" in r.block.text]
    assert [len(row.split("\t")) for row in n_best.splitlines()] == [4] * 15
    (python,) = [r.output for r in workshop.results if r.block.language == "python"]
    assert python.count("\n") == 2


@pytest.mark.parametrize("document", DOCUMENTS[1:], ids=lambda path: path.name)
def test_the_documents_run_as_written(document: Path, workshop: Workshop) -> None:
    check(document, run_blocks(runnable(document), workshop.folder))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_not_run_exists(document: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for block in blocks(document):
        # A block without a language, or with another name for the shell, would not be run.
        assert block.language in ("sh", "python", "toml", "json", "text"), block
        for command in commands(block) if block.language == "sh" else []:
            words = command.split()
            if words[0] == "make":
                assert words[1] in targets
            if words[0] == "pip":
                named = re.findall(r"\[([a-z,]+)\]", command)
                assert all(extra in extras for group in named for extra in group.split(","))
    # Nor would a command in a block that is set in by four spaces.
    assert not re.search(r"\n\n {4,}\$? ?(s2s|make|pip|python) ", document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_examples_of_the_options_file_are_valid(document: Path, tmp_path: Path) -> None:
    for block in blocks(document):
        if block.language == "toml":
            (tmp_path / "s2s.toml").write_text(block.text, encoding="utf-8")
            for command, cls in COMMANDS.items():
                given, where = read_toml(tmp_path / "s2s.toml", command)
                build(cls, given, where=where)


def anchors(document: Path) -> set[str]:
    """What the headings of a document are called in links."""
    heads = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = document if not name else (document.parent / name).resolve()
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target
