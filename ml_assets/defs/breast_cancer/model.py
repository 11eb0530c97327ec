"""Rows of the breast cancer problem."""

import pandas as pd
from sklearn.datasets import load_breast_cancer


def rows() -> pd.DataFrame:
    """It returns the biopsies that scikit-learn ships, with the diagnosis in words."""
    shipped = load_breast_cancer(as_frame=True)
    names = dict(enumerate(shipped.target_names))
    return shipped.data.assign(diagnosis=shipped.target.map(names))
