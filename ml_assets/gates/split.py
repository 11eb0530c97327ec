"""Gates that ask a split, by what its parts hold."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ml_assets.errors import shortened
from ml_assets.gates import Verdict

if TYPE_CHECKING:
    from ml_assets.dataset import Target
    from ml_assets.split import Part


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
