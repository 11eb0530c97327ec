"""Decisions of people: approval and rollback, by job and by tag; and versions made again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.components.ml_problem.decisions import build_approvals
from ml_assets.errors import ModelRefused, PromotionRefused
from ml_assets.problem import Problem
from ml_assets.round import reproduction
from ml_assets.round.production import approve, make_production
from ml_assets.round.reproduction import reproduce
from ml_assets_tests.problems import SEES_A, SEES_ALL, SEES_B, Project, declared, quickly, rows

pytestmark = pytest.mark.slow

BY_HAND = {"promotion": {"mode": "approval"}}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quickly():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(rows())
    return made


def weak(**given: Any) -> Problem:
    return declared(candidates={"weak": SEES_B}, **given)


def strong(**given: Any) -> Problem:
    return declared(candidates={"strong": SEES_ALL}, **given)


# ------------------------------------------------------------------------ approval


def test_nothing_is_promoted_without_approval_by_any_path(project: Project) -> None:
    run = project.run(strong(**BY_HAND))
    assert run.green
    assert "production_model" not in run.materialized
    assert "waits for approval" in run.check("beats_the_champion").description
    project.run(strong(**BY_HAND), "production_model")
    assert project.champion() == (None, None)


def test_an_approved_challenger_is_champion_and_the_ledger_says_who(project: Project) -> None:
    project.production(strong(**BY_HAND))
    made = approve(project.round(strong(**BY_HAND)), 1, "looked at it")
    assert project.champion() == (1, 1)
    assert made.champion is not None
    assert made.champion["reason"].startswith("Approved by a tester: looked at it.")
    assert made.champion["actor"] == "a tester"


@pytest.mark.parametrize(
    ("given", "version", "why", "said"),
    [
        (BY_HAND, 1, "  ", "needs a reason"),
        (BY_HAND, 7, "x", "Version 7 of demo is not the challenger; that is version 1"),
        ({}, 1, "x", "promotes automatically"),
    ],
)
def test_what_cannot_be_approved_is_refused(
    project: Project, given: dict[str, Any], version: int, why: str, said: str
) -> None:
    project.production(strong(**BY_HAND))
    with pytest.raises(PromotionRefused, match=said):
        approve(project.round(strong(**given)), version, why)
    assert project.champion() == (None, None)


def test_an_approval_asks_every_gate_again(project: Project) -> None:
    project.production(strong(**BY_HAND))
    high = strong(gates=[{"metric": "accuracy", "min": 0.999}], **BY_HAND)
    with pytest.raises(PromotionRefused, match="accuracy_reaches_floor"):
        approve(project.round(high), 1, "please")
    assert project.champion() == (None, None)


def test_a_challenger_that_is_not_better_cannot_be_approved(project: Project) -> None:
    project.production(strong())
    project.production(weak(**BY_HAND))
    with pytest.raises(PromotionRefused, match=r"not better|inconclusive"):
        approve(project.round(weak(**BY_HAND)), 2, "please")
    assert project.champion() == (1, 1)


def _job(project: Project, problem: Problem, job: str, config: dict[str, Any]) -> Any:
    project.here()
    return (
        project.definitions(problem)
        .resolve_job_def(f"demo_{job}")
        .execute_in_process(
            instance=project.instance,
            raise_on_error=False,
            run_config={"ops": {f"demo__{job}": {"config": config}}},
        )
    )


def test_jobs_decide_as_commands_do(project: Project) -> None:
    project.production(weak())
    project.production(strong(**BY_HAND))
    approved = _job(project, strong(**BY_HAND), "approve", {"version": 2, "why": "better"})
    assert approved.success
    assert project.champion() == (2, 2)
    (shown,) = approved.get_asset_materialization_events()
    assert shown.asset_key == dg.AssetKey(["demo", "production_model"])
    back = _job(project, strong(**BY_HAND), "rollback", {"why": "complaints"})
    assert back.success
    assert project.champion() == (1, 1)
    refused = _job(project, strong(**BY_HAND), "approve", {"version": 9, "why": "x"})
    assert not refused.success
    assert project.champion() == (1, 1)


def test_a_tag_in_mlflow_asks_for_approval_once(project: Project) -> None:
    problem = strong(**BY_HAND)
    job = project.definitions(problem).resolve_job_def("demo_approve")
    sensor = build_approvals(problem, job, project.stores)

    def tick() -> Any:
        project.here()
        return sensor.evaluate_tick(dg.build_sensor_context(instance=project.instance))

    assert "no challenger" in tick().skip_message
    project.production(problem)
    assert "no tag `approved`" in tick().skip_message
    project.stores.registry.tag("demo", 1, approved="checked the March invoices")
    (request,) = tick().run_requests
    config = request.run_config["ops"]["demo__approve"]["config"]
    assert config["version"] == 1
    assert "March invoices" in config["why"]
    assert tick().run_requests[0].run_key == request.run_key
    approve(project.round(problem), config["version"], config["why"])
    assert "champion already" in tick().skip_message


# -------------------------------------------------------------------- reproduction


def test_every_version_is_made_again_from_its_record(project: Project) -> None:
    project.production(declared(candidates={"a": SEES_A}))
    project.write(rows(900, seed=3))
    project.production(strong())
    before = sorted(p for p in project.stores.lake.root.rglob("*"))
    (project.root / "model.py").write_text("raise RuntimeError('another file now')\n")
    for version in (1, 2):
        made = reproduce(project.round(strong()), version)
        assert made.same, made.differences
        assert made.version == version
    assert sorted(p for p in project.stores.lake.root.rglob("*")) == before


def test_a_search_and_cuts_in_time_are_made_again(project: Project) -> None:
    searched = {"estimator": "linear", "search": {"C": [0.01, 1.0]}, "folds": 2}
    problem = declared(candidates={"s": searched}, split={"by": {"time": "id"}})
    project.write(rows(800))
    project.production(problem)
    project.write(rows(1200))
    project.production(problem)
    assert reproduce(project.round(problem), 1).same


def test_another_library_is_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.production(strong())
    known = reproduction.environment()
    monkeypatch.setattr(reproduction, "environment", lambda: {**known, "skrub": "9.9"})
    made = reproduce(project.round(strong()), None)
    assert [(d.what, d.found) for d in made.differences] == [("skrub", "9.9")]
    assert made.same


def test_what_cannot_be_made_again_says_why(project: Project) -> None:
    with pytest.raises(PromotionRefused, match="has no champion yet"):
        reproduce(project.round(strong()), None)
    project.production(strong())
    with pytest.raises(PromotionRefused, match="knows no version 4; it knows 1"):
        reproduce(project.round(strong()), 4)


def test_rows_that_were_changed_are_refused(project: Project) -> None:
    project.production(strong())
    (file,) = (project.stores.lake.root / "demo" / "table").rglob("*-*.parquet")
    file.write_bytes(file.read_bytes() + b"x")
    project.stores.lake._sound.clear()
    project.stores.lake._read.clear()
    with pytest.raises(ModelRefused, match="changed after it was written"):
        reproduce(project.round(strong()), None)


def test_a_record_that_was_changed_is_refused(project: Project) -> None:
    project.production(strong())
    (file,) = (project.stores.lake.root / "demo" / "record").rglob("config.json")
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    project.stores.lake._sound.clear()
    with pytest.raises(ModelRefused, match="changed after it was written"):
        reproduce(project.round(strong()), None)


def test_a_held_version_can_be_made_again_too(project: Project) -> None:
    project.production(strong())
    project.production(weak())
    make_production(project.round(weak()))
    assert reproduce(project.round(weak()), 2).same
