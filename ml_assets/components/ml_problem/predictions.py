"""Predictions as an asset: files that arrive are scored with the champion, each once."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.components.ml_problem import checks
from ml_assets.components.ml_problem.assets import common, key_of, round_of
from ml_assets.components.ml_problem.job import job_of
from ml_assets.components.ml_problem.sensor import request
from ml_assets.components.ml_problem.step import careful, retried
from ml_assets.digest import digest_of
from ml_assets.errors import MLAssetsError, counted
from ml_assets.problem import Problem
from ml_assets.resources.stores import Stores

EVERY_SECONDS = 10


def build_predictions(
    problem: Problem, folder: Path | None, stores: Stores
) -> tuple[dg.AssetsDefinition, dg.SensorDefinition]:
    """It returns the asset of a problem's predictions, and the sensor that starts its job."""
    key = key_of(problem, "predictions")
    job = job_of(
        problem,
        f"{problem.name}_predictions",
        dg.AssetSelection.assets(key),
        description=f"Score the files that arrived for {problem.name} with its champion.",
        executor_def=dg.in_process_executor,
    )
    return _asset(problem, folder, key), _sensor(problem, stores, job)


def _asset(problem: Problem, folder: Path | None, key: dg.AssetKey) -> dg.AssetsDefinition:
    declared = problem.predictions
    assert declared is not None

    @dg.asset(
        key=key,
        deps=[key_of(problem, "production_model")],
        description=f"The files of `{declared.path}`, scored with the champion into "
        f"`{declared.output}`: each content once by each version. A row that cannot be scored keeps "
        "its place and says why.",
        code_version=digest_of(declared),
        output_required=False,
        check_specs=[
            checks.spec(key, name, "warn")
            for name in ("every_input_is_scored", "every_row_is_scored")
        ],
        **common(problem, {declared.format.split(".")[0]}, follows=False),
        **retried(),
    )
    @careful(problem, "predictions")
    def predictions(
        context: dg.AssetExecutionContext, ml_assets: dg.ResourceParam[Stores]
    ) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.round.predictions import make_predictions

        made = make_predictions(round_of(context, problem, folder, ml_assets))
        for verdict in made.verdicts:
            context.log.info(f"{verdict.name}: {verdict.reason}")
        if not made.reused:
            yield dg.MaterializeResult(
                data_version=dg.DataVersion(made.mark), metadata=metadata.of_predictions(made)
            )
        yield from checks.results(key, made.verdicts)

    return predictions


def _sensor(problem: Problem, stores: Stores, job: Any) -> dg.SensorDefinition:
    assert problem.predictions is not None

    @dg.sensor(
        name=f"{problem.name}_new_inputs",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Scores the files that arrive in `{problem.predictions.path}`, and scores them "
        "again when the champion changed, unless `rescore` is false.",
        tags={"ml_assets/problem": problem.name},
    )
    def new_inputs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        return _looked(context, problem, stores)

    return new_inputs


def _looked(
    context: dg.SensorEvaluationContext, problem: Problem, stores: Stores
) -> dg.SensorResult | dg.SkipReason:
    """It compares one listing and the champion with the last; nothing is opened."""
    from ml_assets.landing import look_for, marked

    try:
        entry = stores.ledger.champion(problem.name)
        if entry is None:
            return dg.SkipReason(f"{problem.name} has no champion yet to score with.")
        found = look_for(problem, stores.root, time.time())
    except MLAssetsError as error:
        return dg.SkipReason(str(error))
    here = marked(found, entry["digest"])
    waiting = "".join(f" {name}: {why}." for name, why in list(found.waiting.items())[:5])
    what = counted(len(found.arrived), "file")
    if not found.arrived and not found.refused:
        return dg.SkipReason(f"No file has arrived.{waiting}")
    if (stores.lake.noted(problem.name, "inputs") or {}).get("mark") == here:
        told = f"Nothing is new to version {entry['version']} among {what}.{waiting}"
        return dg.SensorResult(skip_reason=told, cursor=here)
    if any("moment ago" in why for why in found.waiting.values()):
        return dg.SkipReason(f"Something is still being written.{waiting}")
    return request(context, f"{problem.name}_predictions", here, entry["digest"], what)
