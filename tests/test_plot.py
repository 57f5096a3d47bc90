"""Pictures of the attention."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from s2scli.corpus import sample_corpus
from s2scli.errors import S2SError, UsageError
from s2scli.plot import FONT, LONGEST, draw_attention, label

SOURCE = ["▁선택한", "▁파일", "을", "$x^{2", "[0]"]
TARGET = ["The", "▁selected", "\\frac{", "{0}", "뷁", "⏎"]


def weights(rows: int = len(TARGET), columns: int = len(SOURCE)) -> np.ndarray:
    random = np.random.default_rng(1).random((rows, columns))
    return random / random.sum(axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _strict() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_formats(suffix: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"attention{suffix}"
    draw_attention(weights(), SOURCE, TARGET, path, title="$title$ [x] 한국어")
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 40), (60, 2)])
def test_shapes(rows: int, columns: int, tmp_path: Path) -> None:
    draw_attention(weights(rows, columns), ["긴" * 90] * columns, ["x" * 90] * rows, tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_the_same_picture_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        draw_attention(weights(), SOURCE, TARGET, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_every_character_of_the_corpus_and_every_syllable_has_a_glyph() -> None:
    latin = set(FT2Font(font_manager.findfont("DejaVu Sans")).get_charmap())
    ours = FT2Font(str(FONT))
    assert ours.family_name == "S2S Hangul"
    known = latin | set(ours.get_charmap())
    assert set(range(0xAC00, 0xD7A4)) <= known
    text = "".join(path.read_text(encoding="utf-8") for path in sample_corpus().glob("*.ko"))
    missing = {c for c in text if ord(c) not in known and c.isprintable()}
    assert not {c for c in missing if "\u1100" <= c <= "\u11ff" or "\u3130" <= c <= "\u318f"}
    assert len(missing) <= 5, missing
    assert {ord(c) for c in "▁⏎…·→"} <= known


def test_what_no_font_has_is_drawn_without_noise(tmp_path: Path) -> None:
    draw_attention(weights(1, 1), ["\U0001f6f8"], ["\U00012000"], tmp_path / "a.png")


def test_labels() -> None:
    assert label("a\nb\x00") == "a\ufffdb\ufffd"
    assert len(label("x" * 100)) == LONGEST


@pytest.mark.parametrize("name", ["a.gif", "attention", "a.png.tmp"])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg or \.pdf"):
        draw_attention(weights(), SOURCE, TARGET, tmp_path / name)


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(S2SError, match=r"s2scli\[plot\]"):
        draw_attention(weights(), SOURCE, TARGET, tmp_path / "a.png")


def test_a_picture_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(S2SError):
        draw_attention(weights(), SOURCE, TARGET, tmp_path / "missing" / "a.png")


def test_weights_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="5 by 6"):
        draw_attention(weights(), [*SOURCE, "x"], TARGET[:-1], tmp_path / "a.png")
