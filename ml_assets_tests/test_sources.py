"""Sources other than a local file: S3 (a real server), SQL (a real database), an upstream asset."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster.components.core.load_defs import build_defs_for_component

from ml_assets.components import MLProblem
from ml_assets.components.ml_problem.sensor import build_sensor
from ml_assets.errors import DatasetError
from ml_assets.landing import look
from ml_assets.round.arrival import table_of
from ml_assets.round.dataset import make_dataset
from ml_assets.standing import quarantine
from ml_assets_tests import servers
from ml_assets_tests.problems import Project, declared, quickly, rows


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with quickly():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def csv(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False).encode()


# ----------------------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def store() -> Iterator[servers.ObjectStore]:
    with servers.object_store() as started:
        yield started


@pytest.fixture
def bucket(store: servers.ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket, reached as a user reaches his own: by environment variables alone."""
    import boto3
    import s3fs

    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-word")
    s3fs.S3FileSystem.clear_instance_cache()
    store.bucket("landing")
    made = boto3.resource("s3").Bucket("landing")
    made.objects.all().delete()
    return made


S3 = {"dataset": {"path": "s3://landing/demo/*.csv"}}


@pytest.mark.slow
def test_objects_arrive_once_and_a_bad_one_is_kept(project: Project, bucket: Any) -> None:
    problem = declared(**S3)
    bucket.put_object(Key="demo/1.csv", Body=csv(rows(300)))
    bucket.put_object(Key="demo/2.csv", Body=csv(rows(200, seed=1, first=300)))
    bucket.put_object(Key="demo/3.csv", Body=b"id,a,b,y\n1,2\n")
    bucket.put_object(Key="demo/4.csv.part", Body=b"id,a")
    bucket.put_object(Key="elsewhere/5.csv", Body=csv(rows(10)))
    made = make_dataset(project.round(problem))
    assert made.profile.rows == 500
    assert set(made.arrived.refused) == {"3.csv"}
    assert "line 2 has 2 fields, 4 expected" in made.arrived.refused["3.csv"]
    again = make_dataset(project.round(problem))
    assert again.arrived.read == 0
    assert again.entry.digest == made.entry.digest
    (kept,) = quarantine(MLProblem(problem, project.root, project.root))["batches"]
    assert Path(kept["kept"]).read_bytes() == b"id,a,b,y\n1,2\n"
    # the same bytes under another name, a corrected object, and a new one
    bucket.put_object(Key="demo/0.csv", Body=csv(rows(300)))
    bucket.put_object(Key="demo/3.csv", Body=csv(rows(100, seed=2, first=500)))
    third = make_dataset(project.round(problem))
    assert third.arrived.same == {"0.csv": "1.csv"}
    assert third.profile.rows == 600
    (replaced,) = quarantine(MLProblem(problem, project.root, project.root))["batches"]
    assert replaced["state"] == "replaced"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one.csv", "one.parquet"])
def test_one_object_is_the_whole_dataset(
    project: Project, bucket: Any, tmp_path: Path, name: str
) -> None:
    problem = declared(dataset={"path": f"s3://landing/{name}"})
    for count in (300, 400):
        file = tmp_path / name
        frame = rows(count)
        frame.to_parquet(file) if name.endswith("parquet") else file.write_bytes(csv(frame))
        bucket.put_object(Key=name, Body=file.read_bytes())
        made = make_dataset(project.round(problem))
        pd.testing.assert_frame_equal(made.rows.frame(), frame)
    assert [sum(f.rows for f in table_of(project.round(problem)).files(v)) for v in (1, 2)] == [
        300,
        400,
    ]


@pytest.mark.slow
def test_what_is_wrong_with_a_bucket_is_said_without_its_secret(
    project: Project, bucket: Any
) -> None:
    for path in ("s3://nowhere/x/*.csv", "s3://landing/absent.csv", "s3://landing/none/"):
        with pytest.raises(DatasetError) as caught:
            make_dataset(project.round(declared(dataset={"path": path})))
        assert "a-secret-word" not in str(caught.value)


@pytest.mark.slow
def test_a_listing_of_objects_changes_with_them(project: Project, bucket: Any) -> None:
    dataset = declared(**S3).dataset
    bucket.put_object(Key="demo/1.csv", Body=csv(rows(30)))
    first = look(project.root, dataset, 0).mark()
    assert look(project.root, dataset, 99).mark() == first
    bucket.put_object(Key="demo/1.csv", Body=csv(rows(30, seed=1)))
    assert look(project.root, dataset, 99).mark() != first


# ---------------------------------------------------------------------------- SQL


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "warehouse.db"
    with sqlite3.connect(file) as connection:
        rows(300).to_sql("customers", connection, index=False)
    monkeypatch.setenv("WAREHOUSE_URL", f"sqlite:///{file}")
    return file


def asked(query: str = "SELECT * FROM customers ORDER BY id") -> Any:
    return declared(dataset={"path": None, "sql": query, "connection": "WAREHOUSE_URL"})


def test_a_query_is_a_dataset(project: Project, warehouse: Path) -> None:
    made = make_dataset(project.round(asked()))
    pd.testing.assert_frame_equal(made.rows.frame(), rows(300))
    assert make_dataset(project.round(asked())).reused
    with sqlite3.connect(warehouse) as connection:
        rows(50, seed=1, first=300).to_sql("customers", connection, index=False, if_exists="append")
    later = make_dataset(project.round(asked()))
    assert later.profile.rows == 350
    assert later.version == made.version + 1


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT * FROM nobody", "no such table: nobody"),
        ("SELECT * FROM customers WHERE 0", "gave no rows"),
        ("SELEC", "syntax error"),
    ],
)
def test_a_query_that_gives_nothing_says_why(
    project: Project, warehouse: Path, query: str, said: str
) -> None:
    with pytest.raises(DatasetError, match=said):
        make_dataset(project.round(asked(query)))


def test_a_database_that_cannot_be_reached_keeps_its_password(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAREHOUSE_URL", "postgresql+nodriver://me:a-secret-word@127.0.0.1:1/x")
    with pytest.raises(DatasetError) as caught:
        make_dataset(project.round(asked()))
    assert "a-secret-word" not in str(caught.value)
    monkeypatch.delenv("WAREHOUSE_URL")
    with pytest.raises(DatasetError, match="WAREHOUSE_URL is not set"):
        make_dataset(project.round(asked()))


# ------------------------------------------------------------------ upstream asset

KEY = dg.AssetKey(["warehouse", "customers"])
UPSTREAM = declared(dataset={"path": None, "asset": "warehouse/customers"})


def upstream(passed: bool, blocking: bool = True) -> list[Any]:
    @dg.asset(key=KEY, check_specs=[dg.AssetCheckSpec("is_fresh", asset=KEY, blocking=blocking)])
    def customers() -> Iterator[Any]:
        yield dg.Output(rows(300))
        yield dg.AssetCheckResult(passed=passed)

    return [customers]


def defs(project: Project, assets: list[Any]) -> dg.Definitions:
    ours = build_defs_for_component(MLProblem(UPSTREAM, project.root, project.root))
    return dg.Definitions.merge(ours, dg.Definitions(assets=assets))


def tick(project: Project, assets: list[Any], cursor: str | None = None) -> Any:
    definitions = defs(project, assets)
    sensor = build_sensor(UPSTREAM, definitions.resolve_job_def("demo"), project.stores)
    assert sensor is not None
    context = dg.build_sensor_context(
        instance=project.instance,
        cursor=cursor,
        repository_def=definitions.get_repository_def(),
    )
    return sensor.evaluate_tick(context)


def materialize(project: Project, assets: list[Any]) -> Any:
    return dg.materialize(
        assets,
        instance=project.instance,
        raise_on_error=False,
        resources={"io_manager": dg.FilesystemIOManager(base_dir=str(project.root / "io"))},
    )


def test_an_upstream_asset_is_the_dataset(project: Project) -> None:
    project.here()
    materialize(project, upstream(True))
    files = dg.FilesystemIOManager(base_dir=str(project.root / "io"))
    definitions = dg.Definitions.merge(
        defs(project, upstream(True)), dg.Definitions(resources={"io_manager": files})
    )
    result = definitions.resolve_job_def("demo").execute_in_process(
        instance=project.instance, asset_selection=[dg.AssetKey(["demo", "dataset"])]
    )
    assert result.success
    (made,) = result.get_asset_materialization_events()
    assert made.materialization.metadata["dagster/row_count"].value == 300


def test_the_sensor_waits_for_the_checks_of_the_upstream_asset(project: Project) -> None:
    assert "never materialized" in tick(project, upstream(True)).skip_message
    materialize(project, upstream(False))
    refused = tick(project, upstream(False))
    assert not refused.run_requests
    assert "is_fresh" in refused.skip_message
    materialize(project, upstream(True))
    asked_for = tick(project, upstream(True))
    assert len(asked_for.run_requests) == 1
    again = tick(project, upstream(True), asked_for.cursor)
    assert not again.run_requests
    assert "not materialized since" in again.skip_message
    materialize(project, upstream(False, blocking=False))
    assert not tick(project, upstream(False), asked_for.cursor).run_requests


# --------------------------------------------------------------------- the sensor


def file_tick(project: Project, problem: Any, cursor: str | None = None) -> Any:
    job = build_defs_for_component(MLProblem(problem, project.root, project.root))
    sensor = build_sensor(problem, job.resolve_job_def("demo"), project.stores)
    assert sensor is not None
    context = dg.build_sensor_context(instance=project.instance, cursor=cursor)
    return sensor.evaluate_tick(context)


def test_a_tick_without_a_run_says_why(project: Project) -> None:
    from ml_assets_tests.problems import arrive

    problem = declared(dataset={"path": "landing/*.csv", "contract": {"min_rows": 50}})
    assert "No folder" in file_tick(project, problem).skip_message
    arrive(rows(300), project.root / "landing" / "1.csv")
    first = file_tick(project, problem)
    (request,) = first.run_requests
    # no run looked at it yet: asked for again, by the same key
    assert file_tick(project, problem, first.cursor).run_requests[0].run_key == request.run_key
    # the daemon died before it stored the cursor: the same request, so Dagster starts one run
    assert file_tick(project, problem).run_requests[0].run_key == request.run_key
    make_dataset(project.round(problem))
    looked_at = file_tick(project, problem)
    assert not looked_at.run_requests
    assert "A run has looked at what is there" in looked_at.skip_message
    assert "Nothing is new among 1 file." in file_tick(project, problem, first.cursor).skip_message
    (project.root / "landing" / "2.csv").write_bytes(csv(rows(50)))
    growing = file_tick(project, problem, first.cursor)
    assert not growing.run_requests
    assert "2.csv" in growing.skip_message
    arrive(rows(50, seed=1, first=300), project.root / "landing" / "2.csv")
    second = file_tick(project, problem, first.cursor)
    assert second.run_requests[0].run_key != request.run_key


def test_content_that_comes_back_after_other_content_runs_again(project: Project) -> None:
    from ml_assets_tests.problems import aged

    problem = declared()
    keys = []
    for seed in (0, 1, 0):
        project.write(rows(300, seed=seed))
        aged(project.root / "data.csv")
        (request,) = file_tick(project, problem).run_requests
        keys.append(request.run_key)
        make_dataset(project.round(problem))
    assert len(set(keys)) == 3


def test_sensors_run_by_default_and_can_be_declared_off(project: Project) -> None:
    for on, status in ((True, "RUNNING"), (False, "STOPPED")):
        problem = declared(retrain={"on_new_data": on})
        job = build_defs_for_component(MLProblem(problem, project.root, project.root))
        sensor = build_sensor(problem, job.resolve_job_def("demo"), project.stores)
        assert sensor is not None
        assert sensor.default_status.value == status
    nothing = declared(dataset={"path": None, "loader": ".model.rows"})
    assert build_sensor(nothing, "demo", project.stores) is None


@pytest.mark.slow
def test_ten_thousand_files_cost_less_than_a_second(project: Project) -> None:
    import time

    folder = project.root / "landing"
    folder.mkdir()
    for number in range(10_000):
        (folder / f"{number:05}.csv").write_bytes(b"id,a,b,y\n1,2,3,yes\n")
    problem = declared(dataset={"path": "landing/*.csv", "settle": 0})
    first = file_tick(project, problem)
    project.stores.lake.note("demo", "landing", {"mark": first.cursor})
    started = time.perf_counter()
    assert "10,000 files" in file_tick(project, problem, first.cursor).skip_message
    assert time.perf_counter() - started < 1
