"""Pages of figures: one HTML file each, which needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from pose.files import replacing

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1em 0; }
table { display: block; overflow-x: auto; }
th, td { padding: 2px 10px; text-align: right; border-bottom: 1px solid #eee; }
th:first-child, td:first-child { text-align: left; }
pre { background: #f6f6f6; padding: 0.8em; white-space: pre-wrap; } svg { max-width: 100%; height: auto; }
.side { display: flex; flex-wrap: wrap; gap: 1em; }
figure { margin: 0; } figcaption { font-size: 0.85em; color: #555; } figure img { max-width: 100%; display: block; }
"""


def write_sections(path: Path, title: str, sections: Sequence[tuple[str, str]]) -> None:
    """Writes a page, beside its place and renamed.

    Args:
        path: The page.
        title: The page's title, as text.
        sections: The heading of each section, as text, and its content, as HTML.

    Raises:
        OutputError: The place cannot be written.
    """
    body = "".join(f"<section><h2>{escape(name)}</h2>{content}</section>" for name, content in sections)
    text = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style></head><body><h1>{escape(title)}</h1>{body}</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of words and figures."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
