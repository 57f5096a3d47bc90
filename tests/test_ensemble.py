"""Several models used together: their probabilities are averaged, and search sees one model."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SMALL, copy_run, run_s2s
from test_model import KINDS, SOURCES, VOCAB, make
from test_stepper import limits, needs_int8
from torch import Tensor

from s2scli.checkpoint import find_models
from s2scli.config import BOS, ScoreOptions, TranslateOptions
from s2scli.errors import S2SError, UsageError
from s2scli.events import Event, Notice, Progress, silent
from s2scli.model import Hypothesis, Seq2Seq, beam_search, forced_search, greedy_search, sample_search
from s2scli.model.batch import pad
from s2scli.model.ensemble import Ensemble, mean_probability
from s2scli.model.grid import Grid
from s2scli.model.shortlist import Shortlist
from s2scli.model.stepper import Stepper
from s2scli.runfolder import members
from s2scli.score import score
from s2scli.scoring.forcedlines import forced_lines
from s2scli.translate import translate
from s2scli.translator import SearchOptions, Translator

LINES = ["a b c", "", "h g f e", "b", "d e a c h b g f a b c d e f", "zzz a", "c d e f a"]


def scaled(model: Seq2Seq, factor: float) -> Seq2Seq:
    """With larger weights: surer of itself, and so of another opinion than its neighbour."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    return model


def different() -> list[Stepper]:
    """Models of different architectures over the same vocabulary."""
    models = [
        scaled(make("lstm", "dot", "input"), 3.0),
        scaled(make("gru", "none", "none", hidden=24, tie="none"), 3.0),
        scaled(make("gru", "additive", "state", decoder_layers=1), 3.0),
    ]
    return [Stepper(model, "fp32") for model in models]


# The mathematics


@pytest.mark.parametrize(("cell", "kind", "feed"), KINDS[::4])
@pytest.mark.parametrize("beam", [1, 4])
def test_copies_of_a_model_are_the_model(cell: str, kind: str, feed: str, beam: int) -> None:
    model = Stepper(scaled(make(cell, kind, feed), 3.0), "fp32")
    copies = Ensemble([model] * 3)
    ids, lengths = pad(SOURCES)

    def search(of: Any) -> list[list[Hypothesis]]:
        with torch.inference_mode():
            state = of.start(ids, lengths)
            if beam == 1:
                return [[h] for h in greedy_search(of, state, limits(9, 8, 7))]
            return beam_search(of, state, limits(9, 8, 7), beam=beam, n_best=beam)

    for alone, together in zip(search(model), search(copies), strict=True):
        assert [h.tokens for h in alone] == [h.tokens for h in together]
        for one, other in zip(alone, together, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)


def test_a_step_is_the_mean_of_the_members() -> None:
    steppers = different()
    ensemble = Ensemble(steppers)
    ids, lengths = pad(SOURCES)
    with torch.inference_mode():
        states, together = [s.start(ids, lengths) for s in steppers], ensemble.start(ids, lengths)
        tokens = torch.full((len(SOURCES),), BOS)
        for t in range(5):
            steps = [s.step(tokens, state) for s, state in zip(steppers, states, strict=True)]
            prediction, weights, together = ensemble.step(tokens, together)
            log_p = prediction.log_p()
            of_each = [p.log_p().exp() for p, _, _ in steps]
            expected = torch.stack(of_each).mean(dim=0)
            assert max(float((p - expected).abs().max()) for p in of_each) > 0.1
            torch.testing.assert_close(log_p.exp(), expected)
            torch.testing.assert_close(log_p[..., :VOCAB].exp().sum(-1), torch.ones(tokens.shape))
            # The second has no attention, and no share in the mean.
            assert steps[1][1] is None and weights is not None
            torch.testing.assert_close(weights, (steps[0][1] + steps[2][1]) / 2)  # type: ignore[operator]
            # Two hypotheses a sentence, then one sentence fewer, as search does.
            before = together.members[0].grid.numbers(tokens)
            keep = torch.arange(len(before) - (t == 1))
            grid = Grid(shape=(len(keep), 2))
            rows = before[keep][:, [0, min(1, t)]].flatten()
            tokens = log_p.topk(2, dim=-1).indices[before[keep, 0]].flatten()
            together = together.select(keep, rows, grid)
            states = [state.select(keep, rows, grid) for _, _, state in steps]


def test_without_attention_there_is_none() -> None:
    members = [Stepper(make(cell, "none", "none"), "fp32") for cell in ("lstm", "gru")]
    ensemble = Ensemble(members)
    with torch.inference_mode():
        _, weights, _ = ensemble.step(torch.tensor([BOS]), ensemble.start(*pad([[5, 6]])))
    assert weights is None


def test_what_is_improbable_is_not_impossible() -> None:
    far, never = torch.tensor([-200.0, -math.inf]), torch.tensor([-300.0, -math.inf])
    expected = torch.tensor([-200.0 - math.log(2), -math.inf])
    torch.testing.assert_close(mean_probability([far, never]), expected)


def exponentials(rows: Tensor, width: int) -> Tensor:
    return torch.empty(rows.numel(), width).exponential_(generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("search", ["greedy", "beam", "sample"])
@pytest.mark.parametrize("shortlisted", [False, True])
def test_a_forced_score_is_the_score_of_search(search: str, shortlisted: bool) -> None:
    ensemble = Ensemble(different())
    ids, lengths = pad(SOURCES)
    lexicon = torch.arange(4, 16).expand(VOCAB, -1) if shortlisted else torch.arange(VOCAB).expand(VOCAB, -1)
    shortlist = Shortlist(lexicon, torch.tensor([20]), VOCAB) if shortlisted else None
    with torch.inference_mode():
        state = ensemble.start(ids, lengths, shortlist)
        if search == "greedy":
            found = [[h] for h in greedy_search(ensemble, state, limits(9, 8, 7))]
        elif search == "beam":
            found = beam_search(ensemble, state, limits(9, 8, 7), beam=4, n_best=4)
        else:
            found = [[h] for h in sample_search(ensemble, state, limits(9, 8, 7), exponentials)]
        for rank in range(len(found[0])):
            wanted, counts = pad([h[rank].tokens for h in found])
            again = ensemble.start(ids, lengths, shortlist)
            grid = Grid.first(counts, 4)
            for row, count, hypotheses in zip(
                forced_search(ensemble, again, wanted, counts, grid), counts, found, strict=True
            ):
                emitted = int(count) - (not hypotheses[rank].complete)
                assert float(row[:emitted].sum()) == pytest.approx(hypotheses[rank].log_probability, abs=1e-4)


# The commands


@pytest.fixture(scope="module")
def several(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two seeds' models, the second without attention. Do not write into it."""
    folder = tmp_path_factory.mktemp("several")
    second, run = folder / "second", folder / "run"
    for path in (second, run):
        shutil.copytree(trained / "data", path / "data")
    limit = ["--max-steps", 120, "--validate-every", 120, "--learning-rate", 0.01, "--seed", 10]
    done = run_s2s("train", "--run", second, *SMALL, *limit, "--cell", "gru", "--attention", "none")
    assert done.returncode == 0, done.stderr
    shutil.copytree(trained / "best", run / "seeds" / "9" / "best")
    shutil.copytree(second / "best", run / "seeds" / "10" / "best")
    return run


def load(path: Path) -> Translator:
    return Translator.load(path, device="cpu", precision="fp32", threads=1)


def test_the_members_are_the_seeds_in_numeric_order(several: Path, tmp_path: Path) -> None:
    run = copy_run(several, tmp_path / "run")
    (run / "seeds" / "notes").mkdir()
    assert [path.name for path in members(run)] == ["9", "10"]
    assert find_models([run]) == [run / "seeds" / name / "best" for name in ("9", "10")]
    assert find_models([run / "seeds" / "10"]) == [run / "seeds" / "10" / "best"]
    assert find_models([run / "seeds" / "10" / "best"]) == [run / "seeds" / "10" / "best"]
    assert members(run / "seeds" / "9") == []


def test_forced_scores_are_the_mean_of_the_models(several: Path) -> None:
    together, alone = load(several), [load(member) for member in members(several)]
    assert (len(together.models), [len(t.models) for t in alone]) == (2, [1, 1])
    assert isinstance(together.searcher.stepper, Ensemble)
    sources = together.tokenizer.source.encode(["a b c", "h g", "d e f a"])
    targets = together.tokenizer.target.encode(["c b a", "g h", "a a a a a"])
    found = [
        [p for (p,) in t.searcher.forced(sources, [[ids] for ids in targets])] for t in (together, *alone)
    ]
    for mean, one, other in zip(*found, strict=True):
        expected = [math.log((math.exp(p) + math.exp(q)) / 2) for p, q in zip(one, other, strict=True)]
        assert max(abs(p - q) for p, q in zip(one, other, strict=True)) > 0.01
        assert mean == pytest.approx(expected, abs=1e-4)


def test_translate_says_how_many_and_score_finds_what_search_found(several: Path, tmp_path: Path) -> None:
    given = ["--precision", "fp32", "--threads", 1]
    (tmp_path / "src").write_text("".join(line + "\n" for line in LINES))
    out = tmp_path / "out.jsonl"
    search = ["--format", "jsonl", "--n-best", 3, "--alignments", "--attention-plot", tmp_path / "plot.html"]
    done = run_s2s("translate", "--run", several, *given, *search, "-i", tmp_path / "src", "-o", out)
    assert done.returncode == 0, done.stderr
    assert "Models used together: 2 (seeds 9, 10)." in done.stderr
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == len(LINES) and rows[0]["hypotheses"][0]["alignment"]
    assert (tmp_path / "plot.html").stat().st_size > 0
    for given_as in ({"run": several}, {"model": (several,)}):
        heard: list[Event] = []
        options: dict[str, Any] = {**given_as, "precision": "fp32", "threads": 1}
        *_, last = forced_lines(ScoreOptions(ids=out, json=True, **options), heard.append)
        assert json.loads(last)["difference"] < 1e-4
        assert Notice(text="Models used together: 2 (seeds 9, 10).") in heard

    one = run_s2s("translate", "--run", several / "seeds" / "9", *given, stdin="a b c\n")
    assert (one.returncode, one.stdout, one.stderr) == (
        0,
        load(several / "seeds" / "9" / "best").translate(["a b c"])[0] + "\n",
        "",
    )


def test_models_of_several_folders_translate_and_score_together(several: Path, tmp_path: Path) -> None:
    first, second = (several / "seeds" / name for name in ("9", "10"))
    (tmp_path / "src").write_text("".join(line + "\n" for line in LINES))
    given = ["--precision", "fp32", "--threads", 1, "--format", "jsonl", "-i", tmp_path / "src"]
    named = ["--run", first, "--run", second / "best"]
    found = [
        run_s2s("translate", *which, *given, "-o", tmp_path / f"{i}.jsonl")
        for i, which in enumerate((named, ["--run", several], named[:2]))
    ]
    assert [done.returncode for done in found] == [0, 0, 0], found[0].stderr
    assert f"Modelsusedtogether:2({first}/best,{second}/best)." in "".join(found[0].stderr.split())
    texts = [(tmp_path / f"{i}.jsonl").read_text() for i in range(3)]
    assert texts[0] == texts[1] != texts[2]
    options: dict[str, Any] = {"ids": tmp_path / "0.jsonl", "precision": "fp32", "threads": 1}
    *_, last = forced_lines(ScoreOptions(model=(first, second), json=True, **options), silent)
    assert json.loads(last)["difference"] < 1e-4


def test_attention_is_that_of_the_members_that_have_it(several: Path) -> None:
    together, first = load(several), load(several / "seeds" / "9")
    assert together.has_attention and not load(several / "seeds" / "10").has_attention
    ((best, *_),) = together.hypotheses(["a b c d"], SearchOptions(attention=True))
    weights = best.pieces[0].hypothesis.attention
    assert weights is not None and weights.shape[1] == 5
    # The attention of the first along the same tokens, since the second has none.
    with torch.inference_mode():
        state = first.searcher.stepper.start(*pad([best.pieces[0].source]))
        for token, row in zip([BOS, *best.ids], weights, strict=True):
            _, own, state = first.searcher.stepper.step(torch.tensor([token]), state)
            torch.testing.assert_close(row, own[0, 0], atol=1e-5, rtol=0)  # type: ignore[index]


def test_models_without_attention_draw_none(several: Path, tmp_path: Path) -> None:
    run = copy_run(several, tmp_path / "run")
    shutil.rmtree(run / "seeds" / "9")
    shutil.copytree(run / "seeds" / "10", run / "seeds" / "11")
    done = run_s2s("translate", "--run", run, "--alignments", stdin="a\n")
    assert done.returncode == 2
    assert "no attention" in done.stderr


def test_a_draw_is_the_same_in_any_batch(several: Path) -> None:
    together = load(several)
    options = SearchOptions(sample=True, temperature=2.0, seed=4)
    apart = [[h[0].text for h in together.hypotheses(LINES, options, batch_size=size)] for size in (1, 7)]
    assert apart[0] == apart[1]
    greedy = together.translate(LINES, beam=1)
    assert apart[0] != greedy


@pytest.mark.parametrize("precision", ["bf16", pytest.param("int8", marks=needs_int8)])
def test_in_fewer_bits_and_with_a_shortlist(several: Path, precision: Any) -> None:
    exact = load(several).translate(["a b c", "b a"])
    fewer = Translator.load(several, device="cpu", precision=precision, threads=1, shortlist=50)
    assert fewer.translate(["a b c", "b a"]) == exact


def test_the_shortest_bound_on_sources_counts(several: Path, tmp_path: Path) -> None:
    run = copy_run(several, tmp_path / "run")
    path = run / "seeds" / "10" / "best" / "config.json"
    path.write_text(path.read_text().replace('"max_source_length": 6', '"max_source_length": 4'))
    assert (load(several).max_source_length, load(run).max_source_length) == (6, 4)


def test_score_and_report_say_how_many(several: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    options: dict[str, Any] = {"precision": "fp32", "threads": 1}
    found = score(ScoreOptions(run=several, resamples=0, **options), heard.append)
    assert found["settings"] == {"beam": 5, "length_penalty": 1.0, "models": 2}
    assert Notice(text="Models used together: 2 (seeds 9, 10).") in heard
    page = tmp_path / "report.html"
    done = run_s2s("report", "--run", several, "--output", page, "--precision", "fp32", "--threads", 1)
    assert done.returncode == 0, done.stderr
    models = load(several).models
    parameters = sum(p.numel() for model in models for p in model.parameters())
    kinds = "LSTM, 32 units, dot attention and GRU, 32 units, no attention"
    assert f"2 models together: {kinds}; {parameters:,} parameters in all" in page.read_text()


# What can go wrong


def test_models_with_different_tokenizers_are_refused(several: Path, tmp_path: Path) -> None:
    run = copy_run(several, tmp_path / "run")
    path = run / "seeds" / "10" / "best" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text())))  # the same content is enough to doubt it
    done = run_s2s("translate", "--run", run, stdin="a\n")
    assert (done.returncode, done.stdout) == (1, "")
    told = "".join(done.stderr.split())
    assert "differenttokenizers" in told
    assert all(str(run / "seeds" / name / "best") in told for name in ("9", "10"))


def test_a_seed_without_a_model_is_left_out(several: Path, tmp_path: Path) -> None:
    run = copy_run(several, tmp_path / "run")
    (run / "seeds" / "11" / "best").mkdir(parents=True)
    shutil.copy(run / "seeds" / "9" / "best" / "config.json", run / "seeds" / "11" / "best")
    heard: list[Event] = []
    translator = Translator.load(run, device="cpu", threads=1, listen=heard.append)
    assert len(translator.models) == 2
    assert heard == [
        Notice(text=f"Left out, since it holds no model yet: {run / 'seeds' / '11'}.", warning=True),
        Notice(text="Models used together: 2 (seeds 9, 10)."),
    ]
    for name in ("9", "10"):
        shutil.rmtree(run / "seeds" / name)
    with pytest.raises(S2SError, match="no model in this folder") as caught:
        load(run)
    assert "s2s train" in (caught.value.hint or "")


def test_another_member_is_another_model_for_resume(
    several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2scli.resumable.SAVE_SECONDS", -1.0)
    run = copy_run(several, tmp_path / "run")
    source, out, whole = (tmp_path / name for name in ("src", "out", "whole"))
    source.write_text("a b c\nh g f\n" * 64)
    options: dict[str, Any] = {"run": (run,), "input": source, "precision": "fp32", "threads": 1}
    options |= {"beam": 1, "batch_size": 2}

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        translate(TranslateOptions(output=out, **options), interrupt)
    weights = run / "seeds" / "10" / "best" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-4] + bytes(4))  # the last number
    with pytest.raises(UsageError, match=r"other settings \(model\)"):
        translate(TranslateOptions(output=out, resume=True, **options))
    weights.write_bytes(before)
    weights.rename(weights.with_name("away"))
    with pytest.raises(UsageError, match=r"other settings \(model\)"):
        translate(TranslateOptions(output=out, resume=True, **options))
    weights.with_name("away").rename(weights)
    translate(TranslateOptions(output=out, resume=True, **options))
    translate(TranslateOptions(output=whole, **options))
    assert out.read_bytes() == whole.read_bytes()


def test_a_model_named_twice_is_one(trained: Path) -> None:
    heard: list[Event] = []
    translator = Translator.load([trained, trained / "best"], precision="fp32", listen=heard.append)
    assert len(translator.models) == 1
    assert [e.text for e in heard if isinstance(e, Notice)] == [
        "A model that is named more than once is used once."
    ]
