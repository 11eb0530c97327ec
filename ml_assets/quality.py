"""Quality: whether a version does worse on live rows than where it was judged, beyond noise.

Two ways to know it:

- *realised*, where labels have come: the metric on live rows against the metric on test rows;
- *estimated*, before they come.  Classes: the probabilities are calibrated on the test rows
  (isotonic regression), labels are drawn from them, and the metric is computed as if they were true
  (confidence-based performance estimation: Garg et al. 2022 and Guillory et al. 2021 estimate
  accuracy from confidence; Białek et al. 2023 and NannyML any metric, from calibrated ones).
  Amounts: a model of the loss of each row is fitted on the test rows (direct loss estimation,
  NannyML).  Neither sees that the same features have come to mean another target.

The rows of both sides differ, so both bring noise of their own: the standard errors of both go
into the interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import Predictions
from ml_assets.comparison import row_losses
from ml_assets.dataset import Target
from ml_assets.evaluation import score
from ml_assets.later import later
from ml_assets.metric import gain

if TYPE_CHECKING:
    import numpy as np
else:
    np = later("numpy")

RESAMPLES = 100
MOST_ROWS = 2000  # that are resampled; the error is scaled to all rows
FOLDS = 5
LEAST_FOR_LOSS = 200  # rows that a model of the loss needs
# metrics of amounts that follow from the mean of a loss
_OF_LOSS = ("rmse", "mae")


@dataclass(frozen=True)
class Judged:
    """Rows whose truth is known, with what a version said of them.

    Attributes:
        truth: the classes or amounts.
        said: the predictions.
    """

    truth: np.ndarray
    said: Predictions

    def __len__(self) -> int:
        return len(self.truth)

    def taken(self, rows: np.ndarray) -> Judged:
        """It returns some of the rows."""
        return Judged(self.truth[rows], _taken(self.said, rows))


def _taken(said: Predictions, rows: np.ndarray) -> Predictions:
    shares = None if said.probabilities is None else said.probabilities[rows]
    return Predictions(said.values[rows], shares)


@dataclass(frozen=True)
class Measured:
    """A metric with its noise.

    Attributes:
        metric: its name.
        value: the value; None where it is not defined.
        error: its standard error.
        rows: on how many rows.
    """

    metric: str
    value: float | None
    error: float
    rows: int


@dataclass(frozen=True)
class Decline:
    """The answer to "is it worse than it was?".

    Attributes:
        metric: what was measured.
        then: its value where the version was judged.
        now: its value now.
        loss: by how much it is worse (negative: better).
        low: lower end of the interval in which the loss lies at the confidence.
        high: its upper end.
        allowed: the smallest loss that counts.
        worse: the interval lies above 0, and the loss above what is allowed.
        rows: on how many live rows.
    """

    metric: str
    then: float
    now: float
    loss: float
    low: float
    high: float
    allowed: float
    worse: bool
    rows: int

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return (
            f"{self.metric} {self.now:.4g} on {self.rows:,} live rows, {self.then:.4g} on test: a "
            f"loss of {self.loss:+.3g} (between {self.low:+.3g} and {self.high:+.3g}; more than "
            f"{self.allowed:.3g} counts)."
        )


def measured(metric: str, rows: Judged, target: Target, seed: int = 0) -> Measured:
    """It returns a metric on some rows, with its standard error.

    The error of a mean is known; that of anything else is found by resampling rows.
    """
    value = score(rows.truth, rows.said, target, metric).get(metric) if len(rows) else None
    if value is None:
        return Measured(metric, None, 0.0, len(rows))
    losses = row_losses(metric, rows.truth, rows.said, target)
    if metric == "accuracy":
        losses = (rows.truth != rows.said.values).astype("float64")
    if losses is not None and metric != "r2":
        error = float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
        if metric == "rmse":
            error = error / (2 * value) if value else 0.0
        return Measured(metric, value, error, len(rows))
    random, size = np.random.default_rng(seed), min(len(rows), MOST_ROWS)
    drawn = [
        score(
            (some := rows.taken(random.integers(0, len(rows), size))).truth,
            some.said,
            target,
            metric,
        ).get(metric)
        for _ in range(RESAMPLES)
    ]
    known = [v for v in drawn if v is not None]
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
    return Measured(metric, value, spread * float(np.sqrt(size / len(rows))), len(rows))


def usual_gain(metric: str, rows: Judged, target: Target) -> float:
    """It returns by how much a version is better than an answer that ignores the features."""
    said, count = rows.said, len(rows)
    if target.task == "regression":
        amounts = rows.truth.astype("float64")
        plain = Predictions(
            np.full(count, np.median(amounts) if metric == "mae" else amounts.mean())
        )
    else:
        shares = np.array([(rows.truth == c).mean() for c in target.classes])
        most = np.empty(count, dtype=np.asarray(target.classes).dtype)
        most[:] = target.classes[int(shares.argmax())]
        given = None if said.probabilities is None else np.tile(shares, (count, 1))
        plain = Predictions(most, given)
    one, other = (score(rows.truth, p, target, metric).get(metric) for p in (said, plain))
    if one is None or other is None:
        return 0.0
    return max(gain(metric, one, other), 0.0)


def declined(then: Measured, now: Measured, confidence: float, allowed: float) -> Decline | None:
    """It returns whether a metric is worse now than it was; None where it is not defined.

    Args:
        then: where the version was judged.
        now: on live rows.
        confidence: without any change, it is called worse in less than half of the rest.
        allowed: the smallest loss that counts, in the metric's unit.
    """
    if then.value is None or now.value is None:
        return None
    loss = gain(now.metric, then.value, now.value)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * float(np.hypot(then.error, now.error))
    worse = loss - reach > 0 and loss > allowed
    return Decline(
        now.metric,
        then.value,
        now.value,
        loss,
        loss - reach,
        loss + reach,
        allowed,
        worse,
        now.rows,
    )


# ------------------------------------------------------------------------- before labels have come


@dataclass(frozen=True)
class Expectation:
    """What a metric would be, as far as predictions and features tell.

    Attributes:
        then: on the rows that the version was judged on; estimated as it is now, so that what the
            estimate gets wrong on both sides cancels.
        now: takes predictions of live rows, and their features as numbers where they are known.
    """

    then: Measured
    now: Callable[[Predictions, np.ndarray | None], Measured]


def expectation(
    metric: str, judged: Judged, known: np.ndarray | None, target: Target, seed: int = 0
) -> Expectation | None:
    """It returns what estimates a metric without labels; None where nothing can.

    Args:
        metric: what to estimate; of amounts rmse and mae are, and rmse for the others.
        judged: the rows that the version was judged on.
        known: their features as numbers; None if they are not known.
        target: task and classes.
        seed: of all drawing.
    """
    if target.task == "regression":
        return _of_amounts(metric, judged, known, seed)
    if judged.said.probabilities is None:
        return None
    lines = _calibration(judged, target)

    def now(said: Predictions, _: np.ndarray | None) -> Measured:
        return _drawn(metric, said, _calibrated(lines, said), target, seed + 1)

    then = _drawn(metric, judged.said, _calibrated(lines, judged.said), target, seed)
    return Expectation(then, now)


def _calibration(judged: Judged, target: Target) -> list[Any]:
    """It returns for each class what makes its probability a frequency of the judged rows."""
    from sklearn.isotonic import IsotonicRegression

    given = judged.said.probabilities
    assert given is not None
    lines = []
    for i, name in enumerate(target.classes):
        line = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
        lines.append(line.fit(given[:, i], (judged.truth == name).astype("float64")))
    return lines


def _calibrated(lines: list[Any], said: Predictions) -> np.ndarray:
    assert said.probabilities is not None
    shares = [line.predict(said.probabilities[:, i]) for i, line in enumerate(lines)]
    together = np.column_stack(shares) + 1e-9
    return np.asarray(together / together.sum(axis=1, keepdims=True))


def _drawn(
    metric: str, said: Predictions, shares: np.ndarray, target: Target, seed: int
) -> Measured:
    """It returns a metric, with labels drawn from probabilities; its noise is that of labels too."""
    random, count = np.random.default_rng(seed), len(said.values)
    size, classes = min(count, MOST_ROWS), np.asarray(target.classes)
    values = []
    for _ in range(RESAMPLES):
        rows = random.integers(0, count, size)
        reach = shares[rows].cumsum(axis=1)
        at = (random.random((size, 1)) * reach[:, -1:] > reach[:, :-1]).sum(axis=1)
        value = score(classes[at], _taken(said, rows), target, metric).get(metric)
        if value is not None:
            values.append(value)
    if len(values) < 2:
        return Measured(metric, None, 0.0, count)
    error = float(np.std(values, ddof=1)) * float(np.sqrt(size / count))
    return Measured(metric, float(np.mean(values)), error, count)


def _of_amounts(
    metric: str, judged: Judged, known: np.ndarray | None, seed: int
) -> Expectation | None:
    from sklearn.model_selection import KFold

    if len(judged) < LEAST_FOR_LOSS:
        return None
    name = metric if metric in _OF_LOSS else "rmse"
    off = judged.said.values.astype("float64") - judged.truth.astype("float64")
    loss = off**2 if name == "rmse" else np.abs(off)
    rows = _beside(judged.said, known)
    expected = np.empty(len(loss))
    for some, others in KFold(FOLDS, shuffle=True, random_state=seed).split(rows):
        expected[others] = _fitted(rows[some], loss[some], seed).predict(rows[others])
    whole = _fitted(rows, loss, seed)
    bare = whole if known is None else _fitted(_beside(judged.said, None), loss, seed)

    def now(said: Predictions, features: np.ndarray | None) -> Measured:
        model = bare if features is None else whole
        return _of_losses(name, model.predict(_beside(said, features)))

    return Expectation(_of_losses(name, expected), now)


def _beside(said: Predictions, features: np.ndarray | None) -> np.ndarray:
    values = said.values.astype("float64").reshape(-1, 1)
    return values if features is None else np.hstack([values, features])


def _fitted(rows: np.ndarray, loss: np.ndarray, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=60, max_leaf_nodes=15, min_samples_leaf=20, random_state=seed
    )
    return model.fit(rows, loss)


def _of_losses(name: str, losses: np.ndarray) -> Measured:
    mean = max(float(losses.mean()), 0.0)
    error = float(losses.std(ddof=1) / np.sqrt(len(losses))) if len(losses) > 1 else 0.0
    if name == "rmse":
        value = float(np.sqrt(mean))
        return Measured(name, value, error / (2 * value) if value else 0.0, len(losses))
    return Measured(name, mean, error, len(losses))
