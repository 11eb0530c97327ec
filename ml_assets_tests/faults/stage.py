"""A stage: a process that has imported everything, and forks for each command that it is told of.

What it does is what `ml-assets` does, to the exit status; the import is paid once.  A fork may be
prepared before: its limits, its end at some place, what it finds when it calls something.

One JSON document in a line each way: {root, words, environment, prepare: [[name, arguments…]]} →
{pid}, and, when it has ended, {status, told}.
"""

import contextlib
import functools
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any


def patched(place: str, made: Any) -> None:
    """It puts something in the place of a function, as `module:name` or `module:Class.name`."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, made(getattr(owner, name)))


def dies(place: str, when: str) -> None:
    """It will be killed with signal 9 before or after a function is called."""

    def made(called: Any) -> Any:
        @functools.wraps(called)
        def dying(*args: Any, **given: Any) -> Any:
            if when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            called(*args, **given)
            os.kill(os.getpid(), signal.SIGKILL)

        return dying

    patched(place, made)


def signalled(place: str, number: int) -> None:
    """It gets a signal while a function is at work."""

    def made(called: Any) -> Any:
        @functools.wraps(called)
        def interrupted(*args: Any, **given: Any) -> Any:
            threading.Timer(0.2, os.kill, (os.getpid(), number)).start()
            time.sleep(0.6)
            return called(*args, **given)

        return interrupted

    patched(place, made)


def meddled(place: str, path: str, how: str) -> None:
    """Somebody changes a file right before a function is called."""
    from ml_assets_tests.faults.injections import meddle

    def made(called: Any) -> Any:
        @functools.wraps(called)
        def after(*args: Any, **given: Any) -> Any:
            meddle(Path(path), how)
            return called(*args, **given)

        return after

    patched(place, made)


def hurried() -> None:
    """It tries again at once: what is tried, and how often, stays."""
    import dagster as dg

    from ml_assets.components.ml_problem import step

    step._POLICY = dg.RetryPolicy(max_retries=step.MOST_RETRIES, delay=0.1)


def limited(what: str, most: int) -> None:
    """It has no more than so much of something, beside what it has already."""
    number = getattr(resource, f"RLIMIT_{what}")
    if what == "AS":
        most += int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(number, (most, most))


def _imported() -> None:
    import skops.io  # noqa: F401

    from ml_assets import running, standing  # noqa: F401


def _learn(listed: Path) -> None:
    """It imports what a command had to import, so that the next one need not."""
    for name in listed.read_text().splitlines() if listed.exists() else []:
        if name not in sys.modules and not name.startswith(("ml_assets_problems", "__")):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _begun(order: dict[str, Any], log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    status = 70
    try:
        with open(log, "wb") as told:
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
        os.chdir(order["root"])
        os.environ.update(order["environment"])
        for name, *given in order["prepare"]:
            globals()[name](*given)
        if order["words"][0] == "laws":
            from ml_assets_tests.faults.laws import broken

            sys.stdout.write(json.dumps(broken(Path(order["root"]), order["words"][1])) + "\n")
            sys.stdout.flush()
            status = 0
        else:
            from ml_assets.command import main

            known = set(sys.modules)
            listed = log.with_suffix(".modules")
            try:
                main(order["words"])
            finally:
                listed.write_text("\n".join(m for m in sys.modules if m not in known))
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """It does what it is told, line by line."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    _imported()
    answers.write('{"ready": true}\n')
    running: dict[int, Path] = {}
    for number, line in enumerate(sys.stdin):
        order = json.loads(line)
        if "wait" in order:
            pid = order["wait"]
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            log = running.pop(pid)
            told = log.read_text(errors="replace")
            if status == 0:
                _learn(log.with_suffix(".modules"))
            answers.write(json.dumps({"status": status, "told": told}) + "\n")
            continue
        log = Path(order["log"]) / f"{number}.log"
        pid = _begun(order, log)
        running[pid] = log
        answers.write(json.dumps({"pid": pid}) + "\n")


class Stage:
    """The process, as tests talk to it."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ml_assets_tests.faults.stage"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._answer() == {"ready": True}

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the stage is gone"
        return json.loads(line)

    def _tell(self, **order: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def begin(self, root: Path, *words: str, prepare: Any = (), **environment: str) -> int:
        """It begins a command and returns its process."""
        order = {"root": str(root), "words": words, "environment": environment}
        return self._tell(**order, prepare=list(prepare), log=str(self.logs))["pid"]

    def end(self, pid: int) -> tuple[int, str]:
        """It waits for a command, and returns its exit status and what it told."""
        answer = self._tell(wait=pid)
        return answer["status"], answer["told"]

    def run(self, root: Path, *words: str, prepare: Any = (), **env: str) -> tuple[int, str]:
        """It does a command to its end."""
        return self.end(self.begin(root, *words, prepare=prepare, **env))

    def broken(self, root: Path, problem: str = "demo", **environment: str) -> list[str]:
        """It returns the laws that a home breaks, as a process sees it that knows nothing else."""
        status, told = self.run(root, "laws", problem, **environment)
        assert status == 0, told
        return json.loads(told.splitlines()[-1])

    def close(self) -> None:
        """It ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)


if __name__ == "__main__":
    main()
