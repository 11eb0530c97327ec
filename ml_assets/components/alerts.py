"""Alerts: what happened to every problem is read from Dagster, the ledger and quarantine, and sent."""

import datetime
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.components.worker import problem_of
from ml_assets.problem import Problem
from ml_assets.resources.home import Home

if TYPE_CHECKING:
    from ml_assets.alert import Ended, Where
    from ml_assets.resources.stores import Stores

EVERY_SECONDS = 30
# A run's end may be written later than it was; what was looked at is remembered, so this is safe.
OVERLAP = 600.0
UI = "ML_ASSETS_DAGSTER_UI"
SEEN = "looked at"  # the outbox's note of up to when runs were looked at
SAYS = {
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
}


def build_alerts(
    problems: Mapping[str, Problem], stores: "Stores", home: Home
) -> dg.SensorDefinition | None:
    """It returns what tells people; None where no problem wants anybody to be told."""
    if not any(p.alerts for p in problems.values()):
        return None

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells whoever `alerts` of a problem names: by mail, to Slack, to a webhook. "
        "Also of what was done outside of runs, as by `ml-assets rollback`.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        told, troubles = tell(context.instance, problems, stores, home)
        for trouble in troubles:
            context.log.error(trouble)
        return dg.SkipReason(" ".join([*told, *troubles]) or "Nothing happened.")

    return alerts


def tell(
    instance: dg.DagsterInstance, problems: Mapping[str, Problem], stores: "Stores", home: Home
) -> tuple[list[str], list[str]]:
    """It gathers what happened and sends what is due.

    Args:
        instance: where runs are recorded.
        problems: all problems by name; those without `alerts` are left out.
        stores: ledger and lake.
        home: where the outbox is.

    Returns:
        What was sent, and what went wrong, as sentences.
    """
    from ml_assets.resources import channel
    from ml_assets.resources.outbox import Outbox
    from ml_assets.round.alert import deliver, gather

    box = Outbox(home.alerts)
    telling = [p for p in problems.values() if p.alerts is not None]
    seen = [box.mark(f"{p.name} {SEEN}") for p in telling]
    since = None if None in seen else min(seen)
    ended, latest = runs_since(instance, list(problems), since)
    told, troubles = [], []
    for problem in telling:
        runs = ended.get(problem.name, [])
        _, trouble = gather(stores, box, problem, runs, where(stores), time.time())
        box.put({}, {f"{problem.name} {SEEN}": latest}, time.time())
        if trouble:
            troubles.append(f"{problem.name}: {trouble}")
    sent, refused = deliver(box, channel.send, time.time)
    told += [f"{m.document['subject']}, by {m.channel}." for m in sent]
    return told, troubles + list(dict.fromkeys(refused.values()))


def where(stores: "Stores") -> "Where":
    """It returns the addresses of links."""
    from ml_assets.alert import Where

    dagster = os.environ.get(UI, "http://127.0.0.1:3000").rstrip("/")
    return Where(dagster, stores.registry.ui.rstrip("/"))


def runs_since(
    instance: dg.DagsterInstance, problems: list[str], since: float | None
) -> tuple[dict[str, "list[Ended]"], float]:
    """It returns the runs that ended since a time, by problem, and the time to ask from next.

    Args:
        instance: where runs are recorded.
        problems: names of the problems.
        since: seconds since 1970; None for all of the last day.
    """
    from ml_assets.round.alert import FIRST_LOOK

    start = (time.time() - FIRST_LOOK if since is None else since) - OVERLAP
    asked = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
        updated_after=datetime.datetime.fromtimestamp(start, datetime.UTC),
    )
    found: dict[str, list[Ended]] = {}
    latest = start + OVERLAP
    for record in instance.get_run_records(asked):
        latest = max(latest, record.update_timestamp.timestamp())
        problem = problem_of(record.dagster_run, problems)
        if problem is None or record.dagster_run.tags.get("dagster/will_retry") == "true":
            continue  # the run that follows it is told of
        found.setdefault(problem, []).append(_ended(instance, record, problem))
    return found, latest


def _ended(instance: dg.DagsterInstance, record: dg.RunRecord, problem: str) -> "Ended":
    from ml_assets.alert import Asked, Ended

    run = record.dagster_run
    gates, errors, reason = [], {}, ""
    for entry in instance.all_logs(run.run_id, of_type=SAYS):
        event = entry.dagster_event
        if event is None:
            continue
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            path = "/".join(check.asset_key.path[1:])
            stops = check.severity == dg.AssetCheckSeverity.ERROR
            said = check.description or check.check_name
            gates.append(Asked(path, check.check_name, check.passed, stops, said))
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE:
            classes, message = _cause(event.step_failure_data.error)
            if "DagsterAssetCheckFailedError" not in classes:  # a gate tells it better
                step = (event.step_key or "").removeprefix(f"{problem}__").split(".")[0]
                errors[step] = message
        else:
            reason = event.message or ""
    failed = run.status == dg.DagsterRunStatus.FAILURE
    at = record.end_time or record.update_timestamp.timestamp()
    return Ended(run.run_id, run.job_name, failed, at, errors, reason, tuple(gates))


def _cause(error: Any) -> tuple[list[str], str]:
    """It returns the classes of an error and of its causes, and what the innermost says."""
    classes, message = [], ""
    while error is not None:
        classes.append(error.cls_name)
        message = error.message.split(": ", 1)[-1].strip() or message
        error = error.cause
    return classes, message
