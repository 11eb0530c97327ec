"""A manifest: what Kubernetes is told to serve, written from the same declaration and ledger.

KServe keeps the revision that served all requests before, and gives `canaryTrafficPercent` of them to
the newest one: so there is a manifest of the champion, to be applied first, and one of the canary.
"""

import re
from collections.abc import Mapping
from typing import Any

from ml_assets.errors import DeclarationError

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"
REACHED = ("s3://", "gs://", "https://", "http://", "pvc://", "hdfs://", "webhdfs://", "hf://")


def service(
    problem: str, version: int, digest: str, uri: str, percent: int | None = None
) -> dict[str, Any]:
    """It returns KServe's InferenceService of one version.

    Args:
        problem: the problem's name.
        version: the version's number.
        digest: of its folder, as the ledger has it.
        uri: where the cluster finds that folder.
        percent: of the requests, for a canary; None for the champion, which answers all.
    """
    predictor: dict[str, Any] = {
        "model": {
            "modelFormat": {"name": "mlflow"},
            "protocolVersion": "v2",
            "storageUri": uri,
        }
    }
    if percent is not None:
        predictor["canaryTrafficPercent"] = percent
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {
            "name": named(problem),
            "labels": {"ml-assets-problem": problem, "ml-assets-version": str(version)},
            "annotations": {
                "serving.kserve.io/deploymentMode": "Serverless",
                "ml-assets-digest": digest,
            },
        },
        "spec": {"predictor": predictor},
    }


def named(problem: str) -> str:
    """It returns a problem's name as Kubernetes allows names: lower case, digits and dashes."""
    return re.sub(r"[^a-z0-9-]", "-", problem.lower()).strip("-")[:50]


def percent_of(share: float) -> int:
    """It returns a share as KServe takes it, in whole percent; a share that is not 0 stays so."""
    return max(round(share * 100), 1) if share > 0 else 0


def location(tags: Mapping[str, str], folder: str, given: str | None) -> str:
    """It returns where a cluster finds a version.

    Args:
        tags: what is noted with the version.
        folder: where its files are, as the registry says.
        given: where somebody says that they are; `{version}` and `{model_id}` are filled in.

    Raises:
        DeclarationError: they are on this machine, and nobody said where else.
    """
    if given is not None:
        known = {"version": tags["version"], "model_id": tags["ml_assets.model_id"]}
        return re.sub(r"\{(version|model_id)\}", lambda m: known[m[1]], given)
    if not folder.startswith(REACHED):
        raise DeclarationError(
            f"Version {tags['version']} is in {folder}, which no cluster reaches. Say where its folder is "
            "from there: `--storage-uri s3://bucket/models/{model_id}`."
        )
    return folder
