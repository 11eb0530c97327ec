"""The live rows of a round: what served and what was scored in files, with labels as they came."""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.data_file import fingerprint, read_through
from ml_assets.errors import DatasetError, ModelRefused, NotMaterialized
from ml_assets.landing import Arrival, fetch, look_for
from ml_assets.later import later
from ml_assets.live import PROBABILITY, SCORED_FILE, SERVED, LiveRows, key_text, together
from ml_assets.resources.ledger import MAKES_CHAMPION
from ml_assets.resources.prediction_log import ANSWERS, INPUTS, read_inputs, read_predictions
from ml_assets.round import Round
from ml_assets.round.dataset import current_dataset, dataset_rows, dataset_version
from ml_assets.round.predictions import ScoredFile, scored_files
from ml_assets.rows import as_frame
from ml_assets.scoring import Scorer, fitted_in, read_as
from ml_assets.verification import golden_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pyarrow as pa
else:
    np = later("numpy")
    pd = later("pandas")
    pa = later("pyarrow")


def live_rows(round_: Round, since: float | None = None, until: float | None = None) -> LiveRows:
    """It returns the predictions that were made for a problem, joined with labels.

    Args:
        round_: problem and stores.
        since: only what was predicted from then on, in seconds since 1970.
        until: only what was predicted before, in seconds since 1970.

    Raises:
        ModelRefused: rows of the dataset are not what was written.
    """
    parts = [_served(round_, since, until), *_scored(round_, since, until)]
    labels, why = _labels(round_)
    versions = {int(v) for p in parts for v in p["version"].unique()}
    keyed = round_.problem.dataset.key is not None
    learned = (
        {v: k for v in versions if (k := learned_keys(round_, v)) is not None} if keyed else {}
    )
    return together(parts, keyed, labels, learned, why)


def _served(round_: Round, since: float | None, until: float | None) -> pd.DataFrame:
    round_.stores.lake.gather(round_.problem.name, ANSWERS)
    rows = read_predictions(round_.stores.lake.root, round_.problem.name, since, until)
    at = rows["at"].astype("int64") / 1e9
    rows = rows.drop(columns=["at", "inputs"]).rename(columns={"model_version": "version"})
    return rows.assign(at=at, key=key_text(rows["key"]), source=SERVED)


def _scored(round_: Round, since: float | None, until: float | None) -> Iterable[pd.DataFrame]:
    for file in scored_files(round_):
        at = _seconds(file.at)
        early = since is not None and at < since
        path = Path(file.output)
        if early or (until is not None and at >= until) or not path.is_file():
            continue
        yield _said_in_file(path, at, round_.problem.dataset.key)


def _said_in_file(path: Path, at: float, key: str | None) -> pd.DataFrame:
    """It returns the predictions of one file; rows without one are left out."""
    if path.suffix == ".parquet":
        rows = pd.read_parquet(path)
    else:
        rows = pd.read_csv(path, dtype={key: str} if key else None)
    made = pd.DataFrame(
        {
            "id": [f"{path.name}-{i}" for i in range(len(rows))],
            "key": key_text(rows[key]) if key is not None and key in rows else None,
            "at": at,
            "version": rows["model_version"],  # a canary answers some of the rows
            "prediction": rows["prediction"],
            "source": SCORED_FILE,
        }
    )
    shares = [c for c in rows.columns if c.startswith(PROBABILITY)]
    return pd.concat([made, rows[shares]], axis=1)[rows["prediction"].notna().to_numpy()]


def _labels(round_: Round) -> tuple[pd.Series | None, str]:
    """It returns the target of the accepted rows by key, or why it is not known."""
    declared = round_.problem.dataset
    if declared.key is None:
        return None, ""
    try:
        entry, _ = current_dataset(round_)
    except NotMaterialized as error:
        return None, f"Labels are not known: {error}"
    rows = dataset_rows(round_, entry)
    if declared.key not in rows.columns or declared.target not in rows.columns:
        return None, f"Labels are not known: the dataset has no `{declared.key}`."
    keys = key_text(rows[declared.key])
    labels = pd.Series(rows[declared.target].to_numpy(), index=pd.Index(keys))
    return labels[labels.index.notna()], ""


def learned_keys(round_: Round, version: int) -> pd.Index | None:
    """It returns the keys of the dataset that a version was made from; None if that is gone."""
    key = str(round_.problem.dataset.key)
    try:
        entry = dataset_version(round_, _made_from(round_, version))
        rows = dataset_rows(round_, entry)
    except (NotMaterialized, ModelRefused, FileNotFoundError):
        return None
    return pd.Index(key_text(rows[key])) if key in rows.columns else None


def _made_from(round_: Round, version: int) -> str:
    """It returns the version of the dataset that a version of the model was made from."""
    entries = round_.stores.ledger.entries(round_.problem.name)
    known = [e for e in entries if e["event"] in MAKES_CHAMPION and e["version"] == version]
    if known:
        return str(known[-1]["dataset_version"])
    return round_.stores.registry.version(round_.problem.name, version).tags["dataset_version"]


# --------------------------------------------------------------------------------------- features


def live_features(round_: Round, rows: pd.DataFrame) -> pd.DataFrame:
    """It returns the features of live rows as the version saw them, by the index of the rows.

    Those of files are read from where the files lie, if they still do, with the same bytes; those
    of served rows from what the server kept, where that is declared.  The others are left out.

    Args:
        round_: problem and stores.
        rows: live rows of one version.
    """
    if not len(rows):
        return pd.DataFrame()
    version = int(rows["version"].iloc[0])
    stored = round_.stores.registry.version(round_.problem.name, version)
    kinds, classes = golden_of(stored.folder)
    asks = Scorer(
        round_.problem.name, version, stored.digest, None, kinds, classes, round_.problem.dataset
    )
    parts = [
        _of_served(round_, rows[rows["source"] == SERVED], kinds),
        *_of_files(round_, rows[rows["source"] == SCORED_FILE], asks),
    ]
    there = [p for p in parts if len(p)]
    found = pd.concat(there) if there else pd.DataFrame(columns=list(kinds))
    return found.loc[rows.index[rows.index.isin(found.index)]]


def _of_served(round_: Round, rows: pd.DataFrame, kinds: dict[str, str]) -> pd.DataFrame:
    if not len(rows):
        return pd.DataFrame()
    place = pd.Series(rows.index, index=rows["id"])
    columns: dict[str, list[Any]] = {n: [] for n in kinds}
    names: list[str] = []
    lake, problem = round_.stores.lake.root, round_.problem.name
    round_.stores.lake.gather(problem, INPUTS)
    first, last = float(rows["at"].min()), float(rows["at"].max())
    for request in read_inputs(lake, problem, first - 1, last + 1):
        if request["columns"].keys() != kinds.keys():
            continue
        count = len(next(iter(request["columns"].values())))
        names += [f"{request['id']}-{i}" for i in range(count)]
        for name, values in request["columns"].items():
            columns[name] += values
    frame = pd.DataFrame({n: _typed(columns[n], kind) for n, kind in kinds.items()})
    frame.index = pd.Index(pd.Series(names, dtype=object).map(place))
    frame = frame[frame.index.notna()]
    frame.index = frame.index.astype("int64")
    return frame[~frame.index.duplicated()]


def _typed(values: list[Any], kind: str) -> pd.Series:
    if kind == "datetime64[ns]":
        return pd.Series(np.array(values, dtype="int64").view("datetime64[ns]"))
    if kind in ("int64", "float64", "bool"):
        return pd.Series(values, dtype="float64")
    return pd.Series(values, dtype=object)


def _of_files(round_: Round, rows: pd.DataFrame, asks: Scorer) -> Iterable[pd.DataFrame]:
    if not len(rows) or round_.problem.predictions is None:
        return
    apart = rows["id"].str.rsplit("-", n=1, expand=True)
    known = {Path(f.output).name: f for f in scored_files(round_)}
    arrived = {
        a.name: a for a in look_for(round_.problem, round_.stores.root, round_.clock()).arrived
    }
    for output, places in apart.groupby(0)[1]:
        file = known[output]
        if file.name not in arrived:
            continue
        features = _of_file(round_, file, arrived[file.name], asks)
        if features is not None:
            made = features.iloc[places.astype(int).to_numpy()]
            made.index = places.index
            yield made


def _of_file(
    round_: Round, file: ScoredFile, arrival: Arrival, asks: Scorer
) -> pd.DataFrame | None:
    """It returns the features of a file that was scored; None if it is no longer the same."""
    folder = round_.stores.lake.root / round_.problem.name / ".fetched"
    path = None
    try:
        path = fetch(arrival, folder)
        if fingerprint(path) != file.digest:
            return None
        declared = round_.problem.dataset.model_copy(update={"bad_lines": 0})

        def whole(pieces: Iterable[pa.Table]) -> pa.Table:
            return pa.concat_tables(list(pieces))

        table, _ = read_through(path, declared, read_as(asks), whole)
        frame = as_frame(table.select(list(asks.columns)))
    except (DatasetError, KeyError):
        return None
    finally:
        if arrival.remote and path is not None:
            path.unlink(missing_ok=True)
    return fitted_in(asks, frame)[0]


def _seconds(stamp: str) -> float:
    return float(timegm(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")))
