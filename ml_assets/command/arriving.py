"""Commands on batches: see what was refused, let one in."""

import click

from ml_assets.command.terminal import (
    answer,
    find_problem,
    json_option,
    load,
    name_argument,
    open_home,
    refuse,
)
from ml_assets.errors import MLAssetsError


@click.command()
@name_argument
@json_option
def quarantine(name: str, as_json: bool) -> None:
    """Show the refused batches of a problem, with their reasons.

    \b
    ml-assets quarantine churn
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    try:
        shown = standing.quarantine(find_problem(problems, name))
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, shown, report.quarantine_text(shown))


@click.command()
@name_argument
@click.argument("batch")
@click.option("--why", required=True, metavar="TEXT", help="The reason; kept in the ledger.")
@json_option
def release(name: str, batch: str, why: str, as_json: bool) -> None:
    """Let a refused batch in at the next run.

    It comes in although it breaches its contract; the ledger keeps who let it in and why. BATCH is its file name, or the first digits of its digest. A file that cannot be read stays out.

    \b
    ml-assets release churn 2026-11-23.csv --why "a negative tariff is right"
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    try:
        entry = standing.release(find_problem(problems, name), batch, why)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, entry, report.release_text(name, entry))
