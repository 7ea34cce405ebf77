"""Parts of an HTML page."""

import base64
import io
from collections.abc import Iterable
from html import escape
from itertools import chain, repeat

import matplotlib

from w2v_inf.reporting.style import Drawing

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 62rem; margin: 0 auto; padding: 0 1rem 3rem }
h1 { line-height: 1.2 } h2 { border-top: 2px solid #ccc; padding-top: 1rem; margin-top: 2.5rem }
figure { margin: 1.5rem 0 } figure img { max-width: 100%; height: auto }
figcaption { font-size: .85rem; color: #444; max-width: 50rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top } th { white-space: nowrap }
td:first-child, th:first-child, .text td, .text th { text-align: left } .numbers td { white-space: nowrap }
.text td { min-width: 8rem; overflow-wrap: anywhere } .text td:first-child { min-width: 0; white-space: nowrap }
pre { background: #f5f5f5; padding: .6rem; font-size: .8rem; white-space: pre-wrap; overflow-wrap: anywhere }
.headline { border-left: 4px solid #2166ac; padding: .1rem 1rem; background: #f3f7fb }
.synthetic { background: #fff3cd; padding: .5rem 1rem; font-weight: bold }
@media print {
  body { max-width: none; font-size: 10pt } figure, tr, pre { break-inside: avoid }
  .wide { overflow: visible } table { font-size: 7pt } th { white-space: normal }
}
"""


def html_page(title: str, body: str) -> str:
    view = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    )
    head = f"<head>{view}<title>{escape(title)}</title><style>{CSS}</style></head>"
    return f'<!doctype html>\n<html lang="en">{head}\n<body>\n{body}\n</body></html>\n'


def html_figure(drawing: Drawing) -> str:
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": drawing.name}):
        drawing.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    image = base64.b64encode(buffer.getvalue()).decode("ascii")
    caption = escape(drawing.caption)
    return f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{image}"><figcaption>{caption}</figcaption></figure>'


def html_table(rows: list[list[str]], kind: str) -> str:
    """Rows as HTML, the first as header; nothing without rows."""
    if not rows:
        return ""
    head, *body = (
        "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in row)
        for tag, row in zip(chain(["th"], repeat("td")), rows, strict=False)
    )
    lines = "".join(f"<tr>{row}</tr>" for row in body)
    return f'<div class=wide><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>'


def _optional(title: str, content: str, note: str) -> str:
    return f"<h3>{escape(title)}</h3>{content}<p>{escape(note)}</p>" if content else ""


def _list(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"
