"""Gates that ask a challenger, by what it was seen to do.

The same gates can be asked of a candidate on validation, to prefer those that would pass.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ml_assets.gates import Verdict, named_apart
from ml_assets.gates.rows import ASKED, Answers, name_of
from ml_assets.metric import METRICS, gain
from ml_assets.problem import (
    BeatsBaselineGate,
    ClassShareGate,
    GateDeclaration,
    LatencyGate,
    MetricGate,
    Problem,
)


@dataclass(frozen=True)
class Seen:
    """What was seen of one candidate on one part.

    Attributes:
        part: validation or test: where the metrics come from.
        rows: number of rows predicted.
        metrics: by name.
        missing: predictions that are missing or infinite.
        class_shares: share of the predictions by class (as text); empty for regression.
        latency_ms: median time to predict one row.
        select: the metric that ranks.
        own: its value of `select` on validation.
        baseline: the baseline's value of `select` on validation; None if it has none.
    """

    part: str
    rows: int
    metrics: dict[str, float]
    missing: int
    latency_ms: float
    select: str
    own: float | None
    baseline: float | None
    class_shares: dict[str, float] = field(default_factory=dict)


def predictions_are_complete(seen: Seen) -> Verdict:
    """It asks whether every row got a finite prediction."""
    return Verdict(
        "predictions_are_complete",
        seen.missing == 0 and seen.rows > 0,
        f"{seen.missing:,} of {seen.rows:,} predictions are missing or infinite.",
        {"missing": seen.missing, "rows": seen.rows},
    )


def metric_is_in_bounds(seen: Seen, gate: MetricGate) -> Verdict:
    """It asks whether a metric reaches its floor and stays under its ceiling."""
    if gate.min is not None and gate.max is not None:
        name = f"{gate.metric}_is_within_bounds"
    else:
        name = f"{gate.metric}_{'reaches_floor' if gate.min is not None else 'is_under_ceiling'}"
    value = seen.metrics.get(gate.metric)
    if value is None or not math.isfinite(value):
        reason = f"{gate.metric} on {seen.part} is not defined for these predictions."
        return Verdict(name, False, reason, {}, gate.mode)
    bounds = [f"floor {gate.min:g}"] if gate.min is not None else []
    bounds += [f"ceiling {gate.max:g}"] if gate.max is not None else []
    passed = (gate.min is None or value >= gate.min) and (gate.max is None or value <= gate.max)
    return Verdict(
        name,
        passed,
        f"{gate.metric} on {seen.part} is {value:.4g}, {' and '.join(bounds)}.",
        {gate.metric: value, "min": gate.min, "max": gate.max},
        gate.mode,
    )


def answers_in_time(seen: Seen, gate: LatencyGate) -> Verdict:
    """It asks whether one row is predicted in time."""
    return Verdict(
        "answers_in_time",
        seen.latency_ms <= gate.latency_ms,
        f"One row takes {seen.latency_ms:.3g} ms (median), {gate.latency_ms:g} ms allowed.",
        {"latency_ms": seen.latency_ms, "most": gate.latency_ms},
        gate.mode,
    )


def every_class_is_predicted(seen: Seen, gate: ClassShareGate) -> Verdict:
    """It asks whether each class has its least share of the predictions."""
    if not seen.class_shares:
        return Verdict(
            "every_class_is_predicted", True, "A regression has no classes.", {}, gate.mode
        )
    rarest = min(seen.class_shares, key=lambda c: seen.class_shares[c])
    share = seen.class_shares[rarest]
    return Verdict(
        "every_class_is_predicted",
        share >= gate.class_share,
        f"`{rarest}` is predicted for {share:.2%} of the rows, {gate.class_share:.2%} is the least.",
        {"share": share, "least": gate.class_share},
        gate.mode,
    )


def beats_the_baseline(seen: Seen, gate: BeatsBaselineGate) -> Verdict:
    """It asks whether the features were worth anything, on validation."""
    if seen.own is None:
        return Verdict(
            "beats_the_baseline", False, f"It has no {seen.select} on validation.", {}, gate.mode
        )
    if seen.baseline is None:
        return Verdict("beats_the_baseline", False, "The baseline has no metrics.", {}, gate.mode)
    won = gain(seen.select, seen.own, seen.baseline)
    return Verdict(
        "beats_the_baseline",
        won > gate.by,
        f"{seen.select} on validation is {seen.own:.4g}, the baseline's {seen.baseline:.4g}: "
        f"better by {won:.3g}, more than {gate.by:g} is asked "
        f"({'greater' if METRICS[seen.select][0] else 'smaller'} is better).",
        {"gain": won, "by": gate.by},
        gate.mode,
    )


def ask(
    seen: Seen,
    problem: Problem,
    answers: "Callable[[], Answers] | None" = None,
    names_only: bool = False,
) -> list[Verdict]:
    """It returns the verdicts of the gates that are always asked, and of the declared ones.

    Args:
        seen: what was seen of the challenger.
        problem: the declaration.
        answers: what gives its answers row by row; without it, gates on rows are not asked.
        names_only: of gates on rows, the verdicts' names are given before anything is known.
    """
    declared = list(problem.gates)
    if not any(isinstance(g, BeatsBaselineGate) for g in declared):
        declared.append(BeatsBaselineGate(beats="baseline"))
    asked = _verdicts(seen, declared, answers, names_only)
    return named_apart([predictions_are_complete(seen), *asked])


def _verdicts(
    seen: Seen,
    declared: list[GateDeclaration],
    answers: "Callable[[], Answers] | None",
    names_only: bool,
) -> list[Verdict]:
    verdicts = []
    for gate in declared:
        if getattr(gate, "mode", "enforce") == "off":
            continue
        if isinstance(gate, MetricGate):
            verdicts.append(metric_is_in_bounds(seen, gate))
        elif isinstance(gate, LatencyGate):
            verdicts.append(answers_in_time(seen, gate))
        elif isinstance(gate, ClassShareGate):
            verdicts.append(every_class_is_predicted(seen, gate))
        elif isinstance(gate, BeatsBaselineGate):
            verdicts.append(beats_the_baseline(seen, gate))
        elif type(gate) in ASKED and names_only:
            verdicts.append(Verdict(name_of(gate), False, "", {}, getattr(gate, "mode", "enforce")))
        elif type(gate) in ASKED and answers is not None:
            verdicts.append(ASKED[type(gate)](answers(), gate))
    return verdicts


def expected(problem: Problem) -> list[Verdict]:
    """It returns the verdicts that `ask` will give, before anything is known: names and modes."""
    nothing = Seen("test", 0, {}, 0, 0.0, "", None, None)
    return ask(nothing, problem, names_only=True)


def named(problem: Problem) -> dict[str, GateDeclaration]:
    """It returns the declared gates by the names of their checks."""
    on = [g for g in problem.gates if getattr(g, "mode", "enforce") != "off"]
    nothing = Seen("test", 0, {}, 0, 0.0, "", None, None)
    alone = [v for g in on for v in _verdicts(nothing, [g], None, True)]
    asked = [g for g in on if _verdicts(nothing, [g], None, True)]
    return dict(zip((v.name for v in named_apart(alone)), asked, strict=True))
