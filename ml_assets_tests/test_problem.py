import subprocess
import sys

import pytest
from pydantic import ValidationError

from ml_assets.metric import DEFAULT_SELECT, METRICS
from ml_assets.problem import (
    DEFAULT_CANDIDATES,
    SHORT_NAMES,
    BeatsChampionGate,
    CandidateDeclaration,
    ClassShareGate,
    LatencyGate,
    MetricGate,
    Problem,
    SplitDeclaration,
)
from ml_assets_tests.conftest import dataset, problem


def refusal(make, *given, **named):
    with pytest.raises(ValidationError) as refused:
        make(*given, **named)
    return str(refused.value)


def test_the_smallest_problem_has_a_name_a_source_and_a_target():
    made = Problem(name="churn", dataset={"path": "churn.csv", "target": "Churn"})
    assert tuple(made.contenders()) == ("baseline", *DEFAULT_CANDIDATES)
    assert made.champion_gate() == BeatsChampionGate(beats="champion", confidence=0.95)
    assert made.split == SplitDeclaration(train=0.7, validation=0.15, test=0.15)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"candidats": {}}, "`candidats` is not a key of Problem. Did you mean `candidates`?"),
        ({"task": "binry"}, "`binry` is not known here. Did you mean `binary`?"),
        ({"select": "acuracy"}, "`acuracy` is no metric. Did you mean `accuracy`?"),
        ({"name": "1st"}, "`1st` cannot name a problem"),
        ({"name": "a/b"}, "`a/b` cannot name a problem"),
        ({"candidates": {"a b": {"estimator": "ridge"}}}, "`a b` cannot name a candidate"),
        ({"candidates": {"ours": {"n": 1}}}, "candidate `ours` has no `estimator`"),
        ({"candidates": {"xgbost": {}}}, "Did you mean `xgboost`?"),
        (
            {"candidates": {"ours": {"estimator": "randomforest"}}},
            "no short name of a candidate and no import path. Did you mean `random_forest`?",
        ),
        ({"split": {"by": "key"}}, "split: by key, but the dataset declares no `key`"),
        ({"threshold": 1.5}, "threshold is 1.5; it lies between 0 and 1"),
        ({"task": "binary", "select": "rmse"}, "select: rmse is not for binary tasks"),
        (
            {"task": "regression", "gates": [{"metric": "accuracy", "min": 0.5}]},
            "gates: accuracy is not for regression tasks. For these: rmse",
        ),
        ({"gates": [{"metric": "accuracy"}]}, "the gate on accuracy has no bound"),
        ({"gates": [{"metric": "acc", "min": 1}]}, "`acc` is no metric"),
        ({"gates": [{"latency": 1}]}, "no gate of this kind"),
        ({"gates": [{"latency_ms": 0}]}, "greater than 0"),
        ({"gates": [{"class_share": 0.6}]}, "less than or equal to 0.5"),
        ({"gates": [{"beats": "champion", "mode": "off"}]}, "`mode` is not a key"),
        ({"seed": -1}, "greater than or equal to 0"),
    ],
)
def test_a_wrong_problem_is_told_what_is_wrong_and_what_was_meant(given, said):
    assert said in refusal(problem, **given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"path": None}, "either `path` or `loader`"),
        ({"loader": ".model.rows"}, "either `path` or `loader`"),
        ({"key": "y"}, "`key` names the target `y`"),
        ({"drop": ["y"]}, "`drop` names the target `y`"),
        ({"separator": "::"}, "one character each"),
        ({"decimal": ""}, "one character each"),
        ({"traget": "x"}, "Did you mean `target`?"),
        ({"contract": {"columns": {"a": {"type": "int"}}}}, "Did you mean `integer`?"),
        ({"contract": {"columns": {"a": {"missing": 2}}}}, "less than or equal to 1"),
        ({"contract": {"min_rows": 0}}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_dataset_is_told_what_is_wrong(given, said):
    assert said in refusal(dataset, **given)


def test_shares_that_do_not_make_one_are_refused():
    assert "train + validation + test is 1.1" in refusal(SplitDeclaration, train=0.8)
    assert SplitDeclaration(train=0.1, validation=0.2, test=0.7).test == 0.7


def test_a_short_name_takes_its_parameters_directly():
    made = problem(candidates={"random_forest": {"n_estimators": 7}, "ridge": None})
    assert made.candidates["random_forest"] == CandidateDeclaration(
        estimator="random_forest", params={"n_estimators": 7}
    )
    assert made.candidates["ridge"] == CandidateDeclaration(estimator="ridge")


def test_any_name_takes_an_estimator():
    made = problem(candidates={"ours": {"estimator": ".model.trees", "params": {"depth": 2}}})
    assert made.candidates["ours"].estimator == ".model.trees"
    assert made.candidates["ours"].params == {"depth": 2}


def test_the_baseline_takes_part_once_under_whatever_name():
    assert tuple(problem(candidates={"ridge": {}}).contenders()) == ("baseline", "ridge")
    named = problem(candidates={"floor": {"estimator": "baseline"}, "ridge": {}})
    assert tuple(named.contenders()) == ("floor", "ridge")


def test_gates_are_known_by_their_keys():
    given = [
        {"metric": "accuracy", "min": 0.85},
        {"latency_ms": 100},
        {"class_share": 0.05},
        {"beats": "champion", "by": 0.01, "confidence": 0.9},
    ]
    made = problem(gates=given)
    assert [type(g) for g in made.gates] == [
        MetricGate,
        LatencyGate,
        ClassShareGate,
        BeatsChampionGate,
    ]
    assert made.champion_gate().confidence == 0.9


def test_a_declaration_survives_its_own_record():
    made = problem(
        task="binary",
        candidates={"ridge": {"alpha": 2}},
        gates=[{"metric": "f1", "min": 0.1}, {"beats": "baseline"}],
        split={"by": {"group": "patient"}},
    )
    assert Problem(**made.model_dump(mode="json")) == made


def test_a_declaration_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        problem().seed = 3


@pytest.mark.parametrize("task", DEFAULT_SELECT)
def test_the_default_metric_of_a_task_is_for_that_task(task):
    assert task in METRICS[DEFAULT_SELECT[task]][1]


def test_the_default_candidates_are_short_names():
    assert set(DEFAULT_CANDIDATES) <= set(SHORT_NAMES)


def test_a_declaration_needs_none_of_the_heavy_libraries():
    """A code location with hundreds of problems must list its assets quickly."""
    heavy = ("pandas", "numpy", "sklearn", "dagster", "mlflow", "skrub")
    code = f"import sys, ml_assets.problem; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
