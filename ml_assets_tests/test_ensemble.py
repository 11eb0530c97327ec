"""An ensemble: the best few candidates answer together, and are a candidate like the others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from ml_assets import candidate as candidates
from ml_assets import verification
from ml_assets.artifact import dump, load
from ml_assets.candidate import build, fit, latency_ms, predict, requirements
from ml_assets.ensemble import best_few, join
from ml_assets.errors import CandidateError
from ml_assets.problem import CandidateDeclaration, Problem
from ml_assets.promotion import Promote
from ml_assets.round import candidate as in_round
from ml_assets.round import rollback
from ml_assets.round.candidate import make_candidate
from ml_assets.round.evaluation import make_evaluation
from ml_assets.round.reproduction import reproduce
from ml_assets.round.rollback import roll_back
from ml_assets.round.split import part_rows
from ml_assets.verification import in_clean_process, load_verified
from ml_assets_tests.conftest import problem, table, target_of
from ml_assets_tests.problems import (
    EXPLODES,
    SEES_A,
    SEES_ALL,
    SEES_B,
    Project,
    declared,
    quickly,
    rows,
)

TWO = {"estimator": "ensemble", "params": {"of": 2}}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quickly():
        yield


# ------------------------------------------------------------------------------ declared


def refusal(**given: Any) -> str:
    with pytest.raises(ValueError) as refused:
        problem(candidates=given)
    return str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"params": {"off": 2}}, "an ensemble has no parameter `off`. Did you mean `of`?"),
        ({"params": {"of": 0}}, "a whole number of candidates, not 0"),
        ({"params": {"of": True}}, "a whole number of candidates, not True"),
        ({"params": {"of": "2"}}, "a whole number of candidates, not '2'"),
        ({"params": {"members": []}}, "a list of names"),
        ({"params": {"members": ["ridgy"]}}, "no member `ridgy`. Did you mean `ridge`?"),
        ({"params": {"members": ["best"]}}, "`best` has no member `best`"),
        ({"params": {"members": ["baseline"]}}, "`best` has no member `baseline`"),
        ({"search": {"of": [1, 2]}}, "an ensemble has no `search`"),
        ({"transform": "none"}, "an ensemble has no `transform`"),
    ],
)
def test_what_an_ensemble_cannot_be_is_said(given, said):
    assert said in refusal(ridge={}, linear={}, best={"estimator": "ensemble", **given})


def test_an_ensemble_of_nothing_is_refused():
    assert "there is none beside it" in refusal(ensemble={"of": 2})


def test_it_comes_last_and_is_of_all_others_but_the_baseline():
    grid = {"estimator": "ridge", "search": {"alpha": [1, 2]}, "fan_out": True}
    of = problem(candidates={"ensemble": {"of": 5}, "ridge": {}, "grid": grid, "more": TWO})
    assert list(of.contenders())[-2:] == ["ensemble", "more"]
    assert of.members(of.candidates["ensemble"]) == ["ridge", "grid_1", "grid_2"]
    some = CandidateDeclaration(estimator="ensemble", params={"members": ["grid_2", "ridge"]})
    assert of.members(some) == ["ridge", "grid_2"]


# -------------------------------------------------------------------------------- chosen


@pytest.mark.parametrize(
    ("metrics", "metric", "of", "best"),
    [
        ({"a": 0.7, "b": 0.9, "c": 0.8}, "roc_auc", 2, ["b", "c"]),
        ({"a": 0.7, "b": 0.9}, "roc_auc", 3, ["b", "a"]),
        ({"c": 0.7, "b": 0.7, "a": 0.6}, "roc_auc", 2, ["b", "c"]),
        ({"a": 0.7, "b": 0.9, "c": 0.8}, "brier", 2, ["a", "c"]),
    ],
)
def test_the_best_are_chosen_by_the_metric(metrics, metric, of, best):
    known = {n: {metric: v, "log_loss": 0.5} for n, v in metrics.items()}
    assert best_few(known, metric, of, "binary") == best


def test_what_gives_no_probabilities_or_no_metric_is_left_out():
    known = {"a": {"accuracy": 0.9}, "b": {"accuracy": 0.8, "log_loss": 0.5}, "c": {"log_loss": 1}}
    assert best_few(known, "accuracy", 3, "binary") == ["b"]
    with pytest.raises(CandidateError, match="no other candidate was fitted and has a accuracy"):
        best_few({"a": {"accuracy": 0.9}}, "accuracy", 3, "binary")
    assert best_few({"a": {"rmse": 2}, "b": {"rmse": 1}}, "rmse", 3, "regression") == ["b", "a"]


def members_of(frame: pd.DataFrame) -> list[Pipeline]:
    target, of = target_of(frame), problem()
    x, y = frame.drop(columns="y"), frame["y"]
    small = {
        "random_forest": {"n_estimators": 5},
        "lightgbm": {"n_estimators": 5},
        "catboost": {"iterations": 5},
    }
    found = []
    for name, params in {"linear": {}, **small}.items():
        declared = CandidateDeclaration(estimator=name, params=params)
        made = fit(build(declared, of, target.task, x, None), (x, y), (x, y), of, target)
        found.append(load(dump(made.model)))
    return found


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_it_averages_what_its_members_say_and_is_stored_as_it_was(task):
    frame = table(80, task=task)[["amount", "whole", "noise", "y"]]
    target, x, y = target_of(frame), frame.drop(columns="y"), frame["y"]
    members = members_of(frame)
    made = join(members, (x, y), target)
    said, each = predict(made, frame, target), [predict(m, frame, target) for m in members]
    if task == "regression":
        assert said.values == pytest.approx(np.mean([p.values for p in each], axis=0))
    else:
        mean = np.mean([p.probabilities for p in each], axis=0)
        assert said.probabilities == pytest.approx(mean)
        assert list(said.values) == [target.classes[i] for i in mean.argmax(axis=1)]
    stored = dump(made)
    assert stored == dump(join(members_of(frame), (x, y), target))
    again = predict(load(stored), frame, target)
    assert np.array_equal(said.values, again.values)
    assert latency_ms(made, frame) > 0
    packages = {line.split("==")[0] for line in requirements(made)}
    assert {"lightgbm", "catboost", "scikit-learn"} <= packages


@pytest.mark.slow
def test_a_mixed_table_and_strange_names_of_columns_reach_every_member():
    frame = table(80).rename(columns={"amount": "amount [€] <"})
    x, y, target = frame.drop(columns="y"), frame["y"], target_of(frame)
    made = load(dump(join(members_of(frame), (x, y), target)))
    assert predict(made, frame[[*reversed(frame.columns)]], target).missing() == 0


# ------------------------------------------------------------------------------- in a round


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(rows(600))
    return made


def together(**more: Any) -> Problem:
    """It returns a problem in which the ensemble is better than each of its members."""
    return declared(candidates={"one": SEES_A, "other": SEES_B, "best_few": TWO, **more})


@pytest.mark.slow
def test_it_joins_the_best_that_were_fitted_and_is_promoted(project):
    """`other` is better than `worse`; `boom` failed; the run is green and production has it."""
    worse = {**SEES_B, "params": {"C": 1e-9}}
    run = project.run(together(boom=EXPLODES, worse=worse))
    assert run.green
    assert run.failed_checks == {"is_fitted"}
    assert not run.check("is_fitted", "candidate/boom").passed
    fitted = run.check("is_fitted", "candidate/best_few")
    assert "It joins one, other, which are not fitted again." in fitted.description
    assert project.champion() == (1, 1)
    assert project.stores.ledger.champion("demo")["candidate"] == "best_few"


@pytest.mark.slow
def test_when_no_member_was_fitted_it_fails_itself(project):
    run = project.run(declared(candidates={"boom": EXPLODES, "best_few": TWO}))
    assert not run.green
    said = run.check("is_fitted", "candidate/best_few")
    assert not said.passed
    assert "nothing to make an ensemble of" in said.description
    assert project.champion() == (None, None)


@pytest.mark.slow
def test_members_are_chosen_by_validation_and_nothing_is_fitted_again(project, monkeypatch):
    of = together(worse={**SEES_B, "params": {"C": 1e-9}})
    round_ = project.round(of)
    made = project.candidates(round_)
    board = {n: c.metrics["roc_auc"] for n, c in _board(round_).items() if n not in NOT_MEMBERS}
    assert made["best_few"].card["members"] == sorted(board, key=lambda n: -board[n])[:2]
    read, real = set(), part_rows

    def seen(round_: Any, split: Any, part: str) -> Any:
        read.add(part)
        return real(round_, split, part)

    monkeypatch.setattr(in_round, "part_rows", seen)
    monkeypatch.setattr(candidates, "fit", lambda *_: pytest.fail("it was fitted again"))
    three = {"estimator": "ensemble", "params": {"of": 3}}
    again = make_candidate(
        project.round(together(best_few=three, worse=of.candidates["worse"])), "best_few"
    )
    assert read == {"train", "validation"}
    assert len(again.card["members"]) == 3


NOT_MEMBERS = ("baseline", "best_few")


def _board(round_: Any) -> dict[str, Any]:
    return {c.name: c for c in make_evaluation(round_).board}


@pytest.mark.slow
def test_it_is_reused_until_a_member_changes(project):
    of = together()
    first = project.candidates(project.round(of))["best_few"]
    again = project.candidates(project.round(of))["best_few"]
    assert (first.reused, again.reused) == (False, True)
    changed = project.candidates(project.round(together(other={**SEES_B, "params": {"C": 0.5}})))
    assert {n: m.reused for n, m in changed.items()} == {
        "baseline": True,
        "one": True,
        "other": False,
        "best_few": False,
    }


@pytest.mark.slow
def test_before_its_members_it_says_what_is_missing(project):
    of = together()
    round_ = project.round(of)
    project.candidates(project.round(declared(candidates={"one": SEES_A})))
    made = make_candidate(round_, "best_few")
    assert "an ensemble comes after its members: other not made" in (made.error or "")
    make_candidate(round_, "other")
    assert make_candidate(round_, "best_few").entry is not None


@pytest.mark.slow
def test_where_a_class_is_rare_its_threshold_is_tuned(project):
    frame = rows(900)
    score = frame["a"] + frame["b"]
    project.write(frame.assign(y=np.where(score > score.quantile(0.94), "yes", "no")))
    made = project.candidates(project.round(together()))["best_few"]
    assert 0 < made.card["threshold"] < 0.5 or 0.5 < made.card["threshold"] < 1
    said = load_verified(made.entry.path, made.entry.digest)
    share = said.predict_proba(frame[["a", "b"]])[:, 1]
    assert ((share >= made.card["threshold"]) == (said.predict(frame[["a", "b"]]) == "yes")).all()


@pytest.mark.slow
def test_a_promoted_ensemble_is_reproduced_verified_and_rolled_back_to(project, monkeypatch):
    of = together(boom=EXPLODES)
    made = project.production(of)
    assert isinstance(made.decision, Promote)
    version = made.challenger.version
    card = project.stores.ledger.champion("demo")
    assert in_clean_process(version.folder, card["digest"])["golden_rows"] == 20

    again = reproduce(project.round(declared(candidates={"x": SEES_A}, seed=3)), None)
    assert (again.same, again.differences, again.candidate) == (True, (), "best_few")
    assert again.model_digest == card["model_digest"]

    monkeypatch.setattr(rollback, "in_clean_process", verification.verify)
    project.write(rows(3000))
    better = project.production(declared(candidates={"all": SEES_ALL}, gates=[LENIENT]))
    assert isinstance(better.decision, Promote), better.decision
    roll_back(project.round(of), 1, "the ensemble was right")
    assert project.champion() == (1, 1)


LENIENT = {"beats": "champion", "confidence": 0.5}
