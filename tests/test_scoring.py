"""The functions behind ``s2s score``: metrics for strings, resampling, breakdowns, symbol errors."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_files import HYPOTHESIS, REFERENCE, SECOND, THIRD, write_texts

from s2scli.errors import S2SError
from s2scli.scoring import (
    Resampling,
    by_frequency,
    by_length,
    count_units,
    score_system,
    score_systems,
    sentence_scores,
    significance,
    unit_of,
)
from s2scli.scoring.breakdown import FREQUENCIES, LENGTHS
from s2scli.scoring.reading import read_lines
from s2scli.scoring.strings import Confusion, confusions
from s2scli.scoring.units import without_features

WANTED = ["K AE T", "D AO G", "F IH SH", "B ER D"]
WRITTEN = ["K AE T", "D AA G Z", "F SH", ""]


def score_of(
    metric: str, hypotheses: list[str], *references: list[str], lowercase: bool = False
) -> tuple[float, list[float]]:
    (item,) = score_system(hypotheses, references, [metric], resamples=0, lowercase=lowercase)
    return item.score, sentence_scores(hypotheses, references, metric, lowercase=lowercase)


def test_metrics_of_strings() -> None:
    assert score_of("acc", WRITTEN, WANTED) == (25, [100, 0, 0, 0])
    assert score_of("wer", WRITTEN, WANTED) == (75, [0, 100, 100, 100])
    # One substituted and one inserted, one deleted, three deleted; of twelve symbols.
    score, lines = score_of("per", WRITTEN, WANTED)
    assert (score, lines) == (50, pytest.approx([0, 200 / 3, 100 / 3, 100]))
    # "D AO G" and "D AA G Z" differ in one letter and two at the end; "F SH" lacks " IH"; of 25 characters.
    score, lines = score_of("cer", WRITTEN, WANTED)
    assert (score, lines) == (pytest.approx(48), pytest.approx([0, 50, 300 / 7, 100]))


def test_the_nearest_reference_counts() -> None:
    second = ["C AE T", "D AA G", "", "B"]
    assert score_of("acc", ["C AE T", "D AO G", "F IH SH", "B"], WANTED, second)[0] == 100
    # Of two references that are equally far, the longer one.
    assert score_of("per", ["X"], ["A B"], ["C D E F"]) == (100, [100])
    assert score_of("per", ["X B"], ["A B"], ["C B"]) == (50, [50])
    # An empty line beside others is none; alone it is the empty string.
    assert score_of("acc", [""], ["A"], [""]) == (0, [0])
    assert score_of("per", ["X Y"], ["A B C"], [""]) == (100, [100])
    assert score_of("acc", ["", "a"], ["", ""]) == (50, [100, 0])
    assert score_of("per", ["", "a"], ["", ""]) == (100, [0, 100])


def test_case_and_white_space_of_strings() -> None:
    assert score_of("wer", ["Abc  ", "ab c"], ["abc", "abc"]) == (100, [100, 100])
    assert score_of("wer", ["Abc  ", "ab c"], ["abc", "abc"], lowercase=True) == (50, [0, 100])
    # A table may have more white space than a model ever writes: then PER 0 is WER 0.
    for name, best in (("wer", 0), ("acc", 100), ("per", 0)):
        assert score_of(name, ["A  B", "A B", " A B"], ["A B", "  A   B", "A B"])[0] == best
    assert score_of("cer", ["A  B"], ["A B"])[0] == pytest.approx(100 / 3)


def distance(a: list[str], b: list[str]) -> int:
    """The edit distance by its definition."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row = row, [i]
        for j, right in enumerate(b, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (left != right)))
    return row[-1]


SYMBOLS = st.lists(st.sampled_from(["AH", "T", "ㄱ", "🙂", "é"]), min_size=1, max_size=7)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SYMBOLS, SYMBOLS), min_size=1, max_size=4))
def test_symbol_errors_and_confusions_agree_with_the_definition(
    pairs: list[tuple[list[str], list[str]]],
) -> None:
    hypotheses, references = [" ".join(h) for h, _ in pairs], [" ".join(r) for _, r in pairs]
    edits = sum(distance(h, r) for h, r in pairs)
    symbols = sum(len(r) for _, r in pairs)
    assert score_of("per", hypotheses, references)[0] == pytest.approx(100 * edits / symbols)
    found = confusions(hypotheses, [references], unit="words", most=1000)
    assert sum(error.count for error in found) == edits
    assert [e.count for e in found] == sorted((e.count for e in found), reverse=True)
    assert all(e.reference != e.hypothesis and e.count <= e.occurrences for e in found)


def test_confusions() -> None:
    found = confusions(WRITTEN * 2, [WANTED * 2], unit="words", most=3)
    assert found[0] == Confusion(reference=None, hypothesis="Z", count=2, occurrences=2)
    assert {(e.reference, e.hypothesis, e.count, e.occurrences) for e in found[1:]} <= {
        ("AO", "AA", 2, 2),
        ("B", None, 2, 2),
    }
    assert len(confusions(WRITTEN, [WANTED], unit="words", most=100)) == 6
    (space,) = confusions(["ab"], [["a b"]], unit="characters", most=9)
    assert (space.reference, space.hypothesis) == (" ", None)
    assert confusions(["AB"], [["ab"]], unit="characters", most=9, lowercase=True) == []
    assert confusions(["a c"], [["x y"], ["a b"]], unit="words", most=9) == [
        Confusion(reference="b", hypothesis="c", count=1, occurrences=1)
    ]


# A alone is wrong in 20 of 500 lines, B alone in 10: the exact p of McNemar's test is 0.0987, and with the
# normal distribution, as which the bootstrap draws without knowing of whole lines, it is 0.068.
@pytest.mark.parametrize(("test", "p"), [("bootstrap", 0.068), ("randomization", 0.0987)])
def test_p_values_of_shares_count_ties(test: Literal["bootstrap", "randomization"], p: float) -> None:
    wanted = ["right"] * 500
    a, b = ["wrong"] * 80 + ["right"] * 420, ["right"] * 20 + ["wrong"] * 70 + ["right"] * 410
    resampling = Resampling(significance=test, resamples=4000, trials=4000)
    _, ((share),) = score_systems([a, b], [wanted], ["acc"], resampling=resampling)
    assert share.p_value == pytest.approx(p, abs=0.01)
    # One line in 20 says nothing at all.
    one = ["wrong"] + ["right"] * 19
    _, ((share),) = score_systems([one, wanted[:20]], [wanted[:20]], ["wer"], resampling=resampling)
    assert share.p_value is not None and share.p_value > 0.2


def test_intervals_hold_the_score_and_grow_narrower() -> None:
    lines = [f"w{i} x" for i in range(400)]
    right = [line if i % 4 else "wrong" for i, line in enumerate(lines)]
    (few,) = score_system(right[:40], [lines[:40]], ["acc"])
    (many,) = score_system(right, [lines], ["acc"])
    assert few.score == many.score == 75
    for item, expected in ((few, 1.96 * (75 * 25 / 40) ** 0.5), (many, 1.96 * (75 * 25 / 400) ** 0.5)):
        assert item.low is not None and item.high is not None
        assert item.low < 75 < item.high
        # As the normal distribution has it, roughly.
        assert (item.high - item.low) / 2 == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("name", ["bootstrap", "randomization"])
def test_the_same_system_twice_is_no_difference(name: str) -> None:
    resampling = Resampling(significance=name, trials=100, resamples=100)  # type: ignore[arg-type]
    # Whatever chance does, no difference is larger than none: sacreBLEU counts only larger ones.
    for metric, expected in (("bleu", 1 / 101), ("ter", 1 / 101), ("per", 1.0)):
        _, (second,) = score_systems([HYPOTHESIS, HYPOTHESIS], [REFERENCE], [metric], resampling=resampling)
        assert second.p_value == pytest.approx(expected)


@pytest.mark.parametrize("name", ["bootstrap", "randomization", "none"])
def test_resamples_in_small_portions_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resampling = Resampling(significance=name, trials=321, resamples=70)  # type: ignore[arg-type]

    def scores() -> list[list[object]]:
        systems = [HYPOTHESIS, SECOND, THIRD]
        return [[*system] for system in score_systems(systems, [REFERENCE], METRICS, resampling=resampling)]

    whole = scores()
    monkeypatch.setattr(significance, "DRAWS_AT_ONCE", 20)
    assert scores() == whole


METRICS = ["bleu", "chrf", "ter", "per"]


def test_a_p_value_counts_what_is_larger() -> None:
    by_chance = np.array([0.0, 1.0, 2.0, 3.0])
    assert significance.p_value(by_chance, 2.0, ties=False) == pytest.approx(2 / 5)
    assert significance.p_value(by_chance, 2.0, ties=True) == pytest.approx(3 / 5)
    assert significance.interval(np.arange(80.0)) == (2, 77)


@pytest.mark.parametrize(
    ("hypotheses", "references", "said"),
    [
        ([], [[]], "no hypotheses"),
        (["a"], [], "no reference"),
        (["a", "b"], [["a", "b"], ["a"]], "a system has 2 lines and reference 2 has 1"),
    ],
)
def test_lines_that_do_not_belong_together(
    hypotheses: list[str], references: list[list[str]], said: str
) -> None:
    with pytest.raises(S2SError, match=said):
        score_system(hypotheses, references, ["chrf"])
    with pytest.raises(S2SError, match=said):
        sentence_scores(hypotheses, references, "chrf")
    if hypotheses:
        with pytest.raises(S2SError, match=said):
            by_length(hypotheses, hypotheses, references, ["chrf"])


def test_bins_hold_every_line_once(tmp_path: Path) -> None:
    write_texts(tmp_path)
    source, reference, worse = (read_lines(tmp_path / name) for name in ("en", "ko", "ko-2"))
    bins = by_length(source, worse, [reference], ["bleu", "chrf"])
    assert sum(b.lines for b in bins) == len(source)
    for found in bins:
        rows = [i for i, s in enumerate(source) if found.low <= len(s.split()) <= (found.high or 10**9)]
        assert len(rows) == found.lines > 0
        expected = score_system(
            [worse[i] for i in rows], [[reference[i] for i in rows]], ["bleu", "chrf"], resamples=0
        )
        assert list(found.scores) == expected
    assert [b.label for b in bins][:3] == ["1–2", "3–4", "5–6"]
    with pytest.raises(S2SError, match="the source has 59 lines and a system has 60"):
        by_length(source[1:], worse, [reference], ["chrf"])


@pytest.mark.parametrize("begins", [LENGTHS, FREQUENCIES])
def test_bins_begin_one_after_another(begins: tuple[int, ...]) -> None:
    assert begins[0] == 0 and all(a < b for a, b in itertools.pairwise(begins))


def test_lengths_of_strings_count_characters() -> None:
    words = ["a", "word", "a longer one", "wordlike", "", "x" * 200]
    assert unit_of(words) == "characters"
    labels = [b.label for b in by_length(words, words, [words], ["acc"])]
    assert labels == ["0", "1–2", "3–4", "7–8", "9–12", "129+"]
    tagged = ["run\tV;PST", "walk\tV;PST;3;SG"]
    assert without_features(tagged) == ["run", "walk"]
    assert without_features([*tagged, ""]) == ["run", "walk", ""], "a blank row is no text without tags"
    assert without_features([*tagged, "go"]) == [*tagged, "go"]
    (only,) = by_length(tagged, ["ran", "walked"], [["ran", "walked"]], ["acc"])
    assert (only.label, only.lines) == ("3–4", 2)


def test_frequency_of_the_rarest_word() -> None:
    source = ["the cat", "the dog", "the the", "", "the caf\u00e9"]
    counts = count_units(["the the cat", "the mouse cafe\u0301"] * 5, source)
    bins = by_frequency(source, counts, source, [source], ["acc"])
    assert [(b.label, b.lines) for b in bins] == [("0", 2), ("2–9", 2), ("10–99", 1)]
    ligature = ["the \ufb01le"]
    counts = count_units(["the file"] * 5, ligature)  # as --normalize nfkc has prepared it
    assert [b.label for b in by_frequency(ligature, counts, ligature, [ligature], ["acc"])] == ["2–9"]
    single = ["kat", "dog"]
    letters = count_units(["at\tN;SG", "tak\tN;PL"], single)
    assert letters == {"a": 2, "t": 2, "k": 1}
    assert [b.label for b in by_frequency(single, letters, single, [single], ["acc"])] == ["0", "1"]
    tagged = ["N dog\tN", "V cat\tN"]  # tags are no words, though there is a word like them
    assert set(count_units(["dog cat\tN", "dog cat\tV"], tagged)) == {"dog", "cat"}
