import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.comparison import Comparison
from ml_assets.promotion import Champion, Hold, Promote, decide

VERDICTS = ["better", "not better", "inconclusive"]
numbers = st.floats(-1, 1)
comparisons = st.builds(
    Comparison, st.sampled_from(VERDICTS), st.just("roc_auc"), *[numbers] * 5, st.integers(1, 99)
)
digests = st.sampled_from(["d1", "d2"])
champions = st.builds(
    Champion,
    st.integers(1, 9),
    digests,
    st.none() | comparisons,
    st.none() | st.just("It is gone."),
)


def compared(verdict):
    return Comparison(verdict, "roc_auc", 0.9, 0.8, 0.1, 0.05, 0.15, 100)


@settings(deadline=None, max_examples=200)
@given(digests, champions)
def test_a_champion_is_replaced_only_by_another_model_that_is_better(digest, champion):
    better = champion.comparison is not None and champion.comparison.verdict == "better"
    promoted = isinstance(decide(digest, champion), Promote)
    assert promoted == (better and digest != champion.digest)


@settings(deadline=None, max_examples=50)
@given(digests, st.none() | champions)
def test_a_decision_is_the_same_each_time_and_says_why(digest, champion):
    decision = decide(digest, champion)
    assert decision == decide(digest, champion)
    assert decision.reason.rstrip().endswith((".", "None")) or "(" in decision.reason


def test_the_first_challenger_that_passes_its_gates_is_promoted():
    assert decide("d1", None) == Promote("There is no champion yet, and every gate holds.")


def test_the_same_model_is_never_promoted_over_itself():
    decision = decide("d1", Champion(3, "d1", compared("better")))
    assert decision == Hold("The challenger is the champion (version 3).")


def test_a_champion_that_cannot_be_scored_stays():
    decision = decide("d2", Champion(3, "d1", None, "the rows lack column `age`."))
    assert isinstance(decision, Hold)
    assert "version 3" in decision.reason
    assert "the rows lack column `age`." in decision.reason


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_reason_carries_verdict_numbers_and_the_champions_version(verdict):
    decision = decide("d2", Champion(3, "d1", compared(verdict)))
    assert isinstance(decision, Promote if verdict == "better" else Hold)
    assert decision.reason.startswith(
        f"Against champion version 3 it is {verdict}: roc_auc 0.9 again"
    )
