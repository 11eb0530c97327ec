"""A promotion, declared: how a challenger becomes champion, and on what terms a canary serves."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from ml_assets.problem.declaration import Declaration

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_OF_CANARY = ("share", "min_rows", "longest")


def _seconds(value: Any) -> Any:
    """It returns how many seconds a duration as `14d` means; what is none is left to pydantic."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"`{value}` is no duration: write it as 90s, 30m, 6h, 14d or 2w")
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhdw])\s*", value)
    if found is None:
        raise ValueError(f"`{value}` is no duration: write it as 90s, 30m, 6h, 14d or 2w")
    return float(found[1]) * _UNITS[found[2]]


Duration = Annotated[float, BeforeValidator(_seconds, json_schema_input_type=str | float)]


class PromotionDeclaration(Declaration):
    """How a challenger becomes champion."""

    mode: Literal["automatic", "approval", "canary"] = Field(
        "automatic",
        description="automatic: promoted by the run that proved it. approval: a challenger that is "
        "fit and better waits until somebody approves it: `ml-assets approve`, the job "
        "`<problem>_approve`, or a tag `approved` on its version in MLflow. canary: a challenger "
        "that is fit, and not shown to be worse on test, serves a share of the rows until its "
        "labelled rows show that it is better (promoted), is not (withdrawn), or its time is over.",
        examples=["automatic", "approval", "canary"],
    )
    share: float = Field(
        0.1,
        description="canary: the share of rows that it answers, always the same keys. 0: a shadow, "
        "which answers beside the champion; what it says is logged and compared, never returned.",
        examples=[0.1, 0],
        ge=0,
        le=0.5,
    )
    min_rows: int = Field(
        500,
        description="canary: labelled rows at the first look at it; each look after that comes "
        "when there are twice as many.",
        examples=[500],
        ge=30,
    )
    longest: Duration = Field(
        14 * 86_400.0,
        description="canary: how long it may take, as `14d`; then it is withdrawn as inconclusive.",
        examples=["14d", "6h"],
        gt=0,
    )

    @model_validator(mode="after")
    def _terms_are_a_canarys(self) -> "PromotionDeclaration":
        strange = [f for f in _OF_CANARY if f in self.model_fields_set]
        if strange and self.mode != "canary":
            raise ValueError(
                f"`{strange[0]}` is a canary's, and the mode is {self.mode}: declare `mode: canary`, "
                "or leave it out"
            )
        return self
