import pytest

from ml_assets.gates import CATALOGUE
from ml_assets.gates.split import every_class_is_present, parts_are_disjoint
from ml_assets.split import Part
from ml_assets_tests.conftest import MULTICLASS, REGRESSION


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


def test_the_gates_are_in_the_catalogue():
    assert parts_are_disjoint(0, "row").name in CATALOGUE
    assert every_class_is_present(parts(), MULTICLASS).name in CATALOGUE
