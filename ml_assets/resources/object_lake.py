"""A lake in an object store: what is made here is kept there, and what was made elsewhere is fetched.

The local folder is where things are made, and a cache of what is named by its content.  A folder is
sent first, and then the note that leads to it, in one put: whoever looks sees the whole of it or
nothing.  Notes are asked of the store each time.  What is fetched is taken only when its digest is the
one that was noted.  Tables are Delta tables in the store itself, committed there by delta-rs.
"""

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.digest import file_digest, tree_digest
from ml_assets.errors import DeclarationError, MLAssetsError, ModelRefused, StoreAway
from ml_assets.resources.lake import Lake
from ml_assets.resources.table import StoredFile, Table

if TYPE_CHECKING:
    from deltalake import DeltaTable

URL = "ML_ASSETS_LAKE"
SEGMENT_SECONDS = (
    300.0  # files of a prediction log are sent whole, again and again: they stay small
)


@dataclass(frozen=True)
class Stored:
    """What a listing says of an object.

    Attributes:
        size: in bytes.
        changed: when it was written, in seconds since 1970.
    """

    size: int
    changed: float


@dataclass(frozen=True)
class ObjectStore:
    """A place in a store that speaks S3; credentials and endpoint are those of `AWS_*`.

    Attributes:
        url: like `s3://bucket/prefix`.
    """

    url: str
    _opened: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def read(self, name: str) -> bytes | None:
        """It returns an object's bytes; None where there is none.

        Raises:
            StoreAway: the store does not answer.
        """
        with self._answering(name):
            try:
                data: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return data

    def write(self, name: str, data: bytes) -> None:
        """It writes an object, in one step.

        Raises:
            StoreAway: the store does not answer.
        """
        with self._answering(name):
            self._files.pipe_file(self._path(name), data)

    def send(self, file: Path, name: str) -> None:
        """It writes a file as an object, in one step.

        Raises:
            StoreAway: the store does not answer.
        """
        with self._answering(name):
            self._files.put_file(str(file), self._path(name))

    def fetch(self, name: str, file: Path) -> bool:
        """It writes an object into a file, and says whether it is there.

        Raises:
            StoreAway: the store does not answer.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._answering(name):
            try:
                self._files.get_file(self._path(name), str(file))
            except FileNotFoundError:
                return False
            return True

    def listed(self, folder: str) -> dict[str, Stored]:
        """It returns all objects below a name, by what follows it; empty where it names an object.

        Raises:
            StoreAway: the store does not answer.
        """
        base = self._path(folder)
        with self._answering(folder):
            found = self._files.find(base, detail=True)
        return {
            path[len(base) :].lstrip("/"): Stored(
                int(info["size"]), info["LastModified"].timestamp() if "LastModified" in info else 0
            )
            for path, info in found.items()
            if path == base or path.startswith(f"{base}/")
        }

    def remove(self, names: Collection[str]) -> None:
        """It removes objects.

        Raises:
            StoreAway: the store does not answer.
        """
        if names:
            with self._answering(next(iter(names))), contextlib.suppress(FileNotFoundError):
                self._files.rm([self._path(name) for name in names])

    @property
    def _files(self) -> Any:
        """The store's files; a process has its own, as its connections are in a thread."""
        if os.getpid() not in self._opened:
            try:
                import s3fs
            except ImportError:
                raise DeclarationError(f"{URL} needs `pip install 'ml_assets[s3]'`.") from None
            # one request at a time asks for a note at once, and not for its size before
            fresh = {"use_listings_cache": False, "skip_instance_cache": True, "max_concurrency": 1}
            self._opened[os.getpid()] = s3fs.S3FileSystem(**fresh)
        return self._opened[os.getpid()]

    def _path(self, name: str) -> str:
        return f"{self.url.removeprefix('s3://').rstrip('/')}/{name}".rstrip("/")

    @contextlib.contextmanager
    def _answering(self, name: str) -> Iterator[None]:
        try:
            yield
        except MLAssetsError:  # of a time limit, for one
            raise
        except Exception as error:
            told = f"{type(error).__name__}: {str(error)[:200]}"
            raise StoreAway(
                f"The object store of {URL} gave no answer about {self.url}/{name}: {told} Nothing "
                "that was there is changed. Look whether it can be reached, and try again."
            ) from error


def open_object_store(url: str) -> ObjectStore:
    """It returns the store that an address names.

    Raises:
        DeclarationError: it names none.
    """
    scheme, _, where = url.partition("://")
    if scheme != "s3" or not where.strip("/"):
        raise DeclarationError(
            f"{URL}={url} is no place in an object store. Expected: s3://bucket/prefix."
        )
    return ObjectStore(url.rstrip("/"))


@dataclass(frozen=True)
class ObjectLake(Lake):
    """The tables and files of all problems, in an object store.

    Attributes:
        root: a folder of this machine: where things are made, and a cache.
        store: where they are kept.
    """

    store: ObjectStore = field(kw_only=True)

    def table(self, problem: str, name: str) -> Table:
        """It returns a table of a problem; its log is in the store."""
        return ObjectTable(
            self.root / problem / "table" / name, self.store, f"{problem}/table/{name}"
        )

    def gather(self, problem: str, name: str) -> None:
        """It fetches what other machines logged since, into the folder of that name."""
        for file, stored in self.store.listed(f"{problem}/{name}").items():
            here = self.root / problem / name / file
            if "/" in file or not file or (here.exists() and here.stat().st_size >= stored.size):
                continue
            aside = self._aside(problem)
            if self.store.fetch(f"{problem}/{name}/{file}", aside):
                os.utime(aside, (stored.changed, stored.changed))
                here.parent.mkdir(parents=True, exist_ok=True)
                aside.replace(here)

    def send_logged(self, problem: str, name: str, since: float = 0.0) -> None:
        """It sends what this machine logged, where that grew; nothing older than a time."""
        there = self.store.listed(f"{problem}/{name}")
        for file in (self.root / problem / name).glob("*.jsonl"):
            found = file.stat()
            known = there.get(file.name)
            if found.st_mtime >= since and (known is None or known.size < found.st_size):
                self.store.send(file, f"{problem}/{name}/{file.name}")

    def forget(self, problem: str, name: str, before: float) -> None:
        """It removes what was logged before a time from the store."""
        there = self.store.listed(f"{problem}/{name}")
        self.store.remove([f"{problem}/{name}/{f}" for f, s in there.items() if s.changed < before])

    @property
    def segment_seconds(self) -> float | None:
        """How long one file of a log is written to."""
        return SEGMENT_SECONDS

    def removable(self, problem: str, noun: str, keep: Collection[str]) -> list[Path]:
        """It returns the keys and folders of all that was made under a noun, but for some keys.

        Keys come first: what they led to is then seen by nobody while it goes.
        """
        keys = [self.root / problem / "keys" / noun / n for n in self._keys(problem, noun)]
        notes = [self._read_note(k) for k in keys if k.stem in keep]
        kept = {note["digest"] for note in notes if note is not None}
        here = {f.name for f in (self.root / problem / noun).glob("*")}
        here |= {n.split("/")[0] for n in self.store.listed(f"{problem}/{noun}")}
        gone = [self.root / problem / noun / name for name in sorted(here - kept)]
        return [k for k in keys if k.stem not in keep] + gone

    def remove(self, problem: str, noun: str, places: Collection[Path]) -> None:
        """It removes folders and files of a problem, in the store and here."""
        for place in places:
            name = self._name(place)
            self.store.remove([f"{name}/{n}".rstrip("/") for n in self.store.listed(name)])
        super().remove(problem, noun, places)

    def measured(self, places: Collection[Path]) -> tuple[int, int]:
        """It returns how many files are in these places, and how many bytes they have."""
        files = size = 0
        for place in places:
            there = self.store.listed(self._name(place)).values()
            more = (len(there), sum(s.size for s in there)) if there else super().measured([place])
            files, size = files + more[0], size + more[1]
        return files, size

    def _keys(self, problem: str, noun: str) -> list[str]:
        return sorted(n for n in self.store.listed(f"{problem}/keys/{noun}") if n.endswith(".json"))

    def _read_note(self, file: Path) -> dict[str, Any] | None:
        data = self.store.read(self._name(file))
        note: dict[str, Any] | None = None if data is None else json.loads(data)
        return note

    def _place(self, file: Path) -> str:
        return f"{self.store.url}/{self._name(file)}"

    def _note(self, file: Path, note: dict[str, Any]) -> None:
        self.store.write(self._name(file), json.dumps(note).encode())

    def _keep(self, folder: Path) -> None:
        name = self._name(folder)
        files = {f.relative_to(folder).as_posix(): f for f in folder.rglob("*") if f.is_file()}
        for each, file in files.items():
            self.store.send(file, f"{name}/{each}")
        self.store.remove([f"{name}/{n}" for n in self.store.listed(name) if n not in files])

    def _there(self, folder: Path) -> bool:
        """It says whether a folder that is named by its content is here, or was fetched now.

        Raises:
            ModelRefused: it is not what was written.
        """
        if folder.is_dir():
            return True
        name, aside = self._name(folder), self._aside(folder.relative_to(self.root).parts[0])
        try:
            names = self.store.listed(name)
            for each in names:
                file = aside / each
                if not file.resolve().is_relative_to(aside.resolve()):
                    raise ModelRefused(f"{self.store.url}/{name}: {each} leads out of its folder.")
                if not self.store.fetch(f"{name}/{each}", file):
                    return False  # it is being removed
            if not names:
                return False
            found = tree_digest(aside)
            if found != folder.name:
                raise ModelRefused(
                    f"{self.store.url}/{name} was changed after it was written: digest {found[:16]}, "
                    f"recorded {folder.name[:16]}. Remove it there; the next run makes it anew."
                )
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                aside.rename(folder)
            except OSError:  # another process fetched it meanwhile
                if not folder.is_dir():
                    raise
            return True
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.root).as_posix()

    def _aside(self, problem: str) -> Path:
        folder = self.root / problem / ".aside"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex


@dataclass(frozen=True)
class ObjectTable(Table):
    """A Delta table in an object store, written file by file.

    Attributes:
        folder: a folder of this machine: where its files are made, and a cache.
        store: where the table is.
        name: its name there.
    """

    store: ObjectStore
    name: str

    def path(self, stored: StoredFile) -> Path:
        """It returns where a published file is on this machine, fetched if need be.

        Nothing is there if it is gone, or was changed after it was written.
        """
        file = self.folder / stored.name
        if not file.exists():
            aside = self.aside()
            fetched = self.store.fetch(f"{self.name}/{stored.name}", aside)
            if fetched and file_digest(aside).startswith(stored.digest):
                aside.replace(file)
            aside.unlink(missing_ok=True)
        return file

    def version(self) -> int | None:
        """It returns the number of the latest version, or None where nothing was committed."""
        names = (Path(n).stem for n in self.store.listed(f"{self.name}/_delta_log"))
        return max((int(n) for n in names if n.isdecimal()), default=None)

    def _delta(self, version: int | None = None) -> "DeltaTable | None":
        from deltalake import DeltaTable

        if self.version() is None:
            return None
        return DeltaTable(self._place, version=version, storage_options=self._options)

    @property
    def _place(self) -> str:
        return f"{self.store.url}/{self.name}"

    @cached_property
    def _options(self) -> dict[str, str]:
        plain = os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://")
        return {"allow_http": "true"} if plain else {}

    def _send(self, stored: StoredFile) -> None:
        """It sends a file that a commit is to name."""
        there = self.store.listed(f"{self.name}/{stored.name}")
        if [s.size for s in there.values()] != [(self.folder / stored.name).stat().st_size]:
            self.store.send(self.folder / stored.name, f"{self.name}/{stored.name}")
