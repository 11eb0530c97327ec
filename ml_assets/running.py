"""Running: one Dagster run of a problem from the command line, and what it came to.

The run is executed in this process, on the instance that the UI shows.  Progress and outcome are
read from Dagster's own events.
"""

import datetime
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.errors import DeclarationError, MLAssetsError, did_you_mean
from ml_assets.metric import DEFAULT_SELECT, METRICS
from ml_assets.problem.gates import CustomGate
from ml_assets.resources.home import Home, find_home
from ml_assets.resources.ledger import MAKES_CHAMPION
from ml_assets.resources.stores import Stores, open_stores

if TYPE_CHECKING:
    from ml_assets.components import MLProblem
    from ml_assets.round import Round
    from ml_assets.round.quarantine import Quarantined

DONE, FAILED, WRONG = 0, 1, 2
DAGSTER_UI = "http://127.0.0.1:3000"
# Errors of the input, not of the run: the command ends with status 2.
_WRONG_INPUT = ("DatasetError", "DeclarationError")


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        status: exit status.
        document: what `run --json` answers.
    """

    status: int
    document: dict[str, Any]


@dataclass
class Watched:
    """What was seen of a run while it went on.

    Attributes:
        say: where progress goes.
        started: when each step began.
        materialized: metadata of each materialized asset, by path.
        checked: the evaluations of checks, in order.
        failed: class, message of each failed step, by step.
    """

    say: Callable[[str], None]
    prefix: str
    started: dict[str, float] = field(default_factory=dict)
    materialized: dict[str, dict[str, Any]] = field(default_factory=dict)
    checked: list[Any] = field(default_factory=list)
    failed: dict[str, tuple[list[str], str]] = field(default_factory=dict)

    def see(self, record: Any) -> None:
        """It takes note of one event and tells of it."""
        event = getattr(record, "dagster_event", None)
        if event is None:
            return
        step = self._noun(event.step_key or "")
        kind = event.event_type_value
        if kind == "STEP_START":
            self.started[step] = time.perf_counter()
            self.say(f"  ·  {step} …")
        elif kind == "ASSET_MATERIALIZATION":
            path = "/".join(event.asset_key.path[1:])
            made = event.step_materialization_data.materialization
            self.materialized[path] = {k: v.value for k, v in made.metadata.items()}
        elif kind == "ASSET_CHECK_EVALUATION":
            self.checked.append(event.asset_check_evaluation_data)
        elif kind == "STEP_SUCCESS":
            self.say(f"  ✓  {step:<36} {self._took(step):>8}   {self._remark(step)}".rstrip())
        elif kind == "STEP_FAILURE":
            classes, message = _cause(event.step_failure_data.error)
            if "DagsterAssetCheckFailedError" not in classes:  # the gates tell it better
                self.failed[step] = classes, message
            self.say(f"  ✗  {step:<36} {self._took(step):>8}")
        elif kind == "STEP_SKIPPED":
            self.say(f"  –  {step:<36}  skipped")

    def _noun(self, step: str) -> str:
        step = step.removeprefix(f"{self.prefix}__").split(".")[0]
        return step.replace("candidate__", "candidate/")

    def _took(self, step: str) -> str:
        return f"{time.perf_counter() - self.started.get(step, time.perf_counter()):.1f} s"

    def _remark(self, step: str) -> str:
        path = "split/train" if step == "split" else step
        made = self.materialized.get(path)
        wrong = [c for c in self.checked if "/".join(c.asset_key.path[1:]) == path and not c.passed]
        if wrong:
            return wrong[-1].description or ""
        if made is None:
            return ""
        if str(made.get("reused", "")).startswith("yes"):
            return "unchanged"
        if step == "dataset":
            return f"{made['dagster/row_count']:,} rows"
        if "fit_seconds" in made:
            return f"fitted in {made['fit_seconds']:.1f} s"
        return ""


def _cause(error: Any) -> tuple[list[str], str]:
    classes, message = [], ""
    while error is not None:
        classes.append(error.cls_name)
        message = error.message.split(": ", 1)[-1].strip() or message
        error = error.cause
    return classes, message


def run(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    component: "MLProblem",
    only: tuple[str, ...],
    say: Callable[[str], None],
) -> Outcome:
    """It runs a problem's job, or some of its assets, and returns what that came to.

    Raises:
        MLAssetsError: `only` names no asset of the problem.
    """
    from dagster._core.utils import make_new_run_id

    problem = component.problem
    job = definitions.resolve_job_def(problem.name)
    selection = _selected(component, job, only) if only else None
    run_id = make_new_run_id()
    watched = Watched(say, problem.name)
    say(f"{problem.name}: run {run_id}")
    instance.add_event_listener(run_id, watched.see)
    began = time.perf_counter()
    result = job.execute_in_process(
        instance=instance,
        run_id=run_id,
        asset_selection=selection,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        tags={"ml_assets/problem": problem.name, "ml_assets/started_by": "ml-assets run"},
    )
    say(f"  {'done' if result.success else 'failed'} in {time.perf_counter() - began:.1f} s\n")
    document = _document(component, run_id, watched, result.success)
    wrong = [m for classes, m in watched.failed.values() if any(c in _WRONG_INPUT for c in classes)]
    refused = bool(document["dataset"]["quarantined"])
    failed = WRONG if wrong and not document["gates"] else FAILED
    status = failed if not result.success else FAILED if refused else DONE
    return Outcome(status, document)


def _selected(component: "MLProblem", job: Any, only: tuple[str, ...]) -> list[dg.AssetKey]:
    keys = {"/".join(k.path[1:]): k for k in job.asset_layer.executable_asset_keys}
    chosen = []
    for word in only:
        asked = word.removeprefix(f"{component.problem.name}/").strip("/")
        found = [k for path, k in keys.items() if path == asked or path.startswith(f"{asked}/")]
        if not found:
            raise MLAssetsError(
                f"--only {word}: {component.problem.name} has no such asset.{did_you_mean(asked, keys)}"
            )
        chosen += found
    if any(k.path[1] == "split" for k in chosen):  # the three parts are made together
        chosen += [k for path, k in keys.items() if path.startswith("split/")]
    if keys["dataset"] in chosen and "quarantine" in keys:  # what is refused is to be seen
        chosen.append(keys["quarantine"])
    return list(dict.fromkeys(chosen))


def _document(
    component: "MLProblem", run_id: str, watched: Watched, success: bool
) -> dict[str, Any]:
    problem, stores = component.problem, stores_of(component)
    dataset = watched.materialized.get("dataset", {})
    gates = [
        {
            "name": c.check_name,
            "asset": "/".join(c.asset_key.path[1:]),
            "passed": c.passed,
            "severity": c.severity.value,
            "reason": c.description,
        }
        for c in watched.checked
    ]
    decisions = [g for g in gates if g["name"] == "beats_the_champion"]
    promoted = "production_model" in watched.materialized
    evaluation = watched.materialized.get("evaluation", {})
    return {
        "problem": problem.name,
        "run_id": run_id,
        "success": success,
        "dataset": {
            "version": dataset.get("version"),
            "rows": dataset.get("dagster/row_count"),
            "quarantined": _refused(component, run_id),
        },
        "candidates": _candidates(list(problem.contenders()), watched, gates),
        "select": evaluation.get("select")
        or problem.select
        or DEFAULT_SELECT[problem.task or "binary"],
        "winner": evaluation.get("winner"),
        "challenger": _challenger(watched),
        "gates": gates,
        "decision": {
            "promoted": promoted,
            "reason": decisions[-1]["reason"]
            if decisions and success
            else _why_undecided(watched, gates),
        },
        "champion": champion(problem.name, stores),
        "errors": {step: message for step, (_, message) in watched.failed.items()},
        "links": [
            f"{DAGSTER_UI}/runs/{run_id}",
            f"{DAGSTER_UI}/asset-groups  (group {problem.name})",
            f"{stores.registry.ui}/#/models/{problem.name}",
        ],
    }


def _refused(component: "MLProblem", run_id: str) -> list[dict[str, Any]]:
    """It returns the batches that were refused in a run."""
    if not component.problem.dataset.is_landing:
        return []
    found = _quarantined(component)
    return [
        {"batch": q.batch, "file": q.name, "reason": q.reason, "state": q.state}
        for q in found
        if q.run_id == run_id
    ]


def _candidates(
    names: list[str], watched: Watched, gates: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    candidates: dict[str, dict[str, Any]] = {}
    for name in names:
        made = watched.materialized.get(f"candidate/{name}")
        error = next(
            (g["reason"] for g in gates if g["asset"] == f"candidate/{name}" and not g["passed"]),
            watched.failed.get(f"candidate/{name}", ([], None))[1],
        )
        if made is None and error is None:
            continue
        made = made or {}
        reused = str(made.get("reused", "")).startswith("yes")
        candidates[name] = {
            "metrics": {m: made[m] for m in METRICS if m in made},
            "fitted": bool(made) and not reused,
            "reused": reused,
            "error": error,
        }
    return candidates


def _challenger(watched: Watched) -> dict[str, Any] | None:
    made = watched.materialized.get("challenger")
    if made is None:
        return None
    return {
        "candidate": made["candidate"],
        "version": made["version"],
        "metrics": {m: made[m] for m in METRICS if m in made},
    }


def _why_undecided(watched: Watched, gates: list[dict[str, Any]]) -> str:
    failed = [g for g in gates if not g["passed"] and g["severity"] == "ERROR"]
    stopping = [g for g in failed if not g["asset"].startswith("candidate/")]
    if stopping:
        return "; ".join(f"{g['name']}: {g['reason']}" for g in stopping)
    if watched.failed:
        return "; ".join(f"{s}: {m}" for s, (_, m) in watched.failed.items())
    return "Production was not asked in this run."


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


def stores_of(component: "MLProblem") -> Stores:
    """It returns the stores that a problem's assets use."""
    return open_stores(find_home(component.root))


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def status(component: "MLProblem", home: Home) -> dict[str, Any]:
    """It returns a problem's champion, dataset and last decision."""
    problem, stores = component.problem, stores_of(component)
    entries = stores.ledger.entries(problem.name)
    last = next(
        (e for e in reversed(entries) if e["event"] in ("promotion", "hold", "rollback")), None
    )
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
        "dataset": dataset,
        "last_decision": last
        and {
            "decision": last["event"],
            "at": _time(last["at"]),
            "version": last["version"],
            "reason": last["reason"],
            "run_id": last["run_id"],
        },
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
    )
    told = ("dataset_version", "config_digest", "code_version", "model_digest", "metrics")
    return {
        "problem": component.problem.name,
        "at": at,
        "champion": made[-1]["version"] if made else None,
        "entries": [
            {"at": _time(e["at"]), **{k: e.get(k) for k in (*kept, *told)}} for e in entries
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
    from ml_assets.round.production import approve as approved

    made = approved(_asked(component, "approve"), version, why)
    assert made.champion is not None
    instance.report_runless_asset_event(changed(component.problem.name, made.champion, "Approved"))
    return made.champion


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


def faults(component: "MLProblem") -> list[str]:
    """It returns what is wrong with a declaration that parses: paths that lead nowhere."""
    from ml_assets.user_code import locate

    problem, found = component.problem, []
    paths = [problem.dataset.loader or "", problem.transform]
    paths += [g.custom for g in problem.gates if isinstance(g, CustomGate)]
    paths += [p for c in problem.candidates.values() for p in (c.estimator, c.transform or "")]
    for path in dict.fromkeys(p for p in paths if "." in p):
        try:
            locate(path, component.folder)
        except MLAssetsError as error:
            found.append(str(error))
    if problem.dataset.path is not None and not problem.dataset.is_landing:
        file = (component.root or Path.cwd()) / problem.dataset.path
        if "://" not in problem.dataset.path and not file.is_file():
            found.append(f"No data file at {file}. Put one there, or change `dataset.path`.")
    wanted = problem.dataset.connection
    if wanted is not None and not os.environ.get(wanted):
        found.append(f"The environment variable {wanted} (dataset.connection) is not set.")
    return found
