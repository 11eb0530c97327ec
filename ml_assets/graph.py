"""A graph: the trees of a fitted estimator as ONNX, which answers one row in microseconds.

Thresholds and leaves keep the 64 bits that they were fitted in (`TreeEnsemble` of ONNX-ML 5), so that
a value goes the same way at every node; converters to 32 bits, and to nodes that know nothing of
missing values, do not.  The graph is made in memory of a model that was verified, and is never stored.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OPSET, OPSET_OF_TREES, FORMAT = 21, 5, 10  # of ONNX, of ONNX-ML, and of the file
MOST_NODES = 2_000_000  # a graph of more would take hundreds of megabytes, and long to make
_SUM, _LESS_OR_EQUAL = 1, 0
_NOTHING_TO_LIGHTGBM = float(np.float32(1e-35))  # it hands rows on without what is no larger


@dataclass
class Graph:
    """The trees of an estimator, ready to be asked.

    Attributes:
        session: what runs them.
        link: from what the trees say to probabilities, or amounts.
        edges: for each feature, the values at which a tree turns.
        cast: to what the estimator itself rounds values first.
        nothing: what it takes for 0, whatever the sign.
    """

    session: Any
    link: Callable[[np.ndarray], np.ndarray]
    edges: dict[int, np.ndarray]
    cast: type
    nothing: float = 0.0

    def __call__(self, prepared: np.ndarray) -> np.ndarray:
        """It returns probabilities, rows × classes, or amounts.

        Args:
            prepared: rows as the estimator was fitted on; finite or missing.
        """
        rows = prepared.astype(self.cast, copy=False).astype("float64", order="C", copy=False)
        if self.nothing:
            rows = np.where(np.abs(rows) <= self.nothing, 0.0, rows)
        return self.link(self.session.run(None, {"rows": rows})[0])


@dataclass
class _Trees:
    """The nodes of all trees, as the ONNX node has them."""

    roots: list[int] = field(default_factory=list)
    features: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    left_is_leaf: list[int] = field(default_factory=list)
    right_is_leaf: list[int] = field(default_factory=list)
    leaf_targets: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)

    def add(
        self,
        feature: np.ndarray,
        split: np.ndarray,
        missing_left: np.ndarray,
        left: np.ndarray,
        right: np.ndarray,
        value: np.ndarray,
        target: int,
    ) -> None:
        """It adds a tree, given node by node; one without children (-1) is a leaf.

        Raises:
            ValueError: there are too many nodes.
        """
        if len(self.features) + len(left) > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} nodes")
        inner, leaf = np.flatnonzero(left >= 0), np.flatnonzero(left < 0)
        before, leaves = len(self.features), len(self.leaves)
        self.roots.append(before)
        self.leaf_targets += [target] * len(leaf)
        self.leaves += value[leaf].tolist()
        if not len(inner):  # a tree of one leaf: whatever is asked, it leads there
            inner, left, right = np.zeros(1, int), np.zeros(1, int), np.zeros(1, int)
            feature, split, missing_left = np.zeros(1, int), np.zeros(1), np.zeros(1, int)
            is_leaf, place = np.ones(1, bool), np.full(1, leaves)
        else:
            is_leaf, place = left < 0, np.empty(len(left), int)
            place[inner] = before + np.arange(len(inner))
            place[leaf] = leaves + np.arange(len(leaf))
        self.features += feature[inner].tolist()
        self.splits += split[inner].tolist()
        self.missing_left += missing_left[inner].astype(int).tolist()
        self.left += place[left[inner]].tolist()
        self.right += place[right[inner]].tolist()
        self.left_is_leaf += is_leaf[left[inner]].astype(int).tolist()
        self.right_is_leaf += is_leaf[right[inner]].astype(int).tolist()


def graph_of(last: Any, width: int) -> Graph | str:
    """It returns the graph of a fitted estimator; why there is none, where there is none.

    Args:
        last: the estimator.
        width: how many columns it was fitted on.
    """
    decided = type(last).__name__ in ("FixedThresholdClassifier", "FrozenEstimator")
    while type(last).__name__ in ("FixedThresholdClassifier", "FrozenEstimator"):
        last = getattr(last, "estimator_", last.estimator)
    name = type(last).__name__
    if name not in _READERS or (decided and not hasattr(last, "predict_proba")):
        return f"{name} has no graph here"
    try:
        import onnx  # noqa: F401 - both are asked for before anything is read
        import onnxruntime  # noqa: F401
    except ImportError:
        return 'ONNX is not installed: `pip install "ml_assets[onnx]"`'
    trees = _Trees()
    read = _READERS[name](last, trees)
    if isinstance(read, str):
        return f"{name} {read}"
    targets, link, cast = read
    features, splits = np.array(trees.features), np.array(trees.splits)
    edges = {int(i): np.unique(splits[features == i]) for i in np.unique(features)}
    nothing = _NOTHING_TO_LIGHTGBM if name.startswith("LGBM") else 0.0
    return Graph(_session(trees, targets, width), link, edges, cast, nothing)


def _session(trees: _Trees, targets: int, width: int) -> Any:
    """It returns what runs the trees, in the thread that asks."""
    import onnx
    import onnxruntime

    def tensor(values: list[float]) -> Any:
        return onnx.numpy_helper.from_array(np.array(values, "float64"))

    modes = onnx.numpy_helper.from_array(np.full(len(trees.splits), _LESS_OR_EQUAL, "uint8"))
    node = onnx.helper.make_node(
        "TreeEnsemble",
        ["rows"],
        ["said"],
        domain="ai.onnx.ml",
        n_targets=targets,
        aggregate_function=_SUM,
        post_transform=0,
        tree_roots=trees.roots,
        nodes_featureids=trees.features,
        nodes_splits=tensor(trees.splits),
        nodes_modes=modes,
        nodes_missing_value_tracks_true=trees.missing_left,
        nodes_truenodeids=trees.left,
        nodes_falsenodeids=trees.right,
        nodes_trueleafs=trees.left_is_leaf,
        nodes_falseleafs=trees.right_is_leaf,
        leaf_targetids=trees.leaf_targets,
        leaf_weights=tensor(trees.leaves),
    )
    kind = onnx.TensorProto.DOUBLE
    made = onnx.helper.make_graph(
        [node],
        "trees",
        [onnx.helper.make_tensor_value_info("rows", kind, [None, width])],
        [onnx.helper.make_tensor_value_info("said", kind, [None, targets])],
    )
    sets = [
        onnx.helper.make_opsetid("", OPSET),
        onnx.helper.make_opsetid("ai.onnx.ml", OPSET_OF_TREES),
    ]
    model = onnx.helper.make_model(made, opset_imports=sets, ir_version=FORMAT)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


_Read = tuple[int, Callable[[np.ndarray], np.ndarray], type]


def _of_forest(last: Any, trees: _Trees) -> _Read | str:
    """It reads a forest, or one tree: each tree tells its leaf, and the leaves are averaged here."""
    members = getattr(last, "estimators_", None)
    members = [last] if members is None else list(members)
    if any(m.tree_.n_outputs != 1 for m in members):
        return "predicts several targets"
    counted, shares = 0, []
    for at, member in enumerate(members):
        tree = member.tree_
        leaf = tree.children_left < 0
        number = np.where(leaf, counted + np.cumsum(leaf) - 1, 0).astype("float64")
        counted += int(leaf.sum())
        shares.append(tree.value[leaf, 0, :])
        missing = np.asarray(tree.missing_go_to_left)
        sides = tree.children_left, tree.children_right
        trees.add(tree.feature, tree.threshold, missing, *sides, number, at)
    told = np.concatenate(shares)

    def averaged(said: np.ndarray) -> np.ndarray:
        return told[said.astype(int)].sum(axis=1) / len(members)

    classes = hasattr(last, "classes_")
    return len(members), averaged if classes else lambda s: averaged(s)[:, 0], np.float32


def _of_histograms(last: Any, trees: _Trees) -> _Read | str:
    """It reads a histogram gradient boosting."""
    base = np.asarray(last._baseline_prediction, "float64").reshape(1, -1)
    for iteration in last._predictors:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            inner = nodes["is_leaf"] == 0
            if nodes["is_categorical"][inner].any():
                return "splits by sets of categories"
            left = np.where(inner, nodes["left"].astype(int), -1)
            right = np.where(inner, nodes["right"].astype(int), -1)
            missing = nodes["missing_go_to_left"]
            feature = nodes["feature_idx"].astype(int)
            trees.add(feature, nodes["num_threshold"], missing, left, right, nodes["value"], target)
    loss = last._loss
    if hasattr(last, "classes_"):
        return base.shape[1], lambda s: loss.predict_proba(s + base), np.float64
    return 1, lambda s: loss.link.inverse((s + base).ravel()), np.float64


def _of_lightgbm(last: Any, trees: _Trees) -> _Read | str:
    """It reads a LightGBM."""
    booster = last.booster_.dump_model()
    targets = booster["num_tree_per_iteration"]
    for at, tree in enumerate(booster["tree_info"]):
        nodes: list[tuple[Any, ...]] = []
        trouble = _walk(tree["tree_structure"], nodes)
        if trouble:
            return trouble
        feature, split, missing, left, right, value = map(np.array, zip(*nodes, strict=True))
        trees.add(feature, split, missing, left, right, value, at % targets)
    objective = str(booster.get("objective", ""))
    if not hasattr(last, "classes_"):
        known = objective.split(" ")[0] in ("regression", "regression_l1", "huber", "quantile")
        plain = known and "sqrt" not in objective
        return (1, lambda s: s[:, 0], np.float64) if plain else "has an objective of its own"
    if objective == "binary sigmoid:1":
        return 1, _shares_of_two, np.float64
    if objective.startswith("multiclass "):
        return targets, _shares_of_many, np.float64
    return "has an objective of its own"


def _walk(tree: dict[str, Any], nodes: list[tuple[Any, ...]]) -> str:
    """It lists a tree's nodes, each with the places of its children; it returns what it minds."""
    todo: list[tuple[dict[str, Any], int, int]] = [(tree, -1, 0)]
    while todo:
        node, parent, side = todo.pop()
        here = len(nodes)
        if parent >= 0:  # the parent learns where this child is
            known = list(nodes[parent])
            known[3 + side] = here
            nodes[parent] = tuple(known)
        if "leaf_value" in node:
            nodes.append((0, 0.0, 0, -1, -1, node["leaf_value"]))
            continue
        if node["decision_type"] != "<=" or node["missing_type"] == "Zero" or "leaf_const" in node:
            return "splits by sets of categories, or takes zero for missing"
        split = float(node["threshold"])
        # where a column had no gaps in training, LightGBM takes a gap for 0
        left = node["default_left"] if node["missing_type"] == "NaN" else split >= 0.0
        nodes.append((node["split_feature"], split, int(left), 0, 0, 0.0))
        todo += [(node["right_child"], here, 1), (node["left_child"], here, 0)]
    return ""


def _shares_of_two(said: np.ndarray) -> np.ndarray:
    positive = 1.0 / (1.0 + np.exp(-said[:, 0]))
    return np.column_stack([1.0 - positive, positive])


def _shares_of_many(said: np.ndarray) -> np.ndarray:
    raised = np.exp(said - said.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


_READERS: dict[str, Callable[[Any, _Trees], _Read | str]] = {
    **dict.fromkeys(
        (
            "RandomForestClassifier",
            "RandomForestRegressor",
            "ExtraTreesClassifier",
            "ExtraTreesRegressor",
            "DecisionTreeClassifier",
            "DecisionTreeRegressor",
        ),
        _of_forest,
    ),
    **dict.fromkeys(
        ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor"), _of_histograms
    ),
    **dict.fromkeys(("LGBMClassifier", "LGBMRegressor"), _of_lightgbm),
}
