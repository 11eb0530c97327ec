"""The candidates of a round: each fitted once for its train rows, declaration and code."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_assets import __version__
from ml_assets import candidate as candidates
from ml_assets.artifact import dump
from ml_assets.candidate import Predictions
from ml_assets.digest import digest_of, file_digest
from ml_assets.errors import MLAssetsError
from ml_assets.evaluation import score, select_metric
from ml_assets.gates import Verdict
from ml_assets.problem import CandidateDeclaration
from ml_assets.resources.lake import Entry
from ml_assets.round import CARD, Made, Round
from ml_assets.round import card as cards
from ml_assets.round.split import SplitMade, current_split, part_rows
from ml_assets.tuning import Tuned, folds, tune
from ml_assets.user_code import source_digest
from ml_assets.verification import MODEL_FILE


@dataclass(frozen=True)
class CandidateMade(Made):
    """A candidate.

    Attributes:
        name: its name.
        entry: its files; None when it failed.
        card: what is recorded of it; empty when it failed.
        error: why it failed.
        page: its card on validation; None where there is none.
    """

    name: str
    entry: Entry | None
    card: dict[str, Any]
    error: str | None = None
    page: Entry | None = None


def make_candidate(round_: Round, name: str) -> CandidateMade:
    """It fits one candidate on train, unless the same fit was made before.

    A failure is recorded and returned, never raised: the other candidates go on.

    Raises:
        NotMaterialized: there is no split.
    """
    split = current_split(round_)
    problem, registry = round_.problem, round_.stores.registry
    declared = problem.contenders()[name]
    key = candidate_key(round_, declared, split)
    entry = round_.find("candidate", key)
    if entry is not None and registry.has_run(entry.facts.get("mlflow_run")):
        return _made(name, entry, True, cards.found(round_, cards.key_of_candidate(entry)))
    started = round_.clock()
    params: dict[str, Any] = {"estimator": declared.estimator, **declared.params}
    said = None
    try:
        if entry is None:
            entry, said = fit_candidate(round_, name, split)
    except Exception as error:  # whatever a team's code raises, the other candidates go on
        ours = isinstance(error, MLAssetsError)
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        round_.put("failure", key, lambda folder: _write_failure(folder, message, started))
        times = (started, round_.clock())
        tags = provenance(round_, split)
        registry.log_candidate(problem.name, round_.run, name, times, params, {}, tags, message)
        return CandidateMade([Verdict("is_fitted", False, message)], False, name, None, {}, message)
    card = entry.json(CARD)
    tags = {**provenance(round_, split), "model_digest": card["model_digest"]}
    params |= card["search"]["best"] if card["search"] else {}
    times = (started, round_.clock())
    run_id = registry.log_candidate(
        problem.name, round_.run, name, times, params, card["metrics"], tags
    )
    if entry.facts["trials"]:
        registry.log_trials(problem.name, run_id, entry.facts["trials"], times)
    entry = round_.stores.lake.amend(problem.name, "candidate", entry, mlflow_run=run_id)
    return _made(name, entry, False, _page(round_, split, entry, said))


def _page(round_: Round, split: SplitMade, entry: Entry, said: Predictions | None) -> Entry | None:
    """It returns the card of a candidate that was fitted now, laid beside its run in MLflow."""
    key = cards.key_of_candidate(entry)
    page = cards.found(round_, key)
    if page is None and said is not None:
        shown = cards.shown_on_validation(round_, split, entry, said, provenance(round_, split))
        page = cards.candidate_card(round_, shown, key)
    if page is None:  # it was fitted earlier; whoever asks for its card gets it made
        return None
    return cards.logged(round_, page, entry.facts["mlflow_run"], cards.CANDIDATE_PAGE)


def fit_candidate(round_: Round, name: str, split: SplitMade) -> tuple[Entry, Predictions]:
    """It fits a candidate and keeps it in the lake; whatever a team's code raises is raised.

    Returns:
        The candidate's files, and its predictions on validation.
    """
    declared = round_.problem.contenders()[name]
    key = candidate_key(round_, declared, split)
    write, said = _fitting(round_, name, declared, split)
    return round_.put("candidate", key, write), said


def candidate_key(round_: Round, declared: CandidateDeclaration, split: SplitMade) -> str:
    """It names everything that decides what a candidate learns."""
    problem = round_.problem
    transform = declared.transform or problem.transform
    sources = [source_digest(path, round_.folder) for path in (declared.estimator, transform)]
    learned_from = {part: split.digests[part] for part in ("train", "validation")}
    return digest_of(
        "candidate",
        candidates.FITTING,
        [declared, transform, sources],
        learned_from,
        [split.profile.features, problem.dataset.target, asdict(split.profile.usable_target())],
        [problem.class_weight, problem.threshold, problem.seed, problem.trust],
        [problem.select, problem.split] if declared.search else [],
        candidates.environment(),
    )


def provenance(round_: Round, split: SplitMade) -> dict[str, str]:
    """It returns what every run and version is tagged with: from which data, by which words."""
    return {
        "dataset_version": split.dataset.digest[:16],
        "split": split.entry.digest,
        "config_digest": digest_of(round_.problem),
        "code_version": __version__,
    }


def _fitting(
    round_: Round, name: str, declared: CandidateDeclaration, split: SplitMade
) -> tuple[Callable[[Path], dict[str, Any]], Predictions]:
    """It fits, and returns what writes the result into the lake, and what it says of validation."""
    problem, target = round_.problem, split.profile.usable_target()
    features = list(split.profile.features)
    parts = {}
    for part in ("train", "validation"):
        rows = part_rows(round_, split, part)
        parts[part] = (rows[features], rows[problem.dataset.target])
    tuned = None
    if declared.search:
        tuned = _tuned(round_, declared, split)
        declared = declared.model_copy(update={"params": {**declared.params, **tuned.params}})
    model = candidates.build(declared, problem, target.task, parts["train"][0], round_.folder)
    fitted = candidates.fit(model, parts["train"], parts["validation"], problem, target)
    stored = dump(fitted.model, tuple(problem.trust))
    said = candidates.predict(fitted.model, parts["validation"][0], target)
    facts = {
        "at": round_.clock(),
        "seconds": fitted.seconds,
        "latency_ms": candidates.latency_ms(fitted.model, parts["validation"][0]),
        "environment": candidates.environment(),
    }
    card = {
        "candidate": name,
        "estimator": declared.estimator,
        "params": {k: str(v) for k, v in declared.params.items()},
        "threshold": fitted.threshold,
        "features": features,
        "metrics": score(parts["validation"][1].to_numpy(), said, target),
        "missing": said.missing(),
        "class_shares": said.class_shares(target),
        "bytes": len(stored),
        "requirements": candidates.requirements(fitted.model),
        "search": tuned and {"how": tuned.how, "best": tuned.params, "value": tuned.value},
    }
    # times are no part of the content: the same search gives the same candidate
    facts["trials"] = [asdict(t) for t in tuned.trials] if tuned else []

    def write(folder: Path) -> dict[str, Any]:
        (folder / MODEL_FILE).write_bytes(stored)
        digest = file_digest(folder / MODEL_FILE)
        (folder / CARD).write_text(json.dumps({**card, "model_digest": digest}))
        return facts

    return write, said


def _tuned(round_: Round, declared: CandidateDeclaration, split: SplitMade) -> Tuned:
    """It searches for a candidate's parameters, going on where an interrupted search stopped."""
    problem, target = round_.problem, split.profile.usable_target()
    features, name = list(split.profile.features), problem.dataset.target
    metric = select_metric(target.task, problem.select)
    train, validation = (part_rows(round_, split, p) for p in ("train", "validation"))
    if declared.folds:
        places = folds(train, declared.folds, problem.split, problem.dataset)
        parts = [(train.iloc[one], train.iloc[other]) for one, other in places]
    else:
        parts = [(train, validation)]

    def scored(params: dict[str, Any], part: int) -> float:
        learned, held = ((rows[features], rows[name]) for rows in parts[part])
        tried = declared.model_copy(update={"params": {**declared.params, **params}})
        model = candidates.build(tried, problem, target.task, learned[0], round_.folder)
        fitted = candidates.fit(model, learned, held, problem, target)
        said = candidates.predict(fitted.model, held[0], target)
        return score(held[1].to_numpy(), said, target, metric)[metric]

    key = candidate_key(round_, declared, split)
    file = round_.stores.lake.root / problem.name / "studies" / f"{key}.jsonl"
    return tune(declared, metric, scored, len(parts), file, problem.seed)


def _write_failure(folder: Path, message: str, at: float) -> dict[str, Any]:
    (folder / CARD).write_text(json.dumps({"error": message}))
    return {"at": at}


def _made(name: str, entry: Entry, reused: bool, page: Entry | None) -> CandidateMade:
    seconds = entry.facts["seconds"]
    reason = (
        f"Same data, code and configuration as a fit of {seconds:.1f} s: not fitted again."
        if reused
        else f"Fitted in {seconds:.1f} s."
    )
    verdict = Verdict("is_fitted", True, reason)
    return CandidateMade([verdict], reused, name, entry, entry.json(CARD), page=page)
