"""The engine: in which processes the steps of a run work.

By default all of them in the run's own: the libraries are imported once, the rows read once, and the
candidates fitted side by side.  A process for each step costs most of a second each.  It is worth that
where a step can be over its time limit, for then its process may have to be ended; and for whoever
asks for it.  Beyond one machine each step is a pod of Kubernetes, or a job on a Ray cluster.
"""

import os
from collections.abc import Iterable
from typing import Any

import dagster as dg

from ml_assets.errors import DeclarationError, did_you_mean
from ml_assets.problem import Problem
from ml_assets.resources.home import DATABASE_AT, find_home, problems_folder

ENGINE = "ML_ASSETS_EXECUTOR"
IN_PROCESS, MULTIPROCESS, KUBERNETES, RAY = "in_process", "multiprocess", "kubernetes", "ray"
ENGINES = (IN_PROCESS, MULTIPROCESS, KUBERNETES, RAY)
CLUSTER = "RAY_ADDRESS"  # Ray's own
OF_A_POD, OF_A_RAY_JOB = "dagster-k8s/config", "dagster-ray/config"
_OF_OTHER_MACHINES = ("ray", "k8s")  # the names of their executors
_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    unit: 1024.0**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)
}
# The name of Dagster's own, when a job is executed where it is called: `ml-assets run`.
_OF_A_COMMAND = "execute_in_process_executor"
# What a step uses: imported once in the fork server, so that its process starts in half a second.
PRELOADED = [
    "scipy.special",  # before Dagster: skops looks for its functions through all that came before
    "skops.io",
    "dagster",
    "ml_assets.round.production",
    "ml_assets.components.ml_problem.metadata",
    # which import these only when they are used: here they are to be there
    "pandas",
    "pyarrow.csv",
    "pyarrow.parquet",
    "deltalake",
    "sklearn.ensemble",
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
    chosen = _chosen()
    if chosen and chosen not in ENGINES:
        raise DeclarationError(
            f"{ENGINE}={chosen}: there is no such engine." + did_you_mean(chosen, ENGINES)
        )
    if chosen == KUBERNETES:
        return _pods()
    if chosen == RAY:
        return _on_ray()
    limited = any(p.limits.has_steps() for p in problems)
    return _forked() if chosen == MULTIPROCESS or limited else dg.in_process_executor


def share_a_process(job: dg.JobDefinition) -> bool:
    """It says whether the steps of a job's run work in one process."""
    return job.executor_def.name in (IN_PROCESS, _OF_A_COMMAND)


def works_elsewhere(job: dg.JobDefinition) -> bool:
    """It says whether the steps of a job's run may work on other machines than the run itself."""
    return job.executor_def.name in _OF_OTHER_MACHINES


def sized(problem: Problem, candidate: str | None = None) -> dict[str, Any]:
    """It returns the tags by which a step asks a cluster for what is declared; none without.

    A pod is also limited to what it asks for: who takes more memory than that takes it from others.
    On Ray a step without a size asks for one core: one that asks for nothing is put on the head.
    """
    asked = problem.resources.of(candidate)
    return {**_of_a_pod(asked), **(_of_a_ray_job(asked) if _chosen() == RAY else {})}


def largest(problem: Problem) -> dict[str, Any]:
    """It returns the tag of the run's own pod, which does all steps where they have none.

    Where candidates differ, the pod is as large as the largest of them asks.
    """
    asked = [problem.resources.of(name) for name in (None, *problem.resources.candidates)]
    most: dict[str, str] = {}
    for noun in ("cpu", "memory"):
        amounts = [a[noun] for a in asked if noun in a]
        if amounts:
            most[noun] = max(amounts, key=_number)
    return _of_a_pod(most)


def _of_a_pod(asked: dict[str, str]) -> dict[str, Any]:
    resources = {"requests": asked, "limits": asked}
    return {OF_A_POD: {"container_config": {"resources": resources}}} if asked else {}


def _of_a_ray_job(asked: dict[str, str]) -> dict[str, Any]:
    size: dict[str, Any] = {"num_cpus": _number(asked.get("cpu", "1"))}
    if "memory" in asked:
        size["memory"] = int(_number(asked["memory"]))
    return {OF_A_RAY_JOB: size}


def _chosen() -> str:
    return os.environ.get(ENGINE) or ""


def _number(amount: str) -> float:
    """It returns an amount of Kubernetes' as a number."""
    digits = amount.rstrip("mkKMGTi")
    return float(digits) * _UNITS[amount[len(digits) :]]


def _pods() -> dg.ExecutorDefinition:
    """It returns what gives each step a pod of its own.

    Raises:
        DeclarationError: dagster-k8s is not installed.
    """
    try:
        from dagster_k8s import k8s_job_executor
    except ImportError:
        raise DeclarationError(
            f"{ENGINE}={KUBERNETES} needs `pip install 'ml_assets[kubernetes]'`."
        ) from None
    return k8s_job_executor


def _on_ray() -> dg.ExecutorDefinition:
    """It returns what makes each step a job on the Ray cluster that RAY_ADDRESS names.

    Sizes are on the steps alone: with dagster-ray 0.4, one of the executor's would win over theirs.

    Raises:
        DeclarationError: dagster-ray is not installed, or no cluster is named.
    """
    try:
        from dagster_ray import ray_executor
    except ImportError:
        raise DeclarationError(f"{ENGINE}={RAY} needs `pip install 'ml_assets[ray]'`.") from None
    address = os.environ.get(CLUSTER)
    if not address:
        raise DeclarationError(
            f"{ENGINE}={RAY} needs {CLUSTER}: where the cluster's head takes jobs, like "
            "`http://head:8265`."
        )
    home = find_home()
    told = {
        # where these agree, steps find the same problems, the same state and the same registry
        ENGINE: RAY,
        "ML_ASSETS_ROOT": str(home.root),
        "ML_ASSETS_HOME": str(home.path),
        "ML_ASSETS_DEFS": str(problems_folder(home.root)),
        # without name and password: who may look at Ray's jobs would see them
        **({"MLFLOW_TRACKING_URI": home.mlflow_server} if home.mlflow_server else {}),
        **({DATABASE_AT: home.database_at} if home.database_at else {}),
        **({"ML_ASSETS_LAKE": home.lake_url} if home.lake_url else {}),
    }
    words = [f"{name}={value}" for name, value in told.items()]
    return ray_executor.configured({"ray": {"address": address, "env_vars": words}})


def _forked() -> dg.ExecutorDefinition:
    """It returns what gives each step a process, forked from one that has all libraries."""
    server = {"forkserver": {"preload_modules": PRELOADED}}
    return dg.multiprocess_executor.configured(
        {"max_concurrent": MOST_STEPS_AT_ONCE, "start_method": server}
    )
