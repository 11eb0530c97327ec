"""A picture of live rows: window by window, how good the champion was and how far things drifted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.card.drawing import Curve, alone, bars, beside, lines
from ml_assets.drift import ColumnDrift
from ml_assets.later import later
from ml_assets.window import Window

if TYPE_CHECKING:
    import numpy as np
else:
    np = later("numpy")

MOST_COLUMNS = 12


def picture(windows: Sequence[Window], metric: str, columns: Sequence[ColumnDrift]) -> bytes:
    """It draws quality and drift by window, and the distance of each feature, as one SVG.

    Args:
        windows: in the order of time; at least one.
        metric: what quality is measured by.
        columns: the features in the latest window, the farthest first.
    """
    told = {"realised": "performance", "estimated": "estimate"}
    curves = [_curve(name, windows, aspect) for name, aspect in told.items()]
    thens = [
        a.then
        for w in windows
        if (a := w.answers.get("performance") or w.answers.get("estimate")) and a.then is not None
    ]
    drifts = [
        _curve("features", windows, "features"),
        _curve("predictions", windows, "predictions"),
    ]
    drawn = [
        _lines(f"{metric} on live rows", metric, curves, thens[-1] if thens else None),
        _lines("Share of drifted features, distance", "0 to 1", drifts, None),
    ]
    if columns:
        far = [(c.name, c.distance) for c in columns[:MOST_COLUMNS]]
        drawn.append(bars("Distance by feature, latest window", far))
    return alone(beside(drawn))


def _curve(name: str, windows: Sequence[Window], aspect: Any) -> Curve:
    known = [
        (w.number, a.value)
        for w in windows
        if (a := w.answers.get(aspect)) is not None and a.value is not None
    ]
    x, y = (np.array([p[i] for p in known], dtype="float64") for i in (0, 1))
    return Curve(name, x, y, dots=True)


def _lines(title: str, y: str, curves: list[Curve], level: float | None) -> str:
    known = [c for c in curves if len(c.x)]
    if level is not None and known:  # so that the level lies on the paper
        places = np.concatenate([c.x for c in known])
        ends = np.array([places.min(), places.max()])
        known.append(Curve("on test", ends, np.array([level, level])))
    if not known:
        known = [Curve("nothing yet", np.array([0.0, 1.0]), np.array([0.0, 0.0]))]
    return lines(title, "window", y, known, whole=False)
