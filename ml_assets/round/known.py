"""What is known of the files that were seen, so that a listing alone tells what is new."""

from dataclasses import asdict, dataclass
from typing import Any

from ml_assets.contract import Breach
from ml_assets.digest import digest_of
from ml_assets.landing import Arrival
from ml_assets.resources.table import NAMED, StoredFile, Table
from ml_assets.round import Round
from ml_assets.round.quarantine import released


@dataclass
class Known:
    """What became of the files that were seen, by name; a listing alone tells whether one changed.

    It can be lost: names and digests of accepted batches are noted with the table's versions.

    Attributes:
        round_: the round.
        table: the table that the files' rows go into.
        files: by name: mark, fate (accepted, refused, same), digest, stored file.
        holds: by name, the batches that it stands for: one, unless what is sent again is added.
        free: batches that somebody released from quarantine.
        contract: names what a file is judged by today.
        common: columns that every accepted batch has.
        number: of the next row, where rows are numbered; None where that is not known.
    """

    round_: Round
    table: Table
    files: dict[str, dict[str, Any]]
    holds: dict[str, list[str]]
    free: set[str]
    contract: str
    common: list[str]
    number: int | None

    @classmethod
    def of(cls, round_: Round, table: Table) -> "Known":
        """It returns what is known of a problem's files."""
        lake, name = round_.stores.lake, round_.problem.name
        noted = lake.noted(name, f"arrivals-{table.folder.name}") or _from_history(round_, table)
        return cls(
            round_,
            table,
            noted["files"],
            noted["holds"],
            released(round_),
            judged_by(round_),
            noted["common"],
            noted["number"],
        )

    def stored(self, arrival: Arrival) -> StoredFile | None:
        """It returns the rows of an unchanged file that was accepted."""
        seen = self.files.get(arrival.name)
        if seen is None or seen["mark"] != arrival.mark or not seen.get("file"):
            return None
        stored = StoredFile(*seen["file"])
        return stored if self.table.path(stored).is_file() else None

    def of_today(self, arrival: Arrival) -> bool:
        """It says whether a known file was judged by what is declared today."""
        return bool(self.files[arrival.name]["contract"] == self.contract)

    def breaches(self, arrival: Arrival) -> tuple[Breach, ...]:
        """It returns what an accepted file breaches of the contract."""
        return tuple(Breach(**b) for b in self.files[arrival.name].get("breaches", ()))

    def settled(self, arrival: Arrival) -> bool:
        """It says whether nothing is to be done about an unchanged file without rows of its own."""
        seen = self.files.get(arrival.name)
        if seen is None or seen["mark"] != arrival.mark:
            return False
        if seen["fate"] == "refused":
            return self.of_today(arrival) and seen["digest"][:NAMED] not in self.free
        return bool(seen["fate"] == "same")

    def refused(self, name: str, why: str) -> bool:
        """It notes that something is no file of ours, and says whether that is news."""
        digest = digest_of(name, why)
        news = self.files.get(name, {}).get("digest") != digest
        self.files[name] = {"mark": "", "fate": "refused", "digest": digest, "contract": ""}
        return news

    def gone(self, there: set[str]) -> None:
        """It notes which refused files were taken away: nobody need decide about them."""
        for name, seen in self.files.items():
            if seen["fate"] == "refused" and name not in there:
                self.files[name] = {**seen, "fate": "gone"}

    def same(self, name: str, digest: str) -> str | None:
        """It returns the name of another file that stands for the same bytes, or None."""
        short = digest[:NAMED]
        return next((n for n, held in self.holds.items() if short in held and n != name), None)

    def wanted(self) -> set[str]:
        """It returns the batches that the dataset consists of."""
        return {batch for held in self.holds.values() for batch in held}

    def note(
        self,
        arrival: Arrival,
        fate: str,
        digest: str,
        stored: StoredFile | None = None,
        breaches: tuple[Breach, ...] = (),
    ) -> frozenset[str]:
        """It notes what became of a file, and returns the batches that go out of the dataset by it."""
        self.files[arrival.name] = {
            "mark": arrival.mark,
            "fate": fate,
            "digest": digest,
            "file": list(asdict(stored).values()) if stored else None,
            "contract": self.contract,
            "breaches": [asdict(b) for b in breaches],
        }
        if fate == "refused":  # what it was before stays
            return frozenset()
        before = self.holds.get(arrival.name, [])
        added = [] if digest[:NAMED] in before else [digest[:NAMED]]
        adds = self.round_.problem.dataset.resent == "append"
        self.holds[arrival.name] = before + added if adds else [digest[:NAMED]]
        return frozenset(before) - self.wanted()

    def expected(self) -> tuple[str, ...]:
        """It returns the columns that a new batch must have beside those under contract.

        Where no column is under contract, what all accepted batches have is the contract.
        """
        number = self.round_.problem.dataset.number_rows
        named = self.round_.problem.dataset.contract.columns
        return () if named else tuple(c for c in self.common if c != number)

    def numbered(self) -> int:
        """It returns the number of the next row: one more than the largest that was given."""
        name = self.round_.problem.dataset.number_rows
        if self.number is None:
            self.number = 0 if name is None else self.table.largest(name) + 1
        return self.number

    def accepted(self, columns: list[str], rows: int) -> None:
        """It notes the columns of an accepted batch, and how many numbers it took."""
        self.common = [c for c in self.common if c in columns] or list(columns)
        self.number = self.numbered() + rows

    def save(self) -> None:
        """It writes it down."""
        note = {k: getattr(self, k) for k in ("files", "holds", "common", "number")}
        lake, name = self.round_.stores.lake, self.round_.problem.name
        lake.note(name, f"arrivals-{self.table.folder.name}", note)


def _from_history(round_: Round, table: Table) -> dict[str, Any]:
    """It returns what the table's versions tell of the files that came in."""
    holds: dict[str, list[str]] = {}
    replaces = round_.problem.dataset.resent == "replace"
    for version in reversed(table.history(1 << 30)):
        if "batch" in version:
            before = [] if replaces else holds.get(version["name"], [])
            holds[version["name"]] = [*before, version["batch"][:NAMED]]
    here = {f.batch for f in table.files()}
    holds = {name: [b for b in held if b in here] for name, held in holds.items()}
    common = [c.name for c in table.schema() or ()]
    return {"files": {}, "holds": holds, "common": common, "number": None}


def judged_by(round_: Round) -> str:
    """It names all that decides whether a file is refused."""
    return digest_of(round_.problem.dataset, round_.problem.task)
