"""A database: PostgreSQL, where several machines share locks and a ledger without a shared disk.

A lock is an advisory lock of a session: the server lets go when the session ends, with its process or
with its machine.  What is written under a lock is written by that very session, so that whoever lost
the lock can write no more.  psycopg2 is imported when the first connection is made.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ml_assets.errors import DeclarationError, StoreAway
from ml_assets.resources.home import without_password

URL = "ML_ASSETS_DATABASE_URL"
_EXPECTED = "postgresql+psycopg2://name:password@host:5432/database"
# A machine that is gone is noticed within a minute, by either end.
_TOLD = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "ml_assets",
}
_SESSION = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "synchronous_commit": "on",  # what was acknowledged is on disk, whatever the database's default
    "statement_timeout": "0",  # a lock is waited for as long as it takes
    "lock_timeout": "1000",  # in pieces, so that Ctrl-C and time limits are heard
}
# A schema is a deployment of its own, with locks of its own.
_KEY = "hashtextextended('ml_assets/' || coalesce(current_schema(), '') || '/' || %s, 0)"


@dataclass(frozen=True)
class Database:
    """A PostgreSQL database.

    Attributes:
        url: its address, like `postgresql+psycopg2://name:password@host:5432/database`.
    """

    url: str = field(repr=False)
    _reading: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    _one: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    @contextlib.contextmanager
    def lock(self, name: str, told: Callable[[], None] | None = None) -> Iterator["Session"]:
        """It holds a lock, one process on all machines at a time, and gives the session that holds it.

        Args:
            name: the lock's name.
            told: called once, when somebody else has it and it is waited for.

        Raises:
            StoreAway: the database does not answer.
            DeclarationError: the address cannot be used.
        """
        with contextlib.closing(self._connected()) as connection:
            session = Session(connection)
            if not session.ask(f"select pg_try_advisory_lock({_KEY})", name)[0][0]:
                if told is not None:
                    told()
                while not _got(session, name):
                    pass
            yield session

    def ask(self, query: str, *given: Any) -> list[tuple[Any, ...]]:
        """It returns what the database answers, over a connection that stays; nothing is written.

        Raises:
            StoreAway: the database does not answer.
            DeclarationError: the address cannot be used.
        """
        with self._one:
            for again in (True, False):
                known = self._reading.get("connection")
                # a connection is its process's own: a fork has to make another
                if known is None or self._reading["process"] != os.getpid():
                    again, known = False, self._connected()
                    self._reading.update(connection=known, process=os.getpid())
                try:
                    return Session(known).ask(query, *given)
                except StoreAway:
                    known.close()
                    self._reading.pop("connection")
                    if not again:  # one that was left alone for long may have been cut
                        raise
        raise AssertionError("unreachable")

    def _connected(self) -> Any:
        try:
            import psycopg2
            import psycopg2.extensions
        except ImportError:
            raise DeclarationError(f"{URL} needs `pip install 'ml_assets[postgres]'`.") from None
        scheme, _, rest = self.url.partition("://")
        if scheme not in ("postgresql", "postgres", "postgresql+psycopg2") or not rest:
            raise DeclarationError(f"{URL} is no address of a PostgreSQL. Expected: {_EXPECTED}.")
        try:
            given = psycopg2.extensions.parse_dsn(f"postgresql://{rest}")
        except psycopg2.ProgrammingError:  # which would show the password
            raise DeclarationError(f"{URL} cannot be read. Expected: {_EXPECTED}.") from None
        ours = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
        options = f"{given.pop('options', '')} {ours}".strip()
        try:
            connection = psycopg2.connect(**{**_TOLD, **given, "options": options})
        except psycopg2.OperationalError as error:
            raise _away(error) from error
        connection.autocommit = True
        return connection

    def __str__(self) -> str:
        """It returns where it is, without a password."""
        return without_password(self.url)


@dataclass(frozen=True)
class Session:
    """A connection to a database.

    Attributes:
        connection: psycopg2's; each statement is a transaction unless `together` is asked for.
    """

    connection: Any

    def ask(self, query: str, *given: Any) -> list[tuple[Any, ...]]:
        """It returns the rows that a query gives; none where it gives no rows.

        Raises:
            StoreAway: the database does not answer.
        """
        import psycopg2

        try:
            with self.connection.cursor() as cursor:
                cursor.execute(query, given)
                return cursor.fetchall() if cursor.description else []
        except psycopg2.errors.LockNotAvailable:
            raise
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise _away(error) from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """It makes what is asked within one transaction: all of it is kept, or nothing.

        Raises:
            StoreAway: the database does not answer; whether the end was kept is then not known.
        """
        self.ask("begin")
        try:
            yield
        except BaseException:
            with contextlib.suppress(StoreAway):
                self.ask("rollback")
            raise
        self.ask("commit")


def _got(session: Session, name: str) -> bool:
    """It waits a second for a lock, and says whether it has it."""
    import psycopg2

    try:
        session.ask(f"select pg_advisory_lock({_KEY})", name)
    except psycopg2.errors.LockNotAvailable:
        return False
    return True


def _away(error: Exception) -> StoreAway:
    said = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return StoreAway(
        f"The database of {URL} gave no answer: {said[:200]} Nothing more was written. Look whether it "
        "runs, and try again."
    )
