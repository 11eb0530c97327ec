import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.contract import Breach, Judge, dates, told
from ml_assets_tests.conftest import dataset


def judged(
    frame: pd.DataFrame, columns: dict, pieces: int = 1, expected=(), **given
) -> list[Breach]:
    judge = Judge(dataset(contract={"columns": columns}, **given), expected)
    for part in np.array_split(np.arange(len(frame)), pieces):
        piece = frame.iloc[part].reset_index(drop=True)
        judge.see(piece[[c for c in piece if c in columns]], list(frame.columns))
    return judge.breaches()


GOOD = pd.DataFrame(
    {
        "age": [20, 30, 40, 50],
        "fare": [1.5, 2.5, np.nan, 4.0],
        "city": ["Rome", "Oslo", None, "Rome"],
        "day": pd.to_datetime(["2024-01-01"] * 4),
        "paid": [True, False, True, True],
        "y": [0, 1, 0, 1],
    }
)
RULES = {
    "age": {"type": "integer", "min": 18, "max": 90, "unique": True, "missing": 0},
    "fare": {"type": "number", "usual": [0, 10], "missing": 0.05},
    "city": {"type": "text", "values": ["Rome", "Oslo"]},
    "day": {"type": "date"},
    "paid": {"type": "boolean"},
}


def test_rows_that_keep_the_contract_breach_nothing():
    assert judged(GOOD, RULES) == []


@pytest.mark.parametrize(
    ("column", "values", "rule", "mode", "said"),
    [
        (
            "age",
            [17, 30, 12, 40],
            "min",
            "enforce",
            "`age` is below 18 in 2 rows (lines 2, 4: 17, 12).",
        ),
        ("age", [20, 91, 30, 40], "max", "enforce", "`age` is above 90 in 1 row (line 3: 91)."),
        ("age", [20, 20, 30, 40], "unique", "enforce", "`age` stands more than once in 1 row"),
        (
            "age",
            [20, 20.5, 30, 40],
            "type",
            "enforce",
            "`age` is no integer in 1 row (line 3: 20.5)",
        ),
        (
            "age",
            ["20", "x", "30", "40"],
            "type",
            "enforce",
            "`age` is no integer in 1 row (line 3: 'x')",
        ),
        (
            "age",
            [20, np.nan, 30, 40],
            "missing",
            "enforce",
            "`age` is missing in 1 of 4 rows (25.00%)",
        ),
        ("fare", [1, 2, 3, 99], "usual", "warn", "`fare` lies outside the usual 0 to 10 in 1 row"),
        (
            "fare",
            ["1", "2,5", "3", "4"],
            "type",
            "enforce",
            "`fare` is no number in 1 row (line 3: '2,5')",
        ),
        ("fare", [np.nan] * 4, "missing", "enforce", "`fare` is missing in 4 of 4 rows"),
        (
            "city",
            ["Rome", "Paris", "Rome", "Lima"],
            "values",
            "warn",
            "(lines 3, 5: 'Paris', 'Lima')",
        ),
        ("city", [1, 2, 3, 4], "type", "enforce", "`city` is no text in 4 rows (lines 2, 3, 4 …"),
        (
            "day",
            ["2024-01-01", "soon", None, "2024-02-30"],
            "type",
            "enforce",
            "`day` is no date in 2 rows",
        ),
        ("paid", ["yes", "no", "yes", "no"], "type", "enforce", "`paid` is no boolean in 4 rows"),
    ],
)
def test_a_breach_is_told_with_line_and_example(column, values, rule, mode, said):
    found = [b for b in judged(GOOD.assign(**{column: values}), RULES) if b.rule == rule]
    assert len(found) == 1
    assert (found[0].column, found[0].mode) == (column, mode)
    assert said in found[0].reason


def test_everything_that_is_wrong_is_told_at_once_the_most_severe_first():
    bad = GOOD.assign(age=[1, 2, 300, np.nan], fare=[99.0] * 4, city=["Lima"] * 4)
    found = judged(bad.drop(columns="day"), RULES)
    assert {(b.column, b.rule) for b in found} == {
        ("day", "absent"),
        ("age", "min"),
        ("age", "max"),
        ("age", "missing"),
        ("fare", "usual"),
        ("city", "values"),
    }
    modes = [b.mode for b in found]
    assert modes == sorted(modes, key=["enforce", "warn"].index)


def test_pieces_are_one_file_in_counts_lines_and_uniqueness():
    frame = pd.DataFrame({"a": [1, -1, 2, -2, 1, -3], "y": 0})
    rules = {"a": {"min": 0, "unique": True}}
    whole, pieces = judged(frame, rules), judged(frame, rules, pieces=3)
    assert whole == pieces
    assert "`a` is below 0 in 3 rows (lines 3, 5, 7: -1, -2, -3)." in [b.reason for b in whole]
    assert "`a` stands more than once in 1 row (line 6: 1)." in [b.reason for b in whole]


def test_a_file_without_a_header_has_its_first_row_on_line_one():
    frame = pd.DataFrame({"a": [-1], "y": [0]})
    (breach,) = judged(frame, {"a": {"min": 0}}, names=["a", "y"])
    assert "(line 1: -1)" in breach.reason


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("warn", {"min": "warn", "values": "warn"}),
        ("off", {}),
        ({"values": "enforce"}, {"min": "enforce", "values": "enforce"}),
        ({"min": "warn", "values": "off"}, {"min": "warn"}),
    ],
)
def test_each_rule_has_its_own_severity(mode, expected):
    frame = pd.DataFrame({"a": [-1], "c": ["x"], "y": [0]})
    rules = {"a": {"min": 0, "mode": mode}, "c": {"values": ["z"], "mode": mode}}
    assert {b.rule: b.mode for b in judged(frame, rules)} == expected


def test_what_a_small_file_lacks_by_chance_is_no_breach():
    """5 % may be missing: 2 of 10 by chance, 50 of 100 never."""
    small = pd.DataFrame({"a": [1.0] * 8 + [np.nan] * 2, "y": 0})
    large = pd.DataFrame({"a": [1.0] * 50 + [np.nan] * 50, "y": 0})
    assert judged(small, {"a": {"missing": 0.05}}) == []
    assert [b.rule for b in judged(large, {"a": {"missing": 0.05}})] == ["missing"]
    assert [b.rule for b in judged(small, {"a": {"missing": 0.0}})] == ["missing"]


def test_an_absent_column_is_told_with_what_it_may_be_called_now():
    frame = pd.DataFrame({"Tenure ": [1], "y": [0]})
    (breach,) = judged(frame, {"tenure": {}})
    assert breach.reason == "`tenure` is not there. Did you mean `Tenure `?"
    (breach,) = judged(frame, {}, expected=("all had it",))
    assert breach.reason == "`all had it` is not there."


def test_what_is_told_is_bounded():
    frame = pd.DataFrame({f"c{i}": ["x" * 5000] * 500 for i in range(60)} | {"y": 0})
    rules = {f"c{i}": {"values": ["z"], "mode": "enforce"} for i in range(60)}
    text = told(judged(frame, rules))
    assert len(text) < 3000
    assert "(and 50 more)" in text


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.one_of(st.none(), st.floats(-100, 100)), min_size=1, max_size=60),
    st.integers(1, 5),
)
def test_counts_agree_with_a_plain_count(values, pieces):
    frame = pd.DataFrame({"a": np.array(values, dtype="float64"), "y": 0})
    found = {b.rule: b.reason for b in judged(frame, {"a": {"min": -50, "max": 50}}, pieces)}
    for rule, wrong in (("min", frame["a"] < -50), ("max", frame["a"] > 50)):
        if wrong.any():
            assert f"in {int(wrong.sum()):,} row" in found[rule]
        else:
            assert rule not in found


def test_dates_are_read_in_their_declared_format_only():
    written = pd.Series(["1/2/2024", "12/31/2024", None, "2024-01-01", "31/12/2024"])
    read = dates(written, "%m/%d/%Y")
    assert read[:2].tolist() == [pd.Timestamp("2024-01-02"), pd.Timestamp("2024-12-31")]
    assert read[2:].isna().all()
