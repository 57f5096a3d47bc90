"""Which pairs go where, decided on 64-bit hashes so that ten million pairs stay small.

A hash stands for its line: among ten million lines the chance that any two different
ones share a hash is about 3 in a million.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Mask = NDArray[np.bool_]

TRAIN, DEV, TEST = 0, 1, 2
BLANK, RATIO, OVERLAP, DUPLICATE, LONG = 3, 4, 5, 6, 7
"""What becomes of a pair (uint8): the set it goes to, or why it is left out."""
REASONS = {BLANK: "blank", RATIO: "ratio", OVERLAP: "overlap", DUPLICATE: "duplicate", LONG: "too_long"}
"""Why a training pair is left out → its name in the report."""

SHORT = 20
"""Pairs whose sides are all shorter than this, in characters or symbols, are never disproportionate."""


def hash_pairs(sources: Sequence[str], targets: Sequence[str]) -> tuple[Hashes, Hashes]:
    """A hash of each source, and one of each pair; the same on every machine."""
    left: list[bytes] = []
    both: list[bytes] = []
    for source, target in zip(sources, targets, strict=True):
        raw = source.encode("utf-8")
        left.append(hashlib.blake2b(raw, digest_size=8).digest())
        # No line holds a line break, so that this joint is unambiguous.
        both.append(hashlib.blake2b(raw + b"\n" + target.encode("utf-8"), digest_size=8).digest())
    return np.frombuffer(b"".join(left), dtype="<u8"), np.frombuffer(b"".join(both), dtype="<u8")


def shuffled(hashes: Hashes, seed: int) -> Hashes:
    """Each hash mapped to another one-to-one, in a way that depends on the seed (splitmix64)."""
    z = hashes + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def blank(sources: Sequence[str], targets: Sequence[str]) -> Mask:
    """Pairs with nothing but white space on a side."""
    pairs = zip(sources, targets, strict=True)
    return np.fromiter((not (s.strip() and t.strip()) for s, t in pairs), np.bool_, len(sources))


def disproportionate(sources: Sequence[int], targets: Sequence[int], *, ratio: float) -> Mask:
    """Pairs one of whose sides is over ``ratio`` times as long as the other, and `SHORT` at least."""
    left, right = np.array(sources, np.int64), np.array(targets, np.int64)
    longer = np.maximum(left, right)
    return (longer >= SHORT) & (longer > ratio * np.minimum(left, right))


def repeated(pairs: Hashes) -> Mask:
    """All occurrences of a pair but its first."""
    order = np.argsort(pairs, kind="stable")
    ordered = pairs[order]
    result = np.zeros(len(pairs), np.bool_)
    result[order[1:]] = ordered[1:] == ordered[:-1]
    return result


def members(hashes: Hashes, among: Hashes) -> Mask:
    """Which ``hashes`` occur in ``among``, which may be small: no copy of ``hashes`` is sorted."""
    known = np.unique(among)
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    found: Mask = known[places] == hashes
    return found


def hold_out(sources: Hashes, sizes: Sequence[int], seed: int) -> list[Hashes] | None:
    """Choose sources for held-out sets, such that no source is in two sets.

    All pairs of a chosen source go with it. Sources that many pairs share are left to the
    training data while there are others, so that none dominates a held-out set.

    Args:
        sources: Hash of the source of every usable pair.
        sizes: Pairs wanted in each set; a set may come out larger by a few.
        seed: Decides the choice.

    Returns:
        The hashes of the sources of each set, or None if nothing would be left to train on.
    """
    distinct, counts = np.unique(sources, return_counts=True)
    order = np.argsort(shuffled(distinct, seed), kind="stable")
    distinct, counts = distinct[order], counts[order]
    chosen: list[Hashes] = []
    for size in sizes:
        small = counts <= max(1, size // 20)
        if counts[small].sum() < size:
            small[:] = True
        places = np.flatnonzero(small)
        reached = np.cumsum(counts[places])
        taken = places[: int(np.searchsorted(reached, size)) + 1] if size else places[:0]
        chosen.append(distinct[taken])
        if size and (not len(reached) or reached[-1] < size):
            return None
        distinct, counts = np.delete(distinct, taken), np.delete(counts, taken)
    return chosen if len(distinct) else None
