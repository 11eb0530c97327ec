"""The job: all assets of a problem in one run."""

from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster_shared.record import as_dict

from ml_assets.components.ml_problem.engine import executor_for, largest
from ml_assets.components.ml_problem.parameters import config_of_variants, variants
from ml_assets.problem import Problem

MAX_RUNTIME = "dagster/max_runtime"  # kept by Dagster's run monitoring


class _OfOneProblem(UnresolvedAssetJobDefinition):
    """A job that is resolved among the assets that it makes and all that come before them.

    Dagster looks through the assets of all problems for each job: of 500 problems, for half a minute.
    """

    def resolve(
        self,
        asset_graph: AssetGraph,
        default_executor_def: dg.ExecutorDefinition | None = None,
        resource_defs: Any = None,
    ) -> dg.JobDefinition:
        """It returns the job, as Dagster can execute it."""
        found: dict[int, dg.AssetsDefinition] = {}
        waiting = sorted(self.selection.resolve(asset_graph))
        while waiting:
            asset = asset_graph.get(waiting.pop()).assets_def
            if id(asset) not in found:
                found[id(asset)] = asset
                waiting += asset.dependency_keys
        few = AssetGraph.from_assets(found.values())
        return super().resolve(few, default_executor_def, resource_defs)


def job_of(problem: Problem, name: str, selection: dg.AssetSelection, **given: Any) -> Any:
    """It returns a job of a problem that makes some of its assets.

    Args:
        problem: the problem.
        name: what the job is called.
        selection: what it makes.
        given: more that Dagster's `define_asset_job` takes.
    """
    given.setdefault("tags", {"ml_assets/problem": problem.name})
    return _OfOneProblem(**as_dict(dg.define_asset_job(name, selection=selection, **given)))


def build_job(problem: Problem, assets: dg.AssetSelection) -> Any:
    """It returns the job of a problem, named like it, that makes these assets."""
    return job_of(
        problem,
        problem.name,
        assets,
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
    return job_of(
        problem,
        f"{problem.name}_variants",
        assets,
        description=f"Compare variants of {problem.name}: each partition is a run with other "
        "parameters, named by them, like `candidates.random_forest.n_estimators=300; seed=1`.",
        executor_def=executor_for([problem]),
        tags={**tags_of(problem), "dagster/priority": "-1"},  # rounds go first
        partitions_def=variants(problem),
        config=config_of_variants(problem),
    )
