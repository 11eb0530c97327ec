"""A model's folder as MLflow keeps it: one that every client of MLflow can load.

The model itself is serialised already; what is written here is what stands around it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_assets.verification import MODEL_FILE


class Flavor:
    """What MLflow asks to write a model's folder."""

    __name__ = "sklearn"

    @staticmethod
    def save_model(
        path: str,
        mlflow_model: Any,
        files: Mapping[str, bytes],
        signature: Any,
        pip_requirements: list[str],
        trusted: list[str],
    ) -> None:
        """It writes the folder, with the model's own files in it."""
        import mlflow
        import sklearn
        from mlflow import pyfunc
        from mlflow.utils.environment import _mlflow_conda_env, _PythonEnv

        folder = Path(path)
        folder.mkdir(parents=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        pinned = [f"mlflow=={mlflow.__version__}", *pip_requirements]
        (folder / "requirements.txt").write_text("\n".join(pinned) + "\n")
        environment = _mlflow_conda_env(additional_pip_deps=pip_requirements)
        (folder / "conda.yaml").write_text(json.dumps(environment, indent=1))
        _PythonEnv.current().to_yaml(str(folder / "python_env.yaml"))
        mlflow_model.signature = signature
        pyfunc.add_to_model(
            mlflow_model,
            loader_module="mlflow.sklearn",
            model_path=MODEL_FILE,
            conda_env="conda.yaml",
            python_env="python_env.yaml",
            predict_fn="predict",
        )
        mlflow_model.add_flavor(
            "sklearn",
            pickled_model=MODEL_FILE,
            sklearn_version=sklearn.__version__,
            serialization_format="skops",
            code=None,
            skops_trusted_types=trusted,
        )
        mlflow_model.save(str(folder / "MLmodel"))


def signature(example: Any, said: Any) -> Any:
    """It returns what a model takes and gives, from some rows and what it says of them."""
    from mlflow.models import infer_signature

    # Whole numbers are asked for as double: a missing value must not change the signature.
    whole = {c: "float64" for c in example.columns if example[c].dtype.kind in "iu"}
    return infer_signature(example.astype(whole), said)
