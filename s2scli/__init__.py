"""s2scli: train a translator from parallel text on your own computer, and understand it.

>>> from s2scli import Translator
>>> Translator.load("s2s-run").translate(["Unable to open the file."])  # doctest: +SKIP
['파일을 열 수 없습니다.']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from s2scli.config import (
        PreprocessOptions,
        ReportOptions,
        ScoreOptions,
        TrainOptions,
        TranslateOptions,
    )
    from s2scli.corpus import sample_corpus
    from s2scli.errors import S2SError, UsageError
    from s2scli.translator import Translator

# The functions preprocess, train, translate, score and report are not among the lazy names:
# each has the name of the module it stands in, and importing a submodule binds that
# name in the package, so that `s2scli.train` would be the function or the module
# depending on what had been imported before. They are `from s2scli.train import train`.
_HOMES = {
    "PreprocessOptions": "s2scli.config",
    "ReportOptions": "s2scli.config",
    "ScoreOptions": "s2scli.config",
    "TrainOptions": "s2scli.config",
    "TranslateOptions": "s2scli.config",
    "S2SError": "s2scli.errors",
    "UsageError": "s2scli.errors",
    "Translator": "s2scli.translator",
    "sample_corpus": "s2scli.corpus",
}

__all__ = [
    "PreprocessOptions",
    "ReportOptions",
    "S2SError",
    "ScoreOptions",
    "TrainOptions",
    "TranslateOptions",
    "Translator",
    "UsageError",
    "__version__",
    "sample_corpus",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import s2scli` loads neither torch nor numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module 's2scli' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
