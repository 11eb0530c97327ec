"""The dataset of a round: what arrived is brought in, asked by its gates, and made a version.

One writer at a time.  The gates are asked of the dataset as it would be; only when they hold is
anything committed, batch by batch, and the new version made current.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets import __version__
from ml_assets.data_file import load
from ml_assets.dataset import Profile, describe
from ml_assets.digest import digest_of
from ml_assets.errors import DatasetError, NotMaterialized, shortened
from ml_assets.gates import Verdict, failures
from ml_assets.gates import dataset as gates
from ml_assets.integrity import inspected
from ml_assets.later import later
from ml_assets.resources.lake import Entry
from ml_assets.resources.table import StoredFile, StoredRows, Table
from ml_assets.round import PROFILE, Made, Round
from ml_assets.round.arrival import (
    Arrived,
    many_files,
    one_file,
    table_of,
    whole,
)
from ml_assets.round.batch import parsing
from ml_assets.round.known import Known
from ml_assets.round.quarantine import Quarantined, excused, quarantined
from ml_assets.round.source import frames, queried
from ml_assets.rows import FIRST_ROWS, first_rows
from ml_assets.user_code import locate

if TYPE_CHECKING:
    import pyarrow as pa
else:
    pa = later("pyarrow")

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class DatasetMade(Made):
    """The dataset.

    Attributes:
        entry: its description: profile and list of files.
        profile: what it holds.
        source: the declared path, loader, query or asset.
        rows: its rows.
        arrived: what came, and what became of it.
        version: the number of the table's version; None while it is in none.
        table: where the Delta table is.
        first: its first rows, as `first_rows` gives them.
    """

    entry: Entry
    profile: Profile
    source: str
    rows: StoredRows
    arrived: Arrived
    version: int | None
    table: Path
    first: dict[str, Any]


@dataclass(frozen=True)
class QuarantineMade:
    """The quarantine.

    Attributes:
        batches: every refused batch.
        verdict: whether all were accepted.
    """

    batches: list[Quarantined]
    verdict: Verdict


def make_dataset(round_: Round, given: Any = None) -> DatasetMade:
    """It brings the dataset up to date with what arrived.

    The current version changes only when every enforced gate holds.

    Args:
        round_: the round.
        given: the value of the upstream asset, where that is the source.

    Raises:
        DatasetError: no rows can be had.
    """
    if round_.dataset_version is not None:
        return _again(round_)
    with round_.stores.lake.lock(round_.problem.name):
        return _made(round_, table_of(round_), given)


def _again(round_: Round) -> DatasetMade:
    """It returns an earlier version of the dataset, asked by today's gates."""
    entry, profile = current_dataset(round_)
    verdicts = gates.ask(profile, round_.problem, ())
    manifest, source = entry.json(MANIFEST), str(entry.facts["source"])
    folder = table_of(round_).folder.with_name(manifest["table"])
    arrived = Arrived([StoredFile(**f) for f in manifest["files"]])
    rows = dataset_rows(round_, entry)
    return DatasetMade(
        verdicts, True, entry, profile, source, rows, arrived, None, folder, _first(entry, rows)
    )


def _made(round_: Round, table: Table, given: Any) -> DatasetMade:
    problem, declared = round_.problem, round_.problem.dataset
    arrived = _arrived(round_, table, given)
    if not arrived.files:
        raise DatasetError(_nothing(declared.source, arrived))
    _nothing_is_lost(round_, table, arrived)
    files = arrived.files
    rows = round_.stores.lake.stored_rows(table, files)
    known = round_.find("dataset", _key(round_, table, files))
    entry = known or described(round_, table, files)
    reused = known is not None
    profile = Profile.from_record(entry.json(PROFILE))
    verdicts = gates.ask(profile, problem, arrived.breaches)
    version = None
    if not failures(verdicts):
        version = _committed(round_, table, arrived, rows)
        round_.stores.lake.make_current(problem.name, "dataset", "dataset", entry)
    return DatasetMade(
        verdicts,
        reused,
        entry,
        profile,
        declared.source,
        rows,
        arrived,
        version,
        table.folder,
        _first(entry, rows),
    )


def _first(entry: Entry, rows: StoredRows) -> dict[str, Any]:
    """It returns the first rows, as they were noted when the description was made."""
    noted: dict[str, Any] | None = entry.facts.get("first")
    return noted or first_rows(rows.head(FIRST_ROWS))


def described(round_: Round, table: Table, files: list[StoredFile]) -> Entry:
    """It makes the description of a version: its profile and the list of its files."""
    problem, declared = round_.problem, round_.problem.dataset
    rows = round_.stores.lake.stored_rows(table, files)
    free = excused(round_, {f.batch for f in files})

    def write(folder: Path) -> dict[str, Any]:
        with ThreadPoolExecutor(1) as pool:
            ready = pool.submit(importlib.import_module, "sklearn.tree")  # to look for leaks
            profile = describe(rows, declared, problem.task)
            ready.result()
        profile = inspected(rows, profile, declared.target)
        profile = replace(profile, released=tuple(free))
        (folder / PROFILE).write_text(json.dumps(asdict(profile)))
        (folder / MANIFEST).write_text(json.dumps(_manifest(table, files)))
        return {
            "at": round_.clock(),
            "source": declared.source,
            "reading": _seeing(round_),
            "first": first_rows(rows.head(FIRST_ROWS)),
        }

    return round_.put("dataset", _key(round_, table, files), write)


def _manifest(table: Table, files: list[StoredFile]) -> dict[str, Any]:
    return {"table": table.folder.name, "files": [asdict(f) for f in files]}


def _key(round_: Round, table: Table, files: list[StoredFile]) -> str:
    free = excused(round_, {f.batch for f in files})
    return digest_of("dataset", _manifest(table, files), _seeing(round_), free, __version__)


def _arrived(round_: Round, table: Table, given: Any) -> Arrived:
    declared = round_.problem.dataset
    if declared.is_landing:
        return many_files(round_, table)
    if declared.path is not None:
        return one_file(round_, table)
    return whole(round_, table, _rows(round_, given))


def _rows(round_: Round, given: Any) -> Iterator[pa.Table]:
    declared = round_.problem.dataset
    if declared.loader is not None:
        loaded = load(locate(declared.loader, round_.folder), declared.loader)
        return frames(loaded, declared.loader)
    if declared.sql is not None:
        assert declared.connection is not None
        url = os.environ.get(declared.connection)
        if not url:
            raise DatasetError(
                f"The environment variable {declared.connection} is not set. It holds the URL of "
                "the database, like postgresql+psycopg://user:password@host/name."
            )
        return queried(declared.sql, url, f"The query at {declared.connection}")
    return frames(given, f"The asset {declared.asset}")


def _nothing(source: str, arrived: Arrived) -> str:
    told = [f"{name}: {why}" for name, why in {**arrived.refused, **arrived.waiting}.items()][:5]
    return f"No batch at {source} was accepted yet. {' '.join(told)}".rstrip()


def _nothing_is_lost(round_: Round, table: Table, arrived: Arrived) -> None:
    """It refuses a new way of reading while batches that were accepted cannot be read so."""
    name = round_.problem.name
    noted = round_.stores.lake.noted(name, "table")
    if noted is None or noted["folder"] == table.folder.name or not noted["landing"]:
        return
    before = round_.stores.lake.table(name, noted["folder"]).files()
    here = {f.batch for f in arrived.files}
    gone = [f for f in before if f.batch not in here]
    if gone and round_.problem.dataset.is_landing:
        raise DatasetError(
            f"The declaration of how files are read has changed, and {len(gone)} of "
            f"{len(before)} accepted batches ({sum(f.rows for f in gone):,} rows) are no longer in "
            "the landing zone, or were refused, and cannot be read anew. Bring them back, or take "
            "the change of the declaration back."
        )


def _committed(round_: Round, table: Table, arrived: Arrived, rows: StoredRows) -> int:
    """It makes the files the table's latest version: one commit for each new batch.

    Each version between is one that could have been: a corrected batch takes the place of what it
    corrects, and of nothing else.
    """
    before = table.files()
    about = {"run_id": round_.run.run_id, "actor": round_.actor}
    landing = round_.problem.dataset.is_landing
    for batch in arrived.batches if landing else ():
        if batch.stored in before:
            continue
        out = [f for f in before if f.batch in batch.former]
        once = "" if table.has(batch.digest) else batch.digest
        note = {**about, "batch": batch.digest, "name": batch.name}
        table.commit([batch.stored], out, rows.schema, note, once)
        before = [f for f in before if f not in out] + [batch.stored]
    wanted = {f.name for f in arrived.files}
    if {f.name for f in before} != wanted:
        fresh = [f for f in arrived.files if f not in before]
        table.commit(fresh, [f for f in before if f.name not in wanted], rows.schema, about)
    note_ = {"folder": table.folder.name, "landing": landing}
    round_.stores.lake.note(round_.problem.name, "table", note_)
    return int(table.version() or 0)


def dataset_rows(round_: Round, entry: Entry) -> StoredRows:
    """It returns the rows of a version of the dataset.

    Raises:
        ModelRefused: they are not what was written.
    """
    manifest = entry.json(MANIFEST)
    table = round_.stores.lake.table(round_.problem.name, manifest["table"])
    return round_.stores.lake.stored_rows(table, [StoredFile(**f) for f in manifest["files"]])


def current_dataset(round_: Round) -> tuple[Entry, Profile]:
    """It returns the current dataset.

    Raises:
        NotMaterialized: there is none, or it was read under another declaration.
    """
    problem, version = round_.problem, round_.dataset_version
    if version is None:
        entry = round_.stores.lake.current(problem.name, "dataset")
    else:
        entry = dataset_version(round_, version)
    if entry.facts["reading"] != _seeing(round_):
        raise NotMaterialized(
            f"{problem.name}/dataset was read under another declaration. Materialize it again."
        )
    return entry, Profile.from_record(entry.json(PROFILE))


def dataset_version(round_: Round, version: str) -> Entry:
    """It returns an earlier version of the dataset.

    Args:
        round_: problem and stores.
        version: the first digits of its digest.

    Raises:
        NotMaterialized: there is none, or several begin so.
    """
    name = round_.problem.name
    there = round_.stores.lake.entries(name, "dataset")
    found = {e.digest: e for e in there if e.digest.startswith(version)}
    if len(found) != 1 or not version:
        known = shortened(dict.fromkeys(e.digest[:16] for e in there))
        how = "Several versions begin" if found else "No version begins"
        raise NotMaterialized(f"{name}/dataset: {how} with `{version}`. There are: {known}.")
    return next(iter(found.values()))


def make_quarantine(round_: Round, arrived: Arrived) -> QuarantineMade:
    """It returns every refused batch, and whether one was refused now or awaits a decision."""
    batches = quarantined(round_, Known.of(round_, table_of(round_)).files)
    waits = [q for q in batches if q.state == "awaits"]
    mode: Any = "enforce" if arrived.refused else "warn"
    if arrived.refused:
        told = [f"{n}: {why}" for n, why in list(arrived.refused.items())[:5]]
        more = f" (and {len(arrived.refused) - 5} more)" if len(arrived.refused) > 5 else ""
        reason = f"{len(arrived.refused)} refused now. {' '.join(told)}{more}"
    elif waits:
        reason = f"{len(waits)} in quarantine: correct the file, or release it."
    else:
        reason = "None is in quarantine."
    verdict = Verdict(
        "every_batch_is_accepted", not waits and not arrived.refused, reason, {}, mode
    )
    return QuarantineMade(batches, verdict)


def _seeing(round_: Round) -> str:
    """It names everything in the declaration that decides what is read, and how it is seen."""
    declared = round_.problem.dataset
    roles = (declared.target, declared.positive, declared.key, declared.drop, declared.source)
    ignored = declared.contract.new_columns == "ignore" and sorted(declared.contract.columns)
    return digest_of(parsing(round_), roles, ignored, round_.problem.task)
