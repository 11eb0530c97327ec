"""The split of a round: the current dataset, divided."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ml_assets.dataset import Profile
from ml_assets.digest import digest_of, file_digest
from ml_assets.errors import NotMaterialized
from ml_assets.gates import split as gates
from ml_assets.resources.lake import Entry, write_table
from ml_assets.round import CARD, ROWS, Made, Round
from ml_assets.round.dataset import current_dataset
from ml_assets.split import HASHING, PARTS, Part, describe, divide, identify_by, shared_rows


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
    """

    entry: Entry
    dataset: Entry
    profile: Profile
    parts: dict[str, Part]
    digests: dict[str, str]
    how: str


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

    def write(folder: Path) -> dict[str, Any]:
        rows = round_.stores.lake.rows(dataset, ROWS)
        rows = rows[rows[declared.target].notna()]
        parts = divide(rows, problem.split, declared)
        for name, part in parts.items():
            write_table(part, folder / f"{name}.parquet")
        record = {
            "parts": {n: asdict(describe(p, declared.target, classes)) for n, p in parts.items()},
            "shared": shared_rows(parts, problem.split, declared),
            "digests": {n: file_digest(folder / f"{n}.parquet") for n in PARTS},
        }
        (folder / CARD).write_text(json.dumps(record))
        return {"at": round_.clock()}

    return _made(round_, round_.put("split", key, write), dataset, profile, False)


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


def _key(round_: Round, dataset: Entry, profile: Profile) -> str:
    problem = round_.problem
    how = identify_by(problem.split, problem.dataset)
    shares = problem.split.model_dump(mode="json", exclude={"by"})
    target = problem.dataset.target, asdict(profile.usable_target())
    return digest_of("split", HASHING, dataset.digest, how, shares, target)


def _made(round_: Round, entry: Entry, dataset: Entry, profile: Profile, reused: bool) -> SplitMade:
    record = entry.json(CARD)
    parts = {n: Part(p["rows"], tuple(p["counts"])) for n, p in record["parts"].items()}
    how, column = identify_by(round_.problem.split, round_.problem.dataset)
    verdicts = [
        gates.parts_are_disjoint(record["shared"], how),
        gates.every_class_is_present(parts, profile.usable_target()),
    ]
    named = f"{how} `{column}`" if column else "the row's content"
    return SplitMade(verdicts, reused, entry, dataset, profile, parts, record["digests"], named)
