"""What a canary says of a request, beside the champion; nothing that it does can fail the request."""

import json
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ml_assets.errors import RequestRefused
from ml_assets.scoring import Said, Scorer
from ml_assets.serving.asked import Asked, asked_of
from ml_assets.share import Shared, Sharing, names_of, shared

_log = logging.getLogger("ml_assets.serving")


def beside(
    champion: Scorer,
    canary: Sharing | None,
    asked: Asked,
    said: Said,
    how: tuple[str, bytes, bool, int],
) -> Shared:
    """It puts the canary's answers in the place of the champion's, for the rows that fall to it.

    Args:
        champion: who answered.
        canary: the canary, verified; None where there is none.
        asked: the request's rows, as the champion needs them.
        said: what the champion said; changed where the canary answers.
        how: content type and body of the request, whether it is in MLflow's protocol, and to how
            many bytes it may unpack.
    """
    if canary is None:
        return Shared()

    def features() -> tuple[pd.DataFrame, dict[int, str]]:
        if canary.scorer.columns == champion.columns:
            return asked.features, {}
        return asked_of(canary.scorer, *how).features, {}

    before = said.values.copy(), said.probabilities, dict(said.wrong)
    if said.probabilities is not None:
        said.probabilities = said.probabilities.copy()
    try:
        return shared(champion, said, canary, names_of(asked.keys, asked.features), features)
    except RequestRefused:
        pass  # it asks for other columns than the request has: the champion answers
    except Exception:  # whatever it is, the champion's answer is at hand
        _log.exception("the canary, version %s, broke; the champion answers", canary.scorer.version)
    said.values, said.probabilities, said.wrong = before
    return Shared()


def versions_of(answered: Shared, champion: Scorer, rows: int) -> list[int]:
    """It returns who answered each row."""
    return [champion.version] * rows if answered.versions is None else answered.versions.tolist()


def shadow_line(answered: Shared, canary: Sharing | None, line: dict[str, Any]) -> bytes:
    """It returns the line of what a shadow said, of a version of its own; nothing without one.

    Rows that it could not score are left out.

    Args:
        answered: what came of the request.
        canary: the canary.
        line: the line of the answer.
    """
    if answered.shadow is None or canary is None:
        return b""
    said = answered.shadow
    good = [i for i in range(len(said.values)) if i not in said.wrong]
    if not good:
        return b""
    shares = None if said.probabilities is None else said.probabilities[good].tolist()
    own = {
        **line,
        "id": f"{line['id']}.shadow",
        "shadow": True,
        "version": canary.scorer.version,
        "inputs": [line["inputs"][i] for i in good],
        "keys": None if line["keys"] is None else [line["keys"][i] for i in good],
        "predictions": plain(said.values[good]),
        "classes": list(canary.scorer.classes),
        "probabilities": shares,
    }
    own.pop("versions", None)
    return json.dumps(own).encode() + b"\n"


def plain(values: np.ndarray) -> list[Any]:
    """It returns predictions as JSON has them."""
    return [v.item() if isinstance(v, np.generic) else v for v in values.tolist()]


def shown(versions: Sequence[int]) -> str:
    """It returns who answered, for a header."""
    return ",".join(map(str, dict.fromkeys(versions)))
