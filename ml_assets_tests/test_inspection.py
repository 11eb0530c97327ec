"""Cards in a round: which rows they may see, made once, laid beside the run, opened when asked."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets.card import sections
from ml_assets.errors import DeclarationError, NotMaterialized
from ml_assets.round import card as cards
from ml_assets.round.challenger import make_challenger
from ml_assets.round.inspection import inspect
from ml_assets_tests.problems import EXPLODES, SEES_A, SEES_ALL, Project, declared, quickly, rows


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[pytest.MonkeyPatch]:
    with quickly() as patch:
        yield patch


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(rows())
    return made


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[sections.Shown]:
    """Everything that a card was made of, in order."""
    handed: list[sections.Shown] = []

    def noted(shown: sections.Shown) -> sections.Card:
        handed.append(shown)
        return sections.card(shown)

    monkeypatch.setattr(cards, "card", noted)
    return handed


def artifacts(project: Project, run_id: str) -> list[str]:
    return sorted(f.path for f in project.stores.registry.client.list_artifacts(run_id))


def text(entry: cards.Entry | None) -> str:
    assert entry is not None
    return (entry.path / cards.PAGE).read_text()


def test_only_the_challengers_card_is_handed_test_rows(project, seen, monkeypatch):
    """Law 3. Seen to fail when `shown_on_validation` asked for the part `test`."""
    read: list[str] = []
    part_rows = cards.part_rows

    def noted(round_, split, part):
        read.append(part)
        return part_rows(round_, split, part)

    monkeypatch.setattr(cards, "part_rows", noted)
    problem = declared()
    round_ = project.round(problem)
    project.candidates(round_)
    assert set(read) == {"validation"}
    make_challenger(round_)
    assert read.count("test") == 1

    tests = set(part_rows(round_, make_challenger(round_).split, "test")["id"])
    by_part = {s.part: set(s.rows["id"]) for s in seen}
    assert by_part["test"] == tests
    assert not by_part["validation"] & tests
    read.clear()
    inspect(round_, "candidate/all")
    assert set(read) == {"validation"}


def test_cards_are_made_once(project, seen):
    """Law 10: an unchanged round draws nothing, uploads nothing, and still knows its cards."""
    problem = declared()
    first = project.production(problem)
    drawn = len(seen)
    assert drawn == len(problem.contenders()) + 1
    uploaded: list[str] = []
    object.__setattr__(project.stores.registry, "log_file", lambda *a: uploaded.append(a))
    try:
        again = project.production(problem)
        made = project.candidates(project.round(problem))
    finally:
        object.__delattr__(project.stores.registry, "log_file")

    assert (len(seen), uploaded) == (drawn, [])
    assert all(m.page is not None for m in made.values())
    assert first.challenger.version == again.challenger.version


def test_a_card_is_no_part_of_what_a_candidate_is(project, tmp_path):
    """Law 9: times stand on a card, and two fits at two times have one digest."""
    problem = declared()
    one = project.candidates(project.round(problem))["all"]
    other_project = Project(tmp_path / "other")
    other_project.write(rows())
    other = other_project.candidates(other_project.round(problem))["all"]

    assert one.entry.digest == other.entry.digest
    assert not {cards.PAGE, cards.GLANCE} & {f.name for f in one.entry.path.iterdir()}


def test_cards_lie_beside_the_run_in_mlflow(project):
    problem = declared()
    made = project.challenger(problem)
    run_id = project.candidates(project.round(problem))["all"].entry.facts["mlflow_run"]
    client = project.stores.registry.client

    assert artifacts(project, run_id) == [cards.CANDIDATE_PAGE, cards.CHALLENGER_PAGE]
    there = client.download_artifacts(run_id, cards.CHALLENGER_PAGE)
    assert Path(there).read_text() == text(made.page)


def test_the_challengers_card_shows_champion_and_best(project):
    project.production(declared(candidates={"a": SEES_A}))
    made = project.challenger(declared(candidates={"all": SEES_ALL}))

    said = text(made.page)
    assert "best ever, of the others" in said
    assert "measured on other test rows" not in said
    project.write(rows(900))
    said = text(project.challenger(declared(candidates={"all": SEES_ALL})).page)
    assert said.count("measured on other test rows") == 2


def test_a_card_that_cannot_be_drawn_stops_nothing_and_says_so(project, monkeypatch):
    def broken(shown):
        raise ValueError("no ink <left>")

    monkeypatch.setattr(cards, "card", broken)
    made = project.production(declared())

    assert made.champion["version"] == 1
    page = make_challenger(project.round(declared())).page
    assert page.facts["trouble"] == "ValueError: no ink <left>"
    assert "no ink &lt;left&gt;" in text(page)


def test_a_changed_card_is_made_again(project):
    problem = declared()
    page = project.challenger(problem).page
    (page.path / cards.PAGE).write_text("<script>")
    round_ = project.round(problem)
    round_.stores.lake._sound.clear()

    assert "<script>" not in text(make_challenger(round_).page)


def test_a_candidate_is_inspected_with_leaderboard_and_importance(project, seen):
    problem = declared(candidates={"all": SEES_ALL, "a": SEES_A})
    project.challenger(problem)
    found = inspect(project.round(problem), "candidate/a")
    said = found.file.read_text()

    assert (found.part, found.made) == ("validation", True)
    assert "Permutation importance" in said and "leads" in said
    again = inspect(project.round(problem), "candidate/a")
    assert (again.file, again.made) == (found.file, False)


def test_what_has_no_card_is_refused(project):
    problem = declared(candidates={"all": SEES_ALL, "bad": EXPLODES})
    with pytest.raises(NotMaterialized):
        inspect(project.round(problem), "challenger")
    with pytest.raises(NotMaterialized):
        inspect(project.round(problem), "candidate/all")
    project.challenger(problem)
    with pytest.raises(DeclarationError, match="Did you mean `candidate/all`"):
        inspect(project.round(problem), "candidate/al")
    with pytest.raises(DeclarationError):
        inspect(project.round(problem), "candidate/../../x")
    with pytest.raises(NotMaterialized, match="not fitted"):
        inspect(project.round(problem), "candidate/bad")
    page = make_challenger(project.round(problem)).page
    shutil.rmtree(page.path)
    with pytest.raises(NotMaterialized, match="no card yet"):
        inspect(project.round(problem), "challenger")


def test_the_ui_shows_picture_and_page(project):
    run = project.run(declared())
    shown = {
        "/".join(e.asset_key.path[1:]): e.step_materialization_data.materialization.metadata
        for e in run.result.get_asset_materialization_events()
    }

    assert run.green
    for asset in ("candidate/all", "challenger"):
        assert Path(shown[asset]["card"].value).is_file()
        assert shown[asset]["at_a_glance"].value.startswith("![at a glance](data:image/svg+xml;")
        assert "card_trouble" not in shown[asset]
