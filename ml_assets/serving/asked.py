"""What a request asks: a body becomes rows with the types of training, or is refused."""

import functools
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from ml_assets.data_file import MISSING_WORDS
from ml_assets.errors import DatasetError, RequestRefused, shortened
from ml_assets.rows import as_frame, plain_table
from ml_assets.scoring import Scorer, fitted_in, must_be_there, shown
from ml_assets.serving.body import arrow_table, refusal
from ml_assets.share import contents_of

JSON, CSV, ARROW = "application/json", "text/csv", "application/vnd.apache.arrow.stream"
SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")
_NUMBERS = ("int64", "float64")
_SAFE = float(2**53)  # whole numbers beyond are not told apart as floats


@dataclass(frozen=True)
class Asked:
    """Rows that a request asks about.

    Attributes:
        columns: the features, as the model was fitted on them, each an array.
        keys: their keys, where they came.
        ignored: columns that came and mean nothing here.
    """

    columns: dict[str, np.ndarray]
    keys: list[Any] | None
    ignored: list[str]

    @property
    def rows(self) -> int:
        """How many rows are asked about."""
        return len(next(iter(self.columns.values())))

    @functools.cached_property
    def features(self) -> pd.DataFrame:
        """The rows as a table."""
        return pd.DataFrame(self.columns)

    def digests(self) -> list[str]:
        """It returns for each row the first 16 digits of the SHA-256 of its features as JSON."""
        return contents_of(self.columns)


def asked_of(scorer: Scorer, kind: str, body: bytes, mlflow: bool, most: int) -> Asked:
    """It returns the rows of a request's body.

    Args:
        scorer: the version that is to answer.
        kind: the content type.
        body: its bytes.
        mlflow: the body is in MLflow's scoring protocol.
        most: to so many bytes it may unpack.

    Raises:
        RequestRefused: it cannot be read, or a row is not as the version needs it.
    """
    kind = kind.split(";")[0].strip().lower()
    if kind == ARROW and not mlflow:
        return _from_table(scorer, arrow_table(body, most))
    if kind == CSV and mlflow:
        return _from_table(scorer, _csv(scorer, body))
    if kind != JSON:
        fit = f"{JSON} or {CSV if mlflow else ARROW}"
        raise refusal(415, "unsupported_media_type", f"Content type `{kind}`; {fit} is read.")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise refusal(400, "unreadable", f"The body is no JSON: {error}.") from None
    if not mlflow:
        return from_records(scorer, _of_rows(document))
    rows = _of_mlflow(scorer, document)
    try:
        return from_records(scorer, rows)
    except RequestRefused as error:
        if error.code != "wrong_type":
            raise
        return _as_text(scorer, rows)


def _of_rows(document: Any) -> Any:
    if not isinstance(document, dict) or set(document) != {"rows"}:
        raise refusal(422, "wrong_shape", 'A body is {"rows": [{column: value, …}, …]}.')
    return document["rows"]


def _of_mlflow(scorer: Scorer, document: Any) -> Any:
    """It returns the records of MLflow's scoring protocol."""
    named = [s for s in SHAPES if isinstance(document, dict) and s in document]
    if len(named) != 1:
        raise refusal(422, "wrong_shape", f"A body has exactly one of {', '.join(SHAPES)}.")
    given, columns = document[named[0]], list(scorer.columns)
    if named[0] == "dataframe_split":
        if not isinstance(given, dict) or not isinstance(given.get("data"), list):
            raise refusal(422, "wrong_shape", 'dataframe_split is {"columns": […], "data": [[…]]}.')
        columns, given = given.get("columns", columns), given["data"]
    elif isinstance(given, dict):  # column by column
        columns = list(given)
        lists = all(isinstance(v, list) for v in given.values())
        if not lists or len({len(v) for v in given.values()}) != 1:
            raise refusal(422, "wrong_shape", "The columns are lists of one length.")
        given = [list(row) for row in zip(*given.values(), strict=True)]
    named_well = isinstance(columns, list) and all(isinstance(c, str) for c in columns)
    if not isinstance(given, list) or not named_well:
        told = f"{named[0]} holds rows, and its columns have names."
        raise refusal(422, "wrong_shape", told)
    rows = []
    for i, row in enumerate(given):
        if isinstance(row, list):
            if len(row) != len(columns):
                told = f"The row has {len(row)} values; there are {len(columns)} columns."
                raise refusal(422, "wrong_shape", told, row=i)
            row = dict(zip(columns, row, strict=True))
        rows.append(row)
    return rows


def from_records(scorer: Scorer, rows: Any) -> Asked:
    """It returns rows given as JSON records; a value must have the type that its column asks for.

    Raises:
        RequestRefused: there is no row, or one lacks a column or has a value of another type.
    """
    if not isinstance(rows, list) or not rows:
        raise refusal(422, "no_rows", "There is no row: `rows` is a list of records.")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise refusal(422, "wrong_shape", "A row is {column: value, …}.", row=i)
        if not scorer.columns.keys() <= row.keys():
            absent = next(c for c in scorer.columns if c not in row)
            lacks = scorer.lacking(list(row))
            raise refusal(422, "missing_columns", lacks, row=i, column=absent)
    columns = {n: _column(scorer, n, [row[n] for row in rows]) for n in scorer.columns}
    key = scorer.declared.key
    keys = [_plain_key(row.get(key)) for row in rows] if key is not None else None
    return Asked(columns, keys, _ignored(scorer, set().union(*rows)))


def _as_text(scorer: Scorer, rows: list[dict[str, Any]]) -> Asked:
    """It returns records whose values may be written as text: MLflow's clients send "1.5" too.

    Raises:
        RequestRefused: a value cannot be read as what its column asks for.
    """
    columns = {}
    for name in scorer.columns:
        values = [None if (v := row[name]) is None or v != v else str(v) for row in rows]
        columns[name] = pa.array(values, pa.string())
    key = scorer.declared.key
    names = {str(n) for n in set().union(*rows)}
    if key is not None and key in names:
        keys = [_plain_key(row.get(key)) for row in rows]
        columns[key] = pa.array([None if k is None else str(k) for k in keys], pa.string())
    asked = _from_table(scorer, pa.table(columns))
    return Asked(asked.columns, asked.keys, _ignored(scorer, names))


def _plain_key(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _ignored(scorer: Scorer, names: set[str]) -> list[str]:
    declared = scorer.declared
    known = {declared.target, declared.key, declared.number_rows, *declared.drop}
    return sorted(str(n) for n in names - scorer.columns.keys() - known)


def _column(scorer: Scorer, name: str, values: list[Any]) -> np.ndarray:
    kind, rule = scorer.columns[name], scorer.rule(name)
    allowed: Mapping[str, set[type]] = {
        "bool": {bool},
        "int64": {int, float},
        "float64": {int, float},
    }
    fit = {bool} if rule.type == "boolean" else allowed.get(kind, {str})
    if not set(map(type, values)) <= fit | {type(None)}:
        at = next(i for i, v in enumerate(values) if v is not None and type(v) not in fit)
        raise _wrong(scorer, name, at, values[at])
    if must_be_there(rule) and None in values:
        told = f"`{name}` is missing, and must not be."
        raise refusal(422, "missing_value", told, row=values.index(None), column=name)
    if kind in _NUMBERS:
        return _numbers(scorer, name, values)
    if kind == "bool":
        return np.array(values, dtype="float64" if None in values else bool)
    if kind == "datetime64[ns]" or rule.type == "date":
        return _dates(scorer, name, values)
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def _numbers(scorer: Scorer, name: str, values: list[Any]) -> np.ndarray:
    if len(values) == 1 and (one := _one_number(scorer, name, values[0])) is not None:
        return one
    try:
        numbers = np.array(values, dtype="float64")
    except OverflowError:  # a whole number of hundreds of digits
        at = next(i for i, v in enumerate(values) if v is not None and abs(v) > 1e300)
        raise _wrong(scorer, name, at, "a number that large") from None
    endless = np.isinf(numbers)
    if endless.any():
        at = int(endless.argmax())
        told = f"`{name}` is {numbers[at]}; a finite number is expected."
        raise refusal(422, "not_finite", told, row=at, column=name)
    gone, rule = np.isnan(numbers), scorer.rule(name)
    if must_be_there(rule) and gone.any():
        told = f"`{name}` is missing, and must not be."
        raise refusal(422, "missing_value", told, row=int(gone.argmax()), column=name)
    broken = (numbers % 1 != 0) & ~gone
    if rule.type == "integer" and broken.any():
        at = int(broken.argmax())
        raise _wrong(scorer, name, at, values[at])
    if scorer.columns[name] == "int64" and not (gone | broken | (np.abs(numbers) > _SAFE)).any():
        return numbers.astype("int64")
    return numbers


def _one_number(scorer: Scorer, name: str, value: Any) -> np.ndarray | None:
    """It returns one number as `_numbers` does, without ten calls of numpy; None where it is no plain one."""
    if type(value) not in (int, float) or not -_SAFE <= value <= _SAFE:  # which NaN is not, either
        return None
    whole = value % 1 == 0
    if scorer.rule(name).type == "integer" and not whole:
        return None
    return np.array([value], "int64" if scorer.columns[name] == "int64" and whole else "float64")


def _dates(scorer: Scorer, name: str, values: list[Any]) -> np.ndarray:
    given = pd.DataFrame({name: pd.Series(values, dtype=object)})
    typed, wrong = fitted_in(scorer, given, only=name)
    if wrong:
        at = min(wrong)
        raise _wrong(scorer, name, at, values[at])
    return typed[name].to_numpy()


def _wrong(scorer: Scorer, name: str, at: int, value: Any) -> RequestRefused:
    told = f"`{name}` is {shown(value)}; {scorer.expected(name)} is expected."
    return refusal(422, "wrong_type", told, row=at, column=name)


def _csv(scorer: Scorer, body: bytes) -> pa.Table:
    text = pa.csv.ConvertOptions(
        column_types={n: pa.string() for n in scorer.columns},
        null_values=MISSING_WORDS,
        strings_can_be_null=True,
    )
    parsing = pa.csv.ParseOptions(newlines_in_values=True)
    try:
        return pa.csv.read_csv(io.BytesIO(body), parse_options=parsing, convert_options=text)
    except (pa.ArrowException, ValueError) as error:
        told = f"The body is no csv: {str(error)[:200]}."
        raise refusal(400, "unreadable", told) from None


def _from_table(scorer: Scorer, table: pa.Table) -> Asked:
    names = table.column_names
    if len(set(names)) != len(names):
        twice = shortened(sorted({n for n in names if names.count(n) > 1}))
        raise refusal(422, "wrong_shape", f"Columns come more than once: {twice}.")
    if lacks := scorer.lacking(names):
        absent = next(c for c in scorer.columns if c not in names)
        raise refusal(422, "missing_columns", lacks, column=absent)
    if not table.num_rows:
        raise refusal(422, "no_rows", "There is no row.")
    try:
        rows = as_frame(plain_table(table.select(list(scorer.columns)), "The body"))
    except (DatasetError, pa.ArrowException) as error:
        raise refusal(422, "wrong_type", str(error)[:300]) from None
    features, wrong = fitted_in(scorer, rows)
    if wrong:
        at = min(wrong)
        raise refusal(422, "wrong_type", f"{wrong[at]}.", row=at)
    key = scorer.declared.key
    keys = None
    if key is not None and key in names:
        keys = [_plain_key(v) for v in table.column(key).to_pylist()]
    columns = {name: features[name].to_numpy() for name in features}
    return Asked(columns, keys, _ignored(scorer, set(names)))
