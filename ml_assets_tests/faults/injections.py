"""Faults: each with what is done, what is promised, and how the run that meets it may end."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Active = Callable[[Path], "contextlib.AbstractContextManager[Any]"]
KILLED = -int(signal.SIGKILL)


@contextlib.contextmanager
def nothing(root: Path) -> Iterator[None]:
    """It does nothing around the run: the fault is in the run's own process."""
    yield


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong around a run that would otherwise promote version 2.

    Attributes:
        name: what it is.
        injection: how it is brought about.
        promise: what holds all the same.
        ends: exit statuses that the run may have; a signal's number, negative, when it was killed.
        prepare: what the run's process is told before it begins (`stage`).
        active: what is done around the run, and taken back.
        shows: laws that the injection itself breaks, as long as it is not taken back.
        same: the model that serves in the end is the twin's; else only the rows are.
    """

    name: str
    injection: str
    promise: str
    ends: tuple[int, ...]
    prepare: tuple[tuple[Any, ...], ...] = ()
    active: Active = nothing
    shows: tuple[str, ...] = field(default=())
    same: bool = True


# --------------------------------------------------------------------------- files


def meddle(path: Path, how: str) -> None:
    """It damages the file that a pattern names: cuts it in half, turns a byte, or takes it away."""
    found = [path] if path.exists() else sorted(path.parent.glob(path.name))
    assert found, path
    for file in found:
        data = file.read_bytes()
        if how == "cut":
            data = data[: len(data) // 2]
        elif how == "turned":
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :]
        elif how == "torn":  # the last line was only half written
            data = data.rstrip(b"\n")
            data = data[: data.rfind(b"\n") + 1 + 20]
        if how == "gone":
            file.unlink()
        else:
            file.unlink()  # a new file, as another program would leave it
            file.write_bytes(data)


def damaged(pattern: str, how: str) -> Active:
    """It damages files of the home, and puts them back as they were afterwards."""

    @contextlib.contextmanager
    def active(root: Path) -> Iterator[None]:
        home = root / ".ml_assets"
        files = [f for f in sorted(home.glob(pattern)) if f.is_file()]
        assert files, f"{pattern}: no such file in {home}"
        kept = {f: f.read_bytes() for f in files}
        for file in files:
            meddle(file, how)
        yield
        for file, data in kept.items():
            if not file.exists() or file.read_bytes() != data:
                if file.suffix == ".jsonl" and file.exists() and len(file.read_bytes()) > len(data):
                    continue  # it was repaired, and written on
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                file.write_bytes(data)

    return active


def full(beside: int) -> Active:
    """It moves the home to a small disk of its own, which has only so many bytes left."""

    @contextlib.contextmanager
    def active(root: Path) -> Iterator[None]:
        home, aside = root / ".ml_assets", root / "aside"
        home.rename(aside)
        home.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", home], check=True)
        try:
            shutil.copytree(aside, home, dirs_exist_ok=True, symlinks=True)
            filler = home / "filler"
            left = os.statvfs(home).f_bavail * os.statvfs(home).f_frsize
            filler.write_bytes(b"\0" * max(0, left - beside))
            yield
            filler.unlink()
            shutil.rmtree(aside)
            shutil.copytree(home, aside, symlinks=True)
        finally:
            subprocess.run(["umount", "-l", home], check=True)
            home.rmdir()
            aside.rename(home)

    return active


def read_only(folder: str) -> Active:
    """It mounts a folder of the home over itself, read-only."""

    @contextlib.contextmanager
    def active(root: Path) -> Iterator[None]:
        place = root / ".ml_assets" / folder
        subprocess.run(["mount", "--bind", place, place], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
            yield
        finally:
            subprocess.run(["umount", "-l", place], check=True)

    return active


def locked(database: str, seconds: float) -> Active:
    """Somebody writes to a database of SQLite for so long."""

    @contextlib.contextmanager
    def active(root: Path) -> Iterator[None]:
        file = next((root / ".ml_assets").glob(database))
        held = threading.Event()

        def hold() -> None:
            with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
                connection.execute("begin immediate")
                held.set()
                time.sleep(seconds)
                connection.execute("rollback")

        holder = threading.Thread(target=hold)
        holder.start()
        assert held.wait(10)
        yield
        holder.join()

    return active


@contextlib.contextmanager
def linked(root: Path) -> Iterator[None]:
    """The file that arrived becomes a link out of the project."""
    file, aside = root / "landing" / "2.csv", root.parent / "outside.csv"
    shutil.move(file, aside)
    file.symlink_to(aside)
    yield
    file.unlink()
    shutil.move(aside, file)


def rewritten(cut: float) -> Active:
    """The file that arrived is only in part there; later it is whole."""

    @contextlib.contextmanager
    def active(root: Path) -> Iterator[None]:
        file = root / "landing" / "2.csv"
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * cut)])
        yield
        file.write_bytes(data)
        then = time.time() - 60
        os.utime(file, (then, then))

    return active


# --------------------------------------------------------------------------- the list

STAYS = "the champion stays, nothing half is seen, the next run promotes as if nothing had been"
_ROUND, _REGISTRY = "ml_assets.round", "ml_assets.resources.registry:Registry"
_LEDGER = "ml_assets.resources.ledger:Decision.append"


def _killed(place: str, when: str, said: str) -> Fault:
    return Fault(
        f"killed {said}", f"kill -9 {said}", STAYS, (KILLED,), prepare=(("dies", place, when),)
    )


KILLS = [
    _killed(f"{_ROUND}.dataset:make_dataset", "before", "before the dataset"),
    _killed("ml_assets.resources.table:Table.commit", "before", "before a batch is committed"),
    _killed("ml_assets.resources.table:Table.commit", "after", "after a batch was committed"),
    _killed(f"{_ROUND}.dataset:make_dataset", "after", "after the dataset"),
    _killed(f"{_ROUND}.split:make_split", "after", "after the split"),
    _killed("ml_assets.candidate:fit", "before", "before a fit"),
    _killed("ml_assets.candidate:fit", "after", "after a fit, before it is kept"),
    _killed(f"{_ROUND}.candidate:make_candidate", "after", "after a candidate"),
    _killed(f"{_ROUND}.evaluation:make_evaluation", "after", "after the evaluation"),
    _killed(f"{_REGISTRY}.register", "before", "before a version is registered"),
    _killed(f"{_REGISTRY}.register", "after", "after a version was registered"),
    _killed(_LEDGER, "before", "before the ledger is written"),
    _killed(_LEDGER, "after", "after the ledger was written"),
    _killed(f"{_REGISTRY}.point", "before", "before the alias moves"),
    _killed(f"{_REGISTRY}.point", "after", "after the alias moved"),
]

PLACES = [
    Fault("a full disk at once", "tmpfs, 8 KiB left", STAYS, (1, 2), active=full(8 << 10)),
    Fault("a full disk soon", "tmpfs, 128 KiB left", STAYS, (1, 2), active=full(128 << 10)),
    Fault("a full disk late", "tmpfs, 600 KiB left", STAYS, (0, 1, 2), active=full(600 << 10)),
    Fault("the lake is read-only", "bind mount, ro", STAYS, (1, 2), active=read_only("lake")),
    Fault("artifacts are read-only", "bind mount, ro", STAYS, (1, 2), active=read_only("mlflow")),
    Fault("the ledger is read-only", "bind mount, ro", STAYS, (1, 2), active=read_only("ledger")),
    Fault(
        "MLflow's database is locked",
        "a writer holds SQLite for 3 s",
        "waited for; the run ends as its twin",
        (0,),
        active=locked("mlflow/mlflow.db", 3),
    ),
    Fault(
        "Dagster's database is locked",
        "a writer holds SQLite for 3 s",
        "waited for; the run ends as its twin",
        (0,),
        active=locked("dagster/history/runs.db", 3),
    ),
    Fault(
        "a file is half there",
        "2.csv ends in the middle of a line",
        "quarantined or waited for; whole later, it comes in whole",
        (0, 1, 2),
        active=rewritten(0.51),
        same=False,
    ),
    Fault(
        "a file is empty",
        "2.csv has no byte",
        "quarantined or waited for; whole later, it comes in whole",
        (0, 1, 2),
        active=rewritten(0),
        same=False,
    ),
    Fault(
        "a link out",
        "2.csv becomes a link",
        "refused, with its reason",
        (1, 2),
        active=linked,
        same=False,
    ),
]

_DEMO = "lake/demo"
ARTIFACTS = [
    Fault(
        "a candidate's model is cut",
        "half of model.skops in the lake",
        "not used: made anew, or refused",
        (0, 1, 2),
        active=damaged(f"{_DEMO}/candidate/*/model.skops", "cut"),
        shows=("immutable",),
    ),
    Fault(
        "the dataset's table is cut",
        "half of a Parquet file",
        STAYS,
        (0, 1, 2),
        active=damaged(f"{_DEMO}/table/*/*.parquet", "cut"),
        shows=("ingested", "immutable"),
    ),
    Fault(
        "a byte of the dataset turned",
        "one byte of a Parquet file",
        STAYS,
        (0, 1, 2),
        active=damaged(f"{_DEMO}/table/*/*.parquet", "turned"),
        shows=("ingested", "immutable"),
    ),
    Fault(
        "Delta's log is cut",
        "half of the last commit",
        STAYS,
        (0, 1, 2),
        active=damaged(f"{_DEMO}/table/*/_delta_log/*1.json", "cut"),
        shows=("ingested",),
    ),
    Fault(
        "a split is cut",
        "half of train.parquet",
        "not used: made anew, or refused",
        (0, 1, 2),
        active=damaged(f"{_DEMO}/split/*/train.parquet", "cut"),
        shows=("immutable", "disjoint"),
    ),
    Fault(
        "notes are torn",
        "half of each note of the lake",
        "made anew",
        (0, 1, 2),
        active=damaged(f"{_DEMO}/notes/*.json", "cut"),
        shows=("immutable",),
    ),
    Fault(
        "the ledger is torn",
        "its last line is half written",
        "completed or refused; no promotion is lost or doubled",
        (0, 1, 2),
        active=damaged("ledger/demo.jsonl", "torn"),
        shows=("gated", "mirrored", "once"),
    ),
    Fault(
        "the ledger was changed",
        "one byte of it",
        "refused: the history's seals do not fit",
        (1, 2),
        active=damaged("ledger/demo.jsonl", "turned"),
        shows=("gated", "mirrored", "once"),
    ),
    Fault(
        "the champion's file was changed",
        "one byte of model.skops in the registry",
        "not loaded; no run counts it as sound",
        (1, 2),
        active=damaged("mlflow/artifacts/**/model.skops", "turned"),
        shows=("gated",),
    ),
    Fault(
        "the champion's file is gone",
        "model.skops is taken out of the registry",
        "said so; no run counts it as sound",
        (1, 2),
        active=damaged("mlflow/artifacts/**/model.skops", "gone"),
        shows=("gated",),
    ),
    Fault(
        "MLflow's database is cut",
        "half of mlflow.db",
        "said so; what is in the ledger stays",
        (1, 2),
        active=damaged("mlflow/mlflow.db", "cut"),
        shows=("gated", "mirrored"),
    ),
]

LIMITS = [
    Fault(
        "no memory",
        "64 MiB beside what it has (RLIMIT_AS)",
        STAYS,
        (0, 1, 2, KILLED, -int(signal.SIGABRT), -int(signal.SIGSEGV)),
        prepare=(("limited", "AS", 64 << 20),),
    ),
    Fault("no more files", "40 open files", STAYS, (1, 2), prepare=(("limited", "NOFILE", 40),)),
    Fault(
        "no large file",
        "files of 100 KiB at most",
        STAYS,
        (1, 2, -int(signal.SIGXFSZ)),
        prepare=(("limited", "FSIZE", 100 << 10),),
    ),
    Fault(
        "ended by SIGTERM",
        "in the middle of a fit",
        STAYS,
        (1, 2, 143, -int(signal.SIGTERM)),
        prepare=(("signalled", "ml_assets.candidate:fit", int(signal.SIGTERM)),),
    ),
    Fault(
        "ended by Ctrl-C",
        "in the middle of a fit",
        STAYS,
        (1, 2, 130, -int(signal.SIGINT)),
        prepare=(("signalled", "ml_assets.candidate:fit", int(signal.SIGINT)),),
    ),
]
CLOCKS = [
    Fault(
        "the clock goes back",
        "libfaketime: two days earlier",
        "the history keeps its order; the run ends as its twin",
        (0,),
        prepare=(("FAKETIME", "-2d"),),
    ),
    Fault(
        "the clock jumps ahead",
        "libfaketime: ten years later",
        "the history keeps its order; the run ends as its twin",
        (0,),
        prepare=(("FAKETIME", "+3650d"),),
    ),
]
TWO = [
    Fault(
        "two deployments on one store",
        "two runs begin at once",
        "they take turns; one promotion",
        (0,),
    ),
    Fault(
        "one of two deployments is killed",
        "two runs begin at once, and one is killed before the ledger is written",
        "the other goes on; one promotion",
        (KILLED, 0),
        prepare=(("dies", _LEDGER, "before"),),
    ),
]
GOES_ON = "tried again, then red; nothing is promoted twice, and the next run promotes"
AWAY = [
    Fault("MLflow is down", "a proxy that hangs up", GOES_ON, (1, 2), prepare=(("cut", "/api/"),)),
    Fault(
        "MLflow answers 500",
        "a proxy, for artifacts alone",
        GOES_ON,
        (1, 2),
        prepare=(("500", "mlflow-artifacts"),),
    ),
    Fault(
        "MLflow is lost at the alias",
        "a proxy that hangs up when the alias is to move, after the ledger was written",
        "the ledger counts; the alias follows with the next run",
        (0, 1),
        prepare=(("cut", "registered-models/alias"),),
    ),
]
CLUSTER = [
    Fault(
        "a machine is cut off",
        "the cable of a Ray worker is pulled in mid-fit, and put back while the fit goes on elsewhere",
        "tried again on another machine; one promotion, whatever the one that was cut off still does",
        (0,),
    ),
    Fault(
        "the cluster's head is lost",
        "the machine of Ray's head dies in mid-fit",
        "the run is red within `limits.run`; nothing is promoted, and the next run, on one machine, promotes",
        (1,),
    ),
]
FAULTS = [*KILLS, *PLACES, *ARTIFACTS, *LIMITS, *CLOCKS, *TWO, *AWAY, *CLUSTER]


def table() -> str:
    """It returns the faults as docs/faults.md shows them."""
    lines = ["| fault | injection | promise | the run that meets it ends |", "|---|---|---|---|"]
    for fault in FAULTS:
        ends = ", ".join(str(e) if e >= 0 else signal.Signals(-e).name for e in fault.ends)
        lines.append(f"| {fault.name} | {fault.injection} | {fault.promise} | {ends} |")
    return "\n".join(lines)
