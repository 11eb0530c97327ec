"""Plays three canaries on running servers, end to end, and kills what runs in mid-stream.

Three problems, each with a champion, a canary beside it, and `ml-assets serve`: one canary is truly
better, one becomes worse as the world turns round, one is as good.  Clients ask; a server is killed by
signal 9 while they do, and begun again.  Then labels arrive, `ml-assets ui` is started, and all of it
(webserver, daemon, MLflow's server, runs) is killed by signal 9 as soon as it has begun a run, and
started again.  What happens after that happens by itself, and is told as it happens.

python benchmarks/canary_served.py [FOLDER [FIRST_PORT]]
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ml_assets.resources.home import Home
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.prediction_log import read_predictions

CHECKOUT = Path(__file__).parents[1]
COMMANDS = Path(sys.executable).parent
SEES = {"all": "none", "a": ".model.sees_a", "b": ".model.sees_b"}
MODEL = """\
from sklearn.compose import ColumnTransformer


def sees_a():
    return ColumnTransformer([("seen", "passthrough", ["a"])])


def sees_b():
    return ColumnTransformer([("seen", "passthrough", ["b"])])
"""
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: {name}
  dataset: {{path: landing/{name}/*.csv, target: y, key: id, positive: "yes", settle: 1}}
  candidates: {{one: {{estimator: linear, transform: {sees}, params: {{C: {C}}}}}}}
  promotion: {{mode: canary, share: 0.3, min_rows: 200, longest: {longest}}}
"""
# champion sees, canary sees, the canary's C, how long it may take, the sign of b when labels come
PROBLEMS = {
    "better": ("b", "all", 1.0, "2h", 1),
    "worse": ("a", "all", 1.0, "2h", -1),
    "equal": ("all", "all", 0.02, "12m", 1),
}
ASKED, AT_ONCE = 600, 5
began = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - began:6.0f} s  {text}", flush=True)


def rows(count: int, seed: int, first: int, sign: int = 1) -> pd.DataFrame:
    """It draws rows whose target follows `a`, and `b` with a sign."""
    random = np.random.default_rng(seed)
    a, b, noise = random.normal(size=(3, count))
    y = np.where(a + sign * 0.7 * b + 0.6 * noise > 0, "yes", "no")
    return pd.DataFrame({"id": np.arange(first, first + count), "a": a, "b": b, "y": y})


def declare(root: Path, name: str, sees: str, C: float, longest: str) -> None:
    folder = root / "ml_assets" / "defs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL)
    given = {"name": name, "sees": SEES[sees], "C": C, "longest": longest}
    (folder / "defs.yaml").write_text(YAML.format(**given))


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ML_ASSETS_", "DAGSTER_"))}
    return {**kept, "PATH": f"{COMMANDS}{os.pathsep}{kept.get('PATH', '')}", "OMP_NUM_THREADS": "1"}


def run(root: Path, name: str) -> dict[str, Any]:
    words = [str(COMMANDS / "ml-assets"), "run", name, "--json"]
    done = subprocess.run(words, cwd=root, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@contextlib.contextmanager
def started(root: Path, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """It starts a command, and ends it and all that it started."""
    log = open(root / f"{words[0]}.log", "a")  # noqa: SIM115  it is the process's
    process = subprocess.Popen(
        [str(COMMANDS / "ml-assets"), *words],
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE if words[0] == "serve" else log,
        stderr=log,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        kill(process)


def kill(process: "subprocess.Popen[Any]") -> None:
    """It kills a process and all that it started, by signal 9."""
    family, waiting = [], [process.pid]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(c) for c in (task / "children").read_text().split()]
            family.append(one)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def serving(root: Path, name: str, port: int) -> Iterator["subprocess.Popen[str]"]:
    with started(root, "serve", name, "--port", str(port), "--json") as process:
        assert process.stdout is not None
        assert process.stdout.readline(), (root / "serve.log").read_text()[-2000:]
        yield process


def ask(port: int, given: pd.DataFrame) -> dict[str, Any]:
    body = json.dumps({"rows": given.drop(columns="y").to_dict("records")}).encode()
    kind = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body, kind)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def ready(port: int) -> dict[str, Any]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=60) as answer:
        return json.load(answer)


def streamed(root: Path, name: str, port: int, frame: pd.DataFrame, dies: bool) -> Counter[int]:
    """It asks about all rows, some at a time; if it dies, the server is killed in the middle."""
    answered: dict[str, int] = {}
    who: Counter[int] = Counter()
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(serving(root, name, port))
        for start in range(0, len(frame), AT_ONCE):
            if dies and start == len(frame) // 2:
                process.kill()
                say(f"{name}: the server was killed by signal 9 in mid-stream")
            few = frame.iloc[start : start + AT_ONCE]
            try:
                told = ask(port, few)
            except (urllib.error.URLError, OSError):
                process = stack.enter_context(serving(root, name, port))
                told = ask(port, few)
            versions = told.get("model_versions") or [told["model_version"]] * len(few)
            who.update(versions)
            answered |= {f"{told['id']}-{i}": v for i, v in enumerate(versions)}
        again = ask(port, frame.head(200))
        first = read_predictions(Home(root, root / ".ml_assets").lake, name)
        once = dict(zip(first["key"], first["model_version"], strict=True))
        assert again["model_versions"] == [once[k] for k in frame["id"].head(200)]  # sticky
    logged = read_predictions(Home(root, root / ".ml_assets").lake, name)
    known = dict(zip(logged["id"], logged["model_version"], strict=True))
    lost = [i for i, version in answered.items() if known.get(i) != version]
    assert not lost, lost[:5]
    say(f"{name}: {len(answered)} rows answered, all in the log with their version: {dict(who)}")
    return who


def entries(root: Path, name: str) -> list[dict[str, Any]]:
    return Ledger(root / ".ml_assets" / "ledger").entries(name)


def told(root: Path, seen: dict[str, int]) -> None:
    """It tells what the ledgers have that was not told yet."""
    for name in PROBLEMS:
        new = entries(root, name)[seen.get(name, 0) :]
        for e in new:
            say(f"{name}: {e['event']}, version {e['version']}: {e['reason']}")
        seen[name] = seen.get(name, 0) + len(new)


def decided(root: Path) -> dict[str, str]:
    """It returns what became of the first canary of each problem."""
    ends = {}
    for name in PROBLEMS:
        for e in entries(root, name):
            if "canary" in e and e["version"] == 2 and e["event"] != "canary look":
                ends[name] = f"{e['event']} {e.get('finding', '')}".strip()
    return ends


def runs(root: Path) -> int:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(root / ".ml_assets" / "dagster")) as instance:
        return instance.get_runs_count()


def wait(root: Path, seen: dict[str, int], until: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it took too long"
        time.sleep(2)
        told(root, seen)


def play(root: Path, port: int) -> None:
    for name in ("workspace.yaml", "dagster.yaml"):
        shutil.copy(CHECKOUT / name, root / name)
    seen: dict[str, int] = {}
    for i, (name, (champion, canary, C, longest, _)) in enumerate(PROBLEMS.items()):
        landing = root / "landing" / name
        landing.mkdir(parents=True)
        rows(2000, i, 0).to_csv(landing / "first.csv", index=False)
        declare(root, name, champion, 1.0, longest)
        time.sleep(2)
        run(root, name)
        declare(root, name, canary, C, longest)
        run(root, name)
        told(root, seen)
    live = {}
    for i, (name, (*_, sign)) in enumerate(PROBLEMS.items()):
        live[name] = rows(ASKED, 100 + i, 100_000, sign)
        streamed(root, name, port + i, live[name], dies=name == "better")
    with contextlib.ExitStack() as stack:
        for i, name in enumerate(PROBLEMS):
            stack.enter_context(serving(root, name, port + i))
        for name, frame in live.items():
            frame.to_csv(root / "landing" / name / "labels.csv", index=False)
        say("labels have arrived; `ml-assets ui` is started")
        words = ["ui", "--port", str(port + 10), "--mlflow-port", str(port + 11)]
        before = runs(root)
        with started(root, *words) as ui:
            wait(root, seen, lambda: runs(root) > before, 300)
            kill(ui)
            say("all of it was killed by signal 9 while a run had begun, and is started again")
        with started(root, *words):
            wait(root, seen, lambda: decided(root).keys() == PROBLEMS.keys(), 1500)
            for i, name in enumerate(PROBLEMS):
                champion = Ledger(root / ".ml_assets" / "ledger").champion(name)
                assert champion is not None
                wait(
                    root,
                    seen,
                    lambda p=port + i, v=champion: ready(p)["champion"] == v["version"],
                    60,
                )
                now = ready(port + i)
                say(
                    f"{name}: the server answers with version {now['model_version']}, canary {now['canary']}"
                )
    ends = decided(root)
    say(f"what became of them: {ends}")
    assert ends == {
        "better": "promotion",
        "worse": "canary withdrawn not better",
        "equal": "canary withdrawn inconclusive",
    }


def main(given: list[str]) -> None:
    port = int(given[1]) if len(given) > 1 else 41_200
    if given:
        Path(given[0]).mkdir(parents=True)
        play(Path(given[0]).resolve(), port)
        return
    with tempfile.TemporaryDirectory() as folder:
        play(Path(folder), port)


if __name__ == "__main__":
    main(sys.argv[1:])
