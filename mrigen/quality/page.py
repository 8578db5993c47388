"""The page of `mrigen qc`: one HTML file with its pictures in it."""

import html
from typing import TYPE_CHECKING

import numpy as np

from mrigen.quality.flags import NAMES
from mrigen.quality.pictures import as_data, figure_as_data, plot_measures
from mrigen.quality.rules import FINE, FLAGS, LOOK, WRONG

if TYPE_CHECKING:
    from mrigen.quality.result import Quality

# Measures whose distribution is drawn.
DRAWN = (
    "head_volume_ml", "brain_volume_ml", "width_mm", "height_mm", "cut_top_cm2", "scale", "grey_levels", "noise",
    "ghost", "efc", "fber", "cjv", "contrast", "bias", "fwhm_mm", "likeness", "distance",
)  # fmt: skip
# Rows of the table on the page; the file qc.tsv has all.
MOST_ROWS = 2000

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1240px; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
.card { border: 1px solid #ddd; border-left: 6px solid #aaa; border-radius: 4px; padding: 6px 8px; }
.card.wrong { border-left-color: #c92a2a; } .card.look { border-left-color: #e69f00; }
.card img { width: 100%; background: #000; display: block; } .card p { margin: 4px 0; font-size: 12px; }
.card b { font-size: 13px; } .card small { color: #666; overflow-wrap: anywhere; }
table { border-collapse: collapse; font-size: 12px; }
th, td { padding: 2px 7px; text-align: right; white-space: nowrap; }
th { cursor: pointer; border-bottom: 1px solid #999; position: sticky; top: 0; background: #fff;
     vertical-align: bottom; }
td:nth-child(-n+3), th:nth-child(-n+3) { text-align: left; } tr.wrong td { background: #fdecec; }
tr.look td { background: #fff6e0; } .wide { overflow: auto; max-height: 80vh; } img.figure { max-width: 100%; }
"""

# Sorts the table by the column that is clicked, the other way round at the second click.
SCRIPT = """
for (const head of document.querySelectorAll("#measures th")) head.onclick = () => {
  const body = document.querySelector("#measures tbody"), up = head.dataset.up = head.dataset.up === "1" ? "0" : "1";
  const cell = row => row.cells[head.cellIndex].textContent;
  const order = (a, b) => (isNaN(parseFloat(a)) - isNaN(parseFloat(b))) ||
    (isNaN(parseFloat(a)) ? a.localeCompare(b) : parseFloat(a) - parseFloat(b)) * (up === "1" ? 1 : -1);
  body.append(...[...body.rows].sort((a, b) => order(cell(a), cell(b))));
};
"""


def render_page(quality: "Quality") -> str:
    """Returns the page as HTML."""
    frame, flags = quality.to_frame(), quality.flags
    counts = frame["verdict"].value_counts()
    parts = [
        "<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8"><title>mrigen qc</title>',
        '<meta name="viewport" content="width=device-width">', f"<style>{STYLE}</style></head><body>",
        "<h1>Quality of the images</h1>",
        f"<p><b>{len(frame)}</b> images: <b>{counts.get(WRONG, 0)}</b> wrong, <b>{counts.get(LOOK, 0)}</b> to be "
        f"looked at, <b>{counts.get(FINE, 0)}</b> fine. Wrong is what cannot be a head as a model needs it; to be "
        "looked at is what is unlike the rest of the cohort. The pictures show people: keep this file as you keep the "
        "images.</p>",
    ]  # fmt: skip
    parts += [f"<p>{html.escape(note)}</p>" for note in quality.notes]
    if len(flags):
        parts += ["<h2>Flags</h2>", "<table><tr><th>flag</th><th>what it means</th><th>images</th></tr>"]
        for flag, number in flags["flag"].value_counts().items():
            parts.append(f"<tr><td>{html.escape(flag)}</td><td>{html.escape(FLAGS[flag])}</td><td>{number}</td></tr>")
        parts.append("</table>")
    for level, title in ((WRONG, "Wrong"), (LOOK, "To be looked at")):
        own = frame[frame["verdict"] == level]
        if len(own):
            parts += [f"<h2>{title} ({len(own)})</h2>", '<div class="cards">']
            parts += [_card(quality, row, level) for row in own.itertuples()]
            parts.append("</div>")
    drawn = {
        NAMES[name]: frame[name].to_numpy(dtype=np.float64)
        for name in DRAWN
        if name in frame and frame[name].notna().sum() > 1 and frame[name].nunique() > 1
    }
    if drawn:
        figure = figure_as_data(plot_measures(drawn, frame["verdict"].to_numpy()))
        parts += [
            "<h2>Measures</h2>",
            f'<p>Bars: all images; red: wrong; orange: to be looked at.</p><img class="figure" alt="" src="{figure}">',
        ]
    parts += ["<h2>Table</h2>", "<p>Click a heading to sort.</p>", _table(frame)]
    others = frame[(frame["verdict"] == FINE) & frame["scan_id"].isin(list(quality.strips))]
    if len(others):
        of = f"{len(others)} of {counts.get(FINE, 0)}" if len(others) < counts.get(FINE, 0) else str(len(others))
        parts += [f"<h2>Fine ({of})</h2>", '<div class="cards">']
        parts += [_card(quality, row, FINE) for row in others.itertuples()]
        parts.append("</div>")
    parts.append(f"<script>{SCRIPT}</script></body></html>\n")
    return "\n".join(parts)


def _card(quality: "Quality", row, level: str) -> str:
    strip = quality.strips.get(row.scan_id)
    picture = "" if strip is None else f'<img loading="lazy" alt="" src="{as_data(strip)}">'
    words = f": {html.escape(row.flags)}" if isinstance(row.flags, str) else ""
    reasons = "".join(f"<p>{html.escape(reason)}</p>" for reason in quality.reasons(row.scan_id))
    path = f"<small>{html.escape(str(row.path))}</small>" if level != FINE else ""
    return f'<div class="card {level}">{picture}<b>{html.escape(row.scan_id)}</b>{words}{reasons}{path}</div>'


def _table(frame) -> str:
    names = ["scan_id", "verdict", "flags", *(name for name in ("sex", "age", "site") if name in frame)]
    names += [name for name in NAMES if name in frame and frame[name].notna().any()]
    heads = "".join(f'<th title="{html.escape(NAMES.get(name, name))}">{html.escape(name)}</th>' for name in names)
    rows = []
    for record in frame.head(MOST_ROWS)[names].itertuples(index=False):
        cells = "".join(f"<td>{html.escape(_cell(value))}</td>" for value in record)
        rows.append(f'<tr class="{record.verdict}">{cells}</tr>')
    more = f"<p>... and {len(frame) - MOST_ROWS} more in qc.tsv</p>" if len(frame) > MOST_ROWS else ""
    return (
        f'<div class="wide"><table id="measures"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _cell(value) -> str:
    if isinstance(value, str):
        return value
    if value is None or not np.isfinite(value):
        return ""
    return f"{value:.4g}"
