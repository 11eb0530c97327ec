"""A canary: when it is looked at, what a look may conclude, and how often luck looks like skill."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from ml_assets.canary import (
    ASKED,
    Standing,
    Start,
    Terms,
    Wait,
    Withdraw,
    at_look,
    confidence_at,
    decide,
    is_due,
    rows_needed,
    started,
)
from ml_assets.comparison import Comparison
from ml_assets.promotion import Hold, Promote

DAY = 86_400.0
TERMS = Terms(share=0.1, min_rows=100, longest=14 * DAY, confidence=0.95)
SHADOW = Terms(share=0.0, min_rows=100, longest=14 * DAY, confidence=0.95)


def found(
    verdict: Literal["better", "not better", "inconclusive"], gain: float = 0.0, half: float = 0.01
) -> Comparison:
    """A comparison whose interval is a gain, more or less a half."""
    return Comparison(verdict, "accuracy", 0.8 + gain, 0.8, gain, gain - half, gain + half, 500)


def standing(rows: int = 0, days: float = 1, trouble: str = "", *looked_at: int) -> Standing:
    return Standing(rows, looked_at, days * DAY, trouble)


# ---------------------------------------------------------------------------- when it is looked at


def test_looks_come_when_the_rows_have_doubled():
    assert [rows_needed(TERMS, seen) for seen in ((), (100,), (100, 250))] == [100, 200, 500]
    assert not is_due(TERMS, standing(99))
    assert is_due(TERMS, standing(100))
    assert not is_due(TERMS, standing(199, 1, "", 100))
    assert is_due(TERMS, standing(200, 1, "", 100))


def test_a_last_look_needs_rows_that_no_look_has_seen():
    assert is_due(TERMS, standing(150, 14, "", 100))
    assert not is_due(TERMS, standing(100, 14, "", 100))
    assert not is_due(TERMS, standing(99, 14))
    assert not is_due(TERMS, standing(500, 14, "no model"))


@given(some.floats(0.5, 0.999), some.integers(1, 60))
def test_what_all_looks_together_may_err_is_what_was_declared(confidence: float, looks: int):
    """Seen to fail when each look asked at the declared confidence."""
    terms = Terms(0.1, 100, DAY, confidence)

    spent = [1 - confidence_at(terms, k) for k in range(1, looks + 1)]

    assert sum(spent) < 1 - confidence + 1e-12
    assert spent == sorted(spent, reverse=True)


def test_a_look_asks_for_a_wider_interval_than_one_comparison_would():
    once = found("better", gain=0.011, half=0.01)

    first, third = at_look(once, TERMS, 1), at_look(once, TERMS, 3)

    assert first.verdict == third.verdict == "inconclusive"
    assert third.low < first.low < once.low
    assert (first.gain, first.rows) == (once.gain, once.rows)
    assert at_look(found("better", gain=0.04, half=0.01), TERMS, 3).verdict == "better"
    assert at_look(found("not better", gain=-0.04, half=0.01), TERMS, 3).verdict == "not better"


def test_two_that_answer_the_same_are_not_told_apart_by_a_wider_interval():
    assert at_look(found("not better", 0.0, 0.0), TERMS, 5).verdict == "not better"


def lives(looks: int, spends: bool) -> float:
    """It returns the share of equal canaries that some of so many looks would promote."""
    random, promoted = np.random.default_rng(0), 0
    half = 1.96 if spends else None
    for _ in range(2000):
        gains = random.normal(size=100 * 2 ** (looks - 1))
        for k in range(1, looks + 1):
            rows = gains[: 100 * 2 ** (k - 1)]
            spread = 1.96 / np.sqrt(len(rows))
            seen = found("inconclusive", float(rows.mean()), spread)
            promoted += (at_look(seen, TERMS, k).low if half else seen.low) > 0
            if (at_look(seen, TERMS, k).low if half else seen.low) > 0:
                break
    return promoted / 2000


def test_an_equal_canary_is_promoted_by_luck_in_less_than_five_percent_of_its_lives():
    """Six looks with the real spending, and, to see that the simulation can fail, without."""
    assert lives(6, spends=True) < 0.03
    assert lives(6, spends=False) > 0.05


# -------------------------------------------------------------------------------- what is concluded


def test_a_better_one_is_promoted_and_a_worse_one_withdrawn():
    better = decide(TERMS, standing(100), found("better", 0.03))
    worse = decide(TERMS, standing(100), found("not better", -0.03))

    assert isinstance(better, Promote)
    assert better.reason.startswith("Than the champion it is better: accuracy 0.83 against 0.8")
    assert "live rows" in better.reason
    assert isinstance(worse, Withdraw)
    assert worse.finding == "not better"


@pytest.mark.parametrize(
    ("rows", "looked_at", "words"),
    [
        (40, (), "40 labelled rows so far; the first look at it needs 100"),
        (150, (100,), "next look"),
    ],
)
def test_it_waits_for_labels_and_says_for_how_many(rows: int, looked_at: Any, words: str):
    waits = decide(TERMS, standing(rows, 1, "", *looked_at), None)

    assert isinstance(waits, Wait)
    assert words in waits.reason


def test_after_its_time_it_is_withdrawn_as_inconclusive():
    cases = [
        (standing(40, 14), None, "40 labelled rows came"),
        (standing(150, 14, "", 100), found("inconclusive"), "inconclusive: accuracy"),
        (standing(100, 14, "", 100), None, "no look showed a difference"),
        (standing(0, 14, "The two cannot be compared: it is gone."), None, "it is gone"),
    ]
    for stands, look, words in cases:
        ended = decide(TERMS, stands, look)
        assert isinstance(ended, Withdraw)
        assert ended.finding == "inconclusive"
        assert words in ended.reason
    assert isinstance(decide(TERMS, standing(150, 14), found("better", 0.03)), Promote)


def test_a_shadow_is_compared_and_never_promoted_by_itself():
    waits = decide(SHADOW, standing(100), found("better", 0.03))
    ended = decide(SHADOW, standing(100, 14), found("better", 0.03))

    assert isinstance(waits, Wait)
    assert "somebody has to approve" in waits.reason
    assert isinstance(ended, Withdraw)
    assert isinstance(decide(SHADOW, standing(100), found("not better", -0.03)), Withdraw)


# ------------------------------------------------------------------------------------- who may start


def test_what_test_rows_do_not_show_to_be_worse_starts():
    held, better = Hold("It is inconclusive."), Promote("It is better.")

    assert isinstance(started(held, found("inconclusive"), 3, None, None), Start)
    assert isinstance(started(better, found("better", 0.03), 3, None, None), Start)
    assert started(held, found("not better", -0.03), 3, None, None) is held
    assert started(better, None, 1, None, None) is better  # the first champion


def test_there_is_one_canary_at_a_time_and_what_was_withdrawn_does_not_start_again():
    better, seen = Promote("It is better."), found("better", 0.03)

    waits = started(better, seen, 4, 3, None)
    itself = started(better, seen, 3, 3, None)
    again = started(better, seen, 3, None, "It was worse.")

    assert [type(d) for d in (waits, itself, again)] == [Hold, Hold, Hold]
    assert "version 3 is the canary" in waits.reason
    assert "already" in itself.reason
    assert "It was worse." in again.reason


def test_the_interval_is_widened_from_what_was_asked():
    """At the first look half of what may err is spent, as if it had been asked for at once."""
    assert confidence_at(TERMS, 1) == pytest.approx(0.975)
    wider = at_look(found("inconclusive", 0.0, 1.959964), TERMS, 1)
    assert wider.high == pytest.approx(2.241403, abs=1e-5)
    assert ASKED == 0.95
