"""An artifact: a candidate as a file whose bytes depend on what was learned and on nothing else.

It is a skops file: no pickle, and loading makes only objects of types that are listed here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import io
import json
import sys
import threading
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets.errors import CandidateError, ModelRefused, shortened

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

# What a stored candidate may hold, beside scikit-learn's, numpy's and scipy's own safe types
# (skops knows those).  The artifact never has a say in this list.
TRUSTED_TYPES: tuple[str, ...] = (
    "builtins.bytearray",
    "catboost.core.CatBoostClassifier",
    "catboost.core.CatBoostRegressor",
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "numpy.mean",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
    "sklearn._loss._loss.CyHalfSquaredError",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.cluster._bisect_k_means._BisectingTree",
    "sklearn.cluster._kmeans._kmeans_single_lloyd",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "skrub._apply_to_each_col.ApplyToEachCol",
    "skrub._check_input.CheckInputDataFrame",
    "skrub._clean_categories.CleanCategories",
    "skrub._clean_null_strings.CleanNullStrings",
    "skrub._dataframe._common.is_any_date",
    "skrub._dataframe._common.is_categorical",
    "skrub._dataframe._common.is_numeric",
    "skrub._datetime_encoder.DatetimeEncoder",
    "skrub._drop_uninformative.DropUninformative",
    "skrub._duration_to_float.DurationToFloat",
    "skrub._string_encoder.StringEncoder",
    "skrub._table_vectorizer.PassThrough",
    "skrub._table_vectorizer.ShortReprDict",
    "skrub._table_vectorizer.TableVectorizer",
    "skrub._table_vectorizer._created_by_predicate",
    "skrub._to_datetime.ToDatetime",
    "skrub._to_float.ToFloat",
    "skrub._to_str.ToStr",
    "skrub.selectors._base.All",
    "skrub.selectors._base.And",
    "skrub.selectors._base.Cols",
    "skrub.selectors._base.Filter",
    "skrub.selectors._base.Sub",
    "skrub.selectors._selectors._cardinality_below",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
    "xgboost.sklearn.XGBRegressor",
)


_IMPORT = threading.Lock()
_LIKELY = "scipy.special._"


@functools.cache
def skops_io() -> Any:
    """It imports skops.io, in a quarter of the time that it takes by itself.

    On import it asks of each of numpy's and scipy's 400 functions where that is from, by looking
    through all loaded modules in the order in which they came; Dagster's came before those.  Here
    those two are looked at first.
    """
    with _IMPORT:
        if "skops.io" not in sys.modules:
            with contextlib.suppress(
                Exception
            ):  # another release of skops: it is imported as it is
                _import_quickly()
        return importlib.import_module("skops.io")


def _import_quickly() -> None:
    import scipy.special
    import skops

    likely = [m for n, m in sys.modules.items() if n == "numpy" or n.startswith(_LIKELY)]
    found = importlib.util.find_spec("skops.io")
    assert found is not None and found.loader is not None and scipy.special
    package = importlib.util.module_from_spec(found)
    sys.modules["skops.io"] = package
    try:
        helpers: Any = importlib.import_module("skops.io._utils")
        search = helpers.whichmodule

        def whichmodule(thing: Any, name: str) -> Any:
            if getattr(thing, "__module__", None) is None:
                for module in likely:
                    if getattr(module, name, None) is thing:
                        return module.__name__
            return search(thing, name)

        helpers.whichmodule = whichmodule
        try:
            found.loader.exec_module(package)
        finally:
            helpers.whichmodule = search
        skops.io = package
    except BaseException:
        for name in [n for n in sys.modules if n == "skops.io" or n.startswith("skops.io.")]:
            del sys.modules[name]
        raise


def dump(model: Pipeline, trusted: tuple[str, ...] = ()) -> bytes:
    """It returns the model as a skops file, the same bytes for the same learned content.

    skops numbers objects by memory address and names files after them; here they are numbered in
    the order of their appearance, and the archive carries no time.

    Raises:
        CandidateError: the model holds types that loading would refuse.
    """
    try:
        raw = skops_io().dumps(model)
    except Exception as error:
        raise CandidateError(
            f"the candidate cannot be stored without pickle: {type(error).__name__}: {error}"
        ) from error
    unknown = _untrusted(raw, trusted)
    if unknown:
        raise CandidateError(
            f"the candidate holds types that are not trusted: {shortened(unknown)}. If you trust "
            "them, name them under `trust:` in defs.yaml; they must be of an installed package."
        )
    return _canonical(raw)


def load(data: bytes, trusted: tuple[str, ...] = ()) -> Pipeline:
    """It returns the model of a skops file.

    Raises:
        ModelRefused: the file holds types that are not trusted, or is damaged.
    """
    try:
        return skops_io().loads(data, trusted=[*TRUSTED_TYPES, *trusted])
    except Exception as error:
        unknown: list[str] = []
        with contextlib.suppress(Exception):  # a damaged file does not tell
            unknown = _untrusted(data, trusted)
        if unknown:
            raise ModelRefused(
                f"The stored model holds types that nobody trusted: {shortened(unknown)}."
            ) from None
        raise ModelRefused(
            f"The stored model cannot be loaded: {type(error).__name__}: {str(error)[:200]}"
        ) from error


def _untrusted(data: bytes, trusted: tuple[str, ...]) -> list[str]:
    return sorted(set(skops_io().get_untrusted_types(data=data)) - {*TRUSTED_TYPES, *trusted})


def _canonical(raw: bytes) -> bytes:
    archive = zipfile.ZipFile(io.BytesIO(raw))
    numbers: dict[int, int] = {}
    names: dict[str, str] = {}
    files = set(archive.namelist())

    def renumbered(node: Any) -> Any:
        if isinstance(node, list):
            return [renumbered(n) for n in node]
        if not isinstance(node, dict):
            return node
        plain: dict[str, Any] = {}
        for key, value in node.items():
            if key == "__id__":
                plain[key] = numbers.setdefault(value, len(numbers))
            elif key == "file" and isinstance(value, str) and value in files:
                suffix = Path(value).suffix
                plain[key] = names.setdefault(value, f"{len(names)}{suffix}")
            else:
                plain[key] = renumbered(value)
        return plain

    schema = renumbered(json.loads(archive.read("schema.json")))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        _write(out, "schema.json", json.dumps(schema, separators=(",", ":")).encode())
        for old, new in names.items():
            data = archive.read(old)
            _write(out, new, _without_padding(data) if new.endswith(".npy") else data)
    return made.getvalue()


def _without_padding(data: bytes) -> bytes:
    """It returns an array's file with zeros between its fields.

    The nodes of a tree that was loaded have there what happened to lie in memory.
    """
    import numpy as np

    array = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype.names is None:
        return data
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    file = io.BytesIO()
    np.save(file, clean, allow_pickle=False)
    return file.getvalue()


def _write(out: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    out.writestr(entry, data, compresslevel=1)
