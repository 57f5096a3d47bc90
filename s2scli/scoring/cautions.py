"""What a reader of scores must know of the texts that were scored."""

from __future__ import annotations

from functools import partial
from unicodedata import normalize

from s2scli.events import Listener, Notice
from s2scli.scoring.material import Material
from s2scli.scoring.metrics import stripped
from s2scli.scoring.units import unit_of

_nfc = partial(normalize, "NFC")

TOKENIZED = 100
"""Lines ending in a full stop that stands apart, from which on sacreBLEU takes text to be tokenised."""
SOME = 10
"""Lines without spaces, from which on they are not taken for sentences of one word."""


def warn(material: Material, metrics: list[str], tokenize: str | None, listen: Listener) -> None:
    """Say what a reader of the scores must know of the texts; ``tokenize`` is what was chosen for BLEU."""
    _warn_of_tokens(material, metrics, listen)
    _warn_of_symbols(material, metrics, listen)
    _warn_of_gaps(material, metrics, listen)
    if tokenize is None:
        _warn_of_strings(material, metrics, listen)
    _warn_of_forms(material, metrics, listen)


def _warn_of_tokens(material: Material, metrics: list[str], listen: Listener) -> None:
    """As sacreBLEU does."""
    for name, lines in zip(material.names, material.systems, strict=True):
        if "bleu" in metrics and sum(line.rstrip().endswith(" .") for line in lines) >= TOKENIZED:
            text = (
                f"{name}: {TOKENIZED} lines or more end in a full stop that stands apart. BLEU wants text as "
                "people write it, not tokens; of tokens it says something else."
            )
            listen(Notice(text=text, warning=True))


def _warn_of_symbols(material: Material, metrics: list[str], listen: Listener) -> None:
    """Of symbols that something else than white space separates, PER would be WER."""
    lines = [line.strip() for reference in material.references for line in reference]
    if "per" in metrics and any(len(line) > 1 for line in lines) and not any(map(_separates, lines)):
        text = (
            "No reference holds white space, so each counts as one symbol. Put spaces "
            "between the symbols, or count characters: --metric cer."
        )
        listen(Notice(text=text, warning=True))


def _warn_of_gaps(material: Material, metrics: list[str], listen: Listener) -> None:
    """An empty line stands for no reference, but to sacreBLEU's command line it is one without words."""
    filled = [[bool(reference.strip()) for reference in of] for of in zip(*material.references, strict=True)]
    count = sum(any(of) and not all(of) for of in filled)
    if count and {"bleu", "ter"} & set(metrics):
        text = (
            f"Lines with fewer references than others: {count:,}. To BLEU and TER an empty reference is one "
            "of length 0, near to whatever is too short, so they may be far too good or too bad: leave them "
            "out, with --metrics chrf."
        )
        listen(Notice(text=text, warning=True))


def _warn_of_strings(material: Material, metrics: list[str], listen: Listener) -> None:
    """Single words have no n-grams of words."""
    many = all(len(reference) >= SOME for reference in material.references)
    if "bleu" in metrics and many and all(unit_of(of) == "characters" for of in material.references):
        text = (
            "Most references have no spaces, so there are no n-grams of words for BLEU to count. For strings "
            "choose --metric wer,cer, for sentences a tokenizer, such as --tokenize zh."
        )
        listen(Notice(text=text, warning=True))


def _warn_of_forms(material: Material, metrics: list[str], listen: Listener) -> None:
    """What looks the same on every screen may be other code points."""
    for name, lines in zip(material.names, material.systems, strict=True):
        pairs = zip(stripped(lines), *map(stripped, material.references), strict=True)
        count = sum(
            line not in of and not line.isascii() and _nfc(line) in map(_nfc, of) for line, *of in pairs
        )
        if count:
            text = (
                f"{name}: lines that differ from a reference in their Unicode normal form alone: {count:,}. "
                "They look the same and count as wrong: bring both to one form (NFC) before."
            )
            listen(Notice(text=text, warning=True))


def _separates(line: str) -> bool:
    return len(line.split()) > 1
