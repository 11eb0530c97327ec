"""Faults that need more than one process of the stage: clocks, two deployments, a server between."""

import contextlib
import http.server
import os
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml_assets_tests import servers
from ml_assets_tests.e2e.served import clean_environment
from ml_assets_tests.faults.injections import AWAY, CLOCKS, TWO, Fault
from ml_assets_tests.faults.scene import Scene, scene

__all__ = ["scene"]
pytestmark = [pytest.mark.slow, pytest.mark.faults]


@pytest.mark.parametrize("fault", CLOCKS, ids=lambda f: f.name.replace(" ", "_"))
def test_a_clock_that_is_wrong(scene: Scene, fault: Fault) -> None:
    """The run's process sees another time than the ones before and after it."""
    found = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    assert found, "libfaketime is not here. Debian: apt-get install faketime."
    scene.put_back()
    ((_, shift),) = fault.prepare
    environment = clean_environment(LD_PRELOAD=str(found[0]), FAKETIME=shift)
    words = [str(Path(sys.executable).parent / "ml-assets"), "run", "demo"]
    done = subprocess.run(words, cwd=scene.root, env=environment, capture_output=True, text=True)
    assert done.returncode in fault.ends, done.stdout + done.stderr
    assert scene.stage.broken(scene.root) == []
    scene.recovers(fault.same)


@pytest.mark.parametrize("fault", TWO, ids=lambda f: f.name.replace(" ", "_"))
def test_two_deployments_on_one_store(scene: Scene, fault: Fault) -> None:
    """Two runs begin at the same moment: one promotes, the other waits for its turn and holds."""
    scene.put_back()
    first = scene.stage.begin(scene.root, "run", "demo", prepare=fault.prepare)
    second = scene.stage.begin(scene.root, "run", "demo")
    assert scene.stage.end(first)[0] in fault.ends
    status, told = scene.stage.end(second)
    assert status == 0, told
    assert scene.stage.broken(scene.root) == []
    assert scene.serves() == scene.twin
    scene.recovers()


class _Between(http.server.BaseHTTPRequestHandler):
    """What stands between a run and MLflow, and lets it through until it is told not to."""

    server: "_Proxy"
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.how and self.server.at in self.path:
            self.server.met += 1
            if self.server.how == "500":
                self.send_error(500)
            self.close_connection = True
            return
        kept = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
        request = urllib.request.Request(
            self.server.behind + self.path, body or None, kept, method=self.command
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, said, told = answer.status, answer.read(), answer.headers
        except urllib.error.HTTPError as error:
            status, said, told = error.code, error.read(), error.headers
        self.send_response(status)
        self.send_header("content-type", told.get("content-type", "application/json"))
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass


class _Proxy(http.server.ThreadingHTTPServer):
    behind, how, at, met = "", "", "", 0


@contextlib.contextmanager
def _between(behind: str) -> Iterator[_Proxy]:
    with _Proxy(("127.0.0.1", 0), _Between) as proxy:
        proxy.behind = behind
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    database = f"sqlite:///{folder / 'mlflow.db'}"
    with servers.mlflow_server(database, (folder / "artifacts").as_uri()) as url:
        yield url


@pytest.mark.parametrize("fault", AWAY, ids=lambda f: f.name.replace(" ", "_"))
def test_mlflow_is_away(scene: Scene, mlflow: str, fault: Fault, tmp_path: Path) -> None:
    """The twin is the run after it, on the same server, when it answers again."""
    name, (((how, at),)) = f"demo_{AWAY.index(fault)}", fault.prepare
    scene.put_back()
    root = scene.root
    defs = root / "ml_assets" / "defs"
    (defs / "demo").rename(defs / name)
    declared = defs / name / "defs.yaml"
    declared.write_text(declared.read_text().replace("name: demo", f"name: {name}"))
    with _between(mlflow) as proxy:
        told = {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{proxy.server_port}",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        }
        proxy.how, proxy.at = how, at
        status, said = scene.stage.run(root, "run", name, prepare=[["hurried"]], **told)
        assert proxy.met > 0
        assert status in fault.ends, said[-3000:]
        assert "Traceback" not in said
        proxy.how = ""
        os.environ.update(told)
        try:
            assert scene.stage.broken(root, name, **told) == []
            status, said = scene.stage.run(root, "run", name, **told)
            assert status == 0, said[-3000:]
            assert scene.stage.broken(root, name, **told) == []
            assert scene.serves(name)["promotions"] == 1
        finally:
            for key in told:
                os.environ.pop(key)
