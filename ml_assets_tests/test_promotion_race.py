"""Two decisions at once: one wins, the other holds or repeats on the new champion; nothing is lost.

As in `test_promotion_crash`, one process imports everything and forks.  Here it forks two, which
wait for each other just before they would record what they decided.
"""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_assets import verification
from ml_assets.problem import Problem
from ml_assets.promotion import Hold, Promote
from ml_assets.resources.ledger import HOLD, MAKES_CHAMPION, Ledger
from ml_assets.round import rollback
from ml_assets.round.alias import mend
from ml_assets.round.production import approve, make_production
from ml_assets_tests.problems import SEES_A, SEES_B, Project, declared, quickly, rows
from ml_assets_tests.test_crash import ROOT, _ended, _forked, warmed
from ml_assets_tests.test_promotion_crash import _back, _round

SEES_ALL = {"estimator": "linear", "params": {"C": 1.0}}
LENIENT = [{"beats": "champion", "confidence": 0.5}]
FIRST = declared(candidates={"all": SEES_ALL}, gates=LENIENT)
SECOND = declared(candidates={"more": {"estimator": "random_forest"}}, gates=LENIENT)
WAITING = declared(candidates={"all": SEES_ALL}, gates=LENIENT, promotion={"mode": "approval"})


def _prepared(root: Path) -> None:
    """Two weak champions were there; two better candidates are fitted and not judged yet."""
    project = Project(root)
    project.write(rows(2000))
    for name, candidate in {"weaker": SEES_B, "weak": SEES_A}.items():
        made = project.production(declared(candidates={name: candidate}, gates=LENIENT))
        assert isinstance(made.decision, Promote)
    for problem in (FIRST, SECOND):
        project.challenger(problem)


def _decides(root: Path, problem: Problem, run: str) -> str:
    decision = make_production(replace(_round(root, run), problem=problem)).decision
    return type(decision).__name__


def _approves(root: Path, run: str) -> str:
    round_ = replace(_round(root, run), problem=WAITING)
    number = round_.stores.registry.pointed("demo", "challenger")
    version = make_production(round_).challenger.version.number
    return f"approved {approve(round_, version, 'seen').challenger.version.number} {number}"


def _rolls_back(root: Path, run: str) -> str:
    try:
        entry = rollback.roll_back(_round(root, run), 1, "prices were wrong")
    except Exception as error:
        return f"refused: {error}"
    return f"rolled back to {entry['version']}"


def _mends(root: Path, run: str) -> str:
    mend(_round(root, run).stores, "demo", 1.0, run)
    return "looked"


PAIRS: dict[str, tuple[Callable[[Path], str], Callable[[Path], str]]] = {
    "two promotions": (
        lambda root: _decides(root, FIRST, "one"),
        lambda root: _decides(root, SECOND, "two"),
    ),
    "the same promotion twice": (
        lambda root: _decides(root, FIRST, "one"),
        lambda root: _decides(root, FIRST, "two"),
    ),
    "promotion and rollback": (
        lambda root: _decides(root, SECOND, "one"),
        lambda root: _rolls_back(root, "two"),
    ),
    "promotion and approval": (
        lambda root: _decides(root, SECOND, "one"),
        lambda root: _approves(root, "two"),
    ),
    "promotion and the guard of the aliases": (
        lambda root: _decides(root, FIRST, "one"),
        lambda root: _mends(root, "two"),
    ),
}


def raced(folder: Path) -> None:
    """It lets each pair decide at once, a few times, and tells what came of it."""
    root, ready = folder / "project", folder / "ready"
    with quickly() as patch:
        patch.setattr(rollback, "in_clean_process", verification.verify)
        warmed(lambda: root.mkdir() or _prepared(root))
        shutil.copytree(root, ready)
        for name, pair in PAIRS.items():
            for turn in range(2):
                _back(ready, root)
                barrier = multiprocessing.get_context("fork").Barrier(2, timeout=20)
                pids = [_forked(lambda w=work, b=barrier: _met(root, w, b)) for work in pair]
                ends = [os.waitstatus_to_exitcode(os.waitpid(p, 0)[1]) for p in pids]
                assert ends == [0, 0], (name, turn, ends)
                _ended(lambda name=name: {"pair": name, **_left(root)})


def _met(root: Path, work: Callable[[Path], str], barrier: Any) -> dict[str, str]:
    """It does the work, and waits for the other just before it first takes the ledger's lock."""
    deciding, met = Ledger.deciding, []

    def together(self: Ledger, problem: str) -> Any:
        if not met:
            met.append(True)
            try:
                barrier.wait()
            except Exception:  # the other had nothing to decide
                barrier.abort()
        return deciding(self, problem)

    Ledger.deciding = together  # type: ignore[method-assign]
    try:
        return {"said": work(root)}
    finally:
        barrier.abort()


def _left(root: Path) -> dict[str, Any]:
    """It says what is left, having made sure that the ledger is whole and the alias agrees."""
    stores = _round(root, "looks").stores
    entries = stores.ledger.entries("demo")
    assert [e["number"] for e in entries] == list(range(1, len(entries) + 1))
    serving = None
    for e in entries:
        if e["event"] in MAKES_CHAMPION:
            assert e["previous"] == serving, entries
            serving = e["version"]
    assert stores.registry.pointed("demo", "champion") == serving
    assert stores.ledger.champion("demo")["version"] == serving
    new = entries[2:]
    return {"events": [e["event"] for e in new], "runs": [e["run_id"] for e in new]}


@pytest.mark.slow
def test_two_decisions_at_once_lose_nothing(tmp_path: Path):
    """Seen to fail when the champion was not compared again under the ledger's lock."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ML_ASSETS_", "DAGSTER_"))}
    call = f"from ml_assets_tests.test_promotion_race import *; raced(Path({str(tmp_path)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", call],
        cwd=ROOT,
        env={**env, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    said, left = [x["said"] for x in lines if "said" in x], [x for x in lines if "pair" in x]
    assert len(left) == 2 * len(PAIRS)
    assert len(said) == 4 * len(PAIRS)
    assert {Promote.__name__, Hold.__name__} <= set(said)
    for trial in left:
        if trial["pair"] == "promotion and the guard of the aliases":
            continue
        if trial["pair"] == "the same promotion twice":
            assert trial["events"].count("promotion") == 1, trial
            assert HOLD in trial["events"], trial
            continue
        # both left their decision, or a rollback was refused because the champion had changed
        refused = any("changed while" in s for s in said)
        assert set(trial["runs"]) == {"one", "two"} or refused, (trial, said)
