"""Faults between machines: a cable that is pulled, a head that is lost."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets_tests.cluster import can_be_made
from ml_assets_tests.e2e.served import CHECKOUT, clean_environment, command, make_project, wait_for
from ml_assets_tests.e2e.test_cluster import MODEL, SHIPPED, World, decisions, world_of
from ml_assets_tests.problems import arrive, rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        not can_be_made(), reason="needs root and Linux's namespaces, to make machines"
    ),
]
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: NAME
  task: binary
  dataset: {path: landing/*.csv, target: y, positive: "yes", key: id, contract: {min_rows: 100}}
  candidates:
    linear: {C: 1.0}
    patient: {estimator: .model.patient}
  gates: [{metric: roc_auc, min: 0.6}]
  retrain: {on_new_data: false}
  limits: {run: SECONDSs}
"""
SECONDS = {"cut": 900, "lost": 150}


def project(root: Path) -> Path:
    """It makes a project with a problem for each fault."""
    make_project(root, SHIPPED)
    for name, seconds in SECONDS.items():
        folder = root / "ml_assets" / "defs" / name
        folder.mkdir()
        declared = YAML.replace("NAME", name).replace("SECONDS", str(seconds))
        (folder / "defs.yaml").write_text(declared)
        (folder / "model.py").write_text(MODEL)
    arrive(rows(2000), root / "landing" / "1.csv")
    return root


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_of(project(tmp_path_factory.mktemp("faults") / "project")) as made:
        yield made


def _held(world: World) -> Path:
    held = world.root / "held"
    held.mkdir()
    return held


def _laws(world: World, problem: str) -> list[str]:
    """It returns the laws that are broken, as a process sees it that knows nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_assets_tests.faults.laws", str(world.root), problem],
        cwd=CHECKOUT,
        env=clean_environment(**world.told),
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Who is champion of each problem where nothing goes wrong, on one machine: a model's digest."""
    root = project(tmp_path_factory.mktemp("twin") / "project")
    for name in SECONDS:
        done = command(root, "ml-assets", "run", name)
        assert done.returncode == 0, done.stdout + done.stderr
    return {name: decisions(root, name)[-1]["model_digest"] for name in SECONDS}


def test_a_machine_is_cut_off(twin: dict[str, str], world: World) -> None:
    """The machine lives, and its fit goes on; nobody else hears of it."""
    held = _held(world)
    with world.explained():
        run = world.ui.launch("cut")
        name = wait_for("a fit", lambda: [f.name for f in held.iterdir()], 240)[0]
        worker = next(w for w in world.cluster.workers if w.name == name)
        worker.cable(plugged=False)
        wait_for("a fit elsewhere", lambda: [f.name for f in held.iterdir() if f.name != name], 300)
        worker.cable(plugged=True)
        shutil.rmtree(held)  # both go on: the one that was given up, and the one in its place
        assert world.ui.ended(run)["status"] == "SUCCESS"
    patient = "cut__candidate__patient"
    assert patient in [e["stepKey"] for e in world.events(run, "ExecutionStepUpForRetryEvent")]
    assert world.nodes(run)[patient] != name
    (promotion,) = world.decisions("cut")
    assert (promotion["event"], promotion["model_digest"]) == ("promotion", twin["cut"])
    assert _laws(world, "cut") == []


def test_the_head_is_lost(twin: dict[str, str], world: World) -> None:
    """With nobody left to ask how a step is doing, the time limit of the run ends it."""
    held = _held(world)
    with world.explained():
        run = world.ui.launch("lost")
        wait_for("a fit", lambda: [*held.iterdir()], 240)
        world.cluster.head.dies()
        shutil.rmtree(held)
        assert world.ui.ended(run)["status"] == "FAILURE"
    assert world.decisions("lost") == []
    assert _laws(world, "lost") == []
    alone = command(world.root, "ml-assets", "run", "lost", **world.told)
    assert alone.returncode == 0, alone.stdout + alone.stderr
    (promotion,) = world.decisions("lost")
    assert (promotion["event"], promotion["model_digest"]) == ("promotion", twin["lost"])
    assert _laws(world, "lost") == []
