"""The function that asks the laws: it goes red on a home that breaks one. And the page of the faults."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from ml_assets.resources.home import Home
from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.registry import CHAMPION, Registry
from ml_assets_tests.e2e.served import CHECKOUT
from ml_assets_tests.faults import injections
from ml_assets_tests.faults.injections import FAULTS
from ml_assets_tests.faults.scene import Scene, scene

__all__ = ["scene"]
PAGE = CHECKOUT / "docs" / "faults.md"


def _home(root: Path) -> Home:
    return Home(root, root / ".ml_assets")


def _a_gate_failed(root: Path) -> None:
    with Ledger(_home(root).ledger).deciding("demo") as deciding:
        last = Ledger(_home(root).ledger).entries("demo")[-1]
        gates = [{**g, "passed": False} for g in last["gates"]]
        kept = {k: v for k, v in last.items() if k not in ("number", "seal", "before")}
        deciding.append({**kept, "gates": gates, "version": 2, "previous": 1})


def _alias_astray(root: Path) -> None:
    home = _home(root)
    registry = Registry(home.tracking_uri, home.mlflow)
    known = registry.version("demo", 1)
    registry.client.create_model_version("demo", registry.location(known), tags=dict(known.tags))
    registry.point("demo", CHAMPION, 2)


def _promoted_twice(root: Path) -> None:
    with Ledger(_home(root).ledger).deciding("demo") as deciding:
        last = Ledger(_home(root).ledger).entries("demo")[-1]
        kept = {k: v for k, v in last.items() if k not in ("number", "seal", "before")}
        deciding.append(kept)


def _row_on_two_sides(root: Path) -> None:
    (entry,) = Lake(_home(root).lake).entries("demo", "split")
    shutil.copy(entry.path / "train.parquet", entry.path / "test.parquet")


def _rows_twice(root: Path) -> None:
    from deltalake import DeltaTable, write_deltalake

    (folder,) = (_home(root).lake / "demo" / "table").iterdir()
    table = DeltaTable(str(folder))
    write_deltalake(str(folder), table.to_pyarrow_table().slice(0, 5), mode="append")
    (_home(root).lake / "demo" / "notes" / "table.json").unlink(missing_ok=True)


def _half_a_batch(root: Path) -> None:
    file = root / "landing" / "1.csv"
    more = pd.read_csv(file)
    pd.concat([more, more.assign(id=more["id"] + 5000)]).to_csv(file, index=False)


def _changed_in_place(root: Path) -> None:
    entry = Lake(_home(root).lake).entries("demo", "evaluation")[0]
    file = next(f for f in entry.path.iterdir() if f.is_file())
    file.write_bytes(file.read_bytes() + b" ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("law", "wrong"),
    [
        ("gated", _a_gate_failed),
        ("mirrored", _alias_astray),
        ("once", _promoted_twice),
        ("disjoint", _row_on_two_sides),
        ("ingested", _rows_twice),
        ("ingested", _half_a_batch),
        ("immutable", _changed_in_place),
    ],
)
def test_a_home_that_breaks_a_law_is_seen(
    scene: Scene, law: str, wrong: Callable[[Path], None]
) -> None:
    scene.put_back()
    assert scene.stage.broken(scene.root) == []
    wrong(scene.root)
    assert law in {b.split(":")[0] for b in scene.stage.broken(scene.root)}


@pytest.mark.slow
def test_a_process_of_its_own_sees_the_same(scene: Scene) -> None:
    scene.put_back()
    words = [sys.executable, "-m", "ml_assets_tests.faults.laws", str(scene.root), "demo"]
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_there_are_faults_enough_and_each_has_a_name() -> None:
    assert len(FAULTS) >= 30
    assert len({f.name for f in FAULTS}) == len(FAULTS)


def test_the_page_shows_them() -> None:
    assert injections.table() in PAGE.read_text(), "python -m ml_assets_tests.faults.page"
