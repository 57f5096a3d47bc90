"""Pictures of the attention."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import matplotlib
from conftest import run_s2s
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image

from s2scli.corpus import sample_corpus
from s2scli.errors import S2SError, UsageError
from s2scli.pages.fonts import FONT
from s2scli.pages.maps import AttentionMap
from s2scli.plot import LONGEST, MOST_PANELS, check_path, draw_maps, label

SOURCE = ("▁선택한", "▁파일", "을", "$x^{2", "[0]")
TARGET = ("The", "▁selected", "\\frac{", "{0}", "뷁", "⏎")


def attention(
    target: tuple[str, ...] = TARGET, source: tuple[str, ...] = SOURCE, *, number: int = 1
) -> AttentionMap:
    random = np.random.default_rng(number).random((len(target), len(source)), dtype=np.float32)
    return AttentionMap(
        number=number,
        source="$title$ [x] 한국어",
        target="",
        source_tokens=source,
        target_tokens=target,
        weights=random / random.sum(axis=1, keepdims=True),
    )


@pytest.fixture(autouse=True)
def _strict() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize(
    ("suffix", "start"),
    [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".html", b"<!doctype html>")],
)
def test_formats(suffix: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"attention{suffix}"
    draw_maps([attention(), attention(number=2)], path)
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 40), (60, 2)])
def test_shapes(rows: int, columns: int, tmp_path: Path) -> None:
    draw_maps([attention(("x" * 90,) * rows, ("긴" * 90,) * columns)], tmp_path / "a.svg")
    assert (tmp_path / "a.svg").stat().st_size > 1000


def test_several_maps_stand_beside_and_below_each_other(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 2, MOST_PANELS):
        draw_maps([attention(number=n) for n in range(count)], tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as image:
            sizes.append(image.size)
            # Nothing is cut off at an edge: the margin is white.
            edges = np.asarray(image.convert("L"))
            assert min(edges[:5].min(), edges[-5:].min(), edges[:, :5].min(), edges[:, -5:].min()) == 255
    (one, two, many) = sizes
    assert two[0] > 1.8 * one[0]
    assert many[1] > 1.8 * two[1]


@pytest.mark.parametrize("suffix", [".svg", ".html"])
def test_the_same_picture_is_the_same_file(suffix: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw_maps([attention()], tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def glyphs(token: str, folder: Path) -> list[str]:
    """The glyphs that an SVG draws for a source token, from the left."""
    draw_maps([attention(("⏎",), (token,))], folder / "a.svg")
    text = (folder / "a.svg").read_text(encoding="utf-8")
    assert "<text" not in text  # outlines, the same on every machine
    label = text[text.index('<g id="xtick_1">') : text.index('<g id="matplotlib.axis_2">')]
    return re.findall(r'href="#([^"]+)"', label)


def test_scripts_are_shaped(tmp_path: Path) -> None:
    arabic, latin = glyphs("سلام", tmp_path), glyphs("abc", tmp_path)
    # From right to left, and lam and alef are one sign; alone, the letters look otherwise.
    assert len(arabic) == 3
    assert arabic[0] == glyphs("م", tmp_path)[0]
    assert not set(arabic[1:]) & {glyphs(letter, tmp_path)[0] for letter in "سلا"}
    assert latin == [glyphs(letter, tmp_path)[0] for letter in "abc"]
    assert glyphs("שלום", tmp_path) == [glyphs(letter, tmp_path)[0] for letter in reversed("שלום")]
    # A mark belongs to its letter, be they one character or two.
    assert glyphs("e\u0301", tmp_path) == glyphs("é", tmp_path)
    assert all("Hangul" in glyph for glyph in glyphs("한국어", tmp_path))


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
    draw_maps([attention(("\U00012000",), ("\U0001f6f8",))], tmp_path / "a.png")


def test_labels() -> None:
    assert label("a\nb\x00") == "a\ufffdb\ufffd"
    assert len(label("x" * 100)) == LONGEST


@pytest.mark.parametrize("name", ["a.gif", "attention", "a.png.tmp"])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf or \.html"):
        draw_maps([attention()], tmp_path / name)


def test_without_matplotlib_there_is_a_page(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(S2SError, match=r"s2scli\[plot\]"):
        draw_maps([attention()], tmp_path / "a.png")
    draw_maps([attention()], tmp_path / "a.html")
    assert (tmp_path / "a.html").is_file()


def test_a_matplotlib_that_does_not_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matplotlib, "__version_info__", (3, 10, 0))
    with pytest.raises(S2SError, match=r"needs matplotlib 3\.11 or newer"):
        check_path(Path("a.png"))


@pytest.mark.parametrize("name", ["a.png", "a.html"])
def test_a_picture_that_cannot_be_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(S2SError, match="its folder does not exist"):
        draw_maps([attention()], tmp_path / "missing" / name)
    (tmp_path / name).mkdir()
    with pytest.raises(S2SError, match="this is a folder"):
        check_path(tmp_path / name)


def test_weights_of_another_shape() -> None:
    with pytest.raises(ValueError, match="5 by 6"):
        AttentionMap(
            number=1,
            source="",
            target="",
            source_tokens=TARGET,
            target_tokens=SOURCE,
            weights=np.zeros((6, 5)),
        )


def test_it_is_told_how_many_lines_are_drawn(trained: Path, tmp_path: Path) -> None:
    lines = ["a b c\n"] * (MOST_PANELS + 2) + ["\n"]
    draw = ["translate", "--run", trained, "--beam", 1, "--threads", 1, "--attention-plot"]
    done = run_s2s(*draw, tmp_path / "a.svg", stdin="".join(lines))
    assert done.returncode == 0, done.stderr
    assert f"The attention of the first {MOST_PANELS} lines is drawn" in done.stderr
    assert "that of 2 more is not" in done.stderr
    assert "Blank, and without attention: 1 line." in done.stderr
    # Titles tell the lines apart: each panel has two axes, the grid and its scale.
    assert len(set(re.findall(r'id="axes_\d+"', (tmp_path / "a.svg").read_text()))) == 2 * MOST_PANELS
    done = run_s2s(*draw, tmp_path / "a.html", stdin="".join(lines))
    assert "The attention of 14 lines is drawn" in done.stderr
    done = run_s2s(*draw, tmp_path / "b.html", stdin="\n")
    assert "There was no line whose attention could be drawn." in done.stderr
    assert not (tmp_path / "b.html").exists()


def test_a_line_in_pieces_has_a_block_for_each(trained: Path) -> None:
    from s2scli.pictures import attention_map
    from s2scli.translator import SearchOptions, Translator

    translator = Translator.load(trained, device="cpu", precision="fp32", threads=1)
    line = "a b c d e f g h a b c d e f g h"
    ((best,),) = translator.hypotheses([line], SearchOptions(beam=1, attention=True))
    assert len(best.pieces) > 1
    drawn = attention_map(1, line, best, translator.tokenizer)
    assert drawn.source_tokens.count("⏎") == len(best.pieces)
    np.testing.assert_allclose(drawn.weights.sum(axis=1), 1, atol=1e-5)
    first = best.pieces[0]
    assert not drawn.weights[: len(first.hypothesis.tokens), len(first.source) + 1 :].any()


def test_a_line_that_nobody_could_read_is_left_out_of_a_picture(trained: Path, tmp_path: Path) -> None:
    lines = "a b\n" + "a b c " * 100 + "\n"
    plot = ["--attention-plot", tmp_path / "a.svg", "--beam", 1]
    done = run_s2s("translate", "--run", trained, *plot, stdin=lines)
    assert done.returncode == 0, done.stderr
    assert "Of more than 200 tokens, and left out: 1 line" in " ".join(done.stderr.split())
    assert (tmp_path / "a.svg").stat().st_size < 500_000
