"""Steps on a Ray cluster of several machines, by configuration alone."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_assets.resources.home import Home
from ml_assets.resources.ledger import Ledger
from ml_assets_tests import servers
from ml_assets_tests.cluster import Cluster, can_be_made, cluster
from ml_assets_tests.e2e.served import (
    CHECKOUT,
    Served,
    command,
    free_port,
    make_project,
    served,
    wait_for,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not can_be_made(), reason="needs root and Linux's namespaces, to make machines"
    ),
]
TELCO = CHECKOUT.parent / "shared" / "data" / "open" / "telco_churn.csv"
SHIPPED, OPEN = "breast_cancer", "telco"
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: telco
  task: binary
  dataset: {path: telco_churn.csv, target: Churn, positive: "Yes", key: customerID}
  candidates:
    linear: {C: 1.0}
    patient: {estimator: .model.patient}
  gates: [{metric: roc_auc, min: 0.8}]
  retrain: {on_new_data: false}
"""
# A fit tells where it is, and lasts as long as somebody wants.  What is stored is of scikit-learn alone.
MODEL = '''\
"""Trees that can be held while they grow."""

import functools
import os
import socket
import time
from pathlib import Path

from sklearn.ensemble import HistGradientBoostingClassifier

grow = HistGradientBoostingClassifier.fit


@functools.wraps(grow)
def held(self, *given, **named):
    here = Path(os.environ.get("ML_ASSETS_ROOT", "."), "held")
    if here.is_dir():
        (here / socket.gethostname()).touch()
    while here.is_dir():
        time.sleep(0.1)
    return grow(self, *given, **named)


def patient():
    HistGradientBoostingClassifier.fit = held
    return HistGradientBoostingClassifier(max_iter=30, early_stopping=False, random_state=0)
'''
EVENTS = """query($run: ID!) {logsForRun(runId: $run, limit: 3000) {... on EventConnection {events {
    __typename ... on MessageEvent {stepKey}
    ... on MaterializationEvent {metadataEntries {label ... on TextMetadataEntry {text}}}}}}}"""


@dataclass
class World:
    """A project on a disk that all machines share, and servers on one of them.

    Attributes:
        root: the project.
        cluster: the machines.
        ui: Dagster's user interface, on the machine called control.
        told: what says where the servers are.
    """

    root: Path
    cluster: Cluster
    ui: Served
    told: dict[str, str]

    def decisions(self, problem: str) -> list[dict[str, Any]]:
        """It returns what was decided of a problem."""
        return decisions(self.root, problem)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """What fails inside shows what the servers and the machines said."""
        try:
            yield
        except AssertionError as error:
            said = f"{self.ui.log.read_text()[-5000:]}\n{self.cluster.told()}"
            raise AssertionError(f"{said}\n{error}") from error

    def events(self, run: str, kind: str) -> list[dict[str, Any]]:
        """It returns a run's events of a kind."""
        found = self.ui.ask(EVENTS, run=run)["logsForRun"]["events"]
        return [e for e in found if e["__typename"] == kind]

    def nodes(self, run: str) -> dict[str, str]:
        """It returns by which machine each step of a run says that its candidate was fitted."""
        found = {}
        for made in self.events(run, "MaterializationEvent"):
            told = {e["label"]: e.get("text") for e in made["metadataEntries"]}
            if "node" in told:
                found[made["stepKey"]] = told["node"]
        return found


def decisions(root: Path, problem: str) -> list[dict[str, Any]]:
    entries = Ledger(Home(root, root / ".ml_assets").ledger).entries(problem)
    return [e for e in entries if e["event"] in ("promotion", "hold")]


def project(root: Path) -> Path:
    """It makes a project with the shipped problem and one on open data."""
    make_project(root, SHIPPED)
    folder = root / "ml_assets" / "defs" / OPEN
    folder.mkdir()
    (folder / "defs.yaml").write_text(YAML)
    (folder / "model.py").write_text(MODEL)
    shutil.copy(TELCO, root)
    return root


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one machine decides, of each problem."""
    root = project(tmp_path_factory.mktemp("alone") / "project")
    for name in (SHIPPED, OPEN):
        done = command(root, "ml-assets", "run", name)
        assert done.returncode == 0, done.stdout + done.stderr
    return {name: decisions(root, name)[-1] for name in (SHIPPED, OPEN)}


@contextlib.contextmanager
def world_of(root: Path) -> Iterator[World]:
    """It starts a cluster, servers and the user interface of a project."""
    (root / ".ml_assets" / "dagster").mkdir(parents=True)
    shutil.copy(CHECKOUT / "deploy" / "dagster.yaml", root / ".ml_assets" / "dagster")
    with cluster() as made, made.control.entered():
        where = made.control.address
        with servers.postgres(where) as database, servers.object_store(where) as store:
            known = database.url("mlflow"), f"{store.bucket('models')}/mlflow", where
            with servers.mlflow_server(*known, **store.environment) as registry:
                told = {
                    "MLFLOW_TRACKING_URI": registry,
                    "DAGSTER_POSTGRES_URL": database.url("dagster"),
                }
                made.start(**told)
                port = free_port()
                words = ["ml-assets", "ui", "--port", str(port)]
                engine = {"ML_ASSETS_EXECUTOR": "ray", "RAY_ADDRESS": made.address}
                with served(root, words, port, **told, **engine) as ui:
                    yield World(root, made, ui, told)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(project(tmp_path_factory.mktemp("cluster") / "project")) as made:
        yield made


def test_candidates_are_fitted_on_several_machines(
    alone: dict[str, dict[str, Any]], world: World
) -> None:
    """The champion is the one that a single machine finds."""
    with world.explained():
        run = world.ui.launch(SHIPPED)
        assert world.ui.ended(run)["status"] == "SUCCESS"
    nodes = world.nodes(run)
    assert len(nodes) == 5 and set(nodes.values()) == {"worker-1", "worker-2"}, nodes
    (promotion,) = world.decisions(SHIPPED)
    assert promotion["event"] == "promotion"
    assert promotion["model_digest"] == alone[SHIPPED]["model_digest"]
    assert promotion["candidate"] == alone[SHIPPED]["candidate"]


def test_a_machine_that_dies_in_mid_fit_costs_a_retry_and_no_more(
    alone: dict[str, dict[str, Any]], world: World
) -> None:
    held = world.root / "held"
    held.mkdir()
    with world.explained():
        run = world.ui.launch(OPEN)
        name = wait_for("a fit", lambda: [f.name for f in held.iterdir()], 240)[0]
        worker = next(w for w in world.cluster.workers if w.name == name)
        worker.dies()
        wait_for("a fit elsewhere", lambda: [f.name for f in held.iterdir() if f.name != name], 240)
        shutil.rmtree(held)
        assert world.ui.ended(run)["status"] == "SUCCESS"
    patient = f"{OPEN}__candidate__patient"
    again = world.events(run, "ExecutionStepUpForRetryEvent")
    assert patient in [e["stepKey"] for e in again]
    assert world.nodes(run)[patient] in {w.name for w in world.cluster.workers} - {name}
    (promotion,) = world.decisions(OPEN)
    assert promotion["event"] == "promotion"
    assert promotion["model_digest"] == alone[OPEN]["model_digest"]
