"""A ledger: the append-only history of decisions, one file per problem, one line per entry.

It is the record of who is champion; the registry's alias mirrors it.  Each line carries a digest
of itself and of the line before, so a rewritten past shows.  A file beside it, the head, notes
the newest line, so that a removed end shows as well.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_assets.errors import PromotionRefused

PROMOTION, HOLD, ROLLBACK, OVERRIDE = "promotion", "hold", "rollback", "override"
ALIAS_REPAIRED = "alias repaired"
CANARY_STARTED, CANARY_LOOK = "canary started", "canary look"
CANARY_WITHDRAWN = "canary withdrawn"
MAKES_CHAMPION = (PROMOTION, ROLLBACK)
DECISIONS = (PROMOTION, HOLD, ROLLBACK, CANARY_STARTED, CANARY_LOOK, CANARY_WITHDRAWN)


@dataclass(frozen=True)
class Ledger:
    """The histories of all problems.

    Attributes:
        root: the folder of the files.
    """

    root: Path

    def entries(self, problem: str) -> list[dict[str, Any]]:
        """It returns the history of a problem, oldest first.

        Raises:
            PromotionRefused: a line was changed, removed or inserted afterwards, or the end is missing.
        """
        lines, head = self._read(problem)
        before, entries = "", []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {}
            if entry.get("before") != before or entry.pop("seal", None) != _seal(entry):
                raise PromotionRefused(
                    f"{self._place(problem)}, line {number}: the ledger was rewritten; the line was "
                    "changed, or does not continue the one before it. Restore it from a backup."
                )
            before = hashlib.sha256(line).hexdigest()
            entries.append(entry)
        self._check_end(problem, lines, head)
        return entries

    def champion(self, problem: str) -> dict[str, Any] | None:
        """It returns the entry that made the champion, or None."""
        return champion_of(self.entries(problem))

    def mark(self, problem: str) -> tuple[int | str, ...] | None:
        """It returns what changes whenever a history does, from one cheap look at its file."""
        try:
            seen = self._file(problem).stat()
        except FileNotFoundError:
            return None
        return seen.st_ino, seen.st_size, seen.st_mtime_ns

    def withdrawn(self, problem: str, model_digest: str) -> dict[str, Any] | None:
        """It returns the rollback that took a model out of production, or None."""
        taken = [e for e in self.entries(problem) if e.get("withdrawn") == model_digest]
        return taken[-1] if taken else None

    def canary(self, problem: str) -> list[dict[str, Any]]:
        """It returns the entry that started the canary under way, and those of the looks at it.

        Whatever makes another champion ends a canary too, in that very entry: what it was compared
        with serves no more.
        """
        return under_way(self.entries(problem))

    @contextmanager
    def deciding(self, problem: str) -> Iterator["Decision"]:
        """It holds the problem's lock: one decision at a time, whichever process makes it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / f"{problem}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go when a process dies
            yield Decision(self, problem)

    def _file(self, problem: str) -> Path:
        return self.root / f"{problem}.jsonl"

    def _head(self, problem: str) -> Path:
        return self.root / f"{problem}.head"

    def _place(self, problem: str) -> str:
        return str(self._file(problem))

    def _head_place(self, problem: str) -> str:
        return self._head(problem).name

    def _read(self, problem: str) -> "tuple[list[bytes], Head | None]":
        """It returns the lines, and what was noted of the newest; None for a ledger of before heads."""
        head = self._noted(problem)  # read first: the ledger may be ahead of it, never behind
        return self._lines(problem), head

    def _noted(self, problem: str) -> "Head | None":
        file = self._head(problem)
        try:
            head = json.loads(file.read_bytes())
            return Head(int(head["number"]), str(head["digest"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            raise PromotionRefused(
                f"{file}: this is not what was written there, the number and digest of the newest "
                "line of the ledger. Restore it and the ledger from a backup."
            ) from None

    def _check_end(self, problem: str, lines: list[bytes], head: "Head | None") -> None:
        """It makes sure that the newest line that was noted is still there.

        Raises:
            PromotionRefused: it is not.
        """
        if head is None:
            return
        number, there = head.number, len(lines)
        if there < number:
            missing = (
                f"entry {number}" if number == there + 1 else f"entries {there + 1} to {number}"
            )
            raise PromotionRefused(
                f"{self._place(problem)}: {missing} of {number} {'is' if number == there + 1 else 'are'} "
                f"missing at the end; {self._head_place(problem)} says that there were {number}. "
                "Restore the ledger from a backup."
            )
        if number < 1 or hashlib.sha256(lines[number - 1]).hexdigest() != head.digest:
            raise PromotionRefused(
                f"{self._place(problem)}, line {number}: the ledger was rewritten; the line is not the "
                f"one that {self._head_place(problem)} noted. Restore it from a backup."
            )

    def _lines(self, problem: str) -> list[bytes]:
        try:
            data = self._file(problem).read_bytes()
        except FileNotFoundError:
            return []
        # a last line without its end was never acknowledged: its writer died in it
        return data.split(b"\n")[:-1]


@dataclass(frozen=True)
class Head:
    """What is noted of a history's newest line.

    Attributes:
        number: its number, from 1.
        digest: SHA-256 of it, 64 hex digits.
    """

    number: int
    digest: str


@dataclass(frozen=True)
class Decision:
    """The right to add to one problem's history, while its lock is held."""

    ledger: Ledger
    problem: str

    def append(self, entry: dict[str, Any]) -> dict[str, Any]:
        """It adds an entry and returns it once it is on disk.

        Raises:
            PromotionRefused: the end of the history is missing; nothing is added to the rest.
        """
        lines, head = self.ledger._read(self.problem)
        self.ledger._check_end(self.problem, lines, head)
        whole, line = sealed(entry, lines)
        file = self.ledger._file(self.problem)
        with open(file, "ab") as out:
            out.truncate(sum(len(line) + 1 for line in lines))
            out.write(line + b"\n")
            out.flush()
            os.fsync(out.fileno())
        self._note(whole["number"], hashlib.sha256(line).hexdigest())
        return whole

    def _note(self, number: int, digest: str) -> None:
        """It notes the newest line, after that is on disk: a crash between leaves the head behind."""
        head = self.ledger._head(self.problem)
        aside = head.with_suffix(".head.new")
        with open(aside, "w") as out:
            json.dump({"number": number, "digest": digest}, out)
            out.flush()
            os.fsync(out.fileno())
        aside.replace(head)


def sealed(entry: dict[str, Any], lines: list[bytes]) -> tuple[dict[str, Any], bytes]:
    """It returns an entry with its number and the digest of the line before, and its line.

    Args:
        entry: what was decided.
        lines: those of before.
    """
    before = hashlib.sha256(lines[-1]).hexdigest() if lines else ""
    whole = {**entry, "number": len(lines) + 1, "before": before}
    return whole, json.dumps({**whole, "seal": _seal(whole)}, sort_keys=True).encode()


def champion_of(entries: list[dict[str, Any]]) -> dict[str, Any] | None:
    """It returns the entry of a history that made the champion, or None."""
    made = [e for e in entries if e["event"] in MAKES_CHAMPION]
    return made[-1] if made else None


def under_way(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """It returns those entries of a history that a canary under way has; none where there is none."""
    found: list[dict[str, Any]] = []
    for entry in entries:
        if entry["event"] == CANARY_STARTED:
            found = [entry]
        elif entry["event"] in (*MAKES_CHAMPION, CANARY_WITHDRAWN):
            found = []
        elif entry["event"] == CANARY_LOOK and found:
            found.append(entry)
    return found


def _seal(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
