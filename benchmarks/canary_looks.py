"""Shows what becomes of canaries over their whole life: equal ones, better ones, worse ones.

Each life draws the truth of its labelled live rows and what champion and canary say of them, as
`promotion_power` does, and then asks what the asset asks, each time that some more rows have come:
is a look due, what does `comparison.compare` find, what does `canary.decide` make of it.  "Without"
is the same with the interval of one comparison at each look, and a look whenever rows came.

python benchmarks/canary_looks.py [LIVES [METRIC…]]
"""

import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
from promotion_power import QUALITY, TARGETS, said_of, task_of, truth_of, wilson

from ml_assets.canary import ASKED, Standing, Terms, Wait, Withdraw, at_look, decide, is_due
from ml_assets.candidate import Predictions
from ml_assets.comparison import compare

TERMS = Terms(share=0.1, min_rows=500, longest=14.0, confidence=0.95)
A_DAY, DAYS = 600, 14  # labelled rows that come in a day; days that the canary may take
CORRELATION = 0.9
GAINS = (0.0, 0.02, -0.02)
FATES = ("promoted", "withdrawn as not better", "inconclusive")


def first(said: Predictions, rows: int) -> Predictions:
    """It returns what was said of the first rows."""
    shares = None if said.probabilities is None else said.probabilities[:rows]
    return Predictions(said.values[:rows], shares)


def life(metric: str, gain: float, seed: int, spends: bool) -> tuple[str, int]:
    """It returns what became of one canary, and on which day."""
    task, rows = task_of(metric), A_DAY * DAYS
    random = np.random.default_rng([seed, int(1000 * (gain + 1))])
    truth = truth_of(task, rows, random)
    shared, *own = random.normal(size=(3, rows))
    noise = [np.sqrt(CORRELATION) * shared + np.sqrt(1 - CORRELATION) * o for o in own]
    one = said_of(truth, task, QUALITY[task] + gain, noise[0])
    other = said_of(truth, task, QUALITY[task], noise[1])
    looked_at: list[int] = []
    for day in range(1, DAYS + 1):
        come = day * A_DAY
        standing = Standing(come, looked_at, float(day))
        found = None
        if is_due(TERMS, standing) or not spends:
            given = truth[:come], first(one, come), first(other, come), TARGETS[task]
            asked = compare(metric, *given, ASKED, TERMS.by, seed)
            found = at_look(asked, TERMS, len(looked_at) + 1) if spends else asked
        decision = decide(TERMS, standing, found)
        if not isinstance(decision, Wait):
            worse = isinstance(decision, Withdraw) and decision.finding == "not better"
            late = isinstance(decision, Withdraw) and not worse
            return FATES[2 if late else 1 if worse else 0], day
        if found is not None:
            looked_at.append(come)
    raise AssertionError("its time was over")


def table(lives: int, metrics: tuple[str, ...]) -> Iterator[str]:
    """It gives the lines of the table."""
    yield f"| metric | truly better by | looks | {' | '.join(FATES)} | days until then (median) |"
    yield "|---|---|---|---|---|---|---|"
    for metric in metrics:
        for gain in GAINS:
            for spends in (True, False) if gain == 0 else (True,):
                ends = [life(metric, gain, seed, spends) for seed in range(lives)]
                fates = Counter(fate for fate, _ in ends)
                cells = []
                for fate in FATES:
                    low, high = wilson(fates[fate], lives)
                    cells.append(f"{fates[fate] / lives:.1%} ({low:.1%} to {high:.1%})")
                how = "as they are" if spends else "each day, without correction"
                days = np.median([day for _, day in ends])
                yield f"| {metric} | {gain:+g} | {how} | {' | '.join(cells)} | {days:g} |"


def main(given: list[str]) -> None:
    lives, *metrics = given or ["400"]
    for line in table(int(lives), tuple(metrics) or ("roc_auc", "accuracy")):
        print(line, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
