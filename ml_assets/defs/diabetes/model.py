"""Rows and a candidate of the diabetes problem."""

import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor


def rows() -> pd.DataFrame:
    """It returns the patients that scikit-learn ships, in the units of the study."""
    shipped = load_diabetes(as_frame=True, scaled=False)
    return shipped.data.assign(progression=shipped.target)


def boosted_trees() -> HistGradientBoostingRegressor:
    """It returns small, slow-learning boosted trees: the rows are few."""
    return HistGradientBoostingRegressor(learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=15)
