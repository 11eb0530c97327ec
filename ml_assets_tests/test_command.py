"""The command line: a contract that scripts outside this repository call."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from dagster import AssetKey, DagsterInstance

from ml_assets import running
from ml_assets.command import main
from ml_assets.promotion import Promote, awaiting
from ml_assets.resources.ledger import Ledger
from ml_assets_tests.problems import MODEL, arrive, empty_store, quickly, rows

YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  dataset: {path: data.csv, target: y, key: id, positive: "yes"}
  candidates:
    linear: {}
    sees_b: {estimator: linear, transform: .model.sees_b}
  gates:
    - {metric: accuracy, min: 0.6}
"""


@dataclass
class Answer:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def refused(self, *words: str) -> bool:
        """Whether it ended with status 2 and one clear message that holds these words."""
        assert self.status == 2, self
        assert self.out == ""
        assert "Traceback" not in self.err
        assert self.err.count("error:") + self.err.count("Error:") == 1
        assert all(w in self.err for w in words), self.err
        return True


@dataclass
class Desk:
    """A folder with data and declarations, where commands are typed."""

    root: Path

    @property
    def file(self) -> Path:
        return self.root / "problems" / "demo" / "defs.yaml"

    def declare(self, text: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)
        (self.file.parent / "model.py").write_text(MODEL)

    def type(self, *words: str) -> Answer:
        done = CliRunner().invoke(main, words)
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Answer(done.exit_code, done.stdout, done.stderr)


def _desk(root: Path, patch: pytest.MonkeyPatch) -> Desk:
    home = root / ".ml_assets"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(empty_store(), home / "mlflow" / "mlflow.db")
    patch.chdir(root)
    patch.setenv("ML_ASSETS_DEFS", str(root / "problems"))
    # as they are by default; named here, so that what is set meanwhile is taken back
    patch.setenv("DAGSTER_HOME", str(home / "dagster"))
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    arrive(rows(), root / "data.csv")
    return Desk(root)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with quickly() as patch:
        yield _desk(tmp_path, patch)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Answer]]:
    """A desk where `run demo` was typed once, and what it answered."""
    with quickly() as patch:
        made = _desk(tmp_path_factory.mktemp("desk"), patch)
        made.declare(YAML)
        yield made, made.type("run", "demo", "--json")


@pytest.fixture
def ran(first: tuple[Desk, Answer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """A desk with a champion; declaration and data are put back afterwards."""
    desk, _ = first
    home = desk.root / ".ml_assets"
    monkeypatch.chdir(desk.root)
    monkeypatch.setenv("ML_ASSETS_DEFS", str(desk.root / "problems"))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    yield desk
    desk.declare(YAML)
    arrive(rows(), desk.root / "data.csv")


# ------------------------------------------------------------------------------- help


def _commands() -> dict[str, click.Command]:
    assert isinstance(main, click.Group)
    return main.commands


def test_the_commands_of_the_contract_are_there() -> None:
    assert {"new", "run", "status", "history", "rollback", "check", "ui"} <= set(_commands())


@pytest.mark.parametrize("name", sorted(_commands()))
def test_every_command_has_an_example_in_its_help(name: str) -> None:
    done = CliRunner().invoke(main, [name, "--help"])
    assert done.exit_code == 0
    assert f"\n  ml-assets {name}" in done.stdout  # an example stands on a line of its own


@pytest.mark.parametrize("name", sorted(set(_commands()) - {"ui", "serve"}))
def test_every_command_can_answer_a_machine(name: str) -> None:
    assert "--json" in CliRunner().invoke(main, [name, "--help"]).stdout


def test_an_unknown_command_is_wrong_usage(desk: Desk) -> None:
    assert desk.type("rum", "demo").refused("No such command", "rum")


# -------------------------------------------------------------------------------- new


def test_new_writes_a_declaration_that_check_accepts(desk: Desk) -> None:
    answer = desk.type("new", "demo", "--data", "data.csv", "--target", "y")
    assert answer.status == 0
    attributes = yaml.safe_load(desk.file.read_text())["attributes"]
    assert attributes["task"] == "binary"
    assert attributes["dataset"]["path"] == "data.csv"
    assert attributes["dataset"]["key"] == "id"
    assert attributes["split"]["by"] == "key"
    assert attributes["dataset"]["contract"]["min_rows"] == 300
    assert set(attributes["dataset"]["contract"]["columns"]) == {"id", "a", "b", "y"}
    assert desk.type("check", "demo").status == 0


def test_new_says_what_it_inferred_and_why(desk: Desk) -> None:
    said = desk.type("new", "demo", "--data", "data.csv", "--target", "y").out
    assert str(desk.file) in said
    assert "The task is binary, inferred: the target has 2 values." in said
    assert "`id` identifies each row" in said
    assert "`yes` counts as positive" in said
    assert "600 rows; 2 of 4 columns are features." in said
    assert "Next: ml-assets run demo" in said
    for reason in ("the target has 2 values", "identifies each row"):
        assert reason in desk.file.read_text()


def test_new_answers_a_machine(desk: Desk) -> None:
    answer = desk.type("new", "demo", "--data", "data.csv", "--target", "y", "--json")
    document = answer.document
    assert document["problem"] == "demo"
    assert document["file"] == str(desk.file)
    assert document["inferred"] == yaml.safe_load(desk.file.read_text())["attributes"]
    assert document["notes"]


def test_new_does_not_overwrite(desk: Desk) -> None:
    desk.declare("# mine")
    answer = desk.type("new", "demo", "--data", "data.csv", "--target", "y")
    assert answer.refused("exists already", str(desk.file))
    assert desk.file.read_text() == "# mine"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "absent.csv", "--target", "y"], ["No data file at", "absent.csv"]),
        (["--data", "data.csv", "--target", "churn"], ["no column `churn`", "id, a, b, y"]),
        (["--data", "bare.csv", "--target", "y"], ["`--names a,b,c`", "1.5, 2, yes"]),
        (["--data", "empty.csv", "--target", "y"], ["empty (0 bytes)"]),
        (["--data", "header.csv", "--target", "y"], ["0 data rows"]),
        (["--data", "constant.csv", "--target", "y"], ["1 distinct value"]),
        (["--data", "data.csv"], ["--target"]),
        (["--data", "data.csv", "--target", "y", "--task", "bin"], ["'bin'", "binary"]),
        (["--data", "data.csv", "--target", "a", "--task", "binary"], ["a binary task has 2"]),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else str(v),
)
def test_new_refuses_what_it_cannot_read(desk: Desk, words: list[str], told: list[str]) -> None:
    (desk.root / "bare.csv").write_text("1.5,2,yes\n2.5,3,no\n" * 30)
    (desk.root / "empty.csv").write_text("")
    (desk.root / "header.csv").write_text("a,b,y\n")
    arrive(rows().assign(y="yes"), desk.root / "constant.csv")
    assert desk.type("new", "demo", *words).refused(*told)
    assert not desk.file.exists()


def test_new_reads_a_file_without_a_header(desk: Desk) -> None:
    arrive(rows(), desk.root / "bare.csv", header=False)
    answer = desk.type(
        "new", "demo", "--data", "bare.csv", "--target", "y", "--names", "id, a, b, y"
    )
    assert answer.status == 0
    dataset = yaml.safe_load(desk.file.read_text())["attributes"]["dataset"]
    assert dataset["names"] == ["id", "a", "b", "y"]


def test_new_refuses_a_name_that_no_problem_can_have(desk: Desk) -> None:
    answer = desk.type("new", "../mine", "--data", "data.csv", "--target", "y")
    assert answer.refused("cannot name a problem")
    assert not (desk.root / "mine").exists()


# -------------------------------------------------------------------------------- run


def test_run_answers_with_the_document_of_the_contract(first: tuple[Desk, Answer]) -> None:
    _, answer = first
    assert answer.status == 0
    document = answer.document
    contract = {"problem", "run_id", "dataset", "candidates", "gates", "decision", "champion"}
    assert contract <= set(document)
    assert document["problem"] == "demo"
    assert {"version", "rows", "quarantined"} <= set(document["dataset"])
    assert document["dataset"]["rows"] == 600
    assert document["dataset"]["quarantined"] == []
    assert set(document["candidates"]) == {"baseline", "linear", "sees_b"}
    for candidate in document["candidates"].values():
        assert set(candidate) == {"metrics", "fitted", "reused", "error"}
        assert (candidate["fitted"], candidate["reused"], candidate["error"]) == (True, False, None)
        assert 0 < candidate["metrics"]["accuracy"] <= 1
    for gate in document["gates"]:
        assert {"name", "passed", "severity", "reason"} <= set(gate)
    assert {g["name"]: g["passed"] for g in document["gates"]}["accuracy_reaches_floor"] is True
    assert document["decision"]["promoted"] is True
    assert "no champion yet" in document["decision"]["reason"]
    assert {"version", "digest", "metrics"} <= set(document["champion"])
    assert document["champion"]["version"] == 1


def test_progress_goes_to_standard_error(first: tuple[Desk, Answer]) -> None:
    _, answer = first
    for step in ("dataset", "split", "candidate/linear", "evaluation", "challenger"):
        assert f"✓  {step} " in answer.err
    assert "✓" not in answer.out


def test_the_run_is_on_the_instance_that_the_ui_shows(first: tuple[Desk, Answer]) -> None:
    from dagster import DagsterInstance

    desk, answer = first
    with DagsterInstance.from_config(str(desk.root / ".ml_assets" / "dagster")) as instance:
        run = instance.get_run_by_id(answer.document["run_id"])
        assert run is not None
        assert run.is_success
        assert run.job_name == "demo"


def test_a_second_run_says_that_nothing_was_fitted_and_holds(ran: Desk) -> None:
    answer = ran.type("run", "demo")
    assert answer.status == 0
    assert "Fitted 0 of 3 candidates; 3 reused" in answer.out
    assert "Decision: held. The challenger is the champion (version 1)." in answer.out
    assert "Champion: version 1 (linear)" in answer.out
    assert "Leaderboard (on validation)" in answer.out
    assert "Where to look" in answer.out
    assert "✓  candidate/linear" in answer.err


def test_a_hold_is_done(ran: Desk) -> None:
    ran.declare(YAML.replace("    linear: {}\n", ""))
    answer = ran.type("run", "demo", "--json")
    assert answer.status == 0
    document = answer.document
    assert document["decision"]["promoted"] is False
    assert "not better" in document["decision"]["reason"]
    assert document["candidates"]["sees_b"]["reused"] is True
    assert document["champion"]["version"] == 1


@pytest.mark.slow
def test_a_failed_gate_is_status_1_with_the_gate_as_reason(ran: Desk) -> None:
    ran.declare(YAML.replace("min: 0.6", "min: 0.999"))
    answer = ran.type("run", "demo", "--json")
    assert answer.status == 1
    document = answer.document
    assert document["decision"]["promoted"] is False
    assert "accuracy_reaches_floor" in document["decision"]["reason"]
    failed = [g for g in document["gates"] if not g["passed"] and g["severity"] == "ERROR"]
    assert [g["name"] for g in failed] == ["accuracy_reaches_floor"]
    assert document["champion"]["version"] == 1
    assert "Traceback" not in answer.err
    for_people = ran.type("run", "demo")
    assert for_people.status == 1
    assert "FAIL accuracy_reaches_floor" in for_people.out
    assert "Decision: refused." in for_people.out


def test_production_alone_is_refused_from_here_as_well(ran: Desk) -> None:
    ran.declare(YAML.replace("min: 0.6", "min: 0.999"))
    answer = ran.type("run", "demo", "--only", "production_model", "--json")
    assert answer.status == 1
    assert "accuracy" in answer.document["decision"]["reason"]


def test_a_failed_data_gate_is_status_1(ran: Desk) -> None:
    arrive(rows(30), ran.root / "data.csv")
    answer = ran.type("run", "demo", "--json")
    assert answer.status == 1
    assert (
        "has_enough_rows: 30 rows; at least 50 are needed."
        in (answer.document["decision"]["reason"])
    )
    assert answer.document["candidates"] == {}


def test_a_failed_candidate_is_told_and_is_no_failure(ran: Desk) -> None:
    ran.declare(YAML.replace("linear: {}", "linear: {}\n    bad: {estimator: .model.explodes}"))
    answer = ran.type("run", "demo", "--json")
    assert answer.status == 0
    bad = answer.document["candidates"]["bad"]
    assert "the kettle boiled over" in bad["error"]
    assert (bad["metrics"], bad["fitted"], bad["reused"]) == ({}, False, False)


def test_a_missing_data_file_is_wrong_input(ran: Desk) -> None:
    (ran.root / "data.csv").unlink()
    answer = ran.type("run", "demo", "--json")
    assert answer.status == 2
    assert "No data file at" in answer.document["errors"]["dataset"]
    assert "No data file at" in answer.document["decision"]["reason"]
    assert "Traceback" not in answer.err + answer.out


def test_an_unknown_problem_is_guessed(ran: Desk) -> None:
    assert ran.type("run", "dmeo").refused("no problem `dmeo`", "Did you mean `demo`?")
    assert ran.type("status", "demoo").refused("Did you mean `demo`?")


def test_only_runs_what_was_named(ran: Desk) -> None:
    answer = ran.type("run", "demo", "--only", "candidate/sees_b", "--json")
    assert answer.status == 0
    assert list(answer.document["candidates"]) == ["sees_b"]
    assert answer.document["decision"] == {
        "promoted": False,
        "reason": "Production was not asked in this run.",
    }
    answer = ran.type("run", "demo", "--only", "candidate", "--only", "dataset", "--json")
    assert set(answer.document["candidates"]) == {"baseline", "linear", "sees_b"}
    assert answer.document["dataset"]["rows"] == 600


def test_only_guesses_a_misspelt_asset(ran: Desk) -> None:
    assert ran.type("run", "demo", "--only", "evaluaton").refused("Did you mean `evaluation`?")


@pytest.mark.slow
def test_what_comes_after_deployment_is_brought_up_to_date_by_name(ran: Desk) -> None:
    """Scored, watched and decided by one command, in this order; no round is made.

    Seen to fail: in one run with `predictions` that had no new file, `monitoring` was skipped.
    """
    after = ["predictions", "monitoring", "rollback_decision", "retrain_decision"]
    words = [w for asset in after for w in ("--only", asset)]
    for word in ("predictions", "monitoring"):
        refused = ran.type("run", "demo", "--only", word)
        assert refused.refused(f"`{word}` is to be declared in its defs.yaml first.")
    ran.declare(
        YAML
        + "  predictions: {path: inbox/, output: scored}\n"
        + "  monitoring: {window: 50, min_rows: 50}\n"
        + "  retrain: {on_new_data: {min_new_rows: 100}, cool_down: 1s}\n"
    )
    (ran.root / "inbox").mkdir()
    moved = rows().drop(columns="y")
    moved["id"] += 10_000
    moved["b"] += 100
    arrive(moved, ran.root / "inbox" / "1.csv")
    looked = ran.type("run", "demo", *words, "--json")
    assert looked.status == 0, looked.err
    seen = looked.document
    assert seen["live"]["predictions"]["row_count"] == len(moved)
    assert seen["live"]["monitoring"]["windows"] == len(moved) // 50
    assert seen["live"]["rollback_decision"]["decision"] == "kept"
    assert seen["live"]["retrain_decision"]["decision"] == "wait"
    assert seen["follows"] == []
    warned = [g["name"] for g in seen["gates"] if not g["passed"]]
    assert "features_are_spread_alike" in warned
    assert seen["candidates"] == {}
    again = ran.type("run", "demo", *words)
    assert again.status == 0
    assert "Live rows: 600 of version" in again.out
    assert "Fresh champion: kept. " in again.out
    assert "Retraining: wait. " in again.out
    assert "Decision: " not in again.out


def test_the_run_that_a_decision_asks_for_follows() -> None:
    watched = running.Watched(lambda _: None, "demo")
    for decision, followed in (("wait", []), ("retrain", ["ml-assets run demo"])):
        watched.materialized["retrain_decision"] = {"decision": decision, "reason": "Drift."}
        assert [f["command"] for f in running._follows("demo", watched)] == followed


def test_an_approval_that_a_challenger_waits_for_follows() -> None:
    watched = running.Watched(lambda _: None, "demo")
    waits = awaiting(Promote("It is better."), 7, None)
    [asked] = running._follows("demo", watched, waits.reason)
    assert asked["command"] == "ml-assets approve demo 7 --why TEXT"
    assert asked["by_hand"]
    assert running._follows("demo", watched, "It is no better than version 7.") == []


@pytest.mark.parametrize("option", ["--port", "--mlflow-port"])
def test_a_port_in_use_is_told_before_anything_is_started(
    option: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail: Dagster's own message came, in the midst of MLflow's."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("it was started"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = desk.type("ui", option, str(port))
    assert answer.refused(f"Port {port}", f"`{option} {port + 10}`")


def test_a_split_is_made_whole_when_one_part_is_named(ran: Desk) -> None:
    answer = ran.type("run", "demo", "--only", "split/train", "--json")
    assert answer.status == 0
    assert {g["name"] for g in answer.document["gates"]} == {
        "parts_are_disjoint",
        "every_class_is_present",
    }


def test_a_declaration_that_cannot_be_loaded_is_wrong_input(ran: Desk) -> None:
    ran.declare(YAML.replace("target: y", "targt: y"))
    assert ran.type("run", "demo").refused("defs.yaml:4", "Did you mean `target`?")


# --------------------------------------------------------------------- status, check


def test_status_shows_the_champion(ran: Desk) -> None:
    answer = ran.type("status", "demo")
    assert answer.status == 0
    assert "champion  version 1 (linear)" in answer.out
    assert "decided   " in answer.out
    document = ran.type("status", "demo", "--json").document
    assert document["champion"]["version"] == 1
    assert document["champion"]["metrics"]["accuracy"] > 0.6
    assert document["dataset"]["source"] == "data.csv"
    assert document["last_decision"]["decision"] in ("promotion", "hold")
    everything = ran.type("status", "--json").document
    assert [p["problem"] for p in everything["problems"]] == ["demo"]


def test_history_says_what_was_decided_when_by_whom_and_why(ran: Desk) -> None:
    answer = ran.type("history", "demo")
    assert answer.status == 0
    assert "promotion" in answer.out
    assert "There is no champion yet, and every gate holds." in answer.out
    assert "Champion now: version 1" in answer.out
    document = ran.type("history", "demo", "--json").document
    [first, *_] = document["entries"]
    assert (first["event"], first["version"], first["candidate"]) == ("promotion", 1, "linear")
    assert first["actor"]
    assert first["dataset_version"]


def test_history_at_a_time_before_the_first_decision_has_no_champion(ran: Desk) -> None:
    document = ran.type("history", "demo", "--at", "2001-01-01T00:00:00", "--json").document
    assert document["champion"] is None
    assert document["entries"] == []
    assert "nothing was decided" in ran.type("history", "demo", "--at", "2001-01-01").out
    later = ran.type("history", "demo", "--at", "2999-01-01T00:00:00+02:00", "--json").document
    assert later["champion"] == 1


def test_a_time_that_is_none_is_wrong_usage(ran: Desk) -> None:
    answer = ran.type("history", "demo", "--at", "yesterday")
    assert answer.status == 2
    assert "`yesterday` is no time" in answer.err


def test_a_rollback_without_an_earlier_champion_is_wrong_usage(ran: Desk) -> None:
    answer = ran.type("rollback", "demo", "--why", "it drifts")
    assert answer.status == 2
    assert "cannot be rolled back to a champion before this one" in answer.err
    assert ran.type("rollback", "demo").status == 2


@pytest.mark.slow
def test_a_rollback_moves_the_champion_and_is_seen_by_dagster(desk: Desk) -> None:
    desk.declare(YAML)
    assert desk.type("run", "demo", "--json").document["decision"]["promoted"]
    ledger = desk.root / ".ml_assets" / "ledger" / "demo.jsonl"
    first = json.loads(ledger.read_text().splitlines()[0])
    with Ledger(ledger.parent).deciding("demo") as deciding:  # as if version 2 had come since
        del first["seal"], first["number"], first["before"]
        deciding.append({**first, "version": 2, "model_digest": "another", "previous": 1})
    answer = desk.type("rollback", "demo", "--why", "it drifts")
    assert answer.status == 0
    assert "version 1 (linear) was verified and serves again, in place of version 2" in answer.out
    assert desk.type("status", "demo", "--json").document["champion"]["version"] == 1
    with DagsterInstance.from_config(str(desk.root / ".ml_assets" / "dagster")) as instance:
        event = instance.get_latest_materialization_event(AssetKey(["demo", "production_model"]))
    assert event
    assert event.asset_materialization
    assert event.asset_materialization.metadata["reason"].value == "it drifts"


def test_status_before_the_first_run_says_none(desk: Desk) -> None:
    desk.declare(YAML)
    answer = desk.type("status", "demo")
    assert answer.status == 0
    assert "champion  none" in answer.out
    document = desk.type("status", "demo", "--json").document
    assert document["champion"] is None
    assert document["dataset"] is None
    assert document["last_decision"] is None


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
@pytest.mark.parametrize("words", [["status"], ["run", "demo"]], ids=" ".join)
def test_without_any_problem_the_next_step_is_told(
    desk: Desk, words: list[str], there: bool
) -> None:
    if there:
        (desk.root / "problems").mkdir()
    assert desk.type(*words).refused("There is no problem in", "ml-assets new")


def test_check_accepts_what_can_run(desk: Desk) -> None:
    desk.declare(YAML)
    answer = desk.type("check")
    assert (answer.status, answer.out.strip()) == (0, "demo: ok")
    assert desk.type("check", "--json").document == {
        "ok": True,
        "problems": ["demo"],
        "faults": {},
    }


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("target: y", "targt: y", ["defs.yaml:4", "Did you mean `target`?"]),
        (".model.sees_b", ".model.sees_bb", ["has no `sees_bb`", "Did you mean `sees_b`?"]),
        (".model.sees_b", ".modle.sees_b", ["there is no modle.py"]),
        ("estimator: linear", "estimator: sklearn.svm.SVCC", ["no `SVCC`", "`SVC`"]),
        ("estimator: linear", "estimator: nowhere.Forest", ["cannot be imported"]),
        ("data.csv", "dta.csv", ["No data file at", "dta.csv"]),
    ],
)
def test_check_finds_what_cannot_run(desk: Desk, right: str, wrong: str, told: list[str]) -> None:
    desk.declare(YAML.replace(right, wrong))
    answer = desk.type("check")
    assert answer.status == 2
    assert all(t in answer.out for t in told), answer.out
    assert "Traceback" not in answer.out + answer.err
    machine = desk.type("check", "--json")
    assert machine.status == 2
    assert machine.document["ok"] is False
    assert all(t in json.dumps(machine.document["faults"]) for t in told)


def test_check_guesses_a_misspelt_problem(desk: Desk) -> None:
    desk.declare(YAML)
    assert desk.type("check", "dem").refused("Did you mean `demo`?")


# ---------------------------------------------------------- as a script would call it


def _called(desk: Desk, *words: str) -> Answer:
    """It runs the installed command in a process of its own, with nothing set but what must be."""
    kept = ("PATH", "HOME", "LANG", "PYTHONPATH", "ML_ASSETS_DEFS")
    done = subprocess.run(
        [sys.executable, "-m", "ml_assets.command", *words],
        cwd=desk.root,
        env={k: os.environ[k] for k in kept if k in os.environ},
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_script_gets_one_document_and_an_exit_status(desk: Desk) -> None:
    """With a real clean process, real plots, a fresh store, and libraries that like to talk."""
    shutil.rmtree(desk.root / ".ml_assets")
    desk.declare(YAML)
    answer = _called(desk, "run", "demo", "--json")
    assert answer.status == 0, answer.err
    assert answer.document["decision"]["promoted"] is True
    assert "Traceback" not in answer.err
    assert (desk.root / ".ml_assets" / "dagster").is_dir()
    again = _called(desk, "run", "demo", "--json")
    assert again.status == 0
    assert all(c["reused"] for c in again.document["candidates"].values())
    desk.declare(YAML.replace("min: 0.6", "min: 0.999"))
    refused = _called(desk, "run", "demo", "--json")
    assert refused.status == 1
    assert refused.document["champion"]["version"] == 1
    assert _called(desk, "run", "dmeo", "--json").refused("Did you mean `demo`?")


@pytest.mark.slow
@pytest.mark.parametrize("words", [["status", "--json"], ["check", "--json"]], ids=" ".join)
def test_other_commands_write_one_document_as_well(desk: Desk, words: list[str]) -> None:
    desk.declare(YAML)
    answer = _called(desk, *words)
    assert answer.status == 0
    assert isinstance(answer.document, dict)


@pytest.mark.slow
def test_new_then_run_takes_a_file_to_production(desk: Desk) -> None:
    """The two commands of the first page, with the default candidates."""
    frame = rows(300).assign(colour=lambda f: pd.Series(["red", "green", "blue"] * 100))
    arrive(frame, desk.root / "data.csv")
    assert _called(desk, "new", "demo", "--data", "data.csv", "--target", "y").status == 0
    answer = _called(desk, "run", "demo", "--json")
    assert answer.status == 0, answer.err
    assert len(answer.document["candidates"]) == 6
    assert not [n for n, c in answer.document["candidates"].items() if c["error"]]
    assert answer.document["decision"]["promoted"] is True


# ----------------------------------------------------------------------------- inspect


def test_inspect_says_where_the_card_is(ran: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is opened: standard output is no terminal."""
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", lambda url: opened.append(url))
    shown = ran.type("inspect", "demo", "--json")
    plain = ran.type("inspect", "demo", "candidate/linear")

    assert (shown.status, shown.document["asset"], shown.document["part"]) == (
        0,
        "challenger",
        "test",
    )
    assert Path(shown.document["card"]).read_text().startswith("<!DOCTYPE html>")
    assert shown.document["mlflow"]
    assert plain.status == 0
    assert Path(plain.out.rpartition(": ")[2].strip()).is_file()
    assert opened == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("demo", "candidate/linaer"), "Did you mean `candidate/linear`"),
        (("demo", "dataset"), "No card of `dataset`"),
        (("dmo",), "Did you mean `demo`"),
    ],
)
def test_inspect_refuses_what_has_no_card(ran: Desk, words: tuple[str, ...], told: str) -> None:
    assert ran.type("inspect", *words).refused(told)
    assert ran.type("inspect", *words, "--json").refused(told)


# -------------------------------------------------------------------- nothing changed

# What rows are read, fitted and drawn with, and where models are registered.
OF_ROWS = ("numpy", "pandas", "pyarrow", "deltalake", "scipy", "sklearn", "skops", "joblib")
OF_ROWS += ("pandera", "optuna", "matplotlib", "mlflow", "dagster_mlflow")


@pytest.mark.slow
def test_an_unchanged_run_reads_no_row_and_loads_no_model(
    ran: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All answers follow from names and digests. Seen to fail when previews were read again."""
    from ml_assets.resources import lake, table
    from ml_assets.round import candidate, challenger, split

    assert ran.type("run", "demo", "--json").status == 0
    for module, name in (
        (lake, "read_table"),
        (table.StoredRows, "_read"),
        (split, "part_rows"),
        (candidate, "part_rows"),
        (challenger, "load_verified"),
        (challenger, "predict"),
    ):
        monkeypatch.setattr(module, name, lambda *_, n=name: pytest.fail(f"{n} was called"))
    again = ran.type("run", "demo", "--json")
    assert again.status == 0, again
    told = again.document
    assert all(c["reused"] and not c["fitted"] for c in told["candidates"].values())
    assert {g["name"] for g in told["gates"]} >= {"accuracy_reaches_floor", "every_gate_holds"}
    assert all(g["passed"] for g in told["gates"] if g["severity"] == "ERROR")


@pytest.mark.slow
def test_an_unchanged_run_imports_none_of_the_libraries_that_rows_need(ran: Desk) -> None:
    """Seen to fail when one module imported numpy as it was loaded."""
    assert ran.type("run", "demo", "--json").status == 0
    code = (
        "import sys, json, atexit\n"
        f"heavy = {OF_ROWS!r}\n"
        "found = lambda: json.dump([m for m in heavy if m in sys.modules], open('found.json', 'w'))\n"
        "atexit.register(found)\n"
        "from ml_assets.command import main\n"
        "main(['run', 'demo', '--json'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ran.root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert all(c["reused"] for c in json.loads(done.stdout)["candidates"].values())
    assert json.loads((ran.root / "found.json").read_text()) == []
