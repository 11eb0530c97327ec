"""`ml-assets ui`: what a person sees, and that what is started there behaves like `ml-assets run`."""

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.resources.home import Home
from ml_assets.resources.ledger import Ledger
from ml_assets_tests.e2e.browser import WIDTH, click, drawn, opened, picture, see, settled
from ml_assets_tests.e2e.served import (
    Served,
    alive,
    command,
    descendants,
    free_port,
    make_project,
    served,
    wait_for,
)

pytestmark = pytest.mark.slow

PROBLEM = "breast_cancer"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("ui") / "project", PROBLEM)


@pytest.fixture(scope="module")
def first(project: Path) -> dict[str, Any]:
    """What `ml-assets run` said before any user interface was there."""
    done = command(project, "ml-assets", "run", PROBLEM, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def ui(project: Path, first: dict[str, Any]) -> Iterator[Served]:
    port, mlflow_port = free_port(), free_port()
    words = ["ml-assets", "ui", "--port", str(port), "--mlflow-port", str(mlflow_port)]
    with served(project, words, port, mlflow_port) as shown:
        yield shown


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with opened(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """The browser, left on an empty page: one that Dagster keeps alive costs a core."""
    yield chromium
    chromium.get("about:blank")


def test_both_servers_answer(ui: Served) -> None:
    with urllib.request.urlopen(ui.mlflow, timeout=30) as answer:
        assert answer.status == 200
        assert "MLflow" in answer.read().decode()
    with urllib.request.urlopen(ui.page("/server_info"), timeout=30) as answer:
        assert json.load(answer)["dagster_version"] == dg.__version__


def test_the_graph_shows_the_life_of_a_problem(ui: Served, browser: Any) -> None:
    browser.get(ui.page(f"/locations/__repository__@ml_assets/asset-groups/{PROBLEM}"))
    see(browser, "dataset", "train", "validation", "baseline", "random_forest", "xgboost")
    see(browser, "evaluation", "challenger", "production_model")
    settled(browser)
    picture(browser, "graph")
    assert "Join the Dagster community" not in browser.page_source


def test_the_evaluation_shows_the_leaderboard_and_its_plot(ui: Served, browser: Any) -> None:
    browser.get(ui.page(f"/assets/{PROBLEM}/evaluation"))
    see(browser, "Latest materialization", "leaderboard", "hist_gradient_boosting")
    board = "//tr[td[normalize-space()='leaderboard']]//table"
    [table] = wait_for("the leaderboard", lambda: browser.find_elements("xpath", board), 20)
    assert [th.text for th in table.find_elements("xpath", ".//th")][1:3] == [
        "candidate",
        "roc_auc",
    ]
    assert len(table.find_elements("xpath", ".//tbody/tr")) == 5
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", table)
    picture(browser, "evaluation")
    own, shown = drawn(browser)
    settled(browser)
    picture(browser, "evaluation_plot")
    assert 200 < shown <= own < WIDTH


def test_the_challenger_shows_how_it_was_judged(ui: Served, browser: Any) -> None:
    browser.get(ui.page(f"/assets/{PROBLEM}/challenger"))
    see(browser, "accuracy_reaches_floor", "floor 0.85")
    settled(browser)
    picture(browser, "challenger")
    own, shown = drawn(browser)
    settled(browser)
    picture(browser, "challenger_plot")
    assert 200 < shown <= own < WIDTH


def test_the_challenger_shows_its_gates_as_checks(
    ui: Served, browser: Any, first: dict[str, Any]
) -> None:
    browser.get(ui.page(f"/assets/{PROBLEM}/challenger?view=checks"))
    asked = [g["name"] for g in first["gates"] if g["asset"] == "challenger"]
    assert len(asked) == 7
    see(browser, f"Checks ({len(asked)})", *asked, "Succeeded")
    click(browser, "//*[normalize-space(text())='accuracy_reaches_floor']")
    [reason] = [g["reason"] for g in first["gates"] if g["name"] == "accuracy_reaches_floor"]
    see(browser, reason)
    settled(browser)
    picture(browser, "checks")


def test_the_page_of_the_run_shows_its_steps(
    ui: Served, browser: Any, first: dict[str, Any]
) -> None:
    browser.get(ui.page(f"/runs/{first['run_id']}"))
    see(browser, "Success", PROBLEM, "Succeeded (10)", "No steps have errored")
    see(browser, "ASSET_MATERIALIZATION")
    settled(browser)
    picture(browser, "run")


def ledger_of(project: Path) -> Ledger:
    return Ledger(Home(project, project / ".ml_assets").ledger)


def test_production_alone_holds_when_nothing_is_better(ui: Served, project: Path) -> None:
    before = ledger_of(project).champion(PROBLEM)
    seen = ui.ended(ui.launch(PROBLEM, f"{PROBLEM}/production_model"))
    assert seen["status"] == "SUCCESS"
    assert seen["stats"] == {"stepsSucceeded": 1, "stepsFailed": 0, "materializations": 0}
    assert ledger_of(project).champion(PROBLEM) == before


def test_a_round_from_the_ui_fits_only_what_changed(ui: Served, project: Path) -> None:
    """Three declarations are edited, the code location is reloaded, the job is launched."""
    file = project / "ml_assets" / "defs" / PROBLEM / "defs.yaml"
    text = file.read_text()
    for old, new in (
        ("{C: 0.5}", "{C: 0.4}"),
        ("{n_estimators: 200}", "{n_estimators: 120}"),
        ("{n_estimators: 200, max_depth: 3}", "{n_estimators: 90, max_depth: 3}"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    reloaded = ui.ask(
        """mutation {reloadRepositoryLocation(repositoryLocationName: "ml_assets")
        {__typename ... on WorkspaceLocationEntry {locationOrLoadError {__typename}}}}"""
    )["reloadRepositoryLocation"]
    assert reloaded["locationOrLoadError"]["__typename"] == "RepositoryLocation"

    run_id = ui.launch(PROBLEM)
    seen = ui.ended(run_id)
    assert seen["status"] == "SUCCESS"
    assert (seen["stats"]["stepsSucceeded"], seen["stats"]["stepsFailed"]) == (10, 0)

    from mlflow import MlflowClient

    uri = Home(project, project / ".ml_assets").tracking_uri
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name(PROBLEM)
    assert experiment
    runs = client.search_runs([experiment.experiment_id], max_results=500)
    assert {r.info.status for r in runs} == {"FINISHED"}
    ours = [r for r in runs if r.data.tags["dagster_run_id"] == run_id]
    [parent] = [r for r in ours if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in ours if r is not parent]
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    assert sorted(r.data.tags["ml_assets.candidate"] for r in children) == [
        "logistic_regression",
        "random_forest",
        "xgboost",
    ]


def test_what_was_started_on_either_side_is_listed(ui: Served, first: dict[str, Any]) -> None:
    listed = ui.ask("{runsOrError {... on Runs {results {runId status}}}}")["runsOrError"]
    found = {r["runId"]: r["status"] for r in listed["results"]}
    assert found[first["run_id"]] == "SUCCESS"
    assert len(found) >= 2
    assert set(found.values()) == {"SUCCESS"}


def test_ending_it_leaves_no_process(ui: Served) -> None:
    """It is the last test of this file: it ends the user interface that the others look at."""
    family = descendants(ui.process.pid)
    assert len(family) >= 5
    ui.process.terminate()
    ui.process.wait(timeout=40)
    wait_for("the end of all its processes", lambda: not alive(family), 10)


def test_plain_dagster_in_the_checkout_shares_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ml-assets run`, `dagster asset materialize` and `dagster dev` see one history."""
    root = make_project(tmp_path / "checkout", "wine", whole=True)
    done = command(root, "ml-assets", "run", "wine", "--only", "dataset", "--json")
    assert done.returncode == 0, done.stderr
    ours = json.loads(done.stdout)["run_id"]

    plain = ["dagster", "asset", "materialize", "--select", 'key:"wine/dataset"']
    done = command(root, *plain, "-m", "ml_assets.definitions")
    assert done.returncode == 0, done.stderr

    monkeypatch.chdir(root)  # the folders in dagster.yaml are relative
    with dg.DagsterInstance.from_config(str(root)) as instance:
        runs = {r.run_id: r.status.value for r in instance.get_runs()}
    assert ours in runs
    assert list(runs.values()) == ["SUCCESS", "SUCCESS"]

    port = free_port()
    with served(root, ["dagster", "dev", "-h", "127.0.0.1", "-p", str(port)], port) as shown:
        assert {ours: shown.run(ours)["status"]} == {ours: "SUCCESS"}
        assert shown.ask("{runsOrError {... on Runs {count}}}")["runsOrError"]["count"] == 2
