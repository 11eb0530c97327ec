import json
import multiprocessing
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.errors import PromotionRefused
from ml_assets.resources.ledger import HOLD, PROMOTION, Ledger


def decide(ledger, *entries, problem="demo"):
    with ledger.deciding(problem) as deciding:
        return [deciding.append(e) for e in entries]


def promotion(version):
    return {"event": PROMOTION, "version": version}


def written(folder, count):
    ledger = Ledger(Path(folder))
    decide(ledger, *(promotion(i + 1) for i in range(count)))
    file = Path(folder) / "demo.jsonl"
    return ledger, file, file.read_bytes().splitlines(keepends=True)


def test_what_was_appended_is_read_oldest_first_with_numbers(tmp_path):
    ledger, *_ = written(tmp_path, 3)
    assert [(e["number"], e["version"]) for e in ledger.entries("demo")] == [(1, 1), (2, 2), (3, 3)]


def test_a_problem_without_a_history_has_no_entries_and_no_champion(tmp_path):
    assert Ledger(tmp_path / "absent").entries("demo") == []
    assert Ledger(tmp_path / "absent").champion("demo") is None


def test_the_champion_is_the_last_promotion_whatever_was_held_since(tmp_path):
    ledger = Ledger(tmp_path)
    decide(ledger, promotion(1), promotion(2), {"event": HOLD, "version": 3})
    assert ledger.champion("demo")["version"] == 2


def test_problems_have_histories_of_their_own(tmp_path):
    ledger = Ledger(tmp_path)
    decide(ledger, promotion(1), problem="one")
    decide(ledger, promotion(7), problem="other")
    assert ledger.champion("one")["version"] == 1
    assert ledger.champion("other")["number"] == 1


def test_what_append_returns_is_what_is_read_later(tmp_path):
    ledger = Ledger(tmp_path)
    said = decide(ledger, {"event": HOLD, "reason": "é\n„“", "none": None, "n": 0.1})
    assert ledger.entries("demo") == said


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 6), st.data())
def test_any_altered_removed_or_inserted_line_is_noticed(count, data):
    """The removal of the last lines shows by the head: see below."""
    with TemporaryDirectory() as folder:
        ledger, file, lines = written(folder, count)
        how = data.draw(st.sampled_from(["altered", "removed", "doubled", "swapped", "blank"]))
        at = data.draw(st.integers(0, count - (1 if how == "altered" else 2)))
        if how == "altered":
            entry = json.loads(lines[at])
            lines[at] = json.dumps({**entry, "version": 99}, sort_keys=True).encode() + b"\n"
        elif how == "removed":
            del lines[at]
        elif how == "doubled":
            lines.insert(at, lines[at])
        elif how == "swapped":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
        else:
            lines.insert(at, b"\n")
        file.write_bytes(b"".join(lines))
        with pytest.raises(PromotionRefused, match=r"demo\.jsonl, line \d+: .*from a backup"):
            ledger.entries("demo")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.data())
def test_any_flipped_byte_before_the_last_line_is_noticed(count, data):
    with TemporaryDirectory() as folder:
        ledger, file, lines = written(folder, count + 1)
        raw = bytearray(file.read_bytes())
        at = data.draw(st.integers(0, len(raw) - len(lines[-1]) - 1))
        raw[at] ^= data.draw(st.integers(1, 255))
        file.write_bytes(bytes(raw))
        with pytest.raises(PromotionRefused):
            ledger.entries("demo")


def test_the_refusal_names_the_line_that_does_not_continue(tmp_path):
    ledger, file, lines = written(tmp_path, 5)
    file.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    with pytest.raises(PromotionRefused, match="line 3: the ledger was rewritten"):
        ledger.entries("demo")


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 4), st.data())
def test_a_torn_last_line_is_ignored_and_then_overwritten(count, data):
    """Its writer died in it; it was never acknowledged."""
    with TemporaryDirectory() as folder:
        ledger, file, lines = written(folder, count + 1)
        head = {"number": count, "digest": sha256(lines[count - 1][:-1]).hexdigest()}
        noted = file.with_suffix(".head")  # it is written after the line
        noted.write_text(json.dumps(head)) if count else noted.unlink()
        torn = data.draw(st.integers(1, len(lines[-1]) - 1))
        file.write_bytes(b"".join(lines[:-1]) + lines[-1][:torn])
        assert [e["version"] for e in ledger.entries("demo")] == list(range(1, count + 1))
        decide(ledger, promotion(50), promotion(51))
        versions = [e["version"] for e in ledger.entries("demo")]
        assert versions == [*range(1, count + 1), 50, 51]


def append(root, version):
    ledger = Ledger(Path(root))
    for _ in range(20):
        with ledger.deciding("demo") as deciding:
            before = len(ledger.entries("demo"))
            assert deciding.append(promotion(version))["number"] == before + 1


def test_one_process_decides_at_a_time(tmp_path):
    context = multiprocessing.get_context("fork")
    racers = [context.Process(target=append, args=(str(tmp_path), v)) for v in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert [r.exitcode for r in racers] == [0, 0, 0, 0]
    assert [e["number"] for e in Ledger(tmp_path).entries("demo")] == list(range(1, 81))


def test_the_lock_is_let_go_when_a_decision_fails(tmp_path):
    ledger = Ledger(tmp_path)
    with pytest.raises(ZeroDivisionError), ledger.deciding("demo"):
        raise ZeroDivisionError
    assert decide(ledger, promotion(1))[0]["number"] == 1


@pytest.mark.parametrize(
    ("left", "missing"), [(3, "entry 4 of 4 is"), (1, "entries 2 to 4 of 4 are")]
)
def test_removed_last_lines_are_missed_by_the_head(tmp_path, left, missing):
    ledger, file, lines = written(tmp_path, 4)
    file.write_bytes(b"".join(lines[:left]))
    with pytest.raises(PromotionRefused, match=f"{missing} missing at the end.*from a backup"):
        ledger.entries("demo")
    with pytest.raises(PromotionRefused, match="missing at the end"):
        decide(ledger, promotion(9))
    assert file.read_bytes() == b"".join(lines[:left])


def test_a_ledger_that_is_gone_is_missed_by_the_head(tmp_path):
    ledger, file, _ = written(tmp_path, 2)
    file.unlink()
    with pytest.raises(PromotionRefused, match="entries 1 to 2 of 2 are missing"):
        ledger.champion("demo")
    with pytest.raises(PromotionRefused, match="entries 1 to 2 of 2 are missing"):
        decide(ledger, promotion(9))


def test_another_last_line_than_the_noted_one_is_refused(tmp_path):
    """Its seal and its link to the line before are right: only the head knows better."""
    ledger, file, _ = written(tmp_path / "one", 3)
    other, elsewhere, _ = written(tmp_path / "other", 2)
    decide(other, promotion(99))
    file.write_bytes(elsewhere.read_bytes())
    with pytest.raises(PromotionRefused, match=r"line 3: the ledger was rewritten.*demo\.head"):
        ledger.entries("demo")


def test_after_a_crash_before_the_head_the_ledger_may_be_ahead(tmp_path):
    ledger, *_ = written(tmp_path, 2)
    head = (tmp_path / "demo.head").read_bytes()
    decide(ledger, promotion(3), promotion(4))
    (tmp_path / "demo.head").write_bytes(head)
    assert len(ledger.entries("demo")) == 4
    decide(ledger, promotion(5))
    assert json.loads((tmp_path / "demo.head").read_text())["number"] == 5


def test_a_ledger_of_before_heads_is_read_and_gets_one(tmp_path):
    ledger, *_ = written(tmp_path, 2)
    (tmp_path / "demo.head").unlink()
    assert len(ledger.entries("demo")) == 2
    decide(ledger, promotion(3))
    assert json.loads((tmp_path / "demo.head").read_text())["number"] == 3


def test_a_head_that_is_no_head_is_refused(tmp_path):
    ledger, *_ = written(tmp_path, 2)
    (tmp_path / "demo.head").write_text("{}")
    with pytest.raises(PromotionRefused, match=r"demo\.head: this is not what was written"):
        ledger.entries("demo")
