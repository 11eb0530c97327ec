import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from ml_assets.candidate import Predictions
from ml_assets.comparison import _delong, compare
from ml_assets.evaluation import score
from ml_assets.metric import METRICS
from ml_assets_tests.conftest import BINARY, MULTICLASS, REGRESSION

TARGETS = {"binary": BINARY, "multiclass": MULTICLASS, "regression": REGRESSION}
ROW_BY_ROW = [
    ("pr_auc", "binary"),
    ("pr_auc", "multiclass"),
    ("roc_auc", "multiclass"),
    ("max_error", "regression"),
]
CASES = [
    pytest.param(m, t, marks=[pytest.mark.slow] if (m, t) in ROW_BY_ROW else [])
    for m, (_, tasks) in METRICS.items()
    for t in tasks
]


def truth_of(task, rows, random):
    if task == "regression":
        return random.normal(10, 2, rows)
    return random.choice(np.array(TARGETS[task].classes, dtype=object), rows)


def said_of(truth, task, noise, random):
    """Predictions of a given quality: the smaller the noise, the better."""
    if task == "regression":
        return Predictions(truth + random.normal(0, noise, len(truth)))
    classes = np.array(TARGETS[task].classes, dtype=object)
    logits = (truth[:, None] == classes) + random.normal(0, noise, (len(truth), len(classes)))
    shares = np.exp(2 * logits)
    shares /= shares.sum(axis=1, keepdims=True)
    return Predictions(classes[shares.argmax(axis=1)], shares)


def compared(metric, task, noises, rows=600, seed=0, **given):
    random = np.random.default_rng(seed)
    truth = truth_of(task, rows, random)
    one, other = (said_of(truth, task, n, random) for n in noises)
    return compare(metric, truth, one, other, TARGETS[task], **given)


@pytest.mark.parametrize(("metric", "task"), CASES)
def test_equal_predictions_are_not_better(metric, task):
    random = np.random.default_rng(0)
    truth = truth_of(task, 50, random)
    said = said_of(truth, task, 1, random)
    found = compare(metric, truth, said, said, TARGETS[task], confidence=0.5)
    assert (found.verdict, found.gain, found.low, found.high) == ("not better", 0, 0, 0)


@pytest.mark.parametrize(("metric", "task"), CASES)
def test_much_better_predictions_are_better_and_the_other_way_round_are_not(metric, task):
    up, down = compared(metric, task, (0.3, 2)), compared(metric, task, (2, 0.3))
    assert (up.verdict, down.verdict) == ("better", "not better")
    assert 0 < up.low <= up.gain <= up.high
    assert down.low <= down.gain <= down.high < 0


@pytest.mark.parametrize(
    ("metric", "task"),
    [("roc_auc", "binary"), ("accuracy", "binary"), ("rmse", "regression"), ("brier", "multiclass")],
)  # fmt: skip
def test_a_little_better_on_few_rows_is_inconclusive(metric, task):
    found = compared(metric, task, (0.95, 1), rows=40)
    assert found.verdict == "inconclusive"
    assert found.low <= 0 < found.high


def test_a_gain_below_the_declared_one_is_not_better():
    sure = compared("rmse", "regression", (0.9, 1), rows=5000)
    assert sure.verdict == "better"
    assert 0.05 < sure.gain < 0.15
    assert compared("rmse", "regression", (0.9, 1), rows=5000, by=0.3).verdict == "not better"
    assert compared("rmse", "regression", (0.9, 1), rows=5000, by=sure.gain).verdict == (
        "inconclusive"
    )


@pytest.mark.parametrize("metric", ["roc_auc", "f1", "brier"])
def test_more_confidence_asks_for_more(metric):
    some, much = (compared(metric, "binary", (0.9, 1), confidence=c) for c in (0.8, 0.99))
    assert much.low < some.low <= some.high < much.high


@pytest.mark.parametrize(("metric", "task"), [("f1", "binary"), ("mae", "regression")])
def test_the_same_comparison_has_the_same_answer(metric, task):
    assert compared(metric, task, (0.9, 1)) == compared(metric, task, (0.9, 1))


@pytest.mark.parametrize(("metric", "task"), CASES)
def test_the_values_compared_are_those_of_the_score(metric, task):
    random = np.random.default_rng(1)
    truth = truth_of(task, 80, random)
    one, other = (said_of(truth, task, n, random) for n in (1, 1.2))
    found = compare(metric, truth, one, other, TARGETS[task])
    assert found.one == score(truth, one, TARGETS[task])[metric]
    assert found.other == score(truth, other, TARGETS[task])[metric]


@pytest.mark.parametrize(("rows", "seed"), [(100, 1), (400, 2)])
def test_the_standard_error_of_delong_is_that_of_a_bootstrap(rows, seed):
    random = np.random.default_rng(seed)
    truth = truth_of("binary", rows, random)
    one = said_of(truth, "binary", 1, random)
    other = Predictions(one.values, one.probabilities + random.normal(0, 0.15, (rows, 2)))
    positive, a, b = truth == "yes", one.probabilities[:, 1], other.probabilities[:, 1]
    gains = []
    for _ in range(200):
        i = random.integers(0, rows, rows)
        gains.append(roc_auc_score(positive[i], a[i]) - roc_auc_score(positive[i], b[i]))
    assert _delong(truth, one, other, BINARY) == pytest.approx(np.std(gains), rel=0.2)


def test_a_resampled_interval_is_as_wide_as_theory_says():
    """The accuracy of two independent guessers differs with variance 2 p (1 - p) / n."""
    random = np.random.default_rng(0)
    classes = np.array(BINARY.classes, dtype=object)
    truth, a, b = (random.choice(classes, 2000) for _ in range(3))
    found = compare("accuracy", truth, Predictions(a), Predictions(b), BINARY)
    spread = 1.96 * np.sqrt(2 * 0.25 / 2000)
    assert found.gain - found.low == pytest.approx(spread, rel=0.12)
    assert found.high - found.gain == pytest.approx(spread, rel=0.12)


def test_the_interval_of_a_mean_over_blocks_is_that_over_rows():
    """More rows than units: 6,000 rows in 2,000 blocks of three."""
    random = np.random.default_rng(0)
    truth = np.zeros(6000)
    one, other = (Predictions(random.normal(0, 1, 6000)) for _ in range(2))
    found = compare("mae", truth, one, other, REGRESSION)
    difference = np.abs(other.values) - np.abs(one.values)
    spread = 1.96 * difference.std() / np.sqrt(6000)
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.12)


@pytest.mark.parametrize(
    ("metric", "task"),
    [
        ("roc_auc", "binary"),
        pytest.param("accuracy", "binary", marks=pytest.mark.slow),
        pytest.param("rmse", "regression", marks=pytest.mark.slow),
    ],
)
def test_candidates_of_equal_quality_are_rarely_called_better(metric, task):
    """At 95 % confidence 2.5 % are by chance; fewer than 5 % of 200 is promised.

    Seen to fail when the interval was taken one-sided: 5 % by chance are as often above as below.
    """
    said = [compared(metric, task, (1, 1), rows=200, seed=seed).verdict for seed in range(200)]
    assert said.count("better") / 200 < 0.05
    assert said.count("better") > 0


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from(["roc_auc", "f1_macro", "log_loss"]))
def test_two_candidates_are_never_each_better_than_the_other(seed, metric):
    random = np.random.default_rng(seed)
    truth = np.array(["no", "yes"] * 20, dtype=object)
    one, other = (said_of(truth, "binary", 1, random) for _ in range(2))
    there = compare(metric, truth, one, other, BINARY).verdict
    back = compare(metric, truth, other, one, BINARY).verdict
    assert not (there == back == "better")


def test_a_class_that_only_an_old_champion_knows_is_counted_as_wrong():
    """A class can vanish from the data; the champion that learned it still says it."""
    random = np.random.default_rng(0)
    truth = truth_of("multiclass", 300, random)
    one = Predictions(truth.copy())
    other = Predictions(np.where(random.random(300) < 0.3, "gone", truth).astype(object))
    for metric in ("accuracy", "f1_macro", "recall_weighted"):
        assert compare(metric, truth, one, other, MULTICLASS).verdict == "better"


def test_the_sentence_carries_the_numbers():
    sentence = compared("roc_auc", "binary", (0.5, 1)).sentence
    assert sentence.startswith("better: roc_auc 0.")
    assert "on the same 600 test rows, gain +0." in sentence
