"""Builders of small projects: a table, a declared problem, rounds and Dagster runs on stores in a folder."""

import contextlib
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
from dagster.components.core.load_defs import build_defs_for_component

from ml_assets import candidate as candidates
from ml_assets import plots, verification
from ml_assets.components import MLProblem
from ml_assets.problem import DatasetDeclaration, Problem, SplitDeclaration
from ml_assets.resources.home import Home
from ml_assets.resources.registry import DagsterRun, Registry
from ml_assets.resources.stores import Stores, open_stores
from ml_assets.round import Round, production
from ml_assets.round.candidate import CandidateMade, make_candidate
from ml_assets.round.challenger import ChallengerMade, make_challenger
from ml_assets.round.dataset import make_dataset
from ml_assets.round.evaluation import EvaluationMade, make_evaluation
from ml_assets.round.production import ProductionMade, make_production
from ml_assets.round.split import make_split
from ml_assets.split import PARTS, assign

# Columns are all numbers, so that no test waits for the import of skrub.
MODEL = '''\
"""Transforms that see one feature, and estimators that fail: what a team's model.py may hold."""

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression


class Explodes(LogisticRegression):
    def fit(self, *_, **__):
        raise RuntimeError("the kettle boiled over")


def sees_a():
    return ColumnTransformer([("seen", "passthrough", ["a"])])


def sees_b():
    return ColumnTransformer([("seen", "passthrough", ["b"])])


def explodes():
    return Explodes()


def cannot_be_made():
    raise RuntimeError("no such licence")
'''

SEES_A = {"estimator": "linear", "transform": ".model.sees_a"}
SEES_B = {"estimator": "linear", "transform": ".model.sees_b"}
SEES_ALL = {"estimator": "linear", "params": {"C": 1.0}}
EXPLODES = {"estimator": ".model.explodes"}


def rows(count: int = 600, seed: int = 0, noise: float = 0.6, first: int = 0) -> pd.DataFrame:
    """It returns rows whose target `y` follows `a` strongly and `b` weakly, each with its own `id`."""
    random = np.random.default_rng(seed)
    a, b = random.normal(size=count), random.normal(size=count)
    signal = a + 0.5 * b + random.normal(scale=noise, size=count)
    y = np.where(signal > 0, "yes", "no")
    return pd.DataFrame({"id": np.arange(first, first + count), "a": a, "b": b, "y": y})


def aged(path: Path) -> Path:
    """It returns a file that was last written a minute ago, so that nobody waits for its end."""
    then = time.time() - 60
    os.utime(path, (then, then), follow_symlinks=False)
    return path


def arrive(frame: pd.DataFrame, path: Path, **writing: Any) -> Path:
    """It writes rows as csv, a minute ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, **writing)
    return aged(path)


def part_of(frame: pd.DataFrame) -> np.ndarray:
    """It returns the name of the part that each row of `rows` lands in."""
    declared = DatasetDeclaration(path="data.csv", target="y", key="id")
    return np.array(PARTS)[assign(frame, SplitDeclaration(), declared)]


def declared(**given: Any) -> Problem:
    """It returns the problem `demo` on data.csv, with one quick candidate, and what is given."""
    dataset = {"path": "data.csv", "target": "y", "key": "id", "positive": "yes"}
    dataset |= given.pop("dataset", {})
    return Problem(**{"name": "demo", "candidates": {"all": SEES_ALL}, **given, "dataset": dataset})


def first_fast(cases: Iterable[Any], most: int) -> list[Any]:
    """It returns parametrized cases, of which all but the first few are slow."""
    listed = list(cases)
    return listed[:most] + [pytest.param(c, marks=pytest.mark.slow) for c in listed[most:]]


@contextlib.contextmanager
def quickly() -> Iterator[pytest.MonkeyPatch]:
    """It verifies in this process, draws nothing, and keeps a developer's settings out."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ML_ASSETS_HOME", "ML_ASSETS_DEFS", "MLFLOW_TRACKING_URI", "DAGSTER_HOME"):
            patch.delenv(name, raising=False)
        patch.setattr(production, "in_clean_process", verification.verify)
        for plot in ("leaderboard", "judged"):
            patch.setattr(plots, plot, lambda *_: b"")
        known = functools.cache(candidates.environment)  # asked dozens of times in each round
        patch.setattr(candidates, "environment", known)
        yield patch


@functools.cache
def empty_store() -> Path:
    """It returns MLflow's database without content: made once, for it takes seconds."""
    folder = Path(tempfile.mkdtemp(prefix="ml_assets_tests_"))
    assert Registry(f"sqlite:///{folder / 'mlflow.db'}", folder).client
    return folder / "mlflow.db"


@dataclass
class Project:
    """A project in a folder: its data, model.py, stores and Dagster instance."""

    root: Path
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    rounds: int = 0

    def __post_init__(self) -> None:
        os.environ.pop(
            "MLFLOW_TRACKING_URI", None
        )  # MLflow sets it, and it would outlive a project
        home = Home(self.root, self.root / ".ml_assets")
        home.mlflow.mkdir(parents=True)
        shutil.copy(empty_store(), home.mlflow / "mlflow.db")
        (self.root / "model.py").write_text(MODEL)
        self.stores: Stores = open_stores(home)

    def write(self, frame: pd.DataFrame) -> None:
        """It puts the rows where the declaration looks for them."""
        arrive(frame, self.root / "data.csv")

    def here(self) -> None:
        """It makes this project the one that MLflow's global state means: a process has one home."""
        registry = self.stores.registry
        assert registry.client
        mlflow.set_tracking_uri(registry.uri)
        mlflow.set_registry_uri(registry.uri)

    def round(self, problem: Problem) -> Round:
        """It returns a round of its own, as each Dagster run has one."""
        self.here()
        self.rounds += 1
        run = DagsterRun(f"run-{self.rounds}", problem.name)
        return Round(problem, self.root, self.stores, run, actor="a tester")

    def candidates(self, round_: Round) -> dict[str, CandidateMade]:
        """It makes dataset, split and candidates."""
        make_dataset(round_)
        make_split(round_)
        return {name: make_candidate(round_, name) for name in round_.problem.contenders()}

    def evaluation(self, problem: Problem) -> EvaluationMade:
        """It makes everything up to the evaluation."""
        round_ = self.round(problem)
        self.candidates(round_)
        return make_evaluation(round_)

    def challenger(self, problem: Problem) -> ChallengerMade:
        """It makes everything up to the challenger."""
        round_ = self.round(problem)
        self.candidates(round_)
        return make_challenger(round_)

    def production(self, problem: Problem) -> ProductionMade:
        """It makes everything, and decides."""
        round_ = self.round(problem)
        self.candidates(round_)
        make_challenger(round_)
        return make_production(round_)

    def definitions(self, problem: Problem) -> dg.Definitions:
        """It returns what Dagster would load."""
        return build_defs_for_component(MLProblem(problem, self.root, self.root))

    def run(self, problem: Problem, *only: str) -> "Run":
        """It runs the problem's job as the UI does: all of it, or only some assets."""
        self.here()
        selection = [dg.AssetKey([problem.name, *path.split("/")]) for path in only] or None
        result = (
            self.definitions(problem)
            .resolve_job_def(problem.name)
            .execute_in_process(
                instance=self.instance,
                asset_selection=selection,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        )
        return Run(result)

    def champion(self) -> tuple[int | None, int | None]:
        """It returns who is champion by the ledger, and by MLflow's alias."""
        entry = self.stores.ledger.champion("demo")
        return entry and entry["version"], self.pointed("champion")

    def pointed(self, alias: str) -> int | None:
        """It returns the version that an alias points at."""
        return self.stores.registry.pointed("demo", alias)


@dataclass
class Run:
    """What a Dagster run came to, in words that tests use."""

    result: Any

    @property
    def green(self) -> bool:
        return self.result.success

    @property
    def materialized(self) -> set[str]:
        events = self.result.get_asset_materialization_events()
        return {"/".join(e.asset_key.path[1:]) for e in events}

    def check(self, name: str, asset: str | None = None) -> Any:
        """It returns the evaluation of a check."""
        found = [
            e
            for e in self.result.get_asset_check_evaluations()
            if e.check_name == name and asset in (None, "/".join(e.asset_key.path[1:]))
        ]
        assert found, f"{name} was not asked"
        return found[-1]

    @property
    def failed_checks(self) -> set[str]:
        return {e.check_name for e in self.result.get_asset_check_evaluations() if not e.passed}
