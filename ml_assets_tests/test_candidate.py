import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from ml_assets import candidate as candidates
from ml_assets.artifact import dump, load
from ml_assets.candidate import (
    CATALOGUE,
    Predictions,
    build,
    environment,
    feature_names,
    fit,
    kind_of,
    latency_ms,
    predict,
    requirements,
)
from ml_assets.errors import CandidateError, DeclarationError, ModelRefused
from ml_assets.evaluation import score
from ml_assets.problem import ENSEMBLE, SHORT_NAMES, CandidateDeclaration, ShortName
from ml_assets.problem.candidate import ABOUT
from ml_assets_tests.conftest import MULTICLASS, problem, table, target_of

# Few trees: what is tested does not depend on their number.
SMALL = {
    "random_forest": {"n_estimators": 5},
    "extra_trees": {"n_estimators": 5},
    "hist_gradient_boosting": {"max_iter": 5},
    "xgboost": {"n_estimators": 5},
    "lightgbm": {"n_estimators": 5},
    "catboost": {"iterations": 5},
}
NUMBERS = ["amount", "whole", "noise"]


def declared(estimator, **params):
    return CandidateDeclaration(estimator=estimator, params={**SMALL.get(estimator, {}), **params})


def fitted(candidate, rows, of=None, folder=None, **given):
    of = of or problem(**given)
    target = target_of(rows)
    x, y = rows.drop(columns="y"), rows["y"]
    model = build(candidate, of, target.task, x, folder)
    return fit(model, (x, y), (x, y), of, target)


def test_every_short_name_is_in_the_catalogue_and_nothing_else_is():
    assert set(SHORT_NAMES) == {*CATALOGUE, ENSEMBLE} == set(get_args(ShortName)) == set(ABOUT)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_short_name_fits_a_mixed_table_and_is_kept_and_loaded_as_it_was(name, task):
    """Numbers with gaps, text, dates; the stored file needs no trust beyond our own list."""
    rows = table(60, task=task)
    if task != "binary":
        rows = rows[[*NUMBERS, "y"]]  # another loss, the same transform
    if kind_of(task) not in CATALOGUE[name]:
        with pytest.raises(DeclarationError, match=f"{name} is no {kind_of(task)}. For {task}: b"):
            fitted(declared(name), rows)
        return
    model = fitted(declared(name), rows).model
    target = target_of(rows)
    loaded = load(dump(model))
    said, again = (predict(m, rows, target) for m in (model, loaded))
    assert said.missing() == 0
    assert np.array_equal(said.values, again.values)
    if task == "regression":
        assert said.probabilities is None
        assert said.values.dtype.kind == "f"
    else:
        assert set(said.values) <= set(target.classes)
        assert said.probabilities.shape == (60, len(target.classes))
        assert said.probabilities.sum(axis=1) == pytest.approx(1)
        assert np.array_equal(said.probabilities, again.probabilities)
    metric = {"binary": "roc_auc", "multiclass": "balanced_accuracy", "regression": "r2"}[task]
    floor = {"binary": 0.5, "multiclass": 1 / 3, "regression": 0.0}[task]
    found = score(rows["y"].to_numpy(), said, target)[metric]
    assert found == pytest.approx(floor) if name == "baseline" else found > floor + 0.05


@pytest.mark.parametrize(
    "name",
    ["logistic_regression", "random_forest", "hist_gradient_boosting", "xgboost", "lightgbm", "catboost"],
)  # fmt: skip
def test_two_fits_of_the_same_give_the_same_bytes(name):
    """`reproduce` compares digests; skops alone names files after memory addresses."""
    rows = table(60)[[*NUMBERS, "y"]]
    one, other = (fitted(declared(name), rows).model for _ in range(2))
    assert one is not other
    assert dump(one) == dump(other)


def test_other_rows_or_another_seed_give_other_bytes():
    rows, other = (table(60, seed=s)[[*NUMBERS, "y"]] for s in (0, 1))
    one = dump(fitted(declared("random_forest"), rows).model)
    assert one != dump(fitted(declared("random_forest"), other).model)
    assert one != dump(fitted(declared("random_forest"), rows, seed=1).model)


@pytest.mark.slow
def test_two_processes_give_the_same_bytes():
    """Addresses, hash seeds and cores differ between processes and machines, what was learned does not."""
    names = tuple(n for n in CATALOGUE if n != "baseline" and "classifier" in CATALOGUE[n])
    code = (
        "import hashlib, os\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(os.environ['CORES'])])\n"
        "from ml_assets.artifact import dump\n"
        "from ml_assets_tests.test_candidate import declared, fitted, table\n"
        f"for name in {names}:\n"
        "    stored = dump(fitted(declared(name), table(60)).model)\n"
        "    print(name, hashlib.sha256(stored).hexdigest())\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "CORES": seed},
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(said[0].splitlines()) == len(names)
    assert said[0] == said[1]


class Sneaky(TransformerMixin, BaseEstimator):
    """A type that leaves a trace when it is loaded."""

    def __init__(self, trace=""):
        self.trace = trace

    def fit(self, x, y=None):
        return self

    def transform(self, x):
        return x

    def __sklearn_is_fitted__(self):
        return True

    def __setstate__(self, state):
        self.__dict__.update(state)
        if self.trace:
            Path(self.trace).write_text("code was executed")


def sneak(x):
    return x


def with_step(step):
    rows = table(30)
    return make_pipeline(step, LogisticRegression()).fit(rows[["whole", "noise"]], rows["y"])


@pytest.mark.parametrize(
    ("step", "named"),
    [
        (Sneaky(), "ml_assets_tests.test_candidate.Sneaky"),
        (FunctionTransformer(sneak), "ml_assets_tests.test_candidate.sneak"),
        (FunctionTransformer(inverse_func=os.system, check_inverse=False), "posix.system"),
    ],
    ids=["class", "function", "os.system"],
)
def test_a_type_that_nobody_trusted_is_neither_stored_nor_loaded(step, named):
    """Law 8.  With the comparison in `_untrusted` made empty, `dump` stored all three."""
    model = with_step(step)
    with pytest.raises(CandidateError, match=rf"not trusted: .*{named}.*`trust:` in defs\.yaml"):
        dump(model)
    with pytest.raises(ModelRefused, match=f"types that nobody trusted: .*{named}"):
        load(skops.io.dumps(model))


def test_a_refused_file_executes_nothing_and_a_trusted_one_is_loaded(tmp_path):
    """The trace is written by the very same bytes once the type is named: the test can fail."""
    trace = tmp_path / "trace"
    stored = skops.io.dumps(with_step(Sneaky(str(trace))))
    with pytest.raises(ModelRefused):
        load(stored)
    assert not trace.exists()
    load(stored, ("ml_assets_tests.test_candidate.Sneaky",))
    assert trace.read_text() == "code was executed"


def test_the_file_itself_has_no_say_in_what_is_trusted():
    named = "ml_assets_tests.test_candidate.Sneaky"
    stored = io.BytesIO(dump(with_step(Sneaky()), (named,)))
    with zipfile.ZipFile(stored, "a") as archive:
        archive.writestr("trusted.json", f'["{named}"]')
    with pytest.raises(ModelRefused, match="nobody trusted"):
        load(stored.getvalue())


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 50])
def test_a_damaged_file_is_refused(data):
    with pytest.raises(ModelRefused, match="The stored model cannot be loaded"):
        load(data)


def test_a_cut_file_is_refused():
    stored = dump(with_step("passthrough"))
    with pytest.raises(ModelRefused, match="cannot be loaded"):
        load(stored[: len(stored) // 2])


def test_a_candidate_that_cannot_do_without_pickle_is_not_stored():
    model = with_step(FunctionTransformer(lambda x: x))
    with pytest.raises(CandidateError, match=r"not trusted|cannot be stored without pickle"):
        dump(model)


@pytest.mark.parametrize(
    ("candidate", "error", "said"),
    [
        (
            declared("random_forest", n_estimatrs=5),
            CandidateError,
            "has no parameter `n_estimatrs`. Did you mean `n_estimators`",
        ),
        (declared("xgboost", max_dept=3), CandidateError, "Did you mean `max_depth`"),
        (declared("sklearn.svm.SVR"), DeclarationError, "is no classifier, but the task is binary"),
        (declared("sklearn.svm.SVCC"), DeclarationError, "Did you mean `SVC`"),
        (declared("pathlib.PurePath"), DeclarationError, "not an estimator"),
        (
            CandidateDeclaration(estimator="linear", transform="pathlib.PurePath"),
            DeclarationError,
            "not a transformer",
        ),
    ],
    ids=["parameter", "any keyword", "kind", "name", "no estimator", "no transformer"],
)
def test_a_candidate_that_cannot_be_built_is_told_why(candidate, error, said):
    rows = table(30)
    with pytest.raises(error, match=said):
        build(candidate, problem(), "binary", rows.drop(columns="y"), None)


def test_a_fit_that_fails_keeps_what_it_said():
    rows = table(30)
    with pytest.raises(CandidateError, match=r"fitting failed: .*max_depth.*-3"):
        fitted(declared("random_forest", max_depth=-3), rows)


def test_our_own_functions_give_estimator_and_transform(tmp_path):
    (tmp_path / "model.py").write_text(
        "from sklearn.compose import make_column_transformer\n"
        "from sklearn.linear_model import RidgeClassifier\n"
        "def ours(alpha=1): return RidgeClassifier(alpha=alpha)\n"
        "def chosen(): return make_column_transformer(('passthrough', ['whole', 'noise']))\n"
    )
    candidate = CandidateDeclaration(
        estimator=".model.ours", params={"alpha": 3}, transform=".model.chosen"
    )
    rows = table(60)
    model = fitted(candidate, rows, folder=tmp_path).model
    assert model[-1].get_params()["alpha"] == 3
    said = predict(model, rows, target_of(rows))
    assert said.probabilities is None
    assert set(said.values) <= {"yes", "no"}


def test_a_transform_none_hands_the_table_on_as_it_is():
    rows = table(30)[["whole", "noise"]]
    model = build(declared("linear"), problem(transform="none"), "binary", rows, None)
    pd.testing.assert_frame_equal(model[0].fit_transform(rows), rows)


@pytest.mark.parametrize("transform", ["none", ".model.halved"])
def test_a_model_never_sees_the_target_whatever_its_transform_asks_for(tmp_path, transform):
    """Seen to fail: with `passthrough` for none, the model took all columns of the test rows."""
    (tmp_path / "model.py").write_text(
        "from sklearn.preprocessing import MinMaxScaler\n"
        "class Halved(MinMaxScaler):\n"
        "    def fit(self, X, y=None): return super().fit(X.to_numpy())\n"
        "    def transform(self, X): return super().transform(X.to_numpy())\n"
        "def halved(): return Halved()\n"
    )
    rows = table(60)[["whole", "noise", "y"]]
    model = fitted(declared("linear"), rows, folder=tmp_path, of=problem(transform=transform)).model
    assert feature_names(model) == ["whole", "noise"]
    shuffled = rows.assign(more=1)[["y", "more", "noise", "whole"]]
    assert list(predict(model, shuffled, target_of(rows)).values) == list(
        model.predict(rows[["whole", "noise"]])
    )


def test_a_model_that_does_not_know_its_features_is_not_asked():
    from sklearn.linear_model import LogisticRegression

    rows = table(60)
    model = LogisticRegression().fit(rows[["whole"]].to_numpy(), rows["y"])
    with pytest.raises(CandidateError, match="does not know the names of its features"):
        predict(model, rows, target_of(rows))


def test_everything_random_takes_the_problems_seed_unless_its_owner_says_otherwise():
    rows = table(30)[NUMBERS]
    forest = build(declared("random_forest"), problem(seed=5), "binary", rows, None)
    own = build(declared("random_forest", random_state=9), problem(seed=5), "binary", rows, None)
    assert forest[-1].random_state == 5
    assert own[-1].random_state == 9


def test_building_leaves_no_trace_in_the_catalogue():
    before = repr(CATALOGUE)
    build(declared("lightgbm", verbose=1), problem(), "binary", table(10)[NUMBERS], None)
    assert repr(CATALOGUE) == before


def test_the_transform_learns_from_train_alone():
    train, validation = table(60), table(60, seed=1)
    validation["amount"] += 1000
    target = target_of(train)
    x = train[NUMBERS]
    model = build(declared("linear"), problem(), "binary", x, None)
    alone = fit(clone(model), (x, train["y"]), (x, train["y"]), problem(), target)
    there = fit(
        clone(model), (x, train["y"]), (validation[NUMBERS], validation["y"]), problem(), target
    )
    assert dump(alone.model) == dump(there.model)


def test_columns_may_come_in_any_order_and_more_may_be_there():
    rows = table(60)
    model = fitted(declared("extra_trees"), rows).model
    target = target_of(rows)
    shuffled = rows[rows.columns[::-1]].assign(more=1)
    assert np.array_equal(
        predict(model, rows, target).values, predict(model, shuffled, target).values
    )
    assert feature_names(model) == [c for c in rows.columns if c != "y"]


def test_an_absent_column_is_named():
    rows = table(60)
    model = fitted(declared("linear"), rows).model
    with pytest.raises(CandidateError, match=r"lack columns that the model needs: .*colour"):
        predict(model, rows.drop(columns="colour"), target_of(rows))


@pytest.mark.filterwarnings("ignore:Found unknown categories")
def test_a_word_never_seen_in_fitting_is_predicted_all_the_same():
    rows = table(60)
    model = fitted(declared("lightgbm"), rows).model
    new = rows.head(3).assign(colour=["mauve", None, "taupe"])
    assert predict(model, new, target_of(rows)).missing() == 0


def test_probabilities_come_in_the_order_of_the_targets_classes():
    rows = table(90, task="multiclass")[[*NUMBERS, "y"]]
    target = target_of(rows)
    model = fitted(declared("random_forest"), rows).model
    said = predict(model, rows, target)
    leading = np.array(target.classes, dtype=object)[said.probabilities.argmax(axis=1)]
    assert (leading == said.values).all()


def test_a_class_that_the_model_never_saw_has_probability_zero():
    rows = table(90, task="multiclass")
    seen = rows[rows["y"] != "low"]
    x, y = seen[NUMBERS], seen["y"]
    model = build(declared("random_forest"), problem(), "multiclass", x, None)
    target = target_of(rows)
    fit(model, (x, y), (x, y), problem(), target)
    said = predict(model, rows, target)
    assert (said.probabilities[:, target.classes.index("low")] == 0).all()
    assert said.probabilities.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("name", ["logistic_regression", "xgboost"])
def test_a_declared_threshold_decides_and_is_stored_with_the_model(name):
    rows = table(200)[[*NUMBERS, "y"]]
    target = target_of(rows)
    made = fitted(declared(name), rows, threshold=0.2)
    model = load(dump(made.model))
    said = predict(model, rows, target)
    share = said.probabilities[:, target.classes.index("yes")]
    assert made.threshold == 0.2
    assert ((share >= 0.2) == (said.values == "yes")).all()
    assert ((share >= 0.5) != (said.values == "yes")).any()


def test_a_rare_class_gets_a_tuned_threshold_and_a_common_one_does_not():
    rows = table(400)[[*NUMBERS, "y"]]
    signal = rows["noise"] + np.sin(rows["whole"])
    rare = rows.assign(y=np.where(signal > signal.quantile(0.95), "yes", "no"))
    of = declared("logistic_regression")
    assert fitted(of, rows).threshold is None
    tuned = fitted(of, rare)
    assert 0 < tuned.threshold < 1
    assert tuned.threshold != 0.5


def test_the_first_seconds_and_the_last_are_those_of_the_clock_that_is_given():
    rows, ticks = table(40)[[*NUMBERS, "y"]], iter([10.0, 12.5])
    x, y = rows[NUMBERS], rows["y"]
    model = build(declared("linear"), problem(), "binary", x, None)
    made = fit(model, (x, y), (x, y), problem(), target_of(rows), lambda: next(ticks))
    assert made.seconds == 2.5


def test_balanced_weights_raise_the_probability_of_the_rare_class():
    rows = table(300)[[*NUMBERS, "y"]]
    rare = rows.assign(y=np.where(rows["noise"] > 1.2, "yes", "no"))
    target = target_of(rare)
    of = declared("logistic_regression", C=0.01)
    plain, weighted = (
        predict(fitted(of, rare, class_weight=w, threshold=0.5).model, rare, target)
        for w in ("none", "balanced")
    )
    column = target.classes.index("yes")
    assert weighted.probabilities[:, column].mean() > plain.probabilities[:, column].mean() + 0.1


def test_predicting_one_row_uses_one_thread():
    model = fitted(declared("random_forest"), table(40)[[*NUMBERS, "y"]]).model
    assert model[-1].n_jobs == 1


def test_behind_a_threshold_too_predicting_uses_one_thread():
    """Seen to fail: frozen behind its threshold, a forest kept adding its trees up by threads."""
    model = fitted(declared("random_forest"), table(40)[[*NUMBERS, "y"]], threshold=0.3).model
    assert model[-1].estimator.estimator.n_jobs == 1


def test_the_latency_is_a_time_in_milliseconds():
    rows = table(40)[[*NUMBERS, "y"]]
    model = fitted(declared("linear"), rows).model
    assert 0.01 < latency_ms(model, rows) < 1000


@pytest.mark.parametrize(
    ("values", "probabilities", "missing"),
    [
        (np.array([1.0, np.nan, np.inf, -np.inf]), None, 3),
        (np.array(["a", None, "b", "a"], dtype=object), None, 1),
        (np.array(["a", "a", "b", "a"]), np.array([[1, 0], [np.nan, 0], [0, np.inf], [0, 1]]), 2),
        (np.array([1, 2, 3, 4]), None, 0),
    ],
)
def test_a_prediction_is_missing_when_any_part_of_it_is(values, probabilities, missing):
    assert Predictions(values, probabilities).missing() == missing


def test_predictions_survive_their_own_table():
    one = Predictions(np.array(["a", "b"], dtype=object), np.array([[0.5, 0.5], [0.1, 0.9]]))
    again = Predictions.from_table(one.as_table())
    assert np.array_equal(one.values, again.values)
    assert np.array_equal(one.probabilities, again.probabilities)
    assert Predictions.from_table(Predictions(np.array([1.5])).as_table()).probabilities is None


def test_class_shares_name_every_class():
    said = Predictions(np.array(["a", "a", "b", "a"], dtype=object))
    assert said.class_shares(MULTICLASS) == {"a": 0.75, "b": 0.25, "c": 0.0}


def test_requirements_pin_what_loading_needs_and_no_other_library():
    rows = table(40)[[*NUMBERS, "y"]]
    names = {r.split("==")[0] for r in requirements(fitted(declared("xgboost"), rows).model)}
    plain = {r.split("==")[0] for r in requirements(fitted(declared("linear"), rows).model)}
    assert {"scikit-learn", "skops", "pandas", "numpy"} <= plain
    assert names - plain <= {"xgboost", "xgboost-cpu"}
    assert names - plain


def test_a_mixed_table_needs_skrub():
    names = {r.split("==")[0] for r in requirements(fitted(declared("linear"), table(40)).model)}
    assert "skrub" in names


def test_the_environment_names_versions_that_are_installed():
    import sklearn

    assert environment()["scikit-learn"] == sklearn.__version__
    assert pd.__version__ == environment()["pandas"]


class Drops(TransformerMixin, BaseEstimator):
    """It changes the table that it is handed, as recipes of MLflow do."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        X["both"] = X.pop("a") + X.pop("b")
        return X


def test_a_transform_that_changes_its_input_in_place_predicts_the_same():
    """Seen to fail: probabilities were asked of rows that predicting had changed."""
    rows = pd.DataFrame({"a": [0.0, 1, 2, 3], "b": [1.0, 0, 3, 2]})
    y = pd.Series(["no", "no", "yes", "yes"])
    model = make_pipeline(FunctionTransformer(), Drops(), LogisticRegression()).fit(rows.copy(), y)

    said = predict(model, rows, target_of(pd.DataFrame({**rows, "y": y})))

    assert list(rows.columns) == ["a", "b"]
    assert list(said.values) == list(y)
    assert said.probabilities.shape == (4, 2)


@pytest.mark.parametrize(
    ("estimator", "guess"),
    [
        ("random_forest", 2),
        ("sklearn.tree.DecisionTreeClassifier", 2),
        ("hist_gradient_boosting", 1),
        ("sklearn.neighbors.KNeighborsClassifier", 1),
        ("linear", 0),
        ("sklearn.naive_bayes.GaussianNB", 0),
    ],
)
def test_how_long_a_fit_takes_is_guessed_by_what_is_fitted(estimator, guess):
    """Seen to fail: a tree of a million rows, named by its path, began when a processor was idle already."""
    assert candidates.slowness(CandidateDeclaration(estimator=estimator), "binary", None) == guess
