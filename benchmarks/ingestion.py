"""How long a large csv takes to become a version, and how much memory that needs.

    python benchmarks/ingestion.py ROWS

It writes a csv of ROWS rows and 20 columns (13 numbers, 3 whole numbers, 2 texts, a date, a target),
and makes a dataset of it in a process of its own.  The peak is that process's resident memory, with
everything that it imported.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

PIECE = 500_000
MADE = """
import resource, sys, time
from pathlib import Path
from ml_assets.problem import Problem
from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.registry import DagsterRun, Registry
from ml_assets.resources.stores import Stores
from ml_assets.round import Round
from ml_assets.round import dataset as datasets
root = Path(sys.argv[1])
columns = {"x0": {"type": "number", "min": -10, "missing": 0.1}, "day": {"type": "date"}}
columns["city"] = {"type": "text", "values": ["berlin", "paris", "rome", "madrid", "oslo"]}
problem = Problem(
    name="big",
    dataset={"path": "big.csv", "target": "y", "settle": 0, "contract": {"columns": columns}},
)
home = root / "state"
stores = Stores(
    root, Lake(home / "lake"), Ledger(home / "ledger"), Registry(f"sqlite:///{home}/m.db", home)
)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
read = datasets._arrived
def timed(*given):
    started = time.perf_counter()
    arrived = read(*given)
    print(f"| read, judged, written | {time.perf_counter() - started:.1f} | {peak():.2f} |")
    return arrived
datasets._arrived = timed
print(f"| before | | {peak():.2f} |")
started = time.perf_counter()
made = datasets.make_dataset(Round(problem, None, stores, DagsterRun("run", "big")))
print(f"| whole, with profile and gates | {time.perf_counter() - started:.1f} | {peak():.2f} |")
assert made.version is not None, [v.reason for v in made.verdicts if not v.passed]
"""


def main(rows: int) -> int:
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        writer = None
        file = Path(folder) / "big.csv"
        for start in range(0, rows, PIECE):
            count = min(PIECE, rows - start)
            columns = {f"x{i}": random.normal(size=count).round(5) for i in range(13)}
            columns |= {f"k{i}": random.integers(0, 1000, count) for i in range(3)}
            columns["city"] = random.choice(["berlin", "paris", "rome", "madrid", "oslo"], count)
            columns["colour"] = random.choice(["red", "green"], count)
            columns["day"] = np.datetime64("2024-01-01") + random.integers(0, 700, count)
            signal = columns["x0"] + random.normal(size=count)
            columns["y"] = np.where(signal > 0, "yes", "no")
            piece = pa.table(columns)
            writer = writer or pyarrow.csv.CSVWriter(file, piece.schema)
            writer.write_table(piece)
        assert writer is not None
        writer.close()
        print(f"{rows:,} rows, {file.stat().st_size / 1e6:.0f} MB\n")
        print("| step | seconds | peak GB |")
        print("|---|---|---|")
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", MADE, folder], check=True, cwd=folder)
        print(f"\n{time.perf_counter() - started:.1f} s with imports")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
