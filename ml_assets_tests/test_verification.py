import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ml_assets import verification
from ml_assets.artifact import dump, load
from ml_assets.digest import tree_digest
from ml_assets.errors import ModelRefused
from ml_assets.verification import (
    GOLDEN_FILE,
    GOLDEN_ROWS,
    MODEL_FILE,
    Loaded,
    Waiting,
    golden,
    in_clean_process,
    load_verified,
    verify,
)
from ml_assets_tests.conftest import table, target_of
from ml_assets_tests.test_candidate import Sneaky, declared, fitted, with_step


def stored(folder, name="extra_trees", task="binary", mixed=False):
    rows = table(60, task=task)
    if not mixed:
        rows = rows[["amount", "whole", "noise", "y"]]
    model = fitted(declared(name), rows).model
    (folder / MODEL_FILE).write_bytes(dump(model))
    kept = golden(model, rows.drop(columns="y"), target_of(rows))
    (folder / GOLDEN_FILE).write_text(json.dumps(kept))
    return tree_digest(folder), kept


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_a_stored_model_says_what_it_said(tmp_path, task):
    digest, kept = stored(tmp_path, task=task, mixed=task == "binary")
    assert verify(tmp_path, digest) == {"golden_rows": GOLDEN_ROWS, "digest": digest}
    assert (kept["probabilities"] is None) == (task == "regression")


def test_golden_rows_with_gaps_and_dates_survive_json(tmp_path):
    _, kept = stored(tmp_path, mixed=True)
    again = json.loads(json.dumps(kept, allow_nan=False))
    assert again["rows"]["amount"][0] is None
    assert again["rows"]["day"][0].startswith("2024-01-01")
    assert again["columns"]["day"] == "datetime64[ns]"


@pytest.mark.parametrize("change", ["changed", "added", "removed"])
def test_a_folder_that_is_not_what_was_recorded_is_not_loaded(tmp_path, change):
    digest, _ = stored(tmp_path)
    if change == "changed":
        (tmp_path / MODEL_FILE).write_bytes((tmp_path / MODEL_FILE).read_bytes() + b"\0")
    elif change == "added":
        (tmp_path / "code.py").write_text("")
    else:
        (tmp_path / GOLDEN_FILE).unlink()
    with pytest.raises(ModelRefused) as refused:
        load_verified(tmp_path, digest)
    assert f"recorded {digest[:16]}" in str(refused.value)
    assert "the model is not loaded" in str(refused.value)


def test_the_digest_is_asked_before_anything_is_loaded(tmp_path, monkeypatch):
    stored(tmp_path)
    monkeypatch.setattr("ml_assets.artifact.load", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ModelRefused, match="not those that were recorded"):
        load_verified(tmp_path, "0" * 64)


def test_a_link_in_the_folder_is_refused(tmp_path):
    digest, _ = stored(tmp_path)
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(ModelRefused, match=r"cannot be verified: .*is a link"):
        load_verified(tmp_path, digest)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelRefused, match=r"holds no model\.skops"):
        load_verified(tmp_path, tree_digest(tmp_path))


def test_an_untrusted_type_is_refused_even_when_the_digest_matches(tmp_path):
    named = "ml_assets_tests.test_candidate.Sneaky"
    (tmp_path / MODEL_FILE).write_bytes(dump(with_step(Sneaky()), (named,)))
    digest = tree_digest(tmp_path)
    with pytest.raises(ModelRefused, match=f"nobody trusted: {named}"):
        load_verified(tmp_path, digest)
    assert load_verified(tmp_path, digest, (named,))


def another_value(kept):
    kept["values"][3] = "other"


def another_probability(kept):
    kept["probabilities"][3][0] += 1e-6


def another_column(kept):
    kept["columns"]["new"] = "int64"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (another_value, "predicts 1 of 20 golden rows otherwise"),
        (another_probability, "predicts 1 of 20 golden rows otherwise"),
        (another_column, "The model asks for .*its record for .*new"),
    ],
)
def test_a_model_that_says_something_else_now_is_refused(tmp_path, change, said):
    _, kept = stored(tmp_path)
    change(kept)
    (tmp_path / GOLDEN_FILE).write_text(json.dumps(kept))
    with pytest.raises(ModelRefused, match=said):
        verify(tmp_path, tree_digest(tmp_path))


def test_a_tiny_difference_is_no_other_answer(tmp_path):
    _, kept = stored(tmp_path)
    kept["probabilities"] = (np.array(kept["probabilities"]) + 1e-12).tolist()
    (tmp_path / GOLDEN_FILE).write_text(json.dumps(kept))
    assert verify(tmp_path, tree_digest(tmp_path))["golden_rows"] == 20


def test_a_verification_that_hangs_is_refused(tmp_path, monkeypatch):
    def hangs(*_, **given):
        raise subprocess.TimeoutExpired("python", given["timeout"])

    monkeypatch.setattr(verification.subprocess, "run", hangs)
    with pytest.raises(ModelRefused, match="took more than 300 s"):
        in_clean_process(tmp_path, "0" * 64)


def test_a_verification_that_crashes_is_refused_with_its_last_words(tmp_path, monkeypatch):
    def crashes(*_, **__):
        return subprocess.CompletedProcess([], -11, "", "Segmentation fault")

    monkeypatch.setattr(verification.subprocess, "run", crashes)
    with pytest.raises(ModelRefused, match=r"crashed \(exit -11\): Segmentation fault"):
        in_clean_process(tmp_path, "0" * 64)


@pytest.mark.slow
def test_a_clean_process_gives_the_same_answer_and_the_same_refusal(tmp_path):
    digest, _ = stored(tmp_path, mixed=True)
    assert in_clean_process(tmp_path, digest) == {"golden_rows": GOLDEN_ROWS, "digest": digest}
    with pytest.raises(ModelRefused, match="not those that were recorded: digest"):
        in_clean_process(tmp_path, "0" * 64)


def test_a_process_that_waits_answers_as_a_new_one(tmp_path):
    digest, _ = stored(tmp_path)
    assert Waiting().verify(tmp_path, digest) == verify(tmp_path, digest)
    with pytest.raises(ModelRefused, match="not those that were recorded"):
        Waiting().verify(tmp_path, "0" * 64)


def test_a_process_that_waits_knows_nothing_of_what_came_since(tmp_path, monkeypatch):
    """What was loaded, patched or trusted here after it began is no help to a model there.

    Seen to fail with a process that is forked when it is asked.
    """
    digest, _ = stored(tmp_path)
    waiting = Waiting()
    monkeypatch.setattr(verification, "verify", lambda *_: pytest.fail("it was asked here"))
    monkeypatch.setattr("ml_assets.artifact.load", lambda *_: pytest.fail("it was loaded here"))
    assert waiting.verify(tmp_path, digest) == {"golden_rows": GOLDEN_ROWS, "digest": digest}


def test_a_process_that_waits_and_dies_gives_no_answer(tmp_path):
    waiting = Waiting()
    os.kill(waiting.pid, signal.SIGKILL)
    assert waiting.verify(tmp_path, "0" * 64) is None
    Waiting().end()


@pytest.mark.slow
def test_a_process_that_waits_ends_with_the_one_that_began_it():
    code = "from ml_assets.verification import Waiting; print(Waiting().pid)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    pid, tries = int(done.stdout), 100
    while tries and Path(f"/proc/{pid}").exists():
        tries -= 1
        time.sleep(0.1)
    assert tries, "it still waits"


def test_a_process_that_waits_takes_a_model_that_it_loaded_early_for_the_same_bytes_only(tmp_path):
    """Seen to fail: what was loaded early was taken whatever the folder held."""
    (tmp_path / "one").mkdir(), (tmp_path / "other").mkdir()
    digest, _ = stored(tmp_path / "one")
    other, _ = stored(tmp_path / "other", mixed=True)
    for file in ("one", "other"):
        waiting = Waiting()
        waiting.load(tmp_path / file / MODEL_FILE)
        assert waiting.verify(tmp_path / "one", digest) == verify(tmp_path / "one", digest)
    waiting = Waiting()
    waiting.load(tmp_path / "gone")
    assert waiting.verify(tmp_path / "other", other) == verify(tmp_path / "other", other)


def test_what_was_loaded_early_is_not_loaded_again(tmp_path, monkeypatch):
    digest, _ = stored(tmp_path)
    data = (tmp_path / MODEL_FILE).read_bytes()
    early = Loaded(hashlib.sha256(data).hexdigest(), (), load(data))
    monkeypatch.setattr("ml_assets.artifact.load", lambda *_: pytest.fail("it was loaded again"))
    assert verify(tmp_path, digest, (), early) == {"golden_rows": GOLDEN_ROWS, "digest": digest}


@pytest.mark.slow
def test_skops_imported_quickly_trusts_what_it_trusts_by_itself():
    """Seen to fail: scipy's functions were found under another name than skops finds them."""
    asked = "; import json, skops.io._trusted_types as t; print(json.dumps({k: v for k, v in vars(t).items() if k.endswith('NAMES')}))"
    quickly = "import ml_assets.artifact as a; a.skops_io(); import skops.io; assert skops.io is a.skops_io()"
    one, other = (
        subprocess.run(
            [sys.executable, "-c", c + asked], capture_output=True, text=True, check=True
        )
        for c in (quickly, "pass")
    )
    assert one.stdout == other.stdout and "scipy.special._ufuncs" in one.stdout
