"""A time limit interrupts, and ends what does not stop."""

import threading
import time

import pytest

from ml_assets.errors import TimeLimitExceeded
from ml_assets.time_limit import TimeLimit, in_words


def limit(seconds: float, ended: list[str] | None = None, grace: float = 30) -> TimeLimit:
    return TimeLimit(
        seconds, "demo/candidate", "limits.candidate", (ended or []).append, grace=grace
    )


def test_what_takes_longer_is_interrupted_and_told_the_limit_and_its_place():
    with (
        pytest.raises(
            TimeLimitExceeded, match=r"demo/candidate took longer than 0.05 s.*`limits.candidate`"
        ),
        limit(0.05).counting(),
    ):
        time.sleep(5)


def test_only_the_time_within_counts_and_it_adds_up():
    counted = limit(0.3)
    time.sleep(0.4)
    with counted.counting():
        time.sleep(0.2)
    time.sleep(0.2)
    with pytest.raises(TimeLimitExceeded), counted.counting():
        time.sleep(0.2)


def test_what_swallows_the_interruption_is_ended_after_a_grace():
    ended: list[str] = []
    stubborn = TimeLimit(0.05, "x", "limits.x", ended.append, grace=0.1)
    with stubborn.counting():
        try:
            time.sleep(5)
        except TimeLimitExceeded:
            time.sleep(0.4)

    assert len(ended) == 1
    assert "x took longer than 0.05 s" in ended[0]


def test_it_interrupts_once_so_that_what_is_done_about_it_can_be_told():
    """Seen to fail: a failed candidate was interrupted again while its failure was recorded."""
    counted = limit(0.05)
    with pytest.raises(TimeLimitExceeded), counted.counting():
        time.sleep(5)

    with counted.counting():
        time.sleep(0.1)


def test_what_ends_in_time_is_left_alone():
    ended: list[str] = []
    with TimeLimit(0.1, "x", "limits.x", ended.append, grace=0.0).counting():
        pass
    time.sleep(0.2)

    assert ended == []


def test_a_limit_that_could_not_be_kept_is_refused():
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with limit(1).counting():
                pass
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()

    assert "main thread" in str(raised[0])


@pytest.mark.parametrize(("seconds", "words"), [(90, "90 s"), (1800, "30 min"), (21600, "6 h")])
def test_limits_are_told_as_people_say_them(seconds: float, words: str):
    assert in_words(seconds) == words
