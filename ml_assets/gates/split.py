"""Gates that ask a split, by what its parts hold."""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from ml_assets.errors import shortened
from ml_assets.gates import Verdict
from ml_assets.problem import SplitDeclaration

if TYPE_CHECKING:
    from ml_assets.dataset import Target
    from ml_assets.split import Part

MOST_SHIFTED = 0.15  # between a part's share of all rows and the declared one
# A class of many is rare when it has fewer rows than this, and a smaller share.
RARE_ROWS, RARE_SHARE = 30, 0.01


def parts_are_disjoint(shared: int, how: str) -> Verdict:
    """It asks whether no key, group or row stands in two parts."""
    reason = (
        f"{shared:,} {how}s stand in more than one part: the test would be no judge."
        if shared
        else f"No {how} stands in two parts."
    )
    return Verdict("parts_are_disjoint", shared == 0, reason, {"shared": shared})


def every_class_is_present(parts: "Mapping[str, Part]", target: "Target") -> Verdict:
    """It asks whether every part has rows, and train and test have rows of every class.

    Of a class that is rare among many, too few rows exist for a part of each size: it is said.
    """
    sizes = {name: part.rows for name, part in parts.items()}
    empty = [name for name, rows in sizes.items() if rows < 2]
    rare = _rare(parts, target)
    lacking, also = [], []
    for name, part in parts.items():
        counted = zip(target.classes, part.counts, strict=False)
        gone = [c for c, n in counted if n == 0] if name != "validation" else []
        if told := [str(c) for c in gone if c not in rare]:
            lacking.append(f"{name} has no {shortened(told)}")
        if told := [str(c) for c in gone if c in rare]:
            also.append(f"{name} has no {shortened(told)}")
    spread = ", ".join(f"{name} {rows:,}" for name, rows in sizes.items())
    if empty:
        reason = f"Too few rows in {shortened(empty)} ({spread}). More data, or other shares."
    elif lacking:
        reason = f"{shortened(lacking)} ({spread}). More rows of these classes, or other shares."
    else:
        reason = f"Rows: {spread}." + (f" Of the rare classes {'; '.join(also)}." if also else "")
    return Verdict("every_class_is_present", not empty and not lacking, reason, sizes)


def _rare(parts: "Mapping[str, Part]", target: "Target") -> set[object]:
    """It returns the classes of which no share of rows can be asked."""
    counts = [sum(n) for n in zip(*(p.counts for p in parts.values()), strict=True)]
    whole = sum(counts)
    few = [n < RARE_ROWS and n < RARE_SHARE * whole for n in counts]
    return {c for c, f in zip(target.classes, few, strict=False) if f and len(target.classes) > 2}


def time_is_in_order(parts: "Mapping[str, Part]") -> Verdict:
    """It asks whether train ends before validation begins, and that before test."""
    ordered = [parts[name] for name in ("train", "validation", "test") if parts[name].rows]
    fine = all(a.last < b.first for a, b in pairwise(ordered))
    spans = ", ".join(f"{n} {p.first} to {p.last}" for n, p in parts.items() if p.rows)
    return Verdict("time_is_in_order", fine, f"{spans}.")


def shares_are_as_declared(parts: "Mapping[str, Part]", declared: SplitDeclaration) -> Verdict:
    """It asks whether cuts in time still give about the declared shares."""
    total = max(sum(p.rows for p in parts.values()), 1)
    shares = {name: part.rows / total for name, part in parts.items()}
    fine = all(abs(share - getattr(declared, n)) <= MOST_SHIFTED for n, share in shares.items())
    reason = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    advice = (
        ""
        if fine
        else " Move `validation_from` and `test_from`, so that train learns newer rows, or let "
        "them move: `rolling: true` in their place."
    )
    return Verdict("shares_are_as_declared", fine, f"{reason}.{advice}", shares, "warn")
