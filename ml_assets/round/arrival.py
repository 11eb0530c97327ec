"""The arrivals of a round: what lies in the landing zone, and what becomes of it.

Each new file is read once.  It is accepted, or put into quarantine with its reason, or waited for;
the same bytes under another name are seen and skipped.  Nothing here makes a new version of the
dataset: that is one step, later.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from ml_assets.contract import Breach, Judge, dates
from ml_assets.data_file import READING, as_frame, read_through
from ml_assets.dataset import Profile, Target, describe, new_columns
from ml_assets.digest import digest_of, file_digest
from ml_assets.errors import DatasetError, NotMaterialized
from ml_assets.gates import Verdict, failures
from ml_assets.gates import batch as gates
from ml_assets.integrity import inspected
from ml_assets.landing import Arrival, Landing, fetch, look, unchanged
from ml_assets.problem import DatasetDeclaration
from ml_assets.resources.table import NAMED, StoredFile, Table, write_pieces
from ml_assets.round import PROFILE, Round, quarantine
from ml_assets.round.known import Known

EXACT = 2**53  # integers up to here are exact as float64


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
    """

    name: str
    digest: str
    stored: StoredFile
    schema: pa.Schema
    breaches: tuple[Breach, ...] = ()
    left_out: tuple[tuple[int, int], ...] = ()


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
        breaches: what the one declared file breaches of its contract.
    """

    files: list[StoredFile] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    read: int = 0
    breaches: tuple[Breach, ...] = ()


def parsing(round_: Round) -> str:
    """It names everything in the declaration that decides how a file becomes rows."""
    declared = round_.problem.dataset
    how = ("separator", "quote", "decimal", "encoding", "names", "missing", "skip_initial_space")
    also = ("bad_lines", "number_rows")
    columns = declared.contract.columns.items()
    typed = {n: (c.type, c.format) for n, c in columns if c.type in ("text", "date")}
    kind = "landing" if declared.is_landing else "whole"
    return digest_of(READING, kind, {k: getattr(declared, k) for k in (*how, *also)}, typed)


def table_of(round_: Round) -> Table:
    """It returns the table of this problem, read as it is declared today."""
    return Table(round_.stores.lake.root / round_.problem.name / "table" / parsing(round_))


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
    known_file = known.stored(arrival)
    if known_file is not None:
        return Arrived([known_file], breaches=known.breaches(arrival))
    batch = _read(round_, table, arrival, {}, ())
    known.note(arrival, "accepted", batch.digest, batch.stored, breaches=batch.breaches)
    known.save()
    return Arrived([batch.stored], [batch], read=1, breaches=batch.breaches)


def whole(round_: Round, table: Table, pieces: Iterator[pa.Table]) -> Arrived:
    """It brings in the rows of a loader, a query or an asset, which are the whole dataset."""
    declared = round_.problem.dataset
    judge = Judge(declared)
    aside = table.aside()
    rows = write_pieces(_conformed(pieces, declared, {}, judge, 0), aside)
    stored = table.publish(aside, rows)
    breaches = tuple(judge.breaches())
    schema = pq.read_schema(table.folder / stored.name)
    batch = Batch(declared.source, stored.batch, stored, schema, breaches)
    return Arrived([stored], [batch], read=1, breaches=breaches)


# ----------------------------------------------------------------- a landing zone


def many_files(round_: Round, table: Table) -> Arrived:
    """It brings in what is new in the landing zone, file by file; one bad file stops no other.

    Raises:
        DatasetError: the landing zone cannot be listed.
    """
    declared = round_.problem.dataset
    known = Known.of(round_, table)
    found = _settled(round_)
    arrived = Arrived(table.files(), waiting=dict(found.waiting))
    before = _before(round_)
    types = _types(table, arrived.files)
    for name, why in found.refused.items():
        if known.refused(name, why):
            arrived.refused[name] = why
            quarantine.keep(round_, name, digest_of(name, why), why, None)
    for arrival in found.arrived:
        stored = known.stored(arrival)
        if stored is not None or known.settled(arrival):
            if stored is not None and stored not in arrived.files:
                schema = pq.read_schema(table.folder / stored.name)
                batch = Batch(arrival.name, known.files[arrival.name]["digest"], stored, schema)
                _take(arrived, batch, known, declared)
            continue
        arrived.read += 1
        try:
            batch = _read(round_, table, arrival, types, known.expected(), len_of(arrived.files))
        except DatasetError as error:
            if not unchanged(arrival):
                arrived.waiting[arrival.name] = "it changed while it was read"
            else:
                _refuse(round_, arrived, known, arrival, str(error), readable=False)
            continue
        if not unchanged(arrival):
            arrived.waiting[arrival.name] = "it changed while it was read"
            continue
        if (other := known.same(batch.name, batch.digest, arrived.files)) is not None:
            arrived.same[arrival.name] = other
            known.note(arrival, "same", batch.digest)
            continue
        strange = _other_types(batch, types)
        failed = failures(_judged(round_, table, batch, strange, before))
        if failed and (strange or batch.digest[:NAMED] not in known.free):
            reason = " ".join(v.reason for v in failed)
            _refuse(round_, arrived, known, arrival, reason, readable=not strange)
            continue
        known.note(arrival, "accepted", batch.digest, stored=batch.stored)
        _take(arrived, batch, known, declared)
        known.accepted(batch.schema.names)
        types = {**{c.name: c.type for c in batch.schema}, **types}
    known.save()
    return arrived


def len_of(files: list[StoredFile]) -> int:
    """It returns the number of rows of files."""
    return sum(f.rows for f in files)


def _take(arrived: Arrived, batch: Batch, known: Known, declared: DatasetDeclaration) -> None:
    """It puts a batch among the files; a corrected version takes the former one's place."""
    former = known.former(batch.name) if declared.resent == "replace" else set()
    former -= {batch.digest[:NAMED]}
    arrived.files = [f for f in arrived.files if f.batch not in former] + [batch.stored]
    arrived.batches = [b for b in arrived.batches if b.stored.batch not in former] + [batch]


def _settled(round_: Round) -> Landing:
    """It looks, and once more after a moment when something was written a moment ago."""
    root, declared = round_.stores.root, round_.problem.dataset
    found = look(root, declared, round_.clock())
    if any("moment ago" in why for why in found.waiting.values()):
        time.sleep(declared.settle)
        found = look(root, declared, round_.clock())
    # so that the sensor need not start a run for what this one looks at
    round_.stores.lake.note(round_.problem.name, "landing", {"mark": found.mark()})
    return found


def _before(round_: Round) -> Profile | None:
    """It returns the profile of the current dataset, or None."""
    try:
        entry = round_.stores.lake.current(round_.problem.name, "dataset")
    except NotMaterialized:
        return None
    return Profile.from_record(entry.json(PROFILE))


def _types(table: Table, files: list[StoredFile]) -> dict[str, pa.DataType]:
    """It returns the types of the columns that all accepted batches share; empty ones have none."""
    schema = table.schema() if files else None
    if schema is None:
        return {}
    types = {c.name: c.type for c in schema}
    empty = {n for n, t in types.items() if pa.types.is_string(t)}
    for stored in reversed(files):
        if not empty:
            break
        details = pq.read_metadata(table.folder / stored.name)
        for group in range(details.num_row_groups):
            for i in range(details.num_columns):
                column = details.row_group(group).column(i)
                known = column.statistics is not None and column.statistics.has_null_count
                if not known or column.statistics.null_count < column.num_values:
                    empty.discard(column.path_in_schema)
    return {n: t for n, t in types.items() if n not in empty}


def _read(
    round_: Round,
    table: Table,
    arrival: Arrival,
    types: dict[str, pa.DataType],
    expected: tuple[str, ...],
    start: int = 0,
) -> Batch:
    """It reads one file into one Parquet file beside the table, judging it on the way."""
    declared = round_.problem.dataset
    aside = table.aside()
    file = fetch(arrival, aside.parent)
    text = {n: t for n, t in types.items() if pa.types.is_string(t)}
    judges: list[Judge] = []

    def consume(pieces: Iterator[pa.Table]) -> int:
        judges.append(Judge(declared, expected))
        conformed = _conformed(pieces, declared, types, judges[-1], start)
        return write_pieces(conformed, aside)

    try:
        rows, seen = read_through(file, declared, text, consume)
        stored = table.publish(aside, rows, seen.digest)
    finally:
        aside.unlink(missing_ok=True)
        if arrival.remote:
            file.unlink(missing_ok=True)
    schema = pq.read_schema(table.folder / stored.name)
    breaches = tuple(judges[-1].breaches())
    return Batch(arrival.name, seen.digest, stored, schema, breaches, tuple(seen.left_out))


def _conformed(
    pieces: Iterator[pa.Table],
    declared: DatasetDeclaration,
    types: dict[str, pa.DataType],
    judge: Judge,
    start: int,
) -> Iterator[pa.Table]:
    """It gives the pieces with the types of the table where nothing is lost by it."""
    forms = {n: c.format for n, c in declared.contract.columns.items() if c.type == "date"}
    for piece in pieces:
        looked_at = [c for c in piece.column_names if c in judge.rules]
        judge.see(as_frame(piece.select(looked_at)), piece.column_names)
        for i, column in enumerate(piece.schema):
            values = piece.column(i)
            if column.name in forms and pa.types.is_string(column.type):
                parsed = dates(
                    as_frame(piece.select([column.name]))[column.name], forms[column.name]
                )
                piece = piece.set_column(i, column.name, pa.array(parsed, pa.timestamp("us")))
            elif types.get(column.name) == pa.float64() and column.type == pa.int64():
                if _exact(values):
                    piece = piece.set_column(i, column.name, values.cast(pa.float64()))
            elif column.name in types and values.null_count == len(values):
                piece = piece.set_column(i, column.name, values.cast(types[column.name]))
        if declared.number_rows in piece.column_names:
            raise DatasetError(
                f"There is a column `{declared.number_rows}` already: name `number_rows` otherwise."
            )
        if declared.number_rows:
            numbers = pa.array(range(start, start + piece.num_rows), pa.int64())
            piece = piece.append_column(declared.number_rows, numbers)
            start += piece.num_rows
        yield piece


def _exact(values: pa.ChunkedArray) -> bool:
    ends = pa.compute.min_max(values).as_py()
    return max(abs(ends["min"] or 0), abs(ends["max"] or 0)) <= EXACT


def _other_types(batch: Batch, types: dict[str, pa.DataType]) -> list[Breach]:
    """It returns the columns that cannot stand beside those of the dataset."""
    return [
        Breach(
            c.name,
            "type",
            "enforce",
            f"`{c.name}` holds {_word(c.type)}; in the dataset it is {_word(types[c.name])}.",
        )
        for c in batch.schema
        if c.name in types and c.type != types[c.name] and {c.type, types[c.name]} != NUMBERS
    ]


def _judged(
    round_: Round, table: Table, batch: Batch, other: list[Breach], before: Profile | None
) -> list[Verdict]:
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
    return gates.ask(profile, problem, [*other, *batch.breaches], before)


def _of_known_classes(profile: Profile, target: Target) -> bool:
    return profile.target is not None and set(profile.target.classes) <= set(target.classes)


NUMBERS = {pa.int64(), pa.float64()}


def _word(kind: pa.DataType) -> str:
    names = {
        "int64": "whole numbers",
        "double": "numbers",
        "string": "text",
        "bool": "truth values",
    }
    return names.get(str(kind), "dates")


def _refuse(
    round_: Round,
    arrived: Arrived,
    known: Known,
    arrival: Arrival,
    reason: str,
    readable: bool = True,
) -> None:
    try:
        local: Path | None = fetch(arrival, known.table.aside().parent)
        digest = file_digest(local) if local else ""
    except (OSError, DatasetError):  # it may not be read
        digest, local = digest_of(arrival.name, arrival.mark), None
    reason = reason.replace(f"{arrival.path}: ", "").replace(arrival.path, arrival.name)
    arrived.refused[arrival.name] = reason
    known.note(arrival, "refused", digest, contract=known.contract)
    quarantine.keep(round_, arrival.name, digest, reason, local, readable)
    if arrival.remote and local is not None:
        local.unlink(missing_ok=True)
