"""What monitoring sees of a champion in a replay: its live rows, asked as those in production are."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ml_assets.digest import digest_of
from ml_assets.live import PROBABILITY
from ml_assets.problem import DriftRule, MonitoringDeclaration, Problem
from ml_assets.replaying.stage import Stage
from ml_assets.resources.lake import Lake
from ml_assets.round import Round
from ml_assets.round.monitoring import NOTE, Asking
from ml_assets.round.reference import reference_of
from ml_assets.window import Alarm, alarms


def looked_at(problem: Problem) -> MonitoringDeclaration:
    """It returns what is watched: as declared, else by the defaults."""
    return problem.watched() or MonitoringDeclaration()


def look(stage: Stage, round_: Round, own: Path, digest: str, number: int) -> list[Alarm]:
    """It returns what is wrong for long enough with the champion, at the end of a window.

    Args:
        stage: the rows, and who says what of them.
        round_: the policy's round at that time.
        own: where the policy's notes go; the lake is shared.
        digest: the champion's model.
        number: the window.

    Raises:
        NotMaterialized: the rows that it learned from are gone.
    """
    name = round_.problem.name
    entry = round_.stores.ledger.champion(name)
    if entry is None:
        return []
    rows, features = live(stage, entry, digest, number)
    declared = looked_at(round_.problem)
    apart = replace(round_, stores=replace(round_.stores, lake=Lake(own)))
    asked_by = digest_of(entry["number"], declared)
    reference = reference_of(round_, entry)
    asking = Asking(apart, declared, reference, asked_by, lambda some: features.loc[some.index])
    windows, columns = asking.windows(rows, round_.clock())
    note = {
        "asking": asked_by,
        "windows": [w.as_record() for w in windows],
        "columns": [asdict(c) for c in columns],
    }
    apart.stores.lake.note(name, NOTE, note)
    rule = round_.problem.retrain.drift_rule or DriftRule()
    return alarms(windows, rule.violations, rule.of_last, rule.by)


def live(
    stage: Stage, entry: dict[str, object], digest: str, number: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """It returns what a champion said of the rows since it is one, and their features.

    A label that has not come by the end of the window is missing.
    """
    history, target = stage.history, stage.problem.dataset.target
    begun = next(w.number for w in history.windows if w.at == entry["at"])
    said, features = [], []
    for window in range(begun + 1, number + 1):
        place = np.flatnonzero(history.window == window)
        frame, told = stage.live[window], stage.says(digest, window)
        fine = np.ones(len(frame), dtype=bool)
        fine[list(told.wrong)] = False
        made = pd.DataFrame({"at": history.at[place], "version": entry["version"]})
        made["prediction"] = pd.Series(list(told.values), dtype=object).infer_objects()
        if told.probabilities is not None:
            for i, of in enumerate(stage.target.classes):
                made[f"{PROBABILITY}{of}"] = told.probabilities[:, i]
        known = history.known[place] <= number
        made["truth"] = frame[target].astype(object).where(known, None)
        said.append(made[fine])
        features.append(frame[fine])
    if not said:
        return pd.DataFrame(), pd.DataFrame()
    rows = pd.concat(said, ignore_index=True)
    return rows, pd.concat(features, ignore_index=True)
