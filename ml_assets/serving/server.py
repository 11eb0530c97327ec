"""The server: a port, and the web application behind it, until somebody ends it."""

import contextlib
import ipaddress
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ml_assets.errors import DeclarationError, StoreAway
from ml_assets.problem import Problem
from ml_assets.resources.lake import Lake
from ml_assets.resources.prediction_log import (
    ANSWERS,
    INPUTS,
    PredictionLog,
    folder_of,
    inputs_folder_of,
)
from ml_assets.resources.stores import Stores
from ml_assets.serving.champion import ServedChampion

GRACE_SECONDS = 30  # what is under way may take so long after somebody ended the server
KEPT_ALIVE_SECONDS = 75
DAY = 86400.0  # seconds
SENT_DAYS = 2
SENT_EVERY = 60.0  # seconds: what is logged goes to an object store, where the lake is one


def token_of(host: str, variable: str | None) -> str | None:
    """It returns the token that requests must bear; None on loopback, where none was asked for.

    Args:
        host: the address that is listened on.
        variable: the environment variable that holds the token.

    Raises:
        DeclarationError: a token is needed, or was asked for, and is not there.
    """
    if variable is None:
        if is_loopback(host):
            return None
        raise DeclarationError(
            f"{host} can be reached from other machines: a token is needed there. Put one into an "
            "environment variable and name it: `--token-env VARIABLE`."
        )
    token = os.environ.get(variable, "").strip()
    if not token:
        raise DeclarationError(f"The environment variable {variable} (--token-env) is not set.")
    return token


def is_loopback(host: str) -> bool:
    """It says whether an address is reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """It returns a socket that listens.

    Raises:
        DeclarationError: nobody can listen there.
    """
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(kind)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
        opened.listen(2048)
    except OSError as error:
        opened.close()
        raise DeclarationError(
            f"Nobody can listen at {host}:{port}: {error.strerror or error}. Name another `--port`."
        ) from None
    return opened


def serve(
    problem: Problem,
    stores: Stores,
    where: socket.socket,
    token: str | None,
    limits: dict[str, Any],
    say: Callable[[dict[str, Any]], None],
    log_days: int | None = None,
) -> None:
    """It serves the champion until somebody ends the process; what is under way is answered.

    Args:
        problem: the problem.
        stores: where ledger, registry and lake are.
        where: a socket that listens.
        token: what requests must bear, or None.
        limits: what a request may cost, as `application.Limits` has it.
        say: takes what is served, and where, once it is.
        log_days: how long files of the prediction log are kept; None for ever.

    Raises:
        NotMaterialized: there is no champion.
        ModelRefused: it is not what the ledger recorded.
    """
    import uvicorn

    from ml_assets.serving.application import Limits, application

    served = ServedChampion.load(problem, stores)
    lake, seconds = stores.lake, stores.lake.segment_seconds or DAY
    log = PredictionLog(folder_of(lake.root, problem.name), seconds, log_days)
    inputs = None
    if problem.monitoring is not None and problem.monitoring.inputs:
        inputs = PredictionLog(inputs_folder_of(lake.root, problem.name), seconds)
    logging.getLogger("ml_assets.serving").addHandler(logging.StreamHandler())
    app = application(served, log, token, Limits(**limits), inputs)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEPT_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    host, port = where.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    scorer = served.scorer
    say(
        {
            "problem": problem.name,
            "version": scorer.version,
            "address": f"http://{shown}:{port}",
            "one_row_by": str(scorer.shortcut),
        }
    )
    # Uvicorn ends in good order and then raises the signal again: that is no failure.
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, lambda *_: None)
    with _sent(lake, problem.name, log_days):
        uvicorn.Server(config).run(sockets=[where])


@contextlib.contextmanager
def _sent(lake: Lake, problem: str, log_days: int | None) -> Iterator[None]:
    """It sends what is logged to where other machines look, now and then, and what is left at the end.

    Answers do not wait for that: they are on this machine's disk before they go out.
    """
    if lake.segment_seconds is None:
        yield
        return

    def send() -> None:
        now = time.time()
        try:
            for name in (ANSWERS, INPUTS):  # also of a process that died; what is older was removed
                lake.send_logged(problem, name, now - SENT_DAYS * DAY)
            if log_days is not None:
                lake.forget(problem, ANSWERS, now - max(log_days, SENT_DAYS) * DAY)
        except StoreAway as error:  # they are sent the next time
            logging.getLogger("ml_assets.serving").warning("%s", error)

    def sending() -> None:
        while not ended.wait(SENT_EVERY):
            send()

    ended = threading.Event()
    thread = threading.Thread(target=sending, name="sends the prediction log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        send()
