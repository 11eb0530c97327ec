"""What live rows of a version are held against: the rows that it was judged on, as they were then."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets import drift
from ml_assets.candidate import Predictions
from ml_assets.dataset import Target
from ml_assets.digest import digest_of
from ml_assets.drift import Spread
from ml_assets.evaluation import select_metric
from ml_assets.later import later
from ml_assets.quality import Judged, Measured, measured, usual_gain
from ml_assets.resources.lake import Entry, read_table, write_table
from ml_assets.round import CARD, PREDICTIONS, Round
from ml_assets.round.challenger import score_on_test
from ml_assets.round.record import declared_in
from ml_assets.round.split import make_split, part_rows
from ml_assets.verification import load_verified

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

MADE_BY = "1"  # changes when a reference comes to hold something else
MOST_JUDGED = 5000
FEATURES = "features.parquet"
NOUN = "reference"


@dataclass(frozen=True)
class Reference:
    """How a version did, and what the rows were like, where it was judged.

    Attributes:
        version: the version.
        columns: how its features are spread; not those that are dates.
        answers: how its predictions are spread.
        judged: rows of test, with what it said of them; a sample of many.
        features: the features of these rows as numbers.
        target: what is predicted.
        then: the metric on test.
        gain: by how much it is better there than an answer that ignores the features.
    """

    version: int
    columns: tuple[Spread, ...]
    answers: tuple[Spread, ...]
    judged: Judged
    features: np.ndarray
    target: Target
    then: Measured
    gain: float


def reference_of(round_: Round, entry: dict[str, Any]) -> Reference:
    """It returns what a version's live rows are held against; made once for each version.

    Args:
        round_: problem and stores.
        entry: the ledger's entry that made it champion.

    Raises:
        NotMaterialized: the rows that it learned from are gone.
        ModelRefused: rows or model are not what was recorded.
    """
    select = round_.problem.select
    key = digest_of(NOUN, MADE_BY, entry["digest"], entry["split"], select)
    found = round_.find(NOUN, key)
    return _read(found or round_.put(NOUN, key, lambda f: _write(round_, entry, f)), entry)


def _write(round_: Round, entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """It writes the reference, from the rows as they were split then."""
    problem = declared_in(round_, entry) or round_.problem
    then = replace(round_, problem=problem, dataset_version=entry["dataset_version"])
    split = make_split(then)
    target = split.profile.usable_target()

    def model() -> Any:
        version = round_.stores.registry.version(problem.name, entry["version"])
        return load_verified(version.folder, entry["digest"], tuple(problem.trust))

    scored, _ = score_on_test(then, split, entry["model_digest"], model)
    said = Predictions.from_table(read_table(scored.path / PREDICTIONS))
    train, validation, test = (part_rows(then, split, p) for p in ("train", "validation", "test"))
    judged = Judged(test[problem.dataset.target].to_numpy(), said)
    contract = problem.dataset.contract.columns
    dates = [n for n, rule in contract.items() if rule.type == "date"]
    names = [n for n in split.profile.features if n not in dates]
    columns = drift.spreads_of(train, pd.concat([validation, test]), names)
    shown = drift.answers(said, target)
    metric = select_metric(target.task, round_.problem.select)
    random = np.random.default_rng(problem.seed)
    few = np.sort(random.permutation(len(test))[:MOST_JUDGED])
    sample = judged.taken(few)
    write_table(sample.said.as_table().assign(truth=sample.truth), folder / PREDICTIONS)
    numbers = pd.DataFrame(
        drift.encoded(columns, test.iloc[few]), columns=[s.name for s in columns]
    )
    write_table(numbers, folder / FEATURES)
    record = {
        "columns": drift.as_record(columns),
        "answers": drift.as_record(drift.spreads_of(shown, shown, list(shown))),
        "target": asdict(target),
        "then": asdict(measured(metric, judged, target, problem.seed)),
        "gain": usual_gain(metric, judged, target),
    }
    (folder / CARD).write_text(json.dumps(record))
    return {"at": round_.clock()}


def _read(found: Entry, entry: dict[str, Any]) -> Reference:
    record, table = found.json(CARD), read_table(found.path / PREDICTIONS)
    listed = {k: tuple(record["target"][k]) for k in ("classes", "counts")}
    return Reference(
        entry["version"],
        drift.from_record(record["columns"]),
        drift.from_record(record["answers"]),
        Judged(table["truth"].to_numpy(), Predictions.from_table(table.drop(columns="truth"))),
        read_table(found.path / FEATURES).to_numpy(dtype="float64"),
        Target(**{**record["target"], **listed}),
        Measured(**record["then"]),
        record["gain"],
    )
