import io

import numpy as np
import pytest

from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.evaluation import Contender
from ml_assets.plots import judged, leaderboard
from ml_assets_tests.conftest import BINARY, MULTICLASS, REGRESSION

BOARD = [Contender("a", {"rmse": 1.0}), Contender("b", {"rmse": 2.0}), Contender("c", error="no")]
MANY = Target("multiclass", "declared", tuple(f"class {i}" for i in range(30)), (1,) * 30)


def image(png):
    from matplotlib.image import imread

    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return imread(io.BytesIO(png))


def ink(png):
    return float((image(png)[..., :3] < 0.9).mean())


def said(target, rows=60):
    random = np.random.default_rng(0)
    if target.task == "regression":
        truth = random.normal(size=rows)
        return truth, Predictions(truth + random.normal(size=rows))
    truth = random.choice(np.array(target.classes, dtype=object), rows)
    shares = random.dirichlet(np.ones(len(target.classes)), rows)
    return truth, Predictions(np.array(target.classes, dtype=object)[shares.argmax(axis=1)], shares)


@pytest.mark.parametrize(
    ("target", "panels"),
    [(BINARY, 3), (MULTICLASS, 1), (MANY, 1), (REGRESSION, 2)],
    ids=["binary", "multiclass", "30 classes", "regression"],
)
def test_a_judged_candidate_is_drawn_in_the_panels_of_its_task(target, panels):
    png = judged(*said(target), target)
    height, width, _ = image(png).shape
    assert width == 336 * panels
    assert height > 200
    assert ink(png) > 0.01
    assert len(png) < 100_000


def test_labels_without_probabilities_are_drawn_as_a_confusion():
    truth, given = said(BINARY)
    assert image(judged(truth, Predictions(given.values), BINARY)).shape[1] == 336


def test_one_class_among_the_rows_is_drawn_without_curves():
    truth, given = said(BINARY)
    assert ink(judged(np.full_like(truth, "no"), given, BINARY)) > 0.01


def test_the_same_numbers_give_the_same_picture():
    """Pictures lie in the lake, where everything is named by its content."""
    assert leaderboard(BOARD, "rmse", "a") == leaderboard(BOARD, "rmse", "a")
    assert judged(*said(BINARY), BINARY) == judged(*said(BINARY), BINARY)


def test_the_winner_is_drawn_in_its_own_colour():
    def violet(png):
        pixels = (image(png)[..., :3] * 255).round()
        return int((pixels == [0x4F, 0x43, 0xDD]).all(axis=-1).sum())

    assert violet(leaderboard(BOARD, "rmse", "a")) > 100
    assert violet(leaderboard(BOARD, "rmse", None)) == 0


def test_a_board_grows_with_those_that_have_a_value():
    one, two = (image(leaderboard(b, "rmse", "a")).shape[0] for b in (BOARD[:1], BOARD))
    assert two - one == pytest.approx(0.32 * 80, abs=1)


def test_a_board_on_which_all_failed_is_drawn_all_the_same():
    assert image(leaderboard(BOARD[2:], "rmse", None)).shape[1] == 336
