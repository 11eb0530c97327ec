"""A landing zone: where data files arrive, looked at in one listing, local or at a URL.

A file that may still be written is waited for.  Nothing outside the declared place is touched.
"""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_assets.digest import digest_of
from ml_assets.errors import DatasetError
from ml_assets.problem import DatasetDeclaration, Problem

DATA_FILES = (".csv", ".csv.gz", ".parquet")
# Names that writers give to what they have not finished.
_UNFINISHED = (".part", ".tmp", ".partial", ".filepart", ".crdownload", ".inprogress", "~")


@dataclass(frozen=True)
class Arrival:
    """One file that is there.

    Attributes:
        name: its path below the landing zone.
        path: where it is.
        mark: changes whenever the file does, as far as a listing can tell.
        changed: when it was last written, in seconds since 1970; 0 where files appear whole.
        remote: it is not on this machine.
    """

    name: str
    path: str
    mark: str
    changed: float
    remote: bool


@dataclass
class Landing:
    """What one listing found.

    Attributes:
        arrived: files that can be read, by name.
        waiting: files that are not finished, with the reason.
        refused: what lies there and is no data file of ours, with the reason.
    """

    arrived: list[Arrival] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def mark(self) -> str:
        """It returns a name for all that is there; another when anything changes."""
        known = [(a.name, a.mark) for a in self.arrived]
        return digest_of(known, sorted(self.waiting.items()), sorted(self.refused.items()))


def look(root: Path, declared: DatasetDeclaration, now: float) -> Landing:
    """It lists the landing zone, or finds the one declared file.

    Args:
        root: where a relative path starts.
        declared: the dataset's declaration, with a path.
        now: seconds since 1970, to tell files that may still be written.

    Raises:
        DatasetError: the place is not there, cannot be listed, or leads out of the project.
    """
    assert declared.path is not None
    files, where = _file_system(root, declared.path)
    remote = "://" in declared.path and not declared.path.startswith("file://")
    stated = where if declared.path.startswith("file://") else declared.path
    base, pattern, depth = _base(where)
    if not declared.is_landing:
        base = where.rsplit("/", 1)[0]
    if not remote:
        _stays_inside(Path(base if declared.is_landing else where), stated, root)
    found = Landing()
    for path, info in _listing(files, declared, where, base, depth):
        name = path[len(base) :].lstrip("/")
        if declared.is_landing and not _wanted(name, pattern, found, info):
            continue
        why = _led_out(path, base) if info.get("islink") and declared.is_landing else ""
        if not why and info.get("islink"):
            info = _followed(path)
        arrival = _arrival(name, files.unstrip_protocol(path) if remote else path, info, remote)
        if why or info["type"] not in ("file", "directory"):
            found.refused[name] = why or "it is no file"
        elif info["type"] == "directory":
            if declared.is_landing:
                found.refused[name] = "it is a folder"
                continue
            raise DatasetError(f"{path} is a folder; `dataset.path` names one file.")
        elif not remote and abs(now - arrival.changed) < declared.settle:
            found.waiting[name] = "it changed a moment ago, and may still be written"
        else:
            found.arrived.append(arrival)
    found.arrived.sort(key=lambda a: a.name)
    return found


def look_for(problem: Problem, root: Path, now: float) -> Landing:
    """It lists the place where a problem's files to be scored arrive.

    Args:
        problem: the problem, which declares `predictions`.
        root: where a relative path starts.
        now: seconds since 1970, to tell files that may still be written.

    Raises:
        DatasetError: the place is not there, cannot be listed, or leads out of the project.
    """
    assert problem.predictions is not None
    declared = problem.dataset.model_copy(update={"path": problem.predictions.path})
    try:
        return look(root, declared, now)
    except DatasetError as error:
        told = str(error).replace("dataset.path", "predictions.path")
        raise DatasetError(told) from None


def marked(found: Landing, scorer: str) -> str:
    """It names all files that are there together with the digest of the version that is to score."""
    return digest_of(found.mark(), scorer)


def fetch(arrival: Arrival, folder: Path) -> Path:
    """It returns the file on this machine: itself, or a copy made in the folder.

    Raises:
        DatasetError: it cannot be fetched.
    """
    if not arrival.remote:
        return Path(arrival.path)
    import fsspec

    files, path = fsspec.core.url_to_fs(arrival.path)
    folder.mkdir(parents=True, exist_ok=True)
    suffix = next((s for s in DATA_FILES if arrival.name.endswith(s)), "")
    copy = folder / f"{digest_of(arrival.name, arrival.mark)}{suffix}"
    try:
        files.get_file(path, str(copy))
    except Exception as error:
        raise DatasetError(f"{arrival.path} cannot be fetched: {_said(error)}") from None
    return copy


def unchanged(arrival: Arrival) -> bool:
    """It says whether a local file is still as it was listed."""
    if arrival.remote:
        return True
    try:
        now = Path(arrival.path).stat()
    except OSError:
        return False
    return arrival.mark == _mark(now.st_size, now.st_mtime, now.st_ctime)


def _file_system(root: Path, declared: str) -> tuple[Any, str]:
    import fsspec

    try:
        if "://" not in declared:
            place = declared if Path(declared).is_absolute() else f"{root}/{declared}"
            return fsspec.filesystem("file"), place.replace("/./", "/")
        files, path = fsspec.core.url_to_fs(declared)
        files.invalidate_cache()
        return files, str(path)
    except (ImportError, ValueError) as error:
        extra = " Install it: `pip install 'ml_assets[s3]'`." if declared.startswith("s3") else ""
        raise DatasetError(f"{declared} cannot be opened: {error}.{extra}") from None


def _base(where: str) -> tuple[str, "re.Pattern[str] | None", int | None]:
    """It returns the folder above the first wildcard, a pattern below it, and how deep that goes."""
    from fsspec.utils import glob_translate

    parts = where.split("/")
    first = next((i for i, p in enumerate(parts) if any(c in p for c in "*?")), None)
    if first is None:
        return where.rstrip("/"), None, None
    below = "/".join(parts[first:])
    depth = None if "**" in below else len(parts) - first
    return "/".join(parts[:first]), re.compile(glob_translate(below)), depth


def _listing(
    files: Any, declared: DatasetDeclaration, where: str, base: str, depth: int | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        if not declared.is_landing:
            yield where, files.info(where)
            return
        if not files.isdir(base):
            raise FileNotFoundError
        yield from files.find(base, maxdepth=depth, withdirs=True, detail=True).items()
    except FileNotFoundError:
        broken = not declared.is_landing and Path(where).is_symlink()
        if broken:
            raise DatasetError(f"{declared.path} is a link that leads nowhere.") from None
        what = "folder" if declared.is_landing else "data file"
        shown = base if declared.is_landing else where
        raise DatasetError(
            f"No {what} at {shown}. Put one there, or change `dataset.path` in defs.yaml."
        ) from None
    except DatasetError:
        raise
    except Exception as error:
        raise DatasetError(f"{declared.path} cannot be listed: {_said(error)}") from None


def _wanted(
    name: str, pattern: "re.Pattern[str] | None", found: Landing, info: dict[str, Any]
) -> bool:
    """It says whether a file in the folder is meant; unfinished ones are noted as waiting."""
    last = name.rsplit("/", 1)[-1]
    if not name or any(p.startswith((".", "_")) for p in name.split("/")):
        return False
    ending = next((e for e in _UNFINISHED if last.endswith(e)), None)
    meant = last.removesuffix(ending) if ending else last
    fits = (
        pattern.match(name.removesuffix(ending or "")) is not None
        if pattern
        else meant.endswith(DATA_FILES)
    )
    if fits and ending and info["type"] == "file":
        found.waiting[name] = f"it is named {ending}: its writer has not finished it"
        return False
    return fits and not (pattern and info["type"] == "directory" and "." not in last)


def _arrival(name: str, path: str, info: dict[str, Any], remote: bool) -> Arrival:
    if not remote:
        changed = float(info.get("mtime") or 0)
        mark = _mark(info.get("size") or 0, changed, float(info.get("created") or 0))
        return Arrival(name, path, mark, changed, False)
    times = (info.get(k) for k in ("LastModified", "last_modified", "updated", "mtime", "created"))
    when = next((str(t) for t in times if t is not None), "")
    mark = f"{info.get('size')}-{info.get('ETag') or info.get('etag') or when}"
    return Arrival(name, path, mark, 0.0, True)


def _followed(path: str) -> dict[str, Any]:
    """It returns what a listing says of a file, for what a link leads to."""
    known = Path(path).stat()
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}
    kind = kinds.get(stat.S_IFMT(known.st_mode), "other")
    times = {"mtime": known.st_mtime, "created": known.st_ctime}
    return {"size": known.st_size, "type": kind, **times}


def _mark(size: int, modified: float, status: float) -> str:
    return f"{size}-{modified!r}-{status!r}"


def _led_out(path: str, base: str) -> str:
    """It says why a link is not followed; an empty text if it stays in the landing zone."""
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, RuntimeError):
        return "it is a link that leads nowhere"
    inside = real.is_relative_to(Path(base).resolve())
    return "" if inside else "it is a link that leads out of the landing zone"


def _stays_inside(place: Path, declared: str, root: Path) -> None:
    """It refuses a relative path that leads out of the project by `..` or by a link."""
    try:
        real = place.resolve(strict=True)
    except FileNotFoundError:
        return  # said by whoever opens it
    except (OSError, RuntimeError):
        raise DatasetError(f"{declared} is a link that leads nowhere.") from None
    if not Path(declared).is_absolute() and not real.is_relative_to(root.resolve()):
        raise DatasetError(
            f"{declared} leads out of the project's folder. If that is meant, declare the "
            "absolute path."
        )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:300]}"
