"""Left alone: runs wait for each other, a machine that stops loses none, and people are told once."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml_assets.resources.home import Home
from ml_assets.resources.ledger import Ledger
from ml_assets_tests.e2e.served import CHECKOUT, Served, descendants, free_port, served, wait_for
from ml_assets_tests.faults.laws import broken
from ml_assets_tests.problems import aged, arrive, rows
from ml_assets_tests.receivers import mail_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  task: binary
  dataset: {path: landing/*.csv, target: y, positive: "yes", key: id, contract: {min_rows: 100}}
  candidates: {ours: {estimator: .model.patient}}
  transform: none
  retrain: {on_new_data: false}
  alerts: {email: [team@example.com]}
"""
MODEL = """\
import os
import signal
import time
from pathlib import Path

from sklearn.linear_model import LogisticRegression


def patient():
    Path("begun").touch()
    while Path("wait").exists():
        time.sleep(0.1)
    if Path("kill").exists():
        Path("kill").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return LogisticRegression()
"""


def _ui(root: Path, mail: str) -> Any:
    port, mlflow_port = free_port(), free_port()
    words = ["ml-assets", "ui", "--port", str(port), "--mlflow-port", str(mlflow_port)]
    return served(root, words, port, mlflow_port, ML_ASSETS_SMTP=mail)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def _stop_the_machine(shown: Served) -> None:
    """It kills everything at once, as a power cut does."""
    for pid in descendants(shown.process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shown.process.wait()


def test_runs_take_turns_and_a_machine_that_stops_loses_none_and_tells_once(tmp_path: Path):
    """Seen to fail: with Dagster's defaults both runs go at once, and the killed one is "started"
    for ever."""
    root = tmp_path / "project"
    (root / "ml_assets" / "defs" / "demo").mkdir(parents=True)
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    (root / "ml_assets" / "defs" / "demo" / "defs.yaml").write_text(YAML)
    (root / "ml_assets" / "defs" / "demo" / "model.py").write_text(MODEL)
    frame = rows(400)
    arrive(
        pd.concat([frame, frame.head(3)]), root / "landing" / "1.csv"
    )  # some rows twice: a gate warns
    (root / "wait").touch()
    with mail_server() as mail:
        with _ui(root, mail.address) as shown:
            assert shown.ended(shown.launch("demo", "demo/dataset"))["status"] == "SUCCESS"
            wait_for("the mail", lambda: mail.messages, 90)
            first = shown.launch("demo")
            wait_for("the candidate's fit", (root / "begun").exists, 120)
            second = shown.launch("__ASSET_JOB", "demo/dataset")  # from the graph: no tag, no job
            time.sleep(12)
            assert shown.run(first)["status"] == "STARTED"
            assert shown.run(second)["status"] == "QUEUED"
            _stop_the_machine(shown)
        (root / "wait").unlink()
        aged(
            _written(root / "landing" / "2.csv", "id,a\n1,2\n3,4\n")
        )  # looked at after the restart
        (root / "kill").touch()  # the run that goes on is killed in its fit, and one more goes on
        with _ui(root, mail.address) as shown:
            assert shown.ended(first)["status"] == "FAILURE"
            assert shown.ended(second)["status"] == "SUCCESS"
            ledger = Ledger(Home(root, root / ".ml_assets").ledger)
            wait_for("the run that goes on", lambda: ledger.champion("demo"), 120)
            wait_for("the other mails", lambda: len(mail.messages) > 2, 90)
            time.sleep(35)  # one more tick of the sensor
    assert not (root / "kill").exists()
    first, *later = ((m["Subject"], m.get_content()) for m in mail.messages)
    assert first[0] == "[demo] gate failed: rows_are_unique"
    quarantined, changed = sorted(later)
    assert quarantined[0] == "[demo] batch quarantined: 2.csv"
    assert changed[0] == "[demo] champion changed: version 1"
    assert "There is no champion yet, and every gate holds." in changed[1]
    assert len(ledger.entries("demo")) == 1
    # its file holds some rows twice, on purpose: `ingested` asks of files that arrived
    assert [b for b in broken(root) if not b.startswith("ingested")] == []
