"""How translations are written: text, TSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from s2scli.alignment import pharaoh, word_alignment
from s2scli.config import TranslateOptions
from s2scli.translator import Translation, Translator

Formatter = Callable[[int, str, list[Translation]], str]


def formatter(options: TranslateOptions, translator: Translator) -> Formatter:
    """How the hypotheses of a line are written: text, TSV or JSON."""

    def alignment(source: str, hypothesis: Translation) -> str:
        return pharaoh(word_alignment(hypothesis, translator.tokenizer, unit=options.alignment_unit))

    def text(number: int, source: str, hypotheses: list[Translation]) -> str:
        return hypotheses[0].text

    def tsv(number: int, source: str, hypotheses: list[Translation]) -> str:
        rows = []
        for hypothesis in hypotheses:
            columns = [str(number)] if options.n_best > 1 else []
            columns.append(escape_tabs(hypothesis.text))
            if options.scores:
                columns.append(f"{hypothesis.log_probability:.4f}")
            if options.alignments:
                columns.append(alignment(source, hypothesis))
            rows.append("\t".join(columns))
        return "\n".join(rows)

    def jsonl(number: int, source: str, hypotheses: list[Translation]) -> str:
        side = translator.tokenizer.target
        described = []
        for hypothesis in hypotheses:
            content: dict[str, Any] = {
                "text": hypothesis.text,
                "tokens": side.tokens(hypothesis.ids),
                "ids": hypothesis.ids,
                "log_probability": hypothesis.log_probability,
                "score": hypothesis.score,
                "complete": all(p.hypothesis.complete for p in hypothesis.pieces),
            }
            if len(hypothesis.pieces) > 1 or any(p.respaced for p in hypothesis.pieces):
                # Each has its own source and its own end: what a forced score must know.
                content["pieces"] = [
                    {
                        "source_ids": p.source,
                        "ids": p.hypothesis.tokens,
                        "complete": p.hypothesis.complete,
                    }
                    for p in hypothesis.pieces
                ]
            if options.alignments:
                content["alignment"] = alignment(source, hypothesis)
            described.append(content)
        return json.dumps({"line": number, "source": source, "hypotheses": described}, ensure_ascii=False)

    if options.format == "jsonl":
        return jsonl
    if options.format == "tsv" or options.scores or options.alignments or options.n_best > 1:
        return tsv
    return text


def escape_tabs(text: str) -> str:
    r"""A field of a TSV: ``\t`` for a tab and ``\\`` for a backslash."""
    return text.replace("\\", "\\\\").replace("\t", "\\t")
