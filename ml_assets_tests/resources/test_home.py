import subprocess
import sys
from pathlib import Path

import pytest

from ml_assets import __version__
from ml_assets.resources.home import Home, find_home, find_root, problems_folder
from ml_assets.resources.stores import open_stores

NAMES = ("ML_ASSETS_HOME", "ML_ASSETS_DEFS", "MLFLOW_TRACKING_URI", "DAGSTER_HOME")


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def project(root, *marks):
    for mark in marks:
        (root / mark).parent.mkdir(parents=True, exist_ok=True)
        (root / mark).touch()
    return root


def test_the_root_is_the_nearest_folder_with_a_workspace(tmp_path):
    project(tmp_path, "workspace.yaml", "a/workspace.yaml", "a/b/pyproject.toml", "a/b/c/x")
    assert find_root(tmp_path / "a" / "b" / "c") == tmp_path / "a"


def test_without_a_workspace_the_root_has_a_pyproject(tmp_path):
    project(tmp_path, "a/pyproject.toml", "a/b/x")
    assert find_root(tmp_path / "a" / "b") == tmp_path / "a"


def test_state_lies_beside_the_workspace_unless_it_is_told_otherwise(tmp_path, monkeypatch):
    assert find_home(tmp_path) == Home(tmp_path, tmp_path / ".ml_assets")
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path / "state"))
    assert find_home(tmp_path) == Home(tmp_path, tmp_path / "state")


def test_a_relative_home_is_made_absolute(tmp_path, monkeypatch):
    """Dagster starts runs in other working directories."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ML_ASSETS_HOME", "state")
    assert find_home(tmp_path).path == tmp_path / "state"


def test_all_state_lies_in_the_home():
    home = Home(Path("/p"), Path("/p/.ml_assets"))
    for place in (home.lake, home.ledger, home.mlflow, home.dagster):
        assert place.parent == home.path
    assert home.tracking_uri == "sqlite:////p/.ml_assets/mlflow/mlflow.db"


def test_dagster_and_mlflow_may_be_elsewhere(monkeypatch):
    home = Home(Path("/p"), Path("/p/.ml_assets"))
    monkeypatch.setenv("DAGSTER_HOME", "/d")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow")
    assert home.dagster == Path("/d")
    assert home.tracking_uri == "http://mlflow"


def test_a_team_may_keep_its_problems_elsewhere(tmp_path, monkeypatch):
    assert problems_folder(tmp_path) == tmp_path / "ml_assets" / "defs"
    monkeypatch.setenv("ML_ASSETS_DEFS", str(tmp_path / "ours"))
    assert problems_folder(tmp_path) == tmp_path / "ours"


def test_a_process_elsewhere_is_told_where_its_project_is(tmp_path, monkeypatch):
    """A step on another machine starts in a folder of the cluster's own."""
    (tmp_path / "workspace.yaml").touch()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert find_root() == tmp_path
    monkeypatch.setenv("ML_ASSETS_ROOT", str(tmp_path / "told"))
    assert find_root() == tmp_path / "told"
    assert find_root(tmp_path / "other") == tmp_path  # who asks for a folder's is given that


def test_the_stores_of_a_home_are_opened_once_and_lie_in_it(tmp_path):
    home = Home(tmp_path, tmp_path / "state")
    stores = open_stores(home)
    assert stores is open_stores(Home(tmp_path, tmp_path / "state"))
    assert stores.lake.root == home.lake
    assert stores.registry.uri == home.tracking_uri
    assert not home.path.exists()  # opening makes nothing: listing assets must be free


def test_a_projects_folder_of_problems_is_not_taken_for_the_package(tmp_path: Path) -> None:
    """Seen to fail while an editable install was a hook behind the path: Ray's jobs, that start in the
    project, found no version in its folder `ml_assets`."""
    (tmp_path / "ml_assets" / "defs").mkdir(parents=True)
    words = [sys.executable, "-c", "import ml_assets; print(ml_assets.__version__)"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == __version__, done.stderr
