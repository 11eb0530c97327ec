"""The champion that serves: exchanged for another when the ledger says so, once that is verified."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ml_assets.errors import StoreAway
from ml_assets.problem import Problem
from ml_assets.resources.stores import Stores
from ml_assets.round.predictions import (
    canary_entry,
    load_scorer,
    load_sharing,
    scoring_entry,
)
from ml_assets.scoring import Scorer
from ml_assets.share import Sharing

RETRY_SECONDS = 10.0


@dataclass
class ServedChampion:
    """Who answers, and what keeps another from it.

    Attributes:
        problem: the problem.
        stores: where ledger and registry are.
        scorer: who answers now; a request keeps the one that it began with.
        champion: the version that the ledger names.
        trouble: why that is not the one who answers, or an empty text.
        exchanged: how often another took over.
        refused: how often one could not.
        canary: the canary, verified; None where there is none, or it cannot be verified.
        canary_trouble: why it cannot, or an empty text.
    """

    problem: Problem
    stores: Stores
    scorer: Scorer
    champion: int
    trouble: str = ""
    exchanged: int = 0
    refused: int = 0
    canary: Sharing | None = None
    canary_trouble: str = ""
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    _mark: Any = None
    _again_at: float = 0.0

    @classmethod
    def load(cls, problem: Problem, stores: Stores) -> "ServedChampion":
        """It returns the champion, verified.

        Raises:
            NotMaterialized: there is none.
            ModelRefused: it is not what the ledger recorded.
            PromotionRefused: the ledger was rewritten.
        """
        mark = stores.ledger.mark(problem.name)
        entry = scoring_entry(problem.name, stores)
        made = cls(
            problem, stores, load_scorer(problem, stores, entry, one_row=True), entry["version"]
        )
        made._mark = mark
        made._look_at_the_canary()
        return made

    def look(self) -> None:
        """It looks whether the ledger changed, and if its champion did, verifies and exchanges it.

        Whatever goes wrong, the one who answers goes on, and the reason is kept; it is tried again
        after a while.
        """
        troubled = self.trouble or self.canary_trouble
        try:
            mark = self.stores.ledger.mark(self.problem.name)
        except StoreAway as error:  # whoever answers goes on, and it is looked again soon
            self.trouble, self._mark, self._again_at = str(error), None, self.clock()
            return
        if mark == self._mark and not (troubled and self.clock() >= self._again_at):
            return
        self._mark = mark
        try:
            entry = scoring_entry(self.problem.name, self.stores)
            self.champion = entry["version"]
            if (entry["version"], entry["digest"]) != (self.scorer.version, self.scorer.digest):
                self.scorer = load_scorer(self.problem, self.stores, entry, one_row=True)
                self.exchanged += 1
            self.trouble = ""
        except Exception as error:  # nothing that a new version does may end the old one's work
            self.trouble = str(error) or type(error).__name__
            self.refused += 1
            self._again_at = self.clock() + RETRY_SECONDS
        self._look_at_the_canary()

    def _look_at_the_canary(self) -> None:
        """It takes the ledger's canary beside the champion, or none; requests under way keep theirs."""
        try:
            entry = canary_entry(self.problem, self.stores)
            mine = (entry["version"], entry["digest"], entry["terms"]["share"]) if entry else None
            now = self.canary
            if now is None or mine != (now.scorer.version, now.scorer.digest, now.share):
                self.canary = None  # whatever becomes of the new one, the old one is none any more
                self.canary = load_sharing(self.problem, self.stores)
            self.canary_trouble = ""
        except Exception as error:  # the champion answers all rows, whatever is wrong with a canary
            self.canary, self.canary_trouble = None, str(error) or type(error).__name__
            self._again_at = self.clock() + RETRY_SECONDS
