"""A data file: read as rows with plain column types, or refused with what is wrong and where."""

import csv
import gzip
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv
import pyarrow.parquet as pq

from ml_assets.digest import file_digest
from ml_assets.errors import DatasetError, shortened
from ml_assets.problem import DatasetDeclaration

# Part of every dataset's key: change it when the same file would be read as different rows.
READING = "3"
MISSING_WORDS = ["", " ", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "<NA>", "n/a"]
SNIFFED = 1 << 16
MOST_CHARACTERS = 100_000  # of one text value
# how files begin that are sometimes named .csv -> what they are, and what to do
_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip-compressed; name it .csv.gz",
    b"PAR1\x15": "Parquet; name it .parquet",
    b"PK\x03\x04": "a zip or Excel file; save it as csv",
}


def fingerprint(path: Path) -> str:
    """It returns the SHA-256 of a file's bytes, as 64 hex digits.

    Raises:
        DatasetError: the file is not there or cannot be read.
    """
    if path.is_dir():
        raise DatasetError(f"{path} is a folder; `dataset.path` names one file.")
    try:
        return file_digest(path)
    except FileNotFoundError:
        raise DatasetError(
            f"No data file at {path}. Put one there, or change `dataset.path` in defs.yaml."
        ) from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None


def read(path: Path, declared: DatasetDeclaration) -> pd.DataFrame:
    """It returns the rows of a csv, csv.gz or parquet file, with plain column types.

    Numbers become int64 or float64, dates datetime64[ns], all else text (object) with None for
    missing.  Nothing is skipped or repaired: a row that does not fit is an error.

    Raises:
        DatasetError: with the file, the place where known, and what to do.
    """
    if path.is_dir():
        raise DatasetError(f"{path} is a folder; `dataset.path` names one file.")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty (0 bytes).")
    table = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path, declared)
    alone = table.num_columns == 1 and path.suffix != ".parquet"
    if alone and (hint := _other_separator(path, declared)):
        raise DatasetError(f"{path}: 1 column found.{hint}")
    names = table.column_names
    if any(not str(n).strip() for n in names):
        at = next(i for i, n in enumerate(names) if not str(n).strip())
        raise DatasetError(f"{path}: column {at + 1} has no name. Name it in the header.")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DatasetError(f"{path}: the header names {shortened(twice)} more than once.")
    for field in table.schema:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            longest = pa.compute.max(pa.compute.binary_length(table.column(field.name))).as_py()
            if (longest or 0) > MOST_CHARACTERS:
                raise DatasetError(
                    f"{path}: a value of `{field.name}` is {longest:,} bytes long; at most "
                    f"{MOST_CHARACTERS:,} are read. Is a quotation mark missing?"
                )
    if table.num_rows == 0:
        raise DatasetError(f"{path} has a header and 0 data rows.")
    return plain(table.to_pandas(date_as_object=False), path.name)


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


def _read_parquet(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        with open(path, "rb") as file:
            magic = file.read(4)
        if magic != b"PAR1":
            raise DatasetError(
                f"{path} is named .parquet but its content is not Parquet. Rename it to what it is."
            ) from None
        raise DatasetError(
            f"{path} is not a complete Parquet file (its footer is missing or damaged: "
            f"{str(error)[:120]}). Send it again."
        ) from None
    nested = [f.name for f in table.schema if pa.types.is_nested(f.type)]
    if nested:
        raise DatasetError(
            f"{path}: nested columns {shortened(nested)}. Flatten them into plain columns."
        )
    return table


def _read_csv(path: Path, declared: DatasetDeclaration) -> pa.Table:
    with open(path, "rb") as file:
        start = file.read(5)
    for mark, what in _OTHER_FORMATS.items():
        if start.startswith(mark) and path.suffix != ".gz":
            raise DatasetError(f"{path} is not csv but {what}.")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and not declared.encoding.lower().startswith(
        "utf-16"
    ):
        raise DatasetError(
            f"{path} is UTF-16 (byte order mark {start[:2].hex(' ').upper()}), not "
            f"{declared.encoding}. Declare `encoding: utf-16`, or save it as UTF-8."
        )
    if path.suffix != ".gz" and path.stat().st_size < SNIFFED and not path.read_bytes().strip():
        raise DatasetError(f"{path} holds no rows: it is blank.")
    blank = declared.skip_initial_space
    words = list(dict.fromkeys([*MISSING_WORDS, *declared.missing]))
    words += [f" {w}" for w in words if blank and not w.startswith(" ")]
    as_text = {n: pa.string() for n, c in declared.contract.columns.items() if c.type == "text"}
    try:
        table = pa.csv.read_csv(
            path,
            read_options=pa.csv.ReadOptions(
                column_names=declared.names, encoding=declared.encoding, block_size=1 << 24
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=declared.separator, newlines_in_values=True
            ),
            convert_options=pa.csv.ConvertOptions(
                null_values=words,
                strings_can_be_null=True,
                decimal_point=declared.decimal,
                column_types=as_text,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DatasetError(_csv_trouble(path, declared, str(error))) from None
    except (OSError, EOFError) as error:
        raise DatasetError(
            f"{path} cannot be unpacked: the compressed file is incomplete or damaged "
            f"({str(error)[:120]}). Send it again."
        ) from None
    except (UnicodeError, LookupError) as error:
        raise DatasetError(f"{path} cannot be read as {declared.encoding}: {error}.") from None
    if any(pa.types.is_binary(f.type) for f in table.schema):
        raise DatasetError(_csv_trouble(path, declared, "invalid UTF8"))
    if blank:
        table = table.rename_columns([n.lstrip() for n in table.column_names])
        for i, field in enumerate(table.schema):
            if pa.types.is_string(field.type):
                stripped = pa.compute.utf8_ltrim_whitespace(table.column(i))
                table = table.set_column(i, field.name, stripped)
    for i, field in enumerate(table.schema):
        if pa.types.is_time(field.type) or pa.types.is_null(field.type):
            table = table.set_column(i, field.name, table.column(i).cast(pa.string()))
    return table


def _csv_trouble(path: Path, declared: DatasetDeclaration, error: str) -> str:
    """It says what is wrong with a csv in words of the file, not of its reader."""
    if match := re.search(r"Expected (\d+) columns, got (\d+)", error):
        expected, got = match.groups()
        return (
            f"{path}: line {_first_ragged_line(path, declared)} has {got} fields, {expected} "
            f"expected. Correct the line; quote values that contain the separator."
            f"{_other_separator(path, declared)}"
        )
    if "Empty CSV" in error:
        return f"{path} holds no rows: it is blank."
    if "invalid UTF8" in error:
        return (
            f"{path} is not UTF-8{_first_bad_byte(path)}. Declare `encoding` (often latin-1), or "
            "save it as UTF-8."
        )
    return f"{path} is not readable as csv: {error[:300]}"


def _other_separator(path: Path, declared: DatasetDeclaration) -> str:
    """It says that the first line looks separated otherwise, when it does."""
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding=declared.encoding, errors="replace") as file:
        first = file.readline(SNIFFED)
    likely = max(",;\t|", key=first.count)
    if likely == declared.separator or first.count(likely) <= first.count(declared.separator):
        return ""
    return f" The file looks {likely!r}-separated: declare `separator: {likely!r}`."


def _first_ragged_line(path: Path, declared: DatasetDeclaration) -> int:
    """It returns the line on which the first row of another width ends; 0 if there is none."""
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    width = len(declared.names or ())
    with opener(path, "rt", encoding=declared.encoding, errors="replace", newline="") as file:
        reader = csv.reader(file, delimiter=declared.separator)
        for row in filter(None, reader):
            width = width or len(row)
            if len(row) != width:
                return reader.line_num
    return 0


def _first_bad_byte(path: Path) -> str:
    if path.suffix == ".gz":
        return ""
    data = path.read_bytes()
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return f" at byte {error.start}, line {line}"
    return ""


def load(loader: Callable[[], Any], name: str) -> pd.DataFrame:
    """It returns the rows that a declared loader function gives.

    Raises:
        DatasetError: it raised, or gave something else than a DataFrame with rows.
    """
    try:
        frame = loader()
    except Exception as error:
        raise DatasetError(f"The loader {name} failed: {type(error).__name__}: {error}") from error
    if not isinstance(frame, pd.DataFrame) or frame.empty:
        raise DatasetError(f"The loader {name} gave no DataFrame with rows, but {type(frame)}.")
    return plain(frame.reset_index(drop=True), name)
