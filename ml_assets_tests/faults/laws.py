"""What must hold of a home whatever happened to it: asked by a process that knows nothing else.

python -m ml_assets_tests.faults.laws PROJECT PROBLEM    prints the laws that are broken, as JSON
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ml_assets.digest import tree_digest
from ml_assets.resources.home import Home
from ml_assets.resources.lake import Lake, read_table
from ml_assets.resources.ledger import MAKES_CHAMPION, PROMOTION, Ledger, champion_of
from ml_assets.resources.registry import CHAMPION, Registry
from ml_assets.resources.table import Table


class Look:
    """A home, as a process sees it that was not there when anything happened.

    Attributes:
        problem: the problem's name.
    """

    def __init__(self, root: Path, problem: str) -> None:
        home = Home(root, root / ".ml_assets")  # MLflow is where the environment says, as for a run
        self.problem, self.root = problem, root
        self.lake, self.ledger = Lake(home.lake), Ledger(home.ledger)
        self.registry = Registry(home.tracking_uri, home.mlflow)

    def table(self) -> Table | None:
        """It returns the problem's table, if there is one."""
        folders = [*(self.lake.root / self.problem / "table").glob("*")]
        return Table(folders[0]) if folders else None


def gated(look: Look) -> Iterator[str]:
    """Law 1: whoever became champion passed every gate, and its files are those that were judged."""
    entries = look.ledger.entries(look.problem)
    champion = champion_of(entries)
    for entry in entries:
        if entry["event"] == PROMOTION:
            wrong = [g["name"] for g in entry["gates"] if not g["passed"] and g["name"]]
            if wrong or not entry["gates"]:
                yield f"version {entry['version']} was promoted though {wrong or 'no gate'} held"
    if champion is None:
        return
    version = look.registry.version(look.problem, champion["version"])
    if not version.digest == champion["digest"] == tree_digest(version.folder):
        yield f"the champion's files (version {version.number}) are not those of the ledger"


def mirrored(look: Look) -> Iterator[str]:
    """Law 1: the alias says what the ledger says, or, just after a crash, what it said before."""
    entries = look.ledger.entries(look.problem)
    champion = champion_of(entries)
    pointed = look.registry.pointed(look.problem, CHAMPION)
    before = champion["previous"] if champion else None
    if pointed not in (champion and champion["version"], before):
        yield f"the alias points at {pointed}, the ledger says {champion and champion['version']}"
    promoted = {e["version"] for e in entries if e["event"] in MAKES_CHAMPION}
    if pointed is not None and pointed not in promoted:
        yield f"the alias points at version {pointed}, which was never promoted"


def once(look: Look) -> Iterator[str]:
    """Law 7: a version is promoted once, and the history has no gap."""
    entries = look.ledger.entries(look.problem)
    if [e["number"] for e in entries] != list(range(1, len(entries) + 1)):
        yield "the ledger's entries are not numbered one after the other"
    twice = Counter(e["version"] for e in entries if e["event"] == PROMOTION)
    if any(count > 1 for count in twice.values()):
        yield f"promoted more than once: {dict(twice)}"


def disjoint(look: Look) -> Iterator[str]:
    """Law 5: no row of a split is on two sides, and none changes sides from one split to the next."""
    sides: dict[Any, str] = {}
    for entry in look.lake.entries(look.problem, "split"):
        for part in ("train", "validation", "test"):
            for key in read_table(entry.path / f"{part}.parquet")["id"]:
                if sides.setdefault(key, part) != part:
                    yield f"row {key} is in {sides[key]} and in {part}"
                    return


def ingested(look: Look) -> Iterator[str]:
    """Law 6: of each batch all rows came in, or none, and none came in twice."""
    table = look.table()
    if table is None or not table.files():
        return
    rows = Counter(int(i) for i in table.rows(table.files(), set()).frame()["id"])
    twice = [key for key, count in rows.items() if count > 1]
    if twice:
        yield f"rows that came in twice: {twice[:5]}"
    import pandas as pd

    for file in sorted((look.root / "landing").glob("*.csv")):
        try:
            ids = {int(i) for i in pd.read_csv(file)["id"]}
        except (ValueError, KeyError, OSError):
            continue  # it is no batch that could have come in
        there = len(ids & rows.keys())
        if there not in (0, len(ids)):
            yield f"{file.name}: {there} of {len(ids)} rows came in"


def immutable(look: Look) -> Iterator[str]:
    """Law 7: what is in the lake is what was written."""
    for noun in ("dataset", "split", "candidate", "evaluation", "challenger"):
        for entry in look.lake.entries(look.problem, noun):
            if tree_digest(entry.path) != entry.digest:
                yield f"{noun} {entry.digest[:16]} was changed after it was written"


LAWS: tuple[Callable[[Look], Iterator[str]], ...] = (
    gated,
    mirrored,
    once,
    disjoint,
    ingested,
    immutable,
)


def broken(root: Path, problem: str = "demo") -> list[str]:
    """It returns the laws that a home breaks, each with what was seen."""
    found = []
    for law in LAWS:
        try:
            found += [f"{law.__name__}: {said}" for said in law(Look(root, problem))]
        except Exception as error:
            found.append(f"{law.__name__}: could not be asked: {type(error).__name__}: {error}")
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(broken(Path(sys.argv[1]), sys.argv[2])) + "\n")
