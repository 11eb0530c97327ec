"""The Dagster components of ml_assets."""

from ml_assets.components.ml_problem.component import MLProblem

__all__ = ["MLProblem"]
