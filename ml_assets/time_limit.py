"""A time limit: what takes longer is interrupted, and ended when it does not stop.

First an exception is raised in the main thread, so that what runs there can clean up, and a
candidate counts as failed.  Native code notices that late, or never; after a grace the limit's
owner is told to end the process.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from ml_assets.errors import TimeLimitExceeded

GRACE_SECONDS = 30.0


def in_words(seconds: float) -> str:
    """It returns a duration as people say it: `90 s`, `30 min`, `6 h`."""
    if seconds < 120:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds < 7200 else f"{seconds / 3600:g} h"


class TimeLimit:
    """What is left of the time that something may take.

    Args:
        seconds: how long it may take.
        what: what takes it, in words.
        where: the key of the declaration.
        end: ends the process; called when it does not stop by itself.
        grace: seconds from the interruption until `end`.
    """

    def __init__(
        self,
        seconds: float,
        what: str,
        where: str,
        end: Callable[[str], None],
        grace: float = GRACE_SECONDS,
    ) -> None:
        self._left, self._end, self._grace = seconds, end, grace
        self._interrupted = False
        self.sentence = (
            f"{what} took longer than {in_words(seconds)}, the limit in `{where}`. Give it more "
            "time there, or less to do."
        )

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """It counts the time within; what is left is left for the next time.

        Raises:
            TimeLimitExceeded: none is left.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("a time limit is kept in the main thread of a process only")
        began = time.monotonic()
        left = max(self._left + self._grace, 0)
        watchdog = threading.Timer(left, self._end, [self.sentence])
        watchdog.daemon = True
        watchdog.start()
        before = signal.signal(signal.SIGALRM, self._interrupt)
        try:
            if not self._interrupted:  # once: what is done about it may take the grace
                signal.setitimer(signal.ITIMER_REAL, max(self._left, 1e-6))
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            watchdog.cancel()
            self._left -= time.monotonic() - began

    def _interrupt(self, _: int, __: FrameType | None) -> None:
        self._interrupted = True
        raise TimeLimitExceeded(self.sentence)
