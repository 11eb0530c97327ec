"""A file arrives in the landing zone of a running `ml-assets ui`: the rest happens by itself."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.resources.home import Home
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.table import Table
from ml_assets_tests.e2e.served import (
    CHECKOUT,
    Served,
    command,
    descendants,
    free_port,
    served,
    wait_for,
)
from ml_assets_tests.problems import aged, arrive, rows

pytestmark = pytest.mark.slow

YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  task: binary
  dataset:
    path: landing/*.csv
    target: y
    positive: "yes"
    key: id
    contract: {min_rows: 100, columns: {a: {type: number}, b: {type: number, min: -10}}}
  candidates: {linear: {C: 1.0}}
  transform: none
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "ml_assets" / "defs" / "demo").mkdir(parents=True)
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    (root / "ml_assets" / "defs" / "demo" / "defs.yaml").write_text(YAML)
    arrive(rows(400), root / "landing" / "1.csv")
    return root


def _served(project: Path) -> Any:
    port, mlflow_port = free_port(), free_port()
    words = ["ml-assets", "ui", "--port", str(port), "--mlflow-port", str(mlflow_port)]
    return served(project, words, port, mlflow_port)


@pytest.fixture
def ui(project: Path) -> Iterator[Served]:
    with _served(project) as shown:
        yield shown


def _home(project: Path) -> Home:
    return Home(project, project / ".ml_assets")


def _decisions(project: Path) -> list[dict[str, Any]]:
    entries = Ledger(_home(project).ledger).entries("demo")
    return [e for e in entries if e["event"] in ("promotion", "hold")]


def _table(project: Path) -> Table:
    (folder,) = (_home(project).lake / "demo" / "table").iterdir()
    return Table(folder)


def _runs(project: Path) -> list[dg.DagsterRun]:
    with dg.DagsterInstance.from_config(str(_home(project).dagster)) as instance:
        return list(instance.get_runs())


def _drop_slowly(frame: pd.DataFrame, path: Path, seconds: float) -> None:
    """It writes a file as a slow sender does: in pieces that end in the middle of lines."""
    data = frame.to_csv(index=False).encode()
    with open(path, "wb") as file:
        for i in range(10):
            file.write(data[len(data) * i // 10 : len(data) * (i + 1) // 10])
            file.flush()
            time.sleep(seconds / 10)


def test_a_file_becomes_a_version_a_challenger_and_a_decision(project: Path, ui: Served) -> None:
    (first,) = wait_for("the first decision", lambda: _decisions(project), 180)
    assert first["event"] == "promotion"
    _drop_slowly(rows(600, seed=1, first=400), project / "landing" / "2.csv", 12)
    arrive(rows(50, seed=2, first=2000).drop(columns="a"), project / "landing" / "3.csv")
    wait_for("the second decision", lambda: len(_decisions(project)) > 1, 180)
    wait_for("the end of all runs", lambda: all(r.is_finished for r in _runs(project)), 120)
    second = _decisions(project)[1]
    assert second["dataset_version"] != first["dataset_version"]
    assert second["version"] == 2  # a retrained challenger, registered
    table = _table(project)
    assert [f.rows for f in table.files()] == [400, 600]  # the slow file once, and whole
    answer = command(project, "ml-assets", "quarantine", "demo")
    assert "3.csv" in answer.stdout
    assert "`a` is not there" in answer.stdout


def test_a_killed_daemon_loses_and_repeats_nothing(project: Path) -> None:
    with _served(project) as shown:
        wait_for("the first decision", lambda: _decisions(project), 180)
        wait_for("the end of all runs", lambda: all(r.is_finished for r in _runs(project)), 120)
        before = len(_runs(project))
        arrive(rows(300, seed=1, first=400), project / "landing" / "2.csv")
        # the moment between a tick's request and its launch cannot be hit by waiting: the run's
        # first record is the last sign before it
        wait_for("the request", lambda: len(_runs(project)) > before, 120)
        for pid in descendants(shown.process.pid):
            os.kill(pid, signal.SIGKILL)
    with _served(project):
        arrive(rows(200, seed=2, first=700), project / "landing" / "3.csv")
        wait_for("all rows", lambda: sum(f.rows for f in _table(project).files()) == 900, 240)
        aged(project / "landing" / "3.csv")
        time.sleep(25)  # two more ticks, which must find nothing
    assert sorted(f.rows for f in _table(project).files()) == [200, 300, 400]
    # a run that was killed and goes on in a new one has its key still
    first = [r for r in _runs(project) if r.parent_run_id is None]
    keys = [r.tags.get("dagster/run_key") for r in first]
    assert len(keys) == len(set(keys))
