"""The stores of a project: lake, ledger and registry, opened once per process."""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from ml_assets.resources.home import Home
from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.registry import Registry


@dataclass(frozen=True)
class Stores:
    """What assets read from and write to: the Dagster resource `ml_assets`.

    Attributes:
        root: the project's folder; relative data paths start here.
        lake: tables and files.
        ledger: the history of decisions.
        registry: MLflow.
    """

    root: Path
    lake: Lake
    ledger: Ledger
    registry: Registry


@functools.cache
def open_stores(home: Home) -> Stores:
    """It returns the stores of a home: the same objects each time, so definitions merge."""
    ui = os.environ.get("ML_ASSETS_MLFLOW_UI", "http://127.0.0.1:5000")
    return Stores(
        home.root,
        Lake(home.lake),
        Ledger(home.ledger),
        Registry(home.tracking_uri, home.mlflow, ui),
    )
