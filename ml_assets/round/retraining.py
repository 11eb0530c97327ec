"""The decision of a round whether to retrain.  Light: a sensor asks it every half a minute."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ml_assets.problem import Problem
from ml_assets.resources.ledger import HOLD, MAKES_CHAMPION, ROLLBACK
from ml_assets.resources.stores import Stores
from ml_assets.retraining import PastRun, Retrain, Situation, Wait, decide
from ml_assets.round import PROFILE
from ml_assets.window import Alarm

MONITORING = "monitoring"  # the note of what live rows show


@dataclass(frozen=True)
class RetrainingMade:
    """The decision.

    Attributes:
        decision: retrain, or wait.
        situation: what it was made on.
    """

    decision: Retrain | Wait
    situation: Situation


def make_retraining(
    problem: Problem, stores: Stores, runs: Sequence[PastRun], now: float
) -> RetrainingMade:
    """It returns whether a run is to start by itself.

    Args:
        problem: the problem.
        stores: where dataset, ledger and notes are.
        runs: the runs of the problem's job.
        now: seconds since 1970.

    Raises:
        NotMaterialized: there is no dataset.
        PromotionRefused: the ledger was rewritten.
    """
    dataset = stores.lake.current(problem.name, "dataset")
    rows = int(dataset.json(PROFILE)["rows"])
    entries = stores.ledger.entries(problem.name)
    decided = [e for e in entries if e["event"] in (HOLD, *MAKES_CHAMPION)]
    champion = next((e for e in reversed(entries) if e["event"] in MAKES_CHAMPION), None)
    newest = next((e for e in reversed(decided) if e["event"] != ROLLBACK), None)
    learned_from = str(newest["dataset_version"]) if newest else ""
    situation = Situation(
        now,
        dataset.digest[:16],
        rows,
        _rows_of(problem, stores, learned_from) if newest else None,
        learned_from,
        noted_alarms(stores.lake.noted(problem.name, MONITORING), champion),
        runs,
    )
    return RetrainingMade(decide(problem.retrain, situation), situation)


def _rows_of(problem: Problem, stores: Stores, version: str) -> int:
    """It returns the rows of an earlier version of the dataset; 0 where it is gone."""
    found = [
        e for e in stores.lake.entries(problem.name, "dataset") if e.digest.startswith(version)
    ]
    return int(found[0].json(PROFILE)["rows"]) if found else 0


def noted_alarms(note: dict[str, Any] | None, champion: dict[str, Any] | None) -> list[Alarm]:
    """It returns the alarms that were noted of who is champion now."""
    if note is None or champion is None or note["champion"] != champion["number"]:
        return []
    return [Alarm(**a) for a in note["alarms"]]
