"""The command line: a thin face over Dagster.

What it starts is an ordinary Dagster run on the instance that the UI shows.
"""

import atexit
import gc
import os
import warnings
from typing import Any

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
from ml_assets.command.listing import completion, listing
from ml_assets.command.predicting import manifest, predict, serve
from ml_assets.command.publishing import ci
from ml_assets.command.replaying import replay
from ml_assets.command.telling import alert
from ml_assets.command.terminal import FAILED, refuse
from ml_assets.command.working import clean, run, ui
from ml_assets.errors import MLAssetsError, of_the_machine
from ml_assets.resources.home import find_home


class Commands(click.Group):
    """The commands, listed in the order of their use."""

    def invoke(self, context: click.Context) -> Any:
        """It does a command; what goes wrong on the way is told in one sentence where that can be."""
        try:
            return super().invoke(context)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            told = str(error) if isinstance(error, MLAssetsError) else of_the_machine(error)
            if told is None:
                raise
            if not isinstance(error, MLAssetsError):
                told = (
                    f"the state in {find_home().path} could not be read or written: {told}. Look at "
                    "the space and the rights there; what was finished is kept, so run it again."
                )
            refuse(told, FAILED)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """It writes a section for each kind of use, and a line for each command that fits."""
        known = dict(self.commands)
        listed = [(title, [known.pop(n) for n in names]) for title, names in SECTIONS.items()]
        if known:
            listed.append(("Other", list(known.values())))
        room = formatter.width - max(map(len, self.commands)) - 6
        for title, commands in listed:
            with formatter.section(title):
                formatter.write_dl([(str(c.name), c.get_short_help_str(room)) for c in commands])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(ml_assets.__version__, prog_name="ml-assets")
def main() -> None:
    """Supervised learning on tables, from a data file to a guarded production model.

    \b
    ml-assets new churn --data churn.csv --target Churn
    ml-assets run churn
    ml-assets ui

    `ml-assets COMMAND --help` gives examples of each.
    """
    warnings.filterwarnings("ignore")
    # A process that ends need not look for garbage: that took as long as all that a run does.
    atexit.register(gc.freeze)
    # Threads that wait by spinning take the cores from those that work, as soon as two processes
    # share a machine: ten times slower fits were measured.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


SECTIONS = {
    "Declare a problem": ("new", "import", "check", "list", "ci"),
    "Work": ("run", "ui", "alert", "clean"),
    "Look": ("status", "history", "inspect", "quarantine"),
    "Decide": ("approve", "override", "release", "rollback"),
    "Use and prove the champion": ("predict", "serve", "reproduce", "replay", "manifest"),
    "For the shell": ("completion",),
}

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
    replay,
    predict,
    serve,
    manifest,
    quarantine,
    release,
    check,
    listing,
    alert,
    ci,
    ui,
    completion,
):
    main.add_command(_command)
