"""Assets: one per noun, in the order of a problem's life.

Nothing is decided here.  Each asset asks the round to bring its noun up to date, and shows what
came back.  Heavy libraries are imported when an asset runs, never when definitions load.
"""

import getpass
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

import ml_assets
from ml_assets.components.ml_problem import checks
from ml_assets.components.ml_problem.engine import share_a_process, sized
from ml_assets.components.ml_problem.parameters import build_parameters, given_to, resource_of
from ml_assets.components.ml_problem.schedule import following
from ml_assets.components.ml_problem.step import (
    MOST_RETRIES,
    careful,
    stepping,
)
from ml_assets.digest import digest_of
from ml_assets.gates import Verdict, failures
from ml_assets.problem import ENSEMBLE, CandidateDeclaration, Problem, parts_of
from ml_assets.resources.registry import DagsterRun
from ml_assets.resources.stores import Stores
from ml_assets.user_code import code_digest, source_digest

if TYPE_CHECKING:
    from ml_assets.round import Round

PARTS = ("train", "validation", "test")
RESOURCE = "ml_assets"
Given = dict[str, dg.ResourceDefinition]  # a problem's parameters, by their resource's name


def build_assets(problem: Problem, folder: Path | None) -> list[dg.AssetsDefinition]:
    """It returns the assets of a problem.

    Its parameters are theirs, and not the code location's: else the schema of every job held those
    of every problem, and 500 problems took five minutes to load.
    """
    given = {resource_of(problem): build_parameters(problem)}
    return [
        _dataset(problem, folder, given),
        _split(problem, folder, given),
        *(
            (_ensemble if c.estimator == ENSEMBLE else _candidate)(problem, folder, given, n, c)
            for n, c in problem.contenders().items()
        ),
        _evaluation(problem, folder, given),
        _challenger(problem, folder, given),
        _production_model(problem, folder, given),
    ]


def key_of(problem: Problem, *path: str) -> dg.AssetKey:
    """It returns the key of one of a problem's assets."""
    return dg.AssetKey([problem.name, *path])


def round_of(context: Any, problem: Problem, folder: Path | None, stores: Stores) -> "Round":
    """It returns the round that a step belongs to."""
    from ml_assets.round import Round

    run = context.run
    return Round(problem, folder, stores, DagsterRun(run.run_id, run.job_name), actor_of(run.tags))


def parametrized(context: Any, problem: Problem, folder: Path | None) -> "Round":
    """It returns the round of an asset's step, with the parameters of its run."""
    from ml_assets.round.parameters import with_parameters

    given = given_to(context, problem)
    stores: Stores = getattr(context.resources, RESOURCE)
    together = _together(context, problem)
    again = context.retry_number < MOST_RETRIES
    round_ = round_of(context, problem, folder, stores)
    round_ = replace(round_, together=together, again=again)
    return with_parameters(round_, given)


def _together(context: Any, problem: Problem) -> tuple[str, ...]:
    """It returns the candidates that a run makes in the process of this step."""
    if not share_a_process(context.job_def) or problem.limits.candidate is not None:
        return ()  # each has a time of its own, where that is limited
    chosen = context.run.asset_selection or ()  # nothing chosen is everything
    names = problem.contenders()
    return tuple(n for n in names if not chosen or key_of(problem, "candidate", n) in chosen)


def actor_of(tags: Mapping[str, str]) -> str:
    """It returns who acts: a run's tag, ML_ASSETS_ACTOR, or the user of the machine."""
    return tags.get("ml_assets/actor") or os.environ.get("ML_ASSETS_ACTOR") or _user()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())


def common(problem: Problem, kinds: set[str], follows: bool = True) -> dict[str, Any]:
    """It returns what all assets of a problem are declared with.

    Args:
        problem: the problem.
        kinds: what Dagster shows on the asset.
        follows: it is brought up to date by itself, where automation is declared.
    """
    return {
        "group_name": problem.name,
        "owners": problem.owners or None,
        "kinds": kinds,
        "tags": {"ml_assets/problem": problem.name},
        "automation_condition": following(problem) if follows else None,
    }


def _code(*parts: Any) -> str:
    return digest_of(ml_assets.__version__, *parts)


def _dataset(problem: Problem, folder: Path | None, given: Given) -> dg.AssetsDefinition:
    key, quarantine = key_of(problem, "dataset"), key_of(problem, "quarantine")
    declared, landing = problem.dataset, problem.dataset.is_landing
    upstream = declared.asset and dg.AssetKey(declared.asset.split("/"))
    specs = [
        dg.AssetSpec(
            key,
            deps=[upstream] if upstream else None,
            description=f"The accepted rows of `{declared.source}`, in versions.\n\n"
            "Gates ask them before anything is learned; rows that fail one never become a version. "
            "**Red** means that the version before stays: the check says which rule, which rows, and "
            "what to do. The metadata show what came now, the columns, and the classes.",
            code_version=_code(declared, source_digest(declared.loader or "", folder)),
            metadata={"contract": checks.contract_schema(problem)},
            skippable=True,
            **common(problem, {"pandas", "deltalake"}),
        )
    ]
    specs += [_quarantine(problem, quarantine)] if landing else []

    @dg.multi_asset(
        name=f"{problem.name}__dataset",
        specs=specs,
        ins={"given": dg.AssetIn(upstream)} if upstream else None,
        can_subset=landing,  # whoever asks for one of the two need not name the other
        required_resource_keys={RESOURCE},
        resource_defs=given,
        check_specs=checks.dataset_specs(key, problem)
        + ([checks.spec(quarantine, "every_batch_is_accepted", "warn")] if landing else []),
        op_tags=sized(problem),
        **stepping(problem),
    )
    @careful(problem, "dataset")
    def dataset(context: dg.AssetExecutionContext, **given: Any) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.round.dataset import make_dataset, make_quarantine

        round_ = parametrized(context, problem, folder)
        made = make_dataset(round_, given.get("given"))
        context.log.info(_said("dataset", made.reused, made.verdicts))
        if quarantine in context.selected_asset_keys:
            kept = make_quarantine(round_, made.arrived)
            context.log.info(f"quarantine: {kept.verdict.reason}")
            yield dg.MaterializeResult(quarantine, metadata=metadata.of_quarantine(kept))
            yield from checks.results(quarantine, [kept.verdict], context)
        if key in context.selected_asset_keys and not failures(made.verdicts):
            yield dg.MaterializeResult(
                key,
                data_version=dg.DataVersion(made.entry.digest[:16]),
                metadata=metadata.of_dataset(made),
            )
        yield from checks.results(key, made.verdicts, context)

    return dataset


def _quarantine(problem: Problem, key: dg.AssetKey) -> dg.AssetSpec:
    told = (
        "Batches that were refused, with the reason. They are kept, and stop no others.\n\n"
        "Put a corrected file in the place of one, or let it in as it is: "
        f"`ml-assets release {problem.name} FILE --why TEXT`."
    )
    return dg.AssetSpec(
        key,
        description=told,
        code_version=_code(problem.dataset),
        skippable=True,
        **common(problem, {"csv"}),
    )


def _split(problem: Problem, folder: Path | None, given: Given) -> dg.AssetsDefinition:
    keys = {part: key_of(problem, "split", part) for part in PARTS}
    purpose = {
        "train": "The rows that candidates learn from.",
        "validation": "The rows by which a candidate is chosen; thresholds are tuned on them.",
        "test": "The rows that judge: read for the challenger and the champion only.",
    }
    version = _code(problem.split, problem.dataset.key, problem.dataset.target)

    @dg.multi_asset(
        name=f"{problem.name}__split",
        specs=[
            dg.AssetSpec(
                keys[part],
                deps=[key_of(problem, "dataset")],
                description=purpose[part] + " A row's part follows from what it says, so no row "
                "changes sides when others arrive before or after it.",
                code_version=version,
                skippable=True,
                **common(problem, {"parquet"}),
            )
            for part in PARTS
        ],
        required_resource_keys={RESOURCE},
        resource_defs=given,
        check_specs=checks.split_specs(keys, problem),
        op_tags=sized(problem),
        **stepping(problem),
    )
    @careful(problem, "split")
    def split(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.round.split import make_split

        round_ = parametrized(context, problem, folder)
        made = make_split(round_)
        context.log.info(_said("split", made.reused, made.verdicts))
        if not failures(made.verdicts):
            for part in PARTS:
                yield dg.MaterializeResult(
                    asset_key=keys[part],
                    data_version=dg.DataVersion(made.digests[part][:16]),
                    metadata=metadata.of_part(made, part),
                )
        for verdict in made.verdicts:
            part = "train" if verdict.name == "every_class_is_present" else "test"
            yield from checks.results(keys[part], [verdict])

    return split


def _candidate(
    problem: Problem, folder: Path | None, given: Given, name: str, declared: CandidateDeclaration
) -> dg.AssetsDefinition:
    key = key_of(problem, "candidate", name)
    transform = declared.transform or problem.transform
    sources = [code_digest(path, folder) for path in (declared.estimator, transform)]
    sources += [p.pin for p in parts_of(declared, transform)]

    @dg.asset(
        key=key,
        deps=[key_of(problem, "split", "train"), key_of(problem, "split", "validation")],
        description=f"`{declared.estimator}`, fitted on train together with its transform "
        f"(`{transform}`).\n\nIts metrics here are of validation; test is not read. A failed fit is "
        "red here and does not stop the others. **Reused** means that data, parameters, code and "
        "libraries are those of before. `card` is its page: curves, slices, worst rows.",
        code_version=_code(
            declared, transform, sources, problem.class_weight, problem.threshold, problem.seed
        ),
        output_required=False,
        required_resource_keys={RESOURCE},
        resource_defs=given,
        check_specs=[dg.AssetCheckSpec("is_fitted", asset=key, description="It was fitted.")],
        **common(problem, {"scikitlearn", "mlflow"}),
        op_tags=sized(problem, name),
        **stepping(problem),
    )
    @careful(problem, "candidate")
    def candidate(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.round.candidate import make_candidate

        round_ = parametrized(context, problem, folder)
        if name not in round_.problem.contenders():
            left = Verdict("is_fitted", True, "It does not take part in this run.")
            yield from checks.results(key, [left])
            return
        made = make_candidate(round_, name)
        if made.entry is None:
            context.log.error(f"candidate {name} failed: {made.error}")
        else:
            context.log.info(_said(f"candidate {name}", made.reused, made.verdicts))
            yield dg.MaterializeResult(
                data_version=dg.DataVersion(made.entry.digest[:16]),
                metadata=metadata.of_candidate(made, problem.name, round_.stores.registry),
            )
        yield from checks.results(key, made.verdicts)

    return candidate


def _ensemble(
    problem: Problem, folder: Path | None, given: Given, name: str, declared: CandidateDeclaration
) -> dg.AssetsDefinition:
    key = key_of(problem, "candidate", name)
    # A graph, as the evaluation is: it runs when some of its members gave nothing. It cannot come
    # after `split/train`, whose blocking checks Dagster does not take in such a list of inputs;
    # its members do.
    after = {f"member_{n}": key_of(problem, "candidate", n) for n in problem.members(declared)} | {
        "validation": key_of(problem, "split", "validation")
    }

    @dg.op(
        name=f"{problem.name}__join__{name}",
        ins={"after": dg.In(dg.Nothing)},
        out={
            "result": dg.Out(dg.Nothing, is_required=False),
            "is_fitted": dg.Out(dg.Nothing, is_required=False),
        },
        required_resource_keys={RESOURCE, resource_of(problem)},
        code_version=_code(declared, sorted(after), problem.select, problem.threshold),
        tags=sized(problem, name),
        **stepping(problem),
    )
    @careful(problem, "candidate")
    def joined(context: dg.OpExecutionContext) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.round.candidate import make_candidate

        round_ = parametrized(context, problem, folder)
        if name not in round_.problem.contenders():
            left = Verdict("is_fitted", True, "It does not take part in this run.")
            yield from checks.results(key, [left])
            return
        made = make_candidate(round_, name)
        if made.entry is None:
            context.log.error(f"candidate {name} failed: {made.error}")
        else:
            context.log.info(_said(f"candidate {name}", made.reused, made.verdicts))
            yield dg.Output(
                None,
                "result",
                metadata=metadata.of_candidate(made, problem.name, round_.stores.registry),
                data_version=dg.DataVersion(made.entry.digest[:16]),
            )
        yield from checks.results(key, made.verdicts)

    @dg.graph_asset(
        key=key,
        description="The best few of the other candidates by `select` on validation, averaged. "
        "They are not fitted again; those that failed are left out.",
        ins={n: dg.AssetIn(k, dagster_type=dg.Nothing) for n, k in after.items()},
        check_specs=[dg.AssetCheckSpec("is_fitted", asset=key, description="It was fitted.")],
        resource_defs=given,
        **common(problem, {"scikitlearn", "mlflow"}),
    )
    def ensemble(**made: Any) -> Any:
        result, is_fitted = joined(list(made.values()))
        return {"result": result, f"{'__'.join(key.path)}_is_fitted": is_fitted}

    return ensemble


def _evaluation(problem: Problem, folder: Path | None, given: Given) -> dg.AssetsDefinition:
    # A graph, because its step takes all candidates as one input: it then runs when some of them
    # gave nothing, where an asset with one input per candidate would be skipped.
    after = {f"candidate_{n}": key_of(problem, "candidate", n) for n in problem.contenders()} | {
        "validation": key_of(problem, "split", "validation")
    }

    @dg.op(
        name=f"{problem.name}__rank",
        ins={"after": dg.In(dg.Nothing)},
        out=dg.Out(dg.Nothing),
        required_resource_keys={RESOURCE, resource_of(problem)},
        code_version=_code(problem.select, sorted(after), problem.gates),
        tags=sized(problem),
        **stepping(problem),
    )
    @careful(problem, "evaluation")
    def rank(context: dg.OpExecutionContext) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.round.evaluation import make_evaluation

        made = make_evaluation(parametrized(context, problem, folder))
        context.log.info(_said("evaluation", made.reused, made.verdicts))
        yield dg.Output(
            None,
            metadata=metadata.of_evaluation(made),
            data_version=dg.DataVersion(made.entry.digest[:16]),
        )

    shared = common(problem, {"scikitlearn"})

    @dg.graph_asset(
        key=key_of(problem, "evaluation"),
        description="The leaderboard: every candidate's metrics on validation, best first; the "
        "winner is scored on test next. Test is not read here. A candidate that failed stands at "
        "the end, with its error.",
        ins={n: dg.AssetIn(key, dagster_type=dg.Nothing) for n, key in after.items()},
        resource_defs=given,
        **shared,
    )
    def evaluation(**made: Any) -> Any:
        return rank(list(made.values()))

    return evaluation


def _challenger(problem: Problem, folder: Path | None, given: Given) -> dg.AssetsDefinition:
    key = key_of(problem, "challenger")

    @dg.asset(
        key=key,
        deps=[key_of(problem, "evaluation"), key_of(problem, "split", "test")],
        description="The leader of this round, scored once on test, asked by every gate, and "
        "registered as a version in MLflow.\n\n**A red check** means unfit: it cannot become champion, "
        "whoever starts the next run. The alias `challenger` moves to it only if the gates hold.",
        code_version=_code(problem.gates, problem.select),
        output_required=False,
        required_resource_keys={RESOURCE},
        resource_defs=given,
        check_specs=checks.challenger_specs(key, problem),
        **common(problem, {"scikitlearn", "mlflow"}),
        op_tags=sized(problem),
        **stepping(problem),
    )
    @careful(problem, "challenger")
    def challenger(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.round.challenger import make_challenger
        from ml_assets.round.evaluation import make_evaluation

        round_ = parametrized(context, problem, folder)
        eligible = make_evaluation(round_).verdicts
        if failures(eligible):
            yield from checks.results(key, eligible)
            return
        made = make_challenger(round_)
        context.log.info(_said("challenger", made.reused, made.verdicts))
        yield dg.MaterializeResult(
            data_version=dg.DataVersion(made.model_digest[:16]),
            metadata=metadata.of_challenger(made, problem.name, round_.stores.registry),
        )
        yield from checks.results(key, [*eligible, *made.verdicts])

    return challenger


def _production_model(problem: Problem, folder: Path | None, given: Given) -> dg.AssetsDefinition:
    key = key_of(problem, "production_model")

    @dg.asset(
        key=key,
        deps=[key_of(problem, "challenger")],
        description="The champion. A materialization means that it changed.\n\nEvery gate is asked "
        "again here, whoever starts it; then champion and challenger are compared on the same rows "
        "of test. **Held** (green, not materialized, `beats_the_champion` warns) means fit but not "
        f"better: production stays as it is. Back to the one before: the job "
        f"`{problem.name}_rollback`.",
        code_version=_code(problem.gates, problem.promotion),
        output_required=False,
        required_resource_keys={RESOURCE},
        resource_defs=given,
        check_specs=[
            dg.AssetCheckSpec(
                "every_gate_holds",
                asset=key,
                description="All gates on dataset, split and challenger, asked again.",
                blocking=True,
            ),
            checks.spec(key, "beats_the_champion", "warn"),
        ],
        **common(problem, {"mlflow"}),
        op_tags=sized(problem),
        **stepping(problem),
    )
    @careful(problem, "production_model")
    def production_model(context: dg.AssetExecutionContext) -> Iterator[Any]:
        from ml_assets.components.ml_problem import metadata
        from ml_assets.promotion import Promote
        from ml_assets.round.production import make_production

        round_ = parametrized(context, problem, folder)
        made = make_production(round_)
        failed = failures(made.verdicts)
        reason = " ".join(f"{v.name}: {v.reason}" for v in failed)
        asked = [v for v in made.verdicts if v.name != "beats_the_champion"]
        everything = Verdict(
            "every_gate_holds", not failed, reason or f"{len(asked)} gates were asked; all hold."
        )
        if made.decision is not None:
            context.log.info(f"{type(made.decision).__name__}: {made.decision.reason}")
        if isinstance(made.decision, Promote):
            yield dg.MaterializeResult(
                data_version=dg.DataVersion(made.challenger.model_digest[:16]),
                metadata=metadata.of_production(made, problem.name, round_.stores.registry),
            )
        yield from checks.results(key, [everything])
        compared = [v for v in made.verdicts if v.name == "beats_the_champion"]
        if not compared:
            compared = [
                Verdict("beats_the_champion", False, "Not asked: a gate failed.", {}, "warn")
            ]
        yield from checks.results(key, compared)

    return production_model


def _said(what: str, reused: bool, verdicts: list[Verdict]) -> str:
    done = "nothing has changed, reused" if reused else "made"
    return "\n".join(
        [
            f"{what}: {done}",
            *(f"  {'ok' if v.passed else 'FAILED'} {v.name}: {v.reason}" for v in verdicts),
        ]
    )
