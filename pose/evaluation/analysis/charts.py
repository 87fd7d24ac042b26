"""Charts as inline SVG, for a page that needs nothing else.

They are written here and not by matplotlib, because a report belongs to testing, which works without that extra, and
because a page's style reaches text and lines of plain SVG, while matplotlib's has its text as outlines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

COLORS = ("#2563a8", "#d9822b", "#3a8f5c", "#a83252", "#7a5cab", "#6b7280")
"""Colors that are told apart with any color vision, in the order of use."""

_LEFT, _TOP, _RIGHT, _BOTTOM = 52, 12, 12, 42
_LEGEND = 84
_ROW = 20


def line_chart(
    series: Mapping[str, tuple[np.ndarray, np.ndarray]],
    x_label: str,
    y_label: str,
    marked: bool = False,
    diagonal: bool = False,
    size: tuple[int, int] = (420, 300),
) -> str:
    """Lines over axes from 0 to 1, or to the next tenth above the largest x.

    Args:
        series: Names to (N,) x and (N,) y; points whose y is negative are left out.
        x_label: The label below.
        y_label: The label at the side.
        marked: A dot at each point.
        diagonal: A dashed line where x is y.
        size: Width and height in pixels, without the legend that several series have at the right.
    """
    width, height = size
    limit = max([1.0, *(np.ceil(float(x.max()) * 10) / 10 for x, _ in series.values() if len(x))])

    def place(x: float, y: float) -> tuple[float, float]:
        right, bottom = width - _RIGHT, height - _BOTTOM
        return round(_LEFT + (right - _LEFT) * x / limit, 1), round(bottom - (bottom - _TOP) * y, 1)

    parts = _axes(place, limit, x_label, y_label, size)
    if diagonal:
        (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
        parts.append(f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="#999" stroke-dasharray="4 4"/>')
    for number, (name, (xs, ys)) in enumerate(series.items()):
        color = COLORS[number % len(COLORS)]
        points = [place(x, y) for x, y in zip(xs.tolist(), ys.tolist(), strict=True) if y >= 0]
        path = " ".join(f"{x},{y}" for x, y in points)
        parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{path}"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{color}"/>' for x, y in points] if marked else []
        if len(series) > 1:
            parts.append(_text(width, _TOP + 14 + 18 * number, name, color=color))
    whole = (width + _LEGEND if len(series) > 1 else width, height)
    return _svg(parts, whole, f"{y_label} against {x_label}")


def bar_chart(rows: Mapping[str, Sequence[float]], parts_of: Sequence[str], limit: float, label: str) -> str:
    """Horizontal bars, each of one or several parts laid end to end.

    Args:
        rows: Names to the lengths of the parts.
        parts_of: Names of the parts; several get a legend.
        limit: The length of a whole bar.
        label: What the chart shows, for those who cannot see it.
    """
    width, left, legend = 680, 190, 24 if len(parts_of) > 1 else 0
    size = (width, _ROW * len(rows) + legend + 8)
    drawn = []
    for number, name in enumerate(parts_of if legend else ()):
        x = left + number * 90
        drawn.append(f'<rect x="{x}" y="4" width="10" height="10" fill="{COLORS[number % len(COLORS)]}"/>')
        drawn.append(_text(x + 14, 13, name))
    for row, (name, lengths) in enumerate(rows.items()):
        y, end = legend + _ROW * row + 4, float(left)
        drawn.append(_text(left - 8, y + 12, name, "end"))
        for number, length in enumerate(lengths):
            long = max(0.0, length) / limit * (width - left - 60)
            color = COLORS[number % len(COLORS)]
            drawn.append(f'<rect x="{end:.1f}" y="{y}" width="{long:.1f}" height="{_ROW - 5}" fill="{color}"/>')
            end += long
        if not legend:
            drawn.append(_text(end + 6, y + 12, f"{lengths[0]:.3f}"))
    return _svg(drawn, size, label)


def _axes(place: Callable[..., Any], limit: float, x_label: str, y_label: str, size: tuple[int, int]) -> list[str]:
    width, height = size
    parts = []
    for step in range(6):
        share = step / 5
        x, y = place(share * limit, 0)[0], place(0, share)[1]
        bottom, right = height - _BOTTOM, width - _RIGHT
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{bottom}" stroke="#e2e2e2"/>')
        parts.append(f'<line x1="{_LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#e2e2e2"/>')
        parts.append(_text(x, bottom + 16, f"{share * limit:.3g}", "middle"))
        parts.append(_text(_LEFT - 6, y + 4, f"{share:.1f}", "end"))
    middle = (height - _BOTTOM + _TOP) / 2
    parts.append(_text((_LEFT + width - _RIGHT) / 2, height - 8, x_label, "middle"))
    parts.append(f'<g transform="rotate(-90 14 {middle})">{_text(14, middle, y_label, "middle")}</g>')
    return parts


def _text(x: float, y: float, text: str, anchor: str = "start", color: str = "#333") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="12">{escape(text)}</text>'


def _svg(parts: Sequence[str], size: tuple[int, int], label: str) -> str:
    width, height = size
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )
