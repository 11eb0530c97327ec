"""A candidate: one contender, a whole scikit-learn Pipeline of transform and estimator.

It is fitted on train only, and may have its threshold tuned on validation.
"""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets import provided
from ml_assets.dataset import Target
from ml_assets.errors import (
    CandidateError,
    DeclarationError,
    did_you_mean,
)
from ml_assets.estimator import said_by
from ml_assets.later import later
from ml_assets.problem import SHORT_NAMES, CandidateDeclaration, Problem

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from sklearn.pipeline import Pipeline
else:
    np = later("numpy")
    pd = later("pandas")

# Part of every candidate's key: change it when the same declaration would be fitted differently.
FITTING = "4"
RARE_CLASS = 0.1  # a class below this share makes a binary problem imbalanced

_CLASSIFIER, _REGRESSOR = "classifier", "regressor"
# short name -> kind -> (import path, parameters that differ from the library's defaults)
CATALOGUE: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "baseline": {
        _CLASSIFIER: ("sklearn.dummy.DummyClassifier", {"strategy": "prior"}),
        _REGRESSOR: ("sklearn.dummy.DummyRegressor", {"strategy": "mean"}),
    },
    "linear": {
        _CLASSIFIER: ("sklearn.linear_model.LogisticRegression", {"max_iter": 1000}),
        _REGRESSOR: ("sklearn.linear_model.Ridge", {}),
    },
    "logistic_regression": {
        _CLASSIFIER: ("sklearn.linear_model.LogisticRegression", {"max_iter": 1000}),
    },
    "ridge": {_REGRESSOR: ("sklearn.linear_model.Ridge", {})},
    "random_forest": {
        _CLASSIFIER: ("sklearn.ensemble.RandomForestClassifier", {}),
        _REGRESSOR: ("sklearn.ensemble.RandomForestRegressor", {}),
    },
    "extra_trees": {
        _CLASSIFIER: ("sklearn.ensemble.ExtraTreesClassifier", {}),
        _REGRESSOR: ("sklearn.ensemble.ExtraTreesRegressor", {}),
    },
    "hist_gradient_boosting": {
        _CLASSIFIER: ("sklearn.ensemble.HistGradientBoostingClassifier", {}),
        _REGRESSOR: ("sklearn.ensemble.HistGradientBoostingRegressor", {}),
    },
    "xgboost": {
        _CLASSIFIER: ("xgboost.XGBClassifier", {}),
        _REGRESSOR: ("xgboost.XGBRegressor", {}),
    },
    "lightgbm": {
        _CLASSIFIER: ("lightgbm.LGBMClassifier", {"verbose": -1, "deterministic": True}),
        _REGRESSOR: ("lightgbm.LGBMRegressor", {"verbose": -1, "deterministic": True}),
    },
    "catboost": {
        _CLASSIFIER: ("catboost.CatBoostClassifier", {"verbose": 0, "allow_writing_files": False}),
        _REGRESSOR: ("catboost.CatBoostRegressor", {"verbose": 0, "allow_writing_files": False}),
    },
}
# Fitted side by side, the first of these begin first, and the others last.  By how fitting grows with
# the rows: trees that are not limited sort them at each level, boosting looks at histograms.
_SLOW = (
    *("Forest", "ExtraTree", "DecisionTree", "GradientBoosting", "CatBoost", "SVC", "SVR", "MLP"),
    *("GaussianProcess", "Stacking", "Voting", "Bagging", "SearchCV"),
)
_QUICK = ("Dummy", "LogisticRegression", "Linear", "Ridge", "Lasso", "NB", "Discriminant")
# These want codes for classes, or give labels in another shape.  A vote of one member encodes
# and decodes for them, and is plain scikit-learn wherever the model is loaded.
_NEEDS_CODES = ("xgboost", "catboost")


@dataclass(frozen=True)
class Predictions:
    """What a candidate says of some rows.

    Attributes:
        values: predicted classes or amounts, one per row.
        probabilities: rows × classes, in the order of the target's sorted classes; None for
            regression and for classifiers without probabilities.
    """

    values: np.ndarray
    probabilities: np.ndarray | None = None

    def missing(self) -> int:
        """It returns the number of rows whose prediction is missing or infinite."""
        gone = np.asarray(pd.isna(self.values))
        if self.values.dtype.kind == "f":
            gone = gone | ~np.isfinite(self.values)
        if self.probabilities is not None:
            gone = gone | ~np.isfinite(self.probabilities).all(axis=1)
        return int(gone.sum())

    def class_shares(self, target: Target) -> dict[str, float]:
        """It returns the share of the predictions that each class has, by its text."""
        return {str(c): float((self.values == c).mean()) for c in target.classes}

    def as_table(self) -> pd.DataFrame:
        """It returns a column `prediction`, and one for the probability of each class."""
        columns = {"prediction": self.values}
        if self.probabilities is not None:
            columns |= {f"probability_{i}": p for i, p in enumerate(self.probabilities.T)}
        return pd.DataFrame(columns)

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> Predictions:
        """It returns what `as_table` made a table of."""
        probabilities = table.drop(columns="prediction").to_numpy()
        given = probabilities if probabilities.shape[1] else None
        return cls(table["prediction"].to_numpy(), given)


@dataclass(frozen=True)
class Fitted:
    """A fitted candidate, and what its fitting cost.

    Attributes:
        model: the whole Pipeline.
        threshold: the tuned probability for positive; None where predict decides as it is.
        seconds: wall time of fitting.
    """

    model: Pipeline
    threshold: float | None
    seconds: float


def kind_of(task: str) -> str:
    """It returns classifier or regressor."""
    return _REGRESSOR if task == "regression" else _CLASSIFIER


def build(
    declared: CandidateDeclaration,
    problem: Problem,
    task: str,
    features: pd.DataFrame,
    folder: Path | None,
) -> Pipeline:
    """It returns the unfitted Pipeline of a declared candidate.

    Args:
        declared: the candidate.
        problem: its problem, for transform and seed.
        task: binary, multiclass or regression.
        features: rows of features, of which only names and types are looked at.
        folder: where the problem's model.py is.

    Raises:
        DeclarationError: estimator or transform cannot be found, or is not for this task.
        CandidateError: the estimator does not take the declared parameters.
    """
    from sklearn.pipeline import Pipeline

    estimator = _estimator(declared, task, folder)
    _seed(estimator, problem.seed)
    transform = declared.transform or problem.transform
    steps = _transform(transform, estimator, features, declared.estimator, folder)
    _seed(steps, problem.seed)
    if declared.estimator in _NEEDS_CODES and kind_of(task) == _CLASSIFIER:
        from sklearn.ensemble import VotingClassifier

        estimator = VotingClassifier([(declared.estimator, estimator)], voting="soft")
    return Pipeline([("transform", steps), ("estimator", estimator)])


def _estimator(declared: CandidateDeclaration, task: str, folder: Path | None) -> Any:
    from sklearn.base import is_classifier, is_regressor

    kind, path = kind_of(task), declared.estimator
    defaults: dict[str, Any] = {}
    if path in SHORT_NAMES:
        if kind not in CATALOGUE[path]:
            fit = [n for n, kinds in CATALOGUE.items() if kind in kinds]
            raise DeclarationError(f"{path} is no {kind}. For {task}: {', '.join(fit)}.")
        path, defaults = CATALOGUE[path][kind]
    found = provided.locate_part("candidates", path, folder)
    params = {**defaults, **declared.params}
    _refuse_unknown_params(declared.estimator, found, declared.params)
    try:
        estimator = found(**params)
    except (TypeError, ValueError) as error:
        raise CandidateError(f"{declared.estimator} does not take {params}: {error}") from None
    if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
        raise DeclarationError(f"`{declared.estimator}` gave {type(estimator)}, not an estimator.")
    if (is_classifier(estimator) or is_regressor(estimator)) and (
        is_classifier(estimator) != (kind == _CLASSIFIER)
    ):
        raise DeclarationError(f"`{declared.estimator}` is no {kind}, but the task is {task}.")
    if type(estimator).__name__ != "LogisticRegression":  # there n_jobs is dying and warns
        params = estimator.get_params() if hasattr(estimator, "get_params") else {}
        if params.get("n_jobs", 1) is None:
            estimator.set_params(n_jobs=-1)
    return estimator


def slowness(declared: CandidateDeclaration, task: str, folder: Path | None) -> int:
    """It guesses by its estimator how long a candidate takes to fit: 0, 1 or 2."""
    if declared.search:
        return 2
    estimator = _estimator(declared, task, folder)
    name = type(estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator).__name__
    if any(word in name for word in _SLOW) and not name.startswith("Hist"):
        return 2
    return 0 if any(word in name for word in _QUICK) else 1


def _refuse_unknown_params(name: str, found: Any, params: dict[str, Any]) -> None:
    """It refuses misspelt parameters: XGBoost takes any keyword, and learns without it.

    LightGBM has many names for one parameter, and CatBoost does not tell its own: they are left
    to say so themselves.
    """
    told = ("sklearn", "xgboost")
    if provided.part("candidates", name, SHORT_NAMES):
        asked = inspect.signature(found).parameters
        if any(p.kind is p.VAR_KEYWORD for p in asked.values()):
            return
        known = list(asked)
    elif isinstance(found, type) and found.__module__.split(".")[0] in told:
        try:
            known = list(found().get_params())
        except TypeError:  # it cannot be made without parameters
            return
    else:
        return
    unknown = [p for p in params if p not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        raise CandidateError(f"{name} has no parameter `{unknown[0]}`.{hint}")


def _seed(estimator: Any, seed: int) -> None:
    if hasattr(estimator, "get_params"):
        unseeded = {
            k: seed
            for k, v in estimator.get_params().items()
            if (k == "random_state" or k.endswith("__random_state")) and v is None
        }
        estimator.set_params(**unseeded)


def _transform(
    transform: str, estimator: Any, features: pd.DataFrame, name: str, folder: Path | None
) -> Any:
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from sklearn.utils import get_tags

    # It changes nothing, and knows the columns that it was fitted on: without it a transformer
    # that does not ask for columns by name would be handed all of them, the target too.
    named = FunctionTransformer()
    if transform == "none" or name == "baseline":
        return named
    if transform != "auto":
        given = provided.locate_part("transforms", transform, folder)
        made = given() if callable(given) else given
        if not hasattr(made, "transform"):
            raise DeclarationError(f"`{transform}` gave {type(made)}, not a transformer.")
        return make_pipeline(named, clone(made))
    if all(
        pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t)
        for t in features.dtypes
    ):
        from sklearn.compose import ColumnTransformer

        # Nothing to encode.  Selected by name, handed on without names: XGBoost and LightGBM
        # refuse names with signs like < or [.
        first = ColumnTransformer([("numbers", "passthrough", list(features.columns))])
    else:
        from sklearn.pipeline import FeatureUnion
        from skrub import TableVectorizer

        first = make_pipeline(TableVectorizer(), FeatureUnion([("columns", "passthrough")]))
    if get_tags(estimator).input_tags.allow_nan:
        return first
    from sklearn.impute import SimpleImputer

    return make_pipeline(first, SimpleImputer(keep_empty_features=True), StandardScaler())


def fit(
    model: Pipeline,
    train: tuple[pd.DataFrame, pd.Series],
    validation: tuple[pd.DataFrame, pd.Series],
    problem: Problem,
    target: Target,
    clock: Callable[[], float] = time.perf_counter,
) -> Fitted:
    """It returns the candidate fitted on train, its threshold tuned on validation where asked.

    Raises:
        CandidateError: fitting raised; the message keeps what it said.
    """
    started = clock()
    weights = {}
    if problem.class_weight == "balanced" and target.task != "regression":
        from sklearn.utils.class_weight import compute_sample_weight

        weights = {"estimator__sample_weight": compute_sample_weight("balanced", train[1])}
    try:
        model.fit(*train, **weights)
    except Exception as error:
        raise CandidateError(f"fitting failed: {type(error).__name__}: {error}") from error
    _settle(model)  # before its threshold is fixed: a frozen estimator hides its settings
    threshold = decide(model, train, validation, problem, target)
    return Fitted(model, threshold, clock() - started)


def decide(
    model: Pipeline,
    train: tuple[pd.DataFrame, pd.Series],
    validation: tuple[pd.DataFrame, pd.Series],
    problem: Problem,
    target: Target,
) -> float | None:
    """It fixes the threshold of a fitted model where it is declared or tuned, and returns it."""
    threshold = _threshold(model, validation, problem, target)
    if threshold is not None:
        _fix_threshold(model, threshold, train, target)
    return threshold


def _threshold(
    model: Pipeline, validation: tuple[pd.DataFrame, pd.Series], problem: Problem, target: Target
) -> float | None:
    if target.task != "binary" or not hasattr(model, "predict_proba"):
        return None
    if isinstance(problem.threshold, float):
        return problem.threshold
    if min(target.counts) / sum(target.counts) >= RARE_CLASS:
        return None
    from sklearn.metrics import precision_recall_curve

    positive = list(target.classes).index(target.positive)
    truth = validation[1].to_numpy() == target.positive
    if truth.all() or not truth.any():
        return None
    scores = model.predict_proba(validation[0])[:, positive]
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[:-1]
    return float(np.clip(thresholds[int(np.argmax(f1))], 1e-6, 1 - 1e-6))


def _fix_threshold(
    model: Pipeline, threshold: float, train: tuple[pd.DataFrame, pd.Series], target: Target
) -> None:
    from sklearn.frozen import FrozenEstimator
    from sklearn.model_selection import FixedThresholdClassifier

    # One row of each class is enough: what is wrapped is fitted and frozen.
    few = train[1].drop_duplicates().index
    prepared = model[:-1].transform(train[0].loc[few])
    decided = FixedThresholdClassifier(
        FrozenEstimator(model[-1]),
        threshold=threshold,
        pos_label=target.positive,
        response_method="predict_proba",
    ).fit(prepared, train[1].loc[few])
    model.steps[-1] = ("estimator", decided)


def _settle(model: Pipeline) -> None:
    """It removes what differs between two equal fits, and what fits a server badly.

    Threads serve fitting; in predicting one row they cost more than they give, and a forest
    adds its trees up in the order in which threads end.  CatBoost stamps time and a random id;
    two others note how many cores they were fitted on, and learn the same on any number.
    """
    model.set_params(**{k: 1 for k in model.get_params() if k.split("__")[-1] == "n_jobs"})
    for part in _parts_of(model):
        if hasattr(getattr(part, "_bin_mapper", None), "n_threads"):  # histogram boosting
            part._bin_mapper.n_threads = 1
        library = type(part).__module__.split(".")[0]
        if library == "lightgbm" and hasattr(part, "booster_"):
            part._Booster = _without_threads(part.booster_)
        if library == "catboost" and hasattr(part, "get_metadata"):
            stamps = part.get_metadata()
            for stamp in ("model_guid", "train_finish_time"):
                stamps[stamp] = ""


def _without_threads(booster: Any) -> Any:
    """It returns LightGBM's booster, noting one thread; its own way of saying so needs its rows."""
    state = booster.__getstate__()
    state["_handle"] = re.sub(r"\[num_threads: -?\d+\]", "[num_threads: 1]", state["_handle"])
    state["params"] = {k: 1 if k == "num_threads" else v for k, v in state["params"].items()}
    settled: Any = object.__new__(type(booster))
    settled.__setstate__(state)
    return settled


def _parts_of(estimator: Any) -> list[Any]:
    found, todo = [], [estimator]
    while todo:
        part = todo.pop()
        found.append(part)
        todo += [step for _, step in getattr(part, "steps", [])]
        voting = type(part).__name__.startswith("Voting")
        todo += list(getattr(part, "estimators_", []) if voting else [])
        todo += [
            e for e in (getattr(part, "estimator_", None), getattr(part, "estimator", None)) if e
        ]
    return found


def predict(
    model: Pipeline,
    rows: pd.DataFrame,
    target: Target,
    prepare: Callable[[dict[str, np.ndarray]], np.ndarray] | None = None,
) -> Predictions:
    """It returns what the model says of rows that hold at least its features.

    Args:
        model: the whole Pipeline.
        rows: the rows.
        target: task and classes.
        prepare: what is proved to prepare columns as the model's first steps do; None for those.

    Raises:
        CandidateError: a feature is absent, or predicting raised.
    """
    try:
        rows = rows[feature_names(model)]
        # prepared once, for classes and probabilities both
        if prepare is None:
            prepared = _prepared(model, rows)
        else:
            prepared = prepare({name: rows[name].to_numpy() for name in rows})
        values, given = said_by(model.steps[-1][1], prepared)
        if target.task == "regression" or given is None:
            return Predictions(values)
        probabilities = in_order(model, given, target)
    except KeyError as error:
        raise CandidateError(f"the rows lack columns that the model needs: {error}") from None
    except Exception as error:
        raise CandidateError(f"predicting failed: {type(error).__name__}: {error}") from error
    return Predictions(values, probabilities)


def in_order(model: Pipeline, given: np.ndarray, target: Target) -> np.ndarray:
    """It returns probabilities in the order of the target's classes; 0 for one it does not know."""
    classes = list(model.classes_)
    if classes == list(target.classes):
        return given
    known = [classes.index(c) if c in classes else -1 for c in target.classes]
    return np.column_stack([given[:, i] if i >= 0 else np.zeros(len(given)) for i in known])


def _prepared(model: Pipeline, rows: Any) -> Any:
    """It returns what the steps before the last make of rows."""
    for _, step in model.steps[:-1]:
        rows = rows if step in (None, "passthrough") else step.transform(rows)
    return rows


def feature_names(model: Pipeline) -> list[str]:
    """It returns the columns that the model was fitted on, in its order.

    Raises:
        CandidateError: it does not know them; to hand it all columns would hand it the target.
    """
    named = getattr(model, "feature_names_in_", None)
    if named is None:
        raise CandidateError("the model does not know the names of its features.")
    return list(named)


def latency_ms(model: Pipeline, rows: pd.DataFrame, times: int = 7) -> float:
    """It returns the median wall time of predicting one row, in milliseconds."""
    rows = rows[feature_names(model)]
    took = []
    for i in range(times + 1):
        one = rows.iloc[[i % len(rows)]]
        started = time.perf_counter()
        model.predict(one)
        took.append(time.perf_counter() - started)
    return float(np.median(took[1:]) * 1000)  # the first call warms up


# packages whose versions decide what a fit learns -> the distributions that may provide them
_LIBRARIES = {
    "sklearn": ("scikit-learn",),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "scipy": ("scipy",),
    "skrub": ("skrub",),
    "skops": ("skops",),
    "xgboost": ("xgboost-cpu", "xgboost"),
    "lightgbm": ("lightgbm",),
    "catboost": ("catboost",),
}


@functools.cache
def environment() -> dict[str, str]:
    """It returns the installed versions of the libraries that decide what a fit learns."""
    found = {}
    for names in _LIBRARIES.values():
        for name in names:
            try:
                found[name] = importlib.metadata.version(name)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def requirements(model: Pipeline, pins: Iterable[str] = ()) -> list[str]:
    """It returns the pinned packages that loading and predicting need, as pip writes them.

    Args:
        model: the fitted candidate.
        pins: the packages that provided parts of it.
    """
    used = {type(part).__module__.split(".")[0] for part in _parts_of(model)}
    used |= {"sklearn", "skops", "pandas", "numpy"}
    versions = environment()
    names = [n for package in used & _LIBRARIES.keys() for n in _LIBRARIES[package]]
    return sorted({*(f"{n}=={versions[n]}" for n in names if n in versions), *pins})
