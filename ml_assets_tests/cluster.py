"""A Ray cluster for tests: machines that share a disk, each with a network, processes and a name of its own.

A machine is a set of namespaces of Linux.  What is not apart: the kernel, the clock, the cores, and
the disk, on which the code is as well.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ml_assets_tests.e2e.served import clean_environment, wait_for

COMMANDS = Path(sys.executable).parent
NEWNET = 0x40000000  # of setns(2)
MEMORY_OF_OBJECTS = 100_000_000  # bytes; nothing is handed on through Ray


def can_be_made() -> bool:
    """It says whether this user may make machines."""
    if not shutil.which("ip") or not shutil.which("nsenter"):
        return False
    words = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc"]
    words += ["ip", "link", "add", "sw", "type", "bridge"]
    return subprocess.run(words, capture_output=True).returncode == 0


@dataclass
class Machine:
    """A machine.

    Attributes:
        name: what its processes take it to be called.
        address: in the network of all.
        holder: the process that holds it: with it, all that run there die.
    """

    name: str
    address: str
    holder: "subprocess.Popen[bytes]"

    @property
    def pid(self) -> int:
        """It returns the first process of the machine."""
        children = Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text()
        return int(children.split()[0]) if children else 0

    def run(self, *words: str, **environment: str) -> str:
        """It runs a command there and returns what it printed."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", *words],
            env=clean_environment(**environment),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def told(self) -> str:
        """It returns the last words of the jobs that Ray ran there."""
        return self.run("sh", "-c", "tail -n 60 /tmp/ray/session_latest/logs/job-driver-*; true")

    def dies(self) -> None:
        """The power goes off."""
        self.holder.kill()
        self.holder.wait()

    def cable(self, plugged: bool) -> None:
        """It pulls the network cable, or puts it back."""
        self.run("ip", "link", "set", "e0", "up" if plugged else "down")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What this thread does, and starts, happens in the network of the machine."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            assert libc.setns(there, NEWNET) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            libc.setns(here, NEWNET)
            os.close(here)
            os.close(there)


@contextlib.contextmanager
def machines(*names: str) -> Iterator[list[Machine]]:
    """It makes machines that reach one another, at 10.77.0.1 and on."""
    with contextlib.ExitStack() as made:
        switch = _holder(made)
        _inside(switch, "ip link add sw type bridge && ip link set sw up")
        found = []
        for number, name in enumerate(names, 1):
            one = Machine(name, f"10.77.0.{number}", _holder(made))
            wait_for(f"machine {name}", lambda one=one: one.pid, 10)
            own = f"ip link add p{number} type veth peer name e0 netns {one.pid}"
            _inside(switch, f"{own} && ip link set p{number} master sw up")
            one.run("ip", "link", "set", "lo", "up")
            one.run("ip", "addr", "add", f"{one.address}/24", "dev", "e0")
            one.run("ip", "link", "set", "e0", "up")
            one.run("hostname", name)
            # Ray keeps its sockets there, under names that repeat on each machine
            one.run("sh", "-c", "mkdir -p /tmp/ray && mount -t tmpfs none /tmp/ray")
            found.append(one)
        yield found


def _holder(made: contextlib.ExitStack) -> "subprocess.Popen[bytes]":
    words = ["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc"]
    # not the session of the tests: Ctrl-C there is no power failure here
    process = subprocess.Popen(
        [*words, "--kill-child=KILL", "sleep", "infinity"], start_new_session=True
    )

    def ended() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()

    made.callback(ended)
    return process


def _inside(holder: "subprocess.Popen[bytes]", line: str) -> None:
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    wait_for("the switch", children.read_text, 10)
    words = ["nsenter", "--target", children.read_text().split()[0], "--net", "sh", "-c", line]
    # processes are named by the numbers that they have outside of their machine
    subprocess.run(words, check=True, capture_output=True)


@dataclass
class Cluster:
    """A Ray cluster.

    Attributes:
        control: the machine where Dagster and other servers are.
        head: the cluster's head, that takes jobs and runs none.
        workers: those that run them.
    """

    control: Machine
    head: Machine
    workers: list[Machine]

    @property
    def address(self) -> str:
        """Where it takes jobs."""
        return f"http://{self.head.address}:8265"

    def living(self) -> int:
        """It returns how many workers the head believes to live; asked from a machine of theirs."""
        with (
            contextlib.suppress(OSError, ValueError, KeyError),
            urllib.request.urlopen(f"{self.address}/nodes?view=summary", timeout=5) as answer,
        ):
            nodes = json.load(answer)["data"]["summary"]
            alive = [n for n in nodes if n.get("raylet", {}).get("state") == "ALIVE"]
            return len(alive) - 1
        return 0

    def told(self) -> str:
        """It returns the last words of all jobs, for whoever looks for a reason."""
        living = [m for m in (self.head, *self.workers) if m.holder.poll() is None]
        return "\n".join(f"{m.name}:\n{m.told()}" for m in living)

    def start(self, **environment: str) -> None:
        """It starts Ray on all machines: what is told to them, their steps are told.

        A start that timed out is tried again: on a machine with little to spare some do.
        """
        told = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore", **environment}
        common = ["--disable-usage-stats", f"--object-store-memory={MEMORY_OF_OBJECTS}"]
        ray = str(COMMANDS / "ray")
        own = ["--head", "--port=6379", "--num-cpus=0", "--dashboard-host=0.0.0.0"]
        self.head.run(ray, "start", f"--node-ip-address={self.head.address}", *own, *common, **told)
        for worker in self.workers:
            joins = [f"--address={self.head.address}:6379", "--num-cpus=2"]
            words = [ray, "start", f"--node-ip-address={worker.address}", *joins, *common]
            for again in (True, True, False):
                try:
                    worker.run(*words, **told)
                    break
                except AssertionError:
                    if not again:
                        raise
        with self.control.entered():
            wait_for("all workers", lambda: self.living() == len(self.workers), 60)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """It makes the machines of a cluster: control, head, two workers."""
    with machines("control", "head", "worker-1", "worker-2") as (control, head, *workers):
        yield Cluster(control, head, workers)
