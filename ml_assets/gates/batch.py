"""Gates that ask one batch before its rows join the dataset.

They are those of a dataset that one file can answer: its contract, its target, and whether it
brings a leak.  Few rows of a class are no fault of a small file; a class that chance cannot have
left out is.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ml_assets.contract import CHANCE, Breach, told
from ml_assets.errors import shortened
from ml_assets.gates import Verdict
from ml_assets.gates import dataset as whole
from ml_assets.problem import Problem

if TYPE_CHECKING:
    from ml_assets.dataset import Profile

# Of the gates on integrity, those whose failure makes rows unfit rather than odd.
ASKED = (whole.no_feature_gives_the_target_away,)


def rows_are_as_declared(breaches: list[Breach]) -> Verdict:
    """It asks whether the batch keeps its contract, every rule that is enforced."""
    wrong = [b for b in breaches if b.mode == "enforce"]
    reason = told(wrong) if wrong else "It keeps its contract."
    return Verdict("rows_are_as_declared", not wrong, reason, {"breaches": len(wrong)})


def values_are_usual(breaches: list[Breach]) -> Verdict:
    """It asks whether nothing in the batch is odd."""
    odd = [b for b in breaches if b.mode == "warn"]
    reason = told(odd) if odd else "Nothing is odd."
    return Verdict("values_are_usual", not odd, reason, {"breaches": len(odd)}, "warn")


def target_is_usable(profile: "Profile", problem: Problem, before: "Profile | None") -> Verdict:
    """It asks whether the batch's target is complete, finite, and of the known classes.

    Args:
        profile: of the batch.
        problem: the declaration.
        before: of the dataset that it is to join; None for the first batch.
    """
    name = problem.dataset.target
    column = profile.columns.get(name)
    if column is None:
        return Verdict("target_is_usable", False, f"There is no target `{name}`.")
    contract = problem.dataset.contract.columns.get(name)
    allowed = (contract.missing if contract else None) or 0.0
    fault = ""
    if column.missing == profile.rows:
        fault = f"The target `{name}` is missing in all {profile.rows:,} rows."
    elif column.missing and not allowed:
        fault = f"The target `{name}` is missing in {column.missing:,} of {profile.rows:,} rows."
    elif column.infinite:
        fault = f"The target `{name}` is infinite in {column.infinite:,} rows."
    elif problem.task == "binary" and column.distinct > 2:
        fault = f"The target `{name}` has {column.distinct} classes; a binary task has 2."
    elif before is not None and before.target is not None and before.target.classes:
        fault = _classes(profile, before, name)
    what = f"`{name}` is complete and of the known kind."
    return Verdict("target_is_usable", not fault, fault or what, {"missing": column.missing})


def _classes(profile: "Profile", before: "Profile", name: str) -> str:
    """It says what is wrong with a batch's classes, given those of the dataset."""
    assert before.target is not None
    known = before.target.classes
    here = profile.target.classes if profile.target else profile.columns[name].values or ()
    new = [c for c in here if c not in known]
    if new and before.target.task == "binary":
        return f"The target `{name}` holds {shortened(new)}; it is {shortened(known)}."
    distinct = profile.columns[name].distinct
    if distinct != 1 or len(here) != 1:
        return ""
    counts = dict(zip(known, before.target.counts, strict=True))
    share = counts.get(here[0], 0) / max(sum(counts.values()), 1)
    if share**profile.rows >= CHANCE:
        return ""
    return (
        f"The target `{name}` has one class ({here[0]}) in all {profile.rows:,} rows; in the "
        f"dataset it has {share:.1%}. Chance does not do that."
    )


def dates_have_one_format(
    profile: "Profile", problem: Problem, written: Mapping[str, str]
) -> Verdict:
    """It asks whether dates are written as in the rest of the batch, and as in the dataset.

    Args:
        profile: of the batch.
        problem: the declaration.
        written: the formats of the dataset's dates, by column.
    """
    alone = whole.dates_have_one_format(profile, problem)
    if not alone.passed:
        return alone
    other = [
        f"`{name}` has dates as {form}; in the dataset they are {written[name]}"
        for name, form in profile.findings.written
        if written.get(name, form) != form
    ]
    if not other:
        return alone
    reason = f"{'; '.join(other[:5])}. Write them alike, or declare `type: date` with a `format`."
    return Verdict("dates_have_one_format", False, reason, {"columns": len(other)})


def ask(
    profile: "Profile",
    problem: Problem,
    breaches: list[Breach],
    before: "Profile | None",
    written: Mapping[str, str],
) -> list[Verdict]:
    """It returns the verdicts of all gates on a batch.

    Args:
        profile: of the batch.
        problem: the declaration.
        breaches: of its contract.
        before: profile of the dataset that it is to join; None for the first batch.
        written: the formats of the dataset's dates, by column.
    """
    modes = whole.modes(problem)
    verdicts = [rows_are_as_declared(breaches), values_are_usual(breaches)]
    said = {b.rule for b in breaches if b.column == problem.dataset.target}
    if not said & {"absent", "missing"}:
        verdicts.append(target_is_usable(profile, problem, before))
    asked = [gate for gate in ASKED if modes.get(gate.__name__) == "enforce"]
    verdicts += [gate(profile, problem) for gate in asked]
    if modes.get("dates_have_one_format") == "enforce":
        verdicts.append(dates_have_one_format(profile, problem, written))
    return verdicts
