"""A stage: the sandbox where a history is played, its rows, and all that was fitted so far."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target, find_target
from ml_assets.errors import NotMaterialized
from ml_assets.evaluation import score, select_metric
from ml_assets.problem import Problem
from ml_assets.replay import Asked, History
from ml_assets.replay.arrangement import arrange, as_played, time_column
from ml_assets.resources.lake import Entry, Lake
from ml_assets.resources.registry import DagsterRun
from ml_assets.resources.sandbox import open_sandbox
from ml_assets.resources.stores import Stores
from ml_assets.round import CARD, Round
from ml_assets.round.dataset import current_dataset, dataset_rows, make_dataset
from ml_assets.rows import as_frame
from ml_assets.scoring import Said, Scorer, fitted_in, said_of
from ml_assets.verification import load_verified

ARRIVALS = "arrivals"
MOST_LOADED = 3  # models that serve, one for each policy and one more


@dataclass(frozen=True)
class Known:
    """A fitted candidate, and how well it does in everything that comes after it.

    Attributes:
        name: the candidate's name, and the window after which it was fitted.
        fitted: that window.
        scores: of its predictions in each later window.
        wrong: how many rows got none.
        entry: its files.
        columns: its features with their types.
    """

    name: str
    fitted: int
    scores: tuple[float | None, ...]
    wrong: tuple[int, ...]
    entry: Entry
    columns: dict[str, str]


@dataclass
class Stage:
    """Where a history is played: its rows, its windows, and all that was fitted so far.

    Attributes:
        folder: the sandbox.
        problem: what is played.
        model_folder: where the problem's model.py is.
        rows: the rows in the order of time.
        history: their windows.
        target: what is predicted, as the whole history shows it.
        fresh: how many rows with labels came in at the end of the window that is played.
        known: the fitted candidates, by the digest of the model.
        refused: batches that did not keep their contract, with the reason.
        troubles: why monitoring could not look, by policy.
    """

    folder: Path
    problem: Problem
    model_folder: Path | None
    rows: pa.Table
    history: History
    target: Target
    fresh: int = 0
    known: dict[str, Known] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    _said: dict[tuple[str, int], Said] = field(default_factory=dict, repr=False)
    _scorers: dict[str, Scorer] = field(default_factory=dict, repr=False)

    @cached_property
    def lake(self) -> Lake:
        """Where everything that is made is kept; all policies share it."""
        return Lake(self.folder / "lake")

    @cached_property
    def metric(self) -> str:
        """What is scored."""
        return select_metric(self.target.task, self.problem.select)

    @cached_property
    def live(self) -> list[pd.DataFrame]:
        """The rows of each window, as they are scored."""
        places = [np.flatnonzero(self.history.window == w.number) for w in self.history.windows]
        return [as_frame(self.rows.take(pa.array(at))) for at in places]

    def deliver(self, number: int) -> None:
        """It lays the rows whose labels come in at the end of a window where files arrive."""
        at = np.flatnonzero(self.history.known == number)
        if len(at):
            folder = self.folder / ARRIVALS
            folder.mkdir(exist_ok=True)
            pq.write_table(self.rows.take(pa.array(at)), folder / f"{number:05d}.parquet")
        self.fresh = len(at)

    def know(self, entry: Entry, number: int, kinds: dict[str, str]) -> str:
        """It finds out, once, how a fitted candidate does in all that comes; it returns its digest."""
        card = entry.json(CARD)
        digest = str(card["model_digest"])
        if digest not in self.known:
            columns = {name: kinds[name] for name in card["features"]}
            later = range(number + 1, len(self.live))
            said = _said(self._scorer(entry, columns), {w: self.live[w] for w in later})
            self.known[digest] = Known(
                f"{card['candidate']} of {number}",
                number,
                tuple(self.score(said.get(w), w) for w in range(len(self.live))),
                tuple(len(said[w].wrong) if w in said else 0 for w in range(len(self.live))),
                entry,
                columns,
            )
        return digest

    def says(self, digest: str, number: int) -> Said:
        """It returns what a fitted candidate says of a window; what serves is asked once."""
        if (digest, number) not in self._said:
            if digest not in self._scorers:
                while len(self._scorers) >= MOST_LOADED:
                    self._scorers.pop(next(iter(self._scorers)))
                known = self.known[digest]
                self._scorers[digest] = self._scorer(known.entry, known.columns)
            rows = {number: self.live[number]}
            self._said[digest, number] = _said(self._scorers[digest], rows)[number]
        return self._said[digest, number]

    def _scorer(self, entry: Entry, columns: dict[str, str]) -> Scorer:
        problem = self.problem
        model = load_verified(entry.path, entry.digest, tuple(problem.trust))
        classes = self.target.classes
        return Scorer(problem.name, 0, entry.digest, model, columns, classes, problem.dataset)

    def score(self, said: Said | None, number: int) -> float | None:
        """It returns the metric of what was said of a window; rows without a prediction are left out."""
        if said is None:
            return None
        truth = self.live[number][self.problem.dataset.target]
        fine = truth.notna().to_numpy()
        fine[list(said.wrong)] = False
        if not fine.any():
            return None
        shares = None if said.probabilities is None else said.probabilities[fine]
        told = Predictions(np.asarray(said.values[fine].tolist()), shares)
        return score(truth[fine].to_numpy(), told, self.target, self.metric).get(self.metric)


def _said(scorer: Scorer, windows: dict[int, pd.DataFrame]) -> dict[int, Said]:
    """It returns what a model says of each window; it is asked once, of all of them together."""
    if not windows:
        return {}
    whole = said_of(scorer, *fitted_in(scorer, pd.concat(windows.values(), ignore_index=True)))
    found, start = {}, 0
    for number, rows in windows.items():
        part = slice(start, start + len(rows))
        wrong = {i - start: why for i, why in whole.wrong.items() if part.start <= i < part.stop}
        shares = None if whole.probabilities is None else whole.probabilities[part]
        found[number] = Said(whole.values[part], shares, wrong)
        start = part.stop
    return found


def set_stage(
    aside: Path, problem: Problem, folder: Path | None, stores: Stores, asked: Asked
) -> tuple[Stage, list[str], str]:
    """It sets the stage: the rows in their order, and the problem as it is played."""
    table, version = _rows(aside, problem, folder, stores)
    frame, column = as_frame(table), time_column(asked, problem)
    history = arrange(frame, column, asked)
    rows = table.take(pa.array(history.order))
    if asked.shuffled:
        rows = _shuffled(rows, column, problem.seed)
    numbered = problem.dataset.number_rows
    if numbered in rows.column_names:  # they are numbered anew as they arrive
        rows = rows.drop_columns([numbered])
    at_start = int((history.known == 0).sum())
    played, told = as_played(problem, f"{ARRIVALS}/*.parquet", at_start)
    target = find_target(frame, problem.dataset, problem.task)
    return Stage(aside, played, folder, rows, history, target), told, version


def _rows(
    aside: Path, problem: Problem, folder: Path | None, stores: Stores
) -> tuple[pa.Table, str]:
    """It returns the rows of the current dataset; where there is none, what its source gives."""
    run = DagsterRun("the history", problem.name)
    try:
        own = Round(problem, folder, stores, run)
        entry, _ = current_dataset(own)
        rows = dataset_rows(own, entry)
    except NotMaterialized:
        if problem.dataset.asset is not None:  # its rows are handed over in a run
            raise
        sandbox = replace(open_sandbox(aside, "source", Lake(aside / "source")), root=stores.root)
        made = make_dataset(Round(problem, folder, sandbox, run))
        entry, rows = made.entry, made.rows
    return pa.concat_tables(list(rows.pieces())), entry.digest[:16]


def _shuffled(rows: pa.Table, column: str | None, seed: int) -> pa.Table:
    """It puts rows into a random order; the times stay where they are."""
    mixed = rows.take(pa.array(np.random.default_rng(seed).permutation(rows.num_rows)))
    if column is None:
        return mixed
    return mixed.set_column(mixed.schema.get_field_index(column), column, rows.column(column))
