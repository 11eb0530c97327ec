"""Parameters of one run: what it does otherwise than declared."""

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from ml_assets.errors import DeclarationError
from ml_assets.problem.declaration import Declaration

# What would let a run judge itself: a promotion is decided by the declaration and today's data.
_NOT_FOR_PROMOTION = ("data", "dataset_version", "gates")
_TEXT = ("data", "dataset_version", "transform", "select", "class_weight")


class Parameters(Declaration):
    """What one run does otherwise than declared: it compares, and promotes only when told to."""

    data: str | None = Field(
        None,
        description="Another data file, read as declared, for this run alone.",
        examples=["data/churn_2025.csv"],
    )
    dataset_version: str | None = Field(
        None,
        description="An earlier version of the dataset, by the first digits of its name.",
        examples=["1f0c9a7b"],
    )
    only: list[str] = Field(
        default_factory=list,
        description="The candidates that take part; all when empty.",
        examples=[["random_forest"]],
    )
    candidates: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Parameters of candidates, beside or instead of those declared.",
        examples=[{"random_forest": {"n_estimators": 300}}],
    )
    gates: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Thresholds of gates, by the name of their check.",
        examples=[{"accuracy_reaches_floor": {"min": 0.9}}],
    )
    transform: str | None = Field(None, description="Another `transform`.")
    threshold: Literal["auto"] | float | None = Field(None, description="Another `threshold`.")
    class_weight: Literal["none", "balanced"] | None = Field(
        None, description="Another `class_weight`."
    )
    select: str | None = Field(None, description="Another metric to rank by.")
    seed: int | None = Field(None, description="Another seed.", ge=0)
    promote: bool = Field(
        False,
        description="A challenger that is fit and better becomes champion. Not together with "
        "other data or other thresholds of gates: a promotion is decided by what is declared.",
    )

    @model_validator(mode="after")
    def _judged_by_the_declaration(self) -> "Parameters":
        if self.promote:
            for name in _NOT_FOR_PROMOTION:
                if getattr(self, name):
                    raise ValueError(
                        f"promote: not together with `{name}`; a promotion is decided by the "
                        "declared gates on today's data"
                    )
        if self.data and self.dataset_version:
            raise ValueError("give `data` or `dataset_version`, not both")
        return self


def parameters(settings: list[str], promote: bool = False) -> Parameters:
    """It returns what words like ``candidates.random_forest.n_estimators=300`` set.

    Raises:
        DeclarationError: there is no such parameter, or not this value for it.
    """
    import yaml

    given: dict[str, Any] = {"promote": promote} if promote else {}
    for setting in settings:
        path, sign, value = setting.partition("=")
        *way, last = [w.strip() for w in path.split(".", 2)]
        if not sign or not last or len(way) == 1:
            raise DeclarationError(
                f"`{setting}` sets nothing. Write KEY=VALUE, like "
                "candidates.random_forest.n_estimators=300, gates.accuracy_reaches_floor.min=0.9, "
                "seed=1 or data=file.csv."
            )
        place = given
        for word in way:
            place = place.setdefault(word, {})
        try:
            place[last] = value if not way and last in _TEXT else yaml.safe_load(value)
        except yaml.YAMLError:
            place[last] = value
    try:
        return Parameters(**given)
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}".lstrip(": ")
            for e in error.errors()
        ]
        raise DeclarationError("; ".join(told)) from None
