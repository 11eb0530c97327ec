"""A large file in one run, side by side with a plain script that does the same work.

    python benchmarks/kddcup.py FILE.parquet TARGET

Both read the file, keep equal rows together in the split, fit the same four models with the same
parameters, score them on validation and the best on test.  The script has no gates, no versions, no
registry, no checks.  Each is a process of its own; seconds are of the whole process, memory is the
peak of the process and all that it started, one at a time.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIPT = """
import sys, pandas as pd, numpy as np
from sklearn.compose import make_column_transformer, make_column_selector
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.metrics import balanced_accuracy_score, f1_score, accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from lightgbm import LGBMClassifier
frame = pd.read_parquet(sys.argv[1]); target = sys.argv[2]; rounds = int(sys.argv[3])
frame = frame[[c for c in frame.columns if frame[c].nunique() > 1]]
print("duplicates", frame.duplicated().sum())
features = frame.drop(columns=target)
share = pd.util.hash_pandas_object(features, index=False).to_numpy() / 2.0**64
parts = np.searchsorted([0.7, 0.85], share)
train, validation, test = (frame[parts == i] for i in range(3))
models = {
    "baseline": DummyClassifier(strategy="prior"),
    "extra_trees": ExtraTreesClassifier(60, min_samples_leaf=2, n_jobs=2, random_state=0),
    "hist_gradient_boosting": HistGradientBoostingClassifier(max_iter=rounds, early_stopping=False, random_state=0),
    "lightgbm": LGBMClassifier(n_estimators=rounds, n_jobs=2, random_state=0, verbose=-1),
}
best, top = None, -1
for name, model in models.items():
    prepared = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_include=object)),
        remainder="passthrough",
    )
    pipeline = make_pipeline(prepared, model).fit(train.drop(columns=target), train[target])
    said = pipeline.predict(validation.drop(columns=target))
    reached = balanced_accuracy_score(validation[target], said)
    print(name, reached, accuracy_score(validation[target], said), f1_score(validation[target], said, average="macro"))
    if reached > top:
        best, top = pipeline, reached
said = best.predict(test.drop(columns=target))
print("test", balanced_accuracy_score(test[target], said), accuracy_score(test[target], said))
"""


def _timed(command: list[str], environment: dict[str, str], cwd: str) -> tuple[float, float, str]:
    """It returns wall seconds, peak resident memory in GB, and what was printed."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    printed = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, printed
    # the peak of the process, or of the largest that it waited for
    return time.perf_counter() - started, used.ru_maxrss / 1e6, printed


def main(file: Path, target: str) -> int:
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "ML_ASSETS_HOME": f"{home}/state", "ML_ASSETS_DEFS": home}
        ours = [sys.executable, "-m", "ml_assets.command"]
        new = [*ours, "new", "large", "--data", str(file), "--target", target, "--json"]
        drafted = subprocess.run(
            new, env=environment, cwd=home, check=True, capture_output=True, text=True
        )
        inferred = json.loads(drafted.stdout)["inferred"]
        chosen = inferred.get("candidates", {}).get("lightgbm", {})  # of large tables only
        rounds = chosen.get("n_estimators", 100)
        script = [sys.executable, "-c", SCRIPT, str(file), target, str(rounds)]
        print("| what | seconds | peak GB | balanced accuracy on test |")
        print("|---|---|---|---|")
        seconds, memory, printed = _timed(script, environment, home)
        print(
            f"| plain script | {seconds:.0f} | {memory:.2f} | {printed.split()[-2]} |", flush=True
        )
        for what in ("ml-assets run", "ml-assets run, nothing changed"):
            seconds, memory, printed = _timed([*ours, "run", "large", "--json"], environment, home)
            reached = json.loads(printed)["challenger"]["metrics"]["balanced_accuracy"]
            print(f"| {what} | {seconds:.0f} | {memory:.2f} | {reached:.4f} |", flush=True)
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        print(f"\nThe largest of all processes had {children:.2f} GB.")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2]))
