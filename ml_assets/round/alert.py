"""Alerts of a problem: gathered from runs, ledger and quarantine, put into the outbox, sent."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from ml_assets.alert import PREDECESSOR, Ended, Event, Where, of_batch, of_entry, of_run
from ml_assets.digest import digest_of
from ml_assets.errors import AlertFailed, PromotionRefused
from ml_assets.problem import AlertsDeclaration, Problem
from ml_assets.resources.ledger import ROLLBACK
from ml_assets.resources.outbox import Message, Outbox
from ml_assets.resources.stores import Stores
from ml_assets.round.quarantine import RECORD

FIRST_LOOK = 86400.0  # what is older when a problem is looked at for the first time is history
MOST_RUNS = 1000  # of which it is remembered that they were looked at
LONGEST = 30.0  # seconds of sending in one go: a sensor has a minute


def messages(event: Event, declared: AlertsDeclaration) -> list[Message]:
    """It returns the messages that an event makes: one for each channel."""
    said = {**event.document, "text": event.text}
    targets = {
        "email": ", ".join(declared.email),
        "slack": declared.slack,
        "webhook": declared.webhook,
    }
    return [
        Message(digest_of(event.key, channel)[:32], event.problem, channel, target, said)
        for channel, target in targets.items()
        if target
    ]


def gather(
    stores: Stores,
    outbox: Outbox,
    problem: Problem,
    runs: Iterable[Ended],
    where: Where,
    now: float,
) -> tuple[list[Event], str]:
    """It puts into the outbox what happened to a problem since it was looked at last.

    Args:
        stores: ledger and lake.
        outbox: where messages go.
        problem: the problem.
        runs: runs that ended; those that were looked at before are left out.
        where: the addresses of links.
        now: seconds since 1970.

    Returns:
        What is new, and what is wrong with the ledger, which keeps nothing else from being told.
    """
    declared = problem.alerts
    assert declared is not None
    name, trouble, runs = problem.name, "", list(runs)
    noted = outbox.mark(name) or {"since": now - FIRST_LOOK, "ledger": 0, "batches": 0.0}
    entries: list[dict[str, Any]] = []
    mark = list(stores.ledger.mark(name) or ())
    try:
        # most of the time nothing was decided
        if mark != noted.get("mark") or any(_went_worse(run) for run in runs):
            entries = stores.ledger.entries(name)
    except PromotionRefused as error:
        trouble, mark = str(error), noted.get("mark", [])
    found = [of_entry(name, e, where) for e in entries if e["number"] > noted["ledger"]]
    batches = [
        e for e in stores.lake.entries(name, "quarantine") if e.facts["at"] >= noted["batches"]
    ]
    for entry in batches:
        record, at = entry.json(RECORD), entry.facts["at"]
        batch, reason, run_id = record["batch"], record["reason"], entry.facts["run_id"]
        found.append(of_batch(name, batch, record["name"], reason, at, run_id, where))
    warned, looked = noted.get("warned", {}), noted.get("runs", [])
    for run in sorted(runs, key=lambda r: r.at):
        if run.run_id in looked or run.at < noted["since"]:
            continue
        run = _without_its_reason(run, entries) if "rollback" in declared.on else run
        told, warned = of_run(name, run, warned, declared.on, where)
        found += told
        looked = [*looked, run.run_id][-MOST_RUNS:]
    events = [e for e in found if e and e.at >= noted["since"] and e.kind in declared.on]
    noted |= {
        "ledger": len(entries) or noted["ledger"],
        "mark": mark,
        "batches": max((e.facts["at"] for e in batches), default=noted["batches"]),
        "warned": warned,
        "runs": looked,
    }
    new = set(outbox.put({e.key: messages(e, declared) for e in events}, {name: noted}, now))
    return [e for e in events if e.key in new], trouble


def _without_its_reason(run: Ended, entries: list[dict[str, Any]]) -> Ended:
    """It returns a run that rolled back without the check whose sentence is the reason of that."""
    if run.run_id not in {e["run_id"] for e in entries if e["event"] == ROLLBACK}:
        return run
    return replace(run, gates=tuple(g for g in run.gates if g.gate != PREDECESSOR))


def _went_worse(run: Ended) -> bool:
    """It says whether a run found that a fresh champion does worse than its predecessor."""
    return any(g.gate == PREDECESSOR and not g.passed for g in run.gates)


def deliver(
    outbox: Outbox, send: Callable[[Message], None], now: Callable[[], float]
) -> tuple[list[Message], dict[str, str]]:
    """It sends what is due, each message by itself: one that fails waits and keeps no other.

    Args:
        outbox: the messages.
        send: sends one, or raises `AlertFailed`.
        now: seconds since 1970.

    Returns:
        What was sent, and why others were not, by id.
    """
    sent, refused, until = [], {}, now() + LONGEST
    with outbox.sending() as mine:
        for message in outbox.waiting(now()) if mine else []:
            if now() > until:
                break
            try:
                send(message)
            except AlertFailed as error:
                outbox.refused(message, str(error), now())
                refused[message.id] = str(error)
                continue
            outbox.delivered(message, now())
            sent.append(message)
    return sent, refused
