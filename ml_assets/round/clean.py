"""A clean-up of a problem's lake: what the next run can make again goes, all else stays.

What goes follows from the dataset, the declaration and the code alone: splits, candidates, failures,
evaluations, scores and searches.  What somebody decided by, or would need to prove, roll back or
make a version again, is never looked at: rows, their descriptions, cuts, quarantine, records, the
ledger, and versions in the registry.
"""

from dataclasses import dataclass
from pathlib import Path

from ml_assets.errors import NotMaterialized
from ml_assets.round import Round
from ml_assets.round.candidate import candidate_key
from ml_assets.round.split import current_split

STUDIES = "studies"
# In the order in which they go: what is made of another goes before it.
MADE_AGAIN = ("evaluation", "score", "failure", "candidate", "split")


@dataclass(frozen=True)
class Cleaned:
    """What a clean-up came to.

    Attributes:
        removed: by noun, how many files, and how many bytes.
        kept: what stays although it is made by a run, with the reason.
    """

    removed: dict[str, tuple[int, int]]
    kept: dict[str, str]


def clean(round_: Round, dry_run: bool = False) -> Cleaned:
    """It removes what the next run makes again, and returns what that was.

    No step of this problem may be running: it would lose what it reads, and fail.

    Args:
        round_: problem and stores.
        dry_run: only say what would be removed.
    """
    lake, name = round_.stores.lake, round_.problem.name
    removed = {}
    with lake.lock(name):
        keys, kept = _unrepeatable(round_)
        places = {noun: lake.removable(name, noun, keys) for noun in MADE_AGAIN}
        places[STUDIES] = _studies(round_, keys)
        places["left by processes that died"] = lake.leftovers(name, round_.clock())
        for noun, found in places.items():
            removed[noun] = lake.measured(found)
            if not dry_run:
                lake.remove(name, noun, found)
    return Cleaned({noun: counted for noun, counted in removed.items() if counted[0]}, kept)


def _unrepeatable(round_: Round) -> tuple[set[str], dict[str, str]]:
    """It returns the keys of candidates that would not come out the same, and why.

    A search that is bounded by time tries more or fewer points the next time.
    """
    bounded = {
        n: c for n, c in round_.problem.contenders().items() if c.budget_seconds and c.search
    }
    if not bounded:
        return set(), {}
    try:
        split = current_split(round_)
    except NotMaterialized:
        return set(), {}
    keys = {candidate_key(round_, declared, split) for declared in bounded.values()}
    told = "its search is bounded by time (budget_seconds), and would not come out the same."
    return keys, {f"candidate/{n}": told for n in bounded}


def _studies(round_: Round, keys: set[str]) -> list[Path]:
    folder = round_.stores.lake.root / round_.problem.name / STUDIES
    return [f for f in sorted(folder.glob("*")) if f.name.split(".")[0] not in keys]
