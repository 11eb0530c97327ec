"""The command that plays a dataset's history, so that a team chooses its policy before production."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from ml_assets.command.terminal import (
    answer,
    find_problem,
    json_option,
    load,
    name_argument,
    open_home,
    progress,
    refuse,
    say,
)
from ml_assets.errors import MLAssetsError


@contextlib.contextmanager
def _interrupted() -> Iterator[None]:
    """A process that is told to end does so as if somebody had typed Ctrl-C: the sandbox is removed."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@click.command()
@name_argument
@click.option(
    "--by",
    metavar="COLUMN",
    help="The column that says when. Default: the time of the split, else the order of the rows.",
)
@click.option(
    "--windows", default=20, show_default=True, metavar="N", help="Windows after the start."
)
@click.option(
    "--every",
    metavar="DURATION",
    help="How long a window is, instead of their number, as 7d; without dates, how long one takes.",
)
@click.option(
    "--start",
    default=0.3,
    show_default=True,
    metavar="SHARE",
    help="Share of the rows that are there, with their labels, at the start.",
)
@click.option(
    "--delay",
    default="0",
    show_default=True,
    metavar="DELAY",
    help="How much later labels come: a number of windows, or a duration as 7d.",
)
@click.option(
    "--shuffled",
    is_flag=True,
    help="The same rows in a random order: nothing changes over time but their number.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Another policy, played beside the declared one: retrain.FIELD, promotion.FIELD, "
    "split.FIELD, gates.NAME.FIELD, and what `run --set` knows.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PAGE.html",
    help="Write a page with the picture, too.",
)
@json_option
def replay(
    name: str, settings: tuple[str, ...], output: Path | None, as_json: bool, **asked: Any
) -> None:
    """Play a dataset's own history under its policy and others.

    Rows arrive window by window, are scored by the champion of that time before their labels are
    known, and then retraining, gates and promotion take their course, in a sandbox and in the
    history's own time. It is compared with never retraining, with always promoting the newest
    fit, and with an oracle.

    \b
    ml-assets replay bikes
    ml-assets replay bikes --by date --every 30d --delay 7d --output bikes.html
    ml-assets replay bikes --set gates.beats_the_champion.confidence=0.8
    """
    from ml_assets import report, standing
    from ml_assets.card.history import card
    from ml_assets.card.page import page
    from ml_assets.replay import Asked
    from ml_assets.replaying import replay as play
    from ml_assets.replaying.policy import under

    open_home()
    problems, _ = load()
    component = find_problem(problems, name)
    if output is not None and not output.parent.is_dir():
        refuse(f"--output {output}: there is no folder {output.parent}.")
    try:
        problem = component.problem
        other = (", ".join(settings), under(problem, settings)) if settings else None
        with progress() as tell, _interrupted():
            stores = standing.stores_of(component)
            played = play(problem, component.folder, stores, Asked(**asked), other, tell)
    except MLAssetsError as error:
        refuse(str(error))
    if output is not None:
        output.write_text(page(card(played)), encoding="utf-8")
        say(f"Wrote {output}")
    document = played.document()
    answer(as_json, document, report.replay_text(document))
