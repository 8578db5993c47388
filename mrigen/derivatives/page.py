"""The page of `prepare`: every scan with the outline of its brain, those that need a look first."""

import html
from collections.abc import Sequence

import pandas as pd

from mrigen.derivatives.result import FAILED, FINE, LOOK
from mrigen.quality.page import STYLE

TITLES = {FAILED: "Failed", LOOK: "To be looked at", FINE: "Fine"}


def render_page(table: pd.DataFrame, findings: Sequence[str]) -> str:
    """Returns the page as HTML; the pictures lie beside it.

    Args:
        table: of `Derivatives`, with a column `picture`.
        findings: lines on top.
    """
    parts = [
        "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8"><title>mrigen prepare</title>',
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>',
        "<h1>Prepared scans</h1>", f"<p>{html.escape(findings[0])}</p>",
        "<p>The orange line is the outline of the brain mask. Does it follow the brain everywhere, and does the head "
        "stand upright? The pictures show people: keep this folder as you keep the images.</p>",
    ]  # fmt: skip
    for verdict, title in TITLES.items():
        own = table[table["verdict"] == verdict]
        if len(own):
            parts += [f"<h2>{title} ({len(own)})</h2>", '<div class="cards">']
            parts += [_card(row, verdict) for row in own.itertuples()]
            parts.append("</div>")
    return "\n".join([*parts, "</body></html>\n"])


def _card(row, verdict: str) -> str:
    level = "wrong" if verdict == FAILED else verdict
    picture = html.escape(row.picture) if isinstance(row.picture, str) else None
    shown = "" if picture is None else f'<img loading="lazy" alt="" src="{picture}">'
    reasons = f"<p>{html.escape(row.reasons)}</p>" if isinstance(row.reasons, str) else ""
    return f'<div class="card {level}">{shown}<b>{html.escape(row.scan)}</b>{reasons}</div>'
