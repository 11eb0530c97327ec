"""A ledger in a database: the same lines as in files, in a table that is only added to.

The newest line is noted beside it in the same transaction, and both by the session that holds the
problem's lock: who lost the lock, with the connection, can add nothing.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ml_assets.errors import PromotionRefused
from ml_assets.resources.database import Database, Session
from ml_assets.resources.ledger import Decision, Head, Ledger, sealed

_TABLES = """
create table ml_assets_ledger (
    problem text not null, number bigint not null, line text not null,
    at timestamptz not null default now(), primary key (problem, number)
);
create table ml_assets_ledger_head (
    problem text primary key, number bigint not null, digest text not null
);
create function ml_assets_ledger_only_grows() returns trigger language plpgsql as $$
begin raise exception 'the ledger is only added to'; end $$;
create trigger only_grows before update or delete or truncate on ml_assets_ledger
    for each statement execute function ml_assets_ledger_only_grows();
"""
_READ = """
select head.number, head.digest, ledger.number, ledger.line
from (select %s::text as problem) asked
left join ml_assets_ledger_head head on head.problem = asked.problem
left join ml_assets_ledger ledger on ledger.problem = asked.problem
order by ledger.number
"""


@dataclass(frozen=True)
class DatabaseLedger(Ledger):
    """The histories of all problems, in a database.

    Attributes:
        root: the folder of a ledger of files, from before; nothing is written there.
        database: where the ledger is.
    """

    database: Database

    def mark(self, problem: str) -> tuple[int | str, ...] | None:
        """It returns what changes whenever a history does, from one cheap look."""
        if not self._has_tables():
            return None
        query = "select number, digest from ml_assets_ledger_head where problem = %s"
        found = self.database.ask(query, problem)
        return found[0] if found else None

    @contextlib.contextmanager
    def deciding(self, problem: str) -> Iterator[Decision]:
        """It holds the problem's lock: one decision at a time, whichever machine makes it.

        Raises:
            StoreAway: the database does not answer.
        """
        self._make_tables()
        with self.database.lock(f"ledger/{problem}") as session:
            yield DatabaseDecision(self, problem, session)

    def take_over(self, files: Ledger, problem: str) -> int:
        """It copies a problem's history from files, as it is, and returns the number of its entries.

        Raises:
            PromotionRefused: that history was rewritten, or there is one here already.
        """
        entries = files.entries(problem)
        lines = files._lines(problem)
        self._make_tables()
        with self.database.lock(f"ledger/{problem}") as session, session.together():
            if session.ask(_READ, problem)[0][2] is not None:
                raise PromotionRefused(f"{self._place(problem)}: there is a history already.")
            for number, line in enumerate(lines, 1):
                _add(session, problem, number, line)
            if lines:
                _note(session, problem, Head(len(lines), _digest(lines[-1])))
        return len(entries)

    def _read(self, problem: str) -> tuple[list[bytes], Head | None]:
        if not self._has_tables():
            return self._unless_elsewhere(problem), None
        return self._found(problem, self.database.ask(_READ, problem))

    def _found(self, problem: str, rows: list[tuple[Any, ...]]) -> tuple[list[bytes], Head | None]:
        lines = [line.encode() for *_, line in rows if line is not None]
        number, digest, *_ = rows[0]
        if number is None:
            if lines:
                raise PromotionRefused(
                    f"{self._head_place(problem)} has no row for {problem}. Restore it and the ledger "
                    "from a backup."
                )
            return self._unless_elsewhere(problem), None
        return lines, Head(number, digest)

    def _unless_elsewhere(self, problem: str) -> list[bytes]:
        """It returns no lines, unless this home has some: then a history would be forgotten.

        Raises:
            PromotionRefused: it has.
        """
        file = Ledger(self.root)._file(problem)
        if file.exists():
            raise PromotionRefused(
                f"{file} holds a history of {problem} that the database does not. Copy it there once "
                "(docs/how-to/grow.md says how), or move the file away."
            )
        return []

    def _place(self, problem: str) -> str:
        return f"The ledger of {problem} in {self.database}"

    def _head_place(self, problem: str) -> str:  # noqa: ARG002  one table for all
        return "ml_assets_ledger_head"

    def _has_tables(self) -> bool:
        known = self.database._reading
        if "tables" not in known:
            query = "select to_regclass('ml_assets_ledger_head') is not null"
            if not self.database.ask(query)[0][0]:
                return False
            known["tables"] = True
        return True

    def _make_tables(self) -> None:
        if self._has_tables():
            return
        with self.database.lock("tables") as session:
            if not self._has_tables():
                with session.together():
                    session.ask(_TABLES)


@dataclass(frozen=True)
class DatabaseDecision(Decision):
    """The right to add to one problem's history, while the session that holds its lock lives.

    Attributes:
        session: the one that holds the lock, and writes.
    """

    session: Session

    def append(self, entry: dict[str, Any]) -> dict[str, Any]:
        """It adds an entry and returns it once it is kept.

        Raises:
            PromotionRefused: the end of the history is missing, or somebody else added to it.
            StoreAway: the database does not answer, and so the lock is lost.
        """
        import psycopg2

        assert isinstance(self.ledger, DatabaseLedger)
        with self.session.together():
            rows = self.session.ask(_READ, self.problem)
            lines, head = self.ledger._found(self.problem, rows)
            self.ledger._check_end(self.problem, lines, head)
            whole, line = sealed(entry, lines)
            try:
                _add(self.session, self.problem, whole["number"], line)
            except psycopg2.errors.UniqueViolation:  # a lock that does not lock: a pool in between
                raise PromotionRefused(
                    f"{self.ledger._place(self.problem)}: entry {whole['number']} was added by somebody "
                    "else meanwhile. Nothing was added; decide again."
                ) from None
            _note(self.session, self.problem, Head(whole["number"], _digest(line)))
        return whole


def _add(session: Session, problem: str, number: int, line: bytes) -> None:
    query = "insert into ml_assets_ledger (problem, number, line) values (%s, %s, %s)"
    session.ask(query, problem, number, line.decode())


def _note(session: Session, problem: str, head: Head) -> None:
    session.ask(
        "insert into ml_assets_ledger_head values (%s, %s, %s)"
        " on conflict (problem) do update set number = excluded.number, digest = excluded.digest",
        *(problem, head.number, head.digest),
    )


def _digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()
