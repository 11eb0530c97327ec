"""Monitoring, declared: what is watched after deployment, and what follows from it."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from ml_assets.problem.declaration import Declaration, Duration, seconds_in


def _a_span(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"[1-9]\d*[smhd]", value):
        return value
    raise ValueError(f"`{value}` is no span of time: a number and s, m, h or d, like `7d`")


# A span of time that stays as it was written, so that it is not taken for a number of rows.
Span = Annotated[str, BeforeValidator(_a_span)]


def span_seconds(span: str) -> float:
    """It returns a span of time in seconds."""
    return float(seconds_in(span))


# What is asked of each window of live rows.
Aspect = Literal["performance", "estimate", "features", "predictions"]
ASPECTS: tuple[Aspect, ...] = ("performance", "estimate", "features", "predictions")


class MonitoringDeclaration(Declaration):
    """What is watched of the champion's live rows: predictions that were served, or made of files."""

    inputs: bool = Field(
        False,
        description="The server keeps the features of the rows that it answers, in files beside its "
        "log, so that drift in them can be seen. They may be personal data. Features of files that "
        "were scored are read from where the files lie, and need no copy.",
    )
    keep_inputs: Duration = Field(
        30 * 86400.0, description="Kept features that are older are removed.", examples=["30d"]
    )
    window: int | Span = Field(
        500,
        description="What is looked at together: so many live rows, or a span of time. Let it span "
        "what comes and goes by itself, like a day or a week.",
        examples=[500, "7d"],
        union_mode="left_to_right",
    )
    every: Duration = Field(
        600.0,
        description="Shortest time between two looks, however many predictions and labels come.",
        examples=["10m"],
    )
    min_rows: int = Field(
        100,
        description="A window with fewer rows, or with fewer labels, is not asked.",
        ge=30,
    )
    confidence: float = Field(
        0.99,
        description="Of each question to a window: without drift, it is answered wrongly in at most "
        "so few windows; with many features, for all of them together.",
        ge=0.9,
        lt=1,
    )
    distance: float = Field(
        0.1,
        description="Smallest Jensen-Shannon distance (0 to 1) between training and window that "
        "counts as drift, once it is beyond chance.",
        gt=0,
        lt=1,
    )
    share: float = Field(
        0.5,
        description="The window has drifted when so large a share of its features has, or one of "
        "them so far that it hardly overlaps (distance 0.5).",
        gt=0,
        le=1,
    )
    ignore: list[str] = Field(
        default_factory=list,
        description="Features whose drift means nothing, like a counter. Dates are never asked.",
        examples=[["year"]],
    )
    max_drop: float = Field(
        0.1,
        description="Smallest loss of quality that counts, beyond noise: this share of what the "
        "champion gained on test over an answer that ignores the features.",
        ge=0,
    )
    volume: float = Field(
        10.0,
        description="A window that fills so many times faster or slower than those before is told.",
        gt=1,
    )
    silence: Duration | None = Field(
        None, description="Longest time without a prediction; else it is told.", examples=["1d"]
    )
    label_delay: Duration | None = Field(
        None,
        description="After this time a prediction should have its label; it is told when most have "
        "not.",
        examples=["30d"],
    )
    rollback: bool | None = Field(
        None,
        description="A fresh champion that does worse than its predecessor on the same live rows is "
        "rolled back by itself. By default it is, but where promotions need approval it is told.",
    )
    fresh_rows: int = Field(
        1000,
        description="A champion is fresh until so many of its live rows have labels.",
        ge=120,
    )

    @field_validator("window")
    @classmethod
    def _window_is_no_handful(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 30:
            raise ValueError(f"a window of {value} rows tells nothing; at least 30 are needed")
        return value


class NewDataRule(Declaration):
    """How much that is new starts a run."""

    min_new_rows: int = Field(
        description="A run starts when the dataset has so many rows more than at the last one.",
        examples=[100],
        ge=1,
    )


class DriftRule(Declaration):
    """How much drift or decay starts a run: so many of the last windows, and the latest."""

    violations: int = Field(2, description="So many windows must show it.", examples=[2], ge=1)
    of_last: int = Field(5, description="Of so many, the latest among them.", examples=[5], ge=1)
    by: list[Aspect] = Field(
        default_factory=lambda: list(ASPECTS),
        description="What counts: realised performance, estimated performance, drift of features, "
        "drift of predictions.",
        examples=[["performance", "estimate"]],
    )
    min_new_rows: int = Field(
        1,
        description="Rows that the dataset must have gained since the last run: without any, a run "
        "would learn the same again.",
        ge=1,
    )

    @field_validator("of_last")
    @classmethod
    def _k_is_no_more_than_n(cls, value: int, info: object) -> int:
        violations = getattr(info, "data", {}).get("violations", 1)
        if value < violations:
            raise ValueError(f"{violations} violations cannot be among the last {value} windows")
        return value


class Budget(Declaration):
    """How many runs there may be in a time."""

    runs: int = Field(description="So many runs.", examples=[7], ge=1)
    per: Duration = Field(description="In so long a time.", examples=["7d"])
