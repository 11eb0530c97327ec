"""The stores of a project: lake, ledger and registry, opened once per process."""

import functools
import os
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ml_assets.errors import DeclarationError
from ml_assets.resources.home import DATABASE_AT, Home
from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.registry import Registry
from ml_assets.verification import Waiting

if TYPE_CHECKING:
    from ml_assets.resources.database import Database


@dataclass(frozen=True)
class Stores:
    """What assets read from and write to: the Dagster resource `ml_assets`.

    Attributes:
        root: the project's folder; relative data paths start here.
        lake: tables and files.
        ledger: the history of decisions.
        registry: MLflow.
        fits: fits of this process that were begun and are not kept yet, by candidate's key.
        waiting: the clean process that was begun before this process fitted anything, if any.
    """

    root: Path
    lake: Lake
    ledger: Ledger
    registry: Registry
    fits: "dict[str, Future[Any]]" = field(default_factory=dict, repr=False, compare=False)
    waiting: list[Waiting] = field(default_factory=list, repr=False, compare=False)

    def let_go(self) -> None:
        """It ends the process that waits, when nothing was promoted and so nobody asked it."""
        while self.waiting:
            self.waiting.pop().end()


@functools.cache
def open_stores(home: Home) -> Stores:
    """It returns the stores of a home: the same objects each time, so definitions merge."""
    ui = os.environ.get("ML_ASSETS_MLFLOW_UI") or home.mlflow_server or "http://127.0.0.1:5000"
    uri = _signed_in(home.tracking_uri)
    if (told := os.environ.get(DATABASE_AT)) and told != home.database_at:
        raise DeclarationError(
            f"This step belongs to a run whose ledger is in {told}, and ML_ASSETS_DATABASE_URL of this "
            f"machine names {home.database_at or 'no database'}. Start Ray here with it set."
        )
    if home.database_url is None and home.lake_url is not None:
        raise DeclarationError(
            "ML_ASSETS_LAKE needs ML_ASSETS_DATABASE_URL too: locks that hold on all machines that use it."
        )
    if home.database_url is None:
        return Stores(
            home.root, Lake(home.lake), Ledger(home.ledger), Registry(uri, home.mlflow, ui)
        )
    from ml_assets.resources.database import Database
    from ml_assets.resources.ledger_database import DatabaseLedger

    database = Database(home.database_url)
    return Stores(
        home.root,
        _lake(home, database),
        DatabaseLedger(home.ledger, database),
        Registry(uri, home.mlflow, ui, database),
    )


def _lake(home: Home, database: "Database") -> Lake:
    if home.lake_url is None:
        return Lake(home.lake, database)
    from ml_assets.resources.object_lake import ObjectLake, open_object_store

    return ObjectLake(home.lake, database, store=open_object_store(home.lake_url))


def _signed_in(uri: str) -> str:
    """It returns a server's address without name and password: they go where MLflow looks for them.

    Else they stood in every message about that server.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return uri
    who, _, where = parts.netloc.rpartition("@")
    name, _, password = who.partition(":")
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(name)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(password)
    plain = parts._replace(netloc=where).geturl()
    os.environ["MLFLOW_TRACKING_URI"] = plain  # as processes that are started here see it
    return plain
