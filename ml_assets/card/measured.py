"""What a card shows, computed: calibration, thresholds, losses, slices, importance.

Every cost is bounded by rows and columns, and every sample is drawn by a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import Predictions
from ml_assets.card import Importance
from ml_assets.dataset import Target
from ml_assets.evaluation import score
from ml_assets.later import later
from ml_assets.metric import gain

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

BINS = 10
MOST_COLUMNS = 30  # that are shuffled
MOST_ROWS_SHUFFLED = 2000
MOST_PREDICTED = 10_000  # rows, over all columns and repeats: what importance may cost
MOST_REPEATS = 2
MOST_ROWS_SLICED = 20_000
MOST_SLICED = 6  # columns
MOST_VALUES = 10  # of a column that is sliced by its values; others by quarters
FEWEST_ROWS = 10  # of a slice


@dataclass(frozen=True)
class Coded:
    """Truth and predictions with classes as numbers 0, 1, 2…: a tenth of the time of texts.

    Attributes:
        truth: numbers of classes, or amounts.
        said: predictions of the same kind.
        target: the target in these numbers.
    """

    truth: np.ndarray
    said: Predictions
    target: Target

    def at(self, rows: np.ndarray) -> Coded:
        """It returns some of the rows."""
        shares = self.said.probabilities
        said = Predictions(self.said.values[rows], None if shares is None else shares[rows])
        return replace(self, truth=self.truth[rows], said=said)

    def value(self, metric: str) -> float | None:
        """It returns a metric; None where it is not defined."""
        return score(self.truth, self.said, self.target, metric).get(metric)


def coded(truth: np.ndarray, said: Predictions, target: Target) -> Coded:
    """It returns truth and predictions by the number of their class."""
    if target.task == "regression":
        amounts = Predictions(said.values.astype("float64"))
        return Coded(truth.astype("float64"), amounts, target)
    classes = pd.Index(list(target.classes), dtype=object)
    one, other = (classes.get_indexer(pd.Index(v, dtype=object)) for v in (truth, said.values))
    positive = None if target.positive is None else list(target.classes).index(target.positive)
    numbers = tuple(range(len(classes)))
    return Coded(
        one,
        replace(said, values=other),
        replace(target, classes=numbers, positive=positive),
    )


def sampled(rows: int, most: int, seed: int = 0) -> np.ndarray:
    """It returns the places of at most so many rows, in order: the same ones each time."""
    if rows <= most:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


# ------------------------------------------------------------------------ classes


def calibration(seen: Coded) -> tuple[list[tuple[float, float, int]], float] | None:
    """It returns what was said and what came, bin by bin, and the expected calibration error.

    Of the positive class; of the predicted one, where there are more than two.  None without
    probabilities.
    """
    shares = seen.said.probabilities
    if shares is None or not len(shares):
        return None
    if seen.target.task == "binary":
        share = shares[:, seen.target.positive]
        right = seen.truth == seen.target.positive
    else:
        share, right = shares.max(axis=1), shares.argmax(axis=1) == seen.truth
    bins = np.minimum((share * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    there = counts > 0
    meant = np.bincount(bins, share, BINS)[there] / counts[there]
    came = np.bincount(bins, right, BINS)[there] / counts[there]
    error = float((np.abs(meant - came) * counts[there]).sum() / len(share))
    found = list(zip(meant.tolist(), came.tolist(), counts[there].tolist(), strict=True))
    return found, error


def deciles(truth: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """It returns the mean of what was predicted and of what came, by tenths of the predictions."""
    order = np.argsort(values, kind="stable")
    tenths = [t for t in np.array_split(order, BINS) if len(t)]
    return (
        np.array([values[t].mean() for t in tenths]),
        np.array([truth[t].mean() for t in tenths]),
    )


@dataclass(frozen=True)
class Thresholds:
    """Precision, recall and F1 of the positive class, by the probability that is enough for it."""

    at: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


def thresholds(positive: np.ndarray, share: np.ndarray) -> Thresholds:
    """It returns what each threshold would give; precision is NaN where none would be positive."""
    at = np.linspace(0.01, 0.99, 99)
    order = np.argsort(share, kind="stable")
    first = np.searchsorted(share[order], at, side="left")
    hits = np.append(np.cumsum(positive[order][::-1])[::-1], 0)[first]
    taken_as = len(share) - first
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = hits / taken_as
        recall = hits / positive.sum()
        f1 = 2 * hits / (taken_as + positive.sum())
    return Thresholds(at, precision, recall, f1)


# --------------------------------------------------------------------------- rows


def losses(seen: Coded) -> np.ndarray:
    """It returns how wrong each prediction is.

    The distance of amounts; -log of the true class's probability; 1 for a wrong class without one.
    A prediction that is missing is the worst.
    """
    if seen.target.task == "regression":
        lost = np.abs(seen.truth - seen.said.values)
    elif seen.said.probabilities is None:
        lost = (seen.truth != seen.said.values).astype("float64")
    else:
        given = seen.said.probabilities[np.arange(len(seen.truth)), seen.truth]
        lost = -np.log(np.clip(given, 1e-15, 1))
    return np.where(np.isfinite(lost), lost, np.inf)


def worst(seen: Coded, most: int) -> np.ndarray:
    """It returns the places of the rows that are most wrong; right ones are none of them."""
    lost = losses(seen)
    order = np.argsort(-lost, kind="stable")[:most]
    return order[lost[order] > 0]


@dataclass(frozen=True)
class Slice:
    """One value of a column, or a quarter of its range, and a metric there.

    Attributes:
        column: the column.
        value: the value, in words.
        rows: how many have it.
        reached: the metric there.
        worse: by how much it is worse than overall.
    """

    column: str
    value: str
    rows: int
    reached: float
    worse: float


def slices(
    seen: Coded, rows: pd.DataFrame, columns: Sequence[str], metric: str
) -> tuple[list[Slice], int]:
    """It returns a metric by the values of some columns, worst first, and how many lack it.

    A slice has at least ten rows.  Where a metric is not defined (a slice of one class), it is
    counted, not shown as 0.
    """
    at = sampled(len(rows), MOST_ROWS_SLICED)
    rows, seen = rows.iloc[at], seen.at(at)
    overall = seen.value(metric)
    found: list[Slice] = []
    undefined = 0
    if overall is None:
        return [], 0
    for column in _sliceable(rows, columns):
        for value, places in _groups(rows[column]):
            reached = seen.at(places).value(metric)
            if reached is None:
                undefined += 1
            else:
                worse = gain(metric, overall, reached)
                found.append(Slice(column, value, len(places), reached, worse))
    return sorted(found, key=lambda s: (-s.worse, s.column, s.value)), undefined


def _sliceable(rows: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    kept = []
    for column in columns:
        numbers = _is_amount(rows[column])
        if numbers or 2 <= rows[column].nunique(dropna=False) <= MOST_VALUES:
            kept.append(column)
        if len(kept) == MOST_SLICED:
            break
    return kept


def _is_amount(values: pd.Series) -> bool:
    return (
        pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    ) or pd.api.types.is_datetime64_any_dtype(values)


def _groups(values: pd.Series) -> list[tuple[str, np.ndarray]]:
    """It returns the places of the rows with each value; of amounts with many, by quarters."""
    missing = values.isna().to_numpy()
    if _is_amount(values) and values.nunique() > MOST_VALUES:
        cut = pd.qcut(values, 4, duplicates="drop")
        codes, names = cut.cat.codes.to_numpy(), [_ends(i) for i in cut.cat.categories]
    else:
        codes, kinds = pd.factorize(values, sort=False)
        names = [str(k) for k in kinds]
    groups = [(n, np.flatnonzero(codes == i)) for i, n in enumerate(names)]
    groups.append(("(missing)", np.flatnonzero(missing)))
    return [(n, places) for n, places in groups if len(places) >= FEWEST_ROWS]


def _ends(interval: Any) -> str:
    if isinstance(interval.left, pd.Timestamp):
        return f"{interval.left:%Y-%m-%d} to {interval.right:%Y-%m-%d}"
    return f"{interval.left:.4g} to {interval.right:.4g}"


# --------------------------------------------------------------------- importance


def importance(
    predicted: Callable[[pd.DataFrame], Predictions],
    rows: pd.DataFrame,
    truth: np.ndarray,
    features: Sequence[str],
    target: Target,
    metric: str,
    seed: int,
) -> Importance | None:
    """It returns by how much a metric worsens when a column is shuffled (Breiman 2001).

    All shuffled copies are predicted in one call, of a bounded number of rows.

    Args:
        predicted: what the candidate says of rows.
        rows: rows that hold the features.
        truth: what was to be predicted.
        features: the columns.
        target: task and classes.
        metric: the metric.
        seed: decides which rows are taken, and how they are shuffled.

    Returns:
        None where the metric is not defined for the sample.
    """
    asked = list(features)[:MOST_COLUMNS]
    most = min(MOST_ROWS_SHUFFLED, max(MOST_PREDICTED // (len(asked) + 1), 50))
    at = sampled(len(rows), most, seed)
    few, known = rows.iloc[at][list(features)].reset_index(drop=True), truth[at]
    repeats = min(MOST_REPEATS, max(1, MOST_PREDICTED // (len(at) * len(asked) + 1)))
    random = np.random.default_rng(seed)
    copies = [few]
    for column in asked:
        for _ in range(repeats):
            order = random.permutation(len(few))
            copies.append(few.assign(**{column: few[column].iloc[order].set_axis(few.index)}))
    said = predicted(pd.concat(copies, ignore_index=True))
    seen = coded(np.tile(known, len(copies)), said, target)
    places = np.arange(len(seen.truth)).reshape(len(copies), len(few))
    values = [seen.at(part).value(metric) for part in places]
    whole = values[0]
    if whole is None:
        return None
    lost = {}
    for i, column in enumerate(asked):
        own = [v for v in values[1 + i * repeats : 1 + (i + 1) * repeats] if v is not None]
        if own:
            lost[column] = float(np.mean([gain(metric, whole, v) for v in own]))
    ordered = dict(sorted(lost.items(), key=lambda item: (-item[1], item[0])))
    return Importance(metric, ordered, len(few), repeats, len(features) - len(asked))
