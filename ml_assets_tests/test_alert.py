"""What people are told: once, in words, without secrets; received by real servers."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets.alert import Asked, Ended, Where, of_entry, of_run
from ml_assets.components import alerts
from ml_assets.components.worker import signed
from ml_assets.errors import AlertFailed
from ml_assets.problem.operation import HAPPENINGS
from ml_assets.promotion import Promote, awaiting
from ml_assets.resources import channel
from ml_assets.resources.home import Home
from ml_assets.resources.outbox import Message, Outbox
from ml_assets.round.alert import deliver, gather
from ml_assets.round.alias import mend
from ml_assets.round.override import override
from ml_assets.round.rollback import roll_back
from ml_assets_tests.problems import (
    EXPLODES,
    SEES_ALL,
    SEES_B,
    Project,
    arrive,
    declared,
    quickly,
    rows,
)
from ml_assets_tests.receivers import Received, mail_server, webhook

WHERE = Where("http://dagster", "http://mlflow")
ALL = frozenset(HAPPENINGS)


def ended(*gates: Asked, failed: bool = False, run_id: str = "r1", **given: Any) -> Ended:
    return Ended(run_id, "demo", failed, 1e9, gates=gates, **given)


def gate(name: str = "rows_are_unique", passed: bool = False, **given: Any) -> Asked:
    given = {"stops": False, "reason": "3 rows equal an earlier one.", **given}
    return Asked(given.pop("asset", "dataset"), name, passed, given["stops"], given["reason"])


def kinds(run: Ended, warned: dict[str, str] | None = None, wanted: Any = ALL) -> list[str]:
    return [e.kind for e in of_run("demo", run, warned or {}, wanted, WHERE)[0]]


def test_a_gate_that_warns_is_told_of_also_when_the_run_is_green():
    (event,), _ = of_run("demo", ended(gate()), {}, ALL, WHERE)

    assert event.kind == "gate_failed"
    assert event.subject == "[demo] gate failed: rows_are_unique"
    assert "3 rows equal an earlier one." in event.text
    assert "the run went on" in event.text
    assert "http://dagster/runs/r1" in event.text


def test_a_warning_is_told_again_only_when_it_says_something_else_or_had_passed_between():
    _, warned = of_run("demo", ended(gate()), {}, ALL, WHERE)
    assert kinds(ended(gate(), run_id="r2"), warned) == []
    assert kinds(ended(gate(reason="4 rows."), run_id="r3"), warned) == ["gate_failed"]

    _, passed = of_run("demo", ended(gate(passed=True), run_id="r4"), warned, ALL, WHERE)
    assert kinds(ended(gate(), run_id="r5"), passed) == ["gate_failed"]


def test_a_gate_that_stops_is_told_of_each_time_and_the_red_run_not_besides():
    stops = gate("has_enough_rows", stops=True)
    _, warned = of_run("demo", ended(stops, failed=True), {}, ALL, WHERE)

    assert kinds(ended(stops, failed=True, run_id="r2"), warned) == ["gate_failed"]


def test_a_red_run_is_told_of_where_nobody_wants_to_hear_of_gates():
    stops = gate("has_enough_rows", stops=True)

    assert "run_failed" in kinds(ended(stops, failed=True), wanted={"run_failed"})


def test_a_step_that_failed_is_told_of_by_what_it_raised():
    (event,), _ = of_run(
        "demo", ended(failed=True, errors={"dataset": "no such file"}), {}, ALL, WHERE
    )

    assert (event.kind, event.sentence) == ("run_failed", "dataset: no such file")


def test_a_challenger_that_is_not_better_is_no_failure():
    assert kinds(ended(gate("beats_the_champion", asset="production_model"))) == []


def test_what_production_says_again_is_told_once():
    floor = gate("accuracy_reaches_floor", asset="challenger", stops=True)
    again = gate("every_gate_holds", asset="production_model", stops=True)

    assert kinds(ended(floor, again, failed=True)) == ["gate_failed"]
    assert kinds(ended(again, failed=True)) == ["gate_failed"]  # production alone


def test_a_check_of_monitoring_that_fails_is_drift():
    assert kinds(ended(gate("inputs_are_as_they_were", asset="monitoring"))) == ["drift"]


def test_a_successor_that_does_worse_and_stays_is_no_gate_that_failed():
    worse = gate("predecessor_is_not_better", asset="rollback_decision")

    (event,), _ = of_run("demo", ended(worse), {}, ALL, WHERE)

    assert event.kind == "bad_successor"
    assert "does worse than the one before" in event.subject


def test_a_challenger_that_waits_for_approval_is_told_of():
    reason = awaiting(Promote("It is better."), 7, None).reason
    event = of_entry(
        "demo", {"event": "hold", "number": 1, "at": 1.0, "version": 7, "reason": reason}, WHERE
    )

    assert event is not None
    assert (event.kind, event.subject) == (
        "approval_awaited",
        "[demo] waits for approval: version 7",
    )


@pytest.mark.parametrize("what", ["canary started", "canary withdrawn"])
def test_a_canary_is_told_of_with_its_reason(what: str):
    entry = {"event": what, "number": 1, "at": 1.0, "version": 7, "reason": "Worse by 0.1."}
    event = of_entry("demo", entry, WHERE)

    assert event is not None
    assert (event.kind, event.subject) == ("canary", "[demo] canary: version 7")
    assert event.text.startswith("Worse by 0.1.")


def test_sending_stops_in_time_and_goes_on_in_the_next_go(tmp_path: Path):
    box, clock = Outbox(tmp_path), iter(range(0, 10_000, 5))
    several = {k: [replace(said(), id=k)] for k in "abcde"}
    box.put(several, {}, 0.0)

    sent, _ = deliver(box, lambda _: None, lambda: float(next(clock)))
    rest, _ = deliver(box, lambda _: None, lambda: 1000.0)

    assert 0 < len(sent) < 5
    assert len(sent) + len(rest) == 5


def test_a_line_of_the_ledger_without_news_tells_nothing():
    assert of_entry("demo", {"event": "hold", "number": 1, "at": 1.0, "version": 1}, WHERE) is None


@pytest.fixture
def mail() -> Iterator[Received]:
    with mail_server() as received:
        yield received


@pytest.fixture
def hook() -> Iterator[Received]:
    with webhook() as received:
        yield received


def said(kind: str = "webhook", target: str = "HOOK") -> Message:
    document = {"event": "rollback", "subject": "[demo] rolled\nback", "text": "Why.\n"}
    return Message("0123abcd", "demo", kind, target, document)


def test_a_mail_carries_its_id_and_no_second_header(mail: Received):
    channel.send(said("email", "a@example.com, b@example.com"), {"ML_ASSETS_SMTP": mail.address})

    (received,) = mail.messages
    assert received["Subject"] == "[demo] rolled back"
    assert received["Message-ID"] == "<0123abcd@ml_assets>"
    assert received["To"] == "a@example.com, b@example.com"
    assert received.get_content().strip() == "Why."


def test_a_webhook_is_sent_a_document_and_slack_a_text(hook: Received):
    channel.send(said(), {"HOOK": hook.address})
    channel.send(said("slack", "SLACK"), {"SLACK": hook.address})

    document, slack = hook.messages
    assert document["event"] == "rollback"
    assert document["headers"]["Idempotency-Key"] == "0123abcd"
    assert slack["text"] == "*[demo] rolled\nback*\nWhy.\n"


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_refusal_tells_no_secret_and_a_redirect_is_not_followed(hook: Received, status: int):
    hook.answers.append(status)
    with pytest.raises(AlertFailed) as error:
        channel.send(said(), {"HOOK": hook.address})

    assert str(error.value) == f"the address in $HOOK answered {status}."
    assert "secret" not in repr(error.value.__context__ and error.value.__cause__)


@pytest.mark.parametrize(
    ("message", "environment", "told"),
    [
        (said(), {}, "HOOK, and it is not set"),
        (said(), {"HOOK": "file:///etc/very-secret"}, r"\$HOOK is no http or https URL"),
        (said(), {"HOOK": "http://127.0.0.1:9/very-secret"}, "cannot be reached"),
        (
            said("email", "a@example.com"),
            {},
            "ML_ASSETS_SMTP, and it is not set where this runs: `export ML_ASSETS_SMTP=smtp://user:",
        ),
        (
            said("email", "a@example.com"),
            {"ML_ASSETS_SMTP": "smtp://me:very-secret@127.0.0.1:9"},
            "did not take the message",
        ),
        (said("email", "a@example.com"), {"ML_ASSETS_SMTP": "very-secret"}, "is not like smtp://"),
    ],
)
def test_what_is_missing_or_cannot_be_reached_is_told_without_secrets(
    message: Message, environment: dict[str, str], told: str
):
    with pytest.raises(AlertFailed, match=told) as error:
        channel.send(message, environment)

    assert "very-secret" not in str(error.value)


def test_an_event_is_taken_in_once_and_a_message_waits_until_it_is_delivered(tmp_path: Path):
    box = Outbox(tmp_path)
    assert box.put({"key": [said()]}, {"mark": 3}, 0.0) == ["key"]
    assert Outbox(tmp_path).put({"key": [said()]}, {}, 1.0) == []
    (message,) = box.waiting(2.0)

    box.refused(message, "busy", 2.0)
    assert box.waiting(3.0) == []  # not yet
    (again,) = Outbox(tmp_path).waiting(2.0 + 31)
    assert (again.id, again.tries, again.error) == (message.id, 1, "busy")
    box.delivered(again, 40.0)

    assert box.waiting() == []
    assert box.mark("mark") == 3


def test_events_and_what_was_looked_at_are_noted_together_or_not_at_all(tmp_path: Path):
    """Seen to fail: with two transactions, an event whose mark was noted first is never told."""
    box = Outbox(tmp_path)
    with pytest.raises(TypeError):
        box.put({"key": [said()]}, {"mark": object()}, 0.0)

    assert box.waiting() == []
    assert box.mark("mark") is None


TOLD = {"alerts": {"email": ["team@example.com"], "slack": "SLACK", "webhook": "HOOK"}}


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mail: Received, hook: Received
) -> Iterator[Project]:
    monkeypatch.setenv("ML_ASSETS_SMTP", mail.address)
    monkeypatch.setenv("HOOK", hook.address)
    monkeypatch.setenv("SLACK", hook.address)
    with quickly():
        yield Project(tmp_path)


def teller(project: Project, problem: Any) -> Callable[[], str]:
    """It returns what one tick of the sensor does, of a daemon that has just started."""

    def tick() -> str:
        home = Home(project.root, project.root / ".ml_assets")
        sensor = alerts.build_alerts({"demo": problem}, project.stores, home)
        assert sensor is not None
        return str(sensor(dg.build_sensor_context(project.instance)))

    return tick


def monitored(project: Project) -> None:
    """It makes a run in which a check of monitoring fails."""
    key = dg.AssetKey(["demo", "monitoring"])
    spec = dg.AssetCheckSpec("inputs_are_spread_as_before", asset=key)

    @dg.asset(key=key, check_specs=[spec])
    def monitoring() -> Iterator[Any]:
        yield dg.MaterializeResult()
        warns = dg.AssetCheckSeverity.WARN
        yield dg.AssetCheckResult(passed=False, severity=warns, description="`a` has moved.")

    tags = {"ml_assets/problem": "demo"}  # as the job of monitoring has
    dg.materialize([monitoring], instance=project.instance, tags=tags)


@pytest.mark.slow
def test_each_event_of_the_list_is_received_once_by_mail_slack_and_webhook(
    project: Project, mail: Received, hook: Received
):
    """Every tick is of a new sensor, as after a restart: nothing is told again."""
    landing = {"path": "landing/*.csv", "settle": 0}
    problem = declared(dataset=landing, candidates={"b": SEES_B}, **TOLD)
    better = declared(dataset=landing, candidates={"all": SEES_ALL}, **TOLD)
    tick = teller(project, problem)

    def happened() -> list[str]:
        """It returns what was received since last time, the same by every channel."""
        tick()
        tick()
        mails = [m["X-ML-Assets-Event"] for m in mail.messages]
        hooks = [m["event"] for m in hook.messages if "event" in m]
        slacks = [m for m in hook.messages if "text" in m and "event" not in m]
        assert mails == hooks
        assert len(slacks) == len(mails)
        ids = [m["Message-ID"] for m in mail.messages]
        assert len(set(ids)) == len(ids)
        mail.messages.clear(), hook.messages.clear()
        return sorted(mails)

    assert happened() == []
    arrive(rows(600), project.root / "landing" / "1.csv")
    assert project.run(problem).green
    assert happened() == ["champion_changed"]
    assert project.run(better).green
    assert happened() == ["champion_changed"]

    roll_back(project.round(problem), None, "wrong prices")  # as the command does: no run
    assert happened() == ["rollback"]
    override(project.round(problem), 1, "beats_the_baseline", "a new server", time.time() + 3600)
    assert happened() == ["override"]
    project.stores.registry.point("demo", "champion", 2)
    assert mend(project.stores, "demo", time.time())
    assert happened() == ["alias_repaired"]

    kettle = declared(dataset=landing, candidates={"b": SEES_B, "kettle": EXPLODES}, **TOLD)
    assert project.run(kettle).green  # a candidate failed: not blocking, and a green run
    assert happened() == ["gate_failed"]
    assert project.run(kettle).green  # the same again is no news
    assert happened() == []

    (project.root / "landing" / "2.csv").write_text("id,a\n1,2\n3,4\n")
    assert project.run(problem).green
    assert "batch_quarantined" in happened()

    strict = declared(dataset={**landing, "contract": {"min_rows": 9999}}, **TOLD)
    assert not project.run(strict).green
    assert happened() == ["gate_failed"]
    monitored(project)
    assert happened() == ["drift"]
    (project.root / "model.py").write_text("raise RuntimeError('very broken')")
    broken = declared(dataset={"path": None, "loader": ".model.rows"}, **TOLD)
    assert not project.run(broken, "dataset").green
    assert happened() == ["run_failed"]


@pytest.mark.slow
@pytest.mark.parametrize("early", [False, True])
def test_a_champion_that_went_back_by_itself_is_told_of_once_and_as_a_rollback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: Received, early: bool
):
    """Seen to fail: the check that found it was told of as well, as a gate that failed."""
    from ml_assets_tests.test_monitoring import Life, moved, promoted, watched

    monkeypatch.setenv("HOOK", hook.address)
    with quickly():
        arrive(rows(1500), tmp_path / "landing" / "first.csv")
        life = Life(Project(tmp_path), watched())
        promoted(life)
        life.problem = life.problem.model_copy(
            update={"alerts": declared(alerts={"webhook": "HOOK"}).alerts}
        )
        tick, later = teller(life.project, life.problem), moved(150, seed=4)
        life.serve(later)
        life.look()
        life.label("later", later)
        assert life.run(life.tick("new_data")).green
        tick()
        hook.messages.clear()
        assert "predecessor_is_not_better" in life.look().failed_checks
        if early:  # the ledger is looked at before the run has ended
            box = Outbox(Home(tmp_path, tmp_path / ".ml_assets").alerts)
            gather(life.project.stores, box, life.problem, [], WHERE, time.time())
        tick()
        tick()

    told = [m for m in hook.messages if m["event"] != "drift"]
    assert [m["event"] for m in told] == ["rollback"]
    assert told[0]["sentence"].startswith("The one before did better. Look 3 of 4: version 1")
    assert told[0]["facts"]["actor"] == "monitoring"


@pytest.mark.slow
def test_a_receiver_that_was_away_is_sent_the_message_later_and_once(
    project: Project, mail: Received, hook: Received, monkeypatch: pytest.MonkeyPatch
):
    problem = declared(alerts={"email": ["team@example.com"], "webhook": "HOOK"})
    project.write(rows(300))
    tick, now = teller(project, problem), time.time
    hook.answers.append(503)
    assert project.run(problem).green

    assert "$HOOK answered 503" in tick()
    tick()
    assert (len(mail.messages), len(hook.messages)) == (1, 0)
    monkeypatch.setattr(alerts.time, "time", lambda: now() + 60)
    tick()
    tick()

    assert (len(mail.messages), len(hook.messages)) == (1, 1)
    document = hook.messages[0]
    assert document["sentence"] == "There is no champion yet, and every gate holds."
    assert document["links"]["version"].endswith("/#/models/demo/versions/1")
    assert "/runs/" in document["links"]["run"]


def test_what_is_long_past_when_alerts_are_declared_is_not_told(
    project: Project, mail: Received, monkeypatch: pytest.MonkeyPatch
):
    problem = declared(alerts={"email": ["team@example.com"]})
    with project.stores.ledger.deciding("demo") as deciding:
        entry = {"event": "rollback", "version": 1, "reason": "x", "run_id": ""}
        deciding.append({**entry, "at": time.time() - 3 * 86400})
        deciding.append({**entry, "at": time.time() - 60})

    teller(project, problem)()
    teller(project, problem)()

    assert len(mail.messages) == 1


def test_a_ledger_that_was_rewritten_keeps_no_run_from_being_told(project: Project, mail: Received):
    problem = declared(alerts={"email": ["team@example.com"]})
    with project.stores.ledger.deciding("demo") as deciding:
        deciding.append({"event": "hold", "at": time.time(), "version": 1, "reason": "x"})
    file = project.stores.ledger.root / "demo.jsonl"
    file.write_text(json.dumps({"event": "promotion"}) + "\n")

    @dg.job(name="demo")
    def job() -> None: ...

    run = project.instance.create_run_for_job(
        job, tags={"ml_assets/problem": "demo", **signed()}, status=dg.DagsterRunStatus.STARTED
    )
    project.instance.report_run_failed(run, "The process that executed this run (1) is gone.")

    told = teller(project, problem)()

    assert "the ledger was rewritten" in told
    assert [m["Subject"] for m in mail.messages] == ["[demo] run failed"]
    assert "is gone" in mail.messages[0].get_content()


def test_no_sensor_is_there_where_nobody_is_to_be_told(project: Project):
    home = Home(project.root, project.root / ".ml_assets")
    assert alerts.build_alerts({"demo": declared()}, project.stores, home) is None
