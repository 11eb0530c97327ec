"""How a problem is kept going, declared: what starts a run, how long one may take, who is told."""

import re
import zoneinfo
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ml_assets.problem.declaration import Declaration, Duration
from ml_assets.problem.monitoring import Budget, DriftRule, NewDataRule

Happening = Literal[
    "run_failed",
    "gate_failed",
    "drift",
    "batch_quarantined",
    "champion_changed",
    "approval_awaited",
    "canary",
    "bad_successor",
    "rollback",
    "override",
    "alias_repaired",
]
HAPPENINGS: tuple[Happening, ...] = (
    "run_failed",
    "gate_failed",
    "drift",
    "batch_quarantined",
    "champion_changed",
    "approval_awaited",
    "canary",
    "bad_successor",
    "rollback",
    "override",
    "alias_repaired",
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# name, smallest, largest, words for numbers
_CRON = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_CPU = re.compile(r"^(\d+(\.\d+)?|\d+m)$", re.ASCII)
_MEMORY = re.compile(r"^[1-9]\d*(Ki|Mi|Gi|Ti|k|M|G|T)$", re.ASCII)
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_ADDRESS = re.compile(r"^[^@\s<>,;\"]+@[^@\s<>,;\"]+$")


def _number(text: str, name: str, low: int, high: int, words: tuple[str, ...]) -> int:
    if text.lower() in words:
        return words.index(text.lower()) + low
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise ValueError(f"`{text}` is no {name}: {low} to {high}, `*`, lists, ranges and steps")
    return int(text)


def known_cron(text: str) -> str:
    """It returns a schedule in the five fields of cron, or raises ValueError that names the field."""
    fields = text.split()
    if len(fields) != len(_CRON):
        raise ValueError(
            f"`{text}` has {len(fields)} fields; cron has 5: minute, hour, day of the month, month, "
            "day of the week. `0 2 * * *` is every day at 02:00"
        )
    meant = [_times(field, *about) for field, about in zip(fields, _CRON)]
    if meant[3] == {2} and meant[2] <= {30, 31}:
        raise ValueError(f"`{text}`: February has no such day")
    return " ".join(fields)


def _times(field: str, name: str, low: int, high: int, words: tuple[str, ...]) -> set[int]:
    """It returns the numbers that a field of cron stands for."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        if "/" in part and (not step.isascii() or not step.isdigit() or int(step) < 1):
            raise ValueError(f"`{part}`: a step of {name} is a number from 1")
        if span == "*":
            ends = [low, high]
        else:
            ends = [_number(end, name, low, high, words) for end in span.split("-", 1)]
        if ends[0] > ends[-1]:
            raise ValueError(f"`{part}`: {name} goes from the smaller to the larger number")
        if "/" in part and len(ends) == 1:
            raise ValueError(f"`{part}`: a step needs a range, like `*/{step}`")
        found.update(range(ends[0], ends[-1] + 1, int(step or 1)))
    return found


class RetrainDeclaration(Declaration):
    """What starts a run by itself."""

    on_new_data: bool | NewDataRule = Field(
        True,
        description="true: a sensor starts a run when a file arrives or changes, or when the "
        "upstream asset was materialized and its checks passed. {min_new_rows: N}: what arrives is "
        "brought in at once, and a run starts when so many rows are new.",
        examples=[True, {"min_new_rows": 100}],
    )
    on_drift: bool | DriftRule = Field(
        True,
        description="A run starts when live rows drift or decay: in so many of the last windows, and "
        "in the latest. Asked where `monitoring` is declared, or this is.",
        examples=[{"violations": 2, "of_last": 5}],
    )
    cool_down: Duration = Field(
        6 * 3600.0,
        description="Shortest time from the last run to one that `min_new_rows` or `on_drift` starts.",
        examples=["6h"],
    )
    most_runs: Budget | None = Field(
        Budget(runs=7, per=7 * 86400.0),
        description="How many runs of any origin there may be, for one more to be started by "
        "`min_new_rows` or `on_drift`; null for any number.",
        examples=[{"runs": 7, "per": "7d"}],
    )
    schedule: str | None = Field(
        None,
        description="When a run is started by the clock, in the five fields of cron. A run in which "
        "nothing changed reuses everything and says so.",
        examples=["0 2 * * *"],
    )
    timezone: str = Field(
        "UTC", description="Time zone of the schedule.", examples=["Europe/Berlin"]
    )
    automation: bool = Field(
        False,
        description="Dagster's declarative automation instead of one job: what starts a run brings "
        "only the dataset up to date, and the rest follows by itself when the dataset's version "
        "changed and its blocking checks passed.",
    )

    @model_validator(mode="after")
    def _automation_waits_for_nothing(self) -> "RetrainDeclaration":
        told = sorted({"cool_down", "most_runs"} & self.model_fields_set)
        if self.automation and told:
            raise ValueError(
                f"`automation: true` goes on as soon as the dataset changed, and would not heed "
                f"`{'`, `'.join(told)}`. Leave out `automation`, or what it would not heed"
            )
        return self

    @property
    def drift_rule(self) -> DriftRule | None:
        """How much drift starts a run; None for any."""
        return DriftRule() if self.on_drift is True else self.on_drift or None

    @field_validator("schedule")
    @classmethod
    def _a_schedule(cls, value: str | None) -> str | None:
        return None if value is None else known_cron(value)

    @field_validator("timezone")
    @classmethod
    def _a_timezone(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"`{value}` is no time zone that this machine knows; one is `Europe/Berlin` or `UTC`"
            ) from None
        return value


class LimitsDeclaration(Declaration):
    """How long something may take. What takes longer is ended, red, and not tried again."""

    run: Duration | None = Field(
        None, description="A whole run of the problem's job, waiting excluded.", examples=["6h"]
    )
    dataset: Duration | None = Field(None, description="Reading and adding rows.", examples=["1h"])
    split: Duration | None = Field(None, description="Splitting the rows.", examples=["10m"])
    candidate: Duration | None = Field(
        None,
        description="Fitting one candidate, its search included. It counts as failed; the others "
        "go on.",
        examples=["30m"],
    )
    evaluation: Duration | None = Field(None, description="Ranking.", examples=["10m"])
    challenger: Duration | None = Field(
        None, description="Scoring on test and asking the gates.", examples=["30m"]
    )
    production_model: Duration | None = Field(
        None, description="Verification and promotion.", examples=["30m"]
    )
    predictions: Duration | None = Field(
        None, description="Scoring the files that arrived.", examples=["1h"]
    )
    canary: Duration | None = Field(
        None, description="Looking at the canary, and what follows.", examples=["30m"]
    )
    monitoring: Duration | None = Field(
        None, description="Looking at the live rows.", examples=["30m"]
    )
    rollback_decision: Duration | None = Field(
        None, description="A fresh champion against its predecessor.", examples=["30m"]
    )
    retrain_decision: Duration | None = Field(
        None, description="Whether a run starts by itself.", examples=["5m"]
    )

    def of(self, noun: str) -> float | None:
        """It returns the limit of an asset by its noun, in seconds; None for none."""
        limit: float | None = getattr(self, noun, None)
        return limit

    def has_steps(self) -> bool:
        """It says whether any step has a limit of its own."""
        return bool(self.model_fields_set - {"run"})


def _amount_of_cpu(value: Any) -> str:
    """It returns cores as Kubernetes writes them: `2`, `0.5`, `500m`."""
    text = str(value)
    if isinstance(value, bool) or not _CPU.match(text) or float(text.removesuffix("m")) <= 0:
        raise ValueError(f"`{value}` is no amount of cores: `2`, `0.5`, or `500m` for half of one")
    return text


def _amount_of_memory(value: Any) -> str:
    """It returns bytes as Kubernetes writes them, with their unit."""
    if not isinstance(value, str) or not _MEMORY.match(value):
        raise ValueError(f"`{value}` is no amount of memory: `512Mi`, `8Gi`")
    return value


Cpu = Annotated[str, BeforeValidator(_amount_of_cpu)]
Memory = Annotated[str, BeforeValidator(_amount_of_memory)]


class SizeDeclaration(Declaration):
    """How much one candidate's step asks for."""

    cpu: Cpu | None = Field(None, description="Cores.", examples=[8])
    memory: Memory | None = Field(None, description="Memory, with its unit.", examples=["16Gi"])


class ResourcesDeclaration(Declaration):
    """How much a run's pods ask a cluster for. Nothing of it changes what is learned."""

    cpu: Cpu | None = Field(None, description="Cores of each step, and of the run.", examples=[4])
    memory: Memory | None = Field(
        None, description="Memory of each step, and of the run, with its unit.", examples=["8Gi"]
    )
    candidates: dict[str, SizeDeclaration] = Field(
        default_factory=dict,
        description="What fitting a candidate takes instead, by its name.",
        examples=[{"hist_gradient_boosting": {"cpu": 8, "memory": "16Gi"}}],
    )

    def of(self, candidate: str | None = None) -> dict[str, str]:
        """It returns what a step asks for, as Kubernetes names it."""
        own = self.candidates.get(candidate or "", SizeDeclaration())
        asked = {"cpu": own.cpu or self.cpu, "memory": own.memory or self.memory}
        return {name: amount for name, amount in asked.items() if amount is not None}


class AlertsDeclaration(Declaration):
    """Who is told, and of what. Secrets are never here: only the names of environment variables."""

    email: list[str] = Field(
        default_factory=list,
        description="Addresses. The mail server is in ML_ASSETS_SMTP (`smtp://user:password@host`).",
        examples=[["team@example.com"]],
    )
    slack: str | None = Field(
        None,
        description="Name of the environment variable that holds the URL of a Slack webhook.",
        examples=["SLACK_WEBHOOK"],
    )
    webhook: str | None = Field(
        None,
        description="Name of the environment variable that holds the URL of a webhook: it is sent "
        "one JSON document for each event.",
        examples=["ALERTS_WEBHOOK"],
    )
    on: list[Happening] = Field(
        default_factory=lambda: list(HAPPENINGS),
        description="Of what they are told.",
        examples=[["run_failed", "gate_failed", "champion_changed"]],
        min_length=1,
    )

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_word(cls, value: Any) -> Any:
        """YAML reads an unquoted `on` as true, also where it is a key."""
        if not isinstance(value, dict) or True not in value:
            return value
        return {("on" if key is True else key): given for key, given in value.items()}

    @field_validator("email")
    @classmethod
    def _are_addresses(cls, value: list[str]) -> list[str]:
        for address in value:
            if not _ADDRESS.match(address):
                raise ValueError(f"`{address}` is no e-mail address")
        return value

    @field_validator("slack", "webhook")
    @classmethod
    def _is_the_name_of_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not _VARIABLE.match(value):
            raise ValueError(
                "this is not the name of an environment variable. A webhook's URL is a secret: put "
                "it into a variable, and its name here, like `SLACK_WEBHOOK`"
            )
        return value

    @model_validator(mode="after")
    def _somebody_is_told(self) -> "AlertsDeclaration":
        if not (self.email or self.slack or self.webhook):
            raise ValueError("nobody is told: name `email`, `slack` or `webhook`")
        return self
