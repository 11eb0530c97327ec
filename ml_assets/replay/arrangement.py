"""The arrangement of a history: which rows arrive when, and when their labels are known."""

import math
import re
from typing import Any

import numpy as np
import pandas as pd

from ml_assets.dataset import column_type
from ml_assets.errors import DatasetError, DeclarationError, did_you_mean
from ml_assets.problem import Problem, SplitDeclaration, TimeBy
from ml_assets.replay import FEWEST_WINDOWS, Asked, History, Window
from ml_assets.split import find_cuts

# What decides how a source is read: what is played was read already.
_READING = (
    "path",
    "loader",
    "sql",
    "connection",
    "asset",
    "resent",
    "separator",
    "quote",
    "bad_lines",
    "decimal",
    "encoding",
    "names",
    "missing",
    "skip_initial_space",
)


def time_column(asked: Asked, problem: Problem) -> str | None:
    """It returns the column that orders the history; None for the order of the rows."""
    by = problem.split.by
    column = asked.by or (by.time if isinstance(by, TimeBy) else None)
    return None if column == problem.dataset.number_rows else column


def arrange(frame: pd.DataFrame, column: str | None, asked: Asked) -> History:
    """It puts rows in the order of time and cuts them into windows.

    Rows of one time are in one window.

    Args:
        frame: the rows; only the column is looked at.
        column: what orders them; None for their own order.
        asked: the windows that are wanted.

    Raises:
        DatasetError: the column is absent, incomplete or no time, or gives too few windows.
        DeclarationError: what is asked cannot be done.
    """
    if not 0 < asked.start < 1:
        raise DeclarationError(f"--start is {asked.start:g}; it is a share between 0 and 1.")
    if asked.windows < FEWEST_WINDOWS:
        raise DeclarationError(f"--windows is {asked.windows}; {FEWEST_WINDOWS} is the least.")
    times = pd.Series(np.arange(len(frame))) if column is None else _times(frame, column)
    order = np.argsort(times.to_numpy(), kind="stable")
    ordered = times.to_numpy()[order]
    dated = column_type(times) == "date"
    edges = _edges(ordered, dated, asked)
    if len(edges) < FEWEST_WINDOWS:
        raise DatasetError(
            f"{len(frame):,} rows give {len(edges)} windows after the start; at least "
            f"{FEWEST_WINDOWS} are needed. Ask for more with --windows, or order by a column with "
            "more distinct values."
        )
    window = np.searchsorted(edges, np.arange(len(ordered)), side="right")
    ends = np.append(edges[1:], len(ordered))
    lasts = ordered[np.append(edges[0], ends) - 1]
    long = _seconds(asked.every or "1d", "--every")
    windows = [
        Window(
            number,
            int((window == number).sum()),
            _written(ordered[window == number][0]),
            _written(last),
            pd.Timestamp(last).timestamp() if dated else number * long,
        )
        for number, last in enumerate(lasts)
    ]
    known = _known(ordered, window, lasts, dated, asked)
    at = _moments(ordered, window, dated, long)
    return History(order, window, known, at, tuple(windows))


def _times(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame.columns:
        hint = did_you_mean(column, map(str, frame.columns))
        raise DatasetError(f"No column `{column}` to play the history by.{hint}")
    times = frame[column]
    if missing := int(times.isna().sum()):
        raise DatasetError(
            f"`{column}` says when a row arrived, but is missing in {missing:,} rows. Fill it in, "
            "or play by another column, or by the order of the rows."
        )
    if column_type(times) == "text":
        raise DatasetError(
            f"`{column}` holds text like {times.iloc[0]!r}, not times. Say how it is written: "
            f"contract.columns.{column}: {{type: date, format: ...}}, in the words of strftime."
        )
    return times.astype("float64") if column_type(times) == "boolean" else times


def _edges(ordered: np.ndarray, dated: bool, asked: Asked) -> np.ndarray:
    """It returns where each window after the start begins."""
    first = int(asked.start * len(ordered))
    if dated and asked.every is not None:
        step = np.timedelta64(int(_seconds(asked.every, "--every") * 1e9), "ns")
        begins = np.arange(ordered[first], ordered[-1] + np.timedelta64(1, "ns"), step)
        edges = np.searchsorted(ordered, begins, side="left")
    else:
        wanted = np.linspace(first, len(ordered), asked.windows + 1)[:-1].astype(int)
        edges = np.searchsorted(ordered, ordered[wanted], side="left")
    edges = np.unique(edges)
    return edges[(edges > 0) & (edges < len(ordered))]


def _moments(ordered: np.ndarray, window: np.ndarray, dated: bool, long: float) -> np.ndarray:
    """It returns when each row arrives; without dates, evenly within its window."""
    if dated:
        return ordered.astype("datetime64[ns]").astype("int64") / 1e9
    counts = np.bincount(window)
    place = np.arange(len(ordered)) - (np.cumsum(counts) - counts)[window]
    return (window - 1 + (place + 1) / counts[window]) * long


def _known(
    ordered: np.ndarray, window: np.ndarray, lasts: np.ndarray, dated: bool, asked: Asked
) -> np.ndarray:
    """It returns the window at whose end each row's label is known."""
    said = asked.delay.strip()
    if re.fullmatch(r"\d+", said):
        late = window + int(said)
        late[window == 0] = 0  # what is there at the start is there with its labels
        return late
    if not dated:
        raise DeclarationError(
            f"--delay is {said!r}, but the history is not ordered by dates. Give a number of "
            "windows, like 2."
        )
    late = ordered + np.timedelta64(int(_seconds(said, "--delay") * 1e9), "ns")
    return np.searchsorted(lasts, late, side="left")


def _seconds(said: str, option: str) -> float:
    try:
        seconds = float(pd.Timedelta(said).total_seconds())
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise DeclarationError(f"{option} is {said!r}; expected a duration like 7d or 12h.")
    return seconds


def _written(time: Any) -> Any:
    if isinstance(time, np.datetime64):
        stamp = pd.Timestamp(time)
        return stamp.date().isoformat() if stamp == stamp.normalize() else stamp.isoformat()
    return time.item()


def as_declared_today(problem: Problem, times: pd.Series) -> Problem:
    """It returns a problem whose cuts in time follow what has arrived, as a team would move them.

    Cuts that stay where they are would leave what is learned from as it was at the start, however
    much arrives.  They only move forward, so that no champion is judged by rows it learned from.

    Args:
        problem: as declared, split by time.
        times: of the labelled rows that have arrived.
    """
    split = problem.split
    assert isinstance(split.by, TimeBy)
    free = split.by.model_copy(update={"validation_from": None, "test_from": None})
    shares = split.model_copy(update={"by": free})
    cuts = find_cuts(times.to_frame(split.by.time), shares)
    at = {"validation_from": cuts.validation_from, "test_from": cuts.test_from}
    moved: SplitDeclaration = shares.model_copy(update={"by": free.model_copy(update=at)})
    return problem.model_copy(update={"split": moved})


def as_played(problem: Problem, path: str, at_start: int) -> tuple[Problem, list[str]]:
    """It returns the problem as its history is played, and what is otherwise, as sentences.

    Args:
        problem: as declared.
        path: where the windows arrive as files.
        at_start: how many rows are there with their labels at the start.
    """
    declared, told = problem.dataset, []
    fields = type(declared).model_fields
    was_read = {name: fields[name].get_default(call_default_factory=True) for name in _READING}
    contract = declared.contract
    if contract.min_rows > at_start:
        told.append(
            f"contract.min_rows is {contract.min_rows:,}; {at_start:,} rows are there at the start, "
            "so that these are enough."
        )
        contract = contract.model_copy(update={"min_rows": at_start})
    own = {**was_read, "path": path, "settle": 0.0, "contract": contract}
    changes: dict[str, Any] = {"dataset": declared.model_copy(update=own)}
    if isinstance(problem.split.by, TimeBy) and not problem.split.by.rolling:
        told.append(
            f"The cuts by `{problem.split.by.time}` follow what has arrived, "
            f"{problem.split.train:.0%}, {problem.split.validation:.0%} and "
            f"{problem.split.test:.0%} of it, as if somebody moved them for every retraining; cuts "
            "that stay would leave train as it was at the start. In production `rolling: true` does it."
        )
    if problem.watched() is None:
        told.append(
            "Monitoring is not declared: it looks by its defaults, and its alarms start nothing."
        )
    if problem.promotion.mode != "automatic":
        told.append(
            f"promotion.mode is {problem.promotion.mode}; here what is fit and better is promoted "
            "at once."
        )
        mode = problem.promotion.model_copy(update={"mode": "automatic"})
        changes["promotion"] = mode
    return problem.model_copy(update=changes), told
