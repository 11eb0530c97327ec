"""A share: the rows that a canary answers in the place of the champion, always those of the same keys.

Which rows these are follows from the key of a row and the canary's digest alone, so that every
server and every batch agrees, and another canary gets another share.  Whatever the canary cannot
answer, the champion does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ml_assets.later import later
from ml_assets.scoring import Said, Scorer, said_of

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

# What gives the canary's features of all rows, and says which rows are wrong for it, and why.
Features = Callable[[], "tuple[pd.DataFrame, Mapping[int, str]]"]


@dataclass(frozen=True)
class Sharing:
    """A canary, verified and ready to answer.

    Attributes:
        scorer: its version.
        share: of the rows; 0 for a shadow, which answers all rows and is never heard.
    """

    scorer: Scorer
    share: float


@dataclass(frozen=True)
class Shared:
    """What a canary said beside the champion.

    Attributes:
        versions: who answered each row; None where the champion answered all of them.
        shadow: what a shadow said of all rows; None where there is none.
    """

    versions: np.ndarray | None = None
    shadow: Said | None = field(default=None)


def falls_to(names: Sequence[str], digest: str, share: float) -> np.ndarray:
    """It says which rows fall to a canary.

    Args:
        names: each row's name: its key, or, where it has none, the digest of its content.
        digest: the canary's.
        share: of all names.
    """
    if share <= 0 or not names:
        return np.zeros(len(names), dtype=bool)
    begun = hashlib.sha256(digest.encode() + b"\0")
    drawn = np.empty(len(names), dtype=np.uint64)
    for i, name in enumerate(names):
        one = begun.copy()
        one.update(name.encode())
        drawn[i] = int.from_bytes(one.digest()[:8], "big")
    return drawn < np.uint64(min(int(share * 2**64), 2**64 - 1))


def names_of(keys: Sequence[Any] | None, features: pd.DataFrame) -> list[str]:
    """It returns each row's name: its key as text, or, where it has none, the digest of its content.

    41, 41.0 and "41" are one key: JSON, csv and Parquet write the same key in different ways.
    """
    named = [None] * len(features) if keys is None else [_text(k) for k in keys]
    if None not in named:
        return [n for n in named if n is not None]
    contents = contents_of(features)
    return [c if n is None else n for n, c in zip(named, contents, strict=True)]


def _text(key: Any) -> str | None:
    if key is None or key != key:
        return None
    return str(int(key)) if isinstance(key, float) and key.is_integer() else str(key)


def contents_of(features: pd.DataFrame | Mapping[str, np.ndarray]) -> list[str]:
    """It returns for each row the first 16 digits of the SHA-256 of its features as JSON."""
    columns = [np.asarray(features[name]) for name in features]
    told = [c.astype("int64").tolist() if c.dtype.kind == "M" else c.tolist() for c in columns]
    return [
        hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16] for row in zip(*told, strict=True)
    ]


def alike(champion: Scorer, canary: Scorer) -> bool:
    """It says whether answers of the two can stand in one table: same classes, probabilities or none."""
    gives = [hasattr(s.model, "predict_proba") for s in (champion, canary)]
    return champion.classes == canary.classes and (not champion.classes or gives[0] == gives[1])


def shared(
    champion: Scorer, said: Said, canary: Sharing, names: Sequence[str], features: Features
) -> Shared:
    """It puts the canary's answers in the place of the champion's, for the rows that fall to it.

    One whose answers have another form than the champion's is a shadow.

    Args:
        champion: who answered.
        said: what it said of all rows; changed where the canary answers.
        canary: the canary.
        names: the rows' names.
        features: the canary's features of all rows.
    """
    if canary.share <= 0 or not alike(champion, canary.scorer):
        return Shared(shadow=said_of(canary.scorer, *features()))
    rows = np.flatnonzero(falls_to(names, canary.scorer.digest, canary.share))
    if not len(rows):
        return Shared()
    given, wrong = features()
    place = {int(row): i for i, row in enumerate(rows)}
    mine = {place[row]: why for row, why in wrong.items() if row in place}
    answer = said_of(canary.scorer, given.iloc[rows], mine)
    good = np.array([i for i in range(len(rows)) if i not in answer.wrong], dtype=int)
    versions = np.full(len(said.values), champion.version)
    at = rows[good]
    said.values[at], versions[at] = answer.values[good], canary.scorer.version
    if answer.probabilities is not None:
        if said.probabilities is None:  # the champion could answer none of these rows
            said.probabilities = np.full((len(said.values), len(champion.classes)), np.nan)
        said.probabilities[at] = answer.probabilities[good]
    for row in at:
        said.wrong.pop(int(row), None)
    return Shared(versions)
