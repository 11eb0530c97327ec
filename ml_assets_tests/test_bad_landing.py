"""Hostile files, one by one, dropped where batches arrive: each is refused alone, and nothing else moves.

The files and what they deserve are those of `test_bad_inputs.py`; good rows are a version already.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pandas as pd
import pytest

from ml_assets.data_file import read
from ml_assets.errors import DatasetError
from ml_assets.gates import failures
from ml_assets.problem import DatasetDeclaration, Problem
from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.registry import DagsterRun, Registry
from ml_assets.resources.stores import Stores
from ml_assets.round import Round, arrival
from ml_assets.round.arrival import table_of
from ml_assets.round.dataset import DatasetMade, make_dataset
from ml_assets.round.known import Known
from ml_assets.round.quarantine import Quarantined, quarantined
from ml_assets_tests.problems import aged, quickly
from ml_assets_tests.test_bad_inputs import BASES, FILES, FINISHED, LINES, SAID, _problem, _put

LANDING = "landing/*"
pytestmark = pytest.mark.slow  # each file against rows that are a version already

BY_NAME = {line["file"]: line for line in LINES}
# Files of a landing zone are judged by themselves, and told of in words of their own.
SAID_HERE = {
    **SAID,
    "10_missing_target.csv": "`Churn` is not there",
    "11_extra_columns.csv": "`Unnamed: 22` has no value in 11_extra_columns.csv: left out until "
    "it has. promo_code: not under contract",
    "12_one_class.csv": "one class (No) in all 600 rows",
    "15_target_nan_inf_regression.csv": "1 row (line 13: inf)",
    "26_dates_five_formats.csv": "in 344 rows (lines 2, 5, 6 …: '2011-01-01', '01 Jan 2011',",
    "27_duplicate_rows.csv": "180 of 1,780 rows",
    "44_zero_variance.csv": "`blank` has no value in 44_zero_variance.csv: left out until it has. "
    "region, zero: one value or none; left out",
    "36_unseen_category.csv": "categories that are not known: Satellite",
    "39_symlink_outside.csv": "leads out of the landing zone",
    "62_not_readable_mode.csv": "Permission denied",
}
# `never register as a version, then pick the whole file up once`, `ignored by the sensor`: not bad yet.
AWAITED = {"43b_upload.csv.part": "its writer has not finished it"}
# It is the very file that the good rows came from: the same bytes twice change nothing.
SAME = "00b_control_telco_ok_reference_train.csv"
# The table: `root still reads it; chmod 000 again before use`.
UNREADABLE = "62_not_readable_mode.csv"
# No file of which bytes could be kept.
NO_BYTES = {"39_symlink_outside.csv", "39b_symlink_loop.csv", "60_is_a_directory.csv", UNREADABLE}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with quickly():
        yield


@dataclass
class Zone:
    """A landing zone of a problem that was drafted from good rows, which are its first version."""

    root: Path
    problem: Problem

    def round(self) -> Round:
        home = self.root / ".ml_assets"
        registry = Registry(f"sqlite:///{home}/mlflow.db", home)
        stores = Stores(self.root, Lake(home / "lake"), Ledger(home / "ledger"), registry)
        return Round(self.problem, None, stores, DagsterRun("run", "demo"))

    def run(self) -> DatasetMade:
        return make_dataset(self.round())

    def current(self) -> str:
        return self.round().stores.lake.current("demo", "dataset").digest

    def quarantine(self) -> list[Quarantined]:
        round_ = self.round()
        return quarantined(round_, Known.of(round_, table_of(round_)).files)


@cache
def _good(base: str) -> Path:
    """It returns what a project keeps once the good rows of a base are a version: made once."""
    root = Path(mkdtemp(prefix="ml_assets_tests_"))
    (root / "landing").mkdir()
    file = BASES[base][0]
    aged(Path(shutil.copyfile(file, root / "landing" / f"000_{file.name}")))
    line = next(x for x in LINES if x["base"] == base)
    assert not failures(Zone(root, _problem(line, LANDING)).run().verdicts)
    return root / ".ml_assets"


@pytest.fixture
def zone_of(tmp_path: Path) -> Callable[[dict[str, str]], Zone]:
    def made(line: dict[str, str]) -> Zone:
        (tmp_path / "landing").mkdir()
        if line["base"] != "made":  # the two lines that bring a problem of their own
            base = line["base"] if line["base"] in BASES else "telco"
            shutil.copytree(_good(base), tmp_path / ".ml_assets")
        return Zone(tmp_path, _problem(line, LANDING))

    return made


def _severity(line: dict[str, str]) -> str:
    name = line["file"]
    if name in AWAITED:
        return "awaited"
    if name in FINISHED or (name == UNREADABLE and os.geteuid() == 0):
        return "accept"
    return line["severity"]


def _cases() -> list[object]:
    slow = {"45_5000_columns.csv"}
    return [
        pytest.param(
            x, id=x["file"].split(".")[0][:40], marks=[pytest.mark.slow] * (x["file"] in slow)
        )
        for x in LINES
    ]


def _drop(line: dict[str, str], zone: Zone) -> Path:
    file = _put(line, zone.root / "landing")
    if line["file"] == UNREADABLE:
        file.chmod(0)
    return file


@pytest.mark.parametrize("line", _cases())
def test_a_hostile_file_in_a_landing_zone_gets_what_it_deserves(line, zone_of):
    zone, name, severity = zone_of(line), line["file"], _severity(line)
    file = _drop(line, zone)
    if line["base"] == "made":
        _without_good_rows(line, zone)
        return
    before = zone.current()
    made = zone.run()
    assert not failures(made.verdicts)
    told = " ".join(v.reason for v in made.verdicts if not v.passed)
    if severity == "error":
        assert list(made.arrived.refused) == [name]
        reason = made.arrived.refused[name]
        assert SAID_HERE.get(name, "") in reason
        assert len(reason) < 1000
        assert str(zone.root) not in reason
        assert (zone.current(), made.version) == (before, 1)
        _is_kept(zone, file, reason)
    elif severity == "awaited":
        assert made.arrived.refused == {}
        assert AWAITED[name] in made.arrived.waiting[name]
        assert (zone.current(), made.version) == (before, 1)
    elif name == SAME:
        assert made.arrived.same == {name: f"000_{name}"}
        assert (zone.current(), made.version) == (before, 1)
    else:
        assert (made.arrived.refused, made.arrived.same) == ({}, {})
        assert [b.name for b in made.arrived.batches] == [name]
        assert zone.current() == made.entry.digest != before
        assert zone.quarantine() == []
        assert severity != "warn" or SAID_HERE[name] in told
    again = zone.run()
    assert (again.arrived.read, again.arrived.refused, again.reused) == (0, {}, True)
    assert again.entry.digest == made.entry.digest


def _is_kept(zone: Zone, file: Path, reason: str) -> None:
    (kept,) = zone.quarantine()
    assert (kept.name, kept.reason, kept.state) == (file.name, reason, "awaits")
    if file.name in NO_BYTES:
        assert kept.kept is None
        assert not kept.readable
    else:
        assert kept.kept is not None
        assert kept.kept.read_bytes() == file.read_bytes()


def _without_good_rows(line: dict[str, str], zone: Zone) -> None:
    """Two files are of no base: what they hold would be a first version."""
    if _severity(line) == "accept":
        assert not failures(zone.run().verdicts)
        return
    with pytest.raises(DatasetError) as error:
        zone.run()
    assert f"{line['file']}: {SAID_HERE[line['file']]}" in str(error.value)
    assert zone.round().stores.lake.entries("demo", "dataset") == []


@pytest.mark.parametrize("base", list(BASES))
def test_all_hostile_files_at_once_keep_no_good_one_out(base, zone_of):
    """And where the next file is as bad, the one after it comes in all the same."""
    lines = [x for x in LINES if x["base"] == base and x["file"] != SAME]
    if base == "telco":
        lines += [x for x in LINES if x["base"] == "-"]
    zone = zone_of(lines[0])
    for line in lines:
        _drop(line, zone)
    made = zone.run()
    assert not failures(made.verdicts)
    assert set(made.arrived.refused) == {x["file"] for x in lines if _severity(x) == "error"}
    came = {b.name for b in made.arrived.batches} | set(made.arrived.same)
    assert came == {x["file"] for x in lines} - set(made.arrived.refused) - set(AWAITED)
    assert zone.current() == made.entry.digest
    assert zone.run().arrived.read == 0


# ------------------------------------------------- lines whose `expected_behaviour` says more


def _rows_of(file: str) -> pd.DataFrame:
    target = BY_NAME[file]["target"]
    return read(FILES / file, DatasetDeclaration(path="x.csv", target=target))


@pytest.mark.parametrize(
    "file",
    [
        "19_utf8_bom.csv",
        "20_crlf.csv",
        "21_mixed_line_ends_cr.csv",
        "34_columns_reordered.csv",
        "40 naïve café 数据 (final) v2 .csv",
        "42_; rm -rf $HOME `id` '\"--help.csv",
    ],
)
def test_the_same_rows_written_otherwise_are_the_same_rows(file, zone_of):
    """No byte order mark in a name, no line end in a label, columns matched by name."""
    zone = zone_of(BY_NAME[file])
    _drop(BY_NAME[file], zone)
    made = zone.run()
    came = made.rows.frame().tail(600).reset_index(drop=True)
    control = _rows_of("00_control_telco_ok.csv")
    pd.testing.assert_frame_equal(came, control[list(came.columns)], check_dtype=False)
    assert made.rows.columns[0] == "customerID"


def test_values_that_are_code_elsewhere_are_text(zone_of):
    line = BY_NAME["49_injection_values.csv"]
    zone = zone_of(line)
    _drop(line, zone)
    came = zone.run().rows.frame().tail(600).reset_index(drop=True)
    pd.testing.assert_frame_equal(came, _rows_of(line["file"]), check_dtype=False)


def _written(column: str) -> list[str]:
    file = FILES / "55_big_int_leading_zero.csv"
    return pd.read_csv(file, dtype=str)[column].tolist()


def _kept(column: str, zone: Zone) -> list[str]:
    _drop(BY_NAME["55_big_int_leading_zero.csv"], zone)
    pieces = list(zone.run().rows.pieces())
    return [str(v) for v in pieces[-1].column(column).to_pylist()]


def test_large_identifiers_keep_their_digits(zone_of):
    """By the rows as they are stored: pandas makes numbers of whole numbers with gaps."""
    zone = zone_of(BY_NAME["55_big_int_leading_zero.csv"])
    assert _kept("id_big", zone) == _written("id_big")


def test_leading_zeros_stay_where_text_is_declared(zone_of):
    zone = zone_of(BY_NAME["55_big_int_leading_zero.csv"])
    declared = zone.problem.model_dump(exclude_unset=True)
    declared["dataset"]["contract"]["columns"]["zip"] = {"type": "text"}
    zone.problem = Problem(**declared)
    # that column says how files are read: all are read anew, and good rows without it cannot be
    shutil.rmtree(zone.root / ".ml_assets")
    assert _kept("zip", zone) == _written("zip")


def test_leading_zeros_stay(zone_of):
    zone = zone_of(BY_NAME["55_big_int_leading_zero.csv"])
    assert _kept("zip", zone) == _written("zip")


def test_a_partial_file_is_waited_for_then_picked_up_whole_and_once(zone_of, monkeypatch):
    """`Never register as a version, then pick the whole file up once`: line 43, while it grows."""
    zone = zone_of(BY_NAME["43_partial_write.csv"])
    file = zone.root / "landing/43_partial_write.csv"
    before = zone.current()
    file.write_bytes((FILES / file.name).read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(arrival.time, "sleep", lambda _: file.touch())  # its writer is not idle
        made = zone.run()
    assert list(made.arrived.waiting) == [file.name]
    assert (made.arrived.refused, zone.current()) == ({}, before)
    shutil.copyfile(FILES / "00_control_telco_ok.csv", file)
    aged(file)
    assert len(zone.run().rows) == 1600
    assert zone.run().arrived.read == 0
    assert zone.quarantine() == []


def test_a_file_that_is_corrected_comes_in_and_its_quarantine_says_so(zone_of):
    line = BY_NAME["23_ragged_rows.csv"]
    zone = zone_of(line)
    file = _drop(line, zone)
    zone.run()
    shutil.copyfile(FILES / "00_control_telco_ok.csv", file)
    aged(file)
    assert len(zone.run().rows) == 1600
    assert [q.state for q in zone.quarantine()] == ["replaced"]


def test_every_refused_or_warned_line_has_its_words():
    due = {x["file"] for x in LINES if _severity(x) in ("error", "warn")}
    assert due <= set(SAID_HERE)
