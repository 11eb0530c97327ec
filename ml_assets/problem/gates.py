"""Gates, declared: what a challenger must satisfy."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, field_validator, model_validator

from ml_assets.errors import did_you_mean
from ml_assets.metric import METRICS
from ml_assets.problem.declaration import Declaration, Mode


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
