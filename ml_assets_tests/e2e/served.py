"""A project in a folder, its commands as processes, and its user interface, always ended."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
COMMANDS = Path(sys.executable).parent
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


def clean_environment(**more: str) -> dict[str, str]:
    """It returns the environment of a user who has configured nothing."""
    ours = ("ML_ASSETS_", "DAGSTER_", "MLFLOW_", "PYTEST_", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    path = f"{COMMANDS}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **more}


def make_project(root: Path, problem: str, whole: bool = False) -> Path:
    """It makes a project with one shipped problem: only its declaration, or a copy of the checkout."""
    root.mkdir(parents=True)
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    unwanted = shutil.ignore_patterns("__pycache__", *(["defs"] if whole else []))
    if whole:
        shutil.copy(CHECKOUT / "pyproject.toml", root)
        shutil.copytree(CHECKOUT / "ml_assets", root / "ml_assets", ignore=unwanted)
        (root / "ml_assets" / "defs").mkdir()
        shutil.copy(CHECKOUT / "ml_assets" / "defs" / "__init__.py", root / "ml_assets" / "defs")
    home = Path("ml_assets") / "defs" / problem
    shutil.copytree(CHECKOUT / home, root / home, ignore=unwanted)
    return root


def command(root: Path, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """It runs a command in a project and returns how that ended."""
    program = [str(COMMANDS / words[0]), *words[1:]]
    return subprocess.run(
        program,
        cwd=root,
        env=clean_environment(**more),
        capture_output=True,
        text=True,
        timeout=240,
    )


def free_port() -> int:
    """It returns a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(what: str, found: Callable[[], Any], seconds: float) -> Any:
    """It asks until there is an answer that is not empty."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.5)
    raise AssertionError(f"{what}: not within {seconds:g} s")


@dataclass
class Served:
    """Dagster's user interface of a project, as a group of processes."""

    root: Path
    address: str
    mlflow: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def page(self, path: str) -> str:
        """It returns the address of a page."""
        return f"{self.address}/{path.lstrip('/')}"

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """It asks Dagster's GraphQL."""
        request = urllib.request.Request(
            f"{self.address}/graphql",
            json.dumps({"query": query, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            document = json.load(answer)
        assert "errors" not in document, document["errors"]
        return document["data"]

    def locations(self) -> list[dict[str, Any]] | None:
        """It returns the code locations once all are loaded, or None."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        with contextlib.suppress(OSError):
            entries = self.ask(
                """{workspaceOrError {... on Workspace {locationEntries {name loadStatus
                locationOrLoadError {__typename ... on PythonError {message stack}}}}}}"""
            )["workspaceOrError"]["locationEntries"]
            if entries and all(e["loadStatus"] == "LOADED" for e in entries):
                return entries
        return None

    def launch(self, job: str, *only: str) -> str:
        """It launches a job, or only some of its assets, as the button in the UI does."""
        selector: dict[str, Any] = {
            "repositoryLocationName": "ml_assets",
            "repositoryName": "__repository__",
            "jobName": job,
        }
        if only:
            selector["assetSelection"] = [{"path": path.split("/")} for path in only]
        launched = self.ask(
            """mutation($given: ExecutionParams!) {launchPipelineExecution(executionParams: $given)
            {__typename ... on LaunchRunSuccess {run {runId}} ... on Error {message}}}""",
            given={"selector": selector, "runConfigData": "{}", "mode": "default"},
        )["launchPipelineExecution"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        return launched["run"]["runId"]

    def run(self, run_id: str) -> dict[str, Any]:
        """It returns what is known of a run."""
        return self.ask(
            """query($id: ID!) {runOrError(runId: $id) {... on Run {status stats {... on
            RunStatsSnapshot {stepsSucceeded stepsFailed materializations}}}}}""",
            id=run_id,
        )["runOrError"]

    def ended(self, run_id: str) -> dict[str, Any]:
        """It waits for the end of a run and returns what is known of it."""

        def over() -> dict[str, Any] | None:
            seen = self.run(run_id)
            return seen if seen["status"] in ENDED else None

        return wait_for(f"the end of run {run_id}", over, 400)


@contextlib.contextmanager
def served(
    root: Path, words: list[str], port: int, mlflow_port: int = 0, **more: str
) -> Iterator[Served]:
    """It starts a user interface, waits until its code is loaded, and ends all it started."""
    log = root / "served.log"
    with open(log, "wb") as written:
        process = subprocess.Popen(
            [str(COMMANDS / words[0]), *words[1:]],
            cwd=root,
            env=clean_environment(**more),
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    shown = Served(
        root, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{mlflow_port}", process, log
    )
    family: dict[int, str] = {}
    try:
        entries = wait_for("the code location", shown.locations, 240)
        kinds = {e["name"]: e["locationOrLoadError"] for e in entries}
        assert all(k["__typename"] == "RepositoryLocation" for k in kinds.values()), kinds
        yield shown
    finally:
        family = descendants(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=40)
        for pid in alive(family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if process.poll() is None:
            process.kill()
            process.wait()


def descendants(pid: int) -> dict[int, str]:
    """It returns a process and all that it started, each with its time of birth."""
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            born = _birth(one)
            if born is not None:
                found[one] = born
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(c) for c in (task / "children").read_text().split()]
    return found


def alive(family: dict[int, str]) -> list[int]:
    """It returns those that still run; a number that was given away again is somebody else."""
    return [pid for pid, born in family.items() if _birth(pid) == born]


def _birth(pid: int) -> str | None:
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state == "Z" else rest[18]
