"""A window: live rows that are looked at together, what is asked of it, and when that is alarming.

One window can be odd by chance, or be a day on which something else happened.  An alarm needs so
many of the last windows, and the latest: what has passed by itself is no reason to act any more.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from ml_assets.problem.monitoring import Aspect, span_seconds

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Answer:
    """What a window answers to one question.

    Attributes:
        violated: something is wrong; None where it could not be asked.
        reason: a finished sentence.
        value: what was measured.
        then: the same where the version was judged.
        evidence: more numbers.
    """

    violated: bool | None
    reason: str
    value: float | None = None
    then: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Window:
    """Live rows of one version that are looked at together.

    Attributes:
        number: its place, from 0.
        first: the time of its first row, in seconds since 1970.
        last: the time of its last row.
        rows: how many.
        labelled: how many of them have their label.
        answers: by what was asked.
    """

    number: int
    first: float
    last: float
    rows: int
    labelled: int
    answers: dict[Aspect, Answer] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """It returns the window as JSON takes it."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> "Window":
        """It returns the window that `as_record` made a record of."""
        answers: Any = {k: Answer(**a) for k, a in record["answers"].items()}
        return cls(**{**record, "answers": answers})


def cut(at: "pd.Series", window: int | str, now: float) -> "list[np.ndarray]":
    """It returns the positions of the rows of each whole window, oldest first.

    A window of rows is whole when it is full, one of time when its end has passed.  Windows of time
    begin at multiples of their length, so that later rows move none.

    Args:
        at: when each row was predicted, in order.
        window: so many rows, or a length of time.
        now: seconds since 1970.
    """
    import numpy as np

    if isinstance(window, int):
        whole = len(at) // window
        return [np.arange(i * window, (i + 1) * window) for i in range(whole)]
    length = span_seconds(window)
    number = np.floor(at.to_numpy(dtype="float64") / length)
    over = (number + 1) * length <= now
    return [np.flatnonzero((number == n) & over) for n in np.unique(number[over])]


@dataclass(frozen=True)
class Alarm:
    """What is wrong for long enough.

    Attributes:
        aspect: what was asked.
        reason: a finished sentence.
        window: the number of the latest window that shows it.
    """

    aspect: Aspect
    reason: str
    window: int


def alarms(
    windows: Sequence[Window], violations: int, of_last: int, by: Sequence[Aspect]
) -> list[Alarm]:
    """It returns what so many of the last windows show, and the latest; of each aspect by itself.

    Windows that could not be asked, as those whose labels have not come, count neither way.

    Args:
        windows: in the order of time.
        violations: so many must show it.
        of_last: of so many.
        by: what counts.
    """
    found = []
    for aspect in by:
        asked = [w for w in windows if _violated(w, aspect) is not None][-of_last:]
        shown = [w for w in asked if _violated(w, aspect)]
        if asked and asked[-1] in shown and len(shown) >= violations:
            latest = asked[-1]
            told = f"{len(shown)} of the last {len(asked)} windows and the latest. "
            reason = f"{aspect.capitalize()}: {told}{latest.answers[aspect].reason}"
            found.append(Alarm(aspect, reason, latest.number))
    return found


def _violated(window: Window, aspect: Aspect) -> bool | None:
    answer = window.answers.get(aspect)
    return None if answer is None else answer.violated


def odd_volume(windows: Sequence[Window], window: int | str, factor: float) -> Answer:
    """It returns whether the latest window filled much faster or slower than those before.

    Args:
        windows: in the order of time.
        window: so many rows, or a length of time.
        factor: so many times is too much.
    """
    seconds = None if isinstance(window, int) else span_seconds(window)
    paces = [w.rows / max(seconds or w.last - w.first, 1.0) * 86400 for w in windows]
    if len(paces) < 4:
        return Answer(None, "Asked from the fourth window on.")
    usual, latest = median(paces[:-1]), paces[-1]
    told = f"{latest:,.0f} rows a day in the latest window, usually {usual:,.0f}."
    odd = latest > usual * factor or latest * factor < usual
    return Answer(odd, told, latest, usual)
