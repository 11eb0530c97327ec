"""A share: which rows fall to a canary, and that the champion answers what it cannot."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as some
from sklearn.pipeline import Pipeline

from ml_assets.scoring import Said, Scorer, said_of
from ml_assets.share import Sharing, contents_of, falls_to, names_of, shared
from ml_assets_tests.test_scoring import COLUMNS, new_rows, scorer

NAMES = [str(i) for i in range(20_000)]


@given(some.lists(some.text(), max_size=30), some.floats(0, 0.5), some.text())
def test_a_row_falls_to_the_canary_by_its_name_alone(names: list[str], share: float, digest: str):
    together = falls_to(names, digest, share)
    alone = [bool(falls_to([n], digest, share)[0]) for n in names]

    assert together.tolist() == alone


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_its_share_is_what_was_declared(share: float):
    assert abs(falls_to(NAMES, "one", share).mean() - share) < 4 * np.sqrt(share / len(NAMES))


def test_a_greater_share_keeps_the_rows_of_the_smaller_and_another_canary_gets_others():
    few, many = falls_to(NAMES, "one", 0.1), falls_to(NAMES, "one", 0.3)
    other = falls_to(NAMES, "two", 0.1)

    assert not (few & ~many).any()
    assert 0.005 < (few & other).mean() < 0.015  # as chance would have it
    assert not falls_to(NAMES, "one", 0.0).any()


def test_a_key_is_one_name_however_it_was_written():
    rows = new_rows(3)[list(COLUMNS)]

    written = [names_of(k, rows) for k in ([1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"])]

    assert written[0] == written[1] == written[2] == ["1", "2", "3"]


def test_a_row_without_a_key_is_named_by_its_content():
    rows = new_rows(3)[list(COLUMNS)]

    assert names_of(None, rows) == contents_of(rows)
    assert names_of(["a", None, float("nan")], rows) == ["a", *contents_of(rows)[1:]]


# ---------------------------------------------------------------------------------- who answers


class Says:
    """A model that says the same of every row, and refuses rows whose `whole` is 3."""

    classes_ = np.array(["no", "yes"])
    feature_names_in_ = np.array(list(COLUMNS))

    def __init__(self, share: float, refuses: bool = False) -> None:
        self.share, self.refuses = share, refuses

    def predict_proba(self, rows: pd.DataFrame) -> np.ndarray:
        if self.refuses and (rows["whole"] == 3).any():
            raise ValueError("no threes")
        return np.tile([1 - self.share, self.share], (len(rows), 1))

    def predict(self, rows: pd.DataFrame) -> np.ndarray:
        return np.where(self.predict_proba(rows)[:, 1] > 0.5, "yes", "no").astype(object)


def model(share: float, refuses: bool = False) -> Pipeline:
    return Pipeline([("says", Says(share, refuses))])


CHAMPION = replace(scorer(), model=model(0.2), version=1, digest="champion")


def canary(share: float = 0.5, refuses: bool = False, **changes: Any) -> Sharing:
    made = replace(CHAMPION, model=model(0.9, refuses), version=2, digest="canary")
    return Sharing(replace(made, **changes), share)


def asked(rows: pd.DataFrame, wrong: Mapping[int, str] = {}) -> Any:
    return lambda: (rows, wrong)


def rows_of(count: int = 40) -> pd.DataFrame:
    return new_rows(count)[list(COLUMNS)].assign(whole=range(count))


def said(rows: pd.DataFrame, champion: Scorer = CHAMPION) -> Said:
    return said_of(champion, rows, {})


def test_the_canary_answers_its_rows_and_the_champion_the_others():
    rows, names = rows_of(), NAMES[:40]
    answer = said(rows)

    done = shared(CHAMPION, answer, canary(), names, asked(rows))

    mine = falls_to(names, "canary", 0.5)
    assert 0 < mine.sum() < 40
    assert done.versions is not None and done.shadow is None
    assert done.versions.tolist() == np.where(mine, 2, 1).tolist()
    assert answer.values.tolist() == np.where(mine, "yes", "no").tolist()
    assert answer.probabilities is not None
    assert answer.probabilities[:, 1].tolist() == np.where(mine, 0.9, 0.2).tolist()


def test_what_the_canary_cannot_answer_the_champion_does():
    """Rows that its model refuses, and rows that are wrong for its columns."""
    rows = rows_of()
    names = [n for n in NAMES if falls_to([n], "canary", 0.5)[0]][:40]
    answer = said(rows)

    done = shared(CHAMPION, answer, canary(refuses=True), names, asked(rows, {7: "no colour"}))

    assert done.versions is not None
    assert np.flatnonzero(done.versions == 1).tolist() == [3, 7]
    assert answer.values[[3, 7]].tolist() == ["no", "no"]
    assert answer.wrong == {}


def test_a_row_that_only_the_canary_can_answer_is_answered():
    rows = rows_of()
    names = [n for n in NAMES if falls_to([n], "canary", 0.5)[0]][:40]
    champion = replace(CHAMPION, model=model(0.2, refuses=True))
    answer = said(rows, champion)
    assert list(answer.wrong) == [3]

    shared(champion, answer, canary(), names, asked(rows))

    assert answer.wrong == {}
    assert answer.values[3] == "yes"


@pytest.mark.parametrize(
    "given", [canary(share=0.0), canary(classes=("maybe", "no", "yes"))], ids=["shadow", "classes"]
)
def test_a_shadow_is_asked_about_every_row_and_changes_nothing(given: Sharing):
    """And so is one whose answers have another form."""
    rows = rows_of()
    answer, before = said(rows), said(rows)

    done = shared(CHAMPION, answer, given, NAMES[:40], asked(rows))

    assert done.versions is None
    assert done.shadow is not None
    assert len(done.shadow.values) == 40
    assert answer.values.tolist() == before.values.tolist()
