"""Lines to token ids and back; one file holds the tokenizers of both sides.

A line is first brought to its normal form, then split into units (`s2scli.segmentation`).
Subwords write any character that they lack as its bytes, so that nothing is ever unknown and
``decode(encode(line))`` is the normalised line, whatever it holds. The other kinds have a
closed inventory: there the same is true of every line that is made of its symbols, and any
other symbol is `UNK`.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from s2scli.errors import S2SError
from s2scli.files import os_error, write_text_atomic
from s2scli.segmentation import CLOSED, Segmentation, read_segmentation
from s2scli.side import SideTokenizer, Vocabulary
from s2scli.subwords import Subwords
from s2scli.symbols import FIRST, Symbols, count_symbols, most_frequent
from s2scli.vocabulary import LineStore, learn

__all__ = ["FORMAT", "SideTokenizer", "Tokenizer"]

FORMAT = 2
"""Version of the file ``tokenizer.json``. Format 1, with subwords or words only, is read too."""


class Tokenizer:
    """The tokenizers of both sides: one vocabulary (``joint``), or two.

    Attributes:
        source, target: The two sides; the same object if joint and segmented alike.
    """

    def __init__(self, source: SideTokenizer, target: SideTokenizer, *, joint: bool) -> None:
        self.source = source
        self.target = target
        self.joint = joint

    @classmethod
    def train(
        cls,
        source_lines: Iterable[str],
        target_lines: Iterable[str],
        *,
        source: Segmentation,
        target: Segmentation,
        vocab_size: int | tuple[int, int],
        joint: bool,
    ) -> Tokenizer:
        """Learn the vocabularies; the same lines always give the same tokenizer.

        Args:
            source_lines: Text of the source, one line at a time, as it stands in the
                corpus; it is read once.
            target_lines: That of the target, read when the source has been read.
            source, target: How the sides are split; the same kind and separator if joint.
            vocab_size: Ids of each vocabulary at most, special ones and bytes included, tags
                not; fewer if the text does not yield so many. Two numbers: one for each side.
            joint: One vocabulary for both sides.
        """
        sizes = (vocab_size, vocab_size) if isinstance(vocab_size, int) else vocab_size
        seen: set[str] = set()

        def texts() -> Iterator[str]:
            for line in source_lines:
                text, tags = source.parts(line)
                seen.update(tags)
                yield text

        left = texts() if source.features else source_lines
        if joint:
            vocabularies = [_learn([(left, source), (target_lines, target)], sizes[0])]
        else:
            vocabularies = [_learn([(left, source)], sizes[0]), _learn([(target_lines, target)], sizes[1])]
        return _assemble(vocabularies, (source, target), sorted(seen))

    def save(self, path: Path) -> None:
        """Write the one file that holds everything. S2SError if it cannot be written."""
        sides = {
            name: {**dataclasses.asdict(side.segmentation), "vocabulary": side.vocabulary.definition}
            for name, side in (("source", self.source), ("target", self.target))
        }
        if self.joint:
            sides["target"]["vocabulary"] = None
        content = {"format": FORMAT, "joint": self.joint, "tags": self.source.tags, **sides}
        write_text_atomic(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what `save` has written.

        Raises:
            S2SError: A missing, damaged or newer file.
        """
        hint = "Run s2s preprocess again, or copy the file anew."
        try:
            content = json.loads(Path(path).read_bytes())
            version = content["format"]
        except FileNotFoundError as error:
            raise S2SError("there is no such tokenizer", where=str(path), hint="Check the folder.") from error
        except OSError as error:
            raise os_error(error, path) from error
        except (ValueError, LookupError, TypeError) as error:
            raise S2SError("this is not a tokenizer of s2scli", where=str(path), hint=hint) from error
        if isinstance(version, int) and version > FORMAT:
            what = f"the tokenizer has format {version}, and this s2scli reads formats up to {FORMAT}"
            raise S2SError(what, where=str(path), hint="Install a newer s2scli.")
        try:
            content = _of_format_1(content) if version == 1 else content
            sides = [content["source"], content["target"]]
            segmentations = tuple(map(read_segmentation, sides))
            definitions = [side["vocabulary"] for side in sides]
            if content["joint"] != (definitions[1] is None):
                raise ValueError("joint and target contradict each other")
            vocabularies = [
                _vocabulary(definition, segmentation)
                for definition, segmentation in zip(definitions, segmentations, strict=True)
                if definition is not None
            ]
            return _assemble(vocabularies, segmentations, content["tags"])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise S2SError(f"the tokenizer is damaged: {error}", where=str(path), hint=hint) from error


def _learn(sides: Sequence[tuple[Iterable[str], Segmentation]], size: int) -> Vocabulary:
    """The vocabulary of one side, or of both."""
    segmentation = sides[0][1]
    if segmentation.kind in CLOSED:
        counts: Counter[str] = Counter()
        lines = sum(count_symbols(counts, texts, own) for texts, own in sides)
        symbols = most_frequent(counts, lines=lines, segmentation=segmentation, size=size)
        return Symbols(symbols, segmentation)
    store = LineStore()
    for texts, own in sides:
        store.add(texts, own)
    return Subwords(learn(store, kind=segmentation.kind, vocab_size=size))


def _vocabulary(definition: Any, segmentation: Segmentation) -> Vocabulary:
    """The vocabulary of a file; ValueError or TypeError if it is not valid."""
    return Symbols(definition, segmentation) if segmentation.kind in CLOSED else Subwords(definition)


def _assemble(
    vocabularies: Sequence[Vocabulary], segmentations: Sequence[Segmentation], tags: Sequence[str]
) -> Tokenizer:
    """Both sides; one vocabulary means that they share it, tags included."""
    source, target = segmentations
    left = SideTokenizer(source, vocabularies[0], tags)
    if len(vocabularies) == 2:
        return Tokenizer(left, SideTokenizer(target, vocabularies[1], []), joint=False)
    right = left if source == target else SideTokenizer(target, vocabularies[0], tags)
    return Tokenizer(left, right, joint=True)


def _of_format_1(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a file of format 1 in the present one: it had one kind for both sides."""
    kind, forms = content["kind"], content["normalize"]
    sides = {}
    for name in ("source", "target"):
        library = content[name]
        if kind == "word" and library is not None:
            # Its ids began with the special names.
            words = sorted(library["model"]["vocab"].items(), key=lambda item: item[1])
            library = [word for word, _ in words[FIRST:]]
        sides[name] = {"kind": kind, "normalize": forms[name], "vocabulary": library}
    return {"joint": content["joint"], "tags": [], **sides}
