"""A table: the accepted rows of a problem, as a Delta Lake table.

Each accepted batch is one commit, and one Parquet file that is named by its content.  A commit
carries the batch's digest as an application transaction, so that the same batch cannot come in
twice, by whichever process.  Every earlier version can be read again, by us and by whatever reads
Delta: Spark, DuckDB, Polars.
"""

import contextlib
import functools
import json
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.digest import file_digest
from ml_assets.errors import ModelRefused

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from deltalake import DeltaTable, Schema

# Nothing that was ever a version is cleaned away by itself.
_KEPT = {
    "delta.logRetentionDuration": "interval 36500 days",
    "delta.deletedFileRetentionDuration": "interval 36500 days",
    "delta.enableExpiredLogCleanup": "false",
}
_BYTES = "bytes:"  # before the hex digits of a text that is no UTF-8
LATEST = ".latest.json"  # which files the latest version has
NAMED = 32  # hex digits of a digest in a file's name
WHOLE_BYTES = 1 << 28  # tables smaller than this are read at once, others column by column


@dataclass(frozen=True)
class StoredFile:
    """One Parquet file of a table.

    Attributes:
        name: its name, made of the two digests.
        rows: number of rows.
    """

    name: str
    rows: int

    @property
    def batch(self) -> str:
        """The digest of the batch that it was read from (32 hex digits)."""
        return self.name.split("-")[0]

    @property
    def digest(self) -> str:
        """The digest of its own bytes (32 hex digits)."""
        return self.name.split("-")[1].removesuffix(".parquet")


@dataclass(frozen=True)
class Table:
    """A Delta table, written file by file.

    Attributes:
        folder: where it lies.
    """

    folder: Path

    def _delta(self, version: int | None = None) -> "DeltaTable | None":
        from deltalake import DeltaTable

        if not self.folder.is_dir() or not DeltaTable.is_deltatable(str(self.folder)):
            return None
        return DeltaTable(self.folder, version=version)

    @property
    def _place(self) -> "str | Path":
        return self.folder

    @property
    def _options(self) -> dict[str, str] | None:
        return None

    def _send(self, stored: StoredFile) -> None:
        """A published file is where the table is."""

    def path(self, stored: StoredFile) -> Path:
        """It returns where a published file is on this machine; nothing is there if it is gone."""
        return self.folder / stored.name

    def version(self) -> int | None:
        """It returns the number of the latest version, or None where nothing was committed."""
        # each version is a file that is never removed: deltalake need not be imported to look
        names = (f.stem for f in (self.folder / "_delta_log").glob("*.json"))
        return max((int(n) for n in names if n.isdecimal()), default=None)

    def files(self, version: int | None = None) -> list[StoredFile]:
        """It returns the files of a version (the latest by default), in the order they came."""
        if version is None and (noted := self._noted()) is not None:
            return noted
        delta = self._delta(version)
        if delta is None:
            return []
        files = [StoredFile(a["path"], a["num_records"]) for a in _listed(delta)]
        if version is None:
            self._note(int(delta.version()), files)
        return files

    def _noted(self) -> list[StoredFile] | None:
        """It returns the files of the latest version, where that was asked before; else None."""
        try:
            note = json.loads((self.folder / LATEST).read_text())
        except FileNotFoundError:
            return None
        if note["version"] != self.version():
            return None
        return [StoredFile(**f) for f in note["files"]]

    def _note(self, version: int, files: list[StoredFile]) -> None:
        with contextlib.suppress(OSError):  # it only saves the next asker an import
            aside = self.aside().with_suffix(".json")
            aside.write_text(json.dumps({"version": version, "files": [asdict(f) for f in files]}))
            aside.replace(self.folder / LATEST)

    def schema(self) -> "pa.Schema | None":
        """It returns the columns of the latest version, or None where nothing was committed."""
        import pyarrow as pa

        delta = self._delta()
        return pa.schema(delta.schema().to_arrow()) if delta is not None else None

    def types(self) -> "dict[str, pa.DataType]":
        """It returns the type of each column of the latest version."""
        schema = self.schema()
        return {c.name: c.type for c in schema} if schema is not None else {}

    def largest(self, column: str) -> int:
        """It returns the largest whole number in a column; -1 where there is none."""
        import pyarrow.compute
        import pyarrow.parquet as pq

        files = [self.path(f) for f in self.files()]
        has = [f for f in files if column in pq.read_schema(f).names]
        found = [
            pyarrow.compute.max(pq.read_table(f, columns=[column])[column]).as_py() for f in has
        ]
        return max((n for n in found if n is not None), default=-1)

    def has(self, batch: str) -> bool:
        """It says whether a batch was ever committed, by its digest."""
        delta = self._delta()
        return delta is not None and delta.transaction_version(_transaction(batch)) is not None

    def aside(self) -> Path:
        """It returns the name of a file to write before it is published."""
        folder = self.folder / ".aside"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{uuid.uuid4().hex}.parquet"

    def publish(self, aside: Path, rows: int, batch: str = "") -> StoredFile:
        """It names a file by its content and puts it beside the others; no version has it yet.

        Args:
            aside: the file.
            rows: number of its rows.
            batch: digest of the batch it was read from; its own by default.
        """
        own = file_digest(aside)
        stored = StoredFile(f"{(batch or own)[:NAMED]}-{own[:NAMED]}.parquet", rows)
        handle = os.open(aside, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        aside.rename(self.folder / stored.name)
        return stored

    def holds(self, stored: StoredFile) -> bool:
        """It says whether a published file is there, as it was written."""
        file = self.path(stored)
        return file.is_file() and file_digest(file).startswith(stored.digest)

    def commit(
        self,
        add: list[StoredFile],
        remove: list[StoredFile],
        schema: "pa.Schema",
        about: dict[str, str],
        once: str = "",
    ) -> int:
        """It makes a new version, in one atomic step, and returns its number.

        Args:
            add: published files that come in.
            remove: files that go out.
            schema: all columns of the new version.
            about: what is noted with it.
            once: digest of a batch that may come in once only.

        Raises:
            deltalake.exceptions.CommitFailedError: another process brought that batch in.
        """
        from deltalake import CommitProperties, Schema, Transaction
        from deltalake.transaction import AddAction, RemoveAction

        columns = Schema.from_arrow(schema)
        for stored in add:
            self._send(stored)
        delta = self._delta() or self._created(columns)
        everything = {f.name for f in self.files()} == {f.name for f in remove}
        if not everything or not remove:
            delta = self._widened(delta, schema)
        now = int(time.time() * 1000)
        last = max((a["modification_time"] for a in _listed(delta)), default=0)
        # The order of files is the order of these times: they never repeat.
        times = range(max(now, last + 1), max(now, last + 1) + len(add))
        actions: list[Any] = [
            AddAction(
                f.name,
                (self.folder / f.name).stat().st_size,
                {},
                at,
                True,
                json.dumps({"numRecords": f.rows}),
            )
            for f, at in zip(add, times, strict=True)
        ]
        if not everything:
            actions += [RemoveAction(f.name, True, now) for f in remove]
        transactions = [Transaction(_transaction(once), 1)] if once else None
        delta.create_write_transaction(
            actions,
            "overwrite" if everything and remove else "append",
            columns,
            commit_properties=CommitProperties(
                {k: _plain(v) for k, v in about.items()}, app_transactions=transactions
            ),
        )
        self.files()  # noted, for whoever asks next
        return int(self.version() or 0)

    def _created(self, columns: "Schema") -> "DeltaTable":
        from deltalake import DeltaTable

        self.folder.mkdir(parents=True, exist_ok=True)
        options = self._options
        return DeltaTable.create(
            self._place, columns, mode="ignore", configuration=_KEPT, storage_options=options
        )

    def _widened(self, delta: "DeltaTable", schema: "pa.Schema") -> "DeltaTable":
        """It adds columns that come for the first time: earlier rows have none of their values."""
        import pyarrow as pa
        from deltalake import Schema

        known = set(pa.schema(delta.schema().to_arrow()).names)
        new = [c for c in schema if c.name not in known]
        if new:
            delta.alter.add_columns(list(Schema.from_arrow(pa.schema(new)).fields))
        return self._delta() or delta

    def history(self, most: int) -> list[dict[str, Any]]:
        """It returns what was noted with the latest versions, newest first."""
        delta = self._delta()
        if delta is None:
            return []
        return [
            {k: _given(v) if isinstance(v, str) else v for k, v in version.items()}
            for version in delta.history(most)
        ]

    def rows(self, files: list[StoredFile], known: set[str]) -> "StoredRows":
        """It returns the rows of files, to be read when asked for.

        Args:
            files: published files.
            known: names of files that were found to be as written, in this process; added to.

        Raises:
            ModelRefused: a file is not what was written.
        """
        for stored in files:
            if stored.name not in known:
                if not self.holds(stored):
                    raise ModelRefused(
                        f"{self.folder / stored.name} is gone or was changed after it was written. "
                        "Bring back the file, or the dataset cannot be read."
                    )
                known.add(stored.name)
        count = sum(f.rows for f in files)
        return StoredRows(tuple(self.path(f) for f in files), count)


def _listed(delta: "DeltaTable") -> list[dict[str, Any]]:
    import pyarrow as pa

    added = pa.table(delta.get_add_actions()).to_pylist()
    return sorted(added, key=lambda a: (a["modification_time"], a["path"]))


def _plain(text: str) -> str:
    """It returns a text that Delta's log can hold: a file's name may be no UTF-8."""
    if text.isascii() and not text.startswith(_BYTES):
        return text
    raw = os.fsencode(text)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _BYTES + raw.hex()
    return _BYTES + raw.hex() if text.startswith(_BYTES) else text


def _given(text: str) -> str:
    """It returns the text that `_plain` was given."""
    return (
        os.fsdecode(bytes.fromhex(text.removeprefix(_BYTES))) if text.startswith(_BYTES) else text
    )


def _transaction(batch: str) -> str:
    return f"batch:{batch[:NAMED]}"


class StoredRows:
    """Rows on disk that answer like a DataFrame, one column at a time.

    A table of some size is never in memory as a whole while it is only asked questions.
    """

    def __init__(self, files: tuple[Path, ...], count: int) -> None:
        self.files, self.count = files, count
        self._frame: pd.DataFrame | None = None
        self._last: tuple[str, Any] | None = None

    @functools.cached_property
    def schema(self) -> "pa.Schema":
        """The columns of all files; read when asked for."""
        import pyarrow.parquet as pq

        return merged([pq.read_schema(f) for f in self.files])

    @property
    def columns(self) -> list[str]:
        """The columns' names, in order."""
        return list(self.schema.names)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, name: str) -> "pd.Series":
        if self.count * len(self.schema) * 8 <= WHOLE_BYTES:
            return self.frame()[name]
        if self._last is None or self._last[0] != name:
            self._last = None  # two columns need not be there at once
            self._last = name, self._read([name])[name]
        series: pd.Series = self._last[1]
        return series

    def frame(self) -> "pd.DataFrame":
        """It returns all rows; read once."""
        if self._frame is None:
            self._frame = self._read(self.columns)
        return self._frame

    def head(self, most: int) -> "pd.DataFrame":
        """It returns the first rows."""
        if self._frame is not None:
            return self._frame.head(most)
        import pyarrow as pa

        from ml_assets.rows import as_frame

        return (
            as_frame(self._dataset().head(most).cast(self.schema, safe=False))
            if most
            else as_frame(pa.table({}))
        )

    def pieces(self) -> "Iterator[pa.Table]":
        """It gives the rows file by file, with the columns of all."""
        import pyarrow.dataset as ds

        for file in self.files:
            yield ds.dataset(file, schema=self.schema, format="parquet").to_table()

    def _dataset(self) -> Any:
        import pyarrow.dataset as ds

        return ds.dataset([str(f) for f in self.files], schema=self.schema, format="parquet")

    def _read(self, names: list[str]) -> "pd.DataFrame":
        from ml_assets.rows import as_frame

        return as_frame(self._dataset().to_table(columns=names))


def merged(schemas: "list[pa.Schema]") -> "pa.Schema":
    """It returns the columns of all schemas, in order of appearance.

    Whole numbers become numbers where others are; text that stands for no value, what others are.
    """
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    for schema in schemas:
        for column in schema:
            before = types.setdefault(column.name, column.type)
            if before != column.type:
                known = [t for t in (before, column.type) if not pa.types.is_string(t)]
                types[column.name] = known[0] if len(known) == 1 else pa.float64()
    return pa.schema(list(types.items()))


def write_pieces(pieces: "Iterator[pa.Table]", file: Path) -> int:
    """It writes rows as Parquet, the same bytes for the same rows, and returns their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, writer = 0, None
    try:
        for piece in pieces:
            if writer is None:
                text = [c.name for c in piece.schema if pa.types.is_string(c.type)]
                writer = pq.ParquetWriter(
                    file, piece.schema, compression="lz4", use_dictionary=text
                )
            writer.write_table(piece.replace_schema_metadata())
            rows += piece.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows
