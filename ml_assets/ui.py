"""The user interface: Dagster's webserver and daemon and MLflow's server, as one group of processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import ml_assets
from ml_assets.errors import MLAssetsError
from ml_assets.resources.home import Home
from ml_assets.resources.stores import open_stores


def serve(home: Home, port: int, mlflow_port: int, say: Callable[[str], None]) -> None:
    """It starts all processes on loopback, and ends them when one ends or somebody asks.

    Where MLFLOW_TRACKING_URI names a server, that one is shown, and none is started.

    Args:
        home: the state that they show.
        port: of Dagster's pages.
        mlflow_port: of MLflow's.
        say: where the addresses go.

    Raises:
        MLAssetsError: a port is in use.
    """
    _free("Dagster", "--port", port)
    if home.mlflow_server is None:
        _free("MLflow", "--mlflow-port", mlflow_port)
    client = open_stores(home).registry.client  # makes the store, so that nobody races for it
    assert client
    # A background job of a shell ignores SIGINT, and its children would too: they could not be ended.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    mlflow = home.mlflow_server or f"http://127.0.0.1:{mlflow_port}"
    environment = {
        **os.environ,
        **_findable(),
        # messages link to where their readers see these pages, if somebody said where that is
        "ML_ASSETS_DAGSTER_UI": os.environ.get("ML_ASSETS_DAGSTER_UI", f"http://127.0.0.1:{port}"),
        "ML_ASSETS_MLFLOW_UI": mlflow,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    workspace = home.root / "workspace.yaml"
    where = ["-w", str(workspace)] if workspace.exists() else ["-m", "ml_assets.definitions"]
    dagster = [beside("dagster"), "dev", *where, "-h", "127.0.0.1", "-p", str(port)]
    started = [_start(dagster, home, environment)]
    if home.mlflow_server is None:
        started.append(_start(_mlflow(home, mlflow_port), home, environment))
    ended = "ends both" if home.mlflow_server is None else "ends Dagster's"
    say(f"Dagster: http://127.0.0.1:{port}   MLflow: {mlflow}   (Ctrl-C {ended})")
    _wait(started)


def _free(whose: str, option: str, port: int) -> None:
    """It makes sure that a port is free, before anything is started.

    Raises:
        MLAssetsError: it is not.
    """
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError as error:
            raise MLAssetsError(
                f"Port {port}, for {whose}'s pages, cannot be had ({error.strerror}): perhaps they are "
                f"open already. Choose another with `{option} {port + 10}`."
            ) from None


def _mlflow(home: Home, port: int) -> list[str]:
    """It returns the command of MLflow's server for what is in this home."""
    words = [beside("mlflow"), "server", "--backend-store-uri", home.tracking_uri]
    words += ["--artifacts-destination", (home.mlflow / "artifacts").as_uri()]
    return [*words, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]


def _findable() -> dict[str, str]:
    """It returns what lets Dagster import this package where a project's `ml_assets/defs` is.

    That folder looks like a namespace package, and goes before one that only an editable install's
    import hook knows.
    """
    home = str(Path(ml_assets.__file__).parent.parent)
    if home in sys.path:
        return {}
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([home, known] if known else [home])}


def beside(command: str) -> str:
    """It returns the command that belongs to this Python, or an empty text."""
    own = Path(sys.executable).parent / command
    return str(own) if own.exists() else shutil.which(command) or ""


def _start(
    command: list[str], home: Home, environment: dict[str, str]
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, cwd=home.root, env=environment, start_new_session=True)


def _wait(started: "list[subprocess.Popen[bytes]]") -> None:
    """It waits until one of the processes ends or somebody asks, then ends all of them."""

    def asked(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, asked)
    try:
        while all(p.poll() is None for p in started):
            time.sleep(0.5)
    except KeyboardInterrupt:
        pass
    for process in started:
        _signal_group(process, signal.SIGINT)
    for process in started:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)


def _signal_group(process: "subprocess.Popen[bytes]", what: signal.Signals) -> None:
    try:
        os.killpg(process.pid, what)
    except ProcessLookupError:
        return
