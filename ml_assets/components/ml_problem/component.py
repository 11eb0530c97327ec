"""The component: a problem's YAML becomes Dagster definitions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel

from ml_assets.components.ml_problem.assets import RESOURCE, build_assets
from ml_assets.components.ml_problem.canary import build_canary
from ml_assets.components.ml_problem.decisions import build_approvals, build_decisions
from ml_assets.components.ml_problem.job import build_job, build_variants
from ml_assets.components.ml_problem.monitoring import build_monitoring
from ml_assets.components.ml_problem.predictions import build_predictions
from ml_assets.components.ml_problem.scaffolder import MLProblemScaffolder
from ml_assets.components.ml_problem.schedule import (
    build_automation,
    build_schedule,
    build_trigger,
)
from ml_assets.components.ml_problem.sensor import build_sensor
from ml_assets.problem import Problem
from ml_assets.resources.home import find_home
from ml_assets.resources.stores import open_stores


@dg.scaffold_with(MLProblemScaffolder)
@dataclass
class MLProblem(dg.Component):
    """A supervised prediction problem on a table, guarded from data file to production.

    Scaffold one with ``dg scaffold defs ml_assets.components.MLProblem churn``, or, with all that
    can be inferred from the data filled in, with ``ml-assets new churn --data churn.csv --target
    Churn``.  The smallest declaration:

    .. code-block:: yaml

        type: ml_assets.components.MLProblem
        attributes:
          name: churn
          dataset: {path: data/churn.csv, target: Churn}

    The same from Python: ``MLProblem(Problem(name="churn", dataset={"path": "data/churn.csv",
    "target": "Churn"}))``.

    Args:
        problem: the declaration.
        folder: where model.py is; relative paths like ``.model.features`` start here.
        root: where relative data paths start; the project's root by default.
    """

    problem: Problem
    folder: Path | None = None
    root: Path | None = None

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The YAML's schema is the declaration itself."""
        return Problem

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """It makes the component of one YAML document."""
        assert isinstance(attributes, Problem)
        path = Path(context.path)
        return cls(attributes, path if path.is_dir() else path.parent, context.project_root)

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """What `dg list components` and the docs tab say of it."""
        return dg.ComponentTypeSpec(
            description=cls.__doc__,
            tags=["machine-learning", "scikit-learn", "mlflow"],
            produces=["asset", "asset_check", "job", "schedule", "sensor"],
        )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """It returns the problem's assets with their checks, its jobs and sensors, and the stores."""
        root = self.root or context.project_root
        stores = open_stores(find_home(root))
        assets = build_assets(self.problem, self.folder)
        decisions = build_decisions(self.problem, self.folder)
        jobs: list[Any] = [*decisions]
        sensors: list[dg.SensorDefinition] = []
        if self.problem.promotion.mode == "canary":
            canary, due = build_canary(self.problem, self.folder, stores)
            assets.append(canary)
            jobs.append(due.job)
            sensors.append(due)
        # those of after deployment, below, are no reason for a red round.  Keys: a prefix is held
        # against every asset of every problem
        made = dg.AssetSelection.assets(*(key for asset in assets for key in asset.keys))
        job = build_job(self.problem, made)
        trigger = build_trigger(self.problem, job)
        schedule = build_schedule(self.problem, trigger)
        found = [build_sensor(self.problem, trigger, stores), build_automation(self.problem)]
        sensors += [s for s in found if s is not None]
        jobs += [job, build_variants(self.problem, made)]
        if trigger is not job:
            jobs.append(trigger)
        if self.problem.predictions is not None:
            scoring, scorer = build_predictions(self.problem, self.folder, stores)
            assets.append(scoring)
            jobs.append(scorer.job)
            sensors.append(scorer)
        if self.problem.watched() is not None:
            watching, watcher, retrainer = build_monitoring(self.problem, self.folder, stores, job)
            assets += watching
            jobs.append(watcher.job)
            sensors += [watcher, retrainer]
        if self.problem.promotion.mode == "approval":
            sensors.append(build_approvals(self.problem, decisions[-1], stores))
        if code := self._code():
            assets = [*dg.map_asset_specs(lambda s: s.merge_attributes(metadata=code), assets)]
        return dg.Definitions(
            assets=assets,
            jobs=jobs,
            sensors=sensors,
            schedules=[schedule] if schedule else [],
            resources={RESOURCE: stores},
        )

    def _code(self) -> dict[str, Any]:
        """It returns where the UI finds the team's own code; Dagster itself adds defs.yaml."""
        code = self.folder / "model.py" if self.folder else None
        if code is None or not code.is_file():
            return {}
        found = dg.LocalFileCodeReference(file_path=str(code), line_number=1, label="model.py")
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[found])}
