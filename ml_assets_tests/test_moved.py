"""A project's folder is moved, or copied: it goes on where it is, and nothing is written where it was."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ml_assets.command import main
from ml_assets_tests.problems import MODEL, arrive, quickly, rows

pytestmark = pytest.mark.slow
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  dataset: {path: data.csv, target: y, key: id, positive: "yes"}
  candidates:
    weak: {estimator: linear, transform: .model.sees_b}
"""
BETTER = "    all: {estimator: linear}\n"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project with a champion, in a folder with a space in its name."""
    with quickly() as patch:
        root = tmp_path / "my project"
        patch.chdir(tmp_path)
        (root / "ml_assets" / "defs" / "demo").mkdir(parents=True)
        (root / "workspace.yaml").touch()
        (root / "ml_assets/defs/demo/defs.yaml").write_text(YAML)
        (root / "ml_assets/defs/demo/model.py").write_text(MODEL)
        arrive(rows(), root / "data.csv")
        patch.chdir(root)
        assert answered("run", "demo")["champion"]["version"] == 1
        patch.chdir(tmp_path)
        yield root


def answered(*words: str) -> Any:
    done = CliRunner().invoke(main, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def goes_on(root: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(root)
    for name in ("DAGSTER_HOME", "MLFLOW_TRACKING_URI"):  # a process of before set them
        patch.delenv(name, raising=False)
    assert answered("status", "demo")["champion"]["version"] == 1
    again = answered("run", "demo")
    assert again["champion"]["version"] == 1
    assert not any(candidate["fitted"] for candidate in again["candidates"].values())
    done = CliRunner().invoke(
        main, ["predict", "demo", "--input", "data.csv", "--output", "out.csv"]
    )
    assert done.exit_code == 0, done.output
    (root / "ml_assets/defs/demo/defs.yaml").write_text(YAML + BETTER)
    assert answered("run", "demo")["champion"]["version"] == 2
    assert answered("reproduce", "demo", "1")
    done = CliRunner().invoke(main, ["rollback", "demo", "--why", "moved"])
    assert done.exit_code == 0, done.output
    assert answered("status", "demo")["champion"]["version"] == 1
    noted = closing(sqlite3.connect(root / ".ml_assets/mlflow/mlflow.db"))
    with noted as file:
        said = "\n".join(file.iterdump())
    here = (root / ".ml_assets/mlflow/artifacts").as_uri()
    assert said.count("file:///") == said.count(here) > 5


def test_a_project_that_is_moved_goes_on(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail: MLflow notes where its files are, from the root of the machine."""
    there = tmp_path / "elsewhere" / "it's 100% ours"
    there.parent.mkdir()
    shutil.move(project, there)

    goes_on(there, monkeypatch)
    assert not project.exists()


def test_a_copy_goes_its_own_way(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Path(shutil.copytree(project, tmp_path / "copy"))
    before = sorted(project.rglob("*"))

    goes_on(there, monkeypatch)
    assert sorted(project.rglob("*")) == before
    goes_on(project, monkeypatch)
