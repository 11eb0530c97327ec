"""Windows, alarms and the decision to retrain: each with what it waits for, in words."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_assets.problem import RetrainDeclaration
from ml_assets.retraining import PastRun, Retrain, Situation, Wait, decide
from ml_assets.window import Alarm, Answer, Window, alarms, cut, odd_volume

NOW = 1_000_000.0
ALARM = Alarm("features", "Features have moved.", 7)


def window(number: int, violated: bool | None, rows: int = 100, took: float = 100) -> Window:
    answers: Any = {"features": Answer(violated, f"window {number}.", 0.5)}
    return Window(number, number * took, number * took + took, rows, 0, answers)


def told(*violated: bool | None) -> list[Alarm]:
    return alarms([window(i, v) for i, v in enumerate(violated)], 2, 5, ["features"])


def test_an_alarm_needs_so_many_of_the_last_windows_and_the_latest():
    assert told() == []
    assert told(True) == []
    assert told(True, True, False) == []
    assert [a.window for a in told(True, False, True)] == [2]
    assert told(True, False, False, False, False, True) == []


def test_windows_that_cannot_be_asked_count_neither_way():
    """As the newest, whose labels have not come."""
    assert [a.window for a in told(True, True, None, None)] == [1]
    assert told(None, None) == []


def test_windows_of_rows_are_whole_and_stay_where_they_are():
    at = pd.Series(np.arange(25.0))

    first, more = cut(at[:20], 10, NOW), cut(at, 10, NOW)

    assert [w.tolist() for w in first] == [w.tolist() for w in more]
    assert len(more) == 2


def test_windows_of_time_are_whole_when_they_are_over():
    at = pd.Series([10.0, 50.0, 70.0, 200.0])

    assert [w.tolist() for w in cut(at, "1m", 239.0)] == [[0, 1], [2]]
    assert [w.tolist() for w in cut(at, "1m", 240.0)] == [[0, 1], [2], [3]]


def test_a_window_that_fills_too_fast_or_too_slowly_is_told():
    even = [window(i, False) for i in range(4)]

    assert odd_volume(even[:3], 100, 10).violated is None
    assert odd_volume(even, 100, 10).violated is False
    assert odd_volume([*even, Window(4, 500, 501, 100, 0)], 100, 10).violated is True
    assert odd_volume([*even, Window(4, 0, 50, 3, 0)], "1m", 10).violated is True


def situation(**given: Any) -> Situation:
    known = {"dataset": "new", "rows": 700, "learned": 600, "learned_from": "old"}
    return Situation(**{"now": NOW, **known, "alarms": [ALARM], **given})


def test_drift_retrains_when_nothing_stands_against_it():
    decision = decide(RetrainDeclaration(), situation())

    assert decision == Retrain("Features have moved. 100 rows are new since the last run.")


@pytest.mark.parametrize(
    ("declared", "given", "words"),
    [
        ({}, {"alarms": []}, "no lasting drift"),
        ({"on_drift": False}, {}, "Drift starts no run"),
        ({}, {"learned": None}, "the first run is somebody's to start"),
        ({}, {"runs": [PastRun(NOW - 1e6, True)]}, "a run is going on"),
        ({}, {"dataset": "old", "rows": 600}, "0 rows are new: the dataset is the one of the last"),
        (
            {},
            {"runs": [PastRun(NOW - 1e5, False, "new", 700)]},
            "the dataset is the one of the last",
        ),
        ({"on_drift": {"min_new_rows": 200}}, {}, "100 rows are new: 200 are needed"),
        (
            {},
            {"runs": [PastRun(NOW - 3600)]},
            "began 1.0 h ago, and `cool_down` is 6.0 h: in 5.0 h",
        ),
        (
            {"most_runs": {"runs": 2, "per": "7d"}},
            {"runs": [PastRun(NOW - 86400), PastRun(NOW - 5 * 86400)]},
            "2 runs began in the last 7.0 d, and `most_runs` allows 2: in 2.0 d",
        ),
        ({"on_new_data": {"min_new_rows": 150}}, {"alarms": []}, "100 of 150 new rows are there."),
    ],
)
def test_what_is_waited_for_is_said(declared: dict[str, Any], given: dict[str, Any], words: str):
    decision = decide(RetrainDeclaration(**declared), situation(**given))

    assert isinstance(decision, Wait)
    assert words in decision.reason


def test_new_rows_alone_retrain_when_there_are_enough():
    enough = RetrainDeclaration(on_new_data={"min_new_rows": 100})

    decision = decide(enough, situation(alarms=[]))

    assert isinstance(decision, Retrain)
    assert decision.reason.startswith("100 new rows are enough")


def test_rows_that_a_run_was_started_for_are_not_new_again():
    """Seen to fail when a run whose gates failed, and that no ledger tells of, was forgotten."""
    enough = RetrainDeclaration(on_new_data={"min_new_rows": 100})
    failed = PastRun(NOW - 1e5, False, "before", 680)

    decision = decide(enough, situation(alarms=[], runs=[failed]))

    assert decision == Wait(
        "20 of 100 new rows are there. Live rows show no lasting drift or decay."
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cool_down": "6 hours"}, "no duration: a number and s, m, h or d"),
        ({"on_drift": {"violations": 3, "of_last": 2}}, "3 violations cannot be among the last 2"),
        ({"on_drift": {"by": ["feature"]}}, "Did you mean `features`"),
        ({"on_new_data": {"min_rows": 5}}, "Did you mean `min_new_rows`"),
    ],
)
def test_a_wrong_declaration_is_refused(given: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        RetrainDeclaration(**given)
