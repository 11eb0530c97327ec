"""A shortcut: a nearer way to a model's answers, taken only where it is proved to give the same.

Three ways, each proved on its own: the table is prepared column by column; the classes follow from
the probabilities (`estimator.py`); one row is answered by a graph in ONNX instead of the estimator.
What cannot be proved is left, with the reason, and the model itself answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from ml_assets import estimator
from ml_assets.graph import Graph, graph_of
from ml_assets.preparation import Preparation, preparation_of

# By so much may a probability, or an amount relative to its size, differ: as much as a stored model
# may differ from what it said when it was stored.  Classes must be the same.
TOLERANCE = 1e-9
PROOF_ROWS = 300
# Texts that are nothing to one step or another, or that nobody has seen.
_TEXTS = (None, "", " ", "never seen", "nan", "None", "NA", "?", "0", "1.5")


@dataclass(frozen=True)
class Shortcut:
    """How a model's answers are come by.

    Attributes:
        last: the model's estimator.
        prepare: what prepares rows column by column; None where the model itself does.
        graph: what answers one row; None where the estimator itself does.
        reasons: what keeps from either.
    """

    last: Any
    prepare: Preparation | None
    graph: Graph | None
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        """It says how one row is answered."""
        if self.graph:
            return "ONNX"
        way = "the estimator, on columns prepared one by one" if self.prepare else "the model"
        return ": ".join([way, *self.reasons])

    def one(self, columns: Mapping[str, Any]) -> tuple[Any, np.ndarray | None] | None:
        """It returns the class or amount of one row, and its probabilities in the model's order.

        It answers at once or not at all: a value that is not remembered, an infinite number, a
        probability too near to a tie are left to the model itself.

        Args:
            columns: the features, each an array of one value.
        """
        if self.prepare is None or self.graph is None:
            return None
        prepared = self.prepare.at_once(columns)
        if prepared is None or np.isinf(prepared).any():
            return None
        given = self.graph(prepared)
        if given.ndim == 1:
            return given, None
        decided = estimator.from_probabilities(self.last, given, 10 * TOLERANCE)
        if decided is None or decided[1].any():
            return None
        return decided[0], given


def shortcut_of(
    model: Pipeline, columns: Mapping[str, str], golden: pd.DataFrame, one_row: bool
) -> Shortcut:
    """It returns the ways to a model's answers that are proved.

    Args:
        model: the whole Pipeline, verified.
        columns: its features with their types, in its order.
        golden: a few rows that it was verified with.
        one_row: rows will be asked about one by one.
    """
    last = model.steps[-1][1]
    try:
        prepare = preparation_of(model, columns)
        graph: Graph | str = ""
        if isinstance(prepare, Preparation):
            if one_row:
                graph = _tried(last, prepare.width)
            edges = graph.edges if isinstance(graph, Graph) and not prepare.after else {}
            rows = proof_rows(golden, columns, prepare, edges)
            prepare, graph = _proved(model, golden[list(columns)], rows, prepare, graph)
    except Exception as error:  # whatever a version holds, it answers by itself
        prepare = f"it could not be proved: {type(error).__name__}: {str(error)[:200]}"
    if isinstance(prepare, str):
        return Shortcut(last, None, None, (prepare,))
    if isinstance(graph, str):
        return Shortcut(last, prepare, None, (graph,) if graph else ())
    return Shortcut(last, prepare, graph, ())


def _tried(last: Any, width: int) -> Graph | str:
    """It returns an estimator's graph, or what kept from it."""
    try:
        return graph_of(last, width)
    except Exception as error:
        return f"{type(last).__name__} has no graph: {str(error)[:200]}"


def _proved(
    model: Pipeline,
    golden: pd.DataFrame,
    rows: pd.DataFrame,
    prepare: Preparation,
    graph: Graph | str,
) -> tuple[Preparation | str, Graph | str]:
    """It returns the preparation and the graph, or in place of each what it does otherwise."""
    trouble = _otherwise_prepared(model, prepare, golden)
    trouble = trouble or _otherwise_prepared(model, prepare, rows)
    if trouble:
        return trouble, ""
    for asked in (golden, rows):
        if isinstance(graph, Graph):
            prepared = prepare(_columns_of(asked))
            finite = prepared[~np.isinf(prepared).any(axis=1)]
            graph = _otherwise_answered(model.steps[-1][1], graph, finite) or graph
    return prepare, graph


def proof_rows(
    golden: pd.DataFrame,
    columns: Mapping[str, str],
    prepare: Preparation,
    edges: Mapping[int, np.ndarray],
) -> pd.DataFrame:
    """It returns the golden rows, and many that differ from them in every way that may matter.

    Numbers are missing, large, tiny, and just at, below and above the values at which a tree turns;
    texts are those that are known, missing, and never seen.
    """
    random = np.random.default_rng(0)
    made = golden.iloc[random.integers(0, len(golden), PROOF_ROWS)].reset_index(drop=True)
    turns = {name: edges.get(at, np.zeros(0)) for name, at in prepare.numbers}
    for name, kind in columns.items():
        values = made[name].to_numpy().copy()
        if kind in ("int64", "float64"):
            made[name] = _numbers(values.astype("float64"), turns.get(name, np.zeros(0)), random)
        elif kind == "object":
            pool = [*_TEXTS, *golden[name].tolist(), *_known_texts(prepare, name)]
            chosen = random.integers(0, len(pool), PROOF_ROWS)
            few = random.random(PROOF_ROWS) < 0.5
            texts = [
                pool[i] if f else v for i, f, v in zip(chosen, few, values.tolist(), strict=True)
            ]
            made[name] = pd.Series([None if t != t else t for t in texts], dtype=object)
        elif kind == "bool":
            made[name] = random.choice([0.0, 1.0, np.nan], PROOF_ROWS)
    made = made.astype({n: golden[n].dtype for n in columns if golden[n].dtype == object})
    return made[list(columns)]


def _known_texts(prepare: Preparation, name: str) -> list[Any]:
    """It returns the texts that a one-hot encoder knows of a column."""
    table = prepare.steps[0]
    encoder = getattr(table, "transformers_", {})
    found = encoder.get(name) if isinstance(encoder, dict) else None
    known = getattr(found, "categories_", None)
    return [v for v in known[0].tolist() if isinstance(v, str)] if known else []


def _numbers(values: np.ndarray, turns: np.ndarray, random: Any) -> np.ndarray:
    """It returns numbers that differ from those given in every way that may matter."""
    count = len(values)
    way = random.integers(0, 10, count)
    made = np.where(way == 0, np.nan, values)
    made = np.where(way == 1, values * random.normal(1, 2, count), made)
    made = np.where(way == 2, random.choice([0.0, -1.0, 1e-30, -1e9, 1e9, 1e20], count), made)
    if len(turns):
        chosen = random.choice(turns, count)
        rounded = chosen.astype("float32").astype("float64")
        made = np.where(way == 3, chosen, made)
        made = np.where(way == 4, rounded, made)
        made = np.where(way == 5, np.nextafter(chosen, np.inf), made)
        below = np.nextafter(rounded.astype("float32"), np.float32(-np.inf)).astype("float64")
        made = np.where(way == 6, below, made)
    return made


def _columns_of(rows: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: rows[name].to_numpy() for name in rows}


def _otherwise_prepared(model: Pipeline, prepare: Preparation, rows: pd.DataFrame) -> str:
    """It says how the preparation differs from the model's own; an empty text if it does not.

    It is asked twice: what it did not know the first time it remembers the second, and one row by
    one, as requests come.
    """
    own: Any = rows
    for _, step in model.steps[:-1]:
        own = step.transform(own)
    own = np.asarray(own)
    prepare.order = "F" if own.flags.f_contiguous and not own.flags.c_contiguous else "C"
    given = _columns_of(rows)
    for _ in range(2):
        made = prepare(given)
        if made.dtype != own.dtype or not _same_bits(made, own):
            return "its columns, prepared one by one, are not what its own steps make of them"
    for at in range(min(20, len(rows))):
        one = prepare({name: values[at : at + 1] for name, values in given.items()})
        if not _same_bits(one, own[at : at + 1]):
            return "one row, prepared column by column, is not what its own steps make of it"
    return ""


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(np.array_equal(one, other, equal_nan=True))


def _otherwise_answered(last: Any, graph: Graph, prepared: np.ndarray) -> str:
    """It says how a graph's answers differ from the estimator's; an empty text if they do not."""
    answered = graph(prepared)
    values, given = estimator.said_by(last, prepared)
    if given is None:
        size = np.maximum(np.abs(values.astype("float64")), 1.0)
        far = float(np.max(np.abs(answered - values) / size))
        if not far <= TOLERANCE:
            return f"its graph differs by {far:.1e}, more than {TOLERANCE:g}, in an amount"
        return ""
    far = float(np.max(np.abs(answered - given)))
    if not far <= TOLERANCE:
        return f"its graph differs by {far:.1e}, more than {TOLERANCE:g}, in a probability"
    decided = estimator.from_probabilities(last, answered, 10 * TOLERANCE)
    if decided is None:
        return "it is not known how it decides for a class"
    if (decided[0] != values)[~decided[1]].any():
        return "its graph decides for other classes"
    return ""
