"""The challenger of a round: the leader, scored on test, asked by every gate, registered."""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ml_assets import plots
from ml_assets.artifact import TRUSTED_TYPES
from ml_assets.candidate import Predictions, predict
from ml_assets.dataset import Target
from ml_assets.digest import digest_of
from ml_assets.errors import MLAssetsError, NotMaterialized
from ml_assets.evaluation import score
from ml_assets.gates import challenger as gates
from ml_assets.gates import failures
from ml_assets.gates.rows import Answers
from ml_assets.resources.lake import Entry, read_table, write_table
from ml_assets.resources.ledger import CANARY_STARTED, HOLD, PROMOTION
from ml_assets.resources.registry import CHALLENGER, Version
from ml_assets.round import CARD, PREDICTIONS, Made, Round
from ml_assets.round import card as cards
from ml_assets.round.candidate import provenance
from ml_assets.round.evaluation import EvaluationMade, make_evaluation
from ml_assets.round.override import overridden
from ml_assets.round.split import SplitMade, part_rows
from ml_assets.verification import GOLDEN_FILE, MODEL_FILE, golden, load_verified

JUDGED = "judged.png"


@dataclass(frozen=True)
class ChallengerMade(Made):
    """The challenger.

    Attributes:
        name: the candidate's name.
        score: files of its predictions and metrics on test.
        split: what it learned from and is judged by.
        version: its version in the registry.
        metrics: its metrics on test.
        select: the metric that ranks.
        model_digest: SHA-256 of its model file.
        judged_before: how many other challengers were judged on these very test rows; each of
            them was another chance for luck to look like skill.
        page: its card on test; None before it was made.
        on_validation: its value of `select` there, and the baseline's.
    """

    name: str
    score: Entry
    split: SplitMade
    version: Version
    metrics: dict[str, float]
    select: str
    model_digest: str
    judged_before: int
    page: Entry | None = None
    on_validation: tuple[float | None, float | None] = (None, None)


def make_challenger(round_: Round) -> ChallengerMade:
    """It judges the leader of the evaluation, and registers it.

    The alias `challenger` moves to it only when every enforced gate holds, and not in a run that
    only compares.

    Raises:
        NotMaterialized: no candidate is eligible.
        ModelRefused: the stored candidate is not what was stored.
    """
    evaluated = make_evaluation(round_)
    made, model = _judged(round_, evaluated)
    registry, name = round_.stores.registry, round_.problem.name
    fate = "failed" if failures(made.verdicts) else "passed"
    moves = fate == "passed" and round_.promotes
    if moves and registry.pointed(name, CHALLENGER) != made.version.number:
        registry.point(name, CHALLENGER, made.version.number)
    if made.version.tags.get("gates") != fate:
        registry.tag(name, made.version.number, gates=fate)
    assert evaluated.leader is not None
    page = cards.challenger_card(
        round_,
        made.split,
        evaluated.leader,
        made.score,
        made.verdicts,
        made.version.number,
        (evaluated.entry, evaluated.board, made.name),
        provenance(round_, made.split),
        model,
    )
    return replace(made, page=page)


def judge(round_: Round) -> ChallengerMade:
    """It returns the challenger with its gates asked now, whatever was answered before."""
    return _judged(round_, make_evaluation(round_))[0]


def _judged(round_: Round, evaluated: EvaluationMade) -> tuple[ChallengerMade, Callable[[], Any]]:
    """It returns the challenger, and what loads its model."""
    if evaluated.winner is None or evaluated.leader is None:
        raise NotMaterialized(evaluated.verdicts[0].reason)
    split, leader = evaluated.split, evaluated.leader
    card = leader.json(CARD)
    trusted = tuple(round_.problem.trust)

    @functools.cache
    def model() -> Any:
        for waiting in round_.stores.waiting:  # it loads it at the same time
            waiting.load(leader.path / MODEL_FILE, trusted)
        return load_verified(leader.path, leader.digest, trusted)

    scored, reused = score_on_test(round_, split, card["model_digest"], model)
    record = scored.json(CARD)
    seen = gates.Seen(
        part="test",
        rows=split.parts["test"].rows,
        metrics=record["metrics"],
        missing=record["missing"],
        latency_ms=leader.facts["latency_ms"],
        select=evaluated.metric,
        own=card["metrics"].get(evaluated.metric),
        baseline=evaluated.baseline,
        class_shares=record["class_shares"],
    )

    @functools.cache
    def answers() -> Answers:
        return answers_on_test(round_, split, scored, model, card["bytes"])

    version = _registered(round_, evaluated, model)
    made = ChallengerMade(
        overridden(round_, gates.ask(seen, round_.problem, answers), version.number),
        reused,
        evaluated.winner,
        scored,
        split,
        version,
        record["metrics"],
        evaluated.metric,
        card["model_digest"],
        _judged_before(round_, split, card["model_digest"]),
        on_validation=(seen.own, seen.baseline),
    )
    return made, model


def _judged_before(round_: Round, split: SplitMade, model_digest: str) -> int:
    """It returns how many other models were decided about by these test rows."""
    entries = round_.stores.ledger.entries(round_.problem.name)
    here = [e for e in entries if e.get("test") == split.digests["test"]]
    judged = {e["model_digest"] for e in here if e["event"] in (PROMOTION, HOLD, CANARY_STARTED)}
    return len(judged - {model_digest})


def answers_on_test(
    round_: Round, split: SplitMade, scored: Entry, model: Callable[[], Any], size: int
) -> Answers:
    """It returns a version's answers on test, and the champion's, for gates that ask rows."""
    target: Target = split.profile.usable_target()
    rows = part_rows(round_, split, "test")
    name = round_.problem.dataset.target

    def on_train() -> dict[str, float]:
        train = part_rows(round_, split, "train")
        return score(train[name].to_numpy(), predict(model(), train, target), target)

    return Answers(
        rows,
        rows[name].to_numpy(),
        Predictions.from_table(read_table(scored.path / PREDICTIONS)),
        target,
        lambda truth, said: score(truth, said, target),
        on_train,
        _of_champion(round_, split),
        size,
        round_.folder,
    )


def _of_champion(round_: Round, split: SplitMade) -> Predictions | None:
    """It returns the champion's predictions on test; None where there is none to be had."""
    name, stores = round_.problem.name, round_.stores
    before = stores.ledger.champion(name)
    if before is None:
        return None

    def model() -> Any:
        version = stores.registry.version(name, before["version"])
        return load_verified(version.folder, before["digest"], tuple(round_.problem.trust))

    try:
        scored, _ = score_on_test(round_, split, before["model_digest"], model)
    except MLAssetsError:
        return None  # said where the two are compared
    return Predictions.from_table(read_table(scored.path / PREDICTIONS))


def score_on_test(
    round_: Round, split: SplitMade, model_digest: str, model: Callable[[], Any]
) -> tuple[Entry, bool]:
    """It returns a model's predictions and metrics on today's test rows, made once.

    Raises:
        ModelRefused: what was made was changed since, or the model was.
    """
    target: Target = split.profile.usable_target()
    key = digest_of("score", model_digest, split.digests["test"], asdict(target))
    entry = round_.find("score", key)
    if entry is not None:
        return entry.verified(), True

    def write(folder: Path) -> dict[str, Any]:
        rows = part_rows(round_, split, "test")
        truth = rows[round_.problem.dataset.target].to_numpy()
        said = predict(model(), rows, target)
        write_table(said.as_table(), folder / PREDICTIONS)
        record = {
            "metrics": score(truth, said, target),
            "missing": said.missing(),
            "class_shares": said.class_shares(target),
        }
        (folder / CARD).write_text(json.dumps(record))
        if not record["missing"] and not round_.rehearses:
            (folder / JUDGED).write_bytes(plots.judged(truth, said, target))
        return {"at": round_.clock()}

    return round_.put("score", key, write), False


def _registered(round_: Round, evaluated: EvaluationMade, model: Callable[[], Any]) -> Version:
    """It returns the leader's version; the same candidate of the same split is registered once."""
    split, leader, name = evaluated.split, evaluated.leader, evaluated.winner
    assert leader is not None and name is not None
    problem, registry = round_.problem, round_.stores.registry
    same = {"candidate_digest": leader.digest, "split": split.entry.digest}
    known = registry.registered(problem.name, **same)
    if known is not None and known.folder.is_dir():
        return known
    card, loaded = leader.json(CARD), model()
    kept = golden(loaded, part_rows(round_, split, "test"), split.profile.usable_target())
    example = part_rows(round_, split, "train")[card["features"]].head(1000)
    files = {
        MODEL_FILE: (leader.path / MODEL_FILE).read_bytes(),
        GOLDEN_FILE: json.dumps(kept).encode(),
    }
    tags = {
        **same,
        **provenance(round_, split),
        "candidate": name,
        "model_digest": card["model_digest"],
        "dagster_run_id": round_.run.run_id,
    }
    version = registry.register(
        problem.name,
        leader.facts["mlflow_run"],
        name,
        files,
        (example, loaded.predict(example.copy())),  # a transform may change its input in place
        card["requirements"],
        [*TRUSTED_TYPES, *problem.trust],
        tags,
    )
    for waiting in round_.stores.waiting:  # it verifies while the gates are asked
        waiting.begin(version.folder, version.digest, tuple(problem.trust))
    return version
