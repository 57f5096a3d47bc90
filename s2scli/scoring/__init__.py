"""Scores: metrics, intervals and tests, breakdowns, symbol errors, forced scores.

Everything here takes lines of text and gives numbers; ``s2scli.score`` reads files and writes tables.
"""

from __future__ import annotations

from s2scli.scoring.breakdown import Bin, by_frequency, by_length, count_units
from s2scli.scoring.metrics import HIGHER_IS_BETTER, MetricScore, check_tokenizer, parse_metrics
from s2scli.scoring.systems import Resampling, score_system, score_systems, sentence_scores
from s2scli.scoring.units import Unit, unit_of

__all__ = [
    "HIGHER_IS_BETTER",
    "Bin",
    "MetricScore",
    "Resampling",
    "Unit",
    "by_frequency",
    "by_length",
    "check_tokenizer",
    "count_units",
    "parse_metrics",
    "score_system",
    "score_systems",
    "sentence_scores",
    "unit_of",
]
