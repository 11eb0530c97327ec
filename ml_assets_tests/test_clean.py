"""A clean-up takes what a run makes again, and nothing that anybody decided by or needs for a proof."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ml_assets import verification
from ml_assets.errors import NotMaterialized
from ml_assets.promotion import Hold
from ml_assets.resources.stores import open_stores
from ml_assets.round import rollback
from ml_assets.round.clean import MADE_AGAIN, clean
from ml_assets.round.production import make_production
from ml_assets.round.reproduction import reproduce
from ml_assets.round.rollback import roll_back
from ml_assets_tests.problems import EXPLODES, SEES_ALL, SEES_B, Project, declared, quickly, rows
from ml_assets_tests.test_command import YAML, Desk
from ml_assets_tests.test_command import desk as desk  # the fixture

WEAK = {"weak": SEES_B}
SEARCHED = {"estimator": "linear", "search": {"C": [0.01, 1.0]}}
ALL = {"all": SEES_ALL, "searched": SEARCHED, "bad": EXPLODES}
BOUNDED = {**SEARCHED, "budget_seconds": 60}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rollback, "in_clean_process", verification.verify)
    with quickly():
        yield


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write(rows(300))
    return made


def fresh(project: Project) -> None:
    """It forgets what this process has in memory, as the next one would."""
    home = project.stores.lake.root.parent
    from ml_assets.resources.home import Home

    project.stores = open_stores(Home(home.parent, home))


def there(project: Project) -> dict[str, bytes]:
    """It returns every file of the state but locks and what MLflow's database changes by itself."""
    home = project.root / ".ml_assets"
    found = {str(f.relative_to(home)): f for f in home.rglob("*") if f.is_file()}
    return {n: f.read_bytes() for n, f in found.items() if "lock" not in n and "mlflow.db" not in n}


def of_runs(name: str) -> bool:
    parts = Path(name).parts
    noun = parts[3] if parts[:1] == ("lake",) and parts[2] == "keys" else parts[2:3] and parts[2]
    return noun in (*MADE_AGAIN, "studies")


def test_what_a_run_makes_again_goes_and_all_else_stays(project: Project) -> None:
    project.production(declared(candidates=WEAK))
    project.production(declared(candidates=ALL))
    before = there(project)

    made = clean(project.round(declared(candidates=ALL)))

    after = there(project)
    assert {n for n in before if of_runs(n)} == before.keys() - after.keys()
    assert after == {n: b for n, b in before.items() if not of_runs(n)}
    gone = [b for n, b in before.items() if of_runs(n)]
    assert sum(files for files, _ in made.removed.values()) == len(gone) > 20
    assert sum(size for _, size in made.removed.values()) == sum(map(len, gone))
    assert set(made.removed) == {*MADE_AGAIN, "studies"}


def test_a_rehearsal_counts_the_same_and_removes_nothing(project: Project) -> None:
    project.production(declared(candidates=ALL))
    before = there(project)

    told = clean(project.round(declared(candidates=ALL)), dry_run=True)

    assert there(project) == before
    assert told == clean(project.round(declared(candidates=ALL)))


def test_the_next_run_fits_again_and_finds_the_same(project: Project) -> None:
    """Law 9: the same model digest, so that nothing is promoted and no version is added."""
    first = project.production(declared(candidates=ALL))
    version = first.challenger.version
    clean(project.round(declared(candidates=ALL)))
    fresh(project)

    round_ = project.round(declared(candidates=ALL))
    fitted = project.candidates(round_)
    assert not [n for n, c in fitted.items() if c.reused]
    again = project.production(declared(candidates=ALL))

    assert isinstance(again.decision, Hold)
    assert again.challenger.model_digest == first.challenger.model_digest
    assert again.challenger.version.number == version.number
    assert project.champion() == (version.number, version.number)


def test_production_alone_promotes_nothing_of_what_is_gone(project: Project) -> None:
    """Law 1: what cannot be judged cannot be promoted."""
    project.production(declared(candidates=WEAK))
    project.challenger(declared())
    clean(project.round(declared()))
    fresh(project)

    with pytest.raises(NotMaterialized):
        make_production(project.round(declared()))
    assert project.champion() == (1, 1)


def test_rollback_reproduction_and_history_need_nothing_of_it(project: Project) -> None:
    project.production(declared(candidates=WEAK))
    project.production(declared())
    known = project.stores.ledger.entries("demo")
    clean(project.round(declared()))
    fresh(project)

    assert project.stores.ledger.entries("demo") == known
    for version in (1, 2):
        made = reproduce(project.round(declared()), version)
        assert (made.same, made.version) == (True, version)
    roll_back(project.round(declared()), None, "prices were wrong")
    assert project.champion() == (1, 1)
    assert isinstance(project.production(declared()).decision, Hold)  # withdrawn all the same


def test_cuts_in_time_stay_so_that_no_row_changes_sides(project: Project) -> None:
    """Law 5. Seen to fail: with `cuts` among what goes, later rows moved them."""
    problem = declared(split={"by": {"time": "id"}}, candidates=WEAK)
    project.evaluation(problem)
    clean(project.round(problem))
    fresh(project)
    project.write(rows(600))

    made = project.evaluation(problem)

    assert "cut at 210" in made.split.how
    assert made.split.parts["train"].rows == 210


@pytest.mark.parametrize("at", [1, 4, 9, 14])
def test_a_crash_on_the_way_leaves_things_whole_or_gone(
    project: Project, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """Law 7. Seen to fail: with folders deleted where they stand, half of one was refused."""
    problem = declared(candidates={"all": SEES_ALL, "searched": SEARCHED})
    first = project.production(problem)
    deleted = shutil.rmtree
    calls: list[Any] = []

    def dies(place: Any, **given: Any) -> None:
        calls.append(place)
        if len(calls) == at:
            next(f for f in Path(place).rglob("*") if f.is_file()).unlink()
            raise KeyboardInterrupt
        deleted(place, **given)

    with monkeypatch.context() as patch:
        patch.setattr("ml_assets.resources.lake.shutil.rmtree", dies)
        with contextlib.suppress(KeyboardInterrupt):
            clean(project.round(problem))
    fresh(project)

    again = project.production(problem)
    assert again.challenger.model_digest == first.challenger.model_digest
    assert isinstance(again.decision, Hold)
    clean(project.round(problem))
    assert not list((project.stores.lake.root / "demo" / ".aside").glob("*"))


def test_what_processes_left_goes_after_a_day_and_not_before(project: Project) -> None:
    project.evaluation(declared())
    aside = project.stores.lake.root / "demo" / ".aside"
    for name, age in (("dead", 2 * 86400), ("busy", 60)):
        (aside / name).mkdir(parents=True)
        (aside / name / "file").write_text("a")
        os.utime(aside / name, (time.time() - age,) * 2)

    clean(project.round(declared()))

    assert [f.name for f in aside.iterdir()] == ["busy"]


def test_a_search_that_is_bounded_by_time_is_kept(project: Project) -> None:
    """Made again it would be another: law 9 cannot hold for it."""
    problem = declared(candidates={"all": SEES_ALL, "bounded": BOUNDED})
    project.evaluation(problem)

    made = clean(project.round(problem))

    assert list(made.kept) == ["candidate/bounded"]
    fresh(project)
    fitted = project.candidates(project.round(problem))
    assert {n: c.reused for n, c in fitted.items()} == {
        "baseline": False,
        "all": False,
        "bounded": True,
    }
    assert len(list((project.stores.lake.root / "demo" / "studies").iterdir())) == 1


def test_a_problem_without_anything_is_clean(project: Project) -> None:
    assert clean(project.round(declared())).removed == {}


# ---------------------------------------------------------------------------- command


def instance(desk: Desk) -> dg.DagsterInstance:
    return dg.DagsterInstance.from_config(str(desk.root / ".ml_assets" / "dagster"))


def test_clean_says_what_it_removed(desk: Desk) -> None:
    desk.declare(YAML)
    first = desk.type("run", "demo", "--json").document

    would = desk.type("clean", "demo", "--dry-run", "--json").document
    did = desk.type("clean", "demo", "--json").document
    assert {**would, "dry_run": False} == did
    assert did["files"] == sum(n["files"] for n in did["removed"].values()) > 10
    assert "There is nothing to remove of demo." in desk.type("clean", "demo").out

    again = desk.type("run", "demo", "--json").document
    assert again["champion"] == first["champion"]
    assert all(c["fitted"] for c in again["candidates"].values())
    assert desk.type("clean", "dmeo").refused("Did you mean `demo`?")


def test_clean_waits_for_a_run_of_the_same_problem(desk: Desk) -> None:
    desk.declare(YAML)
    assert desk.type("status", "demo").status == 0
    mine, other = dg.AssetKey(["demo", "evaluation"]), dg.AssetKey(["wine", "evaluation"])

    @dg.asset(key=mine)
    def one() -> None: ...

    @dg.asset(key=other)
    def another() -> None: ...

    jobs = dg.Definitions([one, another], jobs=[dg.define_asset_job("ad_hoc")])
    ad_hoc = jobs.resolve_job_def("ad_hoc")

    here = instance(desk)
    for keys, tags, blocks in (
        ([other], {}, False),
        (None, {"ml_assets/problem": "wine"}, False),
        ([mine], {}, True),
        (None, {"ml_assets/problem": "demo"}, True),
        (None, {}, True),  # whatever materializes everything
    ):
        run = here.create_run_for_job(
            ad_hoc,
            asset_selection=frozenset(keys) if keys else None,
            tags=tags,
            status=dg.DagsterRunStatus.STARTED,
        )
        told = desk.type("clean", "demo", "--json")
        assert told.refused("is being run", run.run_id) if blocks else told.status == 0
        here.delete_run(run.run_id)
    assert desk.type("clean", "demo").status == 0
