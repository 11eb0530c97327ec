"""What is in deploy/, and beside it: valid by the schemas of those who read it, and its commands run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import kubernetes_validate
import pytest
import yaml
from dagster_k8s.job import (
    DagsterK8sJobConfig,
    construct_dagster_k8s_job,
    get_user_defined_k8s_config,
)
from dagster_k8s.models import k8s_snake_case_dict
from kubernetes import client

from ml_assets import definitions
from ml_assets.components.ml_problem.engine import (
    CLUSTER,
    ENGINE,
    KUBERNETES,
    MULTIPROCESS,
    OF_A_POD,
    OF_A_RAY_JOB,
    RAY,
    executor_for,
    sized,
)
from ml_assets.errors import DeclarationError
from ml_assets.resources.instance import SETTINGS
from ml_assets_tests import servers
from ml_assets_tests.conftest import problem
from ml_assets_tests.e2e.served import (
    CHECKOUT,
    Served,
    clean_environment,
    free_port,
    make_project,
    wait_for,
)
from ml_assets_tests.environments import environment

COMMANDS = Path(sys.executable).parent
COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yaml").read_text())
HELM = yaml.safe_load((CHECKOUT / "deploy" / "helm-values.yaml").read_text())
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
SIZED = {
    "cpu": 4,
    "memory": "8Gi",
    "candidates": {"linear": {"cpu": "500m"}, "random_forest": {"memory": "16Gi"}},
}
YAML = """\
type: ml_assets.components.MLProblem
attributes:
  name: demo
  dataset: {path: data.csv, target: y}
  candidates: {linear: {}, random_forest: {}, lightgbm: {}}
  resources: {cpu: 4, memory: 8Gi, candidates: {linear: {cpu: 500m}, random_forest: {memory: 16Gi}}}
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.JobDefinition:
    monkeypatch.setenv("ML_ASSETS_DEFS", str(tmp_path / "problems"))
    for name in ("ML_ASSETS_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "problems" / "demo").mkdir(parents=True)
    (tmp_path / "problems" / "demo" / "defs.yaml").write_text(YAML)
    return definitions.build(definitions.tree()).resolve_job_def("demo")


def _pod(tags: Any) -> dict[str, Any]:
    """It returns the container of the Kubernetes job that Dagster makes of tags, held against its schema."""
    launcher = HELM["runLauncher"]["config"]["k8sRunLauncher"]
    config = DagsterK8sJobConfig(
        job_image="registry.example.com/ml-assets:0.1.0",
        dagster_home="/opt/dagster/dagster_home",
        instance_config_map="dagster-instance",
        postgres_password_secret=HELM["global"]["postgresqlSecretName"],
        env_secrets=[s["name"] for s in launcher["envSecrets"]],
        # as the launcher does with what the chart hands on
        volumes=[k8s_snake_case_dict(client.V1Volume, v) for v in launcher["volumes"]],
        volume_mounts=[
            k8s_snake_case_dict(client.V1VolumeMount, v) for v in launcher["volumeMounts"]
        ],
        security_context=k8s_snake_case_dict(client.V1SecurityContext, launcher["securityContext"]),
    )
    sized = get_user_defined_k8s_config(tags)
    made = construct_dagster_k8s_job(config, ["dagster", "api", "execute_run"], "run", sized)
    document = client.ApiClient().sanitize_for_serialization(made)  # as Kubernetes reads it
    kubernetes_validate.validate(document, "1.31", strict=True)
    return document["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("step", "cpu", "memory"),
    [
        ("demo__dataset", "4", "8Gi"),
        ("demo__split", "4", "8Gi"),
        ("demo__candidate__linear", "500m", "8Gi"),
        ("demo__candidate__random_forest", "4", "16Gi"),
        ("demo__candidate__lightgbm", "4", "8Gi"),
        ("demo__production_model", "4", "8Gi"),
    ],
)
def test_a_steps_pod_has_the_size_that_is_declared(
    job: dg.JobDefinition, step: str, cpu: str, memory: str
) -> None:
    container = _pod(job.get_node_named(step).definition.tags)
    assert container["resources"]["requests"] == {"cpu": cpu, "memory": memory}
    assert container["resources"]["limits"] == {"cpu": cpu, "memory": memory}
    assert container["securityContext"]["runAsNonRoot"]


def test_the_step_that_ranks_too(job: dg.JobDefinition) -> None:
    graph = job.get_node_named("demo__evaluation").definition
    container = _pod(graph.node_named("demo__rank").definition.tags)
    assert container["resources"]["requests"] == {"cpu": "4", "memory": "8Gi"}


def test_the_runs_own_pod_is_as_large_as_the_largest_step(job: dg.JobDefinition) -> None:
    """It does all steps itself, unless they have pods. Seen to fail with the problem's own size."""
    assert _pod(job.tags)["resources"]["requests"] == {"cpu": "4", "memory": "16Gi"}


def test_nothing_is_asked_for_where_nothing_is_declared() -> None:
    from ml_assets.components.ml_problem.engine import largest, sized

    assert (sized(problem()), largest(problem())) == ({}, {})


def test_sizes_change_nothing_of_what_is_learned() -> None:
    """Law 10. Seen to fail when they stood with a candidate's parameters."""
    plain = problem(candidates={"linear": {}, "random_forest": {}})
    large = problem(candidates={"linear": {}, "random_forest": {}}, resources=SIZED)
    assert plain.contenders() == large.contenders()


@pytest.mark.parametrize(
    ("chosen", "limits", "name"),
    [
        ("", {}, "in_process"),
        ("in_process", {}, "in_process"),
        ("", {"candidate": "5m"}, "multiprocess"),
        ("", {"run": "5h"}, "in_process"),
        (MULTIPROCESS, {}, "multiprocess"),
        (KUBERNETES, {}, "k8s"),
        (RAY, {}, "ray"),
        (RAY, {"candidate": "5m"}, "ray"),
    ],
)
def test_the_engine_is_chosen_by_configuration(
    monkeypatch: pytest.MonkeyPatch, chosen: str, limits: dict[str, str], name: str
) -> None:
    monkeypatch.setenv(ENGINE, chosen)
    monkeypatch.setenv(CLUSTER, "http://head:8265")
    assert executor_for([problem(limits=limits)]).name == name


def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENGINE, "kubernets")
    with pytest.raises(DeclarationError, match="Did you mean `kubernetes`"):
        executor_for([problem()])


@pytest.mark.parametrize(
    ("chosen", "package", "said"),
    [
        (RAY, None, "needs RAY_ADDRESS: .*http://head:8265"),
        (RAY, "dagster_ray", r"pip install 'ml_assets\[ray\]'"),
        (KUBERNETES, "dagster_k8s", r"pip install 'ml_assets\[kubernetes\]'"),
    ],
)
def test_an_engine_that_lacks_something_says_what(
    monkeypatch: pytest.MonkeyPatch, chosen: str, package: str | None, said: str
) -> None:
    monkeypatch.setenv(ENGINE, chosen)
    monkeypatch.delenv(CLUSTER, raising=False)
    if package:
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DeclarationError, match=said):
        executor_for([problem()])


def test_steps_alone_are_sized_on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor's size would win over theirs, and a job that asks for no core goes to the head."""
    two = problem(
        candidates={"linear": {}, "random_forest": {}},
        resources={"candidates": {"random_forest": {"cpu": "1500m", "memory": "2Gi"}}},
    )
    assert OF_A_RAY_JOB not in sized(two, "random_forest")
    monkeypatch.setenv(ENGINE, RAY)
    monkeypatch.setenv(CLUSTER, "http://head:8265")
    assert sized(two, "linear") == {OF_A_RAY_JOB: {"num_cpus": 1.0}}
    assert sized(two, "random_forest")[OF_A_RAY_JOB] == {"num_cpus": 1.5, "memory": 2 * 1024**3}
    assert OF_A_POD in sized(two, "random_forest")


def test_what_a_job_on_ray_is_told_has_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Ray shows to whoever asks what its jobs were told."""
    monkeypatch.setenv(ENGINE, RAY)
    monkeypatch.setenv(CLUSTER, "http://head:8265")
    monkeypatch.setenv("ML_ASSETS_ROOT", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://somebody:secret@mlflow.example.com")
    monkeypatch.setenv(
        "ML_ASSETS_DATABASE_URL", "postgresql+psycopg2://somebody:secret@db.example.com/ml"
    )
    monkeypatch.setenv("ML_ASSETS_LAKE", "s3://bucket/lake")
    told = repr(executor_for([problem()]).config_schema.resolve_config({}).value)
    assert "ML_ASSETS_DATABASE_AT=db.example.com/ml" in told
    assert "ML_ASSETS_LAKE=s3://bucket/lake" in told
    assert "MLFLOW_TRACKING_URI=https://mlflow.example.com" in told
    assert f"ML_ASSETS_ROOT={tmp_path}" in told
    assert "secret" not in told and "somebody" not in told


# ------------------------------------------------------------------------ compose, Dockerfile


def test_compose_is_valid_by_its_schema() -> None:
    words = [str(COMMANDS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*words, "docker-compose.yaml"], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_shows_pages_on_loopback_alone_and_holds_no_password() -> None:
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        assert re.search(r":[\w.-]*\d", service["image"].rpartition("/")[2]), service["image"]
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "SECRET" in key:
                assert re.fullmatch(r"\$\{\w+:\?\}", value), f"{name}: {key}"
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                known = COMPOSE["services"][other]
                assert "healthcheck" in known or known["image"] == "ml-assets:0.1.0"


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    """The rules of hadolint that matter here; the program itself is not on PyPI."""
    words = [line.split(maxsplit=1) for line in DOCKERFILE if line and line[0] not in "# "]
    bases = [rest for word, rest in words if word == "FROM"]
    assert all(re.match(r"python:\d+\.\d+\.\d+-slim-\w+( AS \w+)?$", base) for base in bases)
    after = words[max(i for i, (word, _) in enumerate(words) if word == "FROM") :]
    kinds = [word for word, _ in after]
    assert kinds.index("USER") < kinds.index("CMD") and "HEALTHCHECK" in kinds
    assert dict(after)["USER"] not in ("root", "0")
    assert not {"ADD", "ARG"} & {word for word, _ in words}
    for _, rest in (w for w in words if w[0] == "RUN"):
        assert "--no-install-recommends" in rest or "apt-get" not in rest
        assert "--no-cache-dir" in rest or "pip install" not in rest
    for _, rest in (w for w in words if w[0] == "COPY" and "--from" not in w[1]):
        *sources, _ = [part for part in rest.split() if not part.startswith("--")]
        assert all((CHECKOUT / source).exists() for source in sources), rest


def _known(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


WORD, NUMBER, YES_OR_NO, LIST = ({"type": t} for t in ("string", "integer", "boolean", "array"))
OBJECT = {"type": "object"}
# What Dagster's chart knows of what is used here, and of what kind it is. Written down from its schema
# (dagster-io/dagster, helm/dagster/schema, 1.12 and 1.13), which is not part of this repository.
CHART = _known(
    **{
        "dagster-user-deployments": _known(
            enabled=YES_OR_NO,
            deployments={
                "type": "array",
                "items": _known(
                    name=WORD,
                    image=_known(
                        repository=WORD,
                        tag=WORD,
                        pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
                    ),
                    dagsterApiGrpcArgs={"type": "array", "items": WORD},
                    port=NUMBER,
                    env=LIST,
                    envSecrets=LIST,
                    volumes=LIST,
                    volumeMounts=LIST,
                    resources=OBJECT,
                    securityContext=OBJECT,
                ),
            },
        ),
        "global": _known(postgresqlSecretName=WORD),
    },
    dagsterWebserver=_known(service=_known(type=WORD, port=NUMBER), enableReadOnly=YES_OR_NO),
    runLauncher=_known(
        type={"enum": ["K8sRunLauncher"]},
        config=_known(
            k8sRunLauncher=_known(
                envSecrets=LIST,
                volumes=LIST,
                volumeMounts=LIST,
                securityContext=OBJECT,
                failPodOnRunFailure=YES_OR_NO,
            )
        ),
    ),
    dagsterDaemon=_known(
        enabled=YES_OR_NO,
        runCoordinator=_known(enabled=YES_OR_NO, type={"enum": ["QueuedRunCoordinator"]}),
        runMonitoring=_known(
            enabled=YES_OR_NO,
            startTimeoutSeconds=NUMBER,
            cancelTimeoutSeconds=NUMBER,
            maxResumeRunAttempts=NUMBER,
            pollIntervalSeconds=NUMBER,
        ),
        runRetries=_known(enabled=YES_OR_NO, maxRetries=NUMBER, retryOnAssetOrOpFailure=YES_OR_NO),
    ),
    concurrency=_known(
        enabled=YES_OR_NO,
        pools=_known(defaultLimit=NUMBER, granularity={"enum": ["run", "op"]}),
        runs=_known(maxConcurrentRuns=NUMBER),
    ),
    postgresql=_known(
        enabled=YES_OR_NO,
        postgresqlHost=WORD,
        postgresqlUsername=WORD,
        postgresqlDatabase=WORD,
        service=_known(port=NUMBER),
    ),
    generatePostgresqlPasswordSecret=YES_OR_NO,
)


def test_the_chart_knows_every_helm_value() -> None:
    """A chart passes over what it does not know: a slip would be no limit, and no error."""
    jsonschema.validate(HELM, CHART)
    with pytest.raises(jsonschema.ValidationError, match="defaultLimits"):
        jsonschema.validate({"concurrency": {"pools": {"defaultLimits": 1}}}, CHART)


def test_limits_and_retries_on_kubernetes_are_those_of_one_machine(tmp_path: Path) -> None:
    """As the chart hands them on. Seen to fail: limits of the queue's own made Dagster refuse the pools."""

    def snake(given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {
            re.sub("[A-Z]", lambda m: f"_{m[0].lower()}", k): snake(v) for k, v in given.items()
        }

    daemon, limits = HELM["dagsterDaemon"], snake(HELM["concurrency"])
    assert limits.pop("enabled")
    queue = daemon["runCoordinator"].get("config", {}).get("queuedRunCoordinator", {})
    told = {
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": daemon["runCoordinator"]["type"],
            "config": snake(queue),
        },
        "concurrency": limits,
        "run_retries": snake(daemon["runRetries"]),
        "run_monitoring": snake(daemon["runMonitoring"]),
    }
    found = []
    for name, settings in (("chart", yaml.safe_dump(told)), ("here", SETTINGS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dagster.yaml").write_text(settings)
        with dg.DagsterInstance.from_config(str(tmp_path / name)) as instance:
            retries = (instance.run_retries_enabled, instance.run_retries_max_retries)
            failures = instance.run_retries_retry_on_asset_or_op_failure
            pools = instance.get_concurrency_config().pool_config
            most = instance.get_concurrency_config().run_queue_config.max_concurrent_runs
            found.append((retries, failures, pools, most, instance.run_monitoring_enabled))
    assert found[0] == found[1]


def test_helm_values_choose_what_the_chart_knows() -> None:
    launcher = HELM["runLauncher"]
    assert launcher["type"] == "K8sRunLauncher"
    assert HELM["dagsterWebserver"]["service"]["type"] == "ClusterIP"
    (code,) = HELM["dagster-user-deployments"]["deployments"]
    assert code["dagsterApiGrpcArgs"] == ["--module-name", "ml_assets.definitions"]
    assert not re.search(
        r"(?i)password\s*[:=]\s*\S", (CHECKOUT / "deploy/helm-values.yaml").read_text()
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """It installs what the image does, of what it copies, and returns where its commands are.

    Seen to fail: the tests' own environment had boto3, and the image, whose MLflow needs it, had not.
    """
    build, made = tmp_path / "build", tmp_path / "image"
    build.mkdir()
    second = next(i for i, w in enumerate(DOCKERFILE) if w.startswith("FROM") and " AS " not in w)
    first = [line.split() for line in DOCKERFILE[:second]]
    for _, *sources, target in (words for words in first if words and words[0] == "COPY"):
        for source in sources:
            if (CHECKOUT / source).is_dir():
                unwanted = shutil.ignore_patterns("__pycache__")
                shutil.copytree(CHECKOUT / source, build / target, ignore=unwanted)
            else:
                shutil.copy(CHECKOUT / source, build / target)
    [package] = re.findall(r'"(\.\[.+?\])"', "\n".join(DOCKERFILE))
    return environment(made, package, of=build)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_processes_of_compose_run_as_they_are_named(tmp_path: Path, image: Path) -> None:
    """Without containers: the commands of compose and image, healthy one after another, and a run.

    With what the image installs, and the models where compose has them.
    """
    root = make_project(tmp_path / "project", "breast_cancer")
    (root / "state" / "dagster").mkdir(parents=True)
    settings = (CHECKOUT / "deploy" / "dagster.yaml").read_text()
    (root / "state" / "dagster" / "dagster.yaml").write_text(settings)
    code, web, mlflow = free_port(), free_port(), free_port()
    workspace = yaml.safe_load((CHECKOUT / "deploy" / "workspace.yaml").read_text())
    workspace["load_from"][0]["grpc_server"] |= {"host": "127.0.0.1", "port": code}
    (root / "deployed.yaml").write_text(yaml.safe_dump(workspace))
    of_image = yaml.safe_load(next(x for x in DOCKERFILE if x.startswith("CMD")).partition(" ")[2])
    services, ui = COMPOSE["services"], f"http://127.0.0.1:{web}"

    def here(words: list[str]) -> list[str]:
        moved = {"4000": code, "3000": web, "5000": mlflow, "0.0.0.0": "127.0.0.1"}
        moved["/project/deploy/workspace.yaml"] = root / "deployed.yaml"
        return [str(image / words[0]), *(str(moved.get(w, w)) for w in words[1:])]

    def healthy(*words: str) -> Callable[[], bool]:
        return lambda: (
            not subprocess.run(
                here(list(words)), cwd=root, env=told, capture_output=True
            ).returncode
        )

    with servers.postgres() as postgres, servers.object_store() as objects:
        told = clean_environment(
            PATH=f"{image}:/usr/bin:/bin",
            PYTHONDONTWRITEBYTECODE="",  # as the image, where it is compiled: once
            DAGSTER_POSTGRES_URL=postgres.url("dagster"),
            MLFLOW_TRACKING_URI=f"http://127.0.0.1:{mlflow}",
            ML_ASSETS_HOME=str(root / "state"),
            DAGSTER_HOME=str(root / "state" / "dagster"),
        )
        of_mlflow = {
            **objects.environment,
            "MLFLOW_BACKEND_STORE_URI": postgres.url("mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": objects.bucket("mlflow") + "/",
        }
        assert set(services["mlflow"]["environment"]) <= set(of_mlflow)
        started: list[subprocess.Popen[bytes]] = []
        try:
            for words, more, name, ready in (
                (
                    services["mlflow"]["command"],
                    of_mlflow,
                    "MLflow",
                    lambda: servers.answers(f"http://127.0.0.1:{mlflow}/health"),
                ),
                (
                    of_image,
                    {},
                    "the code server",
                    healthy("dagster", "api", "grpc-health-check", "-p", "4000"),
                ),
                (
                    services["webserver"]["command"],
                    {},
                    "the webserver",
                    lambda: servers.answers(f"{ui}/server_info"),
                ),
                (
                    services["daemon"]["command"],
                    {},
                    "the daemon",
                    healthy("dagster-daemon", "liveness-check"),
                ),
            ):
                process = subprocess.Popen(
                    here(words),
                    cwd=root,
                    env={**told, **more},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                started.append(process)
                wait_for(name, ready, 120)
                assert process.poll() is None
            shown = Served(root, ui, "", started[2], root / "log")
            assert shown.ended(shown.launch("breast_cancer"))["status"] == "SUCCESS"
            asked = subprocess.run(
                here(["ml-assets", "status", "breast_cancer", "--json"]),
                cwd=root,
                env=told,
                capture_output=True,
                check=True,
            )
            assert json.loads(asked.stdout)["champion"]["version"] == 1
        finally:
            for process in reversed(started):
                process.terminate()
            for process in reversed(started):
                try:
                    process.wait(timeout=20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
