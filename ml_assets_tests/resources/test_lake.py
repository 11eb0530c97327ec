import json
import multiprocessing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.errors import ModelRefused, NotMaterialized
from ml_assets.resources.lake import Lake, read_table, write_table
from ml_assets_tests.conftest import table


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


def test_what_is_put_is_found_by_its_key(tmp_path):
    lake = Lake(tmp_path)
    put = lake.put("demo", "split", "k1", writing(seconds=2))
    found = lake.find("demo", "split", "k1")
    assert found == put
    assert (found.path / "file").read_bytes() == b"content"
    assert (found.facts, found.key, found.path.name) == ({"seconds": 2}, "k1", found.digest)


@pytest.mark.parametrize("asked", [("other", "split", "k1"), ("demo", "x", "k1"), ("demo", "split", "k2")])  # fmt: skip
def test_another_problem_noun_or_key_finds_nothing(tmp_path, asked):
    lake = Lake(tmp_path)
    lake.put("demo", "split", "k1", writing())
    assert lake.find(*asked) is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=8)), min_size=1, max_size=6))
def test_each_key_finds_what_was_last_put_and_equal_content_is_one_folder(given):
    with TemporaryDirectory() as folder:
        lake, last = Lake(Path(folder)), {}
        for key, data in given:
            lake.put("demo", "split", f"k{key}", writing(data))
            last[key] = data
        for key, data in last.items():
            assert (lake.find("demo", "split", f"k{key}").path / "file").read_bytes() == data
        assert len(list((Path(folder) / "demo" / "split").iterdir())) == len({d for _, d in given})


def test_facts_are_no_part_of_the_content(tmp_path):
    lake = Lake(tmp_path)
    one, other = (lake.put("demo", "split", "k1", writing(at=t)) for t in (1, 2))
    assert one.path == other.path
    assert lake.find("demo", "split", "k1").facts == {"at": 2}


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def write(folder):
        (folder / "half").write_bytes(b"half")
        raise RuntimeError("no space")

    lake = Lake(tmp_path)
    with pytest.raises(RuntimeError, match="no space"):
        lake.put("demo", "split", "k1", write)
    assert everything(tmp_path) == []
    assert lake.find("demo", "split", "k1") is None


@pytest.mark.parametrize("crash", ["rename", "replace"])
def test_a_crash_before_or_after_the_rename_leaves_the_previous_version_whole(
    tmp_path, monkeypatch, crash
):
    """`rename` publishes the folder, `replace` the note that leads to it."""
    lake = Lake(tmp_path)
    before = lake.put("demo", "split", "k1", writing(b"old"))

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, crash, killed)
        lake.put("demo", "split", "k1", writing(b"new"))
    assert lake.find("demo", "split", "k1") == before
    assert (before.verified().path / "file").read_bytes() == b"old"
    after = lake.put("demo", "split", "k1", writing(b"new"))
    assert lake.find("demo", "split", "k1") == after


@pytest.mark.parametrize("damage", ["changed", "added", "removed"])
def test_a_damaged_entry_is_refused(tmp_path, damage):
    lake = Lake(tmp_path)
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


def test_a_damaged_entry_is_mended_by_putting_it_again(tmp_path):
    lake = Lake(tmp_path)
    entry = lake.put("demo", "split", "k1", writing())
    (entry.path / "file").write_bytes(b"damaged")
    again = lake.put("demo", "split", "k1", writing())
    assert again.path == entry.path
    assert (again.verified().path / "file").read_bytes() == b"content"


def test_an_entry_whose_folder_is_gone_is_not_found(tmp_path):
    lake = Lake(tmp_path)
    entry = lake.put("demo", "split", "k1", writing())
    entry.path.rename(tmp_path / "elsewhere")
    assert lake.find("demo", "split", "k1") is None


def test_amended_facts_are_found_and_the_content_stays(tmp_path):
    lake = Lake(tmp_path)
    entry = lake.put("demo", "candidate", "k1", writing(seconds=2))
    amended = lake.amend("demo", "candidate", entry, mlflow_run="r1")
    assert lake.find("demo", "candidate", "k1") == amended
    assert amended.facts == {"seconds": 2, "mlflow_run": "r1"}
    assert amended.verified().digest == entry.digest


def test_an_asset_without_a_version_says_what_to_run(tmp_path):
    with pytest.raises(
        NotMaterialized, match=r"demo/dataset has no version yet.*ml-assets run demo"
    ):
        Lake(tmp_path).current("demo", "dataset")


def test_the_current_version_is_the_one_that_was_last_made_current(tmp_path):
    lake = Lake(tmp_path)
    one, other = (lake.put("demo", "dataset", k, writing(k.encode())) for k in ("k1", "k2"))
    lake.make_current("demo", "dataset", "dataset", other)
    lake.make_current("demo", "dataset", "dataset", one)
    assert lake.current("demo", "dataset") == one


def test_a_current_version_whose_files_are_gone_is_to_be_made_again(tmp_path):
    lake = Lake(tmp_path)
    entry = lake.put("demo", "dataset", "k1", writing())
    lake.make_current("demo", "dataset", "dataset", entry)
    entry.path.rename(tmp_path / "elsewhere")
    with pytest.raises(NotMaterialized, match=r"its files are gone. Materialize it again"):
        lake.current("demo", "dataset")


def test_a_json_file_of_an_entry_is_parsed(tmp_path):
    entry = Lake(tmp_path).put("demo", "x", "k", writing(json.dumps({"a": [1]}).encode(), "card"))
    assert entry.json("card") == {"a": [1]}


def test_rows_are_read_once_per_process(tmp_path):
    lake = Lake(tmp_path)
    entry = lake.put("demo", "dataset", "k1", writing_rows(table(10)))
    assert lake.rows(entry, "rows.parquet") is lake.rows(entry, "rows.parquet")


def test_only_a_few_tables_are_held(tmp_path):
    lake = Lake(tmp_path)
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


def put_often(root):
    lake = Lake(Path(root))
    for i in range(30):
        entry = lake.put("demo", "split", f"k{i % 3}", writing(b"%d" % (i % 3)))
        assert (entry.verified().path / "file").read_bytes() == b"%d" % (i % 3)
        assert lake.find("demo", "split", f"k{i % 3}") == entry


def test_processes_that_make_the_same_do_not_disturb_each_other(tmp_path):
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=put_often, args=(str(tmp_path),)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [r.exitcode for r in racers] == [0, 0, 0]
    assert list((tmp_path / "demo" / ".aside").iterdir()) == []
