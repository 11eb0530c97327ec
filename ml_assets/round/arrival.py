"""The arrivals of a round: what lies in the landing zone, and what becomes of it.

Each new file is read once.  It is accepted, or put into quarantine with its reason, or waited for;
the same bytes under another name are seen and skipped.  Nothing here makes a new version of the
dataset: that is one step, later.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ml_assets.contract import Breach
from ml_assets.dataset import Profile, Target, describe, new_columns
from ml_assets.digest import digest_of, file_digest
from ml_assets.errors import DatasetError, NotMaterialized
from ml_assets.gates import Verdict, failures
from ml_assets.gates import batch as gates
from ml_assets.integrity import inspected
from ml_assets.landing import Arrival, Landing, fetch, look, unchanged
from ml_assets.later import later
from ml_assets.resources.table import NAMED, StoredFile, Table
from ml_assets.round import PROFILE, Round, quarantine
from ml_assets.round.batch import Batch, parsing, read_file, read_rows
from ml_assets.round.known import Known

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
else:
    pa = later("pyarrow")
    pq = later("pyarrow.parquet")


@dataclass
class Arrived:
    """What a look at the landing zone came to.

    Attributes:
        files: the files that the dataset is to consist of, in order.
        batches: those of them that are in no version yet.
        refused: quarantined now: name and reason.
        same: seen before under another name: name, and that name.
        waiting: not finished: name and reason.
        read: the number of files that were read now.
        breaches: what the one declared file breaches of its contract; of many, what is odd.
    """

    files: list[StoredFile] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    read: int = 0
    breaches: tuple[Breach, ...] = ()


def table_of(round_: Round) -> Table:
    """It returns the table of this problem, read as it is declared today."""
    return round_.stores.lake.table(round_.problem.name, parsing(round_))


# ------------------------------------------------------------------- one source


def one_file(round_: Round, table: Table) -> Arrived:
    """It brings the one declared file in, which is the whole dataset.

    Raises:
        DatasetError: it cannot be read, or is still being written.
    """
    declared = round_.problem.dataset
    found = _settled(round_)
    if found.waiting:
        raise DatasetError(f"{declared.path} is still being written. Run again when it is whole.")
    known = Known.of(round_, table)
    arrival = found.arrived[0]
    before = known.stored(arrival)
    if before is not None and known.of_today(arrival):
        _looked_at(round_, found)
        return Arrived([before], breaches=known.breaches(arrival))
    file = fetch(arrival, table.aside().parent)
    try:
        batch = read_file(round_, table, file, arrival.name, {})
    finally:
        _done_with(file, arrival)
        _looked_at(round_, found)
    known.note(arrival, "accepted", batch.digest, batch.stored, batch.breaches)
    known.save()
    return Arrived([batch.stored], [batch], read=1, breaches=batch.breaches)


def whole(round_: Round, table: Table, pieces: Iterator[pa.Table]) -> Arrived:
    """It brings in the rows of a loader, a query or an asset, which are the whole dataset."""
    batch = read_rows(round_, table, pieces)
    return Arrived([batch.stored], [batch], read=1, breaches=batch.breaches)


# ----------------------------------------------------------------- a landing zone


def many_files(round_: Round, table: Table) -> Arrived:
    """It brings in what is new in the landing zone, file by file; one bad file stops no other.

    Raises:
        DatasetError: the landing zone cannot be listed.
    """
    known = Known.of(round_, table)
    found = _settled(round_)
    taken = table.files()
    desk = _Desk(round_, table, known, Arrived(waiting=dict(found.waiting)), taken)
    for name, why in found.refused.items():
        if known.refused(name, why):
            desk.arrived.refused[name] = why
            quarantine.keep(round_, name, digest_of(name, why), why, None)
    for arrival in found.arrived:
        desk.receive(arrival)
    known.gone({*(a.name for a in found.arrived), *found.refused, *found.waiting})
    wanted = known.wanted()
    # a batch that another one replaced in the same round comes in no more
    batches = [
        replace(b, former=b.former - wanted)
        for b in desk.arrived.batches
        if b.stored.batch in wanted
    ]
    kept = [f for f in taken if f.batch in wanted]
    desk.arrived.batches = batches
    desk.arrived.files = kept + [b.stored for b in batches if b.stored not in kept]
    known.save()
    _looked_at(round_, found)
    return desk.arrived


@dataclass
class _Desk:
    """Where the files of one round are received, one after the other."""

    round_: Round
    table: Table
    known: Known
    arrived: Arrived
    taken: list[StoredFile]

    def __post_init__(self) -> None:
        self.before = _before(self.round_)
        self.written = dict(self.before.findings.written) if self.before else {}

    @functools.cached_property
    def types(self) -> dict[str, pa.DataType]:
        """The types of the dataset's columns; read when a file comes."""
        return self.table.types()

    def receive(self, arrival: Arrival) -> None:
        """It looks at one file that is there, and decides what becomes of it."""
        known, stored = self.known, self.known.stored(arrival)
        if stored is not None and stored.batch in {f.batch for f in self.taken}:
            return
        if stored is not None and known.of_today(arrival):  # it waits for the others
            schema = pq.read_schema(self.table.path(stored))
            digest = known.files[arrival.name]["digest"]
            self._take(Batch(arrival.name, digest, stored, schema), arrival)
            return
        if stored is None and known.settled(arrival):
            return
        try:
            file = fetch(arrival, self.table.aside().parent)
        except DatasetError as error:  # not its fault: another time
            self.arrived.waiting[arrival.name] = str(error)
            return
        try:
            self._read(arrival, file)
        finally:
            _done_with(file, arrival)

    def _read(self, arrival: Arrival, file: Path) -> None:
        known, arrived = self.known, self.arrived
        arrived.read += 1
        expected, start = known.expected(), known.numbered()
        try:
            batch = read_file(
                self.round_, self.table, file, arrival.name, self.types, expected, start
            )
        except DatasetError as error:
            if unchanged(arrival):
                self._refuse(arrival, file, str(error), readable=False)
            else:
                arrived.waiting[arrival.name] = "it changed while it was read"
            return
        if not unchanged(arrival):
            arrived.waiting[arrival.name] = "it changed while it was read"
            return
        other = known.same(arrival.name, batch.digest)
        if other is not None:
            arrived.same[arrival.name] = other
            known.note(arrival, "same", batch.digest)
            return
        here = next((f for f in self.taken if f.batch == batch.digest[:NAMED]), None)
        if here is not None:  # only its name, its time or our notes changed
            known.note(arrival, "accepted", batch.digest, here)
            return
        strange = _other_types(batch, self.types)
        profile, verdicts = _judged(
            self.round_, self.table, batch, strange, self.before, self.written
        )
        failed = failures(verdicts)
        if failed and (strange or batch.digest[:NAMED] not in known.free):
            reason = " ".join(v.reason for v in failed)
            wrong = tuple(f"{b.column} {b.rule}" for b in batch.breaches if b.mode == "enforce")
            self._refuse(arrival, file, reason, not strange, wrong)
            return
        self.before = self.before or profile
        self.written = {**dict(profile.findings.written), **self.written}
        self._take(batch, arrival)

    def _take(self, batch: Batch, arrival: Arrival) -> None:
        """It accepts a batch; a corrected version takes the former one's place."""
        former = self.known.note(arrival, "accepted", batch.digest, batch.stored)
        self.known.accepted(batch.schema.names, batch.stored.rows)
        self.arrived.batches.append(replace(batch, former=former))
        told = [f"`{c}` has no value in {batch.name}: left out until it has." for c in batch.empty]
        odd = [Breach(c, "empty", "warn", t) for c, t in zip(batch.empty, told, strict=True)]
        self.arrived.breaches += tuple(odd)
        self.types = {**{c.name: c.type for c in batch.schema}, **self.types}

    def _refuse(
        self,
        arrival: Arrival,
        file: Path,
        reason: str,
        readable: bool,
        breached: tuple[str, ...] = (),
    ) -> None:
        kept: Path | None = file
        try:
            digest = file_digest(file)
        except OSError:  # it may not be read
            digest, kept = digest_of(arrival.name, arrival.mark), None
        for place in (str(file), arrival.path):
            reason = reason.replace(f"{place}: ", "").replace(place, arrival.name)
        self.arrived.refused[arrival.name] = reason
        self.known.note(arrival, "refused", digest)
        quarantine.keep(self.round_, arrival.name, digest, reason, kept, readable, breached)


def _done_with(file: Path, arrival: Arrival) -> None:
    if arrival.remote:
        file.unlink(missing_ok=True)


def _settled(round_: Round) -> Landing:
    """It looks, and once more after a moment when something was written a moment ago."""
    root, declared = round_.stores.root, round_.problem.dataset
    found = look(root, declared, round_.clock())
    if any("moment ago" in why for why in found.waiting.values()):
        time.sleep(declared.settle)
        found = look(root, declared, round_.clock())
    return found


def _looked_at(round_: Round, found: Landing) -> None:
    """It notes what was looked at, so that the sensor need not start a run for it."""
    round_.stores.lake.note(round_.problem.name, "landing", {"mark": found.mark()})


def _before(round_: Round) -> Profile | None:
    """It returns the profile of the current dataset, or None."""
    try:
        entry = round_.stores.lake.current(round_.problem.name, "dataset")
    except NotMaterialized:
        return None
    return Profile.from_record(entry.json(PROFILE))


def _other_types(batch: Batch, types: dict[str, pa.DataType]) -> list[Breach]:
    """It returns the columns that cannot stand beside those of the dataset."""
    here = {c.name: c.type for c in batch.schema}
    wrong = [
        (n, f"`{n}` holds {_word(t)}; in the dataset it is {_word(types[n])}.")
        for n, t in here.items()
        if n in types and t != types[n]
    ]
    absent = {b.column for b in batch.breaches if b.rule == "absent"}
    written = {n.lower(): n for n in types if n not in here and n not in absent}
    for name in here:
        other = written.get(name.lower(), name)
        if other != name and name not in types:
            wrong.append((name, f"`{name}` is `{other}` in the dataset: write it so."))
    return [Breach(name, "type", "enforce", reason) for name, reason in wrong]


def _judged(
    round_: Round,
    table: Table,
    batch: Batch,
    other: list[Breach],
    before: Profile | None,
    written: dict[str, str],
) -> tuple[Profile, list[Verdict]]:
    """It asks the gates on a batch, by its breaches, its columns' types, and its own profile."""
    problem = round_.problem
    rows = round_.stores.lake.stored_rows(table, [batch.stored])
    profile = describe(rows, problem.dataset, problem.task)
    target = profile.target or (before.target if before else None)
    sound = problem.dataset.target in profile.columns and not other
    if (
        sound
        and target is not None
        and (profile.target is None or _of_known_classes(profile, target))
    ):
        # columns that are no features are asked as well: a file that brings the answer along was
        # not made as the others were
        new = new_columns(list(profile.columns), problem.dataset)
        wide = replace(profile, features=(*profile.features, *new))
        profile = inspected(rows, wide, problem.dataset.target, target)
    return profile, gates.ask(profile, problem, [*other, *batch.breaches], before, written)


def _of_known_classes(profile: Profile, target: Target) -> bool:
    return profile.target is not None and set(profile.target.classes) <= set(target.classes)


def _word(kind: pa.DataType) -> str:
    names = {
        "int64": "whole numbers",
        "double": "numbers",
        "string": "text",
        "bool": "truth values",
    }
    return names.get(str(kind), "dates")
