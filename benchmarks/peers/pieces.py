"""Lines as the model's own tokens, separated by spaces, and back: what the other systems read and write.

    python benchmarks/peers/pieces.py encode MODEL < text > pieces
    python benchmarks/peers/pieces.py decode MODEL < pieces > text
    python benchmarks/peers/pieces.py vocabulary MODEL FOLDER   # vocab.onmt, vocab.joey, vocab.marian.yml

MODEL is a model directory (its tokenizer.json is read). The vocabularies hold all pieces in the order
of their ids, and with it the same number of columns of the output layer for every system.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from s2scli.corpus import Lines
from s2scli.files import write_text_atomic
from s2scli.tokenizer import SideTokenizer, Tokenizer

SPECIALS = 4
"""Ids of padding, unknown, beginning and end; each system has its own."""


def spelling(side: SideTokenizer) -> list[str]:
    """The tokens of all ids as the other systems see them; white space other than ▁ by its code point."""
    tokens = side.tokens(range(side.vocab_size))
    return ["".join(f"<U+{ord(c):04X}>" if c.isspace() else c for c in token) for token in tokens]


def encode(side: SideTokenizer, lines: list[str]) -> list[str]:
    """Each line as its tokens between single spaces."""
    pieces = spelling(side)
    return [" ".join(pieces[i] for i in ids) for ids in side.encode(lines)]


def decode(side: SideTokenizer, lines: list[str]) -> list[str]:
    """The text of each line of tokens; what is no token (another system's <unk>) is left out."""
    number = {piece: i for i, piece in enumerate(spelling(side)) if i >= SPECIALS}
    return side.decode([[number[piece] for piece in line.split() if piece in number] for line in lines])


def write_tokens(
    tokenizer: Tokenizer, corpus: Path, languages: tuple[str, str], parts: Sequence[str], folder: Path
) -> None:
    """The tokens of both sides of the parts of a corpus, and last the vocabularies, which the sides share."""
    folder.mkdir(exist_ok=True)
    for part in parts:
        for language, side in zip(languages, (tokenizer.source, tokenizer.target), strict=True):
            lines = encode(side, list(Lines(corpus / f"{part}.{language}")))
            write_text_atomic(folder / f"{part}.{language}", "".join(f"{line}\n" for line in lines))
    write_vocabularies(tokenizer.target, folder)


def write_vocabularies(side: SideTokenizer, folder: Path) -> None:
    """The vocabulary as OpenNMT-py (token, tab, count), JoeyNMT (list) and Marian (map to ids) read it.

    OpenNMT-py wants counts that fall, and takes the first line for the start of the pieces only if that
    token can be seen: byte tokens can.
    """
    pieces = spelling(side)[SPECIALS:]
    counts = [f"{piece}\t{len(pieces) + 1 - i}\n" for i, piece in enumerate(pieces)]
    (folder / "vocab.onmt").write_text("".join(counts), encoding="utf-8")
    joey = ["<unk>", "<pad>", "<s>", "</s>", *pieces]
    (folder / "vocab.joey").write_text("".join(f"{piece}\n" for piece in joey), encoding="utf-8")
    marian = {piece: i for i, piece in enumerate(["</s>", "<unk>", *pieces])}
    (folder / "vocab.marian.yml").write_text(
        json.dumps(marian, ensure_ascii=False, indent=0), encoding="utf-8"
    )


def main() -> None:
    mode, model, *rest = sys.argv[1:]
    tokenizer = Tokenizer.load(Path(model) / "tokenizer.json")
    if mode == "vocabulary":
        write_vocabularies(tokenizer.target, Path(rest[0]))
        return
    lines = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").split("\n")
    converted = encode(tokenizer.source, lines) if mode == "encode" else decode(tokenizer.target, lines)
    sys.stdout.buffer.write("".join(f"{line}\n" for line in converted).encode())


if __name__ == "__main__":
    main()
