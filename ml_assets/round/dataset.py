"""The dataset of a round: read once, asked by its gates, made current when they hold."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import ml_assets
from ml_assets.data_file import READING, fingerprint, load, read
from ml_assets.dataset import Profile, describe
from ml_assets.digest import digest_of
from ml_assets.errors import DatasetError, NotMaterialized
from ml_assets.gates import dataset as gates
from ml_assets.gates import failures
from ml_assets.integrity import inspected
from ml_assets.resources.lake import Entry, write_table
from ml_assets.round import PROFILE, ROWS, Made, Round
from ml_assets.user_code import locate


@dataclass(frozen=True)
class DatasetMade(Made):
    """The dataset.

    Attributes:
        entry: its files.
        profile: what it holds.
        source: the declared path or loader.
    """

    entry: Entry
    profile: Profile
    source: str


def make_dataset(round_: Round) -> DatasetMade:
    """It reads the rows if they are new, and asks the gates on them.

    The current dataset changes only when every enforced gate holds.

    Raises:
        DatasetError: the file or loader gives no rows.
    """
    problem, declared = round_.problem, round_.problem.dataset
    rows: pd.DataFrame | None = None
    file = round_.stores.root / (declared.path or "")
    if declared.path is not None:
        _stays_inside(file, declared.path, round_.stores.root)
        source, content = declared.path, fingerprint(file)
    else:
        assert declared.loader is not None
        rows = load(locate(declared.loader, round_.folder), declared.loader)
        source, content = declared.loader, _content(rows)
    key = digest_of("dataset", READING, content, _reading(round_), ml_assets.__version__)
    entry = round_.find("dataset", key)
    reused = entry is not None
    if entry is None:

        def write(folder: Path) -> dict[str, Any]:
            table = rows if rows is not None else read(file, declared)
            write_table(table, folder / ROWS)
            profile = inspected(table, describe(table, declared, problem.task), declared.target)
            (folder / PROFILE).write_text(json.dumps(asdict(profile)))
            return {"at": round_.clock(), "source": source, "reading": _reading(round_)}

        entry = round_.put("dataset", key, write)
    profile = Profile.from_record(entry.json(PROFILE))
    verdicts = gates.ask(profile, problem)
    if not failures(verdicts):
        round_.stores.lake.make_current(problem.name, "dataset", "dataset", entry)
    return DatasetMade(verdicts, reused, entry, profile, source)


def _stays_inside(file: Path, declared: str, root: Path) -> None:
    """It refuses a relative path that leads out of the project by `..` or by a link."""
    try:
        real = file.resolve(strict=True)
    except FileNotFoundError:
        return  # said by whoever opens it
    except (OSError, RuntimeError):
        raise DatasetError(f"{declared} is a link that leads nowhere.") from None
    if not Path(declared).is_absolute() and not real.is_relative_to(root.resolve()):
        raise DatasetError(
            f"{declared} leads out of the project's folder. If that is meant, declare the "
            "absolute path."
        )


def current_dataset(round_: Round) -> tuple[Entry, Profile]:
    """It returns the current dataset.

    Raises:
        NotMaterialized: there is none, or it was read under another declaration.
    """
    problem = round_.problem
    entry = round_.stores.lake.current(problem.name, "dataset")
    if entry.facts["reading"] != _reading(round_):
        raise NotMaterialized(
            f"{problem.name}/dataset was read under another declaration. Materialize it again."
        )
    return entry, Profile.from_record(entry.json(PROFILE))


def _reading(round_: Round) -> str:
    """It names everything in the declaration that decides what is read, and how it is seen."""
    declared = round_.problem.dataset
    seen = declared.model_dump(mode="json", exclude={"contract", "integrity"})
    types = {n: c.type for n, c in declared.contract.columns.items() if c.type}
    ignored = declared.contract.new_columns == "ignore" and sorted(declared.contract.columns)
    return digest_of(seen, types, ignored, round_.problem.task)


def _content(rows: pd.DataFrame) -> str:
    hashed = pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()
    return digest_of(list(rows.columns), [str(t) for t in rows.dtypes], hashed.hex())
