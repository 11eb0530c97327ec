"""How long a served prediction takes, beside the same model in process and in `mlflow models serve`.

    python benchmarks/serving.py FOLDER [--candidate NAME] [--seconds 10] [--clients 32]
        [--only-load | --only-compare]

It declares a problem of 12 columns (9 numbers, 3 texts) in FOLDER, brings two versions to production,
and asks one row, and 1,000 rows, in an order drawn anew each time: in this process, of `ml-assets serve`, and
of `mlflow models serve`, so that what else the machine does meets all three alike; one row also again and again of each,
as a client asks that has a server to itself.  Then many clients ask at once while the champion is moved.  Every process predicts with one thread.  CPU times are those of the process that
answers, all threads: on a shared machine they say more than wall times.
"""

import argparse
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
import pyarrow as pa

YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: served
  dataset: {path: data.csv, target: y, key: id}
  candidates:
    CANDIDATE
"""
ROUNDS, LARGE_ROUNDS, LARGE = 300, 20, 1000
ARROW = "application/vnd.apache.arrow.stream"


def table(count: int, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame({f"n{i}": random.normal(size=count) for i in range(9)})
    for name, words in (("city", 6), ("plan", 4), ("channel", 3)):
        rows[name] = [f"{name} {i}" for i in random.integers(0, words, count)]
    signal_ = rows["n0"] + rows["n1"] * rows["n2"] + (rows["plan"] == "plan 1")
    rows["y"] = np.where(signal_ + random.normal(scale=0.5, size=count) > 0.3, "yes", "no")
    return rows.assign(id=np.arange(count))


def ml_assets(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "ml_assets.command", *words]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


def prepare(folder: Path, candidate: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "workspace.yaml").touch()
    declared = folder / "problems" / "served" / "defs.yaml"
    declared.parent.mkdir(parents=True, exist_ok=True)
    table(20_000).to_csv(folder / "data.csv", index=False)
    os.environ["ML_ASSETS_DEFS"] = str(folder / "problems")
    for one in ("linear", candidate):
        declared.write_text(YAML.replace("CANDIDATE", f"{one}: {{}}"))
        ml_assets(folder, "run", "served")


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def started(folder: Path, command: list[str], port: int, log: str) -> Iterator[int]:
    with open(folder / log, "w") as out:
        # MLflow's own server does not load even a skops file with the settings that we load with
        env = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True
        )
    try:
        for _ in range(240):
            if process.poll() is not None:
                raise SystemExit(f"{command[:6]} ended; see {folder / log}")
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/ping")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.5)
        else:
            raise SystemExit(f"{command}: it does not answer; see {folder / log}")
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def asker(port: int, path: str, body: bytes, kind: str = "application/json") -> Callable[[], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask() -> bytes:
        try:
            connection.request("POST", path, body, {"content-type": kind})
        except OSError:  # MLflow's server hangs up on who has asked nothing for five seconds
            connection.close()
            connection.request("POST", path, body, {"content-type": kind})
        answer = connection.getresponse()
        told = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {told[:300]!r}")
        return told

    return ask


def cpu_ms(session: int) -> float:
    """CPU time of all threads of all processes of a session."""
    total = 0.0
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((process / "stat").read_text().rsplit(")", 1)[1].split()[3]) == session:
                threads = (process / "task").glob("*/schedstat")
                total += sum(int(t.read_text().split()[0]) for t in threads) / 1e6
    return total


def one_after_another(asked: dict[str, Callable[[], object]], seconds: float = 8.0) -> None:
    """It prints the wall times of each, asked for so long with nothing in between."""
    print("\n| one row, one after another | p50 ms | p99 ms | asked |\n|---|---|---|---|")
    for name, one in asked.items():
        took, end = [], time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            one()
            took.append((time.perf_counter() - began) * 1000)
        told = np.median(took), np.quantile(took, 0.99)
        print(f"| {name} | {told[0]:.2f} | {told[1]:.2f} | {len(took):,} |", flush=True)


def in_turn(
    asked: dict[str, Callable[[], object]], rounds: int, servers: dict[str, int]
) -> dict[str, tuple[np.ndarray, float]]:
    """Wall times of each in ms, and the CPU ms that one takes where it is answered."""
    took: dict[str, list[float]] = {name: [] for name in asked}
    cpu = dict.fromkeys(asked, 0.0)
    for one in asked.values():
        one()
        one()
    random = np.random.default_rng(0)
    for _ in range(rounds):
        # in another order each time: whoever follows a long prediction finds the caches cold
        for name in random.permutation(list(asked)):
            one = asked[name]
            session = servers.get(name)
            before = cpu_ms(session) if session else time.thread_time() * 1000
            began = time.perf_counter()
            one()
            took[name].append((time.perf_counter() - began) * 1000)
            cpu[name] += (cpu_ms(session) if session else time.thread_time() * 1000) - before
    return {name: (np.array(t), cpu[name] / rounds) for name, t in took.items()}


def compare(port: int, other: int, scorer: object, pids: tuple[int, int]) -> None:
    rows = table(LARGE, seed=1).drop(columns=["y", "id"])
    model = scorer.model  # type: ignore[attr-defined]
    ours = ("/predict", "/invocations", "JSON", "Arrow")
    servers = {f"`ml-assets serve`, {way}": pids[0] for way in ours}
    servers |= {f"`mlflow models serve`{way}": pids[1] for way in ("", ", JSON")}

    def split(few: pd.DataFrame) -> bytes:
        return json.dumps({"dataframe_split": few.to_dict("split", index=False)}).encode()

    def records(few: pd.DataFrame) -> bytes:
        return json.dumps({"rows": few.to_dict("records")}).encode()

    one = rows.head(1)
    of_one: dict[str, Callable[[], object]] = {
        "in process: `Pipeline.predict`": lambda: model.predict(one),
        "in process: predict and predict_proba": lambda: (
            model.predict(one),
            model.predict_proba(one),
        ),
        "`ml-assets serve`, /predict": asker(port, "/predict", records(one)),
        "`ml-assets serve`, /invocations": asker(port, "/invocations", split(one)),
        "`mlflow models serve`": asker(other, "/invocations", split(one)),
    }
    alone = in_turn(of_one, ROUNDS, servers)
    print("| one row | p50 ms | p99 ms | CPU ms |\n|---|---|---|---|")
    for name, (took, cpu) in alone.items():
        print(f"| {name} | {np.median(took):.2f} | {np.quantile(took, 0.99):.2f} | {cpu:.2f} |")
    one_after_another(of_one)
    sink = pa.BufferOutputStream()
    arrow = pa.Table.from_pandas(rows)
    with pa.ipc.new_stream(sink, arrow.schema) as stream:
        stream.write_table(arrow)
    body = sink.getvalue().to_pybytes()
    many = in_turn(
        {
            "in process: `Pipeline.predict`": lambda: model.predict(rows),
            "in process: predict and predict_proba": lambda: (
                model.predict(rows),
                model.predict_proba(rows),
            ),
            "`ml-assets serve`, JSON": asker(port, "/predict", records(rows)),
            "`ml-assets serve`, Arrow": asker(port, "/predict", body, ARROW),
            "`mlflow models serve`, JSON": asker(other, "/invocations", split(rows)),
        },
        LARGE_ROUNDS,
        servers,
    )
    print(f"\n| {LARGE:,} rows a request | p50 ms | rows/s | CPU ms |\n|---|---|---|---|")
    for name, (took, cpu) in many.items():
        speed = LARGE / np.median(took) * 1000
        print(f"| {name} | {np.median(took):.1f} | {speed:,.0f} | {cpu:.1f} |")


def load(folder: Path, port: int, clients: int, seconds: float, other: int) -> None:
    from ml_assets.resources.prediction_log import read_predictions

    lake = folder / ".ml_assets" / "lake"
    before = set(read_predictions(lake, "served")["id"])
    body = json.dumps({"rows": table(1, 2).drop(columns=["y", "id"]).to_dict("records")}).encode()
    done, began_at = threading.Event(), time.monotonic()
    answered: list[tuple[str, int, float]] = []
    failed: list[str] = []

    def client() -> None:
        ask = asker(port, "/predict", body)
        while not done.is_set():
            began = time.perf_counter()
            try:
                told = json.loads(ask())
            except (SystemExit, OSError, http.client.HTTPException) as error:
                failed.append(str(error))
                return
            took = (time.perf_counter() - began) * 1000
            answered.append((f"{told['id']}-0", told["model_version"], took))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    ml_assets(folder, "rollback", "served", "--to", str(other), "--why", "a benchmark")
    time.sleep(seconds / 2)  # the command takes its own time, and the clients go on meanwhile
    done.set()
    for thread in threads:
        thread.join()
    lasted = time.monotonic() - began_at
    logged = set(read_predictions(lake, "served")["id"]) - before
    took = np.array([t for _, _, t in answered])
    by_version = {v: sum(1 for _, w, _ in answered if w == v) for v in (1, 2)}
    print(
        f"\n{clients} clients for {lasted:.0f} s, the champion moved to version {other} in the middle:\n"
    )
    print(
        "| requests | /s | p50 ms | p99 ms | by version 2 | by version 1 | failed | not in the log |"
    )
    print("|---|---|---|---|---|---|---|---|")
    lost = len({name for name, _, _ in answered} - logged)
    print(
        f"| {len(answered):,} | {len(answered) / lasted:,.0f} | {np.median(took):.0f} | "
        f"{np.quantile(took, 0.99):.0f} | {by_version[2]:,} | {by_version[1]:,} | {len(failed)} | "
        f"{lost} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--candidate", default="hist_gradient_boosting")
    parser.add_argument("--only-load", action="store_true", help="in a FOLDER of a former run")
    parser.add_argument("--only-compare", action="store_true", help="in a FOLDER of a former run")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    os.environ["ML_ASSETS_DEFS"] = str(folder / "problems")
    if not (asked.only_load or asked.only_compare):
        prepare(folder, asked.candidate)
    from ml_assets.definitions import problems_of, tree
    from ml_assets.resources.home import Home
    from ml_assets.resources.stores import open_stores
    from ml_assets.round.predictions import load_scorer, scoring_entry

    os.chdir(folder)
    stores = open_stores(Home(folder, folder / ".ml_assets"))
    problem = problems_of(tree())["served"].problem
    entry = scoring_entry("served", stores)
    scorer = load_scorer(problem, stores, entry)
    stored = stores.registry.version("served", entry["version"]).folder
    port, other = free_port(), free_port()
    ours = [sys.executable, "-m", "ml_assets.command", "serve", "served", "--port", str(port)]
    theirs = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", str(stored)]
    theirs += ["--env-manager", "local", "-p", str(other)]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with started(folder, ours, port, "ours.log") as pid:
        print(f"{(folder / 'ours.log').read_text().strip()}\n")
        if not asked.only_load:
            with started(folder, theirs, other, "theirs.log") as their_pid:
                compare(port, other, scorer, (pid, their_pid))
        if not asked.only_compare:
            load(folder, port, asked.clients, asked.seconds, 3 - entry["version"])


if __name__ == "__main__":
    main()
