"""Drift: chance is no drift, a little is none, and what has moved is found and named."""

import numpy as np
import pandas as pd
import pytest

from ml_assets.drift import (
    as_record,
    chance,
    compared,
    from_record,
    holm,
    jensen_shannon,
    spread_of,
    spreads_of,
)


def frame(count: int, seed: int, far: float = 0.0, gone: float = 0.0) -> pd.DataFrame:
    """It returns rows of three numbers and a category, of which `x` and `kind` move."""
    random = np.random.default_rng(seed)
    made = pd.DataFrame(random.normal(size=(count, 3)), columns=["x", "y", "z"])
    made["x"] = (made["x"] + far).mask(random.random(count) < gone)
    kinds = ["new"] if far else ["red", "green", "blue"]
    return made.assign(kind=random.choice(kinds, count), flag=random.random(count) < 0.5)


def spreads(count: int = 3000) -> tuple:
    learned, judged = frame(count, 1), frame(count, 2)
    return spreads_of(learned, judged, list(learned))


def test_chance_is_no_drift():
    """Forty windows at the defaults, and the corrected chances do not crowd at 0."""
    known = spreads()
    found = [compared(known, frame(500, 100 + i), 0.99, 0.1) for i in range(40)]

    assert not any(d.drifted for d in found)
    assert not any(d.skew for d in found)
    assert sum(min(c.p for c in d.columns) < 0.05 for d in found) <= 6


def test_what_moved_is_found_and_named():
    drift = compared(spreads(), frame(500, 3, far=1.0), 0.99, 0.1)

    assert drift.drifted
    assert [c.name for c in drift.columns if c.drifted] == ["kind", "x"]
    assert drift.columns[0].unseen == (0.0, 1.0)
    assert drift.sentence.startswith("2 of 5 columns have drifted in 500 rows: `kind` (1.00), `x`")


def test_many_rows_do_not_make_much_of_a_little():
    """Seen to fail when only the test was asked: with 200,000 rows everything is significant."""
    drift = compared(
        spreads(200_000), frame(200_000, 3).assign(x=lambda r: r["x"] + 0.05), 0.99, 0.1
    )

    moved = next(c for c in drift.columns if c.name == "x")
    assert moved.p < 1e-6
    assert not moved.drifted


def test_few_rows_do_not_make_a_distance_of_chance():
    """Seen to fail when only the distance was asked: between 40 rows it is large by chance."""
    found = [compared(spreads(), frame(40, 300 + i), 0.99, 0.1) for i in range(20)]

    assert sum(max(c.distance for c in d.columns) > 0.1 for d in found) > 10
    assert not any(d.drifted for d in found)


def test_more_missing_values_are_told():
    drift = compared(spreads(), frame(500, 3, gone=0.2), 0.99, 0.1)

    assert drift.skew.startswith("`x`: 2")
    assert "missing (0.0% in training)" in drift.skew


def test_a_constant_that_comes_alive_has_drifted():
    """As electricity's transfer does after 17,424 rows."""
    still = pd.Series(np.full(1000, 0.4))
    spread = spread_of("transfer", still, still)
    assert spread is not None
    alive = pd.DataFrame({"transfer": np.random.default_rng(0).normal(size=500)})

    [column] = compared([spread], alive, 0.99, 0.1).columns

    assert (column.drifted, column.unseen[1], round(column.distance, 6)) == (True, 1.0, 1.0)


def test_a_share_of_the_features_or_one_that_is_far_off_makes_the_window_drift():
    known = spreads()
    near = frame(500, 3).assign(x=lambda r: r["x"] + 0.5)

    assert not compared(known, near, 0.99, 0.1, share=0.5).drifted
    assert compared(known, near, 0.99, 0.1, share=0.2).drifted
    assert compared(known, frame(500, 3, far=5.0), 0.99, 0.1, share=0.9).drifted


def test_dates_are_not_asked_and_numbers_as_text_are_values():
    days = pd.Series(pd.date_range("2026-01-01", periods=50))
    assert spread_of("day", days, days) is None
    text = spread_of("code", pd.Series(["1", "2", None]), pd.Series(["1", "3"]))
    assert text is not None
    assert dict(zip(text.bins, text.counts)) == {
        "missing": 0,
        "unseen": 1,
        "others": 0,
        "1": 1,
        "2": 0,
    }


def test_a_record_gives_the_same_spreads():
    known = spreads(500)

    assert from_record(as_record(known)) == known


def test_holm_is_the_published_correction():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_the_distance_lies_between_0_and_1():
    assert jensen_shannon(np.array([5, 5]), np.array([50, 50])) == 0
    assert jensen_shannon(np.array([5, 0]), np.array([0, 9])) == pytest.approx(1)


def test_the_chance_is_that_of_pearsons_test():
    from scipy.stats import chi2_contingency

    one, other = np.array([30, 40, 50]), np.array([45, 35, 30])
    known = chi2_contingency(np.array([one, other]), correction=False).pvalue

    assert chance(one, other) == pytest.approx(known)
