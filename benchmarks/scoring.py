"""How fast a file is scored, beside the same model on the same rows in memory.

    python benchmarks/scoring.py FOLDER [--rows 1000000] [--rounds 3]

It takes the champion that `benchmarks/serving.py FOLDER` brought to production (12 columns: 9 numbers,
3 texts), writes a large file as csv and as parquet, and scores in turn: the rows in memory, by the
model's own `predict`, and by `predict` and `predict_proba`, at once and in the pieces that a file is
scored in; then each file into each kind of output.  CPU seconds are those of the process and all its
threads.  At last it scores a file half as large and the whole one, each in a process of its own, and
compares the memory that they needed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from serving import table

PIECE = 50_000


def files(folder: Path, rows: int) -> list[Path]:
    made = []
    for count in (rows // 2, rows):
        csv, parquet = folder / f"rows_{count}.csv", folder / f"rows_{count}.parquet"
        if not parquet.exists():
            frame = table(count, 3).drop(columns="y")
            frame.to_csv(csv, index=False)
            frame.to_parquet(parquet, row_group_size=100_000)
        made += [csv, parquet]
    return made


def scorer_of(folder: Path) -> Any:
    os.environ["ML_ASSETS_DEFS"] = str(folder / "problems")
    from ml_assets.definitions import problems_of, tree
    from ml_assets.resources.home import Home
    from ml_assets.resources.stores import open_stores
    from ml_assets.round.predictions import load_scorer, scoring_entry

    os.chdir(folder)
    stores = open_stores(Home(folder, folder / ".ml_assets"))
    problem = problems_of(tree())["served"].problem
    return load_scorer(problem, stores, scoring_entry("served", stores))


def in_turn(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, one in ways.items():
            began, cpu = time.perf_counter(), time.process_time()
            one()
            took[name].append((time.perf_counter() - began, time.process_time() - cpu))
    return {n: tuple(np.median(np.array(t), axis=0)) for n, t in took.items()}  # type: ignore[misc]


def peak_mb(folder: Path, file: Path) -> float:
    """Peak memory of scoring a file in a process of its own."""
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\nfrom scoring import scorer_of\n"
        "from ml_assets.scoring import score_file\n"
        "scorer = scorer_of(Path(sys.argv[2]))\n"
        "score_file(scorer, Path(sys.argv[3]), Path(sys.argv[3] + '.scored.parquet'), 'now')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(folder), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    half_csv, half_parquet, csv, parquet = files(folder, asked.rows)
    scorer = scorer_of(folder)
    from ml_assets.scoring import score_file

    rows = pd.read_parquet(parquet)[list(scorer.columns)]
    pieces = [rows.iloc[i : i + PIECE] for i in range(0, len(rows), PIECE)]
    model = scorer.model

    def into(file: Path, ending: str) -> Callable[[], object]:
        return lambda: score_file(scorer, file, folder / f"scored{ending}", "now")

    ways: dict[str, Callable[[], object]] = {
        "in memory, `predict`, all rows at once": lambda: model.predict(rows),
        f"in memory, `predict`, {PIECE:,} at a time": lambda: [model.predict(p) for p in pieces],
        "in memory, `predict` and `predict_proba`": lambda: [
            (model.predict(p), model.predict_proba(p)) for p in pieces
        ],
        "parquet to parquet": into(parquet, ".parquet"),
        "csv to parquet": into(csv, ".parquet"),
        "csv to csv": into(csv, ".csv"),
    }
    took = in_turn(ways, asked.rounds)
    base, base_cpu = took["in memory, `predict`, all rows at once"]
    print(f"{type(model.steps[-1][1]).__name__}, {len(rows):,} rows; prepared: {scorer.shortcut}\n")
    print("| way | rows/s | of in-process `predict` | CPU s | of its CPU |\n|---|---|---|---|---|")
    for name, (wall, cpu) in took.items():
        print(
            f"| {name} | {len(rows) / wall:,.0f} | {base / wall:.0%} | {cpu:.2f} | {cpu / base_cpu:.0%} |"
        )
    print("\n| file | peak MB, half the rows | peak MB, all rows |\n|---|---|---|")
    for name, half, whole in (("csv", half_csv, csv), ("parquet", half_parquet, parquet)):
        print(f"| {name} | {peak_mb(folder, half):,.0f} | {peak_mb(folder, whole):,.0f} |")


if __name__ == "__main__":
    main()
