"""Parameters of a run, as the launchpad shows them: typed, described, with what is declared as default."""

from typing import Any

import dagster as dg

from ml_assets.gates import challenger as gates
from ml_assets.problem import Parameters, Problem, parameters


def resource_of(problem: Problem) -> str:
    """It returns the name of the resource that holds a run's parameters."""
    return f"{problem.name}_parameters"


def build_parameters(problem: Problem) -> dg.ResourceDefinition:
    """It returns what every step of a run reads its parameters from."""
    return dg.ResourceDefinition(
        resource_fn=_given,
        config_schema=_schema(problem),
        description=f"What one run of {problem.name} does otherwise than declared. With nothing "
        "changed it is a run like any other; else it compares, and promotes only when told to.",
    )


def run_config(problem: Problem, given: Parameters) -> dict[str, Any]:
    """It returns the run config that sets these parameters."""
    said = given.model_dump(mode="json", exclude_defaults=True)
    return {"resources": {resource_of(problem): {"config": said}}} if said else {}


def variants(problem: Problem) -> dg.DynamicPartitionsDefinition:
    """It returns the partitions of a backfill over several parameters: one run for each.

    A partition is named by what it sets: ``candidates.random_forest.n_estimators=300; seed=1``.
    """
    return dg.DynamicPartitionsDefinition(name=f"{problem.name}_variants")


def config_of_variants(problem: Problem) -> "dg.PartitionedConfig[Any]":
    """It returns what makes a partition's name the run config of its run."""

    def config(name: str) -> dict[str, Any]:
        settings = [s.strip() for s in name.split(";") if s.strip()]
        return run_config(problem, parameters(settings))

    return dg.PartitionedConfig(variants(problem), run_config_for_partition_key_fn=config)


def given_to(context: Any, problem: Problem) -> Parameters:
    """It returns the parameters of the run that a step belongs to."""
    given: Parameters = getattr(context.resources, resource_of(problem))
    return given


def _given(context: dg.InitResourceContext) -> Parameters:
    config = {k: v for k, v in context.resource_config.items() if v is not None}
    return Parameters(**config)


def _schema(problem: Problem) -> dict[str, dg.Field]:
    fields = Parameters.model_fields

    def field(name: str, kind: Any, default: Any = None) -> dg.Field:
        about = fields[name].description
        if default is None:
            return dg.Field(dg.Noneable(kind), is_required=False, description=about)
        return dg.Field(kind, default_value=default, description=about)

    candidates = {
        name: dg.Field(dg.Permissive(), default_value=dict(c.params), description=c.estimator)
        for name, c in problem.contenders().items()
    }
    thresholds = {
        name: dg.Field(
            dg.Permissive(),
            default_value=g.model_dump(exclude_unset=True, exclude={"beats", "metric", "mode"}),
            description=type(g).__doc__,
        )
        for name, g in gates.named(problem).items()
    }
    return {
        "data": field("data", str),
        "dataset_version": field("dataset_version", str),
        "only": field("only", [str], []),
        "candidates": field("candidates", dg.Shape(candidates), {}),
        "gates": field("gates", dg.Shape(thresholds), {}),
        "transform": field("transform", str),
        "threshold": field("threshold", dg.Any),
        "class_weight": field("class_weight", str),
        "select": field("select", str),
        "seed": field("seed", int),
        "promote": field("promote", bool, False),
    }
