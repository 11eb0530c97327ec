"""A handful of plain builders for tests; every test without the mark `slow` is `fast`."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_assets.dataset import Target, find_target
from ml_assets.problem import DatasetDeclaration, Problem

# Hundreds of small rounds each: quick by themselves, long together.
SLOW = (
    "test_bad_inputs.py",
    "test_live.py",
    "test_mlflow_file.py",
    "test_beside.py",
    "test_server.py",
    "test_arrival.py",
    "test_tuning.py",
    "test_approval.py",
    "test_reproduction.py",
    "test_clean.py",
    "test_parameters.py",
    "test_override.py",
    "test_aliases.py",
    "test_predictions.py",
    "test_rollback.py",
    "test_ensemble.py",
    "test_inspection.py",
    "test_examples.py",
    "test_replaying.py",
    "test_shortcut.py",
    "test_canary_round.py",
    "test_monitoring.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name in SLOW:
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") is None:
            item.add_marker(pytest.mark.fast)


@pytest.fixture(autouse=True)
def _own_tracking_uri() -> Iterator[None]:
    """It takes back what a test let MLFLOW_TRACKING_URI be: MLflow sets it, and later tests inherit it."""
    given = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if given is not None:
        os.environ["MLFLOW_TRACKING_URI"] = given


def dataset(**given: Any) -> DatasetDeclaration:
    """It returns a declared dataset: a path and a target, and what is given."""
    return DatasetDeclaration(**{"path": "data.csv", "target": "y", **given})


def problem(**given: Any) -> Problem:
    """It returns a declared problem: a name and a dataset, and what is given."""
    return Problem(**{"name": "demo", "dataset": dataset(), **given})


def table(rows: int = 80, seed: int = 0, task: str = "binary") -> pd.DataFrame:
    """It returns a mixed table (numbers with gaps, text, dates) whose target `y` can be learned."""
    random = np.random.default_rng(seed)
    amount = random.normal(size=rows)
    colour = random.choice(["red", "green", "blue"], size=rows)
    signal = amount + (colour == "red") + random.normal(scale=0.3, size=rows)
    y: Any = signal
    if task == "binary":
        y = np.where(signal > 0.3, "yes", "no")
    elif task == "multiclass":
        y = np.select([signal < -0.3, signal < 0.8], ["low", "middle"], "high")
    gaps = amount.copy()
    gaps[::7] = np.nan
    return pd.DataFrame(
        {
            "amount": gaps,
            "whole": random.integers(0, 50, size=rows),
            "noise": amount + random.normal(scale=0.1, size=rows),
            "colour": colour.astype(object),
            "day": pd.date_range("2024-01-01", periods=rows, freq="D").astype("datetime64[ns]"),
            "y": y.astype(object) if task != "regression" else y,
        }
    )


def target_of(rows: pd.DataFrame, **given: Any) -> Target:
    """It returns the target `y` of rows."""
    return find_target(rows, dataset(**given), None)


BINARY = Target("binary", "declared", ("no", "yes"), (50, 50), "yes")
MULTICLASS = Target("multiclass", "declared", ("a", "b", "c"), (40, 30, 30))
REGRESSION = Target("regression", "declared")
