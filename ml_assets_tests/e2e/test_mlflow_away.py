"""MLflow's server is killed while one of ours answers requests: nobody who asks notices."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ml_assets.resources.home import Home
from ml_assets.resources.ledger import ROLLBACK, Ledger
from ml_assets.resources.prediction_log import read_predictions
from ml_assets_tests import servers
from ml_assets_tests.e2e.served import clean_environment, command, free_port, wait_for
from ml_assets_tests.problems import MODEL, arrive, rows
from ml_assets_tests.serving.test_server import Clients, Server

pytestmark = pytest.mark.slow
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  dataset: {path: data.csv, target: y, key: id, positive: "yes"}
  transform: none
  candidates:
"""
# two champions, in one process: each import of it all takes seconds
CHAMPIONS = """
import sys
from pathlib import Path
from ml_assets.command import main
for candidate in ("    one: {estimator: linear, transform: .model.sees_b}", "    all: {estimator: linear}"):
    Path("problems/demo/defs.yaml").write_text(Path("head.yaml").read_text() + candidate)
    try:
        main(["run", "demo"])
    except SystemExit as ended:
        assert not ended.code
"""


@dataclass
class World:
    """A project whose runs and versions are kept by an MLflow server, which comes and goes."""

    root: Path
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What its processes are told."""
        there = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{self.port}"}
        return there | {"ML_ASSETS_DEFS": str(self.root / "problems")}

    @property
    def ledger(self) -> Ledger:
        return Ledger(Home(self.root, self.root / ".ml_assets").ledger)

    @contextlib.contextmanager
    def mlflow(self) -> Iterator[None]:
        """It starts MLflow's server, and kills it."""
        database = f"sqlite:///{self.root / 'server.db'}"
        artifacts = str(self.root / "artifacts")
        with servers.mlflow_server(database, artifacts, port=self.port, end=signal.SIGKILL):
            yield

    @contextlib.contextmanager
    def serving(self) -> Iterator[Server]:
        """It serves the champion, in a process of its own."""
        words = [sys.executable, "-m", "ml_assets.command", "serve", "demo", "--port", "0"]
        process = subprocess.Popen(
            [*words, "--json"],
            cwd=self.root,
            env=clean_environment(**self.environment),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            server = Server(process, int(told["address"].rsplit(":", 1)[1]), told["version"])
            wait_for("the server", lambda: server.ask("/health")[0] == 200, 30)
            yield server
        finally:
            process.kill()
            process.communicate(timeout=30)

    def moves(self, to: int) -> None:
        """It writes a rollback into the ledger, as one that MLflow was killed behind leaves it."""
        before = self.ledger.champion("demo")
        made = next(e for e in self.ledger.entries("demo") if e.get("version") == to)
        assert before is not None
        with self.ledger.deciding("demo") as deciding:
            entry = {**made, "event": ROLLBACK, "at": time.time(), "reason": "a test"}
            for own in ("number", "before"):
                entry.pop(own, None)
            about = {"previous": before["version"], "withdrawn": before["model_digest"]}
            deciding.append({**entry, **about})


@pytest.fixture
def world(tmp_path: Path) -> World:
    root = tmp_path / "project"
    (root / "problems" / "demo").mkdir(parents=True)
    (root / "workspace.yaml").touch()
    (root / "head.yaml").write_text(YAML)
    (root / "problems" / "demo" / "model.py").write_text(MODEL)
    arrive(rows(), root / "data.csv")
    return World(root, free_port())


def test_mlflow_is_killed_in_mid_stream_and_nobody_who_asks_notices(world: World) -> None:
    """Seen to fail while MLflow's client asked again for minutes: until then `/ready` said nothing of
    it, and the champion took over minutes after MLflow was back."""
    with contextlib.ExitStack() as stack:
        with world.mlflow():
            words = [sys.executable, "-c", CHAMPIONS]
            told = clean_environment(**world.environment)
            done = subprocess.run(words, cwd=world.root, env=told, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            server = stack.enter_context(world.serving())
            clients = stack.enter_context(Clients(server.port).at_work(8))
            wait_for("some answers", lambda: len(clients.answered) > 50, 20)

        def ready(*names: str) -> Any:
            status, said = server.ask("/ready")
            assert (status, said["ready"]) == (200, True)
            return tuple(said[n] for n in names)

        # nothing moved: who answers is who should
        assert ready("model_version", "champion", "stale") == (2, 2, False)
        heard = len(clients.answered)
        wait_for("answers without MLflow", lambda: len(clients.answered) > heard + 50, 20)

        world.moves(1)
        wait_for("a word about it", lambda: ready("stale") == (True,), 15)
        assert ready("model_version", "champion") == (2, 1)
        assert "MLflow gave no answer" in ready("trouble")[0]
        assert 'ml_assets_stale{problem="demo"} 1' in server.ask("/metrics")[1]

        with world.mlflow():
            wait_for("version 1", lambda: ready("model_version") == (1,), 25)
            assert ready("stale", "trouble") == (False, None)
            back = ("rollback", "demo", "--to", "2", "--why", "back")
            done = command(world.root, "ml-assets", *back, **world.environment)
            assert done.returncode == 0, done.stderr
            wait_for("version 2", lambda: ready("model_version") == (2,), 15)
        clients.stopping.set()
    assert clients.failed == []
    assert {v for _, v in clients.answered} == {1, 2}
    logged = read_predictions(world.root / ".ml_assets" / "lake", "demo")
    assert len(logged) >= len(clients.answered)
    assert {f"{name}-0" for name, _ in clients.answered} <= set(logged["id"])
