"""An estimator: what the last step of a model says of rows that the steps before it prepared.

A class is decided from the probabilities where the estimator itself does so, so that nothing is
computed twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ml_assets.later import later

if TYPE_CHECKING:
    import numpy as np
else:
    np = later("numpy")


# What lies nearer to a tie, or to a threshold, is left to the estimator's own `predict`: some decide
# by the raw score, whose sign a rounded probability no longer shows.
NEAR = 1e-9
# They answer with the class that has the largest probability, the first of equals.
_BY_PROBABILITY = {
    "sklearn.dummy.DummyClassifier",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.tree._classes.DecisionTreeClassifier",
    "sklearn.ensemble._forest.RandomForestClassifier",
    "sklearn.ensemble._forest.ExtraTreesClassifier",
    "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
    "lightgbm.sklearn.LGBMClassifier",
    "xgboost.sklearn.XGBClassifier",
}


def said_by(last: Any, prepared: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """It returns classes or amounts, and the probabilities in the estimator's order of classes.

    The classes are those of its `predict`, to the last row.

    Args:
        last: the estimator.
        prepared: rows as it was fitted on.
    """
    if not hasattr(last, "predict_proba"):
        return np.asarray(last.predict(prepared)).reshape(len(prepared)), None
    given = np.asarray(last.predict_proba(prepared))
    decided = from_probabilities(last, given)
    if decided is None or not hasattr(prepared, "shape"):
        return np.asarray(last.predict(prepared)).reshape(len(given)), given
    values, near = decided
    if near.any():
        few = prepared.iloc[near] if hasattr(prepared, "iloc") else prepared[near]
        values[near] = np.asarray(last.predict(few)).reshape(int(near.sum()))
    return values, given


def from_probabilities(
    last: Any, given: np.ndarray, near: float = NEAR
) -> tuple[np.ndarray, np.ndarray] | None:
    """It returns the classes that an estimator decides for, and which rows are too near to tell.

    Args:
        last: the estimator.
        given: its probabilities, rows × classes.
        near: how near to a tie, or to the threshold, is too near.

    Returns:
        None where it is not known how the estimator decides.
    """
    kind = f"{type(last).__module__}.{type(last).__qualname__}"
    if kind == "sklearn.model_selection._classification_threshold.FixedThresholdClassifier":
        return _by_threshold(last, given, near)
    soft = kind == "sklearn.ensemble._voting.VotingClassifier" and last.voting == "soft"
    if (kind not in _BY_PROBABILITY and not soft) or given.shape[1] < 2:
        return None
    if kind == "sklearn.dummy.DummyClassifier" and last.strategy != "prior":
        return None
    highest = np.partition(given, -2, axis=1)[:, -2:]
    # what is no number is near to everything
    close = ~(highest[:, 1] - highest[:, 0] > near)
    return np.asarray(last.classes_).take(given.argmax(axis=1)), close


def _by_threshold(
    last: Any, given: np.ndarray, near: float
) -> tuple[np.ndarray, np.ndarray] | None:
    classes = list(last.classes_)
    declared = isinstance(last.threshold, float) and last.response_method == "predict_proba"
    if not declared or len(classes) != 2 or last.pos_label not in classes:
        return None
    at = classes.index(last.pos_label)
    share = given[:, at]
    chosen = np.where(share >= last.threshold, at, 1 - at)
    return np.asarray(last.classes_).take(chosen), ~(np.abs(share - last.threshold) > near)
