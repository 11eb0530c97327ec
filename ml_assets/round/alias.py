"""The aliases `champion` and `canary` in the registry: they mirror the ledger, whoever moved them."""

from typing import Any

from ml_assets.resources.ledger import (
    ALIAS_REPAIRED,
    CANARY_STARTED,
    Decision,
    champion_of,
    under_way,
)
from ml_assets.resources.registry import CANARY, CHAMPION
from ml_assets.resources.stores import Stores


def mend(stores: Stores, problem: str, now: float, run_id: str = "") -> dict[str, Any] | None:
    """It makes the aliases agree with the ledger, after a crash between the two or a stray hand.

    Args:
        stores: ledger and registry.
        problem: the problem's name.
        now: seconds since 1970.
        run_id: the Dagster run that noticed it.

    Returns:
        The ledger's last new entry; None when they agreed.
    """
    if not _astray(stores, problem):
        return None
    with stores.ledger.deciding(problem) as deciding:  # a decision may have been in between
        return _repaired(stores, deciding, now, run_id)


def mirrored(stores: Stores, problem: str) -> None:
    """It makes the alias `canary` agree with the ledger, where a decision just changed that."""
    for alias, _, wanted in _astray(stores, problem):
        if alias == CANARY:
            _move(stores, problem, alias, wanted)


def _astray(stores: Stores, problem: str) -> list[tuple[str, int | None, int | None]]:
    """It returns the aliases that disagree: where each points, and where it is to point.

    Whoever never had a canary may call what he likes `canary`.
    """
    entries = stores.ledger.entries(problem)
    champion, canary = champion_of(entries), under_way(entries)
    wanted: dict[str, int | None] = {}
    if champion is not None:
        wanted[CHAMPION] = champion["version"]
    if any(e["event"] == CANARY_STARTED for e in entries):
        wanted[CANARY] = canary[0]["version"] if canary else None
    found = {alias: stores.registry.pointed(problem, alias) for alias in wanted}
    return [(a, found[a], wanted[a]) for a in wanted if found[a] != wanted[a]]


def _repaired(stores: Stores, deciding: Decision, now: float, run_id: str) -> dict[str, Any] | None:
    written = None
    for alias, found, wanted in _astray(stores, deciding.problem):
        _move(stores, deciding.problem, alias, wanted)
        shown = [f"version {v}" if v else "nothing" for v in (found, wanted)]
        written = deciding.append(
            {
                "event": ALIAS_REPAIRED,
                "at": now,
                "version": wanted or found,
                "found": found,
                "alias": alias,
                "run_id": run_id,
                "reason": f"The alias {alias} pointed at {shown[0]}; the ledger says {shown[1]}.",
            }
        )
    return written


def _move(stores: Stores, problem: str, alias: str, wanted: int | None) -> None:
    if wanted is None:
        stores.registry.unpoint(problem, alias)
    else:
        stores.registry.point(problem, alias, wanted)
