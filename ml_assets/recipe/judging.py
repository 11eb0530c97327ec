"""A recipe's metrics, criteria, registration and scoring."""

import ast
import math
import re
from typing import Any

from ml_assets.errors import DeclarationError, did_you_mean
from ml_assets.metric import DEFAULT_SELECT, METRICS
from ml_assets.recipe.takeover import Takeover

_MACRO = {"f1_score_macro": "f1_macro", "f1_score_micro": "accuracy", "f1_score": "f1_macro"}
_PROBABLE = {"roc_auc": "roc_auc", "log_loss": "log_loss"}
# MLflow's name -> ours, by task
NAMES: dict[str, dict[str, str]] = {
    "regression": {
        "mean_absolute_error": "mae",
        "mean_squared_error": "rmse",
        "root_mean_squared_error": "rmse",
        "max_error": "max_error",
        "mean_absolute_percentage_error": "mape",
        "r2_score": "r2",
    },
    "binary": {
        "recall_score": "recall",
        "precision_score": "precision",
        "f1_score": "f1",
        "accuracy_score": "accuracy",
        **_PROBABLE,
    },
    "multiclass": {
        "recall_score": "recall_weighted",
        "precision_score": "precision_weighted",
        "accuracy_score": "accuracy",
        **_MACRO,
        **_PROBABLE,
    },
}
_DEFAULT_PRIMARY = {
    "regression": "root_mean_squared_error",
    "binary": "f1_score",
    "multiclass": "f1_score_macro",
}
_COUNTS = (
    *("true_negatives", "false_positives", "false_negatives", "true_positives"),
    *("example_count", "sum_on_label", "mean_on_label", "sum_on_target", "mean_on_target"),
)
_SQUARED = "mean_squared_error"


def take_metrics(taken: Takeover) -> None:
    """It takes over what ranks candidates, and what a challenger must reach.

    Raises:
        DeclarationError: a criterion is incomplete, or names a metric that is nowhere defined.
    """
    custom = _custom_metrics(taken)
    _primary(taken, custom)
    declared = taken.recipe.step("evaluate")
    taken.keys("steps.evaluate.", declared, ("validation_criteria",))
    gates: list[dict[str, Any]] = []
    for number, criterion in enumerate(declared.get("validation_criteria") or []):
        try:
            metric, threshold = str(criterion["metric"]), float(criterion["threshold"])
        except (KeyError, TypeError, ValueError):
            raise DeclarationError(
                f"steps.evaluate.validation_criteria[{number}] is {criterion!r}; `metric` and a "
                "number for `threshold` are expected."
            ) from None
        gate = _gate(taken, metric, threshold, custom, f"gates.{len(gates)}")
        gates += [gate] if gate else []
    gates.append({"beats": "champion", "confidence": 0.95})
    taken.draft.why[f"gates.{len(gates) - 1}"] = (
        "Recipes registered every model that met its criteria. Here it must be better as well than "
        "the champion, on the same rows."
    )
    taken.attributes["gates"] = gates
    for unused in [m for m in custom.values() if not m.get("used")]:
        taken.lacks(
            f"custom_metrics.{unused['name']}",
            f"`{unused['function']}` has no threshold, and the leaderboard holds our metrics only. "
            "Give it one under validation_criteria, or write a `custom` gate.",
        )


def _custom_metrics(taken: Takeover) -> dict[str, dict[str, Any]]:
    found = {}
    for given in taken.recipe.given.get("custom_metrics") or []:
        if not isinstance(given, dict) or not {"name", "function", "greater_is_better"} <= {*given}:
            raise DeclarationError(
                f"custom_metrics holds {given!r}; `name`, `function` and `greater_is_better` are "
                "expected."
            )
        if not re.fullmatch(r"[A-Za-z_][\w .-]*", str(given["name"])):
            raise DeclarationError(f"custom_metrics: {given['name']!r} cannot name a metric.")
        found[str(given["name"])] = dict(given)
    return found


def _primary(taken: Takeover, custom: dict[str, Any]) -> None:
    task = taken.recipe.task
    said = taken.recipe.given.get("primary_metric")
    wanted = str(said or _DEFAULT_PRIMARY[task])
    ours = NAMES[task].get(wanted)
    if ours is not None and wanted not in custom:
        taken.attributes["select"] = ours
        note = " It ranks alike." if wanted == _SQUARED else ""
        note += "" if said else " Recipes' default."
        taken.carried("primary_metric", f"{wanted} is {ours}.{note}", "select")
        return
    if wanted not in custom and wanted not in _COUNTS:
        raise DeclarationError(
            f"primary_metric: `{wanted}` is no metric of this recipe."
            f"{did_you_mean(wanted, [*NAMES[task], *custom])}"
        )
    taken.attributes["select"] = DEFAULT_SELECT[task]
    told = f"candidates are ranked by {DEFAULT_SELECT[task]}: only our metrics can rank."
    taken.lacks(f"primary_metric ({wanted})", told)


def _gate(
    taken: Takeover, metric: str, threshold: float, custom: dict[str, Any], where: str
) -> dict[str, Any] | None:
    key = f"validation_criteria ({metric})"
    if metric in custom:
        custom[metric]["used"] = True
        name = _write_custom_gate(taken, custom[metric], threshold)
        told = f"the gate `{name}` in model.py asks it of the challenger on test."
        taken.carried(key, told, where)
        return {"custom": f".model.{name}"}
    ours = NAMES[taken.recipe.task].get(metric)
    if ours is None:
        if metric not in _COUNTS:
            hint = did_you_mean(metric, [*NAMES[taken.recipe.task], *custom])
            raise DeclarationError(
                f"validation_criteria: `{metric}` is no metric of this recipe.{hint}"
            )
        told = "it follows from the number of rows; gate recall or precision instead."
        taken.lacks(key, told)
        return None
    bound = "min" if METRICS[ours][0] else "max"
    told = f"{bound} {threshold:g} of {ours}, on test."
    if metric == _SQUARED:
        told = f"max {math.sqrt(threshold):g} of rmse, the root of {threshold:g}."
        threshold = math.sqrt(threshold)
    taken.carried(key, told, where)
    return {"metric": ours, bound: threshold}


def _write_custom_gate(taken: Takeover, metric: dict[str, Any], threshold: float) -> str:
    step, function = taken.take("custom_metrics", str(metric["function"]))
    name = f"{''.join(c if c.isalnum() else '_' for c in metric['name'])}_is_reached"
    defined = step.function(function)
    assert defined is not None
    second = [a.arg for a in defined.args.args][1:2]
    read = [n for n in ast.walk(defined) if isinstance(n, ast.Name) and n.id in second]
    builtin = "_recipe_metrics(truth, predictions)" if read else "{}"
    if read and not any("def _recipe_metrics" in text for text in taken.own):
        taken.own.append(_builtin_metrics(taken))
    sign, words = (">=", "at least") if metric["greater_is_better"] else ("<=", "at most")
    taken.own.append(
        f"def {name}(rows, truth, predictions, probabilities):\n"
        f'    """{words.capitalize()} {threshold:g}: the recipe\'s criterion on {metric["name"]}."""\n'
        f"    import pandas as pd\n\n"
        f'    said = pd.DataFrame({{"prediction": predictions, "target": truth}})\n'
        f"    value = float({function}(said, {builtin}))\n"
        f"    return value {sign} {threshold!r}, "
        f'f"{metric["name"]} is {{value:.6g}}; {words} {threshold:g} is asked."'
    )
    return name


_REGRESSION = """\
    squared = metrics.mean_squared_error(truth, predictions)
    return {
        "example_count": len(truth),
        "mean_absolute_error": metrics.mean_absolute_error(truth, predictions),
        "mean_squared_error": squared,
        "root_mean_squared_error": squared**0.5,
        "sum_on_target": truth.sum(),
        "mean_on_target": truth.mean(),
        "r2_score": metrics.r2_score(truth, predictions),
        "max_error": metrics.max_error(truth, predictions),
        "mean_absolute_percentage_error": metrics.mean_absolute_percentage_error(
            truth, predictions
        ),
    }"""
_CLASSES = """\
    how = {how}
    return {{
        "example_count": len(truth),
        "accuracy_score": metrics.accuracy_score(truth, predictions),
        "precision_score": metrics.precision_score(truth, predictions, zero_division=0, **how),
        "recall_score": metrics.recall_score(truth, predictions, zero_division=0, **how),
        "f1_score": metrics.f1_score(truth, predictions, zero_division=0, **how),
    }}"""


def _builtin_metrics(taken: Takeover) -> str:
    positive = taken.recipe.given.get("positive_class")
    how = {"average": "weighted"} if positive is None else {"pos_label": positive}
    body = _REGRESSION if taken.recipe.task == "regression" else _CLASSES.format(how=how)
    return (
        "def _recipe_metrics(truth, predictions):\n"
        '    """What MLflow handed to a custom metric, beside the predictions."""\n'
        f"    from sklearn import metrics\n\n{body}"
    )


def take_rest(taken: Takeover) -> None:
    """It notes what becomes of registration, tracking, scoring and cards."""
    recipe = taken.recipe
    register = recipe.step("register")
    taken.keys("steps.register.", register, ("model_name", "allow_non_validated_model", "using"))
    taken.otherwise(
        "steps.register",
        "the challenger is a version in MLflow's registry; it becomes champion when every gate "
        "holds and it is better than the champion.",
    )
    taken.otherwise("model_registry.model_name", f"the registered model is named {taken.name}.")
    if register.get("allow_non_validated_model"):
        taken.otherwise(
            "steps.register.allow_non_validated_model",
            "MLflow registered without criteria, but nothing that failed one, and so it is here. "
            "`mode: warn` on a gate lets pass what fails it.",
        )
    for table, keys in (
        ("experiment", ("tracking_uri", "name", "id", "artifact_location", "run_name_prefix")),
        ("model_registry", ("registry_uri", "uri")),
    ):
        if there := [k for k in keys if k in recipe.table(table)]:
            taken.otherwise(
                f"{table} ({', '.join(there)})",
                "MLflow's state is under ML_ASSETS_HOME, or where MLFLOW_TRACKING_URI says.",
            )
    if recipe.step("ingest_scoring") or recipe.step("predict"):
        taken.lacks(
            "steps.ingest_scoring, steps.predict",
            "batch scoring is no part of a declaration: score a file with the champion instead.",
        )
    profiled = ("ingest", "split", "transform", "train")
    if [s for s in profiled if "skip_data_profiling" in recipe.step(s)]:
        taken.lacks("skip_data_profiling", "a profile is always made: gates are asked of it.")
    known = ("ingest", "split", "transform", "train", "evaluate", "register")
    taken.keys("steps.", recipe.given["steps"], (*known, "ingest_scoring", "predict"))
