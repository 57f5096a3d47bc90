"""Forced scores as lines of output, as the pairs are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from s2scli.config import ScoreOptions
from s2scli.errors import UsageError
from s2scli.events import Listener, Progress
from s2scli.loading import loading
from s2scli.scoring.forced import Corpus, Forced, score_pairs
from s2scli.scoring.material import REPORT_EVERY
from s2scli.scoring.pairs import IdPairs, TextPairs
from s2scli.scoring.reading import called

if TYPE_CHECKING:
    from s2scli.tokenizer import SideTokenizer


def is_forced(options: ScoreOptions) -> bool:
    """Whether a model is to score pairs that are given."""
    return options.tgt is not None or options.ids is not None


def _check(options: ScoreOptions) -> None:
    if options.hypotheses:
        what = (
            f"a model scores the pairs of {called(options.tgt or options.ids or options.hypotheses[0])} alone"
        )
        hint = "Leave out the hypotheses, or --tgt and --ids."
        raise UsageError(what, where=called(options.hypotheses[0]), hint=hint)
    if options.ids is not None and (options.tgt is not None or options.src is not None):
        where = "--tgt" if options.tgt is not None else "--src"
        raise UsageError("--ids holds both sides itself", where=where, hint="Leave out one of them.")
    if options.tgt is not None and options.src is None:
        hint = "Add --src and the file of source lines."
        raise UsageError("translations are scored given their source", where="--tgt", hint=hint)


def forced_lines(options: ScoreOptions, listen: Listener) -> Iterator[str]:
    """Score the pairs that are given, one line of output for each, in order.

    A line is TSV: log-probability, number of tokens, and with ``per_token`` the log-probabilities of
    the tokens and the tokens, either separated by spaces. Or it is JSON, and then a last line holds the
    corpus. The listener is told the perplexity of the corpus and what there is to beware of.

    Raises:
        S2SError: No model, or files that cannot be read or do not belong to each other.
    """
    with loading():
        from s2scli.translator import Translator

    _check(options)
    translator = Translator.load(
        options.model or [options.run],
        device=options.device,
        precision=options.precision,
        threads=options.threads,
        listen=listen,
    )
    tokenizer = translator.tokenizer
    pairs: TextPairs | IdPairs
    if options.ids is not None:
        pairs = IdPairs(options.ids, tokenizer)
    else:
        assert options.src is not None
        assert options.tgt is not None
        pairs = TextPairs(options.src, options.tgt, tokenizer)
    corpus = Corpus()
    form = _json if options.json else _tsv
    for forced in score_pairs(pairs, translator):
        corpus.add(forced, translator)
        yield form(forced, tokenizer.target, options.per_token)
        if corpus.pairs % REPORT_EVERY == 1:
            listen(Progress(task="Scoring", done=forced.pair.line - 1, total=pairs.lines, unit="lines"))
    listen(Progress(task="Scoring", done=pairs.lines, total=pairs.lines, unit="lines"))
    if options.json:
        yield json.dumps(_corpus(corpus))
    for notice in corpus.notices(translator):
        listen(notice)


def _tsv(forced: Forced, side: SideTokenizer, per_token: bool) -> str:
    columns = [f"{forced.log_probability:.4f}", str(len(forced.ids))]
    if per_token:
        columns.append(" ".join(f"{p:.4f}" for p in forced.log_probabilities))
        columns.append(" ".join(map(_unbroken, side.tokens(forced.ids))))
    return "\t".join(columns)


def _unbroken(token: str) -> str:
    r"""A token without white space: a tab, say, as ``\x09``."""
    return "".join(ascii(c)[1:-1] if c.isspace() else c for c in token)


def _json(forced: Forced, side: SideTokenizer, per_token: bool) -> str:
    content: dict[str, Any] = {
        "line": forced.pair.line,
        "hypothesis": forced.pair.rank,
        "log_probability": forced.log_probability,
        "tokens": len(forced.ids),
    }
    if per_token:
        content["ids"] = forced.ids
        content["pieces"] = side.tokens(forced.ids)
        content["log_probabilities"] = forced.log_probabilities
    return json.dumps(content, ensure_ascii=False)


def _corpus(corpus: Corpus) -> dict[str, Any]:
    return {
        "pairs": corpus.pairs,
        "tokens": corpus.tokens,
        "log_probability": corpus.log_probability,
        "perplexity": corpus.perplexity,
        "difference": corpus.difference,
        "resegmented": corpus.resegmented,
        "unknown": corpus.unknown,
    }
