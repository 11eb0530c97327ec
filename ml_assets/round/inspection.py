"""An inspection: the card of a candidate or of the challenger, for somebody who asks for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ml_assets.candidate import predict
from ml_assets.errors import DeclarationError, NotMaterialized, did_you_mean
from ml_assets.resources.lake import Entry
from ml_assets.round import Round
from ml_assets.round import card as cards
from ml_assets.round.candidate import candidate_key, provenance
from ml_assets.round.evaluation import make_evaluation
from ml_assets.round.split import current_split, part_rows
from ml_assets.verification import load_verified


@dataclass(frozen=True)
class Inspected:
    """A card that somebody asked for.

    Attributes:
        asset: whose it is.
        part: the rows that it shows: validation or test.
        file: the page.
        made: it was made now; else it was there.
        mlflow_run: the MLflow run that it is beside; None when it is not.
    """

    asset: str
    part: str
    file: Path
    made: bool
    mlflow_run: str | None


def inspect(round_: Round, asset: str) -> Inspected:
    """It returns the card of an asset.

    A candidate's is made when it is asked for, with the leaderboard and the importance of columns,
    which were not known or too dear when it was fitted.  It still shows validation only.

    Raises:
        DeclarationError: there are no cards of such an asset.
        NotMaterialized: what it is to show is not made.
        ModelRefused: the stored candidate is not what was stored.
    """
    known = ["challenger", *(f"candidate/{n}" for n in round_.problem.contenders())]
    if asset not in known:
        raise DeclarationError(f"No card of `{asset}`.{did_you_mean(asset, known)}")
    if asset != "challenger":
        return _candidate(round_, asset)
    entry = cards.latest(round_)
    if entry is None:
        name = round_.problem.name
        raise NotMaterialized(f"{name}/challenger has no card yet: `ml-assets run {name}`.")
    return Inspected(asset, "test", entry.path / cards.PAGE, False, entry.facts.get("mlflow_run"))


def _candidate(round_: Round, asset: str) -> Inspected:
    problem, name = round_.problem, asset.removeprefix("candidate/")
    split = current_split(round_)
    key = candidate_key(round_, problem.contenders()[name], split)
    entry = round_.find("candidate", key)
    if entry is None:
        raise NotMaterialized(
            f"{problem.name}/{asset} is not fitted for the current split and declaration: "
            f"`ml-assets run {problem.name}`."
        )
    evaluated = make_evaluation(round_)
    card_key = cards.key_of_candidate(entry, evaluated.entry)
    known = cards.found(round_, card_key)
    if known is None:
        model = _once(entry, tuple(problem.trust))
        rows = part_rows(round_, split, "validation")
        said = predict(model(), rows, split.profile.usable_target())
        shown = cards.shown_on_validation(round_, split, entry, said, provenance(round_, split))
        shown = replace(shown, board=tuple(evaluated.board), winner=evaluated.winner)
        made = cards.candidate_card(round_, shown, card_key, model)
    else:
        made = known
    run = entry.facts.get("mlflow_run")
    return Inspected(asset, "validation", made.path / cards.PAGE, known is None, run)


def _once(entry: Entry, trusted: tuple[str, ...]) -> Callable[[], Any]:
    model = load_verified(entry.path, entry.digest, trusted)
    return lambda: model
