"""Rows with plain column types, whatever they came as, so that equal data look equal."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from ml_assets.errors import DatasetError, shortened
from ml_assets.later import later

FIRST_ROWS, MOST_FIRST_COLUMNS = 5, 60  # that are shown with a table
MOST_TOLD = 200  # characters of a value that is shown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
else:
    np = later("numpy")
    pd = later("pandas")
    pa = later("pyarrow", "pyarrow.compute")


def plain_table(table: pa.Table, source: str) -> pa.Table:
    """It returns the rows with plain types: int64, double, bool, string, timestamp[us].

    Raises:
        DatasetError: a column holds something that is no number, text, truth value or date.
    """
    columns = [_plain_column(table.column(f.name), f, source) for f in table.schema]
    return pa.table(columns, names=table.column_names)


def _plain_column(values: pa.ChunkedArray, column: pa.Field, source: str) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_uint64(kind):
        largest = pa.compute.max(values).as_py() or 0
        return values.cast(pa.int64() if largest < 2**63 else pa.float64(), safe=False)
    if pa.types.is_integer(kind):
        return values.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return values.cast(pa.float64())
    if pa.types.is_boolean(kind):
        return values
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return values.cast(pa.timestamp("us"), safe=False)  # with a zone: the same instant in UTC
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise DatasetError(
            f"{source}: column `{column.name}` holds {kind}. Flatten it into columns of numbers, "
            "text or dates."
        )
    return values if pa.types.is_null(kind) else values.cast(pa.string())


def as_frame(table: pa.Table) -> pd.DataFrame:
    """It returns plain rows as a DataFrame: int64, float64, bool, datetime64[ns], object."""
    frame = table.to_pandas(coerce_temporal_nanoseconds=True)
    for column in table.schema:
        if pa.types.is_boolean(column.type) and frame[column.name].dtype == object:
            frame[column.name] = frame[column.name].astype("float64")  # 1, 0, missing
        elif pa.types.is_string(column.type) or pa.types.is_null(column.type):
            frame[column.name] = frame[column.name].astype(object)
    return frame


def plain(frame: pd.DataFrame, source: str) -> pd.DataFrame:
    """It returns the rows with plain column types, so that equal data look equal from any source.

    Raises:
        DatasetError: a column holds something that is no number, text, truth value or date, or
            two columns have one name.
    """
    names = [str(n) for n in frame.columns]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DatasetError(f"{source}: the columns name {shortened(twice)} more than once.")
    columns = {}
    for name in frame.columns:
        values = frame[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            values = values.astype(object)
        if pd.api.types.is_bool_dtype(values.dtype):
            columns[str(name)] = values.astype(bool)
        elif pd.api.types.is_integer_dtype(values.dtype):
            whole = not values.isna().any()
            columns[str(name)] = values.astype("int64" if whole else "float64")
        elif pd.api.types.is_float_dtype(values.dtype):
            columns[str(name)] = values.astype("float64")
        elif pd.api.types.is_datetime64_any_dtype(values.dtype):
            if getattr(values.dtype, "tz", None) is not None:
                values = values.dt.tz_convert("UTC").dt.tz_localize(None)
            columns[str(name)] = values.astype("datetime64[ns]")
        else:
            columns[str(name)] = _text(values, str(name), source)
    return pd.DataFrame(columns)


def _text(values: pd.Series, name: str, source: str) -> pd.Series:
    there = values.dropna()
    kinds = {type(v) for v in there.head(1000)}
    if kinds and kinds <= {bool, np.bool_}:
        return values.astype("float64")  # truth values with gaps: 1, 0, missing
    if kinds == {Decimal}:
        return values.astype("float64")
    for kind in kinds:
        if kind in (list, dict, tuple, set, bytes, np.ndarray):
            raise DatasetError(
                f"{source}: column `{name}` holds {kind.__name__} values. Flatten it into "
                "columns of numbers, text or dates."
            )
    text = values.astype(object).where(values.notna(), None)
    return text.map(lambda v: v if v is None or isinstance(v, str) else str(v))


def read_only(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """It returns some columns without copying them; who writes into one is stopped by a ValueError."""
    columns = {}
    for name in names:
        values = frame[name]
        if isinstance(values.dtype, np.dtype):
            columns[name] = values.to_numpy().view()
            columns[name].flags.writeable = False
        else:
            columns[name] = values.copy()
    return pd.DataFrame(columns, index=frame.index, copy=False)


def first_rows(frame: pd.DataFrame) -> dict[str, Any]:
    """It returns the first rows as JSON-like values: names, cells, and how many columns there are."""
    few = frame.iloc[:FIRST_ROWS, :MOST_FIRST_COLUMNS]
    return {
        "columns": [str(c) for c in few.columns],
        "cells": [[_told(v) for v in row] for row in few.itertuples(index=False, name=None)],
        "of": frame.shape[1],
    }


def _told(value: Any) -> Any:
    if value is None or value != value:
        return None
    value = value.item() if type(value).__module__ == "numpy" else value
    return value if isinstance(value, (bool, int, float)) else str(value)[:MOST_TOLD]
