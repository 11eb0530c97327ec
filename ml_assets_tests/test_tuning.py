"""Searches: what is tried, in which order, what stops them, and what they come to."""

import io
import math
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets import candidate as candidates
from ml_assets.errors import CandidateError
from ml_assets.plots import searched
from ml_assets.problem import CandidateDeclaration, Problem, SplitDeclaration
from ml_assets.round.candidate import make_candidate
from ml_assets.tuning import STARTING, Trial, Tuned, folds, size, tune
from ml_assets_tests.conftest import dataset
from ml_assets_tests.problems import EXPLODES, Project, declared, first_fast, quickly, rows

GRID = {"depth": [1, 2, 3], "shape": ["flat", "steep"]}
SPACE = {
    "rate": {"low": 0.001, "high": 1.0, "log": True},
    "depth": {"low": 2, "high": 9},
    "shape": ["flat", "steep"],
}
Score = Callable[[dict[str, Any], int], float]


def candidate(**given: Any) -> CandidateDeclaration:
    """It returns a declared candidate with a search, and what is given."""
    return CandidateDeclaration(**{"estimator": "linear", "search": SPACE, **given})


def hill(params: dict[str, Any], part: int = 0) -> float:
    """It returns a score that follows from the parameters alone."""
    steep = 0.3 if params.get("shape") == "steep" else 0.0
    rate = math.log10(params.get("rate", 0.1))
    return steep - (rate + 1.5) ** 2 - (params.get("depth", 4) - 5) ** 2 / 10 + part / 100


def search(file: Path, score: Score = hill, parts: int = 1, **given: Any) -> Tuned:
    """It searches for a greater roc_auc, remembered in a file."""
    seed, metric = given.pop("seed", 0), given.pop("metric", "roc_auc")
    clock = {"clock": given.pop("clock")} if "clock" in given else {}
    return tune(candidate(**given), metric, score, parts, file, seed, **clock)


def told(tuned: Tuned) -> list[tuple[Any, ...]]:
    """It returns the trials without their times."""
    return [(t.number, t.params, t.value, t.state, t.error) for t in tuned.trials]


# --------------------------------------------------------------------- what is tried


@pytest.mark.parametrize("given", [{}, {"sampler": "grid"}, {"sampler": "grid", "trials": 1}])
@pytest.mark.parametrize("parallel", [1, 4])
def test_a_grid_tries_every_point_once_and_in_order(tmp_path, given, parallel):
    tuned = search(tmp_path / "s", search=GRID, parallel=parallel, **given)
    points = [{"depth": d, "shape": s} for d in (1, 2, 3) for s in ("flat", "steep")]
    assert [t.params for t in tuned.trials] == points
    assert [t.number for t in tuned.trials] == list(range(6))
    assert tuned.params == {"depth": 3, "shape": "steep"}
    assert tuned.value == hill(tuned.params)
    assert tuned.how == "grid, 6 trials, roc_auc on validation"


def test_values_of_a_grid_may_be_lists_none_and_booleans(tmp_path):
    space = {"layers": [[10], [5, 5]], "bag": [True, False], "depth": [None, 1]}
    tuned = search(tmp_path / "s", lambda p, _: len(p["layers"]) + p["bag"], search=space)
    assert len({str(t.params) for t in tuned.trials}) == 8
    assert tuned.params == {"layers": [5, 5], "bag": True, "depth": None}


@pytest.mark.parametrize(
    ("given", "sampler", "trials"),
    [
        ({"search": GRID, "trials": 6}, "grid", 6),
        ({"search": GRID, "trials": 5}, "tpe", 5),
        ({"trials": 3}, "tpe", 3),
        ({"sampler": "random", "trials": 3}, "random", 3),
        ({"sampler": "random", "search": GRID, "trials": 3}, "random", 3),
    ],
)
def test_a_search_is_a_grid_where_it_may_be_whole(tmp_path, given, sampler, trials):
    assert (
        search(tmp_path / "s", **given).how == f"{sampler}, {trials} trials, roc_auc on validation"
    )


def test_the_size_of_a_space_is_known_without_ranges():
    assert size(candidate(search=GRID).search) == 6
    assert size(candidate().search) is None


RANGES = st.one_of(
    st.tuples(st.integers(-50, 50), st.integers(1, 50)).map(
        lambda t: {"low": t[0], "high": t[0] + t[1]}
    ),
    st.tuples(st.floats(-5, 5), st.floats(0.1, 5)).map(
        lambda t: {"low": t[0], "high": t[0] + t[1]}
    ),
    st.tuples(st.floats(0.001, 1), st.floats(0.1, 9)).map(
        lambda t: {"low": t[0], "high": t[0] + t[1], "log": True}
    ),
    st.tuples(st.integers(1, 9), st.integers(2, 90)).map(
        lambda t: {"low": t[0], "high": t[0] + t[1], "log": True}
    ),
    st.tuples(st.integers(0, 9), st.integers(4, 40), st.integers(1, 4)).map(
        lambda t: {"low": t[0], "high": t[0] + t[1], "step": t[2]}
    ),
    st.lists(st.sampled_from(["a", "b", 1, 2.5]), min_size=1, max_size=4, unique=True),
)


@settings(max_examples=12, deadline=None)
@given(
    st.dictionaries(st.sampled_from("xyz"), RANGES, min_size=1), st.sampled_from(["random", "tpe"])
)
def test_what_is_tried_lies_in_the_space(tmp_path_factory, space, sampler):
    file = tmp_path_factory.mktemp("search") / "s"
    tried = []

    def score(params: dict[str, Any], _: int) -> float:
        tried.append(params)
        return sum(v for v in params.values() if isinstance(v, (int, float)))

    search(file, score, search=space, sampler=sampler, trials=STARTING + 3)
    assert len(tried) == STARTING + 3
    for params in tried:
        assert params.keys() == space.keys()
        for name, value in params.items():
            allowed = space[name]
            if isinstance(allowed, list):
                assert value in allowed
                continue
            assert allowed["low"] <= value <= allowed["high"]
            whole = isinstance(allowed["low"], int)
            assert isinstance(value, int if whole else float)
            if "step" in allowed:
                assert (value - allowed["low"]) % allowed["step"] == 0


def test_a_step_below_one_between_whole_ends_is_kept(tmp_path):
    space = {"rate": {"low": 1, "high": 3, "step": 0.5}}
    tuned = search(tmp_path / "s", lambda p, _: p["rate"], search=space, trials=12)
    assert {t.params["rate"] for t in tuned.trials} <= {1.0, 1.5, 2.0, 2.5, 3.0}


# ------------------------------------------------------------------------ the same again


@pytest.mark.parametrize(
    "drawn", first_fast([("tpe", 2), ("random", 1), ("tpe", 1), ("random", 2)], 1), ids=str
)
def test_the_same_seed_tries_the_same(tmp_path, drawn):
    sampler, parallel = drawn
    given = {"sampler": sampler, "parallel": parallel, "trials": 13}
    one = search(tmp_path / "one", **given)
    two = search(tmp_path / "two", **given)
    assert (told(one), one.params, one.value) == (told(two), two.params, two.value)
    other = search(tmp_path / "three", **given, seed=1)
    assert told(other) != told(one)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 3])
def test_how_long_a_trial_takes_changes_nothing(tmp_path, parts):
    def slow_first(params: dict[str, Any], part: int) -> float:
        time.sleep(0.03 * (params["shape"] == "flat"))
        return hill(params, part)

    def slow_last(params: dict[str, Any], part: int) -> float:
        time.sleep(0.03 * (params["shape"] == "steep"))
        return hill(params, part)

    given = {"parallel": 3, "trials": 12, "folds": parts if parts > 1 else 0}
    one = search(tmp_path / "one", slow_first, parts, **given)
    two = search(tmp_path / "two", slow_last, parts, **given)
    assert told(one) == told(two)


def test_a_search_that_is_done_tries_nothing_again(tmp_path):
    first = search(tmp_path / "s", trials=5)

    def never(*_: Any) -> float:
        raise AssertionError

    assert told(search(tmp_path / "s", never, trials=5)) == told(first)


# ------------------------------------------------------------------ interrupted, and on


class Interrupted:
    """A score that is interrupted once, at its n-th call."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.at, self.error, self.calls = at, error, 0

    def __call__(self, params: dict[str, Any], part: int) -> float:
        self.calls += 1
        if self.calls == self.at:
            raise self.error
        return hill(params, part)


@pytest.mark.parametrize(
    ("error", "at"),
    [
        (KeyboardInterrupt, 5),
        *(
            pytest.param(e, n, marks=pytest.mark.slow)
            for e, n in [(KeyboardInterrupt, 1), (SystemExit, 5), (SystemExit, 11)]
        ),
    ],
)
@pytest.mark.parametrize(
    ("parts", "given"),
    [
        (1, {"sampler": "tpe"}),
        (1, {"sampler": "random", "parallel": 2}),
        (1, {"search": {"depth": list(range(12)), "shape": ["flat"]}, "sampler": "grid"}),
        (3, {"sampler": "tpe", "parallel": 2, "folds": 3}),
    ],
    ids=["tpe", "random, 2 at once", "grid", "folds, 2 at once"],
)
def test_an_interrupted_search_ends_as_an_undisturbed_one(tmp_path, error, at, parts, given):
    given = {"trials": 12, **given}
    undisturbed = search(tmp_path / "one", parts=parts, **given)
    score = Interrupted(at, error)
    with pytest.raises(error):
        search(tmp_path / "two", score, parts, **given)
    calls = score.calls
    on = search(tmp_path / "two", score, parts, **given)
    assert told(on) == told(undisturbed)
    assert (on.params, on.value) == (undisturbed.params, undisturbed.value)
    if parts == 1:  # what was scored is not scored again, but for those in flight
        assert score.calls - calls <= 12 - (at - 1) + given.get("parallel", 1) - 1


class Died(BaseException):
    """The process died here."""


def die_at(patch: pytest.MonkeyPatch, where: str, at: int) -> None:
    """It lets a method of Optuna end the process, so to say, before its n-th call."""
    of = optuna.trial.Trial if where == "set_user_attr" else optuna.study.Study
    calls, method = [0], getattr(of, where)

    def dying(self: Any, *given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise Died
        return method(self, *given, **named)

    patch.setattr(of, where, dying)


@pytest.mark.parametrize(
    ("where", "at", "given"),
    [
        ("ask", 6, {}),
        ("ask", 6, {"parallel": 2}),
        ("set_user_attr", 7, {}),
        ("enqueue_trial", 3, {"search": GRID}),
        pytest.param(
            "tell",
            4,
            {},
        ),
        pytest.param(
            "set_user_attr",
            7,  # after the first of the second batch was told, before anything of the second
            {"parallel": 2},
        ),
        pytest.param(
            "ask",
            3,
            {"search": GRID},
        ),
    ],
)
def test_wherever_it_dies_it_goes_on_as_if_undisturbed(tmp_path, where, at, given):
    given = {"trials": 10, **given}
    undisturbed = search(tmp_path / "one", **given)
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, where, at)
        with pytest.raises(Died):
            search(tmp_path / "two", **given)
    assert told(search(tmp_path / "two", **given)) == told(undisturbed)


def _killed(file: str, at: int) -> None:
    score = Interrupted(at, KeyboardInterrupt)

    def killing(params: dict[str, Any], part: int) -> float:
        try:
            return score(params, part)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGKILL)
            raise

    search(Path(file), killing, trials=12)


@pytest.mark.slow
def test_a_search_goes_on_after_its_process_was_killed(tmp_path):
    undisturbed = search(tmp_path / "one", trials=12)
    child = multiprocessing.get_context("spawn").Process(
        target=_killed, args=(str(tmp_path / "two"), 5)
    )
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    assert told(search(tmp_path / "two", trials=12)) == told(undisturbed)


@pytest.mark.parametrize(
    ("where", "at"),
    [
        ("set_user_attr", 6),
        ("tell", 3),
    ],
)
def test_it_goes_on_where_it_died_in_a_trial_that_failed(tmp_path, where, at):
    def score(params: dict[str, Any], part: int) -> float:
        if params["depth"] == 2:
            raise ValueError("two is too deep")
        return hill(params, part)

    undisturbed = search(tmp_path / "one", score, search=GRID)
    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, where, at)
        with pytest.raises(Died):
            search(tmp_path / "two", score, search=GRID)
    assert told(search(tmp_path / "two", score, search=GRID)) == told(undisturbed)


# ----------------------------------------------------------------------- what goes wrong


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(tmp_path):
    def score(params: dict[str, Any], part: int) -> float:
        if params["depth"] == 2:
            raise ValueError("two is too deep")
        return hill(params, part)

    tuned = search(tmp_path / "s", score, search=GRID)
    states = [t.state for t in tuned.trials]
    assert states == ["complete", "complete", "failed", "failed", "complete", "complete"]
    assert {t.error for t in tuned.trials if t.state == "failed"} == {"ValueError: two is too deep"}
    assert all(t.value is None for t in tuned.trials if t.state == "failed")
    assert tuned.params == {"depth": 3, "shape": "steep"}


def test_where_every_trial_fails_the_last_error_is_said(tmp_path):
    calls = []

    def score(*_: Any) -> float:
        calls.append(1)
        raise RuntimeError(f"no luck {len(calls)}")

    said = "^none of 6 trials gave a roc_auc: RuntimeError: no luck 6$"
    with pytest.raises(CandidateError, match=said):
        search(tmp_path / "s", score, search=GRID)


def test_a_score_that_is_no_number_is_a_failed_trial(tmp_path):
    tuned = search(
        tmp_path / "s", lambda p, _: math.nan if p["depth"] == 2 else hill(p), search=GRID
    )
    assert [t.state for t in tuned.trials].count("failed") == 2


def test_in_folds_a_trial_that_is_no_better_than_most_is_given_up(tmp_path):
    seen: list[int] = []

    def score(params: dict[str, Any], part: int) -> float:
        seen.append(part)
        return -abs(params["depth"] - 15) - part / 10

    space = {"depth": list(range(30, 0, -1))}
    tuned = search(tmp_path / "s", score, 3, search=space, sampler="grid", folds=3, trials=30)
    pruned = [t for t in tuned.trials if t.state == "pruned"]
    assert pruned
    assert all(t.value is None and t.error is None for t in pruned)
    assert all(t.number >= STARTING for t in pruned)
    assert len(seen) < 3 * 30
    assert tuned.params == {"depth": 15}
    assert tuned.value == pytest.approx(-0.1)
    assert tuned.how == "grid, 30 trials, roc_auc in 3 folds of train"


def test_a_pruned_trial_is_never_the_best(tmp_path):
    """It was given up after a fold in which it was bad, whatever the others would have been."""

    def score(params: dict[str, Any], part: int) -> float:
        if params["depth"] == 19:  # the best in the mean, the worst in the first fold
            return -1.0 if part == 0 else 100.0
        return params["depth"] / 100

    space = {"depth": list(range(20))}
    tuned = search(tmp_path / "s", score, 2, search=space, folds=2)
    assert tuned.trials[19].state == "pruned"
    assert tuned.params == {"depth": 18}


def test_on_validation_nothing_is_given_up(tmp_path):
    tuned = search(tmp_path / "s", trials=20)
    assert {t.state for t in tuned.trials} == {"complete"}


class Clock:
    """A clock that goes on when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("budget", "tried"), [(2.5, 3), (0.5, 1), (100, 6)])
def test_no_trial_begins_after_the_budget(tmp_path, budget, tried):
    clock = Clock()

    def score(params: dict[str, Any], part: int) -> float:
        clock.now += 1
        return hill(params, part)

    tuned = search(tmp_path / "s", score, search=GRID, budget_seconds=budget, clock=clock)
    assert len(tuned.trials) == tried
    assert all(t.seconds == 1 for t in tuned.trials)
    assert f"{tried} trials" in tuned.how


@pytest.mark.parametrize("metric", ["rmse", "log_loss"])
@pytest.mark.parametrize("sampler", ["grid", "tpe"])
def test_where_smaller_is_better_the_smallest_is_best(tmp_path, metric, sampler):
    space = {"depth": list(range(25))}
    tuned = search(
        tmp_path / "s",
        lambda p, part: abs(p["depth"] - 20) + part / 10,
        2,
        search=space,
        sampler=sampler,
        folds=2,
        trials=25,
        metric=metric,
    )
    reached = [t.value for t in tuned.trials if t.value is not None]
    assert tuned.value == min(reached)
    if sampler == "grid":
        assert tuned.params == {"depth": 20}


def test_of_equal_trials_the_first_is_best(tmp_path):
    assert search(tmp_path / "s", lambda *_: 1.0, search=GRID).params == {
        "depth": 1,
        "shape": "flat",
    }


# --------------------------------------------------------------------------------- folds


def parts_of(frame: pd.DataFrame, count: int = 4, **given: Any) -> Iterator[tuple[Any, Any]]:
    """It gives the rows to learn from and to score by, of each fold."""
    split = SplitDeclaration(**{k: v for k, v in given.items() if k == "by"})
    about = dataset(**{k: v for k, v in given.items() if k != "by"})
    for one, other in folds(frame, count, split, about):
        yield frame.iloc[one], frame.iloc[other]


def test_equal_rows_are_in_one_fold():
    frame = rows(60)[["a", "b", "y"]]
    frame = pd.concat([frame, frame, frame], ignore_index=True)
    held = []
    for learned, scored in parts_of(frame):
        assert not set(learned["a"]) & set(scored["a"])
        held += list(scored.index)
    assert sorted(held) == list(range(180))


@pytest.mark.parametrize("given", [{"by": {"group": "house"}}, {"key": "house"}])
def test_rows_of_a_group_are_in_one_fold(given):
    frame = rows(200).assign(house=np.arange(200) % 17)
    for learned, scored in parts_of(frame, **given):
        assert not set(learned["house"]) & set(scored["house"])


def test_by_time_each_fold_is_scored_after_what_it_learned_from():
    frame = rows(100).assign(day=pd.date_range("2024-01-01", periods=100))
    found = list(parts_of(frame, by={"time": "day"}))
    assert len(found) == 4
    for learned, scored in found:
        assert learned["day"].max() < scored["day"].min()


def test_by_time_rows_of_one_time_are_on_one_side():
    frame = rows(100).assign(day=pd.date_range("2024-01-01", periods=10).repeat(10))
    for learned, scored in parts_of(frame, 3, by={"time": "day"}):
        assert learned["day"].max() < scored["day"].min()


@pytest.mark.parametrize(
    ("times", "gap"),
    [(pd.date_range("2024-01-01", periods=100), "5d"), (np.arange(100.0), 5)],
    ids=["dates", "numbers"],
)
def test_by_time_the_gap_lies_before_each_fold(times, gap):
    """Seen to fail: folds took the rows whose outcome the split's gap says is not known yet."""
    frame = rows(100).assign(day=times)
    apart = pd.Timedelta(gap) if isinstance(gap, str) else gap
    found = list(parts_of(frame, by={"time": "day", "gap": gap}))
    assert len(found) == 4
    for learned, scored in found:
        assert learned["day"].max() + apart < scored["day"].min()
        assert len(learned) == scored.index.min() - 5


def test_a_gap_that_leaves_nothing_to_learn_from_is_said():
    frame = rows(100).assign(day=pd.date_range("2024-01-01", periods=100))
    with pytest.raises(CandidateError, match="the gap of 60d leaves nothing to learn from before"):
        list(parts_of(frame, by={"time": "day", "gap": "60d"}))


# -------------------------------------------------------------------------- declarations


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"search": {"C": []}}, "search: `C` has no value"),
        ({"search": {"C": {"low": 2, "high": 2}}}, "low 2 is not below high 2"),
        ({"search": {"C": {"low": 3, "high": 2}}}, "low 3 is not below high 2"),
        ({"search": {"C": {"low": 0, "high": 2, "log": True}}}, "log: low is 0; it must be above 0"),
        ({"search": {"C": {"low": 0, "high": 2, "step": 0}}}, "greater than 0"),
        ({"search": {"C": {"low": 1, "high": 9, "step": 2, "log": True}}}, "exclude each other"),
        ({"search": {"C": {"low": 0}}}, "high"),
        ({"search": {"C": 3}}, "list"),
        ({"sampler": "grid"}, "search: `rate` is a range; a grid needs lists of values"),
        ({"fan_out": True}, "search: `rate` is a range; a grid needs lists of values"),
        ({"folds": 1}, "folds is 1; cross-validation needs 2 or more"),
        ({"params": {"rate": 1}}, "`rate` is under both `params` and `search`"),
        ({"trials": 0}, "greater than or equal to 1"),
        ({"parallel": 0}, "greater than or equal to 1"),
        ({"budget_seconds": 0}, "greater than 0"),
        ({"sampler": "random_forest"}, "`random_forest` is not known here"),
        ({"serach": {}}, "Did you mean `search`?"),
    ],
    ids=lambda v: str(v)[:40],
)  # fmt: skip
def test_a_wrong_search_is_refused_with_its_sentence(given, said):
    with pytest.raises(ValueError) as refused:
        candidate(**given)
    assert said in str(refused.value)


def problem_with(**given: Any) -> Problem:
    return Problem(name="demo", dataset=dataset(), candidates=given)


def test_the_short_form_takes_parameters_and_a_search():
    made = problem_with(
        random_forest={"n_estimators": 10, "search": {"max_depth": [2, 3]}, "trials": 4, "folds": 3}
    ).candidates["random_forest"]
    assert made == CandidateDeclaration(
        estimator="random_forest",
        params={"n_estimators": 10},
        search={"max_depth": [2, 3]},
        trials=4,
        folds=3,
    )
    made = problem_with(linear={"params": {"C": 2}, "search": {"tol": [0.1]}}).candidates["linear"]
    assert (made.params, made.search) == ({"C": 2}, {"tol": [0.1]})


def test_fan_out_makes_one_candidate_of_each_point():
    made = problem_with(
        before={"estimator": "ridge"},
        forest={
            "estimator": "random_forest",
            "params": {"n_estimators": 5},
            "search": {"max_depth": [2, 3], "criterion": ["gini", "entropy"]},
            "fan_out": True,
        },
    ).contenders()
    assert list(made) == ["baseline", "before", "forest_1", "forest_2", "forest_3", "forest_4"]
    assert made["forest_3"].params == {"n_estimators": 5, "max_depth": 3, "criterion": "gini"}
    assert not any(c.search or c.fan_out for c in made.values())


def test_fan_out_takes_no_other_candidates_name():
    grid = {"search": {"max_depth": [2]}, "fan_out": True}
    with pytest.raises(ValueError, match="the grid of `forest` makes a second `forest_1`"):
        problem_with(forest_1={"estimator": "ridge"}, forest={"estimator": "random_forest", **grid})


# ------------------------------------------------------------------------------ in a round

TUNED = {"estimator": "linear", "params": {"tol": 0.001}, "search": {"C": [0.0001, 1.0, 10.0]}}


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quickly():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(rows(300))
    return made


@pytest.mark.slow
def test_a_searched_candidate_says_what_was_tried_and_is_fitted_once(project, monkeypatch):
    problem = declared(candidates={"tuned": TUNED})
    made = project.candidates(project.round(problem))["tuned"]
    card, trials = made.card["search"], made.entry.facts["trials"]
    assert card["how"] == "grid, 3 trials, roc_auc on validation"
    best = max((t for t in trials), key=lambda t: t["value"])
    assert card["best"] == best["params"]
    assert card["value"] == best["value"] == made.card["metrics"]["roc_auc"]
    assert made.card["params"] == {"tol": "0.001", "C": str(best["params"]["C"])}

    client, run = project.stores.registry.client, made.entry.facts["mlflow_run"]
    logged = client.get_run(run)
    assert logged.data.params["C"] == str(best["params"]["C"])
    found = client.search_runs([logged.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run}'")
    found = sorted(found, key=lambda r: r.info.run_name)
    assert [r.info.run_name for r in found] == ["trial 0", "trial 1", "trial 2"]
    assert [r.data.params["C"] for r in found] == ["0.0001", "1.0", "10.0"]
    assert [r.data.metrics["value"] for r in found] == [t["value"] for t in trials]
    assert {r.data.tags["ml_assets.state"] for r in found} == {"complete"}
    assert {r.info.status for r in found} == {"FINISHED"}

    with monkeypatch.context() as patch:
        patch.setattr(candidates, "fit", lambda *_: pytest.fail("it was fitted again"))
        again = make_candidate(project.round(problem), "tuned")
    assert again.reused
    assert again.entry.digest == made.entry.digest

    fitted: list[int] = []
    real = candidates.fit
    monkeypatch.setattr(candidates, "fit", lambda *g: fitted.append(1) or real(*g))
    more = declared(candidates={"tuned": {**TUNED, "trials": 5}})
    changed = make_candidate(project.round(more), "tuned")
    assert not changed.reused
    assert len(fitted) == 4  # three trials and the best again


@pytest.mark.slow
def test_in_a_round_a_failed_trial_is_a_failed_run(project):
    search = {"estimator": "linear", "search": {"C": [-1.0, 1.0]}, "folds": 2}
    made = project.candidates(project.round(declared(candidates={"tuned": search})))["tuned"]
    assert made.card["search"]["best"] == {"C": 1.0}
    assert "in 2 folds of train" in made.card["search"]["how"]
    client = project.stores.registry.client
    found = client.search_runs(
        [client.get_run(made.entry.facts["mlflow_run"]).info.experiment_id],
        "tags.`ml_assets.kind` = 'trial'",
    )
    failed = [r for r in found if r.info.status == "FAILED"]
    assert len(found) == 2
    assert [r.data.params["C"] for r in failed] == ["-1.0"]
    assert "The 'C' parameter" in failed[0].data.tags["ml_assets.error"]


@pytest.mark.slow
def test_in_a_round_a_metric_that_a_fold_does_not_define_is_said(project):
    """Seen to fail: the error was `KeyError: 'roc_auc'`."""
    search = {"search": {"alpha": [1.0]}, "folds": 2}
    search["estimator"] = "sklearn.linear_model.RidgeClassifier"
    made = project.candidates(project.round(declared(candidates={"tuned": search})))["tuned"]
    assert "roc_auc is not defined on the" in (made.error or "")
    assert "the candidate gives no probabilities" in (made.error or "")


@pytest.mark.slow
def test_in_a_round_a_search_in_which_all_fails_is_a_failed_candidate(project):
    given = {**EXPLODES, "search": {"C": [1, 2]}}
    made = project.candidates(project.round(declared(candidates={"bad": given})))["bad"]
    assert made.entry is None
    assert "none of 2 trials gave a roc_auc" in made.error
    assert "unexpected keyword argument 'C'" in made.error


@pytest.mark.slow
def test_in_a_round_an_interrupted_search_goes_on_where_it_stopped(project, monkeypatch):
    problem = declared(candidates={"tuned": {**TUNED, "parallel": 1}})
    calls, real = [0], candidates.fit

    def interrupted(*given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:  # the baseline is first
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(candidates, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        project.candidates(project.round(problem))
    made = project.candidates(project.round(problem))["tuned"]
    assert calls[0] == 4 + 2  # the third trial, and the best
    assert len(made.entry.facts["trials"]) == 3


# ------------------------------------------------------------------------------ the picture


def trial(number: int, value: float | None = 1.0, **params: Any) -> dict[str, Any]:
    made = Trial(number, params, value, "complete" if value is not None else "failed", 0.1)
    return dict(made.__dict__)


@pytest.mark.parametrize(
    "trials",
    [
        [trial(i, i / 3, C=0.1 * i, depth=i) for i in range(9)],
        [trial(i, i / 3, shape=s) for i, s in enumerate(("flat", "steep", "flat"))],
        [trial(0, 0.5, C=1.0)],
        [trial(0, 0.5, C=1.0, bag=True, depth=None, layers=[5, 5]), trial(1, None, C=2.0)],
        [trial(i, 0.5, C=1.0) for i in range(4)],
    ],
    ids=["numbers", "words", "one", "mixed, one failed", "all equal"],
)
@pytest.mark.parametrize("greater", first_fast([True, False], 1))
def test_a_search_is_drawn(trials, greater):
    from matplotlib.image import imread

    png = searched(trials, greater)
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert (imread(io.BytesIO(png))[..., :3] < 0.9).any()
