"""A split: which rows a candidate may learn from, which choose it, and which judge it.

The part of a row follows from what the row says (its key, its group, its time, or its own
content), never from its position or from how many rows came later.  Equal rows land in one part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_assets.dataset import column_type, hash_rows, mixed, new_columns
from ml_assets.errors import DatasetError, did_you_mean
from ml_assets.later import later
from ml_assets.problem import DatasetDeclaration, GroupBy, SplitDeclaration, TimeBy

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

# Part of every split's key: change it when the same rows would be split in another way.
HASHING = "3"
PARTS = ("train", "validation", "test")
LEFT_OUT = -1
SALTS = 200  # ways to hash that are tried, where rows are few
FEW_ROWS = 2000


@dataclass(frozen=True)
class Part:
    """What one part of a split holds.

    Attributes:
        rows: number of rows.
        counts: rows of each class, in the order of the target's classes; empty for regression.
        first: the earliest time, for a split by time.
        last: the latest time.
    """

    rows: int
    counts: tuple[int, ...] = ()
    first: Any = None
    last: Any = None


@dataclass(frozen=True)
class Cuts:
    """Where a split by time cuts.

    Attributes:
        validation_from: rows from here on choose: a number, or a date as ISO 8601.
        test_from: rows from here on judge.
    """

    validation_from: Any
    test_from: Any


def identify_by(declared: SplitDeclaration, dataset: DatasetDeclaration) -> tuple[str, str | None]:
    """It returns how rows are told apart (key, group, time or row), and by which column."""
    if isinstance(declared.by, GroupBy):
        return "group", declared.by.group
    if isinstance(declared.by, TimeBy):
        return "time", declared.by.time
    if declared.by == "key" or (declared.by is None and dataset.key is not None):
        return "key", dataset.key
    return "row", None


def identity(
    frame: pd.DataFrame, declared: SplitDeclaration, dataset: DatasetDeclaration
) -> np.ndarray:
    """It returns one uint64 per row; rows that must stay together have the same one.

    By row, the target is left out, so that a corrected label does not move its row and equal
    features with two labels do not face each other across the split; and columns that the contract
    ignores, since they come and go.

    Raises:
        DatasetError: the column to split by is absent, or has missing values.
    """
    how, column = identify_by(declared, dataset)
    if column is None:
        names = [str(c) for c in frame.columns]
        apart = {dataset.target, dataset.number_rows, *new_columns(names, dataset)}
        return hash_rows(frame, [c for c in frame.columns if c not in apart])
    values = _complete(frame, column, how)
    return hash_rows(values.to_frame(how))


def _complete(frame: pd.DataFrame, column: str, how: str) -> pd.Series:
    if column not in frame.columns:
        hint = did_you_mean(column, map(str, frame.columns))
        raise DatasetError(f"No column `{column}` to split by ({how}).{hint}")
    missing = int(frame[column].isna().sum())
    if missing:
        raise DatasetError(
            f"`{column}` identifies rows for the split ({how}), but is missing in {missing} rows. "
            "Fill it in, or split by another column."
        )
    return frame[column]


def assign(
    frame: pd.DataFrame,
    declared: SplitDeclaration,
    dataset: DatasetDeclaration,
    cuts: Cuts | None = None,
) -> np.ndarray:
    """It returns the part of each row: 0 train, 1 validation, 2 test, -1 left out.

    Args:
        frame: the rows.
        declared: how they are split.
        dataset: what their columns are for.
        cuts: where a split by time cuts; found from these rows where absent.

    Raises:
        DatasetError: the column to split by is absent, or has missing values.
    """
    if isinstance(declared.by, TimeBy):
        return _by_time(frame, declared.by, cuts or find_cuts(frame, declared))
    hashed = identity(frame, declared, dataset)
    if declared.salt:
        hashed = mixed(hashed ^ mixed(np.array([declared.salt], dtype=np.uint64)))
    share = hashed / np.float64(2**64)
    bounds = np.array([declared.train, declared.train + declared.validation])
    return np.searchsorted(bounds, share, side="right").astype("int8")


def find_cuts(frame: pd.DataFrame, declared: SplitDeclaration) -> Cuts:
    """It returns the declared cuts of a split by time, or those that give the declared shares.

    Raises:
        DatasetError: the column is no time, or has too few distinct values.
    """
    by = declared.by
    assert isinstance(by, TimeBy)
    if by.validation_from is not None:
        return Cuts(by.validation_from, by.test_from)
    times = np.sort(_times(frame, by.time).to_numpy())
    at = [
        int(declared.train * len(times)),
        int((declared.train + declared.validation) * len(times)),
    ]
    early, late = (times[min(i, len(times) - 1)] for i in at)
    if not times[0] < early < late:
        raise DatasetError(
            f"`{by.time}` has too few distinct values to cut {len(times):,} rows into three parts. "
            "Declare `validation_from` and `test_from`, or split by something else."
        )
    return Cuts(_written(early), _written(late))


def roll(found: Cuts, before: Iterable[Cuts]) -> Cuts:
    """It returns the later one of each cut, of those found now and all that were used before.

    Cuts that only go forward let a row go from test to validation to train, and never back: what a
    champion learned from stays in train, and cannot judge it.

    Args:
        found: from the rows of today.
        before: those that any champion may have been made with, in any order.
    """
    known = [found, *before]
    numbers = isinstance(found.test_from, (int, float))
    order = float if numbers else pd.Timestamp
    return Cuts(
        max((c.validation_from for c in known), key=order),
        max((c.test_from for c in known), key=order),
    )


def _written(time: Any) -> Any:
    if isinstance(time, np.datetime64):
        return pd.Timestamp(time).isoformat()
    return time.item()


def _times(frame: pd.DataFrame, column: str) -> pd.Series:
    times = _complete(frame, column, "time")
    kind = column_type(times)
    if kind == "text":
        raise DatasetError(
            f"`{column}` holds text like {times.iloc[0]!r}, not times. Say how it is written: "
            f"contract.columns.{column}: {{type: date, format: ...}}, in the words of strftime."
        )
    return times.astype("float64") if kind == "boolean" else times


def _by_time(frame: pd.DataFrame, by: TimeBy, cuts: Cuts) -> np.ndarray:
    times = _times(frame, by.time)
    dated = column_type(times) == "date"
    try:
        points = [
            pd.Timestamp(c) if dated else float(c) for c in (cuts.validation_from, cuts.test_from)
        ]
        gap = _gap(by, dated)
    except (ValueError, TypeError) as error:
        kind = "dates" if dated else "numbers"
        raise DatasetError(f"split.by: `{by.time}` holds {kind}; {error}.") from None
    if not points[0] < points[1]:
        raise DatasetError(
            f"split.by: validation_from {points[0]} is not before test_from {points[1]}."
        )
    part = np.zeros(len(times), dtype="int8")
    for number, point in enumerate(points, 1):
        part[(times >= point).to_numpy()] = number
        if gap:
            part[((times >= point - gap) & (times < point)).to_numpy()] = LEFT_OUT
    return part


def _gap(by: TimeBy, dated: bool) -> Any:
    return pd.Timedelta(by.gap or 0) if dated else float(by.gap or 0)


def known_before(times: pd.Series, point: Any, by: TimeBy) -> np.ndarray:
    """It says of each row whether it may be learned from to predict what comes at a point of time.

    Rows of the gap before the point may not: their outcome is not known there.
    """
    gap = _gap(by, column_type(times) == "date")
    return (times < (point - gap if gap else point)).to_numpy()


def divide(
    frame: pd.DataFrame,
    declared: SplitDeclaration,
    dataset: DatasetDeclaration,
    cuts: Cuts | None = None,
) -> dict[str, pd.DataFrame]:
    """It returns the rows of train, validation and test, each in the dataset's order.

    By time, each part is in the order of time.

    Raises:
        DatasetError: the column to split by is absent, or has missing values.
    """
    part = assign(frame, declared, dataset, cuts)
    parts = {name: frame[part == i] for i, name in enumerate(PARTS)}
    for rows in parts.values():  # a copy already; `reset_index` would make another
        rows.index = pd.RangeIndex(len(rows))
    if isinstance(declared.by, TimeBy):
        column = declared.by.time
        return {
            name: rows.sort_values(column, kind="stable", ignore_index=True)
            for name, rows in parts.items()
        }
    return parts


def shared_rows(
    parts: dict[str, pd.DataFrame], declared: SplitDeclaration, dataset: DatasetDeclaration
) -> int:
    """It returns how many identities stand in more than one part (0 in a sound split)."""
    seen = [np.unique(identity(rows, declared, dataset)) for rows in parts.values()]
    together = np.concatenate(seen)
    return len(together) - len(np.unique(together))


def describe(
    rows: pd.DataFrame, target: str, classes: tuple[object, ...], time: str | None = None
) -> Part:
    """It returns what a part holds.

    Args:
        rows: its rows.
        target: the target's column.
        classes: the target's classes; empty for regression.
        time: the column by which it was cut, if it was.
    """
    counts = rows[target].value_counts()
    spread = tuple(int(counts.get(c, 0)) for c in classes)
    if time is None or not len(rows):
        return Part(len(rows), spread)
    times = _times(rows, time).to_numpy()
    return Part(len(rows), spread, _written(times.min()), _written(times.max()))


def best_salt(frame: pd.DataFrame, declared: SplitDeclaration, dataset: DatasetDeclaration) -> int:
    """It returns the salt whose parts have the classes in the most equal shares.

    Membership still follows from a row's content alone, so it is as stable as without.
    """
    shares = (declared.train, declared.validation, declared.test)
    codes, classes = pd.factorize(frame[dataset.target])
    known = codes >= 0
    expected = np.outer(shares, np.bincount(codes[known], minlength=len(classes)))
    hashed = identity(frame, declared, dataset)[known]
    bounds = np.array([declared.train, declared.train + declared.validation])

    def misfit(salt: int) -> float:
        salted = mixed(hashed ^ mixed(np.array([salt], dtype=np.uint64))) if salt else hashed
        part = np.searchsorted(bounds, salted / np.float64(2**64), side="right")
        found = np.zeros_like(expected)
        np.add.at(found, (part, codes[known]), 1)
        return float((np.abs(found - expected) / np.sqrt(expected)).max())

    return min(range(SALTS), key=misfit)
