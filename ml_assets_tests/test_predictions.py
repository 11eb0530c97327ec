"""Predictions: files scored with the verified champion, by hand and by the asset and its sensor."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ml_assets.artifact import load
from ml_assets.resources.home import Home
from ml_assets.resources.stores import Stores, open_stores
from ml_assets_tests.problems import arrive, quickly, rows
from ml_assets_tests.test_command import YAML, Desk, _desk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk where `run demo` was typed twice, so that version 2 took the place of version 1."""
    with quickly() as patch:
        desk = _desk(tmp_path_factory.mktemp("desk"), patch)
        desk.declare(YAML.replace("    linear: {}\n", ""))
        assert desk.type("run", "demo").status == 0
        desk.declare(YAML)
        assert desk.type("run", "demo").status == 0
        yield desk


@pytest.fixture
def desk(made: Desk, monkeypatch: pytest.MonkeyPatch) -> Desk:
    home = made.root / ".ml_assets"
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("ML_ASSETS_DEFS", str(made.root / "problems"))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    return made


def stores(desk: Desk) -> Stores:
    return open_stores(Home(desk.root, desk.root / ".ml_assets"))


def folder_of(desk: Desk, version: int) -> Path:
    return stores(desk).registry.version("demo", version).folder


def model_of(desk: Desk, version: int) -> Any:
    return load((folder_of(desk, version) / "model.skops").read_bytes())


def new(desk: Desk, name: str = "new.csv", **changes: Any) -> Path:
    return arrive(rows(40, seed=9, first=5000).assign(**changes), desk.root / name)


def test_a_file_is_scored_with_the_champion(desk: Desk):
    path = new(desk)

    answer = desk.type("predict", "demo", "--input", path.name, "--output", "out.csv", "--json")

    told, table = answer.document, pd.read_csv("out.csv")
    assert answer.status == 0
    assert told["problem"] == "demo"
    assert (told["version"], told["rows"], told["wrong"]) == (2, 40, [])
    assert told["output"] == "out.csv"
    assert told["seconds"] > 0
    columns = ["id", "prediction", "probability_no", "probability_yes"]
    assert list(table) == [*columns, "model_version", "scored_at", "wrong"]
    given = pd.read_csv(path)
    assert table["id"].tolist() == given["id"].tolist()
    assert table["prediction"].tolist() == model_of(desk, 2).predict(given[["a", "b"]]).tolist()
    assert set(table["scored_at"]) == {told["scored_at"]}


def test_a_target_in_the_input_makes_no_difference(desk: Desk):
    """It is ignored when it is there, and not missed when it is not."""
    frame = pd.read_csv(new(desk), float_precision="round_trip")
    arrive(frame.drop(columns="y"), desk.root / "without.csv")
    arrive(frame.assign(y=3.5), desk.root / "odd.csv")
    arrive(frame[["b", "a"]], desk.root / "bare.csv")
    outputs = []

    for name in ("new", "without", "odd", "bare"):
        done = desk.type("predict", "demo", "--input", f"{name}.csv", "--output", "out.parquet")
        assert done.status == 0, done.err
        outputs.append(pd.read_parquet("out.parquet")["probability_yes"].tolist())

    assert outputs.count(outputs[0]) == 4


def test_a_former_champion_scores_when_it_is_named(desk: Desk):
    path = new(desk)
    words = ("predict", "demo", "--input", path.name, "--output", "out.csv", "--version")

    assert desk.type(*words, "1", "--json").document["version"] == 1
    said = pd.read_csv("out.csv")["prediction"].tolist()
    assert said == model_of(desk, 1).predict(pd.read_csv(path)[["a", "b"]]).tolist()
    assert set(pd.read_csv("out.csv")["model_version"]) == {1}
    assert desk.type(*words, "7").refused("never champion", "version 1, version 2")


def test_wrong_rows_are_told_with_their_lines_and_the_command_is_done(desk: Desk):
    frame = pd.read_csv(new(desk)).astype({"a": object})
    frame.loc[2, "a"] = "high"
    arrive(frame, desk.root / "new.csv")
    words = ("predict", "demo", "--input", "new.csv", "--output", "out.csv")

    answer = desk.type(*words, "--json")

    assert answer.status == 0
    assert answer.document["wrong"] == [
        {"line": 4, "reason": "`a` is 'high'; a number is expected"}
    ]
    assert len(pd.read_csv("out.csv")) == answer.document["rows"] == 40
    assert "line 4: `a` is 'high'" in desk.type(*words).out


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"--input": "absent.csv"}, ["No data file at absent.csv"]),
        ({"--output": "out.txt"}, [".csv, .csv.gz, .parquet"]),
        ({"--output": "nowhere/out.csv"}, ["nowhere is no folder"]),
        ({"--output": "new.csv"}, ["is the input itself"]),
        ({"--input": "misspelt.csv"}, ["`b` is not there", "Did you mean `B`"]),
    ],
)
def test_wrong_input_is_refused_as_a_whole(desk: Desk, given: dict[str, str], words: list[str]):
    path = new(desk)
    arrive(pd.read_csv(path).rename(columns={"b": "B"}), desk.root / "misspelt.csv")
    whole = {"--input": path.name, "--output": "untouched.csv", **given}

    assert desk.type("predict", "demo", *(w for pair in whole.items() for w in pair)).refused(
        *words
    )
    assert not (desk.root / "untouched.csv").exists()


def test_a_tampered_model_is_refused_before_anything_is_written(desk: Desk):
    """Seen to fail when the model was loaded without its digest."""
    path, file = new(desk), folder_of(desk, 2) / "model.skops"
    whole = file.read_bytes()
    shutil.copy(folder_of(desk, 1) / "model.skops", file)
    words = ("predict", "demo", "--input", path.name, "--output", "tampered.csv")
    try:
        answer = desk.type(*words)
    finally:
        file.write_bytes(whole)

    assert (answer.status, answer.out) == (1, "")
    assert "not those that were recorded" in answer.err
    assert "Traceback" not in answer.err
    assert not list(desk.root.glob("*tampered*"))
    assert desk.type(*words).status == 0


def test_the_ledger_says_who_is_champion_whatever_the_alias_says(desk: Desk):
    path = new(desk)
    stores(desk).registry.point("demo", "champion", 1)
    try:
        answer = desk.type("predict", "demo", "--input", path.name, "--output", "out.csv", "--json")
    finally:
        stores(desk).registry.point("demo", "champion", 2)

    assert answer.document["version"] == 2


def test_without_a_champion_it_says_what_to_do(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    path = new(desk)
    monkeypatch.setenv("ML_ASSETS_HOME", str(desk.root / "another"))

    answer = desk.type("predict", "demo", "--input", path.name, "--output", "none.csv")

    assert answer.status == 1
    assert "no champion yet" in answer.err
    assert "ml-assets run demo" in answer.err
    assert json.dumps(answer.out) == '""'
