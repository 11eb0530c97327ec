import math
from dataclasses import replace

import pytest

from ml_assets.gates import failures
from ml_assets.gates.challenger import (
    Seen,
    answers_in_time,
    ask,
    beats_the_baseline,
    every_class_is_predicted,
    expected,
    metric_is_in_bounds,
    predictions_are_complete,
)
from ml_assets.problem import BeatsBaselineGate, ClassShareGate, LatencyGate, MetricGate
from ml_assets_tests.conftest import problem

GOOD = Seen(
    part="test",
    rows=100,
    metrics={"accuracy": 0.9, "log_loss": 0.3},
    missing=0,
    latency_ms=5.0,
    select="roc_auc",
    own=0.95,
    baseline=0.5,
    class_shares={"no": 0.9, "yes": 0.1},
)


@pytest.mark.parametrize(("missing", "rows", "passed"), [(0, 9, True), (1, 9, False), (0, 0, False)])  # fmt: skip
def test_predictions_are_complete_when_none_is_missing(missing, rows, passed):
    verdict = predictions_are_complete(replace(GOOD, missing=missing, rows=rows))
    assert verdict.passed == passed
    assert verdict.reason == f"{missing} of {rows} predictions are missing or infinite."


@pytest.mark.parametrize(
    ("bounds", "name", "passed"),
    [
        ({"min": 0.9}, "accuracy_reaches_floor", True),
        ({"min": 0.901}, "accuracy_reaches_floor", False),
        ({"max": 0.9}, "accuracy_is_under_ceiling", True),
        ({"max": 0.899}, "accuracy_is_under_ceiling", False),
        ({"min": 0.5, "max": 0.95}, "accuracy_is_within_bounds", True),
        ({"min": 0.5, "max": 0.8}, "accuracy_is_within_bounds", False),
        ({"min": 0.95, "max": 0.99}, "accuracy_is_within_bounds", False),
    ],
)
def test_a_metric_is_held_against_its_bounds(bounds, name, passed):
    verdict = metric_is_in_bounds(GOOD, MetricGate(metric="accuracy", **bounds))
    assert (verdict.name, verdict.passed) == (name, passed)
    assert verdict.reason.startswith("accuracy on test is 0.9, ")


@pytest.mark.parametrize("metrics", [{}, {"f1": math.nan}])
@pytest.mark.parametrize("bounds", [{"min": 0.0}, {"max": 1.0}])
def test_a_metric_that_is_not_defined_fails_either_bound(metrics, bounds):
    verdict = metric_is_in_bounds(replace(GOOD, metrics=metrics), MetricGate(metric="f1", **bounds))
    assert verdict.stops
    assert verdict.reason == "f1 on test is not defined for these predictions."


@pytest.mark.parametrize(("allowed", "passed"), [(5, True), (4.9, False)])
def test_one_row_is_predicted_in_time_or_not(allowed, passed):
    verdict = answers_in_time(GOOD, LatencyGate(latency_ms=allowed))
    assert verdict.passed == passed
    assert verdict.reason == f"One row takes 5 ms (median), {allowed:g} ms allowed."


@pytest.mark.parametrize(("least", "passed"), [(0.1, True), (0.11, False)])
def test_the_rarest_class_decides(least, passed):
    verdict = every_class_is_predicted(GOOD, ClassShareGate(class_share=least))
    assert verdict.passed == passed
    assert verdict.reason.startswith("`yes` is predicted for 10.00% of the rows")


def test_a_class_that_is_never_predicted_fails():
    seen = replace(GOOD, class_shares={"a": 1.0, "b": 0.0})
    assert every_class_is_predicted(seen, ClassShareGate(class_share=0.01)).stops


def test_a_regression_has_no_classes_to_predict():
    seen = replace(GOOD, class_shares={})
    assert every_class_is_predicted(seen, ClassShareGate(class_share=0.5)).passed


@pytest.mark.parametrize(
    ("select", "own", "baseline", "by", "passed"),
    [
        ("roc_auc", 0.6, 0.5, 0.0, True),
        ("roc_auc", 0.5, 0.5, 0.0, False),
        ("roc_auc", 0.6, 0.5, 0.2, False),
        ("rmse", 5.0, 6.0, 0.5, True),
        ("rmse", 6.0, 5.0, 0.0, False),
    ],
)
def test_the_baseline_is_beaten_by_more_than_was_asked(select, own, baseline, by, passed):
    seen = replace(GOOD, select=select, own=own, baseline=baseline)
    verdict = beats_the_baseline(seen, BeatsBaselineGate(beats="baseline", by=by))
    assert verdict.passed == passed
    direction = "greater" if select == "roc_auc" else "smaller"
    assert verdict.reason.endswith(f"({direction} is better).")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"own": None}, "It has no roc_auc on validation."), ({"baseline": None}, "The baseline has no")],
)  # fmt: skip
def test_without_a_value_nothing_is_beaten(change, said):
    verdict = beats_the_baseline(replace(GOOD, **change), BeatsBaselineGate(beats="baseline"))
    assert verdict.stops
    assert verdict.reason.startswith(said)


def test_completeness_and_the_baseline_are_always_asked():
    assert [v.name for v in ask(GOOD, problem())] == [
        "predictions_are_complete",
        "beats_the_baseline",
    ]


def test_a_declared_gate_carries_its_mode_and_off_is_not_asked():
    gates = [
        {"metric": "accuracy", "min": 0.99, "mode": "warn"},
        {"metric": "accuracy", "min": 0.95, "mode": "off"},
        {"latency_ms": 1},
        {"beats": "baseline", "by": 0.01, "mode": "warn"},
    ]
    verdicts = ask(GOOD, problem(gates=gates))
    assert [(v.name, v.passed, v.mode) for v in verdicts] == [
        ("predictions_are_complete", True, "enforce"),
        ("accuracy_reaches_floor", False, "warn"),
        ("answers_in_time", False, "enforce"),
        ("beats_the_baseline", True, "warn"),
    ]
    assert [v.name for v in failures(verdicts)] == ["answers_in_time"]


def test_what_is_expected_is_what_is_asked():
    """Checks are declared from the first and reported from the second."""
    gates = [
        {"metric": "accuracy", "min": 0.5},
        {"metric": "accuracy", "min": 0.8, "mode": "warn"},
        {"metric": "log_loss", "max": 1, "min": 0},
        {"class_share": 0.05},
        {"latency_ms": 9, "mode": "off"},
        {"beats": "champion"},
    ]
    of = problem(gates=gates)
    said = [[(v.name, v.mode) for v in verdicts] for verdicts in (ask(GOOD, of), expected(of))]
    assert said[0] == said[1]
    assert ("accuracy_reaches_floor_2", "warn") in said[0]
