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

MOST_SHIFTED = 0.15  # of a part's share


def parts_are_disjoint(shared: int, how: str) -> Verdict:
    """It asks whether no key, group or row stands in two parts."""
    reason = (
        f"{shared:,} {how}s stand in more than one part: the test would be no judge."
        if shared
        else f"No {how} stands in two parts."
    )
    return Verdict("parts_are_disjoint", shared == 0, reason, {"shared": shared})


def every_class_is_present(parts: "Mapping[str, Part]", target: "Target") -> Verdict:
    """It asks whether every part has rows, and train and test have rows of every class."""
    sizes = {name: part.rows for name, part in parts.items()}
    empty = [name for name, rows in sizes.items() if rows < 2]
    lacking = [
        f"{name} has no {shortened(gone)}"
        for name, part in parts.items()
        if name != "validation" and part.counts
        for gone in [[str(c) for c, n in zip(target.classes, part.counts, strict=True) if n == 0]]
        if gone
    ]
    spread = ", ".join(f"{name} {rows:,}" for name, rows in sizes.items())
    if empty:
        reason = f"Too few rows in {shortened(empty)} ({spread}). More data, or other shares."
    elif lacking:
        reason = f"{shortened(lacking)} ({spread}). More rows of these classes, or other shares."
    else:
        reason = f"Rows: {spread}."
    return Verdict("every_class_is_present", not empty and not lacking, reason, sizes)


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
        "" if fine else " Move `validation_from` and `test_from`, so that train learns newer rows."
    )
    return Verdict("shares_are_as_declared", fine, f"{reason}.{advice}", shares, "warn")
