"""Promotions that wait for somebody's word: held by every path, and approved once."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets import standing, verification
from ml_assets.components import MLProblem
from ml_assets.errors import PromotionRefused
from ml_assets.problem import Problem
from ml_assets.promotion import Approval, Hold, Promote, awaiting
from ml_assets.round import production, rollback
from ml_assets.round.production import ProductionMade, approve, make_production
from ml_assets_tests.problems import SEES_B, Project, declared, quickly, rows

APPROVAL = {"mode": "approval"}
WEAK = {"weak": SEES_B}
KEY = dg.AssetKey(["demo", "production_model"])


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quickly() as patch:
        patch.setattr(rollback, "in_clean_process", verification.verify)
        yield


def asking(**given: Any) -> Problem:
    """It returns the problem, with promotions that need approval."""
    return declared(promotion=APPROVAL, **given)


def with_a_champion(root: Path) -> Project:
    """It returns a project with a weak champion, version 1."""
    made = Project(root)
    made.write(rows())
    made.production(declared(candidates=WEAK))
    assert made.champion() == (1, 1)
    return made


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return with_a_champion(tmp_path)


@pytest.fixture
def waiting(project: Project) -> Project:
    """Version 2 is fit and better, and waits."""
    made = project.production(asking())
    assert isinstance(made.decision, Hold)
    return project


def last(project: Project) -> dict[str, Any]:
    return project.stores.ledger.entries("demo")[-1]


def promotions(project: Project) -> list[int]:
    entries = project.stores.ledger.entries("demo")
    return [e["version"] for e in entries if e["event"] == "promotion"]


def held(project: Project, made: ProductionMade) -> bool:
    """Whether it was held for want of approval, and nothing changed."""
    assert isinstance(made.decision, Hold)
    assert made.decision.reason.startswith(
        "Version 2 waits for approval. Against champion version 1"
    )
    assert not made.verdicts[-1].passed
    assert not made.verdicts[-1].stops
    return project.champion() == (1, 1)


# -------------------------------------------------------------------------- the decision

BETTER = Promote("It is better.")


@pytest.mark.parametrize(
    ("decision", "approval", "made"),
    [
        (BETTER, None, Hold("Version 2 waits for approval. It is better.")),
        (BETTER, Approval(3, "eve", "x"), Hold("Version 2 waits for approval. It is better.")),
        (BETTER, Approval(2, "eve", "seen."), Promote("Approved by eve: seen. It is better.")),
        (Hold("It is worse."), Approval(2, "eve", "seen"), Hold("It is worse.")),
        (Hold("It is worse."), None, Hold("It is worse.")),
    ],
)
def test_only_what_would_be_promoted_waits_and_only_its_own_approval_helps(
    decision, approval, made
):
    assert awaiting(decision, 2, approval) == made


# ------------------------------------------------------------------------------- waiting


def test_a_challenger_waits_whoever_asks(project: Project):
    assert held(project, project.production(asking()))
    assert held(project, make_production(project.round(asking())))
    assert project.pointed("challenger") == 2
    assert last(project)["event"] == "hold"
    assert last(project)["reason"].startswith("Version 2 waits for approval.")
    assert len(project.stores.ledger.entries("demo")) == 2  # the same again adds nothing


@pytest.mark.slow
def test_a_challenger_waits_in_dagster_too(project: Project):
    for only in ([], ["production_model"]):
        run = project.run(asking(), *only)
        assert run.green
        assert "production_model" not in run.materialized
        check = run.check("beats_the_champion")
        assert not check.passed
        assert check.severity.value == "WARN"
        assert check.description.startswith("Version 2 waits for approval.")
        assert project.champion() == (1, 1)


@pytest.mark.slow
def test_the_first_champion_waits_as_well(tmp_path: Path):
    project = Project(tmp_path)
    project.write(rows())
    made = project.production(asking())
    assert made.decision == Hold(
        "Version 1 waits for approval. There is no champion yet, and every gate holds."
    )
    assert project.champion() == (None, None)
    approve(project.round(asking()), 1, "the first")
    assert project.champion() == (1, 1)


@pytest.mark.slow
def test_a_rollback_needs_no_approval_and_what_was_withdrawn_is_not_approved(waiting: Project):
    approve(waiting.round(asking()), 2, "better")
    rollback.roll_back(waiting.round(asking()), None, "prices were wrong")
    assert waiting.champion() == (1, 1)
    with pytest.raises(PromotionRefused, match="stays withdrawn: prices were wrong"):
        approve(waiting.round(asking()), 2, "better after all")
    assert waiting.champion() == (1, 1)


# ------------------------------------------------------------------------------ approved


def test_an_approval_promotes_and_is_told_in_the_ledger(waiting: Project):
    made = approve(waiting.round(asking()), 2, " looked at 40 rows. ")
    assert waiting.champion() == (2, 2)
    entry = last(waiting)
    assert (entry["event"], entry["version"], entry["previous"]) == ("promotion", 2, 1)
    assert entry["actor"] == "a tester"
    assert entry["reason"].startswith(
        "Approved by a tester: looked at 40 rows. Against champion version 1 it is better"
    )
    assert made.champion == entry
    with pytest.raises(PromotionRefused, match=r"^Version 2 of demo is the champion already"):
        approve(waiting.round(asking()), 2, "again")
    assert promotions(waiting) == [1, 2]


WORSE = {"gates": [{"beats": "champion", "by": 0.9}]}
UNFIT = {"gates": [{"metric": "accuracy", "min": 0.999}]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "why", "problem", "said"),
    [
        (
            1,
            "x",
            asking(),
            "Version 1 of demo is the champion already: there is nothing to approve",
        ),
        (9, "x", asking(), "Version 9 of demo is not the challenger; that is version 2"),
        (2, " ", asking(), "An approval needs a reason: --why TEXT"),
        (2, "x", declared(), "demo promotes automatically; to approve by hand, declare `promotion"),
        (2, "x", asking(**UNFIT), "^accuracy_reaches_floor: accuracy on test is"),
        (2, "x", asking(dataset={"contract": {"min_rows": 9999}}), "^has_enough_rows: "),
        (2, "x", asking(**WORSE), "^Version 2: Against champion version 1 it is"),
    ],
    ids=["champion", "unknown", "no reason", "automatic", "gate", "dataset", "not better"],
)
def test_what_cannot_be_approved_is_refused(waiting: Project, version, why, problem, said):
    with pytest.raises(PromotionRefused, match=said):
        approve(waiting.round(problem), version, why)
    assert waiting.champion() == (1, 1)
    assert promotions(waiting) == [1]


@pytest.mark.slow
def test_an_approval_is_for_the_version_that_was_meant_alone(waiting: Project):
    """A new challenger came between the look and the word."""
    changed = asking(candidates={"all": {"estimator": "linear", "params": {"C": 0.5}}})
    waiting.challenger(changed)
    with pytest.raises(PromotionRefused, match="that is version 3"):
        approve(waiting.round(changed), 2, "I looked at version 2")
    assert waiting.champion() == (1, 1)


@pytest.mark.slow
def test_of_two_approvals_at_once_one_promotes(waiting: Project, monkeypatch):
    both, came = threading.Barrier(2, timeout=60), set[str]()
    real = production._compared

    def together(*given: Any) -> Any:
        found = real(*given)
        if threading.current_thread().name not in came:  # when it looks again it is alone
            came.add(threading.current_thread().name)
            both.wait()
        return found

    monkeypatch.setattr(production, "_compared", together)
    rounds = [waiting.round(asking()) for _ in range(2)]
    told: list[str] = []

    def ask(n: int) -> None:
        try:
            approve(rounds[n], 2, f"word {n}")
            told.append("promoted")
        except PromotionRefused as error:
            told.append(str(error))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [
        "Version 2 of demo is the champion already: there is nothing to approve.",
        "promoted",
    ]
    assert promotions(waiting) == [1, 2]
    assert waiting.champion() == (2, 2)


# --------------------------------------------------------------------------- in Dagster


def job(project: Project, problem: Problem, name: str, **config: Any) -> Any:
    """It runs one of the jobs that people decide by."""
    project.here()
    return (
        project.definitions(problem)
        .resolve_job_def(f"demo_{name}")
        .execute_in_process(
            instance=project.instance,
            raise_on_error=False,
            tags={"ml_assets/actor": "eve"},
            run_config={
                "ops": {f"demo__{name}": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )
    )


def shown(project: Project) -> dict[str, Any]:
    """It returns the metadata of the last materialization of production_model."""
    event = project.instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    return {k: v.value for k, v in event.asset_materialization.metadata.items()}


@pytest.mark.slow
def test_the_jobs_do_as_the_commands(waiting: Project):
    refused = job(waiting, asking(), "approve", version=1, why="x")
    assert not refused.success
    assert waiting.instance.get_latest_materialization_event(KEY) is None
    assert waiting.champion() == (1, 1)

    assert job(waiting, asking(), "approve", version=2, why="seen").success
    assert waiting.champion() == (2, 2)
    assert last(waiting)["actor"] == "eve"
    assert last(waiting)["reason"].startswith("Approved by eve: seen.")
    told = shown(waiting)
    assert (told["version"], told["previous_version"], told["event"]) == (2, 1, "promotion")
    assert told["actor"] == "eve"

    refused = job(waiting, asking(), "rollback", why=" ")
    assert not refused.success
    assert waiting.champion() == (2, 2)
    assert job(waiting, asking(), "rollback", why="prices were wrong").success
    assert waiting.champion() == (1, 1)
    assert (last(waiting)["event"], last(waiting)["actor"]) == ("rollback", "eve")
    told = shown(waiting)
    assert (told["version"], told["previous_version"], told["event"]) == (1, 2, "rollback")
    assert job(waiting, asking(), "rollback", to=2, why="they were right").success
    assert waiting.champion() == (2, 2)


@pytest.mark.slow
def test_the_command_shows_an_approval_in_the_ui(waiting: Project):
    component = MLProblem(asking(), waiting.root, waiting.root)
    entry = standing.approve(component, waiting.instance, 2, "seen")
    assert entry == last(waiting)
    assert shown(waiting)["version"] == 2


def test_there_is_a_job_and_a_sensor_only_where_approval_is_asked(tmp_path: Path):
    project = Project(tmp_path)
    for problem, jobs, sensors in (
        (declared(), {"demo", "demo_variants", "demo_rollback"}, set()),
        (
            asking(),
            {"demo", "demo_variants", "demo_rollback", "demo_approve"},
            {"demo_approved_in_mlflow"},
        ),
    ):
        defs = project.definitions(problem)
        assert {j.name for j in defs.jobs or []} == jobs
        assert {s.name for s in defs.sensors or []} - {"demo_new_data"} == sensors


def tick(project: Project, cursor: str | None = None) -> Any:
    """It returns what the sensor on MLflow says."""
    project.here()
    sensors = project.definitions(asking()).sensors or []
    [sensor] = [s for s in sensors if s.name == "demo_approved_in_mlflow"]
    assert isinstance(sensor, dg.SensorDefinition)
    assert sensor.job_name == "demo_approve"
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    return sensor(dg.build_sensor_context(instance=project.instance, cursor=cursor))


def test_without_a_challenger_the_sensor_skips(tmp_path: Path):
    skipped = tick(Project(tmp_path))
    assert skipped == dg.SkipReason("demo has no challenger.")


def requested(project: Project) -> dg.RunRequest:
    [request] = tick(project).run_requests
    return request


@pytest.mark.slow
def test_a_tag_in_mlflow_approves_once(waiting: Project):
    registry = waiting.stores.registry
    assert tick(waiting) == dg.SkipReason("Version 2 has no tag `approved`.")
    for word in ("false", " No ", "0"):
        registry.tag("demo", 2, approved=word)
        assert tick(waiting) == dg.SkipReason("Version 2 has no tag `approved`.")
    registry.tag("demo", 2, approved="true")
    asked = requested(waiting)
    config = {"version": 2, "why": "Tagged `approved` in MLflow: no reason."}
    assert asked.run_config == {"ops": {"demo__approve": {"config": config}}}
    assert requested(waiting).run_key == asked.run_key

    registry.tag("demo", 2, approved="looked at 40 rows")
    again = requested(waiting)
    assert again.run_key != asked.run_key
    config = again.run_config["ops"]["demo__approve"]["config"]
    assert config["why"] == "Tagged `approved` in MLflow: looked at 40 rows."
    assert job(waiting, asking(), "approve", **config).success
    assert waiting.champion() == (2, 2)
    assert "looked at 40 rows. Against champion" in last(waiting)["reason"]
    assert tick(waiting) == dg.SkipReason("Version 2 is champion already.")


@pytest.mark.slow
def test_each_challenger_is_asked_for_by_itself(waiting: Project):
    registry = waiting.stores.registry
    registry.tag("demo", 2, approved="yes")
    first = requested(waiting)
    other = {"all": {"estimator": "linear", "params": {"C": 0.5}}}
    waiting.challenger(asking(candidates=other))
    assert waiting.pointed("challenger") == 3
    assert tick(waiting) == dg.SkipReason("Version 3 has no tag `approved`.")
    registry.tag("demo", 3, approved="yes")
    assert requested(waiting).run_key != first.run_key
