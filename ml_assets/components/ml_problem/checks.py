"""Checks: the gates' verdicts, as Dagster shows them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from ml_assets.gates import CATALOGUE, Verdict, rows
from ml_assets.gates import challenger as challenger_gates
from ml_assets.gates import dataset as dataset_gates
from ml_assets.problem import Problem, TimeBy
from ml_assets.problem.gates import CustomGate


def spec(key: dg.AssetKey, name: str, mode: str = "enforce", about: str = "") -> dg.AssetCheckSpec:
    """It returns the declaration of a check; an enforced one blocks what comes after."""
    about = CATALOGUE.get(re.sub(r"_\d+$", "", name)) or about or CATALOGUE["metric_is_in_bounds"]
    return dg.AssetCheckSpec(name, asset=key, description=about, blocking=mode == "enforce")


def dataset_specs(key: dg.AssetKey, problem: Problem) -> list[dg.AssetCheckSpec]:
    """It returns the checks on the dataset."""
    return [spec(key, name, mode) for name, mode in dataset_gates.modes(problem).items()]


def split_specs(keys: Mapping[str, dg.AssetKey], problem: Problem) -> list[dg.AssetCheckSpec]:
    """It returns the checks on the parts of the split."""
    asked = [
        spec(keys["test"], "parts_are_disjoint"),
        spec(keys["train"], "every_class_is_present"),
    ]
    if isinstance(problem.split.by, TimeBy):
        asked.append(spec(keys["test"], "time_is_in_order"))
        asked.append(spec(keys["test"], "shares_are_as_declared", "warn"))
    return asked


def contract_schema(problem: Problem) -> dg.TableSchemaMetadataValue:
    """It returns the contract as a table's schema, which the UI draws; nothing heavy is imported."""
    columns = []
    for name, rule in problem.dataset.contract.columns.items():
        said = rule.model_dump(mode="json", exclude_defaults=True)
        columns.append(
            dg.TableColumn(
                name,
                str(said.pop("type", "any")),
                constraints=dg.TableColumnConstraints(
                    nullable=rule.missing != 0,
                    unique=rule.unique,
                    other=[f"{k}: {v}" for k, v in said.items() if k != "unique"],
                ),
            )
        )
    return dg.MetadataValue.table_schema(dg.TableSchema(columns))


def challenger_specs(key: dg.AssetKey, problem: Problem) -> list[dg.AssetCheckSpec]:
    """It returns the checks on the challenger: those always asked, and the declared ones."""
    own = {rows.name_of(g): g.custom for g in problem.gates if isinstance(g, CustomGate)}
    asked = []
    for v in challenger_gates.expected(problem):
        path = own.get(v.name) or own.get(re.sub(r"_\d+$", "", v.name))
        about = f"The problem's own gate `{path}`." if path else ""
        asked.append(spec(key, v.name, v.mode, about))
    return [spec(key, "a_candidate_is_eligible"), *asked]


def results(
    key: dg.AssetKey, verdicts: Iterable[Verdict], context: Any = None
) -> Iterator[dg.AssetCheckResult]:
    """It yields the verdicts as check results; with a context, those that were asked for."""
    for verdict in verdicts:
        check = dg.AssetCheckKey(key, verdict.name)
        if context is not None and check not in context.selected_asset_check_keys:
            continue
        yield dg.AssetCheckResult(
            passed=verdict.passed,
            asset_key=key,
            check_name=verdict.name,
            severity=dg.AssetCheckSeverity.ERROR
            if verdict.mode == "enforce"
            else dg.AssetCheckSeverity.WARN,
            description=verdict.reason,
            metadata={k: _shown(v) for k, v in verdict.evidence.items() if v is not None},
        )


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    return value if isinstance(value, (int, str)) else str(value)
