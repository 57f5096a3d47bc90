"""Lines to token ids and back, without loss; one file holds the tokenizers of both sides.

A line is first brought to its Unicode normal form. The kinds ``bpe``, ``unigram`` and
``char`` then write any character that the vocabulary lacks as its UTF-8 bytes, so that
nothing is ever unknown and ``decode(encode(line))`` is the normalised line, whatever it
holds. The kind ``word`` splits at white space and has an ``<unk>``. How a tokenizer is
learnt stands in `s2scli.vocabulary`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import tokenizers

from s2scli.config import BOS, EOS, PAD, Normalization, TokenizerKind
from s2scli.errors import S2SError
from s2scli.files import os_error, write_text_atomic
from s2scli.vocabulary import FIRST_BYTE, SPECIALS, LineStore, learn, normalize_line

# Set before the library is first used: it then takes its threads without warning at every
# fork. In a forked child those threads do not exist, and waiting for them would never end.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.register_at_fork(after_in_child=lambda: os.environ.__setitem__("TOKENIZERS_PARALLELISM", "false"))


FORMAT = 1
"""Version of the file ``tokenizer.json``."""


class SideTokenizer:
    """The tokenizer of one language side.

    Ids 0–3 are `PAD`, `UNK`, `BOS`, `EOS`; with byte fallback 4–259 are the bytes.
    """

    def __init__(self, library: dict[str, Any], *, kind: TokenizerKind, normalization: Normalization) -> None:
        """Build it of the JSON of the `tokenizers` library; ValueError if that is not valid."""
        self.kind: TokenizerKind = kind
        self.normalization: Normalization = normalization
        self.definition = library
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(library))
        except Exception as error:  # the library raises plain Exception
            raise ValueError(str(error)) from error
        size = self._tokenizer.get_vocab_size()
        pieces = [self._tokenizer.id_to_token(i) for i in range(size)]
        self._pieces: list[str] = [piece for piece in pieces if piece is not None]
        if len(self._pieces) < max(size, FIRST_BYTE):
            raise ValueError("the ids of the vocabulary have gaps")

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones and bytes included."""
        return len(self._pieces)

    def normalize(self, line: str) -> str:
        """The line as the model sees it; for ``word`` with single spaces between the words."""
        return normalize_line(line, self.normalization, self.kind)

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """Ids of each line, without BOS and EOS. The lines need no normalisation first."""
        return self.encode_normalized([self.normalize(line) for line in lines])

    def encode_normalized(self, lines: Sequence[str]) -> list[list[int]]:
        """As `encode`, for lines that `normalize` has seen already."""
        encodings = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def decode(self, sequences: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids.

        PAD, BOS and EOS are skipped (and UNK, except that a ``word`` tokenizer writes it,
        for it stands for a word). Bytes that do not make up UTF-8 become U+FFFD, and a
        line break, which only a model can produce, becomes a space.
        """
        if self.kind == "word":
            skip = (PAD, BOS, EOS)
            return [" ".join(self._shown(i) for i in ids if i not in skip) for ids in sequences]
        kept = [[i for i in ids if i >= FIRST_BYTE] for ids in sequences]
        return [text.replace("\n", " ") for text in self._tokenizer.decode_batch(kept)]

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Each token for display: spaces as ``▁``, a byte as ``<0xNN>``, a special id by its name."""
        return [self._shown(i).replace(" ", "▁") for i in ids]

    def word_of_token(self, ids: Sequence[int]) -> list[int]:
        """For each token the number, from 0, of the word of the decoded text it belongs to.

        Words are what white space separates. Tokens that hold only white space, and
        special ids, belong to the word that follows, or to the last.
        """
        owners: list[int | None] = [None] * len(ids)
        word, inside = -1, False
        for character, places in self._characters(ids):
            if character.isspace():
                inside = False
                continue
            if not inside:
                word, inside = word + 1, True
            for place in places:
                if owners[place] is None:
                    owners[place] = word
        following = max(word, 0)
        result = [0] * len(ids)
        for place in reversed(range(len(ids))):
            owner = owners[place]
            following = following if owner is None else owner
            result[place] = following
        return result

    def _shown(self, token: int) -> str:
        return SPECIALS.get(token) or self._pieces[token]

    def _characters(self, ids: Sequence[int]) -> Iterable[tuple[str, Sequence[int]]]:
        """The characters of the decoded text, each with the places in ``ids`` that made it."""
        run: list[int] = []  # places of adjacent byte tokens, which make up characters together
        for place, token in enumerate(ids):
            if self.kind == "word":
                if token not in (PAD, BOS, EOS):
                    yield " ", ()
                    yield from ((character, (place,)) for character in self._shown(token))
            elif FIRST_BYTE <= token < FIRST_BYTE + 256:
                run.append(place)
            elif token >= FIRST_BYTE:
                yield from _byte_characters(ids, run)
                run = []
                yield from ((character, (place,)) for character in self._pieces[token])
        yield from _byte_characters(ids, run)


def _byte_characters(ids: Sequence[int], run: Sequence[int]) -> Iterable[tuple[str, Sequence[int]]]:
    """The characters of a run of byte tokens; as in decoding, one bad byte spoils the whole run."""
    try:
        text = bytes(ids[place] - FIRST_BYTE for place in run).decode("utf-8")
    except UnicodeDecodeError:
        yield from (("\ufffd", (place,)) for place in run)
        return
    start = 0
    for character in text:
        end = start + len(character.encode("utf-8"))
        yield character, run[start:end]
        start = end


class Tokenizer:
    """The tokenizers of both sides: one vocabulary (``joint``), or two.

    Attributes:
        source, target: The two sides; the same object if joint and normalised alike.
    """

    def __init__(self, source: SideTokenizer, target: SideTokenizer, *, joint: bool) -> None:
        self.source = source
        self.target = target
        self.joint = joint

    @property
    def kind(self) -> TokenizerKind:
        return self.source.kind

    @classmethod
    def train(
        cls,
        source_lines: Iterable[str],
        target_lines: Iterable[str],
        *,
        kind: TokenizerKind,
        vocab_size: int,
        joint: bool,
        normalize_source: Normalization,
        normalize_target: Normalization,
    ) -> Tokenizer:
        """Learn the vocabularies; the same lines always give the same tokenizer.

        Args:
            source_lines: Text of the source, one line at a time, as it stands in the
                corpus; it is read once.
            target_lines: That of the target, read when the source has been read.
            kind: Kind of token.
            vocab_size: Ids of each vocabulary at most, special ones and bytes included;
                fewer if the text does not yield so many.
            joint: One vocabulary for both sides.
            normalize_source: Unicode normal form of the source.
            normalize_target: That of the target.
        """
        forms: tuple[Normalization, Normalization] = (normalize_source, normalize_target)
        if joint:
            store = LineStore()
            store.add(source_lines, form=normalize_source, kind=kind)
            store.add(target_lines, form=normalize_target, kind=kind)
            library = learn(store, kind=kind, vocab_size=vocab_size)
            return _assemble(library, None, kind, forms)
        libraries = []
        for lines, form in zip((source_lines, target_lines), forms, strict=True):
            store = LineStore()
            store.add(lines, form=form, kind=kind)
            libraries.append(learn(store, kind=kind, vocab_size=vocab_size))
        return _assemble(libraries[0], libraries[1], kind, forms)

    def save(self, path: Path) -> None:
        """Write the one file that holds everything. S2SError if it cannot be written."""
        content = {
            "format": FORMAT,
            "kind": self.kind,
            "joint": self.joint,
            "normalize": {"source": self.source.normalization, "target": self.target.normalization},
            "source": self.source.definition,
            "target": None if self.joint else self.target.definition,
        }
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
            forms = (content["normalize"]["source"], content["normalize"]["target"])
            kind = content["kind"]
            if kind not in get_args(TokenizerKind) or not set(forms) <= set(get_args(Normalization)):
                raise ValueError(f"unknown kind or normal form: {kind}, {forms}")
            if content["joint"] != (content["target"] is None):
                raise ValueError("joint and target contradict each other")
            return _assemble(content["source"], content["target"], kind, forms)
        except (ValueError, LookupError, TypeError) as error:
            raise S2SError(f"the tokenizer is damaged: {error}", where=str(path), hint=hint) from error


def _assemble(
    source: dict[str, Any],
    target: dict[str, Any] | None,
    kind: TokenizerKind,
    forms: tuple[Normalization, Normalization],
) -> Tokenizer:
    """Both sides of the library's JSON; ``target`` None means that they share the source's."""
    left = SideTokenizer(source, kind=kind, normalization=forms[0])
    if target is None and forms[0] == forms[1]:
        return Tokenizer(left, left, joint=True)
    right = SideTokenizer(source if target is None else target, kind=kind, normalization=forms[1])
    return Tokenizer(left, right, joint=target is None)
