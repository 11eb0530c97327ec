"""A metric: its name, whether greater is better, and the tasks it is for.

The names are scikit-learn's; `pr_auc` is its average precision.  `evaluation` computes them.
"""

_CLASSES = ("binary", "multiclass")
# name -> (a greater value is better, the tasks it is for)
METRICS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "accuracy": (True, _CLASSES),
    "balanced_accuracy": (True, _CLASSES),
    "precision": (True, ("binary",)),
    "recall": (True, ("binary",)),
    "f1": (True, ("binary",)),
    "precision_macro": (True, _CLASSES),
    "recall_macro": (True, _CLASSES),
    "f1_macro": (True, _CLASSES),
    "precision_weighted": (True, _CLASSES),
    "recall_weighted": (True, _CLASSES),
    "f1_weighted": (True, _CLASSES),
    "roc_auc": (True, _CLASSES),
    "pr_auc": (True, _CLASSES),
    "log_loss": (False, _CLASSES),
    "brier": (False, _CLASSES),
    "rmse": (False, ("regression",)),
    "mae": (False, ("regression",)),
    "mape": (False, ("regression",)),
    "r2": (True, ("regression",)),
    "max_error": (False, ("regression",)),
}
DEFAULT_SELECT: dict[str, str] = {
    "binary": "roc_auc",
    "multiclass": "balanced_accuracy",
    "regression": "rmse",
}


def gain(metric: str, one: float, other: float) -> float:
    """It returns by how much one value is better than another, in the metric's unit."""
    return one - other if METRICS[metric][0] else other - one
