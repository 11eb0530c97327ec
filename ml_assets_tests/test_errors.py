import errno
import inspect
import sqlite3
import urllib.error

import botocore.exceptions
import pytest
import requests
import sqlalchemy
from mlflow.exceptions import MlflowException, RestException

from ml_assets import errors
from ml_assets.errors import MLAssetsError, did_you_mean, is_transient, shortened

RAISED = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, Exception) and found is not MLAssetsError
]


@pytest.mark.parametrize("error", RAISED, ids=lambda e: e.__name__)
def test_one_except_catches_everything_raised_on_purpose(error):
    with pytest.raises(MLAssetsError, match="why"):
        raise error("why")


def test_the_drawn_tree_names_every_error_and_no_other():
    drawn = errors.__doc__ or ""
    found = {line.split("── ")[1].split()[0] for line in drawn.splitlines() if "── " in line}
    assert found == {e.__name__ for e in RAISED}


@pytest.mark.parametrize("word", ["randm_forest", "RANDOM_FOREST", "random-forest"])
def test_a_near_miss_is_answered_with_the_word_that_was_meant(word):
    known = ["catboost", "random_forest", "ridge"]
    assert did_you_mean(word, known) == " Did you mean `random_forest`?"


def test_a_far_miss_is_answered_with_the_known_words():
    assert did_you_mean("zzz", ["ridge", "catboost"]) == " Known: ridge, catboost."


def test_nothing_known_gives_no_hint():
    assert did_you_mean("zzz", []) == ""


def test_a_word_that_is_no_text_is_answered_too():
    assert did_you_mean(12, ["123", "abc"]) == " Did you mean `123`?"


def test_a_long_list_says_how_many_words_it_leaves_out():
    assert shortened(range(15)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more"
    assert shortened(range(12)).endswith("10, 11")


def test_a_long_word_is_cut():
    assert shortened(["x" * 61]) == "x" * 57 + "..."
    assert shortened(["x" * 60]) == "x" * 60


class Kettle(ConnectionError):
    """A team's own exception, whatever it descends from."""


def wrapped(cause: Exception) -> MLAssetsError:
    error = errors.DatasetError("`sql` could not be asked")
    error.__cause__ = cause
    return error


def hidden() -> MLAssetsError:
    """It returns an error of ours that does not show its cause, as that may name a password."""
    try:
        try:
            raise sqlite3.OperationalError("database is locked")
        except sqlite3.OperationalError:
            raise errors.DatasetError("`sql` failed") from None
    except MLAssetsError as error:
        return error


def answered(status: int) -> Exception:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(f"{status} Server Error", response=response)


PASSING = [
    sqlite3.OperationalError("database is locked"),
    sqlalchemy.exc.OperationalError("select 1", {}, Exception("server closed the connection")),
    sqlalchemy.exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached"),
    ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    TimeoutError("timed out"),
    OSError(errno.ESTALE, "Stale file handle"),
    urllib.error.URLError(ConnectionResetError("reset")),
    requests.ConnectionError("Max retries exceeded"),
    answered(503),
    MlflowException("API request failed: Max retries exceeded with url"),
    RestException({"error_code": "INTERNAL_ERROR", "message": "later"}),
    botocore.exceptions.EndpointConnectionError(endpoint_url="https://example.com"),
    wrapped(sqlite3.OperationalError("database is locked")),
    hidden(),
]
STAYING = [
    ValueError("wrong"),
    MemoryError(),
    Kettle("boiled over"),
    FileNotFoundError(errno.ENOENT, "No such file"),
    OSError(errno.ENOSPC, "No space left on device"),
    sqlite3.OperationalError("no such table: rows"),
    sqlalchemy.exc.OperationalError("", {}, Exception("connection failed: authentication failed")),
    answered(404),
    MlflowException("Registered Model with name=demo not found"),
    RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "gone"}),
    errors.DatasetError("no rows"),
    errors.TimeLimitExceeded("too long"),
    wrapped(ValueError("wrong")),
    None,
]


@pytest.mark.parametrize("error", PASSING, ids=lambda e: type(e).__name__)
def test_a_lock_a_connection_and_a_busy_server_may_pass(error: Exception):
    assert is_transient(error)


@pytest.mark.parametrize("error", STAYING, ids=lambda e: type(e).__name__)
def test_wrong_input_and_a_teams_own_exception_do_not_pass(error: Exception | None):
    assert not is_transient(error)
