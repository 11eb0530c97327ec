import inspect
from typing import get_args

import numpy as np
import pandas as pd
import pytest

from ml_assets.contract import Judge
from ml_assets.dataset import describe
from ml_assets.gates import CATALOGUE, Verdict, failures, named_apart
from ml_assets.gates import batch as batch_gates
from ml_assets.gates import challenger as challenger_gates
from ml_assets.gates import dataset as dataset_gates
from ml_assets.gates import rows as rows_gates
from ml_assets.gates import split as split_gates
from ml_assets.gates.dataset import (
    ASKED,
    INTEGRITY,
    ask,
    columns_are_as_declared,
    has_enough_rows,
    target_is_usable,
)
from ml_assets.integrity import inspected
from ml_assets.problem import ColumnContract
from ml_assets.problem.dataset import Rule
from ml_assets.round.monitoring import CLAIMS
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
    for by in ({"group": "who"}, {"time": "who"}):
        split = asked(columns_are_as_declared, GOOD, of={"split": {"by": by}})
        assert "`who` (split) is not there." in split.reason


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


# ------------------------------------------------- how severe a breach of the contract is

BREACHED = {  # rule -> a contract that GOOD breaches by it alone, and what is said
    "type": ("a", {"type": "text"}, "`a` holds integer, text is declared."),
    "min": ("a", {"min": 2}, "`a` goes down to 1; 2 is the least."),
    "max": ("a", {"max": 2}, "`a` goes up to 3; 2 is the most."),
    "usual": ("a", {"usual": [1, 2]}, "`a` goes from 1 to 3; 1 to 2 is usual."),
    "values": ("c", {"values": ["x"]}, "`c` has categories that are not known: y."),
    "missing": ("b", {"missing": 0.3}, "`b` is missing in 33.33%; 30.00% is allowed."),
}


def both(columns, rows=GOOD, breaches=()):
    """It returns the verdicts of the two gates that ask about columns."""
    made = dataset(contract={"min_rows": 1, "columns": columns})
    verdicts = {v.name: v for v in ask(describe(rows, made, None), problem(dataset=made), breaches)}
    return verdicts["columns_are_as_declared"], verdicts["values_are_usual"]


def test_every_rule_that_a_profile_can_answer_has_a_case():
    assert {*BREACHED, "unique"} == set(get_args(Rule))


@pytest.mark.parametrize("rule", BREACHED)
def test_an_odd_value_warns_and_an_unfit_one_stops(rule):
    name, contract, said = BREACHED[rule]
    declared, usual = both({name: contract})
    asked, other = (usual, declared) if rule in ("usual", "values") else (declared, usual)
    assert (asked.passed, asked.reason) == (False, said)
    assert asked.stops == (rule not in ("usual", "values"))
    assert other.passed


@pytest.mark.parametrize("whole", [True, False], ids=["column", "rule"])
@pytest.mark.parametrize("mode", ["enforce", "warn", "off"])
@pytest.mark.parametrize("rule", BREACHED)
def test_how_severe_a_breach_is_can_be_declared_by_column_and_by_rule(rule, mode, whole):
    name, contract, said = BREACHED[rule]
    given = {**contract, "mode": mode if whole else {rule: mode}}
    declared, usual = both({name: given})
    assert (declared.passed, usual.passed) == (mode != "enforce", mode != "warn")
    assert declared.stops == (mode == "enforce")
    assert not usual.stops
    for verdict, failed in ((declared, mode == "enforce"), (usual, mode == "warn")):
        assert (said in verdict.reason) == failed


@pytest.mark.parametrize("rule", get_args(Rule))
def test_the_mode_of_a_rule_is_its_own_or_the_columns_or_the_default(rule):
    default = "warn" if rule in ("usual", "values") else "enforce"
    assert ColumnContract().mode_of(rule) == default
    assert ColumnContract(mode="off").mode_of(rule) == "off"
    assert ColumnContract(mode={rule: "off"}).mode_of(rule) == "off"
    others = {r: "off" for r in get_args(Rule) if r != rule}
    assert ColumnContract(mode=others).mode_of(rule) == default


def test_one_rule_of_a_column_is_softened_and_the_others_are_not():
    declared, usual = both({"a": {"min": 2, "max": 2, "mode": {"min": "warn"}}})
    assert declared.reason == "`a` goes up to 3; 2 is the most."
    assert usual.reason == "`a` goes down to 1; 2 is the least."
    assert (declared.evidence, usual.evidence) == ({"faults": 1}, {"columns": 1})


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_an_absent_column_is_a_fault_whatever_the_mode(mode):
    declared, usual = both({"d": {"mode": mode}})
    assert declared.stops
    assert "`d` (contract) is not there." in declared.reason
    assert usual.passed


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"a": {"usual": [1, 3]}, "b": {"usual": [0, 3]}},
        {"c": {"values": ["x", "y", "z"]}},  # a missing value is no category
        {"flag": {"values": [True, False]}},
    ],
)
def test_values_that_are_known_and_usual_pass(columns):
    _, usual = both(columns, GOOD.assign(flag=[True, False, True]))
    assert (usual.passed, usual.reason, usual.mode) == (True, "Nothing is odd.", "warn")


def test_truth_values_and_text_are_held_against_the_known_ones():
    rows = GOOD.assign(flag=[True, False, True])
    _, usual = both({"flag": {"values": [True]}, "c": {"values": ["X"]}}, rows)
    assert usual.reason == (
        "`flag` has categories that are not known: False. "
        "`c` has categories that are not known: x, y."
    )


def test_an_endless_list_of_odd_columns_is_cut():
    rows = pd.DataFrame({**{f"x{i}": [1, 2] for i in range(12)}, "y": [0, 1]})
    _, usual = both({f"x{i}": {"max": 1, "mode": "warn"} for i in range(12)}, rows)
    assert usual.reason.endswith("`x9` goes up to 2; 1 is the most. (and 2 more)")
    assert usual.evidence["columns"] == 12


def judged(columns, rows=GOOD):
    """It returns both verdicts where a file was read: with what its reader found."""
    made = dataset(contract={"min_rows": 1, "columns": columns})
    judge = Judge(made)
    judge.see(rows[[c for c in rows.columns if c in columns]], list(rows.columns))
    return both(columns, rows, judge.breaches())


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": {"min": 2}}, "`a` is below 2 in 1 row (line 2: 1)."),
        ({"a": {"max": 1}}, "`a` is above 1 in 2 rows (lines 3, 4: 2, 3)."),
        ({"a": {"type": "text"}}, "`a` is no text in 3 rows (lines 2, 3, 4: 1, 2, 3)."),
        ({"c": {"type": "number"}}, "`c` is no number in 2 rows (lines 2, 3: 'x', 'y')."),
        ({"y": {"unique": True}}, "`y` stands more than once in 1 row (line 4: 0)."),
        (
            {"b": {"missing": 0}},
            "`b` is missing in 1 of 3 rows (33.33%); 0.00% is allowed.",
        ),
    ],
)
def test_a_breach_in_a_file_is_told_once_with_lines_and_examples(columns, said):
    declared, usual = judged(columns)
    assert (declared.passed, declared.reason) == (False, said)
    assert declared.evidence["faults"] == 1
    assert usual.passed


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"a": {"usual": [1, 2]}}, "`a` lies outside the usual 1 to 2 in 1 row (line 4: 3)."),
        ({"c": {"values": ["x"]}}, "`c` is none of the known categories in 1 row (line 3: 'y')."),
        ({"a": {"min": 2, "mode": "warn"}}, "`a` is below 2 in 1 row (line 2: 1)."),
        # a profile does not know the values of numbers, nor which stand twice
        ({"a": {"values": [1, 2]}}, "`a` is none of the known categories in 1 row (line 4: 3)."),
        (
            {"y": {"unique": True, "mode": {"unique": "warn"}}},
            "`y` stands more than once in 1 row (line 4: 0).",
        ),
    ],
)
def test_what_is_odd_in_a_file_warns_with_lines_and_examples(columns, said):
    declared, usual = judged(columns)
    assert declared.passed, declared.reason
    assert (usual.passed, usual.reason) == (False, said)
    assert not usual.stops


def test_an_absent_column_is_told_once_when_its_file_was_judged_as_well():
    declared, usual = judged({"A": {"min": 0}})
    assert declared.reason == "`A` (contract) is not there. Did you mean `a`?"
    assert declared.evidence["faults"] == 1
    assert usual.passed


@pytest.mark.parametrize("columns", [{"a": {"min": 2}}, {"y": {"unique": True}}])
def test_a_rule_that_is_off_is_not_told_of_a_file_either(columns):
    off = {name: {**rules, "mode": "off"} for name, rules in columns.items()}
    assert [v.passed for v in judged(off)] == [True, True]


def test_an_endless_list_of_faults_is_cut():
    verdict = asked(columns_are_as_declared, GOOD, {f"x{i}": {} for i in range(15)})
    assert "(and 5 more)" in verdict.reason
    assert verdict.evidence["faults"] == 15


def test_all_gates_are_asked_and_are_in_the_catalogue():
    made = dataset(contract={"min_rows": 100})
    verdicts = ask(describe(GOOD, made, None), problem(dataset=made))
    contract = ["columns_are_as_declared", "values_are_usual"]
    names = [*(g.__name__ for g in ASKED), *contract, *(g.__name__ for g in INTEGRITY)]
    assert [v.name for v in verdicts] == names
    assert {v.name for v in verdicts} <= set(CATALOGUE)
    assert [v.name for v in failures(verdicts)] == ["has_enough_rows"]


def test_the_catalogue_holds_every_gate_and_nothing_else():
    modules = (batch_gates, challenger_gates, dataset_gates, rows_gates, split_gates)
    gates = {
        name
        for module in modules
        for name, made in vars(module).items()
        if inspect.isfunction(made) and inspect.signature(made).return_annotation is Verdict
    }
    answered_in_a_round = {
        "every_batch_is_accepted",
        "every_input_is_scored",
        "every_row_is_scored",
        "is_fitted",
        "a_candidate_is_eligible",
        "beats_the_champion",
        "canary_can_be_compared",
        "canary_is_not_worse",
        *CLAIMS.values(),
        "inputs_are_as_in_training",
        "predictions_keep_coming",
        "labels_keep_coming",
        "predecessor_is_not_better",
    }
    named_by_its_owner = {"custom"}
    assert set(CATALOGUE) == gates - named_by_its_owner | answered_in_a_round


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
