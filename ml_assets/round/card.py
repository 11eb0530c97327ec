"""The cards of a round: a page for each candidate that was fitted, and one for the challenger.

A card is made once, when what it shows is made, and is an entry of its own: times stand on it, and
no digest of a candidate or a model may depend on them.  A candidate's card is handed the rows of
validation; only the challenger's is handed those of test.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ml_assets.candidate import Predictions, predict
from ml_assets.card import DRAWING, Card, Importance, Past, Section, Shown
from ml_assets.card.measured import importance
from ml_assets.card.page import page
from ml_assets.card.sections import card, glance
from ml_assets.digest import digest_of
from ml_assets.errors import ModelRefused
from ml_assets.evaluation import Contender, select_metric
from ml_assets.gates import Verdict
from ml_assets.metric import gain
from ml_assets.resources.lake import Entry, read_table
from ml_assets.round import CARD, PREDICTIONS, Round
from ml_assets.round.split import SplitMade, part_rows

PAGE, GLANCE = "card.html", "glance.svg"
# As they are called among a run's artifacts.
CANDIDATE_PAGE, CHALLENGER_PAGE = "candidate_card.html", "card.html"


def key_of_candidate(entry: Entry, board: Entry | None = None) -> str:
    """It names everything that decides what a candidate's card shows."""
    return digest_of("card", DRAWING, "validation", entry.key, entry.digest, board and board.digest)


def found(round_: Round, key: str) -> Entry | None:
    """It returns the card under a key; None when there is none, or it was changed since."""
    try:
        return round_.find("card", key)
    except ModelRefused:
        return None  # a card decides nothing: it is made again


def shown_on_validation(
    round_: Round,
    split: SplitMade,
    entry: Entry,
    said: Predictions,
    provenance: Mapping[str, str],
) -> Shown:
    """It returns what the card of a candidate is made of; test is not read."""
    return _shown(round_, split, "validation", entry, said, provenance)


def candidate_card(
    round_: Round, shown: Shown, key: str, model: Callable[[], Any] | None = None
) -> Entry:
    """It makes the card of a candidate.

    Args:
        round_: the round.
        shown: what it is made of.
        key: what it is found by.
        model: the candidate, to ask for its columns' importance; None to leave that out.
    """

    def write(folder: Path) -> dict[str, Any]:
        asked = shown if model is None else replace(shown, importance=_asked(round_, shown, model))
        return {"at": round_.clock(), **_written(folder, asked, slice(0, 3))}

    return round_.put("card", key, write)


def challenger_card(
    round_: Round,
    split: SplitMade,
    leader: Entry,
    score: Entry,
    verdicts: list[Verdict],
    version: int,
    board: tuple[Entry, list[Contender], str],
    provenance: Mapping[str, str],
    model: Callable[[], Any],
) -> Entry:
    """It returns the card of the challenger, made once, and lays it beside the version in MLflow.

    Args:
        round_: the round.
        split: what it is judged by.
        leader: the candidate's files.
        score: its predictions on test.
        verdicts: the gates' answers.
        version: its number in the registry.
        board: the evaluation's files, the leaderboard, and who leads it.
        provenance: from which data, by which words.
        model: the model, loaded when it is asked.
    """
    problem, stores = round_.problem, round_.stores
    asked = [problem.gates, problem.select]
    key = digest_of(
        "card", DRAWING, "test", version, leader.key, score.digest, board[0].digest, asked
    )
    entry = found(round_, key)
    if entry is None:

        def write(folder: Path) -> dict[str, Any]:
            said = Predictions.from_table(read_table(score.path / PREDICTIONS))
            shown = replace(
                _shown(round_, split, "test", leader, said, provenance),
                metrics=score.json(CARD)["metrics"],
                board=tuple(board[1]),
                winner=board[2],
                past=_past(round_, split, version),
                verdicts=tuple(verdicts),
                version=version,
            )
            shown = replace(shown, importance=_asked(round_, shown, model))
            return {"at": round_.clock(), **_written(folder, shown, slice(-3, None))}

        entry = round_.put("card", key, write)
    entry = logged(round_, entry, leader.facts["mlflow_run"], CHALLENGER_PAGE)
    note = stores.lake.noted(problem.name, "challenger_card")
    if note != {"key": key}:
        stores.lake.note(problem.name, "challenger_card", {"key": key})
    return entry


def latest(round_: Round) -> Entry | None:
    """It returns the card of the latest challenger; None when there is none."""
    note = round_.stores.lake.noted(round_.problem.name, "challenger_card")
    return found(round_, note["key"]) if note else None


def logged(round_: Round, entry: Entry, run_id: str, name: str) -> Entry:
    """It lays a card among the artifacts of an MLflow run, once."""
    if entry.facts.get("mlflow_run") == run_id:
        return entry
    round_.stores.registry.log_file(run_id, entry.path / PAGE, name)
    return round_.stores.lake.amend(round_.problem.name, "card", entry, mlflow_run=run_id)


def _shown(
    round_: Round,
    split: SplitMade,
    part: str,
    entry: Entry,
    said: Predictions,
    provenance: Mapping[str, str],
) -> Shown:
    problem, record = round_.problem, entry.json(CARD)
    rows = part_rows(round_, split, part)
    target = split.profile.usable_target()
    return Shown(
        problem=problem.name,
        candidate=record["candidate"],
        part=part,
        target=target,
        rows=rows,
        truth=rows[problem.dataset.target].to_numpy(),
        said=said,
        metrics=record["metrics"],
        select=select_metric(target.task, problem.select),
        record=record,
        facts=entry.facts,
        types={n: c.type for n, c in split.profile.columns.items()},
        key=problem.dataset.key,
        provenance=provenance,
    )


def _asked(round_: Round, shown: Shown, model: Callable[[], Any]) -> Importance | str:
    """It returns the importance of the columns, or a sentence on why there is none."""

    def predicted(rows: Any) -> Predictions:
        return predict(model(), rows, shown.target)

    features, seed = shown.record["features"], round_.problem.seed
    try:
        asked = importance(
            predicted, shown.rows, shown.truth, features, shown.target, shown.select, seed
        )
    except Exception as error:  # a team's model may not stand shuffled rows
        return f"Not to be had: {type(error).__name__}: {error}"
    return asked or f"{shown.select} is not defined for these rows."


def _past(round_: Round, split: SplitMade, version: int) -> tuple[Past, ...]:
    """It returns the champion, and the best version ever, as the ledger has them."""
    ledger, name = round_.stores.ledger, round_.problem.name
    metric = select_metric(split.profile.usable_target().task, round_.problem.select)
    entries = [e for e in ledger.entries(name) if e.get("metrics") and e["version"] != version]
    champion = ledger.champion(name)
    known = [e for e in entries if metric in e["metrics"]]
    best = max(known, key=lambda e: gain(metric, e["metrics"][metric], 0), default=None)

    def past(what: str, entry: dict[str, Any]) -> Past:
        same = entry.get("test") == split.digests["test"]
        told = entry["version"], entry.get("candidate") or "", entry.get("metrics") or {}
        return Past(what, *told, same)

    listed = [("champion", champion)] if champion and champion["version"] != version else []
    listed += [("best ever, of the others", best)] if best else []
    return tuple(past(what, entry) for what, entry in listed)


def _written(folder: Path, shown: Shown, at_a_glance: slice) -> dict[str, Any]:
    """It writes page and picture, and returns what is to be noted: what went wrong, if so.

    A card decides nothing, so one that cannot be drawn says so and stops nothing.
    """
    trouble = {}
    try:
        made = card(shown)
        text, picture = page(made), glance(made, at_a_glance)
    except Exception as error:
        trouble = {"trouble": f"{type(error).__name__}: {error}"[:500]}
        told = Section("This card could not be drawn", trouble["trouble"])
        text, picture = page(Card(shown.candidate, (shown.problem, shown.part), (), (told,))), b""
    (folder / PAGE).write_text(text, encoding="utf-8")
    if picture:
        (folder / GLANCE).write_bytes(picture)
    return trouble
