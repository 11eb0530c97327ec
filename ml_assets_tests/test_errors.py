import inspect

import pytest

from ml_assets import errors
from ml_assets.errors import MLAssetsError, did_you_mean, shortened

RAISED = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, Exception) and found is not MLAssetsError
]


@pytest.mark.parametrize("error", RAISED, ids=lambda e: e.__name__)
def test_one_except_catches_everything_raised_on_purpose(error):
    with pytest.raises(MLAssetsError, match="why"):
        raise error("why")


def test_the_drawn_tree_names_every_error_and_no_other():
    drawn = errors.__doc__ or ""
    found = {line.split("── ")[1].split()[0] for line in drawn.splitlines() if "── " in line}
    assert found == {e.__name__ for e in RAISED}


@pytest.mark.parametrize("word", ["randm_forest", "RANDOM_FOREST", "random-forest"])
def test_a_near_miss_is_answered_with_the_word_that_was_meant(word):
    known = ["catboost", "random_forest", "ridge"]
    assert did_you_mean(word, known) == " Did you mean `random_forest`?"


def test_a_far_miss_is_answered_with_the_known_words():
    assert did_you_mean("zzz", ["ridge", "catboost"]) == " Known: ridge, catboost."


def test_nothing_known_gives_no_hint():
    assert did_you_mean("zzz", []) == ""


def test_a_word_that_is_no_text_is_answered_too():
    assert did_you_mean(12, ["123", "abc"]) == " Did you mean `123`?"


def test_a_long_list_says_how_many_words_it_leaves_out():
    assert shortened(range(15)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more"
    assert shortened(range(12)).endswith("10, 11")


def test_a_long_word_is_cut():
    assert shortened(["x" * 61]) == "x" * 57 + "..."
    assert shortened(["x" * 60]) == "x" * 60
