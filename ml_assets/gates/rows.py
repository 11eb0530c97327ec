"""Gates that look closely at a challenger: at its answers row by row, and at the champion's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.errors import MLAssetsError, shortened
from ml_assets.gates import Verdict
from ml_assets.metric import gain
from ml_assets.problem.gates import (
    CalibrationGate,
    CustomGate,
    FairGate,
    FlipsGate,
    OverfitGate,
    PredictionDriftGate,
    SizeGate,
    SliceGate,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ml_assets.candidate import Predictions
    from ml_assets.dataset import Target

MOST_SLICES = 50
BINS = 10  # of probability, for calibration, and of predictions, for drift


@dataclass(frozen=True)
class Answers:
    """A challenger's answers on test, and what else they are held against.

    Attributes:
        rows: the rows, all columns.
        truth: what was to be predicted.
        said: the challenger's predictions of the same rows.
        target: task and classes.
        score: metrics of predictions of some truth.
        on_train: the challenger's metrics on train; computed when asked.
        champion: the champion's predictions of the same rows; None without a champion.
        size: bytes of the model's file.
        folder: where the problem's model.py is.
    """

    rows: "pd.DataFrame"
    truth: "np.ndarray"
    said: "Predictions"
    target: "Target"
    score: "Callable[[np.ndarray, Predictions], dict[str, float]]"
    on_train: Callable[[], dict[str, float]]
    champion: "Predictions | None"
    size: int
    folder: Path | None


def no_slice_falls_behind(seen: Answers, gate: SliceGate) -> Verdict:
    """It asks whether a metric is as good, or nearly, for every value of a column."""
    name = "no_slice_falls_behind"
    if gate.slice not in seen.rows.columns:
        return Verdict(name, False, f"There is no column `{gate.slice}`.", {}, gate.mode)
    overall = seen.score(seen.truth, seen.said).get(gate.metric)
    if overall is None:
        return Verdict(name, False, f"{gate.metric} on test is not defined.", {}, gate.mode)
    drops = []
    for value, at in _groups(seen.rows[gate.slice], gate.min_rows):
        reached = seen.score(seen.truth[at], _taken(seen.said, at)).get(gate.metric)
        if reached is not None:
            drops.append((gain(gate.metric, overall, reached), value, reached, int(at.sum())))
    if not drops:
        told = f"No slice of `{gate.slice}` has {gate.min_rows} rows and a {gate.metric}."
        return Verdict(name, True, told, {}, gate.mode)
    drop, value, reached, rows = max(drops, key=lambda d: d[0])
    reason = (
        f"Worst where `{gate.slice}` is {value}: {gate.metric} {reached:.4g} on {rows:,} rows, "
        f"{overall:.4g} overall; worse by {drop:.3g}, {gate.max_drop:g} is allowed."
    )
    return Verdict(name, drop <= gate.max_drop, reason, {"drop": drop, "rows": rows}, gate.mode)


def groups_are_treated_alike(seen: Answers, gate: FairGate) -> Verdict:
    """It asks whether a metric differs little between groups of a sensitive column."""
    name = "groups_are_treated_alike"
    if gate.fair not in seen.rows.columns:
        return Verdict(name, False, f"There is no column `{gate.fair}`.", {}, gate.mode)
    reached: list[tuple[float, str]] = []
    for value, at in _groups(seen.rows[gate.fair], gate.min_rows):
        if gate.metric == "positive_rate":
            share = float((seen.said.values[at] == seen.target.positive).mean())
            reached.append((share, value))
        else:
            metrics = seen.score(seen.truth[at], _taken(seen.said, at))
            if gate.metric in metrics:
                reached.append((metrics[gate.metric], value))
    if len(reached) < 2:
        told = f"`{gate.fair}` has fewer than two groups of {gate.min_rows} rows."
        return Verdict(name, True, told, {}, gate.mode)
    low, high = min(reached), max(reached)
    apart = high[0] - low[0]
    reason = (
        f"{gate.metric} is {high[0]:.4g} where `{gate.fair}` is {high[1]}, and {low[0]:.4g} "
        f"where it is {low[1]}: {apart:.3g} apart, {gate.max_difference:g} is allowed."
    )
    return Verdict(name, apart <= gate.max_difference, reason, {"difference": apart}, gate.mode)


def does_not_overfit(seen: Answers, gate: OverfitGate) -> Verdict:
    """It asks whether a metric is about as good on test as on train."""
    name = "does_not_overfit"
    train = seen.on_train().get(gate.overfit)
    test = seen.score(seen.truth, seen.said).get(gate.overfit)
    if train is None or test is None:
        return Verdict(name, False, f"{gate.overfit} is not defined there.", {}, gate.mode)
    gap = gain(gate.overfit, train, test)
    reason = (
        f"{gate.overfit} is {train:.4g} on train and {test:.4g} on test: worse by {gap:.3g}, "
        f"{gate.max_gap:g} is allowed."
    )
    return Verdict(name, gap <= gate.max_gap, reason, {"gap": gap}, gate.mode)


def probabilities_are_calibrated(seen: Answers, gate: CalibrationGate) -> Verdict:
    """It asks for the expected calibration error (Naeini et al. 2015), of the predicted class."""
    import numpy as np

    name = "probabilities_are_calibrated"
    if seen.said.probabilities is None:
        return Verdict(name, False, "It gives no probabilities.", {}, gate.mode)
    if seen.target.task == "binary":
        share = seen.said.probabilities[:, list(seen.target.classes).index(seen.target.positive)]
        right = seen.truth == seen.target.positive
    else:
        share = seen.said.probabilities.max(axis=1)
        classes = np.array(seen.target.classes, dtype=object)
        right = classes[seen.said.probabilities.argmax(axis=1)] == seen.truth
    bins = np.minimum((share * BINS).astype(int), BINS - 1)
    error = sum(
        abs(right[bins == b].mean() - share[bins == b].mean()) * (bins == b).mean()
        for b in range(BINS)
        if (bins == b).any()
    )
    error = float(error)
    reason = f"Expected calibration error {error:.3g}, {gate.calibration:g} is allowed."
    return Verdict(name, error <= gate.calibration, reason, {"error": error}, gate.mode)


def few_answers_turn_wrong(seen: Answers, gate: FlipsGate) -> Verdict:
    """It counts the rows that the champion has right and the challenger wrong."""
    name = "few_answers_turn_wrong"
    if seen.champion is None:
        return Verdict(name, True, "There is no champion to hold it against.", {}, gate.mode)
    if seen.target.task == "regression":
        return Verdict(name, True, "A regression has no right and wrong.", {}, gate.mode)
    flipped = (seen.champion.values == seen.truth) & (seen.said.values != seen.truth)
    share, count = float(flipped.mean()), int(flipped.sum())
    reason = (
        f"{count:,} of {len(flipped):,} rows ({share:.2%}) that the champion has right turn wrong; "
        f"{gate.flips:.2%} is allowed."
    )
    return Verdict(name, share <= gate.flips, reason, {"flips": count, "share": share}, gate.mode)


def predictions_are_spread_alike(seen: Answers, gate: PredictionDriftGate) -> Verdict:
    """It asks for the population stability index between champion and challenger."""
    import numpy as np

    name = "predictions_are_spread_alike"
    if seen.champion is None:
        return Verdict(name, True, "There is no champion to hold it against.", {}, gate.mode)
    both = seen.champion.probabilities is not None and seen.said.probabilities is not None
    one, other = (_scores(said, seen.target, both) for said in (seen.champion, seen.said))
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        edges = np.unique(np.quantile(one, np.linspace(0, 1, BINS + 1)[1:-1]))
        one, other = np.digitize(one, edges), np.digitize(other, edges)
    index = 0.0
    for value in set(one.tolist()) | set(other.tolist()):
        shares = [max(float((side == value).mean()), 1e-4) for side in (one, other)]
        index += (shares[1] - shares[0]) * float(np.log(shares[1] / shares[0]))
    reason = f"Population stability index {index:.3g}, {gate.prediction_drift:g} is allowed."
    return Verdict(name, index <= gate.prediction_drift, reason, {"index": index}, gate.mode)


def model_is_small(seen: Answers, gate: SizeGate) -> Verdict:
    """It asks whether the model's file is small enough."""
    size = seen.size / 1e6
    reason = f"The model's file has {size:.3g} MB, {gate.size_mb:g} MB is allowed."
    return Verdict("model_is_small", size <= gate.size_mb, reason, {"mb": size}, gate.mode)


def custom(seen: Answers, gate: CustomGate) -> Verdict:
    """It asks a function of the team's own."""
    import numpy as np

    from ml_assets.provided import locate_part

    name = gate.custom.rpartition(".")[2]
    try:
        asked = locate_part("gates", gate.custom, seen.folder)
        answer = asked(seen.rows, seen.truth, seen.said.values, seen.said.probabilities)
    except MLAssetsError as error:
        return Verdict(name, False, str(error), {}, gate.mode)
    except Exception as error:  # a question that cannot be asked is not answered with yes
        reason = f"{gate.custom} raised {type(error).__name__}: {str(error)[:300]}"
        return Verdict(name, False, reason, {}, gate.mode)
    passed, reason = answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, "")
    if not isinstance(passed, (bool, np.bool_)):
        reason = (
            f"{gate.custom} answered {passed!r}; True or False is expected, or that and a text."
        )
        return Verdict(name, False, reason, {}, gate.mode)
    told = str(reason)[:500] or f"{gate.custom} says {'yes' if passed else 'no'}."
    return Verdict(name, bool(passed), told, {}, gate.mode)


ASKED: dict[type, Callable[[Answers, Any], Verdict]] = {
    SliceGate: no_slice_falls_behind,
    FairGate: groups_are_treated_alike,
    OverfitGate: does_not_overfit,
    CalibrationGate: probabilities_are_calibrated,
    FlipsGate: few_answers_turn_wrong,
    PredictionDriftGate: predictions_are_spread_alike,
    SizeGate: model_is_small,
    CustomGate: custom,
}


def name_of(gate: Any) -> str:
    """It returns the name of a gate's verdict."""
    return (
        gate.custom.rpartition(".")[2]
        if isinstance(gate, CustomGate)
        else ASKED[type(gate)].__name__
    )


def _groups(column: "pd.Series", least: int) -> "Iterator[tuple[str, np.ndarray]]":
    """It gives the groups of rows that a column makes, largest first, numbers cut into quarters."""
    import pandas as pd

    kinds = column
    if pd.api.types.is_numeric_dtype(column.dtype) and column.nunique() > 2 * BINS:
        kinds = pd.qcut(column, 4, duplicates="drop").astype(str).where(column.notna())
    elif pd.api.types.is_datetime64_any_dtype(column.dtype):
        kinds = column.dt.to_period("M").astype(str).where(column.notna())
    kinds = kinds.astype(object).where(kinds.notna(), "missing")
    counts = kinds.value_counts()
    for value in counts[counts >= least].index[:MOST_SLICES]:
        yield shortened([value]), (kinds == value).to_numpy()


def _taken(said: "Predictions", at: "np.ndarray") -> "Predictions":
    from dataclasses import replace

    shares = said.probabilities
    return replace(
        said, values=said.values[at], probabilities=None if shares is None else shares[at]
    )


def _scores(said: "Predictions", target: "Target", shares: bool) -> "np.ndarray":
    """It returns what is compared in spread: the positive's probability, a number, or the class."""
    if target.task == "binary" and shares and said.probabilities is not None:
        return said.probabilities[:, list(target.classes).index(target.positive)]
    if target.task == "regression":
        return said.values.astype("float64")
    return said.values.astype(str)
