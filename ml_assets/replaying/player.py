"""A player: a policy on its way through a history, and what it does at the end of each window."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ml_assets.errors import DatasetError, MLAssetsError
from ml_assets.gates import Verdict, failures
from ml_assets.problem import Problem, TimeBy
from ml_assets.promotion import Promote
from ml_assets.replay import DECLARED, NEVER, NEWEST, OTHERWISE, Fate, Step
from ml_assets.replay.arrangement import as_declared_today
from ml_assets.replaying.stage import Stage
from ml_assets.replaying.watch import look
from ml_assets.resources.registry import DagsterRun
from ml_assets.resources.sandbox import open_sandbox
from ml_assets.resources.stores import Stores
from ml_assets.retraining import PastRun, Retrain, Wait, decide
from ml_assets.round import CARD, Round
from ml_assets.round.candidate import make_candidate
from ml_assets.round.dataset import make_dataset
from ml_assets.round.evaluation import EvaluationMade, make_evaluation
from ml_assets.round.production import make_production
from ml_assets.round.retraining import make_retraining
from ml_assets.round.split import make_split, part_rows
from ml_assets.window import Alarm

ACTOR = "replay"


@dataclass
class Player:
    """A policy on its way through a history.

    Attributes:
        name: the policy.
        told: what it does, in a few words.
        problem: the declaration that it runs.
        stores: the shared lake, and its own ledger and registry.
        turn: what it does at the end of a window.
        champion: the digest of the model that serves.
        steps: what came of it so far.
        paid: fits that it asked for before.
        runs: the runs that it started.
    """

    name: str
    told: str
    problem: Problem
    stores: Stores
    turn: "Callable[[Stage, Player, int], Step]"
    champion: str | None = None
    steps: list[Step] = field(default_factory=list)
    paid: set[str] = field(default_factory=set)
    runs: list[PastRun] = field(default_factory=list)

    @property
    def own(self) -> Path:
        """Where its own notes go."""
        return self.stores.registry.home / "notes"

    def lives(self, stage: Stage, number: int) -> None:
        """It lives through one window: its champion serves, then its turn comes."""
        known = stage.known.get(self.champion or "")
        served = Step(number)
        if known is not None and number:
            served = Step(number, known.scores[number], known.name, known.wrong[number])
        done = self.turn(stage, self, number)
        self.steps.append(
            replace(done, score=served.score, champion=served.champion, unscored=served.unscored)
        )

    def round(self, stage: Stage, number: int) -> Round:
        """It returns its round at the end of a window, at the history's time."""
        at = stage.history.windows[number].at
        return Round(
            self.problem,
            stage.model_folder,
            self.stores,
            DagsterRun(f"{self.name}, window {number}", self.problem.name),
            actor=ACTOR,
            clock=lambda: at,
            together=tuple(self.problem.contenders()),
        )

    def pays(self, fits: dict[str, float]) -> float:
        """It returns what fits cost that it had not asked for before, whoever made them."""
        fresh = {key: seconds for key, seconds in fits.items() if key not in self.paid}
        self.paid |= fresh.keys()
        return sum(fresh.values())


def players_of(stage: Stage, otherwise: tuple[str, Problem] | None) -> list[Player]:
    """It returns the policies: as declared, another one, and the two yardsticks."""
    policies = [(DECLARED, "gates, and better than the champion, as declared", stage.problem)]
    if otherwise is not None:
        told, other = otherwise
        source = stage.problem.dataset
        policies.append((OTHERWISE, told, other.model_copy(update={"dataset": source})))
    turns = [_gated] * len(policies) + [_newest, _never]
    policies.append((NEWEST, "fits at every window; the leader serves, unasked", stage.problem))
    policies.append((NEVER, "the first leader serves for ever", stage.problem))
    return [
        Player(name, said, problem, open_sandbox(stage.folder, str(i), stage.lake), turn)
        for i, ((name, said, problem), turn) in enumerate(zip(policies, turns, strict=True))
    ]


def _gated(stage: Stage, player: Player, number: int) -> Step:
    """It retrains when that is due, asks every gate, and promotes as production does."""
    found = _alarms(stage, player, number)
    told = tuple(a.reason for a in found)
    due, run = _due(stage, player, number, found)
    why = due.reason
    if isinstance(due, Wait):
        return Step(number, alarms=told, why=why)
    player.runs.append(run)
    fate: Fate = "refused"
    seconds = 0.0
    try:
        round_, _, fits = _fitted(stage, player, number)
        seconds = player.pays(fits)
        made = make_production(round_)
        if made.decision is None:
            reason = _told(failures(made.verdicts))
        else:
            fate = "promoted" if isinstance(made.decision, Promote) else "held"
            reason = made.decision.reason
        if fate == "promoted":
            player.champion = made.challenger.model_digest
    except MLAssetsError as error:
        reason = str(error)
    return Step(number, None, "", 0, told, True, why, fate, reason, seconds)


def _newest(stage: Stage, player: Player, number: int) -> Step:
    """It fits, and lets the leader serve whatever the gates would say."""
    if number and not stage.fresh:
        return Step(number, why="no labels came in")
    try:
        _, evaluated, fits = _fitted(stage, player, number)
    except MLAssetsError as error:
        return Step(number, retrained=True, fate="refused", reason=str(error))
    seconds = player.pays(fits)
    if evaluated.leader is None:
        reason = evaluated.verdicts[0].reason
        return Step(number, retrained=True, fate="refused", reason=reason, seconds=seconds)
    newest = str(evaluated.leader.json(CARD)["model_digest"])
    fate: Fate = "held" if newest == player.champion else "promoted"
    player.champion = newest
    return Step(number, retrained=True, fate=fate, reason="the newest fit", seconds=seconds)


def _never(stage: Stage, player: Player, number: int) -> Step:
    """It fits until there is a leader, and never again."""
    if player.champion is not None:
        return Step(number, why="it never retrains")
    return _newest(stage, player, number)


def _alarms(stage: Stage, player: Player, number: int) -> list[Alarm]:
    """It returns what monitoring tells of the champion at the end of a window."""
    if player.champion is None:
        return []
    try:
        return look(stage, player.round(stage, number), player.own, player.champion, number)
    except MLAssetsError as error:
        stage.troubles[player.name] = str(error)
        return []


def _due(
    stage: Stage, player: Player, number: int, found: list[Alarm]
) -> tuple[Retrain | Wait, PastRun]:
    """It returns whether a policy retrains at the end of a window, and the run that this would be."""
    at, problem = stage.history.windows[number].at, player.problem
    if number == 0:
        return Retrain("The start."), PastRun(at)
    if problem.retrain.on_new_data is True and stage.fresh:
        return Retrain(f"{stage.fresh:,} new rows with labels."), PastRun(at)
    try:  # what arrives is brought in, whether a run starts or not
        stage.refused |= make_dataset(player.round(stage, number)).arrived.refused
        made = make_retraining(problem, player.stores, player.runs, at)
    except MLAssetsError as error:
        return Wait(str(error)), PastRun(at)
    counted = found if problem.watched() is not None else []
    situation = replace(made.situation, alarms=counted)
    return decide(problem.retrain, situation), PastRun(at, False, situation.dataset, situation.rows)


def _fitted(
    stage: Stage, player: Player, number: int
) -> tuple[Round, EvaluationMade, dict[str, float]]:
    """It brings everything up to the evaluation up to date, as the job of a problem does.

    Returns:
        The round, as the problem is declared by then; the evaluation; seconds of each fit by key.

    Raises:
        DatasetError: a gate on the dataset or the split does not hold.
    """
    round_ = player.round(stage, number)
    dataset = make_dataset(round_)
    stage.refused |= dataset.arrived.refused
    if failed := failures(dataset.verdicts):
        raise DatasetError(_told(failed))
    by = round_.problem.split.by
    if isinstance(by, TimeBy) and not by.rolling:
        today = as_declared_today(round_.problem, dataset.rows[by.time])
        round_ = replace(round_, problem=today)
    split = make_split(round_)
    if failed := failures(split.verdicts):
        raise DatasetError(_told(failed))
    kinds = {str(n): str(t) for n, t in part_rows(round_, split, "train").dtypes.items()}
    fits = {}
    for name in round_.problem.contenders():
        entry = make_candidate(round_, name).entry
        if entry is not None:
            fits[entry.key] = float(entry.facts["seconds"])
            stage.know(entry, number, kinds)
    return round_, make_evaluation(round_), fits


def _told(verdicts: Sequence[Verdict]) -> str:
    return " ".join(f"{v.name}: {v.reason}" for v in verdicts)
