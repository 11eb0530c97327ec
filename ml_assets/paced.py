"""A paced file: its reader may run ahead of whoever takes what it read, but only so far."""

import threading
from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")
# So many pieces are read ahead of who takes them: with fewer Arrow waits, alone it reads 32.
PIECES_AHEAD = 6
STARVED_SECONDS = 0.25


class Paced:
    """A file that is read only a little faster than its pieces are taken: else it fills memory.

    Attributes:
        file: what is read.
        given: bytes that were read.
        taken: pieces that were taken.
        hungry: somebody waits for a piece.
    """

    def __init__(self, file: Any, piece_bytes: int) -> None:
        self.file, self.closed, self.given = file, False, 0
        self.most_ahead = PIECES_AHEAD * piece_bytes
        self.piece_bytes = piece_bytes
        self.taken, self.hungry, self.free = 0, True, False
        self.moved = threading.Condition()

    def read(self, size: int = -1) -> bytes:
        """It returns the next bytes, once they may be read."""
        with self.moved:
            while not self._may():
                # a piece without rows is never taken: whoever waits in vain is let go on
                if not self.moved.wait(STARVED_SECONDS) and self.hungry:
                    break
        data: bytes = self.file.read(size)
        self.given += len(data)
        return data

    def _may(self) -> bool:
        return self.free or self.given < self.taken * self.piece_bytes + self.most_ahead

    def pieces(self, reader: Iterator[T]) -> Iterator[T]:
        """It gives what a reader of this file gives."""
        while True:
            self._now(hungry=True)
            piece = next(reader, None)
            if piece is None:
                return
            self.taken += 1
            self._now(hungry=False)
            yield piece

    def _now(self, hungry: bool) -> None:
        with self.moved:
            self.hungry = hungry
            self.moved.notify_all()

    def close(self) -> None:
        """It keeps nobody waiting any more."""
        self.closed = self.free = True
        self._now(hungry=self.hungry)
