"""Locks of all machines, in PostgreSQL: one holds, others wait, the dead hold nothing."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.errors import DeclarationError, StoreAway, is_transient
from ml_assets.resources.database import Database
from ml_assets.resources.home import DATABASE_AT, Home
from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger_database import DatabaseLedger
from ml_assets.resources.registry import Registry
from ml_assets.resources.stores import open_stores
from ml_assets_tests import servers
from ml_assets_tests.e2e.served import free_port

FORK = multiprocessing.get_context("fork")
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture
def database(postgres: servers.Postgres) -> Database:
    return Database(postgres.url("locks"))


def held(holds) -> "tuple[multiprocessing.Process, multiprocessing.Event]":
    """It lets another process hold what `holds` gives, and returns it once it does."""
    has = FORK.Event()

    def work() -> None:
        with holds():
            has.set()
            time.sleep(600)

    process = FORK.Process(target=work, daemon=True)
    process.start()
    assert has.wait(30)
    return process


def ended(process, told: list[str] | None = None) -> None:
    if told is not None:
        told.append("ended")
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def locks_of(url: str, folder: Path, name: str):
    """It returns a lock of a machine that shares nothing but the database."""
    database = Database(url)
    return {
        "lake": lambda: Lake(folder / "lake", database).lock("demo"),
        "registry": lambda: Registry("memory:", folder / "mlflow", database=database)._lock("x"),
        "ledger": lambda: DatabaseLedger(folder / "ledger", database).deciding("demo"),
    }[name]


@slow
@pytest.mark.parametrize("name", ["lake", "registry", "ledger"])
def test_one_machine_holds_a_lock_until_it_dies(postgres, tmp_path, name):
    """Seen to fail with file locks, which two homes do not share."""
    url = postgres.url("locks")
    other = held(locks_of(url, tmp_path / "one", name))
    got = threading.Event()

    def wait() -> None:
        with locks_of(url, tmp_path / "two", name)():
            got.set()

    waits = threading.Thread(target=wait)
    waits.start()
    assert not got.wait(0.5)
    ended(other)
    assert got.wait(10)
    waits.join()
    assert not list(tmp_path.rglob("*lock*"))


@slow
def test_whoever_waits_is_told_once_and_other_names_are_free(database):
    other, told = held(lambda: database.lock("one")), []
    with database.lock("another", lambda: told.append("another")):
        pass
    kills = threading.Timer(1.5, ended, [other, told])
    kills.start()
    with database.lock("one", lambda: told.append("one")):
        told.append("mine")
    kills.join()
    assert told == ["one", "ended", "mine"]


@slow
def test_schemas_are_deployments_of_their_own(database):
    database.ask("create schema if not exists team")
    team = Database(f"{database.url}?options=-csearch_path%3Dteam")
    with database.lock("one"), team.lock("one", lambda: pytest.fail("it waits")):
        pass


@slow
def test_reading_goes_on_after_a_connection_was_cut(database, postgres):
    assert database.ask("select 1") == [(1,)]
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'locks'"
    postgres.ask("postgres", cut)
    assert database.ask("select 2") == [(2,)]


@slow
def test_a_fork_reads_over_a_connection_of_its_own(database):
    mine = database.ask("select pg_backend_pid()")
    queue = FORK.Queue()
    fork = FORK.Process(target=lambda: queue.put(database.ask("select pg_backend_pid()")))
    fork.start()
    assert queue.get(timeout=30) != mine
    fork.join()
    assert database.ask("select pg_backend_pid()") == mine


@slow
def test_a_command_waits_for_its_turn_whichever_machine_has_it(database, tmp_path):
    import dagster as dg

    from ml_assets.turn import turn

    with dg.DagsterInstance.ephemeral() as instance:
        has = held(lambda: turn(instance, tmp_path / "one", "demo", print, database))
        said: list[str] = []
        kills = threading.Timer(0.5, ended, [has, said])
        kills.start()
        with turn(instance, tmp_path / "two", "demo", said.append, database):
            said.append("mine")
        kills.join()
    assert "another command runs it" in said[0]
    assert said[1:] == ["ended", "mine"]


def test_a_database_that_is_away_is_said_without_a_password_and_may_come_back():
    away = Database(f"postgresql+psycopg2://me:sesame@127.0.0.1:{free_port()}/ml")
    for ask in (lambda: away.ask("select 1"), lambda: away.lock("x").__enter__()):
        with pytest.raises(StoreAway, match="ML_ASSETS_DATABASE_URL gave no answer") as raised:
            ask()
        assert is_transient(raised.value)
        assert "sesame" not in str(raised.value)
    assert "sesame" not in f"{away} {away!r}"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///sesame.db",
        "sesame",
        "postgresql+psycopg2://me:sesame@[/x",
        "postgresql+psycopg2://h/x?sesame=1",
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_it(url):
    with pytest.raises(DeclarationError, match="Expected: postgresql") as raised:
        Database(url).ask("select 1")
    assert "sesame" not in str(raised.value)


def test_stores_are_in_the_database_by_configuration_alone(tmp_path, monkeypatch):
    plain = open_stores(Home(tmp_path, tmp_path / "plain"))
    assert plain.lake.database is plain.registry.database is None
    monkeypatch.setenv("ML_ASSETS_DATABASE_URL", "postgresql+psycopg2://me:pw@db:5432/ml")
    stores = open_stores(Home(tmp_path, tmp_path / "shared"))
    assert isinstance(stores.ledger, DatabaseLedger)
    assert stores.lake.database is stores.registry.database is stores.ledger.database
    assert str(stores.ledger.database) == "db:5432/ml"


def test_a_step_whose_machine_was_not_told_of_the_database_is_refused(tmp_path, monkeypatch):
    """Else it would begin a ledger of its own."""
    monkeypatch.setenv(DATABASE_AT, "db:5432/ml")
    with pytest.raises(DeclarationError, match=r"in db:5432/ml, and .* names no database"):
        open_stores(Home(tmp_path, tmp_path / "worker"))
    monkeypatch.setenv("ML_ASSETS_DATABASE_URL", "postgresql+psycopg2://me:pw@db:5432/ml")
    assert open_stores(Home(tmp_path, tmp_path / "worker")).lake.database


def test_without_a_database_its_driver_is_not_imported(tmp_path):
    code = (
        "import sys\nfrom ml_assets.resources.home import Home\n"
        "from ml_assets.resources.stores import open_stores\nfrom pathlib import Path\n"
        f"open_stores(Home(Path({str(tmp_path)!r}), Path({str(tmp_path)!r}))).ledger.entries('x')\n"
        "print(sorted(m for m in sys.modules if m.startswith(('psycopg', 's3fs', 'fsspec', "
        "'ml_assets.resources.ledger_d'))))"
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith("ML_ASSETS_")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "[]", done.stderr
