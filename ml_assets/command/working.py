"""Commands that start work: a run, the UI."""

import gc
import sys

import click

from ml_assets.command.terminal import (
    answer,
    find_problem,
    json_option,
    load,
    name_argument,
    open_home,
    open_instance,
    progress,
    refuse,
    say,
    working,
)
from ml_assets.errors import MLAssetsError

UI_PORT, MLFLOW_PORT = 3000, 5000
# When garbage is collected, in objects made and in rounds, where 700, 10, 10 is usual.
SELDOM = (100_000, 20, 20)


@click.command()
@name_argument
@click.option(
    "--only",
    multiple=True,
    metavar="ASSET",
    help="Only these assets: dataset, split, candidate/NAME, candidate, evaluation, challenger, "
    "production_model; after deployment predictions, monitoring, rollback_decision, retrain_decision.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Otherwise than declared, in this run: candidates.NAME.PARAMETER, only, "
    "gates.NAME.THRESHOLD, data, dataset_version, transform, threshold, class_weight, select, seed.",
)
@click.option(
    "--promote", is_flag=True, help="A run with --set may promote; without, it only compares."
)
@json_option
def run(
    name: str, only: tuple[str, ...], settings: tuple[str, ...], promote: bool, as_json: bool
) -> None:
    """Bring a problem up to date and decide about production.

    Progress while it works; at the end the leaderboard, the gates, the decision, and where to look.

    \b
    ml-assets run churn
    ml-assets run churn --only candidate/ours --only evaluation
    ml-assets run churn --only monitoring --only retrain_decision
    ml-assets run churn --set candidates.random_forest.n_estimators=300
    """
    # What imports make stays: to look through it for garbage, again and again, is a fifth of their time.
    gc.set_threshold(*SELDOM)
    from ml_assets import report, running
    from ml_assets.problem import parameters

    home = open_home()
    problems, definitions = load()
    problem = find_problem(problems, name)
    instance = open_instance(home)
    try:
        with progress() as tell:
            given = parameters(list(settings), promote)
            outcome = running.run(definitions, instance, problem, only, given, tell)
    except MLAssetsError as error:
        refuse(str(error))
    finally:
        instance.dispose()  # which flushes what was noted of the run
    answer(as_json, outcome.document, "" if as_json else report.run_text(outcome.document))
    sys.exit(outcome.status)


@click.command()
@name_argument
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@json_option
def clean(name: str, dry_run: bool, as_json: bool) -> None:
    """Remove what the next run makes again.

    Splits, candidates, evaluations, scores and searches go. Rows, quarantine, records, the ledger and registered versions stay: rollback, reproduce and
    history work as before, and the next run fits anew and finds the same.

    \b
    ml-assets clean churn --dry-run
    ml-assets clean churn
    """
    from ml_assets import report, standing

    home = open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        with working("Looking through the lake"):
            document = standing.clean(problem, open_instance(home), dry_run)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, document, report.clean_text(document))


@click.command()
@click.option("--port", default=UI_PORT, show_default=True, help="Port of Dagster's UI.")
@click.option("--mlflow-port", default=MLFLOW_PORT, show_default=True, help="Port of MLflow's UI.")
def ui(port: int, mlflow_port: int) -> None:
    """Start Dagster's and MLflow's pages, on loopback.

    Dagster's webserver and daemon and MLflow's server show the same state that `run` uses. Ctrl-C ends all of them.

    \b
    ml-assets ui
    ml-assets ui --port 3001 --mlflow-port 5001
    """
    from ml_assets import ui as interface

    home = open_home()
    missing = [c for c in ("dagster", "mlflow") if not interface.beside(c)]
    if missing:
        refuse(f"`{missing[0]}` is not installed in this environment.")
    try:
        interface.serve(home, port, mlflow_port, say)
    except MLAssetsError as error:
        refuse(str(error))
