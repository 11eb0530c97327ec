"""The parts that a declaration can name: candidates, transforms, gates and metrics, with what they are.

Ours are told without importing their libraries. Of what installed packages provide the docstring's
first sentence is shown, so those are imported here, and only here.
"""

import inspect
import re
from typing import Any, Literal

from ml_assets.errors import DeclarationError
from ml_assets.gates import CATALOGUE
from ml_assets.gates.rows import ASKED
from ml_assets.metric import DEFAULT_SELECT, METRICS
from ml_assets.problem import SHORT_NAMES
from ml_assets.problem.candidate import ABOUT, TRANSFORMS
from ml_assets.problem.gates import KINDS, CustomGate, is_claim
from ml_assets.provided import Kind, Provided, locate_part, provided
from ml_assets.user_code import locate

OURS = "ml_assets"
# our checks on the challenger that are declared by a word of their own -> that word
_WORDS = {
    "metric_is_in_bounds": "metric",
    "answers_in_time": "latency_ms",
    "every_class_is_predicted": "class_share",
    "beats_the_baseline": "beats baseline",
    "beats_the_champion": "beats champion",
    **{
        function.__name__: next(word for word, kind in KINDS.items() if kind is declared)
        for declared, function in ASKED.items()
        if declared is not CustomGate
    },
}


def listed(kind: Kind | Literal["metrics"]) -> list[dict[str, Any]]:
    """It returns the parts of a kind, ours first: name, about, package, version and remark.

    Args:
        kind: candidates, transforms, gates or metrics.
    """
    ours = {
        "candidates": {name: ABOUT[name] for name in SHORT_NAMES},
        "transforms": TRANSFORMS,
        "gates": {name: _declared(name, about) for name, about in CATALOGUE.items()},
        "metrics": {name: _metric(name) for name in METRICS},
    }[kind]
    known = [
        {"name": n, "about": about, "package": OURS, "version": None, "remark": None}
        for n, about in ours.items()
    ]
    if kind == "metrics":
        return known
    return known + [
        _told(kind, part, set(ours)) for parts in provided(kind).values() for part in parts
    ]


def _declared(name: str, about: str) -> str:
    word = _WORDS.get(name)
    if word is None:
        return about
    key, _, value = word.partition(" ")
    return f"{about} Declared as `{{{key}: {value or '…'}}}`."


def _metric(name: str) -> str:
    greater, tasks = METRICS[name]
    default = [t for t, m in DEFAULT_SELECT.items() if m == name]
    ranks = f" Ranks {default[0]} tasks by default." if default else ""
    return f"{'Greater' if greater else 'Smaller'} is better; for {', '.join(tasks)}.{ranks}"


def _told(kind: Kind, part: Provided, ours: set[str]) -> dict[str, Any]:
    """It returns what is told of a part that a package provides, and why it cannot be named."""
    remark, about = None, ""
    others = [p for p in provided(kind)[part.name] if p != part]
    if part.name in ours and kind != "gates":
        remark = f"`{part.name}` is the one of ml_assets; write `{part.path}` for this one."
    elif kind == "gates" and is_claim(part.name):
        remark = "A check of ml_assets has this name: it cannot be declared."
    elif others:
        remark = f"{others[0].package} provides this name too: write `{part.path}` for this one."
    try:
        found = locate(part.path, None) if others else locate_part(kind, part.name, None)
        about = first_sentence(inspect.getdoc(found) or "")
    except DeclarationError as error:
        remark = str(error)
    except Exception as error:  # what another package does on import stops no list
        remark = f"`{part.path}` cannot be imported: {type(error).__name__}: {error}"
    return {
        "name": part.name,
        "about": about,
        "package": part.package,
        "version": part.version,
        "remark": remark,
    }


def first_sentence(text: str) -> str:
    """It returns the first sentence of a docstring, in one line."""
    paragraph = " ".join(text.strip().split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s", paragraph, maxsplit=1)[0]
