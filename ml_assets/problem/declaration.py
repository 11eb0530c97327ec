"""The common manners of declared records: frozen, closed, and helpful about typos."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic import ValidationError as PydanticValidationError
from pydantic_core import InitErrorDetails

from ml_assets.errors import did_you_mean

# YAML reads an unquoted `off` as false
Mode = Annotated[
    Literal["enforce", "warn", "off"], BeforeValidator(lambda v: "off" if v is False else v)
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_in(value: Any) -> Any:
    """It returns a duration like `30m` in seconds; plain numbers are seconds."""
    found = (
        re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", value.strip())
        if isinstance(value, str)
        else None
    )
    if found:
        return float(found[1]) * _UNITS[found[2]]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(  # noqa: TRY004 - what pydantic reports
            f"`{value}` is no duration: a number and s, m, h or d, like `30m`"
        )
    return value


Duration = Annotated[float, BeforeValidator(seconds_in), Field(gt=0, allow_inf_nan=False)]


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
    elif kind == "unknown_split":
        message = f"`{error['input']}`: {error['msg']}"
    elif kind == "unknown_gate" and isinstance(error["input"], dict):
        words = ["metric", "latency_ms", "class_share", "beats", "slice", "fair", "overfit"]
        words += ["calibration", "flips", "prediction_drift", "size_mb", "custom"]
        strange = [k for k in error["input"] if k not in (*words, "mode", "min", "max", "by")]
        hint = did_you_mean(strange[0], words) if strange else ""
        message = error["msg"] + (f".{hint}" if hint else "")
    else:
        message = error["msg"]
    return InitErrorDetails(
        type="value_error", loc=loc, input=error["input"], ctx={"error": ValueError(message)}
    )
