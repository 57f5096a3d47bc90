"""Pictures of the attention: how much of each source token went into each target token."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2scli.errors import S2SError, UsageError
from s2scli.files import atomic_path, check_place, write_text_atomic
from s2scli.pages.fonts import FONT
from s2scli.pages.maps import MOST_LINES, AttentionMap, attention_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

PAGE = ".html"
FORMATS = (".png", ".svg", ".pdf", PAGE)
SHAPING = (3, 11)
"""The first matplotlib that shapes scripts: joins Arabic letters, orders right to left, places marks."""
MOST_PANELS = 12
"""Maps that a picture holds."""
RESOLUTION = 200
"""Dots an inch of a PNG."""
CELL = 0.34
"""Inches a token takes, up to LARGEST inches for all."""
LARGEST = 22.0
PAGE_WIDTH = 16.0
"""Inches that maps side by side may take."""
GAP = 0.5
"""Inches between two maps."""
MARGIN = 0.12
"""Inches around all maps."""
FRAME = "#9aa5b1"
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


def label(token: str, longest: int = LONGEST) -> str:
    """A text as a label: short, in one line, and with its control characters as a box."""
    shown = "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in token)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def draw_maps(maps: Sequence[AttentionMap], path: Path) -> None:
    """Draw attention maps into one file, source tokens above each grid and target tokens beside it.

    Args:
        maps: What to draw, `most_maps` at most.
        path: .png, .svg or .pdf for a picture, .html for a page. It is written whole or not at all.

    Raises:
        S2SError: matplotlib is not installed or too old, or the file cannot be written.
        UsageError: The name ends otherwise.
    """
    check_path(path)
    if path.suffix.lower() == PAGE:
        write_text_atomic(path, attention_page(maps))
        return
    import matplotlib

    # The fallback list is tried glyph by glyph: Latin looks as everywhere, Hangul is always there.
    settings: Any = {
        "font.family": _families(),
        "svg.fonttype": "path",  # the reader of an SVG need not have our font
        "pdf.fonttype": 42,
        "svg.hashsalt": "s2s",  # the same picture twice is the same file twice
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # What no font can show is a box in the picture; saying it again on stderr helps nobody.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = _figure(maps)
        metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix.lower())
        with atomic_path(path) as temporary:
            # The temporary name has another suffix, so the format is said.
            kind = path.suffix.lower()[1:]
            figure.savefig(temporary, format=kind, dpi=RESOLUTION, metadata=metadata)


def most_maps(path: Path) -> int:
    """The maps that a file of this name holds."""
    return MOST_LINES if path.suffix.lower() == PAGE else MOST_PANELS


def check_path(path: Path) -> None:
    """Refuse, before anything is computed, a picture that could not be drawn."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(
            f"a picture cannot be written as '{path.suffix or path.name}'",
            where=str(path),
            hint=f"Use a name that ends in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.",
        )
    check_place(path, "--attention-plot")
    if path.suffix.lower() == PAGE:
        return
    hint = f"pip install 's2scli[plot]', or use a name that ends in {PAGE}."
    try:
        import matplotlib
    except ImportError as error:
        what = "drawing needs matplotlib, which is not installed"
        raise S2SError(what, where="--attention-plot", hint=hint) from error
    if matplotlib.__version_info__ < SHAPING:
        oldest = ".".join(map(str, SHAPING))
        what = f"drawing needs matplotlib {oldest} or newer, and {matplotlib.__version__} is installed"
        raise S2SError(what, where="--attention-plot", hint=hint)


def _families() -> list[str]:
    """The fonts in the order in which they are tried, the bundled one made known to matplotlib."""
    from matplotlib import font_manager

    manager = font_manager.fontManager
    if FONT not in {Path(entry.fname) for entry in manager.ttflist}:
        manager.addfont(FONT)
    installed = {entry.name for entry in manager.ttflist}
    return ["DejaVu Sans", "S2S Hangul", *(name for name in IF_INSTALLED if name in installed)]


def _figure(maps: Sequence[AttentionMap]) -> Figure:
    """All maps on a page, in rows from the left, each as large as its labels need."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not pyplot: that keeps global state and asks for a screen. A first size, in inches, to measure in.
    figure = Figure(figsize=(10, 10), layout=None)
    FigureCanvasAgg(figure)
    panels = [_Panel(figure, drawn, titled=len(maps) > 1) for drawn in maps]
    widest = max([PAGE_WIDTH, *(panel.width for panel in panels)])
    left = top = height = right = 0.0
    places: list[tuple[float, float]] = []
    for panel in panels:
        if left and left + panel.width > widest:
            left, top, height = 0.0, top + height + GAP, 0.0
        places.append((left, top))
        right, height = max(right, left + panel.width), max(height, panel.height)
        left += panel.width + GAP
    size = (right + 2 * MARGIN, top + height + 2 * MARGIN)
    figure.set_size_inches(size)
    for panel, (x, y) in zip(panels, places, strict=True):
        panel.move(MARGIN + x, MARGIN + y, size)
    return figure


class _Panel:
    """One map of a figure: its grid, its labels, and as much room as they take together.

    Attributes:
        width, height: Inches, labels included.
    """

    def __init__(self, figure: Figure, drawn: AttentionMap, *, titled: bool) -> None:
        rows, columns = drawn.weights.shape
        cell = min(CELL, LARGEST / max(rows, columns, 1))
        self.grid = (max(columns * cell, 1.2), max(rows * cell, 1.2))
        self.size = max(4.0, min(9.0, cell * 72 * 0.42))  # points: a label must fit into its row
        self.axes = figure.add_axes((0, 0, self.grid[0] / 10, self.grid[1] / 10))
        image = _grid(self.axes, drawn, self.size, numbers=cell >= 0.3)
        # Beside a large grid the bar keeps its size: nobody looks for it down there.
        self.bar_height = min(self.grid[1], 3.0)
        self.bar = figure.add_axes(((self.grid[0] + 0.12) / 10, 0, 0.011, self.bar_height / 10))
        bar = figure.colorbar(
            image, cax=self.bar, ticks=[0, 0.25, 0.5, 0.75, 1], format=lambda v, _: f"{100 * v:.0f} %"
        )
        bar.outline.set_edgecolor(FRAME)
        self.bar.tick_params(labelsize=self.size, length=0, pad=3)
        bar.set_label("attention weight", fontsize=self.size)
        self._measure()
        if titled:
            # Above the slanted labels, and no wider than the panel is in any case.
            letters = max(24, int(self.width * 72 / (self.size * 0.62)))
            title = f"{drawn.number}  {label(drawn.source, letters)}"
            above = self.top * 72 + self.size * 0.8
            self.axes.set_title(title, fontsize=self.size + 1, loc="left", pad=above, parse_math=False)
            self._measure()

    def _measure(self) -> None:
        """Inches that the labels take beyond the grid, on each side."""
        dpi = self.axes.figure.dpi
        boxes = [axes.get_tightbbox() for axes in (self.axes, self.bar)]
        inner = self.axes.get_window_extent()
        self.left = (inner.x0 - min(b.x0 for b in boxes if b)) / dpi
        self.top = (max(b.y1 for b in boxes if b) - inner.y1) / dpi
        self.width = self.left + (max(b.x1 for b in boxes if b) - inner.x0) / dpi
        self.height = self.top + (inner.y1 - min(b.y0 for b in boxes if b)) / dpi

    def move(self, x: float, y: float, page: tuple[float, float]) -> None:
        """Put the panel's upper left corner at (x, y), inches from that of a page (width, height)."""
        left, top = x + self.left, page[1] - y - self.top
        boxes = (
            (self.axes, left, self.grid[0], self.grid[1]),
            (self.bar, left + self.grid[0] + 0.12, 0.11, self.bar_height),
        )
        for axes, begin, width, height in boxes:
            box = (begin / page[0], (top - height) / page[1], width / page[0], height / page[1])
            axes.set_position(box)


def _grid(axes: Axes, drawn: AttentionMap, size: float, *, numbers: bool) -> Any:
    """The cells with their labels, and their numbers where there is room for them; gives the image."""
    source, target = map(label, drawn.source_tokens), map(label, drawn.target_tokens)
    image = axes.pcolormesh(
        drawn.weights, cmap="Blues", vmin=0.0, vmax=1.0, edgecolors="#e4e8ee", linewidth=0.4
    )
    axes.invert_yaxis()
    axes.xaxis.tick_top()
    axes.set_xticks([i + 0.5 for i in range(len(drawn.source_tokens))])
    axes.set_yticks([i + 0.5 for i in range(len(drawn.target_tokens))])
    # parse_math: a token may be "$" or "[", and means nothing by it.
    axes.set_xticklabels(
        list(source),
        rotation=60,
        ha="left",
        va="bottom",
        rotation_mode="anchor",
        fontsize=size,
        parse_math=False,
    )
    axes.set_yticklabels(list(target), fontsize=size, parse_math=False)
    axes.tick_params(length=0, pad=3)
    for spine in axes.spines.values():
        spine.set_color(FRAME)
    for (y, x), weight in _large(drawn.weights) if numbers else []:
        axes.text(
            x + 0.5,
            y + 0.5,
            f"{100 * weight:.0f}",
            ha="center",
            va="center",
            fontsize=size * 0.68,
            color="white" if weight > 0.55 else "#1f3350",
        )
    return image


def _large(weights: NDArray[Any]) -> list[tuple[tuple[int, int], float]]:
    """The cells whose number is worth reading."""
    return [((y, x), float(w)) for y, row in enumerate(weights) for x, w in enumerate(row) if w >= 0.1]
