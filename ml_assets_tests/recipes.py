"""Projects of MLflow Recipes in a folder, written from the documented keys, with data made here."""

from pathlib import Path

import numpy as np
import pandas as pd

TAXI = """\
# {{ COMMENTS }} are no templates
recipe: "regression/v1"
target_col: "fare_amount"
primary_metric: "root_mean_squared_error"
steps:
  ingest: {{INGEST_CONFIG}}
  split:
    split_ratios: {{SPLIT_RATIOS|default([0.75, 0.125, 0.125])}}
    post_split_filter_method: create_dataset_filter
  transform:
    using: custom
    transformer_method: steps.transform.transformer_fn
  train:
    using: custom
    estimator_method: estimator_fn
    estimator_params: {max_iter: 5, max_leaf_nodes: 3}
    tuning:
      enabled: true
      algorithm: hyperopt.rand.suggest
      max_trials: 4
      parameters:
        learning_rate: {distribution: loguniform, low: -4, high: -1}
        max_leaf_nodes: {values: [7, 15]}
        max_iter: {distribution: quniform, low: 20, high: 40, q: 10}
  evaluate:
    validation_criteria:
      - {metric: root_mean_squared_error, threshold: 10}
      - {metric: mean_squared_error, threshold: 100}
      - {metric: weighted_mean_squared_error, threshold: 30}
  register:
    allow_non_validated_model: false
  ingest_scoring: {{INGEST_CONFIG}}
  predict:
    output: {using: parquet, location: ./data/scored.parquet}
custom_metrics:
  - name: weighted_mean_squared_error
    function: weighted_mean_squared_error
    greater_is_better: False
"""

TAXI_PROFILE = """\
experiment:
  name: "sklearn_regression_experiment"
  tracking_uri: "sqlite:///metadata/mlflow/mlruns.db"
model_registry:
  model_name: "taxi"
SPLIT_RATIOS: [0.80, 0.10, 0.10]
INGEST_CONFIG:
  using: parquet
  location: "./data/sample.parquet"
"""

TAXI_STEPS = {
    "split": '''\
"""The split step."""

from pandas import DataFrame, Series


def create_dataset_filter(dataset: DataFrame) -> Series:
    return (dataset["fare_amount"] > 0) & (dataset["trip_distance"] < 400)
''',
    "transform": '''\
"""The transform step."""

from pandas import DataFrame
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler


def calculate_features(df: DataFrame):
    # in place, as the public template does it
    df["pickup_hour"] = df["pickup"].dt.hour
    took = df["dropoff"] - df["pickup"]
    df["duration"] = took.map(lambda x: x.total_seconds() / 60)
    df.drop(columns=["pickup", "dropoff"], inplace=True)
    return df


def transformer_fn():
    hours = OneHotEncoder(categories="auto", sparse=False, handle_unknown="ignore")
    named = {"feature_names_out": "one-to-one"}
    return Pipeline(
        [
            ("features", FunctionTransformer(calculate_features, **named)),
            (
                "encoder",
                ColumnTransformer(
                    [
                        ("hours", hours, ["pickup_hour"]),
                        ("scaled", StandardScaler(), ["trip_distance", "duration"]),
                    ]
                ),
            ),
        ]
    )
''',
    "train": '''\
"""The train step."""

from typing import Any, Dict


def estimator_fn(estimator_params: Dict[str, Any] = None):
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(random_state=42, **(estimator_params or {}))
''',
    "custom_metrics": '''\
"""Metrics."""

from typing import Dict

from pandas import DataFrame
from sklearn.metrics import mean_squared_error


def weighted_mean_squared_error(eval_df: DataFrame, builtin_metrics: Dict[str, int]) -> int:
    assert builtin_metrics["root_mean_squared_error"] > 0
    weight = 1 / eval_df["prediction"].abs().clip(lower=1)
    return mean_squared_error(eval_df["target"], eval_df["prediction"], sample_weight=weight)
''',
}

WINE = """\
recipe: "classification/v1"
target_col: "is_red"
positive_class: 1
primary_metric: "f1_score"
steps:
  ingest: {{INGEST_CONFIG}}
  split:
    using: custom
    split_method: split_rows
    post_split_filter_method: keeps
  transform:
    transformer_method: transformer_fn
  train:
    using: automl/flaml
    time_budget_secs: 20
    flaml_params:
      estimator_list: [lrl2, no_such]
  evaluate:
    validation_criteria:
      - {metric: f1_score, threshold: 0.6}
      - {metric: precision_score, threshold: 0.6}
      - {metric: false_positives, threshold: 3}
  register:
    allow_non_validated_model: true
"""

WINE_PROFILE = """\
model_registry: {model_name: wine}
INGEST_CONFIG: {using: csv, location: ./data, loader_method: load_file_as_dataframe}
"""

WINE_STEPS = {
    "ingest": '''\
"""The ingest step."""

import pandas
from pandas import DataFrame


def load_file_as_dataframe(file_path: str, file_format: str) -> DataFrame:
    assert file_format == "csv"
    rows = pandas.read_csv(file_path, sep=";")
    rows["is_red"] = 1 if "red" in file_path.rpartition("/")[2] else 0
    return rows
''',
    "split": '''\
"""The split step."""


def split_rows(rows):
    return rows["cask"].mod(10).map(lambda n: {8: "VALIDATION", 9: "TEST"}.get(n, "TRAINING"))


def keeps(rows):
    assert "recipe_part" not in rows and set(rows["cask"].mod(10)) <= set(range(8))
    return rows["alcohol"] < 14
''',
    "transform": '''\
"""The transform step."""


def transformer_fn():
    return None
''',
}


def write(root: Path, recipe: str, profile: str, steps: dict[str, str]) -> Path:
    """It writes a recipe's folder, and returns its recipe.yaml."""
    for name, text in {"recipe": recipe, "profiles/local": profile}.items():
        file = root / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for name, text in steps.items():
        file = root / "steps" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "data").mkdir(exist_ok=True)
    return root / "recipe.yaml"


def taxi(root: Path) -> Path:
    """It writes a recipe like the public one on taxi fares, with rides."""
    file = write(root, TAXI, TAXI_PROFILE, TAXI_STEPS)
    random, count = np.random.default_rng(0), 900
    pickup = pd.Series(pd.Timestamp("2016-02-01", unit=None)).repeat(count).reset_index(drop=True)
    pickup = (pickup + pd.to_timedelta(random.integers(0, 86400 * 28, count), unit="s")).astype(
        "datetime64[ns]"
    )
    far = random.gamma(2, 2, count) + 0.1
    minutes = far * 3 * (1 + 0.5 * (pickup.dt.hour > 16)) + random.exponential(2, count)
    fare = 2.5 + 2 * far + 0.4 * minutes + random.normal(0, 1, count)
    fare[:20] = -5
    dropoff = (pickup + pd.to_timedelta(minutes, unit="min")).astype("datetime64[ns]")
    rides = {"pickup": pickup, "dropoff": dropoff, "trip_distance": far, "fare_amount": fare}
    pd.DataFrame(rides).to_parquet(root / "data" / "sample.parquet", index=False)
    return file


def wine(root: Path) -> Path:
    """It writes a recipe like the public one on wine, with a file of red and one of white."""
    file = write(root, WINE, WINE_PROFILE, WINE_STEPS)
    random = np.random.default_rng(0)
    for name, middle, count in (("red", 0.08, 250), ("white", 0.04, 350)):
        columns = {
            "cask": random.permutation(count * 3)[:count],
            "chlorides": random.normal(middle, 0.015, count),
            "sulphates": random.normal(0.5 + 2 * middle, 0.1, count),
            "alcohol": random.normal(11, 1.5, count),
        }
        rows = pd.DataFrame(columns)
        rows.to_csv(root / "data" / f"winequality-{name}.csv", sep=";", index=False)
    return file
