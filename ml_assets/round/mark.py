"""A mark: what tells, from a cheap look, whether predictions or labels have come.  Light."""

from ml_assets.digest import digest_of
from ml_assets.errors import NotMaterialized
from ml_assets.resources.prediction_log import ANSWERS, mark_of
from ml_assets.resources.stores import Stores


def live_mark(problem: str, stores: Stores) -> str:
    """It returns a name for all predictions and labels that there are; nothing large is read.

    Args:
        problem: the problem's name.
        stores: where predictions and labels are.
    """
    try:
        dataset = stores.lake.current(problem, "dataset").digest
    except NotMaterialized:
        dataset = ""
    noted = stores.lake.noted(problem, "scored") or {"files": {}}
    outputs = [f["output"] for f in noted.get("outputs", noted["files"].values())]
    champion = stores.ledger.mark(problem)
    stores.lake.gather(problem, ANSWERS)
    return digest_of(mark_of(stores.lake.root, problem), outputs, dataset, champion)
