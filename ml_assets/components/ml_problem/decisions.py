"""Decisions of people, as jobs: a rollback, and, where promotions need it, an approval.

Each verifies what it is asked for as the command of the same name does; the launchpad shows what
it needs.
"""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from ml_assets.components.ml_problem.assets import round_of
from ml_assets.digest import digest_of
from ml_assets.problem import Problem
from ml_assets.resources.registry import CHALLENGER
from ml_assets.resources.stores import Stores

EVERY_SECONDS = 30
APPROVED = "approved"  # the tag of a version in MLflow


class RollbackConfig(dg.Config):
    """Which champion is to serve again, and why."""

    why: str = Field("", description="The reason; kept in the ledger. Without one it is refused.")
    to: int | None = Field(
        None, description="The version; by default the champion before this one."
    )
    canary: bool = Field(False, description="Withdraw the canary instead; the champion stays.")


class ApprovalConfig(dg.Config):
    """Which challenger may serve, and why."""

    version: int = Field(0, description="The version that waits for approval.")
    why: str = Field("", description="The reason; kept in the ledger. Without one it is refused.")


def build_decisions(problem: Problem, folder: Path | None) -> list[dg.JobDefinition]:
    """It returns the jobs that people decide by."""
    jobs = [_rollback(problem, folder)]
    if problem.promotion.mode in ("approval", "canary"):
        jobs.append(_approve(problem, folder))
    return jobs


def changed(problem: str, entry: dict[str, Any], how: str) -> dg.AssetMaterialization:
    """It returns what says in the UI that the champion changed."""
    shown = {k: entry[k] for k in ("version", "candidate", "reason", "actor", "model_digest")}
    before = entry["previous"] or "none"
    return dg.AssetMaterialization(
        asset_key=[problem, "production_model"],
        description=f"{how}: version {entry['version']}. {entry['reason']}",
        metadata={**shown, "previous_version": before, "event": entry["event"]},
        tags={"dagster/data_version": entry["model_digest"][:16]},
    )


def _rollback(problem: Problem, folder: Path | None) -> dg.JobDefinition:
    @dg.op(name=f"{problem.name}__rollback", out=dg.Out(dg.Nothing))
    def rollback(
        context: dg.OpExecutionContext, config: RollbackConfig, ml_assets: dg.ResourceParam[Stores]
    ) -> None:
        from ml_assets.round.rollback import roll_back

        round_ = round_of(context, problem, folder, ml_assets)
        if config.canary:
            from ml_assets.round.canary import withdraw

            context.log.info(f"Withdrawn: version {withdraw(round_, config.why)['version']}.")
            return
        entry = roll_back(round_, config.to, config.why)
        context.log_event(changed(problem.name, entry, "Rolled back"))

    @dg.job(
        name=f"{problem.name}_rollback",
        description=f"Make an earlier champion of {problem.name} serve again, once it is verified.",
        tags={"ml_assets/problem": problem.name},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        rollback()

    return job


def _approve(problem: Problem, folder: Path | None) -> dg.JobDefinition:
    @dg.op(name=f"{problem.name}__approve", out=dg.Out(dg.Nothing))
    def approve(
        context: dg.OpExecutionContext, config: ApprovalConfig, ml_assets: dg.ResourceParam[Stores]
    ) -> None:
        from ml_assets.round.production import approval

        entry = approval(round_of(context, problem, folder, ml_assets), config.version, config.why)
        context.log_event(changed(problem.name, entry, "Approved"))

    @dg.job(
        name=f"{problem.name}_approve",
        description=f"Let the challenger of {problem.name} that waits"
        + (", a shadow that is better," if problem.promotion.mode == "canary" else "")
        + " become champion, after every gate was asked again.",
        tags={"ml_assets/problem": problem.name},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        approve()

    return job


def build_approvals(problem: Problem, job: Any, stores: Stores) -> dg.SensorDefinition:
    """It returns what approves a challenger that somebody tagged `approved` in MLflow."""

    @dg.sensor(
        name=f"{problem.name}_approved_in_mlflow",
        job=job,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Approves the challenger of {problem.name} when its version in MLflow has the "
        "tag `approved`; the tag's value is the reason.",
        tags={"ml_assets/problem": problem.name},
    )
    def approvals(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        registry, name = stores.registry, problem.name
        number = registry.pointed(name, CHALLENGER)
        if number is None:
            return dg.SkipReason(f"{name} has no challenger.")
        version = registry.version(name, number)
        word = version.tags.get(APPROVED)
        if word is None or word.strip().lower() in ("false", "no", "0"):
            return dg.SkipReason(f"Version {number} has no tag `{APPROVED}`.")
        champion = stores.ledger.champion(name)
        if champion is not None and champion["version"] == number:
            return dg.SkipReason(f"Version {number} is champion already.")
        said = word.strip() if word.strip().lower() not in ("", "true", "yes", "1") else "no reason"
        config = {"version": number, "why": f"Tagged `{APPROVED}` in MLflow: {said}."}
        # asked once for each challenger and word: a refusal is not repeated for ever
        key = digest_of(name, number, version.digest, word, champion and champion["number"])
        context.log.info(f"Version {number} is tagged.")
        request = dg.RunRequest(
            run_key=key, run_config={"ops": {f"{name}__approve": {"config": config}}}
        )
        return dg.SensorResult(run_requests=[request])

    return approvals
