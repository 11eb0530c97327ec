"""An alert: what happened, in words for those who are to know.

What is seen of runs, of the ledger and of quarantine becomes events, each with a key of its own:
the same thing seen twice is one event.  A gate that warns is told of when it begins to fail and
when its sentence changes, not each night; one that stops is told of each time it stops.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ml_assets.digest import digest_of
from ml_assets.problem.operation import Happening
from ml_assets.promotion import AWAITING

Kind = Happening | Literal["test"]
TITLES: dict[Kind, str] = {
    "test": "test message",
    "run_failed": "run failed",
    "gate_failed": "gate failed",
    "drift": "drift",
    "batch_quarantined": "batch quarantined",
    "champion_changed": "champion changed",
    "approval_awaited": "waits for approval",
    "canary": "canary",
    "bad_successor": "does worse than the one before",
    "rollback": "rolled back",
    "override": "gate overridden",
    "alias_repaired": "alias was moved by hand",
}
OF_ENTRIES: dict[str, Happening] = {
    "promotion": "champion_changed",
    "canary started": "canary",
    "canary withdrawn": "canary",
    "rollback": "rollback",
    "override": "override",
    "alias repaired": "alias_repaired",
}
# Not better is not unfit, and a refused batch is an event of its own.
NOT_TOLD = ("beats_the_champion", "every_batch_is_accepted")
SUMMARY = "every_gate_holds"  # production's: it says again what the gates said
MONITORS = ("monitoring",)
PREDECESSOR = "predecessor_is_not_better"  # where a rollback followed, that is told


@dataclass(frozen=True)
class Event:
    """Something that somebody wants to know.

    Attributes:
        kind: what happened.
        problem: to which problem.
        key: names it: the same thing has the same key, whoever sees it and when.
        at: when, in seconds since 1970.
        sentence: what happened, as a finished sentence.
        facts: what else is known, by name.
        links: where to look, by name.
    """

    kind: Kind
    problem: str
    key: str
    at: float
    sentence: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def subject(self) -> str:
        """The first line: problem, what happened, and where."""
        about = next(
            (str(self.facts[f]) for f in ("gate", "file", "version") if f in self.facts), ""
        )
        about = f"version {about}" if about.isdigit() else about
        return f"[{self.problem}] {TITLES[self.kind]}" + (f": {about}" if about else "")

    @property
    def text(self) -> str:
        """The message, for people."""
        when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.at))
        lines = [self.sentence, "", f"problem: {self.problem}", f"when: {when}"]
        lines += [f"{name.replace('_', ' ')}: {value}" for name, value in self.facts.items()]
        lines += ["", *(f"{name}: {link}" for name, link in self.links.items())]
        return "\n".join(lines).rstrip() + "\n"

    @property
    def document(self) -> dict[str, Any]:
        """The message, for programs."""
        return {
            "event": self.kind,
            "key": self.key,
            "problem": self.problem,
            "at": self.at,
            "subject": self.subject,
            "sentence": self.sentence,
            "facts": dict(self.facts),
            "links": dict(self.links),
        }


@dataclass(frozen=True)
class Asked:
    """A gate's answer, as a run showed it.

    Attributes:
        asset: the asset's path, without the problem.
        gate: the gate's name.
        passed: its answer.
        stops: a failure keeps the run from going on.
        reason: its sentence.
    """

    asset: str
    gate: str
    passed: bool
    stops: bool
    reason: str


@dataclass(frozen=True)
class Ended:
    """A run that ended.

    Attributes:
        run_id: its id.
        job: its job's name.
        failed: whether it is red.
        at: when it ended, in seconds since 1970.
        errors: what each failed step raised; a stopped gate is none.
        reason: what is told of the run as a whole.
        gates: what gates answered, in order.
    """

    run_id: str
    job: str
    failed: bool
    at: float
    errors: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    gates: tuple[Asked, ...] = ()


@dataclass(frozen=True)
class Where:
    """The addresses that messages link to.

    Attributes:
        dagster: of Dagster's pages.
        mlflow: of MLflow's.
    """

    dagster: str
    mlflow: str

    def run(self, run_id: str) -> dict[str, str]:
        """It returns the link to a run; none where there was none."""
        return {"run": f"{self.dagster}/runs/{run_id}"} if run_id else {}

    def version(self, problem: str, version: Any) -> dict[str, str]:
        """It returns the link to a version in MLflow."""
        return {"version": f"{self.mlflow}/#/models/{problem}/versions/{version}"}


def of_run(
    problem: str,
    run: Ended,
    warned: Mapping[str, str],
    wanted: Iterable[Happening],
    where: Where,
) -> tuple[list[Event], dict[str, str]]:
    """It returns what a run that ended has to tell, and which gates warn now.

    A run that is red for its gates alone is told of by its gates, unless nobody wants those.

    Args:
        problem: the problem's name.
        run: the run.
        warned: sentences that were told already, by `asset gate`.
        wanted: of what somebody is told.
        where: the addresses of links.
    """
    now, events = dict(warned), []
    latest = {(g.asset, g.gate): g for g in run.gates}
    failing = [g for g in latest.values() if not g.passed and g.gate not in NOT_TOLD]
    own = [g for g in failing if g.gate != SUMMARY]
    for gate in latest.values():
        if gate.passed:
            now.pop(f"{gate.asset} {gate.gate}", None)
    stopped = False
    for gate in own or failing:
        name = f"{gate.asset} {gate.gate}"
        stops = gate.stops and run.failed
        kind = _kind(gate)
        stopped |= stops and kind in wanted
        if not stops and now.get(name) == gate.reason:
            continue
        now[name] = gate.reason
        facts = {
            "gate": gate.gate,
            "asset": f"{problem}/{gate.asset}",
            "severity": "stops the run" if stops else "warns; the run went on",
        }
        key = digest_of(kind, problem, run.run_id, name)
        events.append(Event(kind, problem, key, run.at, gate.reason, facts, where.run(run.run_id)))
    if run.failed and (run.errors or not stopped):
        told = "; ".join(f"{step}: {message}" for step, message in run.errors.items())
        key = digest_of("run_failed", problem, run.run_id)
        sentence = told or run.reason or "It ended red, and says no more."
        facts = {"job": run.job, "run_id": run.run_id}
        events.append(
            Event("run_failed", problem, key, run.at, sentence, facts, where.run(run.run_id))
        )
    return events, now


def _kind(gate: Asked) -> Happening:
    if gate.gate == PREDECESSOR:
        return "bad_successor"
    return "drift" if gate.asset.split("/")[0] in MONITORS else "gate_failed"


def of_entry(problem: str, entry: Mapping[str, Any], where: Where) -> Event | None:
    """It returns what a line of the ledger has to tell, or None."""
    kind = OF_ENTRIES.get(entry["event"])
    if entry["event"] == "hold" and f" {entry['version']} {AWAITING}" in str(entry.get("reason")):
        kind = "approval_awaited"
    if kind is None:
        return None
    known = ("version", "previous", "candidate", "gate", "until", "actor", "model_digest")
    facts = {name: entry[name] for name in known if entry.get(name) not in (None, "")}
    if "until" in facts:
        facts["until"] = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(facts["until"]))
    key = digest_of(kind, problem, entry["number"], entry["at"])
    links = where.version(problem, entry["version"]) | where.run(entry.get("run_id") or "")
    sentence = str(entry.get("reason") or entry.get("why") or TITLES[kind])
    return Event(kind, problem, key, entry["at"], sentence, facts, links)


def of_batch(
    problem: str, batch: str, name: str, reason: str, at: float, run_id: str, where: Where
) -> Event:
    """It returns what a refused batch has to tell."""
    facts = {"file": name, "batch": batch}
    key = digest_of("batch_quarantined", problem, batch, name, reason)
    return Event("batch_quarantined", problem, key, at, reason, facts, where.run(run_id))


def trial(problem: str, at: float, where: Where) -> Event:
    """It returns an event that only shows that messages arrive."""
    sentence = "This is a test: nothing happened, and messages arrive."
    links = {"Dagster": where.dagster, "MLflow": where.mlflow}
    return Event("test", problem, digest_of("test", problem, at), at, sentence, links=links)
