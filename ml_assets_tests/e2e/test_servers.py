"""Real servers, by configuration alone: PostgreSQL for Dagster and MLflow, S3, MLflow over HTTP."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ml_assets.errors import RegistryAway, is_transient
from ml_assets.resources.home import Home
from ml_assets.resources.instance import SETTINGS
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.registry import CHAMPION, Registry
from ml_assets.resources.stores import open_stores
from ml_assets_tests import servers
from ml_assets_tests.e2e.served import (
    CHECKOUT,
    Served,
    clean_environment,
    command,
    descendants,
    free_port,
    served,
    wait_for,
)
from ml_assets_tests.problems import arrive, rows

pytestmark = pytest.mark.slow
INSTANCE = CHECKOUT / "deploy" / "dagster.yaml"
NAMES = [f"shop_{i}" for i in range(8)]
BETTER = NAMES[1::2]  # what arrives makes a better candidate of these
SEEDS = {
    name: {4: 8}.get(i, i) for i, name in enumerate(NAMES)
}  # with 4, chance makes a better one
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: NAME
  task: binary
  dataset: {path: landing/NAME/*.csv, target: y, positive: "yes", key: id}
  candidates: {linear: {C: 1.0}}
  transform: none
"""
CHAMPIONS = """
import sys
from ml_assets.command import main
for name in sys.argv[1:]:
    try:
        main(["run", name])
    except SystemExit as ended:
        assert not ended.code, name
"""


@dataclass
class World:
    """A project whose state is kept by servers, but for lake and ledger."""

    root: Path
    postgres: servers.Postgres
    store: servers.ObjectStore
    mlflow: str

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are told."""
        return {
            "MLFLOW_TRACKING_URI": self.mlflow,
            "DAGSTER_POSTGRES_URL": self.postgres.url("dagster"),
        }

    def decisions(self, problem: str) -> list[dict[str, Any]]:
        """It returns what was decided of a problem."""
        entries = Ledger(Home(self.root, self.root / ".ml_assets").ledger).entries(problem)
        return [e for e in entries if e["event"] in ("promotion", "hold")]


def _first(name: str) -> pd.DataFrame:
    """It returns what a problem's first champion learns from: of every second one, next to nothing."""
    frame = rows(400, seed=SEEDS[name])
    if name in BETTER:
        frame["a"] = frame["a"].sample(frac=1, random_state=SEEDS[name]).to_numpy()
    return frame


def _more(name: str) -> pd.DataFrame:
    """It returns the rows that arrive: in BETTER `a` tells now, in the others all is as it was."""
    return rows(800 if name in BETTER else 200, seed=100 + SEEDS[name], first=400)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("servers") / "project"
    for name in NAMES:
        (root / "ml_assets" / "defs" / name).mkdir(parents=True)
        (root / "ml_assets" / "defs" / name / "defs.yaml").write_text(YAML.replace("NAME", name))
        arrive(_first(name), root / "landing" / name / "1.csv")
    shutil.copy(CHECKOUT / "workspace.yaml", root)
    (root / ".ml_assets" / "dagster").mkdir(parents=True)
    shutil.copy(INSTANCE, root / ".ml_assets" / "dagster")
    with servers.postgres() as postgres, servers.object_store() as store:
        artifacts = f"{store.bucket('models')}/mlflow"
        with servers.mlflow_server(postgres.url("mlflow"), artifacts, **store.environment) as url:
            yield World(root, postgres, store, url)


@pytest.fixture(scope="module")
def ui(world: World) -> Iterator[Served]:
    # a champion each, before: by the command, in one process
    done = subprocess.run(
        [sys.executable, "-c", CHAMPIONS, *NAMES],
        cwd=world.root,
        env=clean_environment(**world.environment),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    port = free_port()
    words = ["ml-assets", "ui", "--port", str(port), "--mlflow-port", "1"]
    with served(world.root, words, port, **world.environment) as shown:
        yield shown


def test_the_command_line_keeps_its_state_in_them(world: World) -> None:
    """Seen to fail while links went to a port of this machine, and while MLflow's own lines and bars
    came between ours."""
    first = command(world.root, "ml-assets", "run", NAMES[0], "--json", **world.environment)
    assert first.returncode == 0, first.stderr[-3000:]
    document = json.loads(first.stdout)
    assert document["decision"]["promoted"], document["decision"]
    assert "View run" not in first.stderr and "Downloading" not in first.stderr
    told = command(world.root, "ml-assets", "run", NAMES[0], **world.environment)
    assert "2 reused" in told.stdout, told.stdout + told.stderr
    assert f"{world.mlflow}/#/models/{NAMES[0]}" in told.stdout
    again = command(world.root, "ml-assets", "reproduce", NAMES[0], **world.environment)
    assert "are identical" in again.stdout, again.stdout + again.stderr
    # and it is there, and not here
    with urllib.request.urlopen(f"{world.store.address}/models?list-type=2") as listed:
        assert b"model.skops" in listed.read()
    assert not list((world.root / ".ml_assets").rglob("mlflow.db"))
    assert not list((world.root / ".ml_assets" / "dagster").rglob("*.db"))
    assert world.postgres.ask("dagster", "select count(*) from runs") == "2"


def test_the_pages_show_the_server_that_is_there_and_start_none(world: World, ui: Served) -> None:
    """Seen to fail: one that was started beside it found its port taken, and ended all with it."""
    family = [Path(f"/proc/{pid}/cmdline") for pid in descendants(ui.process.pid)]
    started = [p.read_bytes().replace(b"\0", b" ").decode() for p in family if p.exists()]
    assert any("dagster" in words for words in started)
    assert not [words for words in started if "mlflow" in words and "server" in words]
    assert f"MLflow: {world.mlflow} " in ui.log.read_text()
    assert "(Ctrl-C ends Dagster's)" in ui.log.read_text()


def test_eight_problems_are_retrained_at_once_and_none_is_lost(world: World, ui: Served) -> None:
    """A file arrives for each at the same moment: sensors, queue and daemon do the rest. Half of them
    get a better candidate by it. Seen to fail with a promotion that holds a better one."""
    before = {name: len(world.decisions(name)) for name in NAMES}
    runs = int(world.postgres.ask("dagster", "select count(*) from runs"))
    for name in NAMES:
        arrive(_more(name), world.root / "landing" / name / "2.csv")

    def all_decided() -> bool:
        red = "select count(*) from runs where status in ('FAILURE', 'CANCELED')"
        assert world.postgres.ask("dagster", red) == "0", ui.log.read_text()[-5000:]
        return all(len(world.decisions(n)) > before[n] for n in NAMES)

    wait_for("a decision for each", all_decided, 400)
    wait_for("the end of all runs", lambda: not _going_on(world), 120)
    ended = "select status, count(*) from runs group by status"
    assert world.postgres.ask("dagster", ended) == f"SUCCESS|{runs + len(NAMES)}"
    decided = {name: world.decisions(name)[before[name] :] for name in NAMES}
    assert {name: [e["event"] for e in made] for name, made in decided.items()} == {
        name: ["promotion" if name in BETTER else "hold"] for name in NAMES
    }
    registry = Registry(world.mlflow, world.root)
    for name, (last,) in decided.items():
        first = next(e for e in world.decisions(name) if e["event"] == "promotion")
        champion = last if name in BETTER else first
        assert registry.pointed(name, CHAMPION) == champion["version"]
        assert last["version"] != first["version"]  # both were judged against each other
        assert len({e["run_id"] for e in (first, last)}) == 2


def _going_on(world: World) -> bool:
    asked = "select count(*) from runs where status not in ('SUCCESS', 'FAILURE', 'CANCELED')"
    return world.postgres.ask("dagster", asked) != "0"


def test_a_server_that_is_away_is_no_answer(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail while no answer was taken for `there is no such alias`: a guard then wrote into the
    ledger that somebody had moved it."""
    there = Registry(world.mlflow, tmp_path)
    assert there.pointed("nobody", CHAMPION) is None
    assert not there.has_run("0" * 32)
    port = free_port()
    told = f"http://somebody:se%40cret@127.0.0.1:{port}"
    for name in ("URI", "USERNAME", "PASSWORD"):  # given back afterwards
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", told if name == "URI" else "")
    away = open_stores(Home(tmp_path, tmp_path)).registry
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "se@cret"
    assert away.uri == away.ui == os.environ["MLFLOW_TRACKING_URI"] == f"http://127.0.0.1:{port}"
    for ask in (
        lambda: away.pointed(NAMES[0], CHAMPION),
        lambda: away.has_run("0" * 32),
        lambda: away.version(NAMES[0], 1),
    ):
        with pytest.raises(RegistryAway) as raised:
            ask()
        assert is_transient(raised.value)
        assert "cret" not in str(raised.value)


def test_the_instance_is_ours_with_another_storage() -> None:
    given, own = yaml.safe_load(INSTANCE.read_text()), yaml.safe_load(SETTINGS)
    assert {k: v for k, v in given.items() if k != "storage"} == own
