"""What this problem has of its own: where its rows come from, and a candidate."""

import pandas as pd
from sklearn.ensemble import ExtraTreesRegressor


def rows() -> pd.DataFrame:
    """The patients, as scikit-learn ships them."""
    from sklearn.datasets import load_diabetes

    loaded = load_diabetes(as_frame=True)
    return loaded.data.assign(progression=loaded.target)


def careful_trees() -> ExtraTreesRegressor:
    """Trees with large leaves: few patients, much noise."""
    return ExtraTreesRegressor(n_estimators=50, min_samples_leaf=5, random_state=0)
