"""An event log: Dagster's record of a run on SQLite, kept by one open connection.

Dagster opens its file anew for each event, and asks each time what tables and columns it has: most
of what a run costs in which nothing changed.  Here each file stays open as long as the run goes on,
and a commit is not flushed to the disk one by one.  Whoever looks sees each event at once, and a
process that is killed loses none; when the power fails during a run, its last events may be
missing.  The ledger, the lake and MLflow's store flush as ever: what was decided is not in here.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import dagster as dg
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Connection, NullPool, create_engine


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


def keep_open(instance: dg.DagsterInstance) -> dg.DagsterInstance:
    """It lets an instance on SQLite keep its event log open; any other stays as it is."""
    kept: Any = instance
    if type(kept._event_storage) is SqliteEventLogStorage:
        log = EventLog(kept._event_storage._base_dir)
        log.register_instance(instance)
        kept._event_storage = log
    return instance
