"""The quarantine of a round: refused batches, kept with their reasons, until somebody decides."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_assets.digest import digest_of
from ml_assets.errors import PromotionRefused, shortened
from ml_assets.landing import DATA_FILES
from ml_assets.resources.table import NAMED
from ml_assets.round import Round

RECORD = "record.json"
RELEASE = "release"


def keep(
    round_: Round,
    name: str,
    digest: str,
    reason: str,
    file: Path | None,
    readable: bool = False,
    breached: tuple[str, ...] = (),
) -> None:
    """It keeps a refused file, with its reason, and whether it has rows that could be let in."""
    record = {
        "batch": digest[:NAMED],
        "name": name,
        "reason": reason,
        "readable": readable,
        "breached": list(breached),
    }

    def write(folder: Path) -> dict[str, Any]:
        if file is not None:
            shutil.copyfile(file, folder / f"kept{_ending(name)}")
        (folder / RECORD).write_text(json.dumps(record))
        return {"at": round_.clock(), "run_id": round_.run.run_id}

    round_.put("quarantine", digest_of(digest, name, reason), write)


def _ending(name: str) -> str:
    return next((e for e in DATA_FILES if name.endswith(e)), "")


@dataclass(frozen=True)
class Quarantined:
    """One refused batch.

    Attributes:
        batch: its digest.
        name: its name in the landing zone.
        reason: why it was refused.
        at: when, in seconds since 1970.
        readable: whether it has rows that could be released.
        breached: the enforced rules that it breaches, as `column rule`.
        state: awaits, released, replaced, or gone: taken away from the landing zone.
        kept: where its bytes are; None for what could not be read.
        run_id: the Dagster run that refused it.
    """

    batch: str
    name: str
    reason: str
    readable: bool
    breached: list[str]
    at: float
    state: str
    kept: Path | None
    run_id: str


def quarantined(round_: Round, now: dict[str, dict[str, Any]]) -> list[Quarantined]:
    """It returns every refused batch, the latest first.

    Args:
        round_: the round.
        now: what is known of the files, by name (`Known.files`).
    """
    free = released(round_)
    latest: dict[tuple[str, str], Quarantined] = {}
    entries = round_.stores.lake.entries(round_.problem.name, "quarantine")
    for entry in sorted(entries, key=lambda e: e.facts["at"]):
        record = entry.json(RECORD)
        batch, seen = record["batch"], now.get(record["name"], {})
        replaced = seen.get("fate") in ("accepted", "same")
        state = "awaits"
        if replaced:
            state = "released" if seen["digest"][:NAMED] == batch else "replaced"
        elif seen.get("fate") == "gone":
            state = "gone"
        elif batch in free:
            state = "released"
        kept = next(entry.path.glob("kept*"), None)
        latest[batch, record["name"]] = Quarantined(
            **record, at=entry.facts["at"], state=state, kept=kept, run_id=entry.facts["run_id"]
        )
    return sorted(latest.values(), key=lambda q: -q.at)


def release(round_: Round, batch: str, why: str, now: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """It notes in the ledger that a refused batch is to be let in, and returns the entry.

    Raises:
        PromotionRefused: no such batch awaits, it cannot be read at all, or no reason is given.
    """
    if not why.strip():
        raise PromotionRefused("A release needs a reason: --why TEXT.")
    found = [q for q in quarantined(round_, now) if q.batch.startswith(batch) or q.name == batch]
    waits = [q for q in found if q.state == "awaits"]
    if not waits and found and found[0].state == "gone":
        raise PromotionRefused(
            f"{found[0].name} is not in the landing zone any more: put it back, and it is looked at again."
        )
    if len(waits) != 1:
        names = shortened(f"{q.name} ({q.batch[:12]})" for q in quarantined(round_, now))
        several = f"{len(waits)} batches `{batch}` await" if waits else f"No batch `{batch}` awaits"
        raise PromotionRefused(
            f"{several} in quarantine; name one by its file or the first "
            f"digits of its batch. There are: {names or 'none'}."
        )
    if not waits[0].readable:
        raise PromotionRefused(
            f"{waits[0].name} has no rows that could be let in: {waits[0].reason} Put a corrected "
            "file in its place."
        )
    entry = {
        "event": RELEASE,
        "at": round_.clock(),
        "batch": waits[0].batch,
        "file": waits[0].name,
        "reason": f"{why} (refused because: {waits[0].reason})",
        "actor": round_.actor,
        "run_id": round_.run.run_id,
    }
    with round_.stores.ledger.deciding(round_.problem.name) as deciding:
        return deciding.append(entry)


def released(round_: Round) -> set[str]:
    """It returns the batches that somebody released from quarantine."""
    entries = round_.stores.ledger.entries(round_.problem.name)
    return {e["batch"] for e in entries if e["event"] == RELEASE}


def excused(round_: Round, batches: set[str]) -> list[str]:
    """It returns the enforced rules that released batches breach, as `column rule`."""
    let_in = released(round_) & batches
    if not let_in:
        return []
    entries = round_.stores.lake.entries(round_.problem.name, "quarantine")
    records = [e.json(RECORD) for e in entries]
    return sorted({b for r in records if r["batch"] in let_in for b in r["breached"]})
