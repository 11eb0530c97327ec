"""A sandbox: stores in a folder of their own, for a history that is only played.

What happens in it is decided as anywhere else, and nothing of it reaches a problem's own lake,
ledger or registry.  Its registry keeps the contract of the one in MLflow without MLflow: its runs
and aliases are gone with the process.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from ml_assets.digest import tree_digest
from ml_assets.errors import ModelRefused
from ml_assets.resources.lake import Lake
from ml_assets.resources.ledger import Ledger
from ml_assets.resources.registry import DagsterRun, Registry, Version
from ml_assets.resources.stores import Stores

if TYPE_CHECKING:
    from mlflow import MlflowClient


def open_sandbox(folder: Path, name: str, lake: Lake) -> Stores:
    """It returns stores of their own in a folder, but for a lake that several may share.

    Args:
        folder: the sandbox's folder, and the root of relative data paths.
        name: whose ledger and registry they are.
        lake: tables and files, by content: what one made, another finds.
    """
    own = folder / "stores" / name
    return Stores(folder, lake, Ledger(own / "ledger"), MemoryRegistry("memory:", own / "models"))


@dataclass(frozen=True)
class MemoryRegistry(Registry):
    """A registry that one process holds in memory; only the versions' files are on disk."""

    lasting: ClassVar[bool] = False

    @property
    def client(self) -> "MlflowClient":
        """There is none: this registry speaks no MLflow.

        Raises:
            ModelRefused: always.
        """
        return _no_mlflow()

    def make_ready(self) -> None:
        """There is nothing to be made ready."""

    def experiment(self, problem: str) -> str:
        """It returns the id of a problem's experiment."""
        return problem

    def parent(self, problem: str, run: DagsterRun) -> str:
        """It returns the id of a round's run; the same for the same Dagster run."""
        return self._noted(f"{problem} {run.run_id}")

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
        """It notes that a candidate was fitted, and returns the id of its run."""
        return self._noted(uuid.uuid4().hex)

    def log_trials(
        self,
        problem: str,
        run_id: str,
        trials: Sequence[Mapping[str, Any]],
        times: tuple[float, float],
    ) -> None:
        """It keeps no trials."""

    def log_file(self, run_id: str, file: Path, name: str) -> None:
        """It keeps no files of runs."""

    def log_round(
        self, problem: str, run: DagsterRun, metrics: Mapping[str, float], tags: Mapping[str, str]
    ) -> str:
        """It returns the id of a round's run."""
        return self.parent(problem, run)

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
        """It stores a model's files, and registers them as the next version."""
        versions = self._versions(problem)
        number = len(versions) + 1
        folder = self.home / problem / str(number)
        folder.mkdir(parents=True)
        for called, data in files.items():
            (folder / called).write_bytes(data)
        digest = tree_digest(folder)
        versions[number] = Version(number, digest, folder, {**tags, "digest": digest})
        return versions[number]

    def version(self, problem: str, number: int) -> Version:
        """It returns a registered version.

        Raises:
            ModelRefused: there is no such version.
        """
        found: Version | None = self._versions(problem).get(number)
        if found is None:
            raise ModelRefused(f"The registry has no usable version {number} of {problem}.")
        return found

    def location(self, version: Version) -> str:
        """It returns where a version's files are."""
        return str(version.folder)

    def registered(self, problem: str, **tags: str) -> Version | None:
        """It returns the newest version that carries all these tags, or None."""
        there = reversed(self._versions(problem).values())
        return next((v for v in there if tags.items() <= v.tags.items()), None)

    def tag(self, problem: str, number: int, **tags: str) -> None:
        """It notes something with a version."""
        found = self.version(problem, number)
        kept = {name: value[:5000] for name, value in tags.items()}
        self._versions(problem)[number] = replace(found, tags={**found.tags, **kept})

    def point(self, problem: str, alias: str, number: int) -> None:
        """It moves an alias to a version."""
        self._opened[f"alias {problem} {alias}"] = self.version(problem, number).number

    def unpoint(self, problem: str, alias: str) -> None:
        """It takes an alias away."""
        self._opened.pop(f"alias {problem} {alias}", None)

    def pointed(self, problem: str, alias: str) -> int | None:
        """It returns the version that an alias points at, or None."""
        return self._opened.get(f"alias {problem} {alias}")

    def has_run(self, run_id: str | None) -> bool:
        """It says whether a run is known."""
        return f"run {run_id}" in self._opened

    def run_link(self, problem: str, run_id: str) -> str:
        """It returns an empty text: there is no page to look at."""
        return ""

    def version_link(self, problem: str, number: int) -> str:
        """It returns an empty text: there is no page to look at."""
        return ""

    def _noted(self, run_id: str) -> str:
        self._opened[f"run {run_id}"] = run_id
        return run_id

    def _versions(self, problem: str) -> dict[int, Version]:
        return self._opened.setdefault(f"versions {problem}", {})


def _no_mlflow() -> NoReturn:
    raise ModelRefused("A sandbox has no MLflow: what is played leaves nothing in any registry.")
