"""The first hour of somebody who has a CSV and no knowledge of this project: the page is run."""

import os
import re
from pathlib import Path

import pytest

from ml_assets_tests.pages import DOCS, Said, Walk, blocks, give, shown, without_figures, written

# The walk is one fixture of some twenty commands.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PAGE = (DOCS / "tutorial.md").read_text()


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    """A walk through the page: with the open dataset where ML_ASSETS_OPEN_DATA names its folder."""
    folder = os.environ.get("ML_ASSETS_OPEN_DATA")
    root = tmp_path_factory.mktemp("first_hour") / "shop"
    root.mkdir()
    give(root.parent / "given", Path(folder) / "telco_churn.csv" if folder else None)
    walked = Walk(root)
    walked.through(PAGE)
    return walked


def said(walk: Walk, begin: str) -> list[Said]:
    """It returns what was said to the commands that begin so."""
    return [s for s in walk.said if s.command.startswith(begin)]


def test_every_command_ends_as_the_page_says(walk: Walk) -> None:
    noted = []
    for block in blocks(PAGE):
        if block.kind == "console":
            for told in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                status = re.search(r"^\(exit status (\d+)\)$", told, re.MULTILINE)
                noted.append((told.split("\n")[0], int(status[1]) if status else 0))
    ended = [(s.command, s.status) for s in walk.said if f"$ {s.command}\n" in PAGE]
    assert ended == noted
    assert {status for _, status in noted} == {0, 1, 2}


def test_the_hour_takes_its_course(walk: Walk) -> None:
    first, wrong, moved, known, better, after = said(walk, "ml-assets run churn")
    assert "Decision: promoted. There is no champion yet, and every gate holds." in first.text
    assert "Champion: version 1 (small_tree)" in first.text
    assert "quarantined 2026-02.csv: `MonthlyCharges` is not there." in wrong.text
    assert "Decision: held." in wrong.text
    assert "warn features_are_spread_alike: " in moved.text
    assert "Retraining: wait. " in moved.text
    assert "But 0 rows are new" in moved.text
    assert "predictions 0 have their label" in " ".join(moved.text.split())
    assert "Retraining: retrain. " in known.text
    assert "Next: ml-assets run churn" in known.text
    assert "Decision: promoted. Against champion version 1 it is better" in better.text
    assert "Champion: version 2 (linear)" in better.text
    [back] = said(walk, "ml-assets rollback churn --why")
    assert "version 1 (small_tree) was verified and serves again" in back.text
    assert "Decision: held." in after.text
    assert "withdrawn" in after.text
    [history] = said(walk, "ml-assets history")
    assert history.text.endswith("Champion now: version 1")


def test_no_message_is_for_programmers_or_wider_than_a_terminal(walk: Walk) -> None:
    for one in walk.said:
        assert "Traceback" not in one.text, one
        assert "Warning:" not in one.text, one
        assert "\x1b" not in one.text, one
        assert 'File "' not in one.text, one
        ours = one.command.startswith("ml-assets ")
        lines = shown(one).split("\n")[1:] if ours else []
        assert not [line for line in lines if len(line) > 80 and " " in line.strip()], one
        if one.status == 2:
            assert one.text.startswith("error: ")
            assert one.text.count("error: ") == 1


def test_the_page_shows_what_was_said(walk: Walk) -> None:
    """On the open dataset: word for word, figures aside. Else: the same commands, errors and hints."""
    if os.environ.get("ML_ASSETS_OPEN_DATA"):
        assert without_figures(written(PAGE, walk)) == without_figures(PAGE)
    for one in walk.said:
        if one.status == 2:
            assert without_figures(shown(one)) in without_figures(PAGE)
