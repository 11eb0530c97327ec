"""Gates that ask a dataset, by its profile."""

from typing import TYPE_CHECKING

from ml_assets.errors import did_you_mean, shortened
from ml_assets.gates import Verdict
from ml_assets.problem import ColumnContract, GroupBy, Problem

if TYPE_CHECKING:
    from ml_assets.dataset import Column, Profile

# what may stand where a type is declared: an integer is a number
_FITS = {
    "integer": {"integer"},
    "number": {"integer", "number"},
    "text": {"text"},
    "boolean": {"boolean"},
    "date": {"date"},
}


def has_enough_rows(profile: "Profile", problem: Problem) -> Verdict:
    """It asks whether the dataset has at least the declared number of rows."""
    least = problem.dataset.contract.min_rows
    return Verdict(
        "has_enough_rows",
        profile.rows >= least,
        f"{profile.rows:,} rows; at least {least:,} are needed.",
        {"rows": profile.rows, "least": least},
    )


def target_is_usable(profile: "Profile", problem: Problem) -> Verdict:
    """It asks whether the target is there, complete, finite, and fits the task."""
    name, target = problem.dataset.target, profile.target
    if target is None:
        return Verdict("target_is_usable", False, profile.trouble or "no target")
    column = profile.columns[name]
    contract = problem.dataset.contract.columns.get(name)
    allowed = contract.missing if contract and contract.missing is not None else 0.0
    share = column.missing / max(profile.rows, 1)
    evidence = {"task": target.task, "missing": column.missing, "infinite": column.infinite}
    if column.infinite:
        return Verdict(
            "target_is_usable",
            False,
            f"The target `{name}` is infinite in {column.infinite} rows. Correct or remove them.",
            evidence,
        )
    if share > allowed:
        return Verdict(
            "target_is_usable",
            False,
            f"The target `{name}` is missing in {column.missing:,} of {profile.rows:,} rows "
            f"({share:.2%}); {allowed:.2%} is allowed. Correct them, or allow a share under "
            f"contract.columns.{name}.missing: such rows are then left out.",
            evidence,
        )
    try:
        problem.check_task(target.task)
    except ValueError as error:
        return Verdict("target_is_usable", False, f"{error}", evidence)
    what = f"{len(target.classes)} classes" if target.classes else "a number"
    left_out = f"; {column.missing:,} rows without it are left out" if column.missing else ""
    return Verdict(
        "target_is_usable",
        True,
        f"`{name}` is {what}: {target.task} ({target.why}){left_out}.",
        evidence,
    )


def columns_are_as_declared(profile: "Profile", problem: Problem) -> Verdict:
    """It asks whether all declared columns are there, with their types, ranges and completeness."""
    faults = []
    for where, name in _named_columns(problem):
        if name not in profile.columns:
            hint = did_you_mean(name, profile.columns)
            faults.append(f"`{name}` ({where}) is not there.{hint}")
    for name, contract in problem.dataset.contract.columns.items():
        if name in profile.columns:
            faults += _faults(name, profile.columns[name], contract, profile.rows)
    if not profile.features:
        faults.append("no column is left to learn from.")
    declared = problem.dataset.contract.columns
    new = [c for c in profile.columns if c not in declared] if declared else []
    said = f" New columns, not under contract: {shortened(new)}." if new else ""
    if faults:
        more = f" (and {len(faults) - 10} more)" if len(faults) > 10 else ""
        reason = " ".join(faults[:10]) + more + said
    else:
        reason = f"{len(profile.columns)} columns, as declared.{said}"
    return Verdict(
        "columns_are_as_declared", not faults, reason, {"faults": len(faults), "new": len(new)}
    )


def _named_columns(problem: Problem) -> list[tuple[str, str]]:
    named = [("contract", c) for c in problem.dataset.contract.columns]
    named += [("drop", c) for c in problem.dataset.drop]
    if problem.dataset.key:
        named.append(("key", problem.dataset.key))
    if isinstance(problem.split.by, GroupBy):
        named.append(("split", problem.split.by.group))
    seen: dict[str, str] = {}
    for where, name in named:
        seen.setdefault(name, where)
    return [(where, name) for name, where in seen.items()]


def _faults(name: str, column: "Column", contract: ColumnContract, rows: int) -> list[str]:
    faults = []
    empty = column.missing == rows
    # an integer column with gaps is read as number
    gaps = contract.type == "integer" and column.type == "number" and column.missing > 0
    if contract.type and not empty and not gaps and column.type not in _FITS[contract.type]:
        faults.append(f"`{name}` holds {column.type}, {contract.type} is declared.")
    share = column.missing / max(rows, 1)
    if contract.missing is not None and share > contract.missing:
        faults.append(f"`{name}` is missing in {share:.2%}; {contract.missing:.2%} is allowed.")
    if contract.min is not None and column.min is not None and column.min < contract.min:
        faults.append(f"`{name}` goes down to {column.min:g}; {contract.min:g} is the least.")
    if contract.max is not None and column.max is not None and column.max > contract.max:
        faults.append(f"`{name}` goes up to {column.max:g}; {contract.max:g} is the most.")
    return faults


ASKED = (has_enough_rows, target_is_usable, columns_are_as_declared)


def ask(profile: "Profile", problem: Problem) -> list[Verdict]:
    """It returns the verdicts of all gates on the dataset."""
    return [gate(profile, problem) for gate in ASKED]
