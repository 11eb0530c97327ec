"""A comparison: whether one candidate is better than another on the same rows, beyond noise.

Both scored the same rows, so the question is about the difference row by row: a paired test.
Three ways, by what the metric is made of:

- the area under the ROC curve: DeLong's test (DeLong, DeLong & Clarke-Pearson 1988, in the fast
  form of Sun & Xu 2014);
- metrics of predicted labels: a bootstrap over the joint counts (truth, one, other);
- metrics that are a mean over rows: a bootstrap over rows, or over 2,000 blocks of random rows;
- the rest: a bootstrap over at most 5,000 rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.evaluation import score
from ml_assets.later import later
from ml_assets.metric import METRICS, gain

if TYPE_CHECKING:
    import numpy as np
else:
    np = later("numpy")

RESAMPLES = 2000
SLOW_RESAMPLES = 200
MOST_UNITS = 2000
MOST_ROWS_RESAMPLED = 5000


@dataclass(frozen=True)
class Comparison:
    """The answer to "is one better than other?".

    Attributes:
        verdict: better, not better, or inconclusive.
        metric: the metric compared.
        one: its value for the first candidate.
        other: its value for the second.
        gain: by how much the first is better (negative: worse).
        low: lower end of the interval in which the gain lies at the confidence.
        high: its upper end.
        rows: number of rows compared on.
    """

    verdict: Literal["better", "not better", "inconclusive"]
    metric: str
    one: float
    other: float
    gain: float
    low: float
    high: float
    rows: int

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        return (
            f"{self.verdict}: {self.metric} {self.one:.4g} against {self.other:.4g} on the same "
            f"{self.rows:,} test rows, gain {self.gain:+.3g} (between {self.low:+.3g} and "
            f"{self.high:+.3g})"
        )


def compare(
    metric: str,
    truth: np.ndarray,
    one: Predictions,
    other: Predictions,
    target: Target,
    confidence: float = 0.95,
    by: float = 0.0,
    seed: int = 0,
) -> Comparison:
    """It returns whether `one` is better than `other` by more than `by`, at the confidence.

    It is better when the whole interval of the gain lies above `by`.  The interval has two sides:
    at 95 % an equal candidate is called better by chance in 2.5 % of comparisons.

    Args:
        metric: what to compare by.
        truth: true classes or amounts of the rows.
        one: predictions of the first candidate (the challenger).
        other: predictions of the second (the champion), for the same rows.
        target: task, classes, positive class.
        confidence: of the interval of the gain, from 0.5 to below 1.
        by: smallest gain that counts, in the metric's unit.
        seed: of the resampling.
    """
    a, b = (score(truth, said, target, metric)[metric] for said in (one, other))
    above = (1 + confidence) / 2
    observed = gain(metric, a, b)
    if _same(one, other):
        low = high = 0.0
    elif metric == "roc_auc" and target.task == "binary":
        spread = _delong(truth, one, other, target) * NormalDist().inv_cdf(above)
        low, high = observed - spread, observed + spread
    else:
        gains = _resampled(metric, truth, one, other, target, np.random.default_rng(seed))
        low, high = (float(q) for q in np.quantile(gains, [1 - above, above]))
    if low > by:
        verdict: Literal["better", "not better", "inconclusive"] = "better"
    elif high <= by:
        verdict = "not better"
    else:
        verdict = "inconclusive"
    return Comparison(verdict, metric, a, b, observed, low, high, len(truth))


def _same(one: Predictions, other: Predictions) -> bool:
    if one.probabilities is None or other.probabilities is None:
        return bool(np.array_equal(one.values, other.values))
    return bool(
        np.array_equal(one.values, other.values)
        and np.array_equal(one.probabilities, other.probabilities)
    )


def _delong(truth: np.ndarray, one: Predictions, other: Predictions, target: Target) -> float:
    """It returns the standard error of the difference of two areas on the same rows."""
    assert one.probabilities is not None and other.probabilities is not None
    positive = truth == target.positive
    index = list(target.classes).index(target.positive)
    by_positive, by_negative = [], []
    for scores in (one.probabilities[:, index], other.probabilities[:, index]):
        x, y = scores[positive], scores[~positive]
        both, own_x, own_y = _midranks(np.concatenate([x, y])), _midranks(x), _midranks(y)
        by_positive.append((both[: len(x)] - own_x) / len(y))
        by_negative.append(1 - (both[len(x) :] - own_y) / len(x))
    spread_x, spread_y = np.cov(by_positive), np.cov(by_negative)
    covariance = spread_x / positive.sum() + spread_y / (~positive).sum()
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return float(np.sqrt(max(variance, 0)))


def _midranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values)


def _resampled(
    metric: str,
    truth: np.ndarray,
    one: Predictions,
    other: Predictions,
    target: Target,
    random: np.random.Generator,
) -> np.ndarray:
    losses = row_losses(metric, truth, one, target), row_losses(metric, truth, other, target)
    if losses[0] is not None and losses[1] is not None:
        return _bootstrap_means(metric, losses[0], losses[1], truth, random)
    if target.task != "regression" and metric not in ("roc_auc", "pr_auc"):
        return _bootstrap_counts(metric, truth, one.values, other.values, target, random)
    return _bootstrap_rows(metric, truth, one, other, target, random)


def row_losses(
    metric: str, truth: np.ndarray, said: Predictions, target: Target
) -> np.ndarray | None:
    """It returns each row's share in a metric that is a mean over rows; None for the others."""
    if target.task == "regression":
        error = said.values.astype("float64") - truth.astype("float64")
        if metric in ("rmse", "r2"):
            return error**2
        if metric == "mae":
            return np.abs(error)
        return np.abs(error / truth.astype("float64")) if metric == "mape" else None
    if metric not in ("log_loss", "brier") or said.probabilities is None:
        return None
    onehot = np.column_stack([truth == c for c in target.classes])
    if metric == "log_loss":
        clipped = np.clip(said.probabilities, 1e-15, 1)
        return -np.log((clipped / clipped.sum(axis=1, keepdims=True))[onehot])
    squares = ((onehot - said.probabilities) ** 2).sum(axis=1)
    return squares / 2 if target.task == "binary" else squares


def _bootstrap_means(
    metric: str, one: np.ndarray, other: np.ndarray, truth: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    units = min(len(one), MOST_UNITS)
    block = random.permutation(len(one)) % units
    size = np.bincount(block, minlength=units)
    sums = [np.bincount(block, weights=v, minlength=units) for v in (one, other)]
    weights = random.multinomial(units, np.full(units, 1 / units), size=RESAMPLES)
    total = weights @ size
    a, b = (weights @ s / total for s in sums)
    if metric == "rmse":
        a, b = np.sqrt(a), np.sqrt(b)
    if metric == "r2":  # 1 - mean square error / variance; the variance is the same for both
        variance = np.var(truth.astype("float64"))
        return (b - a) / variance
    return b - a  # all of these are losses: smaller is better


def _bootstrap_counts(
    metric: str,
    truth: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    target: Target,
    random: np.random.Generator,
) -> np.ndarray:
    # a champion may say a class that has left the data since: it is one more wrong answer
    classes = dict.fromkeys([*target.classes, *one, *other])
    k, index = len(classes), {c: i for i, c in enumerate(classes)}
    t, a, b = (np.array([index[v] for v in x]) for x in (truth, one, other))
    cells, counts = np.unique((t * k + a) * k + b, return_counts=True)
    cell_t, cell_a, cell_b = cells // (k * k), cells // k % k, cells % k
    drawn = random.multinomial(len(t), counts / len(t), size=RESAMPLES)
    sides = []
    for said in (cell_a, cell_b):
        matrix = np.zeros((k * k, RESAMPLES))
        np.add.at(matrix, cell_t * k + said, drawn.T)
        sides.append(_from_confusion(metric, matrix.T.reshape(RESAMPLES, k, k), target))
    sign = 1 if METRICS[metric][0] else -1
    return sign * (sides[0] - sides[1])


def _from_confusion(metric: str, matrix: np.ndarray, target: Target) -> np.ndarray:
    """It returns a label metric of many confusion matrices (resamples × truth × said)."""
    right = np.einsum("rkk->rk", matrix)
    of_truth, of_said = matrix.sum(axis=2), matrix.sum(axis=1)
    total = of_truth.sum(axis=1)
    if metric == "accuracy":
        return right.sum(axis=1) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = np.nan_to_num(right / of_truth)
        precision = np.nan_to_num(right / of_said)
        f1 = np.nan_to_num(2 * right / (of_truth + of_said))
    kind, _, average = metric.partition("_")
    if metric == "balanced_accuracy":
        kind, average = "recall", "macro"
    per_class = {"recall": recall, "precision": precision, "f1": f1}[kind]
    if average == "macro":
        seen = of_truth > 0
        return (per_class * seen).sum(axis=1) / seen.sum(axis=1)
    if average == "weighted":
        return (per_class * of_truth).sum(axis=1) / total
    return per_class[:, list(target.classes).index(target.positive)]


def _bootstrap_rows(
    metric: str,
    truth: np.ndarray,
    one: Predictions,
    other: Predictions,
    target: Target,
    random: np.random.Generator,
) -> np.ndarray:
    size = min(len(truth), MOST_ROWS_RESAMPLED)
    gains = []
    for _ in range(SLOW_RESAMPLES):
        rows = random.integers(0, len(truth), size)
        a, b = (
            score(truth[rows], _taken(p, rows), target, metric).get(metric) for p in (one, other)
        )
        if a is not None and b is not None:
            gains.append(gain(metric, a, b))
    # fewer rows than there are make the spread wider than it is: scale it back
    centre = np.mean(gains)
    return centre + (np.array(gains) - centre) * np.sqrt(size / len(truth))


def _taken(said: Predictions, rows: np.ndarray) -> Predictions:
    probabilities = None if said.probabilities is None else said.probabilities[rows]
    return Predictions(said.values[rows], probabilities)
