"""Each benchmark of the pages runs, small: what it measures is told by its own figures, not here."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from ml_assets_tests.e2e.served import CHECKOUT
from ml_assets_tests.environments import COMMANDS, environment

SHARED = CHECKOUT.parent / "shared"
OPEN = str(SHARED / "data" / "open")
SCRIPT = str(SHARED / "bench")
# What is typed, and a line that it prints.
QUICK = {
    "canary_looks.py 4 roc_auc": "| roc_auc | +0.02 |",
    "promotion_power.py 2 roc_auc": "| roc_auc | 5,000 |",
    "ingestion.py 5000": " s with imports",
    f"monitoring.py {OPEN} 1 bike_sharing_hour": "| bike_sharing_hour | true order | 24 |",
}
SLOW = {
    f"duplicates_leak.py {OPEN}/wine_quality_white.csv quality": "| RandomForest |",
    "many_problems.py --problems 3": "All processes together:",
    f"whole_job.py {SCRIPT} --sizes tiny --rounds 1": "| 2,000 | unchanged |",
    f"open_datasets.py {OPEN} penguins_raw": "| penguins_raw | extra_trees |",
    f"candidates_alike.py {OPEN} mammography": "| mammography |",
    f"flaml_comparison.py {OPEN} FLAML penguins_raw": "| penguins_raw |",
    "from_ui.py --rounds 1": "| nothing changed |",
    "kddcup.py TMP/small.parquet label": "| ml-assets run, nothing changed |",
    f"replay.py {OPEN} TMP bike_sharing_hour": "bike_sharing_hour, rmse, ",
    "serving.py TMP --seconds 1 --clients 4": "| 1,000 rows",
    "scoring.py TMP --rows 2000 --rounds 1": "| parquet |",
    "canary_served.py": "what became of them: {'better': 'promotion', 'worse': 'canary withdrawn",
}


def _typed(line: str) -> str:
    name, *words = line.split()
    done = subprocess.run(
        [sys.executable, CHECKOUT / "benchmarks" / name, *words],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_each_benchmark_stands_here_once() -> None:
    known = [line.split()[0] for line in [*QUICK, *SLOW]]
    assert sorted(known) == sorted(f.name for f in (CHECKOUT / "benchmarks").glob("*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("line", QUICK, ids=lambda line: line.split(".py")[0])
def test_a_quick_one_runs(line: str) -> None:
    assert QUICK[line] in _typed(line)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What they share: one makes a champion that another scores with."""
    folder = tmp_path_factory.mktemp("made")
    known = pd.read_parquet(f"{OPEN}/kddcup99_all.parquet")
    known.sample(3_000, random_state=0).to_parquet(folder / "small.parquet")
    return folder


@pytest.mark.benchmarks
@pytest.mark.slow
@pytest.mark.timeout(1300)
@pytest.mark.parametrize("line", SLOW, ids=lambda line: line.split(".py")[0])
def test_a_slow_one_runs(line: str, made: Path, tmp_path: Path) -> None:
    """Seen to fail: one read what `ml-assets new` says of large tables alone, one made no folder."""
    typed = line.replace("TMP", str(made))
    if "FLAML" in typed:
        own = environment(tmp_path / "flaml", "flaml[automl]", "catboost", "pyarrow")
        typed = typed.replace("FLAML", str(own / "python"))
    assert SLOW[line] in _typed(typed)
