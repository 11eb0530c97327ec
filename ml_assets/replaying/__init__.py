"""Replaying: a dataset's own history, played through the whole life cycle by the real machinery.

Everything happens in a sandbox: the windows of the history arrive as files in a landing zone of its
own, and each policy has a ledger and a registry of its own.  Time is the history's.  What is
fitted is named by content, so a fit that two policies ask for is made once.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ml_assets.problem import Problem
from ml_assets.replay import Asked, Course, Replayed, against, best_in_hindsight
from ml_assets.replay.arrangement import time_column
from ml_assets.replaying.player import Player, players_of
from ml_assets.replaying.stage import Stage, set_stage
from ml_assets.resources.stores import Stores


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
        stage, told, version = set_stage(Path(aside), problem, folder, stores, asked)
        players = players_of(stage, otherwise)
        for window in stage.history.windows:
            stage.deliver(window.number)
            for player in players:
                player.lives(stage, window.number)
            say(_progress(stage, players, window.number))
        by = time_column(asked, problem) or "the order of the rows"
        by += ", shuffled" if asked.shuffled else ""
        return _replayed(stage, players, by, told, version, time.perf_counter() - began)


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
    told = [*told, *(f"Monitoring of {n} could not look: {w}" for n, w in stage.troubles.items())]
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
