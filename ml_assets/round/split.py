"""The split of a round: the current dataset, divided."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.dataset import Profile
from ml_assets.digest import digest_of, file_digest
from ml_assets.errors import NotMaterialized
from ml_assets.gates import split as gates
from ml_assets.later import later
from ml_assets.problem import TimeBy
from ml_assets.resources.lake import Entry, write_table
from ml_assets.round import CARD, Made, Round
from ml_assets.round.dataset import current_dataset, dataset_rows
from ml_assets.rows import FIRST_ROWS, first_rows
from ml_assets.split import (
    HASHING,
    PARTS,
    Cuts,
    Part,
    describe,
    divide,
    find_cuts,
    identify_by,
    roll,
    shared_rows,
)

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = later("pandas")


@dataclass(frozen=True)
class SplitMade(Made):
    """The split.

    Attributes:
        entry: its files.
        dataset: the dataset that it divides.
        profile: what that dataset holds.
        parts: what each part holds.
        digests: SHA-256 of each part's file.
        how: how rows are told apart, in words.
        first: the first rows of each part, as `first_rows` gives them.
    """

    entry: Entry
    dataset: Entry
    profile: Profile
    parts: dict[str, Part]
    digests: dict[str, str]
    how: str
    first: dict[str, dict[str, Any]]


def make_split(round_: Round) -> SplitMade:
    """It divides the current dataset, unless the same rows were divided so before.

    Raises:
        DatasetError: the column to split by is absent or incomplete.
        NotMaterialized: there is no dataset.
    """
    dataset, profile = current_dataset(round_)
    key = _key(round_, dataset, profile)
    entry = round_.find("split", key)
    if entry is not None:
        return _made(round_, entry, dataset, profile, True)
    problem, declared = round_.problem, round_.problem.dataset
    classes = profile.usable_target().classes
    how, column = identify_by(problem.split, declared)
    time = column if how == "time" else None

    def write(folder: Path) -> dict[str, Any]:
        rows = dataset_rows(round_, dataset).frame()
        known = rows[declared.target].notna()
        rows = rows if known.all() else rows[known]
        cuts = _cuts(round_, rows, dataset)
        parts = divide(rows, problem.split, declared, cuts)
        with ThreadPoolExecutor(1) as pool:  # written while they are compared
            shared = pool.submit(shared_rows, parts, problem.split, declared)
            for name, part in parts.items():
                write_table(part, folder / f"{name}.parquet")
            record = {
                "parts": {
                    n: asdict(describe(p, declared.target, classes, time)) for n, p in parts.items()
                },
                "cuts": cuts and asdict(cuts),
                "digests": {n: file_digest(folder / f"{n}.parquet") for n in PARTS},
                "shared": shared.result(),
            }
        (folder / CARD).write_text(json.dumps(record))
        return {"at": round_.clock(), "first": {n: first_rows(p) for n, p in parts.items()}}

    entry = round_.put("split", key, write)
    round_.stores.lake.let_go()  # what comes next asks its parts, and holds them in memory besides
    return _made(round_, entry, dataset, profile, False)


def current_split(round_: Round) -> SplitMade:
    """It returns the split of the current dataset.

    Raises:
        NotMaterialized: it has not been made.
    """
    dataset, profile = current_dataset(round_)
    entry = round_.find("split", _key(round_, dataset, profile))
    if entry is None:
        raise NotMaterialized(
            f"{round_.problem.name}/split is not made for the current dataset. Materialize it."
        )
    return _made(round_, entry, dataset, profile, True)


def part_rows(round_: Round, split: SplitMade, part: str) -> pd.DataFrame:
    """It returns the rows of one part."""
    return round_.stores.lake.rows(split.entry, f"{part}.parquet")


def _cuts(round_: Round, rows: pd.DataFrame, dataset: Entry) -> Cuts | None:
    """It returns where a split by time cuts: as declared, or as found when rows first came.

    What was found once is kept, so that no row changes sides when more come.  Where the cuts are
    declared to roll, it is kept for each version of the dataset, and later ones are never earlier.
    """
    problem = round_.problem
    by = problem.split.by
    if not isinstance(by, TimeBy):
        return None
    if by.validation_from is not None:
        return find_cuts(rows, problem.split)
    key = digest_of("cuts", by.time, problem.split.model_dump(mode="json", exclude={"by", "salt"}))
    if by.rolling:
        key = digest_of(key, "rolling", dataset.digest)

    def write(folder: Path) -> dict[str, Any]:
        cuts = find_cuts(rows, problem.split)
        if by.rolling:
            cuts = roll(cuts, _used(round_, by.time))
        (folder / CARD).write_text(json.dumps(asdict(cuts)))
        return {"at": round_.clock(), "by": by.time}

    return Cuts(**(round_.find("cuts", key) or round_.put("cuts", key, write)).json(CARD))


def _used(round_: Round, time: str) -> list[Cuts]:
    """It returns all cuts by a column that were ever found for the problem."""
    found = round_.stores.lake.entries(round_.problem.name, "cuts")
    return [Cuts(**e.json(CARD)) for e in found if e.facts.get("by", time) == time]


def _key(round_: Round, dataset: Entry, profile: Profile) -> str:
    problem = round_.problem
    how = identify_by(problem.split, problem.dataset)
    shares = problem.split.model_dump(mode="json")
    target = problem.dataset.target, asdict(profile.usable_target())
    return digest_of("split", HASHING, dataset.digest, how, shares, target)


def _made(round_: Round, entry: Entry, dataset: Entry, profile: Profile, reused: bool) -> SplitMade:
    record = entry.json(CARD)
    parts = {
        n: Part(p["rows"], tuple(p["counts"]), p["first"], p["last"])
        for n, p in record["parts"].items()
    }
    split = round_.problem.split
    how, column = identify_by(split, round_.problem.dataset)
    verdicts = [
        gates.parts_are_disjoint(record["shared"], how),
        gates.every_class_is_present(parts, profile.usable_target()),
    ]
    if how == "time":
        verdicts += [gates.time_is_in_order(parts), gates.shares_are_as_declared(parts, split)]
    named = f"{how} `{column}`" if column else "the row's content"
    if record["cuts"]:
        named += f", cut at {record['cuts']['validation_from']} and {record['cuts']['test_from']}"
    first = entry.facts.get("first") or {
        n: first_rows(round_.stores.lake.head(entry, f"{n}.parquet", FIRST_ROWS)) for n in PARTS
    }
    digests = record["digests"]
    return SplitMade(verdicts, reused, entry, dataset, profile, parts, digests, named, first)
