"""A version is made again from its record, and comes out with the same digest; or it is said why not."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ml_assets import __version__
from ml_assets import candidate as candidates
from ml_assets.digest import tree_digest
from ml_assets.errors import ModelRefused, PromotionRefused
from ml_assets.problem import Problem
from ml_assets.resources.lake import Lake
from ml_assets.resources.stores import open_stores
from ml_assets.round import Round, reproduction
from ml_assets.round.reproduction import Difference, Reproduction, reproduce
from ml_assets_tests.problems import MODEL, SEES_A, SEES_B, Project, declared, quickly, rows
from ml_assets_tests.test_command import YAML, Desk
from ml_assets_tests.test_command import desk as desk  # the fixture

WEAK = {"weak": SEES_B}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quickly():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(rows(400))
    return made


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Project:
    """A problem whose version 1 was champion, and whose version 2 is; for tests that change nothing."""
    made = Project(tmp_path_factory.mktemp("twice"))
    made.write(rows(400))
    made.production(declared(candidates=WEAK))
    made.production(declared())
    assert made.champion() == (2, 2)
    return made


def afresh(project: Project, problem: Problem | None = None) -> Round:
    """It returns a round as another process has it, which has read nothing yet."""
    round_ = project.round(problem or declared())
    return replace(round_, stores=replace(project.stores, lake=Lake(project.stores.lake.root)))


def again(project: Project, version: int | None = None) -> Reproduction:
    """It makes a version again under today's declaration, which is another one."""
    return reproduce(afresh(project, declared(candidates={"other": SEES_A}, seed=7)), version)


def identical(project: Project, version: int | None = None) -> Reproduction:
    """It makes a version again, and makes sure that it came out the same."""
    made = again(project, version)
    assert made.differences == ()
    assert made.same
    entry = next(
        e
        for e in reversed(project.stores.ledger.entries("demo"))
        if version in (None, e["version"])
    )
    assert (made.version, made.candidate) == (entry["version"], entry["candidate"])
    assert made.model_digest == entry["model_digest"]
    assert made.metrics == entry["metrics"]
    return made


# ---------------------------------------------------------------------------- identical


def test_the_champion_and_an_earlier_version_come_out_the_same(twice: Project):
    assert identical(twice).version == 2
    assert identical(twice, 1).candidate == "weak"


def listing(root: Path) -> dict[str, str]:
    """It returns every file below a folder with its digest, and every link with where it leads."""
    return {
        str(p.relative_to(root)): str(p.readlink()) if p.is_symlink() else tree_digest(p.parent)
        for p in root.rglob("*")
        if p.is_symlink() or p.is_file()
    }


def test_nothing_is_left_behind(twice: Project):
    home = twice.root / ".ml_assets"
    before = {part: listing(home / part) for part in ("lake", "ledger")}
    assert before["lake"]
    assert before["ledger"]
    again(twice, 1)
    assert {part: listing(home / part) for part in before} == before
    assert twice.champion() == (2, 2)


@pytest.mark.slow
def test_a_version_that_was_held_is_made_again(project: Project):
    project.production(declared())
    project.production(declared(candidates=WEAK))
    assert project.champion() == (1, 1)
    assert identical(project, 2).candidate == "weak"


@pytest.mark.slow
def test_a_function_whose_file_was_changed_since_is_the_one_of_then(project: Project):
    own = {"a": {"estimator": ".model.made", "transform": ".model.sees_a"}}
    made = "\n\ndef made():\n    return LogisticRegression(C=0.3)\n"
    (project.root / "model.py").write_text(MODEL + made)
    project.production(declared(candidates=own))
    before = identical(project).model_digest
    (project.root / "model.py").write_text(MODEL + made.replace("0.3", "9.0"))
    assert identical(project).model_digest == before
    (project.root / "model.py").unlink()
    assert identical(project).model_digest == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "search",
    [
        {"search": {"C": [0.01, 1.0]}},
        {
            "search": {"C": {"low": 0.01, "high": 9.0, "log": True}},
            "trials": 10,
            "folds": 2,
            "parallel": 2,
        },
    ],
    ids=["grid", "tpe in folds, 2 at once"],
)
def test_a_search_is_searched_again(project: Project, search: dict[str, Any]):
    project.production(declared(candidates={"tuned": {"estimator": "linear", **search}}))
    studies = listing(project.root / ".ml_assets" / "lake" / "demo" / "studies")
    identical(project)
    assert listing(project.root / ".ml_assets" / "lake" / "demo" / "studies") == studies


@pytest.mark.slow
def test_a_point_of_a_fan_is_made_again(project: Project):
    fan = {"estimator": "linear", "search": {"C": [0.001, 1.0]}, "fan_out": True}
    project.production(declared(candidates={"fan": fan}))
    assert identical(project).candidate in ("fan_1", "fan_2")


@pytest.mark.slow
def test_cuts_that_were_found_then_are_those_of_now(project: Project):
    by_time = declared(split={"by": {"time": "when"}})
    first = rows(400).assign(when=np.arange(400))
    project.write(first)
    project.production(by_time)
    digest = identical(project, 1).model_digest
    more = rows(200, seed=3, first=400).assign(when=np.arange(400, 600))
    project.write(type(first)(np.vstack([first, more]), columns=first.columns))
    made = project.production(by_time)
    assert made.challenger.split.parts["test"].rows > 200  # they did not move
    assert identical(project, 1).model_digest == digest
    if made.challenger.version.number == 2:
        identical(project, 2)


@pytest.mark.slow
def test_cuts_that_rolled_are_those_that_a_version_was_made_with(project: Project):
    rolling = declared(split={"by": {"time": "when", "rolling": True}})
    project.write(rows(400).assign(when=np.arange(400)))
    assert project.production(rolling).challenger.split.parts["train"].rows == 280
    project.write(rows(600).assign(when=np.arange(600)))
    assert project.production(rolling).challenger.split.parts["train"].rows == 420
    identical(project, 1)


@pytest.mark.slow
def test_the_rows_of_then_are_those_of_now_after_more_came(project: Project):
    project.production(declared())
    digest = identical(project, 1).model_digest
    project.write(rows(700, seed=5))
    made = project.production(declared())
    assert made.challenger.version.number == 2
    assert identical(project, 1).model_digest == digest
    assert identical(project, 2).model_digest != digest


# --------------------------------------------------------------------------- otherwise


def test_another_library_is_named_and_the_rest_is_the_same(twice: Project, monkeypatch):
    now = {**candidates.environment(), "scikit-learn": "9.9.9"}
    monkeypatch.setattr(candidates, "environment", lambda: now)
    made = again(twice)
    then = candidates_of(twice)["scikit-learn"]
    assert made.same
    assert made.differences == (Difference("scikit-learn", then, "9.9.9"),)


def candidates_of(project: Project) -> dict[str, str]:
    """It returns the libraries in the champion's record."""
    return json.loads((record_of(project) / "config.json").read_text())["environment"]


def record_of(project: Project) -> Path:
    entry = project.stores.ledger.champion("demo")
    assert entry is not None
    record = project.stores.lake.find("demo", "record", entry["record"])
    assert record is not None
    return record.path


def test_another_version_of_the_code_is_named(twice: Project, monkeypatch):
    monkeypatch.setattr(reproduction, "__version__", "9.9")
    made = again(twice)
    assert made.same
    assert made.differences == (Difference("code", __version__, "9.9"),)


def other_fits(patch: pytest.MonkeyPatch) -> None:
    """It lets fits come out otherwise, as another machine might."""
    real = candidates.build

    def otherwise(*given: Any) -> Any:
        model = real(*given)
        inner = model.steps[-1][1]
        assert isinstance(inner, LogisticRegression)
        inner.set_params(C=0.0007)
        return model

    patch.setattr(candidates, "build", otherwise)


def test_another_model_is_not_the_same(twice: Project, monkeypatch):
    other_fits(monkeypatch)
    made = again(twice)
    entry = twice.stores.ledger.champion("demo")
    assert entry is not None
    assert not made.same
    assert made.differences[0] == Difference("model", entry["model_digest"], made.model_digest)
    assert {d.what for d in made.differences[1:]} <= set(entry["metrics"])
    assert all(d.recorded != d.found for d in made.differences)


# ----------------------------------------------------------------------------- refused


def test_a_version_that_is_not_known_is_refused(twice: Project):
    with pytest.raises(PromotionRefused, match=r"knows no version 9; it knows 1, 2\.$"):
        again(twice, 9)


def test_without_a_champion_a_version_is_to_be_named(project: Project):
    with pytest.raises(PromotionRefused, match=r"demo has no champion yet\. Name a version\."):
        again(project)
    with pytest.raises(PromotionRefused, match=r"knows no version 1; it knows none\.$"):
        again(project, 1)


@pytest.fixture
def copied(twice: Project, tmp_path: Path) -> Project:
    """The lake and the ledger of the two versions, in a place where they may be spoilt."""
    made = Project(tmp_path)
    for part in ("lake", "ledger"):
        shutil.copytree(
            twice.root / ".ml_assets" / part,
            made.root / ".ml_assets" / part,
            symlinks=True,
            dirs_exist_ok=True,
        )
    return made


def test_a_record_that_was_changed_is_refused(copied: Project):
    identical(copied)
    file = record_of(copied) / "config.json"
    file.chmod(0o644)
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(ModelRefused, match="was changed after it was written"):
        again(copied)


def test_a_record_that_is_gone_is_refused(copied: Project):
    shutil.rmtree(record_of(copied))
    with pytest.raises(PromotionRefused, match="Version 2 of demo has no record"):
        again(copied)


def test_a_decision_of_before_records_is_refused(copied: Project):
    ledger = copied.stores.ledger
    entry = {k: v for k, v in ledger.entries("demo")[-1].items() if k not in ("record", "before")}
    with ledger.deciding("demo") as deciding:
        deciding.append({**entry, "version": 3})
    with pytest.raises(PromotionRefused, match="Version 3 of demo has no record: it was decided"):
        again(copied, 3)


def files_of(project: Project) -> list[Path]:
    table = project.root / ".ml_assets" / "lake" / "demo" / "table"
    return [p for p in table.rglob("*.parquet") if "_delta_log" not in p.parts]


def test_rows_that_were_changed_are_refused(copied: Project):
    for file in files_of(copied):
        file.chmod(0o644)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    with pytest.raises(ModelRefused, match="chang"):
        again(copied)


def test_rows_that_are_gone_are_refused(copied: Project):
    for file in files_of(copied):
        file.unlink()
    with pytest.raises(ModelRefused):
        again(copied)


# --------------------------------------------------------------------------- the command


@pytest.mark.slow
def test_the_command_ends_with_0_1_or_2(desk: Desk):
    desk.declare(YAML)
    assert desk.type("reproduce", "demo").refused("demo has no champion yet")
    assert desk.type("reproduce", "dmeo").refused("Did you mean `demo`?")
    ran = desk.type("run", "demo", "--json").document
    answer = desk.type("reproduce", "demo", "--json")
    assert answer.status == 0, answer
    found = answer.document
    assert found["same"] is True
    assert (found["problem"], found["version"]) == ("demo", 1)
    assert found["candidate"] == ran["winner"]
    assert found["differences"] == []
    assert found["model_digest"] == ran["champion"]["digest"]
    assert found["metrics"] == ran["champion"]["metrics"]
    told = desk.type("reproduce", "demo", "1")
    assert told.status == 0
    assert "metrics are identical." in told.out
    assert desk.type("reproduce", "demo", "7").refused("knows no version 7; it knows 1.")

    with pytest.MonkeyPatch.context() as patch:
        other_fits(patch)
        answer = desk.type("reproduce", "demo", "--json")
        assert answer.status == 1
        assert answer.document["same"] is False
        assert answer.document["differences"][0]["what"] == "model"
        told = desk.type("reproduce", "demo")
        assert told.status == 1
        assert "came out otherwise:\n  model: recorded " in told.out

    for file in (desk.root / ".ml_assets" / "lake" / "demo").rglob("config.json"):
        file.chmod(0o644)
        file.write_text(file.read_text() + " ")
    open_stores.cache_clear()  # as in another process, which has read nothing yet
    spoilt = desk.type("reproduce", "demo", "--json")
    assert spoilt.status == 1
    assert spoilt.out == ""
    assert "was changed after it was written" in spoilt.err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["breast_cancer", "wine", "diabetes"])
def test_a_shipped_problem_comes_out_the_same_in_another_process(tmp_path: Path, name: str):
    root = Path(__file__).parent.parent
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "PYTHONPATH")}

    def typed(*words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "ml_assets.command", *words, name, "--json"],
            cwd=root,
            env={**kept, "ML_ASSETS_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    ran, found = typed("run"), typed("reproduce")
    assert found["same"] is True
    assert found["differences"] == []
    assert found["model_digest"] == ran["champion"]["digest"]
