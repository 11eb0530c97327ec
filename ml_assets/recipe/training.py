"""A recipe's transform and train: what is fitted, and what is searched for."""

import math
from typing import Any

from ml_assets.errors import DeclarationError
from ml_assets.recipe.code import Step
from ml_assets.recipe.takeover import Takeover

_TRANSFORM = ("using", "transformer_method", "skip_data_profiling")
_TRAIN = (
    "using",
    "estimator_method",
    "estimator_params",
    "tuning",
    "rebalance_training_data",
    "resampling_minority_percentage",
    "calibrate_proba",
    "predict_prefix",
    "predict_scores_for_all_classes",
    "time_budget_secs",
    "flaml_params",
    "skip_data_profiling",
)
_TUNING = (
    "enabled",
    "algorithm",
    "max_trials",
    "parallelism",
    "parameters",
    "sample_fraction",
    "early_stop_fn",
)
_SAMPLERS = {"hyperopt.rand.suggest": "random", "hyperopt.tpe.suggest": "tpe"}
AUTOML_TRIALS = 10
_TREES = {"n_estimators": {"low": 50, "high": 300, "log": True}}
_RATE = {"low": 0.01, "high": 0.3, "log": True}
_SHARES = {"low": 0.2, "high": 1.0}
# FLAML's name -> our estimator, what is searched for
AUTOML: dict[str, tuple[str, dict[str, Any]]] = {
    "lgbm": (
        "lightgbm",
        {**_TREES, "num_leaves": {"low": 4, "high": 127, "log": True}, "learning_rate": _RATE},
    ),
    "xgboost": (
        "xgboost",
        {**_TREES, "max_leaves": {"low": 4, "high": 127, "log": True}, "learning_rate": _RATE},
    ),
    "xgb_limitdepth": (
        "xgboost",
        {**_TREES, "max_depth": {"low": 3, "high": 10}, "learning_rate": _RATE},
    ),
    "rf": (
        "random_forest",
        {**_TREES, "max_features": _SHARES, "min_samples_leaf": {"low": 1, "high": 20}},
    ),
    "extra_tree": (
        "extra_trees",
        {**_TREES, "max_features": _SHARES, "min_samples_leaf": {"low": 1, "high": 20}},
    ),
    "catboost": ("catboost", {"depth": {"low": 4, "high": 10}, "learning_rate": _RATE}),
    "histgb": (
        "hist_gradient_boosting",
        {"max_leaf_nodes": {"low": 4, "high": 127, "log": True}, "learning_rate": _RATE},
    ),
    "lrl1": ("logistic_regression", {"C": {"low": 0.03125, "high": 32.0, "log": True}}),
    "lrl2": ("logistic_regression", {"C": {"low": 0.03125, "high": 32.0, "log": True}}),
    "kneighbor": (
        "sklearn.neighbors.KNeighbors{kind}",
        {"n_neighbors": {"low": 1, "high": 50, "log": True}},
    ),
}
_AUTOML_DEFAULT = ("lgbm", "rf", "catboost", "xgboost", "extra_tree")


def take_transform(taken: Takeover) -> None:
    """It takes over the transformer, unfitted as the recipe makes it.

    Raises:
        DeclarationError: there is no such function.
    """
    declared = taken.recipe.step("transform")
    taken.keys("steps.transform.", declared, _TRANSFORM)
    method = declared.get("transformer_method")
    key = "steps.transform.transformer_method"
    if not method:
        taken.attributes["transform"] = "none"
        taken.carried(key, "there is none: columns are handed on as they are.", "transform")
        return
    step, name = taken.take("transform", str(method))
    _look_inside(taken, step, name)
    function = step.function(name)
    assert function is not None
    if _may_give_none(function):
        name = "recipe_transform"
        taken.own.append(
            f"def recipe_transform():\n"
            f'    """The recipe\'s transformer; where it gives None, one that changes nothing."""\n'
            f"    from sklearn.preprocessing import FunctionTransformer\n\n"
            f"    made = {function.name}()\n"
            f"    return FunctionTransformer() if made is None else made"
        )
    taken.attributes["transform"] = f".model.{name}"
    told = f"`{name}` is in model.py; fitted on train alone, and stored inside the candidate."
    taken.carried(key, told, "transform")


def _may_give_none(function: Any) -> bool:
    import ast

    given = [n for n in ast.walk(function) if isinstance(n, ast.Return)]
    nothing = [
        n
        for n in given
        if n.value is None or (isinstance(n.value, ast.Constant) and n.value.value is None)
    ]
    return bool(nothing) or not given


def _look_inside(taken: Takeover, step: Step, method: str) -> None:
    """It sees to functions and classes of the team's own that end up in a stored candidate."""
    if step.has_lambdas():
        taken.lacks(
            f"steps/{step.name}.py",
            "a FunctionTransformer of a lambda cannot be stored without pickle: give it a named "
            "function of an installed package, and name that under `trust`.",
        )
    kept = [n for n in step.kept_by_models() if n != method]
    if not kept or step.name in taken.package:
        return
    taken.package.append(step.name)
    trusted = [f"{taken.package_name}.{step.name}.{n}" for n in kept]
    taken.attributes["trust"] = [*taken.attributes.get("trust", []), *trusted]
    taken.otherwise(
        f"steps/{step.name}.py",
        f"{', '.join(f'`{n}`' for n in kept)} ends up inside what is stored, and a stored candidate "
        "holds no code of model.py: the module is written as a package, and named under `trust`. "
        "Read it, then `pip install` the folder package/ beside defs.yaml.",
        "trust",
    )


def take_training(taken: Takeover) -> None:
    """It takes over the estimator, its parameters and its search; or AutoML.

    Raises:
        DeclarationError: a key that Recipes needed is absent, or has an impossible value.
    """
    declared = taken.recipe.step("train")
    taken.keys("steps.train.", declared, _TRAIN)
    if str(declared.get("using", "custom")).startswith("automl"):
        _take_automl(taken, declared)
    else:
        _take_estimator(taken, declared)
    _take_balance(taken, declared)
    told = "a prediction always comes with the probability of each class."
    for key in ("predict_scores_for_all_classes", "predict_prefix"):
        if key in declared:
            taken.otherwise(f"steps.train.{key}", told)


def _take_estimator(taken: Takeover, declared: dict[str, Any]) -> None:
    method = declared.get("estimator_method")
    if not method:
        raise DeclarationError("steps.train has no `estimator_method`.")
    step, name = taken.take("train", str(method))
    _look_inside(taken, step, name)
    taken.own.append(_adapter(taken, declared, name))
    estimator = ".model.recipe_estimator"
    given = declared.get("estimator_params") or {}
    told = f"`recipe_estimator` in model.py hands its parameters to `{name}`."
    taken.carried("steps.train.estimator_method", told, "candidates")
    tuning = declared.get("tuning") or {}
    taken.keys("steps.train.tuning.", tuning, _TUNING)
    searched = bool(tuning.get("enabled"))
    chosen: dict[str, Any] = {}
    if given or not searched:
        chosen["recipe"] = {"estimator": estimator, "params": given}
    if given:
        taken.carried("steps.train.estimator_params", f"params: {', '.join(given)}.")
    if searched:
        search = _search(taken, tuning)
        rest = {k: v for k, v in given.items() if k not in search["search"]}
        chosen["recipe_tuned"] = {"estimator": estimator, "params": rest, **search}
        if given:
            told = (
                "as in Recipes, the search has to beat the given parameters: both are candidates."
            )
            taken.carried("steps.train.tuning", told)
    taken.attributes["candidates"] = {
        n: {k: v for k, v in c.items() if v != {}} for n, c in chosen.items()
    }


def _adapter(taken: Takeover, declared: dict[str, Any], name: str) -> str:
    lines = [
        "def recipe_estimator(**params):",
        '    """The recipe\'s estimator, with parameters in the way that it takes them."""',
    ]
    made = f"{name}(params) if params else {name}()"
    method = declared.get("calibrate_proba")
    if method and taken.recipe.task != "regression":
        taken.carried(
            "steps.train.calibrate_proba", f"{method}, within `recipe_estimator` in model.py."
        )
        lines += [
            "    from sklearn.calibration import CalibratedClassifierCV",
            "",
            f"    return CalibratedClassifierCV({made}, method={str(method)!r})",
        ]
    else:
        lines.append(f"    return {made}")
    return "\n".join(lines)


def _search(taken: Takeover, tuning: dict[str, Any]) -> dict[str, Any]:
    where = "steps.train.tuning"
    parameters = tuning.get("parameters")
    if not isinstance(parameters, dict) or not parameters or not tuning.get("max_trials"):
        raise DeclarationError(f"{where} needs `max_trials` and `parameters`.")
    space = {}
    for name, given in parameters.items():
        found, told = space_of(f"{where}.parameters.{name}", given)
        space[str(name)] = found
        if told:
            taken.otherwise(f"{where}.parameters.{name}", told)
    algorithm = str(tuning.get("algorithm", "hyperopt.rand.suggest"))
    sampler = _SAMPLERS.get(algorithm)
    if sampler is None:
        sampler = "tpe"
        taken.otherwise(f"{where}.algorithm", f"sampler: tpe, in the place of {algorithm}.")
    search = {"search": space, "trials": int(tuning["max_trials"]), "sampler": sampler}
    if int(tuning.get("parallelism", 1)) > 1:
        search["parallel"] = int(tuning["parallelism"])
        taken.otherwise(f"{where}.parallelism", "parallel: threads, without Spark.")
    told = f"{search['trials']} trials, {sampler}, scored on validation; each is an MLflow run."
    taken.carried(f"{where} ({', '.join(space)})", told)
    if float(tuning.get("sample_fraction", 1)) < 1:
        taken.lacks(f"{where}.sample_fraction", "every trial learns from all of train.")
    if tuning.get("early_stop_fn"):
        told = "lower `trials`, or set `budget_seconds` (such a search is not the same twice)."
        taken.lacks(f"{where}.early_stop_fn", told)
    return search


def space_of(where: str, given: Any) -> tuple[Any, str]:
    """It returns what is searched in, from hyperopt's words, and what is not the same, if anything.

    Raises:
        DeclarationError: it is neither values nor a distribution that hyperopt knows.
    """
    if isinstance(given, dict) and given.get("values"):
        return list(given["values"]), ""
    kind = given.get("distribution") if isinstance(given, dict) else None
    if kind == "choice" and given.get("options"):
        return list(given["options"]), ""
    log, told = "log" in str(kind), ""
    try:
        if kind in ("uniform", "quniform", "loguniform", "qloguniform"):
            low, high = float(given["low"]), float(given["high"])
        elif kind in ("uniformint", "randint"):
            low, high = float(given.get("low", 0)), float(given.get("high", given.get("upper")))
            high -= kind == "randint"  # its end is not among its values
        elif kind in ("normal", "qnormal", "lognormal", "qlognormal"):
            middle, spread = float(given["mu"]), float(given["sigma"])
            low, high = middle - 3 * spread, middle + 3 * spread
            told = f"{kind}: searched evenly within three sigma."
        else:
            raise DeclarationError(
                f"{where} is {given!r}; `values`, or a `distribution` of hyperopt, is expected."
            )
    except (KeyError, TypeError, ValueError):
        raise DeclarationError(f"{where}: {kind} lacks its numbers, or they are none.") from None
    if log:
        low, high = (float(f"{math.exp(end):.6g}") for end in (low, high))
    whole = kind in ("uniformint", "randint")
    step = float(given.get("q", 0)) if str(kind).startswith("q") else 0.0
    if step and step.is_integer() and not log:
        whole = True
        low, high = math.ceil(low / step) * step, math.floor(high / step) * step
    if low > high:
        raise DeclarationError(f"{where}: low is above high.")
    if low == high:
        return [int(low) if whole else low], told
    found: dict[str, Any] = {
        "low": int(low) if whole else low,
        "high": int(high) if whole else high,
    }
    if log:
        found["log"] = True
        told += f"{kind}: the steps of {step:g} are not kept." if step else ""
    elif step and step != 1:
        found["step"] = int(step) if whole else step
    return found, told


def _take_automl(taken: Takeover, declared: dict[str, Any]) -> None:
    params = dict(declared.get("flaml_params") or {})
    wanted = params.pop("estimator_list", None) or list(_AUTOML_DEFAULT)
    kind = "Regressor" if taken.recipe.task == "regression" else "Classifier"
    chosen: dict[str, Any] = {}
    for word in wanted:
        if word not in AUTOML or (kind == "Regressor" and word.startswith("lr")):
            taken.lacks(
                f"steps.train.flaml_params.estimator_list ({word})",
                "name a candidate by short name or import path instead.",
            )
            continue
        estimator, search = AUTOML[word]
        name = estimator.format(kind=kind)
        given = {"estimator": name, "search": search, "trials": AUTOML_TRIALS, "sampler": "tpe"}
        if word == "catboost":
            given["params"] = {"iterations": 300}
        if word == "lrl1":
            given["params"] = {"l1_ratio": 1.0, "solver": "saga"}
        chosen[word] = given
    taken.attributes["candidates"] = chosen
    taken.otherwise(
        "steps.train.using: automl/flaml",
        f"a candidate with a search of its own for each estimator ({', '.join(chosen)}), "
        f"{AUTOML_TRIALS} trials each; the best is picked on validation.",
        "candidates",
    )
    seconds = declared.get("time_budget_secs", 600)
    taken.otherwise(
        "steps.train.time_budget_secs",
        f"{seconds} s: `trials` bounds the search, so that it gives the same twice; "
        "`budget_seconds` on a candidate bounds its time.",
    )
    for word in params:
        taken.lacks(f"steps.train.flaml_params.{word}", "say it in the candidates' `search`.")


def _take_balance(taken: Takeover, declared: dict[str, Any]) -> None:
    """It sees to classes of unequal size, which Recipes evened out unasked."""
    if taken.recipe.task != "binary":
        return
    key = "steps.train.rebalance_training_data"
    wanted = declared.get("rebalance_training_data")
    if wanted:
        taken.attributes["class_weight"] = "balanced"
        taken.otherwise(
            key,
            "rows of the rarer class weigh more; none are dropped at random. The estimator must "
            "take `sample_weight`.",
            "class_weight",
        )
    elif wanted is None:
        taken.otherwise(
            key,
            "it was on unasked, from 5,000 rows and below 30 %: rows of the other class were "
            "dropped at random, without a seed. Here a class below 10 % gets its own threshold, "
            "found on validation; `class_weight: balanced` weighs rows.",
        )
    else:
        taken.carried(key, "off: all rows of train are learned from, each alike.")
    if "resampling_minority_percentage" in declared:
        told = "no rows are dropped; see rebalance_training_data."
        taken.lacks("steps.train.resampling_minority_percentage", told)
