"""An alias that somebody moved in MLflow: noticed by a sensor, put back, and recorded."""

from pathlib import Path

import dagster as dg
import pytest

from ml_assets.components.aliases import build_alias_guard
from ml_assets_tests.problems import SEES_B, Project, declared, quickly, rows


@pytest.fixture
def project(tmp_path: Path):
    with quickly():
        made = Project(tmp_path)
        made.write(rows())
        made.production(declared(candidates={"weak": SEES_B}))
        made.production(declared())
        assert made.champion() == (2, 2)
        yield made


def tick(project: Project, *problems: str) -> str:
    guard = build_alias_guard(list(problems), project.stores)
    given = guard.evaluate_tick(dg.build_sensor_context(project.instance))
    assert not given.run_requests
    return given.skip_message


def test_an_alias_that_was_moved_is_put_back_and_recorded(project: Project):
    """Seen to fail when the tick did not ask the registry."""
    assert tick(project, "demo") == "Every alias agrees with its ledger."
    project.stores.registry.point("demo", "champion", 1)
    told = tick(project, "demo", "of_nobody")
    assert told == ("demo: The alias champion pointed at version 1; the ledger says version 2.")
    assert project.champion() == (2, 2)
    entry = project.stores.ledger.entries("demo")[-1]
    assert (entry["event"], entry["found"], entry["version"]) == ("alias repaired", 1, 2)
    assert tick(project, "demo") == "Every alias agrees with its ledger."
    assert len(project.stores.ledger.entries("demo")) == 3


def test_an_alias_that_was_deleted_is_put_back(project: Project):
    project.stores.registry.client.delete_registered_model_alias("demo", "champion")
    assert "pointed at nothing" in tick(project, "demo")
    assert project.champion() == (2, 2)


def test_a_ledger_that_was_rewritten_is_said_and_stops_no_other(project: Project):
    file = project.stores.ledger.root / "demo.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"weak"', b'"wise"', 1))
    (project.stores.ledger.root / "other.jsonl").write_bytes(b"")
    assert "line 1: the ledger was rewritten" in tick(project, "demo", "other")
