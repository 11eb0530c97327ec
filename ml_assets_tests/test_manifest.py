"""A manifest: what KServe is told, by the fields that its documents name."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_assets.errors import DeclarationError
from ml_assets.manifest import location, named, percent_of, service
from ml_assets_tests.test_command import MODEL, YAML, Desk, desk  # noqa: F401

# Of serving.kserve.io/v1beta1, what is used here, with the types that its API documents name.
FIELDS: dict[str, Any] = {
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str, "labels": dict, "annotations": dict},
    "spec": {
        "predictor": {
            "canaryTrafficPercent": int,
            "model": {
                "modelFormat": {"name": str},
                "protocolVersion": str,
                "storageUri": str,
            },
        }
    },
}
CANARY = "  promotion: {mode: canary, share: 0.25}\n"


def fits(given: Any, known: Any, where: str = "") -> None:
    """It makes sure that there are only fields that are known, with their types."""
    if isinstance(known, type):
        assert type(given) is known, where
        return
    assert given.keys() <= known.keys(), where
    for name, value in given.items():
        fits(value, known[name], f"{where}.{name}")


def test_a_canary_has_its_percentage_and_the_champion_none():
    champion, canary = (
        service("churn", 1, "d" * 64, "s3://b/1"),
        service("churn", 2, "e", "s3://b", 10),
    )

    for told in (champion, canary):
        fits(told, FIELDS)
        assert all(isinstance(v, str) for v in told["metadata"]["labels"].values())
    assert "canaryTrafficPercent" not in champion["spec"]["predictor"]
    assert canary["spec"]["predictor"]["canaryTrafficPercent"] == 10
    assert (
        champion["metadata"]["name"] == canary["metadata"]["name"]
    )  # two revisions of one service


def test_a_name_is_one_that_kubernetes_allows():
    assert named("Telco_Churn") == "telco-churn"
    assert named("a" * 64) == "a" * 50


@pytest.mark.parametrize(("share", "percent"), [(0.1, 10), (0.004, 1), (0.0, 0), (0.125, 12)])
def test_a_share_is_a_whole_percentage_and_not_lost(share: float, percent: int):
    assert percent_of(share) == percent


def test_what_no_cluster_reaches_is_refused_unless_somebody_says_where_it_is():
    tags = {"version": "2", "ml_assets.model_id": "m-7"}

    assert location(tags, "s3://bucket/m-7", None) == "s3://bucket/m-7"
    assert (
        location(tags, "file:///x", "pvc://models/{model_id}/v{version}") == "pvc://models/m-7/v2"
    )
    with pytest.raises(DeclarationError, match="--storage-uri"):
        location(tags, "file:///x", None)


@pytest.mark.slow
def test_the_command_writes_champion_and_canary(desk: Desk, capsys: Any):  # noqa: F811
    desk.declare(YAML.replace("    linear: {}\n", "") + CANARY)
    assert desk.type("manifest", "demo", "--storage-uri", "s3://b").status == 1  # no champion yet
    assert desk.type("run", "demo").status == 0
    assert desk.type("manifest", "demo").refused("--storage-uri")
    (alone,) = yaml.safe_load_all(
        desk.type("manifest", "demo", "--storage-uri", "s3://b/{version}").out
    )
    desk.declare(YAML + CANARY)
    assert desk.type("run", "demo").status == 0

    answer = desk.type("manifest", "demo", "--storage-uri", "s3://b/{version}")
    told = list(yaml.safe_load_all(answer.out))

    assert told[0] == alone
    assert [t["spec"]["predictor"]["model"]["storageUri"] for t in told] == ["s3://b/1", "s3://b/2"]
    assert told[1]["spec"]["predictor"]["canaryTrafficPercent"] == 25
    for one in told:
        fits(one, FIELDS)
    shown = desk.type("status", "demo")
    assert "canary    version 2 (linear), 25% of the rows, since" in shown.out
    document = desk.type("status", "demo", "--json").document
    assert (document["canary"]["version"], document["canary"]["looks"]) == (2, 0)
    assert document["last_decision"]["decision"] == "canary started"
    assert "canary started" in desk.type("history", "demo").out
    assert desk.type("approve", "demo", "2", "--why", "now").refused("not shown to be better yet")
    words = ("rollback", "demo", "--canary", "--why", "no sense")
    assert desk.type(*words, "--to", "1").refused("--to")
    withdrawn = desk.type(*words)
    assert (withdrawn.status, "is no canary any more" in withdrawn.out) == (0, True)
    assert desk.type(*words).refused("has no canary")
    assert json.loads(desk.type("status", "demo", "--json").out)["canary"] is None
    assert Path(desk.root, "problems", "demo", "model.py").read_text() == MODEL
