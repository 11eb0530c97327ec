"""The sections of a card: what was measured, in tables and pictures, most telling first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ml_assets.card import Card, Importance, Section, Shown, Table, drawing
from ml_assets.card.drawing import Curve
from ml_assets.card.measured import (
    MOST_ROWS_SLICED,
    Coded,
    calibration,
    coded,
    deciles,
    losses,
    sampled,
    slices,
    thresholds,
    worst,
)
from ml_assets.later import later
from ml_assets.metric import METRICS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

MOST_POINTS = 600  # of one picture
MOST_CURVES = 6  # one for each class
MOST_WORST = 15
MOST_FEATURES = 8  # that are shown beside a row
MOST_SLICES = 12
MOST_COLUMNS = 200
MOST_BARS = 20
MOST_TRIALS = 10
MOST_TILES = 6
MOST_CLASSES = 40
# Beside the metric that ranks, most telling first.
READ_FIRST = ("accuracy", "f1", "f1_macro", "roc_auc", "log_loss", "rmse", "mae", "r2")


def card(shown: Shown) -> Card:
    """It returns the card of a candidate on validation, or of the challenger on test."""
    role = "challenger" if shown.part == "test" else "candidate"
    told = [
        f"problem {shown.problem}",
        f"{role}, version {shown.version}" if shown.version else role,
        f"{shown.record['estimator']}, {shown.target.task}",
        f"measured on {len(shown.rows):,} rows of {shown.part}",
    ]
    seen = coded(shown.truth, shown.said, shown.target)
    whole = not shown.said.missing()
    sections = [
        _leaderboard(shown),
        _gates(shown),
        *(_pictured(shown, seen) if whole and len(seen.truth) else [_incomplete(shown)]),
        _importance(shown.importance) if shown.importance else _asked_for(shown),
        _slices(shown, seen) if whole and shown.importance else None,
        _worst(shown, seen),
        _learning(shown),
        _schema(shown),
        _environment(shown),
    ]
    return Card(
        f"{shown.candidate}",
        tuple(told),
        tuple((f"{m} ({shown.part})", f"{shown.metrics[m]:.4g}") for m in _first(shown)),
        tuple(s for s in sections if s is not None),
    )


def _first(shown: Shown) -> list[str]:
    """It returns the names of the metrics to be seen first."""
    known = [shown.select, *READ_FIRST, *METRICS]
    return [m for m in dict.fromkeys(known) if m in shown.metrics][:MOST_TILES]


def glance(made: Card, which: slice) -> bytes:
    """It returns some pictures of a card in a row, as an SVG file; nothing when it has none."""
    drawn = [p for s in made.sections for p in s.pictures][which]
    return drawing.alone(drawing.beside(drawn)) if drawn else b""


# ------------------------------------------------------------------ against others


def _leaderboard(shown: Shown) -> Section | None:
    better = "higher" if METRICS[shown.select][0] else "lower"
    tables = []
    if shown.board:
        others = [m for m in _first(shown) if m != shown.select][:3]
        lines = []
        for place, c in enumerate(shown.board, 1):
            values = [c.metrics.get(m) for m in (shown.select, *others)]
            mark = "leads" if c.name == shown.winner else ""
            remark = c.error or " ".join(c.failed_gates[:2])
            lines.append((None if c.error else place, c.name, *values, mark, remark))
        columns = ("", "candidate", shown.select, *others, "", "remark")
        tables.append(Table(columns, tuple(lines), "This round, on validation."))
    if shown.past or shown.part == "test":
        here = _first(shown)[:4]
        lines = [
            (
                "this challenger",
                shown.version,
                shown.candidate,
                *(shown.metrics[m] for m in here),
                "",
            )
        ]
        for p in shown.past:
            rows = "" if p.same_rows else "measured on other test rows"
            lines.append((p.what, p.version, p.candidate, *(p.metrics.get(m) for m in here), rows))
        note = "On test. Values on other rows are no comparison; the gate re-scores the champion."
        tables.append(Table(("", "version", "candidate", *here, ""), tuple(lines), note))
    if not tables:
        return None
    return Section(
        "Leaderboard", f"Ranked by {shown.select}; {better} is better.", (), tuple(tables)
    )


def _gates(shown: Shown) -> Section | None:
    if not shown.verdicts:
        return None
    lines = tuple(
        (
            "passed" if v.passed else "FAILED" if v.mode == "enforce" else "warns",
            v.name,
            v.reason,
        )
        for v in shown.verdicts
    )
    return Section("Gates", tables=(Table(("", "gate", "reason"), lines),))


# ----------------------------------------------------------------------- pictures


def _incomplete(shown: Shown) -> Section:
    missing = f"{shown.said.missing():,} of {len(shown.rows):,} predictions are missing or infinite"
    return Section("Predictions", f"{missing}: there is nothing to draw.")


def _pictured(shown: Shown, seen: Coded) -> list[Section]:
    if shown.target.task == "regression":
        return [_residuals(seen, shown.part)]
    confused = _confusion(shown, seen)
    if seen.said.probabilities is None:
        note = "It gives no probabilities: no curves and no calibration."
        return [Section("Confusion matrix", note, (confused,), (_by_class(shown, seen),))]
    curves = _curves(shown, seen)
    found = calibration(seen)
    sections = [
        Section(
            "ROC, precision and recall",
            "" if curves else "Only one class among the rows: no curve is defined.",
            tuple(curves),
        ),
        Section("Confusion matrix", "", (confused,), (_by_class(shown, seen),)),
    ]
    if found:
        sections.append(_calibration(seen, *found))
    if seen.target.task == "binary" and curves:
        sections.append(_thresholds(shown, seen))
    return sections


def _curves(shown: Shown, seen: Coded) -> list[str]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    assert seen.said.probabilities is not None
    classes = list(seen.target.classes)
    if seen.target.task == "binary":
        classes = [seen.target.positive]
    common = sorted(classes, key=lambda c: (-(seen.truth == c).sum(), c))[:MOST_CURVES]
    roc, precise = [], []
    for c in sorted(common):
        truth, share = seen.truth == c, seen.said.probabilities[:, c]
        if truth.all() or not truth.any():
            continue
        name = "" if len(classes) == 1 else str(shown.target.classes[c])
        false, true, _ = roc_curve(truth, share)
        precision, recall, _ = precision_recall_curve(truth, share)
        roc.append(Curve(name, false, true))
        precise.append(Curve(name, recall[::-1], precision[::-1]))
    if not roc:
        return []
    of = "" if len(classes) == 1 else ", each class against the rest"
    one, other = "false positive rate", "true positive rate"
    level = float((seen.truth == seen.target.positive).mean()) if not of else None
    return [
        drawing.lines(f"ROC on {shown.part}{of}", one, other, roc, diagonal=True),
        drawing.lines(
            f"Precision, recall on {shown.part}", "recall", "precision", precise, level=level
        ),
    ]


def _counts(seen: Coded) -> np.ndarray:
    size = len(seen.target.classes)
    at = seen.truth * size + seen.said.values
    return np.bincount(at[seen.said.values >= 0], minlength=size * size).reshape(size, size)


def _confusion(shown: Shown, seen: Coded) -> str:
    names = [str(c) for c in shown.target.classes]
    return drawing.matrix(f"Confusion on {shown.part}", names, _counts(seen))


def _by_class(shown: Shown, seen: Coded) -> Table:
    counts = _counts(seen)
    right, true, said = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    lines = tuple(
        (
            str(c),
            int(true[i]),
            int(said[i]),
            right[i] / said[i] if said[i] else None,
            right[i] / true[i] if true[i] else None,
            "positive" if c == shown.target.positive else "",
        )
        for i, c in enumerate(shown.target.classes[:MOST_CLASSES])
    )
    return Table(("class", "rows", "predicted", "precision", "recall", ""), lines)


def _calibration(seen: Coded, bins: list[tuple[float, float, int]], error: float) -> Section:
    meant, came = np.array([b[0] for b in bins]), np.array([b[1] for b in bins])
    whose = "positive class" if seen.target.task == "binary" else "predicted class"
    drawn = drawing.lines(
        f"Reliability of the {whose}",
        "predicted probability",
        "share that came true",
        [Curve("", meant, came, dots=True)],
        diagonal=True,
    )
    table = Table(("probability", "came true", "rows"), tuple(bins))
    note = (
        f"Expected calibration error {error:.3g}: on the diagonal, a probability is what it says."
    )
    return Section("Calibration", note, (drawn,), (table,))


def _thresholds(shown: Shown, seen: Coded) -> Section:
    assert seen.said.probabilities is not None
    positive = seen.truth == seen.target.positive
    found = thresholds(positive, seen.said.probabilities[:, seen.target.positive])
    own = shown.record["threshold"]
    known = np.isfinite(found.precision)
    curves = [
        Curve("precision", found.at[known], found.precision[known]),
        Curve("recall", found.at, found.recall),
        Curve("F1", found.at, found.f1),
    ]
    drawn = drawing.lines(
        "By threshold", "threshold", "", curves, mark=own if own is not None else 0.5
    )
    at = sorted({0.1, 0.25, 0.5, 0.75, 0.9, *([] if own is None else [round(own, 2)])})
    places = [int(np.abs(found.at - a).argmin()) for a in at]
    lines = tuple(
        (float(found.at[i]), found.precision[i], found.recall[i], found.f1[i]) for i in places
    )
    told = (
        "The threshold is 0.5: nothing else was declared, and no class is rare."
        if own is None
        else f"The threshold is {own:.4g}, as declared, or as tuned on validation."
    )
    table = Table(("threshold", "precision", "recall", "F1"), lines)
    return Section("Threshold", told, (drawn,), (table,))


def _residuals(seen: Coded, part: str) -> Section:
    truth, values = seen.truth, seen.said.values
    at = sampled(len(truth), MOST_POINTS)
    error = values - truth
    meant, came = deciles(truth, values)
    pictures = (
        drawing.points(
            f"Predicted against true, {part}", "true", "predicted", (truth[at], values[at]), True
        ),
        drawing.points(
            "Residuals", "predicted", "predicted - true", (values[at], error[at]), False
        ),
        drawing.histogram("Error", "predicted - true", error),
        drawing.lines(
            "Calibration, by tenths of the predictions",
            "mean predicted",
            "mean true",
            [Curve("", meant, came, dots=True)],
            whole=False,
            diagonal=True,
        ),
    )
    quantiles = (0.05, 0.25, 0.5, 0.75, 0.95)
    table = Table(
        ("error: mean", *(f"{q:.0%}" for q in quantiles)),
        ((float(error.mean()), *(float(np.quantile(error, q)) for q in quantiles)),),
    )
    told = f" {MOST_POINTS:,} of {len(truth):,} rows are drawn." if len(truth) > MOST_POINTS else ""
    return Section("Residuals and calibration", f"On {part}.{told}", pictures, (table,))


# -------------------------------------------------------------- columns and rows


def _importance(found: Importance | str) -> Section:
    name = "Permutation importance"
    if isinstance(found, str):
        return Section(name, found)
    note = (
        f"How much worse {found.metric} gets when one column is shuffled: {found.rows:,} rows, "
        f"{found.repeats} times. A small or negative value is noise."
    )
    if found.left_out:
        note += f" {found.left_out} columns were not asked."
    drawn = drawing.bars(f"Loss of {found.metric}", list(found.losses.items())[:MOST_BARS])
    return Section(name, note, (drawn,))


def _asked_for(shown: Shown) -> Section:
    """It says where the rest is: what costs time is left out of a card that nobody asked for."""
    command = f"ml-assets inspect {shown.problem} candidate/{shown.candidate}"
    return Section("Slices and importance", f"To see them, with the leaderboard: {command}")


def _ordered(shown: Shown) -> list[str]:
    """It returns the features, the most important first where that is known."""
    first = list(shown.importance.losses) if isinstance(shown.importance, Importance) else []
    return list(dict.fromkeys([*first, *shown.record["features"]]))


def _slices(shown: Shown, seen: Coded) -> Section:
    found, undefined = slices(seen, shown.rows, _ordered(shown), shown.select)
    lines = tuple((s.column, s.value, s.rows, s.reached, s.worse) for s in found[:MOST_SLICES])
    note = f"{shown.select} by value of a column, worst first."
    if len(shown.rows) > MOST_ROWS_SLICED:
        note += f" Of a sample of {MOST_ROWS_SLICED:,} rows."
    if len(found) > MOST_SLICES:
        note += f" {len(found)} slices were looked at."
    if undefined:
        note += f" In {undefined} more {shown.select} is not defined: rows of one class."
    columns = ("column", "value", "rows", shown.select, "worse than overall by")
    return Section("Slices", note, (), (Table(columns, lines),) if lines else ())


def _worst(shown: Shown, seen: Coded) -> Section:
    places = worst(seen, MOST_WORST)
    if not len(places):
        return Section("Worst predictions", "Every row is predicted right.")
    lost, shares = losses(seen), seen.said.probabilities
    key = [shown.key] if shown.key is not None and shown.key in shown.rows.columns else []
    beside: list[str] = [*key, *_ordered(shown)[:MOST_FEATURES]]
    lines = []
    for i in places:
        own = [] if shares is None else [float(shares[i, seen.truth[i]])]
        cells = [_plain(shown.rows[c].iloc[i]) for c in beside]
        said = (_plain(shown.truth[i]), _plain(shown.said.values[i]))
        lines.append((*said, *own, float(lost[i]), *cells))
    also = [] if shares is None else ["probability of the truth"]
    columns = ("true", "predicted", *also, "loss", *beside)
    return Section("Worst predictions", "", (), (Table(columns, tuple(lines)),))


def _plain(value: Any) -> Any:
    """It returns a value of a row as text, so that no number of an identifier is rounded."""
    if value is None or value is pd.NaT or value != value:
        return ""
    if isinstance(value, float):
        return float(value)
    return str(value)


def _schema(shown: Shown) -> Section:
    lines = []
    features = set(shown.record["features"])
    columns: Sequence[str] = list(shown.rows.columns)
    for name in columns[:MOST_COLUMNS]:
        values = shown.rows[name]
        role = "feature" if name in features else "key" if name == shown.key else "not a feature"
        numeric = values.dtype.kind in "iuf" and values.notna().any()
        ends = (_plain(values.min()), _plain(values.max())) if numeric else ("", "")
        lines.append((name, shown.types.get(name, ""), role, float(values.isna().mean()), *ends))
    note = f"Shares and ends are those of {shown.part}."
    if len(columns) > MOST_COLUMNS:
        note += f" {len(columns) - MOST_COLUMNS} more columns."
    heads = ("column", "type", "role", "missing", "least", "most")
    return Section("Schema", note, (), (Table(heads, tuple(lines)),))


# ------------------------------------------------------------------ how it was made


def _learning(shown: Shown) -> Section:
    record, facts = shown.record, shown.facts
    lines: list[tuple[Any, ...]] = [
        ("estimator", record["estimator"]),
        *((f"parameter {k}", str(v)) for k, v in record["params"].items()),
        ("threshold", record["threshold"]),
        ("fit seconds", f"{facts['seconds']:.3g}"),
        ("latency of one row", f"{facts['latency_ms']:.3g} ms"),
        ("size", f"{record['bytes']:,} bytes"),
        ("fitted at", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts["at"]))),
        ("model digest", record["model_digest"]),
    ]
    tables = [Table(("", ""), tuple(line for line in lines if line[1] is not None))]
    if record["search"]:
        tables.append(_trials(record["search"], facts["trials"]))
    return Section("Learning", "What it is, and what it cost.", (), tuple(tables))


def _trials(search: Any, trials: Sequence[Any]) -> Table:
    greater = METRICS[search["how"].split(" trials, ")[1].split()[0]][0]
    done = [t for t in trials if t["value"] is not None]
    best = sorted(done, key=lambda t: t["value"], reverse=greater)[:MOST_TRIALS]
    names = list(search["best"])
    lines = tuple(
        (t["value"], *(str(t["params"].get(n, "")) for n in names), t["seconds"]) for t in best
    )
    return Table(
        ("value", *names, "seconds"), lines, f"The search: {search['how']}. Its best trials."
    )


def _environment(shown: Shown) -> Section:
    tables = (
        Table(("from", ""), tuple(shown.provenance.items())),
        Table(("library", "version"), tuple(shown.facts["environment"].items())),
    )
    return Section("Environment", "What it was made from, and with.", (), tables)
