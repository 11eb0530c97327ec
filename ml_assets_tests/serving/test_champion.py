"""Who serves: another takes over when the ledger says so and it is verified; else the old one stays."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.errors import ModelRefused, NotMaterialized
from ml_assets.round.rollback import roll_back
from ml_assets.serving import champion
from ml_assets.serving.champion import RETRY_SECONDS, ServedChampion
from ml_assets_tests.problems import SEES_ALL, SEES_B, Project, declared, quickly, rows


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose champion was version 1 and is version 2."""
    with quickly() as patch:
        made = Project(tmp_path_factory.mktemp("project"))
        made.write(rows())
        for candidate in (SEES_B, SEES_ALL):
            made.production(declared(candidates={"one": candidate}))
        assert made.champion()[0] == 2
        from ml_assets import verification
        from ml_assets.round import rollback

        patch.setattr(rollback, "in_clean_process", verification.verify)
        yield made


def move(project: Project, to: int) -> None:
    if project.champion()[0] != to:
        roll_back(project.round(declared()), to, "a test")


def folder_of(project: Project, version: int) -> Path:
    return project.stores.registry.version("demo", version).folder


def test_a_moved_champion_takes_over_at_the_next_look(project: Project):
    move(project, 2)
    served = ServedChampion.load(declared(), project.stores)
    before = served.scorer

    move(project, 1)
    assert served.scorer is before
    served.look()

    assert (served.scorer.version, served.champion, served.exchanged) == (1, 1, 1)
    assert served.trouble == ""
    assert before.version == 2  # who began with it ends with it


def test_a_look_at_an_unchanged_ledger_reads_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    served = ServedChampion.load(declared(), project.stores)
    monkeypatch.setattr(champion, "scoring_entry", lambda *_: pytest.fail("it was read"))

    served.look()
    (project.stores.ledger.root / "demo.jsonl").touch()
    with pytest.raises(BaseException, match="it was read"):
        served.look()


def test_a_tampered_champion_is_refused_and_the_old_one_stays(project: Project):
    """Seen to fail when `load_scorer` loaded without the digest.  Once mended, it takes over."""
    move(project, 2)
    now = [0.0]
    served = ServedChampion.load(declared(), project.stores)
    served.clock = lambda: now[0]
    file = folder_of(project, 1) / "model.skops"
    whole = file.read_bytes()
    move(project, 1)
    shutil.copy(folder_of(project, 2) / "model.skops", file)

    served.look()
    assert (served.scorer.version, served.champion, served.refused) == (2, 1, 1)
    assert "not those that were recorded" in served.trouble

    file.write_bytes(whole)
    served.look()
    assert served.scorer.version == 2  # not every second
    now[0] += RETRY_SECONDS
    served.look()
    assert (served.scorer.version, served.trouble) == (1, "")


def test_a_rewritten_or_lost_ledger_changes_nobody(project: Project):
    served = ServedChampion.load(declared(), project.stores)
    who, file = served.scorer, project.stores.ledger.root / "demo.jsonl"
    whole = file.read_bytes()
    try:
        file.write_bytes(whole.replace(b'"event": "promotion"', b'"event": "promotiom"', 1))
        served.look()
        assert "rewritten" in served.trouble
        file.unlink()
        served.look()
        assert "are missing at the end" in served.trouble
        assert served.scorer is who
    finally:
        file.write_bytes(whole)
    served.look()
    assert (served.scorer, served.trouble) == (who, "")


def test_it_begins_with_a_verified_champion_or_not_at_all(project: Project, tmp_path: Path):
    version = project.champion()[0]
    assert version is not None
    golden = folder_of(project, version) / "golden.json"
    whole = golden.read_bytes()
    try:
        golden.write_bytes(whole.replace(b"0.", b"1.", 1))
        with pytest.raises(ModelRefused, match="not those that were recorded"):
            ServedChampion.load(declared(), project.stores)
    finally:
        golden.write_bytes(whole)
    with pytest.raises(NotMaterialized, match="ml-assets run demo"):
        ServedChampion.load(declared(), Project(tmp_path / "new").stores)
