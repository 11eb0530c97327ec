"""A run started by the button of the UI against the same run by the command line, in turn.

    python benchmarks/from_ui.py [--rounds 4] [--port 3071]

Equal problems of 2,000 rows and three candidates, in one code location with `ml-assets ui` running:
one is brought to production by `ml-assets run`, the next by the mutation that the button sends; then
all of them once more, with nothing changed.  Wall seconds: of the command's whole process, and from
before the mutation until the run is seen to have succeeded.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path
from typing import Any

DECLARED = """\
type: ml_assets.components.MLProblem
attributes:
  name: NAME
  task: binary
  dataset: {path: data.csv, target: target}
  candidates: {linear: {}, hist_gradient_boosting: {}, random_forest: {}}
  gates: [{metric: accuracy, min: 0.6}]
  retrain: {on_new_data: false}
"""
LAUNCH = """mutation($given: ExecutionParams!) {launchPipelineExecution(executionParams: $given)
    {__typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
STATUS = "query($id: ID!) {runOrError(runId: $id) {... on Run {status}}}"
COMMANDS = Path(sys.executable).parent


def declare(folder: Path, problems: list[str]) -> None:
    """It makes a project of these problems."""
    from sklearn.datasets import make_classification

    rows, target = make_classification(2_000, 20, n_informative=10, random_state=7)
    lines = [",".join([*(f"f{i}" for i in range(20)), "target"])]
    lines += [
        ",".join([*(f"{v:.6f}" for v in row), str(y)]) for row, y in zip(rows, target, strict=True)
    ]
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    for name in problems:
        place = folder / "ml_assets" / "defs" / name
        place.mkdir(parents=True)
        (place / "defs.yaml").write_text(DECLARED.replace("NAME", name))
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(Path(__file__).parents[1] / name, folder)


def ask(port: int, question: str, **variables: Any) -> dict[str, Any]:
    """It asks Dagster's GraphQL."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": question, "variables": variables}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        told: dict[str, Any] = json.load(answer)["data"]
    return told


def by_command(folder: Path, env: dict[str, str], name: str) -> float:
    """It returns the wall seconds of `ml-assets run`."""
    began = time.perf_counter()
    words = [str(COMMANDS / "ml-assets"), "run", name]
    subprocess.run(words, cwd=folder, env=env, check=True, capture_output=True)
    return time.perf_counter() - began


def by_button(port: int, name: str) -> float:
    """It returns the wall seconds from pressing the button to success."""
    began = time.perf_counter()
    place = {"repositoryLocationName": "ml_assets", "repositoryName": "__repository__"}
    given = {"selector": {**place, "jobName": name}, "runConfigData": "{}", "mode": "default"}
    launched = ask(port, LAUNCH, given=given)["launchPipelineExecution"]
    if launched["__typename"] != "LaunchRunSuccess":
        raise SystemExit(launched)
    while True:
        status = ask(port, STATUS, id=launched["run"]["runId"])["runOrError"]["status"]
        if status == "SUCCESS":
            return time.perf_counter() - began
        if status in ("FAILURE", "CANCELED"):
            raise SystemExit(f"{name}: {status}")
        time.sleep(0.1)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--rounds", type=int, default=4)
    asked.add_argument("--port", type=int, default=3071)
    given = asked.parse_args()
    names = [f"p{i}" for i in range(2 * given.rounds + 1)]  # the first one makes the stores
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ML_ASSETS", "DAGSTER"))}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        declare(folder, names)
        by_command(folder, kept, names[0])
        words = [str(COMMANDS / "ml-assets"), "ui", "--port", str(given.port)]
        words += ["--mlflow-port", str(given.port + 1)]
        with open(folder / "ui.log", "w") as log:
            ui = subprocess.Popen(words, cwd=folder, env=kept, stdout=log, stderr=log)
            try:
                _wait_for(given.port)
                print(f"{os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
                print(f"dagster {version('dagster')}; medians of {given.rounds}, in turn\n")
                print("| what | `ml-assets run`, s | the button, s | more, s |\n|---|---|---|---|")
                for what in ("first run", "nothing changed"):
                    commands, buttons = [], []
                    for i in range(given.rounds):
                        commands.append(by_command(folder, kept, names[2 * i + 1]))
                        buttons.append(by_button(given.port, names[2 * i + 2]))
                    a, b = statistics.median(commands), statistics.median(buttons)
                    print(f"| {what} | {a:.2f} | {b:.2f} | {b - a:+.2f} |", flush=True)
            finally:
                ui.terminate()
                ui.wait(60)


def _wait_for(port: int) -> None:
    question = "{workspaceOrError {... on Workspace {locationEntries {loadStatus}}}}"
    end = time.monotonic() + 240
    while time.monotonic() < end:
        try:
            entries = ask(port, question)["workspaceOrError"]["locationEntries"]
        except OSError:
            entries = []
        if entries and all(e["loadStatus"] == "LOADED" for e in entries):
            time.sleep(15)  # until its daemon has begun, and all that starts has started
            return
        time.sleep(0.5)
    raise SystemExit("the UI did not start")


if __name__ == "__main__":
    main()
