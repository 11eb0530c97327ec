"""Commands that use the champion: score a file, serve it."""

from pathlib import Path

import click

from ml_assets.command.terminal import (
    FAILED,
    answer,
    find_problem,
    json_option,
    load,
    open_home,
    refuse,
)
from ml_assets.errors import DatasetError, DeclarationError, MLAssetsError


@click.command()
@click.argument("name")
@click.option(
    "--input",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A csv, csv.gz or parquet file, read as the dataset is.",
)
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the predictions go: csv, csv.gz or parquet, by its ending.",
)
@click.option("--version", type=int, metavar="N", help="A former champion. Default: the champion.")
@json_option
def predict(name: str, path: Path, output: Path, version: int | None, as_json: bool) -> None:
    """Score a file with the champion.

    The output has a row for each row of the input, in its order: the key, the prediction, the
    probability of each class, the version, the time, and, where a row is wrong, why.

    \b
    ml-assets predict churn --input new.csv --output scored.csv
    ml-assets predict churn --input new.parquet --output scored.parquet --version 3
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        shown = standing.predict(problem, path, output, version)
    except (DatasetError, DeclarationError) as error:
        refuse(str(error))
    except MLAssetsError as error:
        refuse(str(error), FAILED)
    except OSError as error:
        refuse(f"{output} cannot be written: {error.strerror or error}.")
    answer(as_json, shown, report.prediction_text(shown))
