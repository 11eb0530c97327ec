"""A preparation: what a model's first steps make of rows, column by column and without a table.

It is derived from the fitted steps: numbers are cast as they cast them, and what they make of a text
is remembered.  A value that was not met before goes through the steps themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

MOST_REMEMBERED = 10_000  # values of one column
_NUMBERS = ("int64", "float64", "bool")


@dataclass
class Preparation:
    """The first steps of a model, for rows given as columns.

    Attributes:
        columns: the model's features, in its order.
        width: how many columns are made.
        kind: their type; None for the common type of the numbers.
        order: how they lie in memory, C or F.
        numbers: features that are only cast, with the column that each becomes.
        others: the other features, with the columns that each becomes.
        steps: the model's own steps, for values that are not remembered.
        after: what is done to all columns then.
        known: what became of values, by feature.
    """

    columns: tuple[str, ...]
    width: int
    kind: type | None
    order: Any
    numbers: list[tuple[str, int]]
    others: list[tuple[str, list[int]]]
    steps: list[Any]
    after: list[Callable[[np.ndarray], np.ndarray]]
    known: dict[str, dict[Any, np.ndarray]] = field(default_factory=dict)

    def __call__(self, given: Mapping[str, np.ndarray]) -> np.ndarray:
        """It returns the prepared rows.

        Args:
            given: the features, each an array of one value per row, with the types of training.
        """
        made, new = self._begun(given)
        if new:
            self._ask(given, sorted(new), made)
        return self._ended(made)

    def at_once(self, given: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """It returns the prepared rows; None where a value is not remembered."""
        made, new = self._begun(given)
        return None if new else self._ended(made)

    def _begun(self, given: Mapping[str, np.ndarray]) -> tuple[np.ndarray, set[int]]:
        """It returns what is known of the prepared rows, and which rows lack something."""
        count = len(given[self.columns[0]])
        kind = self.kind or np.result_type(*(given[n].dtype for n, _ in self.numbers))
        made = np.empty((count, self.width), kind, order=self.order)
        with np.errstate(over="ignore"):  # too large for 32 bits: infinite, as in the steps
            for name, at in self.numbers:
                made[:, at] = given[name]
        new: set[int] = set()
        for name, places in self.others:
            new.update(self._remember(given[name], name, places, made))
        return made, new

    def _ended(self, made: np.ndarray) -> np.ndarray:
        for step in self.after:
            made = step(made)
        return made

    def _remember(
        self, values: np.ndarray, name: str, places: list[int], made: np.ndarray
    ) -> list[int]:
        """It fills in what is remembered of a feature's values, and returns the rows that lack it."""
        known, told = self.known.setdefault(name, {}), values.tolist()
        if len(told) == 1:
            found = known.get(told[0])
            if found is None:
                return [0]
            made[0, places] = found
            return []
        numbered = {v: i for i, v in enumerate(dict.fromkeys(told))}
        nothing = np.zeros(len(places), made.dtype)
        rows = [known.get(v) for v in numbered]
        table = np.array([nothing if r is None else r for r in rows]).reshape(-1, len(places))
        codes = np.array([numbered[v] for v in told])
        made[:, places] = table[codes]
        unknown = np.array([r is None for r in rows])
        return np.flatnonzero(unknown[codes]).tolist() if unknown.any() else []

    def _ask(self, given: Mapping[str, np.ndarray], new: list[int], made: np.ndarray) -> None:
        """It lets the model's own steps prepare rows, and remembers what came of their values."""
        if 2 * len(new) > len(made):
            new = list(range(len(made)))
        rows = pd.DataFrame({n: given[n][new] for n in self.columns})
        own: Any = rows
        for step in self.steps:
            own = step.transform(own)
        own = np.asarray(own)
        made[new] = own
        for name, places in self.others:
            known = self.known[name]
            for value, came in zip(rows[name].to_numpy().tolist(), own[:, places], strict=True):
                if len(known) >= MOST_REMEMBERED:
                    break
                if value == value:
                    known.setdefault(value, came.copy())


def preparation_of(model: Pipeline, columns: Mapping[str, str]) -> Preparation | str:
    """It returns the preparation of a fitted model; why there is none, where there is none.

    Args:
        model: the whole Pipeline.
        columns: its features with their types, in its order.
    """
    steps = _flat(model.steps[:-1])
    first = type(steps[0]).__name__ if steps else ""
    if first == "ColumnTransformer":
        begun: Preparation | str = _of_numbers(steps[:1], columns)
        rest = steps[1:]
    elif first == "TableVectorizer" and _changes_nothing(steps[1:2]):
        begun, rest = _of_table(steps[:2], columns), steps[2:]
    else:
        return "its transform is of its own"
    if isinstance(begun, str):
        return begun
    for step in rest:
        after = _after(step)
        if after is None:
            return f"its transform holds {type(step).__name__}, set in a way of its own"
        begun.after.append(after)
    return begun


def _flat(steps: Sequence[tuple[str, Any]]) -> list[Any]:
    found = []
    for _, step in steps:
        found += _flat(step.steps) if isinstance(step, Pipeline) else [step]
    return found


def _changes_nothing(steps: list[Any]) -> bool:
    """It says whether a step is the union that only takes the names off."""
    if not steps or type(steps[0]).__name__ != "FeatureUnion":
        return False
    parts = steps[0].transformer_list
    identity = type(parts[0][1]).__name__ == "FunctionTransformer" and parts[0][1].func is None
    return len(parts) == 1 and (parts[0][1] == "passthrough" or identity)


def _of_numbers(steps: list[Any], columns: Mapping[str, str]) -> Preparation | str:
    """It returns the preparation of a table of numbers, where nothing is to be encoded."""
    parts = [p for p in steps[0].transformers_ if p[0] != "remainder" or p[1] != "drop"]
    named = list(parts[0][2]) if len(parts) == 1 else []
    identity = bool(parts) and (
        parts[0][1] == "passthrough" or getattr(parts[0][1], "func", parts) is None
    )
    if not identity or not named or any(columns.get(str(n)) not in _NUMBERS[:2] for n in named):
        return "its transform is of its own"
    numbers = [(str(name), at) for at, name in enumerate(named)]
    return Preparation(tuple(columns), len(named), None, "F", numbers, [], steps, [])


def _of_table(steps: list[Any], columns: Mapping[str, str]) -> Preparation | str:
    """It returns the preparation that skrub's TableVectorizer came to."""
    table = steps[0]
    if table.specific_transformers:
        return "its TableVectorizer has transformers of its own"
    places: dict[str, list[int]] = {name: [] for name in columns}
    for at, made in enumerate(table.all_outputs_):
        places[str(table.output_to_input_[made])].append(at)
    numbers, others = [], []
    for name, made in places.items():
        if columns[name] in _NUMBERS and table.column_to_kind_.get(name) == "numeric":
            numbers += [(name, at) for at in made]
        elif made:
            others.append((name, made))
    width = len(table.all_outputs_)
    return Preparation(tuple(columns), width, np.float32, "F", numbers, others, steps, [])


def _after(step: Any) -> Callable[[np.ndarray], np.ndarray] | None:
    """It returns what a step does to a whole array; None where it is set in another way."""
    name = type(step).__name__
    if name == "SimpleImputer" and not step.add_indicator:
        return _imputed(step) if step.missing_values != step.missing_values else None
    if name == "StandardScaler" and step.mean_ is not None and step.scale_ is not None:
        return _scaled(step)
    return None


def _imputed(step: Any) -> Callable[[np.ndarray], np.ndarray]:
    stand_in = np.asarray(step.statistics_)

    def imputed(rows: np.ndarray) -> np.ndarray:
        made = rows if rows.dtype.kind == "f" else rows.astype("float64")
        gone = np.isnan(made)
        if gone.any():
            made[gone] = np.broadcast_to(stand_in, made.shape)[gone]
        return made

    return imputed


def _scaled(step: Any) -> Callable[[np.ndarray], np.ndarray]:
    def scaled(rows: np.ndarray) -> np.ndarray:
        made = rows if rows.dtype.kind == "f" else rows.astype("float64")
        made -= step.mean_.astype(made.dtype)
        made /= step.scale_.astype(made.dtype)
        return made

    return scaled
