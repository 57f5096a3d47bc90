"""How subwords are learnt: sizes, alphabets, and the trainers of the `tokenizers` library.

Everything here is deterministic: where the library breaks ties by the order of a hash
table, the choice is taken out of its hands.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from s2scli.config import BOS, EOS, PAD, UNK
from s2scli.segmentation import CLOSED, LONGEST_PIECE, Kind, Segmentation

SPECIALS = {PAD: "<pad>", UNK: "<unk>", BOS: "<s>", EOS: "</s>"}
"""Id → name for display. No text ever becomes one of these ids."""
FIRST_BYTE = len(SPECIALS)
"""Id of byte 0 in a vocabulary of subwords; byte n follows n places on."""

COVERAGE = 0.9995
"""Share of the characters of the text that the alphabet covers; the rest is written as bytes."""
COMMON = 20
"""A character that occurs so often belongs to the alphabet, whatever the coverage."""
WORD_CHARACTERS = 6_000_000
"""Characters of different words that a trainer gets at most: it takes some 100 bytes for each."""
LONGEST_WORD = 256
"""Characters without a space between that a trainer gets at once."""
JOINT_THRESHOLD = 0.5
"""From this overlap of letters on, one vocabulary for both sides is the default."""

# One word with the space before it; digits one by one, so that numbers are spelt alike;
# a run of punctuation; a run of white space. No token crosses these borders. That also
# keeps text such as "</s>" or "<0x41>" from ever being taken for the token of that name:
# the name mixes punctuation with letters.
_SPLIT = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def auto_vocab_size(pairs: int, kind: Kind) -> int:
    """Size of a vocabulary, special tokens and bytes included, for so many training pairs.

    The more text, the more words are frequent enough to be learnt whole. Between the
    points the size follows a straight line on logarithmic axes.
    """
    known_pairs = [5_000, 10_000, 30_000, 130_000, 500_000, 5_000_000]
    known_sizes = [2_300, 4_000, 6_000, 10_000, 16_000, 32_000]
    size = math.exp(float(np.interp(math.log(max(pairs, 1)), np.log(known_pairs), np.log(known_sizes))))
    if kind == "word":
        size *= 2.5  # whole words need more entries than parts of words do
    elif kind in CLOSED:
        size = 8_000  # a ceiling: the symbols that the text holds decide
    return round(size / 100) * 100


def count_characters(counts: np.ndarray[Any, Any], lines: Iterable[str]) -> None:
    """Add the characters of the lines to ``counts`` (int64, one place per code point)."""
    text = "".join(lines).encode("utf-32-le", errors="surrogatepass")
    found = np.bincount(np.frombuffer(text, dtype="<u4"))
    counts[: len(found)] += found


def no_characters() -> np.ndarray[Any, Any]:
    """Counts for `count_characters` to add to."""
    return np.zeros(0x110000, dtype=np.int64)


def letter_overlap(source: np.ndarray[Any, Any], target: np.ndarray[Any, Any]) -> float:
    """How much two sides share their letters: the common mass of the two distributions, 0 to 1."""
    places = np.flatnonzero(source + target)
    letters = np.array([p for p in places.tolist() if chr(p).isalpha()], dtype=np.int64)
    left, right = source[letters], target[letters]
    if not left.sum() or not right.sum():
        return 0.0
    return float(np.minimum(left / left.sum(), right / right.sum()).sum())


class LineStore:
    """Lines kept as compact bytes (about one byte a letter), to be read more than once.

    Attributes:
        counts: How often each code point occurs in them, (0x110000,) int64.
    """

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self.counts = no_characters()

    def add(self, lines: Iterable[str], segmentation: Segmentation) -> None:
        """Add lines, brought to their normal form."""
        rest = iter(lines)
        while block := segmentation.normal(islice(rest, 10_000)):
            count_characters(self.counts, block)
            self._blocks.append("\n".join(block).encode("utf-8"))

    def __iter__(self) -> Iterator[str]:
        for block in self._blocks:
            yield from block.decode("utf-8").split("\n")

    def words(self) -> tuple[Counter[str], bool]:
        """How often each word occurs (what single spaces separate), and whether that is all of them.

        Of more words than `WORD_CHARACTERS` allows, a sample is kept, to which a word
        belongs the more surely, the more often it occurs. Text without spaces has long
        and rare "words", which is why the rarest are not simply left out.
        """
        counts: Counter[str] = Counter()
        threshold = whole = 1 << 32
        for number, block in enumerate(self._blocks, start=1):
            counts.update(word for line in block.decode("utf-8").split("\n") for word in line.split(" "))
            last = number == len(self._blocks)
            while sum(map(len, counts)) > WORD_CHARACTERS * (1 if last else 2):
                threshold //= 2
                kept = {w: n for w, n in counts.items() if zlib.crc32(w.encode("utf-8")) < threshold * n}
                counts = Counter(kept)
        return counts, threshold == whole

    def text(self) -> Iterator[str]:
        """The lines, for a trainer; of too many words a sample, each as often as it occurs."""
        if self.counts.sum() > WORD_CHARACTERS:
            counts, complete = self.words()
            if not complete:
                self._blocks = []  # this much less memory while the trainer needs most
                return _cut(_repeat(counts))
        return _cut(self)

    def alphabet(self, limit: int) -> list[str]:
        """The most frequent characters: `COVERAGE` of the text, but ``limit`` at most."""
        places = np.flatnonzero(self.counts)
        order = places[np.lexsort((places, -self.counts[places]))]
        before = np.cumsum(self.counts[order]) - self.counts[order]
        wanted = (before < COVERAGE * self.counts.sum()) | (self.counts[order] >= COMMON)
        return [chr(place) for place in order[wanted][: max(limit, 0)].tolist()]


def _cut(lines: Iterable[str]) -> Iterator[str]:
    """The lines, those with endless words in pieces: a trainer's time grows with the square of a word."""
    for line in lines:
        if len(line) > LONGEST_WORD:
            yield from re.sub(rf"(\S{{{LONGEST_WORD}}})(?=\S)", "\\1\n", line).split("\n")
        else:
            yield line


def _repeat(counts: Counter[str]) -> Iterator[str]:
    """Each word as often as it was counted, in lines of a thousand words at most."""
    for word, count in counts.items():
        for start in range(0, count, 1000):
            yield " ".join([word] * min(1000, count - start))


def learn(store: LineStore, *, kind: Kind, vocab_size: int) -> dict[str, Any]:
    """Learn subwords, at most ``vocab_size`` ids: the JSON of the `tokenizers` library."""
    room = vocab_size - FIRST_BYTE - len(_BYTES)
    # Half of the vocabulary at most, or Chinese characters would leave no room for words.
    alphabet = store.alphabet(room // 2)
    train = _train_bpe if kind == "bpe" else _train_unigram
    return _library(train(store, alphabet, room))


def _pre(library: Library) -> Library:
    library.normalizer = normalizers.Prepend(" ")
    library.pre_tokenizer = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    return library


def _library(model: dict[str, Any]) -> dict[str, Any]:
    """A model with what stands around it: a line begins with a space, like every word."""
    library = _pre(Library(models.BPE()))
    parts = [decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    library.decoder = decoders.Sequence(parts)
    content: dict[str, Any] = json.loads(library.to_str())
    content["model"] = model
    return content


def _bpe(pieces: list[str], merges: list[Any]) -> dict[str, Any]:
    names = [*SPECIALS.values(), *_BYTES, *pieces]
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": SPECIALS[UNK],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": {name: i for i, name in enumerate(names)},
        "merges": merges,
    }


def _train_bpe(store: LineStore, alphabet: list[str], room: int) -> dict[str, Any]:
    library = _pre(Library(models.BPE()))
    # The alphabet is given whole: the trainer's own choice among equally rare characters varies.
    trainer = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=2,
        special_tokens=[],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        max_token_length=LONGEST_PIECE,
        show_progress=False,
    )
    library.train_from_iterator(store.text(), trainer)
    learnt = json.loads(library.to_str())["model"]
    return _bpe(sorted(learnt["vocab"], key=learnt["vocab"].__getitem__), learnt["merges"])


def _train_unigram(store: LineStore, alphabet: list[str], room: int) -> dict[str, Any]:
    library = _pre(Library(models.Unigram()))
    # This trainer keeps every character it meets, so it must not meet the rare ones.
    rare = re.compile(f"[^{re.escape(''.join(alphabet))}]+") if alphabet else re.compile(".+", re.DOTALL)
    trainer = trainers.UnigramTrainer(vocab_size=room, special_tokens=[], show_progress=False)
    library.train_from_iterator((rare.sub("", line) for line in store.text()), trainer)
    scores: dict[str, float] = dict(json.loads(library.to_str())["model"]["vocab"])
    # Sums in the order of a hash table differ in their last digits, hence the rounding.
    # Characters that pruning dropped are put back by the trainer in that order too, with
    # the lowest score plus 0, 1, 2, … ten-thousandths: they all get the lowest score here.
    singles = [piece for piece in scores if len(piece) == 1]
    lowest = min(scores.values(), default=0.0)
    for piece in singles:
        if scores[piece] <= lowest + 1e-4 * len(singles) + 1e-6:
            scores[piece] = lowest
    for character in alphabet:
        scores.setdefault(character, lowest)
    scores = {piece: round(score, 6) for piece, score in scores.items()}
    ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    fixed = [[name, 0.0] for name in (*SPECIALS.values(), *_BYTES)]
    vocabulary = [*fixed, *([piece, score] for piece, score in ranked[:room])]
    return {"type": "Unigram", "unk_id": UNK, "vocab": vocabulary, "byte_fallback": True}
