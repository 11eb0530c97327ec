"""A canary's life: started by a round, asked about live rows as labels come, promoted or withdrawn."""

import contextlib
import json
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from pydantic import ValidationError

from ml_assets import standing, verification
from ml_assets.canary import Start, Wait, Withdraw
from ml_assets.errors import ModelRefused, PromotionRefused
from ml_assets.problem import Problem
from ml_assets.promotion import Hold, Promote
from ml_assets.resources.home import Home
from ml_assets.resources.stores import open_stores
from ml_assets.round import Round, canary, rollback
from ml_assets.round.alias import mend
from ml_assets.round.canary import CanaryMade, approve_canary, make_canary, withdraw
from ml_assets.round.dataset import make_dataset
from ml_assets.round.predictions import load_sharing, make_predictions
from ml_assets.round.production import approval, make_production
from ml_assets.round.rollback import roll_back
from ml_assets_tests.problems import (
    SEES_A,
    SEES_ALL,
    SEES_B,
    Project,
    arrive,
    declared,
    quickly,
    rows,
)

DAY = 86_400.0
LANDING = {"path": "landing/*.csv", "settle": 0}
INBOX = {"path": "inbox/*.csv", "output": "scored"}
TERMS = {"mode": "canary", "share": 0.3, "min_rows": 200, "longest": "10d"}
# its seed and its regularisation make another model of it, which answers nearly the same
AS_GOOD = {"estimator": "linear", "params": {"C": 0.02}}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quickly() as patch:
        for module in (rollback, canary):
            patch.setattr(module, "in_clean_process", verification.verify)
        yield


def canaried(candidate: dict[str, Any], **given: Any) -> Problem:
    terms = {**TERMS, **given.pop("promotion", {})}
    return declared(
        candidates={"one": candidate},
        dataset=LANDING,
        predictions=INBOX,
        promotion=terms,
        **given,
    )


@dataclass
class Life:
    """A project where files are scored, and their labels come later."""

    project: Project
    problem: Problem
    now: float = 1_790_000_000.0
    waiting: list[tuple[str, pd.DataFrame]] = field(default_factory=list)
    files: int = 0

    def round(self) -> Round:
        return replace(self.project.round(self.problem), clock=lambda: self.now)

    def decide(self, problem: Problem) -> Any:
        """It makes a whole round with another declaration."""
        self.problem = problem
        round_ = self.round()
        self.project.candidates(round_)
        from ml_assets.round.challenger import make_challenger

        make_challenger(round_)
        return make_production(round_).decision

    def score(self, count: int, at: float = 10.0) -> pd.DataFrame:
        """It lets rows arrive to be scored, and returns what was said of them."""
        self.now += at
        self.files += 1
        name = f"{self.files}.csv"
        frame = rows(count, seed=100 + self.files, first=100_000 * self.files)
        arrive(frame.drop(columns="y"), self.project.root / "inbox" / name)
        self.waiting.append((name, frame))
        made = make_predictions(self.round())
        return pd.concat(pd.read_parquet(f.output) for f in made.scored)

    def label(self, change: Callable[[pd.DataFrame], pd.DataFrame] = lambda f: f) -> None:
        """It lets the labels of all that was scored come."""
        for name, frame in self.waiting:
            arrive(change(frame), self.project.root / "landing" / f"labels_{name}")
        self.waiting.clear()
        make_dataset(self.round())

    def look(self, days: float = 0.0) -> CanaryMade:
        self.now += days * DAY
        return make_canary(self.round())

    @property
    def events(self) -> list[str]:
        return [e["event"] for e in self.project.stores.ledger.entries("demo")]

    @property
    def pointed(self) -> tuple[int | None, int | None]:
        """Who is champion and who is canary, by MLflow's aliases."""
        return self.project.pointed("champion"), self.project.pointed("canary")


def begun(root: Path, champion: Any, challenger: Any, **given: Any) -> Life:
    """A champion, and a canary beside it: made once, and copied for whoever asks for the same."""
    key = json.dumps([champion, challenger, given])
    if key not in _BEGUN:
        ready = Path(tempfile.mkdtemp(prefix="ml_assets_tests_")) / "ready"
        ready.mkdir()
        _BEGUN[key] = _begun(ready, champion, challenger, **given)
    first = _BEGUN[key]
    shutil.copytree(first.project.root, root, dirs_exist_ok=True)
    _moved(root / ".ml_assets/mlflow/mlflow.db", str(first.project.root), str(root))
    return Life(Copied(root), first.problem)


_BEGUN: dict[str, Life] = {}


class Copied(Project):
    """A project whose folder was copied from another."""

    def __post_init__(self) -> None:
        self.stores = open_stores(Home(self.root, self.root / ".ml_assets"))


def _moved(database: Path, before: str, now: str) -> None:
    """It writes into MLflow's database that its files are elsewhere: it notes whole paths."""
    places = {
        "experiments": ["artifact_location"],
        "runs": ["artifact_uri"],
        "logged_models": ["artifact_location"],
        "model_versions": ["source", "storage_location"],
    }
    with contextlib.closing(sqlite3.connect(database)) as opened, opened:
        for table, columns in places.items():
            for column in columns:
                change = f"update {table} set {column} = replace({column}, ?, ?)"
                opened.execute(change, (before, now))


def _begun(root: Path, champion: Any, challenger: Any, **given: Any) -> Life:
    project = Project(root)
    arrive(rows(), root / "landing" / "first.csv")
    (root / "inbox").mkdir()
    life = Life(project, canaried(champion))
    assert isinstance(life.decide(life.problem), Promote)
    decision = life.decide(canaried(challenger, **given))
    assert isinstance(decision, Start), decision
    return life


# ---------------------------------------------------------------------------------------- its life


def test_a_better_canary_is_promoted_by_itself(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL)
    assert life.pointed == (1, 2)
    said = life.score(500)
    assert set(said["model_version"]) == {1, 2}
    assert 0.2 < (said["model_version"] == 2).mean() < 0.4

    waits = life.look()
    life.label()
    made = life.look()

    assert isinstance(waits.decision, Wait)
    assert "0 labelled rows so far; the first look at it needs 200" in waits.decision.reason
    assert waits.written is None
    assert isinstance(made.decision, Promote)
    assert made.standing is not None and made.standing.rows == 500
    assert life.project.champion() == (2, 2)
    assert life.pointed == (2, None)
    entry = life.project.stores.ledger.champion("demo")
    assert entry is not None
    assert (entry["event"], entry["previous"], entry["rows"]) == ("promotion", 1, 500)
    assert entry["comparison"]["verdict"] == "better"
    assert all(g["passed"] for g in entry["gates"])
    assert life.look().decision is None


def test_a_worse_canary_is_withdrawn_by_itself_and_does_not_come_back(tmp_path: Path):
    """It was as good on test: what it sees turned round after it was trained."""
    life = begun(tmp_path, SEES_A, SEES_ALL)
    life.score(800)
    life.label(lambda f: f.assign(y=(f["a"] - f["b"] > 0).map({True: "yes", False: "no"})))

    made = life.look()

    assert isinstance(made.decision, Withdraw), made.decision
    assert made.decision.finding == "not better"
    assert not next(v for v in made.verdicts if v.name == "canary_is_not_worse").passed
    assert life.project.champion() == (1, 1)
    assert life.pointed == (1, None)
    said = life.score(100)
    assert set(said["model_version"]) == {1}


def test_an_equal_canary_is_withdrawn_as_inconclusive_after_its_time(tmp_path: Path):
    life = begun(tmp_path, SEES_ALL, AS_GOOD)
    for days in (1, 4, 4.5):
        life.score(250)
        life.label()
        made = life.look(days)
        assert isinstance(made.decision, Wait), made.decision
    assert life.events[2:] == ["canary look", "canary look"]  # at 250 and 500 rows; 750 is none

    ended = life.look(1)

    assert isinstance(ended.decision, Withdraw)
    assert ended.decision.finding == "inconclusive"
    assert ended.decision.reason.startswith("Its time is over")
    assert life.pointed == (1, None)
    assert ended.canary is not None
    assert canary.withdrawn_before(life.round(), ended.canary["model_digest"])


@pytest.mark.slow
def test_it_is_withdrawn_after_its_time_when_no_label_ever_came(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL)
    life.score(100)

    ended = life.look(10)

    assert isinstance(ended.decision, Withdraw)
    assert "0 labelled rows came" in ended.decision.reason


def test_a_shadow_answers_nothing_is_compared_and_waits_for_approval(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL, promotion={"share": 0})
    said = life.score(500)
    assert set(said["model_version"]) == {1}
    with pytest.raises(PromotionRefused, match="no look at it was due"):
        approval(life.round(), 2, "seen")
    life.label()

    waits = life.look()

    assert isinstance(waits.decision, Wait)
    assert "somebody has to approve" in waits.decision.reason
    assert life.project.champion() == (1, 1)
    with pytest.raises(PromotionRefused, match="is not the canary; that is version 2"):
        approve_canary(life.round(), 1, "seen")
    with pytest.raises(PromotionRefused, match="--why"):
        approve_canary(life.round(), 2, " ")
    assert approval(life.round(), 2, "seen")["event"] == "promotion"
    assert life.pointed == (2, None)


# ------------------------------------------------------------------------------- beside other decisions


@pytest.mark.slow
def test_a_newer_challenger_waits_and_the_canary_itself_is_held(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_A)

    itself = life.decide(life.problem)
    newer = life.decide(canaried(SEES_ALL))

    assert "Version 2 is the canary already" in itself.reason
    assert "Version 3 waits: version 2 is the canary" in newer.reason
    assert life.pointed == (1, 2)
    withdraw(life.round(), "room for a better one")
    assert isinstance(life.decide(life.problem), Start)
    assert life.pointed == (1, 3)


@pytest.mark.slow
def test_a_rollback_ends_the_canary_in_the_same_entry(tmp_path: Path):
    """What it was compared with serves no more."""
    life = begun(tmp_path, SEES_B, SEES_A)
    life.score(500)
    life.label()
    assert isinstance(life.look().decision, Promote)
    assert isinstance(life.decide(canaried(SEES_ALL)), Start)
    assert life.pointed == (2, 3)

    roll_back(life.round(), None, "wrong prices")

    assert life.pointed == (1, None)
    assert load_sharing(life.problem, life.project.stores) is None
    assert life.look().decision is None
    assert isinstance(
        life.decide(life.problem), Start
    )  # beside another champion it is another question


def test_what_somebody_withdrew_stays_withdrawn(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL)
    with pytest.raises(PromotionRefused, match="--why"):
        withdraw(life.round(), "")

    entry = withdraw(life.round(), "its answers make no sense")

    assert (entry["event"], entry["actor"]) == ("canary withdrawn", "a tester")
    assert life.pointed == (1, None)
    held = life.decide(life.problem)
    assert "As a canary this model was withdrawn before: its answers make no sense" in held.reason
    with pytest.raises(PromotionRefused, match="has no canary"):
        withdraw(life.round(), "again")


@pytest.mark.slow
def test_a_canary_that_is_declared_no_more_is_ended_by_the_next_round(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL)
    automatic = life.problem.model_copy(
        update={"promotion": declared(promotion={"mode": "automatic"}).promotion}
    )
    assert load_sharing(automatic, life.project.stores) is None

    assert isinstance(life.decide(automatic), Promote)

    assert life.events[2:] == ["canary withdrawn", "promotion"]
    assert life.pointed == (2, None)


@pytest.mark.slow
def test_one_that_is_worse_on_test_never_starts(tmp_path: Path):
    project = Project(tmp_path)
    arrive(rows(), tmp_path / "landing" / "first.csv")
    life = Life(project, canaried(SEES_ALL))
    life.decide(life.problem)

    held = life.decide(canaried(SEES_B))

    assert isinstance(held, Hold)
    assert not isinstance(held, Start)
    assert life.pointed == (1, None)


@pytest.mark.slow
def test_a_run_that_only_compares_starts_no_canary(tmp_path: Path):
    project = Project(tmp_path)
    arrive(rows(), tmp_path / "landing" / "first.csv")
    life = Life(project, canaried(SEES_B))
    life.decide(life.problem)
    life.problem = canaried(SEES_ALL)
    round_ = life.round()
    project.candidates(round_)

    made = make_production(replace(round_, promotes=False, otherwise="seed=1"))

    assert isinstance(made.decision, Hold)
    assert "only compares" in made.decision.reason
    assert life.events[-1] == "hold"


# -------------------------------------------------------------------------------------------- laws


def test_gates_are_asked_again_before_a_canary_is_promoted(tmp_path: Path):
    """Law 1. Seen to fail when a canary was promoted by its live rows alone."""
    life = begun(tmp_path, SEES_B, SEES_ALL)
    life.score(500)
    life.label()
    life.problem = canaried(SEES_ALL, gates=[{"metric": "accuracy", "min": 0.99}])

    made = life.look()

    assert isinstance(made.decision, Withdraw)
    assert made.decision.finding == "unfit"
    assert "accuracy_reaches_floor" in made.decision.reason
    assert life.project.champion() == (1, 1)


def test_a_canary_that_was_tampered_with_answers_nothing_and_is_not_promoted(tmp_path: Path):
    """Laws 1 and 7. Seen to fail when the canary was loaded without its digest."""
    life = begun(tmp_path, SEES_B, SEES_ALL)
    folder = life.project.stores.registry.version("demo", 2).folder
    whole = (folder / "model.skops").read_bytes()
    other = life.project.stores.registry.version("demo", 1).folder / "model.skops"
    (folder / "model.skops").write_bytes(other.read_bytes())

    with pytest.raises(ModelRefused, match="not those that were recorded"):
        load_sharing(life.problem, life.project.stores)
    said = life.score(500)
    life.label()
    made = life.look()

    assert set(said["model_version"]) == {1}
    assert isinstance(made.decision, Wait)
    assert "not those that were recorded" in made.decision.reason
    assert not made.verdicts[0].passed
    (folder / "model.skops").write_bytes(whole)
    assert isinstance(life.look().decision, Promote)


@pytest.mark.slow
def test_a_model_that_does_not_verify_never_becomes_a_canary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = Project(tmp_path)
    arrive(rows(), tmp_path / "landing" / "first.csv")
    life = Life(project, canaried(SEES_B))
    life.decide(life.problem)

    def refuses(*_: Any) -> None:
        raise ModelRefused("it predicts otherwise")

    from ml_assets.round import production

    monkeypatch.setattr(production, "in_clean_process", refuses)
    with pytest.raises(ModelRefused, match="predicts otherwise"):
        life.decide(canaried(SEES_ALL))
    assert life.events == ["promotion"]


def test_rows_that_a_model_learned_from_do_not_judge(tmp_path: Path):
    """Seen to fail when every labelled row counted: train rows flatter whoever learned them."""
    life = begun(tmp_path, SEES_B, SEES_ALL)
    frame = rows()  # they are in the dataset already
    arrive(frame.drop(columns="y"), tmp_path / "inbox" / "known.csv")
    life.now += 5
    make_predictions(life.round())

    made = life.look()

    assert made.standing is not None
    assert made.standing.rows == 0


def test_rows_that_came_with_other_features_than_they_were_asked_with_do_not_judge(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL)
    life.score(500)

    def corrected(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(
            a=frame["a"].where(frame.index >= 100, 9.0), b=frame["b"].where(frame.index >= 100, 9.0)
        )

    life.label(corrected)
    made = life.look()

    assert made.standing is not None
    assert made.standing.rows == 400
    assert "100 rows came with other features" in made.verdicts[0].reason


def test_the_guard_of_the_aliases_puts_the_canary_back(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL)
    stores = life.project.stores
    stores.registry.point("demo", "canary", 1)

    entry = mend(stores, "demo", life.now)

    assert entry is not None
    assert (entry["alias"], entry["found"], entry["version"]) == ("canary", 1, 2)
    assert life.pointed == (1, 2)
    withdraw(life.round(), "enough")
    stores.registry.point("demo", "canary", 2)
    assert mend(stores, "demo", life.now) is not None
    assert life.pointed == (1, None)
    assert mend(stores, "demo", life.now) is None
    assert standing.canary(stores.ledger.entries("demo")) is None


# ------------------------------------------------------------------------------------- in Dagster


def _tick(life: Life, sensor: Any) -> Any:
    context = dg.build_sensor_context(instance=life.project.instance)
    return sensor(context)


def test_its_sensor_asks_for_a_look_when_labels_came_and_the_job_promotes(tmp_path: Path):
    life = begun(tmp_path, SEES_B, SEES_ALL, promotion={"longest": "360d"})
    project = life.project
    definitions = project.definitions(life.problem)
    sensor = definitions.resolve_sensor_def("demo_canary_is_due")
    job = definitions.resolve_job_def("demo_canary")
    life.now = time.time()
    life.score(500)
    asked = _tick(life, sensor)
    assert len(asked.run_requests) == 1
    project.here()
    assert job.execute_in_process(instance=project.instance).success
    assert "was looked at" in _tick(life, sensor).skip_reason.skip_message
    life.label()
    assert len(_tick(life, sensor).run_requests) == 1

    done = job.execute_in_process(instance=project.instance)

    assert done.success
    events = done.get_asset_materialization_events()
    shown = {e.asset_key.path[-1]: e.step_materialization_data.materialization for e in events}
    assert set(shown) == {"canary", "production_model"}
    assert shown["canary"].metadata["event"].value == "promotion"
    assert shown["canary"].metadata["labelled_rows"].value == 500
    assert project.champion() == (2, 2)
    assert "has no canary" in str(_tick(life, sensor))


@pytest.mark.parametrize("mode", ["automatic", "canary"])
def test_a_declaration_that_was_recorded_is_one(mode: str):
    """Seen to fail: a record names every field, a canary's too, and was refused for that."""
    problem = declared(promotion={"mode": mode})

    assert Problem(**problem.model_dump(mode="json")) == problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": {"key": None}}, "declares no `key`"),
        ({"promotion": {"mode": "automatic", "share": 0.2}}, "`share` is a canary's"),
        ({"promotion": {"mode": "canary", "share": 0.7}}, "less than or equal to 0.5"),
        ({"promotion": {"mode": "canary", "longest": "soon"}}, "is no duration"),
        ({"promotion": {"mode": "canray"}}, "Did you mean `canary`?"),
    ],
)
def test_terms_that_make_no_sense_are_refused(changes: dict[str, Any], words: str):
    with pytest.raises(ValidationError, match=re.escape(words)):
        declared(**{"promotion": {"mode": "canary"}, **changes})
