"""The command that lists what a declaration can name."""

from typing import Literal

import click

from ml_assets.command.terminal import answer, json_option


@click.command("list")
@click.argument("kind", type=click.Choice(["candidates", "transforms", "gates", "metrics"]))
@json_option
def listing(kind: Literal["candidates", "transforms", "gates", "metrics"], as_json: bool) -> None:
    """List what a declaration can name: candidates, transforms, gates or metrics.

    Ours, and those that installed packages provide through the entry points ml_assets.candidates,
    ml_assets.transforms and ml_assets.gates.

    \b
    ml-assets list candidates
    ml-assets list gates --json
    """
    from ml_assets.parts import listed
    from ml_assets.report import parts_text

    found = listed(kind)
    answer(as_json, {"kind": kind, "parts": found}, parts_text(found))
