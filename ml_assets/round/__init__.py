"""A round: one pass from the data to the decision, each asset brought up to date in its turn.

One module per asset, each with one function that makes it, or finds that nothing it depends on
has changed and says so.  What an asset depends on is named by content, so "up to date" is a
look-up, and an asset can never be made from a mixture of old and new.  Only the dataset has a
notion of *current*; everything after it follows from the current dataset and today's declaration.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_assets.gates import Verdict
from ml_assets.problem import Problem
from ml_assets.resources.lake import Entry
from ml_assets.resources.registry import DagsterRun
from ml_assets.resources.stores import Stores

# Files in the lake's folders.
PROFILE, CARD, PREDICTIONS = "profile.json", "card.json", "predictions.parquet"


@dataclass(frozen=True)
class Round:
    """One pass over one problem.

    Attributes:
        problem: the declaration.
        folder: where its model.py is; None when it was declared in Python.
        stores: lake, ledger and registry.
        run: the Dagster run that it happens in.
        actor: who started it.
        clock: seconds since 1970.
        otherwise: what this run does otherwise than declared; empty for a run like any other.
        promotes: a fit and better challenger becomes champion.
        dataset_version: the version of the dataset that is looked at; None for the current one.
        together: names of the candidates that this very process is to fit.
        again: a fault that may pass is to be raised: the step is then tried again.
    """

    problem: Problem
    folder: Path | None
    stores: Stores
    run: DagsterRun
    actor: str = ""
    clock: Callable[[], float] = time.time
    otherwise: str = ""
    promotes: bool = True
    dataset_version: str | None = None
    together: tuple[str, ...] = ()
    again: bool = False

    @property
    def rehearses(self) -> bool:
        """Whether nothing of it lasts: it is decided as ever, and no page or picture is made."""
        return not self.stores.registry.lasting

    def find(self, noun: str, key: str) -> Entry | None:
        """It returns what this problem's lake has under a key, or None.

        Raises:
            ModelRefused: it has it, but not as it was written.
        """
        entry = self.stores.lake.find(self.problem.name, noun, key)
        return self.stores.lake.sound(entry) if entry else None

    def put(self, noun: str, key: str, write: Callable[[Path], dict[str, Any]]) -> Entry:
        """It makes an entry in this problem's lake."""
        return self.stores.lake.put(self.problem.name, noun, key, write)


@dataclass(frozen=True)
class Made:
    """What each asset says of itself.

    Attributes:
        verdicts: the gates' answers.
        reused: nothing had changed, so nothing was done.
    """

    verdicts: list[Verdict]
    reused: bool
