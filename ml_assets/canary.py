"""A canary: a challenger that serves a share, until labelled live rows decide about it.

Champion and canary are both asked about *every* row that was scored since the canary started and
whose label has come, whoever answered it, and compared row by row: the paired test of
`comparison`, which sees far smaller differences than two groups of different rows would show.

It is looked at more than once, and each look is a chance for luck to look like skill.  So the
chance of error is spent over the looks (Lan & DeMets 1983): the first comes at `min_rows` rows, each
after that when they have doubled; look k errs with at most α/(k(k+1)), which add up to α however many
looks there are; nothing is assumed of how the looks depend on each other.  Looks in geometric progression
with such a series are the stitching of Howard, Ramdas, McAuliffe & Sekhon (2021).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

from ml_assets.comparison import Comparison
from ml_assets.promotion import Hold, Promote

# `compare` is asked at this confidence, and its interval widened: 2,000 resamples have no more to
# say about one chance in a thousand.
ASKED = 0.95


@dataclass(frozen=True)
class Terms:
    """What was declared when a canary started; it holds until its end.

    Attributes:
        share: of the rows that it answers; 0 for a shadow.
        min_rows: labelled rows at the first look.
        longest: seconds until it is withdrawn as inconclusive.
        confidence: of the interval of the gain, over all looks together.
        by: smallest gain that counts.
    """

    share: float
    min_rows: int
    longest: float
    confidence: float
    by: float = 0.0


@dataclass(frozen=True)
class Start(Hold):
    """Production stays as it is; the challenger starts as a canary beside it."""


@dataclass(frozen=True)
class Withdraw:
    """The canary serves no more; the champion stays.

    Attributes:
        reason: why, as a sentence.
        finding: what was found.
    """

    reason: str
    finding: Literal["not better", "inconclusive", "unfit"]


@dataclass(frozen=True)
class Wait:
    """Nothing is decided yet.

    Attributes:
        reason: what is waited for, as a sentence.
    """

    reason: str


@dataclass(frozen=True)
class Standing:
    """How a canary stands.

    Attributes:
        rows: labelled rows since it started.
        looked_at: labelled rows at each look so far.
        seconds: since it started.
        trouble: why the two cannot be compared, as a sentence; empty where they can.
    """

    rows: int
    looked_at: Sequence[int]
    seconds: float
    trouble: str = ""


def rows_needed(terms: Terms, looked_at: Sequence[int]) -> int:
    """It returns how many labelled rows the next look needs: twice those that the last one had."""
    return 2 * looked_at[-1] if looked_at else terms.min_rows


def confidence_at(terms: Terms, look: int) -> float:
    """It returns the confidence of the interval at a look, counted from 1."""
    return 1 - (1 - terms.confidence) / (look * (look + 1))


def is_over(terms: Terms, standing: Standing) -> bool:
    """It says whether the canary's time is over."""
    return standing.seconds >= terms.longest


def is_due(terms: Terms, standing: Standing) -> bool:
    """It says whether a look is due: there are rows enough, or it is the last.

    The last look needs the rows of the first, and rows that no look has seen.
    """
    if standing.trouble:
        return False
    if standing.rows >= rows_needed(terms, standing.looked_at):
        return True
    seen = max(standing.looked_at, default=0)
    return is_over(terms, standing) and standing.rows >= max(terms.min_rows, seen + 1)


def at_look(asked: Comparison, terms: Terms, look: int) -> Comparison:
    """It returns a comparison with the interval that a look asks for.

    Args:
        asked: the comparison at the confidence `ASKED`.
        terms: the canary's.
        look: the number of the look, counted from 1.
    """
    normal = NormalDist()
    wanted = confidence_at(terms, look)
    wider = normal.inv_cdf((1 + wanted) / 2) / normal.inv_cdf((1 + ASKED) / 2)
    low = asked.gain - (asked.gain - asked.low) * wider
    high = asked.gain + (asked.high - asked.gain) * wider
    verdict: Literal["better", "not better", "inconclusive"] = "inconclusive"
    if low > terms.by:
        verdict = "better"
    elif high <= terms.by:
        verdict = "not better"
    return replace(asked, verdict=verdict, low=low, high=high)


def started(
    decision: Promote | Hold,
    comparison: Comparison | None,
    version: int,
    other: int | None,
    withdrawn: str | None,
) -> Promote | Hold:
    """It returns the decision where promotions need a canary.

    Test rows need not show that a challenger is better: that is for the canary to show.  They must
    not show that it is not.  One canary at a time: a newer challenger waits for its end, or no
    canary would live to see one.

    Args:
        decision: what test rows alone would decide.
        comparison: champion and challenger on test; None where they were not compared.
        version: the challenger's.
        other: the version that is the canary now; None for none.
        withdrawn: why this very model was withdrawn as a canary beside this very champion before.
    """
    if comparison is None:  # the first champion, or one that cannot be compared with
        return decision
    if comparison.verdict == "not better":
        return decision
    if other == version:
        return Hold(f"Version {version} is the canary already; its live rows decide.")
    if withdrawn is not None:
        return Hold(f"As a canary this model was withdrawn before: {withdrawn}")
    if other is not None:
        return Hold(
            f"Version {version} waits: version {other} is the canary, and there is one at a time. "
            f"{decision.reason}"
        )
    return Start(f"Version {version} starts as canary. {decision.reason}")


def decide(terms: Terms, standing: Standing, found: Comparison | None) -> Promote | Withdraw | Wait:
    """It returns what becomes of a canary.

    Args:
        terms: what was declared when it started.
        standing: how it stands.
        found: what the look that is due found, from `at_look`; None where none is due.
    """
    over = is_over(terms, standing)
    if found is not None and found.verdict == "not better":
        return Withdraw(f"Than the champion it is {told(found)}.", "not better")
    if found is not None and found.verdict == "better":
        if terms.share > 0:
            return Promote(f"Than the champion it is {told(found)}.")
        if not over:
            return Wait(
                f"Than the champion it is {told(found)}. It is a shadow, which somebody has to "
                "approve."
            )
        return Withdraw(
            f"Its time is over, and nobody approved this shadow. Than the champion it is "
            f"{told(found)}.",
            "inconclusive",
        )
    if over:
        return Withdraw(f"Its time is over: {_so_far(terms, standing, found)}", "inconclusive")
    if standing.trouble:
        return Wait(standing.trouble)
    looked_at = [*standing.looked_at, *([standing.rows] if found is not None else [])]
    needed = rows_needed(terms, looked_at)
    which = "next" if looked_at else "first"
    before = f"Than the champion it is {told(found)}. " if found is not None else ""
    return Wait(
        f"{before}{standing.rows:,} labelled rows so far; the {which} look at it needs {needed:,}."
    )


def told(found: Comparison) -> str:
    """It returns a comparison on live rows in words."""
    return found.sentence.replace("test rows", "live rows")


def _so_far(terms: Terms, standing: Standing, found: Comparison | None) -> str:
    if standing.trouble:
        return standing.trouble
    if found is not None:
        return f"than the champion it is {told(found)}."
    if standing.looked_at:
        return f"no look showed a difference; the last was at {max(standing.looked_at):,} rows."
    return (
        f"{standing.rows:,} labelled rows came, and the first look at it needs {terms.min_rows:,}."
    )
