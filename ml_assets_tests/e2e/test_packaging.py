"""The wheel: everything is in it, and another Dagster project can use it."""

import os
import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from ml_assets_tests.e2e.served import CHECKOUT, COMMANDS, clean_environment
from ml_assets_tests.problems import rows

pytestmark = pytest.mark.slow

COMPONENT = "ml_assets.components.MLProblem"
PROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "team"
"""
DEFINITIONS = """\
from pathlib import Path

from dagster import definitions, load_from_defs_folder


@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: a build leaves folders behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "ml_assets", source / "ml_assets", ignore=unwanted)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", *build, "--wheel-dir", str(out), str(source)],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    [built] = out.glob("ml_assets-*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder)
    return folder


class Team:
    """Another team's Dagster project, which finds ml_assets in the unpacked wheel."""

    def __init__(self, root: Path, unpacked: Path) -> None:
        self.root, self.unpacked = root, unpacked
        package = root / "src" / "team"
        (package / "defs").mkdir(parents=True)
        (root / "pyproject.toml").write_text(PROJECT)
        (package / "__init__.py").touch()
        (package / "defs" / "__init__.py").touch()
        (package / "definitions.py").write_text(DEFINITIONS)
        self.problem = package / "defs" / "churn" / "defs.yaml"

    def run(self, program: str, *words: str) -> "subprocess.CompletedProcess[str]":
        found = [str(self.unpacked), str(self.root / "src")]
        wide = {"COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"}
        return subprocess.run(
            [str(COMMANDS / program), *words],
            cwd=self.root,
            env=clean_environment(PYTHONPATH=os.pathsep.join(found), **wide),
            capture_output=True,
            text=True,
            timeout=240,
        )

    def said(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def declare(self, text: str) -> None:
        self.problem.parent.mkdir(exist_ok=True)
        self.problem.write_text(text)


@pytest.fixture
def team(tmp_path: Path, unpacked: Path) -> Team:
    return Team(tmp_path / "team", unpacked)


def test_it_holds_everything(wheel: Path) -> None:
    shipped = {
        str(p.relative_to(CHECKOUT))
        for p in (CHECKOUT / "ml_assets").rglob("*")
        if p.suffix in (".py", ".yaml", ".typed")
    }
    with zipfile.ZipFile(wheel) as files:
        held = set(files.namelist())
        [names] = [n for n in held if n.endswith(".dist-info/entry_points.txt")]
        points = ConfigParser()
        points.read_string(files.read(names).decode())
    assert {n for n in shipped if n.endswith("defs.yaml")}, "the checkout ships problems"
    assert shipped - held == set()
    assert {n for n in held if not n.startswith("ml_assets")} == set()
    assert "ml_assets/py.typed" in held
    assert points["console_scripts"]["ml-assets"] == "ml_assets.command:main"
    assert points["dagster_dg_cli.registry_modules"]["ml_assets"] == "ml_assets.components"


def test_the_other_project_uses_the_wheel(team: Team) -> None:
    code = (
        "import ml_assets, importlib.metadata as m; print(ml_assets.__file__);"
        "print(m.distribution('ml_assets').locate_file(''))"
    )
    module, metadata = team.said("python", "-c", code).splitlines()
    assert Path(module) == team.unpacked / "ml_assets" / "__init__.py"
    assert Path(metadata) == team.unpacked


def test_dg_lists_the_component(team: Team) -> None:
    assert COMPONENT in team.said("dg", "list", "components")


def test_dg_scaffolds_a_problem_that_loads(team: Team) -> None:
    team.said("dg", "scaffold", "defs", COMPONENT, "churn")
    declared = yaml.safe_load(team.problem.read_text())
    assert declared == {
        "type": COMPONENT,
        "attributes": {
            "name": "churn",
            "dataset": {"path": "data/churn.csv", "target": "target"},
        },
    }
    team.said("dg", "check", "yaml")
    listed = team.said("dg", "list", "defs", "--json")
    for path in ("dataset", "split/train", "candidate/baseline", "evaluation", "production_model"):
        assert f'"churn/{path}"' in listed


def test_dg_and_ml_assets_scaffold_the_same_folder(team: Team) -> None:
    data = team.root / "data" / "churn.csv"
    data.parent.mkdir()
    rows(200).to_csv(data, index=False)
    given = ("--data", "data/churn.csv", "--target", "y")
    team.said("dg", "scaffold", "defs", COMPONENT, "churn", *given, "--model", "true")
    by_dg = {f.name: f.read_text() for f in team.problem.parent.iterdir() if f.is_file()}
    team.said("ml-assets", "new", "churn", *given, "--model", "--dir", str(team.root / "other"))
    by_us = {f.name: f.read_text() for f in (team.root / "other" / "churn").iterdir()}
    assert by_dg == by_us
    assert set(by_us) == {"defs.yaml", "model.py"}
    assert "ours: {estimator: .model.ours}" in by_us["defs.yaml"]
    for choice in ("identifies each row", "beyond noise", "kept out, with the reason"):
        assert choice in by_us["defs.yaml"]


def test_a_wrong_word_is_named_with_its_place(team: Team) -> None:
    team.declare(
        f"type: {COMPONENT}\n"
        "attributes:\n"
        "  name: churn\n"
        "  dataset:\n"
        "    path: data/churn.csv\n"
        "    tagret: Churn\n"
    )
    for words in (("check", "yaml"), ("list", "defs")):
        done = team.run("dg", *words)
        said = done.stdout + done.stderr
        assert done.returncode != 0, said
        assert "churn/defs.yaml:6" in said.replace("\n", ""), said
        assert "tagret" in said
    assert "Did you mean `target`?" in said


def test_a_wrong_metric_suggests_the_right_one(team: Team) -> None:
    team.declare(
        f"type: {COMPONENT}\n"
        "attributes:\n"
        "  name: churn\n"
        "  dataset: {path: data/churn.csv, target: Churn}\n"
        "  select: roc_uac\n"
    )
    done = team.run("dg", "list", "defs")
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "churn/defs.yaml:5" in said.replace("\n", ""), said
    assert "Did you mean" in said
    assert "roc_auc" in said
