"""What docker-compose.yaml starts, on a Docker engine, and the image that the written workflow builds.

By `scripts/compose`: it builds the image and takes ports 3000 and 5000 of loopback for some minutes.
"""

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from ml_assets import workflow
from ml_assets_tests import servers
from ml_assets_tests.e2e.served import CHECKOUT, Served, command, free_port, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(2400)]
NAME = "ml_assets_tried"  # nobody's own project: it is taken down with its volumes


class Deployed(Served):
    """The project of compose."""

    def compose(self, *words: str, check: bool = True) -> str:
        """It runs a command of `docker compose` and returns what it printed."""
        settings = ["--project-name", NAME, "--env-file", str(self.root / ".env")]
        done = subprocess.run(
            ["docker", "compose", *settings, *words],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0 or not check, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def told(self, *words: str) -> dict[str, Any]:
        """It returns what `ml-assets` answers in the code server's container, as it is for programs."""
        return json.loads(self.compose("exec", "-T", "code", "ml-assets", *words, "--json"))

    def version(self, problem: str) -> int | None:
        """It returns the version of a problem's champion; None while it has none or cannot be asked."""
        with contextlib.suppress(AssertionError, json.JSONDecodeError):
            champion = self.told("status", problem)["champion"]
            return champion["version"] if champion else None
        return None


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    _needs_an_engine()
    root: Path = tmp_path_factory.mktemp("deployed")
    example = (CHECKOUT / "deploy" / "example.env").read_text().splitlines()
    filled = [f"{line}{secrets.token_hex(16)}" if line.endswith("=") else line for line in example]
    descriptor = os.open(root / ".env", os.O_WRONLY | os.O_CREAT, 0o600)
    with open(descriptor, "w") as settings:
        settings.write("\n".join(filled) + "\n")
    shown = Deployed(root, "http://127.0.0.1:3000", "http://127.0.0.1:5000", None, root / "log")  # type: ignore[arg-type]
    try:
        shown.compose("up", "--build", "--detach", "--wait")
        yield shown
    finally:
        shown.compose("down", "--volumes", check=False)


def test_the_button_makes_a_champion(deployed: Deployed) -> None:
    """Seen to fail: the image had no boto3, and MLflow could not store a model."""
    assert deployed.ended(deployed.launch("wine"))["status"] == "SUCCESS"
    assert deployed.version("wine") == 1


def test_a_run_whose_container_is_killed_goes_on_in_the_next(deployed: Deployed) -> None:
    """Seen to fail: the code server goes by its service's name, and the run was "started" for ever."""
    run = deployed.launch("breast_cancer")
    wait_for("its first steps", lambda: deployed.run(run)["stats"]["stepsSucceeded"] > 1, 120)
    assert deployed.run(run)["status"] == "STARTED"
    deployed.compose("restart", "--timeout", "0", "code")

    assert deployed.ended(run)["status"] == "FAILURE"
    assert wait_for("a champion", lambda: deployed.version("breast_cancer"), 300) == 1


def test_what_was_decided_outlives_the_containers(deployed: Deployed) -> None:
    before = deployed.told("history", "wine")
    deployed.compose("down")
    deployed.compose("up", "--detach", "--wait")

    assert deployed.told("history", "wine") == before
    assert deployed.ended(deployed.launch("wine"))["status"] == "SUCCESS"
    assert deployed.version("wine") == 1


def test_the_image_of_the_workflow_serves_the_champion(tmp_path: Path) -> None:
    """Its block as it stands, without the registry of images: built of a checkout with a champion.

    Seen to fail: the checkout's .dockerignore left the champion out, MLflow knew its files by where
    they had been, and LightGBM missed a library.
    """
    _needs_an_engine()
    project, tag, token = tmp_path / "project", f"{NAME}:wine", secrets.token_hex(16)
    subprocess.run(["git", "clone", "--quiet", CHECKOUT, project], check=True)
    done = command(project, "ml-assets", "run", "wine")
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load(workflow.training("wine", "ml_assets/defs/wine"))["jobs"]["image"]
    block = "\n".join(
        line
        for line in job["steps"][-1]["run"].splitlines()
        if not line.startswith(("docker push", 'echo "$TOKEN"'))
    )
    built = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", block],
        cwd=project,
        env={**os.environ, "IMAGE": tag},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout[-3000:] + built.stderr[-3000:]
    port = free_port()
    served = ["run", "--detach", "--env", "TOKEN", "--publish", f"127.0.0.1:{port}:8000", tag]
    container = _docker(*served, TOKEN=token).strip()
    try:
        wait_for("the server", lambda: servers.answers(f"http://127.0.0.1:{port}/health"), 90)
        row = pd.read_csv(project / "ml_assets/defs/wine/landing/1.csv").iloc[0]
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict",
            json.dumps({"rows": [row.drop("cultivar").to_dict()]}).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {token}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert json.load(answer)["predictions"] == [row["cultivar"]]
        _docker("exec", container, "python", "-c", "import lightgbm, xgboost, catboost")
    finally:
        _docker("rm", "--force", container)
        _docker("rmi", "--force", tag)


def _docker(*words: str, **more: str) -> str:
    done = subprocess.run(
        ["docker", *words], env={**os.environ, **more}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _needs_an_engine() -> None:
    asked = ["docker", "info"]
    if not shutil.which("docker") or subprocess.run(asked, capture_output=True).returncode:
        pytest.skip("no Docker engine answers")
