"""Shortcuts: the same answers as the model's, by a nearer way, or none at all."""

import builtins
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from ml_assets import graph as graphs
from ml_assets import preparation, shortcut
from ml_assets.candidate import CATALOGUE, build, decide, predict
from ml_assets.dataset import Target
from ml_assets.estimator import from_probabilities, said_by
from ml_assets.problem import Problem
from ml_assets.shortcut import shortcut_of

KINDS = {"n": "float64", "count": "int64", "word": "object", "flag": "bool", "name": "object"}
NUMBERS = {"n": "float64", "count": "int64"}
SMALL = {
    "random_forest": {"n_estimators": 15},
    "extra_trees": {"n_estimators": 15},
    "hist_gradient_boosting": {"max_iter": 15},
    "lightgbm": {"n_estimators": 15},
    "xgboost": {"n_estimators": 15},
    "catboost": {"iterations": 15},
}
GRAPHS = ("random_forest", "extra_trees", "hist_gradient_boosting", "lightgbm")


def table(count: int = 300, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame({"n": random.normal(size=count), "count": random.integers(0, 9, count)})
    rows["word"] = random.choice(["red", "green", "blue", None], count)
    rows["flag"] = random.random(count) < 0.5
    rows["name"] = [f"name {i} of {j}" for i, j in random.integers(0, 60, (count, 2))]
    rows.loc[rows.index % 11 == 3, "n"] = np.nan
    return rows


def truth(rows: pd.DataFrame, task: str) -> pd.Series:
    amount = rows["n"].fillna(0.3) * 2 + rows["count"] + 3 * (rows["word"] == "red")
    if task == "regression":
        return amount
    parts = 2 if task == "binary" else 3
    return pd.Series(pd.qcut(amount, parts, labels=False)).map({0: "a", 1: "b", 2: "c"})


@functools.cache
def fitted(
    name: str, task: str = "binary", only: tuple[str, ...] = tuple(KINDS), **declared: Any
) -> tuple[Pipeline, Target]:
    rows, kinds = table(), list(only)
    y = truth(rows, task)
    given = {"name": "demo", "dataset": {"path": "d.csv", "target": "y"}, "task": task, **declared}
    problem = Problem(**given, candidates={name: SMALL.get(name, {})})
    model = build(problem.candidates[name], problem, task, rows[kinds], None)
    model.fit(rows[kinds], y)
    classes = () if task == "regression" else tuple(sorted(set(y)))
    counts = tuple(int((y == c).sum()) for c in classes)
    target = Target(task, "", classes, counts, "b" if task == "binary" else None)  # type: ignore[arg-type]
    decide(model, (rows[kinds], y), (rows[kinds], y), problem, target)
    return model, target


def columns(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: rows[name].to_numpy() for name in rows}


CLASSIFIERS = [n for n, kinds in CATALOGUE.items() if "classifier" in kinds and n != "linear"]


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classes_follow_from_probabilities_as_the_estimator_decides(name: str, task: str):
    model, _ = fitted(name, task)
    rows = table(400, 1)[list(KINDS)]
    prepared: Any = rows
    for _, step in model.steps[:-1]:
        prepared = step.transform(prepared)

    values, given = said_by(model.steps[-1][1], prepared)

    assert values.tolist() == model.predict(rows).tolist()
    np.testing.assert_array_equal(given, model.predict_proba(rows))


def test_a_declared_threshold_decides_and_what_lies_on_it_is_asked():
    model, _ = fitted("random_forest", threshold=0.4)
    last, rows = model.steps[-1][1], table(400, 1)[list(KINDS)]
    given = model.predict_proba(rows)

    decided = from_probabilities(last, given)

    assert decided is not None
    values, near = decided
    assert values[~near].tolist() == model.predict(rows)[~near].tolist()
    assert near.tolist() == (np.abs(given[:, 1] - 0.4) <= 1e-9).tolist()
    assert near.any()  # 6 of 15 trees
    assert said_by(last, model[:-1].transform(rows))[0].tolist() == model.predict(rows).tolist()


def test_whoever_decides_otherwise_is_asked():
    from sklearn.svm import SVC

    assert from_probabilities(SVC(), np.array([[0.2, 0.8]])) is None


@pytest.mark.parametrize("kinds", [KINDS, NUMBERS])
@pytest.mark.parametrize("name", ["linear", *GRAPHS, "xgboost"])
def test_rows_are_prepared_column_by_column_to_the_last_bit(name: str, kinds: dict[str, str]):
    model, target = fitted(name, only=tuple(kinds))
    way = shortcut_of(model, kinds, table(20)[list(kinds)], one_row=False)
    rows = table(200, 3)[list(kinds)]
    rows.loc[5, "n"], rows.loc[6, "n"] = 1e20, -0.0
    if "word" in kinds:
        rows.loc[7, "word"], rows.loc[8, "word"] = "never seen", "  "

    assert way.prepare is not None, way
    for _ in range(2):  # the second time of what is remembered
        prepared = way.prepare(columns(rows))
        np.testing.assert_array_equal(prepared, model[:-1].transform(rows))
    told = predict(model, rows, target, way.prepare)
    assert told.values.tolist() == model.predict(rows).tolist()


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", GRAPHS)
def test_one_row_is_answered_by_onnx_as_by_the_model(name: str, task: str):
    """Converters to 32 bits fail it: their nodes know nothing of missing values, and round."""
    model, target = fitted(name, task)
    way = shortcut_of(model, KINDS, table(20), one_row=True)
    rows = table(60, 4)
    rows.loc[3, "word"], rows.loc[4, "count"] = None, 10**6
    expected = predict(model, rows, target)

    assert str(way) == "ONNX"
    way.prepare(columns(rows))  # type: ignore[misc] - every text was met
    answered = [way.one(columns(rows.iloc[[i]])) for i in range(len(rows))]

    assert sum(a is None for a in answered) < 10  # near to a tie
    for at, said in enumerate(answered):
        if said is not None and task == "regression":
            assert said[0][0] == pytest.approx(expected.values[at], rel=1e-9)
        elif said is not None:
            assert said[0][0] == expected.values[at]
            np.testing.assert_allclose(said[1][0], expected.probabilities[at], atol=1e-9, rtol=0)


def test_what_was_never_met_is_left_to_the_model_and_then_remembered():
    model, _ = fitted("hist_gradient_boosting")
    way = shortcut_of(model, KINDS, table(20), one_row=True)
    new = columns(table(1).assign(name="nobody of nowhere"))
    assert way.prepare is not None

    assert way.one(new) is None
    way.prepare(new)
    assert way.one(new) is not None


def test_an_infinite_number_is_the_models_to_refuse():
    model, _ = fitted("hist_gradient_boosting")
    way = shortcut_of(model, KINDS, table(20), one_row=True)
    few = table(20).head(1)
    assert way.one(columns(few)) is not None

    assert way.one(columns(few.assign(n=1e300))) is None  # too large for 32 bits


def test_what_is_remembered_does_not_grow_without_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(preparation, "MOST_REMEMBERED", 30)
    model, _ = fitted("hist_gradient_boosting")
    made = preparation.preparation_of(model, KINDS)
    assert not isinstance(made, str)
    rows = table(500, 6)

    for _ in range(2):
        np.testing.assert_array_equal(made(columns(rows)), model[:-1].transform(rows))

    assert max(len(k) for k in made.known.values()) == 30


def _wrong_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    read = graphs._READERS["RandomForestClassifier"]

    def wrong(last: Any, trees: Any) -> Any:
        targets, link, cast = read(last, trees)  # type: ignore[misc]
        return targets, lambda said: link(said) + 1e-8, cast

    monkeypatch.setitem(graphs._READERS, "RandomForestClassifier", wrong)


def _no_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    add = graphs._Trees.add

    def wrong(self: Any, feature: Any, split: Any, missing: Any, *rest: Any) -> None:
        add(self, feature, split, np.zeros_like(missing), *rest)

    monkeypatch.setattr(graphs._Trees, "add", wrong)


@pytest.mark.parametrize("broken", [_wrong_leaves, _no_missing])
def test_a_graph_that_answers_otherwise_is_not_taken(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
):
    model, _ = fitted("random_forest")
    broken(monkeypatch)

    way = shortcut_of(model, KINDS, table(20), one_row=True)

    assert way.graph is None
    assert way.prepare is not None
    assert "its graph differs by" in str(way)


def test_a_preparation_that_differs_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    model, _ = fitted("linear")
    monkeypatch.setattr(
        preparation, "_scaled", lambda step: lambda made: (made - 1).astype(made.dtype)
    )

    way = shortcut_of(model, KINDS, table(20), one_row=True)

    assert (way.prepare, way.graph) == (None, None)
    assert "not what its own steps make of them" in str(way)


def test_without_onnx_the_estimator_answers_and_it_is_said(monkeypatch: pytest.MonkeyPatch):
    model, _ = fitted("random_forest")
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "onnxruntime":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    way = shortcut_of(model, KINDS, table(20), one_row=True)

    assert way.graph is None
    assert 'pip install "ml_assets[onnx]"' in str(way)


def test_a_graph_that_would_be_too_large_is_not_made(monkeypatch: pytest.MonkeyPatch):
    model, _ = fitted("random_forest")
    monkeypatch.setattr(graphs, "MOST_NODES", 100)

    way = shortcut_of(model, KINDS, table(20), one_row=True)

    assert way.prepare is not None
    assert str(way).endswith("RandomForestClassifier has no graph: more than 100 nodes")


def test_whatever_breaks_on_the_way_the_model_answers(monkeypatch: pytest.MonkeyPatch):
    model, _ = fitted("random_forest")
    monkeypatch.setattr(shortcut, "proof_rows", lambda *_: 1 / 0)

    way = shortcut_of(model, KINDS, table(20), one_row=True)

    assert str(way) == "the model: it could not be proved: ZeroDivisionError: division by zero"


def test_a_transform_of_its_own_is_left_as_it_is():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import FunctionTransformer

    rows = table()
    model = Pipeline(
        [
            ("transform", FunctionTransformer(lambda r: r[["count"]])),
            ("estimator", LogisticRegression()),
        ]
    )
    model.fit(rows, truth(rows, "binary"))

    way = shortcut_of(model, KINDS, rows.head(20), one_row=True)

    assert str(way) == "the model: its transform is of its own"
    assert way.one(columns(rows.head(1))) is None
    assert shortcut.TOLERANCE == 1e-9  # docs/serving.md says so
