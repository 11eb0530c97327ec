"""The sensor: new data start one run of a problem's job, and every tick without one says why.

A sensor is only a trigger: what comes in, and that it comes in once, is the dataset's affair.
"""

import time
from typing import Any

import dagster as dg

from ml_assets.digest import digest_of
from ml_assets.errors import DatasetError, NotMaterialized, counted
from ml_assets.problem import Problem
from ml_assets.resources.stores import Stores

EVERY_SECONDS = 10
LOOKS_AT = "ml_assets/landing"
MOST_ATTEMPTS = 3
STATUS = dg.DefaultSensorStatus


def build_sensor(problem: Problem, job: Any, stores: Stores) -> dg.SensorDefinition | None:
    """It returns what watches a problem's source; None where nothing can be watched."""
    if problem.dataset.path is None and problem.dataset.asset is None:
        return None
    on = problem.retrain.on_new_data is True or brings_in_only(problem)
    watch = _files if problem.dataset.path is not None else _upstream

    @dg.sensor(
        name=f"{problem.name}_new_data",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=STATUS.RUNNING if on else STATUS.STOPPED,
        description=f"{'Brings in' if brings_in_only(problem) else f'A run of {problem.name}'} "
        f"when `{problem.dataset.source}` has something new.",
        tags={"ml_assets/problem": problem.name},
    )
    def new_data(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        return watch(context, problem, stores)

    return new_data


def brings_in_only(problem: Problem) -> bool:
    """It says whether what arrives is only brought in, and something else decides about a run.

    So it is where live rows are watched, for their labels arrive with it.
    """
    return problem.watched() is not None and problem.retrain.on_new_data is not True


def _files(
    context: dg.SensorEvaluationContext, problem: Problem, stores: Stores
) -> dg.SensorResult | dg.SkipReason:
    """It compares one listing with the last one; nothing is opened unless it differs."""
    from ml_assets.landing import look

    try:
        found = look(stores.root, problem.dataset, time.time())
    except DatasetError as error:
        return dg.SkipReason(str(error))
    here = found.mark()
    waiting = "".join(f" {name}: {why}." for name, why in list(found.waiting.items())[:5])
    noted = (stores.lake.noted(problem.name, "landing") or {}).get("mark")
    what = counted(len(found.arrived), "file")
    if context.cursor == here and noted == here:
        return dg.SkipReason(f"Nothing is new among {what}.{waiting}")
    if noted == here:
        told = f"A run has looked at what is there already: {what}.{waiting}"
        return dg.SensorResult(skip_reason=told, cursor=here)
    if found.waiting and any("moment ago" in why for why in found.waiting.values()):
        return dg.SkipReason(f"Something is still being written.{waiting}")
    before = _current(problem, stores)
    return request(context, problem.name, here, before, what, _only(problem))


def _upstream(
    context: dg.SensorEvaluationContext, problem: Problem, stores: Stores
) -> dg.SensorResult | dg.SkipReason:
    """It looks at the latest materialization, and at the checks that were asked about it."""
    key = dg.AssetKey(str(problem.dataset.asset).split("/"))
    shown = key.to_user_string()
    event = context.instance.get_latest_materialization_event(key)
    if event is None:
        return dg.SkipReason(f"{shown} was never materialized.")
    here = digest_of(event.run_id, event.timestamp)
    if context.cursor == here:
        return dg.SkipReason(f"{shown} was not materialized since.")
    run = context.instance.get_run_by_id(event.run_id)
    if run is not None and not run.is_finished:
        return dg.SkipReason(f"{shown}: its run, and so its checks, are not finished.")
    failed = failed_checks(context, key, event.run_id, event.timestamp)
    if failed:
        return dg.SkipReason(f"{shown}: its checks did not pass: {', '.join(failed[:5])}.")
    before = _current(problem, stores)
    return request(context, problem.name, here, before, shown, _only(problem))


def _only(problem: Problem) -> list[dg.AssetKey] | None:
    """It returns the assets that something new is brought in by; None for all."""
    if not brings_in_only(problem):
        return None
    names = ["dataset", *(["quarantine"] if problem.dataset.is_landing else [])]
    return [dg.AssetKey([problem.name, name]) for name in names]


def failed_checks(
    context: dg.SensorEvaluationContext, key: dg.AssetKey, run_id: str, since: float
) -> list[str]:
    """It returns the checks of an asset that failed, with severity ERROR, on what it is now.

    Args:
        context: of the tick.
        key: the asset.
        run_id: the run that materialized it.
        since: when that was, in seconds since 1970.
    """
    instance = context.instance
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    graph = context.repository_def.asset_graph if context.repository_def else None
    later = graph.get_check_keys_for_assets({key}) if graph is not None else ()
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(later))
    events = [
        *events,
        *(r.event for r in records.values() if r.event and r.event.timestamp >= since),
    ]
    latest: dict[str, Any] = {}
    for event in sorted(events, key=lambda e: e.timestamp):
        if event.dagster_event is not None:
            evaluation = event.dagster_event.asset_check_evaluation_data
            if evaluation.asset_key == key:
                latest[evaluation.check_name] = evaluation
    error = dg.AssetCheckSeverity.ERROR
    return [n for n, e in latest.items() if not e.passed and e.severity == error]


def _current(problem: Problem, stores: Stores) -> str:
    try:
        return stores.lake.current(problem.name, "dataset").digest
    except NotMaterialized:
        return ""


def request(
    context: dg.SensorEvaluationContext,
    job: str,
    here: str,
    before: str,
    what: str,
    only: list[dg.AssetKey] | None = None,
) -> dg.SensorResult | dg.SkipReason:
    """It asks for a run, named by what is there and by the version that it is to replace.

    Args:
        context: of the tick.
        job: the job to be run.
        here: the name of what is there.
        before: the version that is to be replaced, or that is to work.
        what: what is there, in words.
        only: the assets that are to be made; None for all of the job.
    """
    # a run that died before it looked is asked for again, a few times
    asked = dg.RunsFilter(job_name=job, tags={LOOKS_AT: here})
    runs = context.instance.get_runs(asked, limit=MOST_ATTEMPTS)
    if any(not run.is_finished for run in runs):
        return dg.SensorResult(skip_reason=f"{what}: a run is going on.", cursor=here)
    if len(runs) >= MOST_ATTEMPTS:
        told = f"{what}: {len(runs)} runs ended before they looked. Start one by hand."
        return dg.SensorResult(skip_reason=told, cursor=here)
    context.log.info(f"{what}: something is new.")
    key = digest_of(job, here, before, len(runs))
    request = dg.RunRequest(run_key=key, tags={LOOKS_AT: here}, asset_selection=only)
    return dg.SensorResult(run_requests=[request], cursor=here)
