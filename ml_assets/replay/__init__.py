"""A replay: a dataset's own history, cut into windows, and what each policy made of it.

Rows come in the order of time.  The first of them are there at the start; the others arrive window
by window, are scored before anybody knows their labels, and get their labels later.  Here are the
records of that and what is counted of them, `arrangement` has the order of events; nothing here
fits, decides or reads a clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ml_assets.metric import METRICS, gain

FEWEST_WINDOWS = 2
CONFIDENCE = 0.95
DECLARED, OTHERWISE, NEWEST, NEVER, ORACLE = "declared", "otherwise", "newest", "never", "oracle"
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
        at: when each one arrives, in seconds of the history's own clock.
        windows: the windows, from the start on.
    """

    order: np.ndarray
    window: np.ndarray
    known: np.ndarray
    at: np.ndarray
    windows: tuple[Window, ...]


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
