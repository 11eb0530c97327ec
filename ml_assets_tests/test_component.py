"""The component: YAML becomes keys, checks, a job and a sensor; what is wrong in it is told with its line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.core.load_defs import build_defs_for_component

from ml_assets import definitions
from ml_assets.command.terminal import declaration_trouble
from ml_assets.components import MLProblem
from ml_assets.problem import Declaration, Parameters, Problem
from ml_assets_tests.problems import MODEL, declared

SMALLEST = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  dataset: {path: data.csv, target: y}
"""

FULL = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  description: What it is for.
  owners: ["team:growth"]
  task: binary
  dataset:
    path: landing/*.csv
    resent: append
    settle: 5
    number_rows: position
    target: y
    positive: "yes"
    key: id
    drop: [note]
    separator: ";"
    quote: "'"
    bad_lines: 2
    decimal: ","
    encoding: latin-1
    names: [id, a, sent, note, y]
    missing: ["?"]
    skip_initial_space: true
    contract:
      min_rows: 100
      new_columns: ignore
      columns:
        id: {unique: true, missing: 0}
        a: {type: number, min: 0, max: 9, usual: [1, 8], mode: {min: warn}}
        sent: {type: date, format: "%d.%m.%Y"}
        y: {values: ["yes", "no"], mode: enforce}
    integrity: {labels_agree: enforce}
  split:
    by: {time: sent, validation_from: "2024-01-01", test_from: "2024-03-01", gap: 7d, rolling: false}
    train: 0.6
    validation: 0.2
    test: 0.2
    salt: 4
  transform: .model.sees_a
  candidates:
    linear: {C: 0.5}
    ours: {estimator: .model.explodes, transform: none}
    tuned:
      estimator: logistic_regression
      params: {max_iter: 50}
      search: {C: {low: 0.1, high: 10, log: false, step: 0.3}}
      trials: 8
      sampler: random
      folds: 3
      parallel: 2
      budget_seconds: 60
    grid: {estimator: logistic_regression, search: {C: [1, 2]}, fan_out: true}
  class_weight: balanced
  threshold: 0.4
  select: roc_auc
  gates:
    - {metric: accuracy, min: 0.85}
    - {metric: accuracy, min: 0.7, mode: warn}
    - {metric: log_loss, max: 0.7}
    - {latency_ms: 100, mode: "off"}
    - {class_share: 0.05, mode: enforce}
    - {slice: a, metric: accuracy, max_drop: 0.3, min_rows: 20, mode: enforce}
    - {fair: note, metric: recall, max_difference: 0.15, min_rows: 25, mode: "warn"}
    - {overfit: f1, max_gap: 0.35, mode: enforce}
    - {calibration: 0.06, mode: enforce}
    - {flips: 0.03, mode: enforce}
    - {prediction_drift: 0.25, mode: enforce}
    - {size_mb: 50, mode: enforce}
    - {custom: .model.sees_b, mode: enforce}
    - {beats: baseline, by: 0.02, mode: enforce}
    - {beats: champion, by: 0.01, confidence: 0.95}
  promotion: {mode: canary, share: 0.2, min_rows: 90, longest: 9d}
  retrain:
    on_new_data: true
    on_drift: {violations: 3, of_last: 6, by: [estimate], min_new_rows: 17}
    cool_down: 7h
    most_runs: {runs: 8, per: 8d}
    schedule: "0 2 * * *"
    timezone: Europe/Berlin
    automation: false
  monitoring:
    inputs: true
    keep_inputs: 31d
    window: 501
    every: 15m
    min_rows: 101
    confidence: 0.98
    distance: 0.12
    share: 0.51
    ignore: [drifting]
    max_drop: 0.11
    volume: 9
    silence: 25h
    label_delay: 32d
    rollback: false
    fresh_rows: 999
  limits:
    run: 6h
    dataset: 61m
    split: 10m
    candidate: 30m
    evaluation: 11m
    challenger: 12m
    production_model: 13m
    predictions: 14m
    canary: 15m
    monitoring: 16m
    rollback_decision: 17m
    retrain_decision: 18m
  resources:
    cpu: 4
    memory: 8Gi
    candidates:
      ours: {cpu: 500m, memory: 16Gi}
  alerts: {email: [team@example.com], slack: SLACK, webhook: HOOK, on: [drift]}
  predictions: {path: inbox/*.csv, output: scored, format: csv.gz, rescore: false}
  trust: [my_package.Ratio]
  seed: 3
"""

Load = Callable[[str], dg.Definitions]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """It loads a defs.yaml as the code location does."""
    monkeypatch.setenv("ML_ASSETS_DEFS", str(tmp_path / "problems"))
    monkeypatch.delenv("ML_ASSETS_HOME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "problems" / "demo"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL)

    def loaded(text: str) -> dg.Definitions:
        (folder / "defs.yaml").write_text(text)
        return definitions.build(definitions.tree())

    return loaded


def _keys(defs: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in defs.resolve_asset_graph().get_all_asset_keys()}


def _checks(defs: dg.Definitions, asset: str) -> dict[str, bool]:
    """It returns the checks of an asset, and whether each blocks."""
    graph = defs.resolve_asset_graph()
    keys = [k for k in graph.asset_check_keys if k.asset_key.to_user_string() == asset]
    return {k.name: graph.get(k).blocking for k in keys}


# ------------------------------------------------------------- YAML becomes assets


def test_the_smallest_problem_has_every_noun_and_safe_candidates(load: Load) -> None:
    names = ("baseline", "linear", "extra_trees", "hist_gradient_boosting", "lightgbm", "catboost")
    assert _keys(load(SMALLEST)) == {
        "demo/dataset",
        "demo/split/train",
        "demo/split/validation",
        "demo/split/test",
        *(f"demo/candidate/{n}" for n in names),
        "demo/evaluation",
        "demo/challenger",
        "demo/production_model",
    }


def test_each_gate_is_a_check_and_only_enforced_ones_block(load: Load) -> None:
    defs = load(FULL)
    assert _checks(defs, "demo/challenger") == {
        "a_candidate_is_eligible": True,
        "predictions_are_complete": True,
        "accuracy_reaches_floor": True,
        "accuracy_reaches_floor_2": False,
        "log_loss_is_under_ceiling": True,
        "every_class_is_predicted": True,
        "no_slice_falls_behind": True,
        "groups_are_treated_alike": False,
        "does_not_overfit": True,
        "probabilities_are_calibrated": True,
        "few_answers_turn_wrong": True,
        "predictions_are_spread_alike": True,
        "model_is_small": True,
        "sees_b": True,
        "beats_the_baseline": True,
    }
    assert _checks(defs, "demo/dataset") == {
        "has_enough_rows": True,
        "target_is_usable": True,
        "columns_are_as_declared": True,
        "values_are_usual": False,
        "no_feature_gives_the_target_away": True,
        "rows_are_unique": False,
        "labels_agree": True,
        "features_vary": False,
        "categories_are_distinct": False,
        "no_feature_is_an_identifier": False,
        "dates_have_one_format": True,
        "no_column_is_new": False,
    }
    assert _checks(defs, "demo/quarantine") == {"every_batch_is_accepted": False}
    assert _checks(defs, "demo/split/test") == {
        "parts_are_disjoint": True,
        "time_is_in_order": True,
        "shares_are_as_declared": False,
    }
    assert _checks(defs, "demo/split/train") == {"every_class_is_present": True}
    assert _checks(defs, "demo/candidate/ours") == {"is_fitted": False}
    assert _checks(defs, "demo/production_model") == {
        "every_gate_holds": True,
        "beats_the_champion": False,
    }


def test_without_a_landing_zone_or_time_what_is_about_them_is_not_asked(load: Load) -> None:
    defs = load(SMALLEST)
    assert "demo/quarantine" not in _keys(defs)
    assert _checks(defs, "demo/split/test") == {"parts_are_disjoint": True}


def test_the_contract_is_shown_as_the_schema_of_the_dataset(load: Load) -> None:
    schema = load(FULL).resolve_asset_graph().get(dg.AssetKey(["demo", "dataset"])).metadata
    columns = {c.name: c for c in schema["contract"].value.columns}
    assert [(c.name, c.type) for c in columns.values()] == [
        ("id", "any"),
        ("a", "number"),
        ("sent", "date"),
        ("y", "any"),
    ]
    assert columns["id"].constraints.unique
    assert not columns["id"].constraints.nullable
    assert columns["a"].constraints.nullable
    assert {"min: 0.0", "max: 9.0", "usual: [1.0, 8.0]"} < set(columns["a"].constraints.other)
    assert "format: %d.%m.%Y" in columns["sent"].constraints.other
    assert "values: ['yes', 'no']" in columns["y"].constraints.other


# ------------------------------------------------------------------------- sources


OTHER_SOURCES = {
    "loader: .model.rows": None,
    "sql: SELECT 1 FROM customers, connection: WAREHOUSE_URL": None,
    "asset: warehouse/customers": "`warehouse/customers`",
    "path: data.csv": "`data.csv`",
    "path: landing/": "`landing/`",
    "path: s3://bucket/churn/*.parquet": "`s3://bucket/churn/*.parquet`",
}


@pytest.mark.parametrize("source", OTHER_SOURCES)
def test_a_source_that_can_be_watched_has_a_sensor(load: Load, source: str) -> None:
    defs = load(SMALLEST.replace("path: data.csv", source))
    of_all = ("champion_aliases", "lost_runs")
    sensors = [s for s in defs.sensors or [] if s.name not in of_all]
    watched = OTHER_SOURCES[source]
    assert [s.name for s in sensors] == (["demo_new_data"] if watched else [])
    for sensor in sensors:
        assert isinstance(sensor, dg.SensorDefinition)
        assert sensor.job_name == "demo"
        assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
        assert sensor.description == f"A run of demo when {watched} has something new."
        assert sensor.tags == {"ml_assets/problem": "demo"}


def test_a_sensor_that_is_not_wanted_is_there_and_stopped(load: Load) -> None:
    defs = load(f"{SMALLEST}  retrain: {{on_new_data: false}}\n")
    [sensor] = [s for s in defs.sensors or [] if s.name == "demo_new_data"]
    assert isinstance(sensor, dg.SensorDefinition)
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED


UPSTREAM = """\
import dagster as dg


@dg.asset(key=["warehouse", "customers"])
def customers():
    return None
"""


@pytest.fixture
def upstream(load: Load, tmp_path: Path) -> None:
    """It puts an asset of another team beside the problem."""
    (tmp_path / "problems" / "warehouse.py").write_text(UPSTREAM)


@pytest.mark.usefixtures("upstream")
@pytest.mark.parametrize("source", OTHER_SOURCES)
def test_a_place_where_files_arrive_has_a_quarantine(load: Load, source: str) -> None:
    keys = _keys(load(SMALLEST.replace("path: data.csv", source)))
    assert ("demo/quarantine" in keys) == (source.endswith("/") or "*" in source)


@pytest.mark.usefixtures("upstream")
def test_an_upstream_asset_comes_before_the_dataset(load: Load) -> None:
    defs = load(SMALLEST.replace("path: data.csv", "asset: warehouse/customers"))
    dataset = defs.resolve_asset_graph().get(dg.AssetKey(["demo", "dataset"]))
    assert dataset.parent_keys == {dg.AssetKey(["warehouse", "customers"])}


# ------------------------------------------------------------------------- the job


def test_the_job_is_named_as_the_problem_and_holds_all_up_to_production(load: Load) -> None:
    defs = load(FULL)
    job = defs.resolve_job_def("demo")
    held = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    live = {"predictions", "monitoring", "retrain_decision", "rollback_decision"}
    assert held == _keys(defs) - {f"demo/{name}" for name in live}


def test_candidates_depend_on_what_they_learn_from_and_never_on_test(load: Load) -> None:
    graph = load(FULL).resolve_asset_graph()

    def parents(*path: str) -> set[str]:
        return {k.to_user_string() for k in graph.get(dg.AssetKey(["demo", *path])).parent_keys}

    assert parents("candidate", "ours") == {"demo/split/train", "demo/split/validation"}
    assert "demo/split/test" not in parents("evaluation")
    assert parents("challenger") == {"demo/evaluation", "demo/split/test"}
    assert parents("production_model") == {"demo/challenger"}


def test_every_asset_says_what_it_is_to_whom_it_belongs(load: Load) -> None:
    graph = load(FULL).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.group_name == "demo"
        assert node.owners == ["team:growth"], key
        assert node.kinds, key
        assert node.tags["ml_assets/problem"] == "demo"


def test_the_same_problem_from_python_is_the_same(load: Load, tmp_path: Path) -> None:
    attributes = yaml.safe_load(FULL)["attributes"]
    folder = tmp_path / "problems" / "demo"
    python = build_defs_for_component(MLProblem(Problem(**attributes), folder, tmp_path))
    written = load(FULL)
    assert _keys(python) == _keys(written)
    for asset in _keys(python):
        assert _checks(python, asset) == _checks(written, asset)
        key = dg.AssetKey(asset.split("/"))
        versions = {d.resolve_asset_graph().get(key).code_version for d in (python, written)}
        assert len(versions) == 1, asset


def test_functions_of_model_py_are_found_beside_the_yaml(load: Load, tmp_path: Path) -> None:
    load(FULL)
    component = definitions.problems_of(definitions.tree())["demo"]
    assert component.folder == tmp_path / "problems" / "demo"
    from ml_assets.user_code import locate

    assert locate(".model.sees_a", component.folder)().transformers[0][2] == ["a"]


def test_two_problems_live_side_by_side(load: Load, tmp_path: Path) -> None:
    other = tmp_path / "problems" / "other"
    other.mkdir()
    (other / "defs.yaml").write_text(SMALLEST.replace("demo", "other"))
    defs = load(SMALLEST)
    assert {"demo/dataset", "other/dataset"} < _keys(defs)
    assert set(definitions.problems_of(definitions.tree())) == {"demo", "other"}
    assert defs.resolve_job_def("other").name == "other"


def test_an_empty_folder_of_problems_is_no_error(load: Load, tmp_path: Path) -> None:
    load(SMALLEST)
    (tmp_path / "problems" / "demo" / "defs.yaml").unlink()
    assert definitions.problems_of(definitions.tree()) == {}


# ------------------------------------------------------------------- wrong YAML


ONE_SOURCE = "exactly one of `path`, `loader`, `sql`, `asset`"
WAYS = "rows are split by `key`, `row`, `{group: column}` or `{time: column}`"
BY = '{time: sent, validation_from: "2024-01-01", test_from: "2024-03-01", gap: 7d, rolling: false}'

# what is wrong, by record and field -> (what is written in FULL, instead, what is told)
WRONG: list[tuple[str, str, str, list[str]]] = [
    ("Problem.name", "name: demo", "name: my demo", ["letters, digits and _ only"]),
    ("Problem.name", "name: demo", "nmae: demo", ["`nmae` is not a key", "Did you mean `name`?"]),
    ("Problem.description", "description:", "descripton:", ["Did you mean `description`?"]),
    ("Problem.owners", 'owners: ["team:growth"]', "owners: growth", ["list"]),
    ("Problem.task", "task: binary", "task: binray", ["`binray`", "Did you mean `binary`?"]),
    ("Problem.task", "task: binary", "task: regression", ["not for regression tasks", "rmse"]),
    ("Problem.dataset", "    target: y\n", "", ["Field required"]),
    ("Problem.split", "salt: 4", "sald: 4", ["`sald` is not a key", "Did you mean `salt`?"]),
    ("Problem.transform", "transform: .model.sees_a", "transform: [a]", ["string"]),
    ("Problem.candidates", "linear: {C: 0.5}", "lienar: {C: 0.5}", ["Did you mean `linear`?"]),
    ("Problem.candidates", "ours: {estimator: .model", "my-own: {estimator: .model", ["`my-own`"]),
    ("Problem.class_weight", "class_weight: balanced", "class_weight: balance", ["`balanced`"]),
    ("Problem.threshold", "threshold: 0.4", "threshold: 1.4", ["between 0 and 1"]),
    ("Problem.select", "select: roc_auc", "select: roc_aux", ["Did you mean `roc_auc`?"]),
    ("Problem.gates", "class_share: 0.05", "clas_share: 0.05", ["{class_share: X}", "`class_share`?"]),
    ("Problem.promotion", "promotion: {mode: canary, share: 0.2, min_rows: 90, longest: 9d}", "promotion: soon", ["dictionary"]),
    ("Problem.retrain", "cool_down: 7h", "cooldown: 7h", ["Did you mean `cool_down`?"]),
    ("Problem.monitoring", "keep_inputs: 31d", "keep_input: 31d", ["Did you mean `keep_inputs`?"]),
    ("Problem.trust", "trust: [my_package.Ratio]", "trust: my_package.Ratio", ["list"]),
    ("Problem.seed", "seed: 3", "seed: -3", ["greater than or equal to 0"]),
    # the dataset
    ("DatasetDeclaration.path", "    path: landing/*.csv\n", "", [ONE_SOURCE]),
    ("DatasetDeclaration.loader", "resent: append", "loader: .model.rows", [ONE_SOURCE]),
    ("DatasetDeclaration.sql", "path: landing/*.csv", "sql: SELECT 1", ["`sql` and `connection` go together"]),
    ("DatasetDeclaration.connection", "resent: append", "connection: DB", ["`sql` and `connection` go together"]),
    ("DatasetDeclaration.connection", "path: landing/*.csv\n    resent: append", "sql: SELECT 1\n    connection: sqlite:///x", ["names an environment variable that holds the URL"]),
    ("DatasetDeclaration.asset", "path: landing/*.csv", "asset: [a]", ["string"]),
    ("DatasetDeclaration.resent", "resent: append", "resent: apend", ["`apend`", "Did you mean `append`?"]),
    ("DatasetDeclaration.settle", "settle: 5", "settle: -5", ["greater than or equal to 0"]),
    ("DatasetDeclaration.number_rows", "number_rows: position", "number_rows: [a]", ["string"]),
    ("DatasetDeclaration.target", "target: y", "targt: y", ["`targt` is not a key", "Did you mean `target`?"]),
    ("DatasetDeclaration.positive", 'positive: "yes"', "positive: [1]", ["positive"]),
    ("DatasetDeclaration.key", "key: id", "key: y", ["`key` names the target"]),
    ("DatasetDeclaration.drop", "drop: [note]", "drop: [y]", ["`drop` names the target"]),
    ("DatasetDeclaration.separator", 'separator: ";"', 'separator: ";;"', ["one character each"]),
    ("DatasetDeclaration.quote", 'quote: "\'"', 'quote: ""', ["one character each"]),
    ("DatasetDeclaration.bad_lines", "bad_lines: 2", "bad_lines: -2", ["greater than or equal to 0"]),
    ("DatasetDeclaration.bad_lines", "bad_lines: 2", "bad_lines: skip", ["valid integer"]),
    ("DatasetDeclaration.decimal", 'decimal: ","', 'decimal: ", "', ["one character each"]),
    ("DatasetDeclaration.encoding", "encoding: latin-1", "encoding: [latin-1]", ["string"]),
    ("DatasetDeclaration.names", "names: [id, a, sent, note, y]", "names: id", ["list"]),
    ("DatasetDeclaration.missing", 'missing: ["?"]', 'missing: "?"', ["list"]),
    ("DatasetDeclaration.skip_initial_space", "initial_space: true", "initial_space: some", ["boolean"]),
    ("DatasetDeclaration.contract", "contract:", "contarct:", ["Did you mean `contract`?"]),
    ("DatasetDeclaration.integrity", "{labels_agree: enforce}", "{labels_agre: enforce}", ["Did you mean `labels_agree`?"]),
    ("DatasetDeclaration.integrity", "{labels_agree: enforce}", "{labels_agree: enforced}", ["Did you mean `enforce`?"]),
    ("Contract.min_rows", "min_rows: 100", "minrows: 100", ["Did you mean `min_rows`?"]),
    ("Contract.min_rows", "min_rows: 100", "min_rows: 0", ["greater than or equal to 1"]),
    ("Contract.new_columns", "new_columns: ignore", "new_columns: ignored", ["Did you mean `ignore`?"]),
    ("Contract.columns", "id: {unique: true, missing: 0}", "id: number", ["dictionary"]),
    ("ColumnContract.type", "type: number", "type: whole", ["`whole` is not known"]),
    ("ColumnContract.format", "type: date, format:", "type: text, format:", ["declare `type: date` with it"]),
    ("ColumnContract.min", "min: 0, max: 9", "min: 10, max: 9", ["min and max: 10 is more than 9"]),
    ("ColumnContract.max", "max: 9", "max: many", ["number"]),
    ("ColumnContract.usual", "usual: [1, 8]", "usual: [8, 1]", ["usual: 8 is more than 1"]),
    ("ColumnContract.usual", "usual: [1, 8]", "usual: 8", ["usual"]),
    ("ColumnContract.values", 'values: ["yes", "no"]', "values: yes", ["list"]),
    ("ColumnContract.unique", "unique: true", "unique: often", ["boolean"]),
    ("ColumnContract.missing", "missing: 0}", "missing: 2}", ["less than or equal to 1"]),
    ("ColumnContract.mode", "mode: {min: warn}", "mode: wrn", ["Did you mean `warn`?"]),
    ("ColumnContract.mode", "mode: {min: warn}", "mode: {mim: warn}", ["Did you mean `min`?"]),
    ("ColumnContract.mode", "mode: {min: warn}", "mode: {min: warning}", ["Did you mean `warn`?"]),
    # the split
    ("SplitDeclaration.by", BY, "keys", [WAYS]),
    ("SplitDeclaration.by", BY, "{gruop: a}", [WAYS]),
    ("SplitDeclaration.train", "train: 0.6", "train: 0.7", ["train + validation + test is 1.1"]),
    ("SplitDeclaration.validation", "validation: 0.2", "validaton: 0.2", ["Did you mean `validation`?"]),
    ("SplitDeclaration.test", "test: 0.2", "test: 1", ["less than 1"]),
    ("SplitDeclaration.salt", "salt: 4", "salt: -4", ["greater than or equal to 0"]),
    ("GroupBy.group", BY, "{group: [a]}", ["string"]),
    ("GroupBy.group", BY, "{group: a, gap: 1}", ["`gap` is not a key of GroupBy"]),
    ("TimeBy.time", "time: sent", "time: [sent]", ["string"]),
    ("TimeBy.validation_from", 'validation_from: "2024-01-01", ', "", ["give both or none"]),
    ("TimeBy.test_from", 'test_from: "2024-03-01", ', "", ["give both or none"]),
    ("TimeBy.gap", "gap: 7d", "gap: [7d]", ["string"]),
    ("TimeBy.gap", "gap: 7d", "gapp: 7d", ["Did you mean `gap`?"]),
    ("TimeBy.rolling", "rolling: false", "rolling: true", ["give one of both"]),
    ("TimeBy.rolling", "rolling: false", "rolling: often", ["boolean"]),
    # candidates, gates, and what follows
    ("CandidateDeclaration.estimator", ".model.explodes", "lightgmb", ["Did you mean `lightgbm`?"]),
    ("CandidateDeclaration.params", "transform: none", "params: 3", ["dictionary"]),
    ("CandidateDeclaration.params", "params: {max_iter: 50}", "params: {C: 50}", ["`C` is under both `params` and `search`"]),
    ("CandidateDeclaration.search", "search: {C: [1, 2]}", "search: {C: []}", ["search: `C` has no value"]),
    ("CandidateDeclaration.search", "search: {C: [1, 2]}", "serach: {C: [1, 2]}", ["Did you mean `search`?"]),
    ("CandidateDeclaration.trials", "trials: 8", "trials: 0", ["greater than or equal to 1"]),
    ("CandidateDeclaration.sampler", "sampler: random", "sampler: randm", ["Did you mean `random`?"]),
    ("CandidateDeclaration.sampler", "sampler: random", "sampler: grid", ["`C` is a range; a grid needs lists"]),
    ("CandidateDeclaration.folds", "folds: 3", "folds: 1", ["cross-validation needs 2 or more"]),
    ("CandidateDeclaration.parallel", "parallel: 2", "parallel: 0", ["greater than or equal to 1"]),
    ("CandidateDeclaration.budget_seconds", "seconds: 60", "seconds: 0", ["greater than 0"]),
    ("CandidateDeclaration.fan_out", "fan_out: true", "fan_out: maybe", ["boolean"]),
    ("Range.low", "low: 0.1", "low: 11", ["low 11 is not below high 10"]),
    ("Range.high", "high: 10", "hihg: 10", ["Did you mean `high`?"]),
    ("Range.log", "low: 0.1, high: 10, log: false", "low: 0, high: 10, log: true", ["it must be above 0"]),
    ("Range.step", "step: 0.3", "step: -0.3", ["greater than 0"]),
    ("CandidateDeclaration.transform", "transform: none", "transfrom: none", ["Did you mean `transform`?"]),
    ("MetricGate.metric", "metric: accuracy, min: 0.85", "metric: acuracy, min: 1", ["`accuracy`?"]),
    ("MetricGate.min", "metric: accuracy, min: 0.85", "metric: accuracy", ["give `min` or `max`"]),
    ("MetricGate.max", "max: 0.7", "max: high", ["number"]),
    ("MetricGate.mode", "mode: warn}\n", "mode: warning}\n", ["Did you mean `warn`?"]),
    ("LatencyGate.latency_ms", "latency_ms: 100", "latency_ms: 0", ["greater than 0"]),
    ("LatencyGate.mode", 'mode: "off"', "mode: none", ["`none` is not known"]),
    ("ClassShareGate.class_share", "class_share: 0.05", "class_share: 0.6", ["less than or equal to 0.5"]),
    ("ClassShareGate.mode", "0.05, mode: enforce", "0.05, mode: force", ["Did you mean `enforce`?"]),
    ("SliceGate.slice", "slice: a,", "slice: [a],", ["string"]),
    ("SliceGate.metric", "slice: a, metric: accuracy", "slice: a, metric: acuracy", ["Did you mean `accuracy`?"]),
    ("SliceGate.max_drop", "max_drop: 0.3, ", "", ["Field required"]),
    ("SliceGate.min_rows", "min_rows: 20", "min_rows: 0", ["greater than or equal to 2"]),
    ("SliceGate.mode", "20, mode: enforce", "20, mode: force", ["Did you mean `enforce`?"]),
    ("FairGate.fair", "fair: note", "fair: [note]", ["string"]),
    ("FairGate.metric", "metric: recall", "metric: rmse", ["rmse is not for binary tasks"]),
    ("FairGate.max_difference", "max_difference: 0.15", "max_difference: -1", ["greater than or equal to 0"]),
    ("FairGate.min_rows", "min_rows: 25", "minrows: 25", ["Did you mean `min_rows`?"]),
    ("FairGate.mode", 'mode: "warn"', "mode: wran", ["Did you mean `warn`?"]),
    ("OverfitGate.overfit", "overfit: f1", "overfit: rocauc", ["Did you mean `roc_auc`?"]),
    ("OverfitGate.max_gap", "max_gap: 0.35", "max_gap: -1", ["greater than or equal to 0"]),
    ("OverfitGate.mode", "0.35, mode: enforce", "0.35, mode: force", ["Did you mean `enforce`?"]),
    ("CalibrationGate.calibration", "calibration: 0.06", "calibration: 2", ["less than or equal to 1"]),
    ("CalibrationGate.mode", "0.06, mode: enforce", "0.06, mode: force", ["Did you mean `enforce`?"]),
    ("FlipsGate.flips", "flips: 0.03", "flips: 3", ["less than or equal to 1"]),
    ("FlipsGate.mode", "0.03, mode: enforce", "0.03, mode: force", ["Did you mean `enforce`?"]),
    ("PredictionDriftGate.prediction_drift", "drift: 0.25", "drift: 0", ["greater than 0"]),
    ("PredictionDriftGate.mode", "0.25, mode: enforce", "0.25, mode: force", ["Did you mean `enforce`?"]),
    ("SizeGate.size_mb", "size_mb: 50", "size_mb: 0", ["greater than 0"]),
    ("SizeGate.mode", "50, mode: enforce", "50, mode: force", ["Did you mean `enforce`?"]),
    ("CustomGate.custom", "custom: .model.sees_b", "custom: sees_b", ["write `.model.sees_b`"]),
    ("CustomGate.mode", "sees_b, mode: enforce", "sees_b, mode: force", ["Did you mean `enforce`?"]),
    ("BeatsBaselineGate.beats", "beats: baseline", "beats: basline", ["no gate of this kind"]),
    ("BeatsBaselineGate.by", "by: 0.02", "by: -0.02", ["greater than or equal to 0"]),
    ("BeatsBaselineGate.mode", "0.02, mode: enforce", "0.02, mode: force", ["Did you mean `enforce`?"]),
    ("BeatsChampionGate.beats", "beats: champion", "beats: champions", ["no gate of this kind"]),
    ("BeatsChampionGate.by", "by: 0.01", "by: much", ["number"]),
    ("BeatsChampionGate.confidence", "confidence: 0.95", "confidence: 95", ["less than 1"]),
    ("PromotionDeclaration.mode", "mode: canary", "mode: canray", ["Did you mean `canary`?"]),
    ("PromotionDeclaration.share", "share: 0.2", "share: 0.9", ["less than or equal to 0.5"]),
    ("PromotionDeclaration.min_rows", "min_rows: 90", "min_rows: 9", ["greater than or equal to 30"]),
    ("PromotionDeclaration.longest", "longest: 9d", "longest: soon", ["is no duration"]),
    ("RetrainDeclaration.on_new_data", "on_new_data: true", "on_new_data: perhaps", ["boolean"]),
    ("RetrainDeclaration.on_new_data", "on_new_data: true", "on_new_dat: true", ["Did you mean `on_new_data`?"]),
    ("NewDataRule.min_new_rows", "on_new_data: true", "on_new_data: {min_new_rows: 0}", ["greater than or equal to 1"]),
    ("RetrainDeclaration.on_drift", "on_drift: {violations: 3, of_last: 6, by: [estimate], min_new_rows: 17}", "on_drift: much", ["boolean"]),
    ("RetrainDeclaration.cool_down", "cool_down: 7h", "cool_down: soon", ["`soon` is no duration"]),
    ("RetrainDeclaration.most_runs", "most_runs: {runs: 8, per: 8d}", "most_runs: 8", ["dictionary"]),
    ("DriftRule.violations", "violations: 3", "violations: 0", ["greater than or equal to 1"]),
    ("DriftRule.of_last", "of_last: 6", "of_last: 2", ["3 violations cannot be among the last 2 windows"]),
    ("DriftRule.by", "by: [estimate]", "by: [estimat]", ["Did you mean `estimate`?"]),
    ("DriftRule.min_new_rows", "min_new_rows: 17", "min_new_rows: 0", ["greater than or equal to 1"]),
    ("Budget.runs", "runs: 8", "runs: 0", ["greater than or equal to 1"]),
    ("Budget.per", "per: 8d", "per: always", ["`always` is no duration"]),
    ("MonitoringDeclaration.inputs", "inputs: true", "inputs: perhaps", ["boolean"]),
    ("MonitoringDeclaration.keep_inputs", "keep_inputs: 31d", "keep_inputs: long", ["`long` is no duration"]),
    ("MonitoringDeclaration.window", "window: 501", "window: 5", ["at least 30 are needed"]),
    ("MonitoringDeclaration.window", "window: 501", "window: weekly", ["no span of time"]),
    ("MonitoringDeclaration.every", "every: 15m", "every: -1m", ["is no duration"]),
    ("MonitoringDeclaration.min_rows", "min_rows: 101", "min_rows: 3", ["greater than or equal to 30"]),
    ("MonitoringDeclaration.confidence", "confidence: 0.98", "confidence: 98", ["less than 1"]),
    ("MonitoringDeclaration.distance", "distance: 0.12", "distance: 2", ["less than 1"]),
    ("MonitoringDeclaration.share", "share: 0.51", "share: 51", ["less than or equal to 1"]),
    ("MonitoringDeclaration.ignore", "ignore: [drifting]", "ignore: drifting", ["list"]),
    ("MonitoringDeclaration.max_drop", "max_drop: 0.11", "max_drop: -1", ["greater than or equal to 0"]),
    ("MonitoringDeclaration.volume", "volume: 9", "volume: 1", ["greater than 1"]),
    ("MonitoringDeclaration.silence", "silence: 25h", "silence: [25h]", ["is no duration"]),
    ("MonitoringDeclaration.label_delay", "label_delay: 32d", "label_delay: late", ["is no duration"]),
    ("MonitoringDeclaration.rollback", "rollback: false", "rollback: perhaps", ["boolean"]),
    ("MonitoringDeclaration.fresh_rows", "fresh_rows: 999", "fresh_rows: 9", ["greater than or equal to 120"]),
    ("RetrainDeclaration.schedule", "0 2 * * *", "0 25 * * *", ["`25` is no hour: 0 to 23"]),
    ("RetrainDeclaration.timezone", "Europe/Berlin", "Berlin", ["no time zone"]),
    ("RetrainDeclaration.automation", "automation: false", "automation: perhaps", ["boolean"]),
    ("Problem.limits", "    run: 6h\n", "    rum: 6h\n", ["Did you mean `run`?"]),
    ("Problem.resources", "    cpu: 4\n", "    cpus: 4\n", ["Did you mean `cpu`?"]),
    ("ResourcesDeclaration.cpu", "    cpu: 4\n", "    cpu: many\n", ["is no amount of cores"]),
    ("ResourcesDeclaration.memory", "memory: 8Gi", "memory: 8", ["`8` is no amount of memory"]),
    ("ResourcesDeclaration.candidates", "ours: {cpu: 500m", "oars: {cpu: 500m", ["Did you mean `ours`?"]),
    ("SizeDeclaration.cpu", "cpu: 500m", "cpu: 0", ["is no amount of cores"]),
    ("SizeDeclaration.memory", "memory: 16Gi", "memory: 16GB", ["is no amount of memory"]),
    ("LimitsDeclaration.run", "run: 6h", "run: soon", ["`soon` is no duration", "like `30m`"]),
    ("LimitsDeclaration.dataset", "dataset: 61m", "dataset: -1m", ["is no duration"]),
    ("LimitsDeclaration.split", "split: 10m", "split: 10 min", ["is no duration"]),
    ("LimitsDeclaration.candidate", "candidate: 30m", "candidate: [30m]", ["is no duration"]),
    ("LimitsDeclaration.evaluation", "evaluation: 11m", "evaluation: true", ["is no duration"]),
    ("LimitsDeclaration.challenger", "challenger: 12m", "challenger: 0m", ["greater than 0"]),
    ("LimitsDeclaration.production_model", "production_model: 13m", "production_model: 13w", ["is no duration"]),
    ("LimitsDeclaration.predictions", "predictions: 14m", "predictions: soon", ["is no duration"]),
    ("LimitsDeclaration.canary", "canary: 15m", "canary: soon", ["is no duration"]),
    ("LimitsDeclaration.monitoring", "monitoring: 16m", "monitoring: 0m", ["greater than 0"]),
    ("LimitsDeclaration.rollback_decision", "rollback_decision: 17m", "rollback_decision: no", ["is no duration"]),
    ("LimitsDeclaration.retrain_decision", "retrain_decision: 18m", "retrain_decision: 18x", ["is no duration"]),
    ("Problem.alerts", "alerts: {email: [team@example.com], slack: SLACK, webhook: HOOK, on: [drift]}", "alerts: {on: [drift]}", ["nobody is told"]),
    ("AlertsDeclaration.email", "team@example.com", "anybody", ["`anybody` is no e-mail address"]),
    ("AlertsDeclaration.slack", "slack: SLACK", "slack: https://hooks.slack.com/x", ["is a secret"]),
    ("AlertsDeclaration.webhook", "webhook: HOOK", "webhook: https://example.com/x", ["is a secret"]),
    ("AlertsDeclaration.on", "on: [drift]", "on: [drft]", ["Did you mean `drift`?"]),
    ("Problem.predictions", "predictions: {path: inbox/*.csv, output: scored, format: csv.gz, rescore: false}", "predictions: inbox", ["dictionary"]),
    ("PredictionsDeclaration.path", "path: inbox/*.csv", "path: [inbox]", ["string"]),
    ("PredictionsDeclaration.output", "output: scored", "output: inbox/scored", ["where the files to be scored arrive"]),
    ("PredictionsDeclaration.format", "format: csv.gz", "format: xlsx", ["`xlsx` is not known here"]),
    ("PredictionsDeclaration.rescore", "rescore: false", "rescore: perhaps", ["boolean"]),
]  # fmt: skip
# the field of the problem under which a record is declared
UNDER = {
    "DatasetDeclaration": "dataset",
    "Contract": "dataset",
    "ColumnContract": "dataset",
    "SplitDeclaration": "split",
    "GroupBy": "split",
    "TimeBy": "split",
    "CandidateDeclaration": "candidates",
    "Range": "candidates",
    "MetricGate": "gates",
    "LatencyGate": "gates",
    "ClassShareGate": "gates",
    "SliceGate": "gates",
    "FairGate": "gates",
    "OverfitGate": "gates",
    "CalibrationGate": "gates",
    "FlipsGate": "gates",
    "PredictionDriftGate": "gates",
    "SizeGate": "gates",
    "CustomGate": "gates",
    "BeatsBaselineGate": "gates",
    "BeatsChampionGate": "gates",
    "PromotionDeclaration": "promotion",
    "RetrainDeclaration": "retrain",
    "NewDataRule": "retrain",
    "DriftRule": "retrain",
    "Budget": "retrain",
    "MonitoringDeclaration": "monitoring",
    "LimitsDeclaration": "limits",
    "ResourcesDeclaration": "resources",
    "SizeDeclaration": "resources",
    "AlertsDeclaration": "alerts",
    "PredictionsDeclaration": "predictions",
}


def _line(text: str, wrong: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if wrong in line)


def _around(text: str, at: int) -> list[str]:
    """It returns a line, by its number, and the lines at which all that it is in begins."""
    found = [text.splitlines()[at - 1]]
    for line in reversed(text.splitlines()[: at - 1]):
        if len(line) - len(line.lstrip()) < len(found[-1]) - len(found[-1].lstrip()):
            found.append(line)
    return found


@pytest.mark.parametrize(
    ("field", "right", "wrong", "told"), WRONG, ids=[f"{w[0]}: {w[2]}".strip() for w in WRONG]
)
def test_what_is_wrong_is_told_with_its_file_line_and_remedy(
    load: Load, field: str, right: str, wrong: str, told: list[str]
) -> None:
    assert FULL.count(right) == 1
    with pytest.raises(Exception) as error:
        load(FULL.replace(right, wrong))
    message = declaration_trouble(error.value)
    assert all(words in message for words in told), message
    assert "problems/demo/defs.yaml:" in message
    assert "Traceback" not in message
    assert "errors.pydantic.dev" not in message
    lines = {int(part.split(":")[0]) for part in message.split("defs.yaml:")[1:]}
    # a fault of a whole record is told where it, or what it is in, begins
    text, place = (FULL.replace(right, wrong), wrong) if wrong else (FULL, right)
    wrong_at = _line(text, place.strip().split("\n")[0])
    record, _, name = field.partition(".")
    stood = _around(FULL, _line(FULL, right.strip().split("\n")[0]))
    assert any(line.startswith(f"  {UNDER.get(record, name)}:") for line in stood)
    begins = {_line(text, around) for around in _around(text, wrong_at)}
    assert lines & begins, message


def _declared_fields() -> set[str]:
    """It returns every field of every record of a declaration."""
    records = [r for r in Declaration.__subclasses__() if r is not Parameters]  # not in the YAML
    return {f"{r.__name__}.{name}" for r in records for name in r.model_fields}


def _given_fields(given: Any) -> set[str]:
    """It returns the fields that are set, of a record and of all below it."""
    if isinstance(given, dict):
        return {f for value in given.values() for f in _given_fields(value)}
    if isinstance(given, list):
        return {f for value in given for f in _given_fields(value)}
    if not isinstance(given, Declaration):
        return set()
    own = {f"{type(given).__name__}.{name}" for name in given.model_fields_set}
    return own | {f for name in given.model_fields_set for f in _given_fields(getattr(given, name))}


def test_every_record_is_under_a_field() -> None:
    records = {n.partition(".")[0] for n in _fields()}
    assert records == {"Problem", *UNDER}


def test_a_date_needs_no_quotes(load: Load) -> None:
    load(FULL.replace('"2024-01-01"', "2024-01-01").replace('"2024-03-01"', "2024-03-01"))
    by = definitions.problems_of(definitions.tree())["demo"].problem.split.by
    assert (by.validation_from, by.test_from) == ("2024-01-01", "2024-03-01")


def test_every_field_of_a_problem_is_tried_wrong() -> None:
    assert {case[0] for case in WRONG} == _declared_fields()


def test_every_field_of_a_problem_is_in_the_full_example() -> None:
    attributes = yaml.safe_load(FULL)["attributes"]
    assert set(attributes) == set(Problem.model_fields)
    instead = {"loader", "sql", "connection", "asset"}  # of `path`; they have a test of their own
    elsewhere = {*(f"DatasetDeclaration.{name}" for name in instead), "GroupBy.group"}
    elsewhere.add("NewDataRule.min_new_rows")  # instead of true
    assert _given_fields(Problem(**attributes)) == _declared_fields() - elsewhere


@pytest.mark.parametrize("key", ["nmae", "Dataset", "candidate", "gate", "tresholdd"])
def test_python_is_told_as_much_as_yaml(key: str) -> None:
    with pytest.raises(ValueError, match="Did you mean `"):
        declared(**{key: 1})


# ------------------------------------------------------------- every field is described


def _fields() -> dict[str, dict[str, Any]]:
    """It returns every field as the schema has it.

    What a field says in the very words of the record that it refers to, the schema says once.
    """
    schema = Problem.model_json_schema()
    records = {"Problem": schema, **schema["$defs"]}
    return {
        f"{record}.{name}": records.get(field.get("$ref", "").rpartition("/")[2], {}) | field
        for record, content in records.items()
        for name, field in content.get("properties", {}).items()
    }


@pytest.mark.parametrize("field", sorted(_fields()))
def test_every_field_has_a_description(field: str) -> None:
    """They are the documentation: `dg docs`, the editor's completion, and nothing else says it."""
    assert len(_fields()[field].get("description", "")) > 5


def test_all_declarations_are_walked() -> None:
    """Or the test above would be about nothing."""
    records = {name.partition(".")[0] for name in _fields()}
    assert {"Problem", "DatasetDeclaration", "ColumnContract", "MetricGate", "GroupBy"} < records
    assert {"TimeBy", "RetrainDeclaration", "Range"} < records
    assert len(_fields()) > 80


def test_the_component_says_what_it_is() -> None:
    spec = MLProblem.get_spec()
    assert "Scaffold one with" in (spec.description or "")
    assert MLProblem.get_model_cls() is Problem
