import gzip

import numpy as np
import pandas as pd
import pytest
import yaml

from ml_assets.data_file import read
from ml_assets.draft import Told, infer, render
from ml_assets.errors import DatasetError
from ml_assets.problem import Problem

RANDOM = np.random.default_rng(0)
N = 60
PLAIN = pd.DataFrame(
    {
        "age": RANDOM.integers(18, 80, N),
        "income": RANDOM.normal(3000, 500, N).round(2),
        "colour": RANDOM.choice(["red", "blue"], N),
        "y": RANDOM.choice(["no", "yes"], N, p=[0.7, 0.3]),
    }
)
PROSE = [f"the customer called {i} times and was not pleased" for i in range(N)]


def drafted(tmp_path, rows, text=None, name="data.csv", names=None, task=None, **writing):
    path = tmp_path / name
    if text is None:
        text = rows.to_csv(index=False, **writing)
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return infer("demo", path, str(path), "y", Told(names, task))


def dataset_of(draft):
    return draft.attributes["dataset"]


def told(draft, words):
    return any(words in note for note in draft.notes)


def test_a_plain_file_needs_no_settings_for_reading(tmp_path):
    found = dataset_of(drafted(tmp_path, PLAIN))
    assert set(found) == {"path", "target", "positive", "contract"}


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_is_found(tmp_path, separator):
    draft = drafted(tmp_path, PLAIN, sep=separator)
    assert dataset_of(draft)["separator"] == separator
    assert told(draft, "Fields are separated by")


def test_a_decimal_comma_is_found(tmp_path):
    draft = drafted(tmp_path, PLAIN, sep=";", decimal=",")
    assert dataset_of(draft)["decimal"] == ","
    assert dataset_of(draft)["contract"]["columns"]["income"]["type"] == "number"


def test_a_separator_inside_quotes_does_not_mislead(tmp_path):
    rows = PLAIN.assign(colour=[f"{c}; light; new" for c in PLAIN["colour"]])
    assert "separator" not in dataset_of(drafted(tmp_path, rows))


@pytest.mark.parametrize(("encoding", "said"), [("latin-1", "latin-1"), ("utf-16", "utf-16")])
def test_the_encoding_is_found(tmp_path, encoding, said):
    text = PLAIN.assign(colour="grün").assign(age=range(N)).to_csv(index=False)
    assert dataset_of(drafted(tmp_path, None, text.encode(encoding)))["encoding"] == said


def test_a_gzipped_file_is_looked_into(tmp_path):
    assert dataset_of(drafted(tmp_path, PLAIN, name="data.csv.gz", sep=";"))["separator"] == ";"


def test_parquet_needs_no_reading_settings(tmp_path):
    path = tmp_path / "data.parquet"
    PLAIN.to_parquet(path)
    assert "separator" not in dataset_of(infer("demo", path, str(path), "y"))


def test_blanks_after_separators_are_found_and_belong_to_no_value(tmp_path):
    text = PLAIN.to_csv(index=False).replace(",", ", ")
    draft = drafted(tmp_path, None, text)
    assert dataset_of(draft)["skip_initial_space"] is True
    assert set(dataset_of(draft)["contract"]["columns"]) == set(PLAIN.columns)


def test_given_names_serve_a_file_without_a_header(tmp_path):
    text = PLAIN.to_csv(index=False, header=False)
    draft = drafted(tmp_path, None, text, names=list(PLAIN.columns))
    assert dataset_of(draft)["names"] == list(PLAIN.columns)
    assert dataset_of(draft)["contract"]["min_rows"] == N // 2


def test_a_missing_header_is_suspected_when_the_target_is_not_there(tmp_path):
    with pytest.raises(
        DatasetError, match=r"its first line reads .*give the names: `--names a,b,c`"
    ):
        drafted(tmp_path, None, PLAIN.to_csv(index=False, header=False))


def test_an_absent_target_in_parquet_names_the_columns_that_are_there(tmp_path):
    path = tmp_path / "data.parquet"
    PLAIN.drop(columns="y").to_parquet(path)
    with pytest.raises(DatasetError, match="has no column `y`; it has age, income, colour"):
        infer("demo", path, str(path), "y")


@pytest.mark.parametrize("word", ["?", "-", "none"])
def test_a_word_that_stands_for_a_missing_number_is_found(tmp_path, word):
    rows = PLAIN.assign(age=PLAIN["age"].astype(str).where(PLAIN["age"] < 60, word))
    draft = drafted(tmp_path, rows)
    assert dataset_of(draft)["missing"] == [word]
    rule = dataset_of(draft)["contract"]["columns"]["age"]
    assert rule["type"] == "number"
    assert rule["missing"] > 0.05


def test_a_dash_among_words_is_a_word(tmp_path):
    rows = PLAIN.assign(colour=PLAIN["colour"].where(PLAIN["age"] < 60, "-"))
    assert "missing" not in dataset_of(drafted(tmp_path, rows))


def test_a_unique_word_is_the_key_and_the_split_follows_it(tmp_path):
    draft = drafted(tmp_path, PLAIN.assign(customerID=[f"c-{i:03}" for i in range(N)]))
    assert dataset_of(draft)["key"] == "customerID"
    assert draft.attributes["split"]["by"] == "key"
    assert told(draft, "`customerID` identifies each row")


def test_an_entity_with_several_rows_is_preferred_to_a_row_number(tmp_path):
    rows = PLAIN.assign(
        row_id=range(1, N + 1), patient_id=[f"p{i}" for i in np.repeat(range(N // 2), 2)]
    )
    draft = drafted(tmp_path, rows)
    assert dataset_of(draft)["key"] == "patient_id"
    assert dataset_of(draft)["drop"] == ["row_id"]
    assert told(draft, "`patient_id` identifies an entity with several rows")


def test_a_counter_of_rows_is_no_feature(tmp_path):
    draft = drafted(tmp_path, PLAIN.assign(RowNumber=range(1, N + 1)))
    found = dataset_of(draft)
    assert "RowNumber" in [found.get("key"), *found.get("drop", [])]


def test_free_text_and_constants_are_dropped_with_the_reason(tmp_path):
    draft = drafted(tmp_path, PLAIN.assign(note=PROSE, unit="EUR", void=None))
    assert dataset_of(draft)["drop"] == ["note", "unit", "void"]
    assert told(draft, "`note` is free text")
    assert told(draft, "`unit` is constant")
    assert told(draft, "`void` is empty")


def test_without_a_key_rows_are_split_by_their_content(tmp_path):
    assert drafted(tmp_path, PLAIN).attributes["split"]["by"] == "row"


@pytest.mark.parametrize(
    ("target", "task", "positive"),
    [
        (PLAIN["y"], "binary", "yes"),
        (RANDOM.integers(0, 2, N), "binary", 1),
        (RANDOM.choice(["a", "b", "c"], N), "multiclass", None),
        (RANDOM.normal(size=N), "regression", None),
    ],
)
def test_task_and_positive_class_follow_from_the_target(tmp_path, target, task, positive):
    draft = drafted(tmp_path, PLAIN.assign(y=target))
    assert draft.attributes["task"] == task
    assert dataset_of(draft).get("positive") == positive
    assert told(draft, f"The task is {task}, inferred")


def test_a_task_that_its_owner_says_is_taken(tmp_path):
    draft = drafted(tmp_path, PLAIN.assign(y=RANDOM.integers(0, 3, N)), task="regression")
    assert draft.attributes["task"] == "regression"


def test_the_contract_leaves_room_but_not_for_nonsense(tmp_path):
    gaps = PLAIN.assign(income=PLAIN["income"].where(PLAIN.index % 5 > 0))
    contract = dataset_of(drafted(tmp_path, gaps.assign(debt=-PLAIN["income"])))["contract"]
    assert contract["columns"]["age"] == {
        "type": "number",
        "min": 0,
        "usual": [0.0, 110.0],
        "missing": 0.05,
    }
    assert contract["columns"]["income"]["missing"] == pytest.approx(0.35)
    assert "min" not in contract["columns"]["debt"]
    assert contract["columns"]["y"] == {
        "type": "text",
        "values": ["no", "yes"],
        "mode": {"values": "enforce"},
        "missing": 0.0,
    }
    assert contract["min_rows"] == 30


AWKWARD = PLAIN.assign(
    **{
        "customer id": [f"c: {i}" for i in range(N)],
        "yes": PROSE,
        "ключ #1": "{x: 1}",
        "a: b": RANDOM.normal(size=N),
        "2024": RANDOM.integers(0, 9, N),
        "- x": RANDOM.choice(["null", "~", "on"], N),
    }
)


@pytest.mark.parametrize("rows", [PLAIN, AWKWARD], ids=["plain", "awkward names"])
@pytest.mark.parametrize("sep", [",", "\t"])
def test_what_is_rendered_is_the_problem_that_was_inferred(tmp_path, rows, sep):
    draft = drafted(tmp_path, rows, sep=sep)
    text = render(draft)
    parsed = yaml.safe_load(text)
    assert parsed["type"] == "ml_assets.components.MLProblem"
    assert Problem(**parsed["attributes"]) == Problem(**draft.attributes)
    assert text.count("# ") >= 3


def test_a_rendered_problem_reads_the_file_that_it_came_from(tmp_path):
    draft = drafted(tmp_path, AWKWARD, sep=";", decimal=",")
    problem = Problem(**yaml.safe_load(render(draft))["attributes"])
    rows = read(tmp_path / "data.csv", problem.dataset)
    assert len(rows) == N
    assert list(rows.columns) == list(AWKWARD.columns)


def test_each_choice_stands_beside_its_reason(tmp_path):
    lines = render(drafted(tmp_path, PLAIN, sep=";")).splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith("separator:"))
    assert lines[at - 1].strip() == "# Fields are separated by ';'."


def test_the_number_of_features_is_said(tmp_path):
    draft = drafted(tmp_path, PLAIN.assign(note=PROSE))
    assert told(draft, "60 rows; 3 of 5 columns are features.")


def test_an_absent_file_is_told_what_to_do(tmp_path):
    with pytest.raises(DatasetError, match="No data file at"):
        infer("demo", tmp_path / "absent.csv", "absent.csv", "y")
