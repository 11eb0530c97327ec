"""Measures how alike what two real candidates say is: the correlation that `promotion_power.py` assumes.

    python benchmarks/candidates_alike.py FOLDER [NAME ...]

FOLDER is that of `open_datasets.py`; the binary ones are taken.  For each: `ml-assets new` and
`ml-assets run` on a fresh home, then every pair of the default candidates, and each candidate with
itself fitted anew on a random half of train, says its probabilities of the same rows of test.  As
in the simulation the scores are made normal (van der Waerden: the quantiles of the ranks), and the
correlation is that within a class, averaged over the classes.
"""

import itertools
import sys
import tempfile
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from flaml_comparison import made_by_us

BINARY = ("telco_churn", "adult_train", "electricity_elec2", "mammography")


def alike(one: np.ndarray, other: np.ndarray, truth: np.ndarray) -> float:
    """It returns the correlation of two scores within a class, averaged over the classes."""
    found = []
    for value in np.unique(truth):
        at = truth == value
        found.append(np.corrcoef(normal(one[at]), normal(other[at]))[0, 1])
    return float(np.mean(found))


def normal(scores: np.ndarray) -> np.ndarray:
    """It returns the standard normal quantiles of the mean ranks of scores."""
    from scipy.stats import rankdata

    shares = rankdata(scores) / (len(scores) + 1)
    inverse = NormalDist().inv_cdf
    return np.array([inverse(s) for s in shares])


def unfrozen(model: Any) -> Any:
    """It returns what was fitted, without the threshold that was tuned around it afterwards."""
    from sklearn.pipeline import Pipeline

    if isinstance(model, Pipeline):
        *before, (name, last) = model.steps
        return Pipeline([*before, (name, unfrozen(last))])
    inner = getattr(model, "estimator", None)
    return model if inner is None else unfrozen(inner)


def main(folder: Path, names: list[str]) -> None:
    print("| dataset | test rows | pair | correlation | ROC AUC apart |")
    print("|---|---|---|---|---|")
    for name in names or BINARY:
        with tempfile.TemporaryDirectory() as home:
            for row in measured(name, folder, Path(home)):
                print(f"| {' | '.join(row)} |", flush=True)


def measured(name: str, folder: Path, home: Path) -> list[list[str]]:
    """It returns the rows of one dataset's table."""
    from sklearn.base import clone
    from sklearn.metrics import roc_auc_score

    from ml_assets.candidate import predict
    from ml_assets.round.candidate import candidate_key
    from ml_assets.round.evaluation import make_evaluation
    from ml_assets.round.split import part_rows
    from ml_assets.verification import load_verified

    round_ = made_by_us(name, folder, home)
    split = make_evaluation(round_).split
    target, column = split.profile.usable_target(), round_.problem.dataset.target
    test, train = (part_rows(round_, split, p) for p in ("test", "train"))
    features, truth = list(split.profile.features), test[column].to_numpy()
    positive = list(target.classes).index(target.positive)

    def said(model: Any) -> np.ndarray:
        return predict(model, test, target).probabilities[:, positive]

    halves = np.random.default_rng(0).permutation(len(train)) % 2 == 0
    scores, pairs = {}, []
    for candidate, declared in round_.problem.contenders().items():
        entry = round_.find("candidate", candidate_key(round_, declared, split))
        if entry is None or declared.estimator == "baseline":
            continue
        model = load_verified(entry.path, entry.digest)
        scores[candidate] = said(model)
        again = []
        for at in (halves, ~halves):
            anew = clone(unfrozen(model))
            anew.fit(train.loc[at, features], train.loc[at, column])
            again.append(said(anew))
        pairs.append((f"{candidate}, on either half of train", *again))
    pairs += [
        (f"{a}, {b}", scores[a], scores[b]) for a, b in itertools.combinations(sorted(scores), 2)
    ]
    area = {id(s): roc_auc_score(truth == target.positive, s) for _, *two in pairs for s in two}
    return [
        [
            name,
            f"{len(test):,}",
            pair,
            f"{alike(one, other, truth):.2f}",
            f"{abs(area[id(one)] - area[id(other)]):.4f}",
        ]
        for pair, one, other in pairs
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
