"""A problem: what is to be predicted, declared.

These records are the YAML under ``attributes:`` and the Python way to say the same.  They hold
words and numbers only; nothing heavy is imported, so that a code location with hundreds of
problems loads quickly.  Where a field has a default, the default is safe.
"""

import math
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import InitErrorDetails

from ml_assets.errors import did_you_mean
from ml_assets.metric import METRICS

Task = Literal["binary", "multiclass", "regression"]
Mode = Literal["enforce", "warn", "off"]
IntegrityGate = Literal[
    "no_feature_gives_the_target_away",
    "rows_are_unique",
    "labels_agree",
    "features_vary",
    "categories_are_distinct",
    "no_feature_is_an_identifier",
    "dates_have_one_format",
    "no_column_is_new",
]
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
]
SHORT_NAMES: tuple[str, ...] = get_args(ShortName)

# The set when none is named, with what differs from the libraries' own defaults.
DEFAULT_CANDIDATES: dict[str, dict[str, Any]] = {
    "linear": {},
    "extra_trees": {},
    "hist_gradient_boosting": {},
    "lightgbm": {"n_estimators": 400, "learning_rate": 0.06},
    "catboost": {},
}
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")


class Declaration(BaseModel):
    """The common manners of every declared record: frozen, closed, and helpful about typos."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="wrap")
    @classmethod
    def _suggest_a_known_key(cls, value: Any, handler: Any) -> Any:
        try:
            return handler(value)
        except PydanticValidationError as error:
            raise PydanticValidationError.from_exception_data(
                error.title,
                [_explained(e, cls) for e in error.errors()],
            ) from None


def _explained(error: Any, cls: type[BaseModel]) -> InitErrorDetails:
    """It turns pydantic's account of one fault into one that says what to do.

    The kind is one that pydantic knows: Dagster makes these errors again, with file and line.
    """
    kind, loc = error["type"], error["loc"]
    if kind == "extra_forbidden" and len(loc) == 1:
        hint = did_you_mean(loc[0], cls.model_fields)
        message = f"`{loc[0]}` is not a key of {cls.__name__}.{hint}"
    elif kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        message = f"`{error['input']}` is not known here.{did_you_mean(error['input'], allowed)}"
    elif kind == "value_error":
        message = str(error["ctx"]["error"])
    elif kind == "unknown_gate" and isinstance(error["input"], dict):
        known = ("metric", "latency_ms", "class_share", "beats", "mode", "min", "max", "by")
        strange = [k for k in error["input"] if k not in known]
        message = error["msg"] + (f".{did_you_mean(strange[0], known[:4])}" if strange else "")
    else:
        message = error["msg"]
    return InitErrorDetails(
        type="value_error", loc=loc, input=error["input"], ctx={"error": ValueError(message)}
    )


class ColumnContract(Declaration):
    """What the values of one column must satisfy."""

    type: Literal["integer", "number", "text", "boolean", "date"] | None = Field(
        None, description="Type of the values.", examples=["integer"]
    )
    min: float | None = Field(None, description="Smallest value allowed.", examples=[0])
    max: float | None = Field(None, description="Largest value allowed.", examples=[120])
    missing: float | None = Field(
        None,
        description="Largest share of missing values allowed, between 0 and 1.",
        examples=[0.05],
        ge=0,
        le=1,
    )


class Contract(Declaration):
    """What the rows of a dataset must satisfy."""

    min_rows: int = Field(
        50, description="Fewest rows that may be learned from.", examples=[1000], ge=1
    )
    new_columns: Literal["use", "ignore"] = Field(
        "use",
        description="What becomes of columns that the contract does not name. ignore: they are no "
        "features, and a gate warns.",
    )
    columns: dict[str, ColumnContract] = Field(
        default_factory=dict,
        description="Columns that must be there, by name, with what their values must satisfy.",
        examples=[{"tenure": {"type": "integer", "min": 0}}],
    )


class DatasetDeclaration(Declaration):
    """Where the rows come from and what their columns are for."""

    path: str | None = Field(
        None,
        description="A csv, csv.gz or parquet file; relative to the project's root.",
        examples=["data/churn.csv"],
    )
    loader: str | None = Field(
        None,
        description="Instead of `path`: a function that returns a DataFrame, by import path or "
        "`.model.function` for one in the model.py beside this file.",
        examples=[".model.rows"],
    )
    target: str = Field(description="The column to be predicted.", examples=["Churn"])
    positive: str | int | float | bool | None = Field(
        None,
        description="Binary tasks: the target's value that counts as positive. Inferred when "
        "absent: yes/true/1, else the rarer value.",
        examples=["Yes"],
    )
    key: str | None = Field(
        None,
        description="The column that identifies an entity. Never a feature; all rows of one "
        "entity land in one part of the split.",
        examples=["customerID"],
    )
    drop: list[str] = Field(
        default_factory=list,
        description="Columns that are kept in the dataset but are never features.",
        examples=[["internal_note"]],
    )
    separator: str = Field(",", description="csv: what separates fields.", examples=[";"])
    decimal: str = Field(".", description="csv: the decimal mark.", examples=[","])
    encoding: str = Field("utf-8", description="csv: how text is encoded.", examples=["latin-1"])
    names: list[str] | None = Field(
        None,
        description="csv: column names for a file that has no header row.",
        examples=[["age", "income"]],
    )
    missing: list[str] = Field(
        default_factory=list,
        description="csv: words that mean a missing value, beside empty, blank, NA, N/A, NaN and null.",
        examples=[["?"]],
    )
    skip_initial_space: bool = Field(
        False, description="csv: blanks after a separator do not belong to the value."
    )
    contract: Contract = Field(
        default_factory=Contract, description="What the rows must satisfy before they are used."
    )
    integrity: dict[IntegrityGate, Mode] = Field(
        default_factory=dict,
        description="How severe an integrity gate is, where it differs from its default.",
        examples=[{"rows_are_unique": "enforce"}],
    )

    @model_validator(mode="after")
    def _one_source(self) -> "DatasetDeclaration":
        if (self.path is None) == (self.loader is None):
            raise ValueError("a dataset has either `path` or `loader`: give exactly one of them")
        for word, column in [("key", self.key), *(("drop", c) for c in self.drop)]:
            if column == self.target:
                raise ValueError(f"`{word}` names the target `{self.target}`; it cannot be both")
        if len(self.separator) != 1 or len(self.decimal) != 1:
            raise ValueError("`separator` and `decimal` are one character each")
        return self


class GroupBy(Declaration):
    """All rows with one value of a column land in one part."""

    group: str = Field(description="The column whose equal values stay together.")


class SplitDeclaration(Declaration):
    """Which rows a candidate may learn from, which choose it, which judge it."""

    by: Literal["key", "row"] | GroupBy | None = Field(
        None,
        description="`key`: by the dataset's key. `row`: by the row's own content, so that equal "
        "rows stay together. `{group: column}`: by a column. Default: key if there is one, else row.",
        examples=["key", "row", {"group": "patient"}],
    )
    train: float = Field(0.7, description="Share of rows to learn from.", gt=0, lt=1)
    validation: float = Field(0.15, description="Share of rows to choose by.", gt=0, lt=1)
    test: float = Field(0.15, description="Share of rows to judge by.", gt=0, lt=1)

    @model_validator(mode="after")
    def _shares_are_whole(self) -> "SplitDeclaration":
        total = self.train + self.validation + self.test
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"train + validation + test is {total:g}; the three shares make 1")
        return self


class CandidateDeclaration(Declaration):
    """One contender: an estimator, its parameters, and how its table is prepared."""

    estimator: str = Field(
        description="A short name, the import path of a scikit-learn estimator, or "
        "`.model.function` for a function that returns an unfitted estimator.",
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

    @field_validator("estimator")
    @classmethod
    def _a_name_or_a_path(cls, value: str) -> str:
        if value not in SHORT_NAMES and "." not in value:
            raise ValueError(
                f"`{value}` is no short name of a candidate and no import path."
                f"{did_you_mean(value, SHORT_NAMES)}"
            )
        return value


def _metric(value: str) -> str:
    if value not in METRICS:
        raise ValueError(f"`{value}` is no metric.{did_you_mean(value, METRICS)}")
    return value


class MetricGate(Declaration):
    """The challenger's metric on test reaches a floor, or stays under a ceiling."""

    metric: str = Field(description="A metric of the task.", examples=["accuracy"])
    min: float | None = Field(None, description="The floor.", examples=[0.85])
    max: float | None = Field(None, description="The ceiling.", examples=[60.0])
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str) -> str:
        return _metric(value)

    @model_validator(mode="after")
    def _has_a_bound(self) -> "MetricGate":
        if self.min is None and self.max is None:
            raise ValueError(f"the gate on {self.metric} has no bound: give `min` or `max`")
        return self


class LatencyGate(Declaration):
    """One row is predicted within a time."""

    latency_ms: float = Field(
        description="Longest median time for one row, in milliseconds.", examples=[100], gt=0
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")


class ClassShareGate(Declaration):
    """No class vanishes from the predictions."""

    class_share: float = Field(
        description="Smallest share of the predictions that each class must have.",
        examples=[0.05],
        ge=0,
        le=0.5,
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")


class BeatsBaselineGate(Declaration):
    """The challenger is better than a model that ignores the features."""

    beats: Literal["baseline"] = Field(description="The candidate that ignores the features.")
    by: float = Field(
        0.0, description="How much better, in units of `select`.", examples=[0.02], ge=0
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")


class BeatsChampionGate(Declaration):
    """The challenger is better than the champion on the same rows, beyond noise.

    It decides whether to promote or to hold; it is always asked, because law 4 has no off switch.
    """

    beats: Literal["champion"] = Field(description="The version that serves now.")
    by: float = Field(0.0, description="Smallest gain, in units of `select`.", ge=0)
    confidence: float = Field(
        0.95,
        description="Confidence of the paired test, one-sided.",
        examples=[0.95],
        ge=0.5,
        lt=1,
    )


def _kind_of_gate(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return _GATE_KIND.get(type(value))
    if isinstance(value, dict):
        for word in ("metric", "latency_ms", "class_share"):
            if word in value:
                return word
        if value.get("beats") in ("baseline", "champion"):
            return f"beats {value['beats']}"
    return None


_GATE_KIND: dict[type, str] = {
    MetricGate: "metric",
    LatencyGate: "latency_ms",
    ClassShareGate: "class_share",
    BeatsBaselineGate: "beats baseline",
    BeatsChampionGate: "beats champion",
}
GateDeclaration = Annotated[
    Annotated[MetricGate, Tag("metric")]
    | Annotated[LatencyGate, Tag("latency_ms")]
    | Annotated[ClassShareGate, Tag("class_share")]
    | Annotated[BeatsBaselineGate, Tag("beats baseline")]
    | Annotated[BeatsChampionGate, Tag("beats champion")],
    Discriminator(
        _kind_of_gate,
        custom_error_type="unknown_gate",
        custom_error_message="no gate of this kind; a gate is one of {metric: NAME, min|max: X}, "
        "{latency_ms: X}, {class_share: X}, {beats: baseline, by: X}, "
        "{beats: champion, confidence: X}",
    ),
]


class PromotionDeclaration(Declaration):
    """How a fit and better challenger becomes champion."""

    mode: Literal["automatic"] = Field(
        "automatic", description="automatic: promoted by the run that proved it."
    )


class Problem(Declaration):
    """What is to be predicted, from what, by which candidates, under which gates."""

    name: str = Field(description="Name: the assets' prefix and group.", examples=["churn"])
    description: str | None = Field(None, description="What the prediction is used for.")
    owners: list[str] = Field(
        default_factory=list,
        description="Who answers for it: e-mail addresses, or `team:name`.",
        examples=[["team:growth"]],
    )
    task: Task | None = Field(
        None, description="Inferred from the target, and shown, when absent.", examples=["binary"]
    )
    dataset: DatasetDeclaration = Field(description="Where the rows come from.")
    split: SplitDeclaration = Field(
        default_factory=SplitDeclaration, description="How the rows are split."
    )
    transform: str = Field(
        "auto",
        description="How tables are prepared for every candidate: `auto` (skrub), `none`, an "
        "import path, or `.model.function` returning an unfitted transformer. Fitted on train "
        "only, shipped inside the candidate.",
        examples=["auto", ".model.features"],
    )
    candidates: dict[str, CandidateDeclaration] = Field(
        default_factory=dict,
        description="The contenders. `short_name: {parameters}`, or `any_name: {estimator: …, "
        "params: {…}}`. A sensible set when absent; `baseline` always takes part.",
        examples=[{"random_forest": {"n_estimators": 100}}],
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: rows of rare classes weigh more in fitting. Costs calibration; "
        "a tuned threshold usually serves better.",
    )
    threshold: Literal["auto"] | float = Field(
        "auto",
        description="Binary tasks: the probability from which positive is predicted. auto: 0.5, "
        "or, when a class is rarer than 10 %, the best F1 on validation.",
        examples=["auto", 0.3],
    )
    select: str | None = Field(
        None,
        description="The metric that ranks candidates on validation. Default: roc_auc, "
        "balanced_accuracy or rmse, by task.",
        examples=["roc_auc"],
    )
    gates: list[GateDeclaration] = Field(
        default_factory=list,
        description="What a challenger must satisfy, beside what is always asked.",
        examples=[[{"metric": "accuracy", "min": 0.85}]],
    )
    promotion: PromotionDeclaration = Field(
        default_factory=PromotionDeclaration, description="How a challenger becomes champion."
    )
    trust: list[str] = Field(
        default_factory=list,
        description="Import paths of types, beside those that ml_assets ships, that a stored "
        "candidate may hold. Loading a model executes code of these types: name only your own.",
        examples=[["my_package.features.Ratio"]],
    )
    seed: int = Field(0, description="Seed of everything random.", ge=0)

    @field_validator("candidates", mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`random_forest: {n_estimators: 100}` means `{estimator: random_forest, params: …}`."""
        if not isinstance(value, dict):
            return value
        return {str(name): _candidate(str(name), given) for name, given in value.items()}

    @field_validator("candidates")
    @classmethod
    def _names_are_plain(
        cls, value: dict[str, CandidateDeclaration]
    ) -> dict[str, CandidateDeclaration]:
        for name in value:
            if not _NAME.match(name):
                raise ValueError(f"`{name}` cannot name a candidate: letters, digits and _ only")
        return value

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str) -> str:
        if not _NAME.match(value):
            raise ValueError(
                f"`{value}` cannot name a problem: start with a letter; letters, digits and _ only"
            )
        return value

    @field_validator("select")
    @classmethod
    def _select_is_a_metric(cls, value: str | None) -> str | None:
        return None if value is None else _metric(value)

    @model_validator(mode="after")
    def _words_fit_the_task(self) -> "Problem":
        if self.task is not None:
            self.check_task(self.task)
        if isinstance(self.split.by, str) and self.split.by == "key" and self.dataset.key is None:
            raise ValueError("split: by key, but the dataset declares no `key`")
        if isinstance(self.threshold, float) and not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold:g}; it lies between 0 and 1")
        return self

    def check_task(self, task: str) -> None:
        """It raises ValueError when a metric named here is not one of the task's."""
        named = [("select", self.select)] if self.select else []
        named += [("gates", g.metric) for g in self.gates if isinstance(g, MetricGate)]
        for where, metric in named:
            if task not in METRICS[metric][1]:
                fit = [m for m, (_, tasks) in METRICS.items() if task in tasks]
                raise ValueError(
                    f"{where}: {metric} is not for {task} tasks. For these: {', '.join(fit)}."
                )

    def contenders(self) -> dict[str, CandidateDeclaration]:
        """It returns the candidates by name: those declared, or a default set, and the baseline."""
        chosen = dict(self.candidates) or {
            name: CandidateDeclaration(estimator=name, params=params)
            for name, params in DEFAULT_CANDIDATES.items()
        }
        if not any(c.estimator == "baseline" for c in chosen.values()):
            chosen = {"baseline": CandidateDeclaration(estimator="baseline"), **chosen}
        return chosen

    def champion_gate(self) -> BeatsChampionGate:
        """It returns the declared comparison with the champion, or the default one."""
        declared = [g for g in self.gates if isinstance(g, BeatsChampionGate)]
        return declared[-1] if declared else BeatsChampionGate(beats="champion")


def _candidate(name: str, given: Any) -> Any:
    if isinstance(given, CandidateDeclaration):
        return given
    given = {} if given is None else given
    if not isinstance(given, dict) or "estimator" in given:
        return given
    if name in SHORT_NAMES:
        return {"estimator": name, "params": given}
    raise ValueError(
        f"candidate `{name}` has no `estimator`, and `{name}` is no short name."
        f"{did_you_mean(name, SHORT_NAMES)}"
    )
