"""Many problems in one code location: time and memory to load them, and how fast the UI lists them.

    python benchmarks/many_problems.py [--problems 500] [--port 3070]

Each problem is a `defs.yaml` with four candidates, three gates and a landing zone; nothing is
fitted.  Loading is measured in fresh processes, with one problem and with all: the difference is
theirs.  Then Dagster's webserver is started on loopback and asked what its pages ask.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from importlib.metadata import version
from pathlib import Path

DECLARED = """\
type: ml_assets.components.MLProblem
attributes:
  name: NAME
  dataset: {path: "landing/NAME/*.csv", target: y, key: id, contract: {min_rows: 100}}
  candidates: {random_forest: {n_estimators: 50}, linear: {}, lightgbm: {}, extra_trees: {}}
  gates:
    - {metric: accuracy, min: 0.6}
    - {latency_ms: 100}
    - {beats: champion, confidence: 0.95}
"""
LOAD = """
import json, resource, time
import ml_assets.definitions as d
began, wall = time.process_time(), time.perf_counter()
made = d.build(d.tree())
made.get_repository_def()
used = time.process_time() - began, time.perf_counter() - wall
print(json.dumps([*used, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
ASKED = {
    "assets and checks, as the list of assets asks": "{assetNodes {id assetKey {path} groupName"
    " kinds isExecutable hasAssetChecks jobNames opNames description}}",
    "latest state of every asset": "{assetNodes {assetKey {path} assetMaterializations(limit: 1)"
    " {timestamp}}}",
    "jobs and sensors": "{repositoriesOrError {... on RepositoryConnection {nodes {jobs {name}"
    " sensors {name sensorState {status}}}}}}",
}


def declare(folder: Path, problems: int) -> dict[str, str]:
    """It writes the declarations, and returns the environment that finds them."""
    for i in range(problems):
        place = folder / "defs" / f"problem_{i:03}"
        place.mkdir(parents=True)
        (place / "defs.yaml").write_text(DECLARED.replace("NAME", place.name))
    (folder / "workspace.yaml").write_text("load_from: []\n")
    (folder / "pyproject.toml").write_text("[project]\nname = 'many'\nversion = '0'\n")
    (folder / "dagster").mkdir()
    (folder / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ML_ASSETS", "DAGSTER"))}
    places = {"ML_ASSETS_HOME": "home", "ML_ASSETS_DEFS": "defs", "DAGSTER_HOME": "dagster"}
    return kept | {k: str(folder / v) for k, v in places.items()}


def loaded(folder: Path, env: dict[str, str]) -> list[float]:
    """It returns CPU seconds, wall seconds and greatest memory (MiB) of loading all problems."""
    code = [sys.executable, "-W", "ignore", "-c", LOAD]
    done = subprocess.run(code, cwd=folder, env=env, check=True, capture_output=True, text=True)
    answer: list[float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def ask(port: int, question: str) -> tuple[float, int]:
    """It returns the wall seconds and the bytes of an answer."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql",
        json.dumps({"query": question}).encode(),
        {"Content-Type": "application/json"},
    )
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=120) as answer:
        text = answer.read()
    assert b'"errors"' not in text[:200], text[:500]
    return time.perf_counter() - began, len(text)


def served(folder: Path, env: dict[str, str], port: int) -> None:
    """It starts the webserver, asks, and prints the times."""
    web = [str(Path(sys.executable).parent / "dagster-webserver"), "-h", "127.0.0.1"]
    web += ["-p", str(port), "-m", "ml_assets.definitions"]
    with open(folder / "web.log", "w") as log:
        began = time.perf_counter()
        process = subprocess.Popen(web, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            while True:
                try:
                    ask(port, "{version}")
                    break
                except OSError:
                    if process.poll() is not None or time.perf_counter() - began > 300:
                        raise SystemExit((folder / "web.log").read_text()[-3000:]) from None
                    time.sleep(0.2)
            print(
                f"| the webserver answers after its start | {time.perf_counter() - began:.1f} s |"
            )
            for what, question in ASKED.items():
                times = [ask(port, question) for _ in range(4)]
                later = sorted(t for t, _ in times[1:])[1]
                size = times[0][1] / 1e6
                print(
                    f"| {what} ({size:.1f} MB): first, later | {times[0][0]:.2f} s, {later:.2f} s |"
                )
        finally:
            process.terminate()
            process.wait(30)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--problems", type=int, default=500)
    asked.add_argument("--port", type=int, default=3070)
    given = asked.parse_args()
    print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, dagster {version('dagster')}\n"
    )
    print(f"| {given.problems} problems | |\n|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        places = {}
        for name, problems in (("one", 1), ("all", given.problems)):
            places[name] = Path(temporary) / name, problems
            places[name][0].mkdir()
        envs = {name: declare(*place) for name, place in places.items()}
        found = {n: sorted(loaded(places[n][0], envs[n]) for _ in range(3))[1] for n in places}
        cpu, wall, memory = (a - b for a, b in zip(found["all"], found["one"], strict=True))
        each = given.problems - 1
        print(
            f"| to load, each: CPU, wall | {1000 * cpu / each:.1f} ms, {1000 * wall / each:.1f} ms |"
        )
        print(
            f"| memory, each; all with what is imported | {1024 * memory / each:.0f} KiB; ", end=""
        )
        print(f"{found['all'][2]:,.0f} MiB |", flush=True)
        served(places["all"][0], envs["all"], given.port)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"\nAll processes together: {children.ru_utime + children.ru_stime:.0f} CPU s.")


if __name__ == "__main__":
    main()
