"""What starts a round by the clock, and what follows by itself where automation is declared."""

from typing import Any

import dagster as dg

from ml_assets.components.ml_problem.job import job_of
from ml_assets.problem import Problem

WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]


def build_schedule(problem: Problem, job: Any) -> dg.ScheduleDefinition | None:
    """It returns what starts a problem's job at its times; None where none is declared."""
    cron = problem.retrain.schedule
    if cron is None:
        return None

    @dg.schedule(
        name=f"{problem.name}_schedule",
        job=job,
        cron_schedule=cron,
        execution_timezone=problem.retrain.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Bring {problem.name} up to date at `{cron}` ({problem.retrain.timezone}).",
    )
    def at_its_time(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        asked = dg.RunsFilter(job_name=job.name, statuses=WAITING)
        if context.instance.get_runs(asked, limit=1):
            return dg.SkipReason("A run waits in the queue already, and will do the same.")
        return dg.RunRequest()

    return at_its_time


def following(problem: Problem) -> dg.AutomationCondition | None:
    """It returns when an asset is brought up to date by itself; None where that is not declared.

    Dagster's own `eager` goes on after a failed blocking check, and when nothing changed: here
    the data version of what an asset is made from has to change, and its checks have to pass.
    """
    if not problem.retrain.automation:
        return None
    condition = dg.AutomationCondition
    changed = condition.any_deps_match(
        condition.data_version_changed() | condition.will_be_requested()
    )
    eager = condition.eager().replace("any_deps_updated", changed)
    return (eager & condition.all_deps_blocking_checks_passed()).with_label(
        "what it is made from changed, and passed its checks"
    )


def build_automation(problem: Problem) -> dg.AutomationConditionSensorDefinition | None:
    """It returns what asks those conditions, and starts one run for all that is due."""
    if not problem.retrain.automation:
        return None
    return dg.AutomationConditionSensorDefinition(
        f"{problem.name}_automation",
        target=dg.AssetSelection.key_prefixes([problem.name]),
        default_status=dg.DefaultSensorStatus.RUNNING,
        run_tags={"ml_assets/problem": problem.name},
        description=f"What follows in {problem.name} when its dataset changed.",
    )


def build_trigger(problem: Problem, whole: Any) -> Any:
    """It returns the job that data and clock start: the whole one, or only the dataset's."""
    if not problem.retrain.automation:
        return whole
    keys = [dg.AssetKey([problem.name, noun]) for noun in ("dataset", "quarantine")]
    there = keys if problem.dataset.is_landing else keys[:1]
    return job_of(
        problem,
        f"{problem.name}_dataset",
        dg.AssetSelection.assets(*there),
        description=f"Bring the dataset of {problem.name} up to date; the rest follows by itself.",
    )
