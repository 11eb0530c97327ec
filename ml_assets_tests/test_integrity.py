"""What is odd is found, and what is not odd is left in peace."""

import numpy as np
import pandas as pd
import pytest

from ml_assets.dataset import Findings, describe, features, find_target
from ml_assets.integrity import inspect, inspected
from ml_assets_tests.conftest import dataset, table


def found(rows: pd.DataFrame, **declared) -> Findings:
    made = dataset(**declared)
    target = find_target(rows, made, None)
    return inspect(rows, features(list(rows.columns), made), "y", target)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_nothing_is_found_in_ordinary_rows(task):
    assert found(table(400, task=task)) == Findings()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_copy_of_the_target_gives_it_away(task):
    rows = table(400, task=task)
    assert [n for n, _ in found(rows.assign(copy=rows["y"])).leaks] == ["copy"]


def test_the_target_plus_noise_gives_it_away():
    rows = table(400)
    noise = np.random.default_rng(1).normal(scale=0.05, size=400)
    rows["score"] = (rows["y"] == "yes") + noise
    [(name, said)] = found(rows).leaks
    assert (name, said) == ("score", "single feature AUC 1.00")


def test_a_strong_but_honest_feature_is_no_leak():
    random = np.random.default_rng(0)
    x = random.normal(size=2000)
    y = np.where(x + random.normal(scale=0.4, size=2000) > 0, "yes", "no")
    assert found(pd.DataFrame({"x": x, "y": y})).leaks == ()


def test_parts_that_sum_up_to_the_target_are_found_together():
    random = np.random.default_rng(0)
    rows = pd.DataFrame({c: random.integers(0, 99, size=300) for c in ("a", "b", "other")})
    rows["y"] = rows["a"] + rows["b"]
    assert found(rows).together == ("a", "b")


def test_a_linear_target_with_noise_is_no_sum():
    random = np.random.default_rng(0)
    rows = pd.DataFrame({c: random.normal(size=300) for c in ("a", "b")})
    rows["y"] = rows["a"] + rows["b"] + random.normal(scale=0.1, size=300)
    assert found(rows).together == ()


def test_leaks_are_not_looked_for_among_what_is_no_feature():
    rows = table(400)
    assert found(rows.assign(copy=rows["y"]), drop=["copy"]).leaks == ()


def test_categories_that_differ_in_case_or_blanks_are_alike():
    rows = table(60).assign(place=["NEAR BAY", "near bay ", "INLAND"] * 20)
    assert found(rows).alike == (("place", "'NEAR BAY' and 'near bay '"),)


def test_equal_features_with_two_targets_are_conflicts():
    rows = pd.DataFrame(
        {"a": [1, 1, 2, 3] * 20, "b": [1, 1, 2, 3] * 20, "y": ["n", "y", "n", "y"] * 20}
    )
    assert found(rows).conflicts == 40


def test_constants_and_identifiers_are_found_and_are_no_features():
    rows = table(80).assign(same=1, empty=None, uuid=[f"u-{i}" for i in range(80)])
    made = dataset()
    profile = inspected(rows, describe(rows, made, None), "y")
    assert profile.findings.constant == ("same", "empty")
    assert profile.findings.identifiers == ("uuid",)
    assert not {"same", "empty", "uuid"} & set(profile.features)
    assert {"amount", "colour", "day"} <= set(profile.features)


def test_dates_in_several_formats_are_found_with_a_line_of_each():
    days = ["2024-01-31", "31/01/2024", "31 Jan 2024", "20240131T120000"] * 20
    [(name, said)] = found(table(80).assign(sent=days)).dates
    assert name == "sent"
    assert "Y-m-d ('2024-01-31', line 2)" in said
    assert "d/m/Y or m/d/Y ('31/01/2024', line 3)" in said


@pytest.mark.parametrize("form", ["%d/%m/%Y", "%d %b %Y", "%Y/%m/%d"])
def test_dates_in_one_format_are_left_in_peace(form):
    days = pd.date_range("2024-01-01", periods=40).strftime(form)
    findings = found(table(80).assign(sent=[*days, *days]))
    assert findings.dates == ()
    assert [name for name, _ in findings.written] == ["sent"]


def test_rows_without_a_target_do_not_disturb():
    rows = table(100)
    rows.loc[::10, "y"] = None
    assert found(rows) == Findings()


def test_findings_survive_their_record():
    made = Findings(
        3,
        ("a",),
        (("b", "x and y"),),
        ("c",),
        (("g", "Y-m-d"),),
        (("h", "Ymd"),),
        (("d", "said"),),
        ("e", "f"),
    )
    from dataclasses import asdict
    from json import dumps, loads

    assert Findings.from_record(loads(dumps(asdict(made)))) == made
