"""How a problem stands, and what people decide about it, outside of any Dagster run."""

import datetime
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.errors import DeclarationError, MLAssetsError, shortened
from ml_assets.metric import DEFAULT_SELECT
from ml_assets.problem import SHORT_NAMES
from ml_assets.problem.candidate import TRANSFORMS
from ml_assets.problem.gates import CustomGate
from ml_assets.provided import Kind, locate_part
from ml_assets.resources.home import Home, find_home
from ml_assets.resources.ledger import DECISIONS, MAKES_CHAMPION, under_way
from ml_assets.resources.stores import Stores, open_stores

if TYPE_CHECKING:
    from ml_assets.components import MLProblem
    from ml_assets.round import Round
    from ml_assets.round.quarantine import Quarantined

# names that are ours, and lead somewhere
OURS: dict[Kind, tuple[str, ...]] = {
    "candidates": SHORT_NAMES,
    "transforms": tuple(TRANSFORMS),
    "gates": (),
}


def champion(problem: str, stores: Stores) -> dict[str, Any] | None:
    """It returns what the ledger says of the champion."""
    entry = stores.ledger.champion(problem)
    if entry is None:
        return None
    kept = ("version", "candidate", "dataset_version", "reason")
    return {
        **{k: entry[k] for k in kept},
        "digest": entry["model_digest"],
        "metrics": entry["metrics"],
        "since": _time(entry["at"]),
    }


def canary(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """It returns what a history says of the canary under way, or None."""
    found = under_way(entries)
    if not found:
        return None
    start, looks = found[0], found[1:]
    terms = start["terms"]
    return {
        "version": start["version"],
        "candidate": start["candidate"],
        "share": terms["share"],
        "since": _time(start["at"]),
        "until": _time(start["at"] + terms["longest"]),
        "looks": len(looks),
        "rows": looks[-1]["rows"] if looks else None,
        "reason": found[-1]["reason"],
    }


def stores_of(component: "MLProblem") -> Stores:
    """It returns the stores that a problem's assets use."""
    return open_stores(find_home(component.root))


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def status(component: "MLProblem", home: Home) -> dict[str, Any]:
    """It returns a problem's champion, dataset and last decision."""
    problem, stores = component.problem, stores_of(component)
    entries = stores.ledger.entries(problem.name)
    last = next((e for e in reversed(entries) if e["event"] in DECISIONS), None)
    try:
        current = stores.lake.current(problem.name, "dataset")
        dataset = {
            "version": current.digest[:16],
            "read_at": _time(current.facts["at"]),
            "source": current.facts["source"],
        }
    except MLAssetsError:
        dataset = None
    return {
        "problem": problem.name,
        "champion": champion(problem.name, stores),
        "canary": canary(entries),
        "dataset": dataset,
        "last_decision": last
        and {
            "decision": last["event"],
            "at": _time(last["at"]),
            "version": last["version"],
            "reason": last["reason"],
            "run_id": last["run_id"],
        },
        "select": problem.select or (DEFAULT_SELECT[problem.task] if problem.task else None),
        "home": str(home.path),
    }


def history(component: "MLProblem", at: str | None) -> dict[str, Any]:
    """It returns the ledger of a problem, oldest first, and who was champion at a time.

    Args:
        component: the problem.
        at: an ISO 8601 time, UTC where it names no zone; None for the whole history.

    Raises:
        DeclarationError: `at` is no time.
        PromotionRefused: the ledger was rewritten.
    """
    entries = stores_of(component).ledger.entries(component.problem.name)
    if at is not None:
        until = _seconds(at)
        entries = [e for e in entries if e["at"] <= until]
    made = [e for e in entries if e["event"] in MAKES_CHAMPION]
    kept = (
        "number",
        "event",
        "version",
        "candidate",
        "previous",
        "reason",
        "actor",
        "run_id",
        "file",
        "gate",
        "until",
    )
    told = ("dataset_version", "config_digest", "code_version", "model_digest", "metrics")
    return {
        "problem": component.problem.name,
        "at": at,
        "champion": made[-1]["version"] if made else None,
        "entries": [
            {
                **{k: e.get(k) for k in (*kept, *told)},
                "at": _time(e["at"]),
                "until": _time(e["until"]) if "until" in e else None,
            }
            for e in entries
        ],
    }


def _seconds(at: str) -> float:
    try:
        when = datetime.datetime.fromisoformat(at)
    except ValueError:
        raise DeclarationError(f"`{at}` is no time. Write it as 2026-12-31T18:00:00.") from None
    return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()


def _asked(component: "MLProblem", command: str) -> "Round":
    """It returns the round of a command, which is no Dagster run."""
    from ml_assets.components.ml_problem.assets import actor_of
    from ml_assets.resources.registry import DagsterRun
    from ml_assets.round import Round

    problem = component.problem
    run = DagsterRun("", f"{problem.name} {command}")
    return Round(problem, component.folder, stores_of(component), run, actor_of({}))


def quarantine(component: "MLProblem") -> dict[str, Any]:
    """It returns the refused batches of a problem, the latest first."""
    told = [
        {
            "batch": q.batch,
            "file": q.name,
            "state": q.state,
            "reason": q.reason,
            "at": _time(q.at),
            "kept": q.kept and str(q.kept),
        }
        for q in _quarantined(component)
    ]
    return {"problem": component.problem.name, "batches": told}


def release(component: "MLProblem", batch: str, why: str) -> dict[str, Any]:
    """It lets a refused batch in at the next run, whatever its contract says, and returns the entry.

    Raises:
        PromotionRefused: no such batch awaits, or no reason is given.
    """
    from ml_assets.round.arrival import table_of
    from ml_assets.round.known import Known
    from ml_assets.round.quarantine import release as released

    asked = _asked(component, "release")
    return released(asked, batch, why, Known.of(asked, table_of(asked)).files)


def refused_in(component: "MLProblem", run_id: str) -> list[dict[str, Any]]:
    """It returns the batches that were refused in a run."""
    if not component.problem.dataset.is_landing:
        return []
    found = _quarantined(component)
    return [
        {"batch": q.batch, "file": q.name, "reason": q.reason, "state": q.state}
        for q in found
        if q.run_id == run_id
    ]


def _quarantined(component: "MLProblem") -> "list[Quarantined]":
    from ml_assets.round.arrival import table_of
    from ml_assets.round.known import Known
    from ml_assets.round.quarantine import quarantined

    asked = _asked(component, "quarantine")
    return quarantined(asked, Known.of(asked, table_of(asked)).files)


def roll_back(
    component: "MLProblem", instance: dg.DagsterInstance, to: int | None, why: str
) -> dict[str, Any]:
    """It rolls a problem back, shows that in the UI, and returns the ledger's entry.

    Raises:
        PromotionRefused: there is no such earlier champion, or no reason.
        ModelRefused: the version is not what was recorded.
    """
    from ml_assets.components.ml_problem.decisions import changed
    from ml_assets.round.rollback import roll_back as rolled_back

    entry = rolled_back(_asked(component, "rollback"), to, why)
    instance.report_runless_asset_event(changed(component.problem.name, entry, "Rolled back"))
    return entry


def approve(
    component: "MLProblem", instance: dg.DagsterInstance, version: int, why: str
) -> dict[str, Any]:
    """It approves the challenger that waits, shows that in the UI, and returns the ledger's entry.

    Raises:
        PromotionRefused: it is not the challenger, or not fit, or not better, or without a reason.
        ModelRefused: the version is not what was recorded.
    """
    from ml_assets.components.ml_problem.decisions import changed
    from ml_assets.round.production import approval

    entry = approval(_asked(component, "approve"), version, why)
    instance.report_runless_asset_event(changed(component.problem.name, entry, "Approved"))
    return entry


def manifests(component: "MLProblem", storage_uri: str | None) -> list[dict[str, Any]]:
    """It returns what KServe is told to serve: the champion, and then the canary, if there is one.

    Raises:
        NotMaterialized: there is no champion.
        DeclarationError: the versions are where no cluster reaches them.
        ModelRefused: the registry has no such version.
    """
    from ml_assets.manifest import location, percent_of, service
    from ml_assets.round.predictions import canary_entry, scoring_entry

    problem, stores = component.problem, stores_of(component)
    tried = canary_entry(problem, stores)
    told = []
    for entry in [scoring_entry(problem.name, stores), *([tried] if tried else [])]:
        version = stores.registry.version(problem.name, entry["version"])
        tags = {**version.tags, "version": str(version.number)}
        uri = location(tags, stores.registry.location(version), storage_uri)
        percent = percent_of(entry["terms"]["share"]) if entry is tried else None
        told.append(service(problem.name, version.number, entry["digest"], uri, percent))
    return told


def withdraw_canary(component: "MLProblem", why: str) -> dict[str, Any]:
    """It withdraws the canary, and returns the ledger's entry.

    Raises:
        PromotionRefused: there is none, or no reason.
    """
    from ml_assets.round.canary import withdraw

    return withdraw(_asked(component, "rollback"), why)


def override(
    component: "MLProblem", version: int, gate: str, why: str, until: str
) -> dict[str, Any]:
    """It lets one version pass one gate until a time, and returns the ledger's entry.

    Raises:
        DeclarationError: `until` is no time.
        PromotionRefused: there is no such gate, or it cannot be overridden, or without a reason.
        ModelRefused: there is no such version.
    """
    from ml_assets.round.override import override as overridden

    asked = _asked(component, "override")
    entry = overridden(asked, version, gate, why, _seconds(until))
    return {**entry, "until": _time(entry["until"])}


def reproduce(component: "MLProblem", version: int | None) -> dict[str, Any]:
    """It makes a version again from its record, and returns what came out otherwise.

    Raises:
        PromotionRefused: there is no such version, or no record of it.
        ModelRefused: rows or record were changed since.
    """
    from dataclasses import asdict

    from ml_assets.round.reproduction import reproduce as reproduced

    made = reproduced(_asked(component, "reproduce"), version)
    return {"problem": component.problem.name, **asdict(made)}


def clean(
    component: "MLProblem", instance: dg.DagsterInstance, dry_run: bool = False
) -> dict[str, Any]:
    """It removes what the next run of a problem makes again, and returns what that was.

    Raises:
        MLAssetsError: a run of the problem is in progress.
    """
    from ml_assets.round.clean import clean as cleaned

    name = component.problem.name
    if running := in_progress(instance, name):
        raise MLAssetsError(
            f"{name} is being run ({shortened(running)}); what a step reads is not taken away. Wait "
            "for its end. If its process died, terminate the run in `ml-assets ui`, or by "
            "`dagster run delete`."
        )
    made = cleaned(_asked(component, "clean"), dry_run)
    nouns = {n: {"files": files, "bytes": size} for n, (files, size) in made.removed.items()}
    return {
        "problem": name,
        "dry_run": dry_run,
        "files": sum(n["files"] for n in nouns.values()),
        "bytes": sum(n["bytes"] for n in nouns.values()),
        "removed": nouns,
        "kept": made.kept,
    }


def in_progress(instance: dg.DagsterInstance, name: str) -> list[str]:
    """It returns the runs that may be reading or writing what belongs to a problem."""
    asked = dg.RunsFilter(statuses=_IN_PROGRESS)
    return [r.run_id for r in instance.get_runs(asked) if _is_of(r, name)]


_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _is_of(run: dg.DagsterRun, name: str) -> bool:
    if run.job_name == name or run.tags.get("ml_assets/problem") == name:
        return True
    if run.asset_selection is None:  # a job of several problems, or of all
        return "ml_assets/problem" not in run.tags
    return any(key.path[0] == name for key in run.asset_selection)


def inspect(component: "MLProblem", asset: str) -> dict[str, Any]:
    """It returns where the card of an asset is, made now where nobody has asked for it before.

    Raises:
        DeclarationError: there are no cards of such an asset.
        NotMaterialized: what it is to show is not made.
        ModelRefused: the stored candidate is not what was stored.
    """
    from ml_assets.round.inspection import inspect as inspected

    found = inspected(_asked(component, "inspect"), asset)
    name, registry = component.problem.name, stores_of(component).registry
    return {
        "problem": name,
        "asset": found.asset,
        "part": found.part,
        "card": str(found.file.resolve()),
        "made": found.made,
        "mlflow": found.mlflow_run and registry.run_link(name, found.mlflow_run),
    }


def predict(
    component: "MLProblem", path: Path, output: Path, version: int | None
) -> dict[str, Any]:
    """It scores a file with the champion, or a former one, and returns what came of it.

    Raises:
        DeclarationError: the output cannot be written, or the version never was champion.
        DatasetError: the input cannot be read, or lacks features.
        NotMaterialized: there is no champion.
        ModelRefused: the version is not what was recorded.
    """
    from ml_assets.round.predictions import predict_file

    return predict_file(_asked(component, "predict"), path, output, version)


def faults(component: "MLProblem") -> list[str]:
    """It returns what is wrong with a declaration that parses: paths that lead nowhere."""
    problem, found = component.problem, []
    asked: list[tuple[Kind, str]] = [
        ("candidates", problem.dataset.loader or ""),
        ("transforms", problem.transform),
    ]
    asked += [("gates", g.custom) for g in problem.gates if isinstance(g, CustomGate)]
    for c in problem.candidates.values():
        asked += [("candidates", c.estimator), ("transforms", c.transform or "")]
    for kind, path in dict.fromkeys(asked):
        if not path or path in OURS[kind]:
            continue
        try:
            locate_part(kind, path, component.folder)
        except MLAssetsError as error:
            found += [str(error)] if str(error) not in found else []
    if problem.dataset.path is not None and not problem.dataset.is_landing:
        file = (component.root or Path.cwd()) / problem.dataset.path
        if "://" not in problem.dataset.path and not file.is_file():
            found.append(f"No data file at {file}. Put one there, or change `dataset.path`.")
    wanted = problem.dataset.connection
    if wanted is not None and not os.environ.get(wanted):
        found.append(f"The environment variable {wanted} (dataset.connection) is not set.")
    return found
