"""A recipe's ingest and split: where rows come from, and who learns from them."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ml_assets.errors import DeclarationError
from ml_assets.recipe.takeover import Takeover

PART = "recipe_part"  # the column that says in which part a recipe's own function put a row
_INGEST = ("using", "format", "location", "sql", "version", "timestamp", "loader_method")
_SPLIT = ("using", "split_ratios", "split_method", "post_split_method", "post_split_filter_method")
_NATIVE = ("parquet", "delta", "spark_sql")
MOST_WITHOUT_TARGET = 0.5  # of the rows: more is no oversight


def take_rows(taken: Takeover) -> None:
    """It takes over ingest and split: a path or query, or a loader in model.py.

    Raises:
        DeclarationError: a key that Recipes needed is absent, or has an impossible value.
    """
    ingest, split = taken.recipe.step("ingest"), taken.recipe.step("split")
    taken.keys("steps.ingest.", ingest, (*_INGEST, "skip_data_profiling"))
    taken.keys("steps.split.", split, (*_SPLIT, "skip_data_profiling"))
    reading: dict[str, Any] = {}
    taken.attributes["dataset"] = reading
    changes = _split(taken, split)
    using = ingest.get("using", ingest.get("format"))
    if using is None:
        raise DeclarationError("steps.ingest has no `using`: parquet, delta, spark_sql or another.")
    loaded = _plain_source(taken, ingest, str(using), reading, bool(changes))
    if loaded is not None:
        _write_loader(taken, loaded, changes)
        reading["loader"] = ".model.recipe_rows"
    reading["target"] = taken.recipe.target
    taken.carried("target_col", f"dataset.target: {taken.recipe.target}.")
    if taken.recipe.task == "binary":
        reading["positive"] = taken.recipe.given["positive_class"]
        taken.carried("positive_class", f"dataset.positive: {reading['positive']}; a binary task.")
    if PART in "".join(changes):
        reading["drop"] = [PART]
    if loaded is None:
        allowed = {taken.recipe.target: {"missing": MOST_WITHOUT_TARGET}}
        reading["contract"] = {"columns": allowed}
        taken.draft.why["dataset.contract"] = (
            "Rows without a target are left out, as in Recipes; but more than half is refused."
        )


def _plain_source(
    taken: Takeover, ingest: dict[str, Any], using: str, reading: dict[str, Any], changed: bool
) -> list[str] | None:
    """It declares a source of ours, or returns the lines that load the rows."""
    if using == "spark_sql":
        _query(taken, ingest, reading, changed)
        return None
    location = ingest.get("location")
    if not location:
        raise DeclarationError(f"steps.ingest (using: {using}) has no `location`.")
    if not re.fullmatch(r"[\w.]+", using):
        raise DeclarationError(
            f"steps.ingest.using is {using!r}; the ending of a file is expected."
        )
    places = [
        _place(taken, str(p)) for p in (location if isinstance(location, list) else [location])
    ]
    if using == "delta":
        return _delta(taken, ingest, places[0])
    method = ingest.get("loader_method")
    if using not in _NATIVE and not method:
        raise DeclarationError(f"steps.ingest (using: {using}) has no `loader_method`.")
    web = any(p.startswith(("http://", "https://")) for p in places)
    if using == "parquet" and len(places) == 1 and not changed and not web:
        folder = _is_folder(taken, places[0])
        reading["path"] = places[0].rstrip("/") + "/*.parquet" if folder else places[0]
        told = f"dataset.path: {reading['path']}."
        if folder:
            more = f"{told} It is a landing zone: each new file is added once, as a batch."
            taken.otherwise("steps.ingest.location", more, "dataset.path")
        else:
            taken.carried("steps.ingest.location", told, "dataset.path")
        return None
    if using == "parquet":
        read = "pd.read_parquet(file)"
        told = "read by `recipe_rows` in model.py, as one dataset."
    else:
        _, name = taken.take("ingest", str(method))
        read = f'{name}(file, "{using}")'
        told = f"`{name}` is in model.py; `recipe_rows` calls it for each file and joins what it returns."
    taken.carried("steps.ingest", told, "dataset.loader")
    ending = "*" if using == "custom" else f"*.{using}"
    return [
        f"places = {_shown(taken, places)}",
        f'files = [file for place in places for file in _recipe_files(place, "{ending}")]',
        f"rows = pd.concat([{read} for file in files], ignore_index=True)",
    ]


def _place(taken: Takeover, location: str) -> str:
    """It returns where data are: a URL as it is, a path from the project's folder where it can be."""
    if "://" in location and not location.startswith("file://"):
        if urlsplit(location).password is not None:
            raise DeclarationError(
                "steps.ingest.location holds a password; take it out: none is written down here."
            )
        return location
    base = taken.recipe.root
    path = Path(os.path.normpath(base / location.removeprefix("file://")))
    if not path.is_relative_to(base):
        taken.otherwise(
            "steps.ingest.location",
            f"{location} is not in the recipe's folder. It was not looked at; `run` will read it.",
        )
    root = taken.root
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _is_folder(taken: Takeover, place: str) -> bool:
    path = taken.root / place
    if "://" not in place and path.is_relative_to(taken.recipe.root) and path.exists():
        return path.is_dir()
    return not place.rstrip("/").endswith(".parquet")


def _shown(taken: Takeover, places: list[str]) -> str:
    """It returns Python for the places, each found from model.py where it is in the project."""
    inside = taken.folder.is_relative_to(taken.root)
    shown = []
    for place in places:
        if "://" in place or Path(place).is_absolute() or not inside:
            shown.append(repr(place if "://" in place else str(taken.root / place)))
        else:
            way = os.path.relpath(taken.root / place, taken.folder)
            shown.append(f"str(Path(__file__).parent / {json.dumps(way)})")
    return f"[{', '.join(shown)}]"


def _delta(taken: Takeover, ingest: dict[str, Any], place: str) -> list[str]:
    version = ingest.get("version", ingest.get("timestamp"))
    at = f"version {version}" if version is not None else "the latest version"
    told = f"{at} is read by delta-rs in `recipe_rows` of model.py; no Spark is needed."
    taken.otherwise("steps.ingest (using: delta)", told, "dataset.loader")
    lines = [f"table = deltalake.DeltaTable({_shown(taken, [place])}[0])"]
    if version is not None:
        lines.append(
            f"table.load_as_version({version if isinstance(version, int) else str(version)!r})"
        )
    return [*lines, "rows = table.to_pandas()"]


def _query(taken: Takeover, ingest: dict[str, Any], reading: dict[str, Any], changed: bool) -> None:
    sql, place = ingest.get("sql"), ingest.get("location")
    if not sql and place:
        sql = f"SELECT * FROM {place}"  # noqa: S608 - the owner's own query, written into a file
    if not sql:
        raise DeclarationError("steps.ingest (using: spark_sql) has no `sql` and no `location`.")
    variable = f"{taken.name.upper()}_URL"
    reading |= {"sql": str(sql).strip(), "connection": variable}
    told = (
        f"the query is asked through SQLAlchemy, at the URL in the environment variable {variable}: "
        "set it (databricks://… with databricks-sqlalchemy). Give it an ORDER BY."
    )
    taken.otherwise("steps.ingest (using: spark_sql)", told, "dataset.sql")
    if changed:
        taken.lacks(
            "steps.split", "its functions need rows in Python: say it in the query instead."
        )


def _split(taken: Takeover, split: dict[str, Any]) -> list[str]:
    """It declares the split, and returns the lines that change the rows beforehand."""
    own = split.get("using") == "custom"
    ratios = split.get("split_ratios", [0.75, 0.125, 0.125])
    fit = isinstance(ratios, list) and len(ratios) == 3
    if not own and not (fit and all(isinstance(r, (int, float)) and r > 0 for r in ratios)):
        raise DeclarationError(
            f"steps.split.split_ratios is {ratios!r}; three numbers above 0 are."
        )
    changes = _own_split(taken, split) if own else _by_content(taken, ratios)
    keeps, after = split.get("post_split_filter_method"), split.get("post_split_method")
    if after:
        taken.lacks(
            "steps.split.post_split_method",
            f"`{after}` changes the parts after the split. What it does to every row belongs into "
            "`recipe_rows` of model.py, what it learns from train into the transform.",
        )
    elif keeps and own:
        _, name = taken.take("split", str(keeps))
        taken.carried(
            "steps.split.post_split_filter_method", f"`{name}` filters train in `recipe_rows`."
        )
        changes += [
            f'train, others = rows[rows["{PART}"] == 0], rows[rows["{PART}"] > 0]',
            f'rows = pd.concat([train[{name}(train.drop(columns="{PART}"))], others])',
        ]
    elif keeps:
        _, name = taken.take("split", str(keeps))
        taken.otherwise(
            "steps.split.post_split_filter_method",
            f"`recipe_rows` in model.py keeps the rows that `{name}` keeps, of all three parts, as its "
            "template says. MLflow's code filtered train alone: what is judged may be easier here.",
        )
        changes.append(f"rows = rows[{name}(rows)]")
    return changes


def _by_content(taken: Takeover, ratios: list[float]) -> list[str]:
    total = sum(ratios)
    train, validation = (round(r / total, 6) for r in ratios[:2])
    rest = round(1 - train - validation, 6)
    taken.attributes["split"] = {
        "by": "row",
        "train": train,
        "validation": validation,
        "test": rest,
    }
    told = (
        "the same shares, by the content of a row and not by its number: equal rows stay together"
    )
    if taken.recipe.task != "regression":
        told += "; where rows are few, `salt` chooses another way to spread the classes"
    assert math.isclose(train + validation + rest, 1)
    taken.otherwise("steps.split.split_ratios", f"{told}.", "split")
    return []


def _own_split(taken: Takeover, split: dict[str, Any]) -> list[str]:
    if not split.get("split_method"):
        raise DeclarationError("steps.split (using: custom) has no `split_method`.")
    _, name = taken.take("split", str(split["split_method"]))
    by = {"time": PART, "validation_from": 1, "test_from": 2}
    taken.attributes["split"] = {"by": by, "train": 0.75, "validation": 0.125, "test": 0.125}
    taken.otherwise(
        "steps.split.split_method",
        f"`recipe_rows` in model.py asks `{name}` and writes its answer into the column {PART}, by which "
        "the rows are cut. It must decide by what a row says: a row that changes sides, or equal "
        "rows on two sides, cannot be seen from here. The shares only serve a warning.",
        "split",
    )
    return [
        'parts = {"TRAINING": 0, "VALIDATION": 1, "TEST": 2}',
        f"said = {name}(rows)",
        "if not said.isin(list(parts)).all():",
        f'    raise ValueError("{name} gives TRAINING, VALIDATION or TEST")',
        f'rows = rows.assign({PART}=said.map(parts).astype("int64"))',
    ]


_FILES = '''\
def _recipe_files(place, pattern):
    """The data files at a place, in the order of their names."""
    from pathlib import Path

    if "://" in place:
        import fsspec

        return [fsspec.open_local(f"simplecache::{place}")]
    folder = Path(place)
    return sorted(str(f) for f in folder.glob(pattern)) if folder.is_dir() else [place]'''


def _write_loader(taken: Takeover, loads: list[str], changes: list[str]) -> None:
    target = taken.recipe.target
    body = [
        *loads,
        f"rows = rows[rows[{json.dumps(target)}].notna()].reset_index(drop=True)",
        *changes,
    ]
    imports = ["import pandas as pd"] if "pd." in "".join(body) else []
    imports[:0] = ["from pathlib import Path", ""] if "Path(" in "".join(body) else []
    imports += ["import deltalake"] if "deltalake." in "".join(body) else []
    lines = [
        "def recipe_rows():",
        '    """The rows, as the recipe\'s ingest and split made them."""',
        *(f"    {line}" if line else "" for line in [*imports, "", *body]),
        "    return rows.reset_index(drop=True)",
    ]
    if "_recipe_files(" in "".join(loads):
        taken.own.append(_FILES)
    taken.own.append("\n".join(lines))
