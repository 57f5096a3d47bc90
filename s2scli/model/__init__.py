"""The model: encoder, attention, decoder and search. It needs torch, NumPy and ``s2scli.config`` alone.

Read in this order: ``rnn`` (what a state is), ``attention`` (equations 1-3), ``encoder``, ``decoder``
(equations 4-6), ``seq2seq`` (the whole), ``loss``, then ``stepper`` (the model as it is searched), ``search``
and ``beam``. What they lean on: ``batch`` (padding), ``linear``, ``packed``, ``steplayer``, ``inputtable``
and ``bounds`` (prepared matrices), ``grid``, ``prediction`` and ``trail`` (which hypotheses there are, the
best next ones, back-pointers).
"""

from s2scli.model.batch import Batch
from s2scli.model.beam import beam_search
from s2scli.model.search import SearchLimits, StepModel, forced_search, greedy_search, sample_search
from s2scli.model.seq2seq import Seq2Seq
from s2scli.model.stepper import Stepper
from s2scli.model.trail import Hypothesis

__all__ = [
    "Batch",
    "Hypothesis",
    "SearchLimits",
    "Seq2Seq",
    "StepModel",
    "Stepper",
    "beam_search",
    "forced_search",
    "greedy_search",
    "sample_search",
]
