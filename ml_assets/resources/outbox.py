"""An outbox: messages that are to be sent, kept on disk until they are.

An event is put in once, whoever sees it and however often: its key is unique, and what was looked
at is noted in the same transaction.  A message is sent and then noted as sent; a process that
dies between the two sends it again, under the same id, so that the receiver can tell.
"""

import contextlib
import fcntl
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# 30 s, 1 min, 2 min … at most an hour apart; after three days a message is given up
FIRST_WAIT, LONGEST_WAIT, KEPT_FOR = 30.0, 3600.0, 3 * 86400.0
_TABLES = """
create table if not exists event (key text primary key, at real not null);
create table if not exists mark (name text primary key, value text not null);
create table if not exists message (
    id text primary key, problem text not null, channel text not null, target text not null,
    document text not null, since real not null, next real not null,
    tries integer not null default 0, error text, sent real
);
"""


@dataclass(frozen=True)
class Message:
    """One message to one channel.

    Attributes:
        id: names it; the same when it is sent again.
        problem: whose it is.
        channel: email, slack or webhook.
        target: addresses, or the name of the environment variable with the URL.
        document: what is said: `subject`, `text`, and the event for programs.
        tries: how often it was tried.
        error: why it was not delivered so far.
    """

    id: str
    problem: str
    channel: str
    target: str
    document: Mapping[str, Any]
    tries: int = 0
    error: str | None = None


@dataclass(frozen=True)
class Outbox:
    """The messages of all problems.

    Attributes:
        folder: where its file is.
    """

    folder: Path

    def mark(self, name: str) -> Any:
        """It returns what was noted under a name, or None."""
        with self._opened() as box:
            found = box.execute("select value from mark where name = ?", (name,)).fetchone()
        return json.loads(found[0]) if found else None

    def put(
        self, events: Mapping[str, list[Message]], marks: Mapping[str, Any], now: float
    ) -> list[str]:
        """It takes events in, each with its messages, and notes what was looked at: all, or nothing.

        Args:
            events: messages by the event's key; known keys are left out.
            marks: what is to be noted, by name.
            now: seconds since 1970.

        Returns:
            The keys that were new.
        """
        new = []
        with self._opened() as box:
            for key, messages in events.items():
                taken = box.execute("insert or ignore into event values (?, ?)", (key, now))
                if not taken.rowcount:
                    continue
                new.append(key)
                box.executemany(
                    "insert into message (id, problem, channel, target, document, since, next)"
                    " values (?, ?, ?, ?, ?, ?, ?)",
                    [
                        (m.id, m.problem, m.channel, m.target, json.dumps(m.document), now, now)
                        for m in messages
                    ],
                )
            box.executemany(
                "insert into mark values (?, ?) on conflict (name) do update set value = excluded.value",
                [(name, json.dumps(value)) for name, value in marks.items()],
            )
        return new

    def waiting(self, now: float | None = None) -> list[Message]:
        """It returns the messages that were not delivered, oldest first.

        Args:
            now: only those that are due at that time, in seconds since 1970; None for all.
        """
        due = {"now": now, "oldest": (now or 0) - KEPT_FOR}
        with self._opened() as box:
            found = box.execute(
                "select id, problem, channel, target, document, tries, error from message"
                " where sent is null and (:now is null or (next <= :now and since >= :oldest))"
                " order by since, rowid",
                due,
            ).fetchall()
        return [
            Message(id_, problem, channel, target, json.loads(document), tries, error)
            for id_, problem, channel, target, document, tries, error in found
        ]

    def delivered(self, message: Message, now: float) -> None:
        """It notes that a message was sent."""
        with self._opened() as box:
            box.execute("update message set sent = ?, error = null where id = ?", (now, message.id))

    def refused(self, message: Message, error: str, now: float) -> None:
        """It notes that a message could not be sent, and when it is tried again."""
        wait = min(FIRST_WAIT * 2**message.tries, LONGEST_WAIT)
        with self._opened() as box:
            box.execute(
                "update message set tries = tries + 1, error = ?, next = ? where id = ?",
                (error, now + wait, message.id),
            )

    @contextlib.contextmanager
    def sending(self) -> Iterator[bool]:
        """It says whether this process may send now: one does at a time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "sending.lock", "w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """It gives the file within one transaction, which is on disk afterwards."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(
            sqlite3.connect(self.folder / "outbox.db", timeout=30, isolation_level=None)
        ) as box:
            box.executescript(_TABLES)
            box.execute("begin immediate")
            try:
                yield box
            except BaseException:
                box.execute("rollback")
                raise
            box.execute("commit")
