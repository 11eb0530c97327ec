"""A table's latest version is told without deltalake, and never from a note that is out of date."""

import json
from pathlib import Path

import pyarrow as pa

from ml_assets.resources.table import LATEST, StoredFile, Table, write_pieces


def committed(table: Table, *numbers: int) -> StoredFile:
    rows = pa.table({"n": list(numbers)})
    aside = table.aside()
    stored = table.publish(aside, write_pieces(iter([rows]), aside))
    table.commit([stored], [], rows.schema, {})
    return stored


def test_the_number_of_the_latest_version_is_deltas_own(tmp_path: Path) -> None:
    table = Table(tmp_path / "table")
    assert table.version() is None
    assert table.files() == []
    for n in range(12):  # past the tenth, after which Delta writes a checkpoint
        committed(table, n)
        delta = table._delta()
        assert delta is not None
        assert table.version() == delta.version()


def test_a_note_of_the_files_is_taken_only_for_its_version(tmp_path: Path) -> None:
    """Seen to fail when the note's version was not compared with the log."""
    table = Table(tmp_path / "table")
    first = committed(table, 1)
    before = (table.folder / LATEST).read_text()
    second = committed(table, 2)
    assert table.files() == [first, second]
    (table.folder / LATEST).write_text(before)  # as if another process had committed since
    assert table.files() == [first, second]
    assert json.loads((table.folder / LATEST).read_text())["version"] == table.version()
    (table.folder / LATEST).unlink()
    assert table.files() == [first, second]
