"""Commands that list: what a declaration can name, and what a shell completes."""

from typing import Literal

import click

from ml_assets.command.terminal import answer, json_option

WHERE = {
    "bash": 'eval "$(ml-assets completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(ml-assets completion zsh)" in ~/.zshrc',
    "fish": "ml-assets completion fish > ~/.config/fish/completions/ml-assets.fish",
}


@click.command("list")
@click.argument("kind", type=click.Choice(["candidates", "transforms", "gates", "metrics"]))
@json_option
def listing(kind: Literal["candidates", "transforms", "gates", "metrics"], as_json: bool) -> None:
    """List what a declaration can name.

    Candidates, transforms, gates or metrics: ours, and those that installed packages provide
    through the entry points ml_assets.candidates, ml_assets.transforms and ml_assets.gates.

    \b
    ml-assets list candidates
    ml-assets list gates --json
    """
    from ml_assets.parts import listed
    from ml_assets.report import parts_text

    found = listed(kind)
    answer(as_json, {"kind": kind, "parts": found}, parts_text(found))


@click.command()
@click.argument("shell", type=click.Choice(list(WHERE)))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str, as_json: bool) -> None:
    """Write what makes a shell complete commands and problems.

    \b
    eval "$(ml-assets completion bash)"      (in ~/.bashrc)
    eval "$(ml-assets completion zsh)"       (in ~/.zshrc)
    ml-assets completion fish > ~/.config/fish/completions/ml-assets.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    source = kind(context.find_root().command, {}, "ml-assets", "_ML_ASSETS_COMPLETE").source()
    answer(as_json, {"shell": shell, "script": source, "where": WHERE[shell]}, source)
