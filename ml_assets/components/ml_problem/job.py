"""The job: all assets of a problem in one run, each step a process forked from one warm server."""

from typing import Any

import dagster as dg

from ml_assets.components.ml_problem.parameters import config_of_variants, variants
from ml_assets.problem import Problem

# What a step uses: imported once in the fork server, so that a step starts in half a second.
PRELOADED = [
    "dagster",
    "ml_assets.round.production",
    "ml_assets.components.ml_problem.metadata",
    # which import these only when they are used: here they are to be there
    "pandas",
    "pyarrow.csv",
    "pyarrow.parquet",
    "deltalake",
    "sklearn.ensemble",
    "skops.io",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.model_registry.sqlalchemy_store",
    "dagster_mlflow.resources",
]
MOST_STEPS_AT_ONCE = 2
MAX_RUNTIME = "dagster/max_runtime"  # kept by Dagster's run monitoring


def forked() -> dg.ExecutorDefinition:
    """It returns the executor: steps in parallel, forked from a process that has all libraries."""
    server = {"forkserver": {"preload_modules": PRELOADED}}
    return dg.multiprocess_executor.configured(
        {"max_concurrent": MOST_STEPS_AT_ONCE, "start_method": server}
    )


def build_job(problem: Problem, assets: dg.AssetSelection) -> Any:
    """It returns the job of a problem, named like it, that makes these assets."""
    return dg.define_asset_job(
        problem.name,
        selection=assets,
        description=f"Bring {problem.name} up to date: data, candidates, decision.",
        executor_def=forked(),
        tags=tags_of(problem),
    )


def tags_of(problem: Problem) -> dict[str, str]:
    """It returns the tags of a round's run: whose it is, and how long it may take."""
    limit = problem.limits.run
    return {
        "ml_assets/problem": problem.name,
        **({MAX_RUNTIME: f"{limit:.0f}"} if limit is not None else {}),
    }


def build_variants(problem: Problem, assets: dg.AssetSelection) -> Any:
    """It returns the job of a backfill: one run for each set of parameters, none promotes."""
    return dg.define_asset_job(
        f"{problem.name}_variants",
        selection=assets,
        description=f"Compare variants of {problem.name}: each partition is a run with other "
        "parameters, named by them, like `candidates.random_forest.n_estimators=300; seed=1`.",
        executor_def=forked(),
        tags={**tags_of(problem), "dagster/priority": "-1"},  # rounds go first
        partitions_def=variants(problem),
        config=config_of_variants(problem),
    )
