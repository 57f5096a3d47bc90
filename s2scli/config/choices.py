"""What several options may be, and the special token ids."""

from __future__ import annotations

from typing import Literal

PAD, UNK, BOS, EOS = 0, 1, 2, 3
"""Special token ids, the same in every vocabulary."""
SPECIAL_IDS = 4
"""How many there are."""

Normalization = Literal["nfc", "nfkc", "nfd", "none"]
TokenizerKind = Literal["bpe", "unigram", "char", "word"]
Unit = Literal["auto", "subword", "word", "character", "codepoint", "symbol"]
Cell = Literal["lstm", "gru"]
Bridge = Literal["last", "linear", "zero"]
Attention = Literal["none", "dot", "scaled-dot", "general", "additive"]
Values = Literal["keys", "projected"]
Feed = Literal["none", "input", "state"]
Tie = Literal["none", "target", "all"]
Preset = Literal["default", "lecture"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
SearchPrecision = Literal["auto", "fp32", "bf16", "int8"]
Metric = Literal["bleu", "chrf", "acc", "loss"]
Average = Literal["ema", "none"]
Format = Literal["text", "tsv", "jsonl"]
