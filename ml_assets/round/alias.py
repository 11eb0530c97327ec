"""The alias `champion` in the registry: it mirrors the ledger, whoever moved it and why."""

from typing import Any

from ml_assets.resources.ledger import ALIAS_REPAIRED
from ml_assets.resources.registry import CHAMPION
from ml_assets.resources.stores import Stores


def mend(stores: Stores, problem: str, now: float, run_id: str = "") -> dict[str, Any] | None:
    """It makes the alias agree with the ledger, after a crash between the two or a stray hand.

    Args:
        stores: ledger and registry.
        problem: the problem's name.
        now: seconds since 1970.
        run_id: the Dagster run that noticed it.

    Returns:
        The ledger's new entry; None when they agreed.
    """
    champion = stores.ledger.champion(problem)
    if champion is None or stores.registry.pointed(problem, CHAMPION) == champion["version"]:
        return None
    with stores.ledger.deciding(problem) as deciding:
        found = stores.registry.pointed(problem, CHAMPION)  # a decision may have been in between
        champion = stores.ledger.champion(problem)
        if champion is None or found == champion["version"]:
            return None
        stores.registry.point(problem, CHAMPION, champion["version"])
        return deciding.append(
            {
                "event": ALIAS_REPAIRED,
                "at": now,
                "version": champion["version"],
                "found": found,
                "run_id": run_id,
                "reason": f"The alias champion pointed at {f'version {found}' if found else 'nothing'}"
                f"; the ledger says version {champion['version']}.",
            }
        )
