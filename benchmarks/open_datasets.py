"""Brings open datasets to a champion through `new` + `run`, and holds the scores against references.

    python benchmarks/open_datasets.py FOLDER [NAME ...]

FOLDER holds the csv files and `datasets.json`, which names the columns of files without a header.
The references are scikit-learn's HistGradientBoosting with its defaults on a random 80/20 split,
as measured by the keepers of the files; on files with duplicate rows such a split leaks, which
the last column says.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REFERENCES = {
    "telco_churn": ("Churn", {"roc_auc": 0.8330, "accuracy": 0.7892, "pr_auc": 0.635}),
    "adult_train": ("income", {"roc_auc": 0.9273, "accuracy": 0.8725, "f1_macro": 0.813}),
    "penguins_raw": ("Species", {"accuracy": 1.0, "f1_macro": 1.0}),
    "letter_recognition": ("lettr", {"accuracy": 0.9645, "f1_macro": 0.964, "roc_auc": 0.9997}),
    "california_housing": ("median_house_value", {"rmse": 48730, "mae": 32300, "r2": 0.8287}),
    "diamonds": ("price", {"rmse": 540.6, "mae": 279.7, "r2": 0.9816}),
    "wine_quality_white": ("quality", {"rmse": 0.6237, "mae": 0.4819, "r2": 0.4976}),
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
        for name in names or REFERENCES:
            target, reference = REFERENCES[name]
            new = [*command, "new", name, "--data", str(folder / f"{name}.csv"), "--target", target]
            if columns := headerless.get(f"{name}.csv"):
                new += ["--names", ",".join(columns)]
            subprocess.run(new, env=environment, cwd=home, check=True, capture_output=True)
            started = time.perf_counter()
            run = [*command, "run", name, "--json"]
            done = subprocess.run(run, env=environment, cwd=home, capture_output=True, check=False)
            seconds = time.perf_counter() - started
            outcome = json.loads(done.stdout)
            assert outcome["decision"]["promoted"], outcome["decision"]
            for metric, value in reference.items():
                reached = outcome["challenger"]["metrics"][metric]
                if metric in SMALLER_IS_BETTER:
                    fine = reached <= value * (1 + ALLOWED)
                else:
                    fine = reached >= value * (1 - ALLOWED)
                below += not fine
                print(
                    f"| {name} | {outcome['challenger']['candidate']} | {metric} | {reached:.4g} "
                    f"| {value:.4g} | {'yes' if fine else 'NO'} | {seconds:.0f} |",
                    flush=True,
                )
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
