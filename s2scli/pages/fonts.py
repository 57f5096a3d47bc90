"""The bundled font, and as much of it as a page needs."""

from __future__ import annotations

import base64
import io
import unicodedata
from pathlib import Path

FONT = Path(__file__).parent.parent / "fonts" / "S2SHangul.ttf"
HANGUL = ((0x1100, 0x11FF), (0x3130, 0x318F), (0xAC00, 0xD7A3))
"""First and last code points that a page takes from it; all else comes from the reader's own fonts."""


def hangul_face(text: str) -> str:
    """The CSS that brings the Hangul glyphs of ``text``; an empty string where it has none."""
    # A browser composes letters that stand apart, if the font has the syllable.
    letters = set(text) | set(unicodedata.normalize("NFC", text))
    wanted = sorted(ord(c) for c in letters if any(low <= ord(c) <= high for low, high in HANGUL))
    if not wanted:
        return ""
    ranges = ", ".join(f"U+{low:X}-{high:X}" for low, high in HANGUL)
    address = f"data:font/woff;base64,{base64.b64encode(_subset(wanted)).decode()}"
    return (
        "/* S2S Hangul, a subset of NanumGothic (c) NHN / NAVER Corporation, SIL Open Font License 1.1 */\n"
        f'@font-face {{ font-family: "S2S Hangul"; src: url({address}) format("woff"); '
        f"unicode-range: {ranges}; }}"
    )


def _subset(characters: list[int]) -> bytes:
    """The font with these characters alone, as WOFF; its names tell the licence."""
    from fontTools import subset
    from fontTools.ttLib import TTFont

    options = subset.Options(hinting=False, layout_features=[], glyph_names=False, name_IDs=["*"])
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters)
    with TTFont(FONT, lazy=True, recalcTimestamp=False) as font:
        subsetter.subset(font)
        font.flavor = "woff"
        buffer = io.BytesIO()
        font.save(buffer)
    return buffer.getvalue()
