"""How often monitoring raises an alarm: on a shuffled copy, where nothing drifts, and in true order.

A model is fitted on the first 30 % of the rows (70 % of these to learn, 15 % to be judged on); what
comes after arrives in windows of 500 rows whose labels are known.  All settings are the defaults.
Usage: python benchmarks/monitoring.py FOLDER_OF_OPEN_DATASETS [SEEDS [DATASET…]]
"""

import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from ml_assets import drift
from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.metric import DEFAULT_SELECT
from ml_assets.problem import DriftRule, MonitoringDeclaration
from ml_assets.problem.monitoring import ASPECTS
from ml_assets.quality import Judged, declined, expectation, measured, usual_gain
from ml_assets.window import Answer, Window, alarms

warnings.filterwarnings("ignore")
DECLARED, RULE = MonitoringDeclaration(), DriftRule()
WINDOWS = {"shuffled": 20, "true order": 60}
# file, target, columns that are no features
SETS = {
    "bike_sharing_hour": ("cnt", ["instant", "casual", "registered", "dteday"]),
    "electricity_elec2": ("class", []),
    "adult_train": (None, []),
    "diamonds": ("price", []),
    "california_housing": ("median_house_value", []),
    "telco_churn": ("Churn", ["customerID"]),
    "wine_quality_white": ("quality", []),
    "letter_recognition": ("lettr", []),
}


@dataclass
class Set:
    features: pd.DataFrame
    numbers: pd.DataFrame
    truth: np.ndarray
    target: Target


def load(folder: Path, name: str) -> Set:
    target, drop = SETS[name]
    rows = pd.read_csv(folder / f"{name}.csv", header=None if target is None else 0)
    rows.columns = [str(c) for c in rows.columns]
    target = target or rows.columns[-1]
    x, y = rows.drop(columns=[target, *drop]), rows[target]
    codes = {c: x[c] if pd.api.types.is_numeric_dtype(x[c]) else pd.factorize(x[c])[0] for c in x}
    if pd.api.types.is_numeric_dtype(y):
        found = Target("regression", "")
    else:
        classes = tuple(sorted(y.unique()))
        kind = "binary" if len(classes) == 2 else "multiclass"
        found = Target(kind, "", classes, (), classes[1])
    return Set(x, pd.DataFrame(codes).astype("float64"), y.to_numpy(), found)


def windows_of(data: Set, order: np.ndarray, most: int, seed: int) -> list[Window]:
    known = int(len(order) * 0.3)
    mixed = np.random.default_rng(seed).permutation(known)
    learned, others = order[mixed[: int(known * 0.7)]], order[mixed[int(known * 0.7) :]]
    judged_on = order[mixed[int(known * 0.85) :]]
    amounts = data.target.task == "regression"
    kind = HistGradientBoostingRegressor if amounts else HistGradientBoostingClassifier
    model = kind(max_iter=50, random_state=0)
    model.fit(data.numbers.iloc[learned], data.truth[learned])

    def said(rows: np.ndarray) -> Predictions:
        x = data.numbers.iloc[rows]
        return Predictions(model.predict(x), None if amounts else model.predict_proba(x))

    metric = DEFAULT_SELECT[data.target.task]
    judged = Judged(data.truth[judged_on], said(judged_on))
    columns = drift.spreads_of(
        data.features.iloc[learned], data.features.iloc[others], list(data.features)
    )
    shown = drift.answers(judged.said, data.target)
    answers = drift.spreads_of(shown, shown, list(shown))
    then = measured(metric, judged, data.target)
    allowed = DECLARED.max_drop * usual_gain(metric, judged, data.target)
    encoded = drift.encoded(columns, data.features.iloc[judged_on])
    expected = expectation(metric, judged, encoded, data.target)
    assert isinstance(DECLARED.window, int)
    made: list[Window] = []
    bounds = DECLARED.confidence, DECLARED.distance
    for i in range(min(most, (len(order) - known) // DECLARED.window)):
        rows = order[known + i * DECLARED.window : known + (i + 1) * DECLARED.window]
        told = said(rows)
        live = declined(
            then, measured(metric, Judged(data.truth[rows], told), data.target), bounds[0], allowed
        )
        x = data.features.iloc[rows]
        guess = expected and declined(
            expected.then, expected.now(told, drift.encoded(columns, x)), bounds[0], allowed
        )
        of_x = drift.compared(columns, x, *bounds, DECLARED.share)
        of_y = drift.compared(answers, drift.answers(told, data.target), *bounds)
        found = {
            "performance": live and live.worse,
            "estimate": guess and guess.worse,
            "features": of_x.drifted,
            "predictions": of_y.drifted,
        }
        given = {a: Answer(found[a], "") for a in ASPECTS}
        made.append(Window(i, float(i), float(i), len(rows), len(rows), given))
    return made


def main() -> None:
    folder, seeds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print(
        "| dataset | order | windows | "
        + " | ".join(ASPECTS)
        + " | windows with an alarm | first |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in sys.argv[3:] or SETS:
        data = load(folder, name)
        for order, most in WINDOWS.items():
            began, total, alarmed, first = time.process_time(), 0, 0, ""
            counts = dict.fromkeys(ASPECTS, 0)
            for seed in range(seeds if order == "shuffled" else 1):
                rows = np.arange(len(data.truth))
                if order == "shuffled":
                    rows = np.random.default_rng(seed).permutation(len(rows))
                made = windows_of(data, rows, most, seed)
                total += len(made)
                for aspect in ASPECTS:
                    counts[aspect] += sum(bool(w.answers[aspect].violated) for w in made)
                for i in range(len(made)):
                    if alarms(made[: i + 1], RULE.violations, RULE.of_last, ASPECTS):
                        alarmed, first = alarmed + 1, first or str(i + 1)
            cells = " | ".join(str(counts[a]) for a in ASPECTS)
            print(f"| {name} | {order} | {total} | {cells} | {alarmed} | {first} |", flush=True)
            spent = (time.process_time() - began) / max(total, 1)
            print(f"{name}, {order}: {spent:.2f} CPU s per window", file=sys.stderr)


if __name__ == "__main__":
    main()
