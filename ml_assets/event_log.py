"""An event log: Dagster's record of a run on this machine, kept without what makes it slow.

Dagster opens its file anew for each event, and asks each time what tables and columns it has: most
of what a run costs in which nothing changed.  Here each file stays open as long as the run goes on,
and a commit is not flushed to the disk one by one.  Whoever looks sees each event at once, and a
process that is killed loses none; when the power fails during a run, its last events may be
missing.  The ledger, the lake and MLflow's store flush as ever: what was decided is not in here.

What steps print goes into a file that the UI shows, and from there to the terminal: by a thread,
where Dagster starts four processes.
"""

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from io import FileIO as Terminal
from typing import Any

import dagster as dg
from dagster._core.execution.compute_logs import redirect_to_file
from dagster._core.storage.compute_log_manager import CapturedLogContext, ComputeIOType
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._core.storage.local_compute_log_manager import (
    IO_TYPE_EXTENSION,
    LocalComputeLogManager,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._utils import ensure_file, touch_file
from sqlalchemy import Connection, NullPool, create_engine

EVERY_SECONDS = 0.2  # what was printed is shown


class EventLog(SqliteEventLogStorage):
    """Dagster's own event log, with the same files."""

    def __init__(self, base_dir: str) -> None:
        self._open: dict[str, Connection] = {}
        self._known: dict[str, bool] = {}  # a schema stays what it is while a run goes on
        super().__init__(base_dir)

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard not in self._open:
                self._open[shard] = self._opened(shard)
            connection = self._open[shard]
            with connection.begin():
                yield connection
            if shard != INDEX_SHARD_NAME:
                # the UI follows a run by the times of its file, which a commit leaves as they are
                os.utime(self.path_for_shard(shard))

    def _opened(self, shard: str) -> Connection:
        waits = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        engine = create_engine(
            self.conn_string_for_shard(shard), poolclass=NullPool, connect_args=waits
        )
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        connection = engine.connect()
        connection.exec_driver_sql("pragma synchronous = normal")
        connection.commit()
        return connection

    def has_table(self, table_name: str) -> bool:
        """It says whether a table exists."""
        return self._asked(
            f"table {table_name}", lambda: super(EventLog, self).has_table(table_name)
        )

    def has_secondary_index(self, name: str) -> bool:
        """It says whether an index was made for what came before there were such indexes."""
        return self._asked(f"index {name}", lambda: super(EventLog, self).has_secondary_index(name))

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        asked = super()._has_asset_key_col_on_connection
        return self._asked(f"column {column_name}", lambda: asked(conn, column_name))

    def _asked(self, what: str, ask: Callable[[], bool]) -> bool:
        if not self._known.get(what):
            self._known[what] = ask()
        return self._known[what]

    def dispose(self) -> None:
        """It closes the files, which flushes them."""
        super().dispose()
        with self._db_lock:
            while self._open:
                self._open.popitem()[1].close()


class Printed(LocalComputeLogManager):
    """What steps print, in the files that Dagster's own keeps, and on the terminal."""

    @contextlib.contextmanager
    def capture_logs(self, log_key: Sequence[str]) -> Iterator[CapturedLogContext]:
        """It lets what is printed meanwhile go into the files of that name."""
        with contextlib.ExitStack() as both:
            for stream, kind in (
                (sys.stdout, ComputeIOType.STDOUT),
                (sys.stderr, ComputeIOType.STDERR),
            ):
                path = self.get_captured_local_path(log_key, IO_TYPE_EXTENSION[kind])
                ensure_file(path)
                both.enter_context(_shown(path, stream))
                both.enter_context(redirect_to_file(stream, path))
            yield CapturedLogContext(log_key)
        touch_file(self.complete_artifact_path(log_key))


@contextlib.contextmanager
def _shown(path: str, stream: Any) -> Iterator[None]:
    """It copies what comes into a file to where a stream went before, to the last line."""
    try:
        terminal = os.dup(stream.fileno())
    except (OSError, ValueError):  # it is no file, as in tests
        yield
        return
    done = threading.Event()

    def copy() -> None:
        with open(path, "rb") as file:
            last = False
            while not last:
                last = done.wait(EVERY_SECONDS)
                with contextlib.suppress(OSError):  # a terminal may be gone
                    shutil.copyfileobj(file, Terminal(terminal, "wb", closefd=False))

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield
    finally:
        done.set()
        copier.join()
        os.close(terminal)


def keep_open(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """It lets an instance on SQLite keep its event log open; any other stays as it is."""
    kept: Any = instance
    if type(kept._event_storage) is SqliteEventLogStorage:
        log = EventLog(kept._event_storage._base_dir)
        log.register_instance(instance)
        kept._event_storage = log
    printed: Any = instance.compute_log_manager
    if type(printed) is LocalComputeLogManager:
        kept._compute_log_manager = Printed(printed._base_dir)
        kept._compute_log_manager.register_instance(instance)
    return instance
