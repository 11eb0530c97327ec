"""The web application: requests in, predictions out, each logged before it is answered."""

import asyncio
import contextlib
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from ml_assets.errors import RequestRefused
from ml_assets.resources.prediction_log import PredictionLog
from ml_assets.round.predictions import stamp
from ml_assets.scoring import Said, Scorer, as_table, said_of, said_of_one, unseen
from ml_assets.serving.asked import ARROW, JSON, Asked, asked_of
from ml_assets.serving.beside import beside, plain, shadow_line, shown, versions_of
from ml_assets.serving.body import refusal, too_large, unpacked
from ml_assets.serving.champion import ServedChampion
from ml_assets.serving.description import described
from ml_assets.serving.metrics import Metrics
from ml_assets.share import Shared, Sharing

LOOKS_EVERY = 1.0  # seconds between two looks at the ledger
THREADS = 2
FEW_BYTES = 16_384  # of a body that may be answered at once, without a thread
MOST_WAITING = 512  # requests under way; one more is told to come again
OPEN = ("/health", "/ping", "/ready")  # answered without a token
_log = logging.getLogger("ml_assets.serving")


@dataclass(frozen=True)
class Limits:
    """What a request may cost.

    Attributes:
        most_bytes: of its body.
        seconds: until it is answered.
    """

    most_bytes: int = 10_000_000
    seconds: float = 30.0


@dataclass(frozen=True)
class Answer:
    """What a request is answered, and what is logged of it.

    Attributes:
        body: the answer's bytes.
        kind: its content type.
        line: the line for the prediction log.
        rows: how many rows it scores.
        unseen: values that the contract does not name, by column.
        versions: who answered each row.
        inputs: the line of its features, where they are kept.
    """

    body: bytes
    kind: str
    line: bytes
    rows: int
    unseen: dict[str, int]
    versions: list[int]
    inputs: bytes = b""


def at_once(
    scorer: Scorer,
    kind: str,
    accept: str,
    body: bytes,
    mlflow: bool,
    most: int,
    keep: bool = False,
    canary: Sharing | None = None,
) -> Answer | None:
    """It answers a request about one row by the version's shortcut; None where it has none for it.

    The arguments are those of `answer`.

    Raises:
        RequestRefused: it cannot be read.
    """
    quick = canary is None and scorer.shortcut is not None and scorer.shortcut.graph is not None
    if not quick or len(body) > FEW_BYTES:
        return None
    asked = asked_of(scorer, kind, body, mlflow, most)
    said = said_of_one(scorer, asked.columns) if asked.rows == 1 else None
    if said is None:
        return None
    return _answered(scorer, asked, said, (kind, accept, mlflow), Shared(), None, keep)


def answer(
    scorer: Scorer,
    kind: str,
    accept: str,
    body: bytes,
    mlflow: bool,
    most: int,
    keep: bool = False,
    canary: Sharing | None = None,
) -> Answer:
    """It answers a request's body.

    Args:
        scorer: the version that answers.
        kind: the body's content type.
        accept: the content types that the client takes.
        body: the request's body.
        mlflow: it is in MLflow's scoring protocol.
        most: to so many bytes the body may unpack.
        keep: the features are to be kept.
        canary: who answers some of the rows.

    Raises:
        RequestRefused: it cannot be read, or a row cannot be scored.
    """
    asked = asked_of(scorer, kind, body, mlflow, most)
    said = said_of(scorer, asked.features, {})
    answered = beside(scorer, canary, asked, said, (kind, body, mlflow, most))
    return _answered(scorer, asked, said, (kind, accept, mlflow), answered, canary, keep)


def _answered(
    scorer: Scorer,
    asked: Asked,
    said: Said,
    how: tuple[str, str, bool],
    answered: Shared,
    canary: Sharing | None,
    keep: bool,
) -> Answer:
    """It returns the answer of what was said, and its line for the log."""
    versions = versions_of(answered, scorer, len(said.values))
    if said.wrong:
        at = min(said.wrong)
        raise refusal(422, "not_scored", f"{said.wrong[at]}.", row=at)
    name, now = uuid.uuid4().hex, time.time()
    logged = _logged(scorer, asked, said, name, now)
    if answered.versions is not None:
        logged["versions"] = versions
    line = json.dumps(logged).encode() + b"\n" + shadow_line(answered, canary, logged)
    counted = unseen(scorer, asked.columns)
    kept = _kept(scorer, asked, name, now) if keep else b""
    data, told_as = _told(scorer, said, logged, versions, how)
    if told_as == JSON and asked.ignored and not how[2]:
        data["ignored"] = asked.ignored
    written = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Answer(written, told_as, line, len(versions), counted, versions, kept)


def _told(
    scorer: Scorer,
    said: Said,
    logged: dict[str, Any],
    versions: list[int],
    how: tuple[str, str, bool],
) -> tuple[Any, str]:
    """It returns what is answered, as the client takes it, and what kind of content that is."""
    (kind, accept, mlflow), name, at = how, logged["id"], stamp(logged["at"])
    if mlflow:
        return {"predictions": logged["predictions"]}, JSON
    if kind.startswith(ARROW) and JSON not in accept:
        table = as_table(scorer, said, at, None, np.array(versions)).drop_columns(["wrong"])
        table = table.replace_schema_metadata({"id": name})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        return sink.getvalue().to_pybytes(), ARROW
    document = {
        "id": name,
        "problem": scorer.problem,
        "model_version": versions[0],
        "scored_at": at,
        "predictions": logged["predictions"],
    }
    if len(set(versions)) > 1:
        document["model_versions"] = versions
    if logged["probabilities"] is not None:
        names = [str(c) for c in scorer.classes]
        shares = [dict(zip(names, s, strict=True)) for s in logged["probabilities"]]
        document["probabilities"] = shares
    return document, JSON


def _logged(scorer: Scorer, asked: Asked, said: Said, name: str, now: float) -> dict[str, Any]:
    """It returns the line for the log, with predictions and probabilities as JSON has them."""
    return {
        "id": name,
        "at": now,
        "version": scorer.version,
        "inputs": asked.digests(),
        "keys": asked.keys,
        "predictions": plain(said.values),
        "classes": list(scorer.classes),
        "probabilities": said.probabilities.tolist() if said.probabilities is not None else None,
    }


def _kept(scorer: Scorer, asked: Asked, name: str, now: float) -> bytes:
    """It returns the line of a request's features, column by column; dates are nanoseconds."""
    columns = {}
    for column in scorer.columns:
        values = asked.columns[column]
        values = values.astype("int64") if values.dtype.kind == "M" else values
        columns[column] = values.tolist()
    line = {"id": name, "at": now, "version": scorer.version, "columns": columns}
    return json.dumps(line).encode() + b"\n"


def refused(error: RequestRefused) -> Response:
    """It returns the answer to a request that is refused."""
    told = {"error": {"code": error.code, "message": str(error), "where": error.where}}
    more = {401: {"www-authenticate": "Bearer"}, 413: {"connection": "close"}}
    more[503] = {"retry-after": "1"}
    return Response(json.dumps(told), error.status, more.get(error.status), JSON)


def application(
    served: ServedChampion,
    log: PredictionLog,
    token: str | None = None,
    limits: Limits = Limits(),
    inputs: PredictionLog | None = None,
) -> FastAPI:
    """It returns the web application of a served champion.

    Args:
        served: who answers.
        log: where answers go first.
        token: what a request must bear; None for no token.
        limits: what a request may cost.
        inputs: where features go, with nobody waiting for it; None to keep none.
    """
    pool, metrics = ThreadPoolExecutor(THREADS, "predict"), Metrics()

    logs = [log] if inputs is None else [log, inputs]
    app = FastAPI(
        lifespan=lambda _: _life(served, pool, logs),
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    _add_looks(app, served, metrics, token)

    async def scored(request: Request, mlflow: bool) -> Response:
        scorer = served.scorer
        kind, accept = (request.headers.get(h, "") for h in ("content-type", "accept"))
        how = kind, accept, mlflow, inputs is not None, served.canary
        made = await _within(request, pool, metrics, limits, scorer, how)
        try:
            await asyncio.wrap_future(log.append(made.line))
        except OSError as error:
            _log.error("the prediction log cannot be written: %s", error)
            told = "The prediction log cannot be written, and nothing is answered without it."
            raise refusal(503, "not_logged", told) from None
        if inputs is not None:
            inputs.append(made.inputs)  # an answer does not wait for it
        metrics.rows.update(made.versions)
        metrics.unseen.update(made.unseen)
        return Response(made.body, 200, {"x-model-version": shown(made.versions)}, made.kind)

    async def predict(request: Request) -> Response:
        return await scored(request, mlflow=False)

    async def invocations(request: Request) -> Response:
        return await scored(request, mlflow=True)

    # plain routes: nothing is to be injected, and that machinery costs as much as the answer
    app.add_route("/predict", predict, methods=["POST"])
    app.add_route("/invocations", invocations, methods=["POST"])
    _add_refusals(app)
    app.add_middleware(_Counted, metrics=metrics, token=token)
    return app


@contextlib.asynccontextmanager
async def _life(
    served: ServedChampion, pool: ThreadPoolExecutor, logs: list[PredictionLog]
) -> AsyncIterator[None]:
    watching = asyncio.create_task(_watch(served))
    try:
        yield
    finally:
        watching.cancel()
        pool.shutdown(wait=False, cancel_futures=True)
        for log in logs:
            await asyncio.to_thread(log.close)


async def _watch(served: ServedChampion) -> None:
    while True:
        await asyncio.sleep(LOOKS_EVERY)
        await asyncio.to_thread(served.look)


async def _within(
    request: Request,
    pool: ThreadPoolExecutor,
    metrics: Metrics,
    limits: Limits,
    scorer: Scorer,
    how: tuple[str, str, bool, bool, Sharing | None],
) -> Answer:
    """It reads the body and computes the answer, within the limits.

    Raises:
        RequestRefused: it is too large, too slow, or one too many.
    """
    if metrics.under_way > MOST_WAITING:
        raise refusal(503, "busy", "Too many requests are under way. Come again.")
    kind, accept, mlflow, keep, canary = how
    until = asyncio.get_running_loop().time() + limits.seconds
    try:
        async with asyncio.timeout_at(until):
            body = await _body(request, limits.most_bytes)
    except TimeoutError:
        told = f"The body did not come within {limits.seconds:g} s."
        raise refusal(408, "body_too_slow", told) from None
    body = unpacked(body, request.headers.get("content-encoding", ""), limits.most_bytes)
    asked = (scorer, kind, accept, body, mlflow, limits.most_bytes, keep, canary)
    quick = at_once(*asked)
    if quick is not None:
        return quick
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout_at(until):
            return await loop.run_in_executor(pool, answer, *asked)
    except TimeoutError:
        told = f"It was not answered within {limits.seconds:g} s. Send fewer rows at once."
        raise refusal(504, "too_slow", told) from None


async def _body(request: Request, most: int) -> bytes:
    told = too_large(most)
    given = request.headers.get("content-length", "")
    if given.isdigit() and int(given) > most:
        raise told
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise told
        parts.append(part)
    return b"".join(parts)


def _add_looks(app: FastAPI, served: ServedChampion, metrics: Metrics, token: str | None) -> None:
    """It adds what is looked at: health, readiness, metrics, description."""

    @app.get("/health")
    @app.get("/ping")
    async def health() -> Response:
        return Response('{"status": "ok"}', media_type=JSON)

    @app.get("/ready")
    async def ready(request: Request) -> Response:
        # whoever answers is verified, or there were no server: a stale one is better than none
        told: dict[str, Any] = {"ready": True, "stale": bool(served.trouble)}
        if bears(request.headers.get("authorization"), token):
            told |= {
                "problem": served.problem.name,
                "model_version": served.scorer.version,
                "digest": served.scorer.digest,
                "champion": served.champion,
                "canary": served.canary and served.canary.scorer.version,
                "canary_trouble": served.canary_trouble or None,
                "trouble": served.trouble or None,
                "one_row_by": str(served.scorer.shortcut),
            }
        return Response(json.dumps(told), media_type=JSON)

    @app.get("/metrics")
    async def told() -> Response:
        return Response(metrics.text(served), media_type="text/plain; version=0.0.4")

    @app.get("/openapi.json")
    async def description() -> Response:
        return Response(json.dumps(described(served.scorer)), media_type=JSON)


def _add_refusals(app: FastAPI) -> None:
    """It makes every refusal JSON, and none of them a traceback."""

    @app.exception_handler(RequestRefused)
    async def of_ours(_: Request, error: RequestRefused) -> Response:
        return refused(error)

    @app.exception_handler(HTTPException)
    async def of_the_web(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
        return refused(refusal(error.status_code, code, f"{error.detail}."))


def bears(given: str | None, token: str | None) -> bool:
    """It says whether an `Authorization` header bears the token, in the same time for any."""
    if token is None:
        return True
    scheme, _, said = (given or "").partition(" ")
    same = hmac.compare_digest(said.strip().encode(), token.encode())
    return same and scheme.lower() == "bearer"


class _Counted:
    """Around the application: asks for the token, counts, and answers when something broke."""

    def __init__(
        self, app: Callable[..., Awaitable[None]], metrics: Metrics, token: str | None
    ) -> None:
        self.app, self.metrics, self.token = app, metrics, token

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), [0]
        metrics, path = self.metrics, scope["path"]

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
            await send(message)

        metrics.under_way += 1
        try:
            given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            if path not in OPEN and not bears(given, self.token):
                told = refusal(401, "unauthorized", "A token is needed, and this is none.")
                await refused(told)(scope, receive, sending)
                return
            await self.app(scope, receive, sending)
        except Exception:
            _log.exception("a request to %s broke", path)
            if status[0]:
                raise
            told = refusal(500, "broken", "Something broke in the server; its log says what.")
            await refused(told)(scope, receive, sending)
        finally:
            metrics.under_way -= 1
            known = path if path in ("/predict", "/invocations", "/metrics", *OPEN) else "other"
            metrics.answered(known, status[0], time.perf_counter() - began)
