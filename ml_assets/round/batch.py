"""A batch of a round: one source, read once into one Parquet file, and judged on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.contract import Breach, Judge, dates
from ml_assets.data_file import READING, TypesDiffer, read_through
from ml_assets.digest import digest_of
from ml_assets.errors import DatasetError
from ml_assets.later import later
from ml_assets.problem import DatasetDeclaration
from ml_assets.resources.table import StoredFile, Table, write_pieces
from ml_assets.round import Round
from ml_assets.rows import as_frame

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    pa = later("pyarrow", "pyarrow.compute")
    pq = later("pyarrow.parquet")

EXACT = 2**53  # integers up to here are exact as float64
_DECLARED = {
    "integer": "int64",
    "number": "double",
    "text": "string",
    "boolean": "bool",
    "date": "timestamp[us]",
}


@dataclass(frozen=True)
class Batch:
    """One file that was read, or what a loader, a query or an asset gave.

    Attributes:
        name: its name in the landing zone.
        digest: of its bytes.
        stored: its rows, published and in no version yet.
        schema: its columns.
        breaches: what it breaches of its contract.
        left_out: lines of another width, with their number of fields.
        former: digests of the batches whose place it takes.
        empty: columns without a value or a known type; they are left out.
    """

    name: str
    digest: str
    stored: StoredFile
    schema: pa.Schema
    breaches: tuple[Breach, ...] = ()
    left_out: tuple[tuple[int, int], ...] = ()
    former: frozenset[str] = frozenset()
    empty: tuple[str, ...] = ()


def parsing(round_: Round) -> str:
    """It names everything in the declaration that decides how a file becomes rows."""
    declared = round_.problem.dataset
    how = ("separator", "quote", "decimal", "encoding", "names", "missing", "skip_initial_space")
    also = ("bad_lines", "number_rows")
    columns = declared.contract.columns.items()
    typed = {n: (c.type, c.format) for n, c in columns if c.type in ("text", "date")}
    kind = "landing" if declared.is_landing else "whole"
    return digest_of(READING, kind, {k: getattr(declared, k) for k in (*how, *also)}, typed)


def read_file(
    round_: Round,
    table: Table,
    file: Path,
    name: str,
    types: dict[str, pa.DataType],
    expected: tuple[str, ...] = (),
    start: int = 0,
) -> Batch:
    """It reads one file into one Parquet file beside the table.

    Args:
        round_: the round.
        table: where the rows go.
        file: a csv, csv.gz or parquet file.
        name: what it is called in the landing zone.
        types: of the dataset's columns.
        expected: columns that it must have beside those under contract.
        start: number of its first row, where rows are numbered.

    Raises:
        DatasetError: it cannot be read.
    """
    declared = round_.problem.dataset
    aside = table.aside()
    # what need not be guessed: text with digits stays text, and numbers keep their zeros
    sure = {n: t for n, t in types.items() if t in (pa.string(), pa.float64())}
    judges: list[Judge] = []
    as_read: set[str] = set()

    def consume(pieces: Iterator[pa.Table]) -> int:
        judges.append(Judge(declared, expected))
        conformed = _conformed(pieces, declared, types, as_read)
        return write_pieces(_numbered(conformed, declared, judges[-1], start), aside)

    try:
        rows, seen = read_through(file, declared, sure, consume)
        stored = table.publish(aside, rows, seen.digest)
    finally:
        aside.unlink(missing_ok=True)
    schema = pq.read_schema(table.folder / stored.name)
    breaches = tuple(judges[-1].breaches())
    empty = tuple(c for c in judges[-1].columns if c not in schema.names)
    left_out = tuple(seen.left_out)
    return Batch(name, seen.digest, stored, schema, breaches, left_out, empty=empty)


def read_rows(round_: Round, table: Table, pieces: Iterator[pa.Table]) -> Batch:
    """It writes the rows of a loader, a query or an asset beside the table."""
    declared = round_.problem.dataset
    judge, aside = Judge(declared), table.aside()
    conformed = _conformed(pieces, declared, {}, set())
    rows = write_pieces(_numbered(conformed, declared, judge, 0), aside)
    stored = table.publish(aside, rows)
    schema = pq.read_schema(table.folder / stored.name)
    return Batch(declared.source, stored.batch, stored, schema, tuple(judge.breaches()))


def _numbered(
    pieces: Iterator[tuple[pa.Table, pa.Table]],
    declared: DatasetDeclaration,
    judge: Judge,
    start: int,
) -> Iterator[pa.Table]:
    """It shows each piece to the judge as it was read, and numbers its rows where declared."""
    name = declared.number_rows
    for read, piece in pieces:
        looked_at = [c for c in read.column_names if c in judge.rules]
        judge.see(as_frame(read.select(looked_at)), read.column_names)
        if name is None:
            yield piece
            continue
        if name in read.column_names:
            raise DatasetError(f"There is a column `{name}` already: name `number_rows` otherwise.")
        numbers = pa.array(range(start, start + piece.num_rows), pa.int64())
        start += piece.num_rows
        yield piece.append_column(name, numbers)


def _conformed(
    pieces: Iterator[pa.Table],
    declared: DatasetDeclaration,
    types: dict[str, pa.DataType],
    as_read: set[str],
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """It gives each piece as it was read, and with the types of the dataset.

    Where something would be lost by that, the column stays as it was read, in all pieces: the
    file is read again, and then judged.
    """
    wanted: dict[str, pa.DataType | None] | None = None
    for piece in pieces:
        if wanted is None:
            _names_differ(piece.column_names)
            wanted = {c.name: _wanted(c, declared, types, as_read) for c in piece.schema}
        columns, names = [], []
        for column in piece.schema:
            want = wanted[column.name]
            if want is None:
                continue
            values = _turned(piece.column(column.name), column, want, declared)
            if values is None:
                as_read.add(column.name)
                raise TypesDiffer(column.name)
            columns.append(values)
            names.append(column.name)
        yield piece, pa.table(columns, names=names)


def _wanted(
    column: pa.Field,
    declared: DatasetDeclaration,
    types: dict[str, pa.DataType],
    as_read: set[str],
) -> pa.DataType | None:
    """It returns the type that a column is to have; None for one without values or a type."""
    name, empty = column.name, pa.types.is_null(column.type)
    rule = declared.contract.columns.get(name)
    said = _DECLARED.get(rule.type or "") if rule else None
    if name in as_read:
        return pa.string() if empty else column.type
    if name in types:
        return types[name]
    if not declared.is_landing:
        dated = rule is not None and rule.format is not None
        date = pa.type_for_alias(_DECLARED["date"])
        return pa.string() if empty else date if dated else column.type
    if said is not None:
        return pa.type_for_alias(said)
    if empty:
        return None
    # what comes later may hold a half: only what names things stays whole
    whole = name in (declared.target, declared.key)
    return pa.float64() if column.type == pa.int64() and not whole else column.type


def _turned(
    values: pa.ChunkedArray, column: pa.Field, want: pa.DataType, declared: DatasetDeclaration
) -> pa.ChunkedArray | None:
    """It returns values as another type; None where something would be lost."""
    have = column.type
    if have == want:
        return values
    if pa.types.is_null(have):
        return pa.chunked_array([pa.nulls(len(values), want)])
    if have == pa.string() and pa.types.is_timestamp(want):
        rule = declared.contract.columns.get(column.name)
        text = as_frame(pa.table([values], names=["x"]))["x"]
        form = rule.format if rule is not None else None
        parsed = dates(text, form)
        declared_so = rule is not None and rule.type == "date"  # then the judge tells of each
        lost = not declared_so and bool((text.notna() & parsed.isna()).any())
        return None if lost else pa.chunked_array([pa.array(parsed, want)])
    if have == pa.int64() and want == pa.float64():
        ends = pa.compute.min_max(values).as_py()
        large = max(abs(ends["min"] or 0), abs(ends["max"] or 0)) > EXACT
        return None if large else values.cast(want)
    if have == pa.float64() and want == pa.int64():
        try:
            return values.cast(want)  # refuses what is no whole number
        except pa.ArrowInvalid:
            return None
    return None


def _names_differ(names: list[str]) -> None:
    """It refuses names that differ in nothing but case: Delta, and SQL, take them for one."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name:
            raise DatasetError(
                f"The columns `{other}` and `{name}` differ only in case. Name one otherwise."
            )
