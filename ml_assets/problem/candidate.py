"""A candidate, declared: an estimator, its parameters, and what is searched for."""

from itertools import product
from typing import Any, Literal, get_args

from pydantic import Field, field_validator, model_validator

from ml_assets.errors import did_you_mean
from ml_assets.problem.declaration import Declaration
from ml_assets.provided import Provided, part, provided, refuse_unknown

# The ways to prepare a table that are ours.
TRANSFORMS: dict[str, str] = {
    "auto": "skrub's TableVectorizer where a table holds more than numbers; missing values are "
    "filled in and numbers scaled for estimators that need it.",
    "none": "Nothing: the estimator is handed the table as it is.",
}
# What each short name is; `candidate.CATALOGUE` has the estimators.
ABOUT: dict[str, str] = {
    "baseline": "Ignores the features: the mean, or the classes' shares. It always takes part.",
    "linear": "Logistic regression for classes, ridge regression for amounts.",
    "logistic_regression": "Logistic regression.",
    "ridge": "Least squares with a penalty on large coefficients.",
    "random_forest": "Trees on resampled rows and features, averaged.",
    "extra_trees": "Trees with random thresholds, averaged.",
    "hist_gradient_boosting": "scikit-learn's boosted trees on binned features.",
    "xgboost": "XGBoost's boosted trees.",
    "lightgbm": "LightGBM's boosted trees.",
    "catboost": "CatBoost's boosted trees on symmetric splits.",
    "ensemble": "The best few of the other candidates by `select` on validation, averaged, and not "
    "fitted again. `of`: how many, 3. `members`: among which, all.",
}

ShortName = Literal[
    "baseline",
    "linear",
    "logistic_regression",
    "ridge",
    "random_forest",
    "extra_trees",
    "hist_gradient_boosting",
    "xgboost",
    "lightgbm",
    "catboost",
    "ensemble",
]
SHORT_NAMES: tuple[str, ...] = get_args(ShortName)

ENSEMBLE, BASELINE = "ensemble", "baseline"
# how many an ensemble is made of, when nothing else is said
BEST_FEW = 3

# The set when none is named, with what differs from the libraries' own defaults.
DEFAULT_CANDIDATES: dict[str, dict[str, Any]] = {
    "linear": {},
    "extra_trees": {},
    "hist_gradient_boosting": {},
    "lightgbm": {"n_estimators": 400, "learning_rate": 0.06},
    "catboost": {},
}


class Range(Declaration):
    """A range of numbers to search in; whole numbers when both ends are."""

    low: int | float = Field(description="Smallest value.", examples=[0.001])
    high: int | float = Field(description="Largest value.", examples=[0.3])
    log: bool = Field(False, description="Small values are tried as often as large ones.")
    step: int | float | None = Field(None, description="Distance between values.", gt=0)

    @model_validator(mode="after")
    def _has_room(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"log: low is {self.low:g}; it must be above 0")
        if self.log and self.step is not None:
            raise ValueError(
                "`step` and `log: true` exclude each other: equal steps are no logarithmic scale. "
                "Remove one, or list the values."
            )
        return self


class CandidateDeclaration(Declaration):
    """One contender: an estimator, its parameters, and how its table is prepared."""

    estimator: str = Field(
        description="A short name, ours or one that an installed package provides; the import path "
        "of a scikit-learn estimator; or `.model.function` for a function that returns an unfitted "
        "estimator.",
        examples=["random_forest", "sklearn.svm.SVC", ".model.boosted_trees"],
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Parameters of the estimator.",
        examples=[{"n_estimators": 100}],
    )
    transform: str | None = Field(
        None, description="Overrides the problem's `transform` for this candidate."
    )

    search: dict[str, list[Any] | Range] = Field(
        default_factory=dict,
        description="Parameters to search for: a list of values, or a range `{low, high}`. The "
        "best by `select` are used.",
        examples=[{"max_depth": [5, 10], "learning_rate": {"low": 0.01, "high": 0.3, "log": True}}],
    )
    trials: int = Field(20, description="How many sets of parameters are tried.", ge=1)
    sampler: Literal["auto", "grid", "random", "tpe"] = Field(
        "auto",
        description="grid: every combination. random. tpe: Optuna's estimator, learning from "
        "earlier trials. auto: grid where that has no more points than `trials`, else tpe.",
    )
    folds: int = Field(
        0,
        description="0: trials are scored on validation. From 2: by cross-validation within train; "
        "a trial that is no better than most is given up after some folds.",
        ge=0,
    )
    parallel: int = Field(1, description="Trials at once. Part of what is reproduced.", ge=1)
    budget_seconds: float | None = Field(
        None, description="No new trial begins after so many seconds.", gt=0
    )
    fan_out: bool = Field(
        False, description="Each point of the grid is a candidate, and an asset, of its own."
    )

    @field_validator("estimator")
    @classmethod
    def _a_name_or_a_path(cls, value: str) -> str:
        what = "short name of a candidate and no import path"
        refuse_unknown("candidates", value, SHORT_NAMES, what)
        return value

    @field_validator("transform")
    @classmethod
    def _a_transform(cls, value: str | None) -> str | None:
        return None if value is None else known_transform(value)

    @model_validator(mode="after")
    def _search_is_possible(self) -> "CandidateDeclaration":
        ranges = [k for k, v in self.search.items() if isinstance(v, Range)]
        empty = [k for k, v in self.search.items() if not isinstance(v, Range) and not v]
        if empty:
            raise ValueError(f"search: `{empty[0]}` has no value")
        if ranges and (self.sampler == "grid" or self.fan_out):
            raise ValueError(f"search: `{ranges[0]}` is a range; a grid needs lists of values")
        if self.folds == 1:
            raise ValueError("folds is 1; cross-validation needs 2 or more")
        both = [k for k in self.search if k in self.params]
        if both:
            raise ValueError(f"`{both[0]}` is under both `params` and `search`")
        return self

    @model_validator(mode="after")
    def _an_ensemble_is_of_others(self) -> "CandidateDeclaration":
        if self.estimator != ENSEMBLE:
            return self
        unknown = [p for p in self.params if p not in ("of", "members")]
        if unknown:
            hint = did_you_mean(unknown[0], ("of", "members"))
            raise ValueError(f"an ensemble has no parameter `{unknown[0]}`.{hint}")
        of, members = self.params.get("of", BEST_FEW), self.params.get("members", ["some"])
        if not isinstance(of, int) or isinstance(of, bool) or of < 1:
            raise ValueError(f"an ensemble is `of` a whole number of candidates, not {of!r}")
        if not isinstance(members, list) or not members:
            raise ValueError("`members` of an ensemble are a list of names of candidates")
        if self.search or self.transform:
            word = "search" if self.search else "transform"
            raise ValueError(f"an ensemble has no `{word}`: each of its members has its own")
        return self

    def points(self) -> "list[dict[str, Any]]":
        """It returns every combination of a grid, in the order of the declaration."""
        values = [v for v in self.search.values() if isinstance(v, list)]
        return [dict(zip(self.search, chosen, strict=True)) for chosen in product(*values)]


def declared_candidate(name: str, given: Any) -> Any:
    """It returns the long form of `short_name: {parameters}`, which may hold a `search` beside them."""
    if isinstance(given, CandidateDeclaration):
        return given
    given = {} if given is None else given
    if not isinstance(given, dict) or "estimator" in given:
        return given
    if name in SHORT_NAMES or name in provided("candidates"):
        known = [k for k in CandidateDeclaration.model_fields if k not in ("estimator", "params")]
        kept = {k: v for k, v in given.items() if k in known}
        rest = {k: v for k, v in given.items() if k not in known}
        params = rest.pop("params", rest) if set(rest) == {"params"} else rest
        return {"estimator": name, "params": params, **kept}
    raise ValueError(
        f"candidate `{name}` has no `estimator`, and `{name}` is no short name."
        f"{did_you_mean(name, [*SHORT_NAMES, *provided('candidates')])}"
    )


def known_transform(value: str) -> str:
    """It returns the name of a transform; ValueError, with a suggestion, when there is none."""
    refuse_unknown("transforms", value, TRANSFORMS, "transform and no import path")
    return value


def parts_of(declared: CandidateDeclaration, transform: str) -> list[Provided]:
    """It returns what other packages provide of a candidate: its estimator, its transform."""
    asked = (
        part("candidates", declared.estimator, SHORT_NAMES),
        part("transforms", declared.transform or transform, TRANSFORMS),
    )
    return [p for p in asked if p is not None]
