"""The web application without a network: what is asked, answered, refused, counted and logged."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from ml_assets.problem import Problem
from ml_assets.resources.prediction_log import (
    PredictionLog,
    folder_of,
    inputs_folder_of,
    read_inputs,
    read_predictions,
)
from ml_assets.scoring import Scorer
from ml_assets.serving import application as web
from ml_assets.serving.application import Limits, application
from ml_assets.serving.champion import ServedChampion
from ml_assets.shortcut import shortcut_of
from ml_assets_tests.conftest import dataset
from ml_assets_tests.test_scoring import COLUMNS, new_rows, scorer
from ml_assets_tests.test_shortcut import KINDS, fitted, table

ARROW = "application/vnd.apache.arrow.stream"
RULES = {
    "whole": {"type": "integer"},
    "colour": {"values": ["red", "green", "blue"], "missing": 0},
}


@dataclass
class Counter:
    """Where requests are handed in, in this process."""

    client: TestClient
    log: PredictionLog
    lake: Path
    scorer: Scorer

    def post(self, path: str, body: Any, kind: str = "application/json", **headers: str) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=data, headers={"content-type": kind, **headers})

    def refused(self, body: Any, status: int, code: str, path: str = "/predict") -> dict[str, Any]:
        """It hands in what is to be refused, and returns the error."""
        answer = self.post(path, body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (status, code), answer.text
        assert error["message"].endswith((".", "?", "`?")), error
        assert "Traceback" not in answer.text
        return error

    def logged(self) -> pd.DataFrame:
        return read_predictions(self.lake, "demo")


def counter(lake: Path, one: Scorer, **given: Any) -> Counter:
    log = PredictionLog(folder_of(lake, "demo"))
    problem = Problem(name="demo", dataset=dataset())
    served = ServedChampion(problem, None, one, one.version)  # type: ignore[arg-type]
    app = application(served, log, **given)
    return Counter(TestClient(app, raise_server_exceptions=False), log, lake, one)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Counter]:
    made = counter(tmp_path, scorer(key="id", drop=["note"], contract={"columns": RULES}))
    yield made
    made.log.close()


def records(count: int = 5, **changes: Any) -> list[dict[str, Any]]:
    rows = new_rows(count).assign(day=lambda r: r["day"].astype(str))
    given = rows.astype(object).where(rows.notna(), None).to_dict("records")
    return [{**row, **changes} for row in given]


def test_rows_are_answered_as_the_model_says_and_logged_first(desk: Counter):
    rows = new_rows(5)[list(COLUMNS)]

    answer = desk.post("/predict", {"rows": records()})

    told, model = answer.json(), desk.scorer.model
    assert (answer.status_code, told["problem"], told["model_version"]) == (200, "demo", 3)
    assert told["predictions"] == model.predict(rows).tolist()
    said = np.array([[p["no"], p["yes"]] for p in told["probabilities"]])
    np.testing.assert_allclose(said, model.predict_proba(rows))
    assert "ignored" not in told
    logged = desk.logged()
    assert logged["id"].tolist() == [f"{told['id']}-{i}" for i in range(5)]
    assert logged["key"].tolist() == new_rows(5)["id"].tolist()
    assert logged["prediction"].tolist() == told["predictions"]
    assert set(logged["model_version"]) == {3}
    assert logged["inputs"].nunique() == 5
    np.testing.assert_allclose(logged[["probability_no", "probability_yes"]], said)
    assert logged["at"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")[0] == told["scored_at"]


def test_every_way_to_ask_gives_the_same_answer_and_the_same_inputs(desk: Counter):
    rows, given = new_rows(5), records()
    columns = list(given[0])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pa.Table.from_pandas(rows).schema) as stream:
        stream.write_table(pa.Table.from_pandas(rows))
    split = {"columns": columns, "data": [list(r.values()) for r in given]}
    by_column = {c: [r[c] for r in given] for c in columns}
    expected = desk.post("/predict", {"rows": given}).json()["predictions"]
    csv = rows.to_csv(index=False).encode()
    ways = [
        desk.post("/invocations", {"dataframe_split": split}),
        desk.post("/invocations", {"dataframe_records": given}),
        desk.post("/invocations", {"instances": given}),
        desk.post("/invocations", {"instances": [[r[c] for c in COLUMNS] for r in given]}),
        desk.post("/invocations", {"inputs": by_column}),
        desk.post("/invocations", {"inputs": given}),
        desk.post("/invocations", csv, "text/csv; charset=utf-8"),
    ]

    assert [w.json() for w in ways] == [{"predictions": expected}] * 7
    arrow = desk.post("/predict", sink.getvalue().to_pybytes(), ARROW)
    assert arrow.headers["content-type"] == ARROW
    with pa.ipc.open_stream(arrow.content) as stream:
        table = stream.read_all()
    assert table.column("prediction").to_pylist() == expected
    assert table.column_names[1:4] == ["probability_no", "probability_yes", "model_version"]
    plain = desk.post("/predict", sink.getvalue().to_pybytes(), ARROW, accept="application/json")
    assert plain.json()["predictions"] == expected
    digests = desk.logged()["inputs"].to_numpy().reshape(-1, 5)
    assert len(digests) == 10
    assert (digests == digests[0]).all()


def test_mlflows_clients_may_write_numbers_as_text_and_ours_may_not(desk: Counter):
    rows = records(2, whole="7")

    desk.refused({"rows": rows}, 422, "wrong_type")
    assert desk.post("/invocations", {"dataframe_records": rows}).status_code == 200
    desk.refused({"inputs": records(2, whole="seven")}, 422, "wrong_type", "/invocations")


def test_columns_that_mean_nothing_are_ignored_and_named(desk: Counter):
    told = desk.post("/predict", {"rows": records(2, y="yes", note="x", colr=1, id="7")}).json()

    assert told["ignored"] == ["colr"]
    assert desk.logged()["key"].tolist() == ["7", "7"]


def test_an_absent_column_is_named_with_what_may_be_meant(desk: Counter):
    rows = records(3)
    rows[1]["color"] = rows[1].pop("colour")

    error = desk.refused({"rows": rows}, 422, "missing_columns")

    assert "`colour` is not there. Did you mean `color`?" in error["message"]
    assert error["where"] == {"row": 1, "column": "colour"}


@pytest.mark.parametrize(
    ("column", "value", "code", "words"),
    [
        ("whole", "many", "wrong_type", "`whole` is 'many'; a whole number is expected"),
        ("whole", 1.5, "wrong_type", "`whole` is 1.5; a whole number is expected"),
        ("whole", True, "wrong_type", "`whole` is True"),
        ("whole", [1], "wrong_type", "`whole` is [1]"),
        ("noise", float("inf"), "not_finite", "`noise` is inf; a finite number is expected"),
        ("noise", 10**400, "wrong_type", "a number that large"),
        ("noise", None, "not_scored", "NaN"),
        ("colour", 7, "wrong_type", "`colour` is 7; text is expected"),
        ("colour", None, "missing_value", "`colour` is missing"),
        ("day", "soon", "wrong_type", "`day` is 'soon'; a date written as 2026"),
        ("day", 17, "wrong_type", "`day` is 17"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(
    desk: Counter, column: str, value: Any, code: str, words: str
):
    rows = records(3)
    rows[2][column] = value

    error = desk.refused({"rows": rows}, 422, code)

    assert words in error["message"]
    assert error["where"]["row"] == 2
    assert desk.logged().empty


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "unreadable"),
        (b"\xff\xfe", 400, "unreadable"),
        (b"[" * 100_000, 400, "unreadable"),
        ([], 422, "wrong_shape"),
        ({"row": []}, 422, "wrong_shape"),
        ({"rows": []}, 422, "no_rows"),
        ({"rows": {}}, 422, "no_rows"),
        ({"rows": [1]}, 422, "wrong_shape"),
        ({"rows": [{}]}, 422, "missing_columns"),
    ],
)
def test_a_body_of_another_shape_is_refused(desk: Counter, body: Any, status: int, code: str):
    desk.refused(body, status, code)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"rows": []},
        {"instances": [], "inputs": []},
        {"dataframe_split": [1]},
        {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
        {"inputs": {"a": [1], "b": []}},
        {"inputs": {"a": 1}},
        {"instances": 3},
        {"dataframe_split": {"columns": [["a"]], "data": [[1]]}},
    ],
)
def test_mlflows_protocol_refuses_other_shapes(desk: Counter, body: Any):
    desk.refused(body, 422, "wrong_shape", "/invocations")


def test_bytes_that_are_no_arrow_and_content_types_that_nobody_reads(desk: Counter):
    assert desk.post("/predict", b"no arrow", ARROW).status_code == 400
    assert desk.post("/invocations", b"a,b\n1\n", "text/csv").status_code == 400
    for path, kind in (("/predict", "text/csv"), ("/predict", "text/plain"), ("/predict", "")):
        assert desk.post(path, b"{}", kind).status_code == 415
    assert desk.client.get("/predict").json()["error"]["code"] == "method_not_allowed"
    assert desk.client.get("/docs").json()["error"]["code"] == "not_found"


def test_a_body_that_is_too_large_is_not_read(tmp_path: Path):
    made = counter(tmp_path, scorer(), limits=Limits(most_bytes=1000))
    rows = {"rows": records(50)}

    made.refused(rows, 413, "too_large")
    parts = (json.dumps(rows).encode()[i : i + 100] for i in range(0, 3000, 100))
    answer = made.client.post(
        "/predict", content=parts, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


def stream(table: pa.Table, packed: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=packed)
    with pa.ipc.new_stream(sink, table.schema, options=options) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("packed", ["zstd", "lz4"])
def test_a_packed_stream_unpacks_to_no_more_than_a_body_may_have(tmp_path: Path, packed: str):
    """Without the look at what buffers say of themselves all rows were scored: few bytes, many rows."""
    desk = counter(tmp_path, scorer(key="id"), limits=Limits(most_bytes=200_000))
    few = pa.Table.from_pandas(new_rows(5))
    empty = {f.name: pa.array([""]) for f in few.schema if pa.types.is_string(f.type)}
    one = pa.table({n: empty.get(n, few.column(n).slice(0, 1)) for n in few.column_names})
    many = one.take([0] * 100_000)
    kinds = {"content-type": ARROW, "accept": "application/json"}

    fine = desk.client.post("/predict", content=stream(few, packed), headers=kinds)
    body = stream(many, packed)
    large = desk.client.post("/predict", content=body, headers=kinds)

    assert len(body) < 200_000
    assert (fine.status_code, len(fine.json()["predictions"])) == (200, 5)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "too_large")
    desk.log.close()


def _nulls() -> pa.Table:
    few = pa.Table.from_pandas(new_rows(1))
    return pa.table({n: pa.nulls(10**9) for n in few.column_names})


def _said_often() -> pa.Table:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int8()), ["x" * 50_000])
    few = pa.Table.from_pandas(new_rows(1))
    whole = {n: few.column(n).take([0] * 5000) for n in few.column_names}
    return pa.table({**whole, "colour": long})


@pytest.mark.parametrize("made", [_nulls, _said_often])
def test_few_bytes_that_stand_for_many_are_refused(tmp_path: Path, made: Any):
    desk = counter(tmp_path, scorer(), limits=Limits(most_bytes=1_000_000))

    answer = desk.post("/predict", stream(made()), ARROW)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    desk.log.close()


def test_a_body_may_be_packed_with_gzip_and_only_so(tmp_path: Path):
    desk = counter(tmp_path, scorer(), limits=Limits(most_bytes=20_000))
    body = json.dumps({"rows": records()}).encode()
    how = {"content-encoding": "gzip"}

    def code(data: bytes, **headers: str) -> tuple[int, str]:
        answer = desk.post("/predict", data, **headers)
        return answer.status_code, answer.json().get("error", {}).get("code", "")

    assert code(gzip.compress(body), **how) == (200, "")
    assert code(gzip.compress(b" " * 20_001), **how) == (413, "too_large")
    assert code(body, **how) == (400, "unreadable")
    assert code(gzip.compress(body)[:-3], **how) == (400, "unreadable")
    assert code(body, **{"content-encoding": "br"}) == (415, "unsupported_encoding")
    desk.log.close()


def test_one_row_is_answered_by_the_shortcut_as_by_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model, target = fitted("random_forest")
    rows, kinds = table(20), KINDS
    way = shortcut_of(model, kinds, rows, one_row=True)
    one = Scorer("demo", 3, "d" * 64, model, kinds, target.classes, dataset(), way)
    desk = counter(tmp_path, one)
    given = [
        {k: None if v != v else v for k, v in r.items()}
        for r in rows.astype(object).to_dict("records")
    ]
    alone = [desk.post("/predict", {"rows": [r]}).json() for r in given]
    together = desk.post("/predict", {"rows": given}).json()
    monkeypatch.setattr(web, "said_of", None)  # whoever is asked at once needs no more
    again = desk.post("/predict", {"rows": given[:1]})

    assert [a["predictions"][0] for a in alone] == together["predictions"]
    shares = [list(a["probabilities"][0].values()) for a in alone]
    np.testing.assert_allclose(shares, model.predict_proba(rows), atol=1e-9)
    assert again.json()["predictions"] == together["predictions"][:1]
    logged = desk.logged()
    assert logged["inputs"][:20].tolist() == logged["inputs"][20:40].tolist()
    assert desk.client.get("/ready").json()["one_row_by"] == "ONNX"
    desk.log.close()


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import time

    made = counter(tmp_path, scorer(), limits=Limits(seconds=0.05))
    monkeypatch.setattr(web, "answer", lambda *_: time.sleep(0.3))

    made.refused({"rows": records()}, 504, "too_slow")


def test_too_many_requests_at_once_are_told_to_come_again(
    desk: Counter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(web, "MOST_WAITING", 0)

    assert desk.post("/predict", {"rows": records()}).headers["retry-after"] == "1"


def test_nothing_is_answered_that_cannot_be_logged(desk: Counter, monkeypatch: pytest.MonkeyPatch):
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fdatasync", full)
        desk.refused({"rows": records()}, 503, "not_logged")

    told = desk.post("/predict", {"rows": records()}).json()
    assert f"{told['id']}-0" in desk.logged()["id"].tolist()


def test_what_breaks_is_500_without_its_story(desk: Counter, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(web, "answer", broken)

    error = desk.refused({"rows": records()}, 500, "broken")
    assert "secret" not in json.dumps(error)


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", "Basic right", "right", "Bearer ríght"]
)
def test_without_the_token_nothing_is_told(tmp_path: Path, given: str):
    """Seen to fail when only the token was compared, and not the word before it."""
    made = counter(tmp_path, scorer(), token="right")
    headers = {"authorization": given.encode()}

    for path in ("/metrics", "/openapi.json", "/predict", "/docs", "/nowhere", "/ready/"):
        answer = made.client.get(path, headers=headers)
        assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, "Bearer")
    assert made.client.get("/health", headers=headers).json() == {"status": "ok"}
    assert made.client.get("/ready", headers=headers).json() == {"ready": True, "stale": False}


def test_with_the_token_all_is_told(tmp_path: Path):
    made = counter(tmp_path, scorer(), token="right")
    answer = made.post("/predict", {"rows": records()}, authorization="Bearer right")
    ready = made.client.get("/ready", headers={"authorization": "bearer right"}).json()

    assert answer.status_code == 200
    assert (ready["model_version"], ready["champion"], ready["trouble"]) == (3, 3, None)


def test_metrics_count_what_happened(desk: Counter):
    desk.post("/predict", {"rows": records(4)})
    desk.post("/predict", {"rows": records(1, colour="pink")})
    desk.post("/predict", {"rows": []})
    desk.client.get("/nowhere")

    answer = desk.client.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    for line in (
        'ml_assets_requests_total{problem="demo",path="/predict",status="200"} 2',
        'ml_assets_requests_total{problem="demo",path="/predict",status="422"} 1',
        'ml_assets_requests_total{problem="demo",path="other",status="404"} 1',
        'ml_assets_rows_total{problem="demo",version="3"} 5',
        'ml_assets_unseen_values_total{problem="demo",column="colour"} 1',
        'ml_assets_model_version{problem="demo"} 3',
        'ml_assets_stale{problem="demo"} 0',
        'ml_assets_request_seconds_bucket{problem="demo",le="+Inf"} 4',
        'ml_assets_request_seconds_count{problem="demo"} 4',
    ):
        assert line in lines


def test_the_description_is_made_of_the_features(desk: Counter):
    told = desk.client.get("/openapi.json").json()

    row = told["components"]["schemas"]["Row"]
    assert row["required"] == list(COLUMNS)
    assert row["properties"]["whole"]["type"] == ["integer", "null"]
    assert row["properties"]["colour"]["type"] == "string"
    assert row["properties"]["day"]["format"] == "date-time"
    predictions = told["components"]["schemas"]["Predictions"]["properties"]
    assert predictions["predictions"]["items"] == {"enum": ["no", "yes"]}
    assert set(told["paths"]) == {"/predict", "/invocations", "/health", "/ready", "/metrics"}


def test_amounts_have_no_probabilities(tmp_path: Path):
    made = counter(tmp_path, scorer(task="regression"))
    told = made.post("/predict", {"rows": records()}).json()

    assert all(isinstance(v, float) for v in told["predictions"])
    assert "probabilities" not in told
    assert made.logged()["prediction"].tolist() == told["predictions"]


def test_features_are_kept_only_where_that_is_declared(tmp_path: Path):
    body = {"rows": records(3)}
    plain = counter(tmp_path / "plain", scorer(key="id"))
    assert plain.post("/predict", body).status_code == 200
    assert not inputs_folder_of(plain.lake, "demo").exists()
    plain.log.close()
    kept = PredictionLog(inputs_folder_of(tmp_path, "demo"))
    desk = counter(tmp_path, scorer(key="id"), inputs=kept)
    said = desk.post("/predict", body).json()
    kept.close()
    desk.log.close()

    [line] = list(read_inputs(tmp_path, "demo"))

    assert (line["id"], line["version"]) == (said["id"], desk.scorer.version)
    assert list(line["columns"]) == list(desk.scorer.columns)
    assert {len(values) for values in line["columns"].values()} == {3}
    file = next(inputs_folder_of(tmp_path, "demo").iterdir())
    assert file.stat().st_mode & 0o077 == 0
