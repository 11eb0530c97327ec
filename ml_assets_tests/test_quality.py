"""Quality: noise is no decline, a decline is one, and the estimate says what it can see."""

import numpy as np
import pytest

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.evaluation import score
from ml_assets.quality import Judged, declined, expectation, measured, usual_gain

BINARY = Target("binary", "", ("no", "yes"), (1, 1), "yes")
AMOUNT = Target("regression", "")


def classes(count: int, seed: int, noise: float = 0.0) -> Judged:
    """It returns rows whose probabilities are true, but for a share of labels thrown by a coin."""
    random = np.random.default_rng(seed)
    share = random.beta(0.6, 0.6, size=count)
    thrown = np.where(random.random(count) < noise, 0.5, share)
    truth = np.where(random.random(count) < thrown, "yes", "no")
    said = Predictions(np.where(share > 0.5, "yes", "no"), np.column_stack([1 - share, share]))
    return Judged(truth, said)


def amounts(count: int, seed: int, spread: float = 1.0) -> tuple[Judged, np.ndarray]:
    """It returns rows whose error grows with a feature."""
    random = np.random.default_rng(seed)
    feature = random.uniform(0, 2 * spread, size=count)
    said = random.normal(scale=5, size=count)
    truth = said + random.normal(size=count) * (0.5 + feature)
    return Judged(truth, Predictions(said)), feature.reshape(-1, 1)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_the_error_of_a_metric_is_that_of_samples(metric: str):
    found = [measured(metric, classes(400, seed), BINARY) for seed in range(25)]

    spread = np.std([m.value for m in found], ddof=1)
    assert np.mean([m.error for m in found]) == pytest.approx(spread, rel=0.5)


def test_the_error_of_any_other_metric_is_found_by_resampling():
    known = [classes(400, seed) for seed in range(60)]
    values = [score(j.truth, j.said, BINARY, "f1")["f1"] for j in known]

    assert measured("f1", known[0], BINARY).error == pytest.approx(np.std(values, ddof=1), rel=0.4)


def test_the_error_of_a_mean_square_is_that_of_samples():
    found = [measured("rmse", amounts(400, seed)[0], AMOUNT) for seed in range(100)]

    spread = np.std([m.value for m in found], ddof=1)
    assert np.mean([m.error for m in found]) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize("metric", ["accuracy", "log_loss"])
def test_noise_is_no_decline_and_a_decline_is_one(metric: str):
    then = measured(metric, classes(2000, 0), BINARY)
    allowed = 0.1 * usual_gain(metric, classes(2000, 0), BINARY)

    calm = [
        declined(then, measured(metric, classes(300, 10 + i), BINARY), 0.99, allowed)
        for i in range(40)
    ]
    bad = [
        declined(then, measured(metric, classes(300, 10 + i, 0.7), BINARY), 0.99, allowed)
        for i in range(10)
    ]

    assert not any(d is None or d.worse for d in calm)
    assert all(d is not None and d.worse for d in bad)


def test_a_small_decline_is_allowed_however_sure_it_is():
    """Seen to fail when beyond noise was enough."""
    then = measured("accuracy", classes(200_000, 0), BINARY)
    now = measured("accuracy", classes(200_000, 1, 0.03), BINARY)

    found = declined(then, now, 0.99, 0.02)

    assert found is not None
    assert found.low > 0
    assert not found.worse


def test_without_a_defined_metric_there_is_no_answer():
    one_class = Judged(np.array(["no"] * 5), classes(5, 0).said)

    assert measured("roc_auc", one_class, BINARY).value is None
    assert (
        declined(
            measured("roc_auc", one_class, BINARY),
            measured("roc_auc", classes(50, 1), BINARY),
            0.9,
            0,
        )
        is None
    )


def test_rows_that_are_harder_are_estimated_to_be_so_without_their_labels():
    judged = classes(3000, 0)
    expected = expectation("accuracy", judged, None, BINARY)
    assert expected is not None
    share = np.random.default_rng(1).uniform(0.35, 0.65, size=500)
    hard = Predictions(np.where(share > 0.5, "yes", "no"), np.column_stack([1 - share, share]))

    calm = declined(expected.then, expected.now(classes(500, 5).said, None), 0.99, 0.01)
    worse = declined(expected.then, expected.now(hard, None), 0.99, 0.01)

    assert calm is not None
    assert worse is not None
    assert (calm.worse, worse.worse) == (False, True)
    assert worse.now == pytest.approx(np.maximum(share, 1 - share).mean(), abs=0.04)


def test_probabilities_that_are_too_sure_are_calibrated_first():
    """Seen to fail when probabilities were taken at their word."""
    judged = classes(5000, 0)
    assert judged.said.probabilities is not None
    sharp = judged.said.probabilities**4
    sharp = sharp / sharp.sum(axis=1, keepdims=True)
    sure = Judged(judged.truth, Predictions(judged.said.values, sharp))

    expected = expectation("accuracy", sure, None, BINARY)

    assert expected is not None
    assert expected.then.value == pytest.approx((sure.truth == sure.said.values).mean(), abs=0.02)


@pytest.mark.slow
def test_errors_that_grow_with_a_feature_are_estimated_from_it():
    judged, known = amounts(2000, 0)
    expected = expectation("rmse", judged, known, AMOUNT)
    assert expected is not None
    again, same = amounts(500, 1)
    other, far = amounts(500, 2)
    far = np.full_like(far, 1.9)

    calm = declined(expected.then, expected.now(again.said, same), 0.99, 0.05)
    worse = declined(expected.then, expected.now(other.said, far), 0.99, 0.05)
    blind = declined(expected.then, expected.now(other.said, None), 0.99, 0.05)

    assert calm is not None and worse is not None and blind is not None
    assert (calm.worse, worse.worse, blind.worse) == (False, True, False)
    assert worse.now == pytest.approx(2.4, rel=0.15)
