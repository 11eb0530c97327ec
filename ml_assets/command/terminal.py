"""What every command does: finds its problem, and answers.

With ``--json`` one JSON document goes to standard output and everything else to standard error.
Exit status: 0 done, 1 a gate or a run failed, 2 wrong usage or wrong input.
"""

import contextlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

from ml_assets.errors import MLAssetsError, did_you_mean
from ml_assets.resources.home import Home, find_home, find_root, problems_folder
from ml_assets.resources.instance import set_up

DONE, FAILED, WRONG = 0, 1, 2
PATIENCE = 2.0  # seconds of silence, then a person is told what goes on
_CLEAR = "\r\x1b[K"
# What stands before a second column: a few words, and at least two blanks.
_COLUMN = re.compile(r"^ *\S+( \S+){0,2} {2,}(?=\S)")


def coloured(stream: Any) -> bool | None:
    """It returns False where colours are unwanted (NO_COLOR), else None: click looks at the stream."""
    return False if os.environ.get("NO_COLOR") or not stream.isatty() else None


def say(text: str = "") -> None:
    """It writes a line for a person: to standard error, so that standard output stays data."""
    click.echo(text, err=True, color=coloured(sys.stderr))


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """It tells a person what goes on, once that has taken two seconds.

    On a terminal it counts the seconds and leaves no trace; elsewhere it is one line.
    """
    ended, terminal, shown = threading.Event(), sys.stderr.isatty(), threading.Event()

    def tell() -> None:
        began = time.monotonic()
        if ended.wait(PATIENCE):
            return
        shown.set()
        while True:
            seconds = f" ({time.monotonic() - began:.0f} s)" if terminal else ""
            click.echo(f"{_CLEAR if terminal else ''}{what} …{seconds}", err=True, nl=not terminal)
            if not terminal or ended.wait(1):
                return

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
        if terminal and shown.is_set():
            click.echo(_CLEAR, err=True, nl=False, color=True)


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
            yield _teller(terminal)
    finally:
        sys.stdout.flush()
        os.dup2(answers, sys.stdout.fileno())
        os.close(answers)


def _teller(terminal: Any) -> Callable[[str], None]:
    """It returns what writes lines of progress, cut to the width of a terminal.

    There a line that ends in `…` stands until the next one takes its place.
    """
    if not terminal.isatty():
        return lambda text: click.echo(text, file=terminal, color=False)
    width = shutil.get_terminal_size().columns
    begin = [""]

    def tell(text: str) -> None:
        cut = text if len(text) < width else text[: width - 2].rstrip() + "…"
        passing = text.endswith(" …")
        terminal.write(begin[0])  # no colour, and so not to be taken out with the colours
        click.echo(cut, file=terminal, nl=not passing, color=coloured(terminal))
        begin[0] = _CLEAR if passing else ""

    return tell


def fitted(text: str, width: int) -> str:
    """It breaks lines that are wider than a terminal.

    What follows a break stands below the second column where there is one, else further in.
    """
    return "\n".join(_broken(line, width) for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    if len(click.unstyle(line)) <= width:
        return line
    indent = len(line) - len(line.lstrip())
    column = _COLUMN.match(click.unstyle(line))
    further = len(column[0]) if column else indent + 4
    lines, length = [" " * indent], indent
    for word in line.strip().split(" "):
        long = len(click.unstyle(word))
        begun = length > (indent if len(lines) == 1 else further)
        if begun and length + 1 + long > width:
            lines, length, begun = [*lines, " " * further], further, False
        lines[-1] += (" " if begun else "") + word
        length += long + (1 if begun else 0)
    return "\n".join(lines)


def refuse(message: str, status: int = WRONG) -> NoReturn:
    """It ends with one message and a status: 2 for wrong usage or input, unless said otherwise."""
    text = click.style("error: ", fg="red", bold=True) + message
    say(fitted(text, shutil.get_terminal_size().columns) if sys.stderr.isatty() else text)
    sys.exit(status)


def answer(as_json: bool, document: Any, text: str) -> None:
    """It writes the answer: a JSON document, or a text; on a terminal it fits its width."""
    if as_json:
        text = json.dumps(document, indent=2, default=str)
    elif sys.stdout.isatty():
        text = fitted(text, shutil.get_terminal_size().columns)
    click.echo(text, color=coloured(sys.stdout))


json_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output."
)


def problem_names(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """It returns the names of problems for a shell to complete: folders, nothing is loaded."""
    folder = problems_folder(find_root())
    return sorted(f.parent.name for f in folder.glob(f"{begun}*/defs.yaml"))


# The problem that a command is about, completed by a shell.
name_argument = click.argument("name", shell_complete=problem_names)


def open_home() -> Home:
    """It returns where state lives, ready for Dagster."""
    home = find_home()
    set_up(home.dagster)
    os.environ.setdefault("DAGSTER_HOME", str(home.dagster))
    return home


def open_instance(home: Home) -> Any:
    """It returns the Dagster instance that the UI shows."""
    from dagster import DagsterInstance

    from ml_assets.event_log import keep_open

    return keep_open(DagsterInstance.from_config(str(home.dagster)))


def load() -> tuple[dict[str, Any], Any]:
    """It returns the problems and the code location; a wrong declaration ends the command."""
    with working("Loading the problems"):
        from ml_assets.definitions import build, problems_of, tree

        try:
            components = tree()
            return problems_of(components), build(components)
        except Exception as error:
            trouble = declaration_trouble(error)
    refuse(trouble)


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
