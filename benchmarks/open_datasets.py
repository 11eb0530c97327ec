"""Brings open datasets to a champion through `new` + `run`, and holds the scores against references.

    python benchmarks/open_datasets.py FOLDER [NAME ...]

FOLDER holds the csv files and `datasets.json`, which names the columns of files without a header.
The references are scikit-learn's HistGradientBoosting with its defaults on a random 80/20 split,
as measured by the keepers of the files; on files with duplicate rows such a split leaks. That of
mammography is on the file without its duplicates, that of bike_sharing_hour on the last 20 %.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# name -> file, target, what the catalogue says beside that, references on its split
PROBLEMS: dict[str, tuple[str, str, list[str], dict[str, float]]] = {
    "telco_churn": (
        "telco_churn.csv",
        "Churn",
        [],
        {"roc_auc": 0.8330, "accuracy": 0.7892, "pr_auc": 0.635},
    ),
    "adult_train": (
        "adult_train.csv",
        "income",
        [],
        {"roc_auc": 0.9273, "accuracy": 0.8725, "f1_macro": 0.813},
    ),
    "mammography": ("mammography.csv", "cls", [], {"roc_auc": 0.9317, "pr_auc": 0.622}),
    "penguins_raw": ("penguins_raw.csv", "Species", [], {"accuracy": 1.0, "f1_macro": 1.0}),
    "letter_recognition": (
        "letter_recognition.csv",
        "lettr",
        [],
        {"accuracy": 0.9645, "f1_macro": 0.964, "roc_auc": 0.9997},
    ),
    "california_housing": (
        "california_housing.csv",
        "median_house_value",
        [],
        {"rmse": 48730, "mae": 32300, "r2": 0.8287},
    ),
    "diamonds": ("diamonds.csv", "price", [], {"rmse": 540.6, "mae": 279.7, "r2": 0.9816}),
    "wine_quality_white": (
        "wine_quality_white.csv",
        "quality",
        [],
        {"rmse": 0.6237, "mae": 0.4819, "r2": 0.4976},
    ),
    # rows of a day, cut by date; the reference is the last 20 % by time
    "bike_sharing_hour": (
        "bike_sharing_hour.csv",
        "cnt",
        ["--time", "dteday"],
        {"rmse": 64.71, "mae": 42.1, "r2": 0.9139},
    ),
    # the rows are in the order of time, the column `date` is not; no reference by time is known
    "electricity_elec2": ("electricity_elec2.csv", "class", ["--in-order"], {}),
    # line 10474 has 12 fields
    "google_play": (
        "google_play.csv",
        "Rating",
        ["--bad-lines", "1"],
        {"rmse": 0.4676, "mae": 0.3157},
    ),
    "kddcup99": ("kddcup99_all.parquet", "label", [], {}),
}
SMALLER_IS_BETTER = {"rmse", "mae", "mape"}
ALLOWED = 0.01


def main(folder: Path, names: list[str]) -> int:
    known = json.loads((folder / "datasets.json").read_text())
    headerless = {f: d["columns"] for d in known.values() if d["columns"] for f in d["files"]}
    below = 0
    print("| dataset | champion | metric | on test | reference | within 1 % | seconds |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ML_ASSETS_HOME": f"{home}/state", "ML_ASSETS_DEFS": home}
        command = [sys.executable, "-m", "ml_assets.command"]
        for name in names or PROBLEMS:
            file, target, options, reference = PROBLEMS[name]
            new = [*command, "new", name, "--data", str(folder / file), "--target", target]
            columns = headerless.get(file)
            if columns and file.endswith("csv"):
                new += ["--names", ",".join(columns)]
            subprocess.run(
                [*new, *options], env=environment, cwd=home, check=True, capture_output=True
            )
            started = time.perf_counter()
            run = [*command, "run", name, "--json"]
            done = subprocess.run(run, env=environment, cwd=home, capture_output=True, check=False)
            seconds = time.perf_counter() - started
            outcome = json.loads(done.stdout)
            assert outcome["decision"]["promoted"], outcome["decision"]
            metrics = outcome["challenger"]["metrics"]
            shown = reference or {
                m: None for m in ("roc_auc", "accuracy", "f1_macro") if m in metrics
            }
            for metric, value in shown.items():
                reached = metrics[metric]
                fine = "no reference"
                if value is not None:
                    better = reached <= value * (1 + ALLOWED)
                    if metric not in SMALLER_IS_BETTER:
                        better = reached >= value * (1 - ALLOWED)
                    fine = "yes" if better else "NO"
                    below += not better
                print(
                    f"| {name} | {outcome['challenger']['candidate']} | {metric} | {reached:.4g} "
                    f"| {'' if value is None else f'{value:.4g}'} | {fine} | {seconds:.0f} |",
                    flush=True,
                )
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
