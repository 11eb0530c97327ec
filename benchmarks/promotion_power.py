"""Shows how often chance promotes a challenger that is equal, and how often a better one is seen.

Each round draws the truth and what champion and challenger say of the same test rows, and asks the
decision that a run asks: `comparison.compare` with the defaults of the gate `beats: champion`, then
`promotion.decide`.  Within a class both scores are normal with the stated correlation (0.5: unlike
models; 0.97: the same model fitted anew), so how good each truly is is known.

python benchmarks/promotion_power.py [ROUNDS [METRIC…]]  by metric, rows and correlation
python benchmarks/promotion_power.py --repeated [TIMES]  20 rounds, on the same and on fresh rows
"""

import sys
from collections.abc import Iterable, Iterator
from statistics import NormalDist

import numpy as np

from ml_assets.candidate import Predictions
from ml_assets.comparison import compare
from ml_assets.dataset import Target
from ml_assets.problem import BeatsChampionGate
from ml_assets.promotion import Champion, Promote, decide

GATE = BeatsChampionGate(beats="champion")
# The champion's ROC AUC (R² for regression), and by how much a better challenger is better.
QUALITY, BETTER = {"binary": 0.80, "regression": 0.60}, 0.02
POSITIVES = 0.3
TARGETS = {
    "binary": Target("binary", "declared", ("no", "yes"), (70, 30), "yes"),
    "regression": Target("regression", "declared"),
}
METRICS = ("roc_auc", "accuracy", "f1", "log_loss", "rmse")
SIZES, CORRELATIONS = (500, 5000), (0.5, 0.7, 0.8, 0.9, 0.97)
ROUNDS_ON_THE_SAME_ROWS = 20


def task_of(metric: str) -> str:
    """It returns the task whose simulation a metric is measured in."""
    return "regression" if metric == "rmse" else "binary"


def truth_of(task: str, rows: int, random: np.random.Generator) -> np.ndarray:
    """It draws the truth of the test rows."""
    if task == "regression":
        return random.normal(size=rows)
    return np.where(random.random(rows) < POSITIVES, "yes", "no").astype(object)


def said_of(truth: np.ndarray, task: str, quality: float, noise: np.ndarray) -> Predictions:
    """It returns what a candidate of a known quality says, given its standard normal noise."""
    if task == "regression":  # the error has variance 1 - R²
        return Predictions(truth + noise * np.sqrt(1 - quality))
    apart = NormalDist().inv_cdf(quality) * np.sqrt(2)
    score = apart * (truth == "yes") + noise
    logit = apart * score - apart**2 / 2 + np.log(POSITIVES / (1 - POSITIVES))
    share = 1 / (1 + np.exp(-logit))
    labels = np.where(share > 0.5, "yes", "no").astype(object)
    return Predictions(labels, np.column_stack([1 - share, share]))


def promoted(
    metric: str, truth: np.ndarray, one: Predictions, other: Predictions, seed: int
) -> bool:
    """It says whether the challenger `one` replaces the champion `other`."""
    target = TARGETS[task_of(metric)]
    found = compare(metric, truth, one, other, target, GATE.confidence, GATE.by, seed)
    return isinstance(decide("challenger", Champion(1, "champion", found)), Promote)


def promotions(metric: str, better: float, rows: int, correlation: float, rounds: int) -> int:
    """It returns how many of the rounds promote a challenger that is truly better by so much."""
    task, found = task_of(metric), 0
    for seed in range(rounds):
        random = np.random.default_rng([seed, rows, int(100 * correlation), int(1000 * better)])
        truth = truth_of(task, rows, random)
        shared, *own = random.normal(size=(3, rows))
        one, other = (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * o for o in own)
        found += promoted(
            metric,
            truth,
            said_of(truth, task, QUALITY[task] + better, one),
            said_of(truth, task, QUALITY[task], other),
            seed,
        )
    return found


def wilson(found: int, of: int) -> tuple[float, float]:
    """It returns the 95 % interval of a share (Wilson 1927)."""
    z, share = 1.96, found / of
    centre = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z * np.sqrt(share * (1 - share) / of + z**2 / (4 * of**2)) / (1 + z**2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)


def chances(rows: int, correlation: float, fresh: bool, seed: int) -> int:
    """It returns how many of 20 equal challengers in a row chance promotes."""
    random, found = np.random.default_rng([seed, rows, int(100 * correlation)]), 0
    truth = truth_of("binary", rows, random)
    shared, noise = random.normal(size=(2, rows))
    mixed = np.sqrt(correlation), np.sqrt(1 - correlation)
    champion = mixed[0] * shared + mixed[1] * noise
    for _ in range(ROUNDS_ON_THE_SAME_ROWS):
        if fresh:
            truth = truth_of("binary", rows, random)
            shared, noise = random.normal(size=(2, rows))
            champion = mixed[0] * shared + mixed[1] * noise
        challenger = mixed[0] * shared + mixed[1] * random.normal(size=rows)
        one, other = (
            said_of(truth, "binary", QUALITY["binary"], n) for n in (challenger, champion)
        )
        if promoted("roc_auc", truth, one, other, seed):
            found, champion = found + 1, challenger
    return found


def _share(found: int, of: int) -> str:
    low, high = wilson(found, of)
    return f"{found / of:.1%} ({low:.1%} to {high:.1%})"


def table(rounds: int, metrics: Iterable[str]) -> Iterator[str]:
    """It gives the lines of the table: promoted though equal, promoted because better."""
    yield "| metric | test rows | correlation | equal: promoted | better: promoted |"
    yield "|---|---|---|---|---|"
    for metric in metrics:
        for rows in SIZES:
            for correlation in CORRELATIONS:
                cells = [
                    _share(promotions(metric, better, rows, correlation, rounds), rounds)
                    for better in (0.0, BETTER)
                ]
                yield f"| {metric} | {rows:,} | {correlation} | {' | '.join(cells)} |"


def repeated(times: int) -> Iterator[str]:
    """It gives the lines of the table of 20 equal challengers, one after the other."""
    yield "| test rows | correlation | the rows are | at least one promoted | promotions in 20 |"
    yield "|---|---|---|---|---|"
    for correlation in CORRELATIONS:
        for fresh in (False, True):
            found = [chances(1000, correlation, fresh, seed) for seed in range(times)]
            some = sum(f > 0 for f in found)
            kind = "fresh each time" if fresh else "the same"
            mean = f"{np.mean(found):.2f}"
            yield f"| 1,000 | {correlation} | {kind} | {_share(some, times)} | {mean} |"


def main(given: list[str]) -> None:
    again = given[:1] == ["--repeated"]
    count, *metrics = given[again:] or ["200"]
    for line in repeated(int(count)) if again else table(int(count), metrics or METRICS):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
