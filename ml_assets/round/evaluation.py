"""The evaluation of a round: every candidate's metrics on validation, ranked."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ml_assets import plots
from ml_assets.digest import digest_of
from ml_assets.evaluation import Contender, pick, ranked, select_metric
from ml_assets.gates import Verdict, failures
from ml_assets.gates import challenger as gates
from ml_assets.resources.lake import Entry
from ml_assets.round import CARD, Made, Round
from ml_assets.round.candidate import candidate_key
from ml_assets.round.split import SplitMade, current_split

LEADERBOARD = "leaderboard.png"


@dataclass(frozen=True)
class EvaluationMade(Made):
    """The evaluation.

    Attributes:
        entry: its files.
        split: what the candidates learned from and are chosen by.
        board: the leaderboard, best first.
        metric: what it is ranked by.
        winner: the candidate that will challenge; None when none can.
        leader: the winner's files.
        baseline: the baseline's value of the metric.
    """

    entry: Entry
    split: SplitMade
    board: list[Contender]
    metric: str
    winner: str | None
    leader: Entry | None
    baseline: float | None


def make_evaluation(round_: Round) -> EvaluationMade:
    """It ranks the candidates that were fitted for the current split and declaration.

    Raises:
        NotMaterialized: there is no split.
    """
    split, problem = current_split(round_), round_.problem
    metric = select_metric(split.profile.usable_target().task, problem.select)
    fitted, errors = _found(round_, split)
    yardstick = next(n for n, c in problem.contenders().items() if c.estimator == "baseline")
    known = fitted[yardstick].json(CARD)["metrics"] if yardstick in fitted else {}
    baseline = known.get(metric)
    contenders = [Contender(name, error=error) for name, error in errors.items()]
    for name, entry in fitted.items():
        card = entry.json(CARD)
        seen = gates.Seen(
            part="validation",
            rows=split.parts["validation"].rows,
            metrics=card["metrics"],
            missing=card["missing"],
            latency_ms=entry.facts["latency_ms"],
            select=metric,
            own=card["metrics"].get(metric),
            baseline=baseline,
            class_shares=card["class_shares"],
        )
        failed = failures(gates.ask(seen, problem))
        contenders.append(Contender(name, card["metrics"], tuple(v.reason for v in failed)))
    board = ranked(contenders, metric)
    winner = pick(contenders, metric, yardstick)
    key = digest_of("evaluation", metric, {n: e.digest for n, e in fitted.items()}, errors, winner)
    stored = round_.find("evaluation", key)
    reused = stored is not None
    if stored is None:

        def write(folder: Path) -> dict[str, Any]:
            record = {"metric": metric, "winner": winner, "board": [asdict(c) for c in board]}
            (folder / CARD).write_text(json.dumps(record))
            if not round_.rehearses:
                (folder / LEADERBOARD).write_bytes(plots.leaderboard(board, metric, winner))
            return {"at": round_.clock()}

        stored = round_.put("evaluation", key, write)
    return EvaluationMade(
        [_eligible(winner, metric, len(fitted), sorted(errors))],
        reused,
        stored,
        split,
        board,
        metric,
        winner,
        fitted[winner] if winner else None,
        baseline,
    )


def _found(round_: Round, split: SplitMade) -> tuple[dict[str, Entry], dict[str, str]]:
    """It returns the fitted candidates, and why the others are not."""
    fitted: dict[str, Entry] = {}
    errors: dict[str, str] = {}
    for name, declared in round_.problem.contenders().items():
        key = candidate_key(round_, declared, split)
        if entry := round_.find("candidate", key):
            fitted[name] = entry
        elif failure := round_.find("failure", key):
            errors[name] = failure.json(CARD)["error"]
        else:
            errors[name] = "not fitted for the current split and declaration"
    return fitted, errors


def _eligible(winner: str | None, metric: str, fitted: int, failed: list[str]) -> Verdict:
    without = f" Failed: {', '.join(failed)}." if failed else ""
    if winner is None:
        reason = f"No candidate beside the baseline has a {metric} on validation.{without}"
    else:
        reason = f"{winner} leads by {metric} on validation among {fitted} candidates.{without}"
    return Verdict("a_candidate_is_eligible", winner is not None, reason)
