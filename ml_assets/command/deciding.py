"""Commands on decisions: see them, make them, prove them."""

import sys
from pathlib import Path

import click

from ml_assets.command.terminal import (
    DONE,
    FAILED,
    answer,
    find_problem,
    json_option,
    load,
    name_argument,
    open_home,
    open_instance,
    problem_names,
    refuse,
    working,
)
from ml_assets.errors import MLAssetsError, ModelRefused


@click.command()
@click.argument("name", required=False, shell_complete=problem_names)
@json_option
def status(name: str | None, as_json: bool) -> None:
    """Show the champion and the last decision.

    Version, metrics on test, dataset, when it was read, and why it was promoted or held.

    \b
    ml-assets status
    ml-assets status churn --json
    """
    from ml_assets import report, standing

    home = open_home()
    problems, _ = load()
    if name is not None:
        problems = {name: find_problem(problems, name)}
    try:
        with working("Asking the ledger and MLflow"):
            shown = [standing.status(p, home) for p in problems.values()]
    except MLAssetsError as error:
        refuse(str(error))
    document = shown[0] if name is not None else {"problems": shown}
    answer(
        as_json, document, "\n\n".join(report.status_text(s) for s in shown) or "No problem yet."
    )


@click.command()
@name_argument
@click.option("--at", metavar="TIME", help="As it was at a time, like 2026-12-31T18:00:00 (UTC).")
@json_option
def history(name: str, at: str | None, as_json: bool) -> None:
    """Show what was decided, when, by whom and why.

    With --at: who was champion at that time.

    \b
    ml-assets history churn
    ml-assets history churn --at 2026-12-31T18:00:00
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    try:
        shown = standing.history(find_problem(problems, name), at)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, shown, report.history_text(shown))


@click.command()
@name_argument
@click.option("--to", type=int, metavar="VERSION", help="Default: the champion before this one.")
@click.option("--why", required=True, metavar="TEXT", help="The reason; kept in the ledger.")
@click.option("--canary", is_flag=True, help="Withdraw the canary; the champion stays.")
@json_option
def rollback(name: str, to: int | None, why: str, canary: bool, as_json: bool) -> None:
    """Make an earlier champion serve again.

    It is verified in a clean process, then the pointer moves. What it replaces is withdrawn, and
    not promoted again by itself. With --canary it is the canary that is withdrawn, and answers no
    more rows.

    \b
    ml-assets rollback churn --why "wrong prices in the new data"
    ml-assets rollback churn --to 3 --why "the last good one"
    ml-assets rollback churn --canary --why "its answers make no sense"
    """
    from ml_assets import report, standing

    home = open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    if canary:
        if to is not None:
            refuse("--canary withdraws the canary; --to names a champion. Give one of the two.")
        try:
            entry = standing.withdraw_canary(problem, why)
        except MLAssetsError as error:
            refuse(str(error))
        answer(as_json, entry, report.withdrawal_text(name, entry))
        return
    try:
        with working("Verifying the version in a clean process"):
            entry = standing.roll_back(problem, open_instance(home), to, why)
    except ModelRefused as error:  # nothing was wrong with the asking
        refuse(str(error), FAILED)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, entry, report.rollback_text(name, entry))


@click.command()
@name_argument
@click.argument("version", type=int)
@click.option("--why", required=True, metavar="TEXT", help="The reason; kept in the ledger.")
@json_option
def approve(name: str, version: int, why: str, as_json: bool) -> None:
    """Let the challenger that waits become champion.

    Every gate is asked again first. For problems that declare `promotion: {mode: approval}`; and
    for a shadow (`mode: canary`, `share: 0`) that its live rows showed to be better.

    \b
    ml-assets approve churn 7 --why "checked by hand on the March invoices"
    """
    from ml_assets import report, standing

    home = open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        with working("Asking every gate again"):
            entry = standing.approve(problem, open_instance(home), version, why)
    except ModelRefused as error:
        refuse(str(error), FAILED)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, entry, report.approval_text(name, entry))


@click.command()
@name_argument
@click.argument("version", type=int)
@click.argument("gate")
@click.option("--why", required=True, metavar="TEXT", help="The reason; kept in the ledger.")
@click.option("--until", required=True, metavar="TIME", help="When it ends, like 2030-12-31 (UTC).")
@json_option
def override(name: str, version: int, gate: str, why: str, until: str, as_json: bool) -> None:
    """Let one version pass one gate that it fails, until a time.

    GATE is named as its check is. All other gates are asked, and it must still be better than the
    champion. The ledger keeps who, why and until when.

    \b
    ml-assets override churn 7 answers_in_time --until 2030-12-31 --why "new host"
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        entry = standing.override(problem, version, gate, why, until)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, entry, report.override_text(name, entry))


@click.command()
@name_argument
@click.argument("asset", default="challenger")
@click.option("--no-browser", is_flag=True, help="Only say where the card is.")
@json_option
def inspect(name: str, asset: str, no_browser: bool, as_json: bool) -> None:
    """Open the card of the challenger, or of a candidate.

    ASSET is `challenger` (judged on test) or `candidate/NAME` (on validation). At a terminal the card opens in a browser.

    \b
    ml-assets inspect churn
    ml-assets inspect churn candidate/random_forest --no-browser
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        with working("Drawing the card"):
            shown = standing.inspect(problem, asset)
    except ModelRefused as error:
        refuse(str(error), FAILED)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, shown, report.card_text(shown))
    if sys.stdout.isatty() and not as_json and not no_browser:
        click.launch(Path(shown["card"]).as_uri())


@click.command()
@name_argument
@click.argument("version", type=int, required=False)
@json_option
def reproduce(name: str, version: int | None, as_json: bool) -> None:
    """Make a version again from its record, and compare digests.

    VERSION is the champion by default. It ends with status 1 when something came out otherwise, and says what, and what may be why.

    \b
    ml-assets reproduce churn
    ml-assets reproduce churn 3 --json
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        with working("Making the version again"):
            shown = standing.reproduce(problem, version)
    except ModelRefused as error:
        refuse(str(error), FAILED)
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, shown, report.reproduction_text(shown))
    sys.exit(DONE if shown["same"] else FAILED)
