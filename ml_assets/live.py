"""Live rows: what was predicted after deployment, joined with the truth as that becomes known.

A row is one prediction of one version.  Its truth is the target of the accepted row of the dataset
with the same key, however late that came.  Pure functions of tables; where the predictions are
kept, and which labels there are, is the round's to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.later import later

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

SERVED, SCORED_FILE = "served", "file"
COLUMNS = ("id", "key", "at", "version", "prediction", "truth", "learned", "source")
PROBABILITY = "probability_"


@dataclass(frozen=True)
class LiveRows:
    """All predictions that were made for a problem, in the order of time.

    The frame has one row for each prediction:

    - `id`: names the prediction; `key`: the row's key as text, None where it came without one;
    - `at`: when it was made, in seconds since 1970; `version`: who made it;
    - `prediction`, and `probability_<class>` where there are classes;
    - `truth`: the target, None or NaN until it is known;
    - `learned`: the dataset that the version was made from has this key, so that its truth says
      nothing about how good the version is;
    - `source`: `served` or `file`.

    Attributes:
        frame: the rows.
        labels: what is known of their truth, as a sentence.
        repeated: predictions left out, because the same version had scored the same key before.
    """

    frame: pd.DataFrame
    labels: str
    repeated: int = 0

    def of(self, version: int) -> pd.DataFrame:
        """It returns the rows of one version."""
        return self.frame[self.frame["version"] == version]

    def judged_by(self, version: int) -> pd.DataFrame:
        """It returns the rows of a version whose truth is known, and that it did not learn from."""
        rows = self.of(version)
        return rows[rows["truth"].notna() & ~rows["learned"]]


def key_text(values: pd.Series) -> pd.Series:
    """It returns keys as text, so that 41, 41.0 and "41" are one; None where there is none."""
    if pd.api.types.is_bool_dtype(values.dtype) or pd.api.types.is_datetime64_any_dtype(
        values.dtype
    ):
        text = values.astype(str)
    elif pd.api.types.is_integer_dtype(values.dtype):
        text = values.astype("int64").astype(str)
    elif pd.api.types.is_float_dtype(values.dtype):
        text = values.map(_plain)
    else:
        text = values.map(lambda v: None if v is None or v != v else _plain(v))
    return text.astype(object).where(values.notna(), None)


def _plain(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


def together(
    parts: Sequence[pd.DataFrame],
    keyed: bool,
    labels: pd.Series | None,
    learned: Mapping[int, pd.Index],
    unknown: str = "",
) -> LiveRows:
    """It returns the live rows of all sources, joined with their truth.

    Of several predictions of one key by one version the first counts: a retried request is no
    second row, and what was seen of a row once stays.  A key that several accepted rows have names
    no row, so it is not joined.

    Args:
        parts: predictions by source, with the columns of `LiveRows` but `truth` and `learned`.
        keyed: rows have keys.
        labels: the target of the accepted rows, by key as text; None where it is not known.
        learned: by version, the keys of the dataset that it was made from.
        unknown: why labels are not known, as a sentence.
    """
    there = [p for p in parts if len(p)]
    if there:
        frame = pd.concat(there, ignore_index=True).sort_values(
            "at", kind="stable", ignore_index=True
        )
    else:
        frame = pd.DataFrame({n: [] for n in COLUMNS if n not in ("truth", "learned")})
        frame = frame.astype({"at": "float64", "version": "int64"})
    count = len(frame)
    named = frame["key"].notna().to_numpy(dtype=bool)
    again = frame.duplicated(["key", "version"]).to_numpy(dtype=bool) & named
    frame = frame[~again].reset_index(drop=True)
    shares = [c for c in frame.columns if c.startswith(PROBABILITY)]
    order = ["id", "key", "at", "version", "prediction", *shares, "truth", "learned", "source"]
    if not keyed:
        told = "The dataset declares no `key`, so no label can be joined with its prediction."
        return LiveRows(frame.assign(truth=None, learned=False)[order], told)
    if labels is None:
        return LiveRows(frame.assign(truth=None, learned=False)[order], unknown, count - len(frame))
    double = labels.index.duplicated(keep=False)
    once = labels[~double & labels.notna().to_numpy()]
    truth = frame["key"].map(once)
    was_learned = np.zeros(len(frame), dtype=bool)
    for version, keys in learned.items():
        mine = (frame["version"] == version).to_numpy()
        was_learned |= mine & frame["key"].isin(keys).to_numpy()
    frame = frame.assign(truth=truth.astype(object).where(truth.notna(), None), learned=was_learned)
    known = int(frame["truth"].notna().sum())
    told = f"Of {len(frame):,} predictions {known:,} have their label."
    keyless = int(frame["key"].isna().sum())
    if keyless:
        told += f" {keyless:,} came without a key."
    if double.any():
        told += f" {labels.index[double].nunique():,} keys name several rows and are not joined."
    return LiveRows(frame[order], told, count - len(frame))


def said_in(rows: pd.DataFrame, target: Target) -> Predictions:
    """It returns what live rows say, as metrics and comparisons take it.

    Args:
        rows: live rows.
        target: task and classes; the probability of a class that the version does not know is 0.
    """
    if target.task == "regression":
        return Predictions(rows["prediction"].to_numpy(dtype="float64"))
    values = as_classes(rows["prediction"], target)
    names = [f"{PROBABILITY}{c}" for c in target.classes]
    if not any(n in rows for n in names):
        return Predictions(values)
    given = rows.reindex(columns=names).to_numpy(dtype="float64")
    whole = np.isfinite(given).any(axis=1)
    if not whole.all():
        return Predictions(values)
    return Predictions(values, np.nan_to_num(given))


def truth_in(rows: pd.DataFrame, target: Target) -> np.ndarray:
    """It returns the truth of labelled live rows, with the type that the target has."""
    if target.task == "regression":
        return rows["truth"].to_numpy(dtype="float64")
    return as_classes(rows["truth"], target)


def as_classes(values: pd.Series, target: Target) -> np.ndarray:
    """It returns classes with the type that the target has: a csv knows only their text."""
    known = {_plain(c): c for c in target.classes}
    made = np.empty(len(values), dtype=object)
    made[:] = [known.get(_plain(v), v) for v in values]
    kind = np.asarray(target.classes).dtype
    fits = all(v in known.values() for v in set(made.tolist()))
    return made.astype(kind) if fits and kind.kind in "biuf" else made
