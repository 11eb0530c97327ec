"""An ensemble: the best few candidates of a round, which answer together.

They are chosen by their metric on validation and are not fitted again. Their probabilities, or their
amounts, are averaged, each weighing the same: weights that are themselves learned on validation
would make its metric there too good to be compared with the others'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ml_assets.dataset import Target
from ml_assets.errors import CandidateError
from ml_assets.evaluation import Contender, ranked
from ml_assets.later import later

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline
else:
    pd = later("pandas")

OF_PROBABILITIES = "log_loss"  # defined wherever a candidate gives probabilities


def best_few(metrics: Mapping[str, dict[str, float]], metric: str, of: int, task: str) -> list[str]:
    """It returns the names of the best by a metric on validation, best first; ties by name.

    Args:
        metrics: each candidate's metrics on validation.
        metric: what ranks.
        of: how many are taken, or as many as there are.
        task: binary, multiclass or regression.

    Raises:
        CandidateError: none has the metric and, for classes, probabilities.
    """
    needed = {metric} if task == "regression" else {metric, OF_PROBABILITIES}
    usable = [Contender(n, m) for n, m in metrics.items() if needed <= m.keys()]
    if not usable:
        without = "" if task == "regression" else " and probabilities"
        raise CandidateError(
            f"there is nothing to make an ensemble of: no other candidate was fitted and has a "
            f"{metric}{without} on validation."
        )
    return [c.name for c in ranked(usable, metric)][:of]


def join(
    members: list[Pipeline], train: tuple[pd.DataFrame, pd.Series], target: Target
) -> Pipeline:
    """It returns one Pipeline that averages what fitted candidates say; none is fitted again.

    It is plain scikit-learn, wherever it is loaded.

    Raises:
        CandidateError: the members know other classes than each other.
    """
    from sklearn.ensemble import VotingClassifier, VotingRegressor
    from sklearn.frozen import FrozenEstimator
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    # a candidate's name may be one that scikit-learn does not take
    frozen = [(f"member_{i}", FrozenEstimator(m)) for i, m in enumerate(members, 1)]
    vote: Any = VotingRegressor(frozen, n_jobs=1)
    if target.task != "regression":
        if len({tuple(m.classes_) for m in members}) > 1:
            raise CandidateError("the members of the ensemble know different classes.")
        vote = VotingClassifier(frozen, voting="soft", n_jobs=1)
    # One row of each class is enough: the members are fitted and frozen.
    few = train[1].drop_duplicates().index if target.task != "regression" else train[1].index[:2]
    model = Pipeline([("transform", FunctionTransformer()), ("estimator", vote)])
    return model.fit(train[0].loc[few], train[1].loc[few])
