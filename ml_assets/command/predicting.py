"""Commands that use the champion: score a file, serve it."""

import json
import os
from pathlib import Path
from typing import Any

import click

from ml_assets.command.terminal import (
    FAILED,
    answer,
    find_problem,
    json_option,
    load,
    name_argument,
    open_home,
    refuse,
    say,
    working,
)
from ml_assets.errors import DatasetError, DeclarationError, MLAssetsError


@click.command()
@name_argument
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
    ml-assets predict churn --input new.csv --output old.parquet --version 3
    """
    from ml_assets import report, standing

    open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    if "://" not in str(path) and not path.exists():
        refuse(f"No file at {path}: name the rows to be scored with --input.")
    try:
        with working(f"Scoring {path}"):
            shown = standing.predict(problem, path, output, version)
    except (DatasetError, DeclarationError) as error:
        refuse(str(error))
    except MLAssetsError as error:
        refuse(str(error), FAILED)
    except OSError as error:
        refuse(f"{output} cannot be written: {error.strerror or error}.")
    answer(as_json, shown, report.prediction_text(shown))


@click.command()
@name_argument
@click.option(
    "--storage-uri",
    metavar="URI",
    help="Where the cluster finds a version's folder; {version} and {model_id} are filled in.",
)
@json_option
def manifest(name: str, storage_uri: str | None, as_json: bool) -> None:
    """Write what KServe is told to serve: champion and canary.

    Each document is an InferenceService; apply the first, and the second once that is ready.

    \b
    ml-assets manifest churn --storage-uri 's3://bucket/{model_id}' > churn.yaml
    """
    import yaml

    from ml_assets import standing

    open_home()
    problems, _ = load()
    problem = find_problem(problems, name)
    try:
        told = standing.manifests(problem, storage_uri)
    except DeclarationError as error:
        refuse(str(error))
    except MLAssetsError as error:
        refuse(str(error), FAILED)
    text = "---\n".join(yaml.safe_dump(one, sort_keys=False) for one in told)
    answer(as_json, {"problem": name, "manifests": told}, text.rstrip())


@click.command()
@name_argument
@click.option("--port", default=8000, show_default=True, help="0 for any that is free.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Others need a token.")
@click.option("--token-env", metavar="VARIABLE", help="Environment variable that holds the token.")
@click.option("--max-mb", default=10.0, show_default=True, help="Largest body of a request.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds until an answer.")
@click.option(
    "--log-days",
    type=click.IntRange(min=2),
    metavar="N",
    help="Remove files of the prediction log after N days. Default: all are kept.",
)
@json_option
def serve(
    name: str,
    port: int,
    host: str,
    token_env: str | None,
    max_mb: float,
    timeout: float,
    log_days: int | None,
    as_json: bool,
) -> None:
    """Serve the champion over HTTP, until Ctrl-C.

    POST /predict and /invocations (MLflow's protocol), GET /health, /ready, /metrics and
    /openapi.json. When the champion changes, the new one takes over once it is verified. With --json,
    the one document says where, as soon as it serves.

    \b
    ml-assets serve churn
    ml-assets serve churn --host 0.0.0.0 --token-env CHURN_TOKEN
    """
    # Before anything reads it: threads of one prediction take the cores from the next.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from ml_assets import standing
    from ml_assets.serving import server

    open_home()
    problems, _ = load()
    component = find_problem(problems, name)
    limits: dict[str, Any] = {"most_bytes": int(max_mb * 1_000_000), "seconds": timeout}

    def told(where: dict[str, Any]) -> None:
        said = f"{name}: version {where['version']} at {where['address']}   (Ctrl-C ends it)"
        said += f"\nOne row is answered by {where['one_row_by']}."
        if as_json:
            click.echo(json.dumps(where))
        else:
            say(said)

    try:
        token = server.token_of(host, token_env)
        stores = standing.stores_of(component)
        with server.listen(host, port) as where:
            server.serve(component.problem, stores, where, token, limits, told, log_days)
    except DeclarationError as error:
        refuse(str(error))
    except MLAssetsError as error:
        refuse(str(error), FAILED)
