"""Home: the folder that holds all state, found by configuration or beside ``workspace.yaml``."""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

# What a step on another machine is told of the database: it is to find the address itself.
DATABASE_AT = "ML_ASSETS_DATABASE_AT"


@dataclass(frozen=True)
class Home:
    """Where a project and its state are.

    Attributes:
        root: the project's folder; relative data paths start here.
        path: the state's folder (ML_ASSETS_HOME, default `.ml_assets` in the root).
    """

    root: Path
    path: Path

    @property
    def lake(self) -> Path:
        """Tables and files, by content."""
        return self.path / "lake"

    @property
    def ledger(self) -> Path:
        """The histories of promotions."""
        return self.path / "ledger"

    @property
    def alerts(self) -> Path:
        """Messages that are to be sent."""
        return self.path / "alerts"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.path / "mlflow"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking URI: MLFLOW_TRACKING_URI, or SQLite in this home."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def mlflow_server(self) -> str | None:
        """The address of somebody's MLflow server, where MLFLOW_TRACKING_URI names one.

        Without the name and the password that may stand in it: it is shown.
        """
        parts = urlsplit(self.tracking_uri)
        if parts.scheme not in ("http", "https"):
            return None
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")

    @property
    def database_url(self) -> str | None:
        """The address of the database that holds ledger and locks; None where files do.

        ML_ASSETS_DATABASE_URL.
        """
        return os.environ.get("ML_ASSETS_DATABASE_URL") or None

    @property
    def lake_url(self) -> str | None:
        """Where the lake is kept, like `s3://bucket/prefix`; None where this home's folder is it.

        ML_ASSETS_LAKE.
        """
        return os.environ.get("ML_ASSETS_LAKE") or None

    @property
    def database_at(self) -> str | None:
        """Where that database is, without name and password: it is shown."""
        if self.database_url is None:
            return None
        return without_password(self.database_url)

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME, unless it is set."""
        given = os.environ.get("DAGSTER_HOME")
        return Path(given) if given else self.path / "dagster"


def without_password(url: str) -> str:
    """It returns where a database is, to be shown: without name, password and options."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def find_root(start: Path | None = None) -> Path:
    """It returns the project's folder: ML_ASSETS_ROOT, or the nearest upward that holds a project.

    That is one with a workspace.yaml, else one with a pyproject.toml, else this one.
    """
    given = os.environ.get("ML_ASSETS_ROOT")
    if given and start is None:
        return Path(given).resolve()
    here = (start or Path.cwd()).resolve()
    for mark in ("workspace.yaml", "pyproject.toml"):
        for folder in (here, *here.parents):
            if (folder / mark).is_file():
                return folder
    return here


def find_home(root: Path | None = None) -> Home:
    """It returns the home of a project."""
    root = (root or find_root()).resolve()
    given = os.environ.get("ML_ASSETS_HOME")
    return Home(root, Path(given).resolve() if given else root / ".ml_assets")


def problems_folder(root: Path) -> Path:
    """It returns the folder of problems: ML_ASSETS_DEFS, default `ml_assets/defs` in the root."""
    given = os.environ.get("ML_ASSETS_DEFS")
    return Path(given).resolve() if given else root / "ml_assets" / "defs"
