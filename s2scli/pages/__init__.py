"""HTML pages that stand alone: one file with its style, script, data and font, and no address in it.

A page is ``shell.html`` filled with a body, the styles, the scripts and the data. The data stand in it as
JSON that no HTML parser takes for anything else, and the scripts only ever turn them into text nodes; so
whatever a sentence holds is shown and never obeyed. A content security policy allows the one script and
nothing from outside.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from string import Template
from typing import Any, Literal

from s2scli.pages.fonts import hangul_face

STYLES = {
    "attention": ("base.css", "map.css", "attention.css"),
    "report": ("base.css", "map.css", "report.css"),
}
SCRIPTS = {
    "attention": ("base.js", "map.js", "attention.js"),
    "report": ("base.js", "map.js", "chart.js", "table.js", "report.js"),
}
ESCAPED = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}
"""Characters that JSON within HTML must not hold as they are."""


def page(kind: Literal["report", "attention"], *, title: str, data: dict[str, Any]) -> str:
    """The text of an HTML file.

    Args:
        kind: Which page; names its body, style and script.
        title: Of the window.
        data: What the script shows, plain JSON values without NaN or infinities.
    """
    content = as_json(data)
    style = "\n".join([hangul_face(content), *map(_read, STYLES[kind])])
    script = "\n".join(map(_read, SCRIPTS[kind]))
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "font-src data:; img-src data:; base-uri 'none'; form-action 'none'"
    )
    return Template(_read("shell.html")).substitute(
        policy=policy,
        title=html.escape(title),
        style=style,
        body=_read(f"{kind}.html"),
        data=content,
        script=script,
    )


def as_json(data: dict[str, Any]) -> str:
    """JSON that may stand within ``<script type="application/json">``. ValueError for NaN."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(ESCAPED)


def _read(name: str) -> str:
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source of a policy that allows exactly this text between its tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
