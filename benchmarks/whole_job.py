"""The whole job against the script that a user would write instead, interleaved, as ratios.

    python benchmarks/whole_job.py ../shared/bench [--sizes tiny small medium large] [--rounds 3]
        [--free-threads] [--light]

The folder holds the script (`bare.py` with `mlwork.py`) and the generator of its data.  Both do the
same job in fresh processes on prepared databases: load, validate, split, fit the same four
candidates with the same parameters, two at a time, gate at accuracy 0.85, log to MLflow,
register, promote.  ml_assets does beyond it: a validation part, the challenger, its gates, the
ledger.  Measured as well: a second run with nothing changed, and one with one of four candidates
changed.  Wall seconds, CPU seconds of all processes, and the greatest memory of all processes
together (proportional set size, sampled).
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

SIZES = {"tiny": 2_000, "small": 20_000, "medium": 200_000, "large": 1_000_000}
LIGHT = ("large",)  # the set of candidates that is meant for a million rows

MODEL = '''\
"""The same estimators as the script's."""

from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier


def scaled():
    return make_pipeline(StandardScaler(), LogisticRegression())


def tree():
    return DecisionTreeClassifier(random_state=42)


def bayes():
    return GaussianNB()
'''
DECLARED = {
    "rf": "{estimator: random_forest, params: {n_estimators: 100, n_jobs: 1, random_state: 42}}",
    "hgb": "{estimator: hist_gradient_boosting, params: {learning_rate: RATE, random_state: 42}}",
    "et": "{estimator: extra_trees, params: {n_estimators: 100, n_jobs: 1, random_state: 42}}",
    "lr": "{estimator: .model.scaled}",
    "dt": "{estimator: .model.tree}",
    "nb": "{estimator: .model.bayes}",
}
SETS = {"full": ("rf", "hgb", "et", "lr"), "light": ("hgb", "lr", "dt", "nb")}


def declaration(names: tuple[str, ...], rate: float) -> str:
    candidates = "\n".join(f"    {n}: {DECLARED[n].replace('RATE', str(rate))}" for n in names)
    return f"""\
type: ml_assets.components.MLProblem
attributes:
  name: bench
  task: binary
  dataset: {{path: data.csv, target: target, contract: {{min_rows: 1001}}}}
  split: {{train: 0.8, validation: 0.1, test: 0.1}}
  transform: none
  select: accuracy
  candidates:
{candidates}
  gates:
    - {{metric: accuracy, min: 0.85}}
"""


@dataclass
class Cost:
    """What one run cost: seconds of the wall and of the CPUs, and most memory in MiB."""

    wall: float
    cpu: float
    memory: float


def measured(command: list[str], env: dict[str, str], folder: Path) -> Cost:
    """It runs a command and returns what it and its children cost."""
    log = folder / "log.txt"
    most, done = [0.0], threading.Event()
    before = time.perf_counter()
    with open(log, "w") as out:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out)
        watcher = threading.Thread(target=watch, args=(process.pid, most, done))
        watcher.start()
        _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - before
    done.set()
    watcher.join()
    if status:
        sys.stderr.write(log.read_text()[-3000:])
        raise SystemExit(f"{' '.join(command)} ended with {status}")
    return Cost(wall, used.ru_utime + used.ru_stime, most[0])


def watch(pid: int, most: list[float], done: threading.Event) -> None:
    """It notes the greatest memory of a process and all below it.

    To add up the pages of a large process takes the kernel a while: it is asked so seldom that
    looking takes a fiftieth of one core at most.
    """
    took = 0.0
    while not done.wait(max(0.1, 50 * took)):
        began = time.thread_time()
        most[0] = max(most[0], sum(memory(p) for p in below(pid)))
        took = time.thread_time() - began


def below(pid: int) -> list[int]:
    """It returns a process and all that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(p for c in children for p in below(int(c)))]


def memory(pid: int) -> float:
    """It returns a process's share of memory, in MiB: what is shared is divided."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return int(rollup.split("Pss:")[1].split()[0]) / 1024 if "Pss:" in rollup else 0.0


class Bare:
    """The script that a user would write."""

    def __init__(self, bench: Path, place: Path, data: Path, names: str, mode: str):
        self.bench, self.place, self.mode = bench, place, mode
        self.env = {
            **os.environ,
            "BENCH_CSV": str(data),
            "BENCH_SET": names,
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        self.count = 0

    def first(self) -> Cost:
        self.count += 1
        folder = self.place / f"bare-{self.count}"
        folder.mkdir(parents=True)
        env = {
            **self.env,
            "BENCH_RUN": str(folder),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        }
        prepare = [sys.executable, str(self.bench / "init_mlflow.py")]
        subprocess.run(prepare, env=env, check=True, capture_output=True)
        cost = measured([sys.executable, str(self.bench / "bare.py"), self.mode], env, folder)
        shutil.rmtree(folder)
        return cost


class Ours:
    """The same job as a problem."""

    PREPARE = """
from dagster import DagsterInstance
from ml_assets.command.terminal import open_home, open_instance
from ml_assets.resources.stores import open_stores
home = open_home()
open_stores(home).registry.experiment("bench")
open_instance(home).get_runs(limit=1)
"""

    def __init__(self, place: Path, data: Path, names: str, free: bool):
        self.place, self.data, self.names, self.count = place, data, SETS[names], 0
        self.free = free
        self.folder = place

    def _env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ML_ASSETS", "DAGSTER"))}
        here = {"HOME": self.folder / ".ml_assets", "DEFS": self.folder / "defs"}
        return kept | {f"ML_ASSETS_{k}": str(v) for k, v in here.items()}

    def _declare(self, rate: float) -> None:
        text = declaration(self.names, rate)
        if self.free:
            text = text.replace(" n_jobs: 1,", "")
        (self.folder / "defs" / "bench" / "defs.yaml").write_text(text)

    def _run(self) -> Cost:
        command = [sys.executable, "-m", "ml_assets.command", "run", "bench", "--json"]
        return measured(command, self._env(), self.folder)

    def first(self) -> Cost:
        if self.count:
            shutil.rmtree(self.folder)
        self.count += 1
        self.folder = self.place / f"ours-{self.count}"
        problem = self.folder / "defs" / "bench"
        problem.mkdir(parents=True)
        (problem / "model.py").write_text(MODEL)
        (self.folder / "workspace.yaml").write_text("load_from: []\n")
        (self.folder / "pyproject.toml").write_text("[project]\nname = 'bench'\nversion = '0'\n")
        shutil.copy(self.data, self.folder / "data.csv")
        self._declare(0.1)
        prepare = [sys.executable, "-c", self.PREPARE]
        subprocess.run(prepare, cwd=self.folder, env=self._env(), check=True, capture_output=True)
        return self._run()

    def unchanged(self) -> Cost:
        return self._run()

    def one_changed(self) -> Cost:
        self._declare(0.11)
        return self._run()


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("bench", type=Path)
    asked.add_argument("--sizes", nargs="+", default=["tiny", "small", "medium"], choices=SIZES)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--mode", default="parent", choices=["parent", "threads", "no"])
    asked.add_argument(
        "--free-threads",
        action="store_true",
        help="declare no n_jobs: the models are the same, and ml_assets shares out the cores",
    )
    asked.add_argument(
        "--light",
        action="store_true",
        help="fit the candidates of a million rows at every size: how the time grows with the rows",
    )
    given = asked.parse_args()
    bench = given.bench.resolve()
    names = ("dagster", "mlflow", "scikit-learn", "pandas", "pyarrow")
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{n} {version(n)}" for n in names))
    print(f"Medians of {given.rounds} interleaved rounds; the script logs by `{given.mode}`.\n")
    print("| rows | what | wall s | CPU s | peak MiB | wall ratio | CPU ratio | memory ratio |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for size in given.sizes:
            place = Path(temporary) / size
            names = "light" if given.light or size in LIGHT else "full"
            how = given.rounds, given.mode, given.free_threads
            one_size(bench, place, size, names, *how)


def one_size(
    bench: Path, place: Path, size: str, names: str, rounds: int, mode: str, free: bool
) -> None:
    place.mkdir()
    data = place / "data.csv"
    generate = [sys.executable, str(bench / "gen_data.py"), size, str(data)]
    subprocess.run(generate, check=True, capture_output=True)
    bare, ours = Bare(bench, place, data, names, mode), Ours(place, data, names, free)
    seen: dict[str, list[Cost]] = {"script": [], "first": [], "unchanged": [], "one changed": []}
    for _ in range(rounds):
        seen["script"].append(bare.first())
        seen["first"].append(ours.first())
        seen["unchanged"].append(ours.unchanged())
        seen["one changed"].append(ours.one_changed())
    middle = {
        what: Cost(*(statistics.median(getattr(c, f) for c in costs) for f in vars(costs[0])))
        for what, costs in seen.items()
    }
    base = middle["script"]
    for what, cost in middle.items():
        cells = [f"{cost.wall:.2f}", f"{cost.cpu:.2f}", f"{cost.memory:,.0f}"]
        cells += [f"{cost.wall / base.wall:.2f}", f"{cost.cpu / base.cpu:.2f}"]
        cells += [f"{cost.memory / base.memory:.2f}"]
        print(f"| {SIZES[size]:,} | {what} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
