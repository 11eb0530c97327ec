"""Every error that ml_assets raises on purpose.

::

    MLAssetsError
    ├── DeclarationError      a defs.yaml that cannot mean what its author wants
    ├── DatasetError          a file or loader that does not give usable rows
    ├── CandidateError        an estimator or transform that cannot be built, fitted or kept
    ├── ModelRefused          a stored model that is not what its record says, or not trusted
    ├── Damaged               something that was kept and is not what was written
    ├── RegistryAway          MLflow gave no answer; another try may succeed
    ├── StoreAway             the shared database or object store gave no answer; another try may succeed
    ├── NotMaterialized       an asset that is needed first, or that another version made stale
    ├── PromotionRefused      production was asked to change in a way that a law forbids
    ├── TimeLimitExceeded     what took longer than its limit
    ├── AlertFailed           a message that was not delivered
    └── RequestRefused        a request to a served champion that cannot be answered

A message says what is wrong, where, what was expected, and what to do.
"""

import difflib
import errno
import os
import socket
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


class Damaged(MLAssetsError):
    """Something that was kept is not what was written."""


class RegistryAway(MLAssetsError):
    """MLflow gave no answer: another try may succeed."""


class StoreAway(MLAssetsError):
    """The shared database or object store gave no answer: another try may succeed."""


class NotMaterialized(MLAssetsError):
    """An asset that must be materialized first."""


class PromotionRefused(MLAssetsError):
    """A promotion that came too late, or for a version that cannot be verified."""


class TimeLimitExceeded(MLAssetsError):
    """What took longer than its limit, and was interrupted."""


class AlertFailed(MLAssetsError):
    """A message that was not delivered; it tells no secret."""


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


# Another try may find these otherwise: somebody else's lock, a connection, a busy server.
_PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENOLCK,
    errno.ESTALE,
    errno.ETIMEDOUT,
    socket.EAI_AGAIN,
}
# By name: most of these libraries are not loaded, and need not be.
_OF_CONNECTIONS = {
    "aiohttp.client_exceptions.ClientConnectionError",
    "botocore.exceptions.ConnectionError",
    "botocore.exceptions.HTTPClientError",
    "_internal.CommitFailedError",  # deltalake
    "fsspec.exceptions.FSTimeoutError",
    "http.client.RemoteDisconnected",
    "httpx.TransportError",
    "requests.exceptions.ConnectionError",
    "requests.exceptions.Timeout",
    "sqlalchemy.exc.TimeoutError",
    "urllib3.exceptions.MaxRetryError",
    "urllib3.exceptions.ProtocolError",
    "urllib3.exceptions.TimeoutError",
}
_OF_DATABASES = {
    "mlflow.exceptions.MlflowException",
    "psycopg.OperationalError",
    "psycopg2.InterfaceError",
    "psycopg2.OperationalError",
    "sqlalchemy.exc.OperationalError",
    "sqlite3.OperationalError",
}
_OF_SERVERS = {
    "botocore.exceptions.ClientError",
    "mlflow.exceptions.RestException",
    "requests.exceptions.HTTPError",
    "urllib.error.HTTPError",
}
_BUSY = (429, 500, 502, 503, 504)
_PASSING_WORDS = (
    *("locked", "busy", "connect", "timeout", "timed out", "closed", "deadlock"),
    *("temporarily", "max retries exceeded", "too many 5"),
)
_WRONG_WORDS = ("authentication failed", "does not exist", "no such", "syntax error")


def is_transient(error: BaseException | None) -> bool:
    """It says whether another try may succeed: a lock, a connection, a server that is busy.

    Our own errors are asked for their cause.  A team's own exception is theirs, whatever caused
    it, and says no.
    """
    while error is not None:
        names = {f"{c.__module__}.{c.__qualname__}" for c in type(error).__mro__}
        if names & _OF_SERVERS:
            return _status_of(error) in _BUSY
        if names & _OF_DATABASES:
            said = str(error).lower()
            wrong = any(word in said for word in _WRONG_WORDS)
            return not wrong and any(word in said for word in _PASSING_WORDS)
        if names & _OF_CONNECTIONS:
            return True
        if isinstance(error, OSError) and type(error).__module__ in _BUILT_IN:
            reason = getattr(error, "reason", None)  # of urllib's
            if isinstance(reason, OSError):
                return is_transient(reason)
            passing = isinstance(error, (ConnectionError, TimeoutError))
            return passing or error.errno in _PASSING
        if not isinstance(error, MLAssetsError):
            return False
        error = error.__cause__ or error.__context__  # the latter where it is not to be shown
    return False


def of_the_machine(error: BaseException | None) -> str | None:
    """It returns what disk, memory or a database said, where an error comes from there; else None."""
    while error is not None:
        names = {f"{c.__module__}.{c.__qualname__}" for c in type(error).__mro__}
        if isinstance(error, MemoryError):
            return "there was no memory left"
        if isinstance(error, OSError) and error.errno is not None:
            where = f": {error.filename}" if error.filename else ""
            return f"{os.strerror(error.errno)}{where}"
        if names & _OF_DATABASES:
            return str(getattr(error, "orig", None) or error).splitlines()[0][:200]
        error = error.__cause__ or error.__context__
    return None


_BUILT_IN = ("builtins", "socket", "urllib.error")


def _status_of(error: BaseException) -> int | None:
    """It returns the HTTP status that a library's error carries, wherever it keeps it."""
    asked = getattr(error, "get_http_status_code", None)  # MLflow
    if callable(asked):
        return int(asked())
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return status if isinstance(status, int) else None
    return getattr(response, "status_code", None) or getattr(error, "code", None)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """It returns `` Did you mean `x`?`` for a near miss, else the known words, bounded in length."""
    known = [str(k) for k in known]
    lowered = {k.lower(): k for k in known}
    near = difflib.get_close_matches(str(word).lower(), list(lowered), n=1, cutoff=0.6)
    if near:
        return f" Did you mean `{lowered[near[0]]}`?"
    return f" Known: {shortened(known)}." if known else ""


def counted(count: int, noun: str) -> str:
    """It returns how many there are of something: 1 file, 2 files."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def shortened(words: Iterable[object], most: int = 12) -> str:
    """It joins words with commas and says how many were left out, so that a message stays readable."""
    cut = [str(w) if len(str(w)) <= 60 else str(w)[:57] + "..." for w in words]
    rest = len(cut) - most
    return ", ".join(cut[:most]) + (f" and {rest} more" if rest > 0 else "")
