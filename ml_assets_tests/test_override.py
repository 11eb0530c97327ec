"""One gate, one version, until a time: what an override lets pass, and what it does not."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_assets import standing, verification
from ml_assets.components import MLProblem
from ml_assets.errors import DeclarationError, ModelRefused, PromotionRefused
from ml_assets.problem import Problem
from ml_assets.promotion import Promote
from ml_assets.round import rollback
from ml_assets.round.override import override
from ml_assets.round.production import make_production
from ml_assets_tests.problems import Project, declared, quickly, rows

FLOOR = "accuracy_reaches_floor"
TOO_HIGH = [{"metric": "accuracy", "min": 0.999}]
LATER = 4e9


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quickly() as patch:
        patch.setattr(rollback, "in_clean_process", verification.verify)
        yield


def strict(**given: Any) -> Problem:
    return declared(gates=TOO_HIGH, **given)


@pytest.fixture
def refused(tmp_path: Path) -> Project:
    """Version 1 fails its floor, and nothing serves."""
    project = Project(tmp_path)
    project.write(rows())
    assert project.production(strict()).decision is None
    assert project.champion() == (None, None)
    return project


def test_a_gate_that_is_overridden_lets_its_version_pass_and_stays_in_sight(refused: Project):
    """Seen to fail when `overridden` returned the verdicts as they were."""
    entry = override(refused.round(strict()), 1, FLOOR, "agreed with the client", LATER)
    made = refused.production(strict())
    assert isinstance(made.decision, Promote)
    assert refused.champion() == (1, 1)
    answer = next(v for v in made.verdicts if v.name == FLOOR)
    assert not answer.passed
    assert not answer.stops
    assert answer.reason.endswith(
        f"Overridden by a tester (ledger, entry {entry['number']}): agreed with the client"
    )
    noted = refused.stores.ledger.champion("demo")["gates"]
    assert {"name": FLOOR, "passed": False, "mode": "warn"}.items() <= next(
        g for g in noted if g["name"] == FLOOR
    ).items()


def test_an_override_ends(refused: Project):
    round_ = refused.round(strict())
    override(round_, 1, FLOOR, "for today", round_.clock() + 1000)
    tomorrow = replace(round_, clock=lambda: round_.clock() + 2000)
    assert make_production(tomorrow).decision is None
    assert refused.champion() == (None, None)


def test_an_override_is_for_one_version(refused: Project):
    override(refused.round(strict()), 1, FLOOR, "only this one", LATER)
    other = strict(candidates={"all": {"estimator": "linear", "params": {"C": 0.01}}})
    assert refused.production(other).decision is None  # version 2
    assert refused.champion() == (None, None)


def test_an_override_is_for_one_gate(refused: Project):
    two = declared(gates=[*TOO_HIGH, {"metric": "roc_auc", "min": 0.9999}])
    override(refused.round(two), 1, FLOOR, "only this one", LATER)
    made = refused.production(two)
    assert made.decision is None
    assert [v.name for v in made.verdicts if v.stops] == ["roc_auc_reaches_floor"]


def test_an_override_makes_nothing_better_than_the_champion(tmp_path: Path):
    project = Project(tmp_path)
    project.write(rows())
    project.production(declared())
    worse = strict(candidates={"weak": {"estimator": "linear", "transform": ".model.sees_b"}})
    assert project.production(worse).decision is None
    override(project.round(worse), 2, FLOOR, "let it in", LATER)
    made = project.production(worse)
    assert "not better" in made.decision.reason
    assert project.champion() == (1, 1)


@pytest.mark.parametrize(
    ("version", "gate", "why", "until", "error", "told"),
    [
        (1, FLOOR, " ", LATER, PromotionRefused, "needs a reason"),
        (1, FLOOR, "x", 1.0, PromotionRefused, "ends in the future"),
        (1, "accuracy_reaches_flor", "x", LATER, PromotionRefused, f"Did you mean `{FLOOR}`"),
        (1, "beats_the_champion", "x", LATER, PromotionRefused, "cannot be overridden"),
        (1, "rows_are_unique", "x", LATER, PromotionRefused, "cannot be overridden"),
        (1, "predictions_are_complete", "x", LATER, PromotionRefused, "has no answer"),
        (9, FLOOR, "x", LATER, ModelRefused, "no usable version 9"),
    ],
)
def test_what_cannot_be_overridden_is_said(
    refused: Project, version, gate, why, until, error, told
):
    with pytest.raises(error, match=told):
        override(refused.round(strict()), version, gate, why, until)
    assert refused.stores.ledger.entries("demo") == []


def test_the_history_tells_who_why_and_until_when(refused: Project):
    component = MLProblem(strict(), refused.root, refused.root)
    shown = standing.override(component, 1, FLOOR, "agreed", "2100-01-01T00:00:00")
    assert shown["until"] == "2100-01-01T00:00:00Z"
    entry = standing.history(component, None)["entries"][-1]
    assert entry["event"] == "override"
    assert (entry["version"], entry["gate"], entry["reason"]) == (1, FLOOR, "agreed")
    assert entry["until"] == "2100-01-01T00:00:00Z"
    assert entry["actor"]
    with pytest.raises(DeclarationError, match="is no time"):
        standing.override(component, 1, FLOOR, "agreed", "tomorrow")


def test_challengers_judged_on_the_same_test_rows_are_counted(tmp_path: Path):
    """Repeats of one challenger count once; new test rows begin anew."""
    project = Project(tmp_path)
    project.write(rows())
    counted = []
    for penalty in (1.0, 0.5, 0.5, 0.1):
        candidates = {"all": {"estimator": "linear", "params": {"C": penalty}}}
        counted.append(project.challenger(declared(candidates=candidates)).judged_before)
        project.production(declared(candidates=candidates))
    assert counted == [0, 1, 1, 2]
    project.write(rows(700))
    assert project.challenger(declared()).judged_before == 0
