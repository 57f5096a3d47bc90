"""The options of ``s2s preprocess``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from s2scli.config.choices import Normalization, TokenizerKind, Unit
from s2scli.config.declare import Options, option


def _ways(split: str) -> dict[str, tuple[str, ...]]:
    """The three ways to give a set, two texts, a table or a size, and to each name those of the other two."""
    texts, table, size = (f"{split}_src", f"{split}_tgt"), (split,), (f"{split}_size",)
    return dict.fromkeys(texts, table + size) | {split: texts + size, size[0]: texts + table}


@dataclass(frozen=True, kw_only=True)
class PreprocessOptions(Options):
    """Parallel text in; a tokenizer, shards on disk and a report out."""

    instead_of: ClassVar = _ways("train") | _ways("dev") | _ways("test")
    run: Path = option(Path("s2s-run"), "Run folder; everything is written under it.", "Run")
    force: bool = option(False, "Replace the data and models already in the run folder.", "Run")
    seed: int = option(1, "Seed of every random choice.", "Run", low=0, high=2**32 - 1)
    train_src: tuple[Path, ...] = option(
        (), "Training source text, one sentence a line (plain or .gz; repeatable).", "Data"
    )
    train_tgt: tuple[Path, ...] = option(
        (), "Training target text, line by line the translation of --train-src.", "Data"
    )
    train: tuple[Path, ...] = option((), "Training pairs as TSV (plain or .gz; repeatable).", "Data")
    dev_src: tuple[Path, ...] = option((), "Development source text.", "Data")
    dev_tgt: tuple[Path, ...] = option((), "Development target text.", "Data")
    dev: tuple[Path, ...] = option((), "Development pairs as TSV.", "Data")
    test_src: tuple[Path, ...] = option((), "Test source text.", "Data")
    test_tgt: tuple[Path, ...] = option((), "Test target text.", "Data")
    test: tuple[Path, ...] = option((), "Test pairs as TSV.", "Data")
    columns: str = option(
        "1,2",
        "Source and target column of a TSV, by number or by the name in its first line; a third one "
        "holds features of the source, such as V;PST.",
        "Data",
    )
    dev_size: int | None = option(
        None,
        "Pairs held out of the training data for development when no dev set is given.",
        "Data",
        low=1,
        unit="pairs",
        auto="5% of the pairs, 1,000 at most",
    )
    test_size: int = option(
        0,
        "Pairs held out of the training data for a test set when none is given.",
        "Data",
        low=0,
        unit="pairs",
    )
    replace_invalid: bool = option(
        False, "Replace bytes that are not UTF-8 by U+FFFD instead of stopping.", "Data"
    )
    max_length: int = option(
        250, "Leave out training pairs with a longer side.", "Cleaning", low=1, unit="tokens"
    )
    max_ratio: float = option(
        9.0,
        "Leave out training pairs of 20 characters or more whose sides differ by a larger factor in length.",
        "Cleaning",
        low=1.0,
    )
    drop_duplicates: bool = option(False, "Leave out exact repetitions of a training pair.", "Cleaning")
    drop_overlap: bool = option(
        False, "Leave out training pairs whose source occurs in the dev or test set.", "Cleaning"
    )
    normalize: Normalization = option("nfc", "Unicode normal form of both sides.", "Text")
    normalize_src: Normalization | None = option(
        None,
        "Unicode normal form of the source.",
        "Text",
        auto="as --normalize, but nfd for Hangul split into characters",
    )
    normalize_tgt: Normalization | None = option(
        None,
        "Unicode normal form in which the target is split; it is written in the form it was given in.",
        "Text",
        auto="as --normalize, but nfd for Hangul split into characters",
    )
    unit_src: Unit = option(
        "auto",
        "What a source token is; auto takes characters or symbols for short strings, else subwords.",
        "Tokenizer",
    )
    unit_tgt: Unit = option(
        "auto",
        "What a target token is; symbol is what stands between separators, such as a phoneme.",
        "Tokenizer",
    )
    separator_src: str | None = option(
        None, "What stands between two symbols of the source.", "Tokenizer", auto="a space"
    )
    separator_tgt: str | None = option(
        None, "What stands between two symbols of the target.", "Tokenizer", auto="a space"
    )
    tokenizer: TokenizerKind | None = option(
        None,
        "Both sides at once: subwords made by bpe or unigram, or the unit codepoint (char) or word.",
        "Tokenizer",
        auto="by --unit-src and --unit-tgt; subwords by bpe",
    )
    joint: bool | None = option(
        None,
        "One vocabulary for both sides.",
        "Tokenizer",
        auto="on where the two sides share most of their letters",
    )
    vocab_size: int | None = option(
        None,
        "Size of each vocabulary, special tokens included.",
        "Tokenizer",
        low=300,
        high=200_000,
        unit="tokens",
        auto="from the amount of training data",
    )
    sample_size: int = option(
        1_000_000,
        "Lines of each side that the tokenizer learns from, when there are more.",
        "Tokenizer",
        low=1000,
        unit="lines",
    )
