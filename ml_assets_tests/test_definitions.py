"""The code location: light to import, and each shipped problem as Dagster sees it."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster_shared.record import as_dict

from ml_assets.definitions import build, defs, problems_of, tree
from ml_assets_tests.e2e.served import CHECKOUT, clean_environment

SNAPSHOTS = Path(__file__).parent / "snapshots"
HEAVY = ("pandas", "numpy", "sklearn", "mlflow", "skrub", "pyarrow", "matplotlib")
OF_STEPS = ("numpy", "pandas", "pyarrow", "deltalake", "scipy", "sklearn", "skops", "mlflow")
SHIPPED = sorted(p.parent.name for p in (CHECKOUT / "ml_assets" / "defs").glob("*/defs.yaml"))


@cache
def loaded() -> tuple[Any, dg.Definitions]:
    components = tree()
    return problems_of(components), build(components)


@pytest.fixture(autouse=True)
def as_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.delenv("ML_ASSETS_DEFS", raising=False)
    monkeypatch.setenv("ML_ASSETS_HOME", str(tmp_path_factory.getbasetemp() / "home"))
    monkeypatch.chdir(CHECKOUT)


def shape(name: str) -> dict[str, Any]:
    """It returns what Dagster shows of a problem: small enough to be read in a review."""
    definitions = loaded()[1]
    graph = definitions.resolve_asset_graph()
    keys = sorted(
        (k for k in graph.get_all_asset_keys() if k.path[0] == name), key=lambda k: k.path
    )
    checks = sorted(
        (c for c in graph.asset_check_keys if c.asset_key.path[0] == name),
        key=lambda c: (c.asset_key.path, c.name),
    )
    blocking = {c: graph.get_check_spec(c).blocking for c in checks}
    return {
        "job": sorted(
            definitions.resolve_job_def(name).asset_layer.executable_asset_keys,
            key=lambda k: k.path,
        )
        == keys,
        "assets": {
            k.to_user_string(): {
                "after": sorted(p.to_user_string() for p in graph.get(k).parent_keys),
                "kinds": sorted(graph.get(k).kinds),
                "checks": {c.name: blocking[c] for c in checks if c.asset_key == k},
            }
            for k in keys
        },
    }


def test_loading_the_definitions_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, json\n"
        "from ml_assets.definitions import defs\n"
        "made = defs() if callable(defs) else defs\n"
        "made.resolve_all_asset_specs()\n"
        f"print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=CHECKOUT,
        env=clean_environment(ML_ASSETS_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_every_shipped_problem_is_loaded() -> None:
    assert sorted(loaded()[0]) == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_the_assets_are_as_recorded(name: str) -> None:
    """After a change on purpose: remove the file, run again, and read the difference."""
    file, now = SNAPSHOTS / f"{name}.json", shape(name)
    if not file.exists():
        file.write_text(json.dumps(now, indent=2, sort_keys=True) + "\n")
        pytest.fail(f"{file.name} was missing and is written now: read it, and run again")
    assert now == json.loads(file.read_text())


@pytest.mark.parametrize("name", SHIPPED)
def test_every_asset_is_described(name: str) -> None:
    problems, definitions = loaded()
    specs = [s for s in definitions.resolve_all_asset_specs() if s.key.path[0] == name]
    graph = definitions.resolve_asset_graph()
    candidates = {f"{name}/candidate/{c}" for c in problems[name].problem.contenders()}
    fixed = ("dataset", "evaluation", "challenger", "production_model")
    parts = {f"{name}/split/{p}" for p in ("train", "validation", "test")}
    landing = problems[name].problem.dataset.is_landing
    also = {f"{name}/quarantine"} if landing else set()
    assert {s.key.to_user_string() for s in specs} == candidates | parts | also | {
        f"{name}/{noun}" for noun in fixed
    }
    for spec in specs:
        assert spec.group_name == name
        assert spec.owners == ["team:ml_assets"]
        assert spec.tags["ml_assets/problem"] == name
        assert spec.kinds
        assert len(spec.description or "") > 30
        assert graph.get(spec.key).code_version
    checked = [c for c in graph.asset_check_keys if c.asset_key.path[0] == name]
    assert all(graph.get_check_spec(c).description for c in checked)


@pytest.mark.parametrize("name", SHIPPED)
def test_code_versions_tell_candidates_apart(name: str) -> None:
    graph = loaded()[1].resolve_asset_graph()
    keys = [k for k in graph.get_all_asset_keys() if k.path[:2] == [name, "candidate"]]
    assert len({graph.get(k).code_version for k in keys}) == len(keys)


@pytest.mark.slow
def test_the_fork_server_has_what_steps_import_late() -> None:
    """A step is forked from it: what is not there is imported anew in each. A misspelt name would
    be passed over in silence, as multiprocessing does. Seen to fail with the list of before."""
    code = (
        "import sys, json, importlib\n"
        "from ml_assets.components.ml_problem.engine import PRELOADED\n"
        "[importlib.import_module(name) for name in PRELOADED]\n"
        f"print(json.dumps([m for m in {OF_STEPS!r} if m not in sys.modules]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_a_job_is_what_dagster_makes_of_it_and_knows_no_other_problem(name: str) -> None:
    """Seen to fail with `define_asset_job`: each job of 500 problems was looked for among them all."""
    definitions = loaded()[1]
    graph = definitions.resolve_asset_graph()
    own = [
        job
        for job in definitions.jobs or []
        if isinstance(job, UnresolvedAssetJobDefinition) and job.tags["ml_assets/problem"] == name
    ]
    assert {job.name for job in own} >= {name, f"{name}_variants"}
    for job in own:
        made = definitions.resolve_job_def(job.name)
        known = made.asset_layer.asset_graph.source_asset_graph.get_all_asset_keys()
        assert {key.path[0] for key in known} == {name}
        plain = UnresolvedAssetJobDefinition(**as_dict(job))
        theirs = plain.resolve(graph, made.executor_def, made.resource_defs)
        assert made.get_job_snapshot_id() == theirs.get_job_snapshot_id()


def test_a_location_that_is_asked_for_twice_is_built_once_until_something_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail: a link that leads nowhere kept the location from loading."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        declared = f"{{name: {name}, dataset: {{path: data.csv, target: y}}}}"
        text = f"type: ml_assets.components.MLProblem\nattributes: {declared}\n"
        (tmp_path / name / "defs.yaml").write_text(text)
    monkeypatch.setenv("ML_ASSETS_DEFS", str(tmp_path))
    (tmp_path / "two" / ".#defs.yaml").symlink_to("somebody@here.4711")  # an editor's lock
    first = defs()
    assert defs() is first
    (tmp_path / "two" / "defs.yaml").unlink()
    second = defs()
    groups = [{spec.group_name for spec in d.resolve_all_asset_specs()} for d in (first, second)]
    assert groups == [{"one", "two"}, {"one"}]
    monkeypatch.setenv("ML_ASSETS_EXECUTOR", "multiprocess")
    assert defs() is not second
