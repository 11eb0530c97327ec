"""The command line: a thin face over Dagster.

What it starts is an ordinary Dagster run on the instance that the UI shows.  With ``--json`` one
JSON document goes to standard output and everything else to standard error.  Exit status: 0 done,
1 a gate or a run failed, 2 wrong usage or wrong input.
"""

import contextlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

import ml_assets
from ml_assets.errors import MLAssetsError, ModelRefused, did_you_mean, shortened
from ml_assets.resources.home import Home, find_home, find_root, problems_folder

DONE, FAILED, WRONG = 0, 1, 2
UI_PORT, MLFLOW_PORT = 3000, 5000


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


_json = click.option(
    "--json", "as_json", is_flag=True, help="One JSON document on standard output."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90})
@click.version_option(ml_assets.__version__, prog_name="ml-assets")
def main() -> None:
    """Supervised learning on tables, from a data file to a guarded production model.

    \b
    ml-assets new churn --data churn.csv --target Churn
    ml-assets run churn
    ml-assets ui
    """
    warnings.filterwarnings("ignore")
    # Threads that wait by spinning take the cores from those that work, as soon as two processes
    # share a machine: ten times slower fits were measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


# ------------------------------------------------------------------------ new


@main.command()
@click.argument("name")
@click.option(
    "--data",
    required=True,
    metavar="PATH",
    help="A csv, csv.gz or parquet file; or where such files arrive: a glob, a folder, a URL.",
)
@click.option("--target", required=True, help="The column to be predicted.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of problems. Default: ML_ASSETS_DEFS.",
)
@click.option(
    "--names",
    "--columns",
    "names",
    help="Column names, comma-separated, for a csv without a header.",
)
@click.option(
    "--task",
    type=click.Choice(["binary", "multiclass", "regression"]),
    help="Default: inferred from the target.",
)
@click.option("--time", metavar="COLUMN", help="Split by time: the past learns, the future judges.")
@click.option("--in-order", is_flag=True, help="Split by time: the rows are in its order.")
@click.option(
    "--bad-lines", default=0, metavar="N", help="Leave out at most N csv lines of another width."
)
@_json
def new(
    name: str,
    data: str,
    target: str,
    folder: Path | None,
    names: str | None,
    as_json: bool,
    **told: Any,
) -> None:
    """Declare a problem from its first data: writes defs/NAME/defs.yaml.

    It reads the data, infers task, contract, key and split, and says what it inferred and why.

    \b
    ml-assets new churn --data data/churn.csv --target Churn
    ml-assets new adult --data adult.csv --names age,job,income --target income
    ml-assets new bikes --data 'landing/bikes/*.csv' --target rides --time date
    """
    from pydantic import ValidationError

    from ml_assets.draft import Told, infer, render

    root = find_root()
    home = (folder.resolve() if folder else problems_folder(root)) / name
    file = home / "defs.yaml"
    if file.exists():
        refuse(f"{file} exists already. Edit it, or remove its folder to begin anew.")
    given = [n.strip() for n in names.split(",")] if names else None
    try:
        path, first = _first_file(data, root)
        draft = infer(name, first, path, target, Told(given, **told))
    except MLAssetsError as error:
        refuse(str(error))
    except ValidationError as error:
        refuse("; ".join(e["msg"] for e in error.errors()))
    home.mkdir(parents=True, exist_ok=True)
    file.write_text(render(draft))
    lines = [
        f"Wrote {file}",
        *(f"  {note}" for note in draft.notes),
        "",
        f"Next: ml-assets run {name}",
    ]
    document = {
        "problem": name,
        "file": str(file),
        "inferred": draft.attributes,
        "notes": draft.notes,
    }
    answer(as_json, document, "\n".join(lines))


def _first_file(data: str, root: Path) -> tuple[str, Path]:
    """It returns how a source is to be declared, and the first of its files.

    Raises:
        DatasetError: there is none.
    """
    from ml_assets.errors import DatasetError
    from ml_assets.landing import fetch, look
    from ml_assets.problem import DatasetDeclaration

    ending = "/" if data.endswith("/") or Path(data).is_dir() else ""
    path = data
    if "://" not in data:
        shown = Path(data).absolute().parent.resolve() / Path(data).name
        path = str(shown.relative_to(root) if shown.is_relative_to(root) else shown) + ending
    declared = DatasetDeclaration(path=path, target="target", settle=0)
    if not declared.is_landing and "://" not in path:
        return path, (root / path).resolve()
    found = look(root, declared, time.time()).arrived
    if not found:
        raise DatasetError(
            f"No csv, csv.gz or parquet file at {data} yet: put the first one there."
        )
    return path, fetch(found[0], find_home().path / "fetched")


# ------------------------------------------------------------------------ run


@main.command()
@click.argument("name")
@click.option(
    "--only",
    multiple=True,
    metavar="ASSET",
    help="Only these assets: dataset, split, candidate/NAME, candidate, evaluation, challenger, production_model.",
)
@_json
def run(name: str, only: tuple[str, ...], as_json: bool) -> None:
    """Bring a problem up to date and decide about production.

    Progress while it works; at the end the leaderboard, the gates, the decision, and where to look.

    \b
    ml-assets run churn
    ml-assets run churn --only candidate/ours --only evaluation
    """
    from ml_assets import report, running

    home = _home()
    problems, definitions = _load()
    problem = _problem(problems, name)
    instance = _instance(home)
    try:
        with progress() as tell:
            outcome = running.run(definitions, instance, problem, only, tell)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, outcome.document, "" if as_json else report.run_text(outcome.document))
    sys.exit(outcome.status)


def _home() -> Home:
    home = find_home()
    home.dagster.mkdir(parents=True, exist_ok=True)
    settings = home.dagster / "dagster.yaml"
    if not settings.exists():
        settings.write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    os.environ.setdefault("DAGSTER_HOME", str(home.dagster))
    return home


def _instance(home: Home) -> Any:
    from dagster import DagsterInstance

    return DagsterInstance.from_config(str(home.dagster))


def _load() -> tuple[dict[str, Any], Any]:
    """It returns the problems and the code location; a wrong declaration ends the command."""
    from ml_assets.definitions import build, problems_of, tree

    try:
        components = tree()
        return problems_of(components), build(components)
    except Exception as error:
        refuse(_declaration_trouble(error))


def _declaration_trouble(error: BaseException) -> str:
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


def _problem(problems: dict[str, Any], name: str) -> Any:
    if name not in problems:
        folder = problems_folder(find_root())
        hint = did_you_mean(name, problems) if problems else " There is none yet: `ml-assets new`."
        refuse(f"no problem `{name}` in {folder}.{hint}")
    return problems[name]


# --------------------------------------------------------------- status, check


@main.command()
@click.argument("name", required=False)
@_json
def status(name: str | None, as_json: bool) -> None:
    """Show the champion: version, metrics, dataset, freshness, last decision.

    \b
    ml-assets status
    ml-assets status churn --json
    """
    from ml_assets import report, running

    home = _home()
    problems, _ = _load()
    if name is not None:
        problems = {name: _problem(problems, name)}
    try:
        shown = [running.status(p, home) for p in problems.values()]
    except MLAssetsError as error:
        refuse(str(error))
    document = shown[0] if name is not None else {"problems": shown}
    answer(
        as_json, document, "\n\n".join(report.status_text(s) for s in shown) or "No problem yet."
    )


@main.command()
@click.argument("name")
@click.option("--at", metavar="TIME", help="As it was at a time, like 2026-12-31T18:00:00 (UTC).")
@_json
def history(name: str, at: str | None, as_json: bool) -> None:
    """Show what was decided, when, about which version, by whom and why.

    With --at: who was champion at that time.

    \b
    ml-assets history churn
    ml-assets history churn --at 2026-12-31T18:00:00
    """
    from ml_assets import report, running

    _home()
    problems, _ = _load()
    try:
        shown = running.history(_problem(problems, name), at)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, shown, report.history_text(shown))


@main.command()
@click.argument("name")
@click.option("--to", type=int, metavar="VERSION", help="Default: the champion before this one.")
@click.option("--why", required=True, metavar="TEXT", help="The reason; kept in the ledger.")
@_json
def rollback(name: str, to: int | None, why: str, as_json: bool) -> None:
    """Make an earlier champion serve again: verified in a clean process, then the pointer moves.

    What it replaces is withdrawn, and not promoted again by itself.

    \b
    ml-assets rollback churn --why "wrong prices in the new data"
    ml-assets rollback churn --to 3 --why "the last good one"
    """
    from ml_assets import report, running

    home = _home()
    problems, _ = _load()
    problem = _problem(problems, name)
    try:
        entry = running.roll_back(problem, _instance(home), to, why)
    except ModelRefused as error:  # nothing was wrong with the asking
        refuse(str(error), FAILED)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, entry, report.rollback_text(name, entry))


@main.command()
@click.argument("name")
@click.argument("version", type=int)
@click.option("--why", required=True, metavar="TEXT", help="The reason; kept in the ledger.")
@_json
def approve(name: str, version: int, why: str, as_json: bool) -> None:
    """Let the challenger that waits become champion, after every gate was asked again.

    For problems that declare `promotion: {mode: approval}`.

    \b
    ml-assets approve churn 7 --why "checked by hand on the March invoices"
    """
    from ml_assets import report, running

    home = _home()
    problems, _ = _load()
    problem = _problem(problems, name)
    try:
        entry = running.approve(problem, _instance(home), version, why)
    except ModelRefused as error:
        refuse(str(error), FAILED)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, entry, report.approval_text(name, entry))


@main.command()
@click.argument("name")
@click.argument("version", type=int, required=False)
@_json
def reproduce(name: str, version: int | None, as_json: bool) -> None:
    """Make a version again from its record, and compare digests. Default: the champion.

    It ends with status 1 when something came out otherwise, and says what, and what may be why.

    \b
    ml-assets reproduce churn
    ml-assets reproduce churn 3 --json
    """
    from ml_assets import report, running

    _home()
    problems, _ = _load()
    problem = _problem(problems, name)
    try:
        shown = running.reproduce(problem, version)
    except ModelRefused as error:
        refuse(str(error), FAILED)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, shown, report.reproduction_text(shown))
    sys.exit(DONE if shown["same"] else FAILED)


@main.command()
@click.argument("name")
@_json
def quarantine(name: str, as_json: bool) -> None:
    """Show the refused batches of a problem, with their reasons.

    \b
    ml-assets quarantine churn
    """
    from ml_assets import report, running

    _home()
    problems, _ = _load()
    try:
        shown = running.quarantine(_problem(problems, name))
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, shown, report.quarantine_text(shown))


@main.command()
@click.argument("name")
@click.argument("batch")
@click.option("--why", required=True, metavar="TEXT", help="The reason; kept in the ledger.")
@_json
def release(name: str, batch: str, why: str, as_json: bool) -> None:
    """Let a refused batch in at the next run, although it breaches its contract.

    BATCH is its file name, or the first digits of its digest. A file that cannot be read stays out.

    \b
    ml-assets release churn 2026-11-23.csv --why "the new tariff is negative by design"
    """
    from ml_assets import report, running

    _home()
    problems, _ = _load()
    try:
        entry = running.release(_problem(problems, name), batch, why)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, entry, report.release_text(name, entry))


@main.command()
@click.argument("names", nargs=-1)
@_json
def check(names: tuple[str, ...], as_json: bool) -> None:
    """Validate declarations without running them.

    Every key and word, every import path, every `.model.function`, every data file.

    \b
    ml-assets check
    ml-assets check churn
    """
    from ml_assets import running

    faults: dict[str, list[str]] = {}
    try:
        from ml_assets.definitions import build, problems_of, tree

        components = tree()
        problems = problems_of(components)
        build(components)
    except Exception as error:
        lines = _declaration_trouble(error).split("\n")[1:]
        faults["(loading)"] = [line.strip() for line in lines]
        problems = {}
    chosen = {n: p for n, p in problems.items() if not names or n in names}
    unknown = [n for n in names if n not in problems and problems]
    if unknown:
        refuse(f"no problem {shortened(unknown)}.{did_you_mean(unknown[0], problems)}")
    for name, problem in chosen.items():
        if found := running.faults(problem):
            faults[name] = found
    lines = [f"{n}: {f}" for n, found in faults.items() for f in found]
    ok = [n for n in chosen if n not in faults]
    text = "\n".join([*lines, *(f"{n}: ok" for n in ok)]) or "No problem yet."
    answer(as_json, {"ok": not faults, "problems": list(chosen), "faults": faults}, text)
    sys.exit(WRONG if faults else DONE)


# ------------------------------------------------------------------------- ui


@main.command()
@click.option("--port", default=UI_PORT, show_default=True, help="Port of Dagster's UI.")
@click.option("--mlflow-port", default=MLFLOW_PORT, show_default=True, help="Port of MLflow's UI.")
def ui(port: int, mlflow_port: int) -> None:
    """Start Dagster's webserver and daemon and MLflow's UI, on loopback.

    They show the same state that `run` uses. Ctrl-C ends all of them.

    \b
    ml-assets ui
    ml-assets ui --port 3001 --mlflow-port 5001
    """
    from ml_assets import ui as interface

    home = _home()
    missing = [c for c in ("dagster", "mlflow") if not interface.beside(c)]
    if missing:
        refuse(f"`{missing[0]}` is not installed in this environment.")
    interface.serve(home, port, mlflow_port, say)


if __name__ == "__main__":
    main()
