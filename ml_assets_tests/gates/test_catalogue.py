"""Every gate of the catalogue holds where it should, fails where it should, and says why.

One table for all, so that a gate without both cases is missed here.  What each gate makes of odd
cases is tested beside it.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml_assets.canary import Standing, Wait, Withdraw
from ml_assets.candidate import Predictions
from ml_assets.dataset import describe
from ml_assets.gates import CATALOGUE, Verdict, batch, challenger, split
from ml_assets.gates import dataset as dataset_gates
from ml_assets.integrity import inspected
from ml_assets.live import LiveRows
from ml_assets.problem import DriftRule, MonitoringDeclaration, SplitDeclaration
from ml_assets.problem.monitoring import Aspect
from ml_assets.round import monitoring
from ml_assets.round.canary import verdicts_of
from ml_assets.round.dataset import make_quarantine
from ml_assets.round.predictions import make_predictions
from ml_assets.window import Answer, Window, alarms
from ml_assets_tests.conftest import BINARY, dataset, problem, table
from ml_assets_tests.gates.test_batch import LOW, ODD
from ml_assets_tests.gates.test_challenger import GOOD
from ml_assets_tests.gates.test_rows import AGED, SAID, TRUTH, answers, asked, gate
from ml_assets_tests.gates.test_split import IN_ORDER, parts, sized, timed
from ml_assets_tests.problems import EXPLODES, SEES_ALL, SEES_B, Project, arrive, declared, quickly
from ml_assets_tests.problems import rows as made_rows
from ml_assets_tests.test_arrival import NO_TARGET, Zone
from ml_assets_tests.test_arrival import batch as batch_of

MIXED = table(400)
WRONG = answers(TRUTH, np.where(TRUTH == "no", "yes", "no").astype(object), group=SAID)
SURE = answers(TRUTH, TRUTH, np.where(TRUTH == "yes", 0.99, 0.01), group=np.repeat(["a", "b"], 40))
CHAMPION = replace(SURE, champion=SURE.said)


def of_rows(name: str, rows: pd.DataFrame, **declared_: object) -> Verdict:
    """It asks one gate of the dataset about rows."""
    made = dataset(**{"contract": {"min_rows": 1}, **declared_})
    profile = inspected(rows, describe(rows, made, None), "y")
    found = {v.name: v for v in dataset_gates.ask(profile, problem(dataset=made))}
    return found[name]


def rows_gate(name: str, change: Callable[[pd.DataFrame], pd.DataFrame], **declared_: object):
    return (
        lambda: of_rows(name, MIXED, **declared_),
        lambda: of_rows(name, change(MIXED), **declared_),
    )


def seen(name: str, good: dict, bad: dict, **given: object):
    """It asks one gate of what was seen of a challenger."""
    function = getattr(challenger, name)
    extra = (gate(**given),) if given else ()
    return (
        lambda: function(replace(GOOD, **good), *extra),
        lambda: function(replace(GOOD, **bad), *extra),
    )


def windows(aspect: Aspect, violated: bool, **evidence: object) -> list[Window]:
    """It returns two windows of live rows that answer alike."""
    answer = Answer(violated, "It is worse.", evidence=evidence)
    return [Window(n, float(n), n + 1.0, 500, 500, {aspect: answer}) for n in range(2)]


def watched(aspect: Aspect, violated: bool) -> Verdict:
    """It asks one gate of monitoring."""
    seen_, rule = windows(aspect, violated), DriftRule()
    found = alarms(seen_, rule.violations, rule.of_last, rule.by)
    return monitoring._verdict(aspect, seen_, found, rule)


LATE = pd.DataFrame({"at": np.zeros(40), "truth": [None] * 40})
NO_LABELS = LiveRows(LATE, "No label has come.", 0)

# gate -> what makes it hold, what makes it fail, and the sentence of the failure
CASES = {
    "has_enough_rows": (
        *rows_gate("has_enough_rows", lambda t: t.head(80), contract={"min_rows": 100}),
        "80 rows; at least 100 are needed.",
    ),
    "target_is_usable": (
        *rows_gate("target_is_usable", lambda t: t.assign(y="yes")),
        "The target `y` has 1 distinct value (yes); 2 are needed.",
    ),
    "columns_are_as_declared": (
        *rows_gate(
            "columns_are_as_declared",
            lambda t: t.assign(whole=-1),
            contract={"min_rows": 1, "columns": {"whole": {"min": 0}}},
        ),
        "`whole` goes down to -1; 0 is the least.",
    ),
    "values_are_usual": (
        lambda: batch.values_are_usual([LOW]),
        lambda: batch.values_are_usual([ODD]),
        "`a` lies outside the usual 0 to 9 in 1 row (line 3: 10).",
    ),
    "rows_are_as_declared": (
        lambda: batch.rows_are_as_declared([ODD]),
        lambda: batch.rows_are_as_declared([LOW]),
        "`a` is below 0 in 1 row (line 2: -1).",
    ),
    "time_is_in_order": (
        lambda: split.time_is_in_order(IN_ORDER),
        lambda: split.time_is_in_order(timed((9, 0, 9), (2, 9, 10), (2, 11, 12))),
        "train 0 to 9, validation 9 to 10, test 11 to 12",
    ),
    "shares_are_as_declared": (
        lambda: split.shares_are_as_declared(sized(700, 150, 150), SplitDeclaration()),
        lambda: split.shares_are_as_declared(sized(540, 150, 310), SplitDeclaration()),
        "Move `validation_from` and `test_from`",
    ),
    "no_feature_gives_the_target_away": (
        *rows_gate("no_feature_gives_the_target_away", lambda t: t.assign(copy=t["y"])),
        "The target `y` is given away by `copy`",
    ),
    "rows_are_unique": (
        *rows_gate("rows_are_unique", lambda t: pd.concat([t, t.head(4)], ignore_index=True)),
        "4 of 404 rows (1.0%) equal an earlier row",
    ),
    "labels_agree": (
        *rows_gate(
            "labels_agree",
            lambda t: pd.concat([t, t.head(1).assign(y="no"), t.head(1).assign(y="yes")]),
        ),
        "3 of 402 rows have the features of a row with another `y`.",
    ),
    "features_vary": (
        *rows_gate("features_vary", lambda t: t.assign(same=1)),
        "same: one value or none; left out.",
    ),
    "categories_are_distinct": (
        *rows_gate("categories_are_distinct", lambda t: t.assign(place=["A b", "a B "] * 200)),
        "`place`: 'A b' and 'a B '.",
    ),
    "no_feature_is_an_identifier": (
        *rows_gate(
            "no_feature_is_an_identifier", lambda t: t.assign(uuid=[f"u-{i}" for i in range(400)])
        ),
        "uuid: a value for nearly each row; left out of the features.",
    ),
    "dates_have_one_format": (
        *rows_gate(
            "dates_have_one_format", lambda t: t.assign(sent=["2024-01-31", "31/01/2024"] * 200)
        ),
        "`sent` mixes Y-m-d",
    ),
    "no_column_is_new": (
        *rows_gate(
            "no_column_is_new",
            lambda t: t.assign(extra=t["whole"]),
            contract={
                "min_rows": 1,
                "new_columns": "ignore",
                "columns": {c: {} for c in MIXED if c != "y"},
            },
        ),
        "extra",
    ),
    "parts_are_disjoint": (
        lambda: split.parts_are_disjoint(0, "key"),
        lambda: split.parts_are_disjoint(1234, "group"),
        "1,234 groups stand in more than one part",
    ),
    "every_class_is_present": (
        lambda: split.every_class_is_present(parts((9, 9), (2, 2), (2, 2)), BINARY),
        lambda: split.every_class_is_present(parts((9, 0), (2, 2), (2, 2)), BINARY),
        "train has no yes",
    ),
    "predictions_are_complete": (
        *seen("predictions_are_complete", {}, {"missing": 3}),
        "3 of 100 predictions are missing or infinite.",
    ),
    "metric_is_in_bounds": (
        *seen("metric_is_in_bounds", {}, {"metrics": {"accuracy": 0.71}}, metric="accuracy", min=0.8),
        "accuracy on test is 0.71, floor 0.8.",
    ),
    "answers_in_time": (
        *seen("answers_in_time", {}, {"latency_ms": 130.0}, latency_ms=100),
        "One row takes 130 ms (median), 100 ms allowed.",
    ),
    "every_class_is_predicted": (
        *seen(
            "every_class_is_predicted",
            {},
            {"class_shares": {"no": 0.99, "yes": 0.01}},
            class_share=0.05,
        ),
        "`yes` is predicted for 1.00% of the rows, 5.00% is the least.",
    ),
    "beats_the_baseline": (
        *seen("beats_the_baseline", {}, {"own": 0.51}, beats="baseline", by=0.02),
        "better by 0.01, more than 0.02 is asked",
    ),
    "no_slice_falls_behind": (
        lambda: asked(AGED, slice="age", metric="accuracy", max_drop=0.2, min_rows=10),
        lambda: asked(AGED, slice="age", metric="accuracy", max_drop=0.1, min_rows=10),
        "Worst where `age` is old: accuracy 0.75 on 40 rows, 0.875 overall",
    ),
    "groups_are_treated_alike": (
        lambda: asked(SURE, fair="group", metric="accuracy", max_difference=0.1, min_rows=10),
        lambda: asked(AGED, fair="age", metric="accuracy", max_difference=0.1, min_rows=10),
        "0.25 apart, 0.1 is allowed.",
    ),
    "does_not_overfit": (
        lambda: asked(SURE, overfit="accuracy", max_gap=0.1),
        lambda: asked(AGED, overfit="accuracy", max_gap=0.1),
        "accuracy is 1 on train and 0.875 on test: worse by 0.125, 0.1 is allowed.",
    ),
    "probabilities_are_calibrated": (
        lambda: asked(SURE, calibration=0.05),
        lambda: asked(answers(TRUTH, TRUTH, np.full(80, 0.9)), calibration=0.05),
        "Expected calibration error 0.4, 0.05 is allowed.",
    ),
    "few_answers_turn_wrong": (
        lambda: asked(CHAMPION, flips=0.0),
        lambda: asked(replace(WRONG, champion=SURE.said), flips=0.01),
        "80 of 80 rows (100.00%) that the champion has right turn wrong; 1.00% is allowed.",
    ),
    "predictions_are_spread_alike": (
        lambda: asked(CHAMPION, prediction_drift=0.1),
        lambda: asked(
            replace(AGED, champion=Predictions(np.full(80, "no", dtype=object), None)),
            prediction_drift=0.1,
        ),
        "0.1 is allowed.",
    ),
    "model_is_small": (
        lambda: asked(SURE, size_mb=2),
        lambda: asked(SURE, size_mb=1),
        "The model's file has 2 MB, 1 MB is allowed.",
    ),
    **{
        claim: (
            lambda aspect=aspect: watched(aspect, False),
            lambda aspect=aspect: watched(aspect, True),
            f"{aspect.capitalize()}: 2 of the last 2 windows and the latest. It is worse.",
        )
        for aspect, claim in monitoring.CLAIMS.items()
    },
    "inputs_are_as_in_training": (
        lambda: monitoring._inputs(windows("features", True, skew="")),
        lambda: monitoring._inputs(windows("features", True, skew="`a` is missing in 40%")),
        "`a` is missing in 40%.",
    ),
    "predictions_keep_coming": (
        lambda: monitoring._coming([], LATE, MonitoringDeclaration(silence="1h"), 100.0),
        lambda: monitoring._coming([], LATE, MonitoringDeclaration(silence="1h"), 7200.0),
        "`silence` allows 1.0 h.",
    ),
    "labels_keep_coming": (
        lambda: monitoring._labelled(LATE, NO_LABELS, MonitoringDeclaration(label_delay="1h"), 0.0),
        lambda: monitoring._labelled(LATE, NO_LABELS, MonitoringDeclaration(label_delay="1h"), 9e4),
        "40 of 40 rows older than 1.0 h have none.",
    ),
    "canary_can_be_compared": (
        lambda: verdicts_of(Wait("It waits."), Standing(40, [], 9.0), "")[0],
        lambda: verdicts_of(Wait("It waits."), Standing(0, [], 9.0, "Its files are gone."), "")[0],
        "Its files are gone.",
    ),
    "canary_is_not_worse": (
        lambda: verdicts_of(Wait("It waits."), Standing(40, [], 9.0), "")[1],
        lambda: verdicts_of(Withdraw("It is worse.", "not better"), Standing(40, [], 9.0), "")[1],
        "It is worse.",
    ),
}  # fmt: skip

# answered in a round: what made the files or the models is part of the question
IN_ROUNDS = {
    "every_batch_is_accepted",
    "every_input_is_scored",
    "every_row_is_scored",
    "is_fitted",
    "a_candidate_is_eligible",
    "beats_the_champion",
}


def test_every_gate_of_the_catalogue_has_its_cases():
    # two champions and live rows of both are needed: test_monitoring has it hold and fail
    assert {*CASES, *IN_ROUNDS, "predecessor_is_not_better"} == set(CATALOGUE)


def _told(name: str, holds: Verdict, fails: Verdict, sentence: str) -> None:
    shown = {"metric_is_in_bounds": "accuracy_reaches_floor"}.get(name, name)
    assert (holds.name, fails.name) == (shown, shown)
    assert holds.passed, holds.reason
    assert not fails.passed, fails.reason
    assert sentence in fails.reason


@pytest.mark.parametrize("name", CASES)
def test_a_gate_holds_and_fails_and_says_why(name: str):
    holds, fails, sentence = CASES[name]
    _told(name, holds(), fails(), sentence)


@pytest.mark.slow
def test_the_gates_of_a_round_hold_and_fail_and_say_why(tmp_path: Path):
    found = {}
    with quickly():
        zone = Zone(tmp_path)
        zone.put("0.csv", batch_of(0))
        good = make_quarantine(zone.round(), zone.run().arrived).verdict
        zone.put_bytes("bad.csv", NO_TARGET)
        bad = make_quarantine(zone.round(), zone.run().arrived).verdict
        found["every_batch_is_accepted"] = (good, bad, "bad.csv")

        (tmp_path / "other").mkdir()
        project = Project(tmp_path / "other")
        project.write(made_rows(600))
        scored = {"predictions": {"path": "inbox/*.csv", "output": "scored"}}
        one = declared(candidates={"all": SEES_ALL, "broken": EXPLODES}, **scored)
        round_ = project.round(one)
        fitted = project.candidates(round_)
        found["is_fitted"] = (
            fitted["all"].verdicts[0],
            fitted["broken"].verdicts[0],
            "the kettle boiled over",
        )
        first = project.production(one)
        again = project.production(declared(candidates={"weaker": SEES_B}))
        found["beats_the_champion"] = (first.verdicts[-1], again.verdicts[-1], "not better")
        eligible = project.evaluation(one).verdicts[0]
        nobody = project.evaluation(declared(candidates={"broken": EXPLODES})).verdicts[0]
        found["a_candidate_is_eligible"] = (eligible, nobody, "No candidate beside the baseline")

        arrive(made_rows(30, seed=3), project.root / "inbox/1.csv")
        good_ones = make_predictions(project.round(one)).verdicts
        arrive(made_rows(30, seed=4).drop(columns="a"), project.root / "inbox/2.csv")
        arrive(made_rows(30, seed=5).assign(a=["x", *range(29)]), project.root / "inbox/3.csv")
        bad_ones = make_predictions(project.round(one)).verdicts
        found["every_input_is_scored"] = (good_ones[0], bad_ones[0], "2.csv")
        found["every_row_is_scored"] = (good_ones[1], bad_ones[1], "1 of 30 rows")
    assert set(found) == IN_ROUNDS
    for name, (holds, fails, sentence) in found.items():
        _told(name, holds, fails, sentence)
