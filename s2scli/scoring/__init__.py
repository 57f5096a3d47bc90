"""Scores: metrics, intervals and tests, breakdowns, symbol errors, forced scores.

Given by name here is what takes lines of text and gives numbers. The other modules are the parts of
``s2scli.score``: what is scored (``material``, ``reading``, ``pairs``), the model's own scores (``forced``),
what is to be said of them (``cautions``), and how (``tables``).
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
