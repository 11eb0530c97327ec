"""The candidates of a round: each fitted once for its train rows, declaration and code."""

import contextlib
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_assets import __version__
from ml_assets import candidate as candidates
from ml_assets.artifact import dump
from ml_assets.candidate import Predictions
from ml_assets.digest import digest_of, file_digest
from ml_assets.ensemble import best_few, join
from ml_assets.errors import CandidateError, MLAssetsError, is_transient, shortened
from ml_assets.evaluation import score, select_metric
from ml_assets.gates import Verdict
from ml_assets.problem import ENSEMBLE, CandidateDeclaration, parts_of
from ml_assets.problem.candidate import BEST_FEW
from ml_assets.resources.lake import Entry
from ml_assets.round import CARD, Made, Round
from ml_assets.round import card as cards
from ml_assets.round.split import SplitMade, current_split, part_rows
from ml_assets.rows import read_only
from ml_assets.tuning import Tuned, folds, tune
from ml_assets.user_code import code_digest, is_loaded
from ml_assets.verification import MODEL_FILE, Waiting, load_verified

if TYPE_CHECKING:
    import pandas as pd

MOST_AT_ONCE = 4  # each holds a model, and what fitting needs
PATIENT = 10  # the niceness of what is only to be ready later: a fit goes first


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
        Exception: something that may pass, where the step is tried again.
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
        if round_.again and is_transient(error):
            raise
        ours = isinstance(error, MLAssetsError)
        message = str(error) if ours else f"{type(error).__name__}: {error}"
        round_.put("failure", key, functools.partial(_write_failure, message, started))
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
    if round_.rehearses:
        return None
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
    _fit_together(round_, split)
    begun = round_.stores.fits.pop(key, None)
    write, said = begun.result() if begun else _fitting(round_, name, declared, split)
    return round_.put("candidate", key, write), said


def _fit_together(round_: Round, split: SplitMade) -> None:
    """It fits the candidates that this process is to make side by side, and waits for all.

    In threads: the numerical libraries let go of Python's lock while they fit, the rows are in
    memory once, and nothing is imported again.  What is measured of a candidate afterwards is
    measured when nothing else works.
    """
    fits, todo = round_.stores.fits, {}
    for name in round_.together:
        declared = round_.problem.contenders().get(name)
        if declared is None or declared.estimator == ENSEMBLE:  # that one needs the others
            continue
        key = candidate_key(round_, declared, split)
        if key not in fits and round_.find("candidate", key) is None:
            todo[key] = (name, declared)
    if not todo:
        return
    clean = round_.problem.dataset.loader is None and not is_loaded()
    if clean and not round_.stores.waiting:
        round_.stores.waiting.append(Waiting())
    if len(todo) < 2:
        return
    for part in ("train", "validation"):  # read once, and not by each thread
        part_rows(round_, split, part)
    ready = threading.Thread(target=_make_ready, args=(round_,))
    ready.start()
    cores = os.cpu_count() or 1
    at_once = min(len(todo), cores, MOST_AT_ONCE)
    with ThreadPoolExecutor(
        at_once, initializer=_share_cores, initargs=(cores // at_once,)
    ) as pool:
        for key in _longest_first(round_, split, todo):
            name, declared = todo[key]
            fits[key] = pool.submit(_fitting, round_, name, declared, split)
    ready.join()


def _share_cores(cores: int) -> None:
    """It gives the thread that calls a share of the cores: a fit that takes all slows the others."""
    with contextlib.suppress(Exception):  # it is for speed alone, and a pool without it would hang
        import sklearn.pipeline  # noqa: F401 (what has not been loaded cannot be limited)
        from threadpoolctl import threadpool_limits

        threadpool_limits(cores, user_api="openmp")  # OpenMP keeps it for each thread


def _longest_first(
    round_: Round, split: SplitMade, todo: dict[str, tuple[str, CandidateDeclaration]]
) -> list[str]:
    """It orders the keys of fits so that a long one does not begin when the others are done."""
    task = split.profile.usable_target().task

    def slowness(key: str) -> int:
        with contextlib.suppress(Exception):  # it is said where it is fitted
            return candidates.slowness(todo[key][1], task, round_.folder)
        return 0

    return sorted(todo, key=slowness, reverse=True)


def _make_ready(round_: Round) -> None:
    """It imports what comes after the fits, while they leave Python and a core to others."""
    with contextlib.suppress(Exception):  # for speed alone; of one thread only on Linux
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), PATIENT)
    with contextlib.suppress(Exception):  # whoever needs it next says what is wrong with it
        round_.stores.registry.make_ready()
        import matplotlib.backends.backend_agg
        import matplotlib.figure  # noqa: F401


def fit_with_members(round_: Round, name: str, split: SplitMade) -> Entry:
    """It fits a candidate where nothing was fitted before: of an ensemble the members first.

    A member that fails is left out, as it was then; whatever else is raised, is raised.
    """
    contenders = round_.problem.contenders()
    if contenders[name].estimator == ENSEMBLE:
        for member in round_.problem.members(contenders[name]):
            try:
                fit_candidate(round_, member, split)
            except Exception as error:
                key = candidate_key(round_, contenders[member], split)
                message, at = str(error), round_.clock()
                round_.put("failure", key, functools.partial(_write_failure, message, at))
    return fit_candidate(round_, name, split)[0]


def candidate_key(round_: Round, declared: CandidateDeclaration, split: SplitMade) -> str:
    """It names everything that decides what a candidate learns."""
    problem = round_.problem
    transform = declared.transform or problem.transform
    beside: list[Any] = [problem.select, problem.split] if declared.search else []
    if declared.estimator == ENSEMBLE:
        found = members(round_, declared, split)
        beside = [problem.select, {n: e and e.digest for n, e in found.items()}]
    sources = [code_digest(path, round_.folder) for path in (declared.estimator, transform)]
    learned_from = {part: split.digests[part] for part in ("train", "validation")}
    return digest_of(
        "candidate",
        candidates.FITTING,
        [declared, transform, [*sources, *(p.pin for p in parts_of(declared, transform))]],
        learned_from,
        [split.profile.features, problem.dataset.target, asdict(split.profile.usable_target())],
        [problem.class_weight, problem.threshold, problem.seed, problem.trust],
        beside,
        candidates.environment(),
    )


def members(
    round_: Round, declared: CandidateDeclaration, split: SplitMade
) -> dict[str, Entry | None]:
    """It returns the candidates that an ensemble may be made of; None for those that failed.

    Those that were not made yet are absent.
    """
    contenders, found = round_.problem.contenders(), dict[str, Entry | None]()
    for name in round_.problem.members(declared):
        key = candidate_key(round_, contenders[name], split)
        entry = round_.find("candidate", key)
        if entry or round_.find("failure", key):
            found[name] = entry
    return found


def provenance(round_: Round, split: SplitMade) -> dict[str, str]:
    """It returns what every run and version is tagged with: from which data, by which words."""
    return {
        "dataset_version": split.dataset.digest[:16],
        "split": split.entry.digest,
        "config_digest": digest_of(round_.problem),
        "code_version": __version__,
        **({"otherwise": round_.otherwise} if round_.otherwise else {}),
    }


def _fitting(
    round_: Round, name: str, declared: CandidateDeclaration, split: SplitMade
) -> tuple[Callable[[Path], dict[str, Any]], Predictions]:
    """It fits, and returns what writes the result into the lake, and what it says of validation."""
    try:
        return _fitted_on(round_, name, declared, split, _parts(round_, split))
    except CandidateError as error:
        if "read-only" not in str(error):
            raise
    # Code that changes its rows in place is given some of its own.  The others are spared that: of a
    # million rows, what each would hold is as much as the library takes to fit.
    return _fitted_on(round_, name, declared, split, _parts(round_, split, own=True))


def _fitted_on(
    round_: Round,
    name: str,
    declared: CandidateDeclaration,
    split: SplitMade,
    parts: "dict[str, tuple[pd.DataFrame, pd.Series]]",
) -> tuple[Callable[[Path], dict[str, Any]], Predictions]:
    problem, target = round_.problem, split.profile.usable_target()
    features = list(split.profile.features)
    tuned, joined = None, dict[str, Entry]()
    validation = parts["validation"]
    if declared.search:
        tuned = _tuned(round_, declared, split)
        declared = declared.model_copy(update={"params": {**declared.params, **tuned.params}})
    if declared.estimator == ENSEMBLE:
        joined = _chosen(round_, declared, split)
        fitted = _joined(round_, joined, split, parts)
    else:
        model = candidates.build(declared, problem, target.task, parts["train"][0], round_.folder)
        fitted = candidates.fit(model, parts["train"], validation, problem, target)
    parts.clear()  # its own copy of train is not needed until the others are fitted
    stored = dump(fitted.model, tuple(problem.trust))
    said = candidates.predict(fitted.model, validation[0], target)
    facts = {
        "at": round_.clock(),
        "seconds": fitted.seconds,
        "environment": candidates.environment(),
    }
    pins = [p.pin for p in parts_of(declared, problem.transform)]
    pins += [r for entry in joined.values() for r in entry.json(CARD)["requirements"]]
    card = {
        "candidate": name,
        "estimator": declared.estimator,
        "params": {k: str(v) for k, v in declared.params.items()},
        "threshold": fitted.threshold,
        "features": features,
        "metrics": score(validation[1].to_numpy(), said, target),
        "missing": said.missing(),
        "class_shares": said.class_shares(target),
        "bytes": len(stored),
        "requirements": candidates.requirements(fitted.model, pins),
        "members": list(joined),
        "search": tuned and {"how": tuned.how, "best": tuned.params, "value": tuned.value},
    }
    # times are no part of the content: the same search gives the same candidate
    facts["trials"] = [asdict(t) for t in tuned.trials] if tuned else []

    def write(folder: Path) -> dict[str, Any]:
        facts["latency_ms"] = candidates.latency_ms(fitted.model, validation[0])
        (folder / MODEL_FILE).write_bytes(stored)
        digest = file_digest(folder / MODEL_FILE)
        (folder / CARD).write_text(json.dumps({**card, "model_digest": digest}))
        return facts

    return write, said


def _parts(
    round_: Round, split: SplitMade, own: bool = False
) -> "dict[str, tuple[pd.DataFrame, pd.Series]]":
    """It returns the features and the target of train and of validation.

    Nobody can write into what others use too; `own` gives copies.
    """
    features, parts = list(split.profile.features), {}
    for part in ("train", "validation"):
        rows = part_rows(round_, split, part)
        of_them = rows[features] if own else read_only(rows, features)
        parts[part] = (of_them, rows[round_.problem.dataset.target])
    return parts


def _chosen(round_: Round, declared: CandidateDeclaration, split: SplitMade) -> dict[str, Entry]:
    """It returns the candidates that an ensemble is made of, best first."""
    task = split.profile.usable_target().task
    found = members(round_, declared, split)
    missing = [n for n in round_.problem.members(declared) if n not in found]
    if missing:
        raise CandidateError(
            f"an ensemble comes after its members: {shortened(missing)} not made for the current "
            "split and declaration. Materialize them first."
        )
    fitted = {name: entry for name, entry in found.items() if entry}
    metrics = {name: entry.json(CARD)["metrics"] for name, entry in fitted.items()}
    of = declared.params.get("of", BEST_FEW)
    best = best_few(metrics, select_metric(task, round_.problem.select), of, task)
    return {name: fitted[name] for name in best}


def _joined(
    round_: Round, joined: dict[str, Entry], split: SplitMade, parts: dict[str, Any]
) -> candidates.Fitted:
    """It returns the ensemble of stored candidates, its threshold tuned on validation."""
    problem, target, started = round_.problem, split.profile.usable_target(), time.perf_counter()
    trusted = tuple(problem.trust)
    models = [load_verified(e.path, e.digest, trusted) for e in joined.values()]
    model = join(models, parts["train"], target)
    threshold = candidates.decide(model, parts["train"], parts["validation"], problem, target)
    return candidates.Fitted(model, threshold, time.perf_counter() - started)


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
        reached = score(held[1].to_numpy(), said, target, metric)
        if metric not in reached:
            raise CandidateError(
                f"{metric} is not defined on the {len(held[1]):,} rows that a trial is scored by: "
                "they lack a class, or the candidate gives no probabilities. Ask for fewer folds, "
                "or `select` by another metric."
            )
        return reached[metric]

    key = candidate_key(round_, declared, split)
    file = round_.stores.lake.root / problem.name / "studies" / f"{key}.jsonl"
    return tune(declared, metric, scored, len(parts), file, problem.seed)


def _write_failure(message: str, at: float, folder: Path) -> dict[str, Any]:
    (folder / CARD).write_text(json.dumps({"error": message}))
    return {"at": at}


def _made(name: str, entry: Entry, reused: bool, page: Entry | None) -> CandidateMade:
    seconds = entry.facts["seconds"]
    reason = (
        f"Same data, code and configuration as a fit of {seconds:.1f} s: not fitted again."
        if reused
        else f"Fitted in {seconds:.1f} s."
    )
    card = entry.json(CARD)
    if card["members"]:
        reason += f" It joins {', '.join(card['members'])}, which are not fitted again."
    verdict = Verdict("is_fitted", True, reason)
    return CandidateMade([verdict], reused, name, entry, card, page=page)
