"""A prediction log: what a served champion answered, on disk before the answer goes out.

Lines of JSON, one for each request, in files that are only appended to; each process writes files
of its own.  Requests that come together share one flush.
"""

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

ANSWERS, INPUTS = "served", "served_inputs"  # folders of a problem
SEGMENT_BYTES = 1 << 26  # a file that has grown so large is followed by another
SEGMENT_SECONDS = 86_400  # and one that is a day old


class PredictionLog:
    """The writer of one process.

    Args:
        folder: where its files go.
        seconds: a file that is so old is followed by another.
        keep_days: files that nobody wrote to for longer are removed when a new one begins; None:
            all are kept.
    """

    def __init__(
        self, folder: Path, seconds: float = SEGMENT_SECONDS, keep_days: int | None = None
    ) -> None:
        self.folder, self.seconds, self.keep_days = folder, seconds, keep_days
        self._file, self._written, self._begun = -1, 0, 0.0
        self._waiting: list[tuple[bytes, Future[None]]] = []
        self._changed, self._closing = threading.Condition(), False
        self._thread = threading.Thread(target=self._write_all, name="prediction log", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> "Future[None]":
        """It takes a line, and returns what is done once the line is on disk.

        Args:
            line: JSON, with its end of line.
        """
        done: Future[None] = Future()
        with self._changed:
            if self._closing:
                raise OSError("the prediction log is closed")
            self._waiting.append((line, done))
            self._changed.notify()
        return done

    def close(self) -> None:
        """It writes what still waits, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._leave()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                group, self._waiting = self._waiting, []
            if not group:
                return
            trouble: Exception | None = None
            try:
                self._write(b"".join(line for line, _ in group))
            except OSError as error:
                trouble = error
                self._leave()  # its last line may be torn: the next group begins a new file
            for _, done in group:
                if trouble is None:
                    done.set_result(None)
                else:
                    done.set_exception(trouble)

    def _write(self, data: bytes) -> None:
        old = time.time() - self._begun > self.seconds
        if self._file < 0 or old or self._written > SEGMENT_BYTES:
            self._leave()
            self._begin()
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]
        os.fdatasync(self._file)
        self._written += len(data)

    def _begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        name = self.folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}.jsonl"
        self._file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        self._written, self._begun = 0, time.time()
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

        self._remove_old()

    def _remove_old(self) -> None:
        """It removes files that were not written to for too long.

        No process still writes to one: each begins another every day, and a file is kept for two.
        """
        if self.keep_days is None:
            return
        oldest = time.time() - self.keep_days * SEGMENT_SECONDS
        for file in self.folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                if file.stat().st_mtime < oldest:
                    file.unlink()

    def _leave(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def folder_of(lake: Path, problem: str) -> Path:
    """It returns where the predictions that were served of a problem are logged."""
    return lake / problem / ANSWERS


def inputs_folder_of(lake: Path, problem: str) -> Path:
    """It returns where the features of served rows are kept, where that is declared."""
    return lake / problem / INPUTS


def mark_of(lake: Path, problem: str) -> list[tuple[str, int]]:
    """It returns what changes whenever something is logged, from one cheap look."""
    files = sorted(folder_of(lake, problem).glob("*.jsonl"))
    return [(f.name, f.stat().st_size) for f in files]


def read_predictions(
    lake: Path, problem: str, since: float | None = None, until: float | None = None
) -> "pd.DataFrame":
    """It returns what was served, one row for each row that was scored, in the order of time.

    Columns: `id` (request and position), `at` (UTC), `model_version`, `inputs` (digest of the
    features), `key`, `prediction`, and `probability_<class>` where there are classes.  What a shadow
    said is there too, as rows of its own version, with an id that ends in `.shadow` and the position.

    Args:
        lake: the lake's folder.
        problem: the problem's name.
        since: only what was answered from then on, in seconds since 1970.
        until: only what was answered before, in seconds since 1970.
    """
    import pandas as pd

    names = ["id", "at", "model_version", "inputs", "key", "prediction"]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    shares: dict[str, dict[int, float]] = {}
    for line in _between(folder_of(lake, problem), since, until):
        first, count = len(columns["id"]), len(line["inputs"])
        columns["id"] += [f"{line['id']}-{i}" for i in range(count)]
        columns["at"] += [line["at"]] * count
        columns["model_version"] += line.get("versions") or [line["version"]] * count
        columns["inputs"] += line["inputs"]
        columns["key"] += line["keys"] or [None] * count
        columns["prediction"] += line["predictions"]
        for i, row in enumerate(line["probabilities"] or ()):
            for name, share in zip(line["classes"], row, strict=True):
                shares.setdefault(f"probability_{name}", {})[first + i] = share
    frame = pd.DataFrame(columns)
    for name, given in shares.items():
        frame[name] = pd.Series(given, dtype="float64").reindex(frame.index)
    frame["at"] = pd.to_datetime(frame["at"].astype("float64"), unit="s", utc=True)
    return frame.sort_values("at", kind="stable", ignore_index=True)


def read_inputs(
    lake: Path, problem: str, since: float | None = None, until: float | None = None
) -> Iterator[dict[str, Any]]:
    """It gives the features of served rows, request by request: `id`, `at`, `version`, `columns`.

    Args:
        lake: the lake's folder.
        problem: the problem's name.
        since: only what was answered from then on, in seconds since 1970.
        until: only what was answered before, in seconds since 1970.
    """
    yield from _between(inputs_folder_of(lake, problem), since, until)


def forget_inputs(lake: Path, problem: str, before: float) -> int:
    """It removes files of features that were last written before a time; it returns how many.

    Args:
        lake: the lake's folder.
        problem: the problem's name.
        before: in seconds since 1970.
    """
    old = [f for f in inputs_folder_of(lake, problem).glob("*.jsonl") if f.stat().st_mtime < before]
    for file in old:
        file.unlink(missing_ok=True)
    return len(old)


def _between(folder: Path, since: float | None, until: float | None) -> Iterator[dict[str, Any]]:
    for line in _lines(folder, since):
        early = since is not None and line["at"] < since
        if not early and (until is None or line["at"] < until):
            yield line


def _lines(folder: Path, since: float | None) -> Iterator[dict[str, Any]]:
    for file in sorted(folder.glob("*.jsonl")):
        if since is not None and file.stat().st_mtime < since:
            continue
        with open(file, "rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else it was torn, and nobody got that answer
                    yield json.loads(line)
