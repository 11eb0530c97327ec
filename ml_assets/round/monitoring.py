"""The monitoring of a round: the champion's live rows, window by window, and what they show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ml_assets import drift
from ml_assets.digest import digest_of
from ml_assets.drift import ColumnDrift, Drift
from ml_assets.errors import NotMaterialized
from ml_assets.gates import Verdict
from ml_assets.later import later
from ml_assets.live import LiveRows, said_in, truth_in
from ml_assets.problem import DriftRule, MonitoringDeclaration
from ml_assets.problem.monitoring import ASPECTS, Aspect
from ml_assets.quality import Decline, Expectation, Judged, declined, expectation, measured
from ml_assets.resources.prediction_log import INPUTS, forget_inputs
from ml_assets.retraining import in_words
from ml_assets.round import Made, Round
from ml_assets.round.live import live_features, live_rows
from ml_assets.round.mark import live_mark
from ml_assets.round.reference import Reference, reference_of
from ml_assets.window import Alarm, Answer, Window, alarms, cut, odd_volume

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
else:
    np = later("numpy")
    pd = later("pandas")

NOTE = "monitoring"
MADE_BY = "1"  # changes when windows come to be asked otherwise
MOST_WINDOWS = 30  # that are looked at and shown
CLAIMS: dict[Aspect, str] = {
    "performance": "live_performance_holds",
    "estimate": "estimated_performance_holds",
    "features": "features_are_spread_alike",
    "predictions": "answers_are_spread_alike",
}
EVERY_CLAIM = (
    *CLAIMS.values(),
    "inputs_are_as_in_training",
    "predictions_keep_coming",
    "labels_keep_coming",
)


@dataclass(frozen=True)
class MonitoringMade(Made):
    """What live rows show.

    Attributes:
        version: the champion.
        metric: what it is measured by.
        windows: the last of them.
        alarms: what is wrong for long enough.
        rows: the champion's live rows.
        labels: what is known of their truth, as a sentence.
        columns: what became of each feature in the latest window; empty where that is not known.
        mark: the name of all predictions and labels that there were.
    """

    version: int
    metric: str
    windows: tuple[Window, ...]
    alarms: tuple[Alarm, ...]
    rows: int
    labels: str
    columns: tuple[ColumnDrift, ...]
    mark: str


def make_monitoring(round_: Round) -> MonitoringMade:
    """It asks the windows of the champion's live rows, and notes what they show.

    A window that was asked is not asked again, unless labels of its rows have come since.

    Raises:
        NotMaterialized: there is no champion, or the rows that it learned from are gone.
        ModelRefused: something is not what was recorded.
    """
    name, stores = round_.problem.name, round_.stores
    entry, declared = stores.ledger.champion(name), round_.problem.watched()
    assert declared is not None
    if entry is None:
        raise NotMaterialized(
            f"{name} has no champion yet, so nothing can be watched. Bring one to production: "
            f"`ml-assets run {name}`."
        )
    mark, now = live_mark(name, stores), round_.clock()
    reference = reference_of(round_, entry)
    live = live_rows(round_, since=float(np.floor(entry["at"])))
    rows = live.of(entry["version"])
    rows = rows[~rows["learned"].to_numpy(dtype=bool)].reset_index(drop=True)
    asking = digest_of(MADE_BY, entry["number"], declared, round_.problem.select)
    windows, columns = Asking(round_, declared, reference, asking).windows(rows, now)
    rule = round_.problem.retrain.drift_rule or DriftRule()
    found = alarms(windows, rule.violations, rule.of_last, ASPECTS)
    verdicts = [
        *(_verdict(aspect, windows, found, rule) for aspect in ASPECTS),
        _inputs(windows),
        _coming(windows, rows, declared, now),
        _labelled(rows, live, declared, now),
    ]
    counted = [a for a in found if a.aspect in rule.by]
    stores.lake.note(
        name,
        NOTE,
        {
            "mark": mark,
            "at": now,
            "champion": entry["number"],
            "asking": asking,
            "alarms": [asdict(a) for a in counted],
            "windows": [w.as_record() for w in windows],
            "columns": [asdict(c) for c in columns],
        },
    )
    stores.lake.forget(name, INPUTS, now - declared.keep_inputs)
    forget_inputs(stores.lake.root, name, now - declared.keep_inputs)
    return MonitoringMade(
        verdicts,
        False,
        entry["version"],
        reference.then.metric,
        tuple(windows),
        tuple(found),
        len(rows),
        live.labels,
        columns,
        mark,
    )


class Asking:
    """The questions to the windows of one version's live rows."""

    def __init__(
        self,
        round_: Round,
        declared: MonitoringDeclaration,
        reference: Reference,
        asking: str,
        known_features: Callable[[pd.DataFrame], pd.DataFrame] | None = None,
    ) -> None:
        self._known_features = known_features or (lambda rows: live_features(round_, rows))
        self.round, self.declared, self.reference = round_, declared, reference
        noted = round_.stores.lake.noted(round_.problem.name, NOTE) or {}
        same = noted.get("asking") == asking
        known = [Window.from_record(w) for w in noted.get("windows", ())] if same else []
        self.known = {w.number: w for w in known}
        listed = ("missing", "unseen")
        self.columns = tuple(
            ColumnDrift(**{**c, **{k: tuple(c[k]) for k in listed}})
            for c in (noted.get("columns", ()) if same else ())
        )
        self._expected: list[Expectation | None] = []

    def windows(
        self, rows: pd.DataFrame, now: float
    ) -> tuple[list[Window], tuple[ColumnDrift, ...]]:
        """It returns the last windows with their answers, and the features of the latest."""
        places = list(enumerate(cut(rows["at"], self.declared.window, now)))[-MOST_WINDOWS:]
        fresh = [(i, rows.iloc[p]) for i, p in places if self._is_fresh(i, rows.iloc[p])]
        features = self._features([some for _, some in fresh])
        for number, some in fresh:
            self.known[number] = self._asked(number, some, features)
        return [self.known[i] for i, _ in places], self.columns

    def _is_fresh(self, number: int, rows: pd.DataFrame) -> bool:
        known = self.known.get(number)
        seen = (len(rows), int(rows["truth"].notna().sum()))
        return known is None or (known.rows, known.labelled) != seen

    def _features(self, parts: list[pd.DataFrame]) -> pd.DataFrame:
        return self._known_features(pd.concat(parts)) if parts else pd.DataFrame()

    def _asked(self, number: int, rows: pd.DataFrame, features: pd.DataFrame) -> Window:
        known = features.loc[features.index.isin(rows.index)]
        labelled = rows[rows["truth"].notna().to_numpy()]
        answers: dict[Aspect, Answer] = {
            "performance": self._performance(labelled),
            "estimate": self._estimate(rows, known),
            "features": self._of_features(known, len(rows)),
            "predictions": self._predictions(rows),
        }
        first, last = float(rows["at"].iloc[0]), float(rows["at"].iloc[-1])
        return Window(number, first, last, len(rows), len(labelled), answers)

    def _too_few(self, rows: int, what: str) -> Answer | None:
        if rows >= self.declared.min_rows:
            return None
        told = f"Not asked: {rows:,} {what}, {self.declared.min_rows:,} are needed (`min_rows`)."
        return Answer(None, told)

    def _performance(self, labelled: pd.DataFrame) -> Answer:
        if few := self._too_few(len(labelled), "rows have their label"):
            return few
        target = self.reference.target
        live = Judged(truth_in(labelled, target), said_in(labelled, target))
        now = measured(self.reference.then.metric, live, target, self.round.problem.seed)
        return self._declined(declined(self.reference.then, now, *self._bounds()))

    def _estimate(self, rows: pd.DataFrame, features: pd.DataFrame) -> Answer:
        if few := self._too_few(len(rows), "rows"):
            return few
        reference, target = self.reference, self.reference.target
        if not self._expected:
            metric, seed = reference.then.metric, self.round.problem.seed
            self._expected.append(
                expectation(metric, reference.judged, reference.features, target, seed)
            )
        expected = self._expected[0]
        if expected is None:
            told = "Not asked: nothing tells how good an answer is before its label comes."
            return Answer(None, told)
        whole = len(features) == len(rows)
        numbers = drift.encoded(reference.columns, features.loc[rows.index]) if whole else None
        now = expected.now(said_in(rows, target), numbers)
        return self._declined(declined(expected.then, now, *self._bounds()))

    def _bounds(self) -> tuple[float, float]:
        return self.declared.confidence, self.declared.max_drop * self.reference.gain

    def _declined(self, decline: Decline | None) -> Answer:
        if decline is None:
            return Answer(None, f"Not asked: {self.reference.then.metric} is not defined there.")
        bounds = {k: getattr(decline, k) for k in ("loss", "low", "high", "allowed")}
        return Answer(decline.worse, decline.sentence, decline.now, decline.then, bounds)

    def _of_features(self, features: pd.DataFrame, count: int) -> Answer:
        if not len(features) and count:
            return Answer(
                None,
                "Not asked: the features of these rows are not kept. Served ones are where "
                "`monitoring: {inputs: true}` is declared; those of files while the files are there.",
            )
        if few := self._too_few(len(features), "rows have features"):
            return few
        kept = [c for c in self.reference.columns if c.name not in self.declared.ignore]
        if not kept:
            return Answer(None, "Not asked: no feature is watched.")
        found = self._compared(kept, features, self.declared.share)
        self.columns = found.columns
        evidence = {"skew": found.skew, "farthest": found.columns[0].distance}
        return Answer(found.drifted, found.sentence, found.share, 0.0, evidence)

    def _predictions(self, rows: pd.DataFrame) -> Answer:
        if few := self._too_few(len(rows), "rows"):
            return few
        said = drift.answers(said_in(rows, self.reference.target), self.reference.target)
        found = self._compared(self.reference.answers, said, 1e-9)
        farthest = found.columns[0].distance if found.columns else 0.0
        return Answer(found.drifted, found.sentence, farthest, 0.0)

    def _compared(self, spreads: Sequence[drift.Spread], rows: pd.DataFrame, share: float) -> Drift:
        confidence, distance = self.declared.confidence, self.declared.distance
        return drift.compared(spreads, rows, confidence, distance, share)


# ------------------------------------------------------------------------------------------ claims


def _verdict(aspect: Aspect, windows: list[Window], found: list[Alarm], rule: DriftRule) -> Verdict:
    raised = [a for a in found if a.aspect == aspect]
    asked = [w for w in windows if w.answers[aspect].violated is not None]
    shown = [w for w in asked[-rule.of_last :] if w.answers[aspect].violated]
    if raised:
        reason = raised[0].reason
    elif asked:
        told = f"{len(shown)} of the last {min(len(asked), rule.of_last)} windows show it"
        reason = f"{told}; {rule.violations} and the latest would tell. " + (
            f"The latest: {asked[-1].answers[aspect].reason}"
        )
    else:
        reason = windows[-1].answers[aspect].reason if windows else "Not asked: no window is full."
    latest = asked[-1].answers[aspect] if asked else Answer(None, "")
    evidence = {"windows": len(asked), "violated": len(shown), "latest": latest.value}
    return Verdict(CLAIMS[aspect], not raised, reason, evidence | latest.evidence, "warn")


def _inputs(windows: list[Window]) -> Verdict:
    asked = [w for w in windows if w.answers["features"].violated is not None]
    name = "inputs_are_as_in_training"
    if not asked:
        return Verdict(name, True, "Not asked: no window has features.", {}, "warn")
    skew = asked[-1].answers["features"].evidence["skew"]
    told = f"{skew}." if skew else "No feature is missing or unseen more often than in training."
    return Verdict(name, not skew, told, {}, "warn")


def _coming(
    windows: list[Window], rows: pd.DataFrame, declared: MonitoringDeclaration, now: float
) -> Verdict:
    odd = odd_volume(windows, declared.window, declared.volume)
    silent = now - float(rows["at"].iloc[-1]) if len(rows) else None
    told = "No live row yet." if silent is None else f"The last one came {in_words(silent)} ago."
    limit = declared.silence
    late = limit is not None and silent is not None and silent > limit
    if late and limit is not None:
        told = f"{told[:-1]}; `silence` allows {in_words(limit)}."
    passed = not late and not odd.violated
    evidence = {"rows": len(rows), "seconds_since_the_last": silent}
    return Verdict("predictions_keep_coming", passed, f"{told} {odd.reason}", evidence, "warn")


def _labelled(
    rows: pd.DataFrame, live: LiveRows, declared: MonitoringDeclaration, now: float
) -> Verdict:
    name, told = "labels_keep_coming", live.labels
    known = int(rows["truth"].notna().sum())
    evidence: dict[str, Any] = {"rows": len(rows), "labelled": known}
    if declared.label_delay is None:
        return Verdict(name, True, f"{told} `label_delay` is not declared.", evidence, "warn")
    due = rows[(rows["at"] <= now - declared.label_delay).to_numpy()]
    lacking = int(due["truth"].isna().sum())
    passed = lacking * 2 <= len(due)
    told = f"{told} {lacking:,} of {len(due):,} rows older than {in_words(declared.label_delay)} have none."
    return Verdict(name, passed, told, evidence | {"due": len(due), "lacking": lacking}, "warn")
