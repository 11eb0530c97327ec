"""The canary of a round: looked at when enough labels have come, promoted or withdrawn by itself.

Every path that ends in a promotion asks what any promotion asks: the gates, of today's data and with
today's declaration, and a verification in a clean process.  What happens to a canary is one entry
of the ledger each time; the alias `canary` follows it.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from ml_assets.canary import (
    ASKED,
    Standing,
    Terms,
    Wait,
    Withdraw,
    at_look,
    decide,
    is_due,
)
from ml_assets.candidate import latency_ms
from ml_assets.comparison import Comparison, compare
from ml_assets.digest import file_digest
from ml_assets.errors import MLAssetsError, ModelRefused, PromotionRefused
from ml_assets.evaluation import score, select_metric
from ml_assets.gates import Verdict, failures
from ml_assets.gates import challenger as gates
from ml_assets.gates import dataset as dataset_gates
from ml_assets.problem import Problem
from ml_assets.promotion import Promote
from ml_assets.resources.ledger import CANARY_LOOK, CANARY_WITHDRAWN, PROMOTION
from ml_assets.resources.registry import CHAMPION
from ml_assets.round import CARD, Made, Round
from ml_assets.round.alias import mend, mirrored
from ml_assets.round.challenger import answers_on_test, score_on_test
from ml_assets.round.labelled import Labelled, labelled_rows
from ml_assets.round.override import overridden
from ml_assets.round.predictions import load_scorer
from ml_assets.round.split import make_split, part_rows
from ml_assets.verification import MODEL_FILE, in_clean_process

# A look is made anew when another decision came in between; more often than this is a storm.
MOST_ATTEMPTS = 5
BY_HAND, UNDECLARED = "by hand", "undeclared"
# What an entry on a canary says of its version, as the entry that started it does.
_KEPT = (
    *("version", "candidate", "digest", "model_digest", "metrics", "dataset_version", "split"),
    *("config_digest", "code_version", "gates", "test", "record", "judged_before", "previous"),
)


@dataclass(frozen=True)
class CanaryMade(Made):
    """What became of the canary.

    Attributes:
        decision: promote, withdraw or wait; None where there is no canary.
        canary: the ledger's entry that started it.
        written: the ledger's entry that was written now; None where there was nothing to write.
        standing: how it stands.
        found: what a look found now, or the last one did.
    """

    decision: Promote | Withdraw | Wait | None
    canary: dict[str, Any] | None = None
    written: dict[str, Any] | None = None
    standing: Standing | None = None
    found: Comparison | None = None


def terms_of(problem: Problem) -> Terms:
    """It returns the terms of a canary that starts now."""
    declared, gate = problem.promotion, problem.champion_gate()
    return Terms(declared.share, declared.min_rows, declared.longest, gate.confidence, gate.by)


# ------------------------------------------------------------------------------------ the looks


def make_canary(round_: Round) -> CanaryMade:
    """It looks at the canary where that is due, and promotes it, withdraws it, or waits.

    Raises:
        PromotionRefused: other decisions kept coming in between, or the ledger was rewritten.
    """
    for _ in range(MOST_ATTEMPTS):
        made = _looked(round_)
        if made is not None:
            return made
    raise PromotionRefused(
        f"{round_.problem.name}: champion or canary changed {MOST_ATTEMPTS} times while they were "
        "being compared. Look at it again when it is quiet."
    )


def _looked(round_: Round) -> CanaryMade | None:
    """It looks once; None when another decision came in between."""
    name, ledger = round_.problem.name, round_.stores.ledger
    mend(round_.stores, name, round_.clock(), round_.run.run_id)
    entries = ledger.canary(name)
    champion = ledger.champion(name)
    if not entries or champion is None:
        return CanaryMade([], True, None)
    start, terms = entries[0], Terms(**entries[0]["terms"])
    standing, rows = _standing(round_, champion, entries)
    found = None
    if rows is not None and is_due(terms, standing):
        asked = _compared(round_, rows)
        if isinstance(asked, str):
            standing = replace(standing, trouble=asked)
        else:
            found = at_look(asked, terms, len(standing.looked_at) + 1)
    decision = decide(terms, standing, found)
    verdicts = verdicts_of(decision, standing, rows.told if rows else "")
    if isinstance(decision, Promote):
        asked_again, unfit = _asked_again(round_, start)
        verdicts += asked_again
        if unfit:
            decision = Withdraw(f"{decision.reason} But it is not fit: {unfit}", "unfit")
    written = None
    if found is not None or not isinstance(decision, Wait):
        written = _recorded(round_, entries, champion, decision, standing, found)
        if written is None:
            return None
    last = Comparison(**entries[-1]["comparison"]) if len(entries) > 1 else None
    return CanaryMade(verdicts, written is None, decision, start, written, standing, found or last)


def _standing(
    round_: Round, champion: dict[str, Any], entries: list[dict[str, Any]]
) -> tuple[Standing, Labelled | None]:
    """It returns how a canary stands, and the labelled rows; None where they cannot be had."""
    seconds = round_.clock() - entries[0]["at"]
    looked_at = [e["rows"] for e in entries[1:]]
    try:
        rows = labelled_rows(round_, champion, entries[0])
    except MLAssetsError as error:  # nobody is judged whose model or rows cannot be had
        return Standing(0, looked_at, seconds, f"The two cannot be compared: {error}"), None
    return Standing(len(rows.truth), looked_at, seconds), rows


def _compared(round_: Round, rows: Labelled) -> Comparison | str:
    """It returns canary and champion on the same live rows, or why they cannot be compared."""
    problem = round_.problem
    metric = select_metric(rows.target.task, problem.select)
    for said in (rows.one, rows.other):
        if metric not in score(rows.truth, said, rows.target, metric):
            return f"{metric} is not defined on the {len(rows.truth):,} labelled rows so far."
    by, seed = problem.champion_gate().by, problem.seed
    return compare(metric, rows.truth, rows.one, rows.other, rows.target, ASKED, by, seed)


def verdicts_of(
    decision: Promote | Withdraw | Wait, standing: Standing, told: str
) -> list[Verdict]:
    """It returns what is claimed of a canary: that it can be compared, and is not worse."""
    worse = isinstance(decision, Withdraw) and decision.finding == "not better"
    evidence = {"labelled_rows": standing.rows, "looks": len(standing.looked_at)}
    can = f"Both were asked about {standing.rows:,} labelled live rows. {told}".rstrip()
    can = standing.trouble or can
    return [
        Verdict("canary_can_be_compared", not standing.trouble, can, evidence, "warn"),
        Verdict("canary_is_not_worse", not worse, decision.reason, evidence, "warn"),
    ]


def _asked_again(round_: Round, start: dict[str, Any]) -> tuple[list[Verdict], str]:
    """It asks every gate of the canary again, on today's data; it returns why it is not fit, too."""
    problem, split = round_.problem, make_split(round_)
    version = round_.stores.registry.version(problem.name, start["version"])
    verdicts = [*dataset_gates.ask(split.profile, problem), *split.verdicts]
    trusted = tuple(problem.trust)
    try:
        in_clean_process(version.folder, start["digest"], trusted)
        if file_digest(version.folder / MODEL_FILE) != start["model_digest"]:
            raise ModelRefused(f"Version {version.number} holds another model than was judged.")
        scorer = load_scorer(problem, round_.stores, start)
        scored, _ = score_on_test(round_, split, start["model_digest"], lambda: scorer.model)
        record = scored.json(CARD)
        seen = gates.Seen(
            part="test",
            rows=split.parts["test"].rows,
            metrics=record["metrics"],
            missing=record["missing"],
            latency_ms=latency_ms(
                scorer.model, part_rows(round_, split, "validation")[list(scorer.columns)]
            ),
            select=select_metric(split.profile.usable_target().task, problem.select),
            own=start["on_validation"]["own"],
            baseline=start["on_validation"]["baseline"],
            class_shares=record["class_shares"],
        )
        size = (version.folder / MODEL_FILE).stat().st_size
        asked = gates.ask(
            seen,
            problem,
            lambda: answers_on_test(round_, split, scored, lambda: scorer.model, size),
        )
    except (MLAssetsError, KeyError) as error:
        return verdicts, str(error)
    verdicts += overridden(round_, asked, version.number)
    return verdicts, " ".join(f"{v.name}: {v.reason}" for v in failures(verdicts))


# -------------------------------------------------------------------------------- what is written


def _recorded(
    round_: Round,
    entries: list[dict[str, Any]],
    champion: dict[str, Any],
    decision: Promote | Withdraw | Wait,
    standing: Standing,
    found: Comparison | None,
    actor: str = "",
) -> dict[str, Any] | None:
    """It writes what was found or decided, and moves the aliases; None if it came too late.

    The ledger is written first: it is the record, and the aliases follow it.  A crash between the
    two is mended by the next decision, and by the guard of the aliases.
    """
    name, stores = round_.problem.name, round_.stores
    events = {Promote: PROMOTION, Withdraw: CANARY_WITHDRAWN, Wait: CANARY_LOOK}
    entry = {
        "event": events[type(decision)],
        "at": round_.clock(),
        **{k: entries[0].get(k) for k in _KEPT},
        "reason": decision.reason,
        "comparison": asdict(found) if found else None,
        "rows": standing.rows,
        "canary": entries[0]["number"],
        "beside": entries[0]["beside"],
        "actor": actor or round_.actor,
        "run_id": round_.run.run_id,
    }
    if isinstance(decision, Withdraw):
        entry["finding"] = decision.finding
    with stores.ledger.deciding(name) as deciding:
        if (stores.ledger.canary(name), stores.ledger.champion(name)) != (entries, champion):
            return None
        written = deciding.append(entry)
        if isinstance(decision, Promote):
            stores.registry.point(name, CHAMPION, entries[0]["version"])
        mirrored(stores, name)
    return written


def withdrawn_before(round_: Round, model_digest: str) -> str | None:
    """It returns why a model was withdrawn as a canary, where that still counts; else None.

    What somebody withdrew stays so; what live rows showed, while the champion is the same.
    """
    name, ledger = round_.problem.name, round_.stores.ledger
    entries, champion = ledger.entries(name), ledger.champion(name)
    mine = [
        e for e in entries if e["event"] == CANARY_WITHDRAWN and e["model_digest"] == model_digest
    ]
    for entry in reversed(mine):
        same = champion is not None and champion["model_digest"] == entry["beside"]
        if entry["finding"] == BY_HAND or (same and entry["finding"] != UNDECLARED):
            return str(entry["reason"])
    return None


def withdraw(round_: Round, why: str) -> dict[str, Any]:
    """It withdraws the canary, because somebody says why, and returns the ledger's entry of that.

    Raises:
        PromotionRefused: there is no canary, or no reason.
    """
    if not why.strip():
        raise PromotionRefused("Withdrawing a canary needs a reason: --why TEXT.")
    written = _ended(round_, why.strip(), BY_HAND)
    if written is None:
        raise PromotionRefused(f"{round_.problem.name} has no canary.")
    return written


def undeclared(round_: Round) -> None:
    """It ends a canary that is under way where none is declared any more."""
    mode = round_.problem.promotion.mode
    if mode != "canary" and round_.promotes:
        _ended(round_, f"The declaration says `promotion: {{mode: {mode}}}` now.", UNDECLARED)


def _ended(round_: Round, why: str, finding: str) -> dict[str, Any] | None:
    """It ends the canary under way and returns the entry of that; None where there is none."""
    name, stores = round_.problem.name, round_.stores
    if not stores.ledger.canary(name):
        return None
    with stores.ledger.deciding(name) as deciding:
        entries = stores.ledger.canary(name)
        if not entries:
            return None
        written = deciding.append(
            {
                "event": CANARY_WITHDRAWN,
                "at": round_.clock(),
                **{k: entries[0].get(k) for k in _KEPT},
                "reason": why,
                "finding": finding,
                "comparison": None,
                "canary": entries[0]["number"],
                "beside": entries[0]["beside"],
                "actor": round_.actor,
                "run_id": round_.run.run_id,
            }
        )
        mirrored(stores, name)
    return written


def approve_canary(round_: Round, version: int, why: str) -> dict[str, Any]:
    """It promotes a shadow that live rows showed to be better, and returns the ledger's entry.

    Raises:
        PromotionRefused: the version is not the canary, or no look found it better, or a gate does
            not hold, or another decision came in between.
    """
    name, ledger = round_.problem.name, round_.stores.ledger
    if not why.strip():
        raise PromotionRefused("An approval needs a reason: --why TEXT.")
    entries, champion = ledger.canary(name), ledger.champion(name)
    if not entries or champion is None or entries[0]["version"] != version:
        now = f"that is version {entries[0]['version']}" if entries else "there is none"
        raise PromotionRefused(
            f"Version {version} of {name} is not the canary; {now}. A canary is promoted by itself "
            "when its live rows show that it is better."
        )
    found = Comparison(**entries[-1]["comparison"]) if len(entries) > 1 else None
    if found is None or found.verdict != "better":
        raise PromotionRefused(
            f"Version {version} is not shown to be better yet: "
            + (entries[-1]["reason"] if found else "no look at it was due so far.")
        )
    _, unfit = _asked_again(round_, entries[0])
    if unfit:
        raise PromotionRefused(unfit)
    said = f"Approved by {round_.actor or 'somebody'}: {why.rstrip('.')}. {entries[-1]['reason']}"
    standing = Standing(entries[-1]["rows"], [], 0.0)
    written = _recorded(round_, entries, champion, Promote(said), standing, found)
    if written is None:
        raise PromotionRefused(f"{name}: another decision came in between. Look, and ask again.")
    return written
