"""The command on alerts: what waits is sent, or a test message."""

import sys

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
    refuse,
)
from ml_assets.errors import MLAssetsError


@click.command()
@name_argument
@click.option(
    "--test", is_flag=True, help="Send a test message to every channel, and nothing else."
)
@json_option
def alert(name: str, test: bool, as_json: bool) -> None:
    """Tell whom `alerts` names what happened since the last time.

    While `ml-assets ui` runs, its daemon does this every half minute; this is for machines without
    one, such as CI. It ends with status 1 when a message could not be delivered; that one waits.

    \b
    ml-assets alert churn --test
    ml-assets alert churn
    """
    from ml_assets import report, telling

    home = open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        if test:
            document = telling.try_alerts(problem)
        else:
            document = telling.alert(problem, open_instance(home))
    except MLAssetsError as error:
        refuse(str(error))
    answer(as_json, document, report.alert_text(document))
    sys.exit(FAILED if document["troubles"] else DONE)
