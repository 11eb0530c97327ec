"""Every error that ml_assets raises on purpose.

::

    MLAssetsError
    ├── DeclarationError      a defs.yaml that cannot mean what its author wants
    ├── DatasetError          a file or loader that does not give usable rows
    ├── CandidateError        an estimator or transform that cannot be built, fitted or kept
    ├── ModelRefused          a stored model that is not what its record says, or not trusted
    ├── NotMaterialized       an asset that is needed first, or that another version made stale
    ├── PromotionRefused      production was asked to change in a way that a law forbids
    └── RequestRefused        a request to a served champion that cannot be answered

A message says what is wrong, where, what was expected, and what to do.
"""

import difflib
from collections.abc import Iterable, Mapping


class MLAssetsError(Exception):
    """The root: catch it to catch everything that ml_assets raises on purpose."""


class DeclarationError(MLAssetsError):
    """A declaration (``defs.yaml`` or Python) that is wrong."""


class DatasetError(MLAssetsError):
    """Rows that cannot be read, or cannot be used."""


class CandidateError(MLAssetsError):
    """A candidate that cannot be built, fitted, or stored."""


class ModelRefused(MLAssetsError):
    """A stored model that was altered, or holds types that nobody trusted."""


class NotMaterialized(MLAssetsError):
    """An asset that must be materialized first."""


class PromotionRefused(MLAssetsError):
    """A promotion that came too late, or for a version that cannot be verified."""


class RequestRefused(MLAssetsError):
    """A request to a served champion that cannot be answered.

    Attributes:
        status: the HTTP status that says so.
        code: a word for programs.
        where: the place in the request, as far as known.
    """

    def __init__(
        self,
        message: str,
        status: int = 400,
        code: str = "refused",
        where: Mapping[str, int | str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.where = status, code, dict(where or {})


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """It returns `` Did you mean `x`?`` for a near miss, else the known words, bounded in length."""
    known = [str(k) for k in known]
    lowered = {k.lower(): k for k in known}
    near = difflib.get_close_matches(str(word).lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f" Did you mean `{lowered[near[0]]}`?"
    return f" Known: {shortened(known)}." if known else ""


def shortened(words: Iterable[object], most: int = 12) -> str:
    """It joins words with commas and says how many were left out, so that a message stays readable."""
    cut = [str(w) if len(str(w)) <= 60 else str(w)[:57] + "..." for w in words]
    rest = len(cut) - most
    return ", ".join(cut[:most]) + (f" and {rest} more" if rest > 0 else "")
