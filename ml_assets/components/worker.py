"""A run's worker: the process that does it, and what becomes of a run whose worker is gone.

Dagster notices a dead worker where its launcher can ask for it (Kubernetes, Docker).  Of runs that
are processes of this machine it notices only what the code server lives to see: a machine that
stopped, or a command that was killed, leaves a run that is "started" for ever, and that others
wait for.  Here such a run is failed, with its reason, by whoever looks next.
"""

import contextlib
import ipaddress
import json
import os
import socket
from pathlib import Path
from typing import Any

import dagster as dg

EVERY_SECONDS = 30
WORKER = "ml_assets/worker"  # `host pid` of a run that a command executes
PROBLEM = "ml_assets/problem"
AT_WORK = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def signed() -> dict[str, str]:
    """It returns the tag of a run that this process executes."""
    return {WORKER: f"{socket.gethostname()} {os.getpid()}"}


def is_alive(pid: int, since: float) -> bool:
    """It says whether a process is there that was there at a time: numbers are used again.

    Args:
        pid: its number.
        since: seconds since 1970.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, and another user's
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        boot = next(
            int(line.split()[1])
            for line in Path("/proc/stat").read_text().splitlines()
            if line.startswith("btime")
        )
    except (OSError, StopIteration, ValueError, IndexError):
        return True  # no Linux: its number is all that is known
    if stat[0] == "Z":  # dead, and not yet noticed by its parent
        return False
    return boot + int(stat[19]) / os.sysconf("SC_CLK_TCK") <= since + 2


def is_here(host: str) -> bool:
    """It says whether a name or an address is this machine's, or this container's.

    A code server in a container goes by the name of its service, which is no name of its machine.
    What is sent to an address of one's own leaves from that address: the kernel is asked for it,
    and nothing is sent.
    """
    if host in ("localhost", socket.gethostname()):
        return True
    with contextlib.suppress(OSError, UnicodeError):
        for family, kind, *_, peer in socket.getaddrinfo(host or ".", 9, type=socket.SOCK_DGRAM):
            with socket.socket(family, kind) as asked:
                asked.connect(peer)
                own = asked.getsockname()[0] == peer[0]
            if own or ipaddress.ip_address(peer[0]).is_loopback:
                return True
    return False


def lost(instance: dg.DagsterInstance, record: dg.RunRecord) -> str | None:
    """It returns why a run at work cannot go on, as a sentence; None while it may.

    A run of another machine is that machine's to judge.
    """
    run = record.dagster_run
    if run.status not in AT_WORK:
        return None
    if WORKER in run.tags:
        host, _, pid = run.tags[WORKER].rpartition(" ")
        if host != socket.gethostname() or is_alive(int(pid), record.create_timestamp.timestamp()):
            return None
        return f"The command that executed this run (process {pid}) is gone."
    server = json.loads(run.tags.get(".dagster/grpc_info", "{}"))
    if not is_here(server.get("host", "")):
        return None
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        if event is None or not (event.message or "").startswith("Started process for run (pid: "):
            continue
        pid = (event.message or "").split("pid: ")[1].split(")")[0]
        if is_alive(int(pid), entry.timestamp):
            return None
        return f"The process that executed this run ({pid}) is gone."
    return None


def bury(instance: dg.DagsterInstance, record: dg.RunRecord) -> str | None:
    """It fails a run whose worker is gone, and returns why; None where there is nothing to do."""
    why = lost(instance, record)
    now = instance.get_run_record_by_id(record.dagster_run.run_id) if why else None
    if why is None or now is None or lost(instance, now) is None:  # it ended just now
        return None
    instance.report_run_failed(now.dagster_run, f"{why} What it had finished is kept.")
    return why


def at_work(instance: dg.DagsterInstance, problems: list[str]) -> list[dg.RunRecord]:
    """It returns the runs of problems that are going on, whoever started them."""
    found = instance.get_run_records(dg.RunsFilter(statuses=AT_WORK))
    return [record for record in found if problem_of(record.dagster_run, problems)]


def problem_of(run: dg.DagsterRun, problems: list[str]) -> str | None:
    """It returns whose run it is: by its tag, or, started from the graph in the UI, by its assets."""
    if PROBLEM in run.tags:
        return run.tags[PROBLEM] if run.tags[PROBLEM] in problems else None
    chosen = {key.path[0] for key in run.asset_selection or ()}
    return next((p for p in problems if p in chosen or p == run.job_name), None)


def build_guard(problems: list[str]) -> dg.SensorDefinition:
    """It returns what fails runs whose workers are gone."""

    @dg.sensor(
        name="lost_runs",
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Notices a run whose process was killed, or whose machine stopped, and fails it, "
        "so that it is seen, is told of, and keeps nobody waiting.",
    )
    def lost_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        told: list[Any] = []
        for record in at_work(context.instance, problems):
            why = bury(context.instance, record)
            if why:
                context.log.warning(f"{record.dagster_run.run_id}: {why}")
                told.append(f"{record.dagster_run.run_id}: {why}")
        return dg.SkipReason(" ".join(told) or "No run has lost its process.")

    return lost_runs
