"""Real servers for tests: PostgreSQL, a store that speaks S3, MLflow over HTTP.

Each is begun for those who ask, with nothing of anybody's in it, and is gone when they are done.
They listen on loopback, unless somebody says where.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_assets_tests.e2e.served import clean_environment, free_port, wait_for

COMMANDS = Path(sys.executable).parent
LOOPBACK = "127.0.0.1"
POSTGRES = "/usr/lib/postgresql/*/bin"  # Debian's packages do not put initdb on the path


def _postgres_command(name: str) -> str:
    places = [*(str(p) for p in sorted(Path("/").glob(POSTGRES.lstrip("/")), reverse=True))]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    assert found, f"{name} is not here. Debian: apt-get install postgresql."
    return found


def _as_nobody() -> dict[str, Any]:
    """PostgreSQL refuses to be run by root."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@dataclass
class Postgres:
    """A PostgreSQL server.

    Attributes:
        port: where it listens.
        folder: its own.
        address: of the machine.
    """

    port: int
    folder: Path
    address: str = LOOPBACK

    def url(self, database: str) -> str:
        """It returns the address of a database, made on first use.

        With its driver: SQLAlchemy 2.1 takes another one for a bare `postgresql:`.
        """
        there = f"select 1 from pg_database where datname = '{database}'"
        if not self.ask("postgres", there):
            self.ask("postgres", f"create database {database}")
        return f"postgresql+psycopg2://postgres@{self.address}:{self.port}/{database}"

    def ask(self, database: str, query: str) -> str:
        """It returns what a database answers, as text."""
        words = [_postgres_command("psql"), "-h", self.address, "-p", str(self.port)]
        words += ["-U", "postgres", "-d", database, "-tAc", query]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        return done.stdout.strip()


@contextlib.contextmanager
def postgres(address: str = LOOPBACK) -> Iterator[Postgres]:
    """It starts a PostgreSQL server, that trusts all who reach it."""
    folder = Path(tempfile.mkdtemp(prefix="pg_"))
    process = None
    try:
        who, port = _as_nobody(), free_port()
        if who:
            os.chown(folder, who["user"], who["group"])
        data, quiet = folder / "data", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        made = [_postgres_command("initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N"]
        subprocess.run(made, check=True, cwd=folder, **quiet, **who)
        with open(data / "pg_hba.conf", "a") as trusted:
            trusted.write("host all all samenet trust\n")
        options = {"listen_addresses": address, "unix_socket_directories": "", "fsync": "off"}
        words = [w for k, v in options.items() for w in ("-c", f"{k}={v}")]
        words = [_postgres_command("postgres"), "-D", str(data), "-p", str(port), *words]
        process = subprocess.Popen(words, cwd=folder, **quiet, **who)
        asked = [_postgres_command("pg_isready"), "-q", "-h", address, "-p", str(port)]
        wait_for("PostgreSQL", lambda: subprocess.run(asked).returncode == 0, 60)
        yield Postgres(port, folder, address)
    finally:
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class ObjectStore:
    """A store that speaks S3.

    Attributes:
        address: its URL.
    """

    address: str

    @property
    def environment(self) -> dict[str, str]:
        """What its clients need to be told."""
        return {
            "AWS_ENDPOINT_URL": self.address,
            "MLFLOW_S3_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def bucket(self, name: str) -> str:
        """It makes a bucket, and returns its URL."""
        request = urllib.request.Request(f"{self.address}/{name}", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            return f"s3://{name}"


@contextlib.contextmanager
def object_store(address: str = LOOPBACK) -> Iterator[ObjectStore]:
    """It starts a store that speaks S3, in memory."""
    port = free_port()
    with _process([str(COMMANDS / "moto_server"), "-H", address, "-p", str(port)]):
        url = f"http://{address}:{port}"
        wait_for("the object store", lambda: answers(url), 60)
        yield ObjectStore(url)


@contextlib.contextmanager
def mlflow_server(
    database: str,
    artifacts: str,
    address: str = LOOPBACK,
    port: int | None = None,
    end: signal.Signals = signal.SIGTERM,
    **environment: str,
) -> Iterator[str]:
    """It starts MLflow's tracking server, and returns its URL.

    Args:
        database: where it keeps runs and versions.
        artifacts: where it keeps models; clients send and fetch them through it.
        address: where it listens.
        port: where it listens there; None for any that is free.
        end: how it is ended.
        environment: what it needs to be told beside that.
    """
    port = port or free_port()
    words = [str(COMMANDS / "mlflow"), "server", "--host", address, "--port", str(port)]
    words += ["--backend-store-uri", database, "--artifacts-destination", artifacts]
    told = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with _process([*words, "--workers", "1"], end, **told, **environment):
        url = f"http://{address}:{port}"
        wait_for("MLflow's server", lambda: answers(f"{url}/health"), 120)
        yield url


@contextlib.contextmanager
def _process(
    words: list[str], end: signal.Signals = signal.SIGTERM, **environment: str
) -> Iterator[None]:
    """It runs a server as a group of processes, and ends the whole group."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            words,
            env=clean_environment(**environment),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        except AssertionError:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace")[-3000:])
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            last = time.monotonic() + 10
            while process.poll() is None and time.monotonic() < last:
                time.sleep(0.1)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def answers(address: str) -> bool:
    """It says whether a server answers, whatever it says."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
