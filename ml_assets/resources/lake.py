"""A lake: every table and file, immutable and named by its content.

What is made from known inputs is found again by a key (the digest of inputs, configuration and
code), so nothing is made twice.  A thing is written aside, flushed, and renamed into its name:
whoever looks sees the whole of it or nothing.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.digest import tree_digest
from ml_assets.errors import Damaged, ModelRefused, NotMaterialized
from ml_assets.resources.table import StoredFile, StoredRows, Table

if TYPE_CHECKING:
    import pandas as pd

    from ml_assets.resources.database import Database

# Tables held in memory at once: the dataset and the three parts of one problem.
MOST_READ = 4
DAY = 86400.0  # seconds
_REMOVED = "removed-"  # how a thing is called while it goes


@dataclass(frozen=True)
class Entry:
    """One immutable folder of the lake.

    Attributes:
        path: the folder.
        digest: SHA-256 of its content, 64 hex digits.
        key: what it was made from.
        facts: what was noted while it was made (times, seconds); not part of its content.
    """

    path: Path
    digest: str
    key: str
    facts: dict[str, Any]

    def json(self, name: str) -> Any:
        """It returns the parsed JSON file of that name."""
        return json.loads((self.path / name).read_text())

    def verified(self) -> "Entry":
        """It returns itself, when the files are those that were written.

        Raises:
            ModelRefused: they are not.
        """
        found = tree_digest(self.path)
        if found != self.digest:
            raise ModelRefused(
                f"{self.path} was changed after it was written: digest {found[:16]}, recorded "
                f"{self.digest[:16]}. Remove the folder; the next run makes it anew."
            )
        return self


@dataclass(frozen=True)
class Lake:
    """The tables and files of all problems.

    Attributes:
        root: its folder.
        database: where its locks are; files in the folder where there is none.
    """

    root: Path
    database: "Database | None" = None
    _read: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _sound: set[str] = field(default_factory=set, repr=False, compare=False)

    def sound(self, entry: Entry) -> Entry:
        """It returns an entry whose files are those that were written; asked once per process.

        Raises:
            ModelRefused: they are not.
        """
        if entry.digest not in self._sound:
            entry.verified()
            self._sound.add(entry.digest)
        return entry

    def rows(self, entry: Entry, name: str) -> "pd.DataFrame":
        """It returns the rows of a Parquet file of an entry: read once per process, not changed.

        Raises:
            ModelRefused: the files are not those that were written.
        """
        known = f"{entry.digest}/{name}"
        if known not in self._read:
            self.sound(entry)
            while len(self._read) >= MOST_READ:
                self._read.pop(next(iter(self._read)))
            self._read[known] = read_table(entry.path / name)
        return self._read[known]

    def stored_rows(self, table: Table, files: list[StoredFile]) -> StoredRows:
        """It returns the rows of a table's files; what was read stays in memory for the next asker.

        Raises:
            ModelRefused: a file is not what was written.
        """
        known = "/".join([str(table.folder), *(f.name for f in files)])
        if known not in self._read:
            while len(self._read) >= MOST_READ:
                self._read.pop(next(iter(self._read)))
            self._read[known] = table.rows(files, self._sound)
        rows: StoredRows = self._read[known]
        return rows

    def let_go(self) -> None:
        """It lets go of all rows in memory; they are read again when they are asked for."""
        self._read.clear()
        arrow = sys.modules.get("pyarrow")
        if arrow is not None:  # which keeps what was freed for the next table
            arrow.default_memory_pool().release_unused()

    def head(self, entry: Entry, name: str, most: int) -> "pd.DataFrame":
        """It returns the first rows of a Parquet file of an entry; no more is read.

        Raises:
            ModelRefused: the files are not those that were written.
        """
        import pyarrow.parquet as pq

        known = f"{entry.digest}/{name}"
        if known in self._read:
            return self._read[known].head(most)
        self.sound(entry)
        with pq.ParquetFile(entry.path / name) as file:
            first = next(file.iter_batches(most), None)
            return (first if first is not None else file.schema_arrow.empty_table()).to_pandas()

    @contextlib.contextmanager
    def lock(self, problem: str, noun: str = "") -> Iterator[None]:
        """It lets one process at a time change a problem's dataset; a dead one holds nothing.

        Args:
            problem: the problem's name.
            noun: what else is to be changed, instead of the dataset.
        """
        if self.database is not None:
            with self.database.lock(f"lake/{problem}/{noun}"):
                yield
            return
        folder = self.root / problem
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / f".lock{noun and f'_{noun}'}", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def entries(self, problem: str, noun: str) -> list[Entry]:
        """It returns all that was made under a noun."""
        keys = [name.removesuffix(".json") for name in self._keys(problem, noun)]
        found = [self.find(problem, noun, key) for key in keys]
        return [e for e in found if e is not None]

    def removable(self, problem: str, noun: str, keep: Collection[str]) -> list[Path]:
        """It returns the folders and keys of all that was made under a noun, but for some keys.

        A folder that a key to be kept leads to stays.
        """
        keys = [k for k in sorted((self.root / problem / "keys" / noun).glob("*")) if k.is_file()]
        kept = {
            json.loads(k.read_text())["digest"]
            for k in keys
            if k.name.removesuffix(".json") in keep
        }
        folders = sorted((self.root / problem / noun).glob("*"))
        gone = [f for f in folders if f.name not in kept]
        return gone + [k for k in keys if k.name.removesuffix(".json") not in keep]

    def leftovers(self, problem: str, now: float) -> list[Path]:
        """It returns what processes that died left aside: nobody writes one thing for a day."""
        found = sorted((self.root / problem / ".aside").glob("*"))
        return [f for f in found if f.name.startswith(_REMOVED) or now - f.stat().st_mtime > DAY]

    def remove(self, problem: str, noun: str, places: Collection[Path]) -> None:
        """It removes folders and files of a problem; each is whole or gone at any instant."""
        aside = self.root / problem / ".aside"
        aside.mkdir(parents=True, exist_ok=True)
        for place in places:
            gone = aside / f"{_REMOVED}{noun.split()[0]}-{uuid.uuid4().hex}"
            try:
                place.rename(gone)
            except FileNotFoundError:
                continue
            if gone.is_dir() and not gone.is_symlink():
                shutil.rmtree(gone, ignore_errors=True)
            else:
                gone.unlink(missing_ok=True)

    def measured(self, places: Collection[Path]) -> tuple[int, int]:
        """It returns how many files are in these places, and how many bytes they have."""
        files = [f for place in places for f in _files(place)]
        return len(files), sum(f.lstat().st_size for f in files)

    def table(self, problem: str, name: str) -> Table:
        """It returns a table of a problem."""
        return Table(self.root / problem / "table" / name)

    def gather(self, problem: str, name: str) -> None:
        """What other machines logged is in the folder of that name already."""

    def send_logged(self, problem: str, name: str, since: float = 0.0) -> None:
        """What this machine logs is where the others look."""

    def forget(self, problem: str, name: str, before: float) -> None:
        """What was logged is nowhere but in the folder of that name."""

    @property
    def segment_seconds(self) -> float | None:
        """How long one file of a log is written to; None for as long as usual."""
        return None

    def note(self, problem: str, name: str, note: dict[str, Any]) -> None:
        """It writes a note that may change, in one atomic step."""
        self._note(self.root / problem / "notes" / f"{name}.json", note)

    def noted(self, problem: str, name: str) -> dict[str, Any] | None:
        """It returns a note, or None.

        Raises:
            Damaged: it is not what was written.
        """
        file = self.root / problem / "notes" / f"{name}.json"
        try:
            return self._read_note(file)
        except ValueError:
            raise Damaged(
                f"{self._place(file)} is damaged. Restore it from a backup. Without one, remove it: what it says is "
                "found again where that is possible."
            ) from None

    def find(self, problem: str, noun: str, key: str) -> Entry | None:
        """It returns what was made under that key, or None."""
        note = self._read_note(self._key_file(problem, noun, key))
        if note is None:
            return None
        folder = self.root / problem / noun / note["digest"]
        return Entry(folder, note["digest"], key, note["facts"]) if self._there(folder) else None

    def put(
        self, problem: str, noun: str, key: str, write: Callable[[Path], dict[str, Any]]
    ) -> Entry:
        """It makes an entry: `write` fills an empty folder and returns the facts to note."""
        aside = self.root / problem / ".aside" / uuid.uuid4().hex
        aside.mkdir(parents=True)
        try:
            facts = write(aside)
            for path in aside.rglob("*"):
                if path.is_file():
                    _flush(path)
            digest = tree_digest(aside)
            folder = self.root / problem / noun / digest
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                # the same content is already there, unless it was damaged since
                if tree_digest(folder) != digest:
                    folder.rename(aside.with_name(aside.name + ".damaged"))
                    aside.rename(folder)
            _flush(folder.parent)
            self._keep(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        self._note(self._key_file(problem, noun, key), {"digest": digest, "facts": facts})
        return Entry(folder, digest, key, facts)

    def amend(self, problem: str, noun: str, entry: Entry, **facts: Any) -> Entry:
        """It adds facts to an entry's note; its content stays."""
        together = {**entry.facts, **facts}
        note = {"digest": entry.digest, "facts": together}
        self._note(self._key_file(problem, noun, entry.key), note)
        return Entry(entry.path, entry.digest, entry.key, together)

    def make_current(self, problem: str, asset: str, noun: str, entry: Entry) -> None:
        """It notes that an asset's latest good version is this entry."""
        note = {"noun": noun, "key": entry.key, "digest": entry.digest}
        self._note(self.root / problem / "current" / f"{asset}.json", note)

    def current(self, problem: str, asset: str) -> Entry:
        """It returns the latest good version of an asset.

        Raises:
            NotMaterialized: there is none.
        """
        note = self._read_note(self.root / problem / "current" / f"{asset}.json")
        if note is None:
            raise NotMaterialized(
                f"{problem}/{asset} has no version yet. Materialize it first, or run the whole "
                f"problem: `ml-assets run {problem}`."
            )
        entry = self.find(problem, note["noun"], note["key"])
        if entry is None or entry.digest != note["digest"]:
            raise NotMaterialized(f"{problem}/{asset}: its files are gone. Materialize it again.")
        return entry

    def _keys(self, problem: str, noun: str) -> list[str]:
        """It returns the names of the notes of a noun's keys."""
        return sorted(f.name for f in (self.root / problem / "keys" / noun).glob("[!.]*.json"))

    def _read_note(self, file: Path) -> dict[str, Any] | None:
        try:
            note: dict[str, Any] = json.loads(file.read_text())
        except FileNotFoundError:
            return None
        return note

    def _place(self, file: Path) -> str:
        return str(file)

    def _there(self, folder: Path) -> bool:
        """It says whether a folder that is named by its content is here."""
        return folder.is_dir()

    def _keep(self, folder: Path) -> None:
        """A folder is kept where it was made."""

    def _key_file(self, problem: str, noun: str, key: str) -> Path:
        return self.root / problem / "keys" / noun / f"{key}.json"

    def _note(self, file: Path, note: dict[str, Any]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        aside.write_text(json.dumps(note))
        _flush(aside)
        aside.replace(file)


def write_table(rows: "pd.DataFrame", file: Path) -> None:
    """It writes rows as Parquet, the same bytes for the same rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = [c for c in rows.columns if rows[c].dtype == object]
    table = pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table, file, compression="lz4", use_dictionary=text)


def read_table(file: Path) -> "pd.DataFrame":
    """It returns the rows of a Parquet file; they are in memory once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows: pd.DataFrame = pq.read_table(file).to_pandas(self_destruct=True)
    pa.default_memory_pool().release_unused()
    return rows


def _files(place: Path) -> list[Path]:
    if place.is_dir() and not place.is_symlink():
        return [f for f in place.rglob("*") if not f.is_dir() or f.is_symlink()]
    return [place]


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
