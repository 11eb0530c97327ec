"""Holds the default candidates against FLAML, given the same rows and the same time.

    python -m venv FLAML_VENV && FLAML_VENV/bin/pip install 'flaml[automl]' catboost pyarrow
    python benchmarks/flaml_comparison.py FOLDER FLAML_VENV/bin/python [NAME ...]

FOLDER is that of `open_datasets.py`.  FLAML is no dependency of ml_assets and wants libraries of
other versions, so it has an environment, and for each dataset a process, of its own.  It takes
CatBoost where that is installed, as our default set does.

For each dataset: `ml-assets new` and `ml-assets run` on a fresh home.  FLAML then learns from the
same rows of train, chooses by the same metric on the same rows of validation, and has as many wall
seconds as all our fits took together.  Both are scored on the same rows of test by one function,
and compared row by row as a challenger is with a champion.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# ml_assets' name of a metric -> FLAML's; the rest are computed by a function
THEIRS = {"roc_auc": "roc_auc", "rmse": "rmse", "mae": "mae", "accuracy": "accuracy"}


def main(folder: Path, python: str, names: list[str]) -> None:
    from open_datasets import PROBLEMS

    print("| dataset | metric | ours | on test | FLAML | on test | seconds each | verdict | gain |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names or PROBLEMS:
        with tempfile.TemporaryDirectory() as home:
            try:
                compared(name, folder, python, Path(home))
            except subprocess.CalledProcessError as failed:
                said = (failed.stderr or b"").decode(errors="replace").strip().splitlines()
                print(f"{name} failed: {' / '.join(said[-3:])}", file=sys.stderr, flush=True)


def compared(name: str, folder: Path, python: str, home: Path) -> None:
    """It runs both on one dataset and prints their row of the table."""
    import pandas as pd

    from ml_assets.candidate import Predictions, predict
    from ml_assets.comparison import compare
    from ml_assets.round.evaluation import make_evaluation
    from ml_assets.round.split import part_rows
    from ml_assets.verification import load_verified

    round_ = made_by_us(name, folder, home)
    evaluated = make_evaluation(round_)
    assert evaluated.leader is not None
    target, column = evaluated.split.profile.usable_target(), round_.problem.dataset.target
    fits = round_.stores.lake.entries(name, "candidate")
    seconds = sum(entry.facts["seconds"] for entry in fits)
    parts = {p: part_rows(round_, evaluated.split, p) for p in ("train", "validation", "test")}
    features = list(evaluated.split.profile.features)
    shared = home / "shared"
    shared.mkdir()
    for part, rows in parts.items():
        rows[features].to_parquet(shared / f"{part}_x.parquet")
        if part != "test":
            rows[[column]].to_parquet(shared / f"{part}_y.parquet")
    asked = {
        "task": "regression" if target.task == "regression" else "classification",
        "metric": evaluated.metric,
        "seconds": seconds,
        "seed": round_.problem.seed,
    }
    (shared / "asked.json").write_text(json.dumps(asked))
    # as `ml-assets` does for itself: threads that wait by spinning take the cores from others
    plain = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    plain.pop("PYTHONPATH", None)
    fit = [python, str(Path(__file__).resolve()), "--fit", str(shared)]
    subprocess.run(fit, env=plain, check=True, capture_output=True)
    answer = json.loads((shared / "answer.json").read_text())
    said = pd.read_parquet(shared / "said.parquet")
    probabilities = None
    if target.task != "regression":
        given = said.drop(columns="prediction")
        order = {str(c): i for i, c in enumerate(answer["classes"])}
        absent = pd.Series(0.0, index=given.index)
        probabilities = pd.concat(
            [given[str(order[str(c)])] if str(c) in order else absent for c in target.classes],
            axis=1,
        ).to_numpy()
    test = parts["test"]
    theirs = Predictions(said["prediction"].to_numpy(), probabilities)
    leader = load_verified(evaluated.leader.path, evaluated.leader.digest)
    ours = predict(leader, test, target)
    found = compare(evaluated.metric, test[column].to_numpy(), ours, theirs, target)
    cells = [name, evaluated.metric, evaluated.winner, f"{found.one:.4g}", answer["best"]]
    cells += [f"{found.other:.4g}", f"{seconds:.0f}, {answer['seconds']:.0f}", found.verdict]
    cells += [f"{found.gain:+.3g} ({found.low:+.3g} to {found.high:+.3g})"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def made_by_us(name: str, folder: Path, home: Path) -> Any:
    """It declares and runs a dataset's problem, and returns a round on what was made."""
    import yaml
    from open_datasets import PROBLEMS

    from ml_assets.problem import Problem
    from ml_assets.resources.home import Home
    from ml_assets.resources.registry import DagsterRun
    from ml_assets.resources.stores import open_stores
    from ml_assets.round import Round

    file, target, options, _ = PROBLEMS[name]
    known = json.loads((folder / "datasets.json").read_text())
    columns = next((d["columns"] for d in known.values() if file in d["files"]), None)
    if columns and file.endswith("csv"):
        options = [*options, "--names", ",".join(columns)]
    environment = {
        **os.environ,
        "ML_ASSETS_HOME": str(home / "state"),
        "ML_ASSETS_DEFS": str(home / "defs"),
    }
    command = [sys.executable, "-m", "ml_assets.command"]
    new = [*command, "new", name, "--data", str(folder / file), "--target", target, *options]
    for step in (new, [*command, "run", name, "--json"]):
        subprocess.run(step, env=environment, cwd=home, check=True, capture_output=True)
    said = yaml.safe_load((home / "defs" / name / "defs.yaml").read_text())["attributes"]
    stores = open_stores(Home(home, home / "state"))
    return Round(Problem(**said), home / "defs" / name, stores, DagsterRun("comparison", name))


def fit(shared: Path) -> None:
    """It is FLAML's side: it knows only the rows, the metric and the seconds."""
    import numpy as np
    import pandas as pd
    from flaml import AutoML
    from sklearn.metrics import balanced_accuracy_score

    def balanced(x: Any, y: Any, estimator: Any, *_: Any, **__: Any) -> Any:
        lost = 1 - balanced_accuracy_score(y, estimator.predict(x))
        return lost, {"val_loss": lost}

    asked = json.loads((shared / "asked.json").read_text())
    x, x_val, x_test = (
        pd.read_parquet(shared / f"{p}_x.parquet") for p in ("train", "validation", "test")
    )
    y, y_val = (
        pd.read_parquet(shared / f"{p}_y.parquet").iloc[:, 0] for p in ("train", "validation")
    )
    # FLAML does not go on when validation has a class that train has not; nobody could predict it
    known = y_val.isin(y.unique()) if asked["task"] == "classification" else y_val.notna()
    x_val, y_val = x_val[known], y_val[known]
    metric = THEIRS.get(asked["metric"], balanced)
    assert metric is not balanced or asked["metric"] == "balanced_accuracy"
    if asked["metric"] == "roc_auc" and y.nunique() > 2:
        metric = "roc_auc_ovr"
    learner = AutoML()
    started = time.perf_counter()
    learner.fit(
        x,
        y,
        X_val=x_val,
        y_val=y_val,
        task=asked["task"],
        metric=metric,
        time_budget=asked["seconds"],
        eval_method="holdout",
        seed=asked["seed"],
        verbose=0,
    )
    seconds = time.perf_counter() - started
    said = {"prediction": np.asarray(learner.predict(x_test)).reshape(len(x_test))}
    classes: list[str] = []
    if asked["task"] == "classification":
        classes = [str(c) for c in learner.classes_]
        given = learner.predict_proba(x_test)
        said |= {str(i): given[:, i] for i in range(len(classes))}
    pd.DataFrame(said).to_parquet(shared / "said.parquet")
    answer = {"best": learner.best_estimator, "seconds": seconds, "classes": classes}
    (shared / "answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    if sys.argv[1] == "--fit":
        fit(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3:])
