"""The prediction log: a line is on disk before its answer goes out, whoever writes beside it."""

import json
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from ml_assets.resources import prediction_log
from ml_assets.resources.prediction_log import PredictionLog, folder_of, read_predictions


def line(name: str, at: float = 1.0, **more: Any) -> bytes:
    told = {
        "id": name,
        "at": at,
        "version": 1,
        "inputs": ["0" * 16],
        "keys": None,
        "predictions": ["yes"],
        "classes": ["no", "yes"],
        "probabilities": [[0.25, 0.75]],
    }
    return json.dumps({**told, **more}).encode() + b"\n"


def test_many_writers_lose_nothing_and_share_flushes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flushed = []
    flush = prediction_log.os.fdatasync
    monkeypatch.setattr(prediction_log.os, "fdatasync", lambda f: flushed.append(f) or flush(f))
    monkeypatch.setattr(prediction_log, "SEGMENT_BYTES", 20_000)
    log, done = PredictionLog(folder_of(tmp_path, "demo")), list[Future[None]]()

    def write(who: int) -> None:
        done.extend([log.append(line(f"{who}.{i}")) for i in range(100)])

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    [d.result(5) for d in done]
    done.append(log.append(line("last")))  # all before it may have shared one group
    done[-1].result(5)

    names = read_predictions(tmp_path, "demo")["id"]
    log.close()
    wanted = [f"{w}.{i}-0" for w in range(8) for i in range(100)]
    assert sorted(names) == sorted([*wanted, "last-0"])
    assert len(flushed) < 800
    assert len(list(folder_of(tmp_path, "demo").iterdir())) > 1


def test_it_is_done_only_after_the_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Seen to fail when the answer was let go before `fdatasync`."""
    may = threading.Event()
    monkeypatch.setattr(prediction_log.os, "fdatasync", lambda _: may.wait(5))
    log = PredictionLog(tmp_path)

    done = log.append(line("a"))

    with pytest.raises(TimeoutError):
        done.result(0.1)
    may.set()
    assert done.result(5) is None
    log.close()


def test_a_torn_line_was_never_answered_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = PredictionLog(folder_of(tmp_path, "demo"))
    log.append(line("whole")).result(5)
    write = prediction_log.os.write

    def torn(file: int, data: Any) -> int:
        write(file, bytes(data)[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prediction_log.os, "write", torn)
        with pytest.raises(OSError, match="No space"):
            log.append(line("torn")).result(5)
    log.append(line("after")).result(5)
    log.close()

    assert read_predictions(tmp_path, "demo")["id"].tolist() == ["whole-0", "after-0"]


def test_closing_writes_what_waits_and_refuses_what_comes(tmp_path: Path):
    log = PredictionLog(folder_of(tmp_path, "demo"))
    done = [log.append(line(str(i))) for i in range(50)]
    log.close()

    assert all(d.done() for d in done)
    assert len(read_predictions(tmp_path, "demo")) == 50
    with pytest.raises(OSError, match="closed"):
        log.append(line("late"))


def test_what_was_served_is_read_by_time(tmp_path: Path):
    log = PredictionLog(folder_of(tmp_path, "demo"))
    [log.append(line(str(at), at=float(at), keys=[at])) for at in (3, 1, 2)]
    log.close()

    assert read_predictions(tmp_path, "demo")["key"].tolist() == [1, 2, 3]
    assert read_predictions(tmp_path, "demo", since=2, until=3)["id"].tolist() == ["2-0"]
    empty = read_predictions(tmp_path, "other")
    assert empty.empty
    assert list(empty) == ["id", "at", "model_version", "inputs", "key", "prediction"]


def test_old_files_go_when_a_new_one_begins_and_only_where_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    now = 1e9
    monkeypatch.setattr(prediction_log.time, "time", lambda: now)
    old, recent = tmp_path / "0-old.jsonl", tmp_path / "1-recent.jsonl"

    def begun(keep_days: int | None) -> set[str]:
        for file, days in ((old, 4), (recent, 2)):
            file.write_bytes(line("a"))
            prediction_log.os.utime(file, (now, now - days * 86_400))
        log = PredictionLog(tmp_path, keep_days=keep_days)
        log.append(line("b")).result(5)
        log.close()
        return {f.name for f in (old, recent) if f.exists()}

    assert begun(None) == {old.name, recent.name}
    assert begun(3) == {recent.name}


def test_a_writer_leaves_its_file_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Else another process might remove a file that somebody still writes to."""
    now = [1e9]
    monkeypatch.setattr(prediction_log.time, "time", lambda: now[0])
    log = PredictionLog(tmp_path, keep_days=2)

    for _ in range(2):
        log.append(line("a")).result(5)
    assert len(list(tmp_path.iterdir())) == 1
    now[0] += 86_401
    log.append(line("b")).result(5)
    log.close()

    assert len(list(tmp_path.iterdir())) == 2
