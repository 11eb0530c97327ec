"""A data file: read as rows with plain column types, or refused with what is wrong and where.

A file is read once, in pieces of bounded size, and named by the bytes that were read.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from ml_assets.digest import file_digest
from ml_assets.errors import DatasetError, shortened
from ml_assets.later import later
from ml_assets.paced import Paced
from ml_assets.problem import DatasetDeclaration
from ml_assets.rows import as_frame, plain, plain_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    pd = later("pandas")
    pa = later("pyarrow", "pyarrow.compute", "pyarrow.csv")
    pq = later("pyarrow.parquet")

T = TypeVar("T")
# Part of every dataset's key: change it when the same file would be read as different rows.
READING = "4"
MISSING_WORDS = ["", " ", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "<NA>", "n/a"]
SNIFFED = 1 << 16
MOST_CHARACTERS = 100_000  # of one text value
# A piece of a file in memory. Types are inferred from the first, so it is large.
PIECE_BYTES = 1 << 25
PIECE_ROWS = 1 << 18
MOST_LINES_NAMED = 5
# how files begin that are sometimes named .csv -> what they are, and what to do
_OTHER_FORMATS = {
    b"\x1f\x8b": "gzip-compressed; name it .csv.gz",
    b"PAR1\x15": "Parquet; name it .parquet",
    b"PK\x03\x04": "a zip or Excel file; save it as csv",
}
# What a column is read as when a later piece does not fit the type of the first.
_CODE = re.compile(r"^0\d+$")
_WIDER = {"null": "int64", "int64": "double"}


@dataclass
class Seen:
    """What is known of a file once it was read to its end.

    Attributes:
        digest: SHA-256 of its bytes, 64 hex digits.
        left_out: lines of another width that were left out, with their number of fields.
    """

    digest: str = ""
    left_out: list[tuple[int, int]] = field(default_factory=list)


class TypesDiffer(Exception):
    """A later piece does not fit the type that a column has in the earlier ones."""

    def __init__(self, column: str, wider: pa.DataType | None = None) -> None:
        super().__init__(column)
        self.column, self.wider = column, wider


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
    table, _ = read_through(path, declared, {}, lambda pieces: pa.concat_tables(list(pieces)))
    return as_frame(table)


def read_through(
    path: Path,
    declared: DatasetDeclaration,
    known: dict[str, pa.DataType],
    consume: Callable[[Iterator[pa.Table]], T],
) -> tuple[T, Seen]:
    """It gives a file's rows to `consume`, piece by piece, and returns what that returned.

    All pieces have one schema.  Should a late piece not fit the types that the first suggested,
    `consume` is called again from the start, with wider ones.

    Args:
        path: a csv, csv.gz or parquet file.
        declared: how it is to be read.
        known: types of columns that are not to be inferred.
        consume: takes the pieces; called anew when types change.

    Raises:
        DatasetError: with the file, the place where known, and what to do.
    """
    _openable(path)
    known = dict(known)
    while True:
        seen = Seen()
        pieces = (
            _parquet_pieces(path, seen)
            if path.suffix == ".parquet"
            else _csv_pieces(path, declared, known, seen)
        )
        try:
            return consume(_checked(pieces, path, declared)), seen
        except TypesDiffer as other:
            if other.wider is not None:
                known[other.column] = other.wider


def _openable(path: Path) -> None:
    if path.is_dir():
        raise DatasetError(f"{path} is a folder; `dataset.path` names one file.")
    try:
        with open(path, "rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise DatasetError(
            f"No data file at {path}. Put one there, or change `dataset.path` in defs.yaml."
        ) from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}.") from None
    if empty:
        raise DatasetError(f"{path} is empty (0 bytes).")


def _checked(
    pieces: Iterator[pa.Table], path: Path, declared: DatasetDeclaration
) -> Iterator[pa.Table]:
    """It passes pieces on, with plain types, when they have names, rows, and values of some size."""
    rows, names = 0, None
    for piece in pieces:
        if names is None:
            names = piece.column_names
            _names_are_sound(names, path, declared)
        for column in piece.schema:
            if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
                _values_are_short(piece.column(column.name), column.name, path)
        rows += piece.num_rows
        if piece.num_rows:
            yield plain_table(piece, str(path))
    if rows == 0:
        raise DatasetError(f"{path} has a header and 0 data rows.")


def _names_are_sound(names: list[str], path: Path, declared: DatasetDeclaration) -> None:
    alone = len(names) == 1 and path.suffix != ".parquet"
    if alone and (hint := _other_separator(path, declared)):
        raise DatasetError(f"{path}: 1 column found.{hint}")
    if any(not str(n).strip() for n in names):
        at = next(i for i, n in enumerate(names) if not str(n).strip())
        raise DatasetError(f"{path}: column {at + 1} has no name. Name it in the header.")
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise DatasetError(f"{path}: the header names {shortened(twice)} more than once.")


def _values_are_short(values: pa.ChunkedArray, name: str, path: Path) -> None:
    longest = pa.compute.max(pa.compute.binary_length(values)).as_py()
    if (longest or 0) > MOST_CHARACTERS:
        raise DatasetError(
            f"{path}: a value of `{name}` is {longest:,} bytes long; at most "
            f"{MOST_CHARACTERS:,} are read. Is a quotation mark missing?"
        )


# ---------------------------------------------------------------------- Parquet


PARQUET_BUFFER = 1 << 20  # bytes of each column that are read at a time

# Where pandas keeps the numbers of rows that were selected; they say nothing of a row.
_ROW_NUMBERS = re.compile(r"__index_level_\d+__$")


def _parquet_pieces(path: Path, seen: Seen) -> Iterator[pa.Table]:
    seen.digest = fingerprint(path)
    try:
        # through a buffer: a mapped file, or one that is read ahead, fills memory as it is read
        file = pq.ParquetFile(path, buffer_size=PARQUET_BUFFER, pre_buffer=False)
    except (pa.ArrowInvalid, OSError) as error:
        with open(path, "rb") as raw:
            magic = raw.read(4)
        if magic != b"PAR1":
            raise DatasetError(
                f"{path} is named .parquet but its content is not Parquet. Rename it to what it is."
            ) from None
        raise DatasetError(
            f"{path} is not a complete Parquet file (its footer is missing or damaged: "
            f"{str(error)[:120]}). Send it again."
        ) from None
    with file:
        nested = [f.name for f in file.schema_arrow if pa.types.is_nested(f.type)]
        if nested:
            raise DatasetError(
                f"{path}: nested columns {shortened(nested)}. Flatten them into plain columns."
            )
        apart = [n for n in file.schema_arrow.names if _ROW_NUMBERS.match(n)]
        empty = _empty_columns(file)
        yield _without_type(file.schema_arrow.empty_table().drop_columns(apart), empty)
        try:
            for piece in file.iter_batches(PIECE_ROWS):
                yield _without_type(pa.Table.from_batches([piece]).drop_columns(apart), empty)
        except (pa.ArrowInvalid, OSError) as error:
            raise DatasetError(f"{path} is damaged: {str(error)[:120]}. Send it again.") from None


def _empty_columns(file: pq.ParquetFile) -> set[str]:
    """It returns the columns without a value, as far as the file's footer tells: they have no type."""
    details = file.metadata
    empty = set(file.schema_arrow.names) if details.num_rows else set()
    for group in range(details.num_row_groups):
        for i in range(details.num_columns):
            column = details.row_group(group).column(i)
            known = column.statistics is not None and column.statistics.has_null_count
            if not known or column.statistics.null_count < details.row_group(group).num_rows:
                empty.discard(column.path_in_schema)
    return empty


def _without_type(piece: pa.Table, empty: set[str]) -> pa.Table:
    for i, name in enumerate(piece.column_names):
        if name in empty:
            piece = piece.set_column(i, name, pa.nulls(piece.num_rows))
    return piece


# -------------------------------------------------------------------------- csv


class _Hashed:
    """A file that is hashed as it is read, so that what is named is what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.hash, self.closed = file, hashlib.sha256(), False

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.hash.update(data)
        return data

    def close(self) -> None:
        self.closed = True

    def digest(self) -> str:
        while self.read(1 << 20):  # what the reader had no need of
            pass
        return self.hash.hexdigest()


def _csv_pieces(
    path: Path, declared: DatasetDeclaration, known: dict[str, pa.DataType], seen: Seen
) -> Iterator[pa.Table]:
    _looks_like_csv(path, declared)
    misfits: list[int] = []

    def misfit(row: Any) -> str:
        misfits.append(row.actual_columns)
        return "skip" if len(misfits) <= declared.bad_lines else "error"

    with open(path, "rb") as raw:
        hashed = _Hashed(raw)
        source: Any = hashed
        if path.suffix == ".gz":
            source = pa.CompressedInputStream(pa.PythonFile(hashed, mode="r"), "gzip")
        paced, names = Paced(source, PIECE_BYTES), list[str]()
        with _csv_troubles(path, declared, names), contextlib.closing(paced):
            said = {n for n, c in declared.contract.columns.items() if c.type}
            codes = {n: pa.string() for n in _with_leading_zeros(path, declared) - said}
            options = _csv_options(declared, {**codes, **known}, misfit)
            reader = pa.csv.open_csv(pa.PythonFile(paced, mode="r"), **options)
            names += reader.schema.names
            if any(pa.types.is_binary(f.type) for f in reader.schema):
                raise DatasetError(_csv_trouble(path, declared, "invalid UTF8"))
            yield _tidy(reader.schema.empty_table(), declared)
            for piece in _ahead(paced.pieces(reader)):
                yield _tidy(pa.Table.from_batches([piece]), declared)
        seen.digest = hashed.digest()
    if misfits:
        seen.left_out = _ragged_lines(path, declared, len(misfits))


def _ahead(pieces: Iterator[T]) -> Iterator[T]:
    """It gives the same pieces; the next is read while whoever takes them works with this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, pieces, None)
        while (piece := coming.result()) is not None:
            coming = pool.submit(next, pieces, None)
            yield piece


def _csv_options(
    declared: DatasetDeclaration, known: dict[str, pa.DataType], misfit: Any
) -> dict[str, Any]:
    words = list(dict.fromkeys([*MISSING_WORDS, *declared.missing]))
    if declared.skip_initial_space:
        words += [f" {w}" for w in words if not w.startswith(" ")]
    columns = declared.contract.columns.items()
    text = {n: pa.string() for n, c in columns if c.type == "text" or c.format}
    return {
        "read_options": pa.csv.ReadOptions(
            column_names=declared.names, encoding=declared.encoding, block_size=PIECE_BYTES
        ),
        "parse_options": pa.csv.ParseOptions(
            delimiter=declared.separator,
            quote_char=declared.quote,
            newlines_in_values=True,
            invalid_row_handler=misfit,
        ),
        "convert_options": pa.csv.ConvertOptions(
            null_values=words,
            strings_can_be_null=True,
            decimal_point=declared.decimal,
            column_types={**text, **known},
        ),
    }


@contextlib.contextmanager
def _csv_troubles(path: Path, declared: DatasetDeclaration, names: list[str]) -> Iterator[None]:
    """It turns what the reader raises into words of the file, or asks for wider types."""
    try:
        yield
    except pa.ArrowInvalid as error:
        # a reader with one thread names the row as well
        told = r"In CSV column #(\d+): (?:Row #\d+: )?CSV conversion error to (\w+)"
        found = re.search(told, str(error))
        names = names or list(declared.names or ()) or _header(path, declared)
        if found and found[2] != "string" and int(found[1]) < len(names):
            wider = pa.type_for_alias(_WIDER.get(found[2], "string"))
            raise TypesDiffer(names[int(found[1])], wider) from None
        raise DatasetError(_csv_trouble(path, declared, str(error))) from None
    except (OSError, EOFError) as error:
        raise DatasetError(
            f"{path} cannot be unpacked: the compressed file is incomplete or damaged "
            f"({str(error)[:120]}). Send it again."
        ) from None
    except (UnicodeError, LookupError) as error:
        raise DatasetError(f"{path} cannot be read as {declared.encoding}: {error}.") from None


def _looks_like_csv(path: Path, declared: DatasetDeclaration) -> None:
    with open(path, "rb") as file:
        start = file.read(5)
    for mark, what in _OTHER_FORMATS.items():
        if start.startswith(mark) and path.suffix != ".gz":
            raise DatasetError(f"{path} is not csv but {what}.")
    wide = declared.encoding.lower().startswith("utf-16")
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") and not wide:
        raise DatasetError(
            f"{path} is UTF-16 (byte order mark {start[:2].hex(' ').upper()}), not "
            f"{declared.encoding}. Declare `encoding: utf-16`, or save it as UTF-8."
        )
    if path.suffix != ".gz" and path.stat().st_size < SNIFFED and not path.read_bytes().strip():
        raise DatasetError(f"{path} holds no rows: it is blank.")


def _tidy(table: pa.Table, declared: DatasetDeclaration) -> pa.Table:
    """It returns a piece without leading blanks, where they are no part of values."""
    if not declared.skip_initial_space:
        return table
    table = table.rename_columns([n.lstrip() for n in table.column_names])
    for i, column in enumerate(table.schema):
        if pa.types.is_string(column.type):
            stripped = pa.compute.utf8_ltrim_whitespace(table.column(i))
            table = table.set_column(i, column.name, stripped)
    return table


def _csv_trouble(path: Path, declared: DatasetDeclaration, error: str) -> str:
    """It says what is wrong with a csv in words of the file, not of its reader."""
    if match := re.search(r"Expected (\d+) columns, got (\d+)", error):
        lines = _ragged_lines(path, declared, MOST_LINES_NAMED)
        told = ", ".join(f"line {line} has {fields} fields" for line, fields in lines)
        tolerated = f" {declared.bad_lines} are tolerated." if declared.bad_lines else ""
        return (
            f"{path}: {told or 'a line has ' + match[2]}, {match[1]} expected.{tolerated} Correct "
            f"the line; quote values that contain the separator.{_other_separator(path, declared)}"
        )
    if "Empty CSV" in error:
        return f"{path} holds no rows: it is blank."
    if "invalid UTF8" in error or "invalid utf8" in error.lower():
        return (
            f"{path} is not UTF-8{_first_bad_byte(path)}. Declare `encoding` (often latin-1), or "
            "save it as UTF-8."
        )
    return f"{path} is not readable as csv: {error[:300]}"


def _other_separator(path: Path, declared: DatasetDeclaration) -> str:
    """It says that the first line looks separated otherwise, when it does."""
    with _as_text(path, declared) as file:
        first = file.readline(SNIFFED)
    likely = max(",;\t|", key=first.count)
    if likely == declared.separator or first.count(likely) <= first.count(declared.separator):
        return ""
    return f" The file looks {likely!r}-separated: declare `separator: {likely!r}`."


def _header(path: Path, declared: DatasetDeclaration) -> list[str]:
    """It returns the names in the first line, as the reader sees them."""
    with _as_text(path, declared) as file:
        reader = csv.reader(file, delimiter=declared.separator, quotechar=declared.quote)
        return [n.removeprefix("\ufeff") for n in next(filter(None, reader), [])]


def _with_leading_zeros(path: Path, declared: DatasetDeclaration) -> set[str]:
    """It returns the columns that begin like codes, such as 00501: as numbers they lose digits."""
    with _as_text(path, declared) as file, contextlib.suppress(csv.Error, EOFError, OSError):
        head = io.StringIO(file.read(SNIFFED))
        reader = csv.reader(head, delimiter=declared.separator, quotechar=declared.quote)
        lines = list(filter(None, reader))[:-1] or [[]]
        names = list(declared.names or ()) or lines[0]
        return {n for line in lines for n, v in zip(names, line, strict=False) if _CODE.match(v)}
    return set()


def _as_text(path: Path, declared: DatasetDeclaration) -> IO[str]:
    opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    opened: IO[str] = opener(path, "rt", encoding=declared.encoding, errors="replace", newline="")
    return opened


def _ragged_lines(path: Path, declared: DatasetDeclaration, most: int) -> list[tuple[int, int]]:
    """It returns the lines on which rows of another width end, with their number of fields."""
    found: list[tuple[int, int]] = []
    width = len(declared.names or ())
    with _as_text(path, declared) as file:
        reader = csv.reader(file, delimiter=declared.separator, quotechar=declared.quote)
        for row in filter(None, reader):
            width = width or len(row)
            if len(row) != width:
                found.append((reader.line_num, len(row)))
                if len(found) == most:
                    break
    return found


def lines_of(path: Path, declared: DatasetDeclaration, rows: Iterable[int]) -> dict[int, int]:
    """It returns the line on which each of these rows begins; Parquet's rows are counted from 1.

    Args:
        path: a file that was read.
        declared: how it was read.
        rows: positions of rows, from 0.
    """
    wanted = set(rows)
    if path.suffix == ".parquet" or not wanted:
        return {row: row + 1 for row in wanted}
    found: dict[int, int] = {}
    at, begins = 0 if declared.names else -1, 1
    with _as_text(path, declared) as file:
        reader = csv.reader(file, delimiter=declared.separator, quotechar=declared.quote)
        for fields in reader:
            if fields:
                if at in wanted:
                    found[at] = begins
                at += 1
            begins = reader.line_num + 1
            if len(found) == len(wanted):
                break
    return found


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
