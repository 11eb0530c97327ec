"""A round with parameters: a problem changed for one run, which compares and leaves production be."""

from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ml_assets.digest import digest_of
from ml_assets.errors import DeclarationError, did_you_mean
from ml_assets.gates import challenger as gates
from ml_assets.problem import Parameters, Problem
from ml_assets.resources.lake import Lake
from ml_assets.round import Round

_SOURCES = {"loader", "sql", "connection", "asset", "path", "resent"}
_SINGLE = ("transform", "threshold", "class_weight", "select", "seed")


def changed(problem: Problem, given: Parameters) -> Problem:
    """It returns the problem as one run sees it.

    Raises:
        DeclarationError: a candidate, a gate or a field is unknown, or a value is not possible.
    """
    contenders = problem.contenders()
    for name in (*given.candidates, *given.only):
        if name not in contenders:
            raise DeclarationError(
                f"{problem.name} has no candidate `{name}`.{did_you_mean(name, contenders)}"
            )
    changes: dict[str, Any] = {
        k: getattr(given, k) for k in _SINGLE if getattr(given, k) is not None
    }
    if given.candidates or given.only:
        chosen = given.only or list(contenders)
        changes["candidates"] = {
            n: {**c.model_dump(), "params": {**c.params, **given.candidates.get(n, {})}}
            for n, c in contenders.items()
            if n in chosen
        }
    if given.gates:
        changes["gates"] = _thresholds(problem, given.gates)
    if given.data:
        changes["dataset"] = {
            **problem.dataset.model_dump(exclude_unset=True, exclude=_SOURCES),
            "path": given.data,
        }
    whole = {f: getattr(problem, f) for f in type(problem).model_fields}
    try:
        return Problem(**{**whole, **changes})
    except ValidationError as error:
        told = [
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        ]
        raise DeclarationError("; ".join(told)) from None


def _thresholds(problem: Problem, given: dict[str, dict[str, Any]]) -> list[Any]:
    named = gates.named(problem)
    for name in given:
        if name not in named:
            raise DeclarationError(
                f"{problem.name} declares no gate `{name}`.{did_you_mean(name, named)}"
            )
    by_gate = {id(gate): given.get(name, {}) for name, gate in named.items()}
    return [{**g.model_dump(), **by_gate.get(id(g), {})} for g in problem.gates]


def with_parameters(round_: Round, given: Parameters) -> Round:
    """It returns a round that does what one run is told, otherwise than declared.

    Other data live in a lake of their own, so that the problem's own current dataset, its table
    and what is known of its landing zone stay as they are.

    Raises:
        DeclarationError: what is told cannot be done.
    """
    problem = changed(round_.problem, given)
    told = told_otherwise(round_.problem, problem, given)
    if not told:
        return round_
    if given.promote and problem.promotion.mode == "approval":
        raise DeclarationError(
            "promote: this problem's promotions need approval, and only what is declared can be "
            "approved. Declare it, run, and approve."
        )
    stores = round_.stores
    if given.data:
        aside = stores.lake.root / ".other_data" / digest_of(problem.name, given.data)[:16]
        stores = replace(stores, lake=Lake(aside))
    return replace(
        round_,
        problem=problem,
        stores=stores,
        otherwise=told,
        promotes=given.promote,
        dataset_version=given.dataset_version,
    )


def told_otherwise(before: Problem, after: Problem, given: Parameters) -> str:
    """It returns what differs from the declaration, in the words that would set it; else nothing."""
    contenders, named = before.contenders(), gates.named(before)
    told = [
        f"candidates.{name}.{k}={v}"
        for name, params in given.candidates.items()
        for k, v in params.items()
        if contenders[name].params.get(k) != v
    ]
    told += [
        f"gates.{name}.{k}={v}"
        for name, fields in given.gates.items()
        for k, v in fields.items()
        if getattr(named[name], k) != v
    ]
    told += [f"{k}={getattr(after, k)}" for k in _SINGLE if getattr(after, k) != getattr(before, k)]
    if given.only and {*given.only} < {*contenders}:
        told.append(f"only={', '.join(given.only)}")
    for field in ("data", "dataset_version"):
        if value := getattr(given, field):
            told.append(f"{field}={value}")
    return ", ".join(told)
