"""A split: which rows a candidate may learn from, which choose it, and which judge it.

The part of a row follows from what the row says (its key, its group, or its own content), never
from its position or from how many rows came later.  Equal rows land in one part.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml_assets.errors import DatasetError, did_you_mean
from ml_assets.problem import DatasetDeclaration, GroupBy, SplitDeclaration

# Part of every split's key: change it when the same rows would be split in another way.
HASHING = "2"
# A missing value is the same in every type: an empty column does not know its type yet.
_MISSING = np.uint64(0x9E3779B97F4A7C15)
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Part:
    """What one part of a split holds.

    Attributes:
        rows: number of rows.
        counts: rows of each class, in the order of the target's classes; empty for regression.
    """

    rows: int
    counts: tuple[int, ...] = ()


def identify_by(declared: SplitDeclaration, dataset: DatasetDeclaration) -> tuple[str, str | None]:
    """It returns how rows are told apart (`key`, `group` or `row`), and by which column."""
    if isinstance(declared.by, GroupBy):
        return "group", declared.by.group
    if declared.by == "key" or (declared.by is None and dataset.key is not None):
        return "key", dataset.key
    return "row", None


def identity(
    frame: pd.DataFrame, declared: SplitDeclaration, dataset: DatasetDeclaration
) -> np.ndarray:
    """It returns one uint64 per row; rows that must stay together have the same one.

    By row, the target is left out, so that a corrected label does not move its row and equal
    features with two labels do not face each other across the split.

    Raises:
        DatasetError: the column to split by is absent, or has missing values.
    """
    how, column = identify_by(declared, dataset)
    if column is None:
        return hash_rows(frame.drop(columns=[dataset.target], errors="ignore"))
    if column not in frame.columns:
        hint = did_you_mean(column, map(str, frame.columns))
        raise DatasetError(f"No column `{column}` to split by ({how}).{hint}")
    missing = int(frame[column].isna().sum())
    if missing:
        raise DatasetError(
            f"`{column}` identifies rows for the split ({how}), but is missing in {missing} rows. "
            "Fill it in, or split by another column."
        )
    return hash_rows(frame[[column]].rename(columns={column: how}))


def hash_rows(frame: pd.DataFrame) -> np.ndarray:
    """It returns a uint64 per row that depends on names and values, not on order or dtype.

    An integer equals the same number as a float, and a missing value any other: a column that
    later gains a missing value, or its first value, does not move its old rows.  Columns may
    come in any order.
    """
    total = np.zeros(len(frame), dtype=np.uint64)
    for name in frame.columns:
        values = frame[name]
        if pd.api.types.is_datetime64_any_dtype(values.dtype):
            hashed = pd.util.hash_array(values.astype("datetime64[ns]").astype("int64").to_numpy())
        elif pd.api.types.is_numeric_dtype(values.dtype):
            numbers = values.to_numpy(dtype="float64", copy=True)
            numbers[numbers == 0] = 0.0  # -0.0 equals 0.0
            hashed = pd.util.hash_array(numbers)
        else:
            text = values.astype(object).where(values.notna(), None).to_numpy()
            hashed = pd.util.hash_array(text, categorize=True)
        hashed[values.isna().to_numpy()] = _MISSING
        with np.errstate(over="ignore"):
            total += _mixed(hashed ^ _name_hash(str(name)))
    return _mixed(total)


def _name_hash(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def _mixed(values: np.ndarray) -> np.ndarray:
    """It scatters the bits of uint64 values (the finalizer of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def assign(
    frame: pd.DataFrame, declared: SplitDeclaration, dataset: DatasetDeclaration
) -> np.ndarray:
    """It returns the part of each row: 0 train, 1 validation, 2 test.

    Raises:
        DatasetError: the column to split by is absent, or has missing values.
    """
    share = identity(frame, declared, dataset) / np.float64(2**64)
    bounds = np.array([declared.train, declared.train + declared.validation])
    return np.searchsorted(bounds, share, side="right").astype("int8")


def divide(
    frame: pd.DataFrame, declared: SplitDeclaration, dataset: DatasetDeclaration
) -> dict[str, pd.DataFrame]:
    """It returns the rows of train, validation and test, each in the dataset's order.

    Raises:
        DatasetError: the column to split by is absent, or has missing values.
    """
    part = assign(frame, declared, dataset)
    return {name: frame[part == i].reset_index(drop=True) for i, name in enumerate(PARTS)}


def shared_rows(
    parts: dict[str, pd.DataFrame], declared: SplitDeclaration, dataset: DatasetDeclaration
) -> int:
    """It returns how many identities stand in more than one part (0 in a sound split)."""
    seen = [np.unique(identity(rows, declared, dataset)) for rows in parts.values()]
    together = np.concatenate(seen)
    return len(together) - len(np.unique(together))


def describe(rows: pd.DataFrame, target: str, classes: tuple[object, ...]) -> Part:
    """It returns what a part holds."""
    counts = rows[target].value_counts()
    return Part(len(rows), tuple(int(counts.get(c, 0)) for c in classes))
