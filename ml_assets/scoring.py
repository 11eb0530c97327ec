"""Scoring: what a version says of rows whose target nobody knows yet.

No row is dropped: one that cannot be scored keeps its place, with the reason and no prediction.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import Predictions, in_order, predict
from ml_assets.data_file import lines_of, read_through
from ml_assets.dataset import Target
from ml_assets.errors import CandidateError, DatasetError, did_you_mean, shortened
from ml_assets.later import later
from ml_assets.problem import ColumnContract, DatasetDeclaration
from ml_assets.rows import as_frame

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ml_assets.shortcut import Shortcut
else:
    np = later("numpy")
    pd = later("pandas")
    pa = later("pyarrow", "pyarrow.csv")
    pq = later("pyarrow.parquet")

MOST_TOLD = 1000  # wrong rows that are told with their lines; the output says it of every one
AT_ONCE = 50_000  # rows that a model is asked at a time
FEW = 100  # rows that Python goes through before pandas has begun
# A model that raises is asked again about halves, at most so often, to find the rows it minds.
MOST_ASKED_AGAIN = 500
_NUMBERS = ("int64", "float64")
_FREE = ColumnContract()  # of a column that the contract does not name
_ARROW = {
    "int64": "int64",
    "float64": "double",
    "bool": "bool",
    "datetime64[ns]": "timestamp[us]",
}
_EXPECTED = {"int64": "a number", "float64": "a number", "bool": "true or false"}
_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}


@dataclass(frozen=True)
class Scorer:
    """A version of a problem's model, loaded and verified, with what it asks of rows.

    Attributes:
        problem: the problem's name.
        version: its number in the registry.
        digest: SHA-256 of its folder, as the ledger has it.
        model: the whole Pipeline.
        columns: its features with their types, in its order.
        classes: the classes in sorted order; empty for regression.
        declared: how the problem's data are declared, for its contract and how files are read.
        shortcut: a nearer way to the same answers, as far as it was proved.
    """

    problem: str
    version: int
    digest: str
    model: Any
    columns: Mapping[str, str]
    classes: tuple[Any, ...]
    declared: DatasetDeclaration
    shortcut: Shortcut | None = None

    @property
    def target(self) -> Target:
        """What it predicts."""
        kinds = {0: "regression", 2: "binary"}
        task: Any = kinds.get(len(self.classes), "multiclass")
        return Target(task, "as it was trained", self.classes)

    def rule(self, column: str) -> ColumnContract:
        """It returns what the contract says of a column; nothing, where it does not name it."""
        return self.declared.contract.columns.get(column) or _FREE

    def expected(self, column: str) -> str:
        """It returns in words what a value of a column must be."""
        kind, rule = self.columns[column], self.rule(column)
        if rule.type == "boolean":
            return "true or false"
        if rule.type == "integer":
            return "a whole number"
        if kind == "datetime64[ns]" or rule.type == "date":
            return f"a date written {rule.format or 'as 2026-12-31T18:00:00'}"
        return _EXPECTED.get(kind, "text")

    def lacking(self, names: Sequence[str]) -> str:
        """It says which features are not among the names; an empty text if all are."""
        absent = [c for c in self.columns if c not in names]
        if not absent:
            return ""
        spare = [n for n in names if n not in self.columns]
        hints = [(n, did_you_mean(n, spare) if spare else "") for n in absent[:5]]
        told = [f"`{n}` is not there.{h if 'Did you mean' in h else ''}" for n, h in hints]
        more = f" And {len(absent) - 5} more." if len(absent) > 5 else ""
        return (
            f"{' '.join(told)}{more} Version {self.version} asks for "
            f"{shortened(self.columns, most=30)}."
        )


@dataclass
class Said:
    """What a version says of some rows.

    Attributes:
        values: predictions; None for a row that is wrong.
        probabilities: rows × classes, NaN for a wrong row; None where the model gives none.
        wrong: the reason for each row without a prediction, by its position.
    """

    values: np.ndarray
    probabilities: np.ndarray | None
    wrong: dict[int, str] = field(default_factory=dict)


# ----------------------------------------------------------------------- rows as they should be


def fitted_in(
    scorer: Scorer, frame: pd.DataFrame, only: str | None = None
) -> tuple[pd.DataFrame, dict[int, str]]:
    """It returns the features with the types of training, and what is wrong with which rows.

    Text that reads as a number, a date or a truth value is one: files know nothing else.

    Args:
        scorer: the version.
        frame: plain rows that hold at least its features.
        only: the one feature that is looked at; None for all.
    """
    columns, wrong = {}, dict[int, str]()
    for name in [only] if only else scorer.columns:
        kind = scorer.columns[name]
        values = frame[name].reset_index(drop=True)
        typed = _typed(values, kind, scorer.rule(name), scorer.declared.decimal)
        gone = typed.isna().to_numpy()
        if kind in _NUMBERS:
            endless = np.isinf(typed.to_numpy(dtype="float64"))
            typed, gone = typed.mask(endless), gone | endless
        there = values.notna().to_numpy()
        if (gone & there).any():
            for at in np.flatnonzero(gone & there):
                what = f"`{name}` is {shown(values.iloc[at])}; {scorer.expected(name)} is expected"
                wrong[int(at)] = _joined(wrong.get(int(at)), what)
        if not there.all() and must_be_there(scorer.rule(name)):
            for at in np.flatnonzero(~there):
                wrong[int(at)] = _joined(wrong.get(int(at)), f"`{name}` is missing")
        columns[name] = _as_trained(typed, kind)
    return pd.DataFrame(columns), wrong


def must_be_there(rule: ColumnContract) -> bool:
    """It says whether the contract forbids that a value is missing."""
    return rule.missing == 0 and rule.mode_of("missing") == "enforce"


def shown(value: Any) -> str:
    """It returns a value as a message shows it."""
    told = repr(value) if isinstance(value, str) else str(value)
    return told if len(told) <= 60 else told[:57] + "..."


def _joined(before: str | None, what: str) -> str:
    return f"{before}; {what}" if before else what


def _typed(values: pd.Series, kind: str, rule: ColumnContract, decimal: str) -> pd.Series:
    """It returns values of one type; those that are of another become missing."""
    is_text, is_truth = values.dtype == object, pd.api.types.is_bool_dtype(values.dtype)
    is_date = pd.api.types.is_datetime64_any_dtype(values.dtype)
    nothing = pd.Series(np.nan, index=values.index)
    if kind in _NUMBERS:
        if rule.type == "boolean":
            return _truth(values)
        if is_truth or is_date:
            return nothing
        if is_text:
            written = values.str.strip()
            if decimal != ".":
                written = written.str.replace(decimal, ".", regex=False)
            values = _numbers(written)
        return values.where(values % 1 == 0) if rule.type == "integer" else values
    if kind == "bool":
        return nothing if is_date else _truth(values)
    if kind == "datetime64[ns]":
        if is_date:
            return values
        return _moments(values, None) if is_text else nothing.astype("datetime64[ns]")
    if is_text:
        if rule.type != "date":
            return values
        return values.where(_moments(values, rule.format).notna(), None)
    return (
        values.astype(object).where(values.isna(), values.astype(str)).where(values.notna(), None)
    )


def _numbers(written: pd.Series) -> pd.Series:
    """It returns numbers written as text, to their last digit; what is none becomes missing."""
    numbers = pd.to_numeric(written, errors="coerce").astype("float64")
    known = numbers.notna()
    numbers[known] = [float(text) for text in written[known]]  # pandas rounds the last digit
    return numbers


def _truth(values: pd.Series) -> pd.Series:
    if values.dtype == object:
        return values.str.strip().str.lower().map(_TRUTH).astype("float64")
    numbers = values.astype("float64")
    return numbers.where(numbers.isin([0, 1]))


def _moments(values: pd.Series, form: str | None) -> pd.Series:
    """It returns dates written as text, in UTC where they name a zone; what is none is missing."""
    parsed = pd.to_datetime(values, format=form or "ISO8601", errors="coerce", utc=True)
    return parsed.dt.tz_localize(None).astype("datetime64[ns]")


def _as_trained(values: pd.Series, kind: str) -> pd.Series:
    """It returns values with the type that the model was fitted on, where gaps allow it."""
    if kind == "int64" and values.dtype != "int64":
        whole = values.notna().all() and (values % 1 == 0).all() and (values.abs() < 2**63).all()
        return values.astype("int64" if whole else "float64")
    if kind == "float64":
        return values.astype("float64")
    if kind == "bool":
        return values.astype(bool) if values.notna().all() else values.astype("float64")
    return values if kind == "datetime64[ns]" else values.astype(object)


# ---------------------------------------------------------------------------- what is said of them


def said_of_one(scorer: Scorer, columns: Mapping[str, np.ndarray]) -> Said | None:
    """It returns what the version says of one row by its shortcut.

    Args:
        scorer: the version.
        columns: the features, each an array of one value.

    Returns:
        None where it has none, or the model itself must be asked.
    """
    try:
        said = scorer.shortcut.one(columns) if scorer.shortcut else None
    except Exception:  # whatever it minds, the model itself minds it with the right words
        return None
    if said is None:
        return None
    values, given = said
    if given is not None:
        given = in_order(scorer.model, given, scorer.target)
    answer = Predictions(values, given)
    return None if answer.missing() else Said(values.astype(object), given)


def said_of(scorer: Scorer, features: pd.DataFrame, wrong: Mapping[int, str]) -> Said:
    """It returns what the version says of rows; those that are wrong are not asked about.

    Where the model itself minds some rows, they are found, and the others get their predictions.
    """
    count = len(features)
    said = Said(np.full(count, None, dtype=object), None, dict(wrong))
    good = np.array([i for i in range(count) if i not in wrong], dtype=int) if wrong else None
    rows = features if good is None else features.iloc[good]
    asked_again = [0]
    for positions, answer in _asked(scorer, rows, np.arange(len(rows)), asked_again):
        at = positions if good is None else good[positions]
        if isinstance(answer, str):
            said.wrong.update({int(i): answer for i in at})
            continue
        said.values[at] = answer.values.astype(object)
        if answer.probabilities is not None:
            if said.probabilities is None:
                said.probabilities = np.full((count, len(scorer.classes)), np.nan)
            said.probabilities[at] = answer.probabilities
        for i in at[_unsaid(answer)]:
            said.wrong[int(i)] = "the model gave no finite prediction"
            said.values[i] = None
            if said.probabilities is not None:
                said.probabilities[i] = np.nan
    return said


def _asked(
    scorer: Scorer, rows: pd.DataFrame, positions: np.ndarray, asked_again: list[int]
) -> Iterator[tuple[np.ndarray, Predictions | str]]:
    if not len(rows):
        return
    try:
        prepare = scorer.shortcut.prepare if scorer.shortcut else None
        answer = predict(scorer.model, rows, scorer.target, prepare)
    except CandidateError as error:
        asked_again[0] += 1
        if len(rows) == 1 or asked_again[0] > MOST_ASKED_AGAIN:
            yield positions, f"the model refuses the row: {str(error)[:200]}"
            return
        half = len(rows) // 2
        yield from _asked(scorer, rows.iloc[:half], positions[:half], asked_again)
        yield from _asked(scorer, rows.iloc[half:], positions[half:], asked_again)
    else:
        yield positions, answer


def _unsaid(answer: Predictions) -> np.ndarray:
    gone = np.asarray(pd.isna(answer.values))
    if answer.values.dtype.kind == "f":
        gone = gone | ~np.isfinite(answer.values)
    if answer.probabilities is not None:
        gone = gone | ~np.isfinite(answer.probabilities).all(axis=1)
    return gone


def unseen(scorer: Scorer, features: Mapping[str, Any] | pd.DataFrame) -> dict[str, int]:
    """It returns how many values of each column the contract's `values` do not name."""
    found = {}
    for name in scorer.columns:
        known = scorer.rule(name).values
        if known is not None:
            values = features[name]
            if len(values) < FEW:
                count = sum(v is not None and v == v and v not in known for v in values.tolist())
            else:
                given = pd.Series(values)
                count = int((given.notna() & ~given.isin(known)).sum())
            if count:
                found[name] = count
    return found


def as_table(
    scorer: Scorer,
    said: Said,
    at: str,
    key: pa.ChunkedArray | None = None,
    versions: np.ndarray | None = None,
) -> pa.Table:
    """It returns predictions with their stamps, one row for each row.

    Args:
        scorer: the version that said them.
        said: what it said.
        at: when, in UTC, as ISO 8601.
        key: the rows' keys.
        versions: who answered each row, where that is not the version alone.
    """
    count, columns = len(said.values), dict[str, Any]()
    if key is not None:
        columns[str(scorer.declared.key)] = key
    columns["prediction"] = pa.array(said.values, _prediction_type(scorer.classes))
    if scorer.classes and hasattr(scorer.model, "predict_proba"):
        given = said.probabilities
        if given is None:
            given = np.full((count, len(scorer.classes)), np.nan)
        for i, name in enumerate(scorer.classes):
            columns[f"probability_{name}"] = pa.array(given[:, i], pa.float64(), from_pandas=True)
    answered = np.full(count, scorer.version) if versions is None else versions
    columns["model_version"] = pa.array(answered)
    columns["scored_at"] = pa.array([at] * count, pa.string())
    reasons = [said.wrong.get(i) for i in range(count)] if said.wrong else [None] * count
    columns["wrong"] = pa.array(reasons, pa.string())
    return pa.table(columns)


def _prediction_type(classes: tuple[Any, ...]) -> pa.DataType:
    if not classes:
        return pa.float64()
    return pa.array(list(classes)).type


# ------------------------------------------------------------------------------------------- files


@dataclass
class FileScored:
    """What scoring a file came to.

    Attributes:
        digest: SHA-256 of the file's bytes.
        rows: rows in the file, and in the output.
        wrong_rows: rows without a prediction.
        wrong: line and reason of the first of them.
        unseen: values that the contract's `values` do not name, by column.
    """

    digest: str = ""
    rows: int = 0
    wrong_rows: int = 0
    wrong: list[tuple[int, str]] = field(default_factory=list)
    unseen: Counter[str] = field(default_factory=Counter)


# What lets another version answer some rows of a piece: given the rows, their features and what was
# said of them, it changes that, and returns who answered each row; None for the version alone.
Share = Callable[["pa.Table", "pd.DataFrame", Said], "np.ndarray | None"]


def score_file(
    scorer: Scorer,
    path: Path,
    output: Path,
    at: str,
    digest: str | None = None,
    share: Share | None = None,
) -> FileScored:
    """It scores a file, piece by piece, and publishes the predictions in one atomic step.

    The file is read as the dataset's files are, but for `bad_lines`: no line is left out here.

    Args:
        scorer: the version.
        path: a csv, csv.gz or parquet file.
        output: where the predictions go: csv, csv.gz or parquet, by its ending.
        at: when that is, in UTC, as ISO 8601.
        digest: SHA-256 that the file's bytes must have.
        share: what lets another version answer some rows.

    Raises:
        DatasetError: the file cannot be read, lacks features, or has other bytes; nothing was
            written.
    """
    declared = scorer.declared.model_copy(update={"bad_lines": 0})
    known = read_as(scorer)
    with _aside(output) as aside:

        def consume(pieces: Iterator[pa.Table]) -> FileScored:
            return _consumed(scorer, pieces, path, aside, at, share)

        scored, seen = read_through(path, declared, known, consume)
        scored.digest = seen.digest
        if digest not in (None, seen.digest):
            raise DatasetError(f"{path} changed while it was read. It is read again later.")
        lines = lines_of(path, declared, [at for at, _ in scored.wrong])
        scored.wrong = [(lines[i], reason) for i, reason in scored.wrong]
    return scored


def read_as(scorer: Scorer) -> dict[str, pa.DataType]:
    """It returns the types that the features have where a file is read."""
    known = {n: pa.type_for_alias(_ARROW.get(k, "string")) for n, k in scorer.columns.items()}
    return known | {n: pa.string() for n in known if scorer.rule(n).type == "boolean"}


def _consumed(
    scorer: Scorer,
    pieces: Iterator[pa.Table],
    path: Path,
    aside: Path,
    at: str,
    share: Share | None,
) -> FileScored:
    scored, writer = FileScored(), None
    try:
        for piece in pieces:
            if writer is None and (lacks := scorer.lacking(piece.column_names)):
                raise DatasetError(f"{path}: {lacks}")
            for start in range(0, piece.num_rows, AT_ONCE):
                few = piece.slice(start, AT_ONCE)
                features, wrong = fitted_in(scorer, as_frame(few.select(list(scorer.columns))))
                said = said_of(scorer, features, wrong)
                key = scorer.declared.key
                keys = few.column(key) if key is not None and key in few.column_names else None
                who = share(few, features, said) if share is not None else None
                table = as_table(scorer, said, at, keys, who)
                writer = writer or _writer(aside, table.schema)
                writer.write_table(table)
                room = MOST_TOLD - len(scored.wrong)
                scored.wrong += [
                    (scored.rows + i, said.wrong[i]) for i in sorted(said.wrong)[:room]
                ]
                scored.wrong_rows += len(said.wrong)
                scored.rows += few.num_rows
                scored.unseen.update(unseen(scorer, features))
    finally:
        if writer is not None:
            writer.close()
    return scored


def _writer(aside: Path, schema: pa.Schema) -> Any:
    if aside.suffix == ".parquet":
        return pq.ParquetWriter(aside, schema)
    if aside.suffix == ".gz":
        return _Zipped(aside, schema)
    return pa.csv.CSVWriter(aside, schema)


class _Zipped:
    """A csv that is compressed as it is written."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self.out = pa.CompressedOutputStream(str(file), "gzip")
        self.csv = pa.csv.CSVWriter(self.out, schema)

    def write_table(self, table: pa.Table) -> None:
        self.csv.write_table(table)

    def close(self) -> None:
        self.csv.close()
        self.out.close()


@contextmanager
def _aside(output: Path) -> Iterator[Path]:
    """It gives a name to write under, and renames that into the output when all went well."""
    ending = next(e for e in (".csv.gz", ".csv", ".parquet") if output.name.endswith(e))
    aside = output.with_name(f".{uuid.uuid4().hex}{ending}")
    try:
        yield aside
        handle = os.open(aside, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        aside.replace(output)
    finally:
        aside.unlink(missing_ok=True)
