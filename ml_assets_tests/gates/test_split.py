import pytest

from ml_assets.gates import CATALOGUE
from ml_assets.gates.split import (
    every_class_is_present,
    parts_are_disjoint,
    shares_are_as_declared,
    time_is_in_order,
)
from ml_assets.problem import SplitDeclaration
from ml_assets.split import Part
from ml_assets_tests.conftest import BINARY, MULTICLASS, REGRESSION


def test_parts_without_a_shared_identity_are_disjoint():
    verdict = parts_are_disjoint(0, "key")
    assert verdict.passed
    assert verdict.reason == "No key stands in two parts."


def test_a_shared_identity_is_counted_and_stops():
    verdict = parts_are_disjoint(1234, "group")
    assert verdict.stops
    assert verdict.reason.startswith("1,234 groups stand in more than one part")


def parts(train=(5, 5, 5), validation=(1, 1, 1), test=(1, 1, 1)):
    given = {"train": train, "validation": validation, "test": test}
    return {name: Part(sum(counts), counts) for name, counts in given.items()}


def test_parts_with_every_class_pass_with_their_sizes():
    verdict = every_class_is_present(parts(), MULTICLASS)
    assert verdict.passed
    assert verdict.reason == "Rows: train 15, validation 3, test 3."


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": (5, 0, 5)}, "train has no b (train 10"),
        ({"test": (0, 3, 0)}, "test has no a, c (train 15"),
        ({"test": (0, 0, 0)}, "Too few rows in test (train 15, validation 3, test 0). More data"),
        ({"validation": (1, 0, 0)}, "Too few rows in validation"),
    ],
)
def test_a_part_that_lacks_rows_or_classes_is_named(given, said):
    verdict = every_class_is_present(parts(**given), MULTICLASS)
    assert verdict.stops
    assert said in verdict.reason


def test_validation_may_lack_a_rare_class():
    assert every_class_is_present(parts(validation=(2, 1, 0)), MULTICLASS).passed


def test_a_regression_has_no_classes_to_lack():
    given = {name: Part(10) for name in ("train", "validation", "test")}
    assert every_class_is_present(given, REGRESSION).passed


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_that_is_rare_among_many_may_be_lacking_and_is_said(part):
    given = {"train": (900, 900, 5), "test": (200, 200, 5), part: (500, 500, 0)}
    verdict = every_class_is_present(parts(validation=(200, 200, 0), **given), MULTICLASS)
    assert verdict.passed
    assert verdict.reason.startswith("Rows: train 1,")
    assert verdict.reason.endswith(f"Of the rare classes {part} has no c.")


@pytest.mark.parametrize(
    ("train", "target", "lacking"),
    [
        ((4000, 4000, 29), MULTICLASS, False),
        ((4000, 4000, 30), MULTICLASS, True),  # so many that each part should have some
        ((900, 900, 19), MULTICLASS, False),
        ((900, 900, 21), MULTICLASS, True),  # more than 1 % of all rows
        ((9000, 9), BINARY, True),  # of two classes none is rare
    ],
)
def test_a_class_is_rare_by_its_number_and_by_its_share_among_many(train, target, lacking):
    none = (*(50 for _ in train[1:]), 0)
    given = {"train": Part(sum(train), train), "validation": Part(sum(none), none)}
    given["test"] = given["validation"]
    verdict = every_class_is_present(given, target)
    assert verdict.stops == lacking
    assert f"test has no {target.classes[-1]}" in verdict.reason


# ----------------------------------------------------------------------- by time


def timed(train, validation, test):
    given = {"train": train, "validation": validation, "test": test}
    return {name: Part(rows, (), first, last) for name, (rows, first, last) in given.items()}


IN_ORDER = timed(
    (70, "2024-01-01T00:00:00", "2024-03-10T00:00:00"),
    (15, "2024-03-11T00:00:00", "2024-03-25T00:00:00"),
    (15, "2024-03-26T00:00:00", "2024-04-09T00:00:00"),
)


def test_parts_that_follow_each_other_in_time_pass_with_their_spans():
    verdict = time_is_in_order(IN_ORDER)
    assert (verdict.name, verdict.passed) == ("time_is_in_order", True)
    assert verdict.reason == (
        "train 2024-01-01T00:00:00 to 2024-03-10T00:00:00, "
        "validation 2024-03-11T00:00:00 to 2024-03-25T00:00:00, "
        "test 2024-03-26T00:00:00 to 2024-04-09T00:00:00."
    )


@pytest.mark.parametrize(
    ("train", "validation", "test", "passed"),
    [
        ((9, 0, 8), (2, 9, 10), (2, 11, 12), True),
        ((9, 0, 9), (2, 9, 10), (2, 11, 12), False),  # one moment in two parts
        ((9, 0, 8), (2, 9, 11), (2, 11, 12), False),
        ((9, 3, 12), (2, 9, 10), (2, 11, 12), False),
        ((9, 5, 8), (2, 0, 4), (2, 11, 12), False),
        ((9, 8, 12), (2, 4, 7), (2, 0, 3), False),
        ((9, -2.5, -1.5), (2, -1.0, 0.0), (2, 0.5, 12.5), True),
        ((9, 0, 8), (0, None, None), (2, 9, 12), True),
        ((9, 0, 8), (0, None, None), (2, 8, 12), False),  # though nothing lies between
    ],
)
def test_the_past_learns_and_the_future_judges(train, validation, test, passed):
    verdict = time_is_in_order(timed(train, validation, test))
    assert verdict.passed == passed
    assert verdict.stops != passed
    assert f"train {train[1]} to {train[2]}" in verdict.reason
    assert ("validation" in verdict.reason) == bool(validation[0])


def sized(train, validation, test):
    return {"train": Part(train), "validation": Part(validation), "test": Part(test)}


def test_shares_that_are_about_the_declared_ones_pass_with_their_numbers():
    verdict = shares_are_as_declared(sized(700, 150, 150), SplitDeclaration())
    assert (verdict.name, verdict.passed) == ("shares_are_as_declared", True)
    assert verdict.reason == "train 70%, validation 15%, test 15%."
    assert verdict.evidence == {"train": 0.7, "validation": 0.15, "test": 0.15}


@pytest.mark.parametrize(
    ("rows", "declared", "passed"),
    [
        ((600, 130, 270), {}, True),
        ((560, 150, 290), {}, True),
        ((540, 150, 310), {}, False),  # as rows come, test grows
        ((500, 310, 190), {}, False),
        ((900, 50, 50), {}, False),
        ((540, 150, 310), {"train": 0.5, "validation": 0.2, "test": 0.3}, True),
        ((0, 0, 0), {}, False),
    ],
)
def test_shares_that_shifted_are_said_and_stop_nothing(rows, declared, passed):
    verdict = shares_are_as_declared(sized(*rows), SplitDeclaration(**declared))
    assert verdict.passed == passed
    assert verdict.mode == "warn"
    assert not verdict.stops
    advice = "let them move: `rolling: true` in their place."
    assert verdict.reason.endswith(advice) == (not passed)


def test_the_gates_are_in_the_catalogue():
    assert parts_are_disjoint(0, "row").name in CATALOGUE
    assert every_class_is_present(parts(), MULTICLASS).name in CATALOGUE
    assert time_is_in_order(IN_ORDER).name in CATALOGUE
    assert shares_are_as_declared(IN_ORDER, SplitDeclaration()).name in CATALOGUE
