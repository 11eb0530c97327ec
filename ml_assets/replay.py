"""A replay: a dataset's own history, cut into windows, and what each policy made of it.

Rows come in the order of time.  The first of them are there at the start; the others arrive window
by window, are scored before anybody knows their labels, and get their labels later.  Here is the
order of events and what is counted of them; nothing here fits, decides or reads a clock.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ml_assets.dataset import column_type
from ml_assets.errors import DatasetError, DeclarationError, did_you_mean
from ml_assets.metric import METRICS, gain
from ml_assets.problem import Problem, SplitDeclaration, TimeBy
from ml_assets.split import find_cuts

FEWEST_WINDOWS = 2
CONFIDENCE = 0.95
DECLARED, OTHERWISE, NEWEST, NEVER, ORACLE = "declared", "otherwise", "newest", "never", "oracle"
# What decides how a source is read: what is played was read already.
_READING = (
    "path",
    "loader",
    "sql",
    "connection",
    "asset",
    "resent",
    "separator",
    "quote",
    "bad_lines",
    "decimal",
    "encoding",
    "names",
    "missing",
    "skip_initial_space",
)
Fate = Literal["promoted", "held", "refused", ""]


@dataclass(frozen=True)
class Asked:
    """How a history is to be played.

    Attributes:
        by: the column that says when; None for the time of the split, else the order of rows.
        windows: how many windows the rows after the start are cut into, of about equal size.
        every: how long a window is, where `by` holds dates; else how long one takes.
        start: the share of the rows that are there, with their labels, at the start.
        delay: how much later labels come: a number of windows, or a duration where `by` holds dates.
        shuffled: the rows are put into a random order first, so that nothing changes over time.
    """

    by: str | None = None
    windows: int = 20
    every: str | None = None
    start: float = 0.3
    delay: str = "0"
    shuffled: bool = False


@dataclass(frozen=True)
class Window:
    """Rows that arrive together.

    Attributes:
        number: 0 for what is there at the start.
        rows: how many.
        first: the earliest time, as written.
        last: the latest.
        at: when it is over, in seconds of the history's own clock.
    """

    number: int
    rows: int
    first: Any
    last: Any
    at: float


@dataclass(frozen=True)
class History:
    """Rows in the order of time, and when what of them is known.

    Attributes:
        order: positions of the rows, earliest first.
        window: the window in which each of these arrives.
        known: the window at whose end each one's label is known; beyond the last for never.
        windows: the windows, from the start on.
    """

    order: np.ndarray
    window: np.ndarray
    known: np.ndarray
    windows: tuple[Window, ...]


def time_column(asked: Asked, problem: Problem) -> str | None:
    """It returns the column that orders the history; None for the order of the rows."""
    by = problem.split.by
    column = asked.by or (by.time if isinstance(by, TimeBy) else None)
    return None if column == problem.dataset.number_rows else column


def arrange(frame: pd.DataFrame, column: str | None, asked: Asked) -> History:
    """It puts rows in the order of time and cuts them into windows.

    Rows of one time are in one window.

    Args:
        frame: the rows; only the column is looked at.
        column: what orders them; None for their own order.
        asked: the windows that are wanted.

    Raises:
        DatasetError: the column is absent, incomplete or no time, or gives too few windows.
        DeclarationError: what is asked cannot be done.
    """
    if not 0 < asked.start < 1:
        raise DeclarationError(f"--start is {asked.start:g}; it is a share between 0 and 1.")
    if asked.windows < FEWEST_WINDOWS:
        raise DeclarationError(f"--windows is {asked.windows}; {FEWEST_WINDOWS} is the least.")
    times = pd.Series(np.arange(len(frame))) if column is None else _times(frame, column)
    order = np.argsort(times.to_numpy(), kind="stable")
    ordered = times.to_numpy()[order]
    dated = column_type(times) == "date"
    edges = _edges(ordered, dated, asked)
    if len(edges) < FEWEST_WINDOWS:
        raise DatasetError(
            f"{len(frame):,} rows give {len(edges)} windows after the start; at least "
            f"{FEWEST_WINDOWS} are needed. Ask for more with --windows, or order by a column with "
            "more distinct values."
        )
    window = np.searchsorted(edges, np.arange(len(ordered)), side="right")
    ends = np.append(edges[1:], len(ordered))
    lasts = ordered[np.append(edges[0], ends) - 1]
    long = _seconds(asked.every or "1d", "--every")
    windows = [
        Window(
            number,
            int((window == number).sum()),
            _written(ordered[window == number][0]),
            _written(last),
            pd.Timestamp(last).timestamp() if dated else number * long,
        )
        for number, last in enumerate(lasts)
    ]
    known = _known(ordered, window, lasts, dated, asked)
    return History(order, window, known, tuple(windows))


def _times(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame.columns:
        hint = did_you_mean(column, map(str, frame.columns))
        raise DatasetError(f"No column `{column}` to play the history by.{hint}")
    times = frame[column]
    if missing := int(times.isna().sum()):
        raise DatasetError(
            f"`{column}` says when a row arrived, but is missing in {missing:,} rows. Fill it in, "
            "or play by another column, or by the order of the rows."
        )
    if column_type(times) == "text":
        raise DatasetError(
            f"`{column}` holds text like {times.iloc[0]!r}, not times. Say how it is written: "
            f"contract.columns.{column}: {{type: date, format: ...}}, in the words of strftime."
        )
    return times.astype("float64") if column_type(times) == "boolean" else times


def _edges(ordered: np.ndarray, dated: bool, asked: Asked) -> np.ndarray:
    """It returns where each window after the start begins."""
    first = int(asked.start * len(ordered))
    if dated and asked.every is not None:
        step = np.timedelta64(int(_seconds(asked.every, "--every") * 1e9), "ns")
        begins = np.arange(ordered[first], ordered[-1] + np.timedelta64(1, "ns"), step)
        edges = np.searchsorted(ordered, begins, side="left")
    else:
        wanted = np.linspace(first, len(ordered), asked.windows + 1)[:-1].astype(int)
        edges = np.searchsorted(ordered, ordered[wanted], side="left")
    edges = np.unique(edges)
    return edges[(edges > 0) & (edges < len(ordered))]


def _known(
    ordered: np.ndarray, window: np.ndarray, lasts: np.ndarray, dated: bool, asked: Asked
) -> np.ndarray:
    """It returns the window at whose end each row's label is known."""
    said = asked.delay.strip()
    if re.fullmatch(r"\d+", said):
        late = window + int(said)
        late[window == 0] = 0  # what is there at the start is there with its labels
        return late
    if not dated:
        raise DeclarationError(
            f"--delay is {said!r}, but the history is not ordered by dates. Give a number of "
            "windows, like 2."
        )
    late = ordered + np.timedelta64(int(_seconds(said, "--delay") * 1e9), "ns")
    return np.searchsorted(lasts, late, side="left")


def _seconds(said: str, option: str) -> float:
    try:
        seconds = float(pd.Timedelta(said).total_seconds())
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise DeclarationError(f"{option} is {said!r}; expected a duration like 7d or 12h.")
    return seconds


def _written(time: Any) -> Any:
    if isinstance(time, np.datetime64):
        stamp = pd.Timestamp(time)
        return stamp.date().isoformat() if stamp == stamp.normalize() else stamp.isoformat()
    return time.item()


def as_declared_today(problem: Problem, times: pd.Series | None) -> Problem:
    """It returns a problem whose cuts in time follow what has arrived, as a team would move them.

    Cuts that stay where they are would leave what is learned from as it was at the start, however
    much arrives.  They only move forward, so that no champion is judged by rows it learned from.
    A split by anything else is left as it is.

    Args:
        problem: as declared.
        times: of the labelled rows that have arrived, where the split is by time.
    """
    split = problem.split
    if not isinstance(split.by, TimeBy) or times is None:
        return problem
    free = split.by.model_copy(update={"validation_from": None, "test_from": None})
    shares = split.model_copy(update={"by": free})
    cuts = find_cuts(times.to_frame(split.by.time), shares)
    at = {"validation_from": cuts.validation_from, "test_from": cuts.test_from}
    moved: SplitDeclaration = shares.model_copy(update={"by": free.model_copy(update=at)})
    return problem.model_copy(update={"split": moved})


def as_played(problem: Problem, path: str, at_start: int) -> tuple[Problem, list[str]]:
    """It returns the problem as its history is played, and what is otherwise, as sentences.

    Args:
        problem: as declared.
        path: where the windows arrive as files.
        at_start: how many rows are there with their labels at the start.
    """
    declared, told = problem.dataset, []
    fields = type(declared).model_fields
    was_read = {name: fields[name].get_default(call_default_factory=True) for name in _READING}
    contract = declared.contract
    if contract.min_rows > at_start:
        told.append(
            f"contract.min_rows is {contract.min_rows:,}; {at_start:,} rows are there at the start, "
            "so that these are enough."
        )
        contract = contract.model_copy(update={"min_rows": at_start})
    own = {**was_read, "path": path, "settle": 0.0, "contract": contract}
    changes: dict[str, Any] = {"dataset": declared.model_copy(update=own)}
    if isinstance(problem.split.by, TimeBy):
        told.append(
            f"The cuts by `{problem.split.by.time}` follow what has arrived, "
            f"{problem.split.train:.0%}, {problem.split.validation:.0%} and "
            f"{problem.split.test:.0%} of it, as if somebody moved them for every retraining; cuts "
            "that stay would leave train as it was at the start."
        )
    if problem.promotion.mode != "automatic":
        told.append(
            f"promotion.mode is {problem.promotion.mode}; here what is fit and better is promoted "
            "at once."
        )
        mode = problem.promotion.model_copy(update={"mode": "automatic"})
        changes["promotion"] = mode
    return problem.model_copy(update=changes), told


# -------------------------------------------------------------------------------- what came of it


@dataclass(frozen=True)
class Step:
    """One window under one policy: who served in it, and what was decided at its end.

    Attributes:
        window: the window's number.
        score: of the predictions that were served; None where there are none, or no metric.
        champion: who served: candidate, and the window after which it was fitted.
        unscored: rows that got no prediction.
        alarms: what monitoring said, as sentences.
        retrained: candidates were fitted at its end.
        why: the reason for retraining, or for not.
        fate: of the challenger.
        reason: of that.
        seconds: what the fits of this step took.
    """

    window: int
    score: float | None = None
    champion: str = ""
    unscored: int = 0
    alarms: tuple[str, ...] = ()
    retrained: bool = False
    why: str = ""
    fate: Fate = ""
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Course:
    """What one policy made of a history.

    Attributes:
        name: the policy.
        told: what it does, in a few words.
        steps: the start, and each window.
    """

    name: str
    told: str
    steps: tuple[Step, ...]

    @property
    def live(self) -> tuple[Step, ...]:
        """The windows after the start."""
        return self.steps[1:]

    @property
    def mean(self) -> float | None:
        """The mean score of the windows that have one."""
        scores = [s.score for s in self.live if s.score is not None]
        return float(np.mean(scores)) if scores else None

    def summary(self) -> dict[str, Any]:
        """It returns what is counted after the start."""
        fates = [s.fate for s in self.live]
        return {
            "mean": self.mean,
            "scored_windows": sum(s.score is not None for s in self.live),
            "retrainings": sum(s.retrained for s in self.live),
            "promotions": fates.count("promoted"),
            "holds": fates.count("held"),
            "refusals": fates.count("refused"),
            "alarms": sum(bool(s.alarms) for s in self.live),
            "fit_seconds": round(sum(s.seconds for s in self.live), 2),
        }


@dataclass(frozen=True)
class Paired:
    """One policy against another, window by window.

    Attributes:
        verdict: better, worse, or alike: no difference beyond noise.
        one: the policy that is asked about.
        other: the one that it is compared with.
        gain: the mean over windows of how much better it is (negative: worse).
        low: lower end of the interval in which that mean lies at 95 %.
        high: its upper end.
        windows: in which both have a score.
    """

    verdict: Literal["better", "worse", "alike"]
    one: str
    other: str
    gain: float
    low: float
    high: float
    windows: int

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        pair = f"{self.one} against {self.other}"
        if self.low == self.high == 0:
            return f"{pair}: the same in all {self.windows} windows."
        beyond = "alike, no difference beyond noise" if self.verdict == "alike" else self.verdict
        return (
            f"{pair}: {beyond}; gain {self.gain:+.3g} per window (between "
            f"{self.low:+.3g} and {self.high:+.3g}, {self.windows} windows)."
        )


def against(metric: str, one: Course, other: Course) -> Paired | None:
    """It returns whether one policy is better than another beyond noise; None with too few windows.

    A window is the unit: its rows were served by one champion and came together, so that they are
    no independent witnesses.
    """
    both = zip(one.live, other.live, strict=True)
    gains = np.array(
        [
            gain(metric, a.score, b.score)
            for a, b in both
            if a.score is not None and b.score is not None
        ]
    )
    if len(gains) < FEWEST_WINDOWS:
        return None
    from scipy.stats import t

    mean, spread = float(gains.mean()), float(gains.std(ddof=1) / math.sqrt(len(gains)))
    wide = float(t.ppf((1 + CONFIDENCE) / 2, len(gains) - 1)) * spread
    low, high = mean - wide, mean + wide
    verdict: Literal["better", "worse", "alike"] = "alike"
    if low > 0 or high < 0:
        verdict = "better" if low > 0 else "worse"
    return Paired(verdict, one.name, other.name, mean, low, high, len(gains))


@dataclass(frozen=True)
class Replayed:
    """A history that was played.

    Attributes:
        problem: the problem's name.
        metric: what is scored.
        windows: the windows, from the start on.
        by: what orders the rows, in words.
        courses: what each policy made of it; those that are declared come first.
        pairs: the declared policies against the others.
        told: what was played otherwise than declared, as sentences.
        rows: how many.
        dataset_version: the version that was played.
        fitted: how many candidates were fitted in all; a fit for two policies is made once.
        seconds: how long it took.
    """

    problem: str
    metric: str
    windows: tuple[Window, ...]
    by: str
    courses: tuple[Course, ...]
    pairs: tuple[Paired, ...]
    told: tuple[str, ...]
    rows: int
    dataset_version: str
    fitted: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """It returns all of it as JSON-like values."""
        return {
            "problem": self.problem,
            "metric": self.metric,
            "greater_is_better": METRICS[self.metric][0],
            "rows": self.rows,
            "dataset_version": self.dataset_version,
            "by": self.by,
            "told": list(self.told),
            "windows": [vars(w) for w in self.windows],
            "policies": [
                {
                    "name": c.name,
                    "told": c.told,
                    **c.summary(),
                    "steps": [{**vars(s), "alarms": list(s.alarms)} for s in c.steps],
                }
                for c in self.courses
            ],
            "comparisons": [{**vars(p), "sentence": p.sentence} for p in self.pairs],
            "fitted": self.fitted,
            "seconds": self.seconds,
        }


def best_in_hindsight(
    metric: str, scores: Sequence[tuple[str, int, Sequence[float | None]]], windows: int
) -> Course:
    """It returns the oracle: in each window, the best of all that could have served in it.

    Args:
        metric: what is scored.
        scores: of each fitted candidate: its name, the window after which it was fitted, and its
            score in each window.
        windows: how many windows there are, the start among them.
    """
    steps = [Step(0)]
    for number in range(1, windows):
        could = [
            (name, found[number])
            for name, fitted, found in scores
            if fitted < number and found[number] is not None
        ]
        best = max(could, key=lambda c: gain(metric, c[1] or 0.0, 0.0), default=None)
        steps.append(Step(number, best[1], best[0]) if best else Step(number))
    told = "in hindsight the best in each window of all candidates fitted before it"
    return Course(ORACLE, told, tuple(steps))
