"""Every option of every command, declared once: name, type, default, range, unit and help.

The command line, the ``s2s.toml`` reader, the validation and the configuration
reference in ``docs/`` are all derived from the dataclasses of this package (see ``resolve``).
It imports neither torch nor typer.
"""

from __future__ import annotations

from collections.abc import Mapping

from s2scli.config.architecture import ModelConfig
from s2scli.config.choices import (
    BOS,
    EOS,
    PAD,
    SPECIAL_IDS,
    UNK,
    Attention,
    Bridge,
    Cell,
    Device,
    Feed,
    Normalization,
    SearchPrecision,
    TokenizerKind,
    Unit,
    Values,
)
from s2scli.config.declare import Options, option
from s2scli.config.preprocess import PreprocessOptions
from s2scli.config.report import ReportOptions
from s2scli.config.score import ScoreOptions
from s2scli.config.train import TrainOptions
from s2scli.config.translate import TranslateOptions

__all__ = [
    "BOS",
    "COMMANDS",
    "EOS",
    "PAD",
    "SPECIAL_IDS",
    "UNK",
    "Attention",
    "Bridge",
    "Cell",
    "Device",
    "Feed",
    "ModelConfig",
    "Normalization",
    "Options",
    "PreprocessOptions",
    "ReportOptions",
    "ScoreOptions",
    "SearchPrecision",
    "TokenizerKind",
    "TrainOptions",
    "TranslateOptions",
    "Unit",
    "Values",
    "option",
]

COMMANDS: Mapping[str, type] = {
    "preprocess": PreprocessOptions,
    "train": TrainOptions,
    "translate": TranslateOptions,
    "score": ScoreOptions,
    "report": ReportOptions,
}
