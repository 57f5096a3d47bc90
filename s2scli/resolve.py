"""Options from what the user gave: defaults < ``s2s.toml`` < flags, each value checked where it stands."""

from __future__ import annotations

import dataclasses
import math
import tomllib
import types
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from s2scli.config import COMMANDS, Options
from s2scli.errors import UsageError, nearest

OptionsT = TypeVar("OptionsT", bound=Options)


def is_optional(kind: Any) -> tuple[Any, bool]:
    """Split ``X | None`` into (X, True); anything else into (itself, False)."""
    if get_origin(kind) in (Union, types.UnionType):
        rest = [a for a in get_args(kind) if a is not type(None)]
        if len(rest) == 1 and len(get_args(kind)) == 2:
            return rest[0], True
    return kind, False


def flag(name: str) -> str:
    """``train_src`` → ``--train-src``."""
    return "--" + name.replace("_", "-")


def convert(value: Any, kind: Any, where: str) -> Any:
    """A TOML (or Python) value as the declared type, or an error that names the place."""
    kind, optional = is_optional(kind)
    if value is None and optional:
        return None
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise UsageError(
                f"'{value}' is not a valid value", where=where, hint=nearest(str(value), get_args(kind))
            )
        return value
    if get_origin(kind) is tuple:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(convert(item, get_args(kind)[0], where) for item in items)
    if kind is Path and isinstance(value, (str, Path)):
        if value == "":  # of a variable of the shell that is not set, mostly; Path would make it "."
            raise UsageError("expected a path, not an empty text", where=where)
        return Path(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, Real) and not isinstance(value, bool):
        if isinstance(value, int) and abs(value) >= 10**300:
            return math.inf  # which `check_range` refuses; a float could not hold it
        return float(value)
    if kind is str and isinstance(value, str):
        return value
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    raise UsageError(f"expected {names[kind]}, not {value!r}", where=where)


def _plain(number: float | None) -> str:
    return f"{number:.10g}"


def check_range(cls: type[Any], name: str, value: Any, where: str) -> None:
    """UsageError if a number is outside the range that the field of an option class declares."""
    metadata = cls.__dataclass_fields__[name].metadata
    low, high = metadata["low"], metadata["high"]
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{value} is not a number to work with", where=where)
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = (
            f"at least {_plain(low)}"
            if high is None
            else f"at most {_plain(high)}"
            if low is None
            else f"from {_plain(low)} to {_plain(high)}"
        )
        exact = isinstance(value, int) and abs(value) < 10**20
        shown = str(value) if exact else f"{value:g}" if abs(value) < 1e300 else "a number of many digits"
        raise UsageError(f"{shown} is out of range", where=where, hint=f"It must be {bounds}.")


def build(
    cls: type[OptionsT], given: Mapping[str, Any], *, where: Mapping[str, str] | None = None
) -> OptionsT:
    """Check given values (field name → value) and make the options of them.

    Args:
        cls: One of the option classes of ``config``.
        given: What the user set; all else takes its default.
        where: For an error message, the place each value came from; by default its flag.

    Raises:
        UsageError: An unknown name, a wrong type, or a number outside its range.
    """
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, raw in given.items():
        place = (where or {}).get(name, flag(name))
        if name not in known:
            raise UsageError(f"there is no option '{name}'", where=place, hint=nearest(name, known))
        value = convert(raw, hints[name], place)
        check_range(cls, name, value, place)
        values[name] = value
    options = cls(**values)
    object.__setattr__(options, "given", frozenset(values))  # frozen, but not yet handed out
    return options


def read_toml(path: Path, command: str) -> tuple[dict[str, Any], dict[str, str]]:
    """The values that an ``s2s.toml`` holds for a command, and where each stands.

    Top-level keys apply to every command that has such an option (``run``,
    ``threads``); a table ``[train]`` to that command alone, and it wins.

    Raises:
        UsageError: TOML that cannot be read, or a table or key that no command knows.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n"))
    except UnicodeDecodeError as error:
        raise UsageError("the file is not UTF-8 text", where=str(path)) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, brackets without end
        raise UsageError(f"this is not valid TOML: {error}", where=str(path)) from error
    names = {c: {f.name for f in fields(cls)} for c, cls in COMMANDS.items()}
    everywhere = set().union(*names.values())
    shared: dict[str, Any] = {}
    own: dict[str, Any] = {}
    where: dict[str, str] = {}
    for key, value in content.items():
        if key in names:
            if not isinstance(value, dict):
                raise UsageError(f"'{key}' must be a table: [{key}]", where=str(path))
            for inner, inner_value in value.items():
                name = inner.replace("-", "_")
                if name not in names[key]:
                    hint = nearest(name, names[key])
                    raise UsageError(f"there is no key '{inner}' in [{key}]", where=str(path), hint=hint)
                if key == command:
                    own[name] = inner_value
                    where[name] = f"{path}: [{key}] {inner}"
        else:
            name = key.replace("-", "_")
            if name not in everywhere:
                hint = nearest(name, everywhere | set(names))
                raise UsageError(f"there is no key or table '{key}'", where=str(path), hint=hint)
            if name in names[command]:
                shared[name] = value
                where.setdefault(name, f"{path}: {key}")
    return {**shared, **own}, where


def resolve(command: str, flags: Mapping[str, Any], *, folder: Path = Path()) -> Any:
    """The options of a command: defaults < ``s2s.toml`` in ``folder`` < flags.

    Args:
        command: "preprocess", "train", "translate", "score" or "report".
        flags: Field name → value for every flag the user gave, and only those.
        folder: Where ``s2s.toml`` is looked for.
    """
    given: dict[str, Any] = {}
    where: dict[str, str] = {}
    path = folder / "s2s.toml"
    if path.is_file():
        given, where = read_toml(path, command)
    kind: type[Options] = COMMANDS[command]
    for name in flags:
        for other in (name, *(kind.instead_of.get(name, ()) if flags[name] else ())):
            given.pop(other, None)
            where.pop(other, None)
    from_file = frozenset(given)
    given.update(flags)
    options = build(kind, given, where=where)
    object.__setattr__(options, "from_file", from_file)
    return options


def checked(options: OptionsT) -> OptionsT:
    """The same options, made in Python, with each value checked as those of a command line are.

    Raises:
        UsageError: As `build`.
    """
    again = build(type(options), {f.name: getattr(options, f.name) for f in fields(options)})  # type: ignore[arg-type]
    again.know_from(options)
    return again


def as_dict(options: Any) -> dict[str, Any]:
    """Options as plain JSON values."""
    plain: dict[str, Any] = {}
    for name, value in dataclasses.asdict(options).items():
        if isinstance(value, Path):
            value = str(value)
        elif isinstance(value, tuple):
            value = [str(v) if isinstance(v, Path) else v for v in value]
        plain[name] = value
    return plain
