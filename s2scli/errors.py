"""Errors that a person can act on: what happened, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class S2SError(Exception):
    """An error that the user can mend (exit code 1).

    Args:
        what: What happened, as one sentence.
        where: The file and line, option or key it concerns, if there is one.
        hint: What to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        stop = "" if text.endswith((".", "!", "?", "…")) else "."
        return f"{text}{stop} {self.hint}" if self.hint else text


class UsageError(S2SError):
    """A wrong option, key or combination of options (exit code 2)."""

    exit_code = 2


def closest(word: str, valid: Iterable[str]) -> str | None:
    """The valid word that a misspelt one may mean, if any is near."""
    return next(iter(difflib.get_close_matches(word, sorted(valid), n=1, cutoff=0.6)), None)


def nearest(word: str, valid: Iterable[str]) -> str:
    """A hint that names the valid word nearest to a misspelt one, or lists them all."""
    choices = sorted(valid)
    close = closest(word, choices)
    return f"Did you mean '{close}'?" if close else f"Valid: {', '.join(choices)}."


def counted(number: int, noun: str) -> str:
    """``1 pair``, ``2,000 pairs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
