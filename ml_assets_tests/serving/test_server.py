"""The server as a process: where it listens, how it ends, and what a kill cannot take."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ml_assets.errors import DeclarationError
from ml_assets.resources.prediction_log import read_predictions
from ml_assets.round import rollback
from ml_assets.serving.server import is_loopback, listen, token_of
from ml_assets_tests.e2e.served import CHECKOUT, wait_for
from ml_assets_tests.problems import quickly
from ml_assets_tests.test_command import YAML, Desk, _desk

ROW = {"a": 0.5, "b": -1.0}


# ------------------------------------------------------------------------------- before it listens


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_token(host: str):
    assert is_loopback(host)
    assert token_of(host, None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_any_other_address_needs_one(host: str, monkeypatch: pytest.MonkeyPatch):
    """Seen to fail when every address beginning with 127 counted as loopback: 127.example.org."""
    assert not is_loopback(host)
    with pytest.raises(DeclarationError, match="--token-env"):
        token_of(host, None)
    for empty in ("", "  "):
        monkeypatch.setenv("DEMO_TOKEN", empty)
        with pytest.raises(DeclarationError, match="DEMO_TOKEN"):
            token_of(host, "DEMO_TOKEN")
    monkeypatch.setenv("DEMO_TOKEN", "secret")
    assert token_of(host, "DEMO_TOKEN") == "secret"
    assert not is_loopback("127.example.org")


def test_a_port_that_is_taken_is_refused():
    with listen("127.0.0.1", 0) as one:
        with pytest.raises(DeclarationError, match="Address already in use"):
            listen("127.0.0.1", one.getsockname()[1])
        with pytest.raises(DeclarationError, match="Nobody can listen"):
            listen("192.0.2.1", 0)


# ---------------------------------------------------------------------------------- while it serves


@dataclass
class Server:
    """A server, as a process."""

    process: "subprocess.Popen[str]"
    port: int
    version: int

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        with socket_to(self.port) as connection:
            return asked(connection, path, body, **headers)


@contextmanager
def socket_to(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def asked(
    connection: http.client.HTTPConnection, path: str, body: Any = None, **headers: str
) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body)
    headers = {"content-type": "application/json", **headers}
    connection.request("POST" if data else "GET", path, data, headers)
    answer = connection.getresponse()
    text = answer.read()
    return answer.status, json.loads(text) if text[:1] in (b"{", b"[") else text.decode()


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A desk whose champion was version 1 and is version 2."""
    with quickly() as patch:
        made = _desk(tmp_path_factory.mktemp("desk"), patch)
        made.declare(YAML.replace("    linear: {}\n", ""))
        assert made.type("run", "demo").status == 0
        made.declare(YAML)
        assert made.type("run", "demo").status == 0
        yield made


@contextmanager
def serving(desk: Desk, *words: str, **more: str) -> Iterator[Server]:
    """It starts `ml-assets serve demo --json`, waits until it serves, and ends it."""
    command = [sys.executable, "-m", "ml_assets.command", "serve", "demo", "--port", "0", "--json"]
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT), **more}
    with open(desk.root / "served.err", "w") as errors:
        process = subprocess.Popen(
            [*command, *words],
            cwd=desk.root,
            env=env,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (desk.root / "served.err").read_text()
        told = json.loads(line)
        server = Server(process, int(told["address"].rsplit(":", 1)[1]), told["version"])
        wait_for("the server", lambda: server.ask("/health")[0] == 200, 30)
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=30)


def stored_models(desk: Desk) -> list[Path]:
    """It returns the model files of versions 1 and 2."""
    folder = desk.root / ".ml_assets" / "mlflow" / "artifacts"
    return sorted(folder.rglob("model.skops"), key=lambda f: f.stat().st_mtime)


def log_of(desk: Desk) -> Any:
    return read_predictions(desk.root / ".ml_assets" / "lake", "demo")


@dataclass
class Clients:
    """Threads that ask one row after another on connections of their own, and what they heard."""

    port: int
    answered: list[tuple[str, int]] = field(default_factory=list)
    failed: list[Any] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self, who: int) -> None:
        with socket_to(self.port) as connection:
            while not self.stopping.is_set():
                try:
                    status, told = asked(connection, "/predict", {"rows": [{**ROW, "id": who}]})
                except (OSError, http.client.HTTPException) as error:
                    self.failed.append(error)
                    return
                if status != 200:
                    self.failed.append(told)
                    return
                self.answered.append((told["id"], told["model_version"]))
                time.sleep(0.01)

    @contextmanager
    def at_work(self, count: int) -> Iterator["Clients"]:
        threads = [threading.Thread(target=self.run, args=(i,)) for i in range(count)]
        [t.start() for t in threads]
        try:
            yield self
        finally:
            self.stopping.set()
            [t.join(60) for t in threads]


@pytest.mark.slow
def test_the_champion_moves_under_load_and_nobody_notices(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    """Thirty-two clients; the champion moves, and moves back to files that were tampered with."""
    before, stored = len(log_of(desk)), stored_models(desk)
    whole = stored[1].read_bytes()
    # the command would see the tampering: here the server has to
    monkeypatch.setattr(rollback, "in_clean_process", lambda *_: {})
    with serving(desk) as server, Clients(server.port).at_work(32) as clients:

        def ready(name: str) -> Any:
            return server.ask("/ready")[1][name]

        assert server.version == 2
        assert desk.type("rollback", "demo", "--to", "1", "--why", "a test").status == 0
        wait_for("version 1", lambda: ready("model_version") == 1, 20)
        stored[1].write_bytes(stored[0].read_bytes())
        assert desk.type("rollback", "demo", "--to", "2", "--why", "back").status == 0
        wait_for("the refusal", lambda: ready("stale"), 20)
        assert (ready("model_version"), ready("champion")) == (1, 2)
        assert "not those that were recorded" in ready("trouble")
        assert 'ml_assets_stale{problem="demo"} 1' in server.ask("/metrics")[1]
        stored[1].write_bytes(whole)
        wait_for("version 2", lambda: ready("model_version") == 2, 30)
        assert not ready("stale")
    assert clients.failed == []
    logged = log_of(desk)
    assert {v for _, v in clients.answered} == {1, 2}
    assert len(clients.answered) == len(logged) - before
    assert {f"{name}-0" for name, _ in clients.answered} <= set(logged["id"])


@pytest.mark.slow
def test_what_was_answered_is_in_the_log_after_a_kill(desk: Desk):
    """Seen to fail when the answer went out before its line was written."""
    with serving(desk) as server, Clients(server.port).at_work(16) as clients:
        wait_for("some answers", lambda: len(clients.answered) > 200, 30)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)

    names = log_of(desk)["id"]
    assert names.is_unique
    assert {f"{name}-0" for name, _ in clients.answered} <= set(names)


@pytest.mark.slow
def test_whoever_ends_it_lets_the_requests_under_way_be_answered(desk: Desk):
    body = json.dumps({"rows": [ROW] * 100}).encode()
    with serving(desk) as server, socket_to(server.port) as connection:
        connection.putrequest("POST", "/predict")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body[:100])
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        connection.send(body[100:])
        answer = connection.getresponse()
        told = json.loads(answer.read())
        assert (answer.status, len(told["predictions"])) == (200, 100)
        assert server.process.wait(30) == 0

    assert f"{told['id']}-99" in set(log_of(desk)["id"])
    assert (desk.root / "served.err").read_text() == ""


@pytest.mark.slow
def test_a_server_for_others_asks_for_the_token(desk: Desk):
    words = ("--host", "0.0.0.0", "--token-env", "DEMO_TOKEN")
    with serving(desk, *words, DEMO_TOKEN="very secret") as server:
        asked_for = {"rows": [ROW]}
        assert server.ask("/predict", asked_for)[0] == 401
        assert server.ask("/predict", asked_for, authorization="Bearer other")[0] == 401
        assert server.ask("/predict", asked_for, authorization="Bearer very secret")[0] == 200
        environment = Path(f"/proc/{server.process.pid}/cmdline").read_text()
    assert "very secret" not in environment
    assert "very secret" not in (desk.root / "served.err").read_text()


def test_wrong_usage_is_refused_before_anything_is_loaded(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DEMO_TOKEN", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    assert desk.type("serve", "demo", "--host", "0.0.0.0").refused("--token-env")
    assert desk.type("serve", "demo", "--token-env", "DEMO_TOKEN").refused("DEMO_TOKEN")
    assert desk.type("serve", "dmo").refused("Did you mean `demo`?")
    with listen("127.0.0.1", 0) as one:
        port = str(one.getsockname()[1])
        assert desk.type("serve", "demo", "--port", port).refused("--port")


def test_without_a_verified_champion_nothing_is_served(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    version = desk.type("status", "demo", "--json").document["champion"]["version"]
    file = stored_models(desk)[version - 1].with_name("golden.json")
    whole = file.read_bytes()
    try:
        file.write_bytes(whole + b" ")
        answer = desk.type("serve", "demo", "--port", "0")
    finally:
        file.write_bytes(whole)
    assert (answer.status, answer.out) == (1, "")
    assert "not those that were recorded" in answer.err

    monkeypatch.setenv("ML_ASSETS_HOME", str(desk.root / "another"))
    answer = desk.type("serve", "demo", "--port", "0")
    assert (answer.status, "ml-assets run demo" in answer.err) == (1, True)
