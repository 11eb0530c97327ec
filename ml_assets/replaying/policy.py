"""A policy otherwise than declared: a problem with other rules for retraining, gates or promotion."""

from collections.abc import Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from ml_assets.errors import DeclarationError
from ml_assets.problem import BeatsChampionGate, Problem, parameters
from ml_assets.round.parameters import changed

# What a policy is made of, beside what any run can be told.
_POLICY = ("retrain.", "promotion.", "split.", "gates.beats_the_champion.")


def under(problem: Problem, settings: Sequence[str]) -> Problem:
    """It returns a problem as words like ``retrain.cool_down=6h`` set it.

    Beside what a run can be told: fields of `retrain`, `promotion` and `split`, and those of the
    comparison with the champion, as ``gates.beats_the_champion.confidence=0.99``.

    Raises:
        DeclarationError: there is no such field, or not this value for it.
    """
    own = [s for s in settings if s.strip().startswith(_POLICY)]
    given = parameters([s for s in settings if s not in own])
    for name in ("data", "dataset_version"):
        if getattr(given, name):
            raise DeclarationError(f"`{name}`: every policy is played on the same history.")
    problem = changed(problem, given)
    champion = problem.champion_gate().model_dump()
    changes: dict[str, Any] = {
        name: getattr(problem, name).model_dump(exclude_unset=True)
        for name in ("retrain", "promotion", "split")
    }
    changes["gates"] = {"beats_the_champion": champion}
    for setting in own:
        path, sign, value = setting.partition("=")
        *way, last = [w.strip() for w in path.split(".")]
        if not sign or not last:
            raise DeclarationError(f"`{setting}` sets nothing. Write KEY=VALUE.")
        place = changes
        for word in way:
            if not isinstance(place.get(word), dict):
                place[word] = {}  # a switch that was on or off becomes a rule of its own
            place = place[word]
        place[last] = yaml.safe_load(value)
    others = [g for g in problem.gates if not isinstance(g, BeatsChampionGate)]
    changes["gates"] = [*others, changes["gates"]["beats_the_champion"]]
    whole = {f: getattr(problem, f) for f in type(problem).model_fields}
    try:
        return Problem(**{**whole, **changes})
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise DeclarationError("; ".join(told)) from None
