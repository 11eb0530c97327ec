"""A drawing: a small SVG picture as text, in the colours of the page that it stands on.

A card has up to a dozen pictures, and each candidate a card.  matplotlib takes half a second to be
imported and a tenth for each picture; these take a millisecond, stay sharp on paper, and turn dark
with the page.  All words in them are escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_assets.later import later

if TYPE_CHECKING:
    import numpy as np
else:
    np = later("numpy")


WIDTH, HEIGHT = 320, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 26, 38
_MOST_POINTS = 200  # of one curve
_MOST_NAMED = 12  # classes of a matrix
COLOURS = 8
# For a picture that stands alone, on white.
_ALONE = (
    "text{font:11px system-ui,sans-serif;fill:#1f2430}.t{font-weight:600}.m{fill:#667085}"
    ".g{stroke:#d7dbe3;fill:none}.d{stroke:#9aa3b2;stroke-dasharray:4 3;fill:none}"
    ".v{stroke:#d9480f;stroke-dasharray:2 2;fill:none}"
    "{colours}"
)
_PALETTE = (
    "#4f43dd",
    "#d9480f",
    "#0b7285",
    "#2b8a3e",
    "#a61e4d",
    "#866118",
    "#495057",
    "#1971c2",
)


@dataclass(frozen=True)
class Curve:
    """A line: its name, and where it goes.

    Attributes:
        name: shown in the legend; nothing when empty.
        x: from left to right.
        y: from bottom to top.
        dots: mark each point.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    dots: bool = False


def _text(value: Any, most: int = 40) -> str:
    said = " ".join(str(value).split())
    return html.escape(said if len(said) <= most else said[: most - 1] + "…")


def number(value: float) -> str:
    """It returns a number as an axis shows it."""
    return f"{value:.3g}" if abs(value) < 1e6 else f"{value:.2e}"


def _svg(title: str, body: str, height: int = HEIGHT) -> str:
    head = f'<text class="t" x="{_LEFT}" y="15">{_text(title, 46)}</text>'
    named = f'role="img" aria-label="{_text(title, 80)}"'
    return f'<svg viewBox="0 0 {WIDTH} {height}" {named}>{head}{body}</svg>'


def alone(picture: str) -> bytes:
    """It returns a picture as a file of its own: with its colours, on white."""
    colours = "".join(
        f".c{i}{{stroke:{c};fill:none}}.f{i}{{fill:{c}}}" for i, c in enumerate(_PALETTE)
    )
    style = f"<style>{_ALONE.replace('{colours}', colours)}</style>"
    paper = '<rect width="100%" height="100%" fill="#fff"/>'
    head, _, rest = picture.partition(">")
    _, _, box = head.partition('viewBox="0 0 ')
    width, height = box.split('"')[0].split()
    sized = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
    return (head.replace("<svg", sized, 1) + ">" + style + paper + rest).encode()


def beside(pictures: Sequence[str]) -> str:
    """It returns pictures in a row, as one."""
    moved = "".join(
        f'<g transform="translate({i * WIDTH} 0)">{p[p.index(">") + 1 : -len("</svg>")]}</g>'
        for i, p in enumerate(pictures)
    )
    height = max(int(p.split('viewBox="0 0 ')[1].split('"')[0].split()[1]) for p in pictures)
    return f'<svg viewBox="0 0 {WIDTH * len(pictures)} {height}" role="img">{moved}</svg>'


@dataclass(frozen=True)
class _Axes:
    """Where values stand on the paper."""

    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: Any) -> Any:
        low, high = self.x
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def up(self, value: Any) -> Any:
        low, high = self.y
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    def drawn(self, x: str, y: str) -> str:
        left, right = self.across(self.x[0]), self.across(self.x[1])
        bottom, top = self.up(self.y[0]), self.up(self.y[1])
        lines = [f'<path class="g" d="M{left:.1f} {top:.1f}V{bottom:.1f}H{right:.1f}"/>']
        for i in range(5):
            at = self.x[0] + (self.x[1] - self.x[0]) * i / 4
            place = ("start", "middle", "middle", "middle", "end")[i]
            lines.append(
                f'<text class="m" x="{self.across(at):.1f}" y="{bottom + 13:.1f}" '
                f'text-anchor="{place}">{number(at)}</text>'
            )
            at = self.y[0] + (self.y[1] - self.y[0]) * i / 4
            lines.append(
                f'<text class="m" x="{left - 4:.1f}" y="{self.up(at) + 4:.1f}" '
                f'text-anchor="end">{number(at)}</text>'
            )
        middle = (left + right) / 2
        lines.append(
            f'<text x="{middle:.1f}" y="{HEIGHT - 7}" text-anchor="middle">{_text(x)}</text>'
        )
        half = (top + bottom) / 2
        lines.append(
            f'<text x="10" y="{half:.1f}" text-anchor="middle" '
            f'transform="rotate(-90 10 {half:.1f})">{_text(y)}</text>'
        )
        return "".join(lines)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """It returns from where to where an axis goes; never a length of zero."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    if low == high:
        return low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    return low, high


def lines(
    title: str,
    x: str,
    y: str,
    curves: Sequence[Curve],
    whole: bool = True,
    diagonal: bool = False,
    mark: float | None = None,
    level: float | None = None,
) -> str:
    """It draws curves.

    Args:
        title: above.
        x: what is across.
        y: what is up.
        curves: the lines.
        whole: both axes go from 0 to 1; else as far as the values.
        diagonal: draw the line from corner to corner.
        mark: a value of x to point at.
        level: a value of y to compare with.
    """
    if whole:
        axes = _Axes((0, 1), (0, 1))
    else:
        both = [np.concatenate([getattr(c, n) for c in curves]) for n in ("x", "y")]
        one, other = (_limits(v) for v in both)
        axes = _Axes(one, other)
        if diagonal:
            ends = min(one[0], other[0]), max(one[1], other[1])
            axes = _Axes(ends, ends)
    body = [axes.drawn(x, y)]
    if diagonal:
        ends = axes.x
        body.append(_path(axes, np.array(ends), np.array(ends), "d"))
    if level is not None:
        body.append(_path(axes, np.array(axes.x), np.array([level, level]), "d"))
    if mark is not None:
        body.append(_path(axes, np.array([mark, mark]), np.array(axes.y), "v"))
    for i, curve in enumerate(curves):
        step = max(1, math.ceil(len(curve.x) / _MOST_POINTS))
        across, up = (np.append(v[::step], v[-1:]) for v in (curve.x, curve.y))
        body.append(_path(axes, across, up, f"c{i % COLOURS}"))
        if curve.dots:
            body += [
                f'<circle class="f{i % COLOURS}" cx="{axes.across(a):.1f}" cy="{axes.up(b):.1f}" r="3"/>'
                for a, b in zip(curve.x, curve.y, strict=True)
            ]
    body.append(_legend([c.name for c in curves if c.name]))
    return _svg(title, "".join(body))


def _path(axes: _Axes, x: np.ndarray, y: np.ndarray, kind: str) -> str:
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(axes.across(x), axes.up(y), strict=True))
    return f'<polyline class="{kind}" points="{points}"/>'


def _legend(names: Sequence[str]) -> str:
    high = HEIGHT - _BOTTOM - 13 * len(names) + 4
    return "".join(
        f'<rect class="f{i % COLOURS}" x="{WIDTH - 112}" y="{high + 13 * i - 8}" width="9" height="9"/>'
        f'<text x="{WIDTH - 99}" y="{high + 13 * i}">{_text(n, 15)}</text>'
        for i, n in enumerate(names)
    )


def points(title: str, x: str, y: str, at: tuple[np.ndarray, np.ndarray], diagonal: bool) -> str:
    """It draws a point for each pair: where they agree, when there is a diagonal; else around 0."""
    across, up = at
    one, other = _limits(across), _limits(up)
    axes = _Axes(one, other)
    if diagonal:
        ends = min(one[0], other[0]), max(one[1], other[1])
        axes = _Axes(ends, ends)
    places = zip(axes.across(across), axes.up(up), strict=True)
    dots = "".join(f"M{a:.0f} {b:.0f}h0" for a, b in places)
    drawn = f'<path class="c0" d="{dots}" stroke-width="4" stroke-linecap="round" opacity=".5"/>'
    level = np.array(axes.x) if diagonal else np.zeros(2)
    inside = diagonal or axes.y[0] <= 0 <= axes.y[1]
    rule = _path(axes, np.array(axes.x), level, "d") if inside else ""
    return _svg(title, axes.drawn(x, y) + rule + drawn)


def histogram(title: str, x: str, values: np.ndarray, bins: int = 30) -> str:
    """It draws how often values lie where."""
    low, high = _limits(values)
    counts, edges = np.histogram(values[np.isfinite(values)], bins=bins, range=(low, high))
    axes = _Axes((low, high), (0.0, float(max(counts.max(), 1))))
    wide = (WIDTH - _LEFT - _RIGHT) / bins - 1
    body = "".join(
        f'<rect class="f0" x="{axes.across(e):.1f}" y="{axes.up(n):.1f}" width="{wide:.1f}" '
        f'height="{axes.up(0.0) - axes.up(n):.1f}"/>'
        for e, n in zip(edges, counts, strict=False)
        if n
    )
    zero = (
        _path(axes, np.zeros(2), np.array(axes.y), "v") if low < 0 < high else ""
    )  # where there is no error
    return _svg(title, axes.drawn(x, "rows") + body + zero)


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """It draws a bar for each named value, the first on top."""
    height = _TOP + 17 * len(values) + 8
    least, most = min([0.0, *(v for _, v in values)]), max([0.0, *(v for _, v in values)])
    wide = (most - least) or 1.0
    left, right = 130, WIDTH - 56

    def across(value: float) -> float:
        return left + (value - least) / wide * (right - left)

    body = []
    for i, (name, value) in enumerate(values):
        top = _TOP + 17 * i
        start, end = sorted((across(0), across(value)))
        body.append(
            f'<text x="{left - 5}" y="{top + 10}" text-anchor="end">{_text(name, 17)}</text>'
            f'<rect class="f0" x="{start:.1f}" y="{top}" width="{max(end - start, 0.5):.1f}" height="12"/>'
            f'<text class="m" x="{end + 4:.1f}" y="{top + 10}">{number(value)}</text>'
        )
    return _svg(title, "".join(body), height)


def matrix(title: str, names: Sequence[str], counts: np.ndarray) -> str:
    """It draws how often each true class (down) was taken for each class (across)."""
    size = len(names)
    left, top, side = 78, 40, min(WIDTH - 78 - 8, HEIGHT - 40 - 34) / max(size, 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    few = size <= _MOST_NAMED
    body = []
    for i in range(size):
        for j in range(size):
            x, y = left + j * side, top + i * side
            body.append(
                f'<rect class="f0" fill-opacity="{0.04 + 0.8 * share[i, j]:.2f}" x="{x:.1f}" '
                f'y="{y:.1f}" width="{side - 1:.1f}" height="{side - 1:.1f}"/>'
            )
            if few:
                dark = ' fill="#fff" style="fill:#fff"' if share[i, j] > 0.6 else ""
                body.append(
                    f'<text x="{x + side / 2:.1f}" y="{y + side / 2 + 4:.1f}" '
                    f'text-anchor="middle"{dark}>{counts[i, j]}</text>'
                )
        if few:
            long = 12 if size <= 3 else 6
            across = f'x="{left + (i + 0.5) * side:.1f}" y="{top - 5}" text-anchor="middle"'
            down = f'x="{left - 5}" y="{top + (i + 0.5) * side + 4:.1f}" text-anchor="end"'
            body.append(f"<text class='m' {across}>{_text(names[i], long)}</text>")
            body.append(f"<text class='m' {down}>{_text(names[i], 12)}</text>")
    body.append(f'<text x="{left}" y="{HEIGHT - 8}">true: down, predicted: across</text>')
    return _svg(title, "".join(body))
