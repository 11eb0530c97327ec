import numpy as np
import pandas as pd
import pytest

from ml_assets.contract import CHANCE, Breach
from ml_assets.dataset import describe
from ml_assets.gates import CATALOGUE, failures
from ml_assets.gates.batch import ask, rows_are_as_declared, target_is_usable, values_are_usual
from ml_assets.integrity import inspected
from ml_assets_tests.conftest import dataset, problem, table

LOW = Breach("a", "min", "enforce", "`a` is below 0 in 1 row (line 2: -1).")
GONE = Breach("b", "absent", "enforce", "`b` is not there.")
ODD = Breach("a", "usual", "warn", "`a` lies outside the usual 0 to 9 in 1 row (line 3: 10).")


# ------------------------------------------------------------------- the contract


def test_a_batch_without_a_breach_keeps_its_contract():
    verdict = rows_are_as_declared([])
    assert (verdict.name, verdict.passed) == ("rows_are_as_declared", True)
    assert verdict.reason == "It keeps its contract."
    assert verdict.evidence == {"breaches": 0}


def test_every_enforced_breach_of_a_batch_is_told_and_stops():
    verdict = rows_are_as_declared([LOW, ODD, GONE])
    assert verdict.stops
    assert verdict.reason == f"{LOW.reason} {GONE.reason}"
    assert verdict.evidence == {"breaches": 2}


def test_what_is_odd_does_not_break_the_contract():
    assert rows_are_as_declared([ODD]).passed


def test_a_batch_without_anything_odd_is_usual():
    verdict = values_are_usual([LOW])
    assert (verdict.name, verdict.passed) == ("values_are_usual", True)
    assert verdict.reason == "Nothing is odd."
    assert verdict.evidence == {"breaches": 0}


def test_what_is_odd_in_a_batch_is_told_and_stops_nothing():
    verdict = values_are_usual([LOW, ODD])
    assert not verdict.passed
    assert not verdict.stops
    assert verdict.reason == ODD.reason
    assert verdict.evidence == {"breaches": 1}


@pytest.mark.parametrize("gate", [rows_are_as_declared, values_are_usual])
def test_an_endless_list_of_breaches_is_cut(gate):
    mode = "enforce" if gate is rows_are_as_declared else "warn"
    verdict = gate([Breach(f"x{i}", "min", mode, f"`x{i}` is low.") for i in range(14)])
    assert verdict.reason.endswith("`x9` is low. (and 4 more)")
    assert verdict.evidence == {"breaches": 14}


# --------------------------------------------------------------------- the target


def with_y(values):
    return pd.DataFrame({"a": range(len(values)), "y": values})


def profile_of(values, **declared):
    return describe(with_y(values), dataset(**declared), None)


def usable(values, before=None, **declared):
    known = profile_of(before) if before is not None else None
    return target_is_usable(
        profile_of(values, **declared), problem(dataset=dataset(**declared)), known
    )


@pytest.mark.parametrize(
    ("values", "before"),
    [
        (["no", "yes", "no"], None),
        (["no", "yes", "no"], ["no", "yes"]),
        (["no"] * 60, None),  # the first batch may hold one class; the dataset is asked later
        ([1.5, 2.5], [1.0, 2.25, 3.5]),
        ([7.5] * 60, [1.0, 2.25, 3.5]),  # a number has no classes
        (["a", "b", "d"], ["a", "b", "c"]),  # of many classes a new one may come
        ([0, 1, 1], [0, 1]),
    ],
)
def test_a_target_that_is_complete_and_of_the_known_kind_is_usable(values, before):
    verdict = usable(values, before)
    assert verdict.passed, verdict.reason
    assert verdict.name == "target_is_usable"
    assert verdict.reason == "`y` is complete and of the known kind."
    assert verdict.evidence == {"missing": 0}


@pytest.mark.parametrize(
    ("values", "before", "said"),
    [
        (["no", None, "yes"], None, "The target `y` is missing in 1 of 3 rows."),
        (["no", None, "yes"], ["no", "yes"], "The target `y` is missing in 1 of 3 rows."),
        ([None] * 3, ["no", "yes"], "The target `y` is missing in all 3 rows."),
        ([1.5, np.inf, -np.inf], [1.5, 2.5], "The target `y` is infinite in 2 rows."),
        (
            ["no", "maybe", "yes"],
            ["no", "yes"],
            "The target `y` holds maybe; it is no, yes.",
        ),
        ([0, 1, 2], [0, 1], "The target `y` holds 2; it is 0, 1."),
    ],
)
def test_a_target_that_is_not_usable_is_told_why(values, before, said):
    verdict = usable(values, before)
    assert verdict.stops
    assert verdict.reason == said


def test_a_batch_without_the_target_is_refused():
    verdict = target_is_usable(
        describe(pd.DataFrame({"a": [1]}), dataset(), None), problem(), profile_of(["no", "yes"])
    )
    assert verdict.stops
    assert verdict.reason == "There is no target `y`."


def test_missing_targets_may_be_allowed_but_not_all_of_them():
    contract = {"columns": {"y": {"missing": 0.5}}}
    assert usable(["no", None, "yes"], contract=contract).passed
    verdict = usable([None, None], contract=contract)
    assert verdict.stops
    assert verdict.reason == "The target `y` is missing in all 2 rows."


HALF = ["no", "yes"] * 50  # at one half each, chance leaves a class out of 13 rows, not of 14
MANY = ["no"] * 95 + ["yes"] * 5


@pytest.mark.parametrize(
    ("value", "rows", "before", "passed"),
    [
        ("no", 13, HALF, True),
        ("no", 14, HALF, False),
        ("no", 100, MANY, True),  # 0.95 ** 100 is above the limit
        ("no", 180, MANY, False),
        ("yes", 3, MANY, True),
        ("yes", 4, MANY, False),
        ("a", 9, ["a", "b", "c"] * 30, False),
    ],
)
def test_one_class_in_all_rows_is_refused_where_chance_cannot_do_that(value, rows, before, passed):
    share = before.count(value) / len(before)
    assert (share**rows >= CHANCE) == passed
    verdict = usable([value] * rows, before)
    assert verdict.passed == passed
    if not passed:
        assert verdict.stops
        assert verdict.reason == (
            f"The target `y` has one class ({value}) in all {rows} rows; in the dataset it has "
            f"{share:.1%}. Chance does not do that."
        )


def test_a_class_that_no_dataset_had_does_not_fill_a_batch():
    verdict = usable(["d"] * 2, ["a", "b", "c"])
    assert verdict.stops
    assert "one class (d) in all 2 rows; in the dataset it has 0.0%" in verdict.reason


# ------------------------------------------------------------------ all of them


def asked(rows, breaches=(), before=None, written=None, **declared):
    made = dataset(**declared)
    profile = inspected(rows, describe(rows, made, None), "y")
    verdicts = ask(profile, problem(dataset=made), list(breaches), before, written or {})
    return {v.name: v for v in verdicts}


ENFORCED = ["no_feature_gives_the_target_away", "dates_have_one_format"]


def test_all_gates_are_asked_and_are_in_the_catalogue():
    verdicts = asked(table(400))
    names = ["rows_are_as_declared", "values_are_usual", "target_is_usable", *ENFORCED]
    assert list(verdicts) == names
    assert set(names) < set(CATALOGUE)
    assert all(v.passed for v in verdicts.values())


def test_few_rows_are_no_fault_of_a_batch():
    assert all(v.passed for v in asked(table(3), contract={"min_rows": 100}).values())


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (
            "no_feature_gives_the_target_away",
            lambda t: t.assign(copy=t["y"]),
            "The target `y` is given away by `copy` (single feature AUC 1.00).",
        ),
        (
            "dates_have_one_format",
            lambda t: t.assign(sent=["2024-01-31", "31/01/2024"] * 200),
            "`sent` mixes Y-m-d ('2024-01-31', line 2), d/m/Y or m/d/Y ('31/01/2024', line 3).",
        ),
    ],
)
def test_a_batch_that_is_unfit_to_learn_from_is_refused(name, change, said):
    rows = change(table(400))
    verdict = asked(rows)[name]
    assert verdict.stops
    assert said in verdict.reason
    assert [v.name for v in failures(asked(rows).values())] == [name]


def test_dates_are_written_as_in_the_dataset():
    """Else each batch passes alone, and together they stop all that come later."""
    rows = table(400).assign(sent=[f"2024-01-{i % 28 + 1:02}" for i in range(400)])
    assert asked(rows, written={"sent": "Y-m-d", "other": "Ymd"})["dates_have_one_format"].passed
    verdict = asked(rows, written={"sent": "d/m/Y or m/d/Y"})["dates_have_one_format"]
    assert verdict.stops
    assert verdict.reason.startswith(
        "`sent` has dates as Y-m-d; in the dataset they are d/m/Y or m/d/Y."
    )


@pytest.mark.parametrize("mode", ["warn", "off"])
@pytest.mark.parametrize("name", ENFORCED)
def test_what_does_not_stop_a_dataset_is_not_asked_of_a_batch(name, mode):
    verdicts = asked(table(400), integrity={name: mode})
    assert [n for n in ENFORCED if n not in verdicts] == [name]


def test_what_is_odd_rather_than_unfit_is_not_asked_of_a_batch():
    twice = pd.concat([table(400), table(400)], ignore_index=True)
    assert "rows_are_unique" not in asked(twice, integrity={"rows_are_unique": "enforce"})


@pytest.mark.parametrize("rule", ["absent", "missing"])
def test_a_fault_of_the_target_is_told_once(rule):
    breach = Breach("y", rule, "enforce", "`y` is not as declared.")
    verdicts = asked(table(400), [breach])
    assert "target_is_usable" not in verdicts
    assert [v.name for v in failures(verdicts.values())] == ["rows_are_as_declared"]
    assert "target_is_usable" in asked(table(400), [Breach("y", "values", "warn", "`y` is odd.")])
