"""Tuning: the parameters of a candidate, searched for on validation or within train.

Optuna proposes and remembers.  Trials go in rounds of a fixed size, each proposed from what all
earlier rounds found, so that the same data and seed give the same search however fast trials end,
and however often it was interrupted.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.errors import CandidateError
from ml_assets.later import later
from ml_assets.metric import METRICS
from ml_assets.problem import (
    CandidateDeclaration,
    DatasetDeclaration,
    Range,
    SplitDeclaration,
    TimeBy,
)
from ml_assets.split import identity, known_before

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

STARTING = 8  # random trials before TPE has something to learn from
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
# score of one fold, given (parameters, fold)
Score = Callable[[dict[str, Any], int], float]


@dataclass(frozen=True)
class Trial:
    """One set of parameters that was tried.

    Attributes:
        number: in the order of proposal.
        params: the searched parameters.
        value: the metric; None where it was not reached.
        state: complete, pruned (given up early, being no better than most) or failed.
        seconds: wall time.
        error: why it failed.
    """

    number: int
    params: dict[str, Any]
    value: float | None
    state: str
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Tuned:
    """What a search came to.

    Attributes:
        params: the best parameters.
        value: their metric.
        trials: all that was tried, by number.
        how: the search, in words.
    """

    params: dict[str, Any]
    value: float
    trials: tuple[Trial, ...]
    how: str


def folds(
    rows: pd.DataFrame, count: int, split: SplitDeclaration, dataset: DatasetDeclaration
) -> list[tuple[np.ndarray, np.ndarray]]:
    """It returns positions to learn from and to score by, for each fold of train.

    Rows that the split keeps together stay together; by time, each fold is scored after what it
    learned from, with the split's gap between the two.

    Args:
        rows: train; in the order of time, where it was split so.
        count: number of folds, from 2.
        split: how rows are told apart.
        dataset: what the columns are for.

    Raises:
        CandidateError: the gap leaves nothing to learn from.
    """
    from sklearn.model_selection import GroupKFold, TimeSeriesSplit

    if isinstance(split.by, TimeBy):
        moments = np.sort(rows[split.by.time].unique())
        times, places = rows[split.by.time], []
        for _, held in TimeSeriesSplit(count).split(moments):
            first, last = moments[held[0]], moments[held[-1]]
            known = np.flatnonzero(known_before(times, first, split.by))
            if not len(known):
                raise CandidateError(
                    f"folds: the gap of {split.by.gap} leaves nothing to learn from before "
                    f"{first}, where a fold begins. Ask for fewer folds, or a smaller gap."
                )
            places.append((known, np.flatnonzero((times >= first) & (times <= last))))
        return places
    together = identity(rows, split, dataset)
    return list(GroupKFold(count).split(rows, groups=together))


def size(space: dict[str, Any]) -> int | None:
    """It returns the number of combinations; None for a space with ranges."""
    if any(isinstance(v, Range) for v in space.values()):
        return None
    return int(np.prod([len(v) for v in space.values()]))


def tune(
    declared: CandidateDeclaration,
    metric: str,
    score: Score,
    parts: int,
    study_file: Path,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Tuned:
    """It searches the declared space and returns the best parameters.

    Args:
        declared: the candidate, with a `search`.
        metric: what is scored.
        score: fits with parameters and scores one fold.
        parts: number of folds.
        study_file: where trials are remembered; a search that was interrupted goes on from there.
        seed: of the sampler.
        clock: for the budget and the trials' times, in seconds.

    Raises:
        CandidateError: every trial failed; the message has the last one's error.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, sampler, wanted = declared.search, _sampler(declared), declared.trials
    points = declared.points() if sampler == "grid" else []
    if points:
        wanted = len(points)
    study = _study(study_file, METRICS[metric][0], declared.parallel, wanted)
    began = clock()
    while (done := _finished(study)) < wanted:
        if declared.budget_seconds is not None and clock() - began > declared.budget_seconds:
            break
        study.sampler = _optuna_sampler(sampler, seed + done)
        batch = min(declared.parallel, wanted - done)
        for point in points[done : done + batch]:
            study.enqueue_trial(point)
        asked = [study.ask(_distributions(space)) for _ in range(batch)]
        with ThreadPoolExecutor(batch) as threads:
            tried = list(threads.map(lambda t: _tried(t, score, parts, clock), asked))
        for trial, (value, state, seconds, error) in zip(asked, tried, strict=True):
            trial.set_user_attr("seconds", seconds)
            trial.set_user_attr("error", error)
            states = {COMPLETE: "COMPLETE", PRUNED: "PRUNED", FAILED: "FAIL"}
            study.tell(trial, value, state=optuna.trial.TrialState[states[state]])
    trials = _listed(study)
    best = _best(trials, METRICS[metric][0])
    if best is None or best.value is None:
        said = next((t.error for t in reversed(trials) if t.error), "the time budget was too short")
        raise CandidateError(f"none of {len(trials)} trials gave a {metric}: {said}")
    how = f"{sampler}, {len(trials)} trials, {metric} "
    how += f"in {parts} folds of train" if declared.folds else "on validation"
    return Tuned(best.params, best.value, tuple(trials), how)


def _sampler(declared: CandidateDeclaration) -> str:
    if declared.sampler != "auto":
        return declared.sampler
    points = size(declared.search)
    return "grid" if points is not None and points <= declared.trials else "tpe"


def _optuna_sampler(name: str, seed: int) -> Any:
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTING)
    return optuna.samplers.RandomSampler(seed=seed)


def _distributions(space: dict[str, Any]) -> dict[str, Any]:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    made: dict[str, Any] = {}
    for name, values in space.items():
        if not isinstance(values, Range):
            made[name] = CategoricalDistribution(values)
        elif all(isinstance(v, int) for v in (values.low, values.high, values.step or 1)):
            step = 1 if values.log else int(values.step or 1)
            made[name] = IntDistribution(
                int(values.low), int(values.high), log=values.log, step=step
            )
        else:
            apart = None if values.log else values.step
            made[name] = FloatDistribution(values.low, values.high, log=values.log, step=apart)
    return made


def _study(file: Path, greater: bool, batch: int, wanted: int) -> Any:
    """It opens the study in a file; of one that a dead process left, what was done in full rounds.

    A round that was told in part would be drawn differently the second time.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    study = _opened(file, greater)
    trials, done = study.get_trials(), [t for t in study.get_trials() if _is_finished(t)]
    whole = len(done) if len(done) >= wanted else len(done) // batch * batch
    if len(trials) > whole:
        aside = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
        _opened(aside, greater).add_trials(done[:whole])
        aside.replace(file)
        study = _opened(file, greater)
    return study


def _opened(file: Path, greater: bool) -> Any:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(file))),
        direction="maximize" if greater else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTING),
        load_if_exists=True,
    )


def _is_finished(trial: Any) -> bool:
    """It says whether a trial was tried to an end; those that a dead process left were not."""
    told = trial.state.name in ("COMPLETE", "PRUNED") or trial.user_attrs.get("error")
    return bool(told) and trial.state.is_finished() and "seconds" in trial.user_attrs


def _tried(
    trial: Any, score: Score, parts: int, clock: Callable[[], float]
) -> tuple[float | None, str, float, str | None]:
    """It scores one trial fold by fold, and gives it up when it is no better than most."""
    began, values = clock(), list[float]()
    try:
        for part in range(parts):
            values.append(score(dict(trial.params), part))
            if part + 1 < parts:
                trial.report(float(np.mean(values)), part)
                if trial.should_prune():
                    return None, PRUNED, clock() - began, None
    except Exception as error:  # one bad point does not end the search
        return None, FAILED, clock() - began, f"{type(error).__name__}: {error}"[:500]
    if not np.isfinite(np.mean(values)):
        return None, FAILED, clock() - began, f"its score is {np.mean(values)}"
    return float(np.mean(values)), COMPLETE, clock() - began, None


def _finished(study: Any) -> int:
    """It counts the trials that were tried to an end."""
    return sum(_is_finished(t) for t in study.get_trials(deepcopy=False))


def _listed(study: Any) -> list[Trial]:
    states = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED}
    found = [t for t in study.get_trials(deepcopy=False) if _is_finished(t)]
    return [
        Trial(
            number,
            dict(t.params),
            t.value if t.state.name == "COMPLETE" else None,
            states[t.state.name],
            t.user_attrs["seconds"],
            t.user_attrs["error"],
        )
        for number, t in enumerate(found)
    ]


def _best(trials: list[Trial], greater: bool) -> Trial | None:
    """It returns the best complete trial; of equal ones the first."""
    complete = [t for t in trials if t.value is not None]
    sign = -1 if greater else 1
    return min(complete, key=lambda t: sign * (t.value or 0), default=None)
