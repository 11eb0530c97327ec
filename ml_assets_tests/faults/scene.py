"""The scene of every fault: version 1 serves, a file arrived, and the next run would promote version 2."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger import MAKES_CHAMPION, Ledger, champion_of
from ml_assets_tests.faults.injections import Fault
from ml_assets_tests.faults.stage import Stage
from ml_assets_tests.problems import MODEL, arrive, rows

WEAK = "{weak: {estimator: linear, transform: .model.sees_b}}"
BETTER = "{all: {estimator: linear, params: {C: 1.0}}}"
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  task: binary
  dataset: {path: landing/*.csv, target: y, positive: "yes", key: id, contract: {min_rows: 100}}
  candidates: CANDIDATES
  transform: none
"""


@dataclass
class Scene:
    """A project in a folder that is put back for each fault: MLflow notes whole paths."""

    root: Path
    good: Path
    stage: Stage
    twin: dict[str, Any]

    def put_back(self) -> None:
        """It makes the folder what it was when version 1 served."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.good, self.root, symlinks=True)

    def serves(self, problem: str = "demo") -> dict[str, Any]:
        """It returns who serves, after how many promotions, and the digest of the rows."""
        entries = Ledger(self.root / ".ml_assets" / "ledger").entries(problem)
        champion = champion_of(entries) or {}
        made = [e for e in entries if e["event"] in MAKES_CHAMPION]
        rows = Lake(self.root / ".ml_assets" / "lake").current(problem, "dataset").digest
        model = champion.get("model_digest")
        return {"model": model, "promotions": len(made), "rows": rows}

    def suffers(self, fault: Fault, **environment: str) -> None:
        """It lets a run meet a fault, asks the laws, takes the fault away, and compares with the twin."""
        self.put_back()
        with fault.active(self.root):
            status, told = self.stage.run(
                self.root, "run", "demo", prepare=fault.prepare, **environment
            )
            assert status in fault.ends, (status, told[-3000:])
            if status in (1, 2):
                assert "Traceback" not in told, told[-3000:]
            broken = [b for b in self.stage.broken(self.root) if b.split(":")[0] not in fault.shows]
            assert not broken, (broken, told[-2000:])
        self.recovers(fault.same)

    def recovers(self, same: bool = True) -> None:
        """It makes the run that nothing disturbs: all laws hold, and it ends as the twin did."""
        status, told = self.stage.run(self.root, "run", "demo")
        assert status == 0, told[-3000:]
        assert self.stage.broken(self.root) == []
        ended, twin = self.serves(), self.twin
        assert ended["rows"] == twin["rows"]
        assert ended == twin or not same, told[-3000:]


def make_scene(tmp: Path) -> Iterator[Scene]:
    """It makes the scene, plays it once without a fault, and ends it."""
    root, good, logs = tmp / "project", tmp / "good", tmp / "logs"
    logs.mkdir()
    defs = root / "ml_assets" / "defs" / "demo"
    defs.mkdir(parents=True)
    (root / "workspace.yaml").write_text("load_from: []\n")
    (root / "pyproject.toml").write_text("[project]\nname = 'project'\nversion = '0'\n")
    (defs / "model.py").write_text(MODEL)
    (defs / "defs.yaml").write_text(YAML.replace("CANDIDATES", WEAK))
    arrive(rows(400), root / "landing" / "0.csv")
    arrive(rows(200, seed=1, first=400), root / "landing" / "1.csv")
    stage = Stage(logs)
    try:
        status, told = stage.run(root, "run", "demo")
        assert status == 0, told
        (defs / "defs.yaml").write_text(YAML.replace("CANDIDATES", BETTER))
        arrive(rows(300, seed=2, first=600), root / "landing" / "2.csv")
        shutil.copytree(root, good, symlinks=True)
        scene = Scene(root, good, stage, {})
        status, told = stage.run(root, "run", "demo", "--json")
        assert status == 0, told
        assert json.loads(told[told.index("\n{") :])["decision"]["promoted"]
        assert stage.broken(root) == []
        scene.twin.update(scene.serves())
        assert scene.twin["promotions"] == 2
        yield scene
    finally:
        stage.close()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The scene, for the tests of one file."""
    yield from make_scene(tmp_path_factory.mktemp("faults"))
