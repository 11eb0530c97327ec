"""Drift: whether rows are spread otherwise than those that a version was judged on.

Each column is cut into bins: ten of equal mass for numbers, one for each of the most frequent
categories, and apart from these what is missing, what nobody has seen, and what lies beyond the
range of training.  Two questions are asked of the counts, and drift is what both answer with yes:

- is it more than chance?  Pearson's chi-squared test, which knows how many rows there are, with
  Holm's correction for the number of columns (Holm 1979; that such tests of single columns serve
  well: Rabanser, Günnemann & Lipton 2019, "Failing Loudly");
- is it much?  The Jensen-Shannon distance (Lin 1991; Endres & Schindelin 2003), from 0 to 1.  With
  many rows everything is more than chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.later import later

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

BINS = 10
MOST_VALUES = 20  # numbers with so few distinct values are compared value by value
MOST_CATEGORIES = 30
FAR = 0.5  # a column so far off hardly overlaps
SKEW = 0.05  # smallest change of the share of missing or unseen values that counts
LEAST_EXPECTED = 5.0  # rows that a bin needs for the test to hold


@dataclass(frozen=True)
class Spread:
    """How the values of one column are spread where a version was judged.

    Attributes:
        name: the column.
        kind: numbers, or values compared one by one.
        edges: the ends of the bins of numbers, from the smallest to the largest.
        values: the values that have a bin of their own, as text.
        known: every value of training, as text; empty for numbers.
        counts: rows in each bin.
    """

    name: str
    kind: Literal["numbers", "values"]
    edges: tuple[float, ...]
    values: tuple[str, ...]
    known: tuple[str, ...]
    counts: tuple[int, ...]

    @property
    def bins(self) -> list[str]:
        """The names of the bins: first what is missing and what is unseen or out of range."""
        if self.kind == "values":
            return ["missing", "unseen", "others", *self.values]
        inner = [f"≤ {e:.4g}" for e in self.edges[1:-1]]
        return ["missing", "below", "above", *inner, f"≤ {self.edges[-1]:.4g}"]

    def places(self, values: pd.Series) -> np.ndarray:
        """It returns the bin that each value falls into."""
        if self.kind == "values":
            text = as_text(values)
            known = {v: i for i, v in enumerate(self.values, 3)}
            others = {v: 2 for v in self.known if v not in known}
            found = text.map({**others, **known}).fillna(1).to_numpy(dtype="int64")
            found[text.isna().to_numpy()] = 0
            return found
        numbers = as_numbers(values)
        inner = np.searchsorted(self.edges[1:-1], numbers, side="left") + 3
        inner[numbers < self.edges[0]] = 1
        inner[numbers > self.edges[-1]] = 2
        inner[~np.isfinite(numbers)] = 0
        return inner

    def counted(self, values: pd.Series) -> np.ndarray:
        """It returns how many values fall into each bin."""
        return np.bincount(self.places(values), minlength=len(self.counts))


def as_text(values: pd.Series) -> pd.Series:
    """It returns values as text, numbers as they are written shortest; None where one is missing."""
    if pd.api.types.is_bool_dtype(values.dtype):
        values = values.astype("int64")
    if pd.api.types.is_numeric_dtype(values.dtype):
        numbers = values.astype("float64")
        text = numbers.map(lambda v: f"{v:.12g}")
        return text.astype(object).where(np.isfinite(numbers), None)
    return values.map(str, na_action="ignore").astype(object).where(values.notna(), None)


def as_numbers(values: pd.Series) -> np.ndarray:
    """It returns values as floats; NaN where one is missing or no number."""
    return pd.to_numeric(values, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)


def spread_of(name: str, learned: pd.Series, judged: pd.Series) -> Spread | None:
    """It returns how a column is spread; None for dates, which move on by themselves.

    Args:
        name: the column.
        learned: its values in the rows that a version learned from: they make the bins.
        judged: its values in the rows that it was judged on: they are counted.
    """
    if pd.api.types.is_datetime64_any_dtype(learned.dtype):
        return None
    numeric = pd.api.types.is_numeric_dtype(learned.dtype) and not pd.api.types.is_bool_dtype(
        learned.dtype
    )
    if numeric and learned.nunique() > MOST_VALUES:
        numbers = as_numbers(learned)
        numbers = numbers[np.isfinite(numbers)]
        inner = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
        edges = (float(numbers.min()), *map(float, inner), float(numbers.max()))
        made = Spread(name, "numbers", edges, (), (), (0,) * (len(edges) + 2))
    else:
        counts = as_text(learned).value_counts()
        often = tuple(sorted(counts.index[:MOST_CATEGORIES]))
        known = tuple(counts.index)
        made = Spread(name, "values", (), often, known, (0,) * (len(often) + 3))
    counted = tuple(int(c) for c in made.counted(judged))
    return Spread(name, made.kind, made.edges, made.values, made.known, counted)


@dataclass(frozen=True)
class ColumnDrift:
    """What became of one column.

    Attributes:
        name: the column.
        distance: Jensen-Shannon distance between the two.
        p: how likely chance makes such a difference, corrected for the number of columns.
        drifted: it is more than chance, and much.
        missing: the share of missing values where it was judged, and now.
        unseen: the share of values that training did not know, then and now.
        skewed: one of these shares has grown, by more than chance and much.
    """

    name: str
    distance: float
    p: float
    drifted: bool
    missing: tuple[float, float]
    unseen: tuple[float, float]
    skewed: bool


@dataclass(frozen=True)
class Drift:
    """What became of all columns of a window.

    Attributes:
        columns: each of them, the farthest first.
        share: the share of the columns that drifted.
        drifted: the window has.
        rows: its rows.
    """

    columns: tuple[ColumnDrift, ...]
    share: float
    drifted: bool
    rows: int

    @property
    def sentence(self) -> str:
        """The answer in words."""
        moved = [c for c in self.columns if c.drifted]
        told = ", ".join(f"`{c.name}` ({c.distance:.2f})" for c in moved[:5])
        more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
        said = f"{len(moved)} of {len(self.columns)} columns have drifted in {self.rows:,} rows"
        return f"{said}: {told}{more}." if moved else f"{said}."

    @property
    def skew(self) -> str:
        """What is missing or unseen more often than it was, in words; empty for nothing."""
        told = []
        for column in self.columns:
            if not column.skewed:
                continue
            for what, (then, now) in (("missing", column.missing), ("unseen", column.unseen)):
                if now - then >= SKEW:
                    told.append(f"`{column.name}`: {now:.1%} {what} ({then:.1%} in training)")
        return "; ".join(told)


def compared(
    spreads: Sequence[Spread],
    rows: pd.DataFrame,
    confidence: float,
    distance: float,
    share: float = 1e-9,
) -> Drift:
    """It returns what became of the columns in a window.

    Args:
        spreads: how they were spread.
        rows: the window.
        confidence: without drift, nothing is found in so large a share of windows.
        distance: the smallest distance that counts.
        share: the share of drifted columns from which the window has drifted.
    """
    there = [s for s in spreads if s.name in rows]
    found = [(s, np.array(s.counts), s.counted(rows[s.name])) for s in there]
    by_chance = holm([chance(then, now) for _, then, now in found])
    skews = [[chance(*_beside(then, now, i), True) for i in (0, 1)] for _, then, now in found]
    of_skews = holm([p for pair in skews for p in pair])
    columns = []
    for i, (spread, then, now) in enumerate(found):
        far = jensen_shannon(then, now)
        missing, unseen = (_shares(spread, then, now, at) for at in (0, 1))
        grown = [
            p < 1 - confidence and after - before >= SKEW
            for p, (before, after) in zip(of_skews[2 * i : 2 * i + 2], (missing, unseen))
        ]
        drifted = by_chance[i] < 1 - confidence and far >= distance
        columns.append(
            ColumnDrift(spread.name, far, by_chance[i], drifted, missing, unseen, any(grown))
        )
    columns.sort(key=lambda c: (-c.distance, c.name))
    moved = sum(c.drifted for c in columns) / max(len(columns), 1)
    far_off = any(c.drifted and c.distance >= FAR for c in columns)
    return Drift(tuple(columns), moved, moved >= share or far_off, len(rows))


def _beside(then: np.ndarray, now: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """It returns the counts of one bin beside those of all others."""
    return np.array([then[at], then.sum() - then[at]]), np.array([now[at], now.sum() - now[at]])


def _shares(spread: Spread, then: np.ndarray, now: np.ndarray, at: int) -> tuple[float, float]:
    if at == 1 and spread.kind == "numbers":
        return 0.0, 0.0  # a number below the range is not unseen
    return tuple(float(c[at] / max(c.sum(), 1)) for c in (then, now))  # type: ignore[return-value]


def jensen_shannon(one: np.ndarray, other: np.ndarray) -> float:
    """It returns the Jensen-Shannon distance (base 2) between two tables of counts."""
    if not one.sum() or not other.sum():
        return 0.0
    p, q = one / one.sum(), other / other.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(d > 0, d * np.log2(d / middle), 0.0).sum() for d in (p, q)]
    return float(np.sqrt(max(sum(parts) / 2, 0.0)))


def chance(one: np.ndarray, other: np.ndarray, grown: bool = False) -> float:
    """It returns how likely two samples of one population differ so much: Pearson's test.

    Args:
        one: counts by bin of the first sample.
        other: of the second.
        grown: two bins, of which the first is asked whether it has grown.
    """
    from scipy.stats import chi2, fisher_exact

    if not one.sum() or not other.sum():
        return 1.0
    table = np.array([one, other], dtype="float64")
    if grown:
        return float(fisher_exact(table[::-1], alternative="greater").pvalue)
    table = table[:, table.sum(axis=0) > 0]
    expected = _expected(table)
    few = expected.min(axis=0) < LEAST_EXPECTED
    if few.sum() > 1:  # bins too small for the test become one
        table = np.column_stack([table[:, ~few], table[:, few].sum(axis=1)])
        expected = _expected(table)
    if table.shape[1] < 2:
        return 1.0
    if table.shape[1] == 2 and expected.min() < LEAST_EXPECTED:
        return float(fisher_exact(table).pvalue)
    statistic = ((table - expected) ** 2 / expected).sum()
    return float(chi2.sf(statistic, table.shape[1] - 1))


def _expected(table: np.ndarray) -> np.ndarray:
    return np.asarray(np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum())


def holm(chances: Sequence[float]) -> list[float]:
    """It returns probabilities corrected for their number (Holm 1979)."""
    order = np.argsort(chances)
    corrected, largest = np.zeros(len(chances)), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, chances[at] * (len(chances) - rank)))
        corrected[at] = largest
    return [float(p) for p in corrected]


def spreads_of(
    learned: pd.DataFrame, judged: pd.DataFrame, names: Sequence[str]
) -> tuple[Spread, ...]:
    """It returns how all columns but dates are spread."""
    made = [spread_of(n, learned[n], judged[n]) for n in names if n in learned and n in judged]
    return tuple(s for s in made if s is not None)


def encoded(spreads: Sequence[Spread], rows: pd.DataFrame) -> np.ndarray:
    """It returns rows as numbers: values compared one by one as the number of their bin."""
    columns = [
        as_numbers(rows[s.name])
        if s.kind == "numbers"
        else s.places(rows[s.name]).astype("float64")
        for s in spreads
    ]
    return np.column_stack(columns) if columns else np.empty((len(rows), 0))


def answers(said: Predictions, target: Target) -> pd.DataFrame:
    """It returns predictions as columns whose spread tells: what is said, and how surely."""
    frame = pd.DataFrame({"prediction": said.values})
    if said.probabilities is None:
        return frame
    if target.task == "binary":
        at = list(target.classes).index(target.positive)
        return frame.assign(probability=said.probabilities[:, at])
    return frame.assign(confidence=said.probabilities.max(axis=1))


def as_record(spreads: Sequence[Spread]) -> list[dict[str, Any]]:
    """It returns spreads as JSON takes them."""
    return [dict(vars(s)) for s in spreads]


def from_record(record: Sequence[Mapping[str, Any]]) -> tuple[Spread, ...]:
    """It returns the spreads that `as_record` made a record of."""
    listed = ("edges", "values", "known", "counts")
    return tuple(Spread(**{**r, **{k: tuple(r[k]) for k in listed}}) for r in record)
