import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from ml_assets.candidate import Predictions
from ml_assets.evaluation import Contender, pick, ranked, score, select_metric
from ml_assets.metric import METRICS, gain
from ml_assets_tests.conftest import BINARY, MULTICLASS, REGRESSION

RANDOM = np.random.default_rng(0)
TARGETS = {"binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION}


def sane(task, rows=60):
    """Truth and predictions that are neither perfect nor useless."""
    target = TARGETS[task]
    if task == "regression":
        truth = RANDOM.normal(10, 2, rows)
        return truth, Predictions(truth + RANDOM.normal(0, 1, rows))
    classes = np.array(target.classes, dtype=object)
    index = np.arange(rows) % len(classes)
    shares = RANDOM.dirichlet(np.ones(len(classes)), rows)
    shares[np.arange(rows), index] += 0.5
    shares /= shares.sum(axis=1, keepdims=True)
    return classes[index], Predictions(classes[shares.argmax(axis=1)], shares)


@pytest.mark.parametrize("task", TARGETS)
def test_a_score_has_exactly_the_metrics_of_its_task(task):
    found = score(*sane(task), TARGETS[task])
    assert set(found) == {m for m, (_, tasks) in METRICS.items() if task in tasks}
    assert all(type(v) is float and math.isfinite(v) for v in found.values())


def test_binary_metrics_are_scikit_learns():
    truth, said = sane("binary")
    found, share = score(truth, said, BINARY), said.probabilities[:, 1]
    assert found["roc_auc"] == metrics.roc_auc_score(truth == "yes", share)
    assert found["pr_auc"] == metrics.average_precision_score(truth == "yes", share)
    assert found["brier"] == pytest.approx(metrics.brier_score_loss(truth == "yes", share))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth == "yes", share))
    assert found["f1"] == metrics.f1_score(truth, said.values, pos_label="yes")
    assert found["balanced_accuracy"] == metrics.balanced_accuracy_score(truth, said.values)


def test_multiclass_metrics_are_scikit_learns():
    truth, said = sane("multiclass")
    found = score(truth, said, MULTICLASS)
    assert found["roc_auc"] == pytest.approx(
        metrics.roc_auc_score(truth, said.probabilities, multi_class="ovr")
    )
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, said.probabilities))
    assert found["f1_weighted"] == metrics.f1_score(truth, said.values, average="weighted")


def test_the_positive_class_decides_precision_and_recall():
    truth = np.array(["yes", "yes", "no", "no"], dtype=object)
    said = Predictions(np.array(["yes", "no", "no", "no"], dtype=object))
    found = score(truth, said, BINARY)
    assert (found["precision"], found["recall"]) == (1.0, 0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_prediction_that_is_no_number_gives_no_metric_rather_than_zero(bad):
    truth, said = sane("regression")
    said.values[3] = bad
    assert score(truth, said, REGRESSION) == {}


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_missing_label_gives_no_metric_of_labels(task):
    truth, said = sane(task)
    said.values[3] = None
    assert set(score(truth, said, TARGETS[task])) == {"log_loss", "brier", "roc_auc", "pr_auc"}


def test_a_missing_label_among_codes_gives_no_metric_of_labels():
    """Codes with a gap come as float NaN, on which scikit-learn raises."""
    truth = np.array([0, 1, 0, 1])
    target = type(BINARY)("binary", "declared", (0, 1), (2, 2), 1)
    assert score(truth, Predictions(np.array([0, 1, np.nan, 1])), target) == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_a_missing_probability_gives_no_metric_of_probabilities(task, bad):
    truth, said = sane(task)
    said.probabilities[3, 0] = bad
    found = score(truth, said, TARGETS[task])
    assert "accuracy" in found
    assert not {"roc_auc", "pr_auc", "log_loss", "brier"} & set(found)


def test_without_probabilities_there_are_no_metrics_of_probabilities():
    truth, said = sane("binary")
    found = score(truth, Predictions(said.values), BINARY)
    assert "f1" in found
    assert not {"roc_auc", "pr_auc", "log_loss", "brier"} & set(found)


def test_a_part_with_one_class_has_no_area_under_the_curve():
    truth, said = sane("binary")
    one = truth == "yes"
    kept = Predictions(said.values[one], said.probabilities[one])
    found = score(truth[one], kept, BINARY)
    assert "roc_auc" not in found
    assert "pr_auc" not in found
    assert "accuracy" in found


def test_a_part_that_lacks_a_class_has_no_area_under_the_curve():
    truth, said = sane("multiclass")
    kept = truth != "c"
    found = score(truth[kept], Predictions(said.values[kept], said.probabilities[kept]), MULTICLASS)
    assert "roc_auc" not in found
    assert "log_loss" in found


def test_a_percentage_of_zero_has_no_meaning():
    found = score(np.array([0.0, 1.0, 2.0]), Predictions(np.array([0.1, 1.0, 2.0])), REGRESSION)
    assert "mape" not in found
    assert "mae" in found


def test_one_row_has_no_r2():
    assert "r2" not in score(np.array([1.0]), Predictions(np.array([2.0])), REGRESSION)


def test_a_certain_mistake_costs_much_but_is_finite():
    truth = np.array(["no", "yes"], dtype=object)
    said = Predictions(truth[::-1], np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert 30 < score(truth, said, BINARY)["log_loss"] < 40


@pytest.mark.parametrize("metric", METRICS)
def test_a_gain_is_positive_for_the_better_of_two(metric):
    greater_is_better = METRICS[metric][0]
    assert gain(metric, 0.9, 0.4) == pytest.approx(0.5 if greater_is_better else -0.5)


def test_the_metric_is_the_declared_one_or_the_tasks():
    assert select_metric("binary", "f1") == "f1"
    assert select_metric("binary", None) == "roc_auc"
    assert select_metric("regression", None) == "rmse"


def names(contenders):
    return [c.name for c in contenders]


def test_the_best_come_first_and_those_that_failed_last():
    board = [
        Contender("failed", error="no memory"),
        Contender("b", {"rmse": 2.0}),
        Contender("c", {"rmse": 1.0}),
        Contender("a", {"rmse": 2.0}),
        Contender("other", {"mae": 0.1}),
    ]
    assert names(ranked(board, "rmse")) == ["c", "a", "b", "failed", "other"]
    up = [Contender("low", {"f1": 0.1}), Contender("high", {"f1": 0.9})]
    assert names(ranked(up, "f1")) == ["high", "low"]


values = st.one_of(st.none(), st.floats(0, 1))


@settings(deadline=None, max_examples=60)
@given(st.lists(values, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_candidates_end_does_not_matter(given, random):
    board = [Contender(f"c{i}", {} if v is None else {"f1": v}) for i, v in enumerate(given)]
    shuffled = list(board)
    random.shuffle(shuffled)
    assert ranked(board, "f1") == ranked(shuffled, "f1")
    assert pick(board, "f1", "c0") == pick(shuffled, "f1", "c0")


def test_one_failed_candidate_does_not_lose_the_others():
    board = [Contender("failed", error="no"), Contender("worse", {"f1": 0.2})]
    assert pick(board, "f1", "baseline") == "worse"


def test_a_candidate_that_would_fail_a_gate_yields_to_the_next_that_would_not():
    board = [
        Contender("slow", {"f1": 0.9}, ("One row takes 900 ms.",)),
        Contender("quick", {"f1": 0.8}),
    ]
    assert pick(board, "f1", "baseline") == "quick"


def test_when_none_would_pass_the_best_goes_on_to_be_refused_in_the_open():
    board = [Contender("a", {"f1": 0.1}, ("no",)), Contender("b", {"f1": 0.2}, ("no",))]
    assert pick(board, "f1", "baseline") == "b"


def test_the_baseline_is_a_yardstick_and_never_picked():
    board = [Contender("baseline", {"f1": 0.9}), Contender("a", {"f1": 0.1})]
    assert pick(board, "f1", "baseline") == "a"
    assert pick(board[:1], "f1", "baseline") is None


def test_without_a_fitted_candidate_nobody_is_picked():
    assert pick([Contender("a", error="no"), Contender("b", {"mae": 1.0})], "f1", "base") is None


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_one_metric_is_what_it_is_among_all_and_no_other_is_computed(task, monkeypatch):
    """Seen to fail: shuffling columns for their importance computed eleven metrics to take one."""
    (truth, said), target = sane(task), TARGETS[task]
    every = score(truth, said, target)
    assert every
    for name, value in every.items():
        assert score(truth, said, target, name) == {name: value}
    monkeypatch.setattr(
        "sklearn.metrics.precision_recall_fscore_support", lambda *_, **__: pytest.fail("computed")
    )
    first = "max_error" if task == "regression" else "accuracy"
    assert score(truth, said, target, first) == {first: every[first]}
