"""A turn: one run of a problem at a time.

Runs that the daemon launches wait in Dagster's queue.  One that a command executes waits here,
for other commands by a lock that the kernel gives back, and for launched runs by looking.  Two
rounds at once would do no harm to production (promotions are fenced); they would do all work
twice, and judge each other's half-finished world.
"""

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg

from ml_assets.components.worker import at_work, bury
from ml_assets.resources.database import Database

LOOKS_EVERY = 2.0


@contextlib.contextmanager
def turn(
    instance: dg.DagsterInstance,
    folder: Path,
    problem: str,
    say: Callable[[str], None],
    database: Database | None = None,
) -> Iterator[None]:
    """It waits until no other run of a problem is going on, and keeps the turn for what is within.

    Args:
        instance: where runs are recorded.
        folder: where the locks are.
        problem: the problem's name.
        say: where it is told that somebody is waited for.
        database: where the locks are instead, for commands of all machines.
    """

    def told() -> None:
        say(f"{problem}: another command runs it. This one waits for its turn (Ctrl-C ends it).")

    locked = database.lock(f"turn/{problem}", told) if database else _file(folder, problem, told)
    with locked:
        _wait(instance, problem, say)
        yield


@contextlib.contextmanager
def _file(folder: Path, problem: str, told: Callable[[], None]) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{problem}.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _wait(instance: dg.DagsterInstance, problem: str, say: Callable[[str], None]) -> None:
    """It waits for launched runs; those whose process is gone are failed and not waited for."""
    told = ""
    while True:
        going_on = ""
        for record in at_work(instance, [problem]):
            run = record.dagster_run
            if run.job_name in _beside_a_round(problem):
                continue
            why = bury(instance, record)
            if why:
                say(f"{problem}: run {run.run_id} was left over, and is failed now. {why}")
            else:
                going_on = run.run_id
        if not going_on:
            return
        if going_on != told:
            say(
                f"{problem}: run {going_on} is going on. This one waits for its turn (Ctrl-C ends it)."
            )
            told = going_on
        time.sleep(LOOKS_EVERY)


def _beside_a_round(problem: str) -> tuple[str, ...]:
    """It returns the jobs that make no round: they may go on meanwhile."""
    beside = ("predictions", "monitoring", "canary", "rollback", "approve")
    return tuple(f"{problem}_{job}" for job in beside)
