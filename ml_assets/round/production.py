"""The decision of a round: every gate asked again, the champion re-scored, the pointer moved."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from ml_assets.canary import Start, started
from ml_assets.candidate import Predictions
from ml_assets.comparison import Comparison, compare
from ml_assets.digest import digest_of, file_digest, tree_digest
from ml_assets.errors import MLAssetsError, ModelRefused, PromotionRefused
from ml_assets.gates import Verdict, failures
from ml_assets.gates import dataset as dataset_gates
from ml_assets.promotion import Approval, Champion, Hold, Promote, awaiting, compared_only, decide
from ml_assets.resources.lake import read_table
from ml_assets.resources.ledger import (
    CANARY_LOOK,
    CANARY_STARTED,
    HOLD,
    PROMOTION,
    champion_of,
    under_way,
)
from ml_assets.resources.registry import CANARY, CHAMPION
from ml_assets.round import CARD, PREDICTIONS, Made, Round
from ml_assets.round.alias import mend, mirrored
from ml_assets.round.canary import approve_canary, terms_of, undeclared, withdrawn_before
from ml_assets.round.candidate import provenance
from ml_assets.round.challenger import ChallengerMade, judge, score_on_test
from ml_assets.round.record import keep_record
from ml_assets.round.split import part_rows
from ml_assets.verification import MODEL_FILE, in_clean_process, load_verified, verify

# A decision is made anew when another promotion came in between; more often than this is a storm.
MOST_ATTEMPTS = 5


@dataclass(frozen=True)
class ProductionMade(Made):
    """The decision.

    Attributes:
        decision: promote or hold, which a canary's start is too; None when a gate refused to ask.
        champion: the ledger's entry of the champion after it; None when there is none.
        challenger: whom it was about.
        comparison: challenger against champion on today's test rows.
    """

    decision: Promote | Hold | None
    champion: dict[str, Any] | None
    challenger: ChallengerMade
    comparison: Comparison | None


def make_production(round_: Round, approval: Approval | None = None) -> ProductionMade:
    """It asks every gate again and decides: promote the challenger, or hold.

    Whoever starts it and in whatever order: the gates are asked here, of today's data, with
    today's declaration.  The pointer moves only after the version was loaded and checked in a
    clean process, and only if the champion is still the one that it was compared with.

    Args:
        round_: the round.
        approval: somebody's word for a version, where promotions need it.

    Raises:
        NotMaterialized: something that it needs is not made.
        ModelRefused: the challenger's files are not what was recorded.
        PromotionRefused: the champion kept changing while it was being compared with.
    """
    for _ in range(MOST_ATTEMPTS):
        made = _decided(round_, approval)
        if made is not None:
            return made
    raise PromotionRefused(
        f"{round_.problem.name}: the champion changed {MOST_ATTEMPTS} times while a challenger was "
        "being compared with it. Run again when it is quiet."
    )


def _decided(round_: Round, approval: Approval | None) -> ProductionMade | None:
    """It decides once; None when the champion changed meanwhile."""
    challenger = judge(round_)
    verdicts = [
        *dataset_gates.ask(challenger.split.profile, round_.problem),
        *challenger.split.verdicts,
        *challenger.verdicts,
    ]
    mend(round_.stores, round_.problem.name, round_.clock(), round_.run.run_id)
    undeclared(round_)
    before = round_.stores.ledger.champion(round_.problem.name)
    if before is not None:
        _untouched(round_, before)
    canary = round_.stores.ledger.canary(round_.problem.name)
    if failures(verdicts):
        return ProductionMade(verdicts, False, None, before, challenger, None)
    champion = _compared(round_, before, challenger)
    rolled = round_.stores.ledger.withdrawn(round_.problem.name, challenger.model_digest)
    decision = decide(challenger.model_digest, champion, rolled["reason"] if rolled else None)
    comparison = champion.comparison if champion else None
    if not round_.promotes:
        decision = compared_only(decision, round_.otherwise)
    elif round_.problem.promotion.mode == "approval":
        decision = awaiting(decision, challenger.version.number, approval)
    elif round_.problem.promotion.mode == "canary" and rolled is None:
        decision = started(
            decision,
            comparison,
            challenger.version.number,
            canary[0]["version"] if canary else None,
            withdrawn_before(round_, challenger.model_digest),
        )
    if isinstance(decision, (Promote, Start)):
        _verify(round_, challenger)
    recorded, after = _recorded(round_, decision, (before, canary), challenger, comparison)
    if not recorded:
        return None
    evidence = asdict(comparison) if comparison else {}
    evidence["judged_before"] = challenger.judged_before
    better = Verdict(
        "beats_the_champion", isinstance(decision, Promote), decision.reason, evidence, "warn"
    )
    held = isinstance(decision, Hold)
    return ProductionMade([*verdicts, better], held, decision, after, challenger, comparison)


def _untouched(round_: Round, champion: dict[str, Any]) -> None:
    """It makes sure that the champion's files are those that were promoted, whatever is decided.

    They are read when their sizes or times are not those of the last look.

    Raises:
        ModelRefused: they are not.
    """
    name, lake = round_.problem.name, round_.stores.lake
    version = round_.stores.registry.version(name, champion["version"])
    files = sorted(f for f in version.folder.rglob("*") if f.is_file())
    stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    look = {"digest": champion["digest"], "files": digest_of(stats)}
    if lake.noted(name, "champion_files") == look:
        return
    if not files or tree_digest(version.folder) != champion["digest"]:
        raise ModelRefused(
            f"The champion's files, version {version.number} in {version.folder}, are not those that "
            "were promoted: somebody changed them. Nobody is served by them. Restore them, or make "
            f"another version champion: `ml-assets rollback {name} --why …`."
        )
    lake.note(name, "champion_files", look)


def _verify(round_: Round, challenger: ChallengerMade) -> None:
    """It makes sure, in a clean process, that the version is the model that the gates were asked of.

    Raises:
        ModelRefused: it is not.
    """
    version = challenger.version
    asked = (version.folder, version.digest, tuple(round_.problem.trust))
    waiting = round_.stores.waiting
    if round_.rehearses:  # what this very process wrote, and nobody will serve, needs no second one
        verify(*asked)
    elif not waiting or waiting.pop().verify(*asked) is None:
        in_clean_process(*asked)
    if file_digest(version.folder / MODEL_FILE) != challenger.model_digest:
        raise ModelRefused(
            f"Version {version.number} of {round_.problem.name} holds another model than the one "
            "that was judged. Somebody changed it in the registry; production stays."
        )


def _compared(
    round_: Round, before: dict[str, Any] | None, challenger: ChallengerMade
) -> Champion | None:
    """It returns the champion, re-scored on today's test rows and compared row by row."""
    if before is None:
        return None
    champion = Champion(before["version"], before["model_digest"])
    if champion.digest == challenger.model_digest:
        return champion
    problem, split = round_.problem, challenger.split

    def model() -> Any:
        version = round_.stores.registry.version(problem.name, champion.version)
        return load_verified(version.folder, before["digest"], tuple(problem.trust))

    try:
        scored, _ = score_on_test(round_, split, champion.digest, model)
        if challenger.select not in scored.json(CARD)["metrics"]:
            return replace(champion, trouble=f"its {challenger.select} is not defined there.")
    except MLAssetsError as error:
        return replace(champion, trouble=str(error))
    gate = problem.champion_gate()
    one, other = (
        Predictions.from_table(read_table(entry.path / PREDICTIONS))
        for entry in (challenger.score, scored)
    )
    comparison = compare(
        challenger.select,
        part_rows(round_, split, "test")[problem.dataset.target].to_numpy(),
        one,
        other,
        split.profile.usable_target(),
        gate.confidence,
        gate.by,
        problem.seed,
    )
    return replace(champion, comparison=comparison)


def _recorded(
    round_: Round,
    decision: Promote | Hold,
    seen: tuple[dict[str, Any] | None, list[dict[str, Any]]],
    challenger: ChallengerMade,
    comparison: Comparison | None,
) -> tuple[bool, dict[str, Any] | None]:
    """It writes the decision and moves the pointer, unless champion or canary changed meanwhile.

    The ledger is written first: it is the record, and the alias follows it.  A crash between the
    two is mended by the next decision.
    """
    name, stores, before = round_.problem.name, round_.stores, seen[0]
    held = CANARY_STARTED if isinstance(decision, Start) else HOLD
    entry = {
        "event": PROMOTION if isinstance(decision, Promote) else held,
        "at": round_.clock(),
        "version": challenger.version.number,
        "candidate": challenger.name,
        "digest": challenger.version.digest,
        "model_digest": challenger.model_digest,
        "previous": before["version"] if before else None,
        "reason": decision.reason,
        "comparison": asdict(comparison) if comparison else None,
        "metrics": challenger.metrics,
        "gates": [
            {"name": v.name, "passed": v.passed, "reason": v.reason, "mode": v.mode}
            for v in challenger.verdicts
        ],
        "actor": round_.actor,
        "run_id": round_.run.run_id,
        "test": challenger.split.digests["test"],
        "judged_before": challenger.judged_before,
        "record": keep_record(round_, challenger.split),
        **provenance(round_, challenger.split),
    }
    if isinstance(decision, Start):
        assert before is not None
        own, baseline = challenger.on_validation
        entry |= {"terms": asdict(terms_of(round_.problem)), "beside": before["model_digest"]}
        entry["on_validation"] = {"own": own, "baseline": baseline}
    with stores.ledger.deciding(name) as deciding:
        entries = stores.ledger.entries(name)
        if (champion_of(entries), under_way(entries)) != seen:
            return False, None
        if isinstance(decision, Start):
            deciding.append(entry)
            stores.registry.point(name, CANARY, challenger.version.number)
            return True, before
        if isinstance(decision, Hold):
            if not _said_before(round_, entry):
                deciding.append(entry)
            return True, before
        written = deciding.append(entry)
        stores.registry.point(name, CHAMPION, challenger.version.number)
        mirrored(stores, name)  # a canary beside the former champion is none any more
    return True, written


def _said_before(round_: Round, entry: dict[str, Any]) -> bool:
    """It says whether the last decision was this one: the same again adds nothing to a history."""
    past = round_.stores.ledger.entries(round_.problem.name)
    same = ("event", "version", "previous", "test", "reason")
    past = [e for e in past if e["event"] != CANARY_LOOK]
    return bool(past) and all(past[-1].get(k) == entry[k] for k in same)


def approval(round_: Round, version: int, why: str) -> dict[str, Any]:
    """It lets a version in, by somebody's word, and returns the ledger's entry of that.

    Where promotions need approval that is the challenger that waits; where they need a canary, a
    shadow that live rows showed to be better.

    Raises:
        PromotionRefused: as `approve` and `approve_canary` do.
    """
    if round_.problem.promotion.mode == "canary":
        return approve_canary(round_, version, why)
    champion = approve(round_, version, why).champion
    assert champion is not None
    return champion


def approve(round_: Round, version: int, why: str) -> ProductionMade:
    """It promotes the challenger that waits, after every gate was asked again.

    Args:
        round_: problem, stores, and who approves.
        version: the version that is meant; only today's challenger can be.
        why: the reason, kept in the ledger.

    Raises:
        PromotionRefused: promotions need no approval here, the version is not today's challenger,
            a gate does not hold, it is not better than the champion, or no reason is given.
    """
    name = round_.problem.name
    if not why.strip():
        raise PromotionRefused("An approval needs a reason: --why TEXT.")
    if round_.problem.promotion.mode != "approval":
        raise PromotionRefused(
            f"{name} promotes automatically; to approve by hand, declare `promotion: {{mode: "
            "approval}`."
        )
    made = make_production(round_, Approval(version, round_.actor or "somebody", why.strip()))
    number = made.challenger.version.number
    if isinstance(made.decision, Promote):
        return made
    if made.champion and made.champion["version"] == version:
        raise PromotionRefused(
            f"Version {version} of {name} is the champion already: there is nothing to approve."
        )
    if number != version:
        raise PromotionRefused(
            f"Version {version} of {name} is not the challenger; that is version {number}. Only "
            "what was judged by today's gates on today's data can be approved."
        )
    failed = " ".join(f"{v.name}: {v.reason}" for v in failures(made.verdicts))
    raise PromotionRefused(failed or f"Version {version}: {made.decision.reason}")  # type: ignore[union-attr]
