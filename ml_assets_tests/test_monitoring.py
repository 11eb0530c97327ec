"""After deployment: live rows are watched, drift and decay start a run, a bad successor goes back."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from ml_assets.alert import Where, of_run
from ml_assets.candidate import predict
from ml_assets.components.alerts import runs_since
from ml_assets.problem import Problem
from ml_assets.problem.operation import HAPPENINGS
from ml_assets.resources.prediction_log import folder_of, inputs_folder_of
from ml_assets.round import successor
from ml_assets.round.predictions import load_scorer, scoring_entry
from ml_assets_tests.problems import (
    SEES_A,
    SEES_ALL,
    SEES_B,
    Project,
    Run,
    arrive,
    declared,
    quickly,
    rows,
)

LANDING = {"path": "landing/*.csv", "settle": 0}
WATCHED = {"window": 100, "min_rows": 50, "every": "1s"}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def watched(**given: Any) -> Problem:
    more = {"dataset": LANDING, "monitoring": WATCHED, "candidates": {"all": SEES_ALL}}
    retrain = {"on_new_data": False, "cool_down": "1s"}
    return declared(**{**more, "retrain": retrain, **given})


@dataclass
class Life:
    """A project after deployment: what a server logs, what arrives, and what Dagster's daemon does."""

    project: Project
    problem: Problem
    cursors: dict[str, str] = field(default_factory=dict)

    def serve(self, frame: pd.DataFrame, inputs: bool = True) -> None:
        """It logs what the champion says of rows, as the server does."""
        stores = self.project.stores
        scorer = load_scorer(self.problem, stores, scoring_entry("demo", stores))
        said = predict(scorer.model, frame[list(scorer.columns)], scorer.target)
        assert said.probabilities is not None
        line = {"id": f"{time.time_ns()}", "at": time.time(), "version": scorer.version}
        answers = {
            "inputs": ["0" * 16] * len(frame),
            "keys": frame["id"].tolist(),
            "predictions": said.values.tolist(),
            "classes": list(scorer.classes),
            "probabilities": said.probabilities.tolist(),
        }
        kept = {"columns": {c: frame[c].tolist() for c in scorer.columns}}
        for folder, more in ((folder_of, answers), (inputs_folder_of, kept)):
            place = folder(stores.lake.root, "demo")
            if folder is inputs_folder_of and not inputs:
                continue
            place.mkdir(parents=True, exist_ok=True)
            with open(place / "1.jsonl", "a") as out:
                out.write(json.dumps(line | more) + "\n")

    def label(self, name: str, frame: pd.DataFrame) -> None:
        arrive(frame, self.project.root / "landing" / f"{name}.csv")

    def tick(self, sensor: str) -> Any:
        """It lets a sensor look; it returns its request, or why there is none."""
        definitions = self.project.definitions(self.problem)
        [one] = [s for s in definitions.sensors or [] if s.name == f"demo_{sensor}"]
        cursor = self.cursors.get(sensor)
        with dg.build_sensor_context(self.project.instance, cursor=cursor) as context:
            told = one(context)
        if isinstance(told, dg.SkipReason):
            return told.skip_message
        if told.cursor:
            self.cursors[sensor] = told.cursor
        return told.run_requests[0] if told.run_requests else told.skip_reason.skip_message

    def run(self, request: Any, job: str = "demo") -> Run:
        """It runs what was asked for."""
        self.project.here()
        made = self.project.definitions(self.problem).resolve_job_def(job)
        given: dict[str, Any] = {"tags": request.tags, "asset_selection": request.asset_selection}
        run = made.execute_in_process(
            instance=self.project.instance, raise_on_error=False, run_config=QUIET, **given
        )
        return Run(run)

    def look(self) -> Run:
        if before := self.cursors.get("live_rows"):  # as if that was long ago
            self.cursors["live_rows"] = json.dumps({**json.loads(before), "at": time.time() - 60})
        request = self.tick("live_rows")
        assert isinstance(request, dg.RunRequest), request
        return self.run(request, "demo_monitoring")

    def shown(self, run: Run, asset: str) -> dict[str, Any]:
        key = dg.AssetKey(["demo", asset])
        [event] = [e for e in run.result.get_asset_materialization_events() if e.asset_key == key]
        return {k: v.value for k, v in event.materialization.metadata.items()}


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with quickly():
        arrive(rows(1500), tmp_path / "landing" / "first.csv")
        yield Life(Project(tmp_path), watched())


def moved(count: int, seed: int, turned: bool = False) -> pd.DataFrame:
    """It returns rows whose `a` lies elsewhere, and whose target follows `b`, or is turned round."""
    frame = rows(count, seed=seed, first=10_000 * seed)
    frame["a"] = frame["a"] + 1.5
    noise = np.random.default_rng(seed).normal(scale=1.0 if turned else 0.5, size=count)
    signal = 1.5 - frame["a"] if turned else frame["b"]
    return frame.assign(y=np.where(signal + noise > 0, "yes", "no"))


def test_drift_in_live_rows_starts_a_run_once_their_labels_are_in(life: Life):
    """The whole way: answered, labelled late, watched, decided, trained again."""
    assert "no champion yet" in life.tick("live_rows")
    assert life.project.run(life.problem).green
    life.serve(rows(300, seed=3, first=5000))
    run = life.look()
    assert run.green
    assert run.failed_checks == set()
    assert run.materialized == {"monitoring", "rollback_decision", "retrain_decision"}
    assert life.shown(run, "monitoring")["windows"] == 3
    assert "Live rows show no lasting drift or decay." in life.tick("retrain")
    assert "No prediction and no label" in life.tick("live_rows")

    later = moved(300, seed=4, turned=True)
    life.serve(later)
    run = life.look()

    assert run.green
    assert {"features_are_spread_alike", "answers_are_spread_alike"} <= run.failed_checks
    assert "live_performance_holds" not in run.failed_checks
    told = life.tick("retrain")
    assert told.startswith("Features: 3 of the last 5 windows and the latest.")
    assert told.endswith("But 0 rows are new: the dataset is the one of the last run.")
    assert life.shown(run, "retrain_decision")["decision"] == "wait"

    life.label("later", later)
    request = life.tick("new_data")
    assert [k.path for k in request.asset_selection] == [
        ["demo", "dataset"],
        ["demo", "quarantine"],
    ]
    assert life.run(request).materialized == {"dataset", "quarantine"}
    run = life.look()
    assert "live_performance_holds" in run.failed_checks
    assert "Performance" in life.shown(run, "monitoring")["alarms"]
    assert life.shown(run, "retrain_decision")["decision"] == "retrain"
    request = life.tick("retrain")
    assert request.tags["ml_assets/retrain_rows"] == "1800"
    retrained = life.run(request)
    assert retrained.green
    assert "candidate/all" in retrained.materialized
    assert "rows are new" in life.tick("retrain") or "no lasting" in life.tick("retrain")


@pytest.mark.slow
def test_the_same_rows_in_other_order_raise_no_alarm(life: Life):
    assert life.project.run(life.problem).green
    for i in range(5):
        life.serve(rows(100, seed=20 + i, first=5000 + 1000 * i), inputs=i % 2 == 0)

    run = life.look()

    assert run.failed_checks == set()
    assert life.shown(run, "monitoring")["alarms"] == "None."
    assert "decides" not in run.check("features_are_spread_alike").description


@pytest.mark.slow
def test_without_kept_features_their_drift_is_not_asked_and_that_is_said(life: Life):
    assert life.project.run(life.problem).green
    life.serve(moved(200, seed=4), inputs=False)

    run = life.look()

    assert "inputs: true" in run.check("features_are_spread_alike").description
    assert "answers_are_spread_alike" in run.failed_checks


def promoted(life: Life) -> None:
    """It makes a champion that sees the one feature, and then one that sees both."""
    life.problem = watched(candidates={"b": SEES_B}, monitoring={**WATCHED, "fresh_rows": 200})
    assert life.project.run(life.problem).green
    life.problem = life.problem.model_copy(
        update={"candidates": declared(candidates={"one": SEES_A}).candidates}
    )
    assert life.project.run(life.problem).green
    assert life.project.champion() == (2, 2)


def test_a_fresh_champion_that_does_worse_than_its_predecessor_is_rolled_back(life: Life):
    """Seen to fail when the two were taken for each other."""
    promoted(life)
    later = moved(150, seed=4)
    life.serve(later)
    life.look()
    assert life.project.champion() == (2, 2)
    life.label("later", later)
    assert life.run(life.tick("new_data")).green

    run = life.look()

    check = run.check("predecessor_is_not_better")
    assert not check.passed
    assert check.description.startswith(
        "Look 3 of 4: version 1 against champion version 2 is better"
    )
    assert life.project.champion() == (1, 1)
    entry = life.project.stores.ledger.champion("demo")
    assert entry is not None
    assert (entry["event"], entry["actor"], entry["previous"]) == ("rollback", "monitoring", 2)
    assert "production_model" in run.materialized
    assert "has no predecessor" in life.look().check("predecessor_is_not_better").description


@pytest.mark.slow
def test_where_promotions_need_approval_a_bad_successor_is_told_and_stays(life: Life):
    promoted(life)
    life.problem = life.problem.model_copy(
        update={
            "monitoring": watched(
                monitoring={**WATCHED, "fresh_rows": 200, "rollback": False}
            ).monitoring
        }
    )
    later = moved(150, seed=4)
    life.serve(later)
    life.label("later", later)
    assert life.run(life.tick("new_data")).green

    run = life.look()

    said = run.check("predecessor_is_not_better").description
    assert "ml-assets rollback demo --to 1" in said
    ended = runs_since(life.project.instance, ["demo"], None)[0]["demo"]
    told = of_run("demo", ended[0], {}, HAPPENINGS, Where("", ""))[0]
    assert ("bad_successor", said) in [(e.kind, e.sentence) for e in told]
    assert "gate_failed" not in [e.kind for e in told]
    assert life.project.champion() == (2, 2)


@pytest.mark.slow
def test_a_good_successor_stays_and_is_looked_at_a_few_times_only(life: Life):
    promoted(life)
    looked = []
    for i in range(6):
        frame = rows(50, seed=30 + i, first=5000 + 1000 * i)
        life.serve(frame)
        life.label(f"part{i}", frame)
        assert life.run(life.tick("new_data")).green
        run = life.look()
        looked.append(run.check("predecessor_is_not_better").description[:9])
        assert run.check("predecessor_is_not_better").passed

    assert looked == [*(f"Look {i} of" for i in range(1, 5)), "Version 2", "Version 2"]
    assert life.project.champion() == (2, 2)


@pytest.mark.slow
def test_a_champion_that_changed_meanwhile_is_not_rolled_back(
    life: Life, monkeypatch: pytest.MonkeyPatch
):
    promoted(life)
    later = moved(150, seed=4)
    life.serve(later)
    life.label("later", later)
    assert life.run(life.tick("new_data")).green
    compared = successor._compared

    def slow(round_: Any, *rest: Any) -> Any:
        found = compared(round_, *rest)
        from ml_assets.round.rollback import roll_back

        roll_back(round_, 1, "somebody was faster")
        return found

    monkeypatch.setattr(successor, "_compared", slow)

    run = life.look()

    assert not run.green
    assert [e["actor"] for e in life.project.stores.ledger.entries("demo")][-1] != "monitoring"
