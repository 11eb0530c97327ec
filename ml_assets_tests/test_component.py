"""The component: YAML becomes keys, checks and a job; what is wrong in it is told with its line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.core.load_defs import build_defs_for_component

from ml_assets import definitions
from ml_assets.command import _declaration_trouble
from ml_assets.components import MLProblem
from ml_assets.problem import Problem
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
  dataset: {path: data.csv, target: y, key: id, positive: "yes", contract: {min_rows: 100}}
  split: {by: key, train: 0.6, validation: 0.2, test: 0.2}
  transform: .model.sees_a
  candidates:
    linear: {C: 0.5}
    ours: {estimator: .model.explodes}
  class_weight: balanced
  threshold: 0.4
  select: roc_auc
  gates:
    - {metric: accuracy, min: 0.85}
    - {metric: accuracy, min: 0.7, mode: warn}
    - {metric: log_loss, max: 0.7}
    - {latency_ms: 100, mode: "off"}
    - {class_share: 0.05}
    - {beats: baseline, by: 0.02}
    - {beats: champion, confidence: 0.95}
  promotion: {mode: automatic}
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
        "beats_the_baseline": True,
    }
    assert _checks(defs, "demo/dataset") == {
        "has_enough_rows": True,
        "target_is_usable": True,
        "columns_are_as_declared": True,
        "no_feature_gives_the_target_away": True,
        "rows_are_unique": False,
        "labels_agree": False,
        "features_vary": False,
        "categories_are_distinct": False,
        "no_feature_is_an_identifier": False,
        "dates_have_one_format": True,
        "no_column_is_new": False,
    }
    assert _checks(defs, "demo/split/test") == {"parts_are_disjoint": True}
    assert _checks(defs, "demo/split/train") == {"every_class_is_present": True}
    assert _checks(defs, "demo/candidate/ours") == {"is_fitted": False}
    assert _checks(defs, "demo/production_model") == {
        "every_gate_holds": True,
        "beats_the_champion": False,
    }


def test_the_job_is_named_as_the_problem_and_holds_all_of_it(load: Load) -> None:
    defs = load(FULL)
    job = defs.resolve_job_def("demo")
    held = {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
    assert held == _keys(defs)


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


# what is wrong, by the field that it is in -> (what is written in FULL, instead, what is told)
WRONG: list[tuple[str, str, str, list[str]]] = [
    ("name", "name: demo", "name: my demo", ["letters, digits and _ only"]),
    ("name", "name: demo", "nmae: demo", ["`nmae` is not a key", "Did you mean `name`?"]),
    ("description", "description:", "descripton:", ["Did you mean `description`?"]),
    ("owners", 'owners: ["team:growth"]', "owners: growth", ["list"]),
    ("task", "task: binary", "task: binray", ["`binray`", "Did you mean `binary`?"]),
    ("task", "task: binary", "task: regression", ["not for regression tasks", "rmse"]),
    ("dataset", "target: y", "targt: y", ["`targt` is not a key", "Did you mean `target`?"]),
    ("dataset", "path: data.csv, ", "", ["either `path` or `loader`"]),
    ("dataset", "key: id", "key: y", ["`key` names the target"]),
    ("dataset", "min_rows: 100", "minrows: 100", ["Did you mean `min_rows`?"]),
    ("dataset", "min_rows: 100", "min_rows: 0", ["greater than or equal to 1"]),
    ("dataset", "{min_rows: 100}", "{columns: {a: {type: whole}}}", ["`whole` is not known"]),
    ("split", "train: 0.6", "train: 0.7", ["train + validation + test is 1.1"]),
    ("split", "by: key", "by: keys", ["keys"]),
    ("split", "validation: 0.2", "validaton: 0.2", ["Did you mean `validation`?"]),
    ("transform", "transform: .model.sees_a", "transform: [a]", ["string"]),
    ("candidates", "linear: {C: 0.5}", "lienar: {C: 0.5}", ["Did you mean `linear`?"]),
    ("candidates", "ours: {estimator: .model", "my-own: {estimator: .model", ["`my-own`"]),
    ("candidates", ".model.explodes", "lightgmb", ["Did you mean `lightgbm`?"]),
    ("class_weight", "class_weight: balanced", "class_weight: balance", ["`balanced`"]),
    ("threshold", "threshold: 0.4", "threshold: 1.4", ["between 0 and 1"]),
    ("select", "select: roc_auc", "select: roc_aux", ["Did you mean `roc_auc`?"]),
    ("gates", "metric: accuracy, min: 0.85", "metric: acuracy, min: 1", ["`accuracy`?"]),
    ("gates", "metric: accuracy, min: 0.85", "metric: accuracy", ["give `min` or `max`"]),
    ("gates", "mode: warn", "mode: warning", ["Did you mean `warn`?"]),
    ("gates", "class_share: 0.05", "clas_share: 0.05", ["{class_share: X}", "`class_share`?"]),
    ("promotion", "mode: automatic", "mode: automatc", ["Did you mean `automatic`?"]),
    ("trust", "trust: [my_package.Ratio]", "trust: my_package.Ratio", ["list"]),
    ("seed", "seed: 3", "seed: -3", ["greater than or equal to 0"]),
]


def _line(text: str, wrong: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if wrong in line)


@pytest.mark.parametrize(
    ("field", "right", "wrong", "told"), WRONG, ids=[f"{w[0]}: {w[2]}" for w in WRONG]
)
def test_what_is_wrong_is_told_with_its_file_line_and_remedy(
    load: Load, field: str, right: str, wrong: str, told: list[str]
) -> None:
    assert FULL.count(right) == 1
    with pytest.raises(Exception) as error:
        load(FULL.replace(right, wrong))
    message = _declaration_trouble(error.value)
    assert all(words in message for words in told), message
    assert "problems/demo/defs.yaml:" in message
    assert "Traceback" not in message
    assert "errors.pydantic.dev" not in message
    lines = {int(part.split(":")[0]) for part in message.split("defs.yaml:")[1:]}
    # a fault of a whole record is told at the line where it, or the attributes, begin
    begins = {_line(FULL, f"{field}:"), _line(FULL, "attributes:")}
    if wrong:
        begins.add(_line(FULL.replace(right, wrong), wrong))
    assert lines & begins, message


def test_every_field_of_a_problem_is_tried_wrong() -> None:
    assert {case[0] for case in WRONG} == set(Problem.model_fields)


def test_every_field_of_a_problem_is_in_the_full_example() -> None:
    assert set(yaml.safe_load(FULL)["attributes"]) == set(Problem.model_fields)


@pytest.mark.parametrize("key", ["nmae", "Dataset", "candidate", "gate", "tresholdd"])
def test_python_is_told_as_much_as_yaml(key: str) -> None:
    with pytest.raises(ValueError, match="Did you mean `"):
        declared(**{key: 1})


# ------------------------------------------------------------- every field is described


def _fields() -> dict[str, dict[str, Any]]:
    schema = Problem.model_json_schema()
    records = {"Problem": schema, **schema["$defs"]}
    return {
        f"{record}.{name}": field
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
    assert len(_fields()) > 50


def test_the_component_says_what_it_is() -> None:
    spec = MLProblem.get_spec()
    assert "Scaffold one with" in (spec.description or "")
    assert MLProblem.get_model_cls() is Problem
