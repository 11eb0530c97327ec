"""Live rows: each prediction once, and its label as soon as the dataset has it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_assets.dataset import Target
from ml_assets.live import key_text, said_in, together, truth_in
from ml_assets.problem import Problem
from ml_assets.resources.prediction_log import folder_of, inputs_folder_of
from ml_assets.round.dataset import make_dataset
from ml_assets.round.live import live_features, live_rows
from ml_assets.round.mark import live_mark
from ml_assets.round.predictions import make_predictions
from ml_assets_tests.problems import SEES_ALL, SEES_B, Project, arrive, declared, quickly, rows

WATCHED = {"path": "inbox/*.csv", "output": "scored"}
LANDING = {"path": "landing/*.csv", "settle": 0}


def part(keys: list[Any], version: int = 1, at: float = 1.0, **more: Any) -> pd.DataFrame:
    made = pd.DataFrame({"key": key_text(pd.Series(keys, dtype=object))})
    made["id"] = [f"{version}-{at}-{i}" for i in range(len(keys))]
    said = {"at": at, "version": version, "prediction": "yes", "source": "served"}
    return made.assign(**{**said, **more})


def labels(**given: str) -> pd.Series:
    return pd.Series(list(given.values()), index=pd.Index([k[1:] for k in given]))


def test_a_key_is_the_same_however_it_was_written():
    assert key_text(pd.Series([41, 7])).tolist() == ["41", "7"]
    assert key_text(pd.Series([41.0, None])).tolist() == ["41", None]
    assert key_text(pd.Series(["41", 41, 41.0, "007", None], dtype=object)).tolist() == [
        "41",
        "41",
        "41",
        "007",
        None,
    ]


def test_the_first_prediction_of_a_key_by_a_version_counts():
    """Seen to fail when a row that was asked again took the place of the first."""
    late, early = part([1, 2], at=5.0, prediction="no"), part([1, 3], at=2.0)
    live = together([late, early, part([1], version=2, at=9.0)], True, labels(k1="no"), {})

    assert live.frame["key"].tolist() == ["1", "3", "2", "1"]
    assert live.frame["prediction"].tolist() == ["yes", "yes", "no", "yes"]
    assert (live.repeated, live.of(2)["truth"].tolist()) == (1, ["no"])
    assert live.of(1)["truth"].tolist() == ["no", None, None]
    assert "Of 4 predictions 2 have their label." in live.labels


def test_what_a_version_learned_from_does_not_judge_it():
    """Seen to fail when a file of training rows that was scored made a champion look too good."""
    known = labels(k1="yes", k2="no")
    live = together([part([1, 2])], True, known, {1: pd.Index(["1"])})

    assert live.frame["truth"].tolist() == ["yes", "no"]
    assert live.judged_by(1)["key"].tolist() == ["2"]


def test_a_key_that_names_several_rows_is_not_joined():
    double = pd.concat([labels(k1="yes", k2="no"), labels(k1="no")])
    live = together([part([1, 2])], True, double, {})

    assert live.frame["truth"].tolist() == [None, "no"]
    assert "1 keys name several rows" in live.labels


def test_without_keys_there_are_no_labels_and_no_repetitions():
    live = together([part([None, None])], False, None, {})

    assert len(live.frame) == 2
    assert "declares no `key`" in live.labels
    assert live.judged_by(1).empty


def test_predictions_have_the_types_of_the_target():
    target = Target("binary", "", (0, 1), (1, 1), 1)
    frame = pd.DataFrame(
        {"prediction": ["0", "1"], "truth": [1.0, 0.0], "probability_0": [0.9, 0.2]}
    ).assign(probability_1=[0.1, 0.8])

    said = said_in(frame, target)

    assert said.values.tolist() == [0, 1]
    assert said.probabilities is not None
    assert said.probabilities.tolist() == [[0.9, 0.1], [0.2, 0.8]]
    assert truth_in(frame, target).tolist() == [1, 0]


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    with quickly():
        arrive(rows(), tmp_path / "landing" / "first.csv")
        (tmp_path / "inbox").mkdir()
        yield Project(tmp_path)


def served(project: Project, frame: pd.DataFrame, version: int = 1, at: float = 10.0) -> None:
    """It puts into the log what a server would have answered, and the features that it kept."""
    lake = project.stores.lake.root
    name = f"{version}at{at:g}"
    share = np.clip(1 / (1 + np.exp(-frame["a"])), 0.01, 0.99)
    line: dict[str, Any] = {"id": name, "at": at, "version": version}
    answers = {
        "inputs": ["0" * 16] * len(frame),
        "keys": frame["id"].tolist(),
        "predictions": np.where(share > 0.5, "yes", "no").tolist(),
        "classes": ["no", "yes"],
        "probabilities": [[1 - s, s] for s in share],
    }
    kept = {"columns": {c: frame[c].tolist() for c in ("a", "b")}}
    for folder, more in ((folder_of, answers), (inputs_folder_of, kept)):
        folder(lake, "demo").mkdir(parents=True, exist_ok=True)
        with open(folder(lake, "demo") / "1.jsonl", "a") as out:
            out.write(json.dumps(line | more) + "\n")


def test_labels_that_arrive_late_join_what_was_served_and_what_was_scored(project: Project):
    problem: Problem = declared(dataset=LANDING, predictions=WATCHED, candidates={"b": SEES_B})
    project.production(problem)
    fresh, later = rows(40, seed=5, first=5000), rows(30, seed=6, first=6000)
    served(project, fresh)
    arrive(later.drop(columns="y"), project.root / "inbox" / "later.csv")
    make_predictions(project.round(problem))
    before = live_mark("demo", project.stores)

    live = live_rows(project.round(problem))

    assert live.frame["source"].value_counts().to_dict() == {"served": 40, "file": 30}
    assert live.frame["truth"].isna().all()
    arrive(pd.concat([fresh, later]), project.root / "landing" / "labels.csv")
    make_dataset(project.round(problem))
    assert live_mark("demo", project.stores) != before
    live = live_rows(project.round(problem))
    mine = live.judged_by(1)
    assert len(mine) == 70
    truth = pd.concat([fresh, later]).set_index("id")["y"]
    assert (mine["truth"].to_numpy() == truth[mine["key"].astype(int)].to_numpy()).all()
    features = live_features(project.round(problem), mine)
    wanted = pd.concat([fresh, later]).set_index("id").loc[mine["key"].astype(int)]
    assert np.allclose(features["a"], wanted["a"])
    assert features.index.tolist() == mine.index.tolist()


def test_a_new_champion_that_learned_from_live_rows_is_not_judged_by_them(project: Project):
    """It scores the old file again, which its dataset has by then."""
    problem = declared(dataset=LANDING, predictions=WATCHED, candidates={"b": SEES_B})
    project.production(problem)
    fresh = rows(40, seed=5, first=5000)
    arrive(fresh.drop(columns="y"), project.root / "inbox" / "fresh.csv")
    make_predictions(project.round(problem))
    arrive(fresh, project.root / "landing" / "labels.csv")
    better = declared(dataset=LANDING, predictions=WATCHED, candidates={"all": SEES_ALL})
    project.production(better)
    assert project.champion() == (2, 2)
    make_predictions(project.round(better))

    live = live_rows(project.round(better))

    assert len(live.of(1)) == len(live.of(2)) == 40
    assert (len(live.judged_by(1)), len(live.judged_by(2))) == (40, 0)
