"""The canary as an asset: looked at when labels have come, promoted or withdrawn by itself."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

from ml_assets.components.ml_problem import checks
from ml_assets.components.ml_problem.assets import common, key_of, round_of
from ml_assets.components.ml_problem.decisions import changed
from ml_assets.components.ml_problem.job import job_of
from ml_assets.components.ml_problem.sensor import request
from ml_assets.components.ml_problem.step import careful, retried
from ml_assets.digest import digest_of
from ml_assets.errors import MLAssetsError
from ml_assets.problem import Problem
from ml_assets.resources.ledger import PROMOTION
from ml_assets.resources.stores import Stores

EVERY_SECONDS = 10
CHECKS = ("canary_can_be_compared", "canary_is_not_worse")


def build_canary(
    problem: Problem, folder: Path | None, stores: Stores
) -> tuple[dg.AssetsDefinition, dg.SensorDefinition]:
    """It returns the asset of a problem's canary, and the sensor that starts its job."""
    key = key_of(problem, "canary")
    job = job_of(
        problem,
        f"{problem.name}_canary",
        dg.AssetSelection.assets(key),
        description=f"Look at the canary of {problem.name}, where that is due.",
        executor_def=dg.in_process_executor,
    )
    return _asset(problem, folder, key), _sensor(problem, stores, job)


def _asset(problem: Problem, folder: Path | None, key: dg.AssetKey) -> dg.AssetsDefinition:
    declared = problem.promotion
    part = f"{declared.share:.0%} of the rows" if declared.share else "nothing, as a shadow"

    @dg.asset(
        key=key,
        deps=[key_of(problem, "dataset")],
        description=f"The challenger that answers {part} beside the champion, until labelled live rows "
        "decide. A materialization means that it was looked at, promoted or withdrawn.",
        code_version=digest_of(declared),
        output_required=False,
        check_specs=[checks.spec(key, name, "warn") for name in CHECKS],
        **common(problem, {"scikitlearn", "mlflow"}, follows=False),
        **retried(),
    )
    @careful(problem, "canary")
    def canary(
        context: dg.AssetExecutionContext, ml_assets: dg.ResourceParam[Stores]
    ) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.gates import Verdict
        from ml_assets.round.canary import make_canary

        round_ = round_of(context, problem, folder, ml_assets)
        here = mark_of(problem, ml_assets, round_.clock())
        made = make_canary(round_)
        ml_assets.lake.note(problem.name, "canary", {"mark": here})
        reason = made.decision.reason if made.decision else "There is no canary."
        context.log.info(f"{type(made.decision).__name__}: {reason}")
        if made.written is not None:
            yield dg.MaterializeResult(metadata=metadata.of_canary(made))
            if made.written["event"] == PROMOTION:
                context.log_event(changed(problem.name, made.written, "Promoted from canary"))
        told = {v.name: v for v in made.verdicts}
        for name in CHECKS:
            said = told.get(name) or Verdict(name, True, "There is no canary.", {}, "warn")
            yield from checks.results(key, [said])

    return canary


def mark_of(problem: Problem, stores: Stores, now: float) -> str:
    """It returns a name for the canary and all that may decide about it; nothing large is read."""
    canary = stores.ledger.canary(problem.name)
    if not canary:
        return ""
    over = now >= canary[0]["at"] + canary[0]["terms"]["longest"]
    try:
        dataset = stores.lake.current(problem.name, "dataset").digest
    except MLAssetsError:
        dataset = ""
    return digest_of(canary[0]["number"], dataset, over)


def _sensor(problem: Problem, stores: Stores, job: Any) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"{problem.name}_canary_is_due",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Looks at the canary of {problem.name} when labels came, or its time is over.",
        tags={"ml_assets/problem": problem.name},
    )
    def canary_is_due(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            here = mark_of(problem, stores, time.time())
            noted = (stores.lake.noted(problem.name, "canary") or {}).get("mark")
        except MLAssetsError as error:
            return dg.SkipReason(str(error))
        if not here:
            return dg.SkipReason(f"{problem.name} has no canary.")
        if here == noted:
            told = "The canary was looked at with the labels that there are, and has time left."
            return dg.SensorResult(skip_reason=told, cursor=here)
        # runs that fail are asked for again, a few times an hour: a registry may have been down
        asked = f"{here}-{time.time() // 3600:.0f}"
        return request(context, f"{problem.name}_canary", asked, noted or "", "the canary")

    return canary_is_due
