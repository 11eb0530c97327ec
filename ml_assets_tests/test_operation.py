"""What is declared of a problem's operation, and what Dagster makes of it."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._utils.schedules import is_valid_cron_string
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_assets.problem import AlertsDeclaration, LimitsDeclaration, RetrainDeclaration
from ml_assets.problem.operation import known_cron
from ml_assets.resources.instance import SETTINGS, set_up
from ml_assets_tests.e2e.served import CHECKOUT
from ml_assets_tests.problems import Project, declared, quickly, rows

FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda e: f"{min(e)}-{max(e)}")
    step = st.integers(1, high).map(lambda n: f"*/{n}")
    part = st.one_of(number.map(str), span, step)
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=3).map(",".join))


@settings(max_examples=150, deadline=None)
@given(st.tuples(*(field(*ends) for ends in FIELDS)).map(" ".join))
def test_what_is_taken_for_a_schedule_is_one_to_dagster(text: str):
    """Seen to fail with the 30th of February, which Dagster refuses when it loads."""
    try:
        known = known_cron(text)
    except ValueError as error:
        assert "February has no such day" in str(error)
        return
    assert is_valid_cron_string(known)


@pytest.mark.parametrize("text", ["0 2 * * *", "*/15 8-18 * * mon-fri", "0 0 1 jan,jul *"])
def test_schedules_as_people_write_them(text: str):
    assert known_cron(text) == text
    assert is_valid_cron_string(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0 25 * * *", "`25` is no hour: 0 to 23"),
        ("daily", "has 1 fields; cron has 5"),
        ("0 2 * * * *", "has 6 fields"),
        ("*/0 * * * *", "a step of minute is a number from 1"),
        ("30-10 * * * *", "from the smaller to the larger"),
        ("0 2 * * sunday", "`sunday` is no day of the week"),
        ("5/10 * * * *", "a step needs a range"),
        ("² * * * *", "is no minute"),
        ("0 2 30-31 feb *", "February has no such day"),
    ],
)
def test_a_wrong_schedule_is_told_by_its_field(text: str, told: str):
    with pytest.raises(ValueError, match=told.replace("*", r"\*")):
        RetrainDeclaration(schedule=text)


def test_an_unknown_time_zone_is_refused():
    with pytest.raises(ValueError, match="`Berlin` is no time zone"):
        RetrainDeclaration(timezone="Berlin")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("2d", 172800), (45, 45)]
)
def test_durations_as_people_write_them(text: Any, seconds: float):
    assert LimitsDeclaration(run=text).of("run") == seconds


@pytest.mark.parametrize("text", ["soon", "30", "-5m", "0s", True, "m"])
def test_what_is_no_duration_is_refused(text: Any):
    with pytest.raises(ValueError, match=r"duration|greater than 0"):
        LimitsDeclaration(run=text)


def test_an_unquoted_on_is_a_word_in_yaml():
    """Seen to fail: YAML reads the key `on` as true."""
    read = yaml.safe_load("{email: [a@example.com], on: [drift]}")

    assert AlertsDeclaration.model_validate(read).on == ["drift"]


@pytest.mark.parametrize(
    ("alerts", "told"),
    [
        ({"slack": "https://hooks.slack.com/services/T0/B0/very"}, "is a secret: put it into"),
        ({"email": ["team"]}, "`team` is no e-mail address"),
        ({"email": ["a@b.c\nBcc: d@e.f"]}, "is no e-mail address"),
        ({"on": ["drift"]}, "nobody is told"),
    ],
)
def test_alerts_that_would_reach_nobody_or_show_a_secret_are_refused(alerts: Any, told: str):
    with pytest.raises(ValueError, match=told):
        AlertsDeclaration(**alerts)


def test_a_home_without_settings_gets_ours_and_one_with_settings_keeps_its_own(tmp_path: Path):
    set_up(tmp_path / "new")
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    set_up(tmp_path)

    assert (tmp_path / "new" / "dagster.yaml").read_text() == SETTINGS
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"


def test_the_checkout_is_set_as_a_new_home_is():
    ours = yaml.safe_load(SETTINGS)
    checkout = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())
    documented = (CHECKOUT / "docs" / "operations.md").read_text()

    assert {k: checkout[k] for k in ours} == ours
    assert [ours[k] for k in ("concurrency", "run_monitoring", "run_retries")] == [
        yaml.safe_load(block)[k]
        for block in documented.split("```yaml\n")
        if block.startswith("concurrency:")
        for block in [block.split("```")[0]]
        for k in ("concurrency", "run_monitoring", "run_retries")
    ]


def test_dagster_takes_the_settings(tmp_path: Path):
    set_up(tmp_path)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        config = instance.get_concurrency_config()

    assert config.run_queue_config
    assert config.run_queue_config.max_concurrent_runs == 4
    assert config.pool_config.pool_granularity.value == "run"
    assert config.pool_config.default_pool_limit == 1


@pytest.fixture
def project(tmp_path: Path) -> Any:
    with quickly():
        made = Project(tmp_path)
        made.write(rows(300))
        yield made


def test_a_schedule_starts_the_job_at_its_times_in_its_zone(
    project: Project, tmp_path_factory: pytest.TempPathFactory
):
    problem = declared(retrain={"schedule": "0 2 * * *", "timezone": "Europe/Berlin"})
    schedule = project.definitions(problem).resolve_schedule_def("demo_schedule")
    instance = dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster")))
    context = dg.build_schedule_context(instance)

    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 2 * * *", "Europe/Berlin")
    assert schedule.job_name == "demo"
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    assert isinstance(schedule(context), dg.RunRequest)

    job = project.definitions(problem).resolve_job_def("demo")
    instance.create_run_for_job(job, status=dg.DagsterRunStatus.NOT_STARTED)
    assert "waits in the queue already" in str(schedule(context))


def test_no_schedule_is_there_unless_declared(project: Project):
    assert not project.definitions(declared()).schedules


def test_all_steps_of_a_round_are_in_the_pool_of_their_problem(project: Project):
    problem = declared(
        predictions={"path": "inbox/*.csv", "output": "scored"}, limits={"run": "6h"}
    )
    definitions = project.definitions(problem)
    job = definitions.resolve_job_def("demo")
    run = project.instance.create_run_for_job(job)

    assert run.run_op_concurrency
    assert run.run_op_concurrency.all_pools == {"demo"}
    assert not run.run_op_concurrency.has_unconstrained_root_nodes
    assert job.tags["dagster/max_runtime"] == "21600"
    why = {"ops": {"demo__rollback": {"config": {"why": "wrong prices"}}}}
    for beside, config in (("demo_predictions", None), ("demo_rollback", why)):
        job = definitions.resolve_job_def(beside)
        other = project.instance.create_run_for_job(job, run_config=config)
        assert other.run_op_concurrency is None


@pytest.mark.slow
def test_automation_goes_on_when_the_dataset_changed_and_passed_its_checks(project: Project):
    """Seen to fail: Dagster's `eager()` alone goes on after a failed blocking check."""
    problem = declared(retrain={"automation": True})
    definitions, cursor = project.definitions(problem), None

    def due() -> set[str]:
        nonlocal cursor
        made = dg.evaluate_automation_conditions(definitions, project.instance, cursor=cursor)
        cursor = made.cursor
        return {"/".join(r.key.path[1:]) for r in made.results if r.true_subset.size}

    assert due() == set()
    project.run(problem, "dataset")
    rest = due()
    assert {"split/train", "candidate/all", "evaluation", "challenger", "production_model"} <= rest
    assert "dataset" not in rest
    assert project.run(problem, *rest).green
    assert project.champion() == (1, 1)
    assert due() == set()

    project.run(problem, "dataset")  # nothing changed
    assert due() == set()
    project.write(rows(20))
    assert project.run(problem, "dataset").failed_checks == {"has_enough_rows"}
    assert due() == set()
    project.write(rows(400))
    project.run(problem, "dataset")
    assert due() == rest


def test_automation_leaves_to_data_and_clock_only_the_dataset(project: Project):
    retrain = {"automation": True, "schedule": "0 2 * * *"}
    definitions = project.definitions(declared(retrain=retrain))

    assert definitions.resolve_schedule_def("demo_schedule").job_name == "demo_dataset"
    assert definitions.resolve_sensor_def("demo_new_data").job_name == "demo_dataset"
    keys = definitions.resolve_job_def("demo_dataset").asset_layer.executable_asset_keys
    assert {k.to_user_string() for k in keys} == {"demo/dataset"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"retrain": {"cool_down": "6h"}}, "would not heed `cool_down`"),
        ({"retrain": {"most_runs": {"runs": 7, "per": "7d"}}}, "would not heed `most_runs`"),
        ({"retrain": {"on_new_data": {"min_new_rows": 100}}}, "before `min_new_rows`"),
        ({"retrain": {"on_new_data": False}, "monitoring": {}}, "also with `on_new_data: false`"),
    ],
)
def test_automation_is_refused_beside_what_it_would_not_heed(given: dict[str, Any], told: str):
    """Seen to fail: each arrival was trained on at once, whatever cool-down and budget said."""
    assert declared(**given)
    with pytest.raises(ValueError, match=told):
        declared(**{**given, "retrain": {**given["retrain"], "automation": True}})
    # what is brought in by hand or by clock alone goes on at once, as asked for
    assert declared(retrain={"automation": True, "on_new_data": False})
