"""The job: all assets of a problem in one run."""

from typing import Any

import dagster as dg

from ml_assets.components.ml_problem.engine import executor_for, largest
from ml_assets.components.ml_problem.parameters import config_of_variants, variants
from ml_assets.problem import Problem

MAX_RUNTIME = "dagster/max_runtime"  # kept by Dagster's run monitoring


def build_job(problem: Problem, assets: dg.AssetSelection) -> Any:
    """It returns the job of a problem, named like it, that makes these assets."""
    return dg.define_asset_job(
        problem.name,
        selection=assets,
        description=f"Bring {problem.name} up to date: data, candidates, decision.",
        executor_def=executor_for([problem]),
        tags=tags_of(problem),
    )


def tags_of(problem: Problem) -> dict[str, Any]:
    """It returns the tags of a round's run: whose it is, how long it may take, its pod's size."""
    limit = problem.limits.run
    return {
        "ml_assets/problem": problem.name,
        **({MAX_RUNTIME: f"{limit:.0f}"} if limit is not None else {}),
        **largest(problem),
    }


def build_variants(problem: Problem, assets: dg.AssetSelection) -> Any:
    """It returns the job of a backfill: one run for each set of parameters, none promotes."""
    return dg.define_asset_job(
        f"{problem.name}_variants",
        selection=assets,
        description=f"Compare variants of {problem.name}: each partition is a run with other "
        "parameters, named by them, like `candidates.random_forest.n_estimators=300; seed=1`.",
        executor_def=executor_for([problem]),
        tags={**tags_of(problem), "dagster/priority": "-1"},  # rounds go first
        partitions_def=variants(problem),
        config=config_of_variants(problem),
    )
