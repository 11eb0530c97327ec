"""Plots: pictures that answer one question each, as small PNG files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.evaluation import Contender
from ml_assets.later import later
from ml_assets.metric import METRICS

if TYPE_CHECKING:
    import numpy as np
else:
    np = later("numpy")

_INK, _MUTED, _GOOD, _LINE = "#1f2430", "#9aa3b2", "#4f43dd", "#d7dbe3"
_MOST_POINTS = 3000
_MOST_CLASSES_NAMED = 12


def _figure(panels: int, height: float = 3.2) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * panels, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, i + 1) for i in range(panels)]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(_LINE)
        ax.tick_params(colors=_INK, labelsize=8)
    return figure, axes


def _png(figure: Any) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=80, metadata={"Software": None})
    return out.getvalue()


def leaderboard(board: list[Contender], metric: str, winner: str | None) -> bytes:
    """It draws the candidates' metric on validation as bars, best on top."""
    shown = [c for c in board if metric in c.metrics]
    figure, (ax,) = _figure(1, 0.9 + 0.32 * max(len(shown), 1))
    names = [c.name for c in shown][::-1]
    values = [c.metrics[metric] for c in shown][::-1]
    colours = [_GOOD if n == winner else _MUTED for n in names]
    bars = ax.barh(names, values, color=colours, height=0.62)
    ax.bar_label(bars, [f"{v:.4g}" for v in values], padding=3, fontsize=8, color=_INK)
    ax.margins(x=0.18)
    better = "higher" if METRICS[metric][0] else "lower"
    ax.set_title(f"{metric} on validation ({better} is better)", fontsize=9, color=_INK)
    return _png(figure)


def searched(trials: list[dict[str, Any]], greater: bool) -> bytes:
    """It draws a search as parallel coordinates: a line per trial, the best ones dark."""
    done = [t for t in trials if t["value"] is not None]
    names = list(done[0]["params"])
    figure, (ax,) = _figure(1, 3.4)
    figure.set_size_inches(max(4.2, 1.4 * (len(names) + 1)), 3.4)
    columns = [[t["params"][n] for t in done] for n in names] + [[t["value"] for t in done]]
    places = [_places(values) for values in columns]
    order = sorted(range(len(done)), key=lambda i: done[i]["value"], reverse=not greater)
    for rank, i in enumerate(order):
        best = rank == len(order) - 1
        share = (rank + 1) / len(order)
        colour = _GOOD if best else _MUTED
        line = [place[i] for place in places]
        ax.plot(line, color=colour, lw=2.2 if best else 1, alpha=1 if best else 0.15 + 0.6 * share)
    for at, values in enumerate(columns):
        for value, height in {(str(v)[:8], h) for v, h in zip(values, places[at], strict=True)}:
            if height in (0.0, 1.0) or len(set(map(str, values))) <= 6:
                ax.text(at, height, f" {value}", fontsize=7, color=_INK, va="center")
    ax.set_xticks(range(len(columns)), [*names, "value"], fontsize=8)
    ax.set_yticks([])
    ax.set_title("trials: each line is one, the best is dark", fontsize=9, color=_INK)
    return _png(figure)


def _places(values: list[Any]) -> list[float]:
    """It returns where values stand on an axis from 0 to 1: numbers by size, words by order."""
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    if numbers:
        low, high = min(values), max(values)
        return [(v - low) / (high - low) if high > low else 0.5 for v in values]
    words = sorted(set(map(str, values)))
    return [words.index(str(v)) / max(len(words) - 1, 1) for v in values]


def judged(truth: np.ndarray, said: Predictions, target: Target) -> bytes:
    """It draws how predictions relate to the truth: curves, confusion, or residuals, by task."""
    if target.task == "regression":
        return _residuals(truth.astype("float64"), said.values.astype("float64"))
    if target.task == "binary" and said.probabilities is not None:
        return _binary(truth, said, target)
    figure, (ax,) = _figure(1, 3.8)
    _confusion(ax, truth, said.values, target)
    return _png(figure)


def _binary(truth: np.ndarray, said: Predictions, target: Target) -> bytes:
    from sklearn.metrics import precision_recall_curve, roc_curve

    assert said.probabilities is not None
    positive = truth == target.positive
    share = said.probabilities[:, list(target.classes).index(target.positive)]
    figure, (roc, pr, table) = _figure(3)
    if positive.any() and not positive.all():
        false, true, _ = roc_curve(positive, share)
        roc.plot(*_thinned(false, true), color=_GOOD, linewidth=1.8)
        precision, recall, _ = precision_recall_curve(positive, share)
        pr.plot(*_thinned(recall, precision), color=_GOOD, linewidth=1.8)
    roc.plot([0, 1], [0, 1], color=_LINE, linewidth=1)
    pr.axhline(positive.mean(), color=_LINE, linewidth=1)
    for ax, title, x, y in (
        (roc, "ROC on test", "false positive rate", "true positive rate"),
        (pr, "Precision and recall on test", "recall", "precision"),
    ):
        ax.set_title(title, fontsize=9, color=_INK)
        ax.set_xlabel(x, fontsize=8)
        ax.set_ylabel(y, fontsize=8)
        ax.set_ylim(0, 1.02)
    _confusion(table, truth, said.values, target)
    return _png(figure)


def _thinned(*curves: np.ndarray) -> list[np.ndarray]:
    step = max(1, len(curves[0]) // 500)
    return [np.append(c[::step], c[-1]) for c in curves]


def _confusion(ax: Any, truth: np.ndarray, values: np.ndarray, target: Target) -> None:
    from sklearn.metrics import confusion_matrix

    matrix = confusion_matrix(truth, values, labels=list(target.classes))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    ax.imshow(share, cmap="Purples", vmin=0, vmax=1)
    ax.set_title("Confusion on test", fontsize=9, color=_INK)
    ax.set_xlabel("predicted", fontsize=8)
    ax.set_ylabel("true", fontsize=8)
    few = len(target.classes) <= _MOST_CLASSES_NAMED
    if few:
        names = [str(c)[:14] for c in target.classes]
        ax.set_xticks(range(len(names)), names, rotation=30 if len(names) > 3 else 0)
        ax.set_yticks(range(len(names)), names)
        for i in range(len(names)):
            for j in range(len(names)):
                colour = "white" if share[i, j] > 0.6 else _INK
                ax.text(
                    j, i, f"{matrix[i, j]:,}", ha="center", va="center", fontsize=7, color=colour
                )


def _residuals(truth: np.ndarray, values: np.ndarray) -> bytes:
    figure, (scatter, spread) = _figure(2)
    step = max(1, len(truth) // _MOST_POINTS)
    scatter.scatter(truth[::step], values[::step], s=6, alpha=0.35, color=_GOOD, linewidths=0)
    ends = [min(truth.min(), values.min()), max(truth.max(), values.max())]
    scatter.plot(ends, ends, color=_INK, linewidth=0.8)
    scatter.set_title("Predicted against true, on test", fontsize=9, color=_INK)
    scatter.set_xlabel("true", fontsize=8)
    scatter.set_ylabel("predicted", fontsize=8)
    spread.hist(values - truth, bins=40, color=_GOOD)
    spread.axvline(0, color=_INK, linewidth=0.8)
    spread.set_title("Error (predicted - true)", fontsize=9, color=_INK)
    return _png(figure)
