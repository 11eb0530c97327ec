"""Gates that look at a challenger's answers row by row, and at the champion's."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.evaluation import score
from ml_assets.gates import CATALOGUE, Verdict
from ml_assets.gates.challenger import Seen, ask, expected
from ml_assets.gates.rows import ASKED, Answers, name_of
from ml_assets.problem import Problem
from ml_assets_tests.conftest import BINARY, MULTICLASS, REGRESSION, problem

NO, YES = "no", "yes"


def gate(**given: Any) -> Any:
    """It returns one declared gate."""
    return problem(gates=[given]).gates[0]


def classes(*values: Any) -> np.ndarray:
    return np.array(values, dtype=object)


def answers(
    truth: np.ndarray,
    said: np.ndarray,
    shares: Any = None,
    target: Target = BINARY,
    champion: Predictions | None = None,
    **columns: Any,
) -> Answers:
    """It returns what a challenger said of rows with these columns; shares are of the last class."""
    if shares is not None and np.ndim(shares) == 1:
        shares = np.column_stack([1 - np.array(shares), np.array(shares)])
    return Answers(
        pd.DataFrame(columns, index=range(len(truth))),
        truth,
        Predictions(said, shares),
        target,
        lambda t, s: score(t, s, target),
        lambda: {"accuracy": 1.0, "rmse": 1.0},
        champion,
        2_000_000,
        None,
    )


def asked(seen: Answers, **given: Any) -> Verdict:
    """It asks one gate, and makes sure that what it answers can be stored and shown."""
    declared = gate(**given)
    verdict = ASKED[type(declared)](seen, declared)
    assert type(verdict.passed) is bool
    assert verdict.mode == given.get("mode", "enforce")
    assert verdict.name == name_of(declared)
    assert verdict.reason
    assert all(isinstance(v, (int, float)) for v in verdict.evidence.values())
    return verdict


# 80 rows: of the 40 old ones 30 are right, of the 40 young ones all are
AGE = np.repeat(["old", "young"], 40)
TRUTH = classes(*[NO, YES] * 40)
SAID = TRUTH.copy()
SAID[:10] = np.where(TRUTH[:10] == YES, NO, YES)
AGED = answers(TRUTH, SAID, age=AGE, fine=np.arange(80.0))


# ------------------------------------------------------------------------------- slices


@pytest.mark.parametrize(("max_drop", "passed"), [(0.125, True), (0.124, False)])
def test_the_worst_slice_decides(max_drop, passed):
    verdict = asked(AGED, slice="age", metric="accuracy", max_drop=max_drop)
    assert verdict.passed == passed
    assert verdict.reason == (
        "Worst where `age` is old: accuracy 0.75 on 40 rows, 0.875 overall; worse by 0.125, "
        f"{max_drop:g} is allowed."
    )
    assert verdict.evidence == {"drop": 0.125, "rows": 40}


def test_a_slice_is_worse_where_smaller_is_better_too():
    truth = np.zeros(80)
    seen = answers(truth, np.repeat([3.0, 1.0], 40), target=REGRESSION, age=AGE)
    verdict = asked(seen, slice="age", metric="rmse", max_drop=0.5, mode="warn")
    assert not verdict.passed
    assert "Worst where `age` is old: rmse 3 on 40 rows" in verdict.reason
    assert verdict.evidence["drop"] == pytest.approx(3 - math.sqrt(5))


def test_numbers_are_sliced_into_quarters_and_missing_values_are_a_slice():
    verdict = asked(AGED, slice="fine", metric="accuracy", max_drop=0.1, min_rows=20)
    assert "accuracy 0.5 on 20 rows" in verdict.reason
    assert "(-0.001, 19.75]" in verdict.reason
    gaps = answers(TRUTH, SAID, age=np.where(np.arange(80) < 10, None, "known"))
    verdict = asked(gaps, slice="age", metric="accuracy", max_drop=0.1, min_rows=10)
    assert "Worst where `age` is missing: accuracy 0 on 10 rows" in verdict.reason


@pytest.mark.parametrize(
    "column",
    [
        np.repeat([True, False], 40),
        pd.Categorical(AGE, categories=["old", "young", "never"]),
        pd.Series(AGE, dtype="string"),
        pd.Series(np.repeat([0, 1], 40), dtype="Int64"),
        pd.to_datetime(np.repeat(["2024-01-05", "2024-02-05"], 40)),
    ],
    ids=["bool", "category", "string", "Int64", "date"],
)
def test_any_column_makes_slices(column):
    verdict = asked(answers(TRUTH, SAID, c=column), slice="c", metric="accuracy", max_drop=0.1)
    assert verdict.evidence == {"drop": 0.125, "rows": 40}


@pytest.mark.parametrize(
    ("seen", "given", "passed", "said"),
    [
        (AGED, {"slice": "agee"}, False, "There is no column `agee`."),
        (AGED, {"slice": "age", "min_rows": 41}, True, "No slice of `age` has 41 rows and a acc"),
        (AGED, {"slice": "age", "metric": "log_loss"}, False, "log_loss on test is not defined."),
    ],
)
def test_a_slice_that_cannot_be_asked_is_said(seen, given, passed, said):
    verdict = asked(seen, **{"metric": "accuracy", "max_drop": 0.1, **given})
    assert verdict.passed == passed
    assert verdict.reason.startswith(said)


# ----------------------------------------------------------------------------- fairness


@pytest.mark.parametrize(("most", "passed"), [(0.5, True), (0.49, False)])
def test_groups_have_about_the_same_positive_rate(most, passed):
    said = classes(*[YES] * 20, *[NO] * 20, *[YES] * 40)
    verdict = asked(answers(TRUTH, said, age=AGE), fair="age", max_difference=most)
    assert verdict.passed == passed
    assert verdict.reason == (
        "positive_rate is 1 where `age` is young, and 0.5 where it is old: 0.5 apart, "
        f"{most:g} is allowed."
    )


def test_groups_have_about_the_same_metric():
    verdict = asked(AGED, fair="age", metric="accuracy", max_difference=0.2)
    assert not verdict.passed
    assert verdict.evidence == {"difference": 0.25}


@pytest.mark.parametrize(
    ("given", "passed", "said"),
    [
        ({"fair": "agee"}, False, "There is no column `agee`."),
        ({"fair": "age", "min_rows": 41}, True, "`age` has fewer than two groups of 41 rows."),
        ({"fair": "age", "metric": "roc_auc"}, True, "`age` has fewer than two groups of 30"),
    ],
)
def test_groups_that_cannot_be_compared_are_said(given, passed, said):
    verdict = asked(AGED, **{"max_difference": 0.0, **given})
    assert (verdict.passed, verdict.reason.startswith(said)) == (passed, True)


def test_groups_with_long_names_are_told_apart():
    long = np.repeat(["x" * 60 + "old", "x" * 60 + "young"], 40)
    verdict = asked(
        answers(TRUTH, SAID, age=long), fair="age", metric="accuracy", max_difference=0.2
    )
    assert not verdict.passed


# -------------------------------------------------------------- overfitting, calibration


@pytest.mark.parametrize(("most", "passed"), [(0.125, True), (0.12, False)])
def test_train_and_test_are_held_against_each_other(most, passed):
    verdict = asked(AGED, overfit="accuracy", max_gap=most)
    assert verdict.passed == passed
    assert verdict.reason == (
        f"accuracy is 1 on train and 0.875 on test: worse by 0.125, {most:g} is allowed."
    )


def test_better_on_test_than_on_train_is_no_overfitting():
    seen = answers(np.zeros(4), np.full(4, 0.5), target=REGRESSION)
    verdict = asked(seen, overfit="rmse", max_gap=0.0)
    assert verdict.passed
    assert verdict.evidence == {"gap": -0.5}


def test_a_metric_that_is_not_defined_does_not_pass_as_no_overfitting():
    verdict = asked(AGED, overfit="roc_auc", max_gap=1)
    assert verdict.stops
    assert verdict.reason == "roc_auc is not defined there."


def test_calibration_is_the_mean_distance_of_share_and_frequency():
    shares = np.array([0.1, 0.12, 0.14, 0.16, 0.9, 0.92, 0.94, 1.0])
    truth = classes(NO, NO, NO, YES, YES, YES, NO, YES)
    # in the bin from 0.1: mean 0.13 against 1/4; in the last: mean 0.94 against 3/4
    by_hand = 0.5 * abs(0.25 - 0.13) + 0.5 * abs(0.75 - 0.94)
    verdict = asked(answers(truth, truth, shares), calibration=0.15)
    assert not verdict.passed
    assert verdict.evidence["error"] == pytest.approx(by_hand)
    assert verdict.reason == "Expected calibration error 0.155, 0.15 is allowed."
    assert asked(answers(truth, truth, shares), calibration=0.16).passed


def test_of_many_classes_the_predicted_one_is_to_be_calibrated():
    shares = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.2, 0.0]])
    truth = classes("a", "b", "c", "c")  # 3 of 4 are right, said with 0.8
    verdict = asked(answers(truth, truth, shares, MULTICLASS), calibration=0.06)
    assert verdict.passed
    assert verdict.evidence["error"] == pytest.approx(0.05)


@pytest.mark.parametrize("target", [BINARY, MULTICLASS, REGRESSION], ids=lambda t: t.task)
def test_without_probabilities_there_is_no_calibration(target):
    verdict = asked(answers(TRUTH, SAID, target=target), calibration=1)
    assert verdict.stops
    assert verdict.reason == "It gives no probabilities."


# ------------------------------------------------------------------ against the champion


@pytest.mark.parametrize(("most", "passed"), [(0.125, True), (0.12, False)])
def test_rows_that_turn_wrong_are_counted(most, passed):
    champion = TRUTH.copy()
    champion[40:] = YES  # what it has wrong too does not count
    verdict = asked(answers(TRUTH, SAID, champion=Predictions(champion)), flips=most)
    assert verdict.passed == passed
    assert verdict.reason == (
        f"10 of 80 rows (12.50%) that the champion has right turn wrong; {most:.2%} is allowed."
    )
    both_wrong = answers(TRUTH, SAID, champion=Predictions(SAID))
    assert asked(both_wrong, flips=0).passed


def test_a_regression_has_no_right_and_wrong():
    seen = answers(np.zeros(3), np.ones(3), target=REGRESSION, champion=Predictions(np.zeros(3)))
    verdict = asked(seen, flips=0)
    assert (verdict.passed, verdict.reason) == (True, "A regression has no right and wrong.")


@pytest.mark.parametrize("given", [{"flips": 0}, {"prediction_drift": 0.01}])
def test_without_a_champion_there_is_nothing_to_hold_it_against(given):
    verdict = asked(AGED, **given)
    assert (verdict.passed, verdict.reason) == (True, "There is no champion to hold it against.")


def psi(one: list[float], other: list[float]) -> float:
    """It returns the index of two lists of shares."""
    pairs = [(max(a, 1e-4), max(b, 1e-4)) for a, b in zip(one, other, strict=True)]
    return sum((b - a) * math.log(b / a) for a, b in pairs)


def test_classes_are_spread_alike_by_their_shares():
    truth = classes(*"aabbccaabb")
    champion = Predictions(classes(*"aaaaabbbcc"))
    seen = answers(truth, classes(*"aaabbbbbbb"), target=MULTICLASS, champion=champion)
    verdict = asked(seen, prediction_drift=0.25)
    assert not verdict.passed
    assert verdict.evidence["index"] == pytest.approx(psi([0.5, 0.3, 0.2], [0.3, 0.7, 0.0]))
    assert verdict.reason.endswith("0.25 is allowed.")


def test_numbers_are_spread_alike_by_the_champions_tenths():
    champion = np.arange(100.0)
    said = champion.copy()
    said[:10] = 95.0  # the first tenth moves into the last
    seen = answers(champion, said, target=REGRESSION, champion=Predictions(champion))
    verdict = asked(seen, prediction_drift=0.25)
    assert verdict.evidence["index"] == pytest.approx(psi([0.1, 0.1], [0.0, 0.2]))
    same = answers(champion, champion, target=REGRESSION, champion=Predictions(champion))
    assert asked(same, prediction_drift=0.01).evidence == {"index": 0.0}


def test_probabilities_are_spread_alike_by_the_positives():
    shares = np.linspace(0.01, 0.99, 100)
    truth = np.where(shares > 0.5, YES, NO).astype(object)
    champion = Predictions(truth, np.column_stack([1 - shares, shares]))
    assert asked(answers(truth, truth, shares, champion=champion), prediction_drift=0.01).passed
    other = asked(answers(truth, truth, 1 - shares / 9, champion=champion), prediction_drift=0.25)
    assert not other.passed


def test_a_champion_without_probabilities_is_compared_by_class():
    shares = np.where(TRUTH == YES, 0.9, 0.1)
    seen = answers(TRUTH, TRUTH, shares, champion=Predictions(TRUTH))
    assert asked(seen, prediction_drift=0.1).passed


# ------------------------------------------------------------------------- size, custom


@pytest.mark.parametrize(("most", "passed"), [(2, True), (1.9, False)])
def test_the_models_file_is_small_enough(most, passed):
    verdict = asked(AGED, size_mb=most)
    assert verdict.passed == passed
    assert verdict.reason == f"The model's file has 2 MB, {most:g} MB is allowed."


MODEL = """
import numpy as np
import pandas as pd

def fine(rows, truth, predictions, probabilities):
    return len(rows) == len(truth) == len(predictions) and probabilities is None

def no(*_): return False
def numpys_no(*_): return np.bool_(False)
def numpys_yes(*_): return np.bool_(True)
def told(*_): return False, "three prices are negative"
def told_by_numpy(*_): return np.bool_(True), "all well"
def untold(*_): return True, ""
def none(*_): return None
def one(*_): return 1
def text(*_): return "False"
def many(*_): return np.array([True, False])
def series(*_): return pd.Series([True])
def three(*_): return True, "a", "b"
def told_one(*_): return 1, "yes"
def raises(*_): raise KeyError("price")
def takes_one(rows): return True
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MODEL)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "passed", "said"),
    [
        ("fine", True, ".model.fine says yes."),
        ("no", False, ".model.no says no."),
        ("numpys_no", False, ".model.numpys_no says no."),
        ("numpys_yes", True, ".model.numpys_yes says yes."),
        ("told", False, "three prices are negative"),
        ("told_by_numpy", True, "all well"),
        ("untold", True, ".model.untold says yes."),
        ("none", False, ".model.none answered None; True or False is expected, or that and a text."),
        ("one", False, ".model.one answered 1; True or False is expected"),
        ("many", False, ".model.many answered array([ True, False])"),
        ("series", False, ".model.series answered "),
        ("three", False, ".model.three answered (True, 'a', 'b')"),
        ("told_one", False, ".model.told_one answered 1;"),
        ("raises", False, ".model.raises raised KeyError: 'price'"),
        ("takes_one", False, ".model.takes_one raised TypeError: takes_one() takes 1"),
        ("fnie", False, "`.model.fnie`: .model has no `fnie`. Did you mean `fine`?"),
        pytest.param(
            "text",
            False,
            ".model.text answered 'False'",
        ),
    ],
)  # fmt: skip
def test_a_question_of_ones_own_is_answered_with_true_or_false(folder, name, passed, said):
    seen = Answers(**{**AGED.__dict__, "folder": folder})
    verdict = asked(seen, custom=f".model.{name}", mode="warn")
    assert verdict.name == name
    assert verdict.passed == passed
    assert verdict.reason.startswith(said)


def test_a_question_without_a_folder_is_not_answered_with_yes():
    verdict = asked(AGED, custom=".model.fine")
    assert verdict.stops
    assert "in no folder" in verdict.reason


# ------------------------------------------------------------------- asked as expected

GATES = [
    {"metric": "accuracy", "min": 0.5},
    {"metric": "accuracy", "max": 0.9},
    {"metric": "accuracy", "min": 0.1, "max": 0.9},
    {"metric": "log_loss", "max": 0.9},
    {"latency_ms": 5},
    {"class_share": 0.1},
    {"beats": "baseline"},
    {"slice": "age", "metric": "accuracy", "max_drop": 0.1},
    {"slice": "nowhere", "metric": "f1", "max_drop": 0.1},
    {"fair": "age", "max_difference": 0.1},
    {"overfit": "accuracy", "max_gap": 0.1},
    {"calibration": 0.1},
    {"flips": 0.1},
    {"prediction_drift": 0.1},
    {"size_mb": 1},
    {"custom": ".model.fine"},
    {"custom": ".other.fine"},
    {"custom": ".model.no"},
]
SEEN = Seen("test", 80, {"accuracy": 0.8}, 0, 5.0, "roc_auc", 0.9, 0.5, {"no": 0.5, "yes": 0.5})
MODES = st.sampled_from(["enforce", "warn", "off"])
DECLARED = st.lists(
    st.tuples(st.sampled_from(GATES), MODES).map(lambda t: {**t[0], "mode": t[1]}), max_size=9
)
CHAMPION = st.sampled_from([[], [{"beats": "champion"}]])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(DECLARED, CHAMPION)
def test_what_is_expected_is_exactly_what_is_asked(declared, champion):
    """Dagster declares checks from the one, and is told of them from the other."""
    of = problem(gates=[*declared, *champion])
    given = [(v.name, v.mode) for v in ask(SEEN, of, lambda: AGED)]
    known = [(v.name, v.mode) for v in expected(of)]
    assert sorted(given) == sorted(known)
    assert len(dict(given)) == len(given)


def verdicts_of(of: Problem) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    given = [(v.name, v.mode) for v in ask(SEEN, of, lambda: AGED)]
    return sorted(given), sorted((v.name, v.mode) for v in expected(of))


OURS = [v.name for v in expected(problem(gates=GATES)) if v.name not in ("fine", "fine_2", "no")]


@pytest.mark.parametrize("name", [*OURS, "a_candidate_is_eligible", "beats_the_champion"])
def test_a_question_is_not_named_as_one_of_our_checks(name):
    """Seen to fail: two checks of one name, and Dagster does not load the code location."""
    with pytest.raises(ValueError, match=f"a check of ml_assets is named `{name}`"):
        problem(gates=[{"custom": f".model.{name}"}])


def test_questions_with_numbers_in_their_names_are_told_apart():
    of = problem(gates=[{"custom": f".{path}"} for path in ("one.f", "two.f", "one.f_2")])
    given, _ = verdicts_of(of)
    assert len(dict(given)) == len(given)


def test_gates_on_rows_are_not_asked_without_answers():
    of = problem(gates=[{"flips": 0.1}])
    assert [v.name for v in ask(SEEN, of)] == ["predictions_are_complete", "beats_the_baseline"]


def test_answers_are_not_made_where_no_gate_needs_them():
    of = problem(gates=[{"latency_ms": 5}, {"flips": 0.1, "mode": "off"}])
    ask(SEEN, of, lambda: pytest.fail("nobody asked"))


def test_every_gate_on_rows_is_in_the_catalogue():
    own = {function.__name__ for function in ASKED.values()} - {"custom"}
    assert own <= set(CATALOGUE)
