"""A fresh champion of a round, held against its predecessor on the live rows that it answered.

A test says how a champion does on rows of yesterday.  Should the one before it have done better on
the first rows of today, beyond noise, it serves again.  It is looked at a few times only, at
numbers of labelled rows that are fixed beforehand: who looks again with every row finds what he
looks for.  The confidence is shared out over the looks (Bonferroni).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import predict
from ml_assets.comparison import Comparison, compare
from ml_assets.errors import CandidateError, MLAssetsError, NotMaterialized
from ml_assets.evaluation import select_metric
from ml_assets.gates import Verdict
from ml_assets.later import later
from ml_assets.live import key_text, truth_in
from ml_assets.resources.ledger import MAKES_CHAMPION, PROMOTION
from ml_assets.round import Made, Round
from ml_assets.round.dataset import current_dataset, dataset_rows
from ml_assets.round.live import learned_keys, live_features, live_rows
from ml_assets.round.predictions import load_scorer
from ml_assets.round.rollback import roll_back
from ml_assets.scoring import Scorer, fitted_in

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

LOOKS = 4
ACTOR = "monitoring"
NOTE = "successor"
CLAIM = "predecessor_is_not_better"


@dataclass(frozen=True)
class SuccessorMade(Made):
    """What came of the look.

    Attributes:
        comparison: predecessor against champion; None when it was not the time to look.
        entry: the ledger's entry of the rollback; None when there was none.
    """

    comparison: Comparison | None
    entry: dict[str, Any] | None


def watch_successor(round_: Round) -> SuccessorMade:
    """It holds a fresh champion against its predecessor, and rolls it back if that did better.

    Raises:
        NotMaterialized: there is no champion.
        ModelRefused: one of the two is not what was recorded.
        PromotionRefused: the ledger was rewritten, or the champion changed meanwhile.
    """
    name, stores = round_.problem.name, round_.stores
    declared = round_.problem.watched()
    assert declared is not None
    champion = stores.ledger.champion(name)
    if champion is None:
        raise NotMaterialized(f"{name} has no champion yet. `ml-assets run {name}` brings one.")
    before = _predecessor(round_, champion)
    if before is None:
        return _waits(f"Version {champion['version']} has no predecessor to be held against.")
    noted = stores.lake.noted(name, NOTE) or {}
    last = noted["look"] if noted.get("champion") == champion["number"] else 0
    if last == LOOKS:
        return _waits(f"Version {champion['version']} is no longer fresh. {noted['said']}")
    rows = _judging(round_, champion, before)
    look = min(len(rows) * LOOKS // declared.fresh_rows, LOOKS)
    if look <= last:
        due = -(-declared.fresh_rows * (last + 1) // LOOKS)
        told = f"{len(rows):,} live rows of version {champion['version']} have their label; the "
        return _waits(f"{told}next look is at {due:,}. {noted.get('said', '') if last else ''}")
    try:
        found = _compared(round_, champion, before, rows.head(declared.fresh_rows * look // LOOKS))
    except CandidateError as error:
        return _waits(f"They cannot be compared: {error}")
    said = (
        f"Look {look} of {LOOKS}: version {before['version']} against champion version "
        f"{champion['version']} is {found.sentence.replace('test rows', 'live rows')}."
    )
    entry = None
    may = declared.rollback
    if may is None:
        may = round_.problem.promotion.mode != "approval"
    if found.verdict == "better" and may:
        asked = replace(round_, actor=ACTOR)
        entry = roll_back(asked, before["version"], f"The one before did better. {said}", champion)
    elif found.verdict == "better":
        said += f" Roll it back: `ml-assets rollback {name} --to {before['version']} --why TEXT`."
    # noted last: after a crash before it, the same rows are looked at again
    stores.lake.note(name, NOTE, {"champion": champion["number"], "look": look, "said": said})
    verdict = Verdict(CLAIM, found.verdict != "better", said, asdict(found), "warn")
    return SuccessorMade([verdict], False, found, entry)


def _waits(told: str) -> SuccessorMade:
    return SuccessorMade([Verdict(CLAIM, True, told.strip(), {}, "warn")], True, None, None)


def _predecessor(round_: Round, champion: dict[str, Any]) -> dict[str, Any] | None:
    """It returns the entry of the champion before a promoted one; None after a rollback."""
    if champion["event"] != PROMOTION or champion["previous"] is None:
        return None
    entries = round_.stores.ledger.entries(round_.problem.name)
    made = [e for e in entries if e["event"] in MAKES_CHAMPION and e["number"] < champion["number"]]
    return made[-1] if made else None


def _judging(round_: Round, champion: dict[str, Any], before: dict[str, Any]) -> pd.DataFrame:
    """It returns the labelled live rows of the champion that neither of the two learned from."""
    rows = live_rows(round_, since=float(np.floor(champion["at"]))).judged_by(champion["version"])
    known = learned_keys(round_, before["version"])
    return rows if known is None else rows[~rows["key"].isin(known)]


def _compared(
    round_: Round, champion: dict[str, Any], before: dict[str, Any], rows: pd.DataFrame
) -> Comparison:
    """It compares the predecessor with the champion on the same features of the same rows.

    Raises:
        CandidateError: one of the two cannot score the rows.
        ModelRefused: one of the two is not what was recorded.
    """
    scorers = [load_scorer(round_.problem, round_.stores, e) for e in (before, champion)]
    _, profile = current_dataset(round_)
    target = profile.usable_target()
    said = [predict(s.model, _features(round_, s, rows), target) for s in scorers]
    gate = round_.problem.champion_gate()
    return compare(
        select_metric(target.task, round_.problem.select),
        truth_in(rows, target),
        said[0],
        said[1],
        target,
        1 - (1 - gate.confidence) / LOOKS,
        0.0,
        round_.problem.seed,
    )


def _features(round_: Round, scorer: Scorer, rows: pd.DataFrame) -> pd.DataFrame:
    """It returns the features of labelled rows: as they were seen, else as they were accepted."""
    try:
        seen = live_features(round_, rows)
    except MLAssetsError:  # the place where files arrive may be gone by now
        seen = pd.DataFrame()
    if len(seen) == len(rows) and set(scorer.columns) <= set(seen.columns):
        return fitted_in(scorer, seen[list(scorer.columns)])[0]
    entry, _ = current_dataset(round_)
    accepted = dataset_rows(round_, entry).frame()
    lacks = scorer.lacking(list(accepted.columns))
    if lacks:
        raise CandidateError(lacks)
    keys = key_text(accepted[str(round_.problem.dataset.key)])
    accepted = accepted.set_axis(pd.Index(keys)).loc[rows["key"].to_numpy(), list(scorer.columns)]
    return fitted_in(scorer, accepted.reset_index(drop=True))[0]
