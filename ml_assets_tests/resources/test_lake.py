"""One contract for both lakes: in a folder, and in an object store."""

import itertools
import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.errors import (
    Damaged,
    DeclarationError,
    ModelRefused,
    NotMaterialized,
    StoreAway,
    is_transient,
)
from ml_assets.resources import object_lake
from ml_assets.resources.database import Database
from ml_assets.resources.home import Home
from ml_assets.resources.lake import Lake, read_table, write_table
from ml_assets.resources.object_lake import ObjectLake, ObjectStore, open_object_store
from ml_assets.resources.stores import open_stores
from ml_assets.resources.table import write_pieces
from ml_assets.serving.server import _sent
from ml_assets_tests import servers
from ml_assets_tests.conftest import table
from ml_assets_tests.e2e.served import free_port

COUNT = itertools.count()
slow = pytest.mark.slow


@dataclass
class InAFolder:
    """A lake in a folder, which all machines share."""

    folder: Path
    few = False

    def open(self, machine: str = "one", lake: str = "lake") -> Lake:
        return Lake(self.folder / lake)

    def crash(self, patched: pytest.MonkeyPatch, where: str, killed: Any) -> None:
        patched.setattr(Path, {"content": "rename", "note": "replace"}[where], killed)


@dataclass
class InAStore(InAFolder):
    """A lake in an object store; each machine has a folder of its own."""

    bucket: str = ""
    few = True

    def open(self, machine: str = "one", lake: str = "lake") -> Lake:
        store = open_object_store(f"{self.bucket}/{self.folder.name}/{lake}")
        return ObjectLake(self.folder / machine / lake, store=store)

    def crash(self, patched: pytest.MonkeyPatch, where: str, killed: Any) -> None:
        patched.setattr(ObjectStore, {"content": "send", "note": "write"}[where], killed)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with servers.object_store() as store, pytest.MonkeyPatch.context() as patched:
        for name, value in store.environment.items():
            patched.setenv(name, value)
        yield store.bucket("lakes")


@pytest.fixture(params=["folder", pytest.param("store", marks=slow)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> InAFolder:
    if request.param == "folder":
        return InAFolder(tmp_path)
    return InAStore(tmp_path, request.getfixturevalue("bucket"))


@pytest.fixture
def stored(bucket: str, tmp_path: Path) -> InAStore:
    return InAStore(tmp_path, bucket)


def writing(data=b"content", name="file", **facts):
    def write(folder):
        (folder / name).write_bytes(data)
        return facts

    return write


def writing_rows(rows):
    def write(folder):
        write_table(rows, folder / "rows.parquet")
        return {}

    return write


def everything(root):
    return sorted(p.relative_to(root).as_posix() for p in Path(root).rglob("*") if p.is_file())


def test_what_is_put_is_found_by_its_key(kept):
    lake = kept.open()
    put = lake.put("demo", "split", "k1", writing(seconds=2))
    found = lake.find("demo", "split", "k1")
    assert found == put
    assert (found.path / "file").read_bytes() == b"content"
    assert (found.facts, found.key, found.path.name) == ({"seconds": 2}, "k1", found.digest)


@pytest.mark.parametrize("asked", [("other", "split", "k1"), ("demo", "x", "k1"), ("demo", "split", "k2")])  # fmt: skip
def test_another_problem_noun_or_key_finds_nothing(kept, asked):
    lake = kept.open()
    lake.put("demo", "split", "k1", writing())
    assert lake.find(*asked) is None


def test_each_key_finds_what_was_last_put_and_equal_content_is_one_folder(kept):
    checks = [HealthCheck.too_slow]

    @settings(deadline=None, max_examples=6 if kept.few else 30, suppress_health_check=checks)
    @given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=8)), min_size=1, max_size=6))
    def found(given):
        lake, last = kept.open(lake=f"lake{next(COUNT)}"), {}
        for key, data in given:
            lake.put("demo", "split", f"k{key}", writing(data))
            last[key] = data
        for key, data in last.items():
            assert (lake.find("demo", "split", f"k{key}").path / "file").read_bytes() == data
        assert len(list((lake.root / "demo" / "split").iterdir())) == len({d for _, d in given})

    found()


def test_facts_are_no_part_of_the_content(kept):
    lake = kept.open()
    one, other = (lake.put("demo", "split", "k1", writing(at=t)) for t in (1, 2))
    assert one.path == other.path
    assert lake.find("demo", "split", "k1").facts == {"at": 2}


def test_a_writer_that_fails_leaves_nothing(kept):
    def write(folder):
        (folder / "half").write_bytes(b"half")
        raise RuntimeError("no space")

    lake = kept.open()
    with pytest.raises(RuntimeError, match="no space"):
        lake.put("demo", "split", "k1", write)
    assert everything(kept.folder) == []
    assert lake.find("demo", "split", "k1") is None


@pytest.mark.parametrize("crash", ["content", "note"])
def test_a_crash_before_the_content_or_the_note_leaves_the_previous_version_whole(
    kept, monkeypatch, crash
):
    """The content is published first, then the note that leads to it."""
    lake = kept.open()
    before = lake.put("demo", "split", "k1", writing(b"old"))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        kept.crash(patched, crash, killed)
        lake.put("demo", "split", "k1", writing(b"new"))
    assert lake.find("demo", "split", "k1") == before
    assert (before.verified().path / "file").read_bytes() == b"old"
    after = lake.put("demo", "split", "k1", writing(b"new"))
    assert lake.find("demo", "split", "k1") == after


@pytest.mark.parametrize("damage", ["changed", "added", "removed"])
def test_a_damaged_entry_is_refused(kept, damage):
    lake = kept.open()
    entry = lake.put("demo", "split", "k1", writing_rows(table(10)))
    assert entry.verified() is entry
    file = entry.path / "rows.parquet"
    if damage == "changed":
        file.write_bytes(file.read_bytes() + b"\0")
    elif damage == "added":
        (entry.path / "more").write_bytes(b"")
    else:
        file.unlink()
    with pytest.raises(ModelRefused, match=r"was changed after it was written: digest .* Remove"):
        entry.verified()
    with pytest.raises(ModelRefused, match="was changed after it was written"):
        lake.rows(entry, "rows.parquet")


def test_a_damaged_entry_is_mended_by_putting_it_again(kept):
    lake = kept.open()
    entry = lake.put("demo", "split", "k1", writing())
    (entry.path / "file").write_bytes(b"damaged")
    again = lake.put("demo", "split", "k1", writing())
    assert again.path == entry.path
    assert (again.verified().path / "file").read_bytes() == b"content"


def test_an_entry_whose_folder_is_gone_is_not_found(kept):
    lake = kept.open()
    entry = lake.put("demo", "split", "k1", writing())
    lake.remove("demo", entry.path.parent.name, [entry.path])
    assert lake.find("demo", "split", "k1") is None


def test_amended_facts_are_found_and_the_content_stays(kept):
    lake = kept.open()
    entry = lake.put("demo", "candidate", "k1", writing(seconds=2))
    amended = lake.amend("demo", "candidate", entry, mlflow_run="r1")
    assert lake.find("demo", "candidate", "k1") == amended
    assert amended.facts == {"seconds": 2, "mlflow_run": "r1"}
    assert amended.verified().digest == entry.digest


def test_an_asset_without_a_version_says_what_to_run(kept):
    with pytest.raises(
        NotMaterialized, match=r"demo/dataset has no version yet.*ml-assets run demo"
    ):
        kept.open().current("demo", "dataset")


def test_the_current_version_is_the_one_that_was_last_made_current(kept):
    lake = kept.open()
    one, other = (lake.put("demo", "dataset", k, writing(k.encode())) for k in ("k1", "k2"))
    lake.make_current("demo", "dataset", "dataset", other)
    lake.make_current("demo", "dataset", "dataset", one)
    assert lake.current("demo", "dataset") == one


def test_a_current_version_whose_files_are_gone_is_to_be_made_again(kept):
    lake = kept.open()
    entry = lake.put("demo", "dataset", "k1", writing())
    lake.make_current("demo", "dataset", "dataset", entry)
    lake.remove("demo", entry.path.parent.name, [entry.path])
    with pytest.raises(NotMaterialized, match=r"its files are gone. Materialize it again"):
        lake.current("demo", "dataset")


def test_a_json_file_of_an_entry_is_parsed(kept):
    entry = kept.open().put("demo", "x", "k", writing(json.dumps({"a": [1]}).encode(), "card"))
    assert entry.json("card") == {"a": [1]}


def test_rows_are_read_once_per_process(kept):
    lake = kept.open()
    entry = lake.put("demo", "dataset", "k1", writing_rows(table(10)))
    assert lake.rows(entry, "rows.parquet") is lake.rows(entry, "rows.parquet")


def test_only_a_few_tables_are_held(kept):
    lake = kept.open()
    entries = [lake.put("demo", "x", f"k{i}", writing_rows(table(5, i))) for i in range(6)]
    for entry in entries:
        lake.rows(entry, "rows.parquet")
    assert len(lake._read) == 4


def test_a_table_comes_back_as_it_was_and_has_the_same_bytes_each_time(tmp_path):
    rows = table(50).assign(flag=[True, False] * 25, empty=pd.Series([None] * 50, dtype=object))
    write_table(rows, tmp_path / "one")
    write_table(rows.copy(), tmp_path / "other")
    pd.testing.assert_frame_equal(read_table(tmp_path / "one"), rows)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    write_table(rows.assign(whole=np.arange(50) + 1), tmp_path / "third")
    assert (tmp_path / "third").read_bytes() != (tmp_path / "one").read_bytes()


def put_often(lake, times):
    for i in range(times):
        entry = lake.put("demo", "split", f"k{i % 3}", writing(b"%d" % (i % 3)))
        assert (entry.verified().path / "file").read_bytes() == b"%d" % (i % 3)
        assert lake.find("demo", "split", f"k{i % 3}") == entry


def test_processes_that_make_the_same_do_not_disturb_each_other(kept):
    context = multiprocessing.get_context("fork")
    racers = [
        context.Process(target=put_often, args=(kept.open(machine), 10 if kept.few else 30))
        for machine in ("one", "one", "two")
    ]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [r.exitcode for r in racers] == [0, 0, 0]
    assert list((kept.open().root / "demo" / ".aside").iterdir()) == []


def commit(table, *numbers, once=""):
    rows = pa.table({"n": list(numbers)})
    aside = table.aside()
    file = table.publish(aside, write_pieces(iter([rows]), aside))
    table.commit([file], [], rows.schema, {"who": "me"}, once)
    return file


def test_another_machine_finds_what_was_put_and_noted(kept):
    one, two = kept.open("one"), kept.open("two")
    entry = one.put("demo", "split", "k1", writing_rows(table(10)))
    one.make_current("demo", "split", "split", entry)
    one.note("demo", "landing", {"mark": "m"})
    assert two.noted("demo", "landing") == {"mark": "m"}
    for found in (
        two.find("demo", "split", "k1"),
        two.current("demo", "split"),
        *two.entries("demo", "split"),
    ):
        assert (found.digest, found.facts) == (entry.digest, entry.facts)
        assert len(two.rows(found, "rows.parquet")) == 10
    two.amend("demo", "split", entry, seen=True)
    assert one.find("demo", "split", "k1").facts == {"seen": True}
    assert two.noted("demo", "nothing") is None
    assert two.entries("demo", "nothing") == []


def test_what_is_removable_is_removed_for_all_machines_and_nothing_else(kept):
    one, two = kept.open("one"), kept.open("two")
    stays, goes, same = (
        one.put("demo", "split", k, writing(d))
        for k, d in (("k1", b"a"), ("k2", b"b"), ("k3", b"a"))
    )
    assert stays.path == same.path
    assert two.find("demo", "split", "k2")
    places = two.removable("demo", "split", {"k1"})
    assert {p.name for p in places} == {"k2.json", "k3.json", goes.digest}
    assert two.measured(places)[0] == 3
    assert two.measured([p for p in places if p.name == goes.digest]) == (1, 1)
    two.remove("demo", "split", places)
    for lake in (one, two, kept.open("three")):
        assert [e.key for e in lake.entries("demo", "split")] == ["k1"]
        assert lake.find("demo", "split", "k2") is None
    assert kept.open("three").find("demo", "split", "k1").verified()


def test_a_table_is_the_same_on_all_machines(kept):
    one, two = (kept.open(m).table("demo", "t") for m in ("one", "two"))
    assert one.version() is None and two.files() == []
    first = commit(one, 1, 2)
    second = commit(two, 3, once="b" * 64)
    assert one.files() == two.files() == [first, second]
    assert one.version() == two.version()
    assert one.has("b" * 64) and not one.has("c" * 64)
    assert list(two.rows(two.files(), set()).frame()["n"]) == [1, 2, 3]
    assert [v.get("who") for v in one.history(9)] == [v.get("who") for v in two.history(9)]
    assert two.largest("n") == 3
    assert one.files(1) == [first]


def test_a_batch_comes_in_once_whichever_machine_brings_it(kept):
    from deltalake.exceptions import CommitFailedError

    one, two = (kept.open(m).table("demo", "t") for m in ("one", "two"))
    commit(one, 1)
    stale = two._delta()
    commit(one, 2, once="b" * 64)
    object.__setattr__(two, "_delta", lambda version=None: stale)  # it looked before that commit
    with pytest.raises(CommitFailedError):
        commit(two, 2, once="b" * 64)
    assert len(one.files()) == 2


# ------------------------------------------------------------------------ a store alone


@slow
@pytest.mark.parametrize("how", ["changed", "added", "removed"])
def test_what_was_changed_in_the_store_is_refused_and_mended_by_putting_it_again(stored, how):
    """Seen to fail without the digest of what was fetched."""
    one = stored.open("one")
    entry = one.put("demo", "split", "k1", lambda f: writing()(f) or writing(b"x", "other")(f))
    name = f"demo/split/{entry.digest}"
    if how == "removed":
        one.store.remove([f"{name}/other"])
    else:
        one.store.write(f"{name}/{'file' if how == 'changed' else 'more'}", b"damage")
    with pytest.raises(
        ModelRefused, match=r"s3://.* was changed after it was written: digest .*Remove"
    ):
        stored.open("two").find("demo", "split", "k1")
    one.put("demo", "split", "k1", lambda f: writing()(f) or writing(b"x", "other")(f))
    assert stored.open("two").find("demo", "split", "k1").verified()
    assert not list((stored.folder / "two" / "lake" / "demo" / ".aside").iterdir())


@slow
def test_a_name_that_leads_out_of_its_folder_is_refused(stored, monkeypatch):
    one = stored.open("one")
    entry = one.put("demo", "split", "k1", writing())
    there = ObjectStore.listed

    def listed(self, folder):
        found = there(self, folder)
        return {f"../../../{n}": s for n, s in found.items()} if entry.digest in folder else found

    monkeypatch.setattr(ObjectStore, "listed", listed)
    with pytest.raises(ModelRefused, match="leads out of its folder"):
        stored.open("two").find("demo", "split", "k1")


@slow
def test_a_file_of_a_table_that_was_changed_in_the_store_is_refused(stored):
    one, two = (stored.open(m).table("demo", "t") for m in ("one", "two"))
    file = commit(one, 1)
    one.store.write(f"{one.name}/{file.name}", b"damage")
    with pytest.raises(ModelRefused, match="is gone or was changed after it was written"):
        two.rows(two.files(), set())
    one.store.send(one.path(file), f"{one.name}/{file.name}")
    assert len(two.rows(two.files(), set())) == 1  # what was damaged is in no cache


@slow
def test_a_note_that_is_damaged_says_where_it_is(stored):
    lake = stored.open()
    lake.store.write("demo/notes/x.json", b"{")
    with pytest.raises(Damaged, match=r"s3://lakes/.*/demo/notes/x\.json is damaged"):
        lake.noted("demo", "x")


@slow
def test_what_was_served_is_sent_at_the_latest_when_the_server_ends(stored):
    lake = stored.open()
    for name in ("served", "served_inputs"):
        (lake.root / "demo" / name).mkdir(parents=True)
    with _sent(lake, "demo", 7):
        (lake.root / "demo" / "served" / "1-a.jsonl").write_text("1\n")
    assert list(lake.store.listed("demo/served")) == ["1-a.jsonl"]


@slow
def test_logs_of_machines_come_together_and_old_ones_go(stored):
    one, two = stored.open("one"), stored.open("two")
    for lake, name in ((one, "1-a"), (two, "2-b")):
        file = lake.root / "demo" / "served" / f"{name}.jsonl"
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
        lake.send_logged("demo", "served")
    with open(one.root / "demo" / "served" / "1-a.jsonl", "a") as grows:
        grows.write("2\n")
    one.send_logged("demo", "served")
    two.gather("demo", "served")
    texts = [f.read_text() for f in sorted((two.root / "demo" / "served").iterdir())]
    assert texts == ["1\n2\n", "1\n"]
    one.forget("demo", "served", 2e12)
    assert one.store.listed("demo/served") == {}
    one.send_logged("demo", "served", 2e12)
    assert one.store.listed("demo/served") == {}


@slow
def test_a_store_that_is_away_is_no_answer(stored, monkeypatch):
    """Seen to fail while no answer was taken for nothing there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    lake = stored.open("away")
    for ask in (lambda: lake.noted("demo", "x"), lambda: lake.put("demo", "x", "k", writing())):
        with pytest.raises(StoreAway, match="ML_ASSETS_LAKE gave no answer") as raised:
            ask()
        assert is_transient(raised.value)


@slow
def test_a_bucket_that_is_not_there_takes_nothing(stored):
    lake = ObjectLake(stored.folder, store=open_object_store("s3://nobodys/lake"))
    with pytest.raises(StoreAway, match="nobodys"):
        lake.put("demo", "x", "k", writing())


@pytest.mark.parametrize("url", ["lake", "s3://", "gs://bucket/lake", "file:///lake"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(DeclarationError, match="Expected: s3://bucket/prefix"):
        open_object_store(url)


def test_the_lake_is_in_the_store_by_configuration_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_ASSETS_LAKE", "s3://bucket/lake")
    with pytest.raises(DeclarationError, match="needs ML_ASSETS_DATABASE_URL too"):
        open_stores(Home(tmp_path, tmp_path / "one"))
    monkeypatch.setenv("ML_ASSETS_DATABASE_URL", "postgresql+psycopg2://me:pw@db:5432/ml")
    lake = open_stores(Home(tmp_path, tmp_path / "two")).lake
    assert isinstance(lake, ObjectLake)
    assert lake.store.url == "s3://bucket/lake"
    assert isinstance(lake.database, Database)
    assert lake.segment_seconds == object_lake.SEGMENT_SECONDS
