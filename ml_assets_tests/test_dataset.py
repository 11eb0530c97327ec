import gzip
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_assets.data_file import fingerprint, load, plain, read, read_through
from ml_assets.dataset import Profile, describe, features, find_target, infer_task
from ml_assets.errors import DatasetError
from ml_assets.rows import first_rows
from ml_assets_tests.conftest import dataset, table

ROWS = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, np.nan]})
CSV = b"a,b,c\n1,x,0.5\n2,,\n"


def file(tmp_path, data, name="data.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def parquet(tmp_path, columns):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("data", "name", "declared"),
    [
        (CSV, "data.csv", {}),
        (CSV, "data.csv.gz", {}),
        (b"\xef\xbb\xbf" + CSV, "data.csv", {}),
        (CSV.replace(b"\n", b"\r\n"), "data.csv", {}),
        (CSV.rstrip(b"\n"), "data.csv", {}),
        (CSV + b"\n", "data.csv", {}),
        (CSV.decode().encode("utf-16"), "data.csv", {"encoding": "utf-16"}),
        (CSV.replace(b",", b";").replace(b"0.5", b"0,5"), "data.csv", {"separator": ";", "decimal": ","}),
        (CSV.replace(b",", b"\t"), "data.tsv", {"separator": "\t"}),
        (CSV.split(b"\n", 1)[1], "data.csv", {"names": ["a", "b", "c"]}),
        (b"a,b,c\n1,x,0.5\n2,?,?\n", "data.csv", {"missing": ["?"]}),
        (b"a,b,c\n1,x,0.5\n2,NA,NaN\n", "data.csv", {}),
        (b"a, b, c\n1, x, 0.5\n2, ?, ?\n", "data.csv",
         {"skip_initial_space": True, "missing": ["?"], "names": None}),
        (b'"a","b","c"\n"1","x","0.5"\n"2","",""\n', "data.csv", {}),
    ],
    ids=["csv", "csv.gz", "BOM", "CRLF", "no last newline", "blank line", "utf-16", "decimal comma",
         "tab", "no header", "missing word", "NA", "blanks after separators", "quoted"],
)  # fmt: skip
def test_the_same_rows_are_read_from_any_writing_of_them(tmp_path, data, name, declared):
    pd.testing.assert_frame_equal(read(file(tmp_path, data, name), dataset(**declared)), ROWS)


def test_the_row_numbers_of_pandas_are_no_column(tmp_path):
    """Seen to fail: rows that were selected before they were saved had a feature `__index_level_0__`."""
    path = tmp_path / "data.parquet"
    pd.concat([ROWS, ROWS]).iloc[2:].set_axis([5, 7]).to_parquet(path)
    pd.testing.assert_frame_equal(read(path, dataset()), ROWS)


def test_parquet_gives_the_same_rows_as_csv(tmp_path):
    path = tmp_path / "data.parquet"
    ROWS.to_parquet(path)
    pd.testing.assert_frame_equal(read(path, dataset()), ROWS)


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"", "data.csv", "is empty (0 bytes)"),
        (b"", "data.parquet", "is empty (0 bytes)"),
        (b"a,b\n", "data.csv", "has a header and 0 data rows"),
        (b"\n\n", "data.csv", "holds no rows: it is blank"),
        (b"a,b\n1,2\n3,4,5\n6,7\n", "data.csv", "line 3 has 3 fields, 2 expected"),
        (b"a,b\n1,2\n3\n", "data.csv", "line 3 has 1 fields, 2 expected"),
        (b'a,b\n\n"1\n",2\n3\n', "data.csv", "line 5 has 1 fields, 2 expected"),
        (b"a,b\n1,2\n3\n", "data.csv.gz", "line 3 has 1 fields, 2 expected"),
        (CSV.decode().encode("utf-16"), "data.csv", "Declare `encoding: utf-16`"),
        ("a,b\n1,x\n2,é\n".encode("latin-1"), "data.csv", "not UTF-8 at byte 10, line 3. Declare"),
        (b"a,b,a\n1,2,3\n", "data.csv", "the header names a more than once"),
        (b"a,,c\n1,2,3\n", "data.csv", "column 2 has no name. Name it in the header"),
        (CSV, "data.parquet", "is named .parquet but its content is not Parquet"),
        (b"PAR1" + b"\0" * 40, "data.parquet", "not a complete Parquet file"),
        (gzip.compress(CSV), "data.csv", "is not csv but gzip-compressed; name it .csv.gz"),
        (b"PK\x03\x04\0\0", "data.csv", "is not csv but a zip or Excel file; save it as csv"),
    ],
    ids=["empty", "empty parquet", "header only", "blank", "ragged", "short line", "after values of several lines", "ragged gzip", "utf-16",
         "latin-1", "duplicate header", "empty header name", "csv named parquet",
         "damaged parquet", "gzip named csv", "excel named csv"],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_told_what_and_where(tmp_path, data, name, said):
    with pytest.raises(DatasetError) as refused:
        read(file(tmp_path, data, name), dataset())
    assert said in str(refused.value)
    assert str(tmp_path / name) in str(refused.value)


def test_a_truncated_parquet_asks_to_be_sent_again(tmp_path):
    path = parquet(tmp_path, {"a": list(range(1000))})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"not a complete Parquet file.*Send it again"):
        read(path, dataset())


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_truncated_gzip_asks_to_be_sent_again(tmp_path, kept):
    """Its first rows can be read; taken for the whole, they would be a smaller dataset."""
    body = b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(20000))
    data = gzip.compress(body)
    path = tmp_path / "data.csv.gz"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DatasetError, match=r"incomplete or damaged.*Send it again"):
        read(path, dataset())


def test_nested_parquet_is_asked_to_be_flattened(tmp_path):
    path = parquet(tmp_path, {"a": [1], "b": [[1, 2]], "c": [{"d": 1}]})
    with pytest.raises(DatasetError, match=r"nested columns b, c\. Flatten"):
        read(path, dataset())


def test_an_absent_file_is_told_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match=r"No data file at .*absent\.csv\. Put one there"):
        fingerprint(tmp_path / "absent.csv")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DatasetError, match="is a folder"):
        read(tmp_path, dataset())


def test_latin_1_is_read_when_declared(tmp_path):
    path = file(tmp_path, "a,b\n1,é\n".encode("latin-1"))
    assert read(path, dataset(encoding="latin-1"))["b"].tolist() == ["é"]


def test_an_encoding_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read as utf-9"):
        read(file(tmp_path, CSV), dataset(encoding="utf-9"))


def test_leading_zeros_survive_declared_or_not(tmp_path):
    path = file(tmp_path, b"zip,a\n01234,1\n00501,2\n")
    declared = dataset(contract={"columns": {"zip": {"type": "text"}}})
    assert read(path, declared)["zip"].tolist() == ["01234", "00501"]
    assert read(path, dataset())["zip"].tolist() == ["01234", "00501"]
    assert read(path, dataset())["a"].tolist() == [1, 2]


def test_a_quoted_value_may_hold_separators_and_line_ends(tmp_path):
    path = file(tmp_path, b'a,b\n1,"x, y\nz"\n2,"say ""no"""\n')
    assert read(path, dataset())["b"].tolist() == ["x, y\nz", 'say "no"']


def test_types_are_plain_whatever_the_source_calls_them(tmp_path):
    path = parquet(
        tmp_path,
        {
            "i8": pa.array([1, 2], pa.int8()),
            "gaps": pa.array([1, None], pa.int32()),
            "f32": pa.array([0.5, 1.5], pa.float32()),
            "date": pa.array([19000, 19001], pa.date32()),
            "zone": pa.array([0, 1], pa.timestamp("ms", tz="Europe/Berlin")),
            "word": pa.array(["x", None]).dictionary_encode(),
            "large": pa.array(["x", "y"], pa.large_string()),
            "flag": pa.array([True, False]),
            "flag_gaps": pa.array([True, None]),
            "money": pa.array(["1.50", "2.25"]).cast(pa.decimal128(10, 2)),
        },
    )
    types = {c: str(t) for c, t in read(path, dataset()).dtypes.items()}
    assert types == {
        "i8": "int64",
        "gaps": "float64",
        "f32": "float64",
        "date": "datetime64[ns]",
        "zone": "datetime64[ns]",
        "word": "object",
        "large": "object",
        "flag": "bool",
        "flag_gaps": "float64",
        "money": "float64",
    }


def test_a_moment_is_kept_in_utc():
    given = pd.DataFrame({"t": pd.to_datetime(["2024-06-01 12:00"]).tz_localize("Europe/Berlin")})
    assert plain(given, "x")["t"].tolist() == [pd.Timestamp("2024-06-01 10:00")]


def test_times_and_empty_columns_of_a_csv_are_text(tmp_path):
    found = read(file(tmp_path, b"t,e,a\n12:30:00,,1\n08:00:00,,2\n"), dataset())
    assert found["t"].tolist() == ["12:30:00", "08:00:00"]
    assert found["e"].tolist() == [None, None]


def test_values_that_are_no_table_are_refused_by_column():
    with pytest.raises(DatasetError, match=r"x: column `a` holds list values\. Flatten"):
        plain(pd.DataFrame({"a": [[1], [2]]}), "x")


def test_a_loader_gives_plain_rows_with_a_plain_index():
    given = pd.DataFrame({"a": pd.Categorical(["x", "y"]), 1: [1, 2]}, index=[7, 7])
    found = load(lambda: given, "ours")
    assert list(found.index) == [0, 1]
    assert list(found.columns) == ["a", "1"]
    assert found["a"].dtype == object


@pytest.mark.parametrize("given", [None, [1, 2], pd.DataFrame(), pd.DataFrame({"a": []})])
def test_a_loader_that_gives_no_rows_is_refused(given):
    with pytest.raises(DatasetError, match="The loader ours gave no DataFrame with rows"):
        load(lambda: given, "ours")


def test_a_loader_that_fails_is_named_with_what_it_said():
    with pytest.raises(DatasetError, match="The loader ours failed: ZeroDivisionError: division"):
        load(lambda: 1 / 0, "ours")


@pytest.mark.parametrize("names", [["a", "a"], ["1", 1]])
def test_a_loader_that_names_a_column_twice_is_refused(names):
    with pytest.raises(DatasetError, match=r"ours: .*(a|1) more than once"):
        load(lambda: pd.DataFrame([[1, 2]], columns=names), "ours")


def test_target_key_and_dropped_columns_are_no_features():
    declared = dataset(key="id", drop=["note"])
    assert features(["id", "a", "note", "y", "b"], declared) == ["a", "b"]


def test_a_profile_counts_what_its_gates_ask():
    rows = pd.DataFrame(
        {"a": [1.0, 1.0, np.inf, np.nan], "b": ["x", "x", None, "z"], "y": [0, 0, 1, 1]}
    )
    profile = describe(rows, dataset(drop=["b"]), None)
    a, b = profile.columns["a"], profile.columns["b"]
    assert (profile.rows, profile.features, profile.duplicates) == (4, ("a",), 1)
    assert (a.type, a.missing, a.distinct, a.infinite, a.min) == ("number", 1, 2, 1, 1.0)
    assert (b.type, b.missing, b.distinct, b.min) == ("text", 1, 2, None)
    assert profile.usable_target().counts == (2, 2)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_profile_survives_its_own_record(task):
    profile = describe(table(60, task=task), dataset(), None)
    assert profile.usable_target().task == task
    assert Profile.from_record(json.loads(json.dumps(asdict(profile)))) == profile


def test_a_profile_without_a_usable_target_says_why():
    profile = describe(pd.DataFrame({"a": [1, 2], "Y": [0, 1]}), dataset(), None)
    assert profile.target is None
    with pytest.raises(DatasetError, match=r"No column `y` for the target\. Did you mean `Y`"):
        profile.usable_target()


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (["a", "b"], "binary"),
        ([0, 1], "binary"),
        ([1.5, 2.5], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([0, 1, 2], "multiclass"),
        ([1.0, 2.0, 3.0], "multiclass"),
        ([1, 2, 4], "regression"),
        ([2, 3, 4], "regression"),
        (list(range(21)), "regression"),
        (list(range(20)), "multiclass"),
        ([0.5, 1.5, 2.5], "regression"),
    ],
)
def test_the_task_follows_from_the_target(values, task):
    found, why = infer_task(pd.Series(values))
    assert found == task
    assert why.startswith("inferred: the target")


@pytest.mark.parametrize(
    ("values", "task", "said"),
    [
        ([1, 1], None, "has 1 distinct value (1); 2 are needed"),
        ([None, None], None, "has 0 distinct value; 2 are needed"),
        (["a", "b"], "regression", "holds text values; a regression needs numbers"),
        ([1, 2, 3], "binary", "has 3 classes; a binary task has 2"),
        ([f"id{i}" for i in range(101)], None, "101 distinct values, too many for classes"),
        (list(pd.date_range("2024", periods=3)), None, "holds dates; derive a number"),
    ],
)
def test_a_target_that_cannot_be_one_is_told_why(values, task, said):
    with pytest.raises(DatasetError) as refused:
        find_target(pd.DataFrame({"y": values}), dataset(), task)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("values", "declared", "positive"),
    [
        (["no", "yes", "yes"], None, "yes"),
        (["No", "YES", "YES"], None, "YES"),
        ([0, 1, 1], None, 1),
        ([False, True, True], None, True),
        (["cat", "cat", "dog"], None, "dog"),
        (["cat", "cat", "dog"], "cat", "cat"),
        ([0.0, 1.0, 1.0], 0, 0.0),
        ([0, 1, 1], "0", 0),
    ],
)
def test_the_positive_class_is_the_declared_then_the_spoken_then_the_rarer(
    values, declared, positive
):
    found = find_target(pd.DataFrame({"y": values}), dataset(positive=declared), None)
    assert found.positive == positive
    assert type(found.positive) is type(positive)


def test_a_positive_class_that_is_no_value_is_refused_with_those_that_are():
    with pytest.raises(
        DatasetError, match="`positive: si` is no value of the target `y`; it has n"
    ):
        find_target(pd.DataFrame({"y": ["no", "yes"]}), dataset(positive="si"), None)


def test_parquet_named_csv_is_told_its_name(tmp_path):
    path = parquet(tmp_path, {"a": [1, 2]}).rename(tmp_path / "data.csv")
    with pytest.raises(DatasetError, match=r"is not csv but Parquet; name it \.parquet"):
        read(path, dataset())


@pytest.mark.parametrize("threads", [1, 2])
def test_a_type_that_does_not_fit_is_widened_however_many_threads_read(tmp_path, threads):
    """A reader with one thread says it in other words. Seen to fail with OMP_NUM_THREADS=1."""
    path = file(tmp_path, b"a,k\n1,2.5\n2,many\n")
    before = pa.cpu_count()
    pa.set_cpu_count(threads)
    try:
        known = {"k": pa.float64()}
        rows, _ = read_through(path, dataset(), known, lambda p: pa.concat_tables(list(p)))
    finally:
        pa.set_cpu_count(before)
    assert rows["k"].to_pylist() == ["2.5", "many"]


def test_first_rows_are_kept_as_json_and_bounded():
    wide = pd.concat([ROWS] + [pd.Series([i] * 2, name=f"x{i}") for i in range(70)], axis=1)
    wide["a"] = pd.to_datetime(["2024-01-31", None])
    wide.loc[0, "b"] = "x" * 1000
    kept = json.loads(json.dumps(first_rows(wide), allow_nan=False))
    assert kept["of"] == 73
    assert len(kept["columns"]) == len(kept["cells"][0]) == 60
    assert [row[:3] for row in kept["cells"]] == [
        ["2024-01-31 00:00:00", "x" * 200, 0.5],
        [None, None, None],
    ]
    assert len(first_rows(table(80))["cells"]) == 5
