"""A dataset: the rows of a problem, described: columns, target, features."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ml_assets.errors import DatasetError, did_you_mean, shortened
from ml_assets.later import later
from ml_assets.problem import DatasetDeclaration, Task

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

# Integer codes 0..k-1 or 1..k are classes up to this many; above, or with gaps, they are amounts.
MOST_CODED_CLASSES = 20
MOST_CLASSES = 100
MOST_LISTED = 50  # categories of one column that a profile names
_POSITIVE_WORDS = {"yes", "y", "true", "t", "1", "1.0", "positive", "pos", "up"}


@dataclass(frozen=True)
class Column:
    """What one column holds.

    Attributes:
        type: integer, number, text, boolean or date.
        missing: number of missing values.
        distinct: number of distinct values that are not missing.
        min: smallest value, for integer and number.
        max: largest value, for integer and number.
        infinite: number of infinite values, for number.
        values: the distinct values, where they are few and no dates; else None.
    """

    type: str
    missing: int
    distinct: int
    min: float | None = None
    max: float | None = None
    infinite: int = 0
    values: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class Target:
    """What is predicted.

    Attributes:
        task: binary, multiclass or regression.
        why: how the task was decided, as a sentence.
        classes: the classes in sorted order; empty for regression.
        counts: rows of each class, in the same order.
        positive: the positive class of a binary task.
    """

    task: Task
    why: str
    classes: tuple[Any, ...] = ()
    counts: tuple[int, ...] = ()
    positive: Any = None


@dataclass(frozen=True)
class Findings:
    """What `integrity.inspect` found odd in the rows.

    Attributes:
        conflicts: rows whose features equal those of a row with another target.
        constant: features with one value or none.
        alike: features with categories that differ only in case or blanks, with an example.
        identifiers: text features with nearly as many values as rows.
        dates: text features with dates in several formats, with examples.
        written: text features with dates in one format, with that format.
        leaks: features that give the target away alone, with what they reach, in words.
        together: features whose weighted sum is the target.
    """

    conflicts: int = 0
    constant: tuple[str, ...] = ()
    alike: tuple[tuple[str, str], ...] = ()
    identifiers: tuple[str, ...] = ()
    dates: tuple[tuple[str, str], ...] = ()
    written: tuple[tuple[str, str], ...] = ()
    leaks: tuple[tuple[str, str], ...] = ()
    together: tuple[str, ...] = ()

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Findings:
        """It returns the findings that `dataclasses.asdict` and JSON made a record of."""
        return cls(
            conflicts=record["conflicts"],
            constant=tuple(record["constant"]),
            alike=tuple((a, b) for a, b in record["alike"]),
            identifiers=tuple(record["identifiers"]),
            dates=tuple((a, b) for a, b in record["dates"]),
            written=tuple((a, b) for a, b in record.get("written", ())),
            leaks=tuple((a, b) for a, b in record["leaks"]),
            together=tuple(record["together"]),
        )


@dataclass(frozen=True)
class Profile:
    """A description of a dataset that is small, and enough for its gates.

    Attributes:
        rows: number of rows.
        columns: every column, in the file's order.
        features: the columns that candidates may use.
        target: what is predicted; None when the target column is absent or unusable.
        trouble: why `target` is None, as a sentence.
        duplicates: rows that equal an earlier row in every column.
        findings: what is odd about the rows.
        released: rules that rows breach which somebody let in, as `column rule`.
    """

    rows: int
    columns: dict[str, Column]
    features: tuple[str, ...]
    target: Target | None
    trouble: str | None
    duplicates: int
    findings: Findings = Findings()
    released: tuple[str, ...] = ()

    def usable_target(self) -> Target:
        """It returns the target.

        Raises:
            DatasetError: there is none; the message says why.
        """
        if self.target is None:
            raise DatasetError(self.trouble or "The dataset has no usable target.")
        return self.target

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Profile:
        """It returns the profile that `dataclasses.asdict` and JSON made a record of."""
        target = record["target"]
        if target is not None:
            listed = {k: tuple(target[k]) for k in ("classes", "counts")}
            target = Target(**{**target, **listed})
        columns = {
            n: Column(**{**c, "values": None if c["values"] is None else tuple(c["values"])})
            for n, c in record["columns"].items()
        }
        findings = Findings.from_record(record["findings"])
        known = {**record, "target": target, "columns": columns, "findings": findings}
        listed_too = {k: tuple(record[k]) for k in ("features", "released")}
        return cls(**{**known, **listed_too})


def features(columns: list[str], declared: DatasetDeclaration) -> list[str]:
    """It returns the columns that candidates may use.

    All but target, key and dropped ones; and those under contract only, where new ones are ignored.
    """
    apart = {declared.target, declared.key, declared.number_rows, *declared.drop}
    kept_out = {*apart, *new_columns(columns, declared)}
    return [c for c in columns if c not in kept_out]


def new_columns(columns: list[str], declared: DatasetDeclaration) -> list[str]:
    """It returns the columns that are not under contract, where the contract ignores such."""
    if declared.contract.new_columns == "use":
        return []
    roles = (declared.target, declared.key, declared.number_rows)
    named = {*declared.contract.columns, *roles, *declared.drop}
    return [c for c in columns if c not in named]


def column_type(values: pd.Series) -> str:
    """It returns integer, number, text, boolean or date."""
    if pd.api.types.is_bool_dtype(values.dtype):
        return "boolean"
    if pd.api.types.is_integer_dtype(values.dtype):
        return "integer"
    if pd.api.types.is_float_dtype(values.dtype):
        return "number"
    return "date" if pd.api.types.is_datetime64_any_dtype(values.dtype) else "text"


class Rows(Protocol):
    """Rows that answer column by column: a DataFrame, or a table on disk."""

    @property
    def columns(self) -> Any:
        """The columns' names."""

    def __len__(self) -> int: ...

    def __getitem__(self, name: Any) -> Any: ...


def hash_rows(frame: Rows, names: Iterable[str] | None = None) -> np.ndarray:
    """It returns a uint64 per row that depends on names and values, not on order or dtype.

    One column is looked at after the other: all columns, or those named.

    An integer equals the same number as a float: a column that later gains a gap does not move its
    old rows.  A missing value says nothing: neither does a column that comes later, in whose place
    old rows have none.  Columns may come in any order.
    """
    total = np.zeros(len(frame), dtype=np.uint64)
    for name in frame.columns if names is None else names:
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
        said = mixed(hashed ^ _name_hash(str(name)))
        said[values.isna().to_numpy()] = 0
        with np.errstate(over="ignore"):
            total += said
    return mixed(total)


def _name_hash(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"))


def mixed(values: np.ndarray) -> np.ndarray:
    """It returns uint64 values with their bits scattered (the finalizer of splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def describe(frame: Rows, declared: DatasetDeclaration, task: Task | None) -> Profile:
    """It returns the profile of a dataset, looking at one column at a time."""
    columns = {str(name): _column(frame[name]) for name in frame.columns}
    target, trouble = None, None
    try:
        target = find_target(frame, declared, task)
    except DatasetError as error:
        trouble = str(error)
    return Profile(
        rows=len(frame),
        columns=columns,
        features=tuple(features(list(columns), declared)),
        target=target,
        trouble=trouble,
        duplicates=len(frame) - _distinct(hash_rows(frame)),
    )


def _column(values: pd.Series) -> Column:
    kind = column_type(values)
    missing = int(values.isna().sum())
    plain = isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf"
    there = values.dropna()
    distinct = _distinct(there.to_numpy()) if plain else int(there.nunique())
    known = None
    if kind != "date" and distinct <= MOST_LISTED:
        listed = there.unique()
        known = tuple(sorted(v.item() if hasattr(v, "item") else v for v in listed))
    if kind not in ("integer", "number") or missing == len(values):
        return Column(kind, missing, distinct, values=known)
    numbers = values.to_numpy()
    infinite = int(np.isinf(numbers).sum()) if kind == "number" else 0
    low, high = float(values.min()), float(values.max())
    return Column(kind, missing, distinct, low, high, infinite, known)


def _distinct(numbers: np.ndarray) -> int:
    """It returns how many different numbers there are, none of them missing.

    By their order: of a million floats it takes a fifth of the time of looking each one up.
    """
    ordered = np.sort(numbers)
    return int((ordered[1:] != ordered[:-1]).sum()) + bool(len(ordered))


def find_target(frame: Rows, declared: DatasetDeclaration, task: Task | None) -> Target:
    """It returns what is to be predicted: the task (inferred when not given), classes, positive.

    Raises:
        DatasetError: the target column is absent, or cannot be a target of that task.
    """
    name = declared.target
    if name not in frame.columns:
        hint = did_you_mean(name, map(str, frame.columns))
        raise DatasetError(f"No column `{name}` for the target.{hint}")
    values = frame[name].dropna()
    kind, distinct = column_type(values), values.nunique()
    if distinct < 2:
        only = f" ({values.iloc[0]})" if distinct else ""
        raise DatasetError(
            f"The target `{name}` has {distinct} distinct value{only}; 2 are needed."
        )
    if task is None:
        task, why = infer_task(values)
    else:
        why = "declared"
    if task == "regression":
        if kind not in ("integer", "number"):
            raise DatasetError(
                f"The target `{name}` holds {kind} values; a regression needs numbers."
            )
        return Target(task, why)
    if task == "binary" and distinct != 2:
        raise DatasetError(f"The target `{name}` has {distinct} classes; a binary task has 2.")
    if distinct > MOST_CLASSES:
        raise DatasetError(
            f"The target `{name}` has {distinct} distinct values, too many for classes (at most "
            f"{MOST_CLASSES}). Is it an identifier, or a number written as text?"
        )
    counts = values.value_counts().sort_index()
    classes = tuple(counts.index.to_list())
    positive = _positive(counts, declared, name) if task == "binary" else None
    return Target(task, why, classes, tuple(int(c) for c in counts), positive)


def infer_task(values: pd.Series) -> tuple[Task, str]:
    """It returns the task that a target's values suggest, and why, as a sentence."""
    kind, distinct = column_type(values), values.nunique()
    if distinct == 2:
        return "binary", "inferred: the target has 2 values"
    if kind in ("text", "boolean"):
        return "multiclass", f"inferred: the target is text with {distinct} values"
    if kind == "integer" or (kind == "number" and (values % 1 == 0).all()):
        low, high = int(values.min()), int(values.max())
        if low in (0, 1) and high - low + 1 == distinct <= MOST_CODED_CLASSES:
            return "multiclass", f"inferred: the target is the codes {low} to {high} without a gap"
    if kind == "date":
        raise DatasetError("The target holds dates; derive a number or a class from them.")
    return "regression", f"inferred: the target is a number with {distinct} values"


def _positive(counts: pd.Series, declared: DatasetDeclaration, name: str) -> Any:
    if declared.positive is not None:
        for value in counts.index:
            if value == declared.positive or str(value) == str(declared.positive):
                return value
        raise DatasetError(
            f"`positive: {declared.positive}` is no value of the target `{name}`; it has "
            f"{shortened(counts.index)}."
        )
    spoken = [v for v in counts.index if str(v).strip().lower() in _POSITIVE_WORDS]
    if len(spoken) == 1:
        return spoken[0]
    return counts.idxmin()
