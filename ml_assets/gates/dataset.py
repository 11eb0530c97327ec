"""Gates that ask a dataset, by its profile."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ml_assets.errors import did_you_mean, shortened
from ml_assets.gates import Verdict
from ml_assets.problem import ColumnContract, GroupBy, Mode, Problem, TimeBy
from ml_assets.problem.dataset import Rule

if TYPE_CHECKING:
    from ml_assets.contract import Breach
    from ml_assets.dataset import Column, Profile

MOST_TOLD = 10

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


def columns_are_as_declared(
    profile: "Profile", problem: Problem, breaches: "Sequence[Breach]" = ()
) -> Verdict:
    """It asks whether all declared columns are there, with their types, ranges and completeness."""
    faults = []
    for where, name in _named_columns(problem):
        contract = problem.dataset.contract.columns.get(name)
        may_be_empty = contract is not None and contract.missing == 1
        if name not in profile.columns and not (where == "contract" and may_be_empty):
            hint = did_you_mean(name, profile.columns)
            faults.append(f"`{name}` ({where}) is not there.{hint}")
    faults += _told(profile, problem, breaches, "enforce")
    if not profile.features:
        faults.append("no column is left to learn from.")
    reason = _bounded(faults) if faults else f"{len(profile.columns)} columns, as declared."
    return Verdict("columns_are_as_declared", not faults, reason, {"faults": len(faults)})


def values_are_usual(
    profile: "Profile", problem: Problem, breaches: "Sequence[Breach]" = ()
) -> Verdict:
    """It asks whether values lie where they usually do, in the known categories."""
    odd = _told(profile, problem, breaches, "warn")
    odd += [b.reason for b in breaches if b.rule == "empty"]
    reason = _bounded(odd) if odd else "Nothing is odd."
    return Verdict("values_are_usual", not odd, reason, {"columns": len(odd)})


def _bounded(faults: list[str]) -> str:
    more = f" (and {len(faults) - MOST_TOLD} more)" if len(faults) > MOST_TOLD else ""
    return " ".join(faults[:MOST_TOLD]) + more


def _told(
    profile: "Profile", problem: Problem, breaches: "Sequence[Breach]", mode: Mode
) -> list[str]:
    """It returns the faults of one severity; with lines and examples, where a file was judged."""
    known = {(b.column, b.rule): b.reason for b in breaches}
    faults = []
    for name, contract in problem.dataset.contract.columns.items():
        if name in profile.columns:
            found = _faults(name, profile.columns[name], contract, profile.rows)
            severe = {r: contract.mode_of(r) for r, _ in found}
            # of what a released batch breaches, somebody decided otherwise
            severe |= {r: "warn" for r in severe if f"{name} {r}" in profile.released}
            if problem.dataset.is_landing and severe.get("missing") == "enforce":
                severe["missing"] = "warn"  # each batch was asked, and chance adds up
            faults += [known.get((name, r), f) for r, f in found if severe[r] == mode]
            told = {r for r, _ in found}
            faults += [
                b.reason
                for b in breaches
                if b.column == name and b.mode == mode and b.rule not in (*told, "absent")
            ]
    return faults


def _named_columns(problem: Problem) -> list[tuple[str, str]]:
    named = [("contract", c) for c in problem.dataset.contract.columns]
    named += [("drop", c) for c in problem.dataset.drop]
    if problem.dataset.key:
        named.append(("key", problem.dataset.key))
    if isinstance(problem.split.by, GroupBy):
        named.append(("split", problem.split.by.group))
    if isinstance(problem.split.by, TimeBy):
        named.append(("split", problem.split.by.time))
    seen: dict[str, str] = {}
    for where, name in named:
        seen.setdefault(name, where)
    return [(where, name) for name, where in seen.items()]


def _faults(
    name: str, column: "Column", contract: ColumnContract, rows: int
) -> "list[tuple[Rule, str]]":
    faults: list[tuple[Rule, str]] = []
    empty = column.missing == rows
    # whole numbers, or truth values, with gaps are read as numbers
    gaps = contract.type in ("integer", "boolean") and column.type == "number"
    gaps = gaps and column.missing > 0
    if contract.type and not empty and not gaps and column.type not in _FITS[contract.type]:
        faults.append(("type", f"`{name}` holds {column.type}, {contract.type} is declared."))
    share, allowed = column.missing / max(rows, 1), contract.missing
    if allowed is not None and share > allowed:
        text = f"`{name}` is missing in {share:.2%}; {allowed:.2%} is allowed."
        faults.append(("missing", text))
    low, high = column.min, column.max
    if contract.min is not None and low is not None and low < contract.min:
        faults.append(("min", f"`{name}` goes down to {low:g}; {contract.min:g} is the least."))
    if contract.max is not None and high is not None and high > contract.max:
        faults.append(("max", f"`{name}` goes up to {high:g}; {contract.max:g} is the most."))
    if contract.usual is not None and low is not None and high is not None:
        least, most = contract.usual
        if low < least or high > most:
            text = f"`{name}` goes from {low:g} to {high:g}; {least:g} to {most:g} is usual."
            faults.append(("usual", text))
    if contract.values is not None and column.values is not None:
        new = [v for v in column.values if v not in contract.values]
        if new:
            faults.append(
                ("values", f"`{name}` has categories that are not known: {shortened(new)}.")
            )
    return faults


def no_feature_gives_the_target_away(profile: "Profile", problem: Problem) -> Verdict:
    """It asks whether the target is not told by a feature, or by a sum of features."""
    found = profile.findings
    said = [f"`{name}` ({how})" for name, how in found.leaks]
    if found.together:
        said.append(f"{shortened(f'`{n}`' for n in found.together)} together sum up to it")
    name = problem.dataset.target
    reason = (
        f"The target `{name}` is given away by {'; '.join(said)}. Put such columns under `drop`, "
        "or, if they are known when a prediction is asked for, set this gate to warn."
        if said
        else f"No feature tells the target `{name}` by itself."
    )
    evidence = {"leaks": len(found.leaks) + len(found.together)}
    return Verdict("no_feature_gives_the_target_away", not said, reason, evidence)


def rows_are_unique(profile: "Profile", problem: Problem) -> Verdict:
    """It asks whether no row equals an earlier one."""
    share = profile.duplicates / max(profile.rows, 1)
    reason = f"{profile.duplicates:,} of {profile.rows:,} rows ({share:.1%}) equal an earlier row"
    kept = "; the split keeps equal rows together." if problem.dataset.key is None else "."
    evidence = {"duplicates": profile.duplicates, "share": share}
    return Verdict("rows_are_unique", profile.duplicates == 0, reason + kept, evidence)


def labels_agree(profile: "Profile", problem: Problem) -> Verdict:
    """It asks whether rows with equal features have equal targets."""
    conflicts = profile.findings.conflicts
    reason = (
        f"{conflicts:,} of {profile.rows:,} rows have the features of a row with another "
        f"`{problem.dataset.target}`."
    )
    return Verdict("labels_agree", conflicts == 0, reason, {"conflicts": conflicts})


def features_vary(profile: "Profile", _: Problem) -> Verdict:
    """It asks whether no feature is constant or empty."""
    constant = profile.findings.constant
    said = f"{shortened(constant)}: one value or none; left out." if constant else "All vary."
    return Verdict("features_vary", not constant, said, {"constant": len(constant)})


def categories_are_distinct(profile: "Profile", _: Problem) -> Verdict:
    """It asks whether no two categories differ only in case or blanks."""
    alike = profile.findings.alike
    said = "; ".join(f"`{name}`: {pair}" for name, pair in alike[:5])
    reason = f"Nearly the same, and kept apart: {said}." if alike else "No two are nearly the same."
    return Verdict("categories_are_distinct", not alike, reason, {"features": len(alike)})


def no_feature_is_an_identifier(profile: "Profile", _: Problem) -> Verdict:
    """It asks whether no text has a value for nearly each row."""
    found = profile.findings.identifiers
    said = f"{shortened(found)}: a value for nearly each row; left out of the features."
    reason = said if found else "No text has a value for nearly each row."
    return Verdict("no_feature_is_an_identifier", not found, reason, {"identifiers": len(found)})


def dates_have_one_format(profile: "Profile", _: Problem) -> Verdict:
    """It asks whether no column mixes formats of dates: a guess would reorder time."""
    mixed = profile.findings.dates
    said = "; ".join(f"`{name}` mixes {how}" for name, how in mixed[:5])
    reason = f"{said}. Write them in one format, best 2024-12-31." if mixed else "None mixes."
    return Verdict("dates_have_one_format", not mixed, reason, {"columns": len(mixed)})


def no_column_is_new(profile: "Profile", problem: Problem) -> Verdict:
    """It asks whether every column is under contract, where the contract ignores new ones."""
    from ml_assets.dataset import new_columns

    new = new_columns(list(profile.columns), problem.dataset)
    said = f"{shortened(new)}: not under contract; ignored." if new else "None is new."
    return Verdict("no_column_is_new", not new, said, {"new": len(new)})


ASKED = (has_enough_rows, target_is_usable)
INTEGRITY = (
    no_feature_gives_the_target_away,
    rows_are_unique,
    labels_agree,
    features_vary,
    categories_are_distinct,
    no_feature_is_an_identifier,
    dates_have_one_format,
    no_column_is_new,
)


ENFORCED = (no_feature_gives_the_target_away, dates_have_one_format)


def modes(problem: Problem) -> dict[str, Mode]:
    """It returns the gates that are asked of a dataset, with how severe each is."""
    asked: dict[str, Mode] = {gate.__name__: "enforce" for gate in ASKED}
    asked |= {"columns_are_as_declared": "enforce", "values_are_usual": "warn"}
    for gate in INTEGRITY:
        usual: Mode = "enforce" if gate in ENFORCED else "warn"
        declared = {str(k): v for k, v in problem.dataset.integrity.items()}
        asked[gate.__name__] = declared.get(gate.__name__, usual)
    return {name: mode for name, mode in asked.items() if mode != "off"}


def ask(profile: "Profile", problem: Problem, breaches: "Sequence[Breach]" = ()) -> list[Verdict]:
    """It returns the verdicts of all gates on the dataset.

    Args:
        profile: of all its rows.
        problem: the declaration.
        breaches: what was found where a file was read, with lines and examples.
    """
    asked = modes(problem)
    verdicts = [gate(profile, problem) for gate in ASKED]
    verdicts.append(columns_are_as_declared(profile, problem, breaches))
    verdicts.append(values_are_usual(profile, problem, breaches))
    verdicts += [gate(profile, problem) for gate in INTEGRITY if gate.__name__ in asked]
    return [replace(v, mode=asked[v.name]) for v in verdicts]
