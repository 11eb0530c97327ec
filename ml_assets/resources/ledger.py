"""A ledger: the append-only history of decisions, one file per problem, one line per entry.

It is the record of who is champion; the registry's alias mirrors it.  Each line carries a digest
of itself and of the line before, so a rewritten past shows.
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
MAKES_CHAMPION = (PROMOTION, ROLLBACK)


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
            PromotionRefused: a line was changed, removed or inserted afterwards.
        """
        before, entries = "", []
        for number, line in enumerate(self._lines(problem), 1):
            try:
                entry = json.loads(line)
            except ValueError:
                entry = {}
            if entry.get("before") != before or entry.pop("seal", None) != _seal(entry):
                raise PromotionRefused(
                    f"{self._file(problem)}, line {number}: the ledger was rewritten; the line was "
                    "changed, or does not continue the one before it. Restore the file from a backup."
                )
            before = hashlib.sha256(line).hexdigest()
            entries.append(entry)
        return entries

    def champion(self, problem: str) -> dict[str, Any] | None:
        """It returns the entry that made the champion, or None."""
        made = [e for e in self.entries(problem) if e["event"] in MAKES_CHAMPION]
        return made[-1] if made else None

    def mark(self, problem: str) -> tuple[int, int, int] | None:
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

    @contextmanager
    def deciding(self, problem: str) -> Iterator["Decision"]:
        """It holds the problem's lock: one decision at a time, whichever process makes it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / f"{problem}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel lets go when a process dies
            yield Decision(self, problem)

    def _file(self, problem: str) -> Path:
        return self.root / f"{problem}.jsonl"

    def _lines(self, problem: str) -> list[bytes]:
        try:
            data = self._file(problem).read_bytes()
        except FileNotFoundError:
            return []
        # a last line without its end was never acknowledged: its writer died in it
        return data.split(b"\n")[:-1]


@dataclass(frozen=True)
class Decision:
    """The right to add to one problem's history, while its lock is held."""

    ledger: Ledger
    problem: str

    def append(self, entry: dict[str, Any]) -> dict[str, Any]:
        """It adds an entry and returns it once it is on disk."""
        lines = self.ledger._lines(self.problem)
        before = hashlib.sha256(lines[-1]).hexdigest() if lines else ""
        whole = {"number": len(lines) + 1, **entry, "before": before}
        line = json.dumps({**whole, "seal": _seal(whole)}, sort_keys=True).encode() + b"\n"
        file = self.ledger._file(self.problem)
        with open(file, "ab") as out:
            out.truncate(sum(len(line) + 1 for line in lines))
            out.write(line)
            out.flush()
            os.fsync(out.fileno())
        return whole


def _seal(entry: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
