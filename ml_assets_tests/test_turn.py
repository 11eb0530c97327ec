"""One run of a problem at a time, and none is waited for whose process is gone."""

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData

from ml_assets.components import worker
from ml_assets.components.worker import WORKER, bury, is_alive, problem_of, signed
from ml_assets.turn import turn

FOR_EVER = [sys.executable, "-c", "import time; time.sleep(600)"]
STARTED = dg.DagsterRunStatus.STARTED


@dg.job(name="demo")
def demo() -> None: ...


@pytest.fixture
def instance() -> Any:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def other() -> Any:
    process = subprocess.Popen(FOR_EVER)
    yield process
    process.kill()
    process.wait()


def gone() -> int:
    """It returns the number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def started(instance: dg.DagsterInstance, **tags: str) -> dg.RunRecord:
    run = instance.create_run_for_job(
        demo, status=STARTED, tags={"ml_assets/problem": "demo", **tags}
    )
    record = instance.get_run_record_by_id(run.run_id)
    assert record is not None
    return record


def launched(instance: dg.DagsterInstance, pid: int, host: str = "localhost") -> dg.RunRecord:
    """It returns a run as Dagster's launcher leaves it."""
    record = started(instance, **{".dagster/grpc_info": json.dumps({"host": host, "port": 1})})
    said = f"Started process for run (pid: {pid})."
    instance.report_engine_event(said, record.dagster_run, EngineEventData.in_process(pid))
    return record


def status(instance: dg.DagsterInstance, record: dg.RunRecord) -> str:
    run = instance.get_run_by_id(record.dagster_run.run_id)
    assert run is not None
    return run.status.value


def test_a_process_is_known_by_its_number_and_by_when_it_began(other: Any):
    assert is_alive(other.pid, time.time())
    assert not is_alive(other.pid, time.time() - 3600)  # the number was another's then
    assert not is_alive(gone(), time.time())


def test_a_process_that_was_killed_and_not_waited_for_is_gone(other: Any):
    other.kill()
    while Path(f"/proc/{other.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)

    assert not is_alive(other.pid, time.time())


def test_a_run_whose_command_was_killed_is_failed_with_its_reason(instance: dg.DagsterInstance):
    record = started(instance, **{WORKER: f"{socket.gethostname()} {gone()}"})

    assert "is gone" in (bury(instance, record) or "")

    assert status(instance, record) == "FAILURE"
    events = instance.all_logs(record.dagster_run.run_id, dg.DagsterEventType.RUN_FAILURE)
    assert "is gone. What it had finished is kept." in str(events[-1].dagster_event)


def own_address() -> str:
    """It returns an address of this machine by which others reach it, if it has one."""
    with socket.socket(type=socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return asked.getsockname()[0]


HERE = ["localhost", "127.0.0.1", socket.gethostname(), "127.0.0.77", own_address()]


@pytest.mark.parametrize("host", HERE, ids=["name", "loopback", "host", "another loopback", "own"])
def test_a_launched_run_whose_process_is_gone_is_failed(instance: dg.DagsterInstance, host: str):
    """Seen to fail: in Docker a code server goes by its service's name; its runs stayed "started"."""
    record = launched(instance, gone(), host)

    assert bury(instance, record)
    assert status(instance, record) == "FAILURE"


def test_a_run_that_goes_on_is_left_alone(instance: dg.DagsterInstance, other: Any):
    records = [started(instance, **signed()), launched(instance, other.pid)]

    assert [bury(instance, r) for r in records] == [None, None]
    assert {status(instance, r) for r in records} == {"STARTED"}


def test_a_run_of_another_machine_or_launcher_is_that_ones_to_judge(instance: dg.DagsterInstance):
    records = [
        started(instance, **{WORKER: f"elsewhere {gone()}"}),
        launched(instance, gone(), host="elsewhere"),
        launched(instance, gone(), host="192.0.2.1"),
        launched(instance, gone(), host=""),
        started(instance),
    ]

    assert [bury(instance, r) for r in records] == [None] * 5


def test_a_run_from_the_graph_in_the_ui_is_known_by_its_assets():
    run = dg.DagsterRun("__ASSET_JOB", asset_selection={dg.AssetKey(["demo", "dataset"])})

    assert problem_of(run, ["other", "demo"]) == "demo"
    assert problem_of(run, ["other"]) is None


def test_the_guard_fails_lost_runs_and_no_others(instance: dg.DagsterInstance, other: Any):
    dead, alive = launched(instance, gone()), launched(instance, other.pid)
    context = dg.build_sensor_context(instance)

    said = worker.build_guard(["demo"])(context)

    assert dead.dagster_run.run_id in str(said)
    assert (status(instance, dead), status(instance, alive)) == ("FAILURE", "STARTED")


def test_a_turn_waits_for_a_launched_run_and_says_so(
    instance: dg.DagsterInstance, other: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("ml_assets.turn.LOOKS_EVERY", 0.05)
    record, said, order = launched(instance, other.pid), [], []

    def end() -> None:
        time.sleep(0.3)
        order.append("ended")
        instance.report_run_failed(record.dagster_run)

    thread = threading.Thread(target=end)
    thread.start()
    with turn(instance, tmp_path, "demo", said.append):
        order.append("turn")
    thread.join()

    assert order == ["ended", "turn"]
    assert [s for s in said if record.dagster_run.run_id in s and "waits for its turn" in s] == said


def test_a_turn_does_not_wait_for_the_dead_nor_for_what_waits_scores_or_is_anothers(
    instance: dg.DagsterInstance, other: Any, tmp_path: Path
):
    """Seen to fail: without `bury`, a killed command's run is waited for for ever."""
    dead = started(instance, **{WORKER: f"{socket.gethostname()} {gone()}"})
    tags = {"ml_assets/problem": "demo"}
    waits = dg.DagsterRunStatus.NOT_STARTED
    instance.create_run_for_job(demo, status=waits, tags=tags)

    @dg.job(name="demo_predictions")
    def predictions() -> None: ...

    instance.create_run_for_job(predictions, status=STARTED, tags={**tags, **signed()})
    instance.create_run_for_job(
        demo, status=STARTED, tags={"ml_assets/problem": "another", **signed()}
    )
    said: list[str] = []

    with turn(instance, tmp_path, "demo", said.append):
        assert status(instance, dead) == "FAILURE"
    assert [s for s in said if "was left over, and is failed now" in s] == said


HOLDS = """
import sys, time
from pathlib import Path
import dagster as dg
from ml_assets.turn import turn
with dg.DagsterInstance.ephemeral() as instance, turn(instance, Path(sys.argv[1]), "demo", print):
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_two_commands_take_turns_and_a_killed_one_gives_its_turn_back(
    instance: dg.DagsterInstance, tmp_path: Path
):
    """Seen to fail: with a lock file that is only there or not, the second waits for ever."""
    holds = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert holds.stdout and holds.stdout.readline() == "mine\n"
    said: list[str] = []
    kill = threading.Timer(0.5, holds.kill)
    kill.start()

    with turn(instance, tmp_path, "demo", said.append):
        assert holds.wait() == -9
    holds.stdout.close()
    assert "another command runs it" in said[0]
