"""A picture of the attention: how much of each source token went into each target token."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2scli.errors import S2SError, UsageError
from s2scli.files import atomic_path

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

FONT = Path(__file__).parent / "fonts" / "S2SHangul.ttf"
FORMATS = (".png", ".svg", ".pdf")
CELL = 0.34
"""Inches a token takes, up to LARGEST inches for all."""
LARGEST = 22.0
IF_INSTALLED = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "WenQuanYi Zen Hei",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
    "Noto Emoji",
)
"""Fonts for what neither DejaVu Sans nor the bundled font can show."""
LONGEST = 18
"""Characters of a label; longer ones are cut in the picture."""


def label(token: str) -> str:
    """A token as a label: short, in one line, and with its control characters as a box."""
    shown = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in token)
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def width(text: str) -> float:
    """The width of a label in letters; a Hangul or Han character takes nearly two."""
    return sum(1.75 if unicodedata.east_asian_width(c) in "WF" else 1.0 for c in text)


def draw_attention(
    weights: np.ndarray,
    source_tokens: list[str],
    target_tokens: list[str],
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """Draw attention weights as a grid, source tokens above it and target tokens beside it.

    Args:
        weights: T by S; row t holds the weights α_t with which target token t looks at the source.
        source_tokens: The S source tokens.
        target_tokens: The T target tokens.
        path: The picture; .png, .svg or .pdf. It is written whole or not at all.
        title: A line above the picture.

    Raises:
        S2SError: matplotlib is not installed, or the picture cannot be written.
        UsageError: The name ends otherwise.
    """
    check_path(path)
    if weights.shape != (len(target_tokens), len(source_tokens)):
        raise ValueError(f"{weights.shape} weights for {len(target_tokens)} by {len(source_tokens)} tokens")
    import matplotlib

    # The fallback list is tried glyph by glyph: Latin looks as everywhere, Hangul is always there.
    settings: Any = {
        "font.family": _families(),
        "svg.fonttype": "path",  # the reader of an SVG need not have our font
        "pdf.fonttype": 42,
        "svg.hashsalt": "s2s",  # the same picture twice is the same file twice
    }
    with matplotlib.rc_context(settings):
        figure = _figure(weights, [label(t) for t in source_tokens], [label(t) for t in target_tokens], title)
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
        with atomic_path(path) as temporary, warnings.catch_warnings():
            # What no font can show is a box in the picture; saying it again on stderr helps nobody.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            # The temporary name has another suffix, so the format is said.
            kind = path.suffix.lower()[1:]
            figure.savefig(temporary, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)


def check_path(path: Path) -> None:
    """Refuse, before anything is computed, a picture that could not be drawn."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"a picture cannot be written as '{path.suffix or path.name}'",
            where=str(path),
            hint=f"Use a name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise S2SError(
            "drawing needs matplotlib, which is not installed",
            where="--attention-plot",
            hint="pip install 's2scli[plot]'",
        ) from error


def _families() -> list[str]:
    """The fonts in the order in which they are tried, the bundled one made known to matplotlib."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    if FONT not in {Path(entry.fname) for entry in manager.ttflist}:
        manager.addfont(FONT)
    installed = {entry.name for entry in manager.ttflist}
    return ["DejaVu Sans", "S2S Hangul", *(name for name in IF_INSTALLED if name in installed)]


def _figure(weights: np.ndarray, source: list[str], target: list[str], title: str | None) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, columns = max(len(target), 1), max(len(source), 1)
    cell = min(CELL, LARGEST / max(rows, columns))
    size = max(4.0, min(9.0, cell * 72 * 0.42))  # points: a label must fit into its row
    # Not pyplot: that keeps global state and asks for a screen.
    figure = Figure(figsize=(max(columns * cell, 1.2), max(rows * cell, 1.2)), layout=None)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    image = axes.pcolormesh(weights, cmap="Blues", vmin=0.0, vmax=1.0, edgecolors="#e4e8ee", linewidth=0.4)
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks([i + 0.5 for i in range(len(source))])
    axes.set_yticks([i + 0.5 for i in range(len(target))])
    # parse_math: a token may be "$" or "[", and means nothing by it.
    axes.set_xticklabels(
        source, rotation=60, ha="left", va="bottom", rotation_mode="anchor", fontsize=size, parse_math=False
    )
    axes.set_yticklabels(target, fontsize=size, parse_math=False)
    axes.tick_params(length=0, pad=3)
    for spine in axes.spines.values():
        spine.set_color("#9aa5b1")
    if cell >= 0.3:
        for (y, x), weight in _large(weights):
            colour = "white" if weight > 0.55 else "#1f3350"
            axes.text(
                x + 0.5,
                y + 0.5,
                f"{100 * weight:.0f}",
                ha="center",
                va="center",
                fontsize=size * 0.68,
                color=colour,
            )
    # Beside a large grid the bar keeps its size: nobody looks for it down there.
    share = min(1.0, 3.0 / figure.get_figheight())
    inch = 1 / figure.get_figwidth()
    bar_axes = figure.add_axes((1 + 0.12 * inch, 1 - share, 0.11 * inch, share))
    bar = figure.colorbar(
        image, cax=bar_axes, ticks=[0, 0.25, 0.5, 0.75, 1], format=lambda v, _: f"{100 * v:.0f} %"
    )
    bar.outline.set_edgecolor("#9aa5b1")
    bar_axes.tick_params(labelsize=size, length=0, pad=3)
    bar.set_label("attention weight", fontsize=size)
    if title:
        above = max(map(width, source), default=0) * size * 0.6 * 0.87 + size * 1.6
        letters = max(40, int(columns * cell * 72 / (size * 0.62)))
        title = title if len(title) <= letters else title[: letters - 1] + "…"
        axes.set_title(title, fontsize=size + 2, loc="left", pad=above, parse_math=False)
    return figure


def _large(weights: np.ndarray) -> list[tuple[tuple[int, int], float]]:
    """The cells whose number is worth reading."""
    return [((y, x), float(w)) for y, row in enumerate(weights) for x, w in enumerate(row) if w >= 0.1]
