"""A registry: the tracked runs and the registered versions of every problem, in MLflow.

This is the only module that speaks MLflow.  It stands on dagster-mlflow, whose ``MlFlow`` finds
or makes the one MLflow run of a Dagster run; around it are the things that it leaves open: a
lock against the race between parallel steps, a store that no step has to create, and runs that
are closed whatever happens.  A parent run is a folder, not a process: it is closed as soon as it
exists.  A candidate's run is written in one go after the fit, so a killed step leaves none open.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote

from ml_assets.digest import tree_digest
from ml_assets.errors import ModelRefused, RegistryAway
from ml_assets.resources.mlflow_file import MlflowFile
from ml_assets.resources.mlflow_model import Flavor, signature

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ml_assets.resources.database import Database

CHAMPION, CHALLENGER, CANARY = "champion", "challenger", "canary"
# Quiet and quick, and nothing sent anywhere; set before MLflow is imported.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    # A server that is down is noticed within seconds, not minutes: decisions hold a lock.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    # Our own lines say where to look; these would come between them.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # the latter for an alias


@dataclass(frozen=True)
class DagsterRun:
    """Which Dagster run something is done for.

    Attributes:
        run_id: its id.
        job: its job's name.
    """

    run_id: str
    job: str


@dataclass(frozen=True)
class Version:
    """One registered version of a problem's model.

    Attributes:
        number: its number in the registry.
        digest: SHA-256 of its whole folder, as recorded.
        folder: where its files are on this machine.
        tags: what was noted with it.
    """

    number: int
    digest: str
    folder: Path
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Registry:
    """MLflow, as ml_assets uses it.

    Attributes:
        uri: tracking and registry URI.
        home: folder of the locks, and of SQLite's file and artifacts.
        ui: address of MLflow's pages, for links.
        database: where the locks are; files in the home where there is none.
        lasting: what it holds outlives this process.
    """

    lasting: ClassVar[bool] = True
    uri: str
    home: Path
    ui: str = "http://127.0.0.1:5000"
    database: "Database | None" = None
    _opened: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def client(self) -> "MlflowClient":
        """MLflow's client; its store is made on first use."""
        if "client" not in self._opened:
            for name, value in _SETTINGS.items():
                os.environ.setdefault(name, value)
            import mlflow

            logging.getLogger("mlflow").setLevel(logging.ERROR)
            logging.getLogger("alembic").setLevel(logging.ERROR)
            self._make_store()
            given = os.environ.get("MLFLOW_TRACKING_URI")
            mlflow.set_tracking_uri(self.uri)
            mlflow.set_registry_uri(self.uri)
            if given is None:  # MLflow sets it, and another home's registry would take it for ours
                os.environ.pop("MLFLOW_TRACKING_URI", None)
            self._opened["client"] = mlflow.MlflowClient(self.uri, self.uri)
        return self._opened["client"]

    def make_ready(self) -> None:
        """It imports what writing needs, and opens the store, ahead of whoever writes first."""
        assert self.client  # before anything of MLflow is imported: its settings are ours
        if self.uri.startswith("sqlite"):
            import mlflow.store.model_registry.sqlalchemy_store
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
        _dagster_mlflow()

    def _file(self) -> MlflowFile | None:
        """It returns MLflow's SQLite file, where it is one and there: to look needs no MLflow."""
        file = Path(self.uri.removeprefix("sqlite:///"))
        return MlflowFile(file) if self.uri.startswith("sqlite:///") and file.exists() else None

    def _follow(self) -> None:
        """It has MLflow look for files in this home, if its folder was moved or copied here."""
        file = self._file()
        if file and file.path.parent == self.home and file.artifacts() != self._artifacts():
            with self._lock("store"):
                file.follow(self._artifacts())

    def _make_store(self) -> None:
        """It makes SQLite's file aside and renames it in: a kill in the middle leaves no ruin."""
        file = Path(self.uri.removeprefix("sqlite:///"))
        if not self.uri.startswith("sqlite:///") or file.exists():
            self._follow()
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._lock("store"):
            if file.exists():
                return
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            memory = "/dev/shm"  # noqa: S108  68 migrations flush to disk each; a private folder in it
            shm = memory if os.access(memory, os.W_OK) else None
            with tempfile.TemporaryDirectory(dir=shm) as aside:
                made = Path(aside) / "store.db"
                store = SqlAlchemyStore(f"sqlite:///{made}", f"{self._artifacts()}/default")
                store.engine.dispose()
                whole = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
                shutil.copy(made, whole)
            with contextlib.closing(sqlite3.connect(whole)) as database:
                database.execute("pragma journal_mode=wal")
            handle = os.open(whole, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
            whole.replace(file)

    def _artifacts(self) -> str:
        return (self.home / "artifacts").as_uri()

    @contextlib.contextmanager
    def _lock(self, what: str) -> Iterator[None]:
        # SQLite's file is this home's own, whoever holds the other locks
        if self.database is not None and what != "store":
            with self.database.lock(f"registry/{what}"):
                yield
            return
        folder = self.home / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / hashlib.sha256(what.encode()).hexdigest()[:16], "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # the kernel lets go when a process dies
            yield

    def experiment(self, problem: str) -> str:
        """It returns the id of a problem's experiment, made on first use."""
        known = f"experiment {problem}"
        file = self._file()
        if known not in self._opened and file and (there := file.experiment(problem)):
            self._opened[known] = there
        if known not in self._opened:
            with self._lock(f"experiment {problem}"):
                found = self.client.get_experiment_by_name(problem)
                self._opened[known] = (
                    found.experiment_id
                    if found
                    else self.client.create_experiment(
                        problem,
                        artifact_location=f"{self._artifacts()}/{problem}"
                        if self.uri.startswith("sqlite")
                        else None,
                    )
                )
        return self._opened[known]

    def parent(self, problem: str, run: DagsterRun) -> str:
        """It returns the MLflow run of a Dagster run, made on first use, and already closed."""
        known = f"run {run.run_id}"
        if known not in self._opened:
            assert self.client  # MLflow's global state is to mean this store
            self.experiment(problem)
            MlFlow = _dagster_mlflow()

            context: Any = SimpleNamespace(
                log=logging.getLogger(__name__),
                dagster_run=SimpleNamespace(job_name=run.job),
                run_id=run.run_id,
                resource_config={
                    "experiment_name": problem,
                    "mlflow_tracking_uri": self.uri,
                    "env": {},
                    "extra_tags": {"ml_assets.kind": "round"},
                },
            )
            with self._lock(f"parent {run.run_id}"):
                # dagster-mlflow takes the newest run of this Dagster run, which may be a candidate's
                of_round = (
                    f"tags.dagster_run_id = '{run.run_id}' and tags.`ml_assets.kind` = 'round'"
                )
                made = self.client.search_runs([self.experiment(problem)], of_round, max_results=1)
                if made:
                    self._opened[known] = made[0].info.run_id
                    return self._opened[known]
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    opened = MlFlow(context)
                self._opened[known] = opened.active_run().info.run_id
                opened.end_run("FINISHED")
        return self._opened[known]

    def log_candidate(
        self,
        problem: str,
        run: DagsterRun,
        name: str,
        times: tuple[float, float],
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        error: str | None = None,
    ) -> str:
        """It writes a candidate's run, nested under its round's, and returns its id.

        Args:
            problem: the problem's name.
            run: the Dagster run that fitted it.
            name: the candidate's name.
            times: when fitting began and ended, in seconds since 1970.
            params: parameters, of which the first 250 characters are kept.
            metrics: values on validation.
            tags: what else to note.
            error: why it failed; its run is then FAILED.
        """
        assert self.client  # before anything of MLflow is imported: its settings are ours
        from mlflow.entities import Metric, Param, RunTag

        parent = self.parent(problem, run)
        started, ended = (int(t * 1000) for t in times)
        noted = {
            "mlflow.parentRunId": parent,
            "mlflow.runName": name,
            "ml_assets.kind": "candidate",
            "ml_assets.candidate": name,
            "dagster_run_id": run.run_id,
            **tags,
        }
        if error:
            noted["ml_assets.error"] = error[:500]
        child = self.client.create_run(
            self.experiment(problem), start_time=started, run_name=name
        ).info.run_id
        try:
            self.client.log_batch(
                child,
                metrics=[Metric(f"validation_{k}", v, ended, 0) for k, v in metrics.items()],
                params=[Param(k, str(v)[:250]) for k, v in list(params.items())[:100]],
                tags=[RunTag(k, str(v)) for k, v in noted.items()],
            )
        finally:
            self.client.set_terminated(child, "FAILED" if error else "FINISHED", end_time=ended)
        return child

    def log_trials(
        self,
        problem: str,
        run_id: str,
        trials: Sequence[Mapping[str, Any]],
        times: tuple[float, float],
    ) -> None:
        """It writes the trials of a search as runs nested under their candidate's run."""
        assert self.client  # before anything of MLflow is imported: its settings are ours
        from mlflow.entities import Metric, Param, RunTag

        began, ended = (int(t * 1000) for t in times)
        for trial in trials:
            name = f"trial {trial['number']}"
            noted = {"mlflow.parentRunId": run_id, "ml_assets.kind": "trial"}
            noted["ml_assets.state"] = trial["state"]
            if trial["error"]:
                noted["ml_assets.error"] = trial["error"]
            child = self.client.create_run(
                self.experiment(problem), start_time=began, run_name=name
            ).info.run_id
            self.client.log_batch(
                child,
                metrics=[Metric("value", trial["value"], ended, 0)]
                if trial["value"] is not None
                else [],
                params=[Param(k, str(v)[:250]) for k, v in trial["params"].items()],
                tags=[RunTag(k, str(v)) for k, v in noted.items()],
            )
            status = "FAILED" if trial["state"] == "failed" else "FINISHED"
            took = began + int(1000 * trial["seconds"])
            self.client.set_terminated(child, status, end_time=took)

    def log_file(self, run_id: str, file: Path, name: str) -> None:
        """It lays a file among the artifacts of a run, under a name."""
        with tempfile.TemporaryDirectory() as aside:
            named = Path(aside) / name
            shutil.copy(file, named)
            self.client.log_artifact(run_id, str(named))

    def log_round(
        self, problem: str, run: DagsterRun, metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> str:
        """It notes what a round came to on its MLflow run, and returns that run's id."""
        assert self.client
        from mlflow.entities import Metric, RunTag

        parent = self.parent(problem, run)
        self.client.log_batch(
            parent,
            metrics=[Metric(k, v, 0, 0) for k, v in metrics.items()],
            tags=[RunTag(k, str(v)[:5000]) for k, v in tags.items()],
        )
        return parent

    def register(
        self,
        problem: str,
        run_id: str,
        name: str,
        files: Mapping[str, bytes],
        example: tuple[Any, Any],
        requirements: list[str],
        trusted: list[str],
        tags: Mapping[str, str],
    ) -> Version:
        """It stores a model once, as an MLflow model that existing clients can load, and registers it.

        Args:
            problem: the problem's name, and so the registered model's.
            run_id: the MLflow run that the model came from.
            name: the candidate's name.
            files: the model's own files by name; `model.skops` among them.
            example: rows of features and its predictions for them, for the signature.
            requirements: pinned packages that loading needs.
            trusted: types that the file holds beside the safe ones.
            tags: what to note with the version.
        """
        assert self.client  # MLflow's global state is to mean this store
        from mlflow.exceptions import MlflowException
        from mlflow.models import Model

        info = Model.log(
            artifact_path=None,
            name=name,
            flavor=Flavor,
            run_id=run_id,
            files=files,
            signature=signature(*example),
            pip_requirements=requirements,
            trusted=trusted,
        )
        folder = self._model_folder(info.model_id)
        digest = tree_digest(folder)
        with contextlib.suppress(MlflowException):
            self.client.create_registered_model(problem)
        version = self.client.create_model_version(
            problem,
            f"models:/{info.model_id}",
            run_id=run_id,
            model_id=info.model_id,
            tags={**tags, "digest": digest, "ml_assets.model_id": info.model_id},
        )
        return Version(int(version.version), digest, folder, dict(version.tags))

    def _model_folder(self, model_id: str) -> Path:
        location = self._model_location(model_id)
        if location.startswith("file://"):
            return Path(unquote(location.removeprefix("file://")))
        from mlflow.artifacts import download_artifacts

        folder = self.home / "downloads" / model_id
        if not folder.is_dir():
            aside = folder.with_name(f".{model_id}.{uuid.uuid4().hex}")
            download_artifacts(artifact_uri=location, dst_path=str(aside))
            found = next(aside.rglob("MLmodel")).parent
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                found.replace(folder)
            except (
                OSError
            ):  # another process fetched it meanwhile; whoever loads it asks its digest
                if not folder.is_dir():
                    raise
            shutil.rmtree(aside, ignore_errors=True)
        return folder

    def version(self, problem: str, number: int) -> Version:
        """It returns a registered version.

        Raises:
            ModelRefused: the registry has no such version.
            RegistryAway: MLflow does not answer.
        """
        if (file := self._file()) and (tags := file.versions(problem).get(number)):
            with contextlib.suppress(KeyError):
                folder = self._model_folder(tags["ml_assets.model_id"])
                return Version(number, tags["digest"], folder, tags)
        from mlflow.exceptions import MlflowException

        try:
            found = self.client.get_model_version(problem, str(number))
            tags = dict(found.tags)
            folder = self._model_folder(tags["ml_assets.model_id"])
        except (MlflowException, KeyError) as error:
            self._unless_away(error)
            raise ModelRefused(
                f"The registry has no usable version {number} of {problem}: {str(error)[:200]}"
            ) from None
        return Version(number, tags["digest"], folder, tags)

    def location(self, version: Version) -> str:
        """It returns where a version's files are, as MLflow has it: a URL, or a folder."""
        return self._model_location(version.tags["ml_assets.model_id"])

    def _model_location(self, model_id: str) -> str:
        file = self._file()
        known = file.model_location(model_id) if file else None
        if file is None or known is None:
            return str(self.client.get_logged_model(model_id).artifact_location)
        before = file.artifacts()
        if file.path.parent == self.home and before and known.startswith(f"{before}/"):
            return self._artifacts() + known.removeprefix(before)  # moved: nothing was written yet
        return known

    def registered(self, problem: str, **tags: str) -> Version | None:
        """It returns the newest version that carries all these tags, or None."""
        if file := self._file():
            there = file.versions(problem)
            same = [n for n, noted in there.items() if tags.items() <= noted.items()]
            return self.version(problem, max(same)) if same else None
        wanted = " and ".join(f"tags.`{k}` = '{v}'" for k, v in tags.items())
        found = self.client.search_model_versions(
            f"name = '{problem}' and {wanted}", max_results=50
        )
        numbers = sorted((int(v.version) for v in found), reverse=True)
        return self.version(problem, numbers[0]) if numbers else None

    def tag(self, problem: str, number: int, **tags: str) -> None:
        """It notes something with a version."""
        for name, value in tags.items():
            self.client.set_model_version_tag(problem, str(number), name, value[:5000])

    def point(self, problem: str, alias: str, number: int) -> None:
        """It moves an alias to a version."""
        with self._lock(f"alias {problem}"):
            self.client.set_registered_model_alias(problem, alias, str(number))

    def unpoint(self, problem: str, alias: str) -> None:
        """It takes an alias away."""
        with self._lock(f"alias {problem}"):
            self.client.delete_registered_model_alias(problem, alias)

    def pointed(self, problem: str, alias: str) -> int | None:
        """It returns the version that an alias points at, or None.

        Raises:
            RegistryAway: MLflow does not answer.
        """
        if file := self._file():
            return file.pointed(problem, alias)
        from mlflow.exceptions import MlflowException

        try:
            return int(self.client.get_model_version_by_alias(problem, alias).version)
        except MlflowException as error:
            self._unless_away(error)
            return None

    def has_run(self, run_id: str | None) -> bool:
        """It says whether MLflow knows a run.

        Raises:
            RegistryAway: MLflow does not answer.
        """
        if run_id is None:
            return False
        if file := self._file():
            return file.has_run(run_id)
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            self._unless_away(error)
            return False
        return True

    def _unless_away(self, error: Exception) -> None:
        """It tells no answer from the answer that something is not there.

        Raises:
            RegistryAway: it was the former.
        """
        code = getattr(error, "error_code", None)  # a KeyError has none: its version is not ours
        if code is not None and code not in _ABSENT:
            raise RegistryAway(
                f"MLflow gave no answer: {str(error)[:200]} Nothing was changed. Look whether it runs, "
                "and try again."
            ) from error

    def run_link(self, problem: str, run_id: str) -> str:
        """It returns the address of a run's page."""
        return f"{self.ui}/#/experiments/{self.experiment(problem)}/runs/{run_id}"

    def version_link(self, problem: str, number: int) -> str:
        """It returns the address of a version's page."""
        return f"{self.ui}/#/models/{problem}/versions/{number}"


def _dagster_mlflow() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is beta is known
        from dagster_mlflow.resources import MlFlow
    return MlFlow
