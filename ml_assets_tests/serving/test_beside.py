"""A canary beside a served champion: its share of the rows, and nothing that it does fails a request."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from ml_assets import verification
from ml_assets.problem import Problem
from ml_assets.resources.prediction_log import PredictionLog, folder_of
from ml_assets.round import canary as canaries
from ml_assets.round import rollback
from ml_assets.round.canary import withdraw
from ml_assets.scoring import Scorer
from ml_assets.serving.application import application
from ml_assets.serving.champion import RETRY_SECONDS, ServedChampion
from ml_assets.share import Sharing, falls_to
from ml_assets_tests.conftest import dataset
from ml_assets_tests.problems import SEES_ALL, SEES_B, quickly
from ml_assets_tests.serving.test_application import ARROW, Counter, records
from ml_assets_tests.test_canary_round import Life, begun
from ml_assets_tests.test_scoring import COLUMNS, new_rows
from ml_assets_tests.test_share import CHAMPION, canary
from ml_assets_tests.test_share import model as says

KEYED = replace(CHAMPION, declared=CHAMPION.declared.model_copy(update={"key": "id"}))


def keyed(sharing: Sharing, lake: Path, champion: Scorer = KEYED) -> Counter:
    """A counter where a canary stands beside the champion."""
    log = PredictionLog(folder_of(lake, "demo"))
    problem = Problem(name="demo", dataset=dataset())
    served = ServedChampion(problem, None, champion, champion.version)  # type: ignore[arg-type]
    served.canary = sharing
    client = TestClient(application(served, log), raise_server_exceptions=False)
    return Counter(client, log, lake, champion)


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path


def mine(given: list[dict[str, Any]], share: float = 0.5) -> np.ndarray:
    return falls_to([str(r["id"]) for r in given], "canary", share)


def test_each_row_is_answered_by_whom_its_key_falls_to_and_the_log_says_by_whom(lake: Path):
    given = records(40)
    desk = keyed(canary(), lake)

    told = desk.post("/predict", {"rows": given}).json()
    again = desk.post("/predict", {"rows": given}).json()
    desk.log.close()

    expected = np.where(mine(given), 2, 1).tolist()
    assert set(expected) == {1, 2}
    assert told["model_versions"] == again["model_versions"] == expected
    assert told["predictions"] == ["yes" if v == 2 else "no" for v in expected]
    logged = desk.logged()
    assert logged["model_version"].tolist() == expected * 2
    assert logged["prediction"].tolist() == told["predictions"] * 2


def test_a_single_row_says_in_body_and_header_who_answered(lake: Path):
    given, desk = records(40), keyed(canary(), lake)
    at = int(np.flatnonzero(mine(given))[0])

    answer = desk.post("/predict", {"rows": [given[at]]})
    protocol = desk.post("/invocations", {"dataframe_records": [given[at]]})
    desk.log.close()

    assert answer.json()["model_version"] == 2
    assert "model_versions" not in answer.json()
    assert answer.headers["x-model-version"] == "2"
    assert (protocol.json(), protocol.headers["x-model-version"]) == ({"predictions": ["yes"]}, "2")
    assert 'ml_assets_rows_total{problem="demo",version="2"} 2' in desk.client.get("/metrics").text
    assert 'ml_assets_canary_version{problem="demo"} 2' in desk.client.get("/metrics").text
    assert desk.client.get("/ready").json()["canary"] == 2


def test_an_arrow_stream_has_the_version_of_each_row(lake: Path):
    rows, desk = new_rows(40), keyed(canary(), lake)
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pandas(rows)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)

    answer = desk.post("/predict", sink.getvalue().to_pybytes(), ARROW)
    desk.log.close()

    told = pa.ipc.open_stream(answer.content).read_all()
    expected = np.where(falls_to(rows["id"].tolist(), "canary", 0.5), 2, 1)
    assert told["model_version"].to_pylist() == expected.tolist()


def test_what_a_shadow_says_is_logged_and_never_returned(lake: Path):
    given, desk = records(5), keyed(canary(share=0.0), lake)

    told = desk.post("/predict", {"rows": given}).json()
    desk.log.close()

    assert (told["model_version"], set(told["predictions"])) == (1, {"no"})
    logged = desk.logged()
    assert logged["id"].is_unique
    shadow = logged[logged["model_version"] == 2]
    assert (len(logged), set(shadow["prediction"])) == (10, {"yes"})
    assert shadow["id"].tolist() == [f"{told['id']}.shadow-{i}" for i in range(5)]
    assert shadow["key"].tolist() == [r["id"] for r in given]
    lines = [json.loads(x) for f in folder_of(lake, "demo").glob("*") for x in f.open()]
    assert [line.get("shadow", False) for line in lines] == [False, True]


@pytest.mark.parametrize("share", [0.5, 0.0], ids=["share", "shadow"])
def test_a_canary_that_breaks_fails_no_request(lake: Path, share: float):
    """Whatever it raises, also what no model should."""

    class Breaks:
        version, digest, classes, model = 2, "canary", KEYED.classes, KEYED.model
        columns = property(lambda _: 1 / 0)

    broken = canary(share=share)
    other = replace(broken.scorer, columns=dict.fromkeys(COLUMNS, "broken"), model=None)
    given = records(40)
    for scorer in (other, replace(broken.scorer, columns={**COLUMNS, "new": "float64"}), Breaks()):
        desk = keyed(Sharing(scorer, share), lake)  # type: ignore[arg-type]

        answer = desk.post("/predict", {"rows": given})
        desk.log.close()

        assert answer.status_code == 200, answer.text
        assert set(answer.json()["predictions"]) == {"no"}
        assert answer.json()["model_version"] == 1


def test_a_canary_answers_what_the_champion_cannot(lake: Path):
    given = records(40)
    at = int(np.flatnonzero(mine(given))[0])
    desk = keyed(canary(), lake, replace(KEYED, model=says(0.2, refuses=True)))

    answer = desk.post("/predict", {"rows": [{**given[at], "whole": 3}]})
    desk.log.close()

    assert (answer.status_code, answer.json()["model_version"]) == (200, 2)


# -------------------------------------------------------------------------------------- who serves


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    """Version 2 is the canary beside version 1."""
    with quickly() as patch:
        for module in (rollback, canaries):
            patch.setattr(module, "in_clean_process", verification.verify)
        yield begun(tmp_path, SEES_B, SEES_ALL)


@pytest.mark.slow
def test_a_canary_that_is_promoted_becomes_the_champion_that_answers(life: Life):
    served = ServedChampion.load(life.problem, life.project.stores)
    assert served.canary is not None
    assert (served.canary.scorer.version, served.canary.share) == (2, 0.3)

    life.score(500)
    life.label()
    life.look()
    served.look()

    assert (served.scorer.version, served.canary) == (2, None)


def test_a_canary_must_be_verified_to_answer_and_answers_no_more_once_withdrawn(life: Life):
    """Law 7. Seen to fail when the canary was loaded without its digest."""
    now = [0.0]
    file = life.project.stores.registry.version("demo", 2).folder / "golden.json"
    whole = file.read_bytes()
    file.write_bytes(whole + b" ")

    served = ServedChampion.load(life.problem, life.project.stores)
    served.clock = lambda: now[0]
    served._again_at = RETRY_SECONDS
    assert (served.canary, served.trouble) == (None, "")
    assert "not those that were recorded" in served.canary_trouble
    file.write_bytes(whole)
    served.look()
    assert served.canary is None  # not every second
    now[0] += RETRY_SECONDS
    served.look()
    assert served.canary is not None
    withdraw(life.round(), "enough")
    served.look()
    assert (served.canary, served.canary_trouble) == (None, "")
