"""The order of events of a replay, and what is counted of them."""

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from ml_assets.card.history import card, picture
from ml_assets.card.page import page
from ml_assets.errors import DatasetError, DeclarationError
from ml_assets.problem import SplitDeclaration
from ml_assets.replay import Asked, Course, Replayed, Step, against, best_in_hindsight
from ml_assets.replay.arrangement import arrange, as_declared_today, as_played, time_column
from ml_assets_tests.conftest import dataset, problem

DAYS = pd.DataFrame({"day": pd.date_range("2024-01-01", periods=100, freq="D")})
BY_DAY = {"by": {"time": "day"}}


def course(*scores, name="one", fates=()):
    fates = [*fates, *[""] * (len(scores) + 1 - len(fates))]
    steps = [Step(0, fate=fates[0])]
    steps += [Step(i, score=s, fate=fates[i]) for i, s in enumerate(scores, 1)]
    return Course(name, "told", tuple(steps))


def test_every_row_arrives_once_and_in_the_order_of_time():
    mixed = DAYS.sample(frac=1, random_state=0).reset_index(drop=True)
    history = arrange(mixed, "day", Asked(windows=7))
    assert sorted(history.order) == list(range(100))
    assert mixed["day"].iloc[history.order].is_monotonic_increasing
    assert (np.diff(history.window) >= 0).all()
    assert [w.rows for w in history.windows] == [30, 10, 10, 10, 10, 10, 10, 10]
    assert sum(w.rows for w in history.windows) == 100


def test_rows_of_one_time_are_in_one_window():
    """Seen to fail where windows were cut by the number of rows alone."""
    frame = pd.DataFrame({"day": np.repeat(np.arange(10), 13)})
    history = arrange(frame, "day", Asked(windows=4))
    for _, there in pd.Series(history.window).groupby(frame["day"].to_numpy()):
        assert there.nunique() == 1


def test_a_column_of_few_values_gives_a_window_for_each():
    frame = pd.DataFrame({"month": np.repeat(np.arange(10), 5)})
    history = arrange(frame, "month", Asked(windows=20, start=0.3))
    assert [w.first for w in history.windows] == [0, 3, 4, 5, 6, 7, 8, 9]


def test_windows_have_the_length_that_is_asked_for():
    history = arrange(DAYS, "day", Asked(every="7d", start=0.3))
    assert {w.rows for w in history.windows[1:]} == {7}
    assert history.windows[1].first == "2024-01-31"
    assert history.windows[1].last == "2024-02-06"


def test_a_window_ends_at_its_last_time_and_without_dates_a_day_after_the_other():
    dated = arrange(DAYS, "day", Asked(windows=7)).windows
    assert [w.at for w in dated] == [pd.Timestamp(w.last).timestamp() for w in dated]
    counted = arrange(pd.DataFrame({"x": range(100)}), None, Asked(windows=7)).windows
    assert [w.at for w in counted] == [86400.0 * i for i in range(8)]
    hourly = arrange(pd.DataFrame({"x": range(100)}), None, Asked(windows=7, every="1h")).windows
    assert hourly[7].at == 7 * 3600


@pytest.mark.parametrize(("frame", "column"), [(DAYS, "day"), (DAYS, None)])
def test_a_row_arrives_in_its_window_and_not_after_its_end(frame, column):
    history = arrange(frame, column, Asked(windows=7))
    ends = np.array([w.at for w in history.windows])
    assert (np.diff(history.at) > 0).all()
    assert (history.at <= ends[history.window]).all()
    later = history.window > 0
    assert (history.at[later] > ends[history.window[later] - 1]).all()


@pytest.mark.parametrize("delay", ["0", "1", "3"])
def test_labels_come_so_many_windows_later_and_those_of_the_start_are_there(delay):
    history = arrange(DAYS, "day", Asked(windows=7, delay=delay))
    later = history.window > 0
    assert (history.known[~later] == 0).all()
    assert (history.known[later] == history.window[later] + int(delay)).all()


def test_labels_that_come_days_later_are_known_by_the_end_of_the_window_that_reaches_them():
    history = arrange(DAYS, "day", Asked(windows=7, delay="15d"))
    ends = [pd.Timestamp(w.last) for w in history.windows]
    for at, known in zip(DAYS["day"].iloc[history.order], history.known, strict=True):
        comes = at + pd.Timedelta("15d")
        assert known == len(ends) or ends[known] >= comes
        assert known == 0 or ends[known - 1] < comes


@pytest.mark.parametrize(
    ("frame", "column", "asked", "said"),
    [
        (DAYS, "dya", {}, "No column `dya` to play the history by. Did you mean `day`?"),
        (pd.DataFrame({"d": ["1/2/24", "x"]}), "d", {}, "holds text like '1/2/24', not times"),
        (pd.DataFrame({"d": [1.0, None]}), "d", {}, "is missing in 1 rows"),
        (pd.DataFrame({"d": [1] * 50}), "d", {}, "50 rows give 0 windows after the start"),
        (DAYS, "day", {"start": 1.0}, "--start is 1; it is a share between 0 and 1"),
        (DAYS, "day", {"windows": 1}, "--windows is 1; 2 is the least"),
        (DAYS, "day", {"delay": "soon"}, "--delay is 'soon'; expected a duration like 7d"),
        (DAYS, "day", {"every": "-7d"}, "--every is '-7d'; expected a duration"),
        (DAYS, None, {"delay": "7d"}, "the history is not ordered by dates"),
    ],
)
def test_what_cannot_be_played_is_refused_with_the_reason(frame, column, asked, said):
    with pytest.raises((DatasetError, DeclarationError), match=said.replace("?", r"\?")):
        arrange(frame, column, Asked(**asked))


def test_the_time_of_the_split_orders_the_history_unless_another_column_is_named():
    assert time_column(Asked(), problem()) is None
    assert time_column(Asked(), problem(split=BY_DAY)) == "day"
    assert time_column(Asked(by="hour"), problem(split=BY_DAY)) == "hour"
    numbered = dataset(number_rows="position")
    by_position = problem(split={"by": {"time": "position"}}, dataset=numbered)
    assert time_column(Asked(), by_position) is None


def test_cuts_follow_what_has_arrived_and_only_move_forward():
    fixed = {"by": {"time": "day", "validation_from": "2030-01-01", "test_from": "2031-01-01"}}
    declared = problem(split=fixed)
    before = None
    for count in (30, 50, 100):
        split = as_declared_today(declared, DAYS["day"].head(count)).split
        cuts = pd.Timestamp(split.by.validation_from), pd.Timestamp(split.by.test_from)
        learned = (DAYS["day"].head(count) < cuts[0]).mean()
        assert learned == pytest.approx(0.7, abs=0.05)
        assert before is None or (cuts[0] > before[0] and cuts[1] > before[1])
        before = cuts


def test_what_is_played_otherwise_than_declared_is_told():
    declared = problem(
        dataset=dataset(
            separator=";",
            missing=["?"],
            drop=["x"],
            contract={"min_rows": 500, "columns": {"day": {"type": "date"}}},
        ),
        split=SplitDeclaration(**BY_DAY),
        promotion={"mode": "approval"},
    )
    played, told = as_played(declared, "in/*.parquet", 300)
    assert (played.dataset.path, played.dataset.separator, played.dataset.missing) == (
        "in/*.parquet",
        ",",
        [],
    )
    assert (played.dataset.drop, played.dataset.contract.min_rows) == (["x"], 300)
    assert played.dataset.contract.columns == declared.dataset.contract.columns
    assert played.promotion.mode == "automatic"
    for words in ("min_rows is 500; 300", "cuts by `day` follow", "promotion.mode is approval"):
        assert any(words in t for t in told)
    assert as_played(problem(monitoring={}), "in/*.parquet", 300)[1] == []
    unwatched = as_played(problem(), "in/*.parquet", 300)[1]
    assert "Monitoring is not declared" in unwatched[0]


def test_the_start_is_not_counted():
    fates = ("promoted", "promoted", "held", "refused", "")
    counted = course(1.0, 2.0, None, 3.0, fates=fates).summary()
    assert (counted["mean"], counted["scored_windows"]) == (2.0, 3)
    assert (counted["promotions"], counted["holds"], counted["refusals"]) == (1, 1, 1)


def test_a_policy_that_never_served_has_no_mean_and_not_zero():
    assert course(None, None).summary()["mean"] is None


def test_policies_are_compared_window_by_window_in_the_direction_of_the_metric():
    one, other = course(1.0, 2.0, 3.0, 4.0), course(1.5, 2.6, 3.5, 4.6, name="other")
    assert against("rmse", one, other).verdict == "better"
    assert against("r2", one, other).verdict == "worse"
    noisy = course(1.5, 1.6, 3.5, 3.6, name="noisy")
    assert against("rmse", one, noisy).verdict == "alike"
    same = against("rmse", one, one)
    assert (same.verdict, same.low, same.high) == ("alike", 0.0, 0.0)
    assert "the same in all 4 windows" in same.sentence


def test_only_windows_in_which_both_served_are_compared():
    one, other = course(None, 2.0, 3.0, 4.0), course(9.0, None, 3.5, 4.4, name="other")
    assert against("rmse", one, other).windows == 2
    assert against("rmse", course(None, 1.0), course(1.0, None)) is None


def test_equal_policies_are_called_different_as_rarely_as_promised():
    """The interval is at 95 %: about one comparison in twenty errs, in both directions together."""
    random = np.random.default_rng(0)
    wrong = 0
    for _ in range(400):
        noise = random.normal(size=(2, 20))
        wrong += against("rmse", course(*noise[0]), course(*noise[1])).verdict != "alike"
    assert 8 <= wrong <= 34


def test_the_oracle_has_the_best_of_what_could_have_served():
    scores = [
        ("a", 0, [None, 5.0, 5.0, 5.0]),
        ("b", 1, [None, None, 9.0, 3.0]),
        ("c", 2, [None, None, None, 4.0]),
    ]
    oracle = best_in_hindsight("rmse", scores, 4)
    assert [(s.score, s.champion) for s in oracle.live] == [(5.0, "a"), (5.0, "a"), (3.0, "b")]
    assert [s.score for s in best_in_hindsight("r2", scores, 4).live] == [5.0, 9.0, 5.0]


def test_the_oracle_cannot_choose_what_was_not_fitted_yet():
    oracle = best_in_hindsight("rmse", [("late", 2, [None, 0.0, 0.0, 1.0])], 4)
    assert [s.score for s in oracle.live] == [None, None, 1.0]


# ------------------------------------------------------------------------------- the page


def played(*courses):
    windows = arrange(DAYS, "day", Asked(windows=3)).windows
    pairs = (against("rmse", courses[0], courses[1]),)
    return Replayed("demo", "rmse", windows, "day", courses, pairs, ("told",), 100, "v1", 9, 1.5)


def drawn(*courses):
    return ElementTree.fromstring(picture(played(*courses)))


def test_the_picture_has_a_line_for_each_policy_and_a_dot_for_each_promotion_that_served():
    """A promotion at the end of the last window serves in none; the first champion is no news."""
    fates = ("promoted", "promoted", "held", "promoted")
    svg = drawn(course(3, 2, 1, name="declared", fates=fates), course(3, 3, 3, name="never"))
    assert len(svg.findall("polyline")) == 2
    dots = svg.findall("circle")
    assert len(dots) == 1
    assert "promoted after window 1" in dots[0].find("title").text


def test_better_scores_of_a_greater_metric_are_drawn_higher():
    svg = drawn(course(1, 2, 3, name="declared"), course(1, 1, 1, name="never"))
    own = svg.findall("polyline")[-1].get("points").split()
    heights = [float(p.split(",")[1]) for p in own]
    assert heights == sorted(heights, reverse=True)


def test_a_window_without_a_score_is_a_gap_and_an_alarm_a_mark():
    alarmed = Course(
        "declared",
        "told",
        (Step(0), Step(1, 1.0), Step(2, None, alarms=("it <drifts>",)), Step(3, 2.0)),
    )
    svg = drawn(alarmed, course(1, 1, 1, name="never"))
    assert len(svg.findall("polyline")) == 3
    titles = [t.text for t in svg.iter("title")]
    assert titles == ["alarm in window 2: it <drifts>"]


def test_nothing_that_was_scored_can_still_be_drawn():
    drawn(course(None, None, None, name="declared"), course(1, 1, 1, name="never"))
    drawn(course(1, 1, 1, name="declared"), course(1, 1, 1, name="never"))


def test_the_page_tells_every_decision_and_stands_alone():
    one = course(3, 2, 1, name="declared", fates=("promoted", "held"))
    text = page(card(played(one, course(3, 3, 3, name="never"))))
    assert "declared" in text and "held" in text and "told" in text
    assert "http" not in text.replace("Content-Security-Policy", "").replace("http-equiv", "")
