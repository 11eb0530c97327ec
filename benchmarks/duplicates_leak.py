"""Shows what duplicate rows do to a score: a random split against equal rows kept together.

python benchmarks/duplicates_leak.py FILE.csv TARGET
"""

import sys

import numpy as np
import pandas as pd
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GroupKFold, train_test_split

MODELS = {
    "HistGradientBoosting": HistGradientBoostingRegressor(random_state=0),
    "ExtraTrees": ExtraTreesRegressor(random_state=0, n_jobs=-1),
    "RandomForest": RandomForestRegressor(random_state=0, n_jobs=-1),
}


def main(path: str, target: str) -> None:
    rows = pd.read_csv(path)
    x, y = rows.drop(columns=target), rows[target]
    same = pd.util.hash_pandas_object(x, index=False).to_numpy()
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, random_state=42)
    print("| model | random 80/20 (leaks) | equal rows together, mean of 5 folds |")
    print("|---|---|---|")
    for name, model in MODELS.items():
        leaking = root_mean_squared_error(y_test, model.fit(x_train, y_train).predict(x_test))
        folds = [
            root_mean_squared_error(
                y.iloc[test], model.fit(x.iloc[train], y.iloc[train]).predict(x.iloc[test])
            )
            for train, test in GroupKFold(5).split(x, y, same)
        ]
        print(f"| {name} | {leaking:.4f} | {np.mean(folds):.4f} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3])
