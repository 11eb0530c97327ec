"""Two machines that share no disk: one history, one lake, one champion, by configuration alone."""

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml_assets_tests import servers
from ml_assets_tests.e2e.served import CHECKOUT, clean_environment, free_port
from ml_assets_tests.problems import MODEL, arrive, rows

pytestmark = pytest.mark.slow
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: shop
  task: binary
  dataset: {path: data.csv, target: y, positive: "yes", key: id}
  transform: none
  candidates: {CANDIDATE}
  gates: [{beats: champion, confidence: 0.5}]
"""
WEAK = "weak: {estimator: linear, transform: .model.sees_b}"
# imported once: each line of commands is answered with what they wrote, and their exit status
MACHINE = """
import contextlib, io, json, sys
sys.path.remove("")
from ml_assets.command import main
for line in sys.stdin:
    status, out, answers = 0, io.StringIO(), sys.stdout
    with contextlib.redirect_stdout(out):
        try:
            main(json.loads(line))
        except SystemExit as ended:
            status = ended.code or 0
    print(json.dumps([status, out.getvalue()]), file=answers, flush=True)
"""


@dataclass
class Machine:
    """A machine's commands, in one process with a home of its own."""

    home: Path
    process: "subprocess.Popen[str]"

    def asked(self, *words: str) -> tuple[int, str]:
        """It returns the exit status of a command and what it wrote."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, (self.home / "log").read_text()[-4000:]
        status, out = json.loads(line)
        return status, out

    def told(self, *words: str) -> Any:
        """It returns the document of a command that succeeds."""
        status, out = self.asked(*words, "--json")
        assert status == 0, (words, out, (self.home / "log").read_text()[-4000:])
        return json.loads(out)


@contextlib.contextmanager
def machine(root: Path, home: Path, **environment: str) -> Iterator[Machine]:
    home.mkdir()
    env = clean_environment(**environment, ML_ASSETS_HOME=str(home), OMP_NUM_THREADS="1")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with open(home / "log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", MACHINE], cwd=root, env=env, stderr=log, **pipes
        )
        try:
            yield Machine(home, process)
        finally:
            process.kill()
            process.communicate()


def test_two_machines_without_a_common_disk_have_one_history(tmp_path: Path) -> None:
    root, defs = tmp_path / "project", tmp_path / "project" / "ml_assets" / "defs" / "shop"
    defs.mkdir(parents=True)
    shutil.copy(CHECKOUT / "workspace.yaml", root)
    (defs / "model.py").write_text(MODEL)
    (defs / "defs.yaml").write_text(YAML.replace("CANDIDATE", WEAK))
    frame = rows(600)
    arrive(frame, root / "data.csv")
    asked = arrive(frame.drop(columns="y").head(50), root / "asked.csv")
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(servers.postgres())
        store = stack.enter_context(servers.object_store())
        port = free_port()
        told = {
            "ML_ASSETS_DATABASE_URL": database.url("shared"),
            "ML_ASSETS_LAKE": f"{store.bucket('lake')}/team",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
            **store.environment,
        }
        one, two = (stack.enter_context(machine(root, tmp_path / n, **told)) for n in ("m1", "m2"))
        known = database.url("mlflow"), f"{store.bucket('models')}/mlflow"
        stack.enter_context(servers.mlflow_server(*known, port=port, **store.environment))

        first = one.told("run", "shop")
        assert first["decision"]["promoted"], first["decision"]

        # the other one has no file of it, and knows all of it
        assert not (two.home / "lake").exists()
        assert two.told("status", "shop")["champion"] == one.told("status", "shop")["champion"]
        history = two.told("history", "shop")
        assert history == one.told("history", "shop")
        same = two.told("run", "shop")
        assert not any(c["fitted"] for c in same["candidates"].values()), same["candidates"]
        assert same["dataset"]["version"] == first["dataset"]["version"]
        assert same["champion"] == first["champion"]
        said = []
        for who in (one, two):
            output = who.home / "said.csv"
            who.told("predict", "shop", "--input", str(asked), "--output", str(output))
            said.append(pd.read_csv(output).drop(columns="scored_at"))
        pd.testing.assert_frame_equal(*said)
        assert two.told("reproduce", "shop")["same"]

        # a better one is there to be found, by both at once
        (defs / "defs.yaml").write_text(YAML.replace("CANDIDATE", "all: {estimator: linear}"))
        with ThreadPoolExecutor() as both:
            ended = list(both.map(lambda each: each.told("run", "shop"), (one, two)))
        assert sorted(d["decision"]["promoted"] for d in ended) == [False, True], ended
        assert sorted(d["candidates"]["all"]["fitted"] for d in ended) == [False, True], ended
        assert ended[0]["champion"] == ended[1]["champion"] != first["champion"]
        told_by = [each.told("history", "shop") for each in (one, two)]
        assert told_by[0] == told_by[1]
        events = [(e["number"], e["event"]) for e in told_by[0]["entries"]]
        assert events == [(1, "promotion"), (2, "hold"), (3, "promotion"), (4, "hold")]

        # what can be made again goes for both
        assert {"candidate", "split"} <= one.told("clean", "shop")["removed"].keys()
        assert one.told("clean", "shop")["files"] == 0
        dataset = two.told("status", "shop")["dataset"]
        assert dataset == one.told("status", "shop")["dataset"] and dataset
    assert not list(tmp_path.glob("m?/ledger/*"))
    assert not list(tmp_path.glob("m?/lake/*/keys"))
