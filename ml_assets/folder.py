"""A folder: what a new problem consists of on disk, defs.yaml and, when asked for, model.py.

``ml-assets new`` and ``dg scaffold defs ml_assets.components.MLProblem`` both write it, from here.
"""

import time
from pathlib import Path

from pydantic import ValidationError

from ml_assets.draft import Draft, Told, infer, render
from ml_assets.errors import DatasetError, DeclarationError
from ml_assets.landing import fetch, look
from ml_assets.problem import DEFAULT_CANDIDATES, DatasetDeclaration

MODEL = '''\
"""Estimators, transforms and gates of {name}: functions that defs.yaml names as `.model.NAME`.

They return unfitted scikit-learn objects. What is fitted, when, and on which rows is decided
elsewhere: on train only. This file imports no Dagster, so that it can be tested by itself.
"""

from sklearn.ensemble import {estimator}


def ours() -> {estimator}:
    """A candidate: `ours: {{estimator: .model.ours}}` under `candidates` in defs.yaml."""
    return {estimator}(max_leaf_nodes=15, learning_rate=0.05, random_state=0)
'''


def draft_of(
    name: str, data: str, target: str, told: Told, root: Path, fetched: Path, model: bool
) -> Draft:
    """It returns the draft of a problem from the first of its files.

    Args:
        name: the problem's name.
        data: a file, or where files arrive: a glob, a folder, a URL.
        target: the column to be predicted.
        told: what its owner says.
        root: the project's root, where relative paths of a declaration start.
        fetched: where a file that lies elsewhere is copied to.
        model: whether a model.py with an estimator of its own is written beside it.

    Raises:
        DatasetError: there is no file, or it cannot be used.
        DeclarationError: no problem can be called so, or be declared so.
    """
    path, first = _first_file(data, root, fetched)
    try:
        draft = infer(name, first, path, target, told)
    except ValidationError as error:
        raise DeclarationError("; ".join(_told(e["msg"]) for e in error.errors())) from None
    if model:
        draft.attributes["candidates"] = {
            **draft.attributes.get("candidates", DEFAULT_CANDIDATES),
            "ours": {"estimator": ".model.ours"},
        }
        draft.say("candidates", "The default candidates, and one of your own from model.py.")
    return draft


def write(home: Path, draft: Draft, model: bool) -> list[Path]:
    """It writes the folder of a problem, the declaration last, and returns its files.

    Args:
        home: the folder.
        draft: what is declared.
        model: whether a model.py is written too; one that is there stays.
    """
    home.mkdir(parents=True, exist_ok=True)
    declaration, code = home / "defs.yaml", home / "model.py"
    written = [declaration]
    if model and not code.exists():
        kind = "Regressor" if draft.attributes["task"] == "regression" else "Classifier"
        estimator = f"HistGradientBoosting{kind}"
        code.write_text(MODEL.format(name=draft.attributes["name"], estimator=estimator))
        written.append(code)
    declaration.write_text(render(draft), encoding="utf-8")
    return written


def _told(message: str) -> str:
    return message.removeprefix("Value error, ")


def _first_file(data: str, root: Path, fetched: Path) -> tuple[str, Path]:
    """It returns how a source is to be declared, and the first of its files."""
    ending = "/" if data.endswith("/") or Path(data).is_dir() else ""
    path = data
    if "://" not in data:
        shown = Path(data).absolute().parent.resolve() / Path(data).name
        path = str(shown.relative_to(root) if shown.is_relative_to(root) else shown) + ending
    declared = DatasetDeclaration(path=path, target="target", settle=0)
    if not declared.is_landing and "://" not in path:
        file = (root / path).resolve()
        if not file.exists():
            raise DatasetError(f"No data file at {file}: name the first data with --data.")
        return path, file
    found = look(root, declared, time.time()).arrived
    if not found:
        raise DatasetError(
            f"No csv, csv.gz or parquet file at {data} yet: put the first one there."
        )
    return path, fetch(found[0], fetched)
