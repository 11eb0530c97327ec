"""A promotion, declared: how a challenger becomes champion, and on what terms a canary serves."""

from typing import Literal

from pydantic import Field, model_validator

from ml_assets.problem.declaration import Declaration, Duration

_OF_CANARY = ("share", "min_rows", "longest")


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
        14 * 86400.0,
        description="canary: how long it may take, as `14d`; then it is withdrawn as inconclusive.",
        examples=["14d", "6h"],
    )

    @model_validator(mode="after")
    def _terms_are_a_canarys(self) -> "PromotionDeclaration":
        known = type(self).model_fields  # a record of this one names every field, as it is
        strange = [f for f in _OF_CANARY if getattr(self, f) != known[f].default]
        if strange and self.mode != "canary":
            raise ValueError(
                f"`{strange[0]}` is a canary's, and the mode is {self.mode}: declare `mode: canary`, "
                "or leave it out"
            )
        return self
