"""What every command does: finds its problem, and answers.

With ``--json`` one JSON document goes to standard output and everything else to standard error.
Exit status: 0 done, 1 a gate or a run failed, 2 wrong usage or wrong input.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from ml_assets.errors import MLAssetsError, did_you_mean
from ml_assets.resources.home import Home, find_home, find_root, problems_folder

DONE, FAILED, WRONG = 0, 1, 2


def say(text: str = "") -> None:
    """It writes a line for a person: to standard error, so that standard output stays data."""
    click.echo(text, err=True)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """It gives a `say` for the time of a run, and keeps standard output clean meanwhile.

    Dagster redirects a step's output into its logs, and brings it back by another process, late
    and not always to the last line; and what a team's own code prints is no part of the answer.
    """
    sys.stdout.flush()
    try:
        own, answers = os.dup(sys.stderr.fileno()), os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # they are no files, as in tests
        yield say
        return
    os.dup2(own, sys.stdout.fileno())
    try:
        with open(own, "w", buffering=1, encoding="utf-8", errors="replace") as terminal:
            yield lambda text: click.echo(text, file=terminal, color=sys.stderr.isatty())
    finally:
        sys.stdout.flush()
        os.dup2(answers, sys.stdout.fileno())
        os.close(answers)


def refuse(message: str, status: int = WRONG) -> NoReturn:
    """It ends with one message and a status: 2 for wrong usage or input, unless said otherwise."""
    say(click.style("error: ", fg="red", bold=True) + message)
    sys.exit(status)


def answer(as_json: bool, document: Any, text: str) -> None:
    """It writes the answer: a JSON document, or a text."""
    click.echo(json.dumps(document, indent=2, default=str) if as_json else text)


json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output."
)


def open_home() -> Home:
    """It returns where state lives, ready for Dagster."""
    home = find_home()
    home.dagster.mkdir(parents=True, exist_ok=True)
    settings = home.dagster / "dagster.yaml"
    if not settings.exists():
        settings.write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    os.environ.setdefault("DAGSTER_HOME", str(home.dagster))
    return home


def open_instance(home: Home) -> Any:
    """It returns the Dagster instance that the UI shows."""
    from dagster import DagsterInstance

    from ml_assets.event_log import keep_open

    return keep_open(DagsterInstance.from_config(str(home.dagster)))


def load() -> tuple[dict[str, Any], Any]:
    """It returns the problems and the code location; a wrong declaration ends the command."""
    from ml_assets.definitions import build, problems_of, tree

    try:
        components = tree()
        return problems_of(components), build(components)
    except Exception as error:
        refuse(declaration_trouble(error))


def declaration_trouble(error: BaseException) -> str:
    """It returns the message of the innermost cause, with file and line where there are."""
    from pydantic import ValidationError

    found: list[str] = []
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ValidationError):
            found = [
                f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}"
                for e in seen.errors()
            ]
        elif isinstance(seen, MLAssetsError):
            found = [str(seen)]
        last, seen = seen, seen.__cause__
    if not found:
        found = [f"{type(last).__name__}: {last}"]
    return "a declaration cannot be loaded\n" + "\n".join(f"  {line}" for line in found)


def find_problem(problems: dict[str, Any], name: str) -> Any:
    """It returns a problem by name; an unknown one ends the command."""
    if name not in problems:
        folder = problems_folder(find_root())
        hint = did_you_mean(name, problems) if problems else " There is none yet: `ml-assets new`."
        refuse(f"no problem `{name}` in {folder}.{hint}")
    return problems[name]
