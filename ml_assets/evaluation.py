"""An evaluation: the metrics of every candidate on validation, and which one leads.

The metrics are scikit-learn's, called by its names.  `pr_auc` is its average precision.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.later import later
from ml_assets.metric import DEFAULT_SELECT, gain

if TYPE_CHECKING:
    import numpy as np
    from sklearn import metrics
else:
    np = later("numpy")
    metrics = later("sklearn.metrics")


@dataclass(frozen=True)
class Contender:
    """One candidate in an evaluation.

    Attributes:
        name: the candidate's name.
        metrics: its metrics on validation; empty when it failed.
        failed_gates: what it would fail if validation judged, as sentences.
        error: why it has no metrics.
    """

    name: str
    metrics: dict[str, float] = field(default_factory=dict)
    failed_gates: tuple[str, ...] = ()
    error: str | None = None


def select_metric(task: str, declared: str | None) -> str:
    """It returns the metric that ranks candidates."""
    return declared or DEFAULT_SELECT[task]


def score(
    truth: np.ndarray, predictions: Predictions, target: Target, only: str | None = None
) -> dict[str, float]:
    """It returns all metrics of a task that these predictions allow.

    Args:
        truth: the true classes or amounts, one per row.
        predictions: what the candidate said of the same rows.
        target: task, classes and positive class.
        only: compute this metric and no other.

    Returns:
        Values by metric name; a metric that is not defined here (one class among the rows, no
        probabilities) is absent: it is never written as 0.
    """
    found: dict[str, Callable[[], Any]] = {}
    if target.task == "regression":
        found = _regression(truth, predictions.values)
    else:
        if not Predictions(predictions.values).missing():
            found = _labels(truth, predictions.values, target)
        if predictions.probabilities is not None:
            found |= _probabilities(truth, predictions.probabilities, target)
    asked = found if only is None else {only} & found.keys()
    told = {name: found[name]() for name in asked}
    return {k: float(v) for k, v in told.items() if v is not None and math.isfinite(v)}


def _regression(truth: np.ndarray, values: np.ndarray) -> dict[str, Callable[[], Any]]:
    truth, values = truth.astype("float64"), values.astype("float64")
    if not np.isfinite(values).all():
        return {}
    return {
        "rmse": lambda: metrics.root_mean_squared_error(truth, values),
        "mae": lambda: metrics.mean_absolute_error(truth, values),
        # with a true value of 0 the percentage has no meaning
        "mape": lambda: (
            metrics.mean_absolute_percentage_error(truth, values) if truth.all() else None
        ),
        "r2": lambda: metrics.r2_score(truth, values) if len(truth) > 1 else None,
        "max_error": lambda: metrics.max_error(truth, values),
    }


def _labels(truth: np.ndarray, values: np.ndarray, target: Target) -> dict[str, Callable[[], Any]]:
    @functools.cache
    def counted(average: str) -> tuple[Any, ...]:
        one, other = truth, values
        if average == "binary":
            one, other = truth == target.positive, values == target.positive
        return tuple(
            metrics.precision_recall_fscore_support(one, other, average=average, zero_division=0)
        )

    def nth(average: str, i: int) -> Any:
        return counted(average)[i]

    found: dict[str, Callable[[], Any]] = {
        "accuracy": lambda: metrics.accuracy_score(truth, values),
        "balanced_accuracy": lambda: metrics.recall_score(
            truth, values, labels=sorted(set(truth)), average="macro", zero_division=0
        ),
    }
    averages = {"macro": "_macro", "weighted": "_weighted"}
    if target.task == "binary":
        averages["binary"] = ""
    for average, ending in averages.items():
        for i, name in enumerate(("precision", "recall", "f1")):
            found[name + ending] = functools.partial(nth, average, i)
    return found


def _probabilities(
    truth: np.ndarray, given: np.ndarray, target: Target
) -> dict[str, Callable[[], Any]]:
    classes = list(target.classes)
    if not np.isfinite(given).all():
        return {}
    onehot = np.column_stack([truth == c for c in classes]).astype("float64")

    def log_loss() -> Any:
        clipped = np.clip(given, 1e-15, 1)
        clipped = clipped / clipped.sum(axis=1, keepdims=True)
        return -np.log(clipped[onehot.astype(bool)]).mean()

    found: dict[str, Callable[[], Any]] = {"log_loss": log_loss}
    if target.task == "binary":
        index = classes.index(target.positive)
        positive, share = onehot[:, index], given[:, index]
        found["brier"] = lambda: np.mean((positive - share) ** 2)
        if 0 < positive.sum() < len(positive):
            found["roc_auc"] = lambda: metrics.roc_auc_score(positive, share)
            found["pr_auc"] = lambda: metrics.average_precision_score(positive, share)
        return found
    found["brier"] = lambda: np.mean(np.sum((onehot - given) ** 2, axis=1))
    present = onehot.any(axis=0) & ~onehot.all(axis=0)
    if present.all():  # one against the rest, each class weighing the same
        pairs = [(onehot[:, i], given[:, i]) for i in range(len(classes))]
        found["roc_auc"] = lambda: np.mean([metrics.roc_auc_score(t, s) for t, s in pairs])
        found["pr_auc"] = lambda: np.mean([metrics.average_precision_score(t, s) for t, s in pairs])
    return found


def ranked(contenders: list[Contender], metric: str) -> list[Contender]:
    """It returns the leaderboard: best first; those that failed last; ties by name."""

    def place(c: Contender) -> tuple[bool, float, str]:
        value = c.metrics.get(metric)
        return value is None, gain(metric, 0, value) if value is not None else 0, c.name

    return sorted(contenders, key=place)


def pick(contenders: list[Contender], metric: str, baseline: str) -> str | None:
    """It returns the name of the candidate to challenge with, chosen on validation alone.

    Those that pass every enforced gate on validation come first, so that the best candidate that
    is too slow yields to the next that is not.  When none passes, the best goes on all the same
    and the gates on test refuse it in the open.  The baseline is a yardstick, never picked.

    Returns:
        None when no candidate was fitted with a usable metric.
    """
    usable = [c for c in ranked(contenders, metric) if metric in c.metrics and c.name != baseline]
    if not usable:
        return None
    return next((c for c in usable if not c.failed_gates), usable[0]).name
