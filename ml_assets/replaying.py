"""Replaying: a dataset's own history, played through the whole life cycle by the real machinery.

Everything happens in a sandbox: the windows of the history arrive as files in a landing zone of its
own, and each policy has a ledger and a registry of its own.  Time is the history's.  What is
fitted is named by content, so a fit that two policies ask for is made once.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target, find_target
from ml_assets.errors import DatasetError, DeclarationError, MLAssetsError, NotMaterialized
from ml_assets.evaluation import score, select_metric
from ml_assets.gates import Verdict, failures
from ml_assets.problem import BeatsChampionGate, Problem, TimeBy, parameters
from ml_assets.promotion import Promote
from ml_assets.replay import (
    DECLARED,
    NEVER,
    NEWEST,
    OTHERWISE,
    Asked,
    Course,
    Fate,
    History,
    Replayed,
    Step,
    against,
    arrange,
    as_declared_today,
    as_played,
    best_in_hindsight,
    time_column,
)
from ml_assets.resources.lake import Entry, Lake
from ml_assets.resources.registry import DagsterRun
from ml_assets.resources.sandbox import open_sandbox
from ml_assets.resources.stores import Stores
from ml_assets.round import CARD, Round
from ml_assets.round.candidate import make_candidate
from ml_assets.round.dataset import current_dataset, dataset_rows, make_dataset
from ml_assets.round.evaluation import EvaluationMade, make_evaluation
from ml_assets.round.parameters import changed
from ml_assets.round.production import make_production
from ml_assets.round.split import make_split, part_rows
from ml_assets.rows import as_frame
from ml_assets.scoring import Said, Scorer, fitted_in, said_of
from ml_assets.verification import load_verified

ACTOR = "replay"
ARRIVALS = "arrivals"
# What a policy is made of, beside what any run can be told.
_POLICY = ("retrain.", "promotion.", "split.", "gates.beats_the_champion.")


@dataclass
class Known:
    """A fitted candidate, and what it says of everything that comes after it.

    Attributes:
        name: the candidate's name, and the window after which it was fitted.
        fitted: that window.
        said: its predictions in each later window.
        scores: of these.
    """

    name: str
    fitted: int
    said: dict[int, Said]
    scores: list[float | None]


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

    def know(self, problem: Problem, entry: Entry, number: int, kinds: dict[str, str]) -> str:
        """It finds out, once, what a fitted candidate says of all that comes; it returns its digest."""
        card = entry.json(CARD)
        digest = str(card["model_digest"])
        if digest not in self.known:
            model = load_verified(entry.path, entry.digest, tuple(problem.trust))
            columns = {name: kinds[name] for name in card["features"]}
            classes = self.target.classes
            scorer = Scorer(problem.name, 0, digest, model, columns, classes, problem.dataset)
            said = _said(scorer, {w: self.live[w] for w in range(number + 1, len(self.live))})
            scores = [self.score(said.get(w), w) for w in range(len(self.live))]
            self.known[digest] = Known(f"{card['candidate']} of {number}", number, said, scores)
        return digest

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


@dataclass
class Player:
    """A policy on its way through a history.

    Attributes:
        name: the policy.
        told: what it does, in a few words.
        problem: the declaration that it runs.
        stores: the shared lake, and its own ledger and registry.
        turn: what it does at the end of a window.
        champion: the digest of the model that serves.
        steps: what came of it so far.
        paid: fits that it asked for before.
    """

    name: str
    told: str
    problem: Problem
    stores: Stores
    turn: "Callable[[Stage, Player, int], Step]"
    champion: str | None = None
    steps: list[Step] = field(default_factory=list)
    paid: set[str] = field(default_factory=set)

    def lives(self, stage: Stage, number: int) -> None:
        """It lives through one window: its champion serves, then its turn comes."""
        known = stage.known.get(self.champion or "")
        served = Step(number)
        if known is not None and number:
            wrong = len(known.said[number].wrong)
            served = Step(number, known.scores[number], known.name, wrong)
        done = self.turn(stage, self, number)
        self.steps.append(
            replace(done, score=served.score, champion=served.champion, unscored=served.unscored)
        )

    def round(self, stage: Stage, number: int) -> Round:
        """It returns its round at the end of a window, at the history's time."""
        at = stage.history.windows[number].at
        return Round(
            self.problem,
            stage.model_folder,
            self.stores,
            DagsterRun(f"{self.name}, window {number}", self.problem.name),
            actor=ACTOR,
            clock=lambda: at,
            together=tuple(self.problem.contenders()),
        )

    def pays(self, fits: dict[str, float]) -> float:
        """It returns what fits cost that it had not asked for before, whoever made them."""
        fresh = {key: seconds for key, seconds in fits.items() if key not in self.paid}
        self.paid |= fresh.keys()
        return sum(fresh.values())


def replay(
    problem: Problem,
    folder: Path | None,
    stores: Stores,
    asked: Asked,
    otherwise: tuple[str, Problem] | None,
    say: Callable[[str], None],
) -> Replayed:
    """It plays the history of a problem's dataset under each policy.

    Args:
        problem: the problem, as declared.
        folder: where its model.py is.
        stores: the problem's own; they are only read.
        asked: how the history is to be played.
        otherwise: another policy: what it does otherwise, and the problem so; None for none.
        say: where progress goes.

    Raises:
        DatasetError: there are no rows, or they cannot be put in the order of time.
        DeclarationError: what is asked cannot be done.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ml_assets_replay_") as aside:
        stage, told, version = _set(Path(aside), problem, folder, stores, asked)
        players = _players(stage, otherwise)
        for window in stage.history.windows:
            stage.deliver(window.number)
            for player in players:
                player.lives(stage, window.number)
            say(_progress(stage, players, window.number))
        by = time_column(asked, problem) or "the order of the rows"
        by += ", shuffled" if asked.shuffled else ""
        return _replayed(stage, players, by, told, version, time.perf_counter() - began)


def under(problem: Problem, settings: Sequence[str]) -> Problem:
    """It returns a problem as words like ``retrain.cool_down=6h`` set it.

    Beside what a run can be told: fields of `retrain`, `promotion` and `split`, and those of the
    comparison with the champion, as ``gates.beats_the_champion.confidence=0.99``.

    Raises:
        DeclarationError: there is no such field, or not this value for it.
    """
    own = [s for s in settings if s.strip().startswith(_POLICY)]
    given = parameters([s for s in settings if s not in own])
    for name in ("data", "dataset_version"):
        if getattr(given, name):
            raise DeclarationError(f"`{name}`: every policy is played on the same history.")
    problem = changed(problem, given)
    champion = problem.champion_gate().model_dump()
    changes: dict[str, Any] = {
        name: getattr(problem, name).model_dump(exclude_unset=True)
        for name in ("retrain", "promotion", "split")
    }
    changes["gates"] = {"beats_the_champion": champion}
    for setting in own:
        path, sign, value = setting.partition("=")
        *way, last = [w.strip() for w in path.split(".")]
        if not sign or not last:
            raise DeclarationError(f"`{setting}` sets nothing. Write KEY=VALUE.")
        place = changes
        for word in way:
            if not isinstance(place.get(word), dict):
                place[word] = {}  # a switch that was on or off becomes a rule of its own
            place = place[word]
        place[last] = yaml.safe_load(value)
    others = [g for g in problem.gates if not isinstance(g, BeatsChampionGate)]
    changes["gates"] = [*others, changes["gates"]["beats_the_champion"]]
    whole = {f: getattr(problem, f) for f in type(problem).model_fields}
    try:
        return Problem(**{**whole, **changes})
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise DeclarationError("; ".join(told)) from None


def _set(
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


def _players(stage: Stage, otherwise: tuple[str, Problem] | None) -> list[Player]:
    """It returns the policies: as declared, another one, and the two yardsticks."""
    policies = [(DECLARED, "gates, and better than the champion, as declared", stage.problem)]
    if otherwise is not None:
        told, other = otherwise
        source = stage.problem.dataset
        policies.append((OTHERWISE, told, other.model_copy(update={"dataset": source})))
    turns = [_gated] * len(policies) + [_newest, _never]
    policies.append((NEWEST, "fits at every window; the leader serves, unasked", stage.problem))
    policies.append((NEVER, "the first leader serves for ever", stage.problem))
    return [
        Player(name, said, problem, open_sandbox(stage.folder, str(i), stage.lake), turn)
        for i, ((name, said, problem), turn) in enumerate(zip(policies, turns, strict=True))
    ]


# ---------------------------------------------------------------------------------- turns


def _gated(stage: Stage, player: Player, number: int) -> Step:
    """It retrains when that is due, asks every gate, and promotes as production does."""
    due, why = _due(stage, player, number)
    if not due:
        return Step(number, why=why)
    fate: Fate = "refused"
    seconds = 0.0
    try:
        round_, _, fits = _fitted(stage, player, number)
        seconds = player.pays(fits)
        made = make_production(round_)
        if made.decision is None:
            reason = _told(failures(made.verdicts))
        else:
            fate = "promoted" if isinstance(made.decision, Promote) else "held"
            reason = made.decision.reason
        if fate == "promoted":
            player.champion = made.challenger.model_digest
    except MLAssetsError as error:
        reason = str(error)
    return Step(number, retrained=True, why=why, fate=fate, reason=reason, seconds=seconds)


def _newest(stage: Stage, player: Player, number: int) -> Step:
    """It fits, and lets the leader serve whatever the gates would say."""
    if number and not stage.fresh:
        return Step(number, why="no labels came in")
    try:
        _, evaluated, fits = _fitted(stage, player, number)
    except MLAssetsError as error:
        return Step(number, retrained=True, fate="refused", reason=str(error))
    seconds = player.pays(fits)
    if evaluated.leader is None:
        reason = evaluated.verdicts[0].reason
        return Step(number, retrained=True, fate="refused", reason=reason, seconds=seconds)
    newest = str(evaluated.leader.json(CARD)["model_digest"])
    fate: Fate = "held" if newest == player.champion else "promoted"
    player.champion = newest
    return Step(number, retrained=True, fate=fate, reason="the newest fit", seconds=seconds)


def _never(stage: Stage, player: Player, number: int) -> Step:
    """It fits until there is a leader, and never again."""
    if player.champion is not None:
        return Step(number, why="it never retrains")
    return _newest(stage, player, number)


def _due(stage: Stage, player: Player, number: int) -> tuple[bool, str]:
    """It says whether a policy retrains at the end of a window, and why."""
    if number == 0:
        return True, "the start"
    if not player.problem.retrain.on_new_data:
        return False, "new data start no run: retrain.on_new_data is false"
    if not stage.fresh:
        return False, "no labels came in"
    return True, f"{stage.fresh:,} new rows with labels"


def _fitted(
    stage: Stage, player: Player, number: int
) -> tuple[Round, EvaluationMade, dict[str, float]]:
    """It brings everything up to the evaluation up to date, as the job of a problem does.

    Returns:
        The round, as the problem is declared by then; the evaluation; seconds of each fit by key.

    Raises:
        DatasetError: a gate on the dataset or the split does not hold.
    """
    round_ = player.round(stage, number)
    dataset = make_dataset(round_)
    stage.refused |= dataset.arrived.refused
    if failed := failures(dataset.verdicts):
        raise DatasetError(_told(failed))
    by = round_.problem.split.by
    times = dataset.rows[by.time] if isinstance(by, TimeBy) else None
    round_ = replace(round_, problem=as_declared_today(round_.problem, times))
    split = make_split(round_)
    if failed := failures(split.verdicts):
        raise DatasetError(_told(failed))
    kinds = {str(n): str(t) for n, t in part_rows(round_, split, "train").dtypes.items()}
    fits = {}
    for name in round_.problem.contenders():
        entry = make_candidate(round_, name).entry
        if entry is not None:
            fits[entry.key] = float(entry.facts["seconds"])
            stage.know(round_.problem, entry, number, kinds)
    return round_, make_evaluation(round_), fits


def _told(verdicts: Sequence[Verdict]) -> str:
    return " ".join(f"{v.name}: {v.reason}" for v in verdicts)


# ---------------------------------------------------------------------------- what came of it


def _progress(stage: Stage, players: list[Player], number: int) -> str:
    """It returns one line on one window."""
    window, last = stage.history.windows[number], len(stage.history.windows) - 1
    said = []
    for player in players[:-2]:
        step = player.steps[-1]
        value = f"{step.score:.4g}" if step.score is not None else "–"
        said.append(f"{player.name} {value} {step.fate or 'waits'}")
    return (
        f"  {number:>3} of {last}  {window.last!s:<19}  {window.rows:>7,} rows  {', '.join(said)}"
    )


def _replayed(
    stage: Stage, players: list[Player], by: str, told: list[str], version: str, seconds: float
) -> Replayed:
    courses = [Course(p.name, p.told, tuple(p.steps)) for p in players]
    scores = [(k.name, k.fitted, k.scores) for k in stage.known.values()]
    oracle = best_in_hindsight(stage.metric, scores, len(stage.history.windows))
    own, yardsticks = courses[:-2], courses[-2:]
    pairs = [against(stage.metric, one, other) for one in own for other in yardsticks]
    if len(own) > 1:
        pairs.append(against(stage.metric, own[1], own[0]))
    if stage.refused:
        first = next(iter(stage.refused.values()))
        told = [*told, f"{len(stage.refused)} windows were refused as batches: {first}"]
    return Replayed(
        stage.problem.name,
        stage.metric,
        stage.history.windows,
        by,
        (*courses, oracle),
        tuple(p for p in pairs if p is not None),
        tuple(told),
        stage.rows.num_rows,
        version,
        len(stage.known),
        seconds,
    )
