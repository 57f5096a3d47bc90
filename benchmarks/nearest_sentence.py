"""The score of no translator at all: copy the translation of the nearest training sentence.

For each test sentence the training sentence with the nearest direction of tf-idf weighted words
(cosine) is found, and its translation is the answer. A translator that does not beat this has
learnt nothing that a table would not know.

    python benchmarks/nearest_sentence.py
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from pathlib import Path

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from s2scli.corpus import Lines, sample_corpus


def vectors(lines: list[str], inverse: dict[str, float], places: dict[str, int]) -> np.ndarray:
    """Sentences as unit vectors of tf-idf weighted words."""
    matrix = np.zeros((len(lines), len(places)), dtype=np.float32)
    for row, line in enumerate(lines):
        for word, count in Counter(line.lower().split()).items():
            if word in places:
                matrix[row, places[word]] = count * inverse[word]
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", default="en")
    parser.add_argument("--target", default="ko")
    parser.add_argument("--data", type=Path, default=sample_corpus())
    options = parser.parse_args()

    def read(name: str, side: str) -> list[str]:
        return list(Lines(options.data / f"{name}.{side}"))

    train_source, train_target = read("train", options.source), read("train", options.target)
    test_source, test_target = read("test", options.source), read("test", options.target)
    sentences = Counter(word for line in train_source for word in set(line.lower().split()))
    inverse = {word: math.log((1 + len(train_source)) / (1 + n)) + 1 for word, n in sentences.items()}
    # Words that no test sentence has cannot change which sentence is nearest, but for the length of
    # its vector: that is why they are kept.
    places = {word: place for place, word in enumerate(sentences)}
    queries = vectors(test_source, inverse, places)
    best = np.full(len(test_source), -1.0)
    nearest = np.zeros(len(test_source), dtype=int)
    for start in range(0, len(train_source), 1000):
        found = queries @ vectors(train_source[start : start + 1000], inverse, places).T
        rows = found.argmax(axis=1)
        scores = found[np.arange(len(rows)), rows]
        better = scores > best
        best[better], nearest[better] = scores[better], start + rows[better]
    answers = [train_target[i] for i in nearest]
    print(f"nearest training sentence, {options.source} to {options.target}, {len(answers):,} test lines")
    for metric in (BLEU(), CHRF()):
        result = metric.corpus_score(answers, [test_target])
        print(f"  {result.name:6}{result.score:6.1f}   {metric.get_signature()}")


if __name__ == "__main__":
    main()
