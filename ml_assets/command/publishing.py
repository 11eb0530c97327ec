"""The command for GitHub's runners: the workflow, and what its steps say."""

from pathlib import Path

import click

from ml_assets.command.terminal import (
    answer,
    find_problem,
    json_option,
    load,
    open_home,
    refuse,
    say,
)
from ml_assets.errors import MLAssetsError
from ml_assets.resources.home import problems_folder


@click.command()
@click.argument("name")
@click.option("--install", default="-e .", show_default=True, help="What pip is to install there.")
@click.option("--summary", type=Path, metavar="FILE", help="Show an answer of `run --json`.")
@click.option("--pack", type=Path, metavar="DIR", help="Copy the champion there; see --run.")
@click.option("--run", type=Path, metavar="FILE", help="With --pack: an answer of `run --json`.")
@json_option
def ci(
    name: str,
    install: str,
    summary: Path | None,
    pack: Path | None,
    run: Path | None,
    as_json: bool,
) -> None:
    """Write a GitHub workflow that trains.

    Its gate is the exit status of `run`; an image and a roll-out follow only when the champion
    changed. It goes to .github/workflows/train_NAME.yml, and is yours from then on. The other options are
    what its steps use.

    \b
    ml-assets ci churn
    ml-assets ci churn --summary out/run.json
    ml-assets ci churn --pack out/champion --run out/run.json
    """
    from ml_assets import standing, workflow

    home = open_home()
    if summary is not None:  # also of a run that was refused for its declaration
        try:
            document = workflow.answer(summary)
        except MLAssetsError as error:
            refuse(str(error))
        answer(as_json, document, workflow.summary(document))
        return
    problems, _ = load()
    problem = find_problem(problems, name)
    if pack is not None:
        if run is None:
            refuse("--pack needs --run FILE: whether the champion changed stands there.")
        try:
            card = Path(standing.inspect(problem, "challenger")["card"])
            outputs = workflow.pack(problem, pack, run, card)
        except MLAssetsError as error:
            refuse(str(error))
        answer(as_json, outputs, "\n".join(f"{k}={v}" for k, v in outputs.items()))
        return
    folder = problem.folder or problems_folder(home.root)
    if not folder.is_relative_to(home.root):
        refuse(f"{folder} is not in this repository ({home.root}): run this where it is.")
    file = home.root / ".github" / "workflows" / f"train_{name}.yml"
    if file.exists():
        refuse(f"{file} is there already. Remove it first to have it written anew.")
    file.parent.mkdir(parents=True, exist_ok=True)
    inside = folder.relative_to(home.root).as_posix()
    file.write_text(workflow.training(name, inside, install))
    say("The gate is the exit status of `ml-assets run`. Put your own roll-out into its last job.")
    answer(as_json, {"problem": name, "workflow": str(file)}, str(file))
