"""The event log of a run from the command line: Dagster's own files, kept open."""

import os
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

from ml_assets.event_log import EventLog, keep_open


@dg.asset(check_specs=[dg.AssetCheckSpec("is_fine", asset="rows")])
def rows() -> dg.MaterializeResult:
    check = dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)
    return dg.MaterializeResult(metadata={"count": 3}, check_results=[check])


@dg.asset(deps=[rows])
def broken() -> None:
    raise ValueError("no")


def ran(instance: dg.DagsterInstance, listener: Any = None) -> str:
    """It runs the two assets and returns the run's id."""
    job = dg.Definitions(assets=[rows, broken], jobs=[dg.define_asset_job("all")])
    run_id = dg._core.utils.make_new_run_id()  # type: ignore[attr-defined]
    if listener:
        instance.add_event_listener(run_id, listener)
    made = job.resolve_job_def("all")
    made.execute_in_process(instance=instance, run_id=run_id, raise_on_error=False)
    return run_id


def opened(folder: Path) -> dg.DagsterInstance:
    folder.mkdir(exist_ok=True)
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return dg.DagsterInstance.from_config(str(folder))


def told(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """It returns what the UI would show: the run, its events, and the state of asset and check."""
    events = [e for e in instance.all_logs(run_id) if e.dagster_event]
    run = instance.get_run_by_id(run_id)
    key = dg.AssetCheckKey(dg.AssetKey("rows"), "is_fine")
    checked = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    made = instance.get_latest_materialization_event(dg.AssetKey("rows"))
    assert run and made and made.asset_materialization
    return {
        "status": run.status,
        "events": [(e.dagster_event.event_type_value, e.step_key) for e in events],  # type: ignore[union-attr]
        "check": checked.status,
        "metadata": dict(made.asset_materialization.metadata),
        "asset": instance.get_asset_records([dg.AssetKey("broken")])[0].asset_entry.last_run_id
        == run_id,
    }


@pytest.mark.slow
def test_it_records_what_dagsters_own_records(tmp_path: Path) -> None:
    plain, ours = opened(tmp_path / "plain"), keep_open(opened(tmp_path / "ours"))
    assert isinstance(ours.event_log_storage, EventLog)
    once, twice = ran(ours), ran(ours)
    expected = told(plain, ran(plain))
    assert len(expected["events"]) > 15
    assert told(ours, once) == {**expected, "asset": False}
    ours.dispose()
    assert told(opened(tmp_path / "ours"), twice) == expected


def test_whoever_looks_sees_each_event_at_once(tmp_path: Path) -> None:
    """Seen to fail with one transaction for the whole run."""
    instance = keep_open(opened(tmp_path))
    other = SqliteEventLogStorage(str(tmp_path / "history" / "runs"))
    seen: list[tuple[int, int]] = []

    def listener(event: Any) -> None:
        times = os.stat(other.path_for_shard(event.run_id)).st_mtime_ns
        seen.append((len(other.get_logs_for_run(event.run_id)), times))

    ran(instance, listener)
    counts, times = zip(*seen, strict=True)
    assert list(counts) == list(range(counts[0], counts[0] + len(counts)))
    assert sorted(set(times)) == list(times)  # the UI watches the times of the run's file


def test_its_files_are_whole_once_it_is_closed(tmp_path: Path) -> None:
    instance = keep_open(opened(tmp_path))
    run_id = ran(instance)
    written = tmp_path / "history" / "runs" / f"{run_id}.db-wal"
    assert written.exists()
    instance.dispose()
    assert not written.exists()
    assert not (tmp_path / "history" / "runs" / "index.db-wal").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_only_dagsters_own_sqlite_is_kept_open(tmp_path: Path, times: int) -> None:
    memory = dg.DagsterInstance.ephemeral()
    before = memory.event_log_storage
    assert keep_open(memory).event_log_storage is before
    instance = opened(tmp_path)
    for _ in range(times):
        keep_open(instance)
    assert type(instance.event_log_storage) is EventLog
    instance.dispose()
