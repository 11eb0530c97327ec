"""The projects in examples/: they load as any project of dg, and their problems come to production."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from ml_assets.resources.home import find_home
from ml_assets.resources.ledger import Ledger
from ml_assets_tests.e2e.served import CHECKOUT, COMMANDS, clean_environment
from ml_assets_tests.problems import empty_store, quickly


@pytest.fixture
def example(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.Definitions]:
    """The definitions of a copy of an example, with stores of its own."""
    name = request.param
    copy = shutil.copytree(CHECKOUT / "examples" / name, tmp_path / name)
    with quickly() as patch:
        patch.chdir(copy)
        patch.syspath_prepend(str(copy))
        home = find_home(copy)
        home.mlflow.mkdir(parents=True)
        shutil.copy(empty_store(), home.mlflow / "mlflow.db")
        yield importlib.import_module(f"{name}.definitions").defs()
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def promoted(definitions: dg.Definitions, job: str, *before: str) -> bool:
    """It materializes assets and runs a problem's job; it tells whether that made a champion."""
    with dg.DagsterInstance.ephemeral() as instance:
        if before:
            assets = [definitions.get_assets_def(dg.AssetKey(b.split("/"))) for b in before]
            assert dg.materialize(assets, instance=instance).success
        result = definitions.resolve_job_def(job).execute_in_process(instance=instance)
    made = {e.asset_key.path[-1] for e in result.get_asset_materialization_events()}
    entry = Ledger(find_home(Path.cwd()).ledger).champion(job)
    return result.success and "production_model" in made and entry is not None


@pytest.mark.parametrize("example", ["two_problems"], indirect=True)
def test_both_problems_come_to_production(example: dg.Definitions) -> None:
    assert promoted(example, "iris")
    assert promoted(example, "diabetes")


@pytest.mark.parametrize("example", ["embedded"], indirect=True)
def test_a_problem_comes_after_the_projects_own_assets(example: dg.Definitions) -> None:
    graph = example.resolve_asset_graph()
    parents = graph.get(dg.AssetKey(["loyalty", "dataset"])).parent_keys
    assert parents == {dg.AssetKey(["warehouse", "customers"])}
    assert promoted(example, "loyalty", "warehouse/visits", "warehouse/customers")


@pytest.mark.parametrize("name", ["two_problems", "embedded"])
def test_dg_lists_what_the_example_declares(name: str, tmp_path: Path) -> None:
    copy = shutil.copytree(CHECKOUT / "examples" / name, tmp_path / name)
    paths = os.pathsep.join([str(CHECKOUT), str(copy)])
    done = subprocess.run(
        [str(COMMANDS / "dg"), "list", "defs", "--json"],
        cwd=copy,
        env=clean_environment(PYTHONPATH=paths),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)
    for asset in {"two_problems": ("iris/dataset", "diabetes/production_model")}.get(
        name, ("warehouse/customers", "loyalty/production_model")
    ):
        assert f'"{asset}"' in done.stdout
