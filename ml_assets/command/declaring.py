"""Commands on declarations: write one, validate them."""

import sys
from pathlib import Path
from typing import Any

import click

from ml_assets.command.terminal import (
    DONE,
    WRONG,
    answer,
    declaration_trouble,
    json_option,
    refuse,
    working,
)
from ml_assets.errors import MLAssetsError, did_you_mean, shortened
from ml_assets.resources.home import find_home, find_root, problems_folder


@click.command()
@click.argument("name")
@click.option(
    "--data",
    required=True,
    metavar="PATH",
    help="A csv, csv.gz or parquet file; or where such files arrive: a glob, a folder, a URL.",
)
@click.option("--target", required=True, help="The column to be predicted.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of problems. Default: ML_ASSETS_DEFS.",
)
@click.option(
    "--names",
    "--columns",
    "names",
    help="Column names, comma-separated, for a csv without a header.",
)
@click.option(
    "--task",
    type=click.Choice(["binary", "multiclass", "regression"]),
    help="Default: inferred from the target.",
)
@click.option("--time", metavar="COLUMN", help="Split by time: the past learns, the future judges.")
@click.option("--in-order", is_flag=True, help="Split by time: the rows are in its order.")
@click.option(
    "--bad-lines", default=0, metavar="N", help="Leave out at most N csv lines of another width."
)
@click.option("--model", is_flag=True, help="Also write a model.py with a candidate of your own.")
@json_option
def new(
    name: str,
    data: str,
    target: str,
    folder: Path | None,
    names: str | None,
    model: bool,
    as_json: bool,
    **told: Any,
) -> None:
    """Declare a problem from its first data.

    It reads the data, infers task, contract, key and split, writes defs/NAME/defs.yaml, and says
    what it inferred and why.

    \b
    ml-assets new churn --data data/churn.csv --target Churn
    ml-assets new adult --data adult.csv --names age,job,income --target income
    ml-assets new bikes --data 'landing/bikes/*.csv' --target rides --time date
    """
    from ml_assets.draft import Told
    from ml_assets.folder import draft_of, write

    root = find_root()
    home = (folder.resolve() if folder else problems_folder(root)) / name
    file = home / "defs.yaml"
    if file.exists():
        refuse(f"{file} exists already. Edit it, or remove its folder to begin anew.")
    given = Told([n.strip() for n in names.split(",")] if names else None, **told)
    try:
        with working(f"Reading {data}"):
            fetched = find_home().path / "fetched"
            draft = draft_of(name, data, target, given, root, fetched, model)
    except MLAssetsError as error:
        refuse(str(error))
    written = write(home, draft, model)
    lines = [
        *(f"Wrote {one}" for one in written),
        *(f"  {note}" for note in draft.notes),
        "",
        "Read it and correct it: from now on that file alone counts.",
        f"Next: ml-assets run {name}",
    ]
    document = {
        "problem": name,
        "file": str(file),
        "inferred": draft.attributes,
        "notes": draft.notes,
    }
    answer(as_json, document, "\n".join(lines))


@click.command()
@click.argument("names", nargs=-1)
@json_option
def check(names: tuple[str, ...], as_json: bool) -> None:
    """Validate declarations without running them.

    Every key and word, every import path, every `.model.function`, every data file.

    \b
    ml-assets check
    ml-assets check churn
    """
    from ml_assets import standing

    faults: dict[str, list[str]] = {}
    try:
        with working("Loading the problems"):
            from ml_assets.definitions import build, problems_of, tree

            components = tree()
            problems = problems_of(components)
            build(components)
    except Exception as error:
        lines = declaration_trouble(error).split("\n")[1:]
        faults["(loading)"] = [line.strip() for line in lines]
        problems = {}
    chosen = {n: p for n, p in problems.items() if not names or n in names}
    unknown = [n for n in names if n not in problems and problems]
    if unknown:
        refuse(f"no problem {shortened(unknown)}.{did_you_mean(unknown[0], problems)}")
    for name, problem in chosen.items():
        with working(f"Looking at {name}"):
            found = standing.faults(problem)
        if found:
            faults[name] = found
    lines = [f"{n}: {f}" for n, found in faults.items() for f in found]
    ok = [n for n in chosen if n not in faults]
    text = "\n".join([*lines, *(f"{n}: ok" for n in ok)]) or "No problem yet."
    answer(as_json, {"ok": not faults, "problems": list(chosen), "faults": faults}, text)
    sys.exit(WRONG if faults else DONE)


@click.command("import")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--profile", default="local", show_default=True, help="A file of profiles/, by name.")
@click.option("--name", help="The problem's name. Default: that of the registered model.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path),
    help="Folder of problems. Default: ML_ASSETS_DEFS.",
)
@json_option
def import_(
    recipe: Path, profile: str, name: str | None, folder: Path | None, as_json: bool
) -> None:
    """Turn a project of MLflow Recipes into a problem.

    It reads RECIPE (a recipe.yaml), a profile and steps/*.py, without running any of it, writes
    defs/NAME/defs.yaml and model.py, and lists what is carried over, what is done otherwise, and
    what has no equivalent.

    \b
    ml-assets import taxi/recipe.yaml
    ml-assets import taxi/recipe.yaml --profile databricks --name fares
    """
    from pydantic import ValidationError

    from ml_assets import report
    from ml_assets.recipe import read
    from ml_assets.recipe.writing import name_of, refuse_existing, take_over

    root = find_root()
    try:
        found = read(recipe, profile)
        called = name or name_of(found)
        home = (folder.resolve() if folder else problems_folder(root)) / called
        written = take_over(found, called, home, root)
        refuse_existing(home, written.files)
    except MLAssetsError as error:
        refuse(str(error))
    except ValidationError as error:
        refuse("; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors()))
    # the declaration last: there is no problem before it is whole
    for path, text in sorted(written.files.items(), key=lambda f: f[0] == "defs.yaml"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text(text, encoding="utf-8")
    document = {
        "problem": called,
        "recipe": str(recipe),
        "profile": profile,
        "files": [str(home / path) for path in written.files],
        "declared": written.draft.attributes,
        "lines": [{"fate": s.fate, "key": s.key, "told": s.told} for s in written.lines],
    }
    answer(as_json, document, report.import_text(document))
