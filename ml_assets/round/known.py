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
        earlier: names of accepted batches, by digest.
        free: batches that somebody released from quarantine.
        contract: names what a refusal was judged by.
        common: columns that every accepted batch has.
    """

    round_: Round
    table: Table
    files: dict[str, dict[str, Any]]
    earlier: dict[str, str]
    free: set[str]
    contract: str
    common: list[str]

    @classmethod
    def of(cls, round_: Round, table: Table) -> "Known":
        """It returns what is known of a problem's files."""
        lake, name = round_.stores.lake, round_.problem.name
        noted = lake.noted(name, f"arrivals-{table.folder.name}")
        if noted is None:
            versions = reversed(table.history(1 << 30))
            files = {
                v["name"]: {"mark": "", "fate": "accepted", "digest": v["batch"], "file": None}
                for v in versions
                if "batch" in v
            }
            noted = {"files": files}
        earlier = {
            f["digest"][:NAMED]: n for n, f in noted["files"].items() if f["fate"] == "accepted"
        }
        schema = table.schema()
        common = noted.get("common", schema.names if schema is not None else [])
        return cls(
            round_,
            table,
            noted["files"],
            {**noted.get("earlier", {}), **earlier},
            released(round_),
            judged_by(round_),
            common,
        )

    def stored(self, arrival: Arrival) -> StoredFile | None:
        """It returns the rows of an unchanged file that was accepted."""
        seen = self.files.get(arrival.name)
        if seen is None or seen["mark"] != arrival.mark or not seen.get("file"):
            return None
        stored = StoredFile(*seen["file"])
        return stored if (self.table.folder / stored.name).is_file() else None

    def breaches(self, arrival: Arrival) -> tuple[Breach, ...]:
        """It returns what an accepted file breaches of the contract, as it was when it was read."""
        return tuple(Breach(**b) for b in self.files[arrival.name].get("breaches", ()))

    def settled(self, arrival: Arrival) -> bool:
        """It says whether nothing is to be done about an unchanged file."""
        seen = self.files.get(arrival.name)
        if seen is None or seen["mark"] != arrival.mark:
            return False
        if seen["fate"] == "refused":
            return seen["contract"] == self.contract and seen["digest"][:NAMED] not in self.free
        return seen["fate"] == "same"

    def refused(self, name: str, why: str) -> bool:
        """It notes that something is no file of ours, and says whether that is news."""
        news = self.files.get(name, {}).get("digest") != digest_of(name, why)
        self.files[name] = {
            "mark": "",
            "fate": "refused",
            "digest": digest_of(name, why),
            "contract": "",
        }
        return news

    def same(self, name: str, digest: str, files: list[StoredFile]) -> str | None:
        """It returns the name under which the same bytes are in the dataset, or were."""
        short = digest[:NAMED]
        first = self.earlier.get(short, "an earlier batch")
        if any(f.batch == short for f in files):
            return first
        return first if self.table.has(short) and first != name else None

    def former(self, name: str) -> set[str]:
        """It returns the batches that came under a name."""
        return {digest for digest, known in self.earlier.items() if known == name}

    def note(
        self,
        arrival: Arrival,
        fate: str,
        digest: str,
        stored: StoredFile | None = None,
        contract: str = "",
        breaches: tuple[Breach, ...] = (),
    ) -> None:
        """It notes what became of a file."""
        file = list(asdict(stored).values()) if stored else None
        self.files[arrival.name] = {
            "mark": arrival.mark,
            "fate": fate,
            "digest": digest,
            "file": file,
            "contract": contract,
            "breaches": [asdict(b) for b in breaches],
        }
        if fate == "accepted":
            self.earlier.setdefault(digest[:NAMED], arrival.name)

    def expected(self) -> tuple[str, ...]:
        """It returns the columns that a new batch must have beside those under contract.

        Where no column is under contract, what all accepted batches have is the contract.
        """
        number = self.round_.problem.dataset.number_rows
        named = self.round_.problem.dataset.contract.columns
        return () if named else tuple(c for c in self.common if c != number)

    def accepted(self, columns: list[str]) -> None:
        """It notes the columns of an accepted batch."""
        self.common = [c for c in self.common if c in columns] or list(columns)

    def save(self) -> None:
        """It writes it down."""
        lake, name = self.round_.stores.lake, self.round_.problem.name
        lake.note(
            name,
            f"arrivals-{self.table.folder.name}",
            {"files": self.files, "earlier": self.earlier, "common": self.common},
        )


def judged_by(round_: Round) -> str:
    """It names all that decides whether a batch is refused."""
    return digest_of(round_.problem.dataset, round_.problem.task)
