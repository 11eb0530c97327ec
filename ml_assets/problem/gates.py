"""Gates, declared: what a challenger must satisfy."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from ml_assets.errors import did_you_mean
from ml_assets.metric import METRICS
from ml_assets.problem.declaration import Declaration, Mode
from ml_assets.provided import refuse_unknown

# Checks on the challenger that are named by us: a question of a team's own takes another name.
CLAIMS = (
    "a_candidate_is_eligible",
    "predictions_are_complete",
    "metric_is_in_bounds",
    "answers_in_time",
    "every_class_is_predicted",
    "no_slice_falls_behind",
    "groups_are_treated_alike",
    "does_not_overfit",
    "probabilities_are_calibrated",
    "few_answers_turn_wrong",
    "predictions_are_spread_alike",
    "model_is_small",
    "beats_the_baseline",
    "beats_the_champion",
)
_OF_METRIC = ("_reaches_floor", "_is_under_ceiling", "_is_within_bounds")


def is_claim(name: str) -> bool:
    """It says whether one of our checks on the challenger has this name, or its second one."""
    plain = re.sub(r"_\d+$", "", name)
    return plain in CLAIMS or any(plain == f"{m}{end}" for m in METRICS for end in _OF_METRIC)


def known_metric(value: str) -> str:
    """It returns the name of a metric; ValueError, with a suggestion, when there is none."""
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
        return known_metric(value)

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
        description="Confidence of the interval of the gain, which must lie above `by` as a whole; "
        "at 0.95 an equal challenger is promoted by chance in 2.5 % of rounds.",
        examples=[0.95],
        ge=0.5,
        lt=1,
    )


class SliceGate(Declaration):
    """The challenger's metric on test falls off nowhere: for no value of a column."""

    slice: str = Field(
        description="The column whose values make the slices; numbers are cut into quarters.",
        examples=["SeniorCitizen"],
    )
    metric: str = Field(description="A metric of the task.", examples=["accuracy"])
    max_drop: float = Field(
        description="How much worse than overall a slice may be, in the metric's units.",
        examples=[0.2],
        ge=0,
    )
    min_rows: int = Field(30, description="Smaller slices are not asked.", ge=2)
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str) -> str:
        return known_metric(value)


class FairGate(Declaration):
    """Groups of a sensitive column are treated alike."""

    fair: str = Field(description="The sensitive column.", examples=["gender"])
    metric: str = Field(
        "positive_rate",
        description="What is compared: a metric of the task, or positive_rate, the share of rows "
        "predicted positive (demographic parity).",
        examples=["positive_rate", "recall"],
    )
    max_difference: float = Field(
        description="Largest difference between two groups.", examples=[0.1], ge=0
    )
    min_rows: int = Field(30, description="Smaller groups are not asked.", ge=2)
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, value: str) -> str:
        return value if value == "positive_rate" else known_metric(value)


class OverfitGate(Declaration):
    """The challenger is about as good on test as on train."""

    overfit: str = Field(description="A metric of the task.", examples=["roc_auc"])
    max_gap: float = Field(
        description="How much worse on test than on train, in the metric's units.",
        examples=[0.1],
        ge=0,
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")

    @field_validator("overfit")
    @classmethod
    def _metric_is_known(cls, value: str) -> str:
        return known_metric(value)


class CalibrationGate(Declaration):
    """Probabilities mean what they say."""

    calibration: float = Field(
        description="Largest expected calibration error: the mean distance between probability and "
        "frequency, over ten equal bins of probability, weighed by rows.",
        examples=[0.05],
        gt=0,
        le=1,
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")


class FlipsGate(Declaration):
    """Few rows that the champion has right does the challenger have wrong."""

    flips: float = Field(
        description="Largest share of test rows that turn from right to wrong.",
        examples=[0.03],
        ge=0,
        le=1,
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")


class PredictionDriftGate(Declaration):
    """The challenger's predictions are spread about as the champion's."""

    prediction_drift: float = Field(
        description="Largest population stability index between the two, on the same test rows; "
        "0.1 is small, 0.25 is large.",
        examples=[0.25],
        gt=0,
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")


class SizeGate(Declaration):
    """The model's file is small enough."""

    size_mb: float = Field(description="Largest model file, in megabytes.", examples=[50], gt=0)
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")


class CustomGate(Declaration):
    """A question of your own."""

    custom: str = Field(
        description="A function of (rows, truth, predictions, probabilities), all of test, by "
        "import path or `.model.function`, or a name that an installed package provides. It returns True or False, or that and a sentence. The "
        "check is named after it.",
        examples=[".model.no_negative_prices"],
    )
    mode: Mode = Field("enforce", description="enforce: red and no promotion; warn: said; off.")

    @field_validator("custom")
    @classmethod
    def _is_a_path(cls, value: str) -> str:
        what = f"gate of an installed package and no import path; write `.model.{value}`"
        refuse_unknown("gates", value, (), what)
        name = value.rpartition(".")[2]
        if is_claim(name):
            raise ValueError(
                f"`{value}`: a check of ml_assets is named `{name}`, and this one would be named "
                "so too. Rename the function."
            )
        return value


# the word that makes a gate what it is -> its declaration
KINDS: dict[str, type[Declaration]] = {
    "slice": SliceGate,
    "fair": FairGate,
    "overfit": OverfitGate,
    "metric": MetricGate,
    "latency_ms": LatencyGate,
    "class_share": ClassShareGate,
    "calibration": CalibrationGate,
    "flips": FlipsGate,
    "prediction_drift": PredictionDriftGate,
    "size_mb": SizeGate,
    "custom": CustomGate,
    "beats baseline": BeatsBaselineGate,
    "beats champion": BeatsChampionGate,
}


# Gates that ask about classes or their probabilities: a regression has neither.
OF_CLASSES = (ClassShareGate, CalibrationGate, FlipsGate)


def word_of(gate: Declaration) -> str:
    """It returns the word that makes a gate what it is."""
    return next(word for word, kind in KINDS.items() if type(gate) is kind)


def _kind_of_gate(value: Any) -> str | None:
    if isinstance(value, BaseModel):
        return next((k for k, t in KINDS.items() if type(value) is t), None)
    if isinstance(value, dict):
        for word in KINDS:
            if word in value:
                return word
        if value.get("beats") in ("baseline", "champion"):
            return f"beats {value['beats']}"
    return None


GateDeclaration = Annotated[
    Annotated[MetricGate, Tag("metric")]
    | Annotated[LatencyGate, Tag("latency_ms")]
    | Annotated[ClassShareGate, Tag("class_share")]
    | Annotated[BeatsBaselineGate, Tag("beats baseline")]
    | Annotated[BeatsChampionGate, Tag("beats champion")]
    | Annotated[SliceGate, Tag("slice")]
    | Annotated[FairGate, Tag("fair")]
    | Annotated[OverfitGate, Tag("overfit")]
    | Annotated[CalibrationGate, Tag("calibration")]
    | Annotated[FlipsGate, Tag("flips")]
    | Annotated[PredictionDriftGate, Tag("prediction_drift")]
    | Annotated[SizeGate, Tag("size_mb")]
    | Annotated[CustomGate, Tag("custom")],
    Discriminator(
        _kind_of_gate,
        custom_error_type="unknown_gate",
        custom_error_message="no gate of this kind; a gate is one of {metric: NAME, min|max: X}, "
        "{latency_ms: X}, {class_share: X}, {beats: baseline, by: X}, "
        "{beats: champion, confidence: X}, {slice: COLUMN, metric: NAME, max_drop: X}, "
        "{fair: COLUMN, max_difference: X}, {overfit: NAME, max_gap: X}, {calibration: X}, "
        "{flips: X}, {prediction_drift: X}, {size_mb: X}, {custom: .model.function}",
    ),
]
