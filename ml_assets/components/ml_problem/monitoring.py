"""What watches live rows, and what follows: assets with checks, and the sensors that start runs."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.components.ml_problem import checks
from ml_assets.components.ml_problem.assets import common, key_of, round_of
from ml_assets.components.ml_problem.decisions import changed
from ml_assets.components.ml_problem.job import job_of
from ml_assets.components.ml_problem.step import careful, retried
from ml_assets.digest import digest_of
from ml_assets.errors import MLAssetsError
from ml_assets.problem import Problem
from ml_assets.resources.stores import Stores

if TYPE_CHECKING:
    from ml_assets.retraining import PastRun
    from ml_assets.round.monitoring import MonitoringMade

EVERY_SECONDS = 30
A_DAY = 86400.0  # a look at least once a day: that nothing comes is seen only by looking
MOST_RUNS = 200  # of the past that are looked at
FOR_DATASET, FOR_ROWS, WHY = "ml_assets/retrain_for", "ml_assets/retrain_rows", "ml_assets/why"
# the claims of round.monitoring and round.successor, which are heavy to import
CLAIMS = (
    "live_performance_holds",
    "estimated_performance_holds",
    "features_are_spread_alike",
    "answers_are_spread_alike",
    "inputs_are_as_in_training",
    "predictions_keep_coming",
    "labels_keep_coming",
)
PREDECESSOR = "predecessor_is_not_better"


def build_monitoring(
    problem: Problem, folder: Path | None, stores: Stores, job: Any
) -> tuple[list[dg.AssetsDefinition], dg.SensorDefinition, dg.SensorDefinition]:
    """It returns the assets that watch a problem, and the sensors that look and that retrain."""
    keys = [
        key_of(problem, name) for name in ("monitoring", "rollback_decision", "retrain_decision")
    ]
    watching = job_of(
        problem,
        f"{problem.name}_monitoring",
        dg.AssetSelection.assets(*keys),
        description=f"Look at the live rows of {problem.name}, and decide what follows.",
        executor_def=dg.in_process_executor,
    )
    assets = [
        _monitoring(problem, folder),
        _rollback_decision(problem, folder),
        _retrain_decision(problem),
    ]
    return assets, _watcher(problem, stores, watching), _retrainer(problem, stores, job)


def _monitoring(problem: Problem, folder: Path | None) -> dg.AssetsDefinition:
    key = key_of(problem, "monitoring")
    after = [key_of(problem, "production_model")]
    after += [key_of(problem, "predictions")] if problem.predictions is not None else []

    @dg.asset(
        key=key,
        deps=after,
        description="The champion's live rows, window by window: how good it is where labels have "
        "come and how good it is likely to be elsewhere, and whether features and predictions are "
        "spread as they were. A check warns when so many of the last windows, and the latest, show it.",
        code_version=digest_of(problem.watched(), problem.retrain.on_drift),
        check_specs=[checks.spec(key, name, "warn") for name in CLAIMS],
        **common(problem, {"scikitlearn"}, follows=False),
        **retried(),
    )
    @careful(problem, "monitoring")
    def monitoring(
        context: dg.AssetExecutionContext, ml_assets: dg.ResourceParam[Stores]
    ) -> Iterator[Any]:
        from ml_assets.round.monitoring import make_monitoring

        made = make_monitoring(round_of(context, problem, folder, ml_assets))
        for verdict in made.verdicts:
            said = "ok" if verdict.passed else "WARNS"
            context.log.info(f"{said} {verdict.name}: {verdict.reason}")
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(made.mark), metadata=of_monitoring(made)
        )
        yield from checks.results(key, made.verdicts)

    return monitoring


def of_monitoring(made: "MonitoringMade") -> dict[str, Any]:
    """It returns what is shown of live rows."""
    from base64 import b64encode

    from ml_assets.card.watched import picture
    from ml_assets.components.ml_problem.metadata import table
    from ml_assets.round.predictions import stamp

    shown: dict[str, Any] = {
        "model_version": made.version,
        "live_rows": made.rows,
        "windows": len(made.windows),
        "labels": made.labels,
        "alarms": dg.MetadataValue.md("\n\n".join(a.reason for a in made.alarms) or "None."),
    }
    if not made.windows:
        return shown
    drawn = b64encode(picture(made.windows, made.metric, made.columns)).decode()
    names = ("performance", "estimate", "features", "predictions")
    lines = []
    for w in reversed(made.windows):
        answers = [w.answers[a] for a in names]  # type: ignore[index]
        cells = [
            "" if a.value is None else f"{a.value:.4g}{' !' if a.violated else ''}" for a in answers
        ]
        lines.append((w.number, stamp(w.first), w.rows, w.labelled, *cells))
    head = ("window", "from", "rows", "labelled", made.metric, "estimated", "drifted", "distance")
    shown["picture"] = dg.MetadataValue.md(f"![live rows](data:image/svg+xml;base64,{drawn})")
    shown["by_window"] = dg.MetadataValue.md(table(head, lines))
    if made.columns:
        columns = [
            (
                c.name,
                f"{c.distance:.3f}",
                f"{c.p:.2g}",
                "yes" if c.drifted else "",
                c.missing[1],
                c.unseen[1],
            )
            for c in made.columns
        ]
        head = ("feature", "distance", "by chance", "drifted", "missing", "unseen")  # type: ignore[assignment]
        shown["features"] = dg.MetadataValue.md(table(head, columns))
    return shown


def _rollback_decision(problem: Problem, folder: Path | None) -> dg.AssetsDefinition:
    key = key_of(problem, "rollback_decision")

    @dg.asset(
        key=key,
        deps=[key_of(problem, "monitoring")],
        description="A fresh champion against its predecessor, on the live rows that it answered "
        "and whose labels have come. If the predecessor did better, beyond noise, it serves again, "
        "unless `monitoring.rollback` says otherwise.",
        code_version=digest_of(problem.watched(), problem.promotion.mode),
        check_specs=[checks.spec(key, PREDECESSOR, "warn")],
        **common(problem, {"scikitlearn"}, follows=False),
        **retried(),
    )
    @careful(problem, "rollback_decision")
    def rollback_decision(
        context: dg.AssetExecutionContext, ml_assets: dg.ResourceParam[Stores]
    ) -> Iterator[Any]:
        from ml_assets.round.successor import watch_successor

        made = watch_successor(round_of(context, problem, folder, ml_assets))
        context.log.info(made.verdicts[0].reason)
        if made.entry is not None:
            context.log_event(changed(problem.name, made.entry, "Rolled back by itself"))
        said = "rolled back" if made.entry else "kept"
        yield dg.MaterializeResult(metadata={"decision": said, "reason": made.verdicts[0].reason})
        yield from checks.results(key, made.verdicts)

    return rollback_decision


def _retrain_decision(problem: Problem) -> dg.AssetsDefinition:
    @dg.asset(
        key=key_of(problem, "retrain_decision"),
        deps=[key_of(problem, "monitoring"), key_of(problem, "rollback_decision")],
        description="Whether a run starts by itself, and why, or what it waits for. The sensor "
        f"`{problem.name}_retrain` asks the same every half a minute, and starts it.",
        code_version=digest_of(problem.retrain),
        **common(problem, {"python"}, follows=False),
        **retried(),
    )
    @careful(problem, "retrain_decision")
    def retrain_decision(
        context: dg.AssetExecutionContext, ml_assets: dg.ResourceParam[Stores]
    ) -> Iterator[Any]:
        from ml_assets.round.retraining import make_retraining

        runs = past_runs(context.instance, problem.name)
        made = make_retraining(problem, ml_assets, runs, time.time())
        context.log.info(f"{type(made.decision).__name__}: {made.decision.reason}")
        yield dg.MaterializeResult(
            metadata={
                "decision": type(made.decision).__name__.lower(),
                "reason": made.decision.reason,
                "new_rows": made.situation.new_rows,
                "alarms": len(made.situation.alarms),
            }
        )

    return retrain_decision


def past_runs(instance: dg.DagsterInstance, problem: str) -> "list[PastRun]":
    """It returns the runs of a problem's job that could decide about production, newest first."""
    from ml_assets.retraining import PastRun

    records = instance.get_run_records(dg.RunsFilter(job_name=problem), limit=MOST_RUNS)
    production = dg.AssetKey([problem, "production_model"])
    found = []
    for record in records:
        run, chosen = record.dagster_run, record.dagster_run.asset_selection
        if chosen and production not in chosen:
            continue
        dataset, rows = run.tags.get(FOR_DATASET, ""), int(run.tags.get(FOR_ROWS, 0))
        began = record.create_timestamp.timestamp()
        found.append(PastRun(began, not run.is_finished, dataset, rows))
    return found


def _watcher(problem: Problem, stores: Stores, job: Any) -> dg.SensorDefinition:
    declared = problem.watched()
    assert declared is not None

    @dg.sensor(
        name=f"{problem.name}_live_rows",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks at the live rows of {problem.name} when predictions or labels have come, "
        f"at most every {declared.every:.0f} s.",
        tags={"ml_assets/problem": problem.name},
    )
    def live_rows(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from ml_assets.retraining import in_words
        from ml_assets.round.mark import live_mark

        try:
            if stores.ledger.champion(problem.name) is None:
                return dg.SkipReason(f"{problem.name} has no champion yet to be watched.")
        except MLAssetsError as error:
            return dg.SkipReason(str(error))
        now, here = time.time(), live_mark(problem.name, stores)
        last: dict[str, Any] = json.loads(context.cursor or '{"mark": "", "at": 0.0}')
        since, least = now - last["at"], declared.every
        most = min(declared.silence or A_DAY, A_DAY)
        if here == last["mark"] and since < max(most, least):
            return dg.SkipReason("No prediction and no label has come since the last look.")
        if since < least:
            told = (
                f"The last look was {in_words(since)} ago; `every` is {in_words(declared.every)}."
            )
            return dg.SkipReason(told)
        cursor = json.dumps({"mark": here, "at": now})
        key = digest_of(problem.name, here, now)
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key)], cursor=cursor)

    return live_rows


def _retrainer(problem: Problem, stores: Stores, job: Any) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{problem.name}_retrain",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Starts a run of {problem.name} when drift, decay or new rows ask for it; else "
        "it says what it waits for.",
        tags={"ml_assets/problem": problem.name},
    )
    def retrain(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from ml_assets.retraining import Wait
        from ml_assets.round.retraining import make_retraining

        runs = past_runs(context.instance, problem.name)
        try:
            made = make_retraining(problem, stores, runs, time.time())
        except MLAssetsError as error:
            return dg.SkipReason(str(error))
        reason, situation = made.decision.reason, made.situation
        if isinstance(made.decision, Wait):
            return dg.SkipReason(reason)
        context.log.info(reason)
        tags = {FOR_DATASET: situation.dataset, FOR_ROWS: str(situation.rows), WHY: reason[:240]}
        key = digest_of(problem.name, situation.dataset, len(runs))
        return dg.SensorResult(run_requests=[dg.RunRequest(run_key=key, tags=tags)])

    return retrain
