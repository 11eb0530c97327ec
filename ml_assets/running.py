"""Running: one Dagster run of a problem from the command line, and what it came to.

The run is executed in this process, on the instance that the UI shows.  Progress and outcome are
read from Dagster's own events.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from ml_assets.components.worker import signed
from ml_assets.errors import MLAssetsError, did_you_mean
from ml_assets.metric import DEFAULT_SELECT, METRICS
from ml_assets.problem import Parameters, Problem
from ml_assets.promotion import AWAITING
from ml_assets.resources.home import find_home
from ml_assets.standing import champion, refused_in, stores_of
from ml_assets.time_limit import in_words
from ml_assets.turn import turn

if TYPE_CHECKING:
    from ml_assets.components import MLProblem

DONE, FAILED, WRONG = 0, 1, 2
DAGSTER_UI = "http://127.0.0.1:3000"
# Errors of the input, not of the run: the command ends with status 2.
_WRONG_INPUT = ("DatasetError", "DeclarationError")
# The assets after deployment, which are in no round: what declares each, and what is told of it.
LIVE = {
    "predictions": ("predictions", ("model_version", "files", "dagster/row_count", "wrong_rows")),
    "monitoring": ("monitoring", ("model_version", "live_rows", "windows", "labels")),
    "rollback_decision": ("monitoring", ("decision", "reason")),
    "retrain_decision": ("monitoring", ("decision", "reason")),
}


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
        if kind in ("STEP_START", "STEP_RESTARTED"):
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
        elif kind == "STEP_UP_FOR_RETRY":
            classes, message = _cause(event.step_retry_data.error)
            if any("Interrupt" in c for c in classes):  # Dagster would try again what was ended
                raise KeyboardInterrupt
            self.say(f"  ↻  {step:<36} tried again in a moment: {message}")
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
    given: Parameters,
    say: Callable[[str], None],
) -> Outcome:
    """It runs a problem's job, or some of its assets, and returns what that came to.

    Args:
        definitions: the code location.
        instance: where the run is recorded.
        component: the problem.
        only: names of assets; all when empty.
        given: what this run does otherwise than declared.
        say: where progress goes.

    Raises:
        MLAssetsError: `only` names no asset of the problem, or `given` cannot be done.
    """
    from dagster._core.utils import make_new_run_id

    from ml_assets.components.ml_problem.parameters import run_config
    from ml_assets.round.parameters import changed, told_otherwise

    problem = component.problem
    otherwise = told_otherwise(problem, changed(problem, given), given)
    jobs = _asked(definitions, component, only)
    watched = Watched(say, problem.name)
    run_ids: list[str] = []
    success = True
    for job, selection in jobs:
        run_ids.append(make_new_run_id())
        say(f"{problem.name}: run {run_ids[-1]}" + (f", with {otherwise}" if otherwise else ""))
        instance.add_event_listener(run_ids[-1], watched.see)
        wanted = {
            "run_id": run_ids[-1],
            "asset_selection": selection,
            "run_config": run_config(problem, given),
            "tags": _tags(problem, otherwise),
        }
        success = _execute(job, instance, component, wanted, say)
        if not success:
            break
    stores_of(component).let_go()
    document = _document(component, run_ids, watched, success) | {"otherwise": otherwise}
    return Outcome(_status(document, watched, success), document)


def _execute(
    job: Any,
    instance: dg.DagsterInstance,
    component: "MLProblem",
    wanted: dict[str, Any],
    say: Callable[[str], None],
) -> bool:
    """It runs a job when its turn has come, and returns whether it succeeded."""
    problem = component.problem
    locks, database = find_home(component.root).path / "turns", stores_of(component).lake.database
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    config = {**quiet, **wanted["run_config"]}
    with (
        turn(instance, locks, problem.name, say, database),
        _in_time(problem, instance, wanted["run_id"], say),
    ):
        began = time.perf_counter()
        result = job.execute_in_process(
            instance=instance, raise_on_error=False, **{**wanted, "run_config": config}
        )
    say(f"  {'done' if result.success else 'failed'} in {time.perf_counter() - began:.1f} s\n")
    return bool(result.success)


def _tags(problem: Problem, otherwise: str) -> dict[str, str]:
    from ml_assets.components.ml_problem.job import MAX_RUNTIME

    return {
        **({"ml_assets/otherwise": otherwise} if otherwise else {}),
        "ml_assets/problem": problem.name,
        "ml_assets/started_by": "ml-assets run",
        **signed(),
        MAX_RUNTIME: "0",  # kept here: the daemon could not end this process
        "dagster/max_retries": "0",  # whoever started it sees how it ended
    }


def _status(document: dict[str, Any], watched: Watched, success: bool) -> int:
    """It returns the exit status: a refused batch is told by it too, though the run is green."""
    if success:
        return FAILED if document["dataset"]["quarantined"] else DONE
    wrong = [m for classes, m in watched.failed.values() if any(c in _WRONG_INPUT for c in classes)]
    return WRONG if wrong and not document["gates"] else FAILED


@contextlib.contextmanager
def _in_time(
    problem: Problem, instance: dg.DagsterInstance, run_id: str, say: Callable[[str], None]
) -> Iterator[None]:
    """It ends this process, with the run failed and its reason told, when a run takes too long."""
    limit = problem.limits.run
    if limit is None:
        yield
        return

    def end() -> None:
        said = f"{problem.name} took longer than {in_words(limit)}, the limit in `limits.run`."
        run = instance.get_run_by_id(run_id)
        if run is not None:
            instance.report_run_failed(run, said)
        say(f"error: {said} What was finished is kept.")
        os._exit(FAILED)

    watchdog = threading.Timer(limit, end)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _asked(
    definitions: dg.Definitions, component: "MLProblem", only: tuple[str, ...]
) -> list[tuple[Any, list[dg.AssetKey] | None]]:
    """It returns the jobs to be run, in order, each with which of its assets: None for all.

    What comes after deployment is made by jobs of its own: in one run with a round, Dagster skips
    what follows an asset that had nothing to do.
    """
    problem = component.problem
    jobs = [definitions.resolve_job_def(problem.name)]
    if not only:
        return [(jobs[0], None)]
    jobs += [
        definitions.resolve_job_def(f"{problem.name}_{job}")
        for job, declared in (
            ("predictions", problem.predictions),
            ("monitoring", problem.watched()),
        )
        if declared is not None
    ]
    of_job = [j.asset_layer.executable_asset_keys for j in jobs]
    chosen = _selected(problem.name, [k for keys in of_job for k in keys], only)
    asked = [(j, [k for k in chosen if k in keys]) for j, keys in zip(jobs, of_job, strict=True)]
    return [(j, keys) for j, keys in asked if keys]


def _selected(name: str, made: list[dg.AssetKey], only: tuple[str, ...]) -> list[dg.AssetKey]:
    keys = {"/".join(k.path[1:]): k for k in made}
    chosen = []
    for word in only:
        asked = word.removeprefix(f"{name}/").strip("/")
        found = [k for path, k in keys.items() if path == asked or path.startswith(f"{asked}/")]
        if not found:
            hint = did_you_mean(asked, keys)
            if asked in LIVE:
                hint = f" `{LIVE[asked][0]}` is to be declared in its defs.yaml first."
            raise MLAssetsError(f"--only {word}: {name} has no such asset.{hint}")
        chosen += found
    if any(k.path[1] == "split" for k in chosen):  # the three parts are made together
        chosen += [k for path, k in keys.items() if path.startswith("split/")]
    if keys["dataset"] in chosen and "quarantine" in keys:  # what is refused is to be seen
        chosen.append(keys["quarantine"])
    return list(dict.fromkeys(chosen))


def _document(
    component: "MLProblem", run_ids: list[str], watched: Watched, success: bool
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
    promoted = "production_model" in watched.materialized
    reason = _reason(watched, gates, success)
    evaluation = watched.materialized.get("evaluation", {})
    return {
        "problem": problem.name,
        "run_id": run_ids[0],
        "success": success,
        "dataset": {
            "version": dataset.get("version"),
            "rows": dataset.get("dagster/row_count"),
            "quarantined": [q for r in run_ids for q in refused_in(component, r)],
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
            "reason": reason,
        },
        "champion": champion(problem.name, stores),
        "live": _live(watched),
        "follows": _follows(problem.name, watched, reason),
        "errors": {step: message for step, (_, message) in watched.failed.items()},
        "links": [
            *(f"{DAGSTER_UI}/runs/{run_id}" for run_id in run_ids),
            f"{DAGSTER_UI}/assets/{problem.name}/{_to_look_at(watched)}",
            f"{stores.registry.ui}/#/models/{problem.name}",
        ],
    }


def _live(watched: Watched) -> dict[str, dict[str, Any]]:
    """It returns what the assets after deployment came to, where they were made."""
    return {
        asset: {k.removeprefix("dagster/"): watched.materialized[asset][k] for k in told}
        for asset, (_, told) in LIVE.items()
        if asset in watched.materialized
    }


def _follows(name: str, watched: Watched, held: str = "") -> list[dict[str, Any]]:
    """It returns what a decision asks for: a run, which a sensor starts where one is awake, or an approval."""
    decided = watched.materialized.get("retrain_decision", {})
    asked = []
    if decided.get("decision") == "retrain":
        run = {"job": name, "command": f"ml-assets run {name}", "reason": decided["reason"]}
        asked.append({**run, "by_hand": False})
    if waits := re.match(rf"Version (\d+) {AWAITING}", held):
        command = f"ml-assets approve {name} {waits[1]} --why TEXT"
        asked.append(
            {"job": f"{name}_approve", "command": command, "reason": held, "by_hand": True}
        )
    return asked


def _to_look_at(watched: Watched) -> str:
    seen = [a for a in LIVE if a in watched.materialized]
    return "monitoring" if "monitoring" in seen else seen[0] if seen else "challenger"


def _reason(watched: Watched, gates: list[dict[str, Any]], success: bool) -> str:
    """It returns why the champion changed, or did not."""
    canary = watched.materialized.get("canary", {})
    if canary.get("event") == "promotion":
        return f"Version {canary['version']}, the canary: {canary['reason']}"
    decisions = [g for g in gates if g["name"] == "beats_the_champion"]
    return decisions[-1]["reason"] if decisions and success else _why_undecided(watched, gates)


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
        "judged_before": made["judged_before"],
    }


def _why_undecided(watched: Watched, gates: list[dict[str, Any]]) -> str:
    failed = [g for g in gates if not g["passed"] and g["severity"] == "ERROR"]
    stopping = [g for g in failed if not g["asset"].startswith("candidate/")]
    if stopping:
        return "; ".join(f"{g['name']}: {g['reason']}" for g in stopping)
    if watched.failed:
        return "; ".join(f"{s}: {m}" for s, (_, m) in watched.failed.items())
    return "Production was not asked in this run."
