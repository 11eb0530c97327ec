"""The engine: in which processes the steps of a run work.

By default all of them in the run's own: the libraries are imported once, the rows read once, and the
candidates fitted side by side.  A process for each step costs most of a second each.  It is worth that
where a step can be over its time limit, for then its process may have to be ended; and for whoever
asks for it.
"""

import os
from collections.abc import Iterable

import dagster as dg

from ml_assets.errors import DeclarationError, did_you_mean
from ml_assets.problem import Problem

ENGINE = "ML_ASSETS_EXECUTOR"
IN_PROCESS, MULTIPROCESS = "in_process", "multiprocess"
_OF_A_COMMAND = (
    "execute_in_process_executor"  # Dagster's, when a job is executed where it is called
)
# What a step uses: imported once in the fork server, so that its process starts in half a second.
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


def executor_for(problems: Iterable[Problem]) -> dg.ExecutorDefinition:
    """It returns what the steps of these problems are run by.

    Raises:
        DeclarationError: ML_ASSETS_EXECUTOR names no engine.
    """
    chosen = os.environ.get(ENGINE) or ""
    if chosen not in ("", IN_PROCESS, MULTIPROCESS):
        raise DeclarationError(
            f"{ENGINE}={chosen}: there is no such engine."
            + did_you_mean(chosen, (IN_PROCESS, MULTIPROCESS))
        )
    limited = any(p.limits.has_steps() for p in problems)
    return _forked() if chosen == MULTIPROCESS or limited else dg.in_process_executor


def share_a_process(job: dg.JobDefinition) -> bool:
    """It says whether the steps of a job's run work in one process."""
    return job.executor_def.name in (IN_PROCESS, _OF_A_COMMAND)


def _forked() -> dg.ExecutorDefinition:
    """It returns what gives each step a process, forked from one that has all libraries."""
    server = {"forkserver": {"preload_modules": PRELOADED}}
    return dg.multiprocess_executor.configured(
        {"max_concurrent": MOST_STEPS_AT_ONCE, "start_method": server}
    )
