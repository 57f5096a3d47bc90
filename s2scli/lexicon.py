"""Which target tokens go with which source tokens: what a shortlist for translation is made of.

Counted once from the training pairs with IBM Model 1 (Brown et al. 1993, section 4.4), whose
p(t | s) tells a translation of s from a word that merely stands beside it often.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from s2scli.events import Listener, Progress, silent
from s2scli.files import write_bytes_atomic
from s2scli.shards import ParallelData
from s2scli.tokenizer import Tokenizer

LIKELY = 100
"""Target tokens kept for each source token…"""
FREQUENT = 200
"""…and for all of them together: words that stand for nothing in the source, articles and commas."""
ITERATIONS = 4
EVENTS = 6_000_000
"""Pairs of a source and a target token that are looked at, about; more text is sampled evenly."""
LONGEST = 100
"""Tokens of a side that are looked at: pairs of tokens grow with the square of the length."""


def count_lexicon(
    pairs: ParallelData, source_vocab: int, target_vocab: int, *, joint: bool, listen: Listener = silent
) -> dict[str, NDArray[np.int32]]:
    """Learn the likely target tokens of each source token.

    Args:
        pairs: The training pairs.
        joint: Whether both sides number their tokens alike: then a token may always be copied.
        listen: Told how far it is.

    Returns:
        ``likely`` (source_vocab, 100), the likeliest first, rows filled up with PAD; and ``frequent`` (200,).
    """
    passes = ITERATIONS + 3

    def done(count: int) -> None:
        listen(Progress(task="lexicon", done=count, total=passes, unit="passes"))

    done(0)
    source, target, starts, repeats = _events(pairs, source_vocab)
    done(1)
    keys, which = np.unique(source.astype(np.int64) * target_vocab + target, return_inverse=True)
    sources, targets = keys // target_vocab, keys % target_vocab
    p = np.full(len(keys), 1.0)
    for i in range(ITERATIONS if len(keys) else 0):
        done(2 + i)
        share = p[which]
        share /= np.repeat(np.add.reduceat(share, starts), repeats)
        count = np.bincount(which, share, len(keys))
        p = count / np.bincount(sources, count, source_vocab)[sources]
    likely = np.zeros((source_vocab, LIKELY), np.int32)
    order = np.lexsort((-p, sources))
    sources, targets = sources[order], targets[order]
    rank = np.arange(len(order)) - np.searchsorted(sources, sources)
    # The first place is the token itself, where that means anything.
    first = 1 if joint else 0
    kept = rank < LIKELY - first
    likely[sources[kept], rank[kept] + first] = targets[kept]
    if joint:
        likely[:, 0] = np.arange(source_vocab)
    done(passes)
    frequency = np.bincount(target[starts].astype(np.int64), minlength=target_vocab)
    frequent = np.argsort(-frequency, kind="stable")[:FREQUENT].astype(np.int32)
    return {"likely": likely, "frequent": frequent}


def _chosen(pairs: ParallelData, source_vocab: int) -> list[tuple[int, int, int]]:
    """Which pairs are looked at, from which source and which target token on.

    Evenly taken ones, and for each source token that these lack its first pair, about the place of the token.
    """
    source, target = (
        np.minimum(lengths, LONGEST) for lengths in (pairs.source_lengths, pairs.target_lengths)
    )
    step = max(1, int((source.astype(np.int64) * target).sum() // EVENTS))
    even = range(0, len(pairs), step)
    seen = np.zeros(source_vocab, np.bool_)
    for i in even:
        seen[pairs.source(i)[:LONGEST]] = True
    first, places = pairs.first_with(source_vocab)
    rare = np.flatnonzero(~seen & (first >= 0))
    chosen = [(i, 0, 0) for i in even]
    for i, place in zip(first[rare].tolist(), places[rare].tolist(), strict=True):
        beside = place * int(pairs.target_lengths[i]) // int(pairs.source_lengths[i])
        chosen.append((i, max(0, place - LONGEST // 2), max(0, beside - LONGEST // 2)))
    return chosen


def _events(pairs: ParallelData, source_vocab: int) -> tuple[NDArray[Any], ...]:
    """Every source token of a sentence beside every target token, target by target.

    Returns:
        The source tokens (n,), the target tokens (n,), and for each occurrence of a target token where its
        source tokens begin and how many they are.
    """
    source, target, widths = [], [], []
    for i, left, right in _chosen(pairs, source_vocab):
        s, t = pairs.source(i)[left : left + LONGEST], pairs.target(i)[right : right + LONGEST]
        if len(s) and len(t):
            source.append(np.tile(s, len(t)))
            target.append(np.repeat(t, len(s)))
            widths.append(np.full(len(t), len(s)))
    none = np.zeros(0, np.int64)
    repeats = np.concatenate([none, *widths])
    starts = np.cumsum(repeats) - repeats
    return np.concatenate([none, *source]), np.concatenate([none, *target]), starts, repeats


def lexicon_path(folder: Path) -> Path:
    """The file beside a tokenizer that holds its lexicon."""
    return folder / "lexicon.safetensors"


def write_lexicon(folder: Path, tokenizer: Tokenizer, listen: Listener) -> None:
    """Count the lexicon of the training data in a folder, and write it there."""
    pairs = ParallelData.open(folder, "train")
    sizes = (tokenizer.source.vocab_size, tokenizer.target.vocab_size)
    counted = count_lexicon(pairs, *sizes, joint=tokenizer.joint, listen=listen)
    write_bytes_atomic(lexicon_path(folder), save(counted))


def copy_lexicon(data: Path, model: Path) -> None:
    """Put the lexicon of preprocessed data, if they have one, into a model directory."""
    if lexicon_path(data).is_file():
        write_bytes_atomic(lexicon_path(model), lexicon_path(data).read_bytes())
