"""The predictions of a round: files scored with the champion, each content once by each version."""

import time
from pathlib import Path
from typing import Any

from ml_assets.errors import (
    DeclarationError,
    NotMaterialized,
    shortened,
)
from ml_assets.landing import DATA_FILES
from ml_assets.problem import Problem
from ml_assets.resources.ledger import MAKES_CHAMPION
from ml_assets.resources.stores import Stores
from ml_assets.round import Round
from ml_assets.scoring import Scorer, score_file
from ml_assets.verification import golden_of, load_verified, says_the_same


def scoring_entry(problem: str, stores: Stores, version: int | None = None) -> dict[str, Any]:
    """It returns the ledger's entry of the version that is to score: the champion, or a former one.

    Args:
        problem: the problem's name.
        stores: where the ledger is.
        version: one that is or was champion; None for the champion.

    Raises:
        NotMaterialized: there is no champion.
        DeclarationError: the version never was champion.
        PromotionRefused: the ledger was rewritten.
    """
    made = [e for e in stores.ledger.entries(problem) if e["event"] in MAKES_CHAMPION]
    if not made:
        raise NotMaterialized(
            f"{problem} has no champion yet, so nothing can score. Bring one to production: "
            f"`ml-assets run {problem}`."
        )
    known = [e for e in made if version in (None, e["version"])]
    if not known:
        was = shortened(dict.fromkeys(f"version {e['version']}" for e in made))
        raise DeclarationError(
            f"Version {version} of {problem} was never champion: its gates did not let it into "
            f"production. Champions so far: {was}."
        )
    return known[-1]


def load_scorer(problem: Problem, stores: Stores, entry: dict[str, Any]) -> Scorer:
    """It returns a version ready to score, when it is what the ledger recorded and still says so.

    Raises:
        ModelRefused: a file was changed, it holds untrusted types, or it predicts otherwise.
    """
    version = stores.registry.version(problem.name, entry["version"])
    model = load_verified(version.folder, entry["digest"], tuple(problem.trust))
    says_the_same(model, version.folder)
    columns, classes = golden_of(version.folder)
    return Scorer(
        problem.name, entry["version"], entry["digest"], model, columns, classes, problem.dataset
    )


def predict_file(
    round_: Round, path: Path, output: Path, version: int | None = None
) -> dict[str, Any]:
    """It scores one file and returns what came of it, for `ml-assets predict`.

    Raises:
        DeclarationError: the output has no ending that can be written, or no folder, or is the
            input; or the version never was champion.
        DatasetError: the input cannot be read, or lacks features.
        NotMaterialized: there is no champion.
        ModelRefused: the version is not what was recorded.
    """
    began = time.perf_counter()
    _can_be_written(path, output)
    scorer = load_scorer(
        round_.problem, round_.stores, scoring_entry(round_.problem.name, round_.stores, version)
    )
    at = stamp(round_.clock())
    scored = score_file(scorer, path, output, at)
    return {
        "problem": round_.problem.name,
        "version": scorer.version,
        "rows": scored.rows,
        "wrong_rows": scored.wrong_rows,
        "wrong": [{"line": line, "reason": reason} for line, reason in scored.wrong],
        "unseen": dict(scored.unseen),
        "input": str(path),
        "input_digest": scored.digest,
        "output": str(output),
        "scored_at": at,
        "seconds": round(time.perf_counter() - began, 3),
    }


def stamp(seconds: float) -> str:
    """It returns a time in UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _can_be_written(path: Path, output: Path) -> None:
    if not output.name.endswith(DATA_FILES):
        raise DeclarationError(
            f"{output}: predictions are written as {', '.join(DATA_FILES)}. End the name so."
        )
    if not output.parent.is_dir():
        raise DeclarationError(f"{output.parent} is no folder. Make it, or name another output.")
    if output.is_dir():
        raise DeclarationError(f"{output} is a folder. Name a file.")
    if output.exists() and path.exists() and output.samefile(path):
        raise DeclarationError(f"{output} is the input itself. Name another output.")
