"""How an option is declared: a dataclass field that knows its range, unit and help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, ClassVar, Self


def option(
    default: Any,
    help: str,
    panel: str,
    *,
    low: float | None = None,
    high: float | None = None,
    unit: str | None = None,
    auto: str | None = None,
    short: str | None = None,
    argument: bool = False,
) -> Any:
    """Declare one option as a dataclass field.

    Args:
        default: The value when neither the file nor a flag gives one.
        help: One sentence for ``--help`` and the reference.
        panel: The heading it stands under in ``--help``.
        low, high: The closed range of valid numbers.
        unit: The unit of a number, such as "tokens".
        auto: What ``None`` means, when the value is then chosen from the data.
        short: A one-letter flag, or another spelling of the flag.
        argument: A positional argument of the command line instead of a flag.
    """
    metadata = {
        "help": help,
        "panel": panel,
        "low": low,
        "high": high,
        "unit": unit,
        "auto": auto,
        "short": short,
        "argument": argument,
    }
    return field(default=default, metadata=metadata)


class Options:
    """Base of the options of a command.

    Attributes:
        given: Names of what a file or flag set, as opposed to what has its default.
        filled: Names of what nobody set and an earlier command has filled in.
        from_file: Names of what ``s2s.toml`` set, and no flag; of a training that goes on, of all that this
            call does not ask for.
    """

    instead_of: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Of an option the others that cannot stand beside it, and that a flag therefore takes from a file."""
    given: frozenset[str] = frozenset()
    filled: frozenset[str] = frozenset()
    from_file: frozenset[str] = frozenset()

    def sets(self, name: str) -> bool:
        """Whether this option was set: by a file, a flag, or in Python to what is not its default."""
        default = type(self).__dataclass_fields__[name].default  # type: ignore[attr-defined]
        return name in self.given or (name not in self.filled and getattr(self, name) != default)

    def asks(self, name: str) -> bool:
        """Whether this option was set for this call: by a flag or in Python, not in the file."""
        return self.sets(name) and name not in self.from_file

    def changed(self, **changes: Any) -> Self:
        """A copy with other values; what was given or filled in is known of it too."""
        copy = replace(self, **changes)  # type: ignore[type-var]
        copy.know_from(self)
        return copy

    def know_from(self, other: Options) -> None:
        """Take over what is known of how the options came about; for options that nobody has seen yet."""
        for name in ("given", "filled", "from_file"):
            object.__setattr__(self, name, getattr(other, name))
