"""A verification: a stored model is what its record says, and still says what it said.

It runs in a process that has nothing of ours in memory: the digest of every file, the allow-list
of types, the columns that the model asks for, and its predictions for a few golden rows that
were stored with it.
"""

import contextlib
import hashlib
import json
import math
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ml_assets.digest import tree_digest
from ml_assets.errors import ModelRefused

MODEL_FILE = "model.skops"
GOLDEN_FILE = "golden.json"
GOLDEN_ROWS = 20
TOLERANCE = 1e-9
# A verification that takes longer than this has hung.
SECONDS = 300


def golden(model: Any, rows: Any, target: Any) -> dict[str, Any]:
    """It returns a few rows and what the model says of them, as JSON-like values."""
    import pandas as pd

    from ml_assets.candidate import feature_names, predict

    names = feature_names(model)
    few = rows[names].head(GOLDEN_ROWS)
    said = predict(model, few, target)
    return {
        "columns": {n: str(few[n].dtype) for n in names},
        "rows": {n: [None if pd.isna(v) else _plain(v) for v in few[n].to_numpy()] for n in names},
        "values": [_plain(v) for v in said.values],
        "probabilities": None if said.probabilities is None else said.probabilities.tolist(),
        "classes": [_plain(c) for c in target.classes],
    }


def _plain(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if type(value).__module__ == "numpy":
        return str(value) if type(value).__name__ == "datetime64" else value.item()
    return value


@dataclass(frozen=True)
class Loaded:
    """A model that was loaded before anybody asked whether it is the right one.

    Attributes:
        digest: SHA-256 of the bytes that it was loaded from.
        trusted: what was trusted then, besides our own list.
        model: the model.
    """

    digest: str
    trusted: tuple[str, ...]
    model: Any


def load_verified(
    folder: Path, digest: str, trusted: tuple[str, ...] = (), early: Loaded | None = None
) -> Any:
    """It returns the model of a folder whose content has the recorded digest.

    Args:
        folder: where its files are.
        digest: SHA-256 of the whole folder.
        trusted: types that are trusted besides our own list.
        early: a model that was loaded already; it is taken when it is of the very same bytes.

    Raises:
        ModelRefused: a file was changed, added or removed; or the model holds untrusted types.
    """
    from ml_assets.artifact import load

    try:
        found = tree_digest(folder)
    except OSError as error:
        raise ModelRefused(f"{folder} cannot be verified: {error}") from None
    if found != digest:
        raise ModelRefused(
            f"The files in {folder} are not those that were recorded: digest {found[:16]}, "
            f"recorded {digest[:16]}. Somebody or something changed them; the model is not loaded."
        )
    file = folder / MODEL_FILE
    if not file.is_file():
        raise ModelRefused(f"{folder} holds no {MODEL_FILE}.")
    data = file.read_bytes()
    if early and (early.digest, early.trusted) == (hashlib.sha256(data).hexdigest(), trusted):
        return early.model
    return load(data, trusted)


def verify(
    folder: Path, digest: str, trusted: tuple[str, ...] = (), early: Loaded | None = None
) -> dict[str, Any]:
    """It loads a stored model and compares its predictions for the golden rows.

    Raises:
        ModelRefused: it is not what its record says, or predicts otherwise.
    """
    model = load_verified(folder, digest, trusted, early)
    return {"golden_rows": says_the_same(model, folder), "digest": digest}


def says_the_same(model: Any, folder: Path) -> int:
    """It compares what a loaded model says of the golden rows with what is stored beside it.

    It returns the number of those rows.

    Raises:
        ModelRefused: it asks for other columns than recorded, or predicts otherwise.
    """
    expected = json.loads((folder / GOLDEN_FILE).read_text())
    asked = list(getattr(model, "feature_names_in_", expected["columns"]))
    for record, columns in (("record", list(expected["columns"])), ("signature", _signed(folder))):
        if columns is not None and asked != columns:
            raise ModelRefused(f"The model asks for {asked}, its {record} for {columns}.")
    import numpy as np

    rows = _as_rows(expected)
    try:
        values = [_plain(v) for v in np.asarray(model.predict(rows.copy())).reshape(len(rows))]
        wrong = [
            i
            for i, (a, b) in enumerate(zip(values, expected["values"], strict=True))
            if not _same(a, b)
        ]
        if expected["probabilities"] is not None:
            known = list(model.classes_)
            order = [known.index(c) for c in expected["classes"] if c in known]
            said = model.predict_proba(rows)[:, order]
            kept = [i for i, c in enumerate(expected["classes"]) if c in known]
            far = np.abs(said - np.array(expected["probabilities"])[:, kept]).max(axis=1)
            wrong += [int(i) for i in np.flatnonzero(far > TOLERANCE)]
    except Exception as error:
        raise ModelRefused(
            f"The stored model does not predict: {type(error).__name__}: {str(error)[:300]}"
        ) from error
    if wrong:
        raise ModelRefused(
            f"The stored model predicts {len(set(wrong))} of {len(rows)} golden rows otherwise "
            "than when it was stored. The libraries may have changed since."
        )
    return len(rows)


def golden_rows(folder: Path) -> Any:
    """It returns a verified folder's golden rows, as a DataFrame with the types of training."""
    return _as_rows(json.loads((folder / GOLDEN_FILE).read_text()))


def _as_rows(kept: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(
        {
            n: pd.Series(kept["rows"][n], dtype=kind if kind != "object" else object)
            for n, kind in kept["columns"].items()
        }
    )


def golden_of(folder: Path) -> tuple[dict[str, str], tuple[Any, ...]]:
    """It returns a verified folder's features with their types, and its classes in sorted order."""
    kept = json.loads((folder / GOLDEN_FILE).read_text())
    kinds = {n: "datetime64[ns]" if "datetime64" in k else k for n, k in kept["columns"].items()}
    return kinds, tuple(kept["classes"])


def _signed(folder: Path) -> list[str] | None:
    """It returns the columns of the MLflow signature; None for a folder that MLflow did not write."""
    file = folder / "MLmodel"
    if not file.is_file():
        return None
    import yaml

    signature = (yaml.safe_load(file.read_text()) or {}).get("signature") or {}
    return [c["name"] for c in json.loads(signature.get("inputs") or "[]")]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (float, int)):
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)


def in_clean_process(folder: Path, digest: str, trusted: tuple[str, ...] = ()) -> dict[str, Any]:
    """It runs `verify` in a new Python process and returns its answer.

    Raises:
        ModelRefused: the verification refused, crashed, or took too long.
    """
    asked = json.dumps({"folder": str(folder), "digest": digest, "trusted": list(trusted)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ml_assets.verification"],
            input=asked,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelRefused(f"Verifying {folder} took more than {SECONDS} s.") from None
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        raise ModelRefused(
            f"Verifying {folder} in a clean process crashed (exit {done.returncode}): "
            f"{done.stderr.strip()[-300:]}"
        ) from None
    if "refused" in answer:
        raise ModelRefused(answer["refused"])
    return answer


class Waiting:
    """A clean process that was begun early, and waits for its one question.

    It is forked when the libraries are imported and nothing of the problem is: neither its code nor
    its rows nor a model.  That spares a new process importing all of them again, which is half of
    what a small run does.  It ends with the process that it was forked from.

    Loading a large forest takes seconds: it may be told to load a file while this process does.
    """

    def __init__(self) -> None:
        import pandas  # noqa: F401  what verifying needs is to be there before the fork
        import sklearn.pipeline  # noqa: F401

        asked, ask = os.pipe()
        answer, answered = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            _wait(asked, answered)
        os.close(asked)
        os.close(answered)
        self.ask, self.answer, self.begun = ask, answer, b""

    def load(self, file: Path, trusted: tuple[str, ...] = ()) -> None:
        """It tells the process to load a file: it is likely to be asked of the same bytes."""
        told = json.dumps({"file": str(file), "trusted": list(trusted)}).encode() + b"\n"
        with contextlib.suppress(OSError):
            os.write(self.ask, told)

    def begin(self, folder: Path, digest: str, trusted: tuple[str, ...] = ()) -> bytes:
        """It asks its one question; the answer is fetched by `verify`."""
        self.begun = _question(folder, digest, trusted)
        with contextlib.suppress(OSError):  # it died: there will be no answer
            os.write(self.ask, self.begun)
        return self.begun

    def verify(
        self, folder: Path, digest: str, trusted: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """It returns the answer of `verify`; None when the process gave none, or was asked else.

        Raises:
            ModelRefused: the verification refused.
        """
        asked = self.begun or self.begin(folder, digest, trusted)
        text = b""
        if asked == _question(folder, digest, trusted):
            waited = select.poll()  # `select` takes no handle above 1,023
            waited.register(self.answer, select.POLLIN)
            while waited.poll(1000 * SECONDS):
                more = os.read(self.answer, 1 << 16)
                text += more
                if not more or text.endswith(b"\n"):
                    break
        self.end()
        if not text.endswith(b"\n"):
            return None
        answer: dict[str, Any] = json.loads(text)
        if "refused" in answer:
            raise ModelRefused(answer["refused"])
        return answer

    def end(self) -> None:
        """It ends the process."""
        os.close(self.ask)
        os.close(self.answer)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _question(folder: Path, digest: str, trusted: tuple[str, ...]) -> bytes:
    asked = {"folder": str(folder), "digest": digest, "trusted": list(trusted)}
    return json.dumps(asked).encode() + b"\n"


def _wait(asked: int, answered: int) -> NoReturn:
    """It is the forked process: it lets go of all that it was given, and answers one question."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for handle in range(3):
            os.dup2(nothing, handle)
        kept = sorted((asked, answered))
        os.closerange(3, kept[0])
        os.closerange(kept[0] + 1, kept[1])
        os.closerange(kept[1] + 1, os.sysconf("SC_OPEN_MAX"))
        import threadpoolctl

        from ml_assets.artifact import skops_io

        skops_io()  # which is to be there when it is asked
        with threadpoolctl.threadpool_limits(1), os.fdopen(asked, "rb") as lines:
            early = None
            for line in lines:
                question = json.loads(line) if line.endswith(b"\n") else {}
                if "file" in question:
                    early = _loaded(Path(question["file"]), tuple(question["trusted"]))
                elif question:
                    os.write(answered, json.dumps(_answered(question, early)).encode() + b"\n")
                    break
    finally:
        os._exit(0)  # nothing of the process that it was forked from is to be cleaned up here


def _loaded(file: Path, trusted: tuple[str, ...]) -> Loaded | None:
    """It returns the model of a file; None when it cannot be loaded, which is said when it is asked."""
    from ml_assets.artifact import load

    with contextlib.suppress(OSError, ModelRefused):
        data = file.read_bytes()
        return Loaded(hashlib.sha256(data).hexdigest(), trusted, load(data, trusted))
    return None


def _answered(asked: dict[str, Any], early: Loaded | None = None) -> dict[str, Any]:
    try:
        return verify(Path(asked["folder"]), asked["digest"], tuple(asked["trusted"]), early)
    except ModelRefused as refused:
        return {"refused": str(refused)}


def main() -> None:
    """It answers one request on standard input with one JSON line on standard output."""
    sys.stdout.write(json.dumps(_answered(json.load(sys.stdin))) + "\n")


if __name__ == "__main__":
    main()
