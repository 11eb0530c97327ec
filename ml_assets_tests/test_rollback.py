"""An earlier champion serves again: verified, recorded, and not undone by the next run."""

import pytest

from ml_assets import verification
from ml_assets.errors import ModelRefused, PromotionRefused
from ml_assets.promotion import Hold
from ml_assets.round import rollback
from ml_assets.round.production import make_production
from ml_assets.round.rollback import roll_back
from ml_assets.verification import MODEL_FILE
from ml_assets_tests.problems import Project, declared
from ml_assets_tests.test_laws import SEES_B, project  # noqa: F401  the fixture of the laws

WEAK = {"weak": SEES_B}


@pytest.fixture
def twice(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:  # noqa: F811
    """A problem whose version 1 was champion, and whose version 2 is."""
    monkeypatch.setattr(rollback, "in_clean_process", verification.verify)
    project.production(declared(candidates=WEAK))
    project.production(declared())
    assert project.champion() == (2, 2)
    return project


def test_the_champion_before_serves_again(twice: Project) -> None:
    entry = roll_back(twice.round(declared()), None, "prices were wrong")
    assert twice.champion() == (1, 1)
    assert (entry["event"], entry["version"], entry["previous"]) == ("rollback", 1, 2)
    assert (entry["reason"], entry["actor"]) == ("prices were wrong", "a tester")


@pytest.mark.slow
def test_what_was_rolled_back_is_not_promoted_again_by_itself(twice: Project) -> None:
    roll_back(twice.round(declared()), None, "prices were wrong")
    made = twice.production(declared())
    assert isinstance(made.decision, Hold)
    assert "rolled back before, and stays withdrawn: prices were wrong" in made.decision.reason
    assert twice.champion() == (1, 1)


@pytest.mark.slow
def test_somebody_may_bring_it_back_by_name(twice: Project) -> None:
    roll_back(twice.round(declared()), None, "prices were wrong")
    roll_back(twice.round(declared()), 2, "the prices were right after all")
    assert twice.champion() == (2, 2)


@pytest.mark.slow
def test_another_rollback_does_not_return_to_what_was_withdrawn(twice: Project) -> None:
    roll_back(twice.round(declared()), None, "prices were wrong")
    with pytest.raises(PromotionRefused, match="cannot be rolled back to a champion before"):
        roll_back(twice.round(declared()), None, "again")
    assert twice.champion() == (1, 1)


@pytest.mark.slow
def test_a_rollback_to_nowhere_or_for_no_reason_is_refused(twice: Project) -> None:
    cases = [
        (2, "x", "rolled back to version 2"),
        (9, "x", r"version 9\. Champions so far: version 1, version 2; now: version 2"),
        (1, "  ", "needs a reason"),
    ]
    for to, why, said in cases:
        with pytest.raises(PromotionRefused, match=said):
            roll_back(twice.round(declared()), to, why)
    assert twice.champion() == (2, 2)


def test_without_a_champion_there_is_nothing_to_roll_back(project: Project) -> None:  # noqa: F811
    with pytest.raises(PromotionRefused, match="has no champion"):
        roll_back(project.round(declared()), None, "why not")


@pytest.mark.slow
def test_a_version_that_was_changed_does_not_serve_again(twice: Project) -> None:
    folder = twice.stores.registry.version("demo", 1).folder
    (folder / MODEL_FILE).write_bytes(b"something else")
    with pytest.raises(ModelRefused, match="not those that were recorded"):
        roll_back(twice.round(declared()), None, "prices were wrong")
    assert twice.champion() == (2, 2)


@pytest.mark.slow
def test_a_champion_that_changed_meanwhile_is_not_overwritten(
    twice: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: object) -> dict[str, object]:
        monkeypatch.setattr(rollback, "in_clean_process", verification.verify)
        roll_back(twice.round(declared()), 1, "I was first")
        return {}

    monkeypatch.setattr(rollback, "in_clean_process", meanwhile)
    with pytest.raises(PromotionRefused, match="changed while version 1 was being verified"):
        roll_back(twice.round(declared()), 1, "I was second")
    assert [e["reason"] for e in twice.stores.ledger.entries("demo")][-1] == "I was first"


@pytest.mark.slow
def test_a_crash_between_ledger_and_alias_is_mended(
    twice: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError("the power went out")

    with monkeypatch.context() as patch:
        patch.setattr(type(twice.stores.registry), "point", crash)
        with pytest.raises(RuntimeError):
            roll_back(twice.round(declared()), None, "prices were wrong")
    assert twice.champion() == (1, 2)
    make_production(twice.round(declared()))
    assert twice.champion() == (1, 1)
