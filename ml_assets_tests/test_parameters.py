"""A run with parameters: typed and explained, compared, and never promoted unless told to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets import verification
from ml_assets.components.ml_problem.parameters import build_parameters, run_config
from ml_assets.errors import DeclarationError, NotMaterialized
from ml_assets.problem import Parameters, parameters
from ml_assets.promotion import Hold, Promote, compared_only
from ml_assets.round import production
from ml_assets.round.candidate import make_candidate
from ml_assets.round.challenger import make_challenger
from ml_assets.round.dataset import make_dataset
from ml_assets.round.parameters import changed, told_otherwise, with_parameters
from ml_assets.round.production import make_production
from ml_assets.round.split import make_split
from ml_assets_tests.problems import SEES_ALL, SEES_B, Project, Run, declared, quickly, rows

WEAK_AND_ALL = {"weak": SEES_B, "all": SEES_ALL}
FLOOR = "accuracy_reaches_floor"


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quickly() as patch:
        patch.setattr(production, "in_clean_process", verification.verify)
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A weak champion, version 1; what is declared now would be better."""
    made = Project(tmp_path)
    made.write(rows())
    made.production(declared(candidates={"weak": SEES_B}))
    return made


def decided(project: Project, problem: Any, *settings: str, promote: bool = False) -> Any:
    """It makes a whole round with parameters."""
    given = parameters(list(settings), promote)
    round_ = with_parameters(project.round(problem), given)
    make_dataset(round_)
    make_split(round_)
    for name in round_.problem.contenders():
        make_candidate(round_, name)
    make_challenger(round_)
    return make_production(round_)


# ----------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("settings", "given"),
    [
        (["candidates.rf.n_estimators=300"], {"candidates": {"rf": {"n_estimators": 300}}}),
        (
            ["candidates.rf.max_depth=null", "candidates.rf.criterion=gini"],
            {"candidates": {"rf": {"max_depth": None, "criterion": "gini"}}},
        ),
        ([f"gates.{FLOOR}.min=0.9"], {"gates": {FLOOR: {"min": 0.9}}}),
        (["only=[a, b]", "seed=7"], {"only": ["a", "b"], "seed": 7}),
        (["data=other = file.csv"], {"data": "other = file.csv"}),
        (["threshold=0.3"], {"threshold": 0.3}),
        (["candidates.net.layers__0.size=3"], {"candidates": {"net": {"layers__0.size": 3}}}),
    ],
)
def test_words_set_parameters(settings: list[str], given: dict[str, Any]):
    assert parameters(settings) == Parameters(**given)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["seed"], "sets nothing"),
        (["candidates.rf=3"], "sets nothing"),
        (["=3"], "sets nothing"),
        (["sead=3"], "Did you mean `seed`"),
        (["seed=many"], "seed"),
        (["seed=-1"], "greater than or equal to 0"),
        (["data=x.csv", "dataset_version=12"], "not both"),
    ],
)
def test_words_that_set_nothing_are_refused(settings: list[str], told: str):
    with pytest.raises(DeclarationError, match=told):
        parameters(settings)


@pytest.mark.parametrize("setting", ["data=x.csv", "dataset_version=12", f"gates.{FLOOR}.min=0"])
def test_other_data_and_other_thresholds_never_promote(setting: str):
    """Seen to fail without the validator: a lowered floor would have let a bad model in."""
    with pytest.raises(DeclarationError, match="promote: not together with"):
        parameters([setting], promote=True)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["candidates.wek.C=1"], "Did you mean `weak`"),
        (["only=[al]"], "Did you mean `all`"),
        ([f"gates.{FLOOR}s.min=1"], f"Did you mean `{FLOOR}`"),
        ([f"gates.{FLOOR}.mn=1"], "is not a key of MetricGate"),
        (["threshold=7"], "lies between 0 and 1"),
        (["select=rmse"], "not for binary"),
    ],
)
def test_what_does_not_fit_the_problem_is_refused(settings: list[str], told: str):
    gates = [{"metric": "accuracy", "min": 0.5}]
    problem = declared(candidates=WEAK_AND_ALL, gates=gates, task="binary")
    with pytest.raises(DeclarationError, match=told):
        changed(problem, parameters(settings))


def test_what_is_declared_already_changes_nothing():
    gates = [{"metric": "accuracy", "min": 0.5}]
    problem = declared(candidates=WEAK_AND_ALL, gates=gates)
    same = parameters(
        ["candidates.all.C=1.0", f"gates.{FLOOR}.min=0.5", "seed=0", "only=[all, weak, baseline]"]
    )
    assert told_otherwise(problem, changed(problem, same), same) == ""
    other = parameters(["candidates.all.C=2.0", f"gates.{FLOOR}.min=0.5", "seed=1"])
    told = told_otherwise(problem, changed(problem, other), other)
    assert told == "candidates.all.C=2.0, seed=1"


# ------------------------------------------------------------------------------- decisions


def test_a_hold_stays_a_hold():
    assert compared_only(Hold("no"), "seed=1") == Hold("no")
    assert compared_only(Promote("It is better."), "seed=1") == Hold(
        "This run only compares, with seed=1. It is better."
    )


def test_a_run_with_parameters_compares_and_leaves_production_alone(project: Project):
    """Seen to fail when `promotes` was not looked at: version 2 became champion."""
    alias = project.pointed("challenger")
    made = decided(project, declared(), "candidates.all.C=0.5")
    assert isinstance(made.decision, Hold)
    assert made.decision.reason.startswith("This run only compares, with candidates.all.C=0.5. ")
    assert "better" in made.decision.reason
    assert project.champion() == (1, 1)
    assert project.pointed("challenger") == alias
    entry = project.stores.ledger.entries("demo")[-1]
    assert (entry["event"], entry["otherwise"]) == ("hold", "candidates.all.C=0.5")


def test_a_run_with_parameters_promotes_when_told_to(project: Project):
    made = decided(project, declared(), "candidates.all.C=0.5", promote=True)
    assert isinstance(made.decision, Promote)
    assert project.champion() == (2, 2)
    assert project.stores.ledger.champion("demo")["otherwise"] == "candidates.all.C=0.5"


def test_what_only_approval_may_promote_is_not_promoted_by_a_parameter(project: Project):
    waiting = declared(promotion={"mode": "approval"})
    with pytest.raises(DeclarationError, match="need approval"):
        decided(project, waiting, "seed=1", promote=True)
    assert project.champion() == (1, 1)


def test_only_some_candidates_take_part(project: Project):
    made = decided(project, declared(candidates=WEAK_AND_ALL), "only=[weak]")
    assert made.challenger.name == "weak"


def test_other_data_leave_the_problems_own_as_they_are(project: Project):
    before = project.stores.lake.current("demo", "dataset").digest
    rows(300, seed=5).to_csv(project.root / "other.csv", index=False)
    made = decided(project, declared(), "data=other.csv")
    assert isinstance(made.decision, Hold)
    assert project.stores.lake.current("demo", "dataset").digest == before
    after = project.production(declared())
    assert after.challenger.split.dataset.digest == before
    assert isinstance(after.decision, Promote)


def test_an_earlier_dataset_can_be_looked_at(project: Project):
    first = project.stores.lake.current("demo", "dataset").digest
    project.write(rows(900, seed=1))
    second = project.production(declared()).challenger.split.dataset.digest
    assert second != first
    made = decided(project, declared(), f"dataset_version={first[:10]}")
    assert made.challenger.split.dataset.digest == first
    assert project.stores.lake.current("demo", "dataset").digest == second
    with pytest.raises(NotMaterialized, match=f"No version begins with `zz`.*{first[:16]}"):
        decided(project, declared(), "dataset_version=zz")


# --------------------------------------------------------------------------------- Dagster


def test_the_launchpad_shows_what_is_declared():
    gates = [{"metric": "accuracy", "min": 0.5}]
    problem = declared(candidates=WEAK_AND_ALL, gates=gates)
    schema = build_parameters(problem).config_schema.config_type.fields
    assert set(schema) == set(Parameters.model_fields)
    assert all(field.description for field in schema.values())
    assert schema["candidates"].config_type.fields["all"].default_value == {"C": 1.0}
    assert schema["gates"].config_type.fields[FLOOR].default_value == {"min": 0.5}


@pytest.mark.slow
def test_parameters_reach_every_step_of_a_dagster_run(project: Project):
    problem = declared(candidates=WEAK_AND_ALL)
    job = project.definitions(problem).resolve_job_def("demo")
    given = parameters(["candidates.all.C=0.5", "only=[all]"])
    project.here()
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    config = {**quiet, **run_config(problem, given)}
    run = Run(job.execute_in_process(instance=project.instance, run_config=config))
    assert run.green
    assert "candidate/all" in run.materialized
    assert "candidate/weak" not in run.materialized
    assert "production_model" not in run.materialized
    assert (
        run.check("is_fitted", "candidate/weak").description == "It does not take part in this run."
    )
    told = run.check("beats_the_champion").description
    assert told.startswith("This run only compares, with candidates.all.C=0.5, only=all.")


@pytest.mark.slow
def test_a_backfill_compares_several_values(project: Project):
    problem = declared()
    definitions = project.definitions(problem)
    job = definitions.resolve_job_def("demo_variants")
    names = ["candidates.all.C=0.5", "candidates.all.C=0.1; seed=2"]
    project.instance.add_dynamic_partitions("demo_variants", names)
    project.here()
    for name in names:
        result = job.execute_in_process(instance=project.instance, partition_key=name)
        assert result.success
    held = [e["otherwise"] for e in project.stores.ledger.entries("demo") if "otherwise" in e]
    assert held == ["candidates.all.C=0.5", "candidates.all.C=0.1, seed=2"]
    assert project.champion() == (1, 1)


def test_a_wrong_parameter_is_refused_before_anything_runs(project: Project):
    job = project.definitions(declared()).resolve_job_def("demo")
    config = {"resources": {"demo_parameters": {"config": {"candidates": {"al": {"C": 1}}}}}}
    with pytest.raises(dg.DagsterInvalidConfigError, match='unexpected config entry "al"'):
        job.execute_in_process(instance=project.instance, run_config=config)
