import numpy as np
import pandas as pd
import pytest

from ml_assets.dataset import describe
from ml_assets.gates import CATALOGUE, Verdict, failures, named_apart
from ml_assets.gates.dataset import (
    ASKED,
    INTEGRITY,
    ask,
    columns_are_as_declared,
    has_enough_rows,
    target_is_usable,
)
from ml_assets.integrity import inspected
from ml_assets_tests.conftest import dataset, problem, table


def asked(gate, rows, columns=None, min_rows=1, task=None, **declared):
    contract = {"min_rows": min_rows, "columns": columns or {}}
    made = dataset(contract=contract, **{k: v for k, v in declared.items() if k != "of"})
    of = problem(dataset=made, **declared.get("of", {}))
    return gate(describe(rows, made, task), of)


@pytest.mark.parametrize(("least", "passed"), [(79, True), (80, True), (81, False)])
def test_rows_are_counted_against_the_least(least, passed):
    verdict = asked(has_enough_rows, table(80), min_rows=least)
    assert verdict.passed == passed
    assert verdict.reason == f"80 rows; at least {least} are needed."


def test_a_usable_target_says_its_task_and_how_it_was_found():
    verdict = asked(target_is_usable, table(80))
    assert verdict.passed
    assert verdict.reason == "`y` is 2 classes: binary (inferred: the target has 2 values)."


def with_y(values):
    return pd.DataFrame({"a": range(len(values)), "y": values})


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (table().drop(columns="y"), "No column `y` for the target."),
        (with_y(["a", "b", None, "a"]), "missing in 1 of 4 rows (25.00%); 0.00% is allowed."),
        (with_y([1.5, 2.5, np.inf, 4.5]), "`y` is infinite in 1 rows. Correct or remove them."),
        (with_y(["a"] * 4), "1 distinct value (a); 2 are needed"),
    ],
    ids=["absent", "missing", "infinite", "constant"],
)
def test_an_unusable_target_is_told_why(rows, said):
    verdict = asked(target_is_usable, rows)
    assert not verdict.passed
    assert verdict.stops
    assert said in verdict.reason


def test_missing_targets_may_be_allowed_and_are_then_left_out():
    rows = with_y(["a", "b", None, "a"])
    verdict = asked(target_is_usable, rows, {"y": {"missing": 0.25}})
    assert verdict.passed
    assert "1 rows without it are left out" in verdict.reason


def test_a_metric_that_does_not_fit_the_inferred_task_is_told_here():
    verdict = asked(target_is_usable, table(), of={"select": "rmse"})
    assert not verdict.passed
    assert "select: rmse is not for binary tasks" in verdict.reason


GOOD = pd.DataFrame(
    {"a": [1, 2, 3], "b": [0.5, np.nan, 2.5], "c": ["x", "y", None], "y": [0, 1, 0]}
)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"a": {"type": "integer", "min": 1, "max": 3, "missing": 0}},
        {"a": {"type": "number"}},
        {"b": {"type": "number", "missing": 0.34}},
        {"b": {"type": "integer"}},  # read as number for its gaps
        {"c": {"type": "text", "missing": 0.34}},
    ],
)
def test_columns_that_keep_their_contract_pass(columns):
    verdict = asked(columns_are_as_declared, GOOD, columns)
    assert verdict.passed, verdict.reason
    assert "4 columns, as declared." in verdict.reason


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"A": {}}, "`A` (contract) is not there. Did you mean `a`?"),
        ({"a": {"type": "text"}}, "`a` holds integer, text is declared."),
        ({"c": {"type": "number"}}, "`c` holds text, number is declared."),
        ({"a": {"min": 2}}, "`a` goes down to 1; 2 is the least."),
        ({"a": {"max": 2}}, "`a` goes up to 3; 2 is the most."),
        ({"b": {"missing": 0.3}}, "`b` is missing in 33.33%; 30.00% is allowed."),
    ],
)
def test_a_column_that_breaks_its_contract_is_named(columns, said):
    verdict = asked(columns_are_as_declared, GOOD, columns)
    assert not verdict.passed
    assert said in verdict.reason


def test_columns_that_the_declaration_names_must_be_there():
    verdict = asked(columns_are_as_declared, GOOD, key="id", drop=["note"])
    assert "`id` (key) is not there." in verdict.reason
    assert "`note` (drop) is not there." in verdict.reason
    grouped = asked(columns_are_as_declared, GOOD, of={"split": {"by": {"group": "who"}}})
    assert "`who` (split) is not there." in grouped.reason


def test_a_table_without_features_is_refused():
    verdict = asked(columns_are_as_declared, GOOD[["y"]])
    assert "no column is left to learn from" in verdict.reason


@pytest.mark.parametrize(("policy", "new"), [("use", []), ("ignore", ["c"])])
def test_a_new_column_is_a_feature_or_is_said_and_ignored(policy, new):
    rows = pd.DataFrame({"a": range(60), "b": range(60), "c": range(60), "y": [0, 1] * 30})
    contract = {"min_rows": 1, "columns": {"a": {}, "b": {}}, "new_columns": policy}
    made = dataset(contract=contract)
    profile = describe(rows, made, None)
    verdict = next(v for v in ask(profile, problem(dataset=made)) if v.name == "no_column_is_new")
    assert verdict.passed == (not new)
    assert list(profile.features) == [c for c in ("a", "b", "c") if c not in new]
    assert verdict.reason == ("c: not under contract; ignored." if new else "None is new.")


def test_an_endless_list_of_faults_is_cut():
    verdict = asked(columns_are_as_declared, GOOD, {f"x{i}": {} for i in range(15)})
    assert "(and 5 more)" in verdict.reason
    assert verdict.evidence["faults"] == 15


def test_all_gates_are_asked_and_are_in_the_catalogue():
    made = dataset(contract={"min_rows": 100})
    verdicts = ask(describe(GOOD, made, None), problem(dataset=made))
    assert [v.name for v in verdicts] == [g.__name__ for g in (*ASKED, *INTEGRITY)]
    assert {v.name for v in verdicts} <= set(CATALOGUE)
    assert [v.name for v in failures(verdicts)] == ["has_enough_rows"]


@pytest.mark.parametrize(
    ("passed", "mode", "stops"),
    [(True, "enforce", False), (False, "enforce", True), (False, "warn", False), (False, "off", False)],
)  # fmt: skip
def test_only_an_enforced_failure_stops(passed, mode, stops):
    verdict = Verdict("x", passed, "why", mode=mode)
    assert verdict.stops == stops
    assert failures([verdict]) == ([verdict] if stops else [])


def test_verdicts_of_one_name_are_told_apart():
    same = [Verdict("x", True, "a"), Verdict("y", True, "b"), Verdict("x", False, "c")]
    assert [v.name for v in named_apart(same)] == ["x", "y", "x_2"]


def integrity(rows: pd.DataFrame, **declared):
    made = dataset(contract={"min_rows": 1}, **declared)
    profile = inspected(rows, describe(rows, made, None), "y")
    return {v.name: v for v in ask(profile, problem(dataset=made))}


ODD = {
    "no_feature_gives_the_target_away": (
        lambda t: t.assign(copy=t["y"]),
        "The target `y` is given away by `copy` (single feature AUC 1.00).",
    ),
    "rows_are_unique": (
        lambda t: pd.concat([t, t.head(4)], ignore_index=True),
        "4 of 404 rows (1.0%) equal an earlier row; the split keeps equal rows together.",
    ),
    "labels_agree": (
        lambda t: pd.concat([t, t.head(1).assign(y="no"), t.head(1).assign(y="yes")]),
        "3 of 402 rows have the features of a row with another `y`.",
    ),
    "features_vary": (lambda t: t.assign(same=1), "same: one value or none; left out."),
    "categories_are_distinct": (
        lambda t: t.assign(place=["A b", "a B "] * 200),
        "Nearly the same, and kept apart: `place`: 'A b' and 'a B '.",
    ),
    "dates_have_one_format": (
        lambda t: t.assign(sent=["2024-01-31", "31/01/2024"] * 200),
        "`sent` mixes Y-m-d ('2024-01-31', line 2), d/m/Y or m/d/Y ('31/01/2024', line 3).",
    ),
    "no_feature_is_an_identifier": (
        lambda t: t.assign(uuid=[f"u-{i}" for i in range(400)]),
        "uuid: a value for nearly each row; left out of the features.",
    ),
}


def test_every_integrity_gate_has_a_case():
    elsewhere = {"no_column_is_new"}
    assert {*ODD, *elsewhere} == {gate.__name__ for gate in INTEGRITY}


@pytest.mark.parametrize("name", ODD)
def test_an_integrity_gate_holds_for_ordinary_rows_and_tells_what_is_odd(name):
    change, said = ODD[name]
    assert integrity(table(400))[name].passed
    verdict = integrity(change(table(400)))[name]
    assert not verdict.passed
    assert said in verdict.reason
    enforced = name in ("no_feature_gives_the_target_away", "dates_have_one_format")
    assert verdict.mode == ("enforce" if enforced else "warn")


@pytest.mark.parametrize("mode", ["enforce", "warn", "off"])
def test_how_severe_an_integrity_gate_is_can_be_declared(mode):
    leaking = table(400).assign(copy=lambda t: t["y"])
    verdicts = integrity(leaking, integrity={"no_feature_gives_the_target_away": mode})
    if mode == "off":
        assert "no_feature_gives_the_target_away" not in verdicts
    else:
        assert verdicts["no_feature_gives_the_target_away"].stops == (mode == "enforce")
