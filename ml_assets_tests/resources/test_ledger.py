"""One contract for both ledgers: in files, and in PostgreSQL."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_assets.errors import PromotionRefused, StoreAway, is_transient
from ml_assets.resources import ledger_database
from ml_assets.resources.database import Database
from ml_assets.resources.ledger import HOLD, PROMOTION, Ledger
from ml_assets.resources.ledger_database import DatabaseLedger
from ml_assets_tests import servers

COUNT = itertools.count()


@dataclass
class OnFiles:
    """Ledgers of files, and hands that reach behind them."""

    folder: Path
    few = False

    def open(self, name: str = "one") -> Ledger:
        return Ledger(self.folder / name)

    def lines(self, ledger: Ledger, problem: str = "demo") -> list[bytes]:
        return ledger._file(problem).read_bytes().splitlines()

    def put(self, ledger: Ledger, lines: list[bytes], problem: str = "demo") -> None:
        ledger._file(problem).write_bytes(b"".join(line + b"\n" for line in lines))

    def place(self, problem: str = "demo") -> str:
        return rf"{problem}\.jsonl"


@dataclass
class OnPostgres(OnFiles):
    """Ledgers in schemas of their own of one database."""

    url: str = ""
    few = True  # examples: each takes a schema of its own

    def open(self, name: str = "one") -> Ledger:
        schema = f"{name}_{self.folder.name.replace('-', '_')}"
        Database(self.url).ask(f"create schema if not exists {schema}")
        url = f"{self.url}?options=-csearch_path%3D{schema}"
        return DatabaseLedger(self.folder / "files" / name, Database(url))

    def lines(self, ledger: Any, problem: str = "demo") -> list[bytes]:
        query = "select line from ml_assets_ledger where problem = %s order by number"
        return [line.encode() for (line,) in ledger.database.ask(query, problem)]

    def put(self, ledger: Any, lines: list[bytes], problem: str = "demo") -> None:
        with ledger.database.lock("tamper") as session, session.together():
            session.ask("set local session_replication_role = replica")  # no triggers
            session.ask("delete from ml_assets_ledger where problem = %s", problem)
            for number, line in enumerate(lines, 1):
                query = "insert into ml_assets_ledger values (%s, %s, %s)"
                session.ask(query, problem, number, line.decode())

    def place(self, problem: str = "demo") -> str:
        return rf"ledger of {problem} in 127\.0\.0\.1:\d+/ledgers"


@pytest.fixture(scope="module")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(params=["files", pytest.param("postgres", marks=pytest.mark.slow)])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> OnFiles:
    folder = tmp_path / f"l{next(COUNT)}_{os.getpid()}"
    if request.param == "files":
        return OnFiles(folder)
    return OnPostgres(folder, request.getfixturevalue("postgres").url("ledgers"))


def examples(most: int) -> Any:
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(deadline=None, max_examples=most, suppress_health_check=checks)


def decide(ledger, *entries, problem="demo"):
    with ledger.deciding(problem) as deciding:
        return [deciding.append(e) for e in entries]


def promotion(version):
    return {"event": PROMOTION, "version": version}


def written(kept, count, name="one"):
    ledger = kept.open(name)
    decide(ledger, *(promotion(i + 1) for i in range(count)))
    return ledger, kept.lines(ledger)


def fresh(kept, count):
    """It returns a ledger that no other example has."""
    return written(kept, count, f"x{next(COUNT)}")


def test_what_was_appended_is_read_oldest_first_with_numbers(kept):
    ledger, _ = written(kept, 3)
    assert [(e["number"], e["version"]) for e in ledger.entries("demo")] == [(1, 1), (2, 2), (3, 3)]


def test_a_problem_without_a_history_has_no_entries_and_no_champion(kept):
    assert kept.open("absent").entries("demo") == []
    assert kept.open("absent").champion("demo") is None
    assert kept.open("absent").mark("demo") is None


def test_the_mark_changes_with_the_history_and_only_then(kept):
    ledger, _ = written(kept, 1)
    before = ledger.mark("demo")
    assert before and before == ledger.mark("demo") == kept.open().mark("demo")
    decide(ledger, promotion(1), problem="other")
    assert ledger.mark("demo") == before
    decide(ledger, promotion(2))
    assert ledger.mark("demo") != before
    json.dumps(before)  # it is noted


def test_both_ledgers_write_the_same_lines(kept, tmp_path):
    """So a history of files can be taken over as it is."""
    _, lines = written(kept, 3)
    assert lines == written(OnFiles(tmp_path / "files"), 3)[1]


def test_the_champion_is_the_last_promotion_whatever_was_held_since(kept):
    ledger = kept.open()
    decide(ledger, promotion(1), promotion(2), {"event": HOLD, "version": 3})
    assert ledger.champion("demo")["version"] == 2


def test_problems_have_histories_of_their_own(kept):
    ledger = kept.open()
    decide(ledger, promotion(1), problem="one")
    decide(ledger, promotion(7), problem="other")
    assert ledger.champion("one")["version"] == 1
    assert ledger.champion("other")["number"] == 1


def test_what_append_returns_is_what_is_read_later(kept):
    ledger = kept.open()
    said = decide(ledger, {"event": HOLD, "reason": "é\n„“", "none": None, "n": 0.1})
    assert ledger.entries("demo") == said


def test_any_altered_removed_or_inserted_line_is_noticed(kept):
    """The removal of the last lines shows by the head: see below."""

    @examples(15 if kept.few else 60)
    @given(st.integers(2, 6), st.data())
    def noticed(count, data):
        ledger, lines = fresh(kept, count)
        how = data.draw(st.sampled_from(["altered", "removed", "doubled", "swapped", "blank"]))
        at = data.draw(st.integers(0, count - (1 if how == "altered" else 2)))
        if how == "altered":
            entry = json.loads(lines[at])
            lines[at] = json.dumps({**entry, "version": 99}, sort_keys=True).encode()
        elif how == "removed":
            del lines[at]
        elif how == "doubled":
            lines.insert(at, lines[at])
        elif how == "swapped":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        else:
            lines.insert(at, b"")
        kept.put(ledger, lines)
        with pytest.raises(PromotionRefused, match=rf"{kept.place()}, line \d+: .*from a backup"):
            ledger.entries("demo")

    noticed()


def test_any_other_byte_before_the_last_line_is_noticed(kept):
    @examples(15 if kept.few else 40)
    @given(st.integers(1, 3), st.data())
    def noticed(count, data):
        ledger, lines = fresh(kept, count + 1)
        at = data.draw(st.integers(0, count - 1))
        raw = bytearray(lines[at])
        where = data.draw(st.integers(0, len(raw) - 1))
        if kept.few:  # a database's text is text
            raw[where] = data.draw(st.sampled_from([b for b in b"0aZ{} \n" if b != raw[where]]))
        else:
            raw[where] ^= data.draw(st.integers(1, 255))
        kept.put(ledger, [*lines[:at], bytes(raw), *lines[at + 1 :]])
        with pytest.raises(PromotionRefused):
            ledger.entries("demo")

    noticed()


def test_the_refusal_names_the_line_that_does_not_continue(kept):
    ledger, lines = written(kept, 5)
    kept.put(ledger, [*lines[:2], *lines[3:]])
    with pytest.raises(PromotionRefused, match="line 3: the ledger was rewritten"):
        ledger.entries("demo")


def append(ledger, version):
    for _ in range(20):
        with ledger.deciding("demo") as deciding:
            before = len(ledger.entries("demo"))
            assert deciding.append(promotion(version))["number"] == before + 1


def test_one_process_decides_at_a_time(kept):
    """With the database, the first of them make its tables at once, too."""
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=append, args=(kept.open(), v)) for v in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [r.exitcode for r in racers] == [0, 0, 0, 0]
    assert [e["number"] for e in kept.open().entries("demo")] == list(range(1, 81))


def tell(ledger, told):
    for version in range(1000):
        os.write(told, b"%d\n" % decide(ledger, promotion(version))[0]["number"])


@pytest.mark.slow
def test_kills_at_any_instant_lose_nothing_that_was_acknowledged(kept):
    """And the lock of the one who was killed is free for the next."""
    chance, ledger = random.Random(5), kept.open()
    decide(ledger, promotion(1))
    for _ in range(10 if kept.few else 25):
        read, write = os.pipe()
        worker = multiprocessing.get_context("fork").Process(target=tell, args=(ledger, write))
        worker.start()
        os.close(write)
        first = os.read(read, 64)  # it is at work
        time.sleep(chance.uniform(0, 0.05))
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
        told = first
        while more := os.read(read, 1 << 16):
            told += more
        os.close(read)
        entries = kept.open().entries("demo")
        assert [e["number"] for e in entries] == list(range(1, len(entries) + 1))
        last = int(told.split(b"\n")[-2])
        assert len(entries) in (last, last + 1)  # one may be there that nobody was told of
        assert decide(ledger, promotion(7))[0]["number"] == len(entries) + 1


def test_the_lock_is_let_go_when_a_decision_fails(kept):
    ledger = kept.open()
    with pytest.raises(ZeroDivisionError), ledger.deciding("demo"):
        raise ZeroDivisionError
    assert decide(ledger, promotion(1))[0]["number"] == 1


@pytest.mark.parametrize(
    ("left", "missing"), [(3, "entry 4 of 4 is"), (1, "entries 2 to 4 of 4 are")]
)
def test_removed_last_lines_are_missed_by_the_head(kept, left, missing):
    ledger, lines = written(kept, 4)
    kept.put(ledger, lines[:left])
    with pytest.raises(PromotionRefused, match=f"{missing} missing at the end.*from a backup"):
        ledger.entries("demo")
    with pytest.raises(PromotionRefused, match="missing at the end"):
        decide(ledger, promotion(9))
    assert kept.lines(ledger) == lines[:left]


def test_a_ledger_that_is_gone_is_missed_by_the_head(kept):
    ledger, _ = written(kept, 2)
    kept.put(ledger, [])
    with pytest.raises(PromotionRefused, match="entries 1 to 2 of 2 are missing"):
        ledger.champion("demo")
    with pytest.raises(PromotionRefused, match="entries 1 to 2 of 2 are missing"):
        decide(ledger, promotion(9))


def test_another_last_line_than_the_noted_one_is_refused(kept):
    """Its seal and its link to the line before are right: only the head knows better."""
    ledger, _ = written(kept, 3)
    other, _ = written(kept, 2, "other")
    decide(other, promotion(99))
    kept.put(ledger, kept.lines(other))
    with pytest.raises(PromotionRefused, match=r"line 3: the ledger was rewritten.*head"):
        ledger.entries("demo")


# ------------------------------------------------------------------------- files alone


def on_files(folder, count):
    ledger = Ledger(folder)
    decide(ledger, *(promotion(i + 1) for i in range(count)))
    file = folder / "demo.jsonl"
    return ledger, file, file.read_bytes().splitlines(keepends=True)


def test_a_torn_last_line_is_ignored_and_then_overwritten(tmp_path):
    """Its writer died in it; it was never acknowledged."""

    @examples(40)
    @given(st.integers(0, 4), st.data())
    def ignored(count, data):
        ledger, file, lines = on_files(tmp_path / str(next(COUNT)), count + 1)
        head = {"number": count, "digest": sha256(lines[count - 1][:-1]).hexdigest()}
        noted = file.with_suffix(".head")  # it is written after the line
        noted.write_text(json.dumps(head)) if count else noted.unlink()
        torn = data.draw(st.integers(1, len(lines[-1]) - 1))
        file.write_bytes(b"".join(lines[:-1]) + lines[-1][:torn])
        assert [e["version"] for e in ledger.entries("demo")] == list(range(1, count + 1))
        decide(ledger, promotion(50), promotion(51))
        versions = [e["version"] for e in ledger.entries("demo")]
        assert versions == [*range(1, count + 1), 50, 51]

    ignored()


def test_after_a_crash_before_the_head_the_ledger_may_be_ahead(tmp_path):
    ledger, *_ = on_files(tmp_path, 2)
    head = (tmp_path / "demo.head").read_bytes()
    decide(ledger, promotion(3), promotion(4))
    (tmp_path / "demo.head").write_bytes(head)
    assert len(ledger.entries("demo")) == 4
    decide(ledger, promotion(5))
    assert json.loads((tmp_path / "demo.head").read_text())["number"] == 5


def test_a_ledger_of_before_heads_is_read_and_gets_one(tmp_path):
    ledger, *_ = on_files(tmp_path, 2)
    (tmp_path / "demo.head").unlink()
    assert len(ledger.entries("demo")) == 2
    decide(ledger, promotion(3))
    assert json.loads((tmp_path / "demo.head").read_text())["number"] == 3


def test_a_head_that_is_no_head_is_refused(tmp_path):
    ledger, *_ = on_files(tmp_path, 2)
    (tmp_path / "demo.head").write_text("{}")
    with pytest.raises(PromotionRefused, match=r"demo\.head: this is not what was written"):
        ledger.entries("demo")


# ---------------------------------------------------------------------- database alone


@pytest.fixture
def shared(postgres: servers.Postgres, tmp_path: Path) -> OnPostgres:
    return OnPostgres(tmp_path / f"l{next(COUNT)}_{os.getpid()}", postgres.url("ledgers"))


@pytest.mark.slow
def test_who_lost_the_connection_while_deciding_can_add_nothing(shared, postgres):
    """Seen to fail while the entry went over another connection than the one that held the lock."""
    ledger, _ = written(shared, 1)
    with pytest.raises(StoreAway) as raised, ledger.deciding("demo") as late:
        postgres.ask(
            "postgres", "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'"
        )
        decide(shared.open(), promotion(2))  # the lock is another's
        late.append(promotion(99))
    assert is_transient(raised.value)
    assert [e["version"] for e in ledger.entries("demo")] == [1, 2]


@pytest.mark.slow
def test_two_that_both_believe_to_hold_the_lock_do_not_both_add(shared, monkeypatch):
    """As behind a pool of connections, which may give a session away."""
    ledger, _ = written(shared, 1)
    with ledger.deciding("demo") as one, ledger.database.lock("no lock at all") as session:
        two, reached = replace(one, session=session), []
        sealing = ledger_database.sealed

        def meanwhile(entry, lines):
            if not reached:
                reached.append(True)
                two.append(promotion(2))
            return sealing(entry, lines)

        monkeypatch.setattr(ledger_database, "sealed", meanwhile)
        with pytest.raises(PromotionRefused, match="added by somebody else meanwhile"):
            one.append(promotion(99))
    assert [e["version"] for e in ledger.entries("demo")] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "what",
    [
        "update ml_assets_ledger set line = ''",
        "delete from ml_assets_ledger",
        "truncate ml_assets_ledger",
    ],
)
def test_the_table_is_only_added_to(shared, what):
    ledger, lines = written(shared, 2)
    with pytest.raises(psycopg2.Error, match="only added to"), ledger.database.lock("x") as session:
        session.ask(what)
    assert shared.lines(ledger) == lines


@pytest.mark.slow
def test_a_head_that_is_gone_is_refused(shared):
    ledger, _ = written(shared, 2)
    ledger.database.ask("delete from ml_assets_ledger_head")
    with pytest.raises(PromotionRefused, match=r"has no row for demo.*from a backup"):
        ledger.entries("demo")
    with pytest.raises(PromotionRefused, match="has no row for demo"):
        decide(ledger, promotion(3))


@pytest.mark.slow
def test_a_history_of_files_is_not_forgotten_and_can_be_taken_over(shared):
    ledger = shared.open()
    files, *_ = on_files(ledger.root, 3)
    for look in (lambda: ledger.entries("demo"), lambda: decide(ledger, promotion(1))):
        with pytest.raises(PromotionRefused, match="history of demo that the database does not"):
            look()
    assert ledger.take_over(files, "demo") == 3
    assert ledger.entries("demo") == files.entries("demo")
    assert decide(ledger, promotion(4))[0]["number"] == 4
    with pytest.raises(PromotionRefused, match="there is a history already"):
        ledger.take_over(files, "demo")
