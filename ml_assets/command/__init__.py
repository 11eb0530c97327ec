"""The command line: a thin face over Dagster.

What it starts is an ordinary Dagster run on the instance that the UI shows.
"""

import os
import warnings

import click

import ml_assets
from ml_assets.command.arriving import quarantine, release
from ml_assets.command.deciding import (
    approve,
    history,
    inspect,
    override,
    reproduce,
    rollback,
    status,
)
from ml_assets.command.declaring import check, import_, new
from ml_assets.command.listing import listing
from ml_assets.command.predicting import manifest, predict, serve
from ml_assets.command.working import clean, run, ui


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


for _command in (
    new,
    import_,
    run,
    clean,
    status,
    history,
    rollback,
    approve,
    override,
    inspect,
    reproduce,
    predict,
    serve,
    manifest,
    quarantine,
    release,
    check,
    listing,
    ui,
):
    main.add_command(_command)
