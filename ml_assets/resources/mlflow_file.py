"""MLflow's SQLite file, looked into without MLflow: a run in which nothing changed needs no more.

Importing MLflow takes longer than everything else that such a run does.  The tables are those of
the MLflow versions that pyproject.toml admits; tests hold every answer against MLflow's own.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Where MLflow notes addresses of files, from the root of the machine.
PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
DELETED = "Deleted_Internal"  # MLflow's word for a version that it has forgotten


@dataclass(frozen=True)
class MlflowFile:
    """The file, opened for each question, and only to be read but for `follow`.

    Attributes:
        path: where it is.
    """

    path: Path

    def experiment(self, name: str) -> str | None:
        """It returns the id of an experiment, or None."""
        found = self._first(
            "select experiment_id from experiments where name = ? and lifecycle_stage = 'active'",
            name,
        )
        return str(found[0]) if found else None

    def has_run(self, run_id: str) -> bool:
        """It says whether there is such a run."""
        return self._first("select 1 from runs where run_uuid = ?", run_id) is not None

    def pointed(self, model: str, alias: str) -> int | None:
        """It returns the version that an alias of a registered model points at, or None."""
        found = self._first(
            "select a.version from registered_model_aliases a join model_versions v "
            "on v.name = a.name and v.version = a.version and v.current_stage != ? "
            "where a.name = ? and a.alias = ?",
            DELETED,
            model,
            alias,
        )
        return int(found[0]) if found else None

    def versions(self, model: str) -> dict[int, dict[str, str]]:
        """It returns the tags of each version of a registered model, by number."""
        with self._opened() as file:
            numbers = file.execute(
                "select version from model_versions where name = ? and current_stage != ?",
                (model, DELETED),
            ).fetchall()
            tags = file.execute(
                "select version, key, value from model_version_tags where name = ?", (model,)
            ).fetchall()
        found: dict[int, dict[str, str]] = {int(n): {} for (n,) in numbers}
        for number, key, value in tags:
            if int(number) in found:
                found[int(number)][key] = value
        return found

    def model_location(self, model_id: str) -> str | None:
        """It returns where the files of a logged model are, as MLflow writes it."""
        found = self._first(
            "select artifact_location from logged_models where model_id = ?", model_id
        )
        return str(found[0]) if found else None

    def artifacts(self) -> str | None:
        """It returns the URL of the folder that it takes all artifacts to be in, or None.

        The default experiment, made with the file, has the first of them.
        """
        found = self._first("select artifact_location from experiments where experiment_id = 0")
        folder, default, _ = str(found[0] if found else "").rpartition("/default")
        return folder if default else None

    def follow(self, artifacts: str) -> None:
        """It has MLflow look for artifacts where they are, after their folder was moved or copied.

        Args:
            artifacts: URL of the folder.
        """
        before = self.artifacts()
        if before is None or before == artifacts:
            return
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as file, file:
            for table, column in PLACES:
                file.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) "  # noqa: S608  ours
                    f"where substr({column}, 1, ?) = ?",
                    (artifacts, len(before) + 1, len(before) + 1, f"{before}/"),
                )

    def _first(self, question: str, *given: Any) -> Any:
        with self._opened() as file:
            return file.execute(question, given).fetchone()

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(
            sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True, timeout=30)
        ) as file:
            yield file
