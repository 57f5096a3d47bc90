"""Which files `s2s preprocess` reads: the data options checked and put together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from s2scli.config import PreprocessOptions
from s2scli.corpus import Lines, sample_corpus
from s2scli.errors import UsageError
from s2scli.events import Listener, Notice
from s2scli.parallel import Parallel, Part, has_features, parse_columns
from s2scli.wording import named

SPLITS = ("train", "dev", "test")
"""The sets, in the order of their numbers in `s2scli.selection`."""


_TAGS = re.compile(r"[A-Z0-9][\w.+/(){},=-]*([;|][\w.+/(){},=-]+)+")
"""Features such as ``V;PST``, or ``V|PST``."""
_HEADS = {
    "word",
    "lemma",
    "form",
    "source",
    "target",
    "src",
    "tgt",
    "pron",
    "pronunciation",
    "features",
    "tags",
}
"""What the first row of a table holds that names its columns."""
_ROWS_SEEN = 3
"""Rows of a table that are looked at for features; the first may name its columns."""


def find_inputs(options: PreprocessOptions, listen: Listener) -> dict[str, Parallel]:
    """The text of each set that is given; with no data option at all the bundled corpus.

    Raises:
        UsageError: Options that do not go together, with the flags named.
    """
    parts = {split: _parts(options, split) for split in SPLITS}
    if not any(parts.values()):
        folder = sample_corpus()
        listen(Notice(text=f"No data given: using the bundled English–Korean sample corpus in {folder}"))
        parts = {s: [Part(source=folder / f"{s}.en", target=folder / f"{s}.ko")] for s in SPLITS}
    if not parts["train"]:
        given = next(split for split in SPLITS if parts[split])
        raise UsageError(
            f"--{given}-src/--{given}-tgt or --{given} is given without training data",
            where="--train-src",
            hint="Give --train-src and --train-tgt, or --train with a TSV.",
        )
    for split, size in (("dev", options.dev_size), ("test", options.test_size)):
        if parts[split] and size:
            what = f"there is a {split} set already, so that none is held out of the training data"
            raise UsageError(what, where=f"--{split}-size", hint=f"Leave out either it or the {split} files.")
    found = {split: list_ for split, list_ in parts.items() if list_}
    if has_features(options.columns) and any(part.target for list_ in parts.values() for part in list_):
        what = "a third column, of features, is read from a TSV only"
        raise UsageError(what, where="--columns", hint="Give TSV files with --train, --dev and --test.")
    if options.asks("columns") and not any(getattr(options, split) for split in SPLITS):
        hint = "Give TSV files with --train, --dev and --test, or leave it out."
        raise UsageError("only a TSV has columns, and none is given", where="--columns", hint=hint)
    _check_table(options, listen)
    return {s: Parallel(parts=list_, replace_invalid=options.replace_invalid) for s, list_ in found.items()}


def _check_table(options: PreprocessOptions, listen: Listener) -> None:
    """Say so if the first rows of a table seem to hold something else than what they are read as."""
    if not options.train:
        return
    rows = [line.split("\t") for line in islice(Lines(options.train[0], replace_invalid=True), _ROWS_SEEN)]
    columns = parse_columns(options.columns)
    numbered = [column - 1 for column in columns if isinstance(column, int)]
    if rows and len(numbered) == len(columns) and {field.strip().lower() for field in rows[0]} <= _HEADS:
        text = (
            f"The first row looks like names of columns and is read as a pair; --columns {','.join(rows[0])}"
        )
        listen(Notice(text=f"{text} (those that you want, in order) leaves it out", warning=True))
    if options.sets("columns"):
        _check_features(rows, numbered, listen)
        return
    for fields in rows:
        found = [i for i in (1, 2) if len(fields) > 2 and _TAGS.fullmatch(fields[i])]
        if found:
            column, taken, right = (
                ("third", "is not read", "1,2,3")
                if found == [2]
                else ("second", "is taken for the target", "1,3,2")
            )
            text = (
                f"The {column} column, such as {fields[found[0]]}, {taken}; --columns {right} takes it for "
                "features"
            )
            listen(Notice(text=text, warning=True))
            return
    if rows and all(len(fields) > 2 for fields in rows):
        text = (
            f"Columns beyond the second, such as {named(rows[-1][2])}, are not read; --columns chooses others"
        )
        listen(Notice(text=text, warning=True))


def _check_features(rows: Sequence[Sequence[str]], columns: Sequence[int], listen: Listener) -> None:
    """Say so if the column that is named for features seems to be none, or to hold one tag only."""
    for fields in rows:
        if len(columns) < 3 or len(fields) <= max(columns):
            continue
        target, tags = fields[columns[1]], fields[columns[2]]
        if _TAGS.fullmatch(target) and not _TAGS.fullmatch(tags):
            text = (
                f"Column {columns[1] + 1} looks like features, such as {target}, and is taken for the target"
            )
            listen(Notice(text=text, warning=True))
            return
        if _TAGS.fullmatch(tags) and ";" not in tags:
            better = tags.replace("|", ";")
            text = f"Features are separated by semicolons: {tags} is a single one. Write {better}"
            listen(Notice(text=text, warning=True))
            return


def _parts(options: PreprocessOptions, split: str) -> list[Part]:
    sources: tuple[Path, ...] = getattr(options, f"{split}_src")
    targets: tuple[Path, ...] = getattr(options, f"{split}_tgt")
    tables: tuple[Path, ...] = getattr(options, split)
    if tables and (sources or targets):
        other = f"--{split}-src" if sources else f"--{split}-tgt"
        raise UsageError(
            f"--{split} and {other} exclude each other", where=f"--{split}", hint="Give one of them."
        )
    if bool(sources) != bool(targets):
        have, lack = ("src", "tgt") if sources else ("tgt", "src")
        what = f"--{split}-{have} is given without --{split}-{lack}"
        raise UsageError(what, where=f"--{split}-{lack}", hint=f"Give both, or one TSV with --{split}.")
    if len(sources) != len(targets):
        what = f"{len(sources)} source files and {len(targets)} target files are given"
        hint = f"Repeat --{split}-src and --{split}-tgt equally often, in the same order."
        raise UsageError(what, where=f"--{split}-src", hint=hint)
    if tables:
        parse_columns(options.columns)
        return [Part(source=path, columns=options.columns) for path in tables]
    return [Part(source=s, target=t) for s, t in zip(sources, targets, strict=True)]
