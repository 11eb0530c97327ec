"""The labelled rows of a canary: what it and the champion say of live rows whose label has come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ml_assets.candidate import Predictions, predict
from ml_assets.dataset import Target
from ml_assets.errors import NotMaterialized
from ml_assets.later import later
from ml_assets.live import key_text, said_in
from ml_assets.round import Round
from ml_assets.round.dataset import current_dataset, dataset_rows
from ml_assets.round.live import learned_keys, live_rows
from ml_assets.round.predictions import load_scorer

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

SAME_WITHIN = 1e-4  # the same model, by another runtime, may round otherwise


@dataclass(frozen=True)
class Labelled:
    """Live rows whose label has come, and what both say of them.

    Attributes:
        truth: the labels.
        one: what the canary says.
        other: what the champion says.
        target: task and classes.
        told: what was left out, as a sentence; empty for nothing.
    """

    truth: np.ndarray
    one: Predictions
    other: Predictions
    target: Target
    told: str


def labelled_rows(round_: Round, champion: dict[str, Any], start: dict[str, Any]) -> Labelled:
    """It asks both models about every row that was scored since the canary started and has its label.

    The features are those that came with the label.  A row of which the version that answered it
    says something else now came with other features than it was asked with, and is left out.

    Raises:
        ModelRefused: a model is not what was recorded.
        NotMaterialized: there is no dataset, or nobody knows what one of the two learned from.
        CandidateError: a model refuses the rows.
    """
    problem = round_.problem
    known = _unlearned(round_, champion, start)
    entry, profile = current_dataset(round_)
    rows = dataset_rows(round_, entry).frame()
    rows = rows.set_axis(pd.Index(key_text(rows[str(problem.dataset.key)])))
    rows = rows.loc[known["key"]]
    target = profile.usable_target()
    truth = rows[problem.dataset.target].to_numpy()
    if not len(rows):
        return Labelled(truth, Predictions(truth), Predictions(truth), target, "")
    one, other = (
        predict(load_scorer(problem, round_.stores, e).model, rows, target)
        for e in (start, champion)
    )
    by_canary = (known["version"] == start["version"]).to_numpy()
    same = _as_asked(said_in(known, target), one, other, by_canary)
    left = int((~same).sum())
    told = f"{left:,} rows came with other features than they were asked with." if left else ""
    return Labelled(truth[same], _taken(one, same), _taken(other, same), target, told)


def _unlearned(round_: Round, champion: dict[str, Any], start: dict[str, Any]) -> pd.DataFrame:
    """It returns the live rows with a label that neither of the two learned from, once for each key."""
    live = live_rows(round_, since=start["at"]).frame
    pair = start["version"], champion["version"]
    there = live["version"].isin(pair) & live["truth"].notna() & live["key"].notna()
    known = live[there].drop_duplicates("key")
    for version in pair:
        learned = learned_keys(round_, version)
        if learned is None:
            raise NotMaterialized(f"the rows that version {version} learned from are gone.")
        known = known[~known["key"].isin(learned)]
    return known


def _as_asked(
    logged: Predictions, one: Predictions, other: Predictions, by_canary: np.ndarray
) -> np.ndarray:
    """It says of which rows the version that answered says the same again."""
    if logged.probabilities is not None and one.probabilities is not None:
        assert other.probabilities is not None
        again = np.where(by_canary[:, None], one.probabilities, other.probabilities)
        near: np.ndarray = np.isclose(logged.probabilities, again, atol=SAME_WITHIN).all(axis=1)
        return near
    values = np.where(by_canary, one.values, other.values)
    if logged.values.dtype.kind == "f":
        return np.isclose(logged.values, values.astype("float64"), rtol=SAME_WITHIN)
    return np.asarray(logged.values == values, dtype=bool)


def _taken(said: Predictions, rows: np.ndarray) -> Predictions:
    shares = None if said.probabilities is None else said.probabilities[rows]
    return Predictions(said.values[rows], shares)
