"""Retraining: the decision whether a run starts by itself, and why, or what it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml_assets.problem import NewDataRule, RetrainDeclaration
from ml_assets.window import Alarm


@dataclass(frozen=True)
class Retrain:
    """A run is to start.

    Attributes:
        reason: why, as a sentence.
    """

    reason: str


@dataclass(frozen=True)
class Wait:
    """No run is to start now.

    Attributes:
        reason: what is waited for, as a sentence.
    """

    reason: str


@dataclass(frozen=True)
class PastRun:
    """A run of the problem's job, whoever started it.

    Attributes:
        at: when it began, in seconds since 1970.
        going_on: it has not ended.
        dataset: the version of the dataset that it was started for, if it was by this decision.
        rows: the rows of that version.
    """

    at: float
    going_on: bool = False
    dataset: str = ""
    rows: int = 0


@dataclass(frozen=True)
class Situation:
    """All that the decision looks at.

    Attributes:
        now: seconds since 1970.
        dataset: the current version of the dataset.
        rows: its rows.
        learned: rows of the version that the last decision about production was made on; None
            when there was none.
        learned_from: that version.
        alarms: what live rows show.
        runs: the runs that there were, in any order.
    """

    now: float
    dataset: str
    rows: int
    learned: int | None
    learned_from: str = ""
    alarms: Sequence[Alarm] = ()
    runs: Sequence[PastRun] = ()

    @property
    def new_rows(self) -> int:
        """Rows that no run was started for yet."""
        seen = [r.rows for r in self.runs if r.dataset]
        return self.rows - max([self.learned or 0, *seen])


def decide(declared: RetrainDeclaration, situation: Situation) -> Retrain | Wait:
    """It returns whether a run is to start.

    First whether there is a reason at all, then what stands against it: a run that is going on,
    nothing new to learn, the cool-down, the budget.

    Args:
        declared: what starts a run.
        situation: what there is.
    """
    reason, needed = _reason(declared, situation)
    if reason is None:
        return Wait(_nothing(declared, situation))
    if situation.learned is None:
        return Wait(f"{reason} But nothing was decided yet: the first run is somebody's to start.")
    if any(r.going_on for r in situation.runs):
        return Wait(f"{reason} But a run is going on.")
    same = situation.dataset in (
        situation.learned_from,
        *(r.dataset for r in situation.runs if r.dataset),
    )
    if same or situation.new_rows < needed:
        told = "the dataset is the one of the last run" if same else f"{needed:,} are needed"
        return Wait(f"{reason} But {max(situation.new_rows, 0):,} rows are new: {told}.")
    began = sorted(r.at for r in situation.runs)
    since = situation.now - began[-1] if began else float("inf")
    if since < (pause := declared.cool_down):
        return Wait(
            f"{reason} But the last run began {in_words(since)} ago, and `cool_down` is "
            f"{in_words(pause)}: in {in_words(pause - since)}."
        )
    budget = declared.most_runs
    if budget is not None:
        lately = [at for at in began if at > situation.now - budget.per]
        if len(lately) >= budget.runs:
            free = lately[-budget.runs] + budget.per - situation.now
            return Wait(
                f"{reason} But {len(lately)} runs began in the last {in_words(budget.per)}, and `most_runs` "
                f"allows {budget.runs}: in {in_words(free)}."
            )
    return Retrain(f"{reason} {situation.new_rows:,} rows are new since the last run.")


def _reason(declared: RetrainDeclaration, situation: Situation) -> tuple[str | None, int]:
    """It returns why a run should start, and how many new rows it needs; None for no reason."""
    on_new = declared.on_new_data
    if isinstance(on_new, NewDataRule) and situation.new_rows >= on_new.min_new_rows:
        return f"{on_new.min_new_rows:,} new rows are enough for a run.", on_new.min_new_rows
    rule = declared.drift_rule
    if rule is not None and situation.alarms:
        told = (a.reason.split(". ")[0].rstrip(".") for a in situation.alarms)
        return ". ".join(told) + ".", rule.min_new_rows
    return None, 0


def _nothing(declared: RetrainDeclaration, situation: Situation) -> str:
    told = []
    if isinstance(declared.on_new_data, NewDataRule):
        least = declared.on_new_data.min_new_rows
        told.append(f"{max(situation.new_rows, 0):,} of {least:,} new rows are there.")
    if declared.drift_rule is None:
        told.append("Drift starts no run (`on_drift: false`).")
    elif not situation.alarms:
        told.append("Live rows show no lasting drift or decay.")
    return " ".join(told)


def in_words(seconds: float) -> str:
    """It returns a length of time as somebody would say it."""
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {name}"
    return f"{max(seconds, 0):.0f} s"
