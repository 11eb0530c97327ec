"""What is read in MLflow's file without MLflow is what MLflow answers."""

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from ml_assets.errors import ModelRefused
from ml_assets.resources.registry import Registry
from ml_assets_tests.problems import SEES_B, Project, declared, quickly, rows


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Three versions of `demo`, of which one is deleted; the alias of the challenger is gone."""
    with quickly():
        made = Project(tmp_path_factory.mktemp("project"))
        made.write(rows())
        for name, candidate in {"weak": SEES_B, "all": {"estimator": "linear"}}.items():
            made.production(declared(candidates={name: candidate}))
        made.production(
            declared(candidates={"all": {"estimator": "linear", "params": {"C": 0.001}}})
        )
        client = made.stores.registry.client
        client.set_registered_model_alias("demo", "old", "1")
        client.delete_model_version("demo", "1")
        client.delete_registered_model_alias("demo", "challenger")
        yield made


@pytest.fixture(params=["the file", "MLflow"])
def registry(request: pytest.FixtureRequest, project: Project, monkeypatch) -> Registry:
    project.here()
    if request.param == "MLflow":
        monkeypatch.setattr(Registry, "_file", lambda _: None)
    given = project.stores.registry
    return Registry(given.uri, given.home)


def test_aliases(registry: Registry):
    assert registry.pointed("demo", "champion") == 2
    assert registry.pointed("demo", "challenger") is None
    assert registry.pointed("demo", "old") is None
    assert registry.pointed("nobody", "champion") is None


def test_versions(registry: Registry):
    version = registry.version("demo", 2)
    assert version.number == 2
    assert version.digest == version.tags["digest"]
    assert version.tags["candidate"] == "all"
    assert (version.folder / "model.skops").is_file()
    for number in (1, 9):
        with pytest.raises(ModelRefused, match=f"no usable version {number} of demo"):
            registry.version("demo", number)


def test_versions_by_their_tags(registry: Registry):
    second = registry.version("demo", 2).tags
    found = registry.registered("demo", candidate_digest=second["candidate_digest"])
    assert found.number == 2
    assert registry.registered("demo", candidate="all").number == 3
    assert registry.registered("demo", candidate="all", split="another") is None
    assert registry.registered("demo", candidate="weak") is None  # deleted
    assert registry.registered("nobody", candidate="all") is None


def test_runs_and_experiments(registry: Registry, project: Project):
    known = project.stores.registry.client.search_runs(
        [project.stores.registry.experiment("demo")]
    )[0]
    assert registry.has_run(known.info.run_id)
    assert not registry.has_run("f" * 32)
    assert not registry.has_run(None)
    assert registry.experiment("demo") == known.info.experiment_id


def test_a_look_makes_nothing_and_needs_no_mlflow(tmp_path: Path):
    """Seen to fail when a look opened the client."""
    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    assert registry._file() is None
    assert not list(tmp_path.iterdir())


def test_what_is_written_goes_to_its_own_store(project: Project, tmp_path: Path, monkeypatch):
    """Seen to fail when a look had answered before the client was opened: a step of its own process."""
    monkeypatch.chdir(tmp_path)
    with quickly(), monkeypatch.context() as patch:
        patch.setattr(Project, "here", lambda _: None)
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'other.db'}")
        project.stores.registry._opened.clear()
        candidates = {"all": {"estimator": "linear", "params": {"C": 0.3}}}
        made = project.challenger(declared(candidates=candidates))
    assert made.version.number == 4
    assert not list(tmp_path.iterdir())


def test_a_second_run_does_not_open_mlflow(project: Project, monkeypatch):
    """Seen to fail for each question that went to the client."""

    def opened(_: Registry) -> None:
        raise AssertionError("MLflow was opened")

    project.here()
    with quickly(), monkeypatch.context() as patch:
        candidates = {"all": {"estimator": "linear", "params": {"C": 0.001}}}
        project.production(declared(candidates=candidates))
        project.stores.registry._opened.clear()
        patch.setattr(Registry, "client", property(opened))
        patch.setattr(Project, "here", lambda _: None)
        made = project.production(declared(candidates=candidates))
    assert made.reused
