"""Predictions: files scored with the verified champion, by hand and by the asset and its sensor."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml_assets.artifact import load
from ml_assets.problem import Problem
from ml_assets.resources.home import Home
from ml_assets.resources.stores import Stores, open_stores
from ml_assets_tests.problems import (
    SEES_ALL,
    SEES_B,
    Project,
    Run,
    aged,
    arrive,
    declared,
    quickly,
    rows,
)
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
        ({"--input": "absent.csv"}, ["No file at absent.csv", "--input"]),
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


# --------------------------------------------------------------------------- the asset and its sensor

WATCHED = {"path": "inbox/*.csv", "output": "scored"}


@dataclass
class Inbox:
    """A project whose champion scores what arrives, run as Dagster's daemon runs it."""

    project: Project
    problem: Problem
    cursor: str | None = None
    asked: set[str] = field(default_factory=set)

    def put(self, name: str, seed: int, count: int = 30) -> None:
        frame = rows(count, seed=seed, first=1000 * seed).drop(columns="y")
        arrive(frame, self.project.root / "inbox" / name)

    def tick(self) -> Any:
        """It lets the sensor look; what it asks for is run, once for each run key."""
        definitions = self.project.definitions(self.problem)
        [sensor] = [s for s in definitions.sensors or [] if s.name == "demo_new_inputs"]
        with dg.build_sensor_context(self.project.instance, cursor=self.cursor) as context:
            told = sensor(context)
        if isinstance(told, dg.SensorResult):
            self.cursor = told.cursor or self.cursor
            for request in told.run_requests or []:
                assert request.run_key not in self.asked
                self.asked.add(request.run_key)
                return self.run(request.tags)
            return told.skip_reason.skip_message
        return told.skip_message

    def run(self, tags: Any = None) -> Run:
        self.project.here()
        job = self.project.definitions(self.problem).resolve_job_def("demo_predictions")
        return Run(
            job.execute_in_process(
                instance=self.project.instance,
                tags=tags,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        )

    def outputs(self) -> dict[str, list[int]]:
        """It returns for each file the versions whose predictions of it lie in the output folder."""
        found: dict[str, list[int]] = {}
        for file in sorted((self.project.root / "scored").glob("*.parquet")):
            name, _, version, _ = file.name.split(".")
            table = pd.read_parquet(file)
            assert set(table["model_version"]) == {int(version[1:])}
            found.setdefault(name, []).append(int(version[1:]))
        return found

    def promote(self, candidate: dict[str, Any]) -> None:
        self.project.production(declared(candidates={"one": candidate}))


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    with quickly():
        project = Project(tmp_path)
        project.write(rows())
        made = Inbox(project, declared(predictions=WATCHED))
        (tmp_path / "inbox").mkdir()
        yield made


def test_each_file_is_scored_once_by_each_champion(inbox: Inbox):
    """Seen to fail when what any version had scored counted as done."""
    assert "no champion yet" in inbox.tick()
    inbox.promote(SEES_B)
    assert inbox.tick() == "No file has arrived."
    inbox.put("a.csv", 1)
    inbox.put("b.csv", 2)

    first = inbox.tick()

    assert first.green
    assert first.materialized == {"predictions"}
    assert first.failed_checks == set()
    assert inbox.outputs() == {"a": [1], "b": [1]}
    assert "Nothing is new to version 1" in inbox.tick()
    inbox.put("c.csv", 3)
    inbox.put("copy.csv", 1)
    assert inbox.tick().green
    assert inbox.outputs() == {"a": [1], "b": [1], "c": [1]}
    inbox.promote(SEES_ALL)
    assert inbox.tick().green
    assert inbox.outputs() == {"a": [1, 2], "b": [1, 2], "c": [1, 2]}
    assert "Nothing is new to version 2" in inbox.tick()
    assert len(inbox.asked) == 3
    again = inbox.run()
    assert (again.green, again.materialized) == (True, set())


def test_without_rescore_a_content_is_scored_once(inbox: Inbox):
    inbox.problem = declared(predictions={**WATCHED, "rescore": False})
    inbox.promote(SEES_B)
    inbox.put("a.csv", 1)
    assert inbox.tick().green
    inbox.promote(SEES_ALL)
    inbox.put("b.csv", 2)
    assert inbox.tick().green

    assert inbox.outputs() == {"a": [1], "b": [2]}


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_scored(inbox: Inbox):
    inbox.promote(SEES_B)
    inbox.put("good.csv", 1)
    inbox.put("wide.csv", 2)
    with open(inbox.project.root / "inbox" / "wide.csv", "a") as file:
        file.write("1,2,3,4\n")
    aged(inbox.project.root / "inbox" / "wide.csv")
    arrive(rows(5)[["id", "a"]].rename(columns={"a": "aa"}), inbox.project.root / "inbox/less.csv")
    odd = rows(4).astype({"b": object})
    odd.loc[1, "b"] = "?!"
    arrive(odd, inbox.project.root / "inbox" / "odd.csv")

    run = inbox.tick()

    assert run.green
    assert inbox.outputs() == {"good": [1], "odd": [1]}
    check = run.check("every_input_is_scored")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.description.startswith("2 of 4 files are not scored.")
    assert "less.csv" in check.description
    assert "`b` is not there" in check.description
    assert "line 32 has 4 fields" in check.description
    assert run.check("every_row_is_scored").description.startswith("1 of 34 rows")
    assert "Nothing is new" in inbox.tick()
    inbox.put("less.csv", 5)
    assert inbox.tick().check("every_input_is_scored").passed is False
    assert inbox.outputs() == {"good": [1], "odd": [1], "less": [1]}


def test_new_content_under_a_known_name_is_scored_beside_the_former(inbox: Inbox):
    inbox.promote(SEES_B)
    inbox.put("a.csv", 1)
    assert inbox.tick().green
    inbox.put("a.csv", 9)
    assert inbox.tick().green

    assert inbox.outputs() == {"a": [1, 1]}


def test_a_tampered_champion_scores_nothing(inbox: Inbox):
    inbox.promote(SEES_B)
    file = inbox.project.stores.registry.version("demo", 1).folder / "model.skops"
    file.write_bytes(file.read_bytes() + b" ")
    inbox.put("a.csv", 1)

    assert not inbox.tick().green
    assert inbox.outputs() == {}


def test_a_crash_before_it_is_noted_scores_into_the_same_name(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
):
    inbox.promote(SEES_B)
    inbox.put("a.csv", 1)

    def dies(*_: Any) -> None:
        raise OSError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(type(inbox.project.stores.lake), "note", dies)
        assert not inbox.run().green
    assert inbox.outputs() == {"a": [1]}
    assert inbox.run().materialized == {"predictions"}
    assert inbox.outputs() == {"a": [1]}


def test_the_predictions_are_no_part_of_the_problems_own_job(inbox: Inbox):
    """Files that wait to be scored are no reason for a red round."""
    definitions = inbox.project.definitions(inbox.problem)

    def keys(job: str) -> set[str]:
        chosen = definitions.resolve_job_def(job).asset_layer.executable_asset_keys
        return {"/".join(k.path) for k in chosen}

    assert keys("demo_predictions") == {"demo/predictions"}
    assert "demo/predictions" not in keys("demo")
    graph = definitions.resolve_asset_graph()
    parents = graph.get(dg.AssetKey(["demo", "predictions"])).parent_keys
    assert parents == {dg.AssetKey(["demo", "production_model"])}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"output": "inbox"}, "where the files to be scored arrive"),
        ({"output": "inbox/scored/"}, "where the files to be scored arrive"),
        ({"output": "s3://bucket/x"}, "no URL"),
        ({"format": "xlsx"}, "not known here"),
        ({"outputs": "x"}, "Did you mean `output`"),
    ],
)
def test_a_wrong_declaration_is_refused(given: dict[str, str], words: str):
    with pytest.raises(ValueError, match=words):
        declared(predictions={**WATCHED, **given})


def test_predictions_stay_in_the_project(inbox: Inbox):
    inbox.problem = declared(predictions={**WATCHED, "output": "../elsewhere"})
    inbox.promote(SEES_B)
    inbox.put("a.csv", 1)

    assert not inbox.run().green
    assert not (inbox.project.root.parent / "elsewhere").exists()
