"""The record of a version: all that is needed to make it again, kept when it is decided about."""

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ml_assets import candidate as candidates
from ml_assets.digest import digest_of
from ml_assets.problem import Problem, parts_of
from ml_assets.round import Round
from ml_assets.round.split import SplitMade
from ml_assets.user_code import source_digest

CONFIG = "config.json"


def keep_record(round_: Round, split: SplitMade) -> str:
    """It keeps the declaration, the team's own code and the environment; it returns the key.

    Rows are kept by the table already, named by the dataset's manifest.
    """
    sources = _sources(round_)
    config = round_.problem.model_dump(mode="json")
    known: dict[str, Any] = {"dataset": split.dataset.key, "split": split.entry.key}
    known["environment"] = environment(round_.problem)
    key = digest_of("record", config, known, [source_digest(s, round_.folder) for s in sources])
    if round_.find("record", key) is None:

        def write(folder: Path) -> dict[str, Any]:
            (folder / CONFIG).write_text(json.dumps({"config": config, **known}))
            for name in {f"{s.rpartition('.')[0].lstrip('.')}.py" for s in sources}:
                assert round_.folder is not None
                (folder / name).write_bytes((round_.folder / name).read_bytes())
            return {"at": round_.clock()}

        round_.put("record", key, write)
    return key


def declared_in(round_: Round, entry: dict[str, Any]) -> Problem | None:
    """It returns the declaration that a version was made by; None where it does not hold any more."""
    record = round_.find("record", str(entry.get("record")))
    if record is None:
        return None
    try:
        return Problem(**record.json(CONFIG)["config"])
    except ValidationError:
        return None


def environment(problem: Problem) -> dict[str, str]:
    """It returns the versions of the libraries, and of the packages that provide candidates."""
    parts = [p for c in problem.contenders().values() for p in parts_of(c, problem.transform)]
    return {**candidates.environment(), **{p.package: p.version for p in parts}}


def _sources(round_: Round) -> list[str]:
    """It returns the paths of a team's own functions that the candidates are made of."""
    problem = round_.problem
    paths = [problem.transform]
    paths += [p for c in problem.contenders().values() for p in (c.estimator, c.transform or "")]
    own = [p for p in dict.fromkeys(paths) if p.startswith(".")]
    return [p for p in own if source_digest(p, round_.folder)]
