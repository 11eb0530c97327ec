"""A problem: what is to be predicted, declared.

These records are the YAML under ``attributes:`` and the Python way to say the same.  They hold
words and numbers only; nothing heavy is imported, so that a code location with hundreds of
problems loads quickly.  Where a field has a default, the default is safe.
"""

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from ml_assets.errors import did_you_mean
from ml_assets.metric import METRICS
from ml_assets.problem.candidate import (
    BASELINE,
    DEFAULT_CANDIDATES,
    ENSEMBLE,
    SHORT_NAMES,
    CandidateDeclaration,
    Range,
    ShortName,
    declared_candidate,
    known_transform,
    parts_of,
)
from ml_assets.problem.dataset import (
    ColumnContract,
    Contract,
    DatasetDeclaration,
    GroupBy,
    IntegrityGate,
    SplitDeclaration,
    TimeBy,
)
from ml_assets.problem.declaration import Declaration, Mode
from ml_assets.problem.gates import (
    OF_CLASSES,
    BeatsBaselineGate,
    BeatsChampionGate,
    ClassShareGate,
    GateDeclaration,
    LatencyGate,
    MetricGate,
    known_metric,
    word_of,
)
from ml_assets.problem.monitoring import Budget, DriftRule, MonitoringDeclaration, NewDataRule
from ml_assets.problem.operation import (
    AlertsDeclaration,
    LimitsDeclaration,
    ResourcesDeclaration,
    RetrainDeclaration,
    SizeDeclaration,
)
from ml_assets.problem.parameters import Parameters, parameters
from ml_assets.problem.predictions import PredictionsDeclaration
from ml_assets.problem.promotion import PromotionDeclaration

__all__ = [
    "DEFAULT_CANDIDATES",
    "ENSEMBLE",
    "SHORT_NAMES",
    "AlertsDeclaration",
    "BeatsBaselineGate",
    "BeatsChampionGate",
    "Budget",
    "CandidateDeclaration",
    "ClassShareGate",
    "ColumnContract",
    "Contract",
    "DatasetDeclaration",
    "Declaration",
    "DriftRule",
    "GateDeclaration",
    "GroupBy",
    "IntegrityGate",
    "LatencyGate",
    "LimitsDeclaration",
    "MetricGate",
    "Mode",
    "MonitoringDeclaration",
    "NewDataRule",
    "Parameters",
    "PredictionsDeclaration",
    "Problem",
    "PromotionDeclaration",
    "Range",
    "ResourcesDeclaration",
    "RetrainDeclaration",
    "ShortName",
    "SizeDeclaration",
    "SplitDeclaration",
    "Task",
    "TimeBy",
    "parameters",
    "parts_of",
]

Task = Literal["binary", "multiclass", "regression"]
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_]{0,63}$")


class Problem(Declaration):
    """What is to be predicted, from what, by which candidates, under which gates."""

    name: str = Field(description="Name: the assets' prefix and group.", examples=["churn"])
    description: str | None = Field(None, description="What the prediction is used for.")
    owners: list[str] = Field(
        default_factory=list,
        description="Who answers for it: e-mail addresses, or `team:name`.",
        examples=[["team:growth"]],
    )
    task: Task | None = Field(
        None, description="Inferred from the target, and shown, when absent.", examples=["binary"]
    )
    dataset: DatasetDeclaration = Field(description="Where the rows come from.")
    split: SplitDeclaration = Field(
        default_factory=SplitDeclaration, description="How the rows are split."
    )
    transform: str = Field(
        "auto",
        description="How tables are prepared for every candidate: `auto` (skrub), `none`, an "
        "import path, `.model.function` returning an unfitted transformer, or a name that an "
        "installed package provides. Fitted on train "
        "only, shipped inside the candidate.",
        examples=["auto", ".model.features"],
    )
    candidates: dict[str, CandidateDeclaration] = Field(
        default_factory=dict,
        description="The contenders. `short_name: {parameters}`, or `any_name: {estimator: …, "
        "params: {…}}`. A sensible set when absent; `baseline` always takes part.",
        examples=[{"random_forest": {"n_estimators": 100}}],
    )
    class_weight: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: rows of rare classes weigh more in fitting. Costs calibration; "
        "a tuned threshold usually serves better.",
    )
    threshold: Literal["auto"] | float = Field(
        "auto",
        description="Binary tasks: the probability from which positive is predicted. auto: 0.5, "
        "or, when a class is rarer than 10 %, the best F1 on validation.",
        examples=["auto", 0.3],
    )
    select: str | None = Field(
        None,
        description="The metric that ranks candidates on validation. Default: roc_auc, "
        "balanced_accuracy or rmse, by task.",
        examples=["roc_auc"],
    )
    gates: list[GateDeclaration] = Field(
        default_factory=list,
        description="What a challenger must satisfy, beside what is always asked.",
        examples=[[{"metric": "accuracy", "min": 0.85}]],
    )
    promotion: PromotionDeclaration = Field(
        default_factory=PromotionDeclaration, description="How a challenger becomes champion."
    )
    retrain: RetrainDeclaration = Field(
        default_factory=RetrainDeclaration, description="What starts a run by itself."
    )
    limits: LimitsDeclaration = Field(
        default_factory=LimitsDeclaration,
        description="How long a run and its assets may take.",
        examples=[{"run": "6h", "candidate": "30m"}],
    )
    resources: ResourcesDeclaration = Field(
        default_factory=ResourcesDeclaration,
        description="What the pods of a run ask for, on Kubernetes.",
        examples=[{"cpu": 4, "memory": "8Gi"}],
    )
    alerts: AlertsDeclaration | None = Field(
        None,
        description="Who is told when something happens.",
        examples=[{"email": ["team@example.com"]}],
    )
    predictions: PredictionsDeclaration | None = Field(
        None,
        description="Files that are scored with the champion as they arrive.",
        examples=[{"path": "inbox/churn/*.csv", "output": "scored/churn"}],
    )
    monitoring: MonitoringDeclaration | None = Field(
        None,
        description="What is watched after deployment; `{}` for the defaults.",
        examples=[{"window": 500, "inputs": True}],
    )
    trust: list[str] = Field(
        default_factory=list,
        description="Import paths of types, beside those that ml_assets ships, that a stored "
        "candidate may hold. Loading a model executes code of these types: name only your own.",
        examples=[["my_package.features.Ratio"]],
    )
    seed: int = Field(0, description="Seed of everything random.", ge=0)

    @field_validator("transform")
    @classmethod
    def _a_transform(cls, value: str) -> str:
        return known_transform(value)

    @field_validator("candidates", mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`random_forest: {n_estimators: 100}` means `{estimator: random_forest, params: …}`."""
        if not isinstance(value, dict):
            return value
        return {str(name): declared_candidate(str(name), given) for name, given in value.items()}

    @field_validator("candidates")
    @classmethod
    def _names_are_plain(
        cls, value: dict[str, CandidateDeclaration]
    ) -> dict[str, CandidateDeclaration]:
        for name in value:
            if not _NAME.match(name):
                raise ValueError(f"`{name}` cannot name a candidate: letters, digits and _ only")
        return value

    @field_validator("name")
    @classmethod
    def _name_is_plain(cls, value: str) -> str:
        if not _NAME.match(value):
            raise ValueError(
                f"`{value}` cannot name a problem: start with a letter; letters, digits and _ only"
            )
        return value

    @field_validator("select")
    @classmethod
    def _select_is_a_metric(cls, value: str | None) -> str | None:
        return None if value is None else known_metric(value)

    @model_validator(mode="after")
    def _words_fit_the_task(self) -> "Problem":
        if self.task is not None:
            self.check_task(self.task)
        for name, declared in self.candidates.items():
            points = range(1, len(declared.points()) + 1) if declared.fan_out else ()
            taken = [f"{name}_{i}" for i in points if f"{name}_{i}" in self.candidates]
            if taken:
                raise ValueError(f"candidates: the grid of `{name}` makes a second `{taken[0]}`")
        self._ensembles_have_members()
        for name in self.resources.candidates:
            if name not in (known := self.contenders()):
                raise ValueError(
                    f"resources: candidates: `{name}` is none.{did_you_mean(name, known)}"
                )
        if isinstance(self.split.by, str) and self.split.by == "key" and self.dataset.key is None:
            raise ValueError("split: by key, but the dataset declares no `key`")
        if self.promotion.mode == "canary" and self.dataset.key is None:
            raise ValueError(
                "promotion: a canary is judged by live rows, whose labels are found by key, and the "
                "dataset declares no `key`"
            )
        watched = self.watched() is not None
        if self.retrain.automation and watched and self.retrain.on_new_data is not True:
            raise ValueError(
                "retrain: live rows are watched, so what arrives is brought in at once, and "
                "`automation: true` would go on with all of it: before `min_new_rows`, `cool_down` and "
                "`most_runs` allow a run, and also with `on_new_data: false`. Leave out `automation`, or "
                "declare `on_new_data: true`"
            )
        if isinstance(self.threshold, float) and not 0 < self.threshold < 1:
            raise ValueError(f"threshold is {self.threshold:g}; it lies between 0 and 1")
        return self

    def _ensembles_have_members(self) -> None:
        for name, declared in self.candidates.items():
            if declared.estimator != ENSEMBLE:
                continue
            known = self.members(CandidateDeclaration(estimator=ENSEMBLE))
            for member in declared.params.get("members", []):
                if member not in known:
                    hint = did_you_mean(member, known)
                    raise ValueError(f"candidates: `{name}` has no member `{member}`.{hint}")
            if not known:
                raise ValueError(
                    f"candidates: `{name}` is an ensemble of the others, and there is none beside "
                    "it. Name some."
                )

    def check_task(self, task: str) -> None:
        """It raises ValueError when a metric or a gate named here is not one of the task's."""
        named = [("select", self.select)] if self.select else []
        for gate in self.gates:
            asked = getattr(gate, "metric", None) or getattr(gate, "overfit", None)
            if asked is not None and asked != "positive_rate":
                named.append(("gates", asked))
        for where, metric in named:
            if task not in METRICS[metric][1]:
                fit = [m for m, (_, tasks) in METRICS.items() if task in tasks]
                raise ValueError(
                    f"{where}: {metric} is not for {task} tasks. For these: {', '.join(fit)}."
                )
        if self.threshold != "auto" and task != "binary":
            raise ValueError(f"threshold: is for binary tasks; this one is {task}. Take it out")
        if self.class_weight != "none" and task == "regression":
            raise ValueError("class_weight: a regression has no classes to weigh. Take it out")
        for gate in self.gates:
            if getattr(gate, "metric", None) == "positive_rate" and task != "binary":
                raise ValueError(
                    f"gates: positive_rate is not for {task} tasks: there is no positive class"
                )
            if isinstance(gate, OF_CLASSES) and task == "regression":
                raise ValueError(
                    f"gates: {word_of(gate)} is not for regression tasks: there are no classes"
                )

    def contenders(self) -> dict[str, CandidateDeclaration]:
        """It returns the candidates by name: those declared, or a default set, and the baseline."""
        chosen = dict(self.candidates) or {
            name: CandidateDeclaration(estimator=name, params=params)
            for name, params in DEFAULT_CANDIDATES.items()
        }
        for name, declared in list(chosen.items()):
            if declared.fan_out:
                chosen = _fanned_out(name, declared, chosen)
        if not any(c.estimator == "baseline" for c in chosen.values()):
            chosen = {"baseline": CandidateDeclaration(estimator="baseline"), **chosen}
        # an ensemble comes after those that it is made of
        return dict(sorted(chosen.items(), key=lambda item: item[1].estimator == ENSEMBLE))

    def members(self, declared: CandidateDeclaration) -> list[str]:
        """It returns the names of the candidates that an ensemble may be made of."""
        others = {n: c.estimator for n, c in self.contenders().items()}
        known = [n for n, estimator in others.items() if estimator not in (ENSEMBLE, BASELINE)]
        return [n for n in known if n in declared.params.get("members", known)]

    def watched(self) -> MonitoringDeclaration | None:
        """It returns what is watched of live rows: as declared, or as `retrain` needs it."""
        if self.monitoring is not None:
            return self.monitoring
        retrain = self.retrain
        asked = isinstance(retrain.on_drift, DriftRule) or isinstance(
            retrain.on_new_data, NewDataRule
        )
        return MonitoringDeclaration() if asked else None

    def champion_gate(self) -> BeatsChampionGate:
        """It returns the declared comparison with the champion, or the default one."""
        declared = [g for g in self.gates if isinstance(g, BeatsChampionGate)]
        return declared[-1] if declared else BeatsChampionGate(beats="champion")


def _fanned_out(
    name: str, declared: CandidateDeclaration, chosen: dict[str, CandidateDeclaration]
) -> dict[str, CandidateDeclaration]:
    """It returns the candidates with one for each point of a grid in the place of its search."""
    points = {}
    for number, point in enumerate(declared.points(), 1):
        params = {**declared.params, **point}
        plain = {"params": params, "search": {}, "fan_out": False}
        points[f"{name}_{number}"] = declared.model_copy(update=plain)
    kept = {n: c for n, c in chosen.items() if n != name}
    return {**kept, **points}
