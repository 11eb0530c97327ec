"""A reproduction: a version made again from its record, and held against what was recorded."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ml_assets import __version__
from ml_assets.errors import PromotionRefused, shortened
from ml_assets.problem import Problem
from ml_assets.resources.lake import Lake
from ml_assets.resources.table import StoredFile, Table
from ml_assets.round import CARD, Round
from ml_assets.round.candidate import fit_with_members
from ml_assets.round.challenger import score_on_test
from ml_assets.round.dataset import MANIFEST, dataset_rows, described
from ml_assets.round.record import CONFIG, environment
from ml_assets.round.split import make_split
from ml_assets.verification import load_verified


@dataclass(frozen=True)
class Difference:
    """Something that came out otherwise.

    Attributes:
        what: dataset, split, model, a metric, a library or the code's version.
        recorded: what the record says.
        found: what was found now.
    """

    what: str
    recorded: Any
    found: Any


@dataclass(frozen=True)
class Reproduction:
    """What making a version again came to.

    Attributes:
        version: its number.
        candidate: its candidate.
        same: dataset, split, model and metrics are those that were recorded.
        differences: what is not; and what may be why: libraries, the code's version.
        model_digest: of the model that was made now.
        metrics: of that model, on test.
    """

    version: int
    candidate: str
    same: bool
    differences: tuple[Difference, ...]
    model_digest: str
    metrics: dict[str, float]


def reproduce(round_: Round, version: int | None) -> Reproduction:
    """It makes a version again: rows, split, fit and score, from the record alone.

    Nothing is read from what was made then but the rows, nothing is written but the ledger's
    neighbours stay as they are: all happens in a folder of its own.

    Args:
        round_: the problem's name and stores; its declaration of today is not used.
        version: the version; None for the champion.

    Raises:
        PromotionRefused: the ledger knows no such version, it has no record, or its declaration
            names what is not installed.
        ModelRefused: rows or record were changed since.
    """
    entry = _entry(round_, version)
    record = round_.find("record", str(entry.get("record")))
    if record is None:
        raise PromotionRefused(
            f"Version {entry['version']} of {round_.problem.name} has no record: it was decided "
            "about before records were kept, or its files are gone."
        )
    kept = record.json(CONFIG)
    problem = _declared_then(kept["config"], entry["version"])
    with tempfile.TemporaryDirectory() as aside:
        stores = replace(round_.stores, lake=Lake(Path(aside)))
        fresh = replace(round_, problem=problem, folder=record.path, stores=stores)
        dataset = _rows_at_hand(round_, fresh, kept)
        split = make_split(fresh)
        fitted = fit_with_members(fresh, entry["candidate"], split)
        card = fitted.json(CARD)
        trusted = tuple(problem.trust)
        scored, _ = score_on_test(
            fresh,
            split,
            card["model_digest"],
            lambda: load_verified(fitted.path, fitted.digest, trusted),
        )
        metrics = scored.json(CARD)["metrics"]
    found = [
        ("dataset", entry["dataset_version"], dataset[:16]),
        ("split", entry["split"], split.entry.digest),
        ("model", entry["model_digest"], card["model_digest"]),
        *((m, entry["metrics"].get(m), metrics.get(m)) for m in {**entry["metrics"], **metrics}),
    ]
    wrong = [Difference(*f) for f in found if f[1] != f[2]]
    also: list[tuple[str, Any, Any]] = [("code", entry["code_version"], __version__)]
    then, now = kept["environment"], environment(problem)
    also += [(name, then.get(name), now.get(name)) for name in {**then, **now}]
    why = [Difference(*f) for f in also if f[1] != f[2]]
    return Reproduction(
        entry["version"],
        entry["candidate"],
        not wrong,
        (*wrong, *why),
        card["model_digest"],
        metrics,
    )


def _declared_then(config: dict[str, Any], version: int) -> Problem:
    """It returns the recorded declaration; one may name parts of a package that is gone."""
    try:
        return Problem(**config)
    except ValidationError as error:
        said = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise PromotionRefused(
            f"The recorded declaration of version {version} does not hold here: {said} Install the "
            "packages that provided its parts."
        ) from None


def _entry(round_: Round, version: int | None) -> dict[str, Any]:
    """It returns the ledger's entry of a version."""
    name, ledger = round_.problem.name, round_.stores.ledger
    if version is None:
        entry = ledger.champion(name)
        if entry is None:
            raise PromotionRefused(f"{name} has no champion yet. Name a version.")
        return entry
    known = [e for e in ledger.entries(name) if e.get("candidate")]
    found = [e for e in known if e["version"] == version]
    if not found:
        there = shortened(dict.fromkeys(str(e["version"]) for e in known)) or "none"
        raise PromotionRefused(
            f"The ledger of {name} knows no version {version}; it knows {there}."
        )
    return found[-1]


def _rows_at_hand(round_: Round, fresh: Round, kept: dict[str, Any]) -> str:
    """It lays the recorded rows out in the fresh lake, and returns their description's digest."""
    name = fresh.problem.name
    then = round_.find("dataset", kept["dataset"])
    if then is None:
        raise PromotionRefused(f"The files of {name}/dataset that it learned from are gone.")
    manifest = then.json(MANIFEST)
    here = fresh.stores.lake.root / name
    here.mkdir(parents=True)
    dataset_rows(round_, then)  # fetched, where they are kept elsewhere
    (here / "table").symlink_to(round_.stores.lake.root / name / "table")
    table = Table(here / "table" / manifest["table"])
    entry = described(fresh, table, [StoredFile(**f) for f in manifest["files"]])
    fresh.stores.lake.make_current(name, "dataset", "dataset", entry)
    for cuts in round_.stores.lake.entries(name, "cuts"):
        card = (cuts.path / CARD).read_bytes()

        def write(folder: Path, card: bytes = card) -> dict[str, Any]:
            (folder / CARD).write_bytes(card)
            return {}

        fresh.put("cuts", cuts.key, write)
    return entry.digest
