"""Forced scores: those of search where its ids are given, and defined results for everything else."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest import run_s2s

from s2scli.checkpoint import ModelInfo, create_model_directory, load_model, save_weights
from s2scli.cli import main
from s2scli.config import EOS, PAD, Attention, Feed, ModelConfig, ScoreOptions, TranslateOptions
from s2scli.errors import S2SError
from s2scli.events import Event, Notice, Progress
from s2scli.model import Seq2Seq
from s2scli.scoring.forcedlines import forced_lines
from s2scli.tokenizer import Tokenizer
from s2scli.translate import translate
from s2scli.translator import Translator

SOURCES = ["a b c", "", "h g f e", "b", "d e a c h b g f a b c d e f", "zzz a", "c d e f a", "   "]
KINDS = [(attention, feed) for attention in get_args(Attention) for feed in get_args(Feed)]


def forced(listen: list[Event] | None = None, **options: Any) -> list[str]:
    heard: list[Event] = [] if listen is None else listen
    return list(forced_lines(ScoreOptions(threads=1, **options), heard.append))


def forced_json(**options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    found = [json.loads(line) for line in forced(json=True, **options)]
    return found[:-1], found[-1]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def random_model(
    folder: Path, run: Path, *, ending: float, attention: str = "dot", feed: str = "none"
) -> Path:
    """A model directory with large random weights and the tokenizer of a run; ``ending`` favours EOS."""
    tokenizer = Tokenizer.load(run / "best" / "tokenizer.json")
    torch.manual_seed(5)
    config = ModelConfig(
        source_vocab=tokenizer.source.vocab_size,
        target_vocab=tokenizer.target.vocab_size,
        hidden=16,
        embedding=8,
        decoder_layers=2,
        attention=attention,  # type: ignore[arg-type]
        feed=feed,  # type: ignore[arg-type]
    )
    model = Seq2Seq(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
        model.output.bias[EOS] += ending
        model.output.bias[PAD] -= 30  # no trained model writes it
    create_model_directory(folder, ModelInfo(model=config, max_source_length=6), tokenizer)
    save_weights(folder, model)
    return folder


def searched_and_forced(
    folder: Path, place: Path
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """The hypotheses of a search, the forced scores of their ids, and those of the corpus."""
    source, out = write(place / "src", SOURCES), place / "out.jsonl"
    search: dict[str, Any] = {"beam": 4, "n_best": 3, "format": "jsonl", "max_length_ratio": 1.0}
    translate(
        TranslateOptions(run=(folder,), input=source, output=out, precision="fp32", threads=1, **search)
    )
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
    found, corpus = forced_json(ids=out, model=(folder,), precision="fp32", per_token=True)
    expected = [(line["line"], rank) for line in written for rank in range(1, len(line["hypotheses"]) + 1)]
    assert [(pair["line"], pair["hypothesis"]) for pair in found] == expected
    return [h for line in written for h in line["hypotheses"]], found, corpus


@pytest.mark.parametrize(("attention", "feed"), KINDS)
def test_forced_scores_of_ids_are_those_of_search(
    attention: str, feed: str, trained: Path, tmp_path: Path
) -> None:
    folder = random_model(tmp_path / "model", trained, ending=3, attention=attention, feed=feed)
    hypotheses, found, corpus = searched_and_forced(folder, tmp_path)
    assert any("pieces" in h for h in hypotheses) and any(not h["ids"] for h in hypotheses)
    for pair, hypothesis in zip(found, hypotheses, strict=True):
        assert pair["log_probability"] == pytest.approx(hypothesis["log_probability"], abs=1e-4)
        assert [i for i in pair["ids"] if i != EOS] == hypothesis["ids"]
        assert sum(pair["log_probabilities"]) == pytest.approx(pair["log_probability"])
    assert corpus["difference"] < 1e-4


def test_many_hypotheses_of_a_line_are_scored_in_parts(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2scli.scoring.forced.MOST", 2)
    folder = random_model(tmp_path / "model", trained, ending=3)
    hypotheses, found, corpus = searched_and_forced(folder, tmp_path)
    for pair, hypothesis in zip(found, hypotheses, strict=True):
        assert [i for i in pair["ids"] if i != EOS] == hypothesis["ids"]
    assert corpus["difference"] < 1e-4


def test_hypotheses_that_were_cut_have_no_eos(trained: Path, tmp_path: Path) -> None:
    folder = random_model(tmp_path / "model", trained, ending=-30)
    hypotheses, found, corpus = searched_and_forced(folder, tmp_path)
    assert corpus["difference"] < 1e-4
    for pair, hypothesis in zip(found, hypotheses, strict=True):
        assert EOS not in pair["ids"] and hypothesis["complete"] == (not hypothesis["ids"])


def test_in_bf16_too(trained: Path, tmp_path: Path) -> None:
    source, out = write(tmp_path / "src", SOURCES), tmp_path / "out.jsonl"
    translate(
        TranslateOptions(
            run=(trained,), input=source, output=out, format="jsonl", precision="bf16", threads=1
        )
    )
    _, corpus = forced_json(ids=out, run=trained, precision="bf16")
    assert corpus["difference"] < 1e-4
    _, other = forced_json(ids=out, run=trained, precision="fp32")
    assert 1e-4 < other["difference"] < 1


def test_text_is_scored_as_the_model_reads_it(trained: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "src", ["a b", "c d e"])
    target = write(tmp_path / "tgt", ["b a", "e d"])
    found, corpus = forced_json(
        src=source, tgt=target, model=(trained / "best",), precision="fp32", per_token=True
    )
    model, tokenizer, _ = load_model(trained)
    model.requires_grad_(False)
    ids = (tokenizer.source.encode(["a b", "c d e"]), tokenizer.target.encode(["b a", "e d"]))
    for pair, left, right in zip(found, *ids, strict=True):
        assert pair["ids"] == [*right, EOS]
        state = model.start(torch.tensor([[*left, EOS]]), torch.tensor([len(left) + 1]))
        before = 2  # BOS
        for token, log_p in zip(pair["ids"], pair["log_probabilities"], strict=True):
            found_p, _, state = model.step(torch.tensor([[before]]), state)
            assert float(found_p[0, 0, token]) == pytest.approx(log_p, abs=1e-4)
            before = token
    assert (corpus["pairs"], corpus["tokens"]) == (2, 6)
    total = sum(pair["log_probability"] for pair in found)
    assert corpus["log_probability"] == pytest.approx(total)
    assert corpus["perplexity"] == pytest.approx(math.exp(-total / 6))
    # The right translation is likelier than a wrong one.
    assert found[0]["log_probability"] / 3 > found[1]["log_probability"] / 3


def test_the_command(trained: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "src", ["a b", "", "c d e"])
    target = write(tmp_path / "tgt", ["b a", "", "e d c"])
    given = ["score", "--model", trained, "--src", source, "--tgt", target, "--threads", 1]
    done = run_s2s(*given)
    assert done.returncode == 0, done.stderr
    rows = [row.split("\t") for row in done.stdout.split("\n")[:-1]]
    assert [row[1] for row in rows] == ["3", "0", "4"]
    assert rows[1][0] == "0.0000" and all(float(row[0]) < 0 for row in (rows[0], rows[2]))
    assert done.stderr.startswith("3 pairs, 7 tokens: log-probability -0.")
    assert "perplexity 1." in done.stderr and "log-probability 0: 1.\n" in done.stderr
    token_rows = forced(src=source, tgt=target, model=(trained,), per_token=True)
    _, _, numbers, tokens = token_rows[0].split("\t")
    assert tokens == "b a </s>" and len(numbers.split()) == 3
    assert sum(map(float, numbers.split())) == pytest.approx(float(rows[0][0]), abs=2e-4)
    assert token_rows[1] == "0.0000\t0\t\t"


def test_many_pairs_keep_their_order(trained: Path, tmp_path: Path) -> None:
    lines = [" ".join("abcdefgh"[: 1 + i % 6]) for i in range(2100)]
    source, target = write(tmp_path / "src", lines), write(tmp_path / "tgt", lines[::-1])
    heard: list[Event] = []
    rows = forced(heard, src=source, tgt=target, run=trained, precision="fp32")
    translator = Translator.load(trained, precision="fp32", threads=1)
    for i in (0, 7, 2047, 2048, 2099):
        ids = [side.encode([text])[0] for side, text in _sides(translator, lines[i], lines[2099 - i])]
        ((alone,),) = translator.searcher.forced([ids[0]], [[ids[1]]])
        assert float(rows[i].split("\t")[0]) == pytest.approx(sum(alone), abs=2e-4)
    done = [(e.done, e.total) for e in heard if isinstance(e, Progress)]
    assert done[0] == (0, 2100) and done[-1] == (2100, 2100) and len(done) > 10


def _sides(translator: Translator, source: str, target: str) -> list[tuple[Any, str]]:
    return [(translator.tokenizer.source, source), (translator.tokenizer.target, target)]


def test_text_that_the_tokenizer_cannot_read(trained: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "src", ["파일을 엽니다", "a b", "다른 것"])
    target = write(tmp_path / "tgt", ["b  a", "b a", "b a"])
    heard: list[Event] = []
    rows = forced(heard, src=source, tgt=target, run=trained)
    assert len(rows) == 3 and all(math.isfinite(float(row.split("\t")[0])) for row in rows)
    warnings = [e.text for e in heard if isinstance(e, Notice) and e.warning]
    assert warnings[0].startswith("Targets that are not scored letter by letter") and warnings[0].endswith(
        ": 1."
    )
    assert warnings[1] == "Lines with words that the tokenizer of the source does not know: 2."
    assert warnings[2].startswith("The tokenizer of the source cannot read most of the text (2 of 3 lines")


def test_what_is_told_of_the_ids(trained: Path, tmp_path: Path) -> None:
    side = Tokenizer.load(trained / "best" / "tokenizer.json").target
    a, b = side.encode(["a b"])[0]
    hypothesis = {"text": "b a a", "ids": [b, a], "tokens": ["b", "a"]}
    file = write(tmp_path / "ids", [json.dumps({"source": "a b", "hypotheses": [hypothesis]})])
    heard: list[Event] = []
    forced(heard, ids=file, run=trained)
    told = [e.text for e in heard if isinstance(e, Notice)]
    assert told[1].startswith(
        "Hypotheses whose text would be segmented into other tokens than search wrote: 1"
    )
    # What is to say of a source is said once, however many hypotheses it has.
    many = {"source": "a Q", "hypotheses": [hypothesis] * 3}
    heard.clear()
    forced(heard, ids=write(tmp_path / "many", [json.dumps(many)]), run=trained)
    told = [e.text for e in heard if isinstance(e, Notice) and e.warning]
    assert told == ["Lines with words that the tokenizer of the source does not know: 1."]
    # Without its pieces, a line that search would have cut is scored as a whole, and told.
    long = {"source": "a b c d e f g h", "hypotheses": [{"ids": [b, a]}]}
    forced(heard, ids=write(tmp_path / "long", [json.dumps(long)]), run=trained)
    last = heard[-1]
    assert isinstance(last, Notice) and last.warning
    assert last.text == "Sources longer than the model has seen in training (6 tokens), scored as a whole: 1."


BAD = {
    "not JSON": ("a b", "this is not a line of 's2s translate --format jsonl'"),
    "no object": ("[1]", "this is not a line"),
    "no hypotheses": ('{"source": "a"}', "this is not a line .* 'hypotheses'"),
    "no number": ('{"source": "a", "hypotheses": [{"ids": ["x"]}]}', "this is not a line"),
    "no id": ('{"source": "a", "hypotheses": [{"ids": [9999]}]}', "the id 9999 is none of them"),
    "other ids": (
        '{"source": "a", "hypotheses": [{"ids": [5], "tokens": ["qq"]}]}',
        "it is of another model",
    ),
    "other pieces": (
        '{"source": "a", "hypotheses": [{"ids": [5], "pieces": [{"source_ids": [4], "ids": [6], '
        '"complete": true}]}]}',
        "the ids of the pieces are not those of the hypothesis",
    ),
    "source of another model": (
        '{"source": "a", "hypotheses": [{"ids": [5], "pieces": [{"source_ids": [9999], "ids": [5], '
        '"complete": true}]}]}',
        "source tokens, and the id 9999 is none",
    ),
    "another source": (
        '{"source": "a", "hypotheses": [{"ids": [5], "pieces": [{"source_ids": [6, 7], "ids": [5], '
        '"complete": true}]}]}',
        "the source ids of the pieces are not those of the source",
    ),
    "infinite id": ('{"source": "a", "hypotheses": [{"ids": [Infinity]}]}', "no list of whole numbers"),
    "half an id": ('{"source": "a", "hypotheses": [{"ids": [5.5]}]}', "no list of whole numbers"),
    "ids in a text": ('{"source": "a", "hypotheses": [{"ids": "56"}]}', "no list of whole numbers"),
    "special ids": ('{"source": "a", "hypotheses": [{"ids": [2]}]}', "the id 2 is none of them"),
    "no source": ('{"source": null, "hypotheses": [{"ids": [5]}]}', "source is None"),
    "no truth": ('{"source": "a", "hypotheses": [{"ids": [5], "complete": "false"}]}', "complete is 'false'"),
    "no score": (
        '{"source": "a", "hypotheses": [{"ids": [5], "log_probability": NaN}]}',
        "probability nan",
    ),
    "no end": ("[" * 200_000, "without end|not a line"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_lines_of_ids(name: str, trained: Path, tmp_path: Path) -> None:
    line, said = BAD[name]
    good = '{"source": "a", "hypotheses": [{"ids": []}]}'
    with pytest.raises(S2SError, match=said) as caught:
        forced(ids=write(tmp_path / "bad", [good, line]), run=trained)
    assert caught.value.where == f"{tmp_path / 'bad'}:2"


def test_files_that_do_not_fit(trained: Path, tmp_path: Path) -> None:
    two, three = write(tmp_path / "two", ["a", "b"]), write(tmp_path / "three", ["a", "b", "c"])
    with pytest.raises(S2SError, match=r"two has 2 lines and .*three has 3"):
        forced(src=two, tgt=three, run=trained)
    empty = write(tmp_path / "empty", [])
    for given in ({"src": empty, "tgt": empty}, {"ids": empty}):
        with pytest.raises(S2SError, match="empty: there is nothing in it to score"):
            forced(run=trained, **given)
    (tmp_path / "bad").write_bytes(b"a\n\xff\n")
    with pytest.raises(S2SError, match="bad:2: byte 0xff") as caught:
        forced(src=two, tgt=tmp_path / "bad", run=trained)
    assert caught.value.hint == "Convert the file to UTF-8 first."
    with pytest.raises(S2SError, match="nothing: there is no such file"):
        forced(src=two, tgt=tmp_path / "nothing", run=trained)
    for given in ({"src": two, "tgt": Path("-")}, {"ids": Path("-")}):
        with pytest.raises(S2SError, match="standard input: it cannot be read twice"):
            forced(run=trained, **given)
    with pytest.raises(S2SError, match="there is no model in this folder"):
        forced(src=two, tgt=two, run=tmp_path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["h", "--src", "s", "--tgt", "t"], "h: a model scores the pairs of t alone"),
        (["--tgt", "t"], "--tgt: translations are scored given their source. Add --src"),
        (["--ids", "i", "--tgt", "t"], "--tgt: --ids holds both sides itself"),
        (["--ids", "i", "--src", "s"], "--src: --ids holds both sides itself"),
        (["--model", "m"], "--model: this has no effect on scores against references"),
        (
            ["--ids", "i", "--metric", "bleu", "--seed", "1"],
            "--metrics, --seed: this has no effect on forced",
        ),
        (["--ids", "i", "--per-line"], "--per-line: this has no effect on forced scores"),
    ],
)
def test_wrong_usage(
    flags: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["score", *flags]) == 2
    assert f"usage error: {said}" in capsys.readouterr().err


def test_what_search_makes_of_white_space_can_be_scored(trained: Path, tmp_path: Path) -> None:
    lines = ["a b" + " " * 300 + "c", "a\u3000\u2028b c " * 40, "\x0b\x1c a b c d " * 9, " a  b "]
    (tmp_path / "in").write_text("".join(line + "\n" for line in lines))
    out = tmp_path / "out.jsonl"
    options = TranslateOptions(
        run=(trained,), input=tmp_path / "in", output=out, format="jsonl", precision="fp32"
    )
    translate(options)
    heard: list[Event] = []
    forced(heard, ids=out, run=trained, precision="fp32")
    (told,) = [e.text for e in heard if isinstance(e, Notice) and "Largest difference" in e.text]
    assert float(told.split()[-1].rstrip(".")) < 1e-3
