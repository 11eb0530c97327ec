"""What goes wrong in a step: tried again only where another try may find it otherwise."""

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.execution.plan.objects import StepRetryData
from dagster_shared.error import SerializableErrorInfo

from ml_assets.components.ml_problem import step as steps
from ml_assets.resources.lake import Lake
from ml_assets.round import dataset as datasets
from ml_assets_tests.problems import EXPLODES, SEES_ALL, Project, Run, declared, quickly, rows


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(steps, "_POLICY", dg.RetryPolicy(max_retries=steps.MOST_RETRIES))
    with quickly():
        made = Project(tmp_path)
        made.write(rows(300))
        yield made


def tries_of(run: Run, step: str) -> int:
    """It returns how often a step was started."""
    kinds = ("STEP_START", "STEP_RESTARTED")
    return sum(e.event_type_value in kinds and e.step_key == step for e in run.result.all_events)


def fails(monkeypatch: pytest.MonkeyPatch, error: Exception, times: int) -> list[int]:
    """It makes the dataset's table fail so many times, then work."""
    original, seen = datasets.make_dataset, []

    def failing(*given: Any) -> Any:
        seen.append(1)
        if len(seen) <= times:
            raise error
        return original(*given)

    monkeypatch.setattr(datasets, "make_dataset", failing)
    return seen


LOCKED = sqlite3.OperationalError("database is locked")


@pytest.mark.parametrize("error", [LOCKED, ConnectionResetError(104, "reset by peer")])
def test_a_lock_and_a_connection_are_tried_again_and_the_run_is_green(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    fails(monkeypatch, error, 2)

    run = project.run(declared(), "dataset")

    assert run.green
    assert tries_of(run, "demo__dataset") == 3


def test_a_step_without_a_policy_of_its_own_is_tried_again_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steps, "_POLICY", dg.RetryPolicy(max_retries=steps.MOST_RETRIES))
    seen: list[int] = []

    @dg.op(out=dg.Out(dg.Nothing))
    @steps.careful(declared(), "monitoring")
    def flaky(context: dg.OpExecutionContext) -> Any:
        seen.append(context.retry_number)
        if len(seen) < 3:
            raise LOCKED
        yield dg.Output(None)

    @dg.job
    def job() -> None:
        flaky()

    assert job.execute_in_process(raise_on_error=False).success
    assert seen == [0, 1, 2]


def test_what_does_not_pass_is_red_after_so_many_tries(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    fails(monkeypatch, LOCKED, 99)

    run = project.run(declared(), "dataset")

    assert not run.green
    assert tries_of(run, "demo__dataset") == 1 + steps.MOST_RETRIES


class Kettle(ConnectionError):
    """A team's own exception, whatever it descends from."""


@pytest.mark.parametrize("error", [Kettle("boiled over"), ValueError("wrong"), MemoryError()])
def test_a_teams_own_exception_is_never_tried_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    fails(monkeypatch, error, 99)

    run = project.run(declared(), "dataset")

    assert not run.green
    assert tries_of(run, "demo__dataset") == 1


def test_wrong_input_is_never_tried_again(project: Project):
    (project.root / "data.csv").unlink()

    run = project.run(declared(), "dataset")

    assert not run.green
    assert tries_of(run, "demo__dataset") == 1


def test_a_failed_gate_is_never_tried_again(project: Project):
    """Seen to fail: with a retry policy and no `careful`, Dagster itself lets a gate pass by."""
    project.write(rows(20))

    run = project.run(declared())

    assert not run.green
    assert run.failed_checks == {"has_enough_rows"}
    assert tries_of(run, "demo__dataset") == 1


@pytest.mark.slow
def test_a_candidates_own_failure_is_no_reason_to_fit_it_again(project: Project):
    run = project.run(declared(candidates={"all": SEES_ALL, "kettle": EXPLODES}))

    assert run.green
    assert tries_of(run, "demo__candidate__kettle") == 1


def test_a_candidate_that_met_a_lock_is_fitted_again_and_not_lost(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    original, seen = Lake.put, []

    def put(self: Lake, problem: str, noun: str, *given: Any) -> Any:
        if noun == "candidate" and len(seen) < 2:
            seen.append(noun)
            raise LOCKED
        return original(self, problem, noun, *given)

    monkeypatch.setattr(Lake, "put", put)

    run = project.run(declared(candidates={"all": SEES_ALL}))

    assert run.green
    assert not run.failed_checks
    assert project.champion() == (1, 1)


@pytest.mark.slow
def test_a_candidate_over_its_limit_counts_as_failed_and_the_others_go_on(project: Project):
    slow = "\n\ndef slow():\n    import time\n    time.sleep(30)\n"
    (project.root / "model.py").write_text((project.root / "model.py").read_text() + slow)
    candidates = {"all": SEES_ALL, "slow": {"estimator": ".model.slow"}}
    project.run(
        declared(),
        "dataset",
        "split/train",
        "split/validation",
        "split/test",
        "candidate/all",
        "candidate/baseline",
    )

    began = time.monotonic()
    run = project.run(declared(candidates=candidates, limits={"candidate": "3s"}))

    assert time.monotonic() - began < 25
    assert run.green
    said = run.check("is_fitted", "candidate/slow")
    assert not said.passed
    assert (
        "demo/candidate took longer than 3 s, the limit in `limits.candidate`" in said.description
    )
    assert tries_of(run, "demo__candidate__slow") == 1
    assert project.champion() == (1, 1)


def test_a_step_over_its_limit_is_red_and_not_tried_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(datasets, "make_dataset", lambda *_: time.sleep(30))

    run = project.run(declared(limits={"dataset": "0.2s"}), "dataset")

    assert not run.green
    assert tries_of(run, "demo__dataset") == 1
    failed = [e for e in run.result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert "`limits.dataset`" in json.dumps(failed[0].step_failure_data.error.to_string())


AFTER_DEPLOYMENT = ("predictions", "canary", "monitoring", "rollback_decision", "retrain_decision")


@pytest.mark.parametrize("noun", AFTER_DEPLOYMENT)
def test_a_step_of_after_deployment_is_tried_again_and_limited_as_others(
    project: Project, monkeypatch: pytest.MonkeyPatch, noun: str
):
    """Seen to fail: a killed look at live rows was not tried again, and no limit could be declared."""
    problem = declared(
        promotion={"mode": "canary"},
        monitoring={},
        predictions={"path": "inbox/*.csv", "output": "scored"},
        limits={noun: "5m"},
    )
    definitions = project.definitions(problem)
    key = dg.AssetKey(["demo", noun])
    [step] = [a for a in definitions.assets or [] if key in a.keys]  # type: ignore[union-attr]

    assert step.op.retry_policy is not None
    assert step.op.retry_policy.max_retries == steps.MOST_RETRIES
    assert step.op.pool is None  # it waits for no fit of two hours
    assert problem.limits.of(noun) == 300


def test_a_decision_whether_to_retrain_is_tried_again_and_keeps_its_limit(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    from ml_assets.round import retraining

    seen: list[int] = []

    def slow(*_: Any) -> Any:
        seen.append(1)
        if len(seen) < 3:
            raise LOCKED
        time.sleep(20)

    monkeypatch.setattr(retraining, "make_retraining", slow)
    problem = declared(monitoring={}, limits={"retrain_decision": "1s"})
    job = project.definitions(problem).resolve_job_def("demo_monitoring")
    result = job.execute_in_process(
        instance=project.instance,
        asset_selection=[dg.AssetKey(["demo", "retrain_decision"])],
        raise_on_error=False,
    )

    assert not result.success
    assert len(seen) == 3
    [failed] = [e for e in result.all_events if e.event_type_value == "STEP_FAILURE"]
    assert "limits.retrain_decision" in str(failed.step_failure_data.error)


@pytest.mark.parametrize("ends", ["well", "badly"])
@pytest.mark.parametrize("given_up", [True, False])
def test_a_step_that_was_given_up_says_nothing_more(
    monkeypatch: pytest.MonkeyPatch, given_up: bool, ends: str
):
    """Seen to fail: a machine whose network came back ended the step of the one in its place."""

    left: list[int] = []

    def leaves(status: int) -> None:
        left.append(status)
        raise SystemExit

    monkeypatch.setattr(steps, "works_elsewhere", lambda job: True)
    monkeypatch.setattr(steps.os, "_exit", leaves)

    @dg.op(out=dg.Out(dg.Nothing))
    @steps.careful(declared(), "candidate")
    def slow(context: dg.OpExecutionContext) -> Any:
        if given_up:
            step = context.get_step_execution_context()
            DagsterEvent.step_retry_event(
                step, StepRetryData(error=SerializableErrorInfo("its machine is gone", [], "Gone"))
            )
        if ends == "badly":
            raise ValueError("no")
        yield dg.Output(None)

    @dg.job
    def job() -> None:
        slow()

    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(instance=instance, raise_on_error=False)
        told = [e.event_type_value for e in _events(instance)]
    assert left == ([0] if given_up else [])
    assert done.success == ("STEP_SUCCESS" in told) == (ends == "well" and not given_up)


def _events(instance: dg.DagsterInstance) -> list[Any]:
    (run,) = instance.get_runs()
    return [e.dagster_event for e in instance.all_logs(run.run_id) if e.dagster_event]
